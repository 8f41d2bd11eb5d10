"""The detectors: functions over arrays that say whether an alarm's condition is there, gone, or neither."""

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tocsin_core.readings import F64, Bool

I8 = NDArray[np.int8]

# What a detector answers; what comes of it (delays, states) is the engine's business.
TRUE: Final = np.int8(1)  # beyond the set point
FALSE: Final = np.int8(-1)  # back inside by more than the deadband
HOLD: Final = np.int8(0)  # in between, or not to be judged from this reading

# A slope counts for nothing before its window holds this many effective readings: below it the residuals have no say.
LEAST_READINGS: Final = 10.0

# A trend whose sum of squares gets here starts anew: further on sums and variances would leave the range of a double,
# and a sum that is infinite once stays so.
LARGEST_SQUARE: Final = 1e200


def _answer(beyond: Bool, inside: Bool) -> I8:
    return np.where(beyond, TRUE, np.where(inside, FALSE, HOLD))


def limit(value: F64, sign: F64, setpoint: F64, deadband: F64) -> I8:
    """HH and H (`sign` +1): beyond at value >= setpoint, inside below setpoint - deadband; L and LL (-1) mirrored.

    GB/T 50493 and AQ 1029 give the set point as the value at which the alarm stands, so reaching it is enough. With a
    deadband of 0 the alarm is gone as soon as the value is inside (methane: reset below the set point).
    """
    over = sign * (value - setpoint)
    return _answer(over >= 0.0, over < -deadband)


def bad(is_bad: Bool) -> I8:
    """An instrument alarm: beyond while the reading's quality is bad, inside as soon as it is not."""
    return np.where(is_bad, TRUE, FALSE)


@dataclass(slots=True)
class Trend:
    """Discounted sums of T trends, origin at the latest reading: x in seconds (<= 0), u in the point's unit off it.

    `weight` sum w, `x`, `xx`, `u`, `xu`, `uu` its moments; `square`, `square_x`, `square_xx` those of w^2, for the
    variance. A reading's weight falls as exp(-age / tau). All f64[T].
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

    @classmethod
    def empty(cls, size: int) -> "Trend":
        """`size` trends that have seen nothing."""
        return cls(*(np.zeros(size) for _ in range(9)))

    def rows(self, index: NDArray[np.int64] | slice) -> "Trend":
        """The trends at `index`: a copy, or for a slice the columns themselves."""
        return Trend(*(getattr(self, name)[index] for name in self.__slots__))

    def put(self, index: NDArray[np.int64] | slice, rows: "Trend") -> None:
        """Write `rows` back at `index`."""
        for name in self.__slots__:
            getattr(self, name)[index] = getattr(rows, name)


def advance(trend: Trend, dt_s: F64, du: F64, tau_s: F64) -> Trend:
    """`trend` with one more reading each, `dt_s` seconds (> 0) after the last and `du` off it.

    The origin moves to the new reading, so nothing grows with time and no digits are lost to large numbers:
    sum w (x - dt)^2 = sum w x^2 - dt (sum w x + sum w (x - dt)), and so on. A jump so large that its square leaves
    `LARGEST_SQUARE` starts the trend anew.
    """
    decay = np.exp(-dt_s / tau_s)
    decay2 = decay * decay
    with np.errstate(over="ignore", invalid="ignore"):
        x = trend.x - dt_s * trend.weight
        u = trend.u - du * trend.weight
        square_x = trend.square_x - dt_s * trend.square
        after = Trend(
            weight=decay * trend.weight + 1.0,
            x=decay * x,
            xx=decay * (trend.xx - dt_s * (trend.x + x)),
            u=decay * u,
            xu=decay * (trend.xu - du * trend.x - dt_s * u),
            uu=decay * (trend.uu - du * (trend.u + u)),
            square=decay2 * trend.square + 1.0,
            square_x=decay2 * square_x,
            square_xx=decay2 * (trend.square_xx - dt_s * (trend.square_x + square_x)),
        )
    lost = ~(after.uu < LARGEST_SQUARE)
    if lost.any():
        where = np.flatnonzero(lost)
        alone = Trend.empty(len(where))
        alone.weight += 1.0
        alone.square += 1.0
        after.put(where, alone)
    return after


class Line(NamedTuple):
    """A straight line through each trend: weighted means and sums about them, `slope`, and `level` at the reading.

    Where too few readings are behind it for a line the columns hold anything, numbers or not.
    """

    mean_x: F64
    sxx: F64
    sxu: F64
    mean_u: F64
    slope: F64
    level: F64


def line(trend: Trend) -> Line:
    """Weighted least squares of u on x: slope = Sxu / Sxx about the weighted means."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        mean_x = trend.x / trend.weight
        mean_u = trend.u / trend.weight
        sxx = trend.xx - trend.x * mean_x
        sxu = trend.xu - trend.x * mean_u
        slope = sxu / sxx
        return Line(mean_x, sxx, sxu, mean_u, slope, mean_u - slope * mean_x)


@dataclass(frozen=True, slots=True)
class Slope:
    """A straight line through each trend, all of length T.

    `level` at the latest reading (off it, in its unit), `slope` (unit a second), its standard error `slope_se`, and
    what `ahead` needs; `known` where there are readings enough, `freedom` the degrees of freedom behind the errors.
    """

    level: F64
    slope: F64
    slope_se: F64
    known: Bool
    freedom: F64
    mean_x: F64
    var_mean: F64
    cov: F64

    def ahead(self, seconds: F64) -> tuple[F64, F64]:
        """Level foreseen `seconds` ahead (off the latest reading), and the standard error of that mean."""
        reach = seconds - self.mean_x
        variance = self.var_mean + 2.0 * reach * self.cov + reach * reach * self.slope_se * self.slope_se
        return self.level + self.slope * seconds, np.sqrt(np.maximum(variance, 0.0))

    def student(self, z: F64) -> F64:
        """The normal quantile `z` widened to Student's with these degrees of freedom (Cornish-Fisher, first order)."""
        return z * (1.0 + (z * z + 1.0) / (4.0 * self.freedom))


def fit(trend: Trend, floor: F64) -> Slope:
    """`line` with its errors; `floor` is the least standard deviation of a reading (its last digit).

    The residual variance has n - 2 degrees of freedom of the effective n = (sum w)^2 / sum w^2;
    Var(b) = s^2 * sum w^2 (x - mean)^2 / Sxx^2.
    """
    mean_x, sxx, sxu, mean_u, slope, level = line(trend)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        suu = trend.uu - trend.u * mean_u
        effective = trend.weight * trend.weight / trend.square
        known = (effective >= LEAST_READINGS) & (sxx > 0.0)
        residual = np.maximum(suu - slope * sxu, 0.0) / trend.weight * effective / (effective - 2.0)
        noise = np.maximum(residual, floor * floor)
        about_x = trend.square_x - mean_x * trend.square
        about_xx = trend.square_xx - 2.0 * mean_x * trend.square_x + mean_x * mean_x * trend.square
        slope_se = np.sqrt(noise * np.maximum(about_xx, 0.0)) / sxx
        var_mean = noise * trend.square / (trend.weight * trend.weight)
        cov = noise * about_x / (trend.weight * sxx)
    # Where nothing is known the columns hold plain numbers all the same, for arithmetic goes on over whole arrays.
    columns = (level, slope, slope_se, effective - 2.0, mean_x, var_mean, cov)
    level, slope, slope_se, freedom, mean_x, var_mean, cov = (np.where(known, each, 1.0) for each in columns)
    return Slope(level, slope, slope_se, known, freedom, mean_x, var_mean, cov)


def rate(slope: Slope, setpoint: F64, deadband: F64) -> I8:
    """Rate of change: beyond where |slope| reaches `setpoint` and twice its own standard error.

    Inside where it is below setpoint - deadband. `setpoint` and `deadband` in the point's unit a second.
    """
    size = np.abs(slope.slope)
    beyond = slope.known & (size >= setpoint) & (size >= 2.0 * slope.slope_se)
    return _answer(beyond, slope.known & (size < setpoint - deadband))


def time_to_limit(slope: Slope, value: F64, sign: F64, setpoint: F64, deadband: F64, horizon_s: F64, z: F64) -> I8:
    """Early warning: beyond where the limit is reached within `horizon_s` even at the late end of what is foreseen.

    That end is the level foreseen at the horizon less `z` of its standard errors (one-sided confidence), and the slope
    itself must lead to the limit with the same confidence. Inside where the foreseen level is short of the limit by
    more than the deadband. Where the value already is beyond the limit there is nothing left to foresee (HOLD: the
    limit's own alarm speaks, and a warning that stands is kept).
    """
    foreseen, error = slope.ahead(horizon_s)
    times = slope.student(z)
    short = sign * (setpoint - value)
    sure = sign * foreseen - times * error >= short
    leading = sign * slope.slope - times * slope.slope_se > 0.0
    beyond = slope.known & sure & leading & (short > 0.0)
    inside = slope.known & (sign * foreseen < short - deadband) & (short > 0.0)
    return _answer(beyond, inside)


def may_speak(trend: Trend, value: F64, rate_setpoint: F64, sign: F64, limit: F64, horizon_s: F64) -> Bool:
    """Which trends could make `rate` or `time_to_limit` answer TRUE: all that do, and few others.

    The first part of either's condition, by the same arithmetic: |slope| >= setpoint, and the foreseen level at the
    limit before any error is taken off it (an error is never below 0). Infinite set points stand for alarms that there
    are not. Errors, roots and quantiles need then be found for these few alone.
    """
    _, _, _, _, slope, level = line(trend)
    with np.errstate(invalid="ignore", over="ignore"):
        may: Bool = (np.abs(slope) >= rate_setpoint) | (sign * (level + slope * horizon_s) >= sign * (limit - value))
    return may
