"""Evidence: the trend around the alarm that opened a ticket, kept with the ticket while the history still has it."""

import asyncio
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final, NamedTuple

import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError
from sqlalchemy import select

from tocsin_cloud.adapters.history import HistoryError, StoredReadings
from tocsin_cloud.adapters.lease import Lease
from tocsin_cloud.adapters.sql.away import DatabaseAwayError
from tocsin_cloud.adapters.sql.engine import Database
from tocsin_cloud.adapters.sql.models import Occurrence, Ticket
from tocsin_cloud.adapters.stream import publish_event
from tocsin_cloud.settings import AlarmSettings
from tocsin_core.clock import Clock
from tocsin_core.plant import Plant
from tocsin_core.plant.brought import GRADES, LIMITS
from tocsin_core.tickets import TicketState

log = structlog.get_logger()

DRAWN: Final = (*LIMITS, *GRADES)
MOST_ROWS: Final = 2000
NS: Final = 1_000_000_000
# The history may be behind the alarm: after this long, evidence without the raising itself is better than none.
PATIENCE_S: Final = 10.0
# After each evidence, so many times as long as it took.
REST: Final = 4.0


@dataclass(frozen=True, slots=True)
class EvidenceParts:
    """What the evidence loop works with."""

    client: Client
    database: Database
    lease: Lease
    history: StoredReadings
    plant: Plant
    clock: Clock
    settings: AlarmSettings


async def keep_evidence(parts: EvidenceParts) -> None:
    """Look for tickets that need evidence, now and then; runs until cancelled."""
    # Made before the first alarm: of a large plant it takes a moment.
    places = parts.plant.point_index
    failed = False
    while True:
        try:
            for wanting in await _wanting(parts):
                begun = parts.clock.monotonic()
                await _keep(parts, wanting, places.get(wanting.occurrence.point))
                # In a flood the history has more to do than to be asked for pictures.
                await asyncio.sleep(REST * (parts.clock.monotonic() - begun))
            failed = False
        except (HistoryError, DatabaseAwayError, NatsError, OSError) as error:
            # The ticket stands without its picture and is found again the next time. A historian may be away for long.
            if not failed:
                log.warning("evidence not kept", reason=str(error))
            failed = True
        await asyncio.sleep(parts.settings.evidence_interval_s)


class _Wanting(NamedTuple):
    """A ticket that needs evidence, and the raising that opened it."""

    ticket: str
    opened_ns: int
    occurrence: Occurrence


async def _wanting(parts: EvidenceParts) -> list[_Wanting]:
    """Open tickets without evidence, and those whose alarm has returned since it was taken."""
    # Of what there is already no more is read than whether it is whole: there may be many tickets.
    whole = Ticket.evidence["complete"].as_boolean()
    query = (
        select(Ticket.id, Ticket.opened_ns, Ticket.evidence.is_(None), Occurrence)
        .join(Occurrence, (Occurrence.alarm == Ticket.alarm) & (Occurrence.raised_ns <= Ticket.opened_ns))
        .where(Ticket.state != str(TicketState.ACCEPTED), Ticket.evidence.is_(None) | ~whole)
        .order_by(Ticket.id, Occurrence.raised_ns)
    )
    async with parts.database.read() as session:
        # The last occurrence of the ticket's alarm before it was opened is the one that opened it.
        newest = {row[0]: row for row in await session.execute(query)}
    return [
        _Wanting(ticket, opened_ns, occurrence)
        for ticket, opened_ns, none, occurrence in newest.values()
        if none or occurrence.returned_ns is not None
    ]


async def _keep(parts: EvidenceParts, wanting: _Wanting, place: int | None) -> None:
    ticket, opened_ns, occurrence = wanting
    point = None if place is None else parts.plant.points[place]
    begin = occurrence.raised_ns - int(parts.settings.evidence_before_s * NS)
    now = parts.clock.now_ns()
    end = now if occurrence.returned_ns is None else occurrence.returned_ns + NS
    step_ns = max(NS, (end - begin) // MOST_ROWS)
    trend = await parts.history.read(occurrence.point, begin, end, step_ns, MOST_ROWS + 1)
    reached = bool(len(trend.time_ns)) and int(trend.time_ns[-1]) + step_ns > occurrence.raised_ns
    if not reached and now - opened_ns < PATIENCE_S * NS:
        return
    limits = [] if point is None else [d for d in point.definitions if d.kind in DRAWN]
    evidence: dict[str, Any] = {
        "point": occurrence.point,
        "unit": occurrence.unit,
        "from": begin,
        "to": end,
        "time": trend.time_ns.tolist(),
        "value": [value if isfinite(value) else None for value in trend.mean.tolist()],
        "limits": [{"kind": str(d.kind), "setpoint": d.setpoint} for d in limits],
        "raised_at": occurrence.raised_ns,
        "complete": occurrence.returned_ns is not None,
    }
    async with parts.lease.write() as session:
        row = await session.get(Ticket, ticket)
        if row is not None:
            row.evidence = evidence
    await publish_event(parts.client, "ticket", {"id": ticket})
