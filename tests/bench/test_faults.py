"""The fault benchmark: what it counts as expected, lost and doubled, and a short run of real kills and cuts."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from typer.testing import CliRunner

from tocsin_cli.bench import app
from tocsin_cli.bench.faults_bed import Gateway
from tocsin_cli.bench.faults_devices import HIGH, LATE_S, LOW, PERIOD_S, SLOW_S, Answer, Coils, Stalls, Walk
from tocsin_cli.bench.faults_diary import Diary, utc
from tocsin_cli.bench.faults_outputs import SETTLED_S, OutputWatch
from tocsin_cli.bench.faults_script import Cut, Disk, Slice, Trouble, script
from tocsin_cli.bench.faults_tally import (
    Count,
    Raised,
    Stored,
    Told,
    Window,
    Wrong,
    journal,
    readings,
    wrong_journal,
    wrong_readings,
)
from tocsin_core.clock import SystemClock
from tocsin_core.readings import BAD_COMM_FAILURE, GOOD
from tocsin_core.sparkplug.edge import Columns
from tocsin_edge.adapters.spool import Spool

WALK: Final = Walk(1)
QUICK_S: Final = 0.001
NUMBERS: Final = range(60)


def times(numbers: Sequence[int] = NUMBERS) -> dict[int, float]:
    """Store each of these answers once, at the time of its poll in ms."""
    return {round(number * PERIOD_S * 1000): float(number) for number in numbers}


def told(windows: Sequence[Window] = (), kept: Sequence[int] = (), took: Mapping[int, float] | None = None) -> Told:
    """An instrument that answered every poll; some answers may have taken longer."""
    took_s = {number: (took or {}).get(number, QUICK_S) for number in NUMBERS}
    answers = [Answer(number, number * PERIOD_S + took_s[number], took_s[number]) for number in NUMBERS]
    return Told(WALK, answers, windows, kept)


def stored(numbers: Sequence[int] = NUMBERS) -> Stored:
    """Store these answers as a cloud side does that loses and doubles nothing, with the alarms that they are."""
    by_time = times(numbers)
    levels = {time_ms: WALK.level(int(value)) for time_ms, value in by_time.items()}
    raised: list[Raised] = []
    before = LOW
    for time_ms, level in levels.items():
        if level > before:
            raised.append(Raised(time_ms, None))
        elif level < before:
            raised[-1] = Raised(raised[-1].raised_ms, time_ms)
        before = level
    return Stored(by_time, levels, raised)


def test_what_arrived_once_is_neither_lost_nor_doubled() -> None:
    """Each answer but the first is two expected readings; each run above the limit a raising and its return."""
    right = stored()
    # Nothing is known of how the gateway thought of the instrument before its first answer.
    assert readings(told(), right) == Count(2 * (len(NUMBERS) - 1), 0, 0)
    returns = sum(one.returned_ms is not None for one in right.raised)
    assert len(right.raised) > 3
    assert journal(told(), right) == Count(len(right.raised) + returns, 0, 0)


def test_a_missing_reading_is_lost() -> None:
    """An answer that is not stored is two readings lost; one without its level, or with another one's, is one."""
    assert readings(told(), stored([n for n in NUMBERS if n != 20])).lost == 2
    levels = dict(stored().levels)
    (at,) = times([20])
    levels[at] = HIGH if levels[at] == LOW else LOW
    assert readings(told(), replace(stored(), levels=levels)).lost == 1
    del levels[at]
    assert readings(told(), replace(stored(), levels=levels)).lost == 1


def test_a_reading_that_is_there_too_often_is_doubled() -> None:
    """The same answer at two times; one that nobody waited for any more; one that was never given."""
    twice = dict(stored().numbers) | {1: 20.0}
    assert readings(told(), replace(stored(), numbers=twice)).doubled == 1
    assert readings(told(took={20: LATE_S}), stored()).doubled == 1
    invented = dict(stored().numbers) | {10**9: 4_000.0}
    assert readings(told(), replace(stored(), numbers=invented)).doubled == 1


def test_what_may_not_be_on_disk_at_a_kill_is_expected_only_where_the_file_has_it() -> None:
    """In the window of a kill nothing is expected, nor what was asked for in it; what the file has is, all the same."""
    numbers = [n for n in NUMBERS if n not in {20, 21}]
    window = Window(20 * PERIOD_S - 0.01, 21 * PERIOD_S + 0.01)
    assert readings(told([window]), stored(numbers)).lost == 0
    assert readings(told([window], kept=[21]), stored(numbers)).lost == 2
    asked = Window(20 * PERIOD_S - 0.01, 20 * PERIOD_S + 0.01)
    slow = told([asked], took={20: SLOW_S})
    assert readings(slow, stored([n for n in NUMBERS if n != 20])).lost == 0


def test_the_first_answer_after_a_silence_is_not_expected() -> None:
    """A gateway that takes an instrument for dead has little patience; the answers after the first are expected."""
    late = dict.fromkeys(range(20, 24), LATE_S)
    assert readings(told(took=late), stored([n for n in NUMBERS if not 20 <= n <= 24])).lost == 0
    assert readings(told(took=late), stored([n for n in NUMBERS if not 20 <= n <= 25])).lost == 2


def test_the_journal_is_held_against_the_stored_levels() -> None:
    """A raising too few, a return too few, one too many in a run, and one before any run."""
    right = stored()
    assert journal(told(), replace(right, raised=right.raised[1:])).lost == 2
    open_ = [replace(right.raised[0], returned_ms=None), *right.raised[1:]]
    assert journal(told(), replace(right, raised=open_)).lost == 1
    again = [*right.raised, replace(right.raised[0], raised_ms=right.raised[0].raised_ms + 1)]
    assert journal(told(), replace(right, raised=again)).doubled == 1
    stray = [*right.raised, Raised(0, 1)]
    assert journal(told(), replace(right, raised=stray)).doubled == 1


def test_what_the_gateway_raised_beside_is_not_lost() -> None:
    """It stood at the cloud side already: so in the run that it was raised in, and in no other."""
    right = stored()
    lacks = replace(right, raised=[right.raised[0], *right.raised[2:]])
    assert journal(told(), lacks).lost == 2
    assert journal(told(), replace(lacks, beside=[right.raised[1].raised_ms])).lost == 0
    assert journal(told(), replace(lacks, beside=[right.raised[2].raised_ms - 1])).lost == 0
    for elsewhere in (right.raised[1].raised_ms - 1, right.raised[2].raised_ms):
        assert journal(told(), replace(lacks, beside=[elsewhere])).lost == 2
    open_ = replace(right, raised=[replace(right.raised[0], returned_ms=None), *right.raised[1:]])
    assert journal(told(), replace(open_, beside=[right.raised[0].raised_ms])).lost == 1


def test_it_is_told_which_readings_and_alarms_are_wrong() -> None:
    """Each with its number, when it was answered, and where it is."""
    at_ms = round(20 * PERIOD_S * 1000)
    said = f"20 (answered in {QUICK_S:.3f} s) stored at"
    assert wrong_readings(told(), stored()) == []
    given_s = 20 * PERIOD_S + QUICK_S
    missing = stored([n for n in NUMBERS if n != 20])
    assert wrong_readings(told(), missing) == [Wrong(f"{said} no time", 2, 0, given_s)]
    twice = replace(stored(), numbers=dict(stored().numbers) | {at_ms + 1: 20.0, 10**9: 4_000.0})
    assert wrong_readings(told(), twice) == [
        Wrong(f"{said} {utc(at_ms)}, {utc(at_ms + 1)}", 0, 1, given_s),
        Wrong(f"4000 (never told) stored at {utc(10**9)}", 0, 1),
    ]
    right = stored()
    begun = utc(right.raised[0].raised_ms)
    assert wrong_journal(told(), replace(right, raised=right.raised[1:])) == [
        Wrong(f"run from {begun}: never raised", 2)
    ]
    again = replace(right.raised[0], raised_ms=right.raised[0].raised_ms + 1, returned_ms=None)
    (twice_raised,) = wrong_journal(told(), replace(right, raised=[again, *right.raised]))
    assert twice_raised.said == f"run from {begun}: {right.raised[0]}, {again}"
    assert f"{again}" == f"raised at {utc(again.raised_ms)}, returned never"


def test_two_readings_of_one_stamp_are_found_in_the_gateways_file(tmp_path: Path) -> None:
    """The history keeps one of them: one is lost, and one is stored more often than it can be read."""
    gateway = Gateway(tmp_path, tmp_path, tmp_path, tmp_path, 1.0)
    assert (gateway.kept(), gateway.stamped_alike()) == ([], [])
    gateway.spool.parent.mkdir(parents=True)
    spool = Spool.open(gateway.spool, 64, 600, 1_000)
    for time_ms, number, quality in ((1_000, 1.0, GOOD), (1_300, 2.0, GOOD), (1_300, np.nan, BAD_COMM_FAILURE)):
        held = Columns(np.zeros(1, np.int64), np.array([time_ms]), np.array([number]), np.array([quality], np.uint8))
        spool.keep([("d0", ("d0n",), held)], [])
    spool.close()
    assert gateway.kept() == [("d0n", 1), ("d0n", 2)]
    assert gateway.kept() == []
    assert gateway.stamped_alike() == [
        f"{utc(1_300)} d0n: one stamp, 2 (quality {GOOD}, batch 1002) and nan (quality {BAD_COMM_FAILURE}, batch 1003)"
    ]


def test_a_script_is_drawn_from_its_seed() -> None:
    """The same seed gives the same faults, another one others; every kind comes, and no cycle is without one."""
    first = script(200, 6, 1)
    assert script(200, 6, 1) == first != script(200, 6, 2)
    assert {cycle.cut[0] for cycle in first if cycle.cut} == set(Cut)
    assert {cycle.trouble[0] for cycle in first if cycle.trouble} == set(Trouble)
    assert {cycle.trouble[1] for cycle in first if cycle.trouble} == set(range(6))
    assert {cycle.disk[0] for cycle in first if cycle.disk} == set(Disk)
    assert {cycle.slice[0] for cycle in first if cycle.slice} == set(Slice)
    assert all(cycle.kill_s or cycle.cut or cycle.trouble or cycle.disk or cycle.slice for cycle in first)
    killed = [cycle for cycle in first if cycle.kill_s or (cycle.slice and cycle.slice[0] is Slice.KILLED)]
    assert not any(cycle.disk for cycle in killed)
    assert 20 < sum(cycle.clock is not None for cycle in first) < 100
    assert 20 < sum(cycle.answer_s is not None for cycle in first) < 100
    assert any(cycle.kill_again_s for cycle in first)


class Looks:
    """Looks of an `OutputWatch` at one instrument's beacon (coil 0) and the siren (coil 1)."""

    def __init__(self) -> None:
        """See nothing yet."""
        clock = SystemClock()
        self.diary = Diary(clock)
        self.coils = Coils(clock)
        self.watch = OutputWatch(
            Gateway(Path(), Path(), Path(), Path(), 1.0), self.coils, 1, clock, Stalls(clock), self.diary
        )

    def at(self, at_s: float, phase: str = "acknowledged", *, beacon: bool, siren: bool) -> tuple[int, int]:
        """Look at that time: how many were judged, and wrong, by then."""
        self.coils.on |= {0: beacon, 1: siren}
        self.watch.look({"alarms": [{"alarm": "d0level/H", "phase": phase}]}, at_s)
        return self.watch.judged, self.watch.wrong


def test_an_output_is_judged_once_it_is_settled_and_is_wrong_where_it_never_was_right() -> None:
    """Not while its unit is in trouble, or has not answered since; each stretch once."""
    looks = Looks()
    looks.coils.trouble = Trouble.DEAD
    assert looks.at(0.0, beacon=False, siren=True) == (0, 0)
    looks.coils.trouble = None
    assert looks.at(SETTLED_S, beacon=False, siren=True) == (0, 0)
    assert looks.at(3 * SETTLED_S, beacon=False, siren=True) == (0, 0)
    looks.coils.answered_s = 0.1
    assert looks.at(4 * SETTLED_S, beacon=False, siren=True) == (0, 0)
    # The beacon should be on, and the siren off: both are wrong.
    assert looks.at(5 * SETTLED_S, beacon=False, siren=True) == (2, 2)
    assert looks.at(6 * SETTLED_S, beacon=False, siren=True) == (2, 2)
    assert looks.at(6 * SETTLED_S, "unacknowledged", beacon=True, siren=True) == (2, 2)
    assert looks.at(7 * SETTLED_S, "unacknowledged", beacon=True, siren=True) == (3, 2)


def test_an_output_that_goes_wrong_later_is_wrong_each_time() -> None:
    """A siren that falls silent while its alarm still waits; not one that comes back before it is settled."""
    looks = Looks()
    quiet, again = 3 * SETTLED_S, 5 * SETTLED_S
    sounds = {0.0: True, quiet - 0.1: True, quiet: False, quiet + SETTLED_S - 0.1: False}
    for at_s, siren in sounds.items():
        assert looks.at(at_s, "unacknowledged", beacon=True, siren=siren)[1] == 0
    assert looks.at(quiet + SETTLED_S, "unacknowledged", beacon=True, siren=False) == (2, 1)
    assert [line.partition(" ")[2] for line in looks.diary.lines] == ["output 1 has not been on for 2 s"]
    assert looks.at(again - 0.1, "unacknowledged", beacon=True, siren=False) == (2, 1)
    for at_s, siren in {again: True, again + 0.1: False, again + SETTLED_S: True}.items():
        assert looks.at(at_s, "unacknowledged", beacon=True, siren=siren) == (2, 1)
    looks.at(again + SETTLED_S + 0.1, "unacknowledged", beacon=True, siren=False)
    assert looks.at(again + 2 * SETTLED_S + 0.1, "unacknowledged", beacon=True, siren=False) == (2, 2)


@pytest.mark.timeout(400)
def test_a_short_run_loses_and_doubles_nothing() -> None:
    """A real gateway, killed, cut off and lied to, against the real cloud side; its outputs end as they should."""
    result = CliRunner().invoke(app, ["faults", "--side", "gateway", "--cycles", "8", "--seed", "5", "--json"])
    found = json.loads(result.stdout.strip().splitlines()[-1])
    assert found["cycles"] == 8
    assert found["kills"] >= 3
    assert found["readings_expected"] > 100
    assert found["disk_troubles"] + found["clock_steps"] >= 3
    wrong = ("readings_lost", "readings_doubled", "journal_lost", "journal_doubled", "outputs_wrong")
    assert [found[key] for key in wrong] == [0] * len(wrong), "\n".join(found["account"])
    assert "account" not in found
    assert (found["outputs"], found["versions_sent"]) == (7, 3)
    assert found["outputs_judged"] > 0
    assert result.exit_code == 0


def test_a_wrong_side_is_one_clear_line() -> None:
    """What cannot be killed is refused with exit code 2."""
    result = CliRunner().invoke(app, ["faults", "--side", "moon"])
    assert result.exit_code == 2
    assert "moon" in result.output
