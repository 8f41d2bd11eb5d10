"""Route of the system's figures."""

from typing import Annotated, Final

import numpy as np
from fastapi import APIRouter, Query
from pydantic import AwareDatetime
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from tocsin_cloud.adapters.sql.models import Message, Occurrence, Ticket, Transition
from tocsin_cloud.api import model
from tocsin_cloud.api.context import Context
from tocsin_cloud.api.security import Reader
from tocsin_cloud.api.sorting import STANDING_TEXT, UNANSWERED_TEXT
from tocsin_core.plant import AlarmKind
from tocsin_core.tickets import TicketState

router = APIRouter(tags=["kpi"])

LATENCY_OVER: Final = 10_000


@router.get("/kpi")
async def kpi(
    _account: Reader,
    api: Context,
    since: Annotated[AwareDatetime | None, Query(description="The latency is that of transitions since then.")] = None,
) -> model.Kpi:
    """The system's figures; alarms, tickets and messages over all that is kept, the rest since the start."""
    live = api.ports.live
    figures = live.figures()
    async with api.ports.database.read() as session:
        phases = await _counts(session, Occurrence.phase)
        kinds = await _counts(session, Occurrence.kind)
        tickets = await _counts(session, Ticket.state)
        messages = await _counts(session, Message.state)
        latency = await _latency(session, 0 if since is None else model.nanoseconds(since))
    return model.Kpi(
        points=len(api.ports.plant.points) + len(live.undeclared()),
        gateways_online=sum(gateway.state == "online" for gateway in live.gateways()),
        readings_stored=figures.readings_stored,
        readings_per_second=figures.readings_per_second,
        quarantined=dict(figures.quarantined),
        alarms_raised=sum(phases.values()),
        alarms_active=sum(phases.get(phase, 0) for phase in STANDING_TEXT),
        alarms_unacknowledged=sum(phases.get(phase, 0) for phase in UNANSWERED_TEXT),
        early_warnings=kinds.get(AlarmKind.TIME_TO_LIMIT, 0),
        tickets_opened=sum(tickets.values()),
        tickets_open=sum(tickets.values()) - tickets.get(TicketState.ACCEPTED, 0),
        messages_delivered=messages.get("delivered", 0),
        latency_ms=latency,
        late_readings=figures.late_readings,
        clock_steps_back=figures.clock_steps_back,
    )


async def _counts(session: AsyncSession, column: InstrumentedAttribute[str]) -> dict[str, int]:
    return dict((await session.execute(select(column, func.count()).group_by(column))).all())


async def _latency(session: AsyncSession, since_ns: int) -> model.Latency:
    newest = (
        select(Transition.latency_ns)
        .where(Transition.latency_ns.is_not(None), Transition.committed_ns >= since_ns)
        .order_by(Transition.seq.desc())
        .limit(LATENCY_OVER)
    )
    milliseconds = np.asarray((await session.scalars(newest)).all(), dtype=np.float64) / 1e6
    if not len(milliseconds):
        return model.Latency(p50=None, p99=None, n=0)
    p50, p99 = np.percentile(milliseconds, (50, 99)).tolist()
    return model.Latency(p50=p50, p99=p99, n=len(milliseconds))
