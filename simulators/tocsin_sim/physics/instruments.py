"""The way from a quantity to what an instrument shows: gain, lag, noise, range, resolution, and its own flags."""

from collections.abc import Mapping
from math import log
from typing import Final

import numpy as np

from tocsin_sim.physics.sources import relax
from tocsin_sim.simulation import Signal

TAU_PER_T90: Final = 1.0 / log(10.0)


class Shown:
    """One value of one instrument through time."""

    def __init__(self, signal: Signal, rng: np.random.Generator) -> None:
        self._signal = signal
        self._rng = rng
        self._lagged: float | None = None

    def step(self, time_s: float, dt_s: float, quantities: Mapping[str, float], shown: Mapping[str, float]) -> float:
        """Advance by `dt_s` to `time_s`; `shown` holds what the instrument's values before this one show."""
        signal = self._signal
        target = sum((quantities[name] for name in signal.quantity), 0.0) * signal.gain + signal.offset
        # The instrument has been running for long when the simulation starts.
        last = target if self._lagged is None else self._lagged
        self._lagged = relax(last, target, dt_s, signal.t90_s * TAU_PER_T90)
        value = self._lagged
        if signal.noise:
            value += signal.noise * float(self._rng.standard_normal())
        if signal.resolution:
            value = round(value / signal.resolution) * signal.resolution
        if signal.low is not None:
            value = max(value, signal.low)
        if signal.high is not None:
            value = min(value, signal.high)
        return value + self._flags(time_s, shown)

    def _flags(self, time_s: float, shown: Mapping[str, float]) -> int:
        word = 0
        for flag in self._signal.flags:
            by_value = flag.of is not None and flag.at is not None and shown[flag.of] >= flag.at
            by_clock = flag.every_s is not None and int(time_s / flag.every_s) % 2 == 1
            word |= (by_value or by_clock) << flag.bit
        return word
