"""What the cloud side's tests stand on: a broker, a small plant, a gateway that keeps its batches, a cloud process."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, Self

import aiomqtt
import httpx
import numpy as np
import pytest
from nats.js.api import ConsumerConfig, ConsumerInfo
from nats.js.manager import JetStreamManager
from sqlalchemy import update

from tests.support.http import plain_client
from tests.support.ports import free_port
from tests.support.wait import eventually_async
from tocsin_cloud.adapters.lease import Lease
from tocsin_cloud.adapters.nats_server import NatsServer
from tocsin_cloud.adapters.sql import models as sql
from tocsin_cloud.adapters.sql.engine import Database
from tocsin_cloud.settings import Address, BrokerSettings
from tocsin_core.clock import Clock, SystemClock
from tocsin_core.readings import GOOD
from tocsin_core.sparkplug import ClockState, EdgeDevice, EdgeMetric, EdgeSession, parse_command
from tocsin_core.sparkplug.edge import Columns

HOST = "127.0.0.1"
_NUMBERS = count()
# A process that starts takes long on a machine that does much else.
START_S = 120
SITE, GATEWAY, DEVICE, POINT = "site", "gw", "D1", "P1"

PLANT = """
tocsin: 1
site: {id: site, name: Site}
hazard_sources: [{id: tank, name: Tank}]
people: [{id: anna, name: Anna, channels: ["outbox://anna"]}]
rosters: [{id: duty, name: Duty, shifts: [{from: "00:00", to: "00:00", people: [anna]}]}]
notify: {min_priority: high, steps: [{after_s: 0, to: [duty]}]}
gateways:
  - id: gw
    devices:
      - id: D1
        mqtt: {topic: d1}
        source: tank
        points:
          - {id: P1, name: P1, kind: generic, unit: kPa, range: [0, 100], field: v,
             alarms: {H: {setpoint: 50, deadband: 5, off_delay_s: 0, priority: high}, bad: false, stale: false}}
          - {id: P2, name: P2, kind: generic, unit: kPa, range: [0, 100], field: w, alarms: {bad: false, stale: false}}
  - id: theirs
    external: true
    devices:
      - id: plc
        points:
          - {id: X1, name: X1, kind: generic, unit: bar, range: [0, 10], metric: tank/pressure,
             alarms: {H: {setpoint: 5, deadband: 0.5, off_delay_s: 0, priority: high}, bad: false, stale: false}}
"""


COMPUTED = """
computed:
  - id: V1
    name: V1
    source: tank
    from: {rule: vote, of: [P1, P2], need: 2}
    alarms: {H: {setpoint: 50, deadband: 5, on_delay_s: 0, off_delay_s: 0, priority: high}}
first_out: [{id: tank-first, name: {zh: 储罐首出, en: Tank}, alarms: [P1/H, V1/H]}]
"""


def plant_folder(folder: Path, more: str = "") -> Path:
    """Write the small plant, and what `more` adds to it, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plant.yaml").write_text(PLANT + more, encoding="utf-8")
    return folder


@asynccontextmanager
async def broker(folder: Path) -> AsyncIterator[tuple[NatsServer, BrokerSettings]]:
    """Run an embedded nats-server of the cloud side, watched over, on free ports."""
    settings = BrokerSettings(folder=folder, nats=Address(HOST, free_port()), mqtt=Address(HOST, free_port()))
    server = await NatsServer.start(settings, SystemClock())
    watching = asyncio.create_task(server.supervise())
    try:
        yield server, settings
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        await server.stop()


def columns(values: dict[int, float], time_ms: int) -> Columns:
    """One good reading of each metric position in `values`."""
    n = len(values)
    return Columns(
        np.fromiter(values, np.int64, n),
        np.full(n, time_ms, np.int64),
        np.fromiter(values.values(), np.float64, n),
        np.full(n, GOOD, np.uint8),
    )


@dataclass
class SpoolingGateway:
    """A gateway of ours in a few lines: it keeps every batch until it is acknowledged, and sends what is not again."""

    mqtt: Address
    newest: int = 0
    committed: int = 0
    rebirths: int = 0
    batches: dict[int, Columns] = field(default_factory=dict)
    bd_seq: int = 0
    clock: ClockState | None = None
    metrics: tuple[EdgeMetric, ...] = (EdgeMetric(POINT, "kPa", 0.0, 100.0), EdgeMetric("P2"))

    def __post_init__(self) -> None:
        """Be the gateway `gw` with its one device."""
        self.session = EdgeSession(SITE, GATEWAY, [EdgeDevice(DEVICE, self.metrics)])
        self._client: aiomqtt.Client | None = None

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Self]:
        """Be connected and born; commands are obeyed meanwhile."""
        self.bd_seq += 1
        will = self.session.will(self.bd_seq, now_ms())
        async with aiomqtt.Client(
            self.mqtt.host,
            self.mqtt.port,
            identifier="test-gw",
            will=aiomqtt.Will(will.topic, will.payload, qos=1),
        ) as client:
            self._client = client
            await client.subscribe(self.session.command_topic, qos=1)
            await self._be_born()
            hearing = asyncio.create_task(self._hear(client))
            try:
                yield self
            finally:
                hearing.cancel()
                with suppress(asyncio.CancelledError):
                    await hearing

    async def send(self, values: dict[int, float], *, time_ms: int | None = None) -> None:
        """Keep one batch and send it."""
        self.newest += 1
        unset_ms = None if self.clock is None or self.clock.synchronised else self.clock.since_ms
        self.batches[self.newest] = replace(columns(values, time_ms or now_ms()), unsynchronised_ms=unset_ms)
        await self.send_again(self.newest)

    async def send_again(self, number: int) -> None:
        """Send a batch that is kept."""
        assert self._client is not None
        message = self.session.ddata(DEVICE, self.batches[number], number, now_ms(), historical=False)
        await self._client.publish(message.topic, message.payload, qos=0)

    async def tell_clock(self, clock: ClockState) -> None:
        """Have a clock in another state from now on, and tell it."""
        assert self._client is not None
        self.clock = clock
        message = self.session.clock(clock, now_ms())
        await self._client.publish(message.topic, message.payload, qos=0)

    async def _be_born(self) -> None:
        assert self._client is not None
        birth = self.session.nbirth(self.newest, self.committed + 1, now_ms(), self.clock)
        await self._client.publish(birth.topic, birth.payload, qos=0)
        calm = dict.fromkeys(range(len(self.metrics)), 0.0)
        device = self.session.dbirth(DEVICE, columns(calm, now_ms() - 60_000), self.newest, now_ms())
        await self._client.publish(device.topic, device.payload, qos=0)
        for number in sorted(self.batches):
            if number > self.committed:
                await self.send_again(number)

    async def _hear(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            command = parse_command(message.payload)
            if command.committed is not None and command.committed <= self.newest:
                if command.committed < self.committed:
                    self.committed = command.committed
                    oldest = self.session.ndata(self.committed + 1, now_ms())
                    await client.publish(oldest.topic, oldest.payload, qos=0)
                    for number in sorted(self.batches):
                        if number > self.committed:
                            await self.send_again(number)
                self.committed = max(self.committed, command.committed)
            if command.rebirth:
                self.rebirths += 1
                await self._be_born()


def candidate(database: Database, name: str = "alarms", clock: Clock | None = None) -> Lease:
    """A new candidate for a lease."""
    return Lease(database, name, f"test-{next(_NUMBERS)}", clock or SystemClock())


async def held(database: Database, name: str, clock: Clock | None = None) -> Lease:
    """A lease that nobody had, and that nobody keeps: it is there for transactions."""
    lease = candidate(database, name, clock)
    assert await lease.take()
    return lease


async def depose(database: Database, name: str = "alarms") -> None:
    """Make the next candidate take a lease at once, as if its holder had stood still."""
    async with database.write() as session:
        await session.execute(update(sql.Lease).where(sql.Lease.name == name).values(holder=""))


def let_a_server_be_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every consumer from now on send nothing at first, and tell that there is nothing.

    As one does on a server of a cluster that is behind the others: two of a thousand did on a real one that was killed
    and had come back.
    """
    add_consumer = JetStreamManager.add_consumer

    async def add_late(manager: JetStreamManager, name: str, config: ConsumerConfig) -> ConsumerInfo:
        until_s = SystemClock().now_ns() / 1e9 + 2.5
        config.pause_until = datetime.fromtimestamp(until_s, tz=UTC).isoformat()
        return await add_consumer(manager, name, config)

    monkeypatch.setattr(JetStreamManager, "add_consumer", add_late)


def now_ms() -> int:
    """The wall clock in milliseconds."""
    return SystemClock().now_ns() // 1_000_000


@dataclass
class CloudProcess:
    """`tocsin cloud` in a process of its own, on somebody else's broker unless `nats` is empty."""

    plant: Path
    data: Path
    nats: str
    mqtt: Address
    http: Address = field(default_factory=lambda: Address(HOST, free_port()))
    process: subprocess.Popen[bytes] | None = None
    role: str = "all"
    history: str = "duckdb"
    more: tuple[str, ...] = ()

    def start(self) -> None:
        """Start it; it is not ready yet."""
        self.data.mkdir(parents=True, exist_ok=True)
        arguments = ["cloud", str(self.plant), "--data", str(self.data), "--http", str(self.http)]
        arguments += ["--mqtt", str(self.mqtt), "--role", self.role, "--history", self.history, *self.more]
        if self.nats:
            arguments += ["--nats", self.nats]
        with (self.data / f"{self.role}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tocsin_cli", *arguments],
                stdout=log,
                stderr=log,
                env=os.environ | {"TOCSIN_ADMIN_PASSWORD": "a long test password"},
            )

    async def stand_still(self) -> None:
        """Stop it (SIGSTOP), and not in the middle of a transaction: SQLite would let nobody else write."""
        assert self.process is not None
        while True:
            self.process.send_signal(signal.SIGSTOP)
            with closing(sqlite3.connect(self.data / "tocsin.sqlite", timeout=0, isolation_level=None)) as database:
                try:
                    database.execute("BEGIN IMMEDIATE")
                except sqlite3.OperationalError:
                    self.process.send_signal(signal.SIGCONT)
                    await asyncio.sleep(0.05)
                else:
                    database.execute("ROLLBACK")
                    return

    def end(self, number: int = signal.SIGTERM) -> int:
        """End it by a signal; returns its exit code."""
        if self.process is None:
            return 0
        self.process.send_signal(number)
        code = self.process.wait(30)
        self.process = None
        return code

    async def ready(self) -> bool:
        """Whether it says that it is ready."""
        try:
            async with plain_client() as client:
                return (await client.get(f"http://{self.http}/readyz")).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    async def until_ready(self) -> None:
        """Wait until it says so."""
        await eventually_async(self.ready, START_S)

    async def get(self, resource: str) -> Any:  # noqa: ANN401 -- whatever JSON the resource has
        """A resource of the API, asked for as the administrator."""
        async with self._signed_in() as client:
            return (await client.get(f"/{resource}")).raise_for_status().json()

    async def post(self, resource: str, body: dict[str, Any]) -> Any:  # noqa: ANN401 -- whatever JSON is answered
        """Ask something of a resource of the API, as the administrator."""
        async with self._signed_in() as client:
            return (await client.post(f"/{resource}", json=body)).raise_for_status().json()

    @asynccontextmanager
    async def _signed_in(self) -> AsyncIterator[httpx.AsyncClient]:
        async with plain_client(f"http://{self.http}/api/v1") as client:
            answer = await client.post("/session", json={"user": "admin", "password": "a long test password"})
            client.headers["Authorization"] = f"Bearer {answer.raise_for_status().json()['token']}"
            yield client

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """The answer of the SQL database, read beside the process; nothing while there are no tables yet."""
        path = self.data / "tocsin.sqlite"
        if not path.exists():
            return []
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database, suppress(sqlite3.OperationalError):
            return database.execute(query).fetchall()
        return []
