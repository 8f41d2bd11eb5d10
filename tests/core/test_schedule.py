"""Ticks: on their grid, spread by key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin_core.schedule import first_due, phase_of

PERIODS = st.integers(min_value=1, max_value=3_600_000_000_000)
TIMES = st.integers(min_value=0, max_value=4_102_444_800_000_000_000)
KEYS = st.text(max_size=20)


@given(PERIODS, KEYS, TIMES)
def test_first_tick_is_the_next_one_on_the_grid(period: int, key: str, now: int) -> None:
    """The first tick lies within one period from now and on the key's own grid."""
    due = first_due(period, key, now)
    assert now <= due < now + period
    assert due % period == phase_of(period, key)


def test_keys_are_spread_and_stable() -> None:
    """A hundred devices of one period do not fall together, and the shift is the same for ever."""
    phases = {phase_of(1_000_000_000, f"device-{n}") for n in range(100)}
    assert len(phases) == 100
    assert max(phases) - min(phases) > 900_000_000
    assert phase_of(1_000_000_000, "NH3-101") == 380_863_456


def test_a_period_is_positive() -> None:
    """A period of nothing is refused."""
    with pytest.raises(ValueError, match="period of 0"):
        first_due(0, "key", 1)
