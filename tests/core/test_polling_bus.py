"""Whose turn it is on a line, on a simulated line with a clock moved by hand: periods, slots, probes, overload."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin_core.polling import Bus, Job, Moment, Next, Outcome, Turn
from tocsin_core.polling.bus import MOST_UNASKED

START_NS = 1_800_000_000_000_000_000
MS = 1_000_000


def job(name: str, unit: int, period_ms: int = 1000, *, timeout_s: float = 0.5, **more: bool | float) -> Job:
    """Make a job."""
    return Job(name, unit, period_ms * MS, timeout_s, **more)  # type: ignore[arg-type]


@dataclass
class Line:
    """A line on which each question takes a while, by unit, and some units do not answer, or are never asked."""

    jobs: list[Job]
    takes_s: dict[int, float]
    requests: dict[str, int] = field(default_factory=dict)
    silent: set[int] = field(default_factory=set)
    busy: set[int] = field(default_factory=set)
    unasked: set[int] = field(default_factory=set)
    draw: Callable[[], float] = lambda: 0.5
    now: Moment = field(default_factory=lambda: Moment(START_NS, 1000.0))
    begun: list[tuple[float, str]] = field(default_factory=list)
    through: dict[str, list[float]] = field(default_factory=dict)
    told_bad: dict[str, list[float]] = field(default_factory=dict)
    waited: float = 0.0

    def __post_init__(self) -> None:
        """Start at once."""
        self.bus = Bus(self.jobs, self.now, self.draw)
        self.left = {each.name: self.requests.get(each.name, 1) for each in self.jobs}

    def pass_s(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        self.now = Moment(self.now.ns + round(seconds * 1e9), self.now.s + seconds)

    def run(self, seconds: float) -> None:
        """Take turns until so much time has passed."""
        end = self.now.s + seconds
        while self.now.s < end:
            turn = self.bus.next(self.now)
            if isinstance(turn, Turn):
                self._ask(turn)
            else:
                assert turn > 0
                self.waited += turn
                self.pass_s(turn)

    def _ask(self, turn: Turn) -> None:
        asked = self.jobs[turn.job]
        self.begun.append((self.now.s, asked.name))
        self.bus.begin(turn, self.now)
        outcome = Outcome.BUSY if asked.unit in self.busy else Outcome.ANSWERED
        took = self.takes_s[asked.unit]
        if asked.unit in self.silent or took > turn.patience_s:
            outcome, took = Outcome.SILENT, turn.patience_s
        if asked.unit in self.unasked:
            outcome = Outcome.UNASKED
        self.pass_s(took)
        step = self.bus.end(turn, outcome, took, self.now)
        for at in self.bus.unheard(self.now):
            self.told_bad.setdefault(self.jobs[at].name, []).append(self.now.s)
        if step is Next.ON:
            self.left[asked.name] -= 1
        if step is Next.GIVEN_UP or not self.left[asked.name]:
            good = step is not Next.GIVEN_UP
            self.left[asked.name] = self.requests.get(asked.name, 1)
            told = self.bus.finish(turn, self.now)
            if good:
                self.through.setdefault(asked.name, []).append(self.now.s)
            elif told:
                self.told_bad.setdefault(asked.name, []).append(self.now.s)

    def gaps(self, name: str, since: float = 0.0) -> list[float]:
        """Times between the ends of a job's cycles."""
        return [later - sooner for sooner, later in pairwise(self.through[name]) if sooner >= since]

    def clear(self) -> None:
        """Forget what happened."""
        self.begun.clear()
        self.through.clear()
        self.told_bad.clear()
        self.waited = 0.0


def test_ticks_are_aligned_and_spread_and_the_same_on_every_start() -> None:
    """Each job's questions begin at whole periods of the wall clock plus its own constant phase."""
    line = Line([job(f"d{i}", i) for i in range(20)], dict.fromkeys(range(20), 0.001))
    line.run(10)
    phases: dict[str, set[int]] = {}
    for at, name in line.begun:
        phases.setdefault(name, set()).add(round((at - 1000.0 + START_NS / 1e9) % 1.0 * 100))
    assert all(max(found) - min(found) <= 2 for found in phases.values())
    assert len({min(found) for found in phases.values()}) > 10
    again = Line([job(f"d{i}", i) for i in range(20)], dict.fromkeys(range(20), 0.001))
    again.run(10)
    assert again.begun == line.begun


def test_the_pause_is_the_units_whatever_was_asked_of_it() -> None:
    """An output, of which no profile tells a pause, is on a device that needs one."""
    line = Line([job("device", 1, pause_s=0.3), job("output", 1, 370, safety=True)], {1: 0.01})
    line.run(20)
    assert min(later - sooner for (sooner, _), (later, _) in pairwise(line.begun)) == pytest.approx(0.31)


@pytest.mark.parametrize("dead", [False, True])
def test_what_told_a_late_answer_apart_is_no_try_and_the_pause_is_kept(dead: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """The question itself comes after the device's pause, or the longer rest, and then counts; also of a dead unit."""
    line = Line([job("d", 1, retries=0, pause_s=1.5)], {1: 0.01}, silent={1} if dead else set())
    line.run(60)
    assert line.bus.health[1].dead == dead
    for rest_s, pause_s in ((0.0, 1.5), (2.0, 2.0)):
        while not isinstance(turn := line.bus.next(line.now), Turn):
            line.pass_s(turn)
        line.bus.begin(turn, line.now)
        assert line.bus.end(turn, Outcome.UNASKED, 0.0, line.now, rest_s) is Next.AGAIN
        unasked_s = line.now.s
        while not isinstance(turn := line.bus.next(line.now), Turn):
            line.pass_s(turn)
        assert line.now.s - unasked_s == pytest.approx(pause_s)
        line.bus.begin(turn, line.now)
        assert line.bus.end(turn, Outcome.SILENT, 0.0, line.now) is Next.GIVEN_UP
        line.bus.finish(turn, line.now)


def test_an_output_does_not_wait_until_a_read_of_its_unit_has_rested() -> None:
    """Only what could be mixed up with a late answer rests; switching is asked for at once, also after a read back."""
    line = Line([job("device", 1), job("output", 1, safety=True)], {1: 0.01})
    line.run(5)
    for at in (0, 1):
        line.bus.hurry(at, line.now)
        turn = line.bus.next(line.now)
        while not (isinstance(turn, Turn) and turn.job == at):
            line.run(0.001)
            turn = line.bus.next(line.now)
        line.bus.begin(turn, line.now)
        assert line.bus.end(turn, Outcome.UNASKED, 0.0, line.now, 2.0) is Next.AGAIN
        line.bus.hurry(1, line.now)
        turn = line.bus.next(line.now)
        assert isinstance(turn, Turn)
        assert turn.job == 1


@pytest.mark.parametrize("safety", [False, True])
def test_a_question_that_never_comes_to_be_asked_holds_nobody_up_and_is_bad(safety: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Whatever says so again and again: the unit's cycles fail, its neighbour keeps its period."""
    line = Line([job("odd", 1, safety=safety), job("well", 2)], {1: 0.004, 2: 0.01}, unasked={1})
    line.run(60)
    odd = sum(name == "odd" for _, name in line.begun)
    assert len(line.told_bad["odd"]) >= 1
    assert line.bus.health[1].dead
    assert odd <= 60 * 2 * MOST_UNASKED
    assert max(line.gaps("well")) <= 1.1


def test_what_is_made_up_for_at_once_bears_another_stamp() -> None:
    """Held up past a tick, or with its clock set forward: nobody is asked twice within a millisecond."""
    line = Line([job("d", 1, 300)], {1: 0.0002})
    for number in range(40):
        line.run(0.9)
        if number % 2:
            line.pass_s(0.35)
        else:
            line.now = Moment(line.now.ns + 3_000 * MS, line.now.s)
    begun = [at for at, _ in line.begun]
    closest = min(later - sooner for sooner, later in pairwise(begun))
    assert 0.0019 < closest < 0.1


def test_each_job_of_a_unit_tells_that_it_is_dead_whichever_found_out() -> None:
    """A push-button that is read often must not keep the readings of the same unit from being told bad."""
    often, seldom = job("often", 1, 200, timeout_s=0.05), job("seldom", 1, 10_000, timeout_s=0.05)
    line = Line([often, seldom], {1: 0.01})
    line.run(30)
    line.clear()
    line.silent.add(1)
    line.run(60)
    assert len(line.told_bad["often"]) >= 3
    assert len(line.told_bad["seldom"]) == 1
    line.silent.clear()
    line.run(30)
    line.clear()
    line.silent.add(1)
    line.run(60)
    assert len(line.told_bad["seldom"]) == 1


def test_a_silent_unit_costs_the_others_only_its_own_slot() -> None:
    """On a line with room no healthy unit misses a tick when another dies, is dead, and comes back."""
    line = Line([job(f"d{i}", i, timeout_s=0.3) for i in range(1, 6)], dict.fromkeys(range(1, 6), 0.05))
    line.run(20)
    line.silent.add(3)
    line.clear()
    line.run(60)
    figures = {each.name: each for each in line.bus.figures()}
    assert figures["d3"].dead
    for name in ("d1", "d2", "d4", "d5"):
        assert figures[name].missed == 0
        assert max(line.gaps(name)) < 1.0 + 2 * 0.3
    line.silent.clear()
    back = line.now.s
    line.run(10)
    assert line.through["d3"][0] - back < 6.0


def test_a_dead_unit_is_probed_in_gaps_or_out_of_its_own_slot() -> None:
    """On a line that has no gap, a dead unit's probes take no more of it than the unit took when it lived."""
    line = Line([job(f"d{i}", i, 500, timeout_s=0.4) for i in range(1, 11)], dict.fromkeys(range(1, 11), 0.06))
    line.run(30)
    line.silent.add(3)
    line.run(10)
    line.clear()
    line.run(300)
    probes = [at for at, name in line.begun if name == "d3"]
    assert 60 <= len(probes) <= 300 / 2
    healthy = [mean(line.gaps(f"d{i}")) for i in range(1, 11) if i != 3]
    # Nine units of 60 ms take 0.54 s; the tenth had another 60 ms of each 0.6 s.
    assert max(healthy) < 0.61


def test_a_unit_that_never_answered_is_probed_seldom_where_there_is_no_gap_for_it() -> None:
    """It has saved up nothing, and its time-out is longer than any gap: then one probe in thirty seconds."""
    jobs = [job("d1", 1, 300), job("d2", 2, 300), job("dead", 3, timeout_s=0.4)]
    line = Line(jobs, dict.fromkeys((1, 2, 3), 0.05), silent={3})
    line.run(30)
    line.clear()
    line.run(300)
    probes = [at for at, name in line.begun if name == "dead"]
    assert 9 <= len(probes) <= 11


def test_bad_readings_are_told_within_two_periods_then_the_unit_is_dead() -> None:
    """Three times bad, the third with the death; then nothing until it is back."""
    line = Line([job("d", 1, timeout_s=5.0, retries=5), job("e", 2)], {1: 0.05, 2: 0.05})
    line.run(20)
    line.silent.add(1)
    last = line.through["d"][-1]
    line.run(60)
    assert line.told_bad["d"][0] - last < 3.0 + 0.1
    assert len(line.told_bad["d"]) == 3
    first_unanswered = next(at for at, name in line.begun if name == "d" and at > last)
    assert line.told_bad["d"][0] - first_unanswered <= 2.0


@pytest.mark.parametrize("many", [3, 20])
@pytest.mark.parametrize("safety", [0, 2])
def test_all_units_of_a_line_that_is_cut_are_bad_within_two_periods(many: int, safety: int) -> None:
    """Though it takes a time-out each to ask them all, and again for each retry; and each is told once before that."""
    names = [f"d{at}" for at in range(many)]
    line = Line([job(name, at, safety=at < safety) for at, name in enumerate(names)], dict.fromkeys(range(many), 0.02))
    line.run(20)
    line.silent.update(range(many))
    cut = line.now.s
    line.run(60)
    assert max(line.told_bad[name][0] - line.through[name][-1] for name in names) < 3.0 + 0.6
    apart = {name: [at - line.told_bad[name][0] for at in line.told_bad[name]] for name in names}
    # That is what the instrument alarm waits for.
    assert max(min(s for s in apart[name] if s >= 1.5) for name in names) < 2.0 + 0.6
    assert all(len([at for at in line.told_bad[name] if at < cut + 60]) <= 4 for name in names)
    line.silent.clear()
    line.clear()
    line.run(60)
    assert set(line.through) == set(names)
    assert not line.told_bad


@pytest.mark.parametrize("many", [2, 3, 5])
@pytest.mark.parametrize("safety", [0, 5, 10])
def test_units_that_fall_silent_at_once_are_bad_in_two_periods_and_the_others_keep_theirs(
    many: int, safety: int
) -> None:
    """Of ten, as on a cable that is cut in its middle: to find out takes a time-out each, from then on one at most."""
    names = [f"d{at}" for at in range(10)]
    line = Line([job(name, at, safety=at < safety) for at, name in enumerate(names)], dict.fromkeys(range(10), 0.02))
    line.run(20)
    silent, living = names[:many], names[many:]
    line.silent.update(range(many))
    cut = line.now.s
    line.run(120)
    assert max(line.told_bad[name][0] - line.through[name][-1] for name in silent) < 3.0 + 0.9
    assert all(len(line.told_bad[name]) <= 4 for name in silent)
    # Five in a row, where it comes to that, are two periods in which nobody on the line answers.
    assert many == 5 or not line.told_bad.keys() & set(living)
    assert max(max(line.gaps(name, cut)) for name in living) < 1.0 + 0.5 * many + 0.3
    found_out = cut + 1.0 + 0.5 * many
    assert max(max(line.gaps(name, found_out)) for name in living) < 1.0 + 0.5 + 0.3
    line.silent.clear()
    line.clear()
    line.run(60)
    assert set(line.through) == set(names)
    assert not line.told_bad


@pytest.mark.parametrize("safety", [0, 10, 20])
def test_those_next_to_silent_units_are_not_waited_for_as_long_at_first(safety: int) -> None:
    """Ten of twenty on a serial line: to find out takes a few time-outs, not ten, and nobody who answers is bad."""
    names = [f"d{at}" for at in range(20)]
    jobs = [job(name, at, safety=at < safety, direct=True) for at, name in enumerate(names)]
    line = Line(jobs, dict.fromkeys(range(20), 0.02))
    line.run(20)
    line.silent.update(range(10))
    cut = line.now.s
    line.run(120)
    assert max(line.told_bad[name][0] - line.through[name][-1] for name in names[:10]) < 3.0 + 0.9
    # An alarm takes two that are one and a half periods apart, or three.
    assert max(line.told_bad[name][1] - line.told_bad[name][0] for name in names[:10]) < 2.0 + 0.6
    assert not line.told_bad.keys() & set(names[10:])
    assert max(max(line.gaps(name, cut)) for name in names[10:]) < 1.0 + 2 * 0.5 + 8 * 0.1 + 0.5


def test_who_is_slow_for_once_beside_silent_units_is_waited_for_the_next_time() -> None:
    """What is not waited for as long as it may take is no try."""
    line = Line([job(f"d{at}", at, retries=0, direct=True) for at in range(10)], dict.fromkeys(range(10), 0.02))
    line.run(20)
    line.silent.update({0, 1, 2})
    line.takes_s.update(dict.fromkeys((6, 9), 0.3))
    line.run(10)
    assert set(line.told_bad) == {"d0", "d1", "d2"}


def test_only_on_a_serial_line_is_somebody_not_waited_for_as_long_as_he_may_take() -> None:
    """And there as long as others are silent: a converter goes on to wait for an answer that was given up."""
    for direct, silent, tries in ((False, {0, 1}, 1), (True, {0, 1}, 2), (True, set[int](), 1)):
        line = Line([job(f"d{at}", at, direct=direct) for at in range(5)], dict.fromkeys(range(5), 0.02))
        line.run(20)
        line.silent.update({0, 1})
        line.run(2)
        assert not any(each.dead for each in line.bus.figures())
        line.silent &= silent
        line.run(0 if silent else 1.5)
        line.clear()
        line.takes_s[4] = 0.3
        line.run(0.8)
        assert len([name for _, name in line.begun if name == "d4"]) == tries


def test_an_output_goes_first_also_beside_many_silent_units_its_own_among_them() -> None:
    """Whoever yields to the others has been waited for; what is to be switched now has not."""
    jobs = [*(job(f"d{at}", at, safety=at < 4) for at in range(10)), job("siren", 0, 60_000, safety=True)]
    line = Line(jobs, dict.fromkeys(range(10), 0.02))
    line.run(20)
    line.silent.update(range(4))
    line.run(3)
    assert not any(each.dead for each in line.bus.figures())
    line.pass_s(0.001)
    line.bus.hurry(10, line.now)
    turn = line.bus.next(line.now)
    assert isinstance(turn, Turn)
    assert turn.job == 10


def test_two_answers_that_are_lost_at_once_make_nobody_bad_on_an_overloaded_line() -> None:
    """As by a spark: gas detectors are asked again soon, between the others."""
    jobs = [*(job(f"gas{at}", at, safety=True) for at in (1, 2)), *(job(f"other{at}", at) for at in range(3, 13))]
    line = Line(jobs, dict.fromkeys(range(1, 13), 0.25))
    line.run(30)
    for unit in (1, 2):
        line.silent.add(unit)
        while not line.bus.figures()[unit - 1].dead and line.begun[-1][1] != f"gas{unit}":
            line.run(0.01)
        line.silent.clear()
    line.run(60)
    assert not line.told_bad
    assert max(max(line.gaps(f"gas{at}")) for at in (1, 2)) < 1.0 + 3 * 0.5 + 3 * 0.25


def test_a_line_that_is_only_slow_or_stood_still_makes_nobody_bad() -> None:
    """Two units that fall silent beside live ones on an overloaded line, and a process that was stopped."""
    many = 12
    line = Line([job(f"d{at}", at) for at in range(many)], dict.fromkeys(range(many), 0.2))
    line.run(20)
    line.silent.update({0, 1})
    line.run(60)
    assert set(line.told_bad) == {"d0", "d1"}
    for turn in (Turn(2, 0.5, probe=False), Turn(3, 0.5, probe=False)):
        line.bus.begin(turn, line.now)
        line.pass_s(60)
        line.bus.end(turn, Outcome.SILENT, 60, line.now)
    assert not line.bus.unheard(line.now)


def test_a_line_on_which_nobody_has_answered_yet_may_still_be_starting() -> None:
    """Of units that were never read nothing is told within the two seconds that they have, however silent the line."""
    line = Line([job(f"d{at}", at, 200) for at in range(4)], dict.fromkeys(range(4), 0.02), silent=set(range(4)))
    line.run(1.5)
    assert not line.told_bad
    line.run(10)
    assert len(line.told_bad) == len(line.jobs)


def test_a_line_that_is_cut_again_is_told_again_but_not_of_who_was_dead_before() -> None:
    """As soon as the first time, of those that were read since; that the other is bad was told."""
    names = [f"d{at}" for at in range(12)]
    line = Line([job(name, at) for at, name in enumerate(names)], dict.fromkeys(range(12), 0.02))
    line.run(20)
    for _ in range(2):
        line.silent.add(0)
        line.run(60)
        read = {name: line.through[name][-1] for name in names}
        line.clear()
        line.silent.update(range(12))
        line.run(60)
        assert set(line.told_bad) == set(names[1:])
        assert max(times[0] - read[name] for name, times in line.told_bad.items()) < 3.0 + 0.6
        line.silent.clear()
        line.run(60)


def test_one_unit_that_does_not_answer_is_no_silent_line() -> None:
    """Though another did not either, before somebody answered: what is in between on a slow line may be asked late."""
    line = Line([job(f"d{at}", at) for at in range(3)], dict.fromkeys(range(3), 0.02))
    line.run(20)
    outcomes = [(0, Outcome.SILENT), (1, Outcome.SILENT), (2, Outcome.ANSWERED), *[(0, Outcome.SILENT)] * 6]
    for at, outcome in outcomes:
        turn = Turn(at, 0.5, probe=False)
        line.bus.begin(turn, line.now)
        line.pass_s(0.5)
        line.bus.end(turn, outcome, 0.5, line.now)
        line.bus.finish(turn, line.now)
        assert not line.bus.unheard(line.now)


@given(st.integers(0, 5), st.integers(100, 2000), st.floats(0.05, 5.0))
def test_a_cycle_never_takes_longer_than_its_budget(retries: int, period_ms: int, timeout_s: float) -> None:
    """Whatever retries and time-out say, a silent unit's cycle is over two periods after its first question."""
    line = Line([job("d", 1, period_ms, timeout_s=timeout_s, retries=retries)], {1: 0.01})
    line.run(10 + period_ms / 1000)
    line.silent.add(1)
    last = line.through["d"][-1]
    line.run(3 * period_ms / 1000 + 10)
    first = next(at for at, _ in line.begun if at > last)
    assert line.told_bad["d"][0] - first <= 2 * period_ms / 1000 + 1e-6


def test_a_question_that_failed_waits_behind_the_others() -> None:
    """Between a silent unit's tries the units that are due have their turn."""
    line = Line([job("d", 1, retries=2), job("e", 2, 300), job("f", 3, 300)], {1: 0.05, 2: 0.01, 3: 0.01})
    line.run(10)
    line.silent.add(1)
    line.clear()
    line.run(3)
    names = [name for _, name in line.begun]
    assert names.count("d") >= 3
    assert all((a, b) != ("d", "d") for a, b in pairwise(names))


def test_safety_keeps_its_period_on_an_overloaded_line_and_the_others_stretch() -> None:
    """A line that has to carry three times what it can: two gas detectors are on time, ten others share the rest."""
    jobs = [job(f"gas{i}", i, safety=True) for i in (1, 2)]
    jobs += [job(f"other{i}", i) for i in range(3, 13)]
    line = Line(jobs, dict.fromkeys(range(1, 13), 0.25))
    line.run(10)
    line.clear()
    line.run(120)
    for i in (1, 2):
        gaps = line.gaps(f"gas{i}")
        assert mean(gaps) == pytest.approx(1.0, abs=0.02)
        assert max(gaps) <= 1.0 + 2 * 0.25 + 1e-6
    others = [mean(line.gaps(f"other{i}")) for i in range(3, 13)]
    assert min(others) > 4.0
    assert max(others) < 6.0
    assert line.waited < 1.0
    figures = {each.name: each for each in line.bus.figures()}
    assert figures["gas1"].missed == figures["gas2"].missed == 0
    assert all(figures[f"other{i}"].missed > 20 for i in range(3, 13))
    assert all(figures[f"other{i}"].stretch > 4 for i in range(3, 13))
    assert set(line.bus.stretched) == {f"other{i}" for i in range(3, 13)}


@pytest.mark.parametrize("period_ms", [100, 200, 1000])
def test_one_stumble_is_no_overload(period_ms: int) -> None:
    """A quick device that answers late once: its line keeps its period, and nobody is to look for too many devices."""
    line = Line([job("d", 1, period_ms, timeout_s=5.0)], {1: 0.02})
    line.run(20)
    line.takes_s[1] = 4 * period_ms / 1000
    line.run(period_ms / 1000)
    line.takes_s[1] = 0.02
    most = 0.0
    for _ in range(100):
        line.run(period_ms / 4000)
        most = max(most, line.bus.figures()[0].stretch)
        assert not line.bus.stretched
    assert most > 1.2


def test_a_unit_that_never_answers_is_no_overload() -> None:
    """Each of its cycles takes longer than its period until it counts as dead: that it is silent is told."""
    line = Line([job("d", 1, 200, timeout_s=0.3)], {1: 0.02}, silent={1})
    most = 0.0
    for _ in range(200):
        line.run(0.05)
        most = max(most, line.bus.figures()[0].stretch)
        assert not line.bus.stretched
    assert most > 1.2
    assert line.bus.figures()[0].dead


def test_even_when_safety_takes_the_whole_line_nobody_is_starved() -> None:
    """What is not for safety has a turn after ten of its periods."""
    jobs = [*(job(f"gas{i}", i, safety=True) for i in range(1, 7)), job("other", 7)]
    line = Line(jobs, dict.fromkeys(range(1, 8), 0.25))
    line.run(120)
    assert 6 <= len(line.through["other"]) <= 15
    assert max(line.gaps("other")) < 13


def test_a_dead_unit_is_probed_also_where_safety_takes_the_whole_line() -> None:
    """What is not for safety waits for minutes there, and has always waited for the last silence already."""
    jobs = [job(f"gas{i}", i, safety=True) for i in range(18)]
    line = Line([*jobs, job("other", 18, 60_000)], dict.fromkeys(range(19), 0.06))
    line.run(60)
    line.silent = {0}
    line.run(20)
    assert line.bus.health[0].dead
    line.clear()
    line.run(200)
    asked = [at for at, name in line.begun if name == "gas0"]
    assert max(later - sooner for sooner, later in pairwise(asked)) < 50
    assert len(asked) >= 4


def test_a_long_plan_does_not_hold_up_a_short_one() -> None:
    """A turn is one question: forty of one device leave room for each tick of another."""
    jobs = [job("long", 1, 10_000), job("gas", 2, 500, safety=True)]
    line = Line(jobs, {1: 0.1, 2: 0.05}, requests={"long": 40})
    line.run(60)
    assert len(line.through["long"]) >= 4
    assert max(line.gaps("gas")) <= 0.5 + 0.1 + 1e-6


def test_as_fast_as_it_can_the_line_is_never_idle() -> None:
    """One device whose plan takes a little longer than its period is read without a pause."""
    line = Line([job("d", 1, 100)], {1: 0.105})
    line.run(5)
    line.clear()
    line.run(60)
    assert line.waited == 0.0


def test_a_device_that_pauses_leaves_the_line_to_the_others() -> None:
    """Its own next question waits for its pause, another's does not."""
    line = Line([job("d", 1, pause_s=0.2), job("e", 2, 200)], {1: 0.01, 2: 0.01}, requests={"d": 4})
    line.run(30)
    asked = [at for at, name in line.begun if name == "d"]
    assert min(later - sooner for sooner, later in pairwise(asked)) >= 0.2
    assert max(line.gaps("e")) < 0.22


def test_a_busy_device_is_asked_again_a_little_later_and_never_dead() -> None:
    """Its tries are spread over its period; it answers, so it lives."""
    line = Line([job("d", 1, retries=3)], {1: 0.01}, busy={1})
    line.run(60)
    asked = [at for at, _ in line.begun]
    gaps = [later - sooner for sooner, later in pairwise(asked)]
    assert min(gaps) >= 0.1
    assert not line.bus.health[1].dead
    assert line.bus.figures()[0].failed == 0


@pytest.mark.parametrize("step_s", [-7200.0, -3.3, 3.3, 7200.0])
def test_a_clock_that_is_set_neither_stops_nor_floods_the_polls(step_s: float) -> None:
    """Set back or forward, the next question comes within two periods and only one by one."""
    line = Line([job("d", 1)], {1: 0.01})
    line.run(10)
    line.clear()
    line.now = Moment(line.now.ns + round(step_s * 1e9), line.now.s)
    line.run(20)
    asked = [at for at, _ in line.begun]
    assert 18 <= len(asked) <= 22
    assert max(later - sooner for sooner, later in pairwise(asked)) <= 2.0
    assert line.bus.figures()[0].missed == 0


def test_after_a_step_back_readings_bear_no_stamps_that_others_have_borne() -> None:
    """Ticks of a whole period of the wall clock would meet themselves: ms for ms, where the exchange takes as long."""
    period_ms = 200
    line = Line([job(f"d{unit}", unit, period_ms) for unit in range(1, 11)], dict.fromkeys(range(1, 11), 0.004))
    stamps: dict[str, set[int]] = {}
    for again in range(3):
        first = len(line.begun)
        line.run(60.0)
        ahead_s = line.now.ns / 1e9 - line.now.s
        for at_s, name in line.begun[first:]:
            known = stamps.setdefault(f"{name} {again}", set())
            known.add(round((at_s + ahead_s) * 1000))
        line.now = Moment(line.now.ns - 60_000 * MS, line.now.s)
    for unit in range(1, 11):
        one, two, three = (stamps[f"d{unit} {again}"] for again in range(3))
        assert len(one) > 290
        # Where a turn was held up by a neighbour's, or before the first tick after the step.
        assert len(one & two) + len(two & three) + len(one & three) <= 5


def test_all_units_are_asked_at_once_when_the_line_is_back() -> None:
    """What died with the line does not wait for its probe."""
    line = Line([job(f"d{i}", i) for i in range(1, 9)], dict.fromkeys(range(1, 9), 0.01), draw=lambda: 0.99)
    line.run(10)
    line.silent = set(range(1, 9))
    line.run(60)
    assert all(each.dead for each in line.bus.figures())
    line.silent.clear()
    line.clear()
    line.bus.line_back()
    line.run(0.2)
    assert len(line.through) == 8


def test_of_a_dead_unit_with_two_jobs_only_one_is_asked_for() -> None:
    """Safety and the rest of one device share its health."""
    line = Line([job("d", 1, safety=True), job("d", 1)], {1: 0.01})
    line.run(5)
    line.silent.add(1)
    line.run(5)
    line.clear()
    line.run(60)
    assert len(line.begun) <= 35
    line.silent.clear()
    line.clear()
    line.run(8)
    counts = [each.cycles for each in line.bus.figures()]
    assert abs(counts[0] - counts[1]) <= 2
