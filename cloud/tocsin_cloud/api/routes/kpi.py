"""Route of the system's figures."""

import asyncio
from collections.abc import Mapping
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
from tocsin_cloud.api.present import flood
from tocsin_cloud.api.security import Reader
from tocsin_cloud.api.sorting import EARLY_KINDS, STANDING_TEXT, UNANSWERED_TEXT
from tocsin_cloud.loops.floods import annunciated
from tocsin_core.kpi import BANDS, DAY, HOUR
from tocsin_core.kpi import Figures as AlarmFigures
from tocsin_core.kpi import figures as figures_of
from tocsin_core.tickets import TicketState

router = APIRouter(tags=["kpi"])

LATENCY_OVER: Final = 10_000
YEAR: Final = 366 * DAY


@router.get("/kpi")
async def kpi(
    _account: Reader,
    api: Context,
    since: Annotated[
        AwareDatetime | None, Query(description="Latency and `alarm_system` are about what was since then.")
    ] = None,
) -> model.Kpi:
    """The system's figures; alarms, tickets and messages over all that is kept, the rest since the start.

    `alarm_system` is about the span from `since` to now, at most a year; without `since` about the last 24 hours of the
    clock, the one that has begun included.
    """
    now_ns = api.ports.clock.now_ns()
    since_ns = None if since is None else model.nanoseconds(since)
    begin_ns = (now_ns // HOUR - 23) * HOUR if since_ns is None else min(max(since_ns, now_ns - YEAR), now_ns + YEAR)
    live = api.ports.live
    figures = live.figures()
    async with api.ports.database.read() as session:
        phases = await _counts(session, Occurrence.phase)
        kinds = await _counts(session, Occurrence.kind)
        tickets = await _counts(session, Ticket.state)
        messages = await _counts(session, Message.state)
        latency = await _latency(session, 0 if since_ns is None else begin_ns)
        journal = await annunciated(session, begin_ns - DAY)
    # A span that is still to come is as empty as one that begins now.
    span = min(begin_ns, now_ns - 1), now_ns
    system = await asyncio.to_thread(figures_of, journal, *span)
    return model.Kpi(
        points=len(api.ports.plant.points) + len(live.undeclared()),
        gateways_online=sum(gateway.state == "online" for gateway in live.gateways()),
        readings_stored=figures.readings_stored,
        readings_per_second=figures.readings_per_second,
        quarantined=dict(figures.quarantined),
        alarms_raised=sum(phases.values()),
        alarms_active=sum(phases.get(phase, 0) for phase in STANDING_TEXT),
        alarms_unacknowledged=sum(phases.get(phase, 0) for phase in UNANSWERED_TEXT),
        early_warnings=sum(kinds.get(kind, 0) for kind in EARLY_KINDS),
        tickets_opened=sum(tickets.values()),
        tickets_open=sum(tickets.values()) - tickets.get(TicketState.ACCEPTED, 0),
        messages_delivered=messages.get("delivered", 0),
        latency_ms=latency,
        late_readings=figures.late_readings,
        clock_steps_back=figures.clock_steps_back,
        alarm_system=_alarm_system(system, *span),
    )


def _alarm_system(found: AlarmFigures, begin_ns: int, end_ns: int) -> model.AlarmSystem:
    def counted(most: Mapping[str, int]) -> list[model.Counted]:
        falling = sorted(most.items(), key=lambda item: (-item[1], item[0]))
        return [model.Counted(alarm=alarm, count=count) for alarm, count in falling]

    return model.AlarmSystem(
        from_=begin_ns,
        to=end_ns,
        alarms=found.alarms,
        by_hour=list(found.by_hour),
        per_day=found.per_day,
        per_hour=found.per_hour,
        per_ten_minutes=found.per_ten_minutes,
        load=found.load,
        bands=[model.Band(load=load, per_hour=most * 6.0) for load, most in BANDS],
        most_in_ten_minutes=found.most_in_ten_minutes,
        ten_minutes_over=found.ten_minutes_over,
        hours_over=found.hours_over,
        floods=[flood(one) for one in found.floods],
        in_flood=found.in_flood,
        top=counted(dict(found.top)),
        top_share=found.top_share,
        priorities=dict(found.priorities),
        chattering=counted(found.chattering),
        fleeting=counted(found.fleeting),
        standing=list(found.standing),
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
