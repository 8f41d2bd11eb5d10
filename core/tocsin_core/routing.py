"""Who is told of which alarm, when and why, and when the calling stops: a call chain per hazard source."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import blake2b
from typing import Final
from zoneinfo import ZoneInfo

from tocsin_core.lifecycle import Event
from tocsin_core.plant import Priority
from tocsin_core.plant.model import PlantFile, Roster
from tocsin_core.rules import NS
from tocsin_core.tickets import AlarmEvent
from tocsin_core.wording import message_body, message_subject

# An SMS gateway takes a few hundred characters and a reader fewer: the rest of a flood is a number.
MOST_LINES: Final = 20


class RoutingReason(StrEnum):
    """Why a message is sent."""

    RAISED = "first alarm of its place"
    WORSE = "a graver alarm while the chain is running"
    ESCALATED = "nobody has acknowledged"
    REPEATED = "nobody has acknowledged the last step"
    UNSHELVED = "an unacknowledged alarm came off the shelf"


@dataclass(frozen=True, slots=True)
class PlannedMessage:
    """One message to one person over one channel (an Apprise address) at `due_ns`.

    `id` is the same however often it is planned.
    """

    id: str
    chain: str
    occurrence: str
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
    """Messages to put into the outbox, and the chains whose waiting messages are to be cancelled."""

    messages: tuple[PlannedMessage, ...]
    cancel: tuple[str, ...]


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


def message_id(*parts: object) -> str:
    """16 hex digits of what makes a message the one it is."""
    return blake2b("|".join(map(str, parts)).encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class _Call:
    chain: str
    occurrence: str
    subject: str
    body: str


def _step_messages(
    file: PlantFile, call: _Call, step: int, repeat: int, due_ns: int, reason: RoutingReason
) -> list[PlannedMessage]:
    return [
        PlannedMessage(
            message_id(call.chain, call.occurrence, step, repeat, person, channel),
            call.chain, call.occurrence, step, repeat, person, channel, due_ns, call.subject, call.body, reason,
        )
        for person, channel in _recipients(file, file.notify.steps[step].to, due_ns)
    ]  # fmt: skip


def _call(file: PlantFile, chain: str, events: Sequence[AlarmEvent]) -> _Call:
    """The words of one call: the first-out (by event time) on top, then the rest, gravest first."""
    first, *rest = sorted(events, key=lambda event: event.time_ns)
    rest.sort(key=lambda event: -event.priority.rank)
    lines = [event.message for event in (first, *rest[: MOST_LINES - 1])]
    when = (
        datetime.fromtimestamp(first.time_ns / NS, tz=UTC)
        .astimezone(ZoneInfo(file.site.timezone))
        .strftime("%Y-%m-%d %H:%M:%S")
    )
    return _Call(
        chain,
        first.occurrence,
        message_subject(file.site.name, first.message, len(rest)),
        message_body(file.site.name, lines, when, len(events) - len(lines)),
    )


def _told(event: AlarmEvent, file: PlantFile) -> bool:
    """Whether `event` is one that people are told of: a raising, or an alarm that comes off the shelf unanswered."""
    if event.suppressed or event.priority.rank < file.notify.min_priority.rank:
        return False
    return event.event is Event.RAISE or (event.event is Event.UNSHELVE and event.unanswered)


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


def decide(
    events: Sequence[AlarmEvent],
    unacknowledged: Mapping[str, int],
    running: Mapping[str, Priority],
    file: PlantFile,
    now_ns: int,
) -> RoutingDecision:
    """What `events` (in order, already applied) do to the calling.

    `unacknowledged` counts, by place, the told alarms that wait for an answer after these events; `running` gives the
    gravest priority already called for in each place whose chain is running. A first alarm starts a chain: every step
    of `notify` is planned, each due so long after `now_ns`. While it runs, only a graver alarm is told at once; the
    rest is seen by whoever answers. Once nothing in the place is left to acknowledge, what waits is cancelled.
    """
    fresh: dict[str, list[AlarmEvent]] = {}
    for event in events:
        if unacknowledged.get(event.place) and _told(event, file):
            fresh.setdefault(event.place, []).append(event)
    messages: list[PlannedMessage] = []
    for chain, group in fresh.items() if file.notify.steps else ():
        if chain not in running:
            reason = RoutingReason.RAISED if group[0].event is Event.RAISE else RoutingReason.UNSHELVED
            messages += _start(file, _call(file, chain, group), reason, now_ns)
        elif graver := [event for event in group if event.priority.rank > running[chain].rank]:
            messages += _step_messages(file, _call(file, chain, graver), 0, 0, now_ns, RoutingReason.WORSE)
    touched = dict.fromkeys(event.place for event in events)
    return RoutingDecision(tuple(messages), tuple(chain for chain in touched if not unacknowledged.get(chain)))


def follow_up(last: PlannedMessage, unacknowledged: int, file: PlantFile, now_ns: int) -> list[PlannedMessage]:
    """Plan the last step again in `notify.repeat_s` after a message of it went out, until somebody answers.

    Every message of the step plans the same ones, to whoever is on duty by then; their ids make them one.
    """
    if not unacknowledged or last.step != len(file.notify.steps) - 1:
        return []
    due = now_ns + round(file.notify.repeat_s * NS)
    call = _Call(last.chain, last.occurrence, last.subject, last.body)
    return _step_messages(file, call, last.step, last.repeat + 1, due, RoutingReason.REPEATED)
