"""Drives engine and oracle through the same random lives of whole plants, in which points depend on each other."""

from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.core.oracle_lives import Round, live_alike, live_in_parts, live_restarted, lives_of
from tests.core.oracle_plants import whole_plants
from tocsin_core.plant import Plant

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]


@pytest.mark.timeout(600)
@settings(max_examples=120, suppress_health_check=SLOW)
@given(plant=whole_plants(), life=lives_of(5, 8), restarts=st.sets(st.integers(0, 7), max_size=3))
def test_the_engine_says_what_the_oracle_says(plant: Plant, life: list[Round], restarts: set[int]) -> None:
    """Modes, suppression by design, computed points and first-out: never a difference, whenever it is restarted."""
    live_alike(plant, life, restarts)


@settings(max_examples=40, suppress_health_check=SLOW)
@given(plant=whole_plants(), life=lives_of(5, 8))
def test_a_restart_changes_nothing_to_the_bit(plant: Plant, life: list[Round]) -> None:
    """An engine restored before every step goes on as the one that was never stopped."""
    live_restarted(plant, life)


@settings(max_examples=40, suppress_health_check=SLOW)
@given(plant=whole_plants(), life=lives_of(5, 8), cuts=st.lists(st.integers(0, 120), max_size=8), dice=st.randoms())
def test_how_readings_are_grouped_between_two_ticks_changes_nothing(
    plant: Plant, life: list[Round], cuts: list[int], dice: Random
) -> None:
    """Any partition of the same readings gives the same transitions in the same order and the same state to the bit."""
    live_in_parts(plant, life, cuts, dice)
