"""Who is told of which alarm, when and why, and when the calling stops: a call chain per hazard source."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import blake2b
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from tocsin_core.lifecycle import Event
from tocsin_core.plant import Priority, Text
from tocsin_core.plant.model import Notify, PlantFile, Roster
from tocsin_core.rules import NS
from tocsin_core.tickets import AlarmEvent
from tocsin_core.wording import message_body, message_subject

# An SMS gateway takes a few hundred characters and a reader fewer: the rest of a flood is a number.
MOST_LINES: Final = 20
# A way to people that was away for longer than a message is tried may be back any moment.
IN_VAIN_S: Final = 60.0


class RoutingReason(StrEnum):
    """Why a message is sent."""

    RAISED = "first alarm of its place"
    WORSE = "a graver alarm while the chain is running"
    ESCALATED = "nobody has acknowledged"
    REPEATED = "nobody has acknowledged the last step"
    REALARMED = "an acknowledged alarm is still active"
    UNACKNOWLEDGED = "an acknowledgement was taken back"
    UNSHELVED = "an unacknowledged alarm came off the shelf"
    SHOWN = "an unacknowledged alarm is no longer suppressed"


@dataclass(frozen=True, slots=True)
class PlannedMessage:
    """One message to one person over one channel (an Apprise address) at `due_ns`.

    `id` is the same however often it is planned. `round_ns` tells the callings about one occurrence apart: 0 for that
    of its raising, else the event time of the transition that made it ask again.
    """

    id: str
    chain: str
    occurrence: str
    round_ns: int
    step: int
    repeat: int
    to: str
    channel: str
    due_ns: int
    subject: str
    body: str
    reason: RoutingReason


@dataclass(frozen=True, slots=True)
class RoutingDecision:
    """The chains whose waiting messages are to be cancelled, and then the messages to put into the outbox."""

    cancel: tuple[str, ...]
    messages: tuple[PlannedMessage, ...]


def on_duty(roster: Roster, at_ns: int, timezone: str) -> tuple[str, ...]:
    """The people of `roster` whose shift covers the wall-clock time of `at_ns` at the site; a shift may pass midnight.

    Local wall-clock times are compared, so a day with a clock change keeps its shifts and has no gap.
    """
    now = datetime.fromtimestamp(at_ns / NS, tz=UTC).astimezone(ZoneInfo(timezone)).strftime("%H:%M")
    found: dict[str, None] = {}
    for shift in roster.shifts:
        if shift.covers(now):
            found.update(dict.fromkeys(shift.people))
    return tuple(found)


def _recipients(file: PlantFile, names: Sequence[str], at_ns: int) -> list[tuple[str, str]]:
    """(person, channel) for each person or roster in `names`, each person once, all of their channels."""
    rosters = {roster.id: roster for roster in file.rosters}
    channels = {person.id: person.channels for person in file.people}
    people: dict[str, None] = {}
    for name in names:
        people.update(dict.fromkeys(on_duty(rosters[name], at_ns, file.site.timezone) if name in rosters else (name,)))
    return [(person, channel) for person in people for channel in channels[person]]


def reached(file: PlantFile) -> tuple[str, ...]:
    """Every channel by which somebody may be called, whoever is on duty when."""
    shifts = {roster.id: roster.shifts for roster in file.rosters}
    named = [name for step in file.notify.steps for name in step.to]
    people = {person for name in named for shift in shifts.get(name, ()) for person in shift.people} | set(named)
    return tuple(channel for person in file.people if person.id in people for channel in person.channels)


def message_id(*parts: object) -> str:
    """16 hex digits of what makes a message the one it is."""
    return blake2b("|".join(map(str, parts)).encode(), digest_size=8).hexdigest()


def awaits_answer(priority: Priority, notify: Notify, *, unanswered: bool, suppressed: bool) -> bool:
    """Whether people are told of an alarm and none has answered yet: what starts a calling and keeps it going.

    `unanswered` says whether its phase asks for an acknowledgement, `suppressed` whether it is hidden from the
    operator: shelved, out of service or suppressed by design.
    """
    return unanswered and not suppressed and priority.rank >= notify.min_priority.rank


class Asking(NamedTuple):
    """What waits for an answer, raised at `time_ns`."""

    occurrence: str
    priority: Priority
    time_ns: int
    message: Text


@dataclass(frozen=True, slots=True)
class _Call:
    chain: str
    occurrence: str
    round_ns: int
    subject: str
    body: str


def _step_messages(
    file: PlantFile, call: _Call, step: int, repeat: int, due_ns: int, reason: RoutingReason
) -> list[PlannedMessage]:
    # Nothing is added for a raising, so that a chain that is running goes on under the ids it began with.
    again = (call.round_ns,) if call.round_ns else ()
    return [
        PlannedMessage(
            message_id(call.chain, call.occurrence, step, repeat, person, channel, *again),
            call.chain, call.occurrence, call.round_ns, step, repeat, person, channel, due_ns, call.subject, call.body,
            reason,
        )
        for person, channel in _recipients(file, file.notify.steps[step].to, due_ns)
    ]  # fmt: skip


def _call(file: PlantFile, chain: str, events: Sequence[AlarmEvent]) -> tuple[_Call, RoutingReason]:
    """One call, and why it is made."""
    first = min(events, key=lambda event: event.time_ns)
    # The id of an occurrence holds when it was raised: only what follows needs telling apart.
    round_ns = 0 if first.event is Event.RAISE and not first.again else first.time_ns
    return _worded(file, chain, events, round_ns), _REASONS.get(first.event, RoutingReason.SHOWN)


def _worded(file: PlantFile, chain: str, asking: Sequence[AlarmEvent | Asking], round_ns: int) -> _Call:
    """The words of one call: the first-out (by event time) on top, then the rest, gravest first."""
    first, *rest = sorted(asking, key=lambda each: each.time_ns)
    rest.sort(key=lambda each: -each.priority.rank)
    lines = [each.message for each in (first, *rest[: MOST_LINES - 1])]
    when = (
        datetime.fromtimestamp(first.time_ns / NS, tz=UTC)
        .astimezone(ZoneInfo(file.site.timezone))
        .strftime("%Y-%m-%d %H:%M:%S")
    )
    return _Call(
        chain,
        first.occurrence,
        round_ns,
        message_subject(file.site.name, first.message, len(rest)),
        message_body(file.site.name, lines, when, len(asking) - len(lines)),
    )


_REASONS: Final = {
    Event.RAISE: RoutingReason.RAISED,
    Event.REALARM: RoutingReason.REALARMED,
    Event.UNACKNOWLEDGE: RoutingReason.UNACKNOWLEDGED,
    Event.UNSHELVE: RoutingReason.UNSHELVED,
}


def _start(file: PlantFile, call: _Call, reason: RoutingReason, now_ns: int) -> list[PlannedMessage]:
    """Every step of a new chain, each due so long after `now_ns`."""
    return [
        message
        for number, step in enumerate(file.notify.steps)
        for message in _step_messages(
            file,
            call,
            number,
            0,
            now_ns + round(step.after_s * NS),
            reason if number == 0 else RoutingReason.ESCALATED,
        )
    ]


@dataclass(slots=True)
class _Place:
    """One place on its way through a batch: who asks there, whether a chain runs, and what is to be told."""

    asking: dict[str, Priority]
    starts: bool
    called: int  # rank of the gravest alarm that was called for when the batch began
    ended: bool = False
    fresh: dict[str, AlarmEvent] = field(default_factory=dict)

    def take(self, event: AlarmEvent, notify: Notify) -> None:
        """Let `event` start to ask, go on asking, or be answered; the last answer ends the chain."""
        asked = event.alarm in self.asking
        if awaits_answer(event.priority, notify, unanswered=event.unanswered, suppressed=event.suppressed):
            self.asking[event.alarm] = event.priority
            if not asked and (self.starts or event.priority.rank > self.called):
                self.fresh[event.alarm] = event
        elif asked:
            del self.asking[event.alarm]
            self.fresh.pop(event.alarm, None)
            if not self.asking:
                self.starts = self.ended = True


def decide(
    events: Sequence[AlarmEvent], waiting: Mapping[str, Mapping[str, Priority]], file: PlantFile, now_ns: int
) -> RoutingDecision:
    """What `events` (in order) do to the calling.

    `waiting` gives, by place and alarm, what waited for an answer before them (`awaits_answer`): where anything does, a
    chain is running. An alarm that begins to ask (raised, re-alarmed, its acknowledgement taken back, no longer hidden)
    starts one: every step of `notify` is planned, each due so long after `now_ns`. While it runs, only a graver alarm
    is told at once; the rest is seen by whoever answers. Once nothing in the place is left to answer, what waits is
    cancelled, and the next alarm that asks starts anew, also within `events`.
    """
    places: dict[str, _Place] = {}
    for event in events:
        place = places.get(event.place)
        if place is None:
            asking = dict(waiting.get(event.place, {}))
            called = max((priority.rank for priority in asking.values()), default=-1)
            place = places[event.place] = _Place(asking, not asking, called)
        place.take(event, file.notify)
    messages: list[PlannedMessage] = []
    for chain, place in places.items() if file.notify.steps else ():
        if not place.fresh:
            continue
        call, reason = _call(file, chain, tuple(place.fresh.values()))
        if place.starts:
            messages += _start(file, call, reason, now_ns)
        else:
            messages += _step_messages(file, call, 0, 0, now_ns, RoutingReason.WORSE)
    return RoutingDecision(tuple(chain for chain, place in places.items() if place.ended), tuple(messages))


def reworded(message: str, asking: Sequence[Asking], file: PlantFile) -> tuple[str, str] | None:
    """Subject and body for whoever is called next, where the body `message` says too little; None where it does not.

    That is where something graver asks by now than all that it tells of, or nothing that it tells of asks any more.
    """
    lines = message.splitlines()
    # Each alarm has its line, in which what lay behind it may follow; the name of one may end as another's is.
    told = [each.priority.rank for each in asking if any(line.startswith(each.message.zh) for line in lines)]
    if told and max(told) == max(each.priority.rank for each in asking):
        return None
    call = _worded(file, "", asking, 0)
    return call.subject, call.body


def resumed(chain: str, asking: Sequence[Asking], file: PlantFile, now_ns: int) -> list[PlannedMessage]:
    """Every step of a calling about what asks in a place where nobody is called, though the plant file says so.

    Its steps were others, or nobody was to be called of such an alarm, when it was raised.
    """
    return _start(file, _worded(file, chain, asking, now_ns), RoutingReason.ESCALATED, now_ns)


def rerouted(message: PlannedMessage, file: PlantFile) -> list[PlannedMessage]:
    """What takes the place of a message whose person has another address now, or is no more in the plant file.

    The messages of its step to whoever is on duty: those that were planned already have the same ids.
    """
    if message.step >= len(file.notify.steps):
        return []
    call = _Call(message.chain, message.occurrence, message.round_ns, message.subject, message.body)
    return _step_messages(file, call, message.step, message.repeat, message.due_ns, message.reason)


def follow_up(last: PlannedMessage, file: PlantFile, now_ns: int, *, in_vain: bool = False) -> list[PlannedMessage]:
    """Plan the last step again in `notify.repeat_s` after a message of it went out and nobody has answered.

    Where all of the step was `in_vain` it is a minute at most: nobody was disturbed, and nobody knows. Every message of
    the step plans the same ones, to whoever is on duty by then; their ids make them one.
    """
    if last.step != len(file.notify.steps) - 1:
        return []
    wait_s = min(file.notify.repeat_s, IN_VAIN_S) if in_vain else file.notify.repeat_s
    due = now_ns + round(wait_s * NS)
    call = _Call(last.chain, last.occurrence, last.round_ns, last.subject, last.body)
    return _step_messages(file, call, last.step, last.repeat + 1, due, RoutingReason.REPEATED)
