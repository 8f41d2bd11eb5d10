"""The alternative: one Python object a point, with a line through a sliding window, as home automation does it."""

from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from tocsin_core.plant import AlarmDefinition, AlarmKind

LEAST_SAMPLES: Final = 10
_HIGH: Final = (AlarmKind.HH, AlarmKind.H)
_LIMITS: Final = (AlarmKind.HH, AlarmKind.H, AlarmKind.L, AlarmKind.LL)


class Change(NamedTuple):
    """An alarm raised or returned."""

    alarm: str
    raised: bool
    second: float


class Alarm:
    """One rule with hysteresis and delays."""

    __slots__ = ("active", "deadband", "name", "off_s", "on_s", "setpoint", "sign", "since")

    def __init__(self, definition: AlarmDefinition, *, high: bool) -> None:
        """As the definition says; `high` where beyond is above."""
        self.name = definition.id
        self.sign = 1.0 if high else -1.0
        self.setpoint, self.deadband = definition.setpoint, definition.deadband
        self.on_s, self.off_s = definition.on_delay_s, definition.off_delay_s
        self.active = False
        self.since: float | None = None

    def check(self, value: float, second: float, changes: list[Change]) -> None:
        """Compare, wait, and tell."""
        over = self.sign * (value - self.setpoint)
        if (over < -self.deadband) if self.active else (over >= 0.0):
            if self.since is None:
                self.since = second
            if second - self.since >= (self.off_s if self.active else self.on_s):
                self.active = not self.active
                self.since = None
                changes.append(Change(self.name, self.active, second))
        else:
            self.since = None


class Watched:
    """One point: its alarms, and the samples of its window with their sums.

    The manner is that of Home Assistant's `threshold` (limit with hysteresis) and `trend` (a line through the
    samples kept) sensors and of many in-house systems, made as fast as plain Python allows: the line's sums are
    carried along in place of being fitted anew. It expresses limits with deadband and delays, rate and stale; a
    time to limit without a confidence; no states beyond raised and returned, no acknowledgement, no shelving, no
    snapshot.
    """

    __slots__ = ("after_s", "early", "horizon_s", "limits", "rate", "samples", "seen", "sums", "window_s")

    def __init__(self, definitions: Sequence[AlarmDefinition]) -> None:
        """With the definitions of a synthetic point."""
        by_kind = {definition.kind: definition for definition in definitions}
        early = by_kind[AlarmKind.TIME_TO_LIMIT]
        self.limits = [Alarm(by_kind[kind], high=kind in _HIGH) for kind in _LIMITS]
        self.rate = Alarm(by_kind[AlarmKind.RATE], high=True)
        self.early = Alarm(early, high=early.limit in _HIGH)
        self.window_s, self.horizon_s = early.window_s, early.horizon_s
        self.after_s = by_kind[AlarmKind.STALE].after_s
        self.samples: deque[tuple[float, float]] = deque()
        self.sums = (0.0, 0.0, 0.0, 0.0)
        self.seen = 0.0

    def read(self, second: float, value: float, changes: list[Change]) -> None:
        """Take one reading."""
        self.seen = second
        for alarm in self.limits:
            alarm.check(value, second, changes)
        slope = self._slope(second, value)
        if slope is not None:
            self.rate.check(abs(slope) * 60.0, second, changes)
            self.early.check(value + slope * self.horizon_s, second, changes)

    def _slope(self, second: float, value: float) -> float | None:
        samples = self.samples
        x, xx, u, xu = self.sums
        samples.append((second, value))
        x, xx, u, xu = x + second, xx + second * second, u + value, xu + second * value
        while samples[0][0] <= second - self.window_s:
            old, gone = samples.popleft()
            x, xx, u, xu = x - old, xx - old * old, u - gone, xu - old * gone
        self.sums = (x, xx, u, xu)
        count = len(samples)
        return (count * xu - x * u) / (count * xx - x * x) if count >= LEAST_SAMPLES else None

    def is_stale(self, second: float) -> bool:
        """Whether nothing has come for too long."""
        return second - self.seen >= self.after_s
