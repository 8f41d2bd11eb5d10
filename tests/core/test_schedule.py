"""Ticks: on their grid, spread by key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin_core.schedule import JOBS_PER_SLOT, NS_PER_S, Grid, first_due, phase_of

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


@given(PERIODS, KEYS, TIMES)
def test_on_a_grid_the_first_tick_is_one_of_its_moments(period: int, key: str, now: int) -> None:
    """It lies within one period from now, and less than a slot from where it would be by itself."""
    grid = Grid.of("gw", 20)
    due = first_due(period, key, now, grid)
    width = max(1, min(period, NS_PER_S) // grid.slots)
    assert now <= due < now + period
    assert due % period == grid.moment(period, phase_of(period, key)) % period
    assert abs(grid.moment(period, phase_of(period, key)) - phase_of(period, key)) < width


def test_devices_of_a_gateway_share_few_moments_and_gateways_do_not() -> None:
    """What is asked together costs less, and a few hundred at once would make the last of them late."""

    def moments(gateway: str, jobs: int) -> list[int]:
        grid = Grid.of(gateway, jobs)
        return [first_due(NS_PER_S, f"device-{n}", 0, grid) for n in range(jobs)]

    assert len(set(moments("gw1", 20))) == 4
    assert not set(moments("gw1", 20)) & set(moments("gw2", 20))
    many = moments("gw1", 1000)
    assert len(set(many)) > 1000 / JOBS_PER_SLOT / 2
    assert max(many.count(each) for each in many) < 4 * JOBS_PER_SLOT
    moved = [two - one for one, two in zip(moments("gw1", 32), moments("gw1", 33), strict=False)]
    assert max(map(abs, moved)) < NS_PER_S // 4


def test_a_period_is_positive() -> None:
    """A period of nothing is refused."""
    with pytest.raises(ValueError, match="period of 0"):
        first_due(0, "key", 1)
