"""Limits and trends told slowly: a value against its set point, and a line through all the past readings."""

from collections.abc import Callable, Sequence
from math import copysign, exp, inf, sqrt
from statistics import NormalDist
from typing import Final, NamedTuple

from tocsin_core.plant import AlarmDefinition, AlarmKind

SECOND: Final = 1_000_000_000
NEAR: Final = 1e-6
HIGH_KINDS: Final = (AlarmKind.HH, AlarmKind.H)
LOW_KINDS: Final = (AlarmKind.LL, AlarmKind.L)


class TooCloseError(Exception):
    """Two roads to the same number may differ in the last digits, and here those would decide."""


class Line(NamedTuple):
    """A weighted straight line through the past of a point, seen from its latest reading."""

    known: bool
    level: float = 0.0
    slope: float = 0.0
    slope_se: float = 0.0
    freedom: float = 1.0
    noise: float = 0.0
    spread: float = 0.0
    ahead_se: Callable[[float], float] = lambda _seconds: 0.0


def at_least(a: float, b: float, scale: float, near: float = NEAR) -> bool:
    """Whether a >= b, unless they are so near to each other that rounding decides."""
    if abs(a - b) <= near * scale:
        raise TooCloseError
    return a >= b


def is_high(d: AlarmDefinition) -> bool:
    """Whether high values are bad: by the name of the limit, or for those whose name does not tell, by the side."""
    limit = d.limit or d.kind
    return limit in HIGH_KINDS or (limit not in LOW_KINDS and d.side > 0)


class Limit:
    """A set point; `rough` where the value is the outcome of long sums, so that its last digits mean nothing."""

    def __init__(self, d: AlarmDefinition, *, rough: bool) -> None:
        """Nothing has been read."""
        self.d = d
        self.rough = rough
        self.value = 0.0

    def take(self, _time_ns: int, value: float, *, good: bool) -> None:
        """Take a reading."""
        if good:
            self.value = value

    def said(self) -> bool | None:
        """What it says of the last good reading."""
        up = 1.0 if is_high(self.d) else -1.0
        value, setpoint, off = up * self.value, up * self.d.setpoint, up * self.d.setpoint - self.d.deadband
        if self.rough:
            scale = abs(value) + abs(setpoint) + self.d.deadband
            return True if at_least(value, setpoint, scale) else None if at_least(value, off, scale) else False
        return True if value >= setpoint else False if value < off else None


def line_through(past: Sequence[tuple[int, float]], tau_s: float, floor: float) -> Line:
    """The line by the sums as a textbook writes them, about the weighted means."""
    last_ns, last = past[-1]
    xs = [(time_ns - last_ns) / SECOND for time_ns, _ in past]
    us = [value - last for _, value in past]
    ws = [exp(x / tau_s) for x in xs]
    total = sum(ws)
    effective = total**2 / sum(w * w for w in ws)
    if not at_least(effective, 10.0, 10.0):
        return Line(known=False)
    x_mean = sum(w * x for w, x in zip(ws, xs, strict=True)) / total
    u_mean = sum(w * u for w, u in zip(ws, us, strict=True)) / total
    sxx = sum(w * (x - x_mean) ** 2 for w, x in zip(ws, xs, strict=True))
    sxu = sum(w * (x - x_mean) * (u - u_mean) for w, x, u in zip(ws, xs, us, strict=True))
    slope = sxu / sxx
    level = u_mean - slope * x_mean
    squares = sum(w * (u - level - slope * x) ** 2 for w, x, u in zip(ws, xs, us, strict=True))
    noise = max(squares / total * effective / (effective - 2.0), floor**2)

    def ahead_se(seconds: float) -> float:
        # The level foreseen is a weighted sum of the readings; each brings the same noise with its weight squared.
        share = ((w / total) + (seconds - x_mean) * w * (x - x_mean) / sxx for w, x in zip(ws, xs, strict=True))
        return sqrt(noise * sum(part * part for part in share))

    slope_se = sqrt(noise * sum((w * (x - x_mean) / sxx) ** 2 for w, x in zip(ws, xs, strict=True)))
    return Line(
        known=True,
        level=level,
        slope=slope,
        slope_se=slope_se,
        freedom=effective - 2.0,
        noise=sqrt(noise),
        spread=sqrt(sxx / total),
        ahead_se=ahead_se,
    )


class Trend:
    """Rate of change and time to limit, from every good reading there ever was."""

    def __init__(self, d: AlarmDefinition, decimals: int) -> None:
        """Nothing has been read."""
        self.d = d
        self.floor = 10**-decimals / sqrt(12)
        self.value = 0.0
        self.past: list[tuple[int, float]] = []
        self.line = Line(known=False)
        self.surprises = [0.0, 0.0]

    def take(self, time_ns: int, value: float, *, good: bool) -> None:
        """Take a reading: as it is, or where it is wild as near to the line as it is believed."""
        if not good:
            return
        self.value = value
        if self.past:
            value = self._believed(time_ns, value)
        self.past.append((time_ns, value))
        self.line = line_through(self.past, self.d.window_s / 2, self.floor)

    def _believed(self, time_ns: int, value: float) -> float:
        last_ns, last = self.past[-1]
        seconds = (time_ns - last_ns) / SECOND
        expected = last + self.line.level + self.line.slope * seconds
        within = self.line.known and seconds <= self.d.window_s / 2 and at_least(self.line.spread, seconds, seconds)
        bound = 3 * self.line.noise if within else inf
        surprise, (one, two) = value - expected, self.surprises
        self.surprises = [two, surprise]
        if abs(surprise) <= bound:
            return value
        furthest = max(0.0, 2 * bound - abs(surprise), min(one, two) if surprise > 0 else -max(one, two))
        if abs(surprise) <= furthest:
            return value
        return expected + copysign(furthest, surprise)

    def said(self) -> bool | None:
        """What it says of the last good reading."""
        if not self.line.known:
            return None
        return self._rate(self.line) if self.d.kind is AlarmKind.RATE else self._foresee(self.line)

    def _rate(self, line: Line) -> bool | None:
        size = abs(line.slope) * 60.0
        error = line.slope_se * 60.0
        scale = size + self.d.setpoint
        if at_least(size, self.d.setpoint, scale) and at_least(size, 2 * error, size + error):
            return True
        return None if at_least(size, self.d.setpoint - self.d.deadband, scale) else False

    def _foresee(self, line: Line) -> bool | None:
        d, origin = self.d, self.past[-1][1]
        up = 1.0 if is_high(d) else -1.0
        if up * (d.setpoint - self.value) <= 0:
            return None
        short = up * (d.setpoint - origin)
        z = NormalDist().inv_cdf(d.confidence)
        times = z * (1 + (z * z + 1) / (4 * line.freedom))
        foreseen = up * (line.level + line.slope * d.horizon_s)
        error = line.ahead_se(d.horizon_s)
        scale = abs(line.level) + abs(line.slope) * d.horizon_s + times * error + abs(short)
        steep = abs(line.slope) + times * line.slope_se
        if at_least(foreseen - times * error, short, scale) and at_least(up * line.slope, times * line.slope_se, steep):
            return True
        return None if at_least(foreseen, short - d.deadband, scale) else False
