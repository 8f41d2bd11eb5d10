"""Change of a point's running: EWMA and two-sided CUSUM charts, calibrated to say how often they are wrong."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import erf, exp, sqrt
from typing import Final

import numpy as np

from tocsin_core.detect import FALSE, HOLD, I8, TRUE
from tocsin_core.detectors.columns import NEVER, NS, Columns
from tocsin_core.readings import F64, I64, Bool

WEEK_S: Final = 7 * 24 * 3600.0

# A CUSUM whose reference value is half the shift looked for (here 1 standard deviation) finds that shift soonest.
CUSUM_K: Final = 0.5
EWMA_LAMBDA: Final = 0.1

# False alarms a week of one point that the charts are set to (our choice: one in ten weeks).
PER_WEEK: Final = 0.1

# What is left of the autocorrelation must be below this for the textbook's run lengths to hold; and prewhitening is
# taken only up to this much of it, for beyond, most of a lasting shift would be whitened away with the noise.
MOST_LEFT: Final = 0.1
MOST_RHO: Final = 0.7

# Fewer independent samples than this do not tell a standard deviation well enough to set a chart by (our choice).
LEAST_SAMPLES: Final = 100

# Residuals count up to so many standard deviations: more says nothing, and could leave the range of a double.
FURTHEST: Final = 100.0

# A CUSUM grows no further than this above its threshold, so that it returns soon once the shift is over.
CAP_ABOVE: Final = 4.0

# An alarm of a CUSUM returns when both its sums are 0, so each alarm starts from where run lengths are counted from;
# that of an EWMA when it is back within this share of its limit.
CUSUM_RETURN: Final = 0.0
EWMA_RETURN: Final = 0.25


class CalibrationError(ValueError):
    """A record that no chart can be set by."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What normal running looks like, and the charts' limits.

    `mean` and `sigma` in the point's unit; one sample every `step_s` seconds, whose autocorrelation is `rho` from one
    to the next and `left` after prewhitening. CUSUM: reference value `k`, threshold `h`; EWMA: `weight` of a new
    sample, `width` of the limits; both in standard deviations. `cusum_per_week`, `ewma_per_week`: false alarms of one
    point, by theory (with what a short record leaves unsure of the mean, sigma and rho) or as counted in the record,
    whichever is more, and at least one in the record where that refutes the theory.
    """

    mean: float
    sigma: float
    rho: float
    left: float
    step_s: float
    k: float
    h: float
    cusum_per_week: float
    weight: float
    width: float
    ewma_per_week: float


def cusum_run_length(h: float, k: float) -> float:
    """Mean samples to a false alarm of a two-sided CUSUM on independent normal samples (Siegmund 1985).

    One side: (exp(2 k b) - 2 k b - 1) / (2 k^2) with b = h + 1.166; two sides raise twice as often.
    """
    doubled = 2.0 * k * (h + 1.166)
    return (exp(doubled) - doubled - 1.0) / (4.0 * k * k)


STATES: Final = 101


def ewma_run_length(width: float, weight: float) -> float:
    """Mean samples to a false alarm of an EWMA on independent normal samples, by Brook and Evans's Markov chain.

    The band between the limits +- width * sqrt(weight / (2 - weight)) is cut into 101 states; with P the probabilities
    from state to state, the mean is the middle row of (I - P)^-1 times 1.
    """
    limit = width * sqrt(weight / (2.0 - weight))
    edges = np.linspace(-limit, limit, STATES + 1)
    middles = (edges[:-1] + edges[1:]) / 2.0
    reach = (edges[None, :] - (1.0 - weight) * middles[:, None]) / (weight * sqrt(2.0))
    below = 0.5 * (1.0 + np.asarray([erf(x) for x in reach.ravel().tolist()]).reshape(reach.shape))
    stay = np.diff(below, axis=1)
    return float(np.linalg.solve(np.eye(STATES) - stay, np.ones(STATES))[STATES // 2])


# Run lengths are computed up to these thresholds: beyond, the chain is near to singular and the exponential leaves the
# range of a double. A threshold that is wider still raises more rarely than is stated for these.
WIDEST_H: Final = 40.0
WIDEST_EWMA: Final = 6.0


def _threshold_for(run_length: Callable[[float], float], samples: float, high: float) -> float:
    """The least threshold up to `high` whose mean run length is `samples`."""
    low = 0.0
    for _ in range(50):
        middle = (low + high) / 2.0
        low, high = (middle, high) if run_length(middle) < samples else (low, middle)
    return high


def calibrate(
    values: F64,
    period_s: float,
    floor: float,
    per_week: float = PER_WEEK,
    k: float = CUSUM_K,
    weight: float = EWMA_LAMBDA,
) -> Calibration:
    """Charts for a point from `values` f64[n] of its normal running, one every `period_s`, NaN where none was good.

    The sample step is the least multiple of the period at which AR(1) prewhitening leaves a lag-1 autocorrelation below
    0.1, from an autocorrelation of at most 0.7. The thresholds give `per_week` false alarms by theory; where the record
    itself has more alarms than chance explains, at them or at lower ones (tails heavier than normal, few steps of the
    last digit, drift), they are widened until it has not.
    `floor` is the least standard deviation of a reading, that of its last digit (the point's unit).

    Raises:
        CalibrationError: the record is too short, or its autocorrelation reaches too far: no normal running at rest.
    """
    finite = np.isfinite(values)
    if not finite.any():
        raise CalibrationError("the record holds no good value")
    mean = float(values[finite].mean())
    multiple, rho, deviation, residual = _sampled(values - mean)
    step_s = multiple * period_s
    # Residuals are in units of sigma * sqrt(1 - rho^2), so that sigma is that of the samples themselves.
    scale = max(deviation, floor * sqrt(1.0 - rho * rho))
    if scale <= 0.0:
        raise CalibrationError("the record never varies, and no floor is given")
    residual = np.clip(residual / scale, -FURTHEST, FURTHEST)
    samples = WEEK_S / step_s / per_week

    def of_cusum(h: float) -> float:
        return cusum_run_length(min(h, WIDEST_H), k)

    def of_ewma(width: float) -> float:
        return ewma_run_length(min(width, WIDEST_EWMA), weight)

    limit = sqrt(weight / (2.0 - weight))
    h = _threshold_for(of_cusum, samples, WIDEST_H)
    width = _threshold_for(of_ewma, samples, WIDEST_EWMA)
    cusum_unsure = _unsure(2.0 * (h + 1.166), 4.0 * k * (h + 1.166), rho, len(residual))
    ewma_unsure = _unsure(width / limit, width * width, rho, len(residual))
    h, cusum_rate = _widened(_cusum_of(residual, k), h, CUSUM_RETURN, of_cusum)
    z = np.asarray(list(accumulate(residual.tolist(), lambda z, e: z + weight * (e - z), initial=0.0))[1:])
    width, ewma_rate = _widened(np.abs(z) / limit, width, EWMA_RETURN, of_ewma)
    return Calibration(
        mean=mean,
        sigma=scale / sqrt(1.0 - rho * rho),
        rho=rho,
        left=_correlation(residual[:-1], residual[1:]),
        step_s=step_s,
        k=k,
        h=h,
        cusum_per_week=max(cusum_rate * WEEK_S / step_s, cusum_unsure * per_week),
        weight=weight,
        width=width,
        ewma_per_week=max(ewma_rate * WEEK_S / step_s, ewma_unsure * per_week),
    )


def _unsure(by_mean: float, by_spread: float, rho: float, samples: int) -> float:
    """How many times as many false alarms as by theory a chart has on average that was set by `samples` residuals.

    The logarithm of its rate goes by `by_mean` times the error of the mean, which has the variance 1 / n in standard
    deviations of the residuals, and by `by_spread` times the relative error of sigma, 1 / 2n, and the error of rho,
    (1 - rho^2) / n, which leaves that much autocorrelation. Of normal errors the mean of the exponential is that of
    half their variance. Siegmund's exponent 2 (k - shift) b / variance has 2 b and 4 k b, the EWMA's tail width^2 / 2
    in standard deviations of the EWMA has width / sqrt(weight / (2 - weight)) and width^2.
    """
    return exp((by_mean * by_mean + by_spread * by_spread * (1.5 - rho * rho)) / (2.0 * samples))


def _correlation(one: F64, other: F64) -> float:
    scale = sqrt(float((one * one).sum()) * float((other * other).sum()))
    return float((one * other).sum()) / scale if scale > 0.0 else 0.0


def _sampled(deviation: F64) -> tuple[int, float, float, F64]:
    """The least step that does, in periods; its autocorrelation; the residuals' standard deviation, and themselves."""
    for multiple in range(1, len(deviation) // LEAST_SAMPLES + 1):
        sampled = deviation[::multiple]
        pairs = np.flatnonzero(np.isfinite(sampled[:-1]) & np.isfinite(sampled[1:]))
        if len(pairs) < LEAST_SAMPLES - 1:
            break
        before, after = sampled[pairs], sampled[pairs + 1]
        rho = _correlation(before, after)
        residual = after - rho * before
        if abs(rho) <= MOST_RHO and abs(_correlation(residual[:-1], residual[1:])) < MOST_LEFT:
            return multiple, rho, float(residual.std()), residual
    raise CalibrationError(
        f"of {len(deviation)} samples no {LEAST_SAMPLES} are far enough apart to be independent: "
        "the record is too short, or it drifts"
    )


def _cusum_of(residual: F64, k: float) -> F64:
    """The larger of the two sums after each residual: S - min S is the sum that is reflected at 0."""
    sums = [np.cumsum(sign * residual - k) for sign in (1.0, -1.0)]
    high, low = (each - np.minimum(np.minimum.accumulate(each), 0.0) for each in sums)
    return np.maximum(high, low)


# By so much a threshold grows at a time until the record has no more alarms than chance explains.
WIDENING: Final = 1.02

# A record of some weeks has no alarm at a threshold that is set to one in ten, or has one, which tells little. So it is
# tried at lower thresholds as well, at which it has these numbers of alarms by theory, one in so many samples at most.
COUNTED: Final = (3.0, 10.0, 30.0, 100.0)
LEAST_RUN: Final = 50.0

# More alarms than expected by so many standard deviations refute the theory: at the threshold itself, at lower ones.
REFUTED: Final = 2.0
REFUTED_LOWER: Final = 3.0


def _alarms(size: F64, threshold: float, return_share: float) -> int:
    over, rest = size > threshold, size <= return_share * threshold
    told = over[over | rest]
    return int(np.count_nonzero(told[1:] & ~told[:-1])) + int(told[:1].sum())


def _widened(
    size: F64, threshold: float, return_share: float, run_length: Callable[[float], float]
) -> tuple[float, float]:
    """The threshold, as many times wider as the record needs to have no more alarms than it should.

    And the false alarms a sample there: by theory, or as counted, whichever is more. Where the record has refuted the
    theory, so that the threshold is widened, none in the record says no more than that they are rarer than one in it.
    """
    samples, rate = len(size), 1.0 / run_length(threshold)
    tried = [(threshold, rate * samples, REFUTED)]
    for expected in COUNTED:
        if rate * samples < expected <= samples / LEAST_RUN:
            lower = _threshold_for(run_length, samples / expected, threshold)
            tried.append((lower, expected, REFUTED_LOWER))
    times = 1.0
    while any(_alarms(size, times * at, return_share) > e + refuted * sqrt(e) for at, e, refuted in tried):
        times *= WIDENING
    alarms = max(_alarms(size, times * threshold, return_share), int(times > 1.0))
    return times * threshold, max(rate, alarms / samples)


@dataclass(slots=True)
class Charts(Columns):
    """The calibrations of n points in columns (f64, `step_ns` i64); `limit` is that of the EWMA itself."""

    mean: F64
    sigma: F64
    rho: F64
    step_ns: I64
    k: F64
    h: F64
    weight: F64
    limit: F64


def charts_of(calibrations: Sequence[Calibration]) -> Charts:
    """The charts of these calibrations, in their order."""
    return Charts(
        mean=np.asarray([c.mean for c in calibrations]),
        sigma=np.asarray([c.sigma for c in calibrations]),
        rho=np.asarray([c.rho for c in calibrations]),
        step_ns=np.asarray([round(c.step_s * NS) for c in calibrations], np.int64),
        k=np.asarray([c.k for c in calibrations]),
        h=np.asarray([c.h for c in calibrations]),
        weight=np.asarray([c.weight for c in calibrations]),
        limit=np.asarray([c.width * sqrt(c.weight / (2.0 - c.weight)) for c in calibrations]),
    )


@dataclass(slots=True)
class Change(Columns):
    """Both charts of n points.

    `slot` i64 the number of the step that the last sample was taken from (-1: none yet), `deviation` f64 of that sample
    from the mean (the point's unit), `high` and `low` f64 the sums of the CUSUM, `ewma` f64.
    """

    slot: I64
    deviation: F64
    high: F64
    low: F64
    ewma: F64

    @classmethod
    def empty(cls, size: int) -> "Change":
        """`size` points that nothing has been read from."""
        return cls(np.full(size, NEVER, np.int64), *(np.zeros(size) for _ in range(4)))


def advance(state: Change, charts: Charts, time_ns: I64, value: F64, good: Bool) -> Change:
    """`state` with one reading more of each point; a step's sample is its first good reading, others change nothing.

    With d the deviation from the mean, g the steps since the last sample and r = rho^g, the residual is
    e = (d - r * d_last) / (sigma * sqrt(1 - r^2)). Then high = max(0, high + e - k), low = max(0, low - e - k), and
    ewma = ewma + weight * (e - ewma). After a gap r is small, and the sample counts as a fresh one.
    """
    slot = time_ns // charts.step_ns
    taken = good & (slot > state.slot)
    first = state.slot == NEVER
    with np.errstate(over="ignore", invalid="ignore"):
        deviation = value - charts.mean
        share = np.where(first, 0.0, np.power(charts.rho, np.where(taken, slot - state.slot, 1)))
        scale = charts.sigma * np.sqrt(1.0 - share * share)
        e = np.clip((deviation - share * state.deviation) / scale, -FURTHEST, FURTHEST)
    cap = charts.h + CAP_ABOVE
    return Change(
        slot=np.where(taken, slot, state.slot),
        deviation=np.where(taken, deviation, state.deviation),
        high=np.where(taken, np.clip(state.high + e - charts.k, 0.0, cap), state.high),
        low=np.where(taken, np.clip(state.low - e - charts.k, 0.0, cap), state.low),
        ewma=np.where(taken, state.ewma + charts.weight * (e - state.ewma), state.ewma),
    )


def judge_cusum(state: Change, charts: Charts) -> I8:
    """Beyond where a sum is above h, inside where both are 0, neither in between and before a first sample."""
    size = np.maximum(state.high, state.low)
    inside = (size <= CUSUM_RETURN * charts.h) & (state.slot != NEVER)
    return np.where(size > charts.h, TRUE, np.where(inside, FALSE, HOLD))


def judge_ewma(state: Change, charts: Charts) -> I8:
    """Beyond where the EWMA is outside its limits, inside within a quarter of them, neither in between."""
    size = np.abs(state.ewma)
    inside = (size <= EWMA_RETURN * charts.limit) & (state.slot != NEVER)
    return np.where(size > charts.limit, TRUE, np.where(inside, FALSE, HOLD))
