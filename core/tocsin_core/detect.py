"""The detectors: functions over arrays that say whether an alarm's condition is there, gone, or neither."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tocsin_core.readings import F64, I64, Bool

I8 = NDArray[np.int8]

# Those of trends work on all rows alike, also on sums of too few readings, of which no numbers come. To silence numpy
# about that (`np.errstate`) is left to their callers, who do it once for several of them.

# What a detector answers; what comes of it (delays, states) is the engine's business.
TRUE: Final = np.int8(1)  # beyond the set point
FALSE: Final = np.int8(-1)  # back inside by more than the deadband
HOLD: Final = np.int8(0)  # in between, or not to be judged from this reading

# A slope counts for nothing before its window holds this many effective readings: below it the residuals have no say.
LEAST_READINGS: Final = 10.0

# A limit is near when it is reached within so many horizons of its early warning.
NEAR: Final = 3.0

# A reading further than so many standard deviations from what its trend expects is not taken at its word: the three
# sigma edit rule (Hampel's identifier: L. Davies and U. Gather, The identification of multiple outliers, 1993).
BOUND: Final = 3.0

# A trend whose sum of squares gets here starts anew: further on sums and variances would leave the range of a double,
# and a sum that is infinite once stays so.
LARGEST_SQUARE: Final = 1e200

NO_ROWS: Final = np.zeros(0, np.int64)

# As numpy's own: with a number of Python's an operation on a few rows takes twice as long.
_ZERO, _HALF, _ONE, _TWO, _FOUR = (np.asarray(number) for number in (0.0, 0.5, 1.0, 2.0, 4.0))
_LEAST: Final = np.asarray(LEAST_READINGS)
_BOUND_SQUARE: Final = np.asarray(BOUND * BOUND)
_LARGEST_SQUARE: Final = np.asarray(LARGEST_SQUARE)


def limits(sign: F64, setpoint: F64, deadband: F64) -> tuple[F64, F64]:
    """The values at which limits turn, f64[n, 2] each: of one that is not active, and of one that is.

    HH and H (`sign` +1) are beyond at value >= setpoint, inside below setpoint - deadband; L and LL (-1) mirrored. So
    a limit turns at a value at or below the first number or at or above the second, of which one is infinite.

    GB/T 50493 and AQ 1029 give the set point as the value at which the alarm stands, so reaching it is enough. With a
    deadband of 0 the alarm is gone as soon as the value is inside (methane: reset below the set point).
    """
    high_is_bad, back = sign > 0.0, setpoint - sign * deadband
    inside = np.nextafter(back, -sign * np.inf)
    low = np.column_stack((np.where(high_is_bad, -np.inf, setpoint), np.where(high_is_bad, inside, -np.inf)))
    high = np.column_stack((np.where(high_is_bad, setpoint, np.inf), np.where(high_is_bad, np.inf, inside)))
    return low, high


class Trend(NamedTuple):
    """Discounted sums of T trends, origin at the latest reading: x in seconds (<= 0), u in the point's unit off it.

    `weight` sum w, `x`, `xx`, `u`, `xu`, `uu` its moments; `square`, `square_x`, `square_xx` those of w^2, for the
    variance. A reading's weight falls as exp(-age / tau). All f64[T]; zeros where nothing has been seen.
    """

    weight: F64
    x: F64
    xx: F64
    u: F64
    xu: F64
    uu: F64
    square: F64
    square_x: F64
    square_xx: F64


class Expectation(NamedTuple):
    """What each trend expects of its next reading, all f64[T].

    `level` at the latest reading (off it, in its unit), `slope` (unit a second), and `noise`, the variance of a reading
    about the line. It is infinite, and the others 0, where too few readings are behind the line.
    """

    level: F64
    slope: F64
    noise: F64

    @property
    def bound(self) -> F64:
        """The square of how far off the next reading may be and be taken at its word."""
        bound: F64 = self.noise * _BOUND_SQUARE
        return bound

    def after(self, dt_s: F64) -> F64:
        """What is expected `dt_s` seconds after the latest reading, off it."""
        return self.level + self.slope * dt_s


class Surprise(NamedTuple):
    """How far the `last` two readings of each trend, and the one `before`, were off what was expected; f64[T]."""

    last: F64
    before: F64


def spread(trend: Trend) -> F64:
    """How far apart in time the readings behind each line are: the standard deviation of x, seconds."""
    mean_x = trend.x / trend.weight
    times: F64 = np.sqrt(np.maximum(trend.xx / trend.weight - mean_x * mean_x, _ZERO))
    return times


def believed(found: F64, earlier: Surprise, bound: F64, dt_s: F64, reach_s: F64) -> F64:
    """What of each surprise `found` (f64, in the point's unit; all beyond their bounds) is believed.

    `bound` is that of `Expectation`, B its root. A surprise e fades from B at |e| = B to nothing at 2 B, where a
    reading tells nothing and counts as what was expected (a redescending influence, as Hampel's). But as far as both
    readings before it were off to the same side it is believed: it is cut to [min(-f, max(e1, e2)), max(f, min(e1,
    e2))], f being what is left by fading. So one or two wild readings say next to nothing, and what lasts is believed
    from its third reading on. After a gap longer than `reach_s`, half the window or the `spread` of the readings behind
    the line if that is less, the line is no measure of what comes, and all is believed.
    """
    faded = np.sqrt(bound)
    faded *= _TWO
    faded -= np.abs(found)
    np.maximum(faded, _ZERO, out=faded)
    faded[dt_s > reach_s] = np.inf
    high = np.maximum(faded, np.minimum(earlier.last, earlier.before))
    low = np.minimum(-faded, np.maximum(earlier.last, earlier.before))
    return np.minimum(np.maximum(found, low), high)


def advance(trend: Trend, dt_s: F64, du: F64, tau_s: F64) -> I64:
    """One more reading each into `trend`, in place: `dt_s` seconds (> 0) after the last and `du` off it.

    The origin moves to the new reading, so nothing grows with time and no digits are lost to large numbers:
    sum w (x - dt)^2 = sum w x^2 - dt (sum w x + sum w (x - dt)), and so on. A jump so large that its square leaves
    `LARGEST_SQUARE` starts the trend anew; returns the rows of those that were.
    """
    weight, x, xx, u, xu, uu, square, square_x, square_xx = trend
    decay = np.exp(dt_s / -tau_s)
    moved_u = u - du * weight
    xu -= du * x
    xu -= dt_s * moved_u
    xu *= decay
    _move(uu, u, moved_u, du, decay)
    _move(xx, x, x - dt_s * weight, dt_s, decay)
    weight *= decay
    weight += _ONE
    decay *= decay
    _move(square_xx, square_x, square_x - dt_s * square, dt_s, decay)
    square *= decay
    square += _ONE
    small = uu < _LARGEST_SQUARE
    if np.count_nonzero(small) == len(small):
        return NO_ROWS
    lost: I64 = (~small).nonzero()[0]
    for column in trend:
        column[lost] = 1.0 if column is weight or column is square else 0.0
    return lost


def _move(second: F64, first: F64, moved: F64, step: F64, decay: F64) -> None:
    """The second moments and the first to a new origin, `step` from the old one, where the first are `moved`."""
    first += moved
    first *= step
    second -= first
    second *= decay
    np.multiply(moved, decay, out=first)


class Slope(NamedTuple):
    """A straight line through each trend, all of length T.

    `level` at the latest reading (off it, in its unit), `slope` (unit a second), its standard error `slope_se`, and
    what `ahead_se` needs; `freedom` the degrees of freedom behind the errors. Where readings are too few the columns
    hold anything, numbers or not.
    """

    level: F64
    slope: F64
    slope_se: F64
    freedom: F64
    mean_x: F64
    var_mean: F64
    cov: F64

    @property
    def known(self) -> Bool:
        """Where there are readings enough."""
        known: Bool = self.var_mean < np.inf
        return known

    def ahead_se(self, seconds: F64) -> F64:
        """The standard error of the mean foreseen in `seconds`."""
        reach = seconds - self.mean_x
        leaning = reach * self.slope_se
        variance = self.var_mean + _TWO * reach * self.cov + leaning * leaning
        error: F64 = np.sqrt(np.maximum(variance, _ZERO))
        return error

    def student(self, z: F64) -> F64:
        """The normal quantile `z` widened to Student's with these degrees of freedom (Cornish-Fisher, first order)."""
        times: F64 = z + (z * z + _ONE) * z / (_FOUR * self.freedom)
        return times


def fit(trend: Trend, floor: F64) -> Slope:
    """The line through each trend, with its errors; `floor` as for `expect`."""
    expected = Expectation(*np.empty((len(Expectation._fields), len(floor))))
    expect(trend, floor, expected)
    return errors(trend, expected)


def errors(trend: Trend, expected: Expectation) -> Slope:
    """The line behind what is `expected`, with its errors.

    The residual variance has n - 2 degrees of freedom of the effective n = (sum w)^2 / sum w^2;
    Var(b) = s^2 * sum w^2 (x - mean)^2 / Sxx^2.
    """
    weight, square, square_x, noise = trend.weight, trend.square, trend.square_x, expected.noise
    mean_x = trend.x / weight
    sxx = trend.xx - trend.x * mean_x
    effective = weight * weight / square
    about_x = square_x - mean_x * square
    about_xx = trend.square_xx - mean_x * (square_x + about_x)
    return Slope(
        level=expected.level,
        slope=expected.slope,
        slope_se=np.sqrt(noise * np.maximum(about_xx, _ZERO)) / sxx,
        freedom=effective - _TWO,
        mean_x=mean_x,
        var_mean=noise / effective,
        cov=noise * about_x / (weight * sxx),
    )


def expect(trend: Trend, floor: F64, out: Expectation) -> I64:
    """The line through each trend, into `out`: weighted least squares of u on x, slope = Sxu / Sxx about the means.

    The variance about it is that of the residuals, with n - 2 degrees of freedom of the effective n = (sum w)^2 /
    sum w^2; `floor` is the least standard deviation of a reading (its last digit). Returns the rows of those of which
    too little is known.
    """
    weight, x, xx, u, xu, uu, square, _, _ = trend
    level, slope, noise = out
    mean_x, mean_u = x / weight, u / weight
    sxx, sxu = xx - x * mean_x, xu - x * mean_u
    np.divide(sxu, sxx, out=slope)
    np.subtract(mean_u, slope * mean_x, out=level)
    effective = weight * weight
    effective /= square
    known = effective >= _LEAST
    known &= sxx > _ZERO
    mean_u *= u
    sxu *= slope
    squares = uu - mean_u
    squares -= sxu
    squares *= effective
    effective -= _TWO
    effective *= weight
    squares /= effective
    np.maximum(squares, floor * floor, out=noise)
    if np.count_nonzero(known) == len(known):
        return NO_ROWS
    unknown: I64 = (~known).nonzero()[0]
    level[unknown], slope[unknown], noise[unknown] = 0.0, 0.0, np.inf
    return unknown


def stirs(expected: Expectation, origin: F64, setpoint: F64, limit: F64, horizon_s: F64, side: F64, bound: F64) -> Bool:
    """Which trends may turn an alarm: `rate`, or `time_to_limit`, has got to a bound; `side` and `bound` f64[2, T].

    The first rows are those of the rate against its `setpoint`, the second those of what is foreseen for `horizon_s`
    ahead against its `limit`, which `side` gives the warning's sign. Either is -1 (or that sign turned about) where the
    bound is a lower one. It is infinite where nothing can turn. `origin` is what the trends took the readings for.
    """
    rising = np.abs(expected.slope)
    rising -= setpoint
    rising *= side[0]
    found: Bool = rising >= bound[0]
    ahead = expected.slope * horizon_s
    ahead -= limit - (origin + expected.level)
    ahead *= side[1]
    found |= ahead >= bound[1]
    return found


def rate(expected: Expectation, setpoint: F64) -> F64:
    """Rate of change: how far |slope| is beyond `setpoint` (both in the point's unit a second)."""
    return np.abs(expected.slope) - setpoint


def time_to_limit(expected: Expectation, origin: F64, sign: F64, setpoint: F64, horizon_s: F64) -> F64:
    """Early warning: how far beyond the limit, in the point's unit, is what is foreseen for `horizon_s` ahead.

    `origin` is what the trend took the reading for.
    """
    return sign * (expected.slope * horizon_s - (setpoint - (origin + expected.level)))


def is_sure_of_rate(slope: Slope) -> Bool:
    """Whether each slope is at least twice its own standard error."""
    sure: Bool = _HALF * np.abs(slope.slope) >= slope.slope_se
    return sure


def is_sure_of_limit(slope: Slope, beyond: F64, sign: F64, horizon_s: F64, z: F64) -> Bool:
    """Whether the limit is reached within `horizon_s` even at the late end of what is foreseen.

    That end is the level foreseen at the horizon, which is `beyond` the limit (`time_to_limit`), less `z` of its
    standard errors (one-sided confidence), and the slope itself must lead to the limit with the same confidence.
    """
    times = slope.student(z)
    sure: Bool = (sign * slope.slope > times * slope.slope_se) & (beyond >= times * slope.ahead_se(horizon_s))
    return sure


def nears(expected: Expectation, origin: F64, rate_setpoint: F64, sign: F64, limit: F64, reach_s: F64) -> Bool:
    """Which trends could raise an alarm on their rate or early, or are on their way to their limit.

    All that do, and few others, by the same arithmetic: |slope| >= setpoint, and a level that is beyond
    `limit` or gets there in `reach_s` (not below the horizon) at this slope, either way, before any error is taken off
    (an error is never below 0). Infinite set points stand for alarms that there are not. Errors, roots and quantiles
    need then be found for these few alone. `origin` is what the trends took the readings for.
    """
    size = np.abs(expected.slope)
    gap = limit - (origin + expected.level)
    gap *= sign
    near: Bool = size >= rate_setpoint
    size *= reach_s
    near |= gap <= size
    return near
