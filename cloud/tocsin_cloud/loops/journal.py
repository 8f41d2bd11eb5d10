"""What the alarms worker commits in one transaction: transitions, tickets, messages, answers and its position."""

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from math import isfinite
from types import SimpleNamespace
from typing import Any, Final, NamedTuple

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from tocsin_cloud.adapters.sql import models as sql
from tocsin_cloud.adapters.sql.bulk import put
from tocsin_cloud.adapters.stream import START, Position
from tocsin_cloud.loops.aside import Aside, occurrences_of, write_beside
from tocsin_cloud.loops.commanded import note_commands
from tocsin_cloud.loops.delegation import GatewayOrder, Words
from tocsin_cloud.loops.disagreeing import Standing
from tocsin_cloud.loops.orders import note_answers, put_orders, withdraw
from tocsin_cloud.loops.outbox import CHUNK, Waiting, end_calls, put_in, waiting
from tocsin_cloud.loops.reasons import because, with_reasons
from tocsin_cloud.loops.steps import transition_row
from tocsin_core import routing, tickets
from tocsin_core.engine import Transition, occurrence_id
from tocsin_core.journal import Entry
from tocsin_core.lifecycle import TURNS, UNANSWERED, Event, Phase
from tocsin_core.plant import AlarmDefinition, AlarmKind, Plant, PlantPoint, Text
from tocsin_core.rules import Rules
from tocsin_core.tickets import AlarmEvent, TicketAction, TicketPolicy, TicketState
from tocsin_core.wording import alarm_message

HOUR_S: Final = 3600.0
# Of more places than these all open tickets are looked at: so many names in a question cost as much.
FEW_PLACES: Final = 20
NO_LONGER_WATCHED: Final = "no longer watched"
# What is in no table yet has the same attributes, and none of the watch that SQLAlchemy keeps on those of its own: of a
# flood of alarms that is the dearest part.
Row = sql.Occurrence | SimpleNamespace


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a person's command."""

    id: str
    position: int
    verb: str
    occurrence: str | None
    alarm: str | None
    who: str
    reason: str | None
    accepted: bool
    answer: str
    at_ns: int


class Step(NamedTuple):
    """A transition, its place in the stream, and whether its alarm is shelved or out of service after it.

    `shelved_once` if the shelf ends with the alarm's return.
    `timely` if a reading brought it that was on its way no longer than it had to be: then its latency means something.
    """

    transition: Transition
    position: Position
    timely: bool
    shelved_until_ns: int | None
    shelved_once: bool
    out_of_service: bool


@dataclass(slots=True)
class Batch:
    """What a stretch of the stream led to."""

    position: Position
    steps: list[Step] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    words: list[Words] = field(default_factory=list)
    orders: list[GatewayOrder] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Whether there is more to commit than the position."""
        return bool(self.steps or self.answers or self.words)


@dataclass(frozen=True, slots=True)
class Progress:
    """The last message whose consequences are committed; what was computed up to `computed` is in the stream again."""

    position: Position
    computed: int


@dataclass(slots=True)
class Committed:
    """What listeners are told after the commit: ids, each once, in order."""

    occurrences: dict[str, None] = field(default_factory=dict)
    tickets: dict[str, None] = field(default_factory=dict)
    messages: dict[str, None] = field(default_factory=dict)
    latencies_ns: list[int] = field(default_factory=list)


class Journal:
    """Writes batches of one partition."""

    def __init__(self, plant: Plant, rules: Rules, partition: int) -> None:
        """Write what the rules of `plant` led to."""
        self._plant = plant
        self._rules = rules
        self._partition = partition
        self._aside = Aside(plant, rules)
        self._sources: dict[str, Text] = {source.id: source.name for source in plant.file.hazard_sources}
        self._groups = {group.id: group.name for group in plant.file.first_out}
        setting = plant.file.tickets
        self._policy = TicketPolicy(
            setting.min_priority, setting.deadline_h * HOUR_S, setting.liable, plant.site.timezone
        )

    async def record(self, session: AsyncSession, batch: Batch, computed: int, committed_ns: int) -> Committed:
        """Put `batch` into the transaction of `session`, which only the partition's worker may commit.

        What was computed up to the message `computed` is in the stream again.
        """
        await _note_progress(session, self._partition, Progress(batch.position, computed))
        done = Committed()
        await put(session, sql.Command, [_command_row(answer) for answer in batch.answers])
        await put_orders(session, batch.orders)
        for words in batch.words:
            await _note_words(session, words)
        before = await waiting(session, self._places(batch.steps), self._plant.file.notify)
        events = await self._apply(session, batch.steps, committed_ns, done)
        await session.flush()
        # After the steps of the readings that raised what they belong to.
        aside = [entry for words in batch.words for entry in words.aside]
        told = await self._aside.write(session, aside, batch.position, committed_ns)
        done.occurrences.update(dict.fromkeys(told))
        beside = [each for words in batch.words for each in words.beside]
        done.occurrences.update(dict.fromkeys(await write_beside(session, beside, batch.position, committed_ns)))
        if events:
            await self._open_tickets(session, events, committed_ns, done)
            await self._plan_messages(session, events, before, committed_ns, done)
        # Last, as the interface does: whoever has the end of the chain waits for nothing else.
        for words in batch.words:
            await note_commands(session, words.gateway, words.commanded, committed_ns)
        return done

    async def _apply(
        self, session: AsyncSession, steps: Sequence[Step], committed_ns: int, done: Committed
    ) -> list[AlarmEvent]:
        known: dict[str, Row] = {**await occurrences_of(session, self._ids(steps))}
        events: list[AlarmEvent] = []
        raised: list[SimpleNamespace] = []
        rows: list[dict[str, Any]] = []
        for step in steps:
            transition = step.transition
            definition = self._rules.definitions[transition.definition]
            point = self._plant.points[self._rules.point[transition.definition]]
            occurrence = occurrence_id(definition.id, transition.onset_ns) if transition.onset_ns else ""
            message = alarm_message(point, definition, transition.value)
            if transition.event is Event.RAISE:
                if transition.superseded_ns:
                    _close(known.get(occurrence_id(definition.id, transition.superseded_ns)), transition.time_ns)
                if (again := known.get(occurrence)) is not None:
                    _reopen(again, transition)
                else:
                    raised.append(_raised(occurrence, definition, point, step, message, committed_ns))
                    known[occurrence] = raised[-1]
            row = known.get(occurrence)
            if row is not None:
                _advance(row, transition)
            if transition.event >= Event.SHELVE:
                await _note_suppression(session, definition, step, row)
            latency_ns = committed_ns - transition.time_ns if step.timely else None
            if latency_ns is not None:
                done.latencies_ns.append(latency_ns)
            phases = transition.phase_from.text, transition.phase_to.text
            rows.append(
                transition_row(transition, occurrence, definition.id, phases, step.position, committed_ns, latency_ns)
            )
            done.occurrences[occurrence] = None
            told = with_reasons(message, None if row is None else because(row.reason), self._groups)
            events.append(self._event(occurrence, definition, point, transition, told))
        await put(session, sql.Occurrence, [vars(row) for row in raised])
        await put(session, sql.Transition, rows)
        return events

    def _ids(self, steps: Iterable[Step]) -> set[str]:
        found: set[str] = set()
        for step in steps:
            alarm = self._rules.definitions[step.transition.definition].id
            for onset_ns in (step.transition.onset_ns, step.transition.superseded_ns):
                if onset_ns:
                    found.add(occurrence_id(alarm, onset_ns))
        return found

    def _event(
        self, occurrence: str, definition: AlarmDefinition, point: PlantPoint, transition: Transition, message: Text
    ) -> AlarmEvent:
        return AlarmEvent(
            occurrence=occurrence,
            alarm=definition.id,
            point=point.id,
            source=point.source,
            source_name=None if point.source is None else self._sources.get(point.source),
            kind=definition.kind,
            priority=definition.priority,
            event=transition.event,
            time_ns=transition.time_ns,
            suppressed=transition.suppressed,
            message=message,
            unanswered=transition.phase_to in UNANSWERED,
            again=transition.event is Event.RAISE and transition.time_ns != transition.onset_ns,
        )

    async def _open_tickets(
        self, session: AsyncSession, events: list[AlarmEvent], now_ns: int, done: Committed
    ) -> None:
        known = await _open_at(session, {event.place for event in events})
        decisions = tickets.decide(events, known, self._policy)
        opened = [
            _ticket_row(each, self._policy.liable, now_ns) for each in decisions if each.action is TicketAction.OPEN
        ]
        await put(session, sql.Ticket, opened)
        there = await _covered(session, [each.event.occurrence for each in decisions])
        joined = {(each.ticket, each.event.occurrence): each for each in decisions}
        fresh = {pair: each for pair, each in joined.items() if pair not in there}
        pairs = [{"ticket": ticket, "occurrence": occurrence} for ticket, occurrence in fresh]
        await put(session, sql.TicketOccurrence, pairs)
        logs = [
            {"ticket": each.ticket, "at_ns": now_ns, "who": "tocsin", "what": _log_text(each)}
            for each in fresh.values()
        ]
        await put(session, sql.TicketLog, logs)
        done.tickets.update(dict.fromkeys(each.ticket for each in decisions))

    def _places(self, steps: Iterable[Step]) -> set[str]:
        """Where `steps` may begin or end a calling: what is raised or returns and calls nobody does neither."""
        least, places = self._plant.file.notify.min_priority.rank, set[str]()
        for transition in (step.transition for step in steps):
            called = self._rules.definitions[transition.definition].priority.rank >= least
            if called or transition.event not in (Event.RAISE, *TURNS):
                point = self._plant.points[self._rules.point[transition.definition]]
                places.add(point.source or point.id)
        return places

    async def _plan_messages(
        self, session: AsyncSession, events: list[AlarmEvent], before: Waiting, now_ns: int, done: Committed
    ) -> None:
        decision = routing.decide(events, before, self._plant.file, now_ns)
        # In this order: what a new calling puts in must not be taken for what waited for the answer to the last one.
        done.messages.update(dict.fromkeys(await end_calls(session, decision.cancel)))
        done.messages.update(dict.fromkeys(await put_in(session, decision.messages)))


async def progress_of(session: AsyncSession, partition: int) -> Progress:
    """Where the partition's worker is; at the stream's beginning before the first commit."""
    worker = await session.get(sql.Worker, partition)
    if worker is None:
        return Progress(START, 0)
    return Progress(Position(worker.position, worker.updated_ns), worker.computed_position)


async def _note_progress(session: AsyncSession, partition: int, progress: Progress) -> None:
    values = {
        "position": progress.position.sequence,
        "updated_ns": progress.position.time_ns,
        "computed_position": progress.computed,
    }
    known = await session.scalar(
        update(sql.Worker)
        .where(sql.Worker.partition == partition)
        .values(values)
        .returning(sql.Worker.partition)
        .execution_options(synchronize_session=False)
    )
    if known is None:
        await put(session, sql.Worker, [{"partition": partition, **values}])


async def journal_positions(session: AsyncSession) -> dict[str, int]:
    """How far the alarm journal of each gateway is taken in."""
    rows = await session.execute(select(sql.GatewayJournal.gateway, sql.GatewayJournal.position))
    return dict(rows.all())


async def answered_at(session: AsyncSession, commands: Sequence[str]) -> dict[str, int]:
    """Where in the stream those of `commands` (ids) stood that were answered already."""
    rows = await session.execute(select(sql.Command.id, sql.Command.position).where(sql.Command.id.in_(commands)))
    return dict(rows.all())


async def close_orphans(session: AsyncSession, orphans: set[str], now_ns: int) -> None:
    """Close the occurrences that the engine does not know: their alarm left the plant, or its state was lost."""
    steps: list[dict[str, Any]] = []
    for row in (await occurrences_of(session, orphans)).values():
        over = Entry(row.alarm, Event.RETURN, now_ns, Phase.NORMAL, reason=NO_LONGER_WATCHED)
        phases = row.phase, over.phase.text
        steps.append(transition_row(over, row.id, row.alarm, phases, Position(0, now_ns), now_ns))
        _close(row, now_ns)
    await put(session, sql.Transition, steps)


async def forget_hidden(session: AsyncSession, known: Container[str]) -> None:
    """Forget what hid alarms that have left the plant: one that is put back is in service, here as for the engine."""
    hidden = sql.AlarmState.alarm
    gone = [alarm for alarm in await session.scalars(select(hidden)) if alarm not in known]
    for first in range(0, len(gone), CHUNK):
        await session.execute(delete(sql.AlarmState).where(hidden.in_(gone[first : first + CHUNK])))


async def standing(session: AsyncSession) -> dict[str, Standing]:
    """By id, each occurrence that is not normal."""
    of = sql.Occurrence
    rows = await session.execute(select(of.id, of.alarm, of.raised_ns, of.phase).where(of.phase != Phase.NORMAL.text))
    by_text = {phase.text: phase for phase in Phase}
    return {occurrence: Standing(alarm, raised_ns, by_text[phase]) for occurrence, alarm, raised_ns, phase in rows}


async def _open_at(session: AsyncSession, places: set[str]) -> dict[str, str]:
    """The open ticket of each of `places` that has one; where these are many, of other places too."""
    is_open = sql.Ticket.state.in_([str(state) for state in TicketState if state is not TicketState.ACCEPTED])
    query = select(sql.Ticket.id, sql.Ticket.source, sql.Ticket.alarm).where(is_open)
    if len(places) <= FEW_PLACES:
        # What belongs to no hazard source has the place of its point, and a ticket says of which alarm it is.
        alarms = [f"{place}/{kind}" for place in places for kind in AlarmKind]
        query = query.where(sql.Ticket.source.in_(places) | sql.Ticket.alarm.in_(alarms))
    rows = await session.execute(query)
    return {source or alarm.rsplit("/", 1)[0]: ticket for ticket, source, alarm in rows}


async def _covered(session: AsyncSession, occurrences: Sequence[str]) -> set[tuple[str, str]]:
    """Tickets and those of `occurrences` that they cover already."""
    found: set[tuple[str, str]] = set()
    of = sql.TicketOccurrence
    for first in range(0, len(occurrences), CHUNK):
        chunk = occurrences[first : first + CHUNK]
        rows = await session.execute(select(of.ticket, of.occurrence).where(of.occurrence.in_(chunk)))
        found.update((ticket, occurrence) for ticket, occurrence in rows)
    return found


async def _note_suppression(session: AsyncSession, definition: AlarmDefinition, step: Step, row: Row | None) -> None:
    state = await session.get(sql.AlarmState, definition.id)
    if state is None:
        state = sql.AlarmState(alarm=definition.id)
        session.add(state)
    _hide(state, step)
    state.who, state.reason = step.transition.who or None, step.transition.reason or None
    if row is not None:
        _hide(row, step)


def _hide(row: sql.AlarmState | Row, step: Step) -> None:
    row.shelved_until_ns, row.shelved_once = step.shelved_until_ns, step.shelved_once
    row.out_of_service, row.suppressed = step.out_of_service, step.transition.suppressed


async def _note_words(session: AsyncSession, words: Words) -> None:
    known = await session.get(sql.GatewayJournal, words.gateway)
    if known is None:
        known = sql.GatewayJournal(gateway=words.gateway, position=0, lost=0)
        session.add(known)
    known.position = words.position
    known.lost += words.lost
    await note_answers(session, words.gateway, words.answers)
    if words.decides is False:
        await withdraw(session, words.gateway)


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None


def _name(text: Text) -> dict[str, Any]:
    return {"zh": text.zh, "en": text.en}


def _raised(
    occurrence: str,
    definition: AlarmDefinition,
    point: PlantPoint,
    step: Step,
    message: Text,
    committed_ns: int,
) -> SimpleNamespace:
    transition = step.transition
    return SimpleNamespace(
        id=occurrence,
        alarm=definition.id,
        point=point.id,
        source=point.source,
        kind=str(definition.kind),
        priority=str(definition.priority),
        phase=transition.phase_to.text,
        raised_ns=transition.onset_ns,
        reading_ns=transition.time_ns,
        committed_ns=committed_ns,
        acknowledged_ns=None,
        acknowledged_by=None,
        returned_ns=None,
        shelved_until_ns=step.shelved_until_ns,
        shelved_once=step.shelved_once,
        out_of_service=step.out_of_service,
        suppressed=transition.suppressed,
        annunciated=not transition.suppressed,
        value=_finite(transition.value),
        setpoint=_finite(definition.setpoint),
        unit=point.unit,
        message=_name(message),
        clause=None if definition.clause is None else _name(definition.clause),
        reason=transition.reason or None,
    )


def _advance(row: Row, transition: Transition) -> None:
    row.phase = transition.phase_to.text
    if transition.event in (Event.RETURN, Event.RETURN_LATCHED):
        row.returned_ns = transition.time_ns
    elif transition.event is Event.ACKNOWLEDGE:
        row.acknowledged_ns, row.acknowledged_by = transition.time_ns, transition.who or None
    elif transition.event in (Event.UNACKNOWLEDGE, Event.REALARM):
        row.acknowledged_ns = row.acknowledged_by = None


def _reopen(row: Row, transition: Transition) -> None:
    """An occurrence that was over here, or history alone, stands."""
    row.returned_ns = row.acknowledged_ns = row.acknowledged_by = None
    row.suppressed = transition.suppressed
    row.annunciated = row.annunciated or not transition.suppressed
    row.reason = transition.reason or None


def _close(row: Row | None, at_ns: int) -> None:
    if row is not None:
        row.phase = Phase.NORMAL.text
        row.returned_ns = row.returned_ns or at_ns


def _command_row(answer: Answer) -> dict[str, Any]:
    return {name: getattr(answer, name) for name in Answer.__slots__}


def _ticket_row(decision: tickets.TicketDecision, liable: str | None, now_ns: int) -> dict[str, Any]:
    return {
        "id": decision.ticket,
        "title": _name(decision.title),
        "source": decision.event.source,
        # Whether a hazard is a major one (重大隐患) a person judges by the branch's list; a limit alone cannot tell.
        "level": "general",
        "state": str(TicketState.RECTIFYING),
        "opened_ns": now_ns,
        "deadline_ns": decision.deadline_ns,
        "reason": str(decision.reason),
        "alarm": decision.event.alarm,
        "liable": liable,
        "evidence": None,
        "submitted_by": None,
    }


def _log_text(decision: tickets.TicketDecision) -> dict[str, Any]:
    message = decision.event.message
    if decision.action is TicketAction.OPEN:
        return {"zh": f"自动生成：{message.zh}", "en": f"Opened by itself: {message.en}"}
    return {"zh": f"并入：{message.zh}", "en": f"Joined by: {message.en}"}
