"""Real gateways on a real cluster (three NATS servers, PostgreSQL, two workers), of which each part fails in turn."""

import asyncio
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

import duckdb
import numpy as np
import psutil
import pytest
from sqlalchemy import text

from tests.cloud.rig import CloudProcess, now_ms
from tests.e2e.test_partition import HIGH, LOW, SENSORS, plant_file
from tests.edge.rig import Gateway, Slave
from tests.support.machines import Cut, Machines, machines, need_machines
from tests.support.nats import listens
from tests.support.nats_cluster import SERVERS, NatsCluster, nats_cluster
from tests.support.postgres import Postgres, postgres
from tests.support.wait import eventually_async
from tocsin_cli.bench import faults_cloud_gateway as without_alarms
from tocsin_cli.bench.faults_cloud_bed import points_of
from tocsin_cloud.adapters.sql.engine import Database
from tocsin_cloud.settings import BrokerSettings
from tocsin_core.clock import SystemClock
from tocsin_core.engine import occurrence_id
from tocsin_core.journal import decode
from tocsin_core.readings import BAD_NOT_CONNECTED, GOOD
from tocsin_core.sparkplug.edge import Columns
from tocsin_edge.adapters.metrics import ask
from tocsin_edge.adapters.spool import Spool

LONG_S: Final = 120
# nats-server 2.15.1 now and then tries for minutes before a server that is back has all of the stream.
WHOLE_S: Final = 300
# How long the database is away.
AWAY_S: Final = 4.0
STEP_S: Final = 0.4
# A gateway that decides no alarms: the cloud side does.
PUBLISHER: Final = "pub"
# A server that takes connections and says on which port, and an attempt to connect to it.
ANSWERS: Final = """
import socket
with socket.create_server(("", 0)) as server:
    print(server.getsockname()[1], flush=True)
    while True:
        server.accept()
"""
TRIES: Final = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 0.5)"
POINTS: Final = 120
TICKS_A_POINT: Final = 4


class Rise(without_alarms.Course):
    """Points that go over their limit one after the other and stay there, until all of them return.

    What is lost on the way comes late, and late readings raise nothing: so a point is raised once, whenever that is.
    """

    returning = False
    _ticks = 0

    @property
    def risen(self) -> list[str]:
        """The points that have gone over their limit."""
        return self.points[: self._ticks // TICKS_A_POINT]

    def tick(self, time_ms: int) -> Columns:
        """Read all of them once more."""
        self._ticks += not self.returning
        count, high = len(self.points), 0 if self.returning else len(self.risen)
        value = np.where(np.arange(count) < high, without_alarms.HIGH, without_alarms.LOW)
        return Columns(np.arange(count), np.full(count, time_ms, np.int64), value, np.full(count, GOOD, np.uint8))


@dataclass
class Plant:
    """The cluster with a plant on it; the servers are on `machines` where there are any."""

    folder: Path
    machines: Machines | None
    cluster: NatsCluster
    server: Postgres
    database: Database
    workers: list[CloudProcess]
    gateway: Gateway
    slave: Slave
    course: Rise
    publisher: without_alarms.Gateway

    async def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What the database answers."""
        async with self.database.read() as session:
            return [tuple(row) for row in await session.execute(text(query))]

    async def swing(self) -> None:
        """Let the values rise over their limits and return, one sensor after the other, until cancelled."""
        while True:
            for unit in SENSORS.values():
                for value in (HIGH, LOW):
                    self.slave.value[unit] = value
                    await asyncio.sleep(STEP_S)

    async def ready(self) -> bool:
        """Whether one of the workers has the alarms."""
        return any([await worker.ready() for worker in self.workers])

    async def restart_workers(self) -> None:
        """Start every worker that has ended anew, as whoever watches over it does, until cancelled."""
        while True:
            for worker in self.workers:
                if worker.process is not None and worker.process.poll() is not None:
                    worker.start()
            await asyncio.sleep(0.2)

    async def goes_on(self) -> None:
        """Wait until an alarm is known that was raised from now on, and what is read from now on is acknowledged."""
        now_ns, batch = SystemClock().now_ns(), self.gateway.counters()["batch_last"]
        newer = f"SELECT id FROM occurrence WHERE raised_ns > {now_ns}"  # noqa: S608 -- a number
        await eventually_async(lambda: self.rows(newer), LONG_S, 0.1)
        await eventually_async(lambda: self.gateway.counters()["batch_committed"] > batch, LONG_S, 0.1)

    async def all_go_on(self) -> None:
        """Wait until also the publisher, which knows one server only, is acknowledged what it reads from now on."""
        batch = self.publisher.newest
        await self.goes_on()
        await eventually_async(lambda: self.publisher.committed > batch, LONG_S, 0.1)

    def gateways_server(self) -> int | None:
        """The number of the server that the gateway is connected to."""
        try:
            to = json.loads(ask(self.gateway.spool.parent, "/status"))["link"]["to"]
        except OSError:
            return None
        return _only(number for number, server in enumerate(self.cluster.servers) if str(server.mqtt) == to)

    def stop_the_gateway(self) -> None:
        """Make sure that the gateway, whichever it is now, is gone."""
        self.gateway.stop()

    async def bring_the_gateway_to(self, number: int) -> None:
        """Start the gateway anew so that it begins with this server."""
        assert await asyncio.to_thread(self.gateway.end, signal.SIGTERM) == 0
        servers = [self.cluster.servers[(number + after) % SERVERS] for after in range(SERVERS)]
        self.gateway = gateway_at(self.folder, servers)
        self.gateway.start()
        await eventually_async(lambda: self.gateways_server() == number, LONG_S, 0.1)

    def workers_server(self, worker: CloudProcess) -> int | None:
        """The number of the server that a worker is connected to."""
        assert worker.process is not None
        links = {tuple(link.raddr) for link in psutil.Process(worker.process.pid).net_connections("tcp")}
        return _only(number for number, server in enumerate(self.cluster.servers) if tuple(server.nats) in links)

    async def holder(self, role: str) -> CloudProcess:
        """The worker that holds the lease of a role."""
        ((name,),) = await self.rows(f"SELECT holder FROM lease WHERE name = '{role}'")  # noqa: S608 -- ours
        (found,) = [worker for worker in self.workers if worker.process and f":{worker.process.pid}:" in name]
        return found


def gateway_at(folder: Path, servers: Sequence[BrokerSettings]) -> Gateway:
    """The gateway of the plant in `folder`, with the servers that it tries, in their order."""
    return Gateway(folder / "plant", folder / "edge", "--uplink", ",".join(str(server.mqtt) for server in servers))


def _only(found: Iterable[int]) -> int | None:
    """What was found, if it is one."""
    numbers = list(found)
    return numbers[0] if len(numbers) == 1 else None


@asynccontextmanager
async def plant_on_a_cluster(folder: Path) -> AsyncIterator[Plant]:
    """Everything at work: the gateway decides, both workers are there, and what it said has arrived."""
    async with AsyncExitStack() as stack:
        apart = stack.enter_context(machines(SERVERS))
        cluster = stack.enter_context(nats_cluster(folder / "nats", apart))
        # With the database's own settings: what is committed outlives its being killed.
        server = stack.enter_context(postgres(folder / "sql", settings=()))
        url = server.make("tocsin")
        slave = await stack.enter_async_context(Slave(dict.fromkeys(SENSORS.values(), LOW)).serve())
        folders = with_publisher(plant_file(folder / "plant", 1883, slave.port, {}))
        brokers = ",".join(str(each.mqtt) for each in cluster.servers)
        address = f"postgresql://{url.username}@{url.host}:{url.port}/{url.database}"
        more = ("--sql", address, "--mqtt", brokers)
        workers = [
            CloudProcess(folders, folder / "cloud", cluster.url, each.mqtt, more=more) for each in cluster.servers[:2]
        ]
        database = Database.as_it_is(url)
        stack.push_async_callback(database.close)
        gateway = gateway_at(folder, cluster.servers)
        host, port = cluster.servers[0].mqtt
        course = Rise(points_of(PUBLISHER, POINTS), Random(1))  # noqa: S311 -- readings, not secrets
        publisher = without_alarms.Gateway(PUBLISHER, port, course, SystemClock(), host=host, site="site")
        plant = Plant(folder, apart, cluster, server, database, workers, gateway, slave, course, publisher)
        for worker in workers:
            stack.callback(worker.end, signal.SIGKILL)
            worker.start()
        await eventually_async(plant.ready, LONG_S)
        stack.callback(plant.stop_the_gateway)
        plant.gateway.start()
        await eventually_async(lambda: plant.rows("SELECT * FROM gateway_journal"), LONG_S)
        await eventually_async(cluster.whole, LONG_S)
        yield plant


def with_publisher(plant: Path) -> Path:
    """Add the publisher's points, each with a high alarm, to a plant whose gateways stand last in its file."""
    limit = f"{{setpoint: {without_alarms.SETPOINT}, deadband: 5, on_delay_s: 0, off_delay_s: 0, priority: high}}"
    lines = [f"  - id: {PUBLISHER}", "    devices:", f"      - id: {without_alarms.DEVICE}", "        mqtt: {topic: d}"]
    lines += ["        points:"]
    for point in points_of(PUBLISHER, POINTS):
        has = f"kind: generic, unit: bar, range: [0, 100], field: {point}"
        lines += [
            f"          - {{id: {point}, name: {point}, {has}, alarms: {{H: {limit}, bad: false, stale: false}}}}"
        ]
    with (plant / "plant.yaml").open("a", encoding="utf-8") as file:
        file.write("\n".join([*lines, ""]))
    return plant


@pytest.mark.timeout(900)
def test_whatever_fails_nothing_is_lost_and_nothing_doubled(tmp_path: Path) -> None:
    """The stream's leader and the worker killed, the database away, servers cut off: every reading, every alarm once.

    Of the gateway's own alarms, and of those that the cloud side decides. After each fault new readings are
    acknowledged and new alarms raised before the next one comes. A server is cut off by the network, where this
    machine allows it to be, else by its standing still.
    """

    async def story() -> None:
        async with plant_on_a_cluster(tmp_path) as plant, asyncio.TaskGroup() as tasks:
            doing = (plant.swing, plant.publisher.read, plant.restart_workers)
            speaking = tasks.create_task(plant.publisher.speak(), name="speak")
            busy = [tasks.create_task(does(), name=does.__name__) for does in doing]
            await plant.all_go_on()
            for fault in faults(plant):
                await fault(plant)
                await plant.all_go_on()
            await all_returned(plant)
            for task in busy:
                task.cancel()
            await asyncio.wait(busy)
            await everything_said(plant)
            speaking.cancel()
            await everything_once(plant)

    asyncio.run(story())


def test_a_machine_is_cut_off_from_its_peers_alone() -> None:
    """What the test above cuts is cut: its peers do not reach the machine any more, we do, and they do afterwards."""
    with machines(2) as found:
        apart = need_machines(found)
        server = subprocess.Popen(apart.command(1, [sys.executable, "-c", ANSWERS]), stdout=subprocess.PIPE)
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            for how in Cut:
                assert (listens(port, apart.address(1)), reached(apart, port)) == (True, True)
                apart.cut(1, how)
                assert (listens(port, apart.address(1)), reached(apart, port)) == (True, False)
                apart.mend(1)
        finally:
            server.kill()
            server.communicate()


def reached(apart: Machines, port: int) -> bool:
    """Whether the first machine reaches a port of the second."""
    tried = [sys.executable, "-c", TRIES, apart.peer(1), str(port)]
    return subprocess.run(apart.command(0, tried), check=False, capture_output=True).returncode == 0


Fault = Callable[[Plant], Awaitable[None]]


def faults(plant: Plant) -> tuple[Fault, ...]:
    """What happens, in turn."""
    cut_off = server_stands_still if plant.machines is None else server_cut_off
    return (leader_killed, worker_killed, database_away, cut_off)


async def leader_killed(plant: Plant) -> None:
    """Kill the server that leads the stream, and bring it back once the cluster goes on without it."""
    leader = await plant.cluster.leader()
    plant.cluster.kill(leader)
    await plant.goes_on()
    plant.cluster.start(leader)
    # Before it is whole no other one may go.
    await eventually_async(plant.cluster.whole, WHOLE_S, 0.5)


async def worker_killed(plant: Plant) -> None:
    """Kill the worker that decides alarms, and bring it back once the other one does."""
    worker = await plant.holder("alarms")
    worker.end(signal.SIGKILL)
    await plant.goes_on()
    worker.start()


async def database_away(plant: Plant) -> None:
    """Kill the database, and bring it back after some seconds."""
    await asyncio.to_thread(plant.server.stop)
    await asyncio.sleep(AWAY_S)
    await asyncio.to_thread(plant.server.start)


async def server_stands_still(plant: Plant) -> None:
    """Let the server that the gateway is connected to stand still, and go on after the others went on without it."""
    number = await somewhere(plant.gateways_server)
    plant.cluster.hold(number)
    try:
        await plant.goes_on()
    finally:
        plant.cluster.release(number)


async def server_cut_off(plant: Plant) -> None:
    """Cut off a server, at which the gateway and the deciding worker are, until both are at others; and once more.

    Once the network swallows all between it and the other two, once its link is down. It is the same server, for its
    copy of the stream may not be whole for minutes after it is back, and then no other one may go.
    """
    worker = await plant.holder("alarms")
    number = await somewhere(lambda: plant.workers_server(worker))
    await plant.bring_the_gateway_to(number)
    async with cut(plant, number, Cut.SILENT):
        await eventually_async(lambda: plant.gateways_server() not in (None, number), LONG_S, 0.1)
        await eventually_async(lambda: plant.workers_server(worker) not in (None, number), LONG_S, 0.1)
        await plant.goes_on()
    await plant.all_go_on()
    async with cut(plant, number, Cut.DOWN):
        await plant.goes_on()


async def somewhere(server_of_whom: Callable[[], int | None]) -> int:
    """The number of the server that somebody is connected to, as soon as there is one."""
    (number,) = await eventually_async(lambda: [found for found in (server_of_whom(),) if found is not None])
    return number


@asynccontextmanager
async def cut(plant: Plant, number: int, how: Cut) -> AsyncIterator[None]:
    """Cut a server off from the other two, and from nobody else; begins once it knows that it is alone."""
    assert plant.machines is not None
    plant.machines.cut(number, how)
    try:
        await eventually_async(lambda: plant.cluster.alone(number), LONG_S, 0.1)
        yield
    finally:
        plant.machines.mend(number)


async def all_returned(plant: Plant) -> None:
    """Let all of the publisher's points return, and wait for it."""
    plant.course.returning = True
    standing = f"SELECT id FROM occurrence WHERE alarm LIKE '{PUBLISHER}%' AND returned_ns IS NULL"  # noqa: S608 -- ours

    async def returned() -> bool:
        return not await plant.rows(standing)

    await plant.all_go_on()
    await eventually_async(returned, LONG_S)


async def everything_said(plant: Plant) -> None:
    """Wait until nothing waits for an acknowledgement, and end the gateway."""
    await eventually_async(lambda: plant.publisher.committed == plant.publisher.newest, LONG_S)
    await eventually_async(lambda: _all_acknowledged(plant.gateway.counters()), LONG_S)
    assert await asyncio.to_thread(plant.gateway.end, signal.SIGTERM) == 0


async def everything_once(plant: Plant) -> None:
    """Compare: what was read, and what the gateway decided and the cloud side had to, is recorded, each once."""
    counters = plant.gateway.counters()
    assert counters["readings_committed"] == counters["readings_polled"]
    with closing(Spool.open(plant.gateway.spool, 64, 600, now_ms())) as spool:
        read, decided = kept(spool), steps(spool)
    # Of silence the cloud side judges by itself: only the limits are the gateway's.
    recorded = await plant.rows("SELECT occurrence, event FROM transition WHERE alarm LIKE '_/H'")
    assert Counter(recorded) == decided
    assert set(decided.values()) == {1}
    ours = f"alarm LIKE '{PUBLISHER}%'"
    told = await plant.rows(f"SELECT alarm, event FROM transition WHERE {ours}")  # noqa: S608 -- ours
    raised = {f"{point}/H" for point in plant.course.risen}
    assert Counter(told) == Counter((alarm, event) for alarm in raised for event in ("raise", "return"))
    # Who was called for what nobody has answered is called again later, which is not counted here.
    calls = Counter(await plant.rows("SELECT occurrence FROM message WHERE round_ns = 0 AND repeat = 0"))
    assert set(calls.values()) == {1}
    assert {(one,) for (one,) in await plant.rows(f"SELECT id FROM occurrence WHERE {ours}")} <= calls.keys()  # noqa: S608 -- ours
    for worker in plant.workers:
        worker.end()
    assert stored(plant.workers[0].data) == read + Counter(plant.publisher.readings())


def _all_acknowledged(counters: dict[str, int]) -> bool:
    return counters["journal_committed"] == counters["journal_last"]


def kept(spool: Spool) -> Counter[tuple[str, int]]:
    """Point and time (ms) of every reading that the gateway made: committed batches are kept for a while."""
    return Counter(
        (batch.metrics[metric], int(time_ms))
        for batch in spool.since(0, 1_000_000)
        for metric, time_ms in zip(batch.columns.metric, batch.columns.time_ms, strict=True)
    )


def steps(spool: Spool) -> Counter[tuple[str, str]]:
    """Occurrence and event of every entry of the gateway's alarm journal."""
    entries = (decode(entry.body) for entry in spool.journal.since(0))
    return Counter(
        (occurrence_id(each.alarm, each.onset_ns), each.event.text) for each in entries if each.event is not None
    )


def stored(data: Path) -> Counter[tuple[str, int]]:
    """Point and time (ms) of every reading in the history, without what the death of a gateway marked there."""
    with duckdb.connect(str(data / "history.duckdb"), read_only=True) as history:
        rows = history.execute(
            "SELECT id, time_ns // 1000000 FROM readings JOIN points ON key = point WHERE quality <> ?",
            [BAD_NOT_CONNECTED],
        ).fetchall()
    return Counter((str(point), int(time_ms)) for point, time_ms in rows)
