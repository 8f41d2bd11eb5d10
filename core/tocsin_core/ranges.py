"""What a number outside its point's measuring range is worth: judged here, for every kind of device alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from tocsin_core.readings import BAD_SENSOR_FAILURE, F64, LIMITED_HIGH, LIMITED_LOW, U8, Bool, is_bad

# Our own choice: wide enough for a zero that drifts and a signal that may run a little over its end (NAMUR NE 43 lets
# 4-20 mA tell values from -1.25 % to 103.125 %), narrow enough to be seen long before a second full scale.
TOLERATED_SPANS: Final = 0.05
# Our own choice: no unit is mistaken by more than parts per million for parts, and no range is set that far off.
IMPOSSIBLE_SPANS: Final = 1e6


@dataclass(frozen=True, slots=True)
class Ranges:
    """The measuring ranges of a device's points, f64[n] in their order; infinite where a point has none of its own."""

    low: F64
    high: F64

    @classmethod
    def of(cls, ranges: Sequence[tuple[float, float] | None]) -> Self:
        """Take (low, high) for each point, or None where its readings are not to be judged."""
        pairs = np.array([(-np.inf, np.inf) if pair is None else pair for pair in ranges], dtype=np.float64)
        return cls(*pairs.reshape(-1, 2).T)

    def judge(self, value: F64, quality: U8) -> tuple[F64, U8]:
        """Return value f64[n] and quality u8[n] with what lies outside the ranges marked.

        More than 5 % of the span outside: the value and its quality stay, and OPC's limit bits say at which end
        (OPC DA 3.00, 6.8). It stays good because a gas detector is over its range when the gas is at its worst, and
        only good readings raise alarms.

        More than a million spans outside: a sensor failure without a value, as infinity is. A float read in the wrong
        word order, or from the wrong register, comes out like 1e30. A bound of one span would not be safe: a range left
        to its kind may be a tenth of what the detector shows. The wrong order's other face, 1e-30, looks like a zero
        and cannot be told from one.
        """
        span = self.high - self.low
        with np.errstate(invalid="ignore"):
            over, under = value - self.high, self.low - value
            if not (np.maximum(over, under) > TOLERATED_SPANS * span).any():
                return value, quality
            ends = np.where(over > TOLERATED_SPANS * span, LIMITED_HIGH, 0)
            ends |= np.where(under > TOLERATED_SPANS * span, LIMITED_LOW, 0)
        impossible = self.impossible(value, quality)
        marked = np.where(is_bad(quality), quality, quality | ends.astype(np.uint8))
        marked = np.where(impossible, BAD_SENSOR_FAILURE | ends, marked).astype(np.uint8)
        return np.where(impossible, np.nan, value), marked

    def impossible(self, value: F64, quality: U8) -> Bool:
        """Tell which of the values, bool[n], are too far out to be a measurement; bad ones are bad already."""
        with np.errstate(invalid="ignore"):
            beyond = np.maximum(value - self.high, self.low - value) > IMPOSSIBLE_SPANS * (self.high - self.low)
        far: Bool = beyond & ~is_bad(quality)
        return far
