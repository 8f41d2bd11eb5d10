"""One cloud process: wired in a straight line, taken down in reverse."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Final

import structlog

from tocsin_cloud.adapters.accounts import ensure_administrator
from tocsin_cloud.adapters.channels import Channels
from tocsin_cloud.adapters.history_duckdb import DuckdbHistory
from tocsin_cloud.adapters.host_state import announce
from tocsin_cloud.adapters.metrics import Metrics
from tocsin_cloud.adapters.nats_server import NatsServer
from tocsin_cloud.adapters.quarantine import Quarantine
from tocsin_cloud.adapters.sql.engine import Database, sqlite_url
from tocsin_cloud.adapters.stream import connect, ensure_stream, publish_event
from tocsin_cloud.api.build import build_api
from tocsin_cloud.api.live_port import LivePort
from tocsin_cloud.api.ports import ApiPorts
from tocsin_cloud.api.server import serving
from tocsin_cloud.api.stream_ports import StreamCommands, StreamEvents
from tocsin_cloud.loops.alarms import AlarmParts, AlarmsWorker
from tocsin_cloud.loops.evidence import EvidenceParts, keep_evidence
from tocsin_cloud.loops.historian import Historian, HistorianParts, retain
from tocsin_cloud.loops.live import LiveView
from tocsin_cloud.loops.notify import Notifier
from tocsin_cloud.loops.points import PointTable
from tocsin_cloud.loops.quarantine import keep_quarantine
from tocsin_cloud.loops.ticker import tick
from tocsin_cloud.settings import LOOPBACK, Address, BrokerSettings, CloudSettings
from tocsin_core.clock import Clock
from tocsin_core.plant import Plant

log = structlog.get_logger()

PASSWORD_VARIABLE: Final = "TOCSIN_ADMIN_PASSWORD"  # noqa: S105 -- the variable's name
Announce = Callable[[str, str], None]


class RoleEndedError(RuntimeError):
    """A role returned although it should run until it is cancelled."""


async def run(settings: CloudSettings, plant: Plant, clock: Clock, stop: asyncio.Event, first_start: Announce) -> None:
    """Run every role until `stop`; `first_start(user, password)` is called when the first user was made.

    Raises:
        ExceptionGroup: a role failed. Nothing goes on half-alive: what is committed is safe, a restart goes on there.
    """
    settings.data.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        metrics = Metrics()
        server, url = await _broker(settings, clock, stack)
        client = await connect(url, "tocsin-cloud")
        stack.push_async_callback(client.close)
        await ensure_stream(client, settings.stream)

        database = await Database.open(sqlite_url(settings.sql_file))
        stack.push_async_callback(database.close)
        password = await ensure_administrator(database, clock, os.environ.get(PASSWORD_VARIABLE))
        if password is not None:
            first_start("admin", password)
        history = await DuckdbHistory.open(settings.history_file)
        stack.push_async_callback(history.close)

        table = PointTable(plant)
        live = LiveView(table)
        quarantine = Quarantine(database, metrics, settings.quarantine_kept)
        stack.push_async_callback(quarantine.flush)
        historian = Historian(
            HistorianParts(client, history, table, live, quarantine, metrics, clock, settings.historian)
        )
        alarms = AlarmsWorker(
            AlarmParts(client, database, plant, live, metrics, clock, settings.alarms, settings.snapshot_file)
        )
        evidence = EvidenceParts(client, database, history, plant, clock, settings.alarms)
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
            console=Path(str(files("tocsin_cloud") / "console")),
        )
        works: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            ("historian", historian.run),
            ("retention", partial(retain, history, settings.historian, clock)),
            ("quarantine", partial(keep_quarantine, quarantine)),
            ("alarms", alarms.run),
            ("ticker", partial(tick, client, plant.site.id, settings.alarms.tick_interval_s, clock)),
            ("evidence", partial(keep_evidence, evidence)),
            ("notify", notifier.run),
            ("host-state", partial(announce, settings.mqtt, clock)),
        ]
        if server is not None:
            works.append(("broker", server.supervise))
        async with asyncio.TaskGroup() as roles:
            running = [roles.create_task(_role(name, work), name=name) for name, work in works]
            async with serving(build_api(ports), *settings.http) as listening:
                log.info("cloud side ready", page=f"http://{Address(*listening)}/", plant=plant.name)
                await stop.wait()
            log.info("cloud side ends")
            for task in running:
                task.cancel()


async def _role(name: str, work: Callable[[], Awaitable[None]]) -> None:
    try:
        await work()
    except Exception:
        log.exception("role failed", role=name)
        raise
    raise RoleEndedError(name)


async def _broker(settings: CloudSettings, clock: Clock, stack: AsyncExitStack) -> tuple[NatsServer | None, str]:
    if settings.nats_url is not None:
        return None, settings.nats_url
    address = Address(LOOPBACK, _free_port())
    server = await NatsServer.start(
        BrokerSettings(folder=settings.broker_folder, nats=address, mqtt=settings.mqtt), clock
    )
    stack.push_async_callback(server.stop)
    return server, server.url


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
