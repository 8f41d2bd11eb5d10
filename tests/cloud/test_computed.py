"""Computed points on the cloud side: who may feed them, and that their history has no hole and no double."""

import asyncio
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb
import pytest
from nats.aio.client import Client
from sqlalchemy import select

from tests.cloud.rig import (
    COMPUTED,
    SITE,
    CloudProcess,
    SpoolingGateway,
    broker,
    candidate,
    depose,
    now_ms,
    plant_folder,
)
from tests.support.sqlite import with_tables
from tests.support.wait import eventually_async
from tocsin_cloud.adapters.history_duckdb import DuckdbHistory
from tocsin_cloud.adapters.lease import Lease, LeaseLostError
from tocsin_cloud.adapters.metrics import Metrics
from tocsin_cloud.adapters.quarantine import Quarantine
from tocsin_cloud.adapters.sql import models as sql
from tocsin_cloud.adapters.sql.engine import Database
from tocsin_cloud.adapters.stream import STREAM, connect, ensure_stream, publish_computed, publish_tick
from tocsin_cloud.loops.alarms import AlarmParts, AlarmsWorker
from tocsin_cloud.loops.computed import Outlet, decode, encode
from tocsin_cloud.loops.historian import Historian, HistorianParts
from tocsin_cloud.loops.judged import Judged
from tocsin_cloud.loops.live import LiveView
from tocsin_cloud.loops.points import PointTable
from tocsin_cloud.settings import AlarmSettings, HistorianSettings, StrangerSettings, StreamSettings
from tocsin_core.clock import SystemClock
from tocsin_core.plant import load_plant
from tocsin_core.readings import BAD, GOOD, Frame

MS = 1_000_000


def table_of(folder: Path) -> PointTable:
    """The points of the small plant with its vote."""
    return PointTable(load_plant(plant_folder(folder, COMPUTED)), StrangerSettings())


def test_no_gateway_feeds_a_computed_point(tmp_path: Path) -> None:
    """What a node called `computed` sends under the name of a computed point is a metric that nobody declared."""
    table = table_of(tmp_path)
    for device in ("computed", None):
        index = table.resolve(SITE, "computed", device, "V1")
        assert index is not None
        assert index >= table.declared


def test_computed_readings_come_back_from_their_message(tmp_path: Path) -> None:
    """Points travel by id, an absent value as such; those of another plant are left out."""
    table = table_of(tmp_path)
    place = table.computed["V1"]
    frame = Frame.of([place, place], [5, 6], [1.5, float("nan")], [GOOD, BAD])
    back = decode(encode(frame, table), table.computed)
    assert back.time_ns.tolist() == [5, 6]
    assert back.value[0] == 1.5
    assert back.quality.tolist() == [GOOD, BAD]
    assert len(decode(encode(frame, table), {"other": 0})) == 0


@pytest.mark.parametrize(
    "body", [b"\xff", b"[]", b"{}", b'{"point":["V1"],"time_ns":[],"value":[],"quality":[]}',
             b'{"point":[["V1"]],"time_ns":[1],"value":[1],"quality":[192]}',
             b'{"point":["V1"],"time_ns":["x"],"value":[1],"quality":[192]}',
             b'{"point":["V1"],"time_ns":[1],"value":[1],"quality":[999]}']
)  # fmt: skip
def test_what_is_no_message_of_computed_readings_is_said_to_be_none(body: bytes) -> None:
    """Whatever stands under the subject, the historian hears of it as one kind of error."""
    with pytest.raises(ValueError, match=r"."):
        decode(body, {"V1": 0})


def stored(data: Path) -> list[int]:
    """The times of the computed point's stored rows; only while no process has the file."""
    with duckdb.connect(str(data / "history.duckdb"), read_only=True) as history:
        rows = history.execute(
            "SELECT time_ns FROM readings JOIN points ON key = point WHERE id = 'V1' ORDER BY time_ns"
        ).fetchall()
    return [time_ns for (time_ns,) in rows]


def expected(gateway: SpoolingGateway) -> set[int]:
    """Each reading of a member closes the vote anew: two of one moment make one then and one just after."""
    return {
        int(batch.time_ms[0]) * MS + place for batch in gateway.batches.values() for place in range(len(batch.time_ms))
    }


def whole(found: list[int], gateway: SpoolingGateway) -> bool:
    """Whether all that had to be computed is stored."""
    return expected(gateway) <= set(found)


def test_computed_history_survives_kill_9_without_hole_or_double(tmp_path: Path) -> None:
    """The whole cloud side is killed three times while a vote is computed: every reading of it is stored once."""
    rng = random.Random(7)  # noqa: S311 -- moments to kill at, not secrets

    async def story() -> None:
        async with broker(tmp_path / "nats") as (server, settings):
            plant = plant_folder(tmp_path / "plant", COMPUTED)
            cloud = CloudProcess(plant, tmp_path / "data", server.url, settings.mqtt)
            cloud.start()
            try:
                await cloud.until_ready()
                gateway = SpoolingGateway(settings.mqtt)
                async with gateway.connected():
                    began = now_ms()
                    for kill in range(4):
                        for _ in range(rng.randrange(20, 50)):
                            began += 5
                            await gateway.send({0: rng.uniform(0, 40), 1: rng.uniform(0, 40)}, time_ms=began)
                            await asyncio.sleep(rng.random() * 0.03)
                        if kill < 3:
                            cloud.end(signal.SIGKILL)
                            cloud.start()
                            if kill != 1:
                                await cloud.until_ready()

                    async def shown() -> bool:
                        points = await cloud.get("points")
                        (vote,) = [point for point in points if point["id"] == "V1"]
                        return vote["value"] is not None and vote["gateway"] is None

                    await cloud.until_ready()
                    await eventually_async(shown, 60)

                    async def all_read() -> bool:
                        rows = await cloud.get("points/V1/readings?start=2020-01-01T00:00:00Z&end=2100-01-01T00:00:00Z")
                        return len(rows["time"]) >= len(expected(gateway))

                    await eventually_async(all_read, 60)
                    assert cloud.end() == 0
                found = stored(cloud.data)
                assert whole(found, gateway)
                assert max(Counter(found).values()) == 1
            finally:
                cloud.end(signal.SIGKILL)

    asyncio.run(story())


class Plant:
    """The worker's and the historian's surroundings in this process."""

    def __init__(self, folder: Path, client: Client, database: Database, history: DuckdbHistory) -> None:
        """Nobody works yet."""
        self.plant = load_plant(plant_folder(folder / "plant", COMPUTED))
        self.folder, self.client, self.database, self.history = folder, client, database, history
        self.clock = SystemClock()

    def worker(self, snapshot_interval_s: float = 0.3) -> tuple[AlarmsWorker, Outlet, Lease]:
        """A new worker that knows nothing but what is in the files, its outlet (nobody runs it yet), and its lease."""
        table = PointTable(self.plant, StrangerSettings())
        outlet, lease = Outlet(self.client, table), candidate(self.database)
        settings = AlarmSettings(snapshot_interval_s=snapshot_interval_s)
        parts = AlarmParts(
            self.client, self.database, lease, self.plant, Judged.of(self.plant), LiveView(table), Metrics(),
            self.clock, settings, self.folder / "s.npz", outlet,
        )  # fmt: skip
        return AlarmsWorker(parts), outlet, lease

    def historian_parts(self) -> HistorianParts:
        """What a historian would work with that starts now."""
        table = PointTable(self.plant, StrangerSettings())
        metrics = Metrics()
        self.quarantine = Quarantine(self.database, metrics, 10)
        settings = HistorianSettings(commit_interval_s=0.05)
        lease = candidate(self.database, "historian")
        return HistorianParts(
            self.client, self.history, lease, table, LiveView(table), self.quarantine, metrics, self.clock, settings
        )

    def historian(self) -> Historian:
        """The historian as it would start now."""
        return Historian(self.historian_parts())

    async def times(self) -> list[int]:
        """What the history gives of the vote."""
        trend = await self.history.read("V1", 0, 1 << 62, None, 1 << 20)
        return [int(time_ns) for time_ns in trend.time_ns]


@asynccontextmanager
async def surroundings(folder: Path) -> AsyncIterator[tuple[Plant, SpoolingGateway]]:
    """Broker, stream, both databases and a gateway that is connected."""
    async with AsyncExitStack() as stack:
        server, settings = await stack.enter_async_context(broker(folder / "nats"))
        client = await connect(server.url, "test")
        stack.push_async_callback(client.close)
        await ensure_stream(client, StreamSettings(max_bytes=1 << 28))
        database = await Database.open(with_tables(folder / "db"))
        stack.push_async_callback(database.close)
        history = await DuckdbHistory.open(folder / "history.duckdb")
        stack.push_async_callback(history.close)
        gateway = await stack.enter_async_context(SpoolingGateway(settings.mqtt).connected())
        yield Plant(folder, client, database, history), gateway


@asynccontextmanager
async def running(*tasks: asyncio.Task[None]) -> AsyncIterator[None]:
    """The tasks, until the end of the context."""
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError, LeaseLostError):
                await task


def test_a_takeover_computes_again_what_the_first_worker_did_not_get_out(tmp_path: Path) -> None:
    """The first worker's outlet stands still, then a second takes the partition: nothing is missing, nothing twice."""

    async def story() -> None:
        async with surroundings(tmp_path) as (plant, gateway):
            keeper = plant.historian()
            historian = asyncio.create_task(keeper.run())
            first, stuck, lost = plant.worker(snapshot_interval_s=1000.0)
            fenced = asyncio.create_task(first.run())
            async with running(historian, fenced):
                began = now_ms()
                for step in range(40):
                    await gateway.send({0: float(step), 1: 60.0}, time_ms=began + 5 * step)

                async def all_taken() -> bool:
                    await publish_tick(plant.client, SITE)
                    return first.position.sequence > 40

                await eventually_async(all_taken)
                assert await plant.times() == []
                second, outlet, lease = plant.worker()
                await depose(plant.database)
                tasks = (asyncio.create_task(second.run()), asyncio.create_task(outlet.run(lease)))
                async with running(*tasks):
                    for step in range(40, 60):
                        await gateway.send({0: float(step), 1: 60.0}, time_ms=began + 5 * step)
                        await publish_tick(plant.client, SITE)
                    await eventually_async(fenced.done)

                    async def all_there() -> bool:
                        return whole(await plant.times(), gateway)

                    await eventually_async(all_there)
                    # What the first one still has goes nowhere: it may know an older plant file.
                    held = stuck.waiting
                    assert not await stuck.flush(lost)
                    assert stuck.waiting == held > 0
                    await publish_computed(plant.client, SITE, b"rubbish")
                    last = (await plant.client.jsm().stream_info(STREAM)).state.last_seq
                    await eventually_async(lambda: keeper.position.sequence >= last)
                    assert plant.quarantine.counts == {"undecodable": 1}
        found = stored(tmp_path)
        assert whole(found, gateway)
        assert max(Counter(found).values()) == 1

    asyncio.run(story())


def test_what_lay_behind_a_raising_is_kept_and_told(tmp_path: Path) -> None:
    """First out and degraded vote stand with the occurrences; ticket and message say it in both languages."""

    async def story() -> None:
        async with surroundings(tmp_path) as (plant, gateway):
            worker, outlet, lease = plant.worker()
            async with running(asyncio.create_task(worker.run()), asyncio.create_task(outlet.run(lease))):
                await gateway.send({1: float("nan"), 0: 60.0})

                async def rows(table: type[Any]) -> list[Any]:
                    async with plant.database.read() as session:
                        return list((await session.scalars(select(table))).all())

                async def reasons() -> bool:
                    return len(await rows(sql.Occurrence)) == 2

                await eventually_async(reasons)
                found = {row.alarm: row.reason for row in await rows(sql.Occurrence)}
                assert found == {"P1/H": "first out of tank-first", "V1/H": "1oo1"}
                (letter,) = await rows(sql.Message)
                assert "首出：储罐首出" in letter.subject
                assert "first out: Tank" in letter.body
                (opened,) = await rows(sql.Ticket)
                assert "首出：储罐首出" in opened.title["zh"]

    asyncio.run(story())
