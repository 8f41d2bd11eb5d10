"""A real gateway on a real cluster (three NATS servers, PostgreSQL, two workers), of which each part dies in turn."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb
import pytest
from sqlalchemy import text

from tests.cloud.rig import CloudProcess, now_ms
from tests.e2e.test_partition import HIGH, LOW, SENSORS, plant_file
from tests.edge.rig import Gateway, Slave
from tests.support.nats_cluster import NatsCluster, nats_cluster
from tests.support.postgres import Postgres, postgres
from tests.support.wait import eventually_async
from tocsin_cli.bench.faults_link import Link
from tocsin_cloud.adapters.sql.engine import Database
from tocsin_core.clock import SystemClock
from tocsin_core.engine import occurrence_id
from tocsin_core.journal import decode
from tocsin_core.readings import BAD_NOT_CONNECTED
from tocsin_edge.adapters.spool import Spool

LONG_S: Final = 120
# How long the database is away, and a server of the cluster stands still.
AWAY_S: Final = 4.0
STEP_S: Final = 0.4


@dataclass
class Plant:
    """The cluster with a plant on it."""

    cluster: NatsCluster
    server: Postgres
    database: Database
    workers: list[CloudProcess]
    link: Link
    gateway: Gateway
    slave: Slave

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

    async def holder(self, role: str) -> CloudProcess:
        """The worker that holds the lease of a role."""
        ((name,),) = await self.rows(f"SELECT holder FROM lease WHERE name = '{role}'")  # noqa: S608 -- ours
        (found,) = [worker for worker in self.workers if worker.process and f":{worker.process.pid}:" in name]
        return found


@asynccontextmanager
async def plant_on_a_cluster(folder: Path) -> AsyncIterator[Plant]:
    """Everything at work: the gateway decides, both workers are there, and what it said has arrived."""
    async with AsyncExitStack() as stack:
        cluster = stack.enter_context(nats_cluster(folder / "nats"))
        # With the database's own settings: what is committed outlives its being killed.
        server = stack.enter_context(postgres(folder / "sql", settings=()))
        url = server.make("tocsin")
        slave = await stack.enter_async_context(Slave(dict.fromkeys(SENSORS.values(), LOW)).serve())
        link = await stack.enter_async_context(Link(cluster.servers[0].mqtt.port).open())
        folders = plant_file(folder / "plant", link.port, slave.port, {})
        address = f"postgresql://{url.username}@{url.host}:{url.port}/{url.database}"
        workers = [
            CloudProcess(folders, folder / "cloud", cluster.url, each.mqtt, more=("--sql", address))
            for each in cluster.servers[:2]
        ]
        database = Database.as_it_is(url)
        stack.push_async_callback(database.close)
        plant = Plant(cluster, server, database, workers, link, Gateway(folders, folder / "edge"), slave)
        for worker in workers:
            stack.callback(worker.end, signal.SIGKILL)
            worker.start()
        await eventually_async(plant.ready, LONG_S)
        stack.callback(plant.gateway.stop)
        plant.gateway.start()
        await eventually_async(lambda: plant.rows("SELECT * FROM gateway_journal"), LONG_S)
        yield plant


@pytest.mark.timeout(600)
def test_whatever_dies_nothing_is_lost_and_nothing_doubled(tmp_path: Path) -> None:
    """The stream's leader and the worker killed, the database away, a server cut off: every reading, every alarm once.

    After each fault new readings are acknowledged and new alarms raised before the next one comes.
    """

    async def story() -> None:
        async with plant_on_a_cluster(tmp_path) as plant, asyncio.TaskGroup() as tasks:
            swinging = tasks.create_task(plant.swing(), name="swing")
            restarting = tasks.create_task(plant.restart_workers(), name="restart")
            await plant.goes_on()
            for fault in (leader_killed, worker_killed, database_away, server_cut_off):
                await fault(plant)
                await plant.goes_on()
            swinging.cancel()
            restarting.cancel()
            await everything_once(plant)

    asyncio.run(story())


async def leader_killed(plant: Plant) -> None:
    """Kill the server that leads the stream, and bring it back once the cluster goes on without it."""
    leader = await plant.cluster.leader()
    plant.link.to = plant.cluster.servers[(leader + 1) % 3].mqtt.port
    plant.cluster.kill(leader)
    await plant.goes_on()
    plant.cluster.start(leader)


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


async def server_cut_off(plant: Plant) -> None:
    """Let the server that the gateway is connected to stand still, and go on after the others went on without it."""
    (number,) = [n for n, server in enumerate(plant.cluster.servers) if server.mqtt.port == plant.link.to]
    plant.cluster.hold(number)
    plant.link.to = plant.cluster.servers[(number + 1) % 3].mqtt.port
    try:
        await plant.goes_on()
    finally:
        plant.cluster.release(number)


async def everything_once(plant: Plant) -> None:
    """Compare: what the gateway read and decided is what is stored and recorded, each once."""
    await eventually_async(lambda: _all_acknowledged(plant.gateway.counters()), LONG_S)
    assert await asyncio.to_thread(plant.gateway.end, signal.SIGTERM) == 0
    counters = plant.gateway.counters()
    assert counters["readings_committed"] == counters["readings_polled"]
    with closing(Spool.open(plant.gateway.spool, 64, 600, now_ms())) as spool:
        read, decided = kept(spool), steps(spool)
    # Of silence the cloud side judges by itself: only the limits are the gateway's.
    recorded = await plant.rows("SELECT occurrence, event FROM transition WHERE alarm LIKE '%/H'")
    assert Counter(recorded) == decided
    assert set(decided.values()) == {1}
    calls = Counter(await plant.rows("SELECT occurrence FROM message WHERE round_ns = 0 AND repeat = 0"))
    assert set(calls.values()) == {1}
    for worker in plant.workers:
        worker.end()
    assert stored(plant.workers[0].data) == read


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
