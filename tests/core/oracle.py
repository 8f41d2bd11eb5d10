"""The alarm engine told again, slowly and plainly: one reading at a time, and nothing that is not in the rules."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isnan, nan
from typing import Final, NamedTuple

from tests.core.oracle_computed import Last, Rule, Unit, rule_of
from tests.core.oracle_detectors import detector_of
from tests.core.oracle_lines import SECOND, is_high
from tests.core.oracle_structure import Group, Instrument, Suppressing, is_bad, is_good
from tocsin_core.plant import AlarmDefinition, AlarmKind, Plant, PlantPoint
from tocsin_core.plant.computed import Balance

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

# How grave an alarm is among those of its side of its point; what is not named here outcries nothing.
GRAVITY: Final = {
    "red": 5,
    "orange": 4,
    "yellow": 3,
    "blue": 2,
    "HH": 3,
    "LL": 3,
    "H": 2,
    "L": 2,
    "time-to-limit": 1,
}
SENSOR_FAILURE: Final = 0x10
HIDING: Final = ("shelve", "unshelve", "out-of-service", "in-service", "suppress", "unsuppress")
# Two people's commands on the same of these, given at two ends, are about the same thing.
ABOUT: Final = {
    "ack": "answer",
    "acknowledge": "answer",
    "unacknowledge": "answer",
    "reset": "answer",
    "shelve": "shelf",
    "unshelve": "shelf",
    "out-of-service": "service",
    "in-service": "service",
}
# By which steps an alarm goes from one state of the standard to another when nothing is known but that it is there.
WAYS: Final = {
    "AB": "raise",
    "AC": "raise acknowledge",
    "AD": "raise return",
    "AE": "raise return-latched",
    "AF": "raise return-latched acknowledge",
    "BA": "return acknowledge",
    "BC": "acknowledge",
    "BD": "return",
    "BE": "return-latched",
    "BF": "return-latched acknowledge",
    "CA": "return",
    "CB": "unacknowledge",
    "CD": "unacknowledge return",
    "CE": "return-latched unacknowledge",
    "CF": "return-latched",
    "DA": "acknowledge",
    "DB": "raise",
    "DC": "raise acknowledge",
    "DE": "raise return-latched",
    "DF": "raise return-latched acknowledge",
    "EA": "acknowledge reset",
    "EB": "raise",
    "EC": "raise acknowledge",
    "ED": "raise return",
    "EF": "acknowledge",
    "FA": "reset",
    "FB": "raise",
    "FC": "raise acknowledge",
    "FD": "raise return",
    "FE": "unacknowledge",
}
# Where an alarm can come to without being raised or called unacknowledged again.
AHEAD: Final = {"A": "A", "B": "ABCDEF", "C": "ACF", "D": "AD", "E": "AEF", "F": "AF"}
COLOURS: Final = {"blue": 1, "yellow": 2, "orange": 3, "red": 4}


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


class Word(NamedTuple):
    """What the other end tells of an alarm that it decides; `event` is None for a refusal."""

    alarm: str
    event: str | None
    time_ns: int
    value: float
    state: str
    onset_ns: int
    until_ns: int
    once: bool
    out_of_service: bool
    suppressed: bool
    who: str
    reason: str
    answers: bool


@dataclass
class Alarm:
    """What is known of one alarm; `decider` is "here", "elsewhere", or "here until told"."""

    state: str = "A"
    active: bool = False
    since_ns: int | None = None
    onset_ns: int = 0
    shelved_until_ns: int = 0
    once: bool = False
    acknowledged_ns: int = 0
    out_of_service: bool = False
    suppressed: bool = False
    unseen: bool = False
    stood: bool = False
    decider: str = "here"
    commanded_ns: dict[str, int] = field(default_factory=dict)
    told_ns: int = -1


Made = tuple[int, int, float | None, int]  # computed point, time, value, quality


@dataclass
class Place:
    """What is known of one point."""

    seen_ns: int
    time_ns: int | None = None
    value: float = nan
    bad: bool = True


class Oracle:
    """The engine of one plant."""

    def __init__(self, plant: Plant, now_ns: int) -> None:
        """Nothing has been seen; the first silence counts from 50 s after `now_ns`."""
        self.now_ns = now_ns
        self.points = plant.points
        self.alarms = {d.id: Alarm() for point in plant.points for d in point.definitions}
        self.places = {point.id: Place(now_ns + 50 * SECOND) for point in plant.points}
        self.definitions = {d.id: d for point in plant.points for d in point.definitions}
        self.rough = {point.id for point in plant.points if isinstance(point.compute, Balance)}
        self.detectors = {
            d.id: detector_of(d, point.decimals, rough=point.id in self.rough)
            for point in plant.points
            for d in point.definitions
        }
        self.suppressing = {d.id: Suppressing(d.suppressed_by) for d in self.definitions.values() if d.suppressed_by}
        self.instruments = {p.id: Instrument(p.mode_source) for p in plant.points if p.mode_source is not None}
        units = {point.id: point.unit for point in plant.points}
        rules = {point.id: rule_of(point, units, plant.models, self._grade_of) for point in plant.points}
        self.rules: dict[str, Rule] = {name: rule for name, rule in rules.items() if rule is not None}
        self.lasts: dict[str, Last] = {}
        numbers = {name: number for number, name in enumerate(self.definitions)}
        self.groups = [Group(name, members, numbers) for name, members in plant.first_out.items()]
        self.told: list[Told] = []
        self.computed: list[Made] = []
        self.late = 0

    def now(self, now_ns: int) -> int | None:
        """Take the time of a step; the nanoseconds since the last one, or None where it went back."""
        elapsed = now_ns - self.now_ns
        self.now_ns = max(self.now_ns, now_ns)
        return elapsed if elapsed >= 0 else None

    def read(self, index: int, time_ns: int, value: float, quality: int) -> None:
        """Take one reading of point number `index`, and what it makes of computed points."""
        if not 0 <= index < len(self.points):
            return
        point = self.points[index]
        last_ns = self.places[point.id].time_ns
        if last_ns is not None and time_ns <= last_ns:
            self.late += 1
            return
        for d in point.definitions:
            if d.kind is AlarmKind.LOOP and not is_bad(quality) and not isnan(value):
                current = 4.0 + 16.0 * (value - d.low) / (d.high - d.low)
                quality = SENSOR_FAILURE if current <= 3.601 or current >= 20.999 else quality
        if point.id in self.instruments:
            quality = self.instruments[point.id].quality(time_ns, quality)
        self._take(point, time_ns, value, quality, "")
        for other in self.points:
            rule = self.rules.get(other.id)
            made = rule.after(point.id, self.lasts) if rule is not None and point.id in rule.members else None
            if made is not None:
                before_ns = self.places[other.id].time_ns
                at_ns = time_ns if before_ns is None else max(time_ns, before_ns + 1)
                self.computed.append((other.index, at_ns, None if isnan(made.value) else made.value, made.quality))
                self._take(other, at_ns, made.value, made.quality, made.why)

    def _take(self, point: PlantPoint, time_ns: int, value: float, quality: int, why: str) -> None:
        """Take a reading that is not late: `why` is the reason of what it raises."""
        place = self.places[point.id]
        good, bad = is_good(quality), is_bad(quality)
        place.time_ns, place.value, place.bad, place.seen_ns = time_ns, value, bad, self.now_ns
        for d in point.definitions:
            self._suppress(d, time_ns, value)
        told_before = len(self.told)
        for d in point.definitions:
            alarm, detector = self.alarms[d.id], self.detectors[d.id]
            if detector is not None:
                detector.take(time_ns, value, good=good)
            if d.kind is AlarmKind.BAD:
                condition: bool | None = not good
            elif d.kind is AlarmKind.STALE:
                condition = False
            elif d.kind is AlarmKind.LOOP and not good and detector is not None:
                condition = detector.said() or None
            elif not good:
                if alarm.active:
                    alarm.since_ns = None
                continue
            elif detector is None:
                rule = self.rules.get(point.id)
                condition = isinstance(rule, Unit) and rule.alarm
            else:
                condition = detector.said()
            self._delay(d, alarm, condition, time_ns, value, why)
        self._answer(self.told[told_before:])
        self._unshelve(point.definitions, self.told[told_before:])
        self._hear(point, Last(time_ns, value, quality, self.now_ns))

    def _hear(self, point: PlantPoint, last: Last) -> None:
        """Let all that depends on the readings of `point` know of this one."""
        self.lasts[point.id] = last
        for suppressing in self.suppressing.values():
            if suppressing.by.point == point.id:
                suppressing.hear(*last[:3])
        for instrument in self.instruments.values():
            if instrument.source.point == point.id:
                instrument.hear(*last[:3])

    def _suppress(self, d: AlarmDefinition, time_ns: int, value: float) -> None:
        """Begin or end the suppression by design of `d`."""
        alarm = self.alarms[d.id]
        if d.id not in self.suppressing or self.suppressing[d.id].suppresses(time_ns) == alarm.suppressed:
            return
        if alarm.decider != "here":
            return
        alarm.suppressed, alarm.unseen = not alarm.suppressed, False
        self._tell(d.id, "suppress" if alarm.suppressed else "unsuppress", time_ns, value)

    def _grade_of(self, name: str) -> int:
        """The highest colour of the point's standing alarms."""
        point = next(point for point in self.points if point.id == name)
        standing = [COLOURS.get(d.kind, 0) for d in point.definitions if self.alarms[d.id].active]
        return max(standing, default=0)

    def _unshelve(self, definitions: Sequence[AlarmDefinition], told: list[Told]) -> None:
        """End the shelves of those that returned, if one-shot, and of those that a worse one now outcries."""
        returned = {each.alarm: each for each in told if each.event in ("return", "return-latched")}
        raised = [each for each in told if each.event == "raise" and not each.suppressed]
        for d in definitions:
            alarm = self.alarms[d.id]
            if not alarm.shelved_until_ns or alarm.decider == "elsewhere":
                continue
            worse = [each for each in raised if _outcries(self.definitions[each.alarm], d)]
            if alarm.once and d.id in returned:
                cause, reason = returned[d.id], "the alarm has returned"
            elif worse:
                cause, reason = worse[0], "a worse alarm of the point was raised"
            else:
                continue
            alarm.shelved_until_ns = 0
            self._tell(d.id, "unshelve", cause.time_ns, nan if cause.value is None else cause.value, reason=reason)

    def _answer(self, told: Sequence[Told]) -> None:
        """End what has returned and was suppressed by design from its raising on: nobody has seen it."""
        for each in told:
            alarm = self.alarms[each.alarm]
            if each.event in ("return", "return-latched") and alarm.unseen:
                value, reason = nan if each.value is None else each.value, "suppressed by design all the while"
                for event in ("acknowledge", "reset"):
                    if (alarm.state, event) in STANDARD:
                        self._tell(each.alarm, event, each.time_ns, value, reason=reason)
                alarm.unseen = False

    def _delay(
        self,
        d: AlarmDefinition,
        alarm: Alarm,
        condition: bool | None,  # noqa: FBT001 - it is the condition
        time_ns: int,
        value: float,
        why: str,
    ) -> None:
        if condition is None or condition == alarm.active:
            alarm.since_ns = None
            return
        if alarm.since_ns is None:
            alarm.since_ns = time_ns
        wanted_s = d.off_delay_s if alarm.active else d.on_delay_s
        if d.kind is AlarmKind.BAD and not alarm.active and not self.places[d.point].bad:
            wanted_s = d.after_s
        late_ns = time_ns - alarm.since_ns - round(wanted_s * SECOND)
        if late_ns < 0:
            return
        if alarm.decider == "elsewhere":
            if alarm.active or late_ns <= 10 * SECOND:
                return
            alarm.decider = "here until told"
        if time_ns <= alarm.told_ns:
            return
        alarm.since_ns = None
        if alarm.active:
            alarm.active = False
            self._tell(d.id, "return-latched" if d.latching else "return", time_ns, value)
        else:
            self._raise(d.id, time_ns, value, why)

    def _raise(self, name: str, time_ns: int, value: float, why: str = "") -> None:
        alarm = self.alarms[name]
        replaced = 0 if alarm.state == "A" else alarm.onset_ns
        alarm.active, alarm.unseen = True, alarm.suppressed
        alarm.onset_ns = time_ns
        self._tell(name, "raise", time_ns, value, replaced=replaced, reason=why)

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
            assert event in HIDING, (before, event)
        hidden = alarm.shelved_until_ns != 0 or alarm.out_of_service or alarm.suppressed
        if event == "raise" and not hidden:
            first = [f"first out of {group.name}" for group in self.groups if group.is_first(name, alarm.onset_ns)]
            reason = "; ".join([reason, *first] if reason else first)
        stood, alarm.stood = alarm.stood, alarm.state != "A" and not alarm.unseen and not alarm.out_of_service
        if stood and not alarm.stood:
            for group in self.groups:
                if name in group.members and not any(self.alarms[each].stood for each in group.members):
                    group.rest(time_ns)
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
        alarm.commanded_ns[ABOUT[asked.verb]] = asked.at_ns
        value = self.places[definition.point].value
        event = "acknowledge" if asked.verb == "ack" else asked.verb
        self._tell(asked.alarm, event, asked.at_ns, value, who=asked.who, reason=asked.reason)
        return None

    def decide(self, alarms: Sequence[str], *, elsewhere: bool, at_ns: int) -> None:
        """Let the other end decide `alarms` from now on, or this one again."""
        for alarm in (self.alarms[name] for name in alarms):
            if not elsewhere:
                alarm.decider = "here"
            elif alarm.decider != "here" and alarm.active:
                alarm.decider = "here until told"
            elif alarm.decider != "here":
                if alarm.decider == "elsewhere":
                    alarm.since_ns = None
                if alarm.since_ns is None:
                    alarm.decider = "elsewhere"
            else:
                waits = alarm.active or alarm.since_ns is not None
                alarm.decider = "here until told" if waits else "elsewhere"
                alarm.told_ns = -1
                hidden = {"shelf": alarm.shelved_until_ns > 0, "service": alarm.out_of_service}
                asked = {"answer": alarm.state == "C"} | hidden
                alarm.commanded_ns = {about: at_ns + late for late, (about, so) in enumerate(asked.items()) if so}

    def hear(self, word: Word) -> None:
        """Move an alarm to where the other end says that it is."""
        alarm = self.alarms[word.alarm]
        if self.definitions[word.alarm].kind is AlarmKind.STALE:
            return
        if word.answers:
            alarm.commanded_ns = {about: at for about, at in alarm.commanded_ns.items() if at != word.time_ns}
        if word.event == "raise" or 0 < word.onset_ns >= alarm.onset_ns:
            self._take_word(word, alarm)
        if self._counts(word, "shelf"):
            begins = word.event == "shelve" and not (word.answers and not alarm.shelved_until_ns)
            over = word.until_ns <= self.now_ns and not begins
            shelved, wanted = (alarm.shelved_until_ns, alarm.once), (0 if over else word.until_ns, word.once)
            if wanted[0] and shelved != wanted:
                alarm.shelved_until_ns, alarm.once = wanted
                self._repeat(word, "shelve")
            elif shelved[0] and not wanted[0]:
                alarm.shelved_until_ns = 0
                self._repeat(word, "unshelve")
        if self._counts(word, "service") and word.out_of_service != alarm.out_of_service:
            alarm.out_of_service = word.out_of_service
            self._repeat(word, "out-of-service" if word.out_of_service else "in-service")
        if alarm.decider != "here" and word.alarm in self.suppressing and word.suppressed != alarm.suppressed:
            alarm.suppressed, alarm.unseen = word.suppressed, False
            self._repeat(word, "suppress" if word.suppressed else "unsuppress")

    def _take_word(self, word: Word, alarm: Alarm) -> None:
        ours = alarm.decider == "here"
        if not ours:
            alarm.decider = "elsewhere"
        moved = self._go(word, alarm)
        if ours and moved and word.event in ("raise", "return", "return-latched"):
            alarm.told_ns = min(word.time_ns, self.now_ns + 5 * SECOND)

    def _counts(self, word: Word, about: str) -> bool:
        """Whether nothing of this end stands against the word: no command is on its way, or the word is a later one's.

        What hides an alarm that is decided here is this end's, whatever the other has; but for what was asked there.
        """
        alarm = self.alarms[word.alarm]
        commanded_ns = alarm.commanded_ns.get(about, 0)
        if ABOUT.get(word.event or "") == about:
            asked = bool(word.who) or word.answers
            return commanded_ns <= (word.time_ns if asked else 0)
        return commanded_ns == 0 and (about == "answer" or alarm.decider != "here")

    def _repeat(self, word: Word, event: str) -> None:
        self._tell(word.alarm, event, word.time_ns, word.value, who=word.who, reason=word.reason)

    def _go(self, word: Word, alarm: Alarm) -> bool:
        """Bring the alarm to the occurrence and the state of the word; whether it was not there."""
        target, definition = word.state, self.definitions[word.alarm]
        turning = word.event in ("return", "return-latched")
        steps: list[str] = []
        if word.onset_ns != alarm.onset_ns:
            alarm.commanded_ns.pop("answer", None)
            if alarm.active:
                steps.append("return-latched" if definition.latching else "return")
            steps.append("raise")
            alarm_after = "B"
        else:
            alarm_after = alarm.state
            if not self._counts(word, "answer"):
                target = STANDARD.get((alarm.state, str(word.event)), alarm.state) if turning else alarm.state
            elif alarm.decider == "here" and (target not in AHEAD[alarm.state] or not word.who):
                known = word.event in ("raise", None) or (word.event in ("acknowledge", "reset") and not word.who)
                target = alarm.state if known else STANDARD.get((alarm.state, str(word.event)), alarm.state)
        if alarm_after != target:
            direct = STANDARD.get((alarm_after, str(word.event))) == target
            steps += [str(word.event)] if direct else WAYS[alarm_after + target].split()
        told_before = len(self.told)
        for step in steps:
            self._go_on(word, alarm, step)
        if steps:
            alarm.active, alarm.since_ns = target in "BC", None
        if steps and alarm.decider == "here":
            self._answer(self.told[-1:])
        beside = next(point.definitions for point in self.points if point.id == definition.point)
        self._unshelve(beside, self.told[told_before:])
        return bool(steps)

    def _go_on(self, word: Word, alarm: Alarm, step: str) -> None:
        own = step == word.event
        replaced, time_ns = 0, word.time_ns if own else max(word.time_ns, alarm.onset_ns)
        value = word.value if own else nan
        if step == "raise":
            replaced = 0 if alarm.state == "A" or alarm.onset_ns == word.onset_ns else alarm.onset_ns
            alarm.onset_ns, alarm.unseen = word.onset_ns, alarm.suppressed
            time_ns = max(word.time_ns, word.onset_ns) if own else word.onset_ns
        if step == "acknowledge":
            alarm.acknowledged_ns = word.time_ns
        who, reason = (word.who, word.reason) if own else ("", "")
        self._tell(word.alarm, step, time_ns, value, replaced=replaced, who=who, reason=reason)

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

    def _forgive(self, pause_ns: int) -> None:
        """Nobody listened for so long: it makes no reading older."""
        self.lasts = {name: last._replace(heard_ns=last.heard_ns + pause_ns) for name, last in self.lasts.items()}
        for rule in self.rules.values():
            if isinstance(rule, Unit):
                rule.before = {
                    name: last._replace(heard_ns=last.heard_ns + pause_ns) for name, last in rule.before.items()
                }

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
            hidden = alarm.shelved_until_ns != 0 or alarm.out_of_service or alarm.suppressed
            if definition.realarm_s and alarm.state == "C" and self.now_ns >= again_ns and not hidden:
                at_ns = self.now_ns if again_ns <= self.now_ns - elapsed_ns else again_ns
                self._tell(name, "realarm", at_ns, self.places[definition.point].value, reason="still active")
        if elapsed_ns > 5 * SECOND:
            for place in self.places.values():
                place.seen_ns += elapsed_ns - 5 * SECOND
            self._forgive(elapsed_ns - 5 * SECOND)
        for name, alarm in self.alarms.items():
            definition = self.definitions[name]
            place = self.places[definition.point]
            of_bad = self.alarms.get(f"{definition.point}/bad")
            told_bad = place.bad and of_bad is not None and of_bad.active
            if definition.kind is not AlarmKind.STALE or alarm.active or told_bad:
                continue
            gone_ns = place.seen_ns + round(definition.after_s * SECOND)
            if self.now_ns >= gone_ns:
                self._raise(name, gone_ns, nan)


def _outcries(one: AlarmDefinition, other: AlarmDefinition) -> bool:
    """Whether an alarm is worse than another on the same side of its point."""
    return 0 < GRAVITY.get(other.kind, 0) < GRAVITY.get(one.kind, 0) and is_high(one) == is_high(other)
