"""Charts: the textbook's run lengths, the charts told slowly, and false alarms counted in seeded simulations."""

from math import nan, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.detectors import SECOND, START_NS, YES, Rounds, alone_and_together, f64, flags, i64
from tocsin_core.detect import FALSE, HOLD, TRUE
from tocsin_core.detectors import change
from tocsin_core.detectors.change import Calibration, CalibrationError, Change, calibrate, charts_of
from tocsin_core.readings import F64

WEEK = 604_800.0


def autoregressive(rho: float, length: int, seed: int, width: int = 1) -> F64:
    """Normal noise of variance 1 whose every sample keeps `rho` of the last: [length, width]."""
    generator = np.random.default_rng(seed)
    noise = generator.normal(size=(length, width)) * sqrt(1.0 - rho * rho)
    noise[0] /= sqrt(1.0 - rho * rho)
    for row in range(1, length):
        noise[row] += rho * noise[row - 1]
    return noise


@pytest.mark.parametrize(("k", "h", "length"), [(0.5, 4, 168), (0.5, 4.77, 368), (0.5, 5, 465), (0.25, 8, 368)])
def test_run_lengths_of_a_cusum(k: float, h: float, length: float) -> None:
    """Siegmund's formula is within 1 % of the run lengths computed for domain table 6.2."""
    assert change.cusum_run_length(h, k) == pytest.approx(length, rel=0.01)


@pytest.mark.parametrize(
    ("weight", "width", "length"), [(0.05, 2.615, 500), (0.1, 2.814, 499), (0.2, 2.962, 500), (0.4, 3.054, 500)]
)
def test_run_lengths_of_an_ewma(weight: float, width: float, length: float) -> None:
    """The chain of 101 states is within 1 % of the run lengths computed for domain table 6.2."""
    assert change.ewma_run_length(width, weight) == pytest.approx(length, rel=0.01)


def raised_per_week(calibration: Calibration, rho: float, seed: int) -> tuple[float, float]:
    """Alarms of either chart over 600 points of fresh normal running."""
    step = round(calibration.step_s)
    return raised_over(calibration, 20.0 + 2.0 * autoregressive(rho**step, 3000, seed, 600))


def raised_over(calibration: Calibration, values: F64) -> tuple[float, float]:
    """Alarms a week of either chart, raised and returned as the engine does, over `values` [steps, points]."""
    samples, points = values.shape
    step = round(calibration.step_s)
    charts, state = charts_of([calibration] * points), Change.empty(points)
    active = np.zeros((2, points), np.bool_)
    raised = np.zeros(2)
    for number, row in enumerate(values):
        at = np.full(points, START_NS + number * step * SECOND)
        state = change.advance(state, charts, at, row, np.ones(points, np.bool_))
        said = np.stack((change.judge_cusum(state, charts), change.judge_ewma(state, charts)))
        raised += np.count_nonzero((said == TRUE) & ~active, axis=1)
        active = (said == TRUE) | (active & (said != FALSE))
    weeks = points * samples * step / WEEK
    return float(raised[0] / weeks), float(raised[1] / weeks)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9, 0.97])
def test_as_many_false_alarms_as_stated(rho: float) -> None:
    """Whatever the autocorrelation, the alarms counted on fresh data are within 35 % of what the calibration states."""
    record = 20.0 + 2.0 * autoregressive(rho, 60_000, seed=11)[:, 0]
    calibration = calibrate(record, 1.0, 0.01, per_week=WEEK / 500)
    assert abs(calibration.left) < 0.1
    cusum, ewma = raised_per_week(calibration, rho, seed=12)
    assert 0.65 < cusum / calibration.cusum_per_week < 1.35
    assert 0.65 < ewma / calibration.ewma_per_week < 1.35


def test_what_the_textbook_would_have_raised() -> None:
    """Domain trap 5: a CUSUM with k = 0.5, h = 5 on samples that keep 0.9 raises every 28, not every 465."""
    naive = Calibration(20, 2, 0, 0, 1, 0.5, 5, WEEK / 465, 0.1, 2.814, WEEK / 499)
    assert raised_per_week(naive, 0.9, seed=13)[0] > 4 * naive.cusum_per_week


def test_the_step_and_the_whitening_are_told() -> None:
    """At rho = 0.9 every second: samples 4 s apart keep 0.9^4 = 0.656, and the rest is whitened away."""
    told = calibrate(20.0 + 2.0 * autoregressive(0.9, 60_000, seed=11)[:, 0], 1.0, 0.01)
    assert told.step_s == 4.0
    assert told.rho == pytest.approx(0.9**4, abs=0.02)
    assert told.mean == pytest.approx(20.0, abs=0.1)
    assert told.sigma == pytest.approx(2.0, rel=0.05)
    assert told.cusum_per_week == pytest.approx(0.1, rel=0.1)
    assert told.ewma_per_week == pytest.approx(0.1, rel=0.1)


def test_a_shift_of_one_sigma_is_found_in_ten_samples() -> None:
    """Domain table 6.2: CUSUM 4.77 finds 1 sigma after 9.9 samples on average, EWMA 0.1 with 2.814 after 10.3."""
    points = 2000
    charts = charts_of([Calibration(0, 1, 0, 0, 1, 0.5, 4.77, 1, 0.1, 2.814, 1)] * points)
    state, found = Change.empty(points), np.zeros((2, points))
    shifted = np.random.default_rng(5).normal(size=(80, points)) + 1.0
    for number, row in enumerate(shifted):
        at = np.full(points, START_NS + number * SECOND)
        state = change.advance(state, charts, at, row, np.ones(points, np.bool_))
        said = np.stack((change.judge_cusum(state, charts), change.judge_ewma(state, charts)))
        found = np.where((found == 0) & (said == TRUE), number + 1, found)
    assert found.mean(axis=1).tolist() == pytest.approx([9.9, 10.3], rel=0.05)


def test_limits_that_were_widened_state_no_rate_that_the_record_cannot_bear_out() -> None:
    """Where it has refuted the theory, none in two weeks says that they are rarer than that."""
    record = np.random.default_rng(7).standard_t(3, size=20_160)
    told = calibrate(record, 60.0, 0.01)
    assert min(told.cusum_per_week, told.ewma_per_week) >= 0.5


def test_a_short_record_states_what_it_leaves_unsure() -> None:
    """Seven hours at one a minute: mean, sigma and rho are so far off that false alarms come many times as often."""
    told = [calibrate(20.0 + 2.0 * autoregressive(0.5, 400, seed)[:, 0], 60.0, 0.01) for seed in range(40)]
    raised = [raised_over(each, 20.0 + 2.0 * autoregressive(0.5, 1500, 100 + i, 60)) for i, each in enumerate(told)]
    came = np.mean(raised, axis=0)
    stated = np.mean([(each.cusum_per_week, each.ewma_per_week) for each in told], axis=0)
    assert (came > 5 * change.PER_WEEK).all()
    assert (came < 3 * stated).all()


def test_a_record_of_few_steps_of_the_last_digit_widens_the_limits() -> None:
    """A week of it has no alarm where theory has one in ten weeks, and fresh weeks have one each: lower limits tell."""
    digit, random = 4.0, np.random.default_rng(48)

    def weeks(count: int) -> F64:
        return digit * np.round((random.normal(size=(10_080, count)) + 1.0) / digit)

    told = calibrate(weeks(1)[:, 0], 60.0, digit / sqrt(12.0))
    cusum, ewma = raised_over(told, weeks(100))
    assert cusum < told.cusum_per_week
    assert ewma < told.ewma_per_week


def test_a_record_with_wild_readings_widens_the_limits() -> None:
    """Where the record has more alarms than normal noise explains, the thresholds rise until it has not."""
    record = autoregressive(0.0, 20_000, seed=3)[:, 0]
    calm = calibrate(record, 1.0, 0.01)
    record[5000:5004] = 20.0
    wild = calibrate(record, 1.0, 0.01)
    assert wild.h > calm.h + 20
    assert wild.width > calm.width + 2


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (np.full(500, nan), "no good value"),
        (np.zeros(500), "never varies"),
        (np.ones(30), "too short"),
        (np.linspace(0, 1, 2000), "drifts"),
    ],
)
def test_a_record_that_is_no_normal_running_is_refused(record: F64, reason: str) -> None:
    """Nothing is stated on the ground of a record that cannot carry it."""
    with pytest.raises(CalibrationError, match=reason):
        calibrate(record, 1.0, 0.0)


def test_a_floor_stands_for_noise_that_the_last_digit_hides() -> None:
    """A record that never varies can be used where the resolution is known."""
    told = calibrate(np.full(500, 5.0), 1.0, 0.03)
    assert (told.mean, told.sigma) == (5.0, 0.03)


def slowly(life: list[tuple[int, float, bool]], c: Calibration) -> tuple[float, float, float]:
    """Sums and EWMA, sample by sample, over the first good reading of each step."""
    samples: dict[int, float] = {}
    for time, value, good in life:
        if good:
            samples.setdefault(time // (round(c.step_s) * SECOND), value - c.mean)
    high = low = ewma = 0.0
    last: tuple[int, float] | None = None
    for slot, deviation in samples.items():
        share = 0.0 if last is None else c.rho ** (slot - last[0])
        expected = 0.0 if last is None else share * last[1]
        e = (deviation - expected) / (c.sigma * sqrt(1 - share**2))
        e = max(-100.0, min(100.0, e))
        high = min(max(0.0, high + e - c.k), c.h + 4)
        low = min(max(0.0, low - e - c.k), c.h + 4)
        ewma = (1 - c.weight) * ewma + c.weight * e
        last = slot, deviation
    return high, low, ewma


values = st.sampled_from([18.0, 19.0, 19.5, 20.0, 20.5, 21.0, 22.0, 1e308, -1e308])
lives = st.lists(st.tuples(st.sampled_from([1, 3, 10, 500]), values, st.booleans()), max_size=60)


@given(lives, st.sampled_from([0.0, 0.6, -0.4]), st.sampled_from([1.0, 4.0]))
def test_the_charts_are_what_all_the_readings_say(
    life: list[tuple[int, float, bool]], rho: float, step_s: float
) -> None:
    """Four numbers a point stand for the whole past."""
    c = Calibration(20.0, 1.0, rho, 0.0, step_s, 0.5, 5.0, 1.0, 0.1, 2.8, 1.0)
    charts, state, time = charts_of([c]), Change.empty(1), START_NS
    past: list[tuple[int, float, bool]] = []
    for seconds, value, good in life:
        time += seconds * SECOND
        past.append((time, value, good))
        state = change.advance(state, charts, i64(time), f64(value), flags(good))
        told = (state.high[0], state.low[0], state.ewma[0])
        assert told == pytest.approx(slowly(past, c), abs=1e-9)


@given(st.lists(st.lists(st.tuples(st.integers(0, 4), values, st.booleans()), max_size=5), max_size=20))
def test_the_same_readings_in_other_portions_give_the_same_state(
    life: list[list[tuple[int, float, bool]]],
) -> None:
    """Nothing depends on which points are taken together."""
    rhos = (0.0, 0.3, 0.65, -0.2, 0.7)
    charts = charts_of([Calibration(20, 1.5, rho, 0, 3, 0.5, 5, 1, 0.1, 2.8, 1) for rho in rhos])
    rounds: Rounds = []
    for number, part in enumerate(life):
        by_row = {row: (value, good) for row, value, good in part}
        at = np.full(len(by_row), START_NS + number * number * SECOND)
        values, goods = f64(*(v for v, _ in by_row.values())), flags(*(g for _, g in by_row.values()))
        rounds.append((i64(*by_row), (at, values, goods)))
    alone_and_together(Change.empty, lambda s, r, c: change.advance(s, charts.rows(r), c[0], c[1], c[2]), rounds)


def test_an_alarm_returns_when_the_shift_is_over() -> None:
    """A CUSUM returns at 0, an EWMA near 0; before the first sample neither says anything."""
    c = Calibration(20, 1, 0, 0, 1, 0.5, 5, 1, 0.1, 2.8, 1)
    charts, state = charts_of([c]), Change.empty(1)
    assert (change.judge_cusum(state, charts)[0], change.judge_ewma(state, charts)[0]) == (HOLD, HOLD)
    cusum, ewma = [], []
    for second in range(140):
        value = 18.0 if 10 <= second < 50 else 20.0
        state = change.advance(state, charts, i64(START_NS + second * SECOND), f64(value), YES)
        cusum.append(int(change.judge_cusum(state, charts)[0]))
        ewma.append(int(change.judge_ewma(state, charts)[0]))
    assert (cusum.index(int(TRUE)), ewma.index(int(TRUE))) == (13, 13)
    assert (cusum[50:].index(int(FALSE)), ewma[50:].index(int(FALSE))) == (17, 23)
    assert Change.empty(3).bytes_per_row() == 40
    assert charts.bytes_per_row() == 64
