"""One cloud process: wired in a straight line, taken down in reverse."""

import asyncio
import gc
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from ssl import SSLContext
from typing import Final, NamedTuple

import structlog
from nats.aio.client import Client
from prometheus_client import CollectorRegistry
from sqlalchemy import func, select

from tocsin_cloud.adapters.channels import Channels
from tocsin_cloud.adapters.enrolment import Enrolment
from tocsin_cloud.adapters.history import History
from tocsin_cloud.adapters.history_copies import copying
from tocsin_cloud.adapters.history_open import open_history
from tocsin_cloud.adapters.host_state import announce
from tocsin_cloud.adapters.issued import IssuedFile
from tocsin_cloud.adapters.metrics import Metrics
from tocsin_cloud.adapters.metrics_watch import WatchMetrics
from tocsin_cloud.adapters.nats_server import NatsServer
from tocsin_cloud.adapters.own_certificates import cloud_context, secured
from tocsin_cloud.adapters.plant_record import note_plant
from tocsin_cloud.adapters.quarantine import Quarantine
from tocsin_cloud.adapters.settings_file import note_settings
from tocsin_cloud.adapters.signing import signing_key
from tocsin_cloud.adapters.sql.engine import Database, sqlite_url
from tocsin_cloud.adapters.sql.models import Occurrence
from tocsin_cloud.adapters.stream import connect, ensure_stream, publish_event
from tocsin_cloud.adapters.users import ensure_administrator
from tocsin_cloud.api.build import build_api
from tocsin_cloud.api.live_port import LivePort
from tocsin_cloud.api.ports import ApiPorts
from tocsin_cloud.api.remote import RemoteHistory, RemoteLive, WorkersMetrics, WorkersSilentError, answering
from tocsin_cloud.api.server import serving
from tocsin_cloud.api.stream_ports import StreamCommands, StreamEvents
from tocsin_cloud.loops.alarms import AlarmParts, AlarmsWorker
from tocsin_cloud.loops.certificates import CertificateParts, keep_certificates
from tocsin_cloud.loops.computed import Outlet
from tocsin_cloud.loops.evidence import EvidenceParts, keep_evidence
from tocsin_cloud.loops.historian import Historian, HistorianParts, retain
from tocsin_cloud.loops.live import LiveView
from tocsin_cloud.loops.look import LookParts, keep_looking
from tocsin_cloud.loops.notify import Notifier
from tocsin_cloud.loops.orders import OrderParts, keep_ordering
from tocsin_cloud.loops.points import PointTable
from tocsin_cloud.loops.quarantine import keep_quarantine
from tocsin_cloud.loops.slices import Slices
from tocsin_cloud.loops.ticker import tick
from tocsin_cloud.settings import LOOPBACK, Address, BrokerSettings, CloudSettings, Role
from tocsin_core.clock import Clock
from tocsin_core.plant import Plant

log = structlog.get_logger()

PASSWORD_VARIABLE: Final = "TOCSIN_ADMIN_PASSWORD"  # noqa: S105 -- the variable's name
CONSOLE: Final = Path(str(files("tocsin_cloud") / "console"))
Announce = Callable[[str, str], None]
Work = tuple[str, Callable[[], Awaitable[None]]]


class PartEndedError(RuntimeError):
    """A part returned although it should run until it is cancelled."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a process knows at its end: stored and raised over the data's life, quarantined since the workers' start.

    None where the interface never heard from the workers.
    """

    role: str
    readings_stored: int | None = None
    alarms_raised: int | None = None
    quarantined: int | None = None


async def run(
    settings: CloudSettings, plant: Plant, clock: Clock, stop: asyncio.Event, first_start: Announce
) -> Summary:
    """Run the process's role until `stop`; `first_start(user, password)` is called when the first user was made.

    Raises:
        HistoryError: another process works on this data folder.
        ExceptionGroup: a part failed. Nothing goes on half-alive: what is committed is safe, a restart goes on there.
    """
    settings.data.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        # The history's file is also what keeps a second process off the folder: nothing else is touched before.
        history = None
        if settings.role is not Role.API:
            history = await open_history(settings.history, settings.data, clock)
        note_settings(settings, plant.site.id)
        if history is not None:
            stack.push_async_callback(history.close)
            await stack.enter_async_context(copying(history, settings.data))
        server, url = await _broker(settings, plant, clock, stack)
        tls = _certified(settings, clock)
        client = await connect(url, f"tocsin-{settings.role}", tls)
        stack.push_async_callback(client.close)
        process = _Process(settings, plant, clock, client, stack, tls, server)
        if history is None:
            try:
                ports, works = await _interface(process, stop)
            except WorkersSilentError as error:
                log.info("cloud side ends", role=settings.role, reason=str(error))
                return Summary(settings.role)
        else:
            ports, works = await _workers(process, history, first_start)
        if server is not None:
            works.append(("broker", server.supervise))
        outlet = answering(client, ports) if settings.role is Role.WORKERS else _page(ports, settings)
        # What was loaded lives as long as the process: each full collection over it would hold up an alarm burst.
        gc.collect()
        gc.freeze()
        # Else DuckDB's binding complains at the end of the process about all that it could not collect.
        stack.callback(gc.unfreeze)
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(_part(name, work), name=name) for name, work in works]
            async with outlet:
                await stop.wait()
            log.info("cloud side ends", role=settings.role)
            for task in running:
                task.cancel()
        return await _summary(settings.role, ports)


class _Process(NamedTuple):
    settings: CloudSettings
    plant: Plant
    clock: Clock
    client: Client
    stack: AsyncExitStack
    tls: SSLContext | None
    server: NatsServer | None


async def _summary(role: Role, ports: ApiPorts) -> Summary:
    figures = ports.live.figures()
    async with ports.database.read() as session:
        raised = await session.scalar(select(func.count()).select_from(Occurrence))
    return Summary(role, figures.readings_stored, raised, sum(figures.quarantined.values()))


async def _workers(process: _Process, history: History, first_start: Announce) -> tuple[ApiPorts, list[Work]]:
    """History, alarms, tickets and messages, and what the interface needs of them in this process."""
    settings, plant, clock, client, stack, *_ = process
    metrics = Metrics()
    await ensure_stream(client, settings.stream)
    database = await Database.open(sqlite_url(settings.sql_file))
    stack.push_async_callback(database.close)
    given = os.environ.get(PASSWORD_VARIABLE)
    password = await ensure_administrator(database, clock, given)
    # Whoever gave the password knows it: it has no business in a log.
    if password is not None and given is None:
        first_start("admin", password)
    await note_plant(database, clock, plant.site.id, settings.plant)
    table = PointTable(plant, settings.strangers)
    live = LiveView(table)
    quarantine = Quarantine(database, metrics, settings.quarantine_kept)
    stack.push_async_callback(quarantine.flush)
    historian = Historian(HistorianParts(client, history, table, live, quarantine, metrics, clock, settings.historian))
    outlet = Outlet(client, table)
    ordered = asyncio.Event()
    alarms = AlarmsWorker(
        AlarmParts(
            client, database, plant, live, metrics, clock, settings.alarms, settings.snapshot_file, outlet, ordered
        )
    )
    orders = OrderParts(client, database, live, metrics, clock, ordered)
    issued, sign = IssuedFile.open(settings.data), signing_key(settings.data)
    slices = Slices(client, plant, live, issued, sign, metrics, clock)
    evidence = EvidenceParts(client, database, history, plant, clock, settings.alarms)
    watched = WatchMetrics(metrics.registry)
    certificates = CertificateParts(Enrolment(settings.authority_folder), live, watched, clock)
    look = LookParts(client, database, plant, live, watched, clock, settings.data)
    publish = partial(publish_event, client)
    notifier = Notifier(database, Channels(settings.outbox), publish, plant, clock, metrics.registry)
    ports = ApiPorts(
        plant=plant,
        database=database,
        history=history,
        live=LivePort(live, quarantine),
        commands=StreamCommands(client, plant.site.id, database),
        events=StreamEvents(client),
        clock=clock,
        metrics=metrics.registry,
        ready=lambda: None if alarms.ready else "the alarms worker is catching up",
        console=CONSOLE,
    )
    works: list[Work] = [
        ("historian", historian.run),
        ("retention", partial(retain, history, settings.historian, clock)),
        ("quarantine", partial(keep_quarantine, quarantine)),
        ("alarms", alarms.run),
        ("orders", partial(keep_ordering, orders)),
        ("slices", slices.run),
        ("computed", outlet.run),
        ("ticker", partial(tick, client, plant.site.id, settings.alarms.tick_interval_s, clock)),
        ("evidence", partial(keep_evidence, evidence)),
        ("notify", notifier.run),
        ("certificates", partial(keep_certificates, certificates)),
        ("look", partial(keep_looking, look)),
        ("host-state", partial(announce, settings.mqtt, clock, process.tls if settings.mqtt_tls else None)),
    ]
    if process.server is not None:
        works.append(("broker-users", partial(process.server.keep_users, watched.broker_refused)))
    return ports, works


async def _interface(process: _Process, stop: asyncio.Event) -> tuple[ApiPorts, list[Work]]:
    """The interface alone, on what the workers answer; once they have, the tables are there."""
    settings, plant, clock, client, stack, *_ = process
    live = RemoteLive(client, plant.site.id, clock)
    await live.hear(stop)
    database = await Database.open(sqlite_url(settings.sql_file))
    stack.push_async_callback(database.close)
    metrics = CollectorRegistry()
    metrics.register(WorkersMetrics(live))
    ports = ApiPorts(
        plant=plant,
        database=database,
        history=RemoteHistory(client, plant.site.id),
        live=live,
        commands=StreamCommands(client, plant.site.id, database),
        events=StreamEvents(client),
        clock=clock,
        metrics=metrics,
        ready=live.ready,
        console=CONSOLE,
    )
    return ports, [("workers", live.follow)]


@asynccontextmanager
async def _page(ports: ApiPorts, settings: CloudSettings) -> AsyncIterator[None]:
    async with serving(build_api(ports), *settings.http) as listening:
        log.info("cloud side ready", page=f"http://{Address(*listening)}/", plant=ports.plant.name)
        yield


async def _part(name: str, work: Callable[[], Awaitable[None]]) -> None:
    try:
        await work()
    except Exception:
        log.exception("part failed", part=name)
        raise
    raise PartEndedError(name)


async def _broker(
    settings: CloudSettings, plant: Plant, clock: Clock, stack: AsyncExitStack
) -> tuple[NatsServer | None, str]:
    if settings.nats_url is not None:
        return None, settings.nats_url
    tls = users = None
    if settings.mqtt_tls:
        hosts = [settings.mqtt.host, *(gateway.uplink.host for gateway in plant.file.gateways)]
        tls, users = secured(settings.authority_folder, hosts, clock)
    nats = Address(LOOPBACK, _free_port())
    broker = BrokerSettings(folder=settings.broker_folder, nats=nats, mqtt=settings.mqtt, tls=tls)
    server = await NatsServer.start(broker, clock, users)
    stack.push_async_callback(server.stop)
    return server, server.url


def _certified(settings: CloudSettings, clock: Clock) -> SSLContext | None:
    """With what the broker is called that wants a certificate."""
    if settings.mqtt_tls or (settings.nats_url or "").startswith("tls://"):
        return cloud_context(settings.authority_folder, clock)
    return None


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
