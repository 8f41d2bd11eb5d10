"""A stretch of simulated hours being planned: what moves the physics second by second, why, and how it is drawn."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import exp, log, pi, sqrt

import numpy as np

from tocsin_core.readings import F64

SECONDS_PER_HOUR = 3600
SECONDS_PER_DAY = 86400


@dataclass(frozen=True, slots=True)
class Disturbance:
    """Something that belongs to normal running and shows at `points`, from `start_s` to `end_s`."""

    cause: str
    start_s: int
    end_s: int
    points: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Incident:
    """Something that leads to a limit, or may: its physical cause is there from `onset_s`; all is calm at `over_s`."""

    kind: str
    onset_s: int
    over_s: int
    points: tuple[str, ...]


@dataclass(slots=True)
class Course:
    """`seconds` of one plant: inputs f64[seconds] by name (source.input), and what happens in them."""

    seconds: int
    start_hour: float
    random: np.random.Generator
    inputs: dict[str, F64] = field(default_factory=dict)
    disturbances: list[Disturbance] = field(default_factory=list)
    incidents: list[Incident] = field(default_factory=list)

    @property
    def day(self) -> F64:
        """The phase of the day, 0 at midnight, 2 pi at the next."""
        hours = self.start_hour + np.arange(self.seconds) / SECONDS_PER_HOUR
        return 2.0 * pi * hours / 24.0

    @property
    def warmth(self) -> F64:
        """From -1 in the small hours to 1, a little after two in the afternoon."""
        warm: F64 = -np.cos(self.day - 0.6)
        return warm

    def between(self, low: float, high: float) -> float:
        """A number drawn evenly from low to high."""
        return float(self.random.uniform(low, high))

    def spread(self, low: float, high: float) -> float:
        """A number drawn from low to high evenly in its logarithm: as many small ones as large ones."""
        return exp(self.between(log(low), log(high)))

    def times(self, per_day: float, length_s: float) -> Iterator[int]:
        """Moments at which something that happens `per_day` times a day begins, so that it ends within the course."""
        count = int(self.random.poisson(per_day * self.seconds / SECONDS_PER_DAY))
        last = max(self.seconds - int(length_s), 1)
        yield from sorted(self.random.integers(0, last, count).tolist())

    def wander(self, sigma: float, tau_s: float) -> F64:
        """Ornstein-Uhlenbeck noise of this spread and memory, f64[seconds]."""
        keep = exp(-1.0 / tau_s)
        pushed = (sigma * sqrt(1.0 - keep * keep) * self.random.standard_normal(self.seconds)).tolist()
        value = sigma * float(self.random.standard_normal())
        found = []
        for push in pushed:
            value = value * keep + push
            found.append(value)
        return np.array(found)

    def trapezoid(self, start_s: int, rise_s: float, stay_s: float, fall_s: float) -> F64:
        """0, rising in a straight line from `start_s` to 1, staying there, and falling back to 0: f64[seconds]."""
        since = np.arange(self.seconds) - float(start_s)
        risen = np.clip(since / max(rise_s, 1e-9), 0.0, 1.0)
        left = np.clip(1.0 - (since - rise_s - stay_s) / max(fall_s, 1e-9), 0.0, 1.0)
        shape: F64 = np.minimum(risen, left)
        return shape

    def move(self, name: str, to: float, shape: F64) -> None:
        """Bring an input from where it is to `to` where `shape` is 1, and part of the way where it is less."""
        self.inputs[name] = self.inputs[name] + shape * (to - self.inputs[name])

    def disturb(self, cause: str, start_s: int, length_s: float, points: tuple[str, ...]) -> None:
        """Note what is normal, so that a warning can be put down to it."""
        self.disturbances.append(Disturbance(cause, start_s, start_s + round(length_s), points))

    def happen(self, kind: str, onset_s: int, length_s: float, points: tuple[str, ...]) -> None:
        """Note an incident."""
        self.incidents.append(Incident(kind, onset_s, min(onset_s + round(length_s), self.seconds), points))
