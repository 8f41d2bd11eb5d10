"""Watches the tables, the live readings and the events for what changed, and tells the hub."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import numpy as np
import structlog
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from tocsin_cloud.adapters.sql import models as sql
from tocsin_cloud.adapters.sql.away import DatabaseAwayError
from tocsin_cloud.api import model, rows
from tocsin_cloud.api.growth import Growth, keep_looking
from tocsin_cloud.api.hub import Hub
from tocsin_cloud.api.listed import ALARMS, NOTIFICATIONS, TICKETS
from tocsin_cloud.api.mailbox import event, event_of
from tocsin_cloud.api.ports import ApiPorts, Latest, ReadingsUnknownError
from tocsin_cloud.api.present import flood, gateways, projection

log = structlog.get_logger(__name__)

CYCLE_S: Final = 1.0
GATHER_S: Final = 0.05
RETRY_S: Final = 1.0
# In one event, and in one turn of the event loop. SQLite bounds the number of variables in one statement.
MOST_ROWS: Final = 250


@asynccontextmanager
async def watching(ports: ApiPorts, hub: Hub, growth: Growth) -> AsyncIterator[None]:
    """Keep `hub` told, and look for `growth`, while the context is open; the streams end with it."""
    news = News()
    async with asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(TableWatch(ports, hub, news).run(), name="api-tables"),
            tasks.create_task(PresentWatch(ports, hub).run(), name="api-present"),
            tasks.create_task(_listen(ports, hub, news), name="api-events"),
            tasks.create_task(keep_looking(growth, ports.metrics, ports.clock), name="api-counters"),
        ]
        try:
            yield
        finally:
            hub.close()
            for task in running:
                task.cancel()


class News:
    """What the events named since it was last taken."""

    def __init__(self) -> None:
        """Start with nothing."""
        self._some = asyncio.Event()
        self._tickets: set[str] = set()
        self._messages: set[str] = set()

    def add(self, kind: str, subject: str) -> None:
        """Note that an event of `kind` about `subject` came."""
        match kind:
            case "ticket":
                self._tickets.add(subject)
            case "notification":
                self._messages.add(subject)
            case "transition":
                pass
            case _:
                return
        self._some.set()

    async def take(self, timeout_s: float) -> tuple[set[str], set[str]]:
        """Return the tickets and messages named, after the first event or `timeout_s`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._some.wait()
                # A burst of events becomes one reading of the tables.
                await asyncio.sleep(GATHER_S)
        self._some.clear()
        tickets, self._tickets = self._tickets, set()
        messages, self._messages = self._messages, set()
        return tickets, messages


async def _listen(ports: ApiPorts, hub: Hub, news: News) -> None:
    missed = False
    while True:
        try:
            async with ports.events.subscribe() as events:
                if missed:
                    # Messages may have changed unseen.
                    hub.reset_all("events may be missing")
                async for told in events:
                    news.add(told.kind, str(told.data.get("id", "")))
            log.warning("event subscription ended")
        except Exception:
            log.exception("event subscription failed")
        missed = True
        await asyncio.sleep(RETRY_S)


class TableWatch:
    """Tells of transitions, tickets and messages.

    Transitions and tickets are found by the numbers of their newest rows, once a second and whenever an event comes:
    an event that got lost delays and loses nothing. Messages have no such number and are found by event. While nobody
    reads, the numbers are all that is looked at, once a second. Before the first look no stream is
    granted.
    """

    def __init__(self, ports: ApiPorts, hub: Hub, news: News) -> None:
        """Nothing is told before `run`."""
        self._ports = ports
        self._hub = hub
        self._news = news
        self._transition = 0
        self._log_entry = 0

    async def _start_from_here(self) -> None:
        """Take what is in the tables already as told."""
        async with self._ports.database.read() as session:
            transition = await session.scalar(select(func.max(sql.Transition.seq))) or 0
            log_entry = await session.scalar(select(func.max(sql.TicketLog.id))) or 0
        # Who has come meanwhile is told of all that came since the last look.
        if not self._hub.readers:
            self._transition, self._log_entry = transition, log_entry
            self._hub.begin()

    async def run(self) -> None:
        """Tell until cancelled."""
        tickets, messages = set[str](), set[str]()
        while True:
            try:
                if self._hub.readers:
                    async with self._ports.database.read() as session:
                        await self._tell(session, tickets, messages)
                else:
                    await self._start_from_here()
                    await asyncio.sleep(CYCLE_S)
            except Exception as error:
                if isinstance(error, DatabaseAwayError):
                    log.warning("changes cannot be read", reason=error.reason)
                else:
                    log.exception("reading the changes failed")
                self._hub.end_all("changes could not be read")
                await asyncio.sleep(RETRY_S)
            tickets, messages = await self._news.take(CYCLE_S)

    async def _tell(self, session: AsyncSession, tickets: set[str], messages: set[str]) -> None:
        while steps := await self._steps(session):
            shapes = await rows.alarms(session, {occurrence for _, occurrence in steps})
            self._hub.post([event("transitions", ALARMS.dump_json(shapes))])
            self._transition = steps[-1][0]
        await self._tell_tickets(session, tickets)
        for portion in _portions(messages):
            told = await rows.notifications(session, portion)
            self._hub.post([event("notifications", NOTIFICATIONS.dump_json(told))])

    async def _tell_tickets(self, session: AsyncSession, tickets: set[str]) -> None:
        entries = (
            select(sql.TicketLog.id, sql.TicketLog.ticket)
            .where(sql.TicketLog.id > self._log_entry)
            .order_by(sql.TicketLog.id)
        )
        for entry, ticket in await session.execute(entries):
            tickets.add(ticket)
            self._log_entry = entry
        for portion in _portions(tickets):
            query = rows.listed_tickets().where(sql.Ticket.id.in_(portion)).order_by(sql.Ticket.opened_ns)
            told = await rows.tickets(session, (await session.scalars(query)).all())
            self._hub.post([event("tickets", TICKETS.dump_json(told))])

    async def _steps(self, session: AsyncSession) -> list[tuple[int, str]]:
        newer = (
            select(sql.Transition.seq, sql.Transition.occurrence)
            .where(sql.Transition.seq > self._transition)
            .order_by(sql.Transition.seq)
            .limit(MOST_ROWS)
        )
        return list(await session.execute(newer))


def _portions(ids: set[str]) -> Iterator[list[str]]:
    ordered = sorted(ids)
    return (ordered[first : first + MOST_ROWS] for first in range(0, len(ordered), MOST_ROWS))


class PresentWatch:
    """Tells once a second of readings, projections, gateways and floods that changed; ends streams if nobody works."""

    def __init__(self, ports: ApiPorts, hub: Hub) -> None:
        """Nothing is told before `run`."""
        self._ports = ports
        self._hub = hub
        self._latest = Latest.unknown(len(ports.plant.points))
        self._projections = dict(ports.live.projections())
        self._flood = ports.live.flood()
        self._gateways: dict[str, tuple[str, ...]] = {}

    async def run(self) -> None:
        """Tell until cancelled; while nobody reads, nothing is looked at."""
        while True:
            await self._hub.wait_reader()
            await self._start_from_here()
            while self._hub.readers:
                await asyncio.sleep(CYCLE_S)
                missing = self._ports.ready()
                if missing is not None:
                    self._hub.end_all(missing)
                self._tell_readings(await self._look())
                self._tell_projections()
                self._tell_gateways()
                self._tell_flood()

    async def _start_from_here(self) -> None:
        """Take what is there when the first reader comes as told: it has read none of it before, and reads it all."""
        live = self._ports.live
        self._projections, self._flood = dict(live.projections()), live.flood()
        self._gateways = {each.id: _state_of(each) for each in gateways(self._ports.plant, live, self._latest)}
        self._latest = await self._look()

    async def _look(self) -> Latest:
        try:
            return await self._ports.live.latest()
        except ReadingsUnknownError:
            # What changes meanwhile is told when it is known.
            return self._latest

    def _tell_readings(self, latest: Latest) -> None:
        before, self._latest = self._latest, latest
        changed = np.ones(len(latest.time_ns), dtype=np.bool_)
        same = min(len(before.time_ns), len(latest.time_ns))
        changed[:same] = (before.time_ns[:same] != latest.time_ns[:same]) | (
            before.quality[:same] != latest.quality[:same]
        )
        points = np.flatnonzero(changed & (latest.time_ns != 0)).astype(np.int32)
        if len(points):
            self._hub.post_values(latest, points)

    def _tell_projections(self) -> None:
        before, self._projections = self._projections, dict(self._ports.live.projections())
        changed: dict[str, model.Projection | None] = {
            point: projection(found) for point, found in self._projections.items() if before.get(point) != found
        }
        changed |= dict.fromkeys(before.keys() - self._projections.keys())
        if changed:
            self._hub.post_projections(changed)

    def _tell_gateways(self) -> None:
        events: list[bytes] = []
        for gateway in gateways(self._ports.plant, self._ports.live, self._latest):
            state = _state_of(gateway)
            if self._gateways.get(gateway.id) != state:
                self._gateways[gateway.id] = state
                events.append(event_of("gateway", gateway))
        if events:
            self._hub.post(events)

    def _tell_flood(self) -> None:
        before, self._flood = self._flood, self._ports.live.flood()
        if self._flood != before:
            now = model.FloodNow(flood=None if self._flood is None else flood(self._flood))
            self._hub.post([event_of("flood", now)])


def _state_of(gateway: model.Gateway) -> tuple[str, ...]:
    # The counters move all the time; only coming and going is news.
    return (gateway.state, str(gateway.slice), *(f"{device.id} {device.state}" for device in gateway.devices))
