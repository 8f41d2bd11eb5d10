"""Long seeded lives in which everything happens, driven through engine and oracle and counted, so that none lacks."""

from collections.abc import Iterable

import pytest

from tests.core.oracle_busy import (
    Seen,
    detector_plant,
    detector_rounds,
    edge_plant,
    edge_rounds,
    live,
    process_plant,
    process_rounds,
    whole_plant,
    whole_rounds,
)
from tocsin_core.lifecycle import Event

TURNS = ("RAISE", "RETURN", "RETURN_LATCHED")


def turns_of(names: Iterable[str]) -> set[tuple[str, str]]:
    """Each of these raised and returned, both ways."""
    return {(name, turn) for name in names for turn in TURNS}


@pytest.mark.timeout(600)
def test_limits_trends_quality_and_silence_are_told_alike_in_long_lives() -> None:
    """Forty lives of three points: never a difference, every event of every kind but those by design."""
    seen = Seen()
    for seed in range(40):
        live(seed, process_plant, process_rounds, 30, seen)
    assert turns_of(("HH", "H", "L", "LL", "rate", "time-to-limit", "bad", "stale")) - seen.events.keys() == set()
    by_design = {"SUPPRESS", "UNSUPPRESS"}
    assert {event.name for event in Event} - {event for _, event in seen.events} == by_design
    ends = {"being repaired", "time is up", "the alarm has returned", "a worse alarm of the point was raised"}
    assert set(seen.unshelved_because) == ends
    assert seen.cut_short <= 2


@pytest.mark.timeout(600)
def test_values_a_unit_in_the_last_place_off_a_limit_or_a_deadband_are_told_alike() -> None:
    """Twenty lives of values on and beside the numbers at which alarms turn, each both ways: never a difference."""
    seen = Seen()
    for seed in range(20):
        live(seed, edge_plant, edge_rounds, 20, seen)
    assert turns_of(("HH", "H", "L", "LL")) - seen.events.keys() == set()
    assert {("time-to-limit", "RAISE"), ("time-to-limit", "RETURN")} <= seen.events.keys()
    assert min(seen.events[kind, turn] for kind in ("HH", "H", "L", "LL") for turn in ("RAISE", "RETURN")) > 50
    assert seen.cut_short <= 2


@pytest.mark.timeout(600)
def test_grades_exposure_charts_and_instruments_are_told_alike_in_long_lives() -> None:
    """Sixteen lives of three points with all that judges a single point: each kind raised and returned, both ways."""
    seen = Seen()
    for seed in range(16):
        live(seed, detector_plant, detector_rounds, 16, seen)
    grades = ("red", "orange", "yellow", "blue")
    single = ("stel", "twa", "peaks", "cusum", "ewma", "loop", "stuck", "spike")
    assert turns_of((*grades, *single)) - seen.events.keys() == set()
    assert seen.cut_short <= 2


@pytest.mark.timeout(600)
def test_points_that_depend_on_each_other_are_told_alike_in_long_lives() -> None:
    """Sixteen lives of whole plants: every rule's alarms raised, returned and suppressed, and every reason told."""
    seen = Seen()
    for seed in range(32, 48):
        live(seed, whole_plant, whole_rounds, 36, seen)
    rules = ("none", "vote", "median", "spread", "balance", "grade", "normal")
    assert turns_of(rules) - seen.by_rule.keys() == set()
    assert {(rule, event) for rule in rules for event in ("SUPPRESS", "UNSUPPRESS")} - seen.by_rule.keys() == set()
    assert {("abnormal", "RAISE"), ("abnormal", "RETURN")} <= seen.events.keys()
    told = {"1oo0", "1oo1", "1oo2", "2oo2", "P0", "P1", "P2", "first out of G0", "first out of G1", "first out of G2"}
    assert told - seen.raised_because.keys() == set()
    assert seen.cut_short <= 2
