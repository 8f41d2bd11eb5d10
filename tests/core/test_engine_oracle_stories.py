"""What engine and oracle both must say, worked out by hand: modes, suppression, computed points, first-out."""

from collections.abc import Sequence
from dataclasses import replace
from math import nan, sqrt

import numpy as np
import pytest

from tests.core.oracle import Made, Oracle, Told
from tests.core.oracle_lives import Answer, Row, answer_of, assert_alike, frame_of, oracle_step
from tests.core.oracle_plants import unit_model
from tests.core.plants import SECOND, START_NS, definition, plant_of
from tocsin_core import engine
from tocsin_core.engine import Command
from tocsin_core.lifecycle import Verb
from tocsin_core.normal import judge, start
from tocsin_core.plant import AlarmDefinition, AlarmKind, Plant
from tocsin_core.plant.computed import Balance, Compute, Grade, Normal, Spread, Vote
from tocsin_core.plant.definition import Suppressor
from tocsin_core.plant.point import ModeSource
from tocsin_core.readings import BAD, BAD_COMM_FAILURE, GOOD, UNCERTAIN
from tocsin_core.rules import compile_rules


def alarm(point: str, kind: str, setpoint: float = nan, by: Suppressor | None = None) -> AlarmDefinition:
    """An alarm without delays."""
    low = kind in ("L", "LL")
    return replace(definition(point, AlarmKind(kind), setpoint), side=-1 if low else 1, suppressed_by=by)


def computing(measured: Sequence[Sequence[AlarmDefinition]], rule: Compute, *alarms: AlarmDefinition) -> Plant:
    """A plant whose last point is computed."""
    plant = plant_of([*measured, alarms])
    return replace(plant, points=(*plant.points[:-1], replace(plant.points[-1], compute=rule)))


def at(second: float, point: int, value: float, quality: int = GOOD) -> Row:
    """A reading."""
    return point, START_NS + round(second * SECOND), value, quality


def both(plant: Plant, *steps: Sequence[Row] | Command | int) -> Answer:
    """What all the steps lead to; each reading of a step may as well be a step alone.

    The clock stands still but for numbers among the steps: until that second it ticks.
    """
    rules = compile_rules(plant)
    names = [d.id for d in rules.definitions]
    oracle = Oracle(plant, START_NS)
    whole, single = (engine.initial(rules, START_NS) for _ in range(2))
    said, now_ns = Answer([], [], [], 0, 0), START_NS
    ticking: list[tuple[Sequence[Row] | Command, int]] = []
    for step in steps:
        if isinstance(step, int):
            ticking += [([], second) for second in range((now_ns - START_NS) // SECOND + 1, step + 1)]
            now_ns = START_NS + step * SECOND
        else:
            ticking.append((step, (now_ns - START_NS) // SECOND))
    for step, second in ticking:
        now_ns = START_NS + second * SECOND
        rows, commands = ([], [step]) if isinstance(step, Command) else (step, [])
        expected = oracle_step(oracle, rows, commands, names, now_ns)
        whole, result = engine.step(whole, rules, frame_of(rows), commands, now_ns)
        mine = answer_of(result, rules)
        assert_alike(mine, expected, plant)
        alone: list[Told] = []
        for part in [[row] for row in rows] or [[]]:
            single, result = engine.step(single, rules, frame_of(part), commands, now_ns)
            alone += answer_of(result, rules).told
        assert repr(alone) == repr(mine.told)
        said = Answer(said.told + mine.told, said.computed + mine.computed, mine.refusals, mine.late, 0)
    return said


def events(said: Answer) -> list[str]:
    """`alarm event`, with `*` where it is hidden and the reason where there is one."""
    return [
        f"{told.alarm} {told.event}{'*' if told.suppressed else ''}{' ' * bool(told.reason)}{told.reason}"
        for told in said.told
    ]


def test_test_gas_raises_no_alarm_while_it_flows_nor_while_it_settles() -> None:
    """Calibration makes readings bad until a minute after; warm-up leaves what is bad bad; late words do not count."""
    plant = plant_of([[alarm("P0", "H", 50.0), replace(alarm("P0", "bad"), after_s=600.0)], []])
    source = ModeSource("P1", code_mask=0, warm_up=1, calibration=2, settle_s=60.0)
    plant = replace(plant, points=(replace(plant.points[0], mode_source=source), plant.points[1]))
    said = both(
        plant,
        [at(0, 0, 10.0), at(1, 1, 2.0), at(2, 0, 99.0)],
        [at(10, 1, 0.0), at(5, 1, 2.0), at(69.9, 0, 99.0), at(70, 0, 99.0)],
        [at(80, 1, 1.0), at(81, 0, 1.0), at(82, 0, 1.0, BAD_COMM_FAILURE)],
        [at(90, 1, 0.0, BAD_COMM_FAILURE), at(91, 0, 1.0), at(92, 1, 0.0), at(200, 0, 1.0)],
    )
    assert events(said) == [
        "P0/bad raise",
        "P0/H raise",
        "P0/bad return",
        "P0/bad raise",
        "P0/H return",
        "P0/bad return",
    ]
    assert [told.time_ns for told in said.told] == [at(t, 0, 0.0)[1] for t in (2, 70, 70, 82, 200, 200)]


def test_a_stopped_pump_suppresses_its_low_flow() -> None:
    """The suppression begins and ends at readings of the flow, before its alarms; it hides, and ends no shelf."""
    by = Suppressor("P1", 0.0, 0.5, on_delay_s=2.0, off_delay_s=3.0, longest_s=20.0)
    plant = plant_of([[alarm("P0", "L", 10.0, by), alarm("P0", "LL", 5.0, by)], []])
    shelve = Command(Verb.SHELVE, 0, START_NS, "li", "being repaired", 0, START_NS + 3600 * SECOND, once=False)
    said = both(
        plant,
        [at(0, 0, 50.0), at(0, 1, 0.0), at(1.9, 0, 50.0)],
        shelve,
        [at(2, 0, 4.0), at(5, 1, 9.0), at(7.9, 0, 4.0), at(8, 0, 4.0), at(9, 0, 50.0)],
        [at(10, 1, 0.0), at(12, 0, 50.0), at(30.5, 0, 50.0), at(31, 0, 4.0)],
    )
    assert events(said) == [
        "P0/L shelve* being repaired",
        *("P0/L suppress*", "P0/LL suppress*", "P0/L raise*", "P0/LL raise*"),
        *("P0/L unsuppress*", "P0/LL unsuppress", "P0/L return*", "P0/LL return"),
        *("P0/L suppress*", "P0/LL suppress*", "P0/L unsuppress*", "P0/LL unsuppress"),
        *("P0/L raise*", "P0/LL raise", "P0/L unshelve a worse alarm of the point was raised"),
    ]


@pytest.mark.parametrize(("lost", "reason"), [("safe", "1oo2"), ("available", "2oo2")])
def test_a_vote_degrades_as_declared(lost: str, reason: str) -> None:
    """2oo3 with one bad: either of two raises where a lost one counts as tripped, both where it does not."""
    rule = Vote.model_validate({"rule": "vote", "of": ("P0", "P1", "P2"), "need": 2, "lost": lost})
    plant = computing([[], [], []], rule, alarm("P3", "H", 50.0))
    healthy = both(plant, [at(0, 0, 60.0), at(0, 1, 40.0), at(0, 2, 70.0)])
    assert events(healthy) == ["P3/H raise 1oo1", *([] if lost == "safe" else ["P3/H return", "P3/H raise"])]
    said = both(
        plant, [at(0, 0, 40.0), at(0, 1, 40.0), at(0, 2, 1.0), at(1, 2, nan, BAD), at(2, 0, 60.0), at(3, 1, 60.0)]
    )
    assert events(said) == [f"P3/H raise {reason}"]
    assert said.told[0].time_ns == at(2 if lost == "safe" else 3, 0, 0.0)[1]


def test_a_computed_reading_is_newer_than_the_one_before() -> None:
    """Members are not read at one moment: what is computed of an older reading comes a nanosecond after the last."""
    rule = Vote(rule="vote", of=("P0", "P1"), need=1)
    said = both(
        computing([[], []], rule), [at(5, 0, 1.0), at(5, 1, 3.0), at(2, 1, 9.0), at(6, 1, 2.0), at(5.5, 0, 7.0)]
    )
    five, six = at(5, 0, 0.0)[1], at(6, 0, 0.0)[1]
    expected: list[Made] = [
        (2, five, 1.0, GOOD),
        (2, five + 1, 3.0, GOOD),
        (2, six, 2.0, GOOD),
        (2, six + 1, 7.0, GOOD),
    ]
    assert said.computed == expected
    assert said.late == 1


def test_neighbours_that_part_are_named() -> None:
    """The one furthest from the median of three; of two nobody can tell; one alone is no spread."""
    rule = Spread(rule="spread", of=("P0", "P1", "P2"))
    plant = computing([[], [], []], rule, alarm("P3", "H", 5.0))
    assert events(both(plant, [at(0, 0, 10.0), at(0, 1, 11.0), at(0, 2, 4.0)])) == ["P3/H raise P2"]
    assert events(both(plant, [at(0, 0, 10.0), at(0, 1, 16.0)])) == ["P3/H raise"]
    alone = both(plant, [at(0, 0, 10.0)], 11, [at(10.1, 1, 16.0), at(11, 2, 1e308), at(12, 1, -1e308)])
    assert [made[2:] for made in alone.computed] == [(None, BAD), (None, BAD), (1e308 - 16.0, GOOD), (None, BAD)]


def test_a_leak_is_told_in_its_uncertainties() -> None:
    """36 t/h flow in and the level stands still: after 54 min it is good, and 32.4 t are that many uncertainties."""
    rule = Balance(rule="balance", level="P0", inflow=("P1",), table=((0.0, 0.0), (10.0, 1000.0)), density=800.0)
    plant = computing([[], []], rule, alarm("P2", "H", 10.0))
    units = (replace(plant.points[0], unit="m"), replace(plant.points[1], unit="t/h"))
    plant = replace(plant, points=(*units, replace(plant.points[2], longest_s=60.0)))
    said = both(plant, [row for m in range(60) for row in (at(60 * m, 1, 36.0), at(60 * m, 0, 5.0))])
    mass_u = sqrt((800 * 100 * 0.002) ** 2 + (800 * 500 * 0.00095 * 0.5) ** 2)
    loss = 54 * 600.0
    value = loss / sqrt((0.005 * loss) ** 2 + 2 * 2 * mass_u**2)
    assert said.computed[54][2] == pytest.approx(value)
    assert said.computed[54][3] == GOOD
    assert said.computed[53][3] == UNCERTAIN
    assert [(told.alarm, told.event, told.time_ns) for told in said.told] == [("P2/H", "raise", at(54 * 60, 0, 0.0)[1])]
    gone = both(plant, [at(0, 1, 36.0), at(0, 0, 5.0)], 61, [at(61, 0, 5.0), at(62, 1, 36.0), at(62, 0, 10.5)])
    assert [made[2:] for made in gone.computed[1:]] == [(None, BAD), (None, BAD)]


def test_four_blue_points_make_an_item_yellow_and_three_such_a_pond_orange() -> None:
    """GB 39496-2020 5.5.4, by the alarms that stand: a bad reading leaves them."""
    items = tuple(tuple(f"P{4 * item + place}" for place in range(4)) for item in range(3))
    measured = [[alarm(f"P{number}", "blue", 50.0)] for number in range(12)]
    plant = computing(measured, Grade(rule="grade", items=items), alarm("P12", "HH", 3.0), alarm("P12", "H", 2.0))
    said = both(plant, [at(number, number, 60.0) for number in range(12)], [at(12, 0, nan, BAD), at(13, 0, 1.0)])
    assert [made[2] for made in said.computed] == [1.0, 1.0, 1.0, *[2.0] * 7, 2.0, 3.0, 3.0, 2.0]
    assert [each for each in events(said) if each[:3] == "P12"] == ["P12/H raise", "P12/HH raise", "P12/HH return"]


def test_the_cause_of_a_trip_is_told_until_all_are_normal_again() -> None:
    """The earliest onset, of two at once the first in the plant; what is hidden does not count."""
    by = Suppressor("P3", 1.0, 1.0, on_delay_s=0.0, off_delay_s=0.0, longest_s=100.0)
    points = [[alarm("P0", "H", 50.0)], [alarm("P1", "H", 50.0)], [alarm("P2", "H", 50.0, by)], []]
    plant = replace(plant_of(points), first_out={"trip": ("P0/H", "P1/H", "P2/H"), "other": ("P1/H",)})
    acknowledge = [Command(Verb.ACKNOWLEDGE, number, START_NS + 9 * SECOND, "li") for number in range(3)]
    said = both(
        plant,
        [at(0, 3, 1.0), at(1, 2, 60.0), at(3, 1, 60.0), at(3, 0, 60.0), at(4, 3, 0.0)],
        *acknowledge,
        [at(5, 0, 0.0), at(5, 1, 0.0), at(8, 2, 0.0), at(7, 0, 60.0), at(8.5, 1, 60.0)],
    )
    assert [each for each in events(said) if "raise" in each] == [
        "P2/H raise*",
        "P1/H raise first out of trip; first out of other",
        "P0/H raise first out of trip",
        "P0/H raise",  # raised before its group was normal, told after it
        "P1/H raise first out of trip; first out of other",
    ]


def test_a_unit_is_judged_once_a_period_by_what_was_read_before_it_ended() -> None:
    """The row has the last values; one that is too old is none, and a reading of a past period closes nothing."""
    model = unit_model(60.0)
    plant = computing([[], [], []], Normal(rule="normal", model="m60", show="t2"), alarm("P3", "abnormal"))
    points = (*plant.points[:-1], replace(plant.points[-1], longest_s=100.0))
    plant = replace(plant, points=points, models={"m60": model})
    said = both(
        plant,
        [at(0, 0, 50.0), at(0, 1, 51.0), at(0, 2, 48.0)],
        50,
        [at(50, 0, 52.0)],
        130,
        [at(130, 0, 99.0), at(110, 1, 40.0), at(170, 2, 47.0), at(180, 1, 45.0)],
    )
    rows = [[52.0, nan, nan], [99.0, 40.0, 47.0]]
    state, expected = start(model), []
    for row in rows:
        state, judged = judge(model, state, np.array([row]))
        expected.append(float(judged.t2[0]))
    assert said.computed == [(3, at(130, 0, 0.0)[1], None, BAD), (3, at(180, 0, 0.0)[1], expected[1], GOOD)]
