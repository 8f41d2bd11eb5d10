"""Report by exception: which readings of a point tell something that the one before did not."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

import numpy as np

from tocsin_core.readings import F64, I64, U8, Bool, is_good

NEVER: Final = np.iinfo(np.int64).min // 2


class Rule(NamedTuple):
    """How one point is reported: its deadband in its unit, its longest silence and the time its alarms take, s."""

    deadband: float
    longest_s: float
    settle_s: float


@dataclass(frozen=True, slots=True)
class Exceptions:
    """The rules of a device's points in columns: deadband f64 (NaN where all is told), longest and settle i64, ms."""

    deadband: F64
    longest_ms: I64
    settle_ms: I64

    @classmethod
    def of(cls, rules: Sequence[Rule | None]) -> Self:
        """Make them of the rule of each point, None where all is told."""
        return cls(
            np.array([np.nan if rule is None else rule.deadband for rule in rules], dtype=np.float64),
            np.array([0 if rule is None else round(1000 * rule.longest_s) for rule in rules], dtype=np.int64),
            np.array([0 if rule is None else round(1000 * rule.settle_s) for rule in rules], dtype=np.int64),
        )


class Reporting:
    """What was told last of each of n points, and from it what has to be told now."""

    def __init__(self, exceptions: Exceptions) -> None:
        """Start with nothing told."""
        n = len(exceptions.deadband)
        self._rules = exceptions
        self._value = np.full(n, np.nan)
        self._quality = np.zeros(n, dtype=np.uint8)
        self._told_ms = np.full(n, NEVER, dtype=np.int64)
        self._seen_ms = np.full(n, NEVER, dtype=np.int64)
        self._changed_ms = np.full(n, NEVER, dtype=np.int64)

    def tell(self, point: I64, time_ms: I64, value: F64, quality: U8) -> Bool:
        """Which of these readings (each point once) have to be told; they count as told from now on.

        A reading is told unless it is good, as the one told last was, differs from that by no more than the deadband,
        and comes less than the longest silence after it. After a change of quality or a silence all is told until one
        reading lies beyond the time to settle: a delayed alarm goes by the readings at which its delay is over. What
        is older than the newest seen is told, and forgotten.
        """
        last_ms = self._told_ms[point]
        late = time_ms < self._seen_ms[point]
        longest_ms = self._rules.longest_ms[point]
        silent = time_ms - self._seen_ms[point] > longest_ms
        changed = ~is_good(quality) | (quality != self._quality[point]) | silent
        near = np.abs(value - self._value[point]) <= self._rules.deadband[point]
        settled = last_ms - self._changed_ms[point] >= self._rules.settle_ms[point]
        told: Bool = late | changed | ~near | ~settled | (time_ms - last_ms >= longest_ms)
        self._seen_ms[point[~late]] = time_ms[~late]
        self._changed_ms[point[changed & ~late]] = time_ms[changed & ~late]
        new = told & ~late
        self._value[point[new]], self._quality[point[new]] = value[new], quality[new]
        self._told_ms[point[new]] = time_ms[new]
        return told
