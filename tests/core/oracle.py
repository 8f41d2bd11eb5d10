"""The alarm engine told again, slowly and plainly: one reading at a time, trends from all the past readings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import exp, isnan, nan, sqrt
from statistics import NormalDist
from typing import Final, NamedTuple

from tocsin_core.plant import AlarmDefinition, AlarmKind, Plant

SECOND: Final = 1_000_000_000
NEAR: Final = 1e-6

# ISA-18.2-2016 figure 3, by the letters of its states.
STANDARD: Final = {
    ("A", "raise"): "B",
    ("B", "return"): "D",
    ("B", "return-latched"): "E",
    ("B", "acknowledge"): "C",
    ("C", "return"): "A",
    ("C", "return-latched"): "F",
    ("D", "raise"): "B",
    ("D", "acknowledge"): "A",
    ("E", "raise"): "B",
    ("E", "acknowledge"): "F",
    ("F", "raise"): "B",
    ("F", "reset"): "A",
    ("C", "unacknowledge"): "B",
    ("C", "realarm"): "B",
    ("F", "unacknowledge"): "E",
}
SHELF_S: Final = {"low": 86400, "medium": 43200, "high": 28800, "critical": 3600}

# Which alarms of a point are worse than one of it, by its kind (and what it foresees).
WORSE: Final = {
    (AlarmKind.H, None): ("HH",),
    (AlarmKind.L, None): ("LL",),
    (AlarmKind.TIME_TO_LIMIT, AlarmKind.HH): ("H", "HH"),
    (AlarmKind.TIME_TO_LIMIT, AlarmKind.H): ("H", "HH"),
    (AlarmKind.TIME_TO_LIMIT, AlarmKind.L): ("L", "LL"),
    (AlarmKind.TIME_TO_LIMIT, AlarmKind.LL): ("L", "LL"),
}


class TooCloseError(Exception):
    """Two roads to the same number may differ in the last digits, and here those would decide."""


class Told(NamedTuple):
    """A transition as the oracle tells it; `value` is None where there is none."""

    alarm: str
    event: str
    before: str
    after: str
    time_ns: int
    value: float | None
    onset_ns: int
    superseded_ns: int
    suppressed: bool
    who: str
    reason: str


class Asked(NamedTuple):
    """A command."""

    verb: str
    alarm: str
    at_ns: int
    who: str
    reason: str
    onset_ns: int
    until_ns: int
    once: bool


@dataclass
class Alarm:
    """What is known of one alarm."""

    state: str = "A"
    active: bool = False
    since_ns: int | None = None
    onset_ns: int = 0
    shelved_until_ns: int = 0
    once: bool = False
    acknowledged_ns: int = 0
    out_of_service: bool = False


@dataclass
class Place:
    """What is known of one point."""

    seen_ns: int
    time_ns: int | None = None
    value: float = nan
    bad: bool = True
    past: list[tuple[int, float]] = field(default_factory=list)


class Line(NamedTuple):
    """A weighted straight line through the past of a point, seen from its latest reading."""

    known: bool
    level: float = 0.0
    slope: float = 0.0
    slope_se: float = 0.0
    freedom: float = 1.0
    ahead_se: Callable[[float], float] = lambda _seconds: 0.0


def at_least(a: float, b: float, scale: float) -> bool:
    """Whether a >= b, unless they are so near to each other that rounding decides."""
    if abs(a - b) <= NEAR * scale:
        raise TooCloseError
    return a >= b


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
        ahead_se=ahead_se,
    )


class Oracle:
    """The engine of one plant."""

    def __init__(self, plant: Plant, now_ns: int) -> None:
        """Nothing has been seen; silence counts from `now_ns`."""
        self.now_ns = now_ns
        self.points = plant.points
        self.alarms = {d.id: Alarm() for point in plant.points for d in point.definitions}
        self.places = {point.id: Place(now_ns) for point in plant.points}
        self.definitions = {d.id: d for point in plant.points for d in point.definitions}
        self.told: list[Told] = []
        self.late = 0

    def now(self, now_ns: int) -> int | None:
        """Take the time of a step; the nanoseconds since the last one, or None where it went back."""
        elapsed = now_ns - self.now_ns
        self.now_ns = max(self.now_ns, now_ns)
        return elapsed if elapsed >= 0 else None

    def read(self, index: int, time_ns: int, value: float, quality: int) -> None:
        """Take one reading of point number `index`."""
        if not 0 <= index < len(self.points):
            return
        point = self.points[index]
        place = self.places[point.id]
        if place.time_ns is not None and time_ns <= place.time_ns:
            self.late += 1
            return
        told_before = len(self.told)
        good, bad = quality >> 6 == 3, quality >> 6 in (0, 2)
        place.time_ns, place.value, place.bad, place.seen_ns = time_ns, value, bad, self.now_ns
        if good:
            place.past.append((time_ns, value))
        for definition in point.definitions:
            alarm = self.alarms[definition.id]
            if definition.kind is AlarmKind.BAD:
                condition: bool | None = bad
            elif definition.kind is AlarmKind.STALE:
                condition = False
            elif good:
                condition = self._condition(definition, place.past, point.decimals)
            else:
                if alarm.active:
                    alarm.since_ns = None
                continue
            self._delay(definition, alarm, condition, time_ns, value)
        self._unshelve(point.definitions, self.told[told_before:], time_ns, value)

    def _unshelve(self, definitions: Sequence[AlarmDefinition], told: list[Told], time_ns: int, value: float) -> None:
        """End the shelves of those that returned, if one-shot, and of those that a worse one now outcries."""
        returned = [each.alarm for each in told if each.event != "raise"]
        raised = [self.definitions[each.alarm] for each in told if each.event == "raise" and not each.suppressed]
        for d in definitions:
            alarm = self.alarms[d.id]
            if not alarm.shelved_until_ns:
                continue
            if alarm.once and d.id in returned:
                reason = "the alarm has returned"
            elif any(worse in WORSE.get((d.kind, d.limit), ()) for worse in (other.kind for other in raised)):
                reason = "a worse alarm of the point was raised"
            else:
                continue
            alarm.shelved_until_ns = 0
            self._tell(d.id, "unshelve", time_ns, value, reason=reason)

    def _condition(self, d: AlarmDefinition, past: Sequence[tuple[int, float]], decimals: int) -> bool | None:
        """True, False, or None for neither."""
        value = past[-1][1]
        if d.kind in (AlarmKind.HH, AlarmKind.H):
            return True if value >= d.setpoint else False if value < d.setpoint - d.deadband else None
        if d.kind in (AlarmKind.LL, AlarmKind.L):
            return True if value <= d.setpoint else False if value > d.setpoint + d.deadband else None
        line = line_through(past, d.window_s / 2, 10**-decimals / sqrt(12))
        if not line.known:
            return None
        return self._rate(d, line) if d.kind is AlarmKind.RATE else self._foresee(d, line, value)

    @staticmethod
    def _rate(d: AlarmDefinition, line: Line) -> bool | None:
        size = abs(line.slope) * 60.0
        error = line.slope_se * 60.0
        scale = size + d.setpoint
        if at_least(size, d.setpoint, scale) and at_least(size, 2 * error, size + error):
            return True
        return None if at_least(size, d.setpoint - d.deadband, scale) else False

    @staticmethod
    def _foresee(d: AlarmDefinition, line: Line, value: float) -> bool | None:
        up = 1.0 if d.limit in (AlarmKind.HH, AlarmKind.H) else -1.0
        short = up * (d.setpoint - value)
        if short <= 0:
            return None
        z = NormalDist().inv_cdf(d.confidence)
        times = z * (1 + (z * z + 1) / (4 * line.freedom))
        foreseen = up * (line.level + line.slope * d.horizon_s)
        error = line.ahead_se(d.horizon_s)
        scale = abs(line.level) + abs(line.slope) * d.horizon_s + times * error + short
        steep = abs(line.slope) + times * line.slope_se
        if at_least(foreseen - times * error, short, scale) and at_least(up * line.slope, times * line.slope_se, steep):
            return True
        return None if at_least(foreseen, short - d.deadband, scale) else False

    def _delay(self, d: AlarmDefinition, alarm: Alarm, condition: bool | None, time_ns: int, value: float) -> None:  # noqa: FBT001 - it is the condition
        if condition is None or condition == alarm.active:
            alarm.since_ns = None
            return
        if alarm.since_ns is None:
            alarm.since_ns = time_ns
        wanted_s = d.off_delay_s if alarm.active else d.on_delay_s
        if time_ns - alarm.since_ns < round(wanted_s * SECOND):
            return
        alarm.since_ns = None
        if alarm.active:
            alarm.active = False
            self._tell(d.id, "return-latched" if d.latching else "return", time_ns, value)
        else:
            self._raise(d.id, time_ns, value)

    def _raise(self, name: str, time_ns: int, value: float) -> None:
        alarm = self.alarms[name]
        replaced = 0 if alarm.state == "A" else alarm.onset_ns
        alarm.active = True
        alarm.onset_ns = time_ns
        self._tell(name, "raise", time_ns, value, replaced=replaced)

    def _tell(
        self,
        name: str,
        event: str,
        time_ns: int,
        value: float,
        *,
        replaced: int = 0,
        who: str = "",
        reason: str = "",
    ) -> None:
        alarm = self.alarms[name]
        before = alarm.state
        if (before, event) in STANDARD:
            alarm.state = STANDARD[before, event]
        else:
            assert event in ("shelve", "unshelve", "out-of-service", "in-service"), (before, event)
        hidden = alarm.shelved_until_ns != 0 or alarm.out_of_service
        shown = None if isnan(value) else value
        self.told.append(
            Told(name, event, before, alarm.state, time_ns, shown, alarm.onset_ns, replaced, hidden, who, reason)
        )

    def ask(self, asked: Asked) -> str | None:
        """Carry out a command, or say why not."""
        alarm = self.alarms[asked.alarm]
        definition = self.definitions[asked.alarm]
        if asked.onset_ns and asked.onset_ns != alarm.onset_ns:
            return "the alarm was raised again since; look at the new one"
        refused = self._refusal(asked, alarm, definition)
        if refused:
            return refused
        if asked.verb == "shelve":
            alarm.shelved_until_ns = asked.until_ns
            alarm.once = asked.once
        if asked.verb == "ack":
            alarm.acknowledged_ns = asked.at_ns
        if asked.verb == "unshelve":
            alarm.shelved_until_ns = 0
        if asked.verb in ("out-of-service", "in-service"):
            alarm.out_of_service = asked.verb == "out-of-service"
        value = self.places[definition.point].value
        event = "acknowledge" if asked.verb == "ack" else asked.verb
        self._tell(asked.alarm, event, asked.at_ns, value, who=asked.who, reason=asked.reason)
        return None

    @staticmethod
    def _refusal(asked: Asked, alarm: Alarm, definition: AlarmDefinition) -> str | None:
        shelf_ns = asked.until_ns - asked.at_ns
        rows: dict[str, list[tuple[bool, str]]] = {
            "ack": [
                (alarm.state == "A", "the alarm is not active"),
                (alarm.state in "CF", "the alarm is already acknowledged"),
            ],
            "reset": [
                (alarm.state == "E", "acknowledge the alarm before resetting it"),
                (alarm.state != "F", "the alarm is not latched"),
            ],
            "shelve": [
                (not asked.reason, "a reason is needed"),
                (shelf_ns <= 0, "shelving must end after it begins"),
                (asked.once and not alarm.active, "the alarm is not active"),
                (shelf_ns > SHELF_S[definition.priority] * SECOND, "longer than this priority may be shelved"),
            ],
            "unacknowledge": [(alarm.state not in "CF", "the alarm is not acknowledged")],
            "unshelve": [(alarm.shelved_until_ns == 0, "the alarm is not shelved")],
            "out-of-service": [
                (not asked.reason, "a reason is needed"),
                (alarm.out_of_service, "the alarm is already out of service"),
            ],
            "in-service": [(not alarm.out_of_service, "the alarm is not out of service")],
        }
        return next((text for wrong, text in rows[asked.verb] if wrong), None)

    def tick(self, elapsed_ns: int) -> None:
        """Let the clock, `elapsed_ns` after the last tick, do what only it does."""
        for name, alarm in self.alarms.items():
            if 0 < alarm.shelved_until_ns <= self.now_ns:
                ended, alarm.shelved_until_ns = alarm.shelved_until_ns, 0
                value = self.places[self.definitions[name].point].value
                self._tell(name, "unshelve", ended, value, reason="time is up")
        for name, alarm in self.alarms.items():
            definition = self.definitions[name]
            again_ns = alarm.acknowledged_ns + round(definition.realarm_s * SECOND)
            if definition.realarm_s and alarm.state == "C" and self.now_ns >= again_ns:
                self._tell(name, "realarm", again_ns, self.places[definition.point].value, reason="still active")
        if elapsed_ns > 5 * SECOND:
            for place in self.places.values():
                place.seen_ns += elapsed_ns
        for name, alarm in self.alarms.items():
            definition = self.definitions[name]
            place = self.places[definition.point]
            told_bad = place.bad and place.time_ns is not None
            if definition.kind is not AlarmKind.STALE or alarm.active or told_bad:
                continue
            gone_ns = place.seen_ns + round(definition.after_s * SECOND)
            if self.now_ns >= gone_ns:
                self._raise(name, gone_ns, nan)
