"""The rules that come with Tocsin, by the rule tests beside this file, and that none of the standards is left out."""

from pathlib import Path
from typing import Final

import pytest

from tocsin_cli.rule_tests import find, load
from tocsin_core.lifecycle import Event
from tocsin_core.plant import AlarmKind, PointKind
from tocsin_core.plant.computed import RULES
from tocsin_core.plant.model import MinePlace
from tocsin_core.plant.standards import EEMUA_DEADBAND, EXPOSURE, MINE_METHANE, defaults_of
from tocsin_core.rule_tests import Case, draw, run

HERE: Final = Path(__file__).parent
CASES: Final = [case for file in find(HERE) for case in load(file, file.name)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.line.file}-{case.name}")
def test_the_rule_does_what_its_test_says(case: Case) -> None:
    """Each test of each file passes; where one does not, its picture is shown."""
    outcome = run(case)
    assert outcome.passed, "\n".join([*map(str, outcome.failures), *draw(outcome)])


def exact_raises() -> set[tuple[str, AlarmKind]]:
    """Point and alarm kind of every raise that some test expects at one exact moment."""
    return {
        (case.rules.definitions[case.rules.index[alarm]].point, case.rules.definitions[case.rules.index[alarm]].kind)
        for case in CASES
        for _, alarm, turns in case.turns
        if turns.raised and all(window.first_ns == window.last_ns for window in turns.raised)
    }


def test_every_set_point_of_the_standards_is_tested() -> None:
    """Each default limit of each kind, gas and place is raised at an exact moment in some test."""
    raised = exact_raises()
    tested = set()
    for case in CASES:
        for point in case.plant.points:
            defaults = defaults_of(point.config).alarms
            own = point.config.alarms
            for kind in (k for k in defaults if k is not AlarmKind.TIME_TO_LIMIT and k not in own):
                if (point.id, kind) in raised:
                    tested.add((point.kind, point.config.cas, point.config.place, kind))
    two_levels = (AlarmKind.H, AlarmKind.HH)
    wanted: set[tuple[PointKind, str | None, MinePlace | None, str]]
    wanted = {(PointKind.TOXIC_GAS, cas, None, kind) for cas in EXPOSURE for kind in two_levels}
    wanted |= {(PointKind.MINE_METHANE, None, place, AlarmKind.H) for place in MinePlace}
    wanted |= {(PointKind.MINE_METHANE, None, place, AlarmKind.HH) for place, row in MINE_METHANE.items() if row[1]}
    wanted |= {(PointKind.COMBUSTIBLE_GAS, None, None, kind) for kind in two_levels}
    wanted |= {(PointKind.MINE_CO, None, None, AlarmKind.H)}
    wanted |= {(kind, None, None, k) for kind in (PointKind.OXYGEN, PointKind.MINE_WIND) for k in ("H", "L")}
    assert wanted <= tested


def test_every_kind_returns_by_its_deadband_in_some_test() -> None:
    """The return of a limit is expected at an exact moment for each kind that has a deadband of its own."""
    tested = {
        case.plant.points[case.plant.point_index[case.rules.definitions[case.rules.index[alarm]].point]].kind
        for case in CASES
        for _, alarm, turns in case.turns
        if turns.returned and all(window.first_ns == window.last_ns for window in turns.returned)
    }
    assert set(EEMUA_DEADBAND) | {PointKind.GENERIC, PointKind.MINE_METHANE, PointKind.MINE_WIND} <= tested


def test_every_kind_of_alarm_and_every_rule_is_raised_in_some_test() -> None:
    """But for those that want to be learned from a plant's own recordings, which no file of rule tests has."""
    expected = {
        case.rules.definitions[case.rules.index[alarm]]
        for case in CASES
        for _, alarm, turns in case.turns
        if turns.raised
    }
    learned = {AlarmKind.CUSUM, AlarmKind.EWMA, AlarmKind.ABNORMAL}
    assert {definition.kind for definition in expected} == set(AlarmKind) - learned
    raised = {definition.point for definition in expected}
    computed = {
        point.compute.rule for case in CASES for point in case.plant.points if point.compute and point.id in raised
    }
    assert computed == RULES - {"normal"}


def test_the_tests_hear_every_event_of_a_life() -> None:
    """Between them the shipped tests make every event happen that there is."""
    assert {each.event for case in CASES for each in run(case).transitions} == set(Event)
