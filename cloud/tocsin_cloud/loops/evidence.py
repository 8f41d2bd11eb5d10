"""Evidence: the trend around the alarm that opened a ticket, kept with the ticket while the history still has it."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final, NamedTuple

import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError
from prometheus_client import Gauge
from sqlalchemy import bindparam, func, select, update
from sqlalchemy.orm import aliased

from tocsin_cloud.adapters.history import HistoryError, StoredReadings, Trend, Wanted
from tocsin_cloud.adapters.lease import Lease
from tocsin_cloud.adapters.sql.away import DatabaseAwayError
from tocsin_cloud.adapters.sql.engine import Database
from tocsin_cloud.adapters.sql.models import Base, Occurrence, Ticket
from tocsin_cloud.adapters.stream import publish_event
from tocsin_cloud.settings import AlarmSettings
from tocsin_core.clock import Clock
from tocsin_core.plant import Plant
from tocsin_core.plant.brought import GRADES, LIMITS
from tocsin_core.tickets import TicketState

log = structlog.get_logger()

DRAWN: Final = (*LIMITS, *GRADES)
MOST_ROWS: Final = 2000
MS: Final = 1_000_000
NS: Final = 1000 * MS
# The history may be behind the alarm: after this long, evidence without the raising itself is better than none.
PATIENCE_S: Final = 10.0
# Looked for in one pass: of so many the trends, all rows of each, fit into a message of 4 MiB.
AT_ONCE: Final = 32
# After each pass, so many times as long as it took.
REST: Final = 4.0
_TICKETS: Final = Base.metadata.tables[Ticket.__tablename__]
_KEEP: Final = update(_TICKETS).where(_TICKETS.c.id == bindparam("ticket")).values(evidence=bindparam("found"))


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
    waiting: Gauge


class Portion:
    """How many tickets are looked for in one pass: a slow history answers in time for few of them only."""

    def __init__(self) -> None:
        """As many as there may be."""
        self.tickets = AT_ONCE

    def failed(self) -> None:
        """Note that nothing came of a pass."""
        self.tickets = max(1, self.tickets // 2)

    def went(self) -> None:
        """Note that a pass went through."""
        self.tickets = min(AT_ONCE, self.tickets + 1)


async def keep_evidence(parts: EvidenceParts) -> None:
    """Look for tickets that need evidence, now and then; runs until cancelled."""
    # Made before the first alarm: of a large plant it takes a moment.
    places = parts.plant.point_index
    portion, failed = Portion(), False
    while True:
        try:
            tickets = await wanting(parts.database)
            parts.waiting.set(len(tickets))
            while tickets:
                begun = parts.clock.monotonic()
                now, tickets = tickets[: portion.tickets], tickets[portion.tickets :]
                await _keep(parts, now, places)
                parts.waiting.set(len(tickets))
                portion.went()
                # In a flood the history has more to do than to be asked for pictures.
                await asyncio.sleep(REST * (parts.clock.monotonic() - begun))
            failed = False
        except (HistoryError, DatabaseAwayError, NatsError, OSError) as error:
            # The ticket stands without its picture and is found again the next time. A historian may be away for long.
            if not failed:
                log.warning("evidence not kept", reason=str(error))
            failed = True
            portion.failed()
        await asyncio.sleep(parts.settings.evidence_interval_s)


class Wanting(NamedTuple):
    """A ticket that needs evidence, and the raising that opened it."""

    ticket: str
    opened_ns: int
    occurrence: Occurrence


async def wanting(database: Database) -> list[Wanting]:
    """Open tickets without evidence, and those whose alarm has returned since it was taken."""
    # The last occurrence of the ticket's alarm before it was opened is the one that opened it.
    before = aliased(Occurrence)
    opener = select(func.max(before.raised_ns)).where(
        before.alarm == Ticket.alarm, before.raised_ns <= Ticket.opened_ns
    )
    # Of what there is already no more is read than whether it is whole, and only where the alarm has returned: there
    # may be many tickets.
    whole = Ticket.evidence["complete"].as_boolean()
    query = (
        select(Ticket.id, Ticket.opened_ns, Occurrence)
        .join(Occurrence, (Occurrence.alarm == Ticket.alarm) & (Occurrence.raised_ns == opener.scalar_subquery()))
        .where(
            Ticket.state != str(TicketState.ACCEPTED),
            Ticket.evidence.is_(None) | (Occurrence.returned_ns.is_not(None) & ~whole),
        )
        .order_by(Ticket.id)
    )
    async with database.read() as session:
        return [Wanting(*row) for row in await session.execute(query)]


async def _keep(parts: EvidenceParts, tickets: Sequence[Wanting], places: Mapping[str, int]) -> None:
    now_ns = parts.clock.now_ns()
    wanted = [_span(each.occurrence, now_ns, parts.settings) for each in tickets]
    found = {
        each.ticket: _evidence(parts.plant, each.occurrence, span, trend, places.get(each.occurrence.point))
        for each, span, trend in zip(tickets, wanted, await parts.history.read_each(wanted), strict=True)
        if _reached(trend, span, each.occurrence) or now_ns - each.opened_ns >= PATIENCE_S * NS
    }
    if not found:
        return
    # One statement for all of them: nobody else writes meanwhile, and this process may have much else to do.
    async with parts.lease.write() as session:
        await session.execute(_KEEP, [{"ticket": ticket, "found": evidence} for ticket, evidence in found.items()])
    for ticket in found:
        await publish_event(parts.client, "ticket", {"id": ticket})


def _span(occurrence: Occurrence, now_ns: int, settings: AlarmSettings) -> Wanted:
    begin = occurrence.raised_ns - int(settings.evidence_before_s * NS)
    end = now_ns if occurrence.returned_ns is None else occurrence.returned_ns + NS
    step_ns = max(NS, -(-(end - begin) // (MOST_ROWS * MS)) * MS)
    return Wanted(occurrence.point, begin, end, step_ns)


def _reached(trend: Trend, span: Wanted, occurrence: Occurrence) -> bool:
    return bool(len(trend.time_ns)) and int(trend.time_ns[-1]) + span.step_ns > occurrence.raised_ns


def _evidence(plant: Plant, occurrence: Occurrence, span: Wanted, trend: Trend, place: int | None) -> dict[str, Any]:
    limits = [] if place is None else [d for d in plant.points[place].definitions if d.kind in DRAWN]
    return {
        "point": occurrence.point,
        "unit": occurrence.unit,
        "from": span.start_ns,
        "to": span.end_ns,
        "time": trend.time_ns.tolist(),
        "value": [value if isfinite(value) else None for value in trend.mean.tolist()],
        "limits": [{"kind": str(d.kind), "setpoint": d.setpoint} for d in limits],
        "raised_at": occurrence.raised_ns,
        "complete": occurrence.returned_ns is not None,
    }
