"""Drives engine and oracle through the same random lives of points, and the engine through the same life cut up."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.core.oracle_lives import (
    Clocks,
    Round,
    commands_of,
    frame_of,
    live_alike,
    live_in_parts,
    live_restarted,
    lives,
)
from tests.core.oracle_plants import plants
from tests.core.plants import START_NS, definition, plant_of
from tocsin_core import engine
from tocsin_core.plant import AlarmKind, Plant
from tocsin_core.rules import compile_rules

__all__ = ["Clocks", "Round", "commands_of", "frame_of", "lives", "plants"]

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]


@pytest.mark.timeout(600)
@settings(max_examples=200, suppress_health_check=SLOW)
@given(plant=plants(), life=lives, restarts=st.sets(st.integers(0, 11), max_size=3))
def test_the_engine_says_what_the_oracle_says(plant: Plant, life: list[Round], restarts: set[int]) -> None:
    """Transitions, refusals, late readings and what is remembered never differ, whenever the engine is restarted."""
    live_alike(plant, life, restarts)


@settings(max_examples=100, suppress_health_check=SLOW)
@given(plant=plants(), life=lives)
def test_a_restart_changes_nothing_to_the_bit(plant: Plant, life: list[Round]) -> None:
    """An engine restored before every step goes on as the one that was never stopped."""
    live_restarted(plant, life)


@settings(max_examples=100, suppress_health_check=SLOW)
@given(plant=plants(), life=lives, cuts=st.lists(st.integers(0, 120), max_size=8), dice=st.randoms())
def test_how_readings_are_grouped_between_two_ticks_changes_nothing(
    plant: Plant, life: list[Round], cuts: list[int], dice: Random
) -> None:
    """Any partition of the same readings gives the same transitions in the same order and the same state to the bit."""
    live_in_parts(plant, life, cuts, dice)


@settings(max_examples=50, suppress_health_check=SLOW)
@given(plant=plants(), life=lives, later=st.data())
def test_changed_rules_keep_what_they_share(plant: Plant, life: list[Round], later: st.DataObject) -> None:
    """Laid onto rules with alarms taken away, added or set anew, a snapshot keeps what is known of all that stayed."""
    rules = compile_rules(plant)
    state, clocks = engine.initial(rules, START_NS), Clocks.of(plant)
    for turn in life:
        rows = clocks.stamp(turn)
        commands = commands_of(turn, rules, state, clocks.now_ns)
        state, _ = engine.step(state, rules, frame_of(rows), commands, clocks.now_ns)
    points = [
        [
            replace(d, setpoint=d.setpoint + 1.0, latching=not d.latching)
            for d in point.definitions
            if later.draw(st.booleans())
        ]
        for point in plant.points
    ]
    points.append([definition(f"P{len(points)}", AlarmKind.H, 5.0)])
    changed = compile_rules(plant_of(points))
    restored = engine.restore(engine.snapshot(state, rules), changed)
    for number, d in enumerate(changed.definitions[:-1]):
        before = rules.index[d.id]
        for column in ("phase", "active", "since_ns", "onset_ns", "shelved_until_ns", "shelved_once", "out_of_service"):
            assert getattr(restored, column)[number] == getattr(state, column)[before], column
    for index in range(len(plant.points)):
        assert restored.time_ns[index] == state.time_ns[index]
        assert restored.seen_ns[index] == state.seen_ns[index]
    kept = {(rules.points[p], tau) for p, tau in zip(rules.trend_point, rules.trend_tau_s, strict=True)}
    for row, (p, tau) in enumerate(zip(changed.trend_point, changed.trend_tau_s, strict=True)):
        assert (changed.points[p], tau) in kept
        before = int(np.flatnonzero((rules.trend_point == p) & (rules.trend_tau_s == tau))[0])
        assert restored.trend_ns[row] == state.trend_ns[before]
        assert restored.trend.weight[row] == state.trend.weight[before]
    assert (restored.phase[-1], restored.time_ns[-1]) == (0, -1)
    assert restored.seen_ns[-1] == state.now_ns + engine.FIRST_WORD_NS
    assert restored.now_ns == state.now_ns
