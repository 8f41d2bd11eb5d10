"""`tocsin cloud` as a process, with a real broker and Sparkplug messages: what it promises when it is killed."""

import asyncio
import random
import signal
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import aiomqtt
import duckdb

from tests.cloud.rig import GATEWAY, HOST, CloudProcess, SpoolingGateway, broker, now_ms, plant_folder
from tests.support.http import plain_client
from tests.support.logs import json_lines
from tests.support.ports import free_port
from tests.support.wait import eventually_async
from tocsin_cloud.adapters.stream import STREAM, connect
from tocsin_cloud.settings import Address
from tocsin_core.sparkplug.payload import DataType
from tocsin_core.sparkplug.sparkplug_b_pb2 import Payload

RISES = "SELECT occurrence, count(*) FROM transition WHERE event = 'raise' AND alarm = 'P1/H' GROUP BY occurrence"


@contextmanager
def started(cloud: CloudProcess) -> Iterator[CloudProcess]:
    """A cloud process that is started, and ended in any case."""
    cloud.start()
    try:
        yield cloud
    finally:
        cloud.end(signal.SIGKILL)


@asynccontextmanager
async def rig(tmp_path: Path) -> AsyncIterator[tuple[CloudProcess, SpoolingGateway]]:
    """A broker, a cloud side on it that is ready, and a gateway that is not connected yet."""
    async with broker(tmp_path / "nats") as (server, settings):
        cloud = CloudProcess(plant_folder(tmp_path / "plant"), tmp_path / "data", server.url, settings.mqtt)
        with started(cloud):
            await cloud.until_ready()
            yield cloud, SpoolingGateway(settings.mqtt)


@asynccontextmanager
async def alone(tmp_path: Path) -> AsyncIterator[tuple[CloudProcess, SpoolingGateway]]:
    """A cloud side with a broker of its own, where it reads everything, and a gateway that is not connected yet."""
    mqtt = Address(HOST, free_port())
    cloud = CloudProcess(plant_folder(tmp_path / "plant"), tmp_path / "data", "", mqtt)
    with started(cloud):
        await cloud.until_ready()
        yield cloud, SpoolingGateway(mqtt)


def stored(data: Path, point: str) -> list[tuple[int, float | None]]:
    """Every stored row of `point`; only while no process has the file."""
    with duckdb.connect(str(data / "history.duckdb"), read_only=True) as history:
        return history.execute(
            "SELECT time_ns, value FROM readings JOIN points ON key = point WHERE id = ? ORDER BY time_ns", [point]
        ).fetchall()


def test_kill_9_at_random_moments_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Killed while a value swings over its limit: each reading is stored once, each rise is one alarm, told once."""
    rng = random.Random(2)  # noqa: S311 -- moments to kill at, not secrets

    async def story() -> None:
        async with rig(tmp_path) as (cloud, gateway), gateway.connected():
            rises = 0
            began = now_ms()
            for kill in range(3):
                for _ in range(rng.randrange(20, 60)):
                    for value in (10.0, 90.0):
                        rises += value > 50
                        began += 5
                        await gateway.send({0: value, 1: value}, time_ms=began)
                    await asyncio.sleep(rng.random() * 0.05)
                if kill < 2:
                    cloud.end(signal.SIGKILL)
                    cloud.start()
                    if rng.random() < 0.7:
                        # Else it is killed while it still catches up.
                        await cloud.until_ready()
            await eventually_async(lambda: gateway.committed == gateway.newest, 60)
            await eventually_async(lambda: len(cloud.rows(RISES)) == rises, 60)
            assert all(count == 1 for _, count in cloud.rows(RISES))
            await cloud.until_ready()
            (own,) = [row for row in await cloud.get("gateways") if row["id"] == GATEWAY]
            assert (own["readings"], own["committed"]) == (2 * gateway.newest, gateway.newest)
            # One place is called once as long as nobody has answered, however often its alarm rose.
            assert cloud.rows("SELECT count(*) FROM message WHERE repeat = 0") == [(1,)]
            assert cloud.rows("SELECT count(*) FROM ticket") == [(1,)]
            assert cloud.rows("SELECT count(*) FROM ticket_occurrence") == [(rises,)]
            assert cloud.end() == 0
            times = Counter(time_ns for time_ns, value in stored(cloud.data, "P1") if value is not None)
            expected = {int(batch.time_ms[0]) * 1_000_000 for batch in gateway.batches.values()}
            assert set(times) == expected
            assert max(times.values()) == 1

    asyncio.run(story())


def test_an_end_by_signal_is_clean_and_the_next_start_goes_on(tmp_path: Path) -> None:
    """SIGTERM ends it with 0; what is active stays active over the restart and returns afterwards, once."""
    phase = "SELECT phase FROM occurrence WHERE alarm = 'P1/H'"

    async def story() -> None:
        async with rig(tmp_path) as (cloud, gateway), gateway.connected():
            await gateway.send({0: 90.0})
            await eventually_async(lambda: cloud.rows(phase) == [("unacknowledged",)], 60)
            assert cloud.end() == 0
            cloud.start()
            await gateway.send({0: 10.0})
            await eventually_async(lambda: cloud.rows(phase) == [("returned-unacknowledged",)], 60)
            assert cloud.rows("SELECT event FROM transition ORDER BY seq") == [("raise",), ("return",)]

    asyncio.run(story())


def test_a_cloud_side_that_lost_its_history_asks_for_it_again(tmp_path: Path) -> None:
    """With an empty history it acknowledges nothing; the gateway sends again what it keeps, and all of it is stored."""

    async def story() -> None:
        async with rig(tmp_path) as (cloud, gateway):
            async with gateway.connected():
                began = now_ms()
                for value in range(20):
                    await gateway.send({0: float(value)}, time_ms=began + value)
                await eventually_async(lambda: gateway.committed == 20, 60)
                cloud.end()
                (cloud.data / "history.duckdb").unlink()
                for number in list(gateway.batches)[:5]:
                    del gateway.batches[number]
            cloud.start()
            async with gateway.connected():
                await gateway.send({0: 20.0})
                await eventually_async(lambda: gateway.committed == 21, 60)
            cloud.end()
            values = {value for _, value in stored(cloud.data, "P1")}
            assert values >= {float(value) for value in range(5, 21)}

    asyncio.run(story())


def test_what_the_stream_dropped_before_it_was_stored_comes_again(tmp_path: Path) -> None:
    """The historian was away for longer than the stream holds: it sees the gap, and the gateway is asked to fill it."""

    async def story() -> None:
        async with broker(tmp_path / "nats") as (server, settings):
            plant = plant_folder(tmp_path / "plant")
            alarms, historian = (
                CloudProcess(plant, tmp_path / "data", server.url, settings.mqtt, role=role)
                for role in ("alarms,notify,api", "historian")
            )
            with started(alarms), started(historian):
                await alarms.until_ready()
                async with SpoolingGateway(settings.mqtt).connected() as gateway:
                    began = now_ms()
                    await gateway.send({0: 0.0}, time_ms=began)
                    await eventually_async(lambda: gateway.committed == 1, 60)
                    historian.end(signal.SIGKILL)
                    for number in range(1, 20):
                        await gateway.send({0: 90.0}, time_ms=began + number)
                    await eventually_async(lambda: len(alarms.rows(RISES)) == 1, 60)
                    client = await connect(server.url, "test")
                    await client.jsm().purge_stream(STREAM)
                    await client.close()
                    historian.start()
                    await gateway.send({0: 90.0}, time_ms=began + 20)
                    await eventually_async(lambda: gateway.committed == gateway.newest == 21, 60)
                assert gateway.rebirths > 0
                assert historian.end() == 0
            times = [(time_ns // 1_000_000, value) for time_ns, value in stored(alarms.data, "P1") if value is not None]
            # A birth shows an old value too.
            assert [each for each in times if each[0] >= began] == [
                (began + number, 0.0 if number == 0 else 90.0) for number in range(21)
            ]

    asyncio.run(story())


def foreign(seq: int, *, alias: int | None = None, name: str | None = None, value: float = 0.0) -> bytes:
    """A payload as a third party makes it, with one metric."""
    # Two readings of one millisecond would be one reading.
    payload = Payload(timestamp=now_ms() + seq, seq=seq)
    metric = payload.metrics.add(timestamp=payload.timestamp, datatype=DataType.FLOAT, float_value=value)
    if alias is not None:
        metric.alias = alias
    if name is not None:
        metric.name = name
    return payload.SerializeToString()


async def said_stored(cloud: CloudProcess, least: int) -> bool:
    """Whether the historian says that it has committed so many readings."""
    async with plain_client() as client:
        text = (await client.get(f"http://{cloud.http}/metrics")).text
    (line,) = [line for line in text.splitlines() if line.startswith("tocsin_readings_stored_total ")]
    return float(line.split()[1]) >= least


def test_third_parties_points_are_stored_and_declared_ones_alarmed(tmp_path: Path) -> None:
    """A node that knows nothing of batches: its declared metric is our point with its alarm, the other gets a name."""

    async def story() -> None:
        async with alone(tmp_path) as (cloud, gateway):
            async with aiomqtt.Client(*gateway.mqtt) as node:
                birth = Payload(timestamp=now_ms(), seq=0)
                birth.metrics.add(name="bdSeq", datatype=DataType.INT64, long_value=0, timestamp=now_ms())
                await node.publish("spBv1.0/site/NBIRTH/theirs", birth.SerializeToString())
                for seq, value in ((1, 1.0), (2, 7.0)):
                    kind = "DBIRTH" if seq == 1 else "DDATA"
                    body = foreign(seq, name="tank/pressure", value=value)
                    await node.publish(f"spBv1.0/site/{kind}/theirs/plc", body)
                await node.publish("spBv1.0/elsewhere/NBIRTH/n", foreign(0, name="speed", value=3.0))
                raised = "SELECT point, value FROM occurrence WHERE alarm = 'X1/H'"
                await eventually_async(lambda: cloud.rows(raised) == [("X1", 7.0)], 60)
                # The historian commits by itself; a clean end commits nothing more, so wait for its own word.
                await eventually_async(lambda: said_stored(cloud, 3), 60)
            cloud.end()
            assert [value for _, value in stored(cloud.data, "X1")] == [1.0, 7.0]
            assert [value for _, value in stored(cloud.data, "elsewhere/n/speed")] == [3.0]

    asyncio.run(story())


NODE = "spBv1.0/site/{}/theirs"
DEVICE = "spBv1.0/site/{}/theirs/plc"


def spoken(topic: str, kind: str, *values: float, time_ms: int = 0) -> tuple[str, bytes]:
    """A third party's message, topic and payload: its metric's readings, a millisecond apart from `time_ms` on."""
    payload = Payload(timestamp=now_ms())
    if kind.startswith("N"):
        payload.metrics.add(name="bdSeq", datatype=DataType.INT64, long_value=0, timestamp=now_ms())
    for place, value in enumerate(values):
        payload.metrics.add(name="tank/pressure", datatype=DataType.FLOAT, float_value=value, timestamp=time_ms + place)
    return topic.format(kind), payload.SerializeToString()


def test_third_parties_readings_are_counted_once(tmp_path: Path) -> None:
    """A birth that shows the last reading again and a death add nothing to a gateway's count, nor does a crash."""

    async def story() -> None:
        async with rig(tmp_path) as (cloud, gateway):

            async def counted(number: int) -> bool:
                (theirs,) = [row for row in await cloud.get("gateways") if row["id"] == "theirs"]
                return bool(theirs["readings"] == number)

            began = now_ms()
            async with aiomqtt.Client(*gateway.mqtt) as node:
                for message in (
                    spoken(NODE, "NBIRTH"),
                    spoken(DEVICE, "DBIRTH", 1.0, time_ms=began),
                    spoken(DEVICE, "DDATA", 2.0, 3.0, time_ms=began + 1),
                    spoken(NODE, "NDEATH"),
                    spoken(NODE, "NBIRTH"),
                    spoken(DEVICE, "DBIRTH", 3.0, time_ms=began + 2),
                    spoken(DEVICE, "DDATA", 4.0, 5.0, time_ms=began + 3),
                ):
                    await node.publish(*message)
                await eventually_async(lambda: counted(5), 60)
                cloud.end(signal.SIGKILL)
                cloud.start()
                await cloud.until_ready()
                assert await counted(5)
                await node.publish(*spoken(DEVICE, "DBIRTH", 5.0, time_ms=began + 4))
                await node.publish(*spoken(DEVICE, "DDATA", 6.0, time_ms=began + 5))
                await eventually_async(lambda: counted(6), 60)
            cloud.end()
            values = [value for _, value in stored(cloud.data, "X1")]
            assert [value for value in values if value is not None] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
            assert values.count(None) == 1

    asyncio.run(story())


def test_garbage_is_quarantined_with_the_reason_and_asks_for_a_rebirth(tmp_path: Path) -> None:
    """Nonsense on the topics is counted and kept; where a rebirth helps it is asked for, but not in a storm."""

    async def story() -> None:
        async with alone(tmp_path) as (cloud, gateway), gateway.connected():
            await gateway.send({0: 1.0})
            await eventually_async(lambda: gateway.committed == 1, 60)
            async with aiomqtt.Client(*gateway.mqtt) as vandal:
                await vandal.publish("spBv1.0/nonsense", b"\xff\x00")
                for i in range(20):
                    await vandal.publish(f"spBv1.0/site/DDATA/{GATEWAY}/D1", bytes([i, 255, 255, 1]))
                await vandal.publish(f"spBv1.0/site/DDATA/{GATEWAY}/D1", foreign(9, alias=999))
            reasons = "SELECT DISTINCT reason FROM quarantine"
            await eventually_async(lambda: {("not-sparkplug",), ("undecodable",)} <= set(cloud.rows(reasons)), 60)
            await eventually_async(lambda: gateway.rebirths == 1, 60)
            await gateway.send({0: 2.0})
            await eventually_async(lambda: gateway.committed == 2, 60)
            assert gateway.rebirths == 1

    asyncio.run(story())


def test_a_process_that_loses_its_leases_is_a_candidate_again_beside_its_own_broker(tmp_path: Path) -> None:
    """It leaves everything but the broker, stands by as at a start, and has its leases back when they stand still."""

    async def story() -> None:
        async with alone(tmp_path) as (cloud, gateway):
            async with gateway.connected():
                await loses_its_leases(cloud, gateway)
            assert cloud.end() == 0
            assert json_lines((cloud.data / "all.log").read_text(encoding="utf-8"))
        assert [value for _, value in stored(tmp_path / "data", "P1")][-2:] == [10.0, 90.0]

    asyncio.run(story())


async def loses_its_leases(cloud: CloudProcess, gateway: SpoolingGateway) -> None:
    """Another name is in each row, which stands still: what is sent from then on is stored, and raised once."""
    began = now_ms()
    await gateway.send({0: 10.0}, time_ms=began)
    await eventually_async(lambda: gateway.committed == 1, 60)
    with closing(sqlite3.connect(cloud.data / "tocsin.sqlite")) as tables, tables:
        tables.execute("UPDATE lease SET holder = 'another', epoch = epoch + 1, beat = beat + 1")

    def told(line: str) -> int:
        return (cloud.data / "all.log").read_text(encoding="utf-8").count(line)

    await eventually_async(lambda: told("begins anew as a candidate") == 1, 60)
    await cloud.until_ready()
    await gateway.send({0: 90.0}, time_ms=began + 1)
    await eventually_async(lambda: gateway.committed == 2, 60)
    await eventually_async(lambda: [count for _, count in cloud.rows(RISES)] == [1], 60)
    assert {epoch for (epoch,) in cloud.rows("SELECT epoch FROM lease")} == {3}
    assert (told("broker ready"), gateway.rebirths) == (1, 0)
