"""Health of instruments: each detector against a plain loop over all readings, and stories with NE 43's currents."""

from collections.abc import Sequence
from itertools import groupby
from math import isnan, nan
from statistics import median, variance

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.detectors import NO, SECOND, START_NS, YES, Rounds, alone_and_together, f64, flags, i64
from tocsin_core.detect import FALSE, HOLD, TRUE
from tocsin_core.detectors import health
from tocsin_core.detectors.health import NEIGHBOURS, Mode, Modes, Spikes, Stuck
from tocsin_core.readings import BAD_OUT_OF_SERVICE, GOOD
from tocsin_core.special.watches import SPIKE_TIMES

WINDOW = 60 * SECOND
Reading = tuple[int, float, bool]

lives = st.lists(
    st.tuples(
        st.sampled_from([1, 1, 1, 5, 20, 61, 200]),
        st.sampled_from([0.0, 10.0, 10.0, 10.0, 10.125, 10.25, 11.0, 40.0]),
        st.sampled_from([True] * 8 + [False]),
    ),
    max_size=80,
)


@pytest.mark.parametrize(
    ("current", "said"),
    [
        (0.0, TRUE),
        (3.6, TRUE),
        (3.7, HOLD),
        (3.8, FALSE),
        (20.5, FALSE),
        (20.8, HOLD),
        (21.0, TRUE),
    ],
)
def test_the_bands_of_ne_43(current: float, said: int) -> None:
    """3.8 to 20.5 mA is a measurement, 3.6 and 21.0 mA a failure, between them the transmitter is saturated."""
    assert health.loop(f64(current))[0] == said


def test_a_current_is_told_from_a_scaled_value() -> None:
    """A level of -2.5 % on 0 to 100 % is a current of 3.6 mA."""
    assert health.current_of(f64(-2.5, 0.0, 100.0), f64(0, 0, 0), f64(100, 100, 100)).tolist() == [3.6, 4.0, 20.0]


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.6), (0.0, 1.6), (0.0, 7.0), (-0.1, 0.5), (0.0, 4.0)])
def test_the_bands_hold_for_what_a_register_holds(low: float, high: float) -> None:
    """A float of 32 bits is a little off: at exactly 3.6 mA a broken wire read as a saturated signal."""
    values = [float(np.float32(low + (current - 4.0) / 16.0 * (high - low))) for current in (3.6, 3.8, 20.5, 21.0)]
    current = health.current_of(f64(*values), f64(*[low] * 4), f64(*[high] * 4))
    assert health.loop(current).tolist() == [TRUE, FALSE, FALSE, TRUE]
    assert health.loop(f64(3.602, 20.998)).tolist() == [HOLD, HOLD]


def stuck_slowly(past: Sequence[Reading], floor: float, least: int, zero: float) -> int:
    """Stuck, from all good readings: the run at the end, and the blocks cut from the start."""
    kept = [(time, value) for time, value, good in past if good]
    if not kept:
        return int(HOLD)
    if abs(kept[-1][1] - zero) <= 0.125:
        return int(FALSE)
    run = [list(part) for _, part in groupby(kept, key=lambda reading: reading[1])][-1]
    identical = len(run) >= least and run[-1][0] - run[0][0] >= WINDOW
    quiet, block = HOLD, list[tuple[int, float]]()
    for time, value in kept:
        moved = bool(block) and abs(value - sum(v for _, v in block) / len(block)) > 6 * floor
        if block and time - block[0][0] >= WINDOW:
            still = len(block) > 1 and variance(v for _, v in block) < floor**2
            quiet = HOLD if len(block) < least else TRUE if still else FALSE
            block = []
        block.append((time, value))
        quiet = FALSE if moved else quiet
    if identical or quiet == TRUE:
        return int(TRUE)
    return int(FALSE if quiet == FALSE else HOLD)


@given(lives, st.sampled_from([0.0, 0.07, 0.3]), st.sampled_from([2, 5]), st.sampled_from([nan, 0.0, 10.0]))
def test_stuck_is_what_all_the_readings_say(
    life: list[tuple[int, float, bool]], floor: float, least: int, zero: float
) -> None:
    """The run and the block in the state stand for the whole past."""
    state, time, past = Stuck.empty(1), START_NS, list[Reading]()
    for seconds, value, good in life:
        time += seconds * SECOND
        past.append((time, value, good))
        state = health.advance_stuck(state, i64(time), f64(value), flags(good), i64(WINDOW), f64(floor), i64(least))
        said = health.judge_stuck(state, i64(WINDOW), i64(least), f64(zero), f64(0.125))
        assert said[0] == stuck_slowly(past, floor, least, zero)


def stuck_after(values: Sequence[float], zero: float = nan, floor: float = 0.0) -> int:
    """What is said after readings once a second, W = 60 s, at least 10 readings."""
    state = Stuck.empty(1)
    for second, value in enumerate(values):
        at = i64(START_NS + second * SECOND)
        state = health.advance_stuck(state, at, f64(value), YES, i64(WINDOW), f64(floor), i64(10))
    return int(health.judge_stuck(state, i64(WINDOW), i64(10), f64(zero), f64(0.5))[0])


def test_a_frozen_value_is_stuck_and_a_sensor_at_its_zero_is_not() -> None:
    """The same 12.5 for a minute is a fault of the instrument; 0.0 of a gas sensor in clean air is none."""
    assert stuck_after([12.5] * 60) == HOLD
    assert stuck_after([12.5] * 61) == TRUE
    assert stuck_after([12.5] * 61 + [12.6]) == FALSE
    assert stuck_after([0.0] * 600, zero=0.0) == FALSE
    assert stuck_after([0.0] * 600) == TRUE


def test_less_noise_than_a_living_sensor_has_is_stuck_too() -> None:
    """A converter's last digit may still flicker on a dead sensor: 0.01 where 0.1 is normal."""
    flicker = [50.0, 50.01] * 61
    assert stuck_after(flicker, floor=0.05) == TRUE
    assert stuck_after(flicker, floor=0.001) == FALSE
    assert stuck_after([*flicker, 51.0], floor=0.05) == FALSE
    # 60 readings that alternate by 1 have the variance 0.25 * 60 / 59 = 0.2542.
    assert [stuck_after([0.0, 1.0] * 31, floor=limit**0.5) for limit in (0.254, 0.2543)] == [FALSE, TRUE]


def spikes_slowly(past: Sequence[Reading], floor: float, times: float) -> list[int]:
    """The times of all spikes, told with a list of neighbours."""
    near, found = list[float](), list[int]()
    suspect: list[tuple[int, float]] = []
    for time, value, good in past:
        if not good:
            continue
        off = moved = False
        if len(near) >= NEIGHBOURS:
            middle = median(near[-NEIGHBOURS:])
            most = times * max(1.4826 * median(abs(v - middle) for v in near[-NEIGHBOURS:]), floor)
            off, moved = abs(value - middle) > most, abs(near[-1] - middle) > most
        if off and not suspect and not moved:
            suspect = [(time, value)]
        elif off:
            near += [*(each for _, each in suspect), value]
            suspect = []
        else:
            found += [at for at, _ in suspect]
            near.append(value)
            suspect = []
    return found


@given(lives, st.sampled_from([0.01, 0.2]), st.sampled_from([3.0, 6.0]))
def test_spikes_are_what_all_the_readings_say(life: list[tuple[int, float, bool]], floor: float, times: float) -> None:
    """The neighbours and a suspect stand for the whole past."""
    state, time, past, found = Spikes.empty(1), START_NS, list[Reading](), list[int]()
    calm = [(1, 0.1 * (number % 3), True) for number in range(NEIGHBOURS - 1)]
    for seconds, value, good in (*calm, *life):
        time += seconds * SECOND
        past.append((time, value, good))
        state = health.advance_spikes(state, i64(time), f64(value), flags(good), f64(floor), f64(times))
        if health.judge_spikes(state)[0] == TRUE:
            found.append(int(state.found_ns[0]))
    assert found == spikes_slowly(past, floor, times)


def spikes_of(values: Sequence[float]) -> list[int]:
    """What is said after each reading, once a second."""
    state, said = Spikes.empty(1), []
    for second, value in enumerate(values):
        at = i64(START_NS + second * SECOND)
        state = health.advance_spikes(state, at, f64(value), YES, f64(0.1), f64(6.0))
        said.append(int(health.judge_spikes(state)[0]))
    return said


def test_one_wild_reading_is_a_spike_and_a_step_is_none() -> None:
    """What returns at once was the instrument; what stays is the process, and a gas cloud comes as a step."""
    calm = [5.0] * (NEIGHBOURS + 1)
    assert spikes_of([*calm, 80.0, 5.0, 5.1])[NEIGHBOURS:] == [FALSE, HOLD, TRUE, FALSE]
    assert TRUE not in spikes_of(calm + [80.0] * 60)
    assert spikes_of(calm + [80.0] * 17)[NEIGHBOURS + 1 :] == [HOLD] * 16 + [FALSE]
    assert TRUE not in spikes_of([0.5 * n for n in range(120)])


@pytest.mark.parametrize("readings", range(2, 40))
def test_a_cloud_that_passes_is_no_spike(readings: int) -> None:
    """However many readings it lasts, an odd number as little as an even one."""
    calm = [5.0 + 0.1 * (second % 3) for second in range(NEIGHBOURS)]
    assert TRUE not in spikes_of([*calm, *[80.0] * readings, *calm])
    assert spikes_of([*calm, *[80.0] * readings, *calm, *calm, 80.0, 5.0])[-2:] == [HOLD, TRUE]


@pytest.mark.parametrize(("spreads", "told"), [(9.9, FALSE), (10.1, TRUE)])
def test_a_spike_lies_ten_spreads_off_the_median_of_31(spreads: float, told: int) -> None:
    """What the pages say of the alarm: the spread of these 31 readings is 1.4826 last digits, their median 5.0."""
    calm = [4.9, 5.0, 5.1] * 10 + [5.0]
    assert len(calm) == NEIGHBOURS == 31
    state = Spikes.empty(1)
    for second, value in enumerate([*calm, 5.0 + spreads * 1.4826 * 0.1, 5.0]):
        at = i64(START_NS + second * SECOND)
        state = health.advance_spikes(state, at, f64(value), YES, f64(0.01), f64(SPIKE_TIMES))
    assert health.judge_spikes(state)[0] == told


def test_normal_noise_has_hardly_a_spike() -> None:
    """Seven neighbours called one reading of fifty a spike; with these 200,000 readings have none."""
    rng = np.random.default_rng(11)
    state, found = Spikes.empty(2000), 0
    every = np.ones(2000, np.bool_)
    for second in range(100 + NEIGHBOURS):
        at = np.full(2000, START_NS + second * SECOND)
        floor, times = np.full(2000, 0.01), np.full(2000, SPIKE_TIMES)
        state = health.advance_spikes(state, at, rng.normal(size=2000), every, floor, times)
        found += int((health.judge_spikes(state) == TRUE).sum())
    assert found == 0


@given(st.lists(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0.0, 10.0, 10.1, 90.0]), st.booleans()))))
def test_the_same_readings_in_other_portions_give_the_same_state(
    life: list[list[tuple[int, float, bool]]],
) -> None:
    """Nothing depends on which points are taken together."""
    rounds: Rounds = []
    for number, part in enumerate(life):
        by_row = {row: (value, good) for row, value, good in part}
        at = np.full(len(by_row), START_NS + number * 7 * SECOND)
        values, goods = f64(*(v for v, _ in by_row.values())), flags(*(g for _, g in by_row.values()))
        rounds.append((i64(*by_row), (at, values, goods)))
    alone_and_together(
        Stuck.empty,
        lambda s, r, c: health.advance_stuck(
            s, c[0], c[1], c[2], np.full(len(r), WINDOW), np.full(len(r), 0.3), np.full(len(r), 3)
        ),
        rounds,
    )
    alone_and_together(
        Spikes.empty,
        lambda s, r, c: health.advance_spikes(s, c[0], c[1], c[2], np.full(len(r), 0.3), np.full(len(r), 6.0)),
        rounds,
    )
    alone_and_together(
        Modes.empty, lambda s, _r, c: health.advance_modes(s, c[0], (c[1] % 3).astype(np.uint8), c[2]), rounds
    )


def test_the_status_words_of_two_makers() -> None:
    """Sensepoint XCD tells a code (2 warm-up, 12 calibration), Ultima X3 flags (4 warm-up, 1 to 3 calibration)."""
    status = i64(1, 2, 12, 900, 0, 0b10000, 0b00100, 0b10100)
    mask = i64(*[0xFFFF] * 4, *[0] * 4)
    warm, calibrating = i64(*[1 << 2] * 4, *[0b10000] * 4), i64(*[1 << 12] * 4, *[0b01110] * 4)
    told = health.mode_of(status, mask, warm, calibrating).tolist()
    assert told == [Mode.NORMAL, Mode.WARM_UP, Mode.CALIBRATION, Mode.NORMAL, 0, 1, 2, 2]


def test_calibration_gas_is_no_leak() -> None:
    """Readings count again only when the sensor has settled after its calibration; a lost status changes nothing."""
    state = Modes.empty(1)
    state = health.advance_modes(state, i64(START_NS), np.full(1, Mode.CALIBRATION, np.uint8), YES)
    state = health.advance_modes(state, i64(START_NS + SECOND), np.full(1, Mode.NORMAL, np.uint8), NO)
    left = START_NS + 300 * SECOND
    assert health.mode_at(state, i64(left), i64(60 * SECOND))[0] == Mode.CALIBRATION
    state = health.advance_modes(state, i64(left), np.full(1, Mode.NORMAL, np.uint8), YES)
    said = [health.mode_at(state, i64(left + s * SECOND), i64(60 * SECOND)) for s in (0, 59, 60)]
    assert [int(health.mode_quality(mode)[0]) for mode in said] == [BAD_OUT_OF_SERVICE, BAD_OUT_OF_SERVICE, GOOD]


def test_memory_of_a_point() -> None:
    """What the documentation says a point costs."""
    assert [s.bytes_per_row() for s in (Stuck.empty(2), Spikes.empty(2), Modes.empty(2))] == [65, 273, 10]


def test_a_state_that_has_seen_nothing_knows_nothing() -> None:
    """Before a first reading no instrument is called dead or alive."""
    assert isnan(Stuck.empty(1).value[0])
    assert health.judge_stuck(Stuck.empty(1), i64(WINDOW), i64(10), f64(0.0), f64(0.5))[0] == HOLD
