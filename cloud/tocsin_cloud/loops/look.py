"""Looks every few seconds at what stands and waits, for the figures: live view, tables, stream, disk."""

import asyncio
import shutil
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError
from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from tocsin_cloud.adapters.metrics_watch import QUALITIES, WatchMetrics
from tocsin_cloud.adapters.sql.away import DatabaseAwayError
from tocsin_cloud.adapters.sql.engine import Database
from tocsin_cloud.adapters.sql.models import GatewayOrder, Message, Quarantine, Ticket
from tocsin_cloud.adapters.stream import stream_figures
from tocsin_cloud.loops.live import LiveView
from tocsin_cloud.loops.orders import WAITING
from tocsin_cloud.loops.outbox import FAILED, PENDING, SENDING
from tocsin_cloud.loops.silence import silent
from tocsin_core.clock import Clock
from tocsin_core.readings import I64, is_bad, is_good
from tocsin_core.rules import NS
from tocsin_core.tickets import TicketState

log = structlog.get_logger(__name__)

INTERVAL_S: Final = 2.0
AT_ONCE: Final = 100
HOUR_NS: Final = 3600 * NS


@dataclass(frozen=True, slots=True)
class LookParts:
    """What is looked at, with the `silences` of the plant; `folder` is on the disk that is to have room."""

    client: Client
    database: Database
    allowed_ns: I64
    live: LiveView
    metrics: WatchMetrics
    clock: Clock
    folder: Path


async def keep_looking(parts: LookParts) -> None:
    """Look every two seconds until cancelled; what cannot be looked at keeps its figures, and is counted."""
    look = Look(parts)
    while True:
        await look.once()
        await asyncio.sleep(INTERVAL_S)


async def keep_looking_at_stored(live: LiveView, metrics: WatchMetrics) -> None:
    """Show every two seconds until cancelled what the historian of this process has stored, and has yet to."""
    while True:
        show_stored(live, metrics)
        await asyncio.sleep(INTERVAL_S)


def show_stored(live: LiveView, metrics: WatchMetrics) -> None:
    """Show what the historian has stored of each gateway, and has yet to."""
    for address, stored in tuple(live.stored.items()):
        if stored.batch:
            metrics.gateway_waiting.labels(live.table.gateway_id(*address)).set(stored.batch - stored.committed)
    metrics.rate.set(live.readings_per_second)


class Look:
    """One who looks."""

    def __init__(self, parts: LookParts) -> None:
        """Wire only."""
        self._parts = parts

    async def once(self) -> None:
        """Look at everything and set the figures."""
        now_ns = self._parts.clock.now_ns()
        await self._at_gateways()
        self._at_points(now_ns)
        await self._tried("broker", self._at_stream)
        await self._tried("database", partial(self._at_tables, now_ns))
        await self._tried("disk", self._at_disk)

    async def _tried(self, what: str, look: Callable[[], Awaitable[None]]) -> None:
        try:
            await look()
        except (NatsError, DatabaseAwayError, TimeoutError, OSError) as error:
            self._parts.metrics.look_failures.labels(what).inc()
            log.warning("figures not looked up", what=what, reason=str(error) or repr(error))

    async def _at_gateways(self) -> None:
        live, metrics = self._parts.live, self._parts.metrics
        for number, (address, gateway) in enumerate(tuple(live.gateways.items()), 1):
            if number % AT_ONCE == 0:
                # Alarms have their turn in between, however many gateways there are.
                await asyncio.sleep(0)
            name = live.table.gateway_id(*address)
            metrics.gateway_online.labels(name).set(gateway.state == "online")
            if gateway.last_seen_ns is not None:
                metrics.gateway_seen.labels(name).set(gateway.last_seen_ns / NS)
            seconds = gateway.skew.seconds
            if seconds is not None:
                metrics.gateway_skew.labels(name).set(seconds)
            metrics.show_devices(name, Counter(gateway.devices.values()))

    def _at_points(self, now_ns: int) -> None:
        live, metrics = self._parts.live, self._parts.metrics
        declared = live.table.declared
        time_ns, quality = live.time_ns[:declared], live.quality[:declared]
        read = time_ns > 0
        bad, good = is_bad(quality) & read, is_good(quality) & read
        counts = (good, read & ~bad & ~good, bad, ~read)
        for name, which in zip(QUALITIES, counts, strict=True):
            metrics.points.labels(name).set(int(np.count_nonzero(which)))
        late = silent(time_ns, quality, self._parts.allowed_ns, now_ns)
        metrics.points_silent.set(int(np.count_nonzero(late)))

    async def _at_stream(self) -> None:
        client, metrics = self._parts.client, self._parts.metrics
        if not client.is_connected:
            return
        found = await stream_figures(client)
        metrics.stream_messages.set(found.messages)
        metrics.stream_bytes.set(found.bytes)
        metrics.stream_most_bytes.set(found.most_bytes)
        metrics.stream_last.set(found.last)

    async def _at_tables(self, now_ns: int) -> None:
        metrics = self._parts.metrics
        async with self._parts.database.read() as session:
            waits = Message.state.in_((PENDING, SENDING))
            metrics.messages_waiting.set(await _count(session, waits))
            metrics.messages_failed.set(
                await _count(session, (Message.state == FAILED) & (Message.due_ns > now_ns - HOUR_NS))
            )
            # Its error tells of the last attempt; who tries a second time had no success, and perhaps no word of it.
            tried = waits & (Message.error.is_not(None) | (Message.attempts > 1))
            metrics.show_failing(await session.scalars(select(Message.channel).where(tried)))
            due = await session.scalar(select(func.min(Message.due_ns)).where(waits))
            metrics.messages_overdue.set(_age_s(due, now_ns))
            asked = select(func.min(GatewayOrder.at_ns)).where(GatewayOrder.state == WAITING)
            metrics.orders_oldest.set(_age_s(await session.scalar(asked), now_ns))
            late = (Ticket.state != str(TicketState.ACCEPTED)) & (Ticket.deadline_ns < now_ns)
            metrics.tickets_overdue.set(await _count(session, late))
            metrics.quarantine_kept.set(await session.scalar(select(func.count()).select_from(Quarantine)) or 0)

    async def _at_disk(self) -> None:
        found = await asyncio.to_thread(shutil.disk_usage, self._parts.folder)
        self._parts.metrics.disk_free.set(found.free)
        self._parts.metrics.disk_size.set(found.total)


async def _count(session: AsyncSession, which: ColumnElement[bool]) -> int:
    return await session.scalar(select(func.count()).where(which)) or 0


def _age_s(since_ns: int | None, now_ns: int) -> float:
    return 0.0 if since_ns is None else max(0.0, (now_ns - since_ns) / NS)
