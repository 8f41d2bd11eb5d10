"""What a gateway's journal tells that moves no alarm here: recorded as it was told, and nobody is called."""

from collections.abc import Sequence
from dataclasses import replace
from math import nan
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from tocsin_cloud.adapters.sql import models as sql
from tocsin_cloud.adapters.sql.bulk import put
from tocsin_cloud.adapters.stream import Position
from tocsin_cloud.loops.delegation import Beside
from tocsin_cloud.loops.outbox import CHUNK
from tocsin_cloud.loops.steps import transition_row
from tocsin_core.engine import occurrence_id
from tocsin_core.journal import Entry
from tocsin_core.lifecycle import TURNS, Event, Phase
from tocsin_core.plant import AlarmKind, Plant
from tocsin_core.plant.fields import name_of
from tocsin_core.plant.standards import PRIORITY
from tocsin_core.rules import Rules
from tocsin_core.wording import alarm_message

UNKNOWN: Final = "unknown here"
PAST: Final = "told after a later one was found here"
BESIDE: Final = "at the gateway"
_KINDS: Final = {str(kind): kind for kind in AlarmKind}
_PHASES: Final = {phase.text: phase for phase in Phase}


class Aside:
    """Writes, closed, occurrences of alarms that the plant file does not have, and those before the one it has."""

    def __init__(self, plant: Plant, rules: Rules) -> None:
        """What the plant file knows of an alarm, or of its point, is written with its steps."""
        self._rules = rules
        self._points = {point.id: point for point in plant.points}

    async def write(
        self, session: AsyncSession, entries: Sequence[Entry], position: Position, committed_ns: int
    ) -> list[str]:
        """Put `entries` into the transaction of `session`; the occurrences that they are of, oldest first.

        A step that is there already is not written again. What stood at the gateway while something stood here is that:
        an alarm is one occurrence from when one end raised it first.
        """
        told = [(occurrence_id(each.alarm, each.onset_ns) if each.onset_ns else "", each) for each in entries]
        known = await occurrences_of(session, {occurrence for occurrence, _ in told if occurrence})
        of_ours = [each for occurrence, each in told if occurrence not in known and each.alarm in self._rules.index]
        ours = await _at_the_time_of(session, of_ours)
        beside = [Beside(each, *found) for each in of_ours if (found := ours.get((each.alarm, each.onset_ns)))]
        written = dict.fromkeys(await write_beside(session, beside, position, committed_ns))
        told = [(occurrence, each) for occurrence, each in told if (each.alarm, each.onset_ns) not in ours]
        there, phases = await _steps(session, told)
        rows: list[dict[str, Any]] = []
        for occurrence, entry in told:
            step = occurrence, entry.alarm, _event(entry), entry.time_ns
            if step in there:
                continue
            there.add(step)
            phase = phases.get((occurrence, entry.alarm), Phase.NORMAL.text)
            why = PAST if entry.alarm in self._rules.index else UNKNOWN
            rows.append(_step(entry, occurrence, (phase, entry.phase.text), why, position, committed_ns))
            phases[occurrence, entry.alarm] = entry.phase.text
            if occurrence:
                written[occurrence] = None
                row = known.get(occurrence) or self._closed(entry, occurrence, committed_ns)
                if row is not None:
                    known[occurrence] = row
                    _note(row, entry)
        session.add_all(known.values())
        await put(session, sql.Transition, rows)
        return list(written)

    def _closed(self, entry: Entry, occurrence: str, committed_ns: int) -> sql.Occurrence | None:
        """The row of an occurrence; None for a kind of alarm that this version does not have."""
        name, _, suffix = entry.alarm.rpartition("/")
        number, point, kind = self._rules.index.get(entry.alarm), self._points.get(name), _KINDS.get(suffix)
        if kind is None:
            return None
        definition = None if number is None else self._rules.definitions[number]
        message = name_of(f"{entry.alarm}（本厂区文件没有此报警）", f"{entry.alarm}: not an alarm of this plant file")
        if point is not None and definition is not None:
            message = alarm_message(point, definition, nan if entry.value is None else entry.value)
        return sql.Occurrence(
            id=occurrence, alarm=entry.alarm, point=name, source=None if point is None else point.source, kind=suffix,
            priority=str(PRIORITY[kind] if definition is None else definition.priority), phase=Phase.NORMAL.text,
            raised_ns=entry.onset_ns, reading_ns=entry.onset_ns, committed_ns=committed_ns, acknowledged_ns=None,
            acknowledged_by=None, returned_ns=entry.time_ns, shelved_until_ns=None, shelved_once=False,
            out_of_service=False, suppressed=False, annunciated=False,
            value=entry.value if entry.event is Event.RAISE else None, setpoint=None,
            unit="" if point is None else point.unit, message={"zh": message.zh, "en": message.en}, clause=None,
            reason=UNKNOWN if definition is None else PAST,
        )  # fmt: skip


async def write_beside(
    session: AsyncSession, told: Sequence[Beside], position: Position, committed_ns: int
) -> list[str]:
    """Put the gateway's own steps of what stands here into the transaction of `session`; the ids of what stands.

    A step that is there already is not written again.
    """
    standing = [(occurrence_id(each.entry.alarm, each.onset_ns), each.entry) for each in told]
    there, _ = await _steps(session, standing)
    rows: list[dict[str, Any]] = []
    for (occurrence, entry), each in zip(standing, told, strict=True):
        step = occurrence, entry.alarm, _event(entry), entry.time_ns
        if step not in there:
            there.add(step)
            phases = (each.phase.text, each.phase.text)
            rows.append(_step(entry, occurrence, phases, BESIDE, position, committed_ns))
    await put(session, sql.Transition, rows)
    return [occurrence for occurrence, _ in standing]


async def _at_the_time_of(session: AsyncSession, entries: Sequence[Entry]) -> dict[tuple[str, int], tuple[int, Phase]]:
    """By alarm and onset at the gateway, the onset and phase of the first here that stood meanwhile, where one did."""
    # What comes after its return, as an answer does, tells nothing of how long it stood.
    over_ns = {(entry.alarm, entry.onset_ns): entry.time_ns for entry in entries if entry.event in TURNS}
    until_ns: dict[tuple[str, int], int] = {}
    for entry in entries:
        if entry.onset_ns:
            which = entry.alarm, entry.onset_ns
            until_ns[which] = over_ns.get(which, max(until_ns.get(which, entry.onset_ns), entry.time_ns))
    of = sql.Occurrence
    found: dict[tuple[str, int], tuple[int, Phase]] = {}
    wanted = sorted(until_ns)
    for first in range(0, len(wanted), CHUNK):
        chunk = wanted[first : first + CHUNK]
        earliest_ns, latest_ns = min(onset_ns for _, onset_ns in chunk), max(until_ns[each] for each in chunk)
        stood = of.returned_ns.is_(None) | (of.returned_ns > earliest_ns)
        ours = select(of.alarm, of.raised_ns, of.returned_ns, of.phase).where(
            of.alarm.in_({alarm for alarm, _ in chunk}), of.raised_ns < latest_ns, stood
        )
        rows: dict[str, list[tuple[int, int | None, str]]] = {}
        for alarm, raised_ns, returned_ns, phase in await session.execute(ours.order_by(of.raised_ns)):
            rows.setdefault(alarm, []).append((raised_ns, returned_ns, phase))
        for alarm, onset_ns in chunk:
            for raised_ns, returned_ns, phase in rows.get(alarm, ()):
                if raised_ns < until_ns[alarm, onset_ns] and (returned_ns is None or returned_ns > onset_ns):
                    found[alarm, onset_ns] = raised_ns, _PHASES[phase]
                    break
    return found


def _step(
    entry: Entry, occurrence: str, phases: tuple[str, str], why: str, position: Position, committed_ns: int
) -> dict[str, Any]:
    """The row of a step that says why it moved nothing here."""
    told = replace(entry, reason="; ".join(filter(None, (entry.reason, why))))
    return transition_row(told, occurrence, entry.alarm, phases, position, committed_ns)


def _event(entry: Entry) -> str:
    return "" if entry.event is None else entry.event.text


def _note(row: sql.Occurrence, entry: Entry) -> None:
    """Let the occurrence tell what is known of it. It is closed: nothing here would ever end it."""
    if entry.event in TURNS:
        row.returned_ns = entry.time_ns
    elif entry.event is Event.ACKNOWLEDGE:
        row.acknowledged_ns, row.acknowledged_by = entry.time_ns, entry.who


async def _steps(
    session: AsyncSession, told: Sequence[tuple[str, Entry]]
) -> tuple[set[tuple[str, str, str, int]], dict[tuple[str, str], str]]:
    """The steps (occurrence, alarm, event, time) that are there of what is told, and the phase after the last."""
    of = sql.Transition
    there: set[tuple[str, str, str, int]] = set()
    phases: dict[tuple[str, str], str] = {}
    for first in range(0, len(told), CHUNK):
        chunk = told[first : first + CHUNK]
        ours = (
            of.occurrence.in_({occurrence for occurrence, _ in chunk}),
            of.alarm.in_({each.alarm for _, each in chunk}),
        )
        steps = select(of.occurrence, of.alarm, of.event, of.time_ns, of.phase_to).where(*ours).order_by(of.seq)
        for occurrence, alarm, event, time_ns, phase in await session.execute(steps):
            there.add((occurrence, alarm, event, time_ns))
            phases[occurrence, alarm] = phase
    return there, phases


async def occurrences_of(session: AsyncSession, ids: set[str]) -> dict[str, sql.Occurrence]:
    """By id, those of the occurrences `ids` that there are."""
    wanted = sorted(ids)
    found: dict[str, sql.Occurrence] = {}
    for first in range(0, len(wanted), CHUNK):
        chunk = wanted[first : first + CHUNK]
        for row in await session.scalars(select(sql.Occurrence).where(sql.Occurrence.id.in_(chunk))):
            found[row.id] = row
    return found
