"""The detectors of single points told slowly, one reading after the other, as docs/detectors.md describes them."""

from collections.abc import Callable
from dataclasses import dataclass
from math import fsum, isnan, nan, sqrt
from statistics import median
from typing import Final, Protocol

from tests.core.oracle_lines import SECOND, Limit, Trend, at_least
from tocsin_core.plant import AlarmDefinition, AlarmKind

MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE

# What is summed in another order than the engine's differs by less than this share of itself.
DIGITS: Final = 1e-9

# The window of each mean: length of a slot, number of slots (docs/detectors.md: 15 of 1 min, 32 of 15 min).
WINDOWS: Final = {AlarmKind.STEL: (MINUTE, 15), AlarmKind.TWA: (15 * MINUTE, 32)}
LEAST_SHARE: Final = 0.75
LEAST_STUCK: Final = 10
SPIKE_TIMES: Final = 10
SPIKE_NEIGHBOURS: Final = 31


class Detector(Protocol):
    """What judges one alarm definition: it takes every reading of its point, and is asked after good ones."""

    def take(self, time_ns: int, value: float, *, good: bool) -> None:
        """Take a reading."""

    def said(self) -> bool | None:
        """True beyond, False inside, None neither."""


class Exposure:
    """The rolling mean of what people breathe: STEL and TWA."""

    def __init__(self, d: AlarmDefinition) -> None:
        """Nothing has been read."""
        self.d = d
        self.slot_ns, self.slots = WINDOWS[d.kind]
        self.last_ns = 0
        self.held: float | None = None
        self.pieces: list[tuple[int, int, float]] = []  # slot, nanoseconds of it, value

    def take(self, time_ns: int, value: float, *, good: bool) -> None:
        """What was held since the last reading, cut at the ends of the slots; then hold this."""
        if self.held is not None:
            until = min(time_ns, self.last_ns + round(self.d.hold_s * SECOND))
            begin = self.last_ns
            while begin < until:
                slot = begin // self.slot_ns
                end = min(until, (slot + 1) * self.slot_ns)
                self.pieces.append((slot, end - begin, self.held))
                begin = end
        self.last_ns, self.held = time_ns, value if good else None

    def said(self) -> bool | None:
        """The mean of the window that ends at the last reading; the oldest slot counts by the part still in it."""
        d, width = self.d, self.slot_ns * self.slots / SECOND
        begin = self.last_ns - self.slot_ns * self.slots
        self.pieces = [piece for piece in self.pieces if (piece[0] + 1) * self.slot_ns > begin]
        parts = [
            (ns / SECOND * min(1.0, ((slot + 1) * self.slot_ns - begin) / self.slot_ns), value)
            for slot, ns, value in self.pieces
        ]
        covered = fsum(seconds for seconds, _ in parts)
        amount = fsum(seconds * value for seconds, value in parts)
        scale = abs(d.setpoint) + d.deadband
        if at_least(amount / width, d.setpoint, abs(amount / width) + scale, DIGITS):
            return True
        if not at_least(covered / width, LEAST_SHARE, 1.0, DIGITS):
            return None
        mean = amount / covered
        if at_least(mean, d.setpoint, abs(mean) + scale, DIGITS):
            return True
        return None if at_least(mean, d.setpoint - d.deadband, abs(mean) + scale, DIGITS) else False


@dataclass
class Peak:
    """One time above three times the PC-TWA: when it began and ended, and whether it broke the rule."""

    onset_ns: int
    end_ns: int | None = None
    broken: bool = False


class Peaks:
    """The rule of peaks (峰接触); the set point is the PC-TWA."""

    def __init__(self, d: AlarmDefinition) -> None:
        """Nothing has been read."""
        self.twa = d.setpoint
        self.peaks: list[Peak] = []

    def take(self, time_ns: int, value: float, *, good: bool) -> None:
        """Begin a peak, go on with it, or end it."""
        if not good:
            return
        going = bool(self.peaks) and self.peaks[-1].end_ns is None
        if value <= 3 * self.twa:
            if going:
                self.peaks[-1].end_ns = time_ns
            return
        if not going:
            ended_ns = self.peaks[-1].end_ns if self.peaks else None
            too_soon = ended_ns is not None and time_ns - ended_ns < HOUR
            today = sum(time_ns - peak.onset_ns < 24 * HOUR for peak in self.peaks)
            self.peaks.append(Peak(time_ns, broken=too_soon or today >= 4))
        peak = self.peaks[-1]
        if value > 5 * self.twa or time_ns - peak.onset_ns > 15 * MINUTE:
            peak.broken = True

    def said(self) -> bool | None:
        """Beyond while a peak breaks the rule, neither during another."""
        if not self.peaks or self.peaks[-1].end_ns is not None:
            return False
        return True if self.peaks[-1].broken else None


class Chart:
    """The EWMA and the CUSUM of one calibration."""

    def __init__(self, d: AlarmDefinition) -> None:
        """Nothing has been read."""
        assert d.charts is not None
        self.kind, self.c = d.kind, d.charts
        self.step: int | None = None
        self.deviation = self.up = self.down = self.z = 0.0

    def take(self, time_ns: int, value: float, *, good: bool) -> None:
        """The first good reading of a step is a sample."""
        c = self.c
        step = time_ns // round(c.step_s * SECOND)
        if not good or (self.step is not None and step <= self.step):
            return
        deviation = value - c.mean
        share = 0.0 if self.step is None else c.rho ** (step - self.step)
        e = (deviation - share * self.deviation) / (c.sigma * sqrt(1 - share**2))
        e = max(-100.0, min(100.0, e))
        self.up = self._sum(self.up + e - c.k)
        self.down = self._sum(self.down - e - c.k)
        self.z += c.weight * (e - self.z)
        self.step, self.deviation = step, deviation

    def _sum(self, c: float) -> float:
        return min(c, self.c.h + 4) if at_least(c, 0.0, 1.0, DIGITS) else 0.0

    def said(self) -> bool | None:
        """Beyond the threshold, or back inside."""
        c = self.c
        if self.kind is AlarmKind.CUSUM:
            size = max(self.up, self.down)
            return True if at_least(size, c.h, c.h, DIGITS) else False if size == 0 else None
        limit = c.width * sqrt(c.weight / (2 - c.weight))
        size = abs(self.z)
        if at_least(size, limit, limit, DIGITS):
            return True
        return None if at_least(size, limit / 4, limit, DIGITS) else False


class Stuck:
    """The same value over and over, or less noise than a living instrument has."""

    def __init__(self, d: AlarmDefinition) -> None:
        """Nothing has been read."""
        self.d = d
        self.window_ns = round(d.window_s * SECOND)
        self.run: list[tuple[int, float]] = []
        self.block: list[tuple[int, float]] = []
        self.quiet: bool | None = None

    def take(self, time_ns: int, value: float, *, good: bool) -> None:
        """Go on with the run and the block, or begin them anew."""
        if not good:
            return
        if self.run and self.run[-1][1] != value:
            self.run = []
        self.run.append((time_ns, value))
        moved = bool(self.block) and self._moved(value)
        if self.block and time_ns - self.block[0][0] >= self.window_ns:
            self.quiet = self._varied_little() if len(self.block) >= LEAST_STUCK else None
            self.block = []
        self.block.append((time_ns, value))
        if moved:
            self.quiet = False

    def _moved(self, value: float) -> bool:
        values = [read for _, read in self.block]
        if min(values) == max(values) == value:
            return False
        mean = fsum(values) / len(values)
        return at_least(abs(value - mean), 6 * self.d.floor, abs(value) + max(map(abs, values)), DIGITS)

    def _varied_little(self) -> bool:
        values = [read for _, read in self.block]
        if self.d.floor == 0:
            return False
        mean = fsum(values) / len(values)
        deviation = sqrt(fsum(min(abs(v - mean), 1e100) ** 2 for v in values) / (len(values) - 1))
        return not at_least(deviation, self.d.floor, deviation + self.d.floor, DIGITS)

    def said(self) -> bool | None:
        """Beyond where it stands still away from its zero."""
        value = self.run[-1][1]
        if abs(value - self.d.zero) <= self.d.zero_band:
            return False
        standing = len(self.run) >= LEAST_STUCK and self.run[-1][0] - self.run[0][0] >= self.window_ns
        if standing or self.quiet:
            return True
        return False if self.quiet is False else None


class Spike:
    """One reading off the median of its last seven neighbours, and back."""

    def __init__(self, d: AlarmDefinition) -> None:
        """Nothing has been read."""
        self.floor = d.floor
        self.near: list[float] = []
        self.suspect = nan
        self.answer: bool | None = None

    def take(self, _time_ns: int, value: float, *, good: bool) -> None:
        """Compare with the neighbours; of two in a row that are off, both join them, and all until one is back."""
        self.answer = None
        if not good:
            return
        waiting = not isnan(self.suspect)
        if self._off(value):
            if waiting:
                self.near.append(self.suspect)
            if waiting or self._off(self.near[-1]):
                self.near.append(value)
                self.suspect = nan
            else:
                self.suspect = value
            return
        if len(self.near) >= SPIKE_NEIGHBOURS:
            self.answer = waiting
        self.near.append(value)
        self.suspect = nan

    def _off(self, value: float) -> bool:
        last = self.near[-SPIKE_NEIGHBOURS:]
        if len(last) < SPIKE_NEIGHBOURS:
            return False
        middle = median(last)
        return abs(value - middle) > SPIKE_TIMES * max(1.4826 * median(abs(v - middle) for v in last), self.floor)

    def said(self) -> bool | None:
        """Beyond once, where the reading before is now known for a spike."""
        return self.answer


class Loop:
    """NAMUR NE 43 on the current behind a value."""

    def __init__(self, d: AlarmDefinition) -> None:
        """Nothing has been read."""
        self.d = d
        self.value = 0.0

    def take(self, _time_ns: int, value: float, *, good: bool) -> None:  # noqa: ARG002 what is not good may show it too
        """Take a reading."""
        self.value = value

    def said(self) -> bool | None:
        """Beyond from 3.6 mA down and from 21 mA up, inside from 3.8 to 20.5 mA, to a thousandth; of no number none."""
        current = 4.0 + 16.0 * (self.value - self.d.low) / (self.d.high - self.d.low)
        if current <= 3.601 or current >= 20.999:
            return True
        return False if 3.799 <= current <= 20.501 else None


LIMITS: Final = tuple(AlarmKind(kind) for kind in ("HH", "H", "L", "LL", "red", "orange", "yellow", "blue"))
OTHERS: Final[dict[AlarmKind, Callable[[AlarmDefinition], Detector]]] = {
    AlarmKind.STEL: Exposure,
    AlarmKind.TWA: Exposure,
    AlarmKind.PEAKS: Peaks,
    AlarmKind.CUSUM: Chart,
    AlarmKind.EWMA: Chart,
    AlarmKind.STUCK: Stuck,
    AlarmKind.SPIKE: Spike,
    AlarmKind.LOOP: Loop,
}


def detector_of(d: AlarmDefinition, decimals: int, *, rough: bool) -> Detector | None:
    """What judges `d`; None for the alarms on quality, on silence, and on a unit's normal running."""
    if d.kind in LIMITS:
        return Limit(d, rough=rough)
    if d.kind in (AlarmKind.RATE, AlarmKind.TIME_TO_LIMIT):
        return Trend(d, decimals)
    return OTHERS[d.kind](d) if d.kind in OTHERS else None
