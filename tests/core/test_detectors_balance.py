"""Mass balance: the sums by slot against all the readings, and a leak that no level alarm would show."""

from collections.abc import Sequence
from itertools import pairwise
from math import isfinite, nan, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.detectors import SECOND, START_NS, Rounds, alone_and_together, f64, flags, i64
from tocsin_core.detect import FALSE, HOLD, TRUE
from tocsin_core.detectors import balance
from tocsin_core.detectors.balance import DAY, HOUR, Balance, Measured, TankData

# 20 m across: 314.16 m3 a metre.
TANK = TankData(table=[(0.0, 0.0), (5.0, 1570.8), (12.0, 3769.92)], density=750.0)
TANKS = balance.tanks_of([TANK])
LONGEST = 120 * SECOND
ONE = np.zeros(1, np.int64)
Reading = tuple[int, float, float, float, bool]  # time, in, out (kg/s), mass, good


def measured(reading: Reading) -> Measured:
    """One reading of one tank."""
    time, into, out, mass, good = reading
    return Measured(i64(time), f64(into), f64(out), f64(mass), flags(good))


def run(readings: Sequence[Reading], window: tuple[int, int] = HOUR) -> Balance:
    """One tank that read these."""
    state = Balance.empty(1, window)
    for reading in readings:
        state = balance.advance(state, window, measured(reading), i64(LONGEST))
    return state


lives = st.lists(
    st.tuples(
        st.sampled_from([1, 30, 60, 120, 121, 700, 5000]),
        st.sampled_from([0.0, 5.0, 12.5]),
        st.sampled_from([0.0, 4.0]),
        st.sampled_from([1000.0, 1010.0, 1100.0, nan]),
        st.sampled_from([True] * 5 + [False]),
    ),
    min_size=1,
    max_size=60,
)


@given(lives)
def test_the_balance_is_that_of_all_the_readings(life: list[tuple[int, float, float, float, bool]]) -> None:
    """Every step that ends in the window counts, with what flowed in it and what the tank gained."""
    time, past = START_NS, list[Reading]()
    for seconds, into, out, mass, good in life:
        time += seconds * SECOND
        past.append((time, into, out, mass, good))
    begin = (time // HOUR[0] - HOUR[1]) * HOUR[0]
    inflow = outflow = covered = gained = 0.0
    joined = 0
    for (before, in_0, out_0, mass_0, good_0), (at, in_1, out_1, mass_1, good_1) in pairwise(past):
        whole = good_0 and good_1 and isfinite(mass_0 + mass_1) and at - before <= LONGEST
        if whole and at >= begin:
            apart = (at - before) / SECOND
            inflow += (in_0 + in_1) / 2 * apart
            outflow += (out_0 + out_1) / 2 * apart
            gained += mass_1 - mass_0
            covered += apart
            joined += 1
    loss = inflow - outflow - gained
    usable = sum(at >= begin and good and isfinite(mass) for at, _, _, mass, good in past)
    pieces = usable - joined + 1
    told = balance.close(run(past), HOUR, TANKS, ONE, f64(7.0))
    assert told.loss[0] == pytest.approx(loss, abs=1e-6)
    assert told.share[0] == pytest.approx(min(covered / 3600, 1.0))
    expected = (0.005 * inflow) ** 2 + (0.005 * outflow) ** 2 + (0.002 * gained) ** 2 + 2 * pieces * 49
    assert told.uncertainty[0] == pytest.approx(sqrt(expected))


@given(st.lists(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0.0, 2.0, nan]), st.booleans()), max_size=4)))
def test_the_same_readings_in_other_portions_give_the_same_state(
    life: list[list[tuple[int, float, bool]]],
) -> None:
    """Nothing depends on which tanks are taken together."""
    rounds: Rounds = []
    for number, part in enumerate(life):
        by_row = {row: (value, good) for row, value, good in part}
        mass, goods = f64(*(v for v, _ in by_row.values())), flags(*(g for _, g in by_row.values()))
        at = np.full(len(by_row), START_NS + number * number * 40 * SECOND)
        rounds.append((i64(*by_row), (at, np.nan_to_num(mass) / 7, np.nan_to_num(mass) / 3, mass, goods)))
    alone_and_together(
        lambda size: Balance.empty(size, HOUR),
        lambda s, r, c: balance.advance(s, HOUR, Measured(*c), np.full(len(r), LONGEST)),
        rounds,
    )


def filling(hours: int, leak_kg_s: float, *, lost: range = range(0)) -> list[Reading]:
    """A tank filled with 10 kg/s for so long, a reading a minute, some of which are not good."""
    return [
        (START_NS + m * 60 * SECOND, 10.0, 0.0, 1e6 + (10.0 - leak_kg_s) * m * 60, m not in lost)
        for m in range(hours * 60 + 1)
    ]


def said(readings: Sequence[Reading], window: tuple[int, int], mass_u: float) -> int:
    """What is said of the tank after these."""
    closure = balance.close(run(readings, window), window, TANKS, ONE, f64(mass_u))
    if closure.share[0] < balance.LEAST_SHARE:
        return int(HOLD)
    size = abs(closure.loss[0]) / closure.uncertainty[0]
    return int(TRUE if size > 3.0 else FALSE if size < 2.0 else HOLD)


def test_a_leak_of_half_a_kilogram_a_second_is_found_in_a_day_and_not_in_an_hour() -> None:
    """The gauge knows the mass to 700 kg: 1.8 t an hour drown in that, 43 t a day do not."""
    mass_u = float(balance.inventory(TANKS, ONE, f64(4.25), f64(15.0)).uncertainty[0])
    assert mass_u == pytest.approx(sqrt((750 * 314.16 * 0.002) ** 2 + (750 * 1335.18 * 0.00095 * 0.5) ** 2))
    assert said(filling(2, 0.5), HOUR, mass_u) == FALSE
    assert said(filling(25, 0.5), DAY, mass_u) == TRUE
    assert said(filling(25, 0.0), DAY, mass_u) == FALSE
    assert said(filling(25, -0.5), DAY, mass_u) == TRUE
    assert said(filling(25, 0.14), DAY, mass_u) == HOLD


def test_a_gap_is_left_out_on_both_sides() -> None:
    """Half an hour without a good reading neither hides nor makes up a loss; too much of it and nothing is said."""
    closure = balance.close(run(filling(2, 0.0, lost=range(80, 85))), HOUR, TANKS, ONE, f64(700.0))
    assert closure.loss[0] == pytest.approx(0.0, abs=1e-6)
    assert said(filling(2, 0.0, lost=range(80, 85)), HOUR, 700.0) == FALSE
    assert said(filling(2, 0.0, lost=range(80, 110)), HOUR, 700.0) == HOLD
    assert said(filling(1, 0.0)[:50], HOUR, 700.0) == HOLD


def test_what_a_tank_holds() -> None:
    """Level by the table, warmer liquid is lighter, the shell widens; off the table nothing is known."""
    tanks = balance.tanks_of([TankData(table=[(0.0, 0.0), (1.0, 10.0)], density=1000.0), TANK])
    told = balance.inventory(tanks, i64(1, 1, 1, 1, 1, 0), f64(0, 5, 8.5, 12, 12.1, 0.5), f64(15, 15, 15, 15, 15, 25))
    assert told.mass[:4].tolist() == pytest.approx([0.0, 1570.8 * 750, 2670.36 * 750, 3769.92 * 750])
    assert np.isnan(told.mass[4])
    assert told.mass[5] == pytest.approx(1000 * (1 - 0.0095) * 5 * (1 + 22.4e-5))


@given(st.lists(st.floats(0.1, 5), min_size=2, max_size=9), st.floats(0, 1), st.integers(0, 1))
def test_the_table_is_read_as_numpy_reads_it(steps: list[float], where: float, place: int) -> None:
    """Between two rows the volume is on the straight line, whatever the length of the table."""
    levels = np.cumsum(steps)
    table = [(float(level), float(level) ** 2) for level in levels]
    pair = [TANK, TANK]
    pair[place] = TankData(table=table, density=1.0)
    level = min(levels[0] + where * (levels[-1] - levels[0]), levels[-1])
    told = balance.inventory(balance.tanks_of(pair), i64(place), f64(level), f64(15.0)).mass[0]
    assert told == pytest.approx(np.interp(level, levels, levels**2))


@pytest.mark.parametrize("table", [[], [(0.0, 0.0)], [(0.0, 0.0), (0.0, 1.0)], [(0.0, 1.0), (1.0, 0.0)]])
def test_a_table_must_rise(table: list[tuple[float, float]]) -> None:
    """A table that cannot be read one way is refused."""
    with pytest.raises(ValueError, match="tank 0"):
        balance.tanks_of([TankData(table=table, density=1.0)])


def test_a_value_out_of_all_bounds_leaves_with_its_slot() -> None:
    """An overflow raises no warning and spoils nothing for longer than it stays in the window."""
    wild = [(START_NS + m * 60 * SECOND, 1.7e308, 0.0, 1e6, True) for m in range(2)]
    calm = [(START_NS + (m + 3) * 60 * SECOND, 10.0, 0.0, 1e6 + 600 * m, True) for m in range(90)]
    assert said([*wild, *calm[:60]], HOUR, 700.0) == HOLD
    assert said([*wild, *calm], HOUR, 700.0) == FALSE


def test_memory_of_a_tank() -> None:
    """What the documentation says a tank costs."""
    assert Balance.empty(2, HOUR).bytes_per_row() == 560
    assert Balance.empty(2, DAY).bytes_per_row() == 1040


def test_a_full_tank_is_on_its_table_whatever_its_unit() -> None:
    """100 % of 7 m is a last digit more than 7 m; a centimetre more, or 1e300, is off the table."""
    tanks = balance.tanks_of([TankData(table=[(0.0, 0.0), (7.0, 1000.0)], density=1000.0)])
    full = 100.0 * balance.metres_of("%", 7.0)
    assert full > 7.0
    told = balance.inventory(tanks, i64(0, 0, 0, 0), f64(full, 7.01, 1e300, -1e-10), f64(15, 15, 15, 15))
    assert np.isfinite(told.mass).tolist() == [True, False, False, True]
