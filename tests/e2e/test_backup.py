"""A real gateway goes on while the cloud side is backed up, lost with its stream, and restored on an empty folder."""

import asyncio
import shutil
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cloud.rig import HOST, CloudProcess
from tests.cloud.test_backup import done, own_umask
from tests.e2e.test_partition import HIGH, LONG_S, LOW, SENSORS, Ends, plant_file
from tests.edge.rig import Gateway, Slave
from tests.support.ports import free_port
from tests.support.wait import eventually_async
from tocsin_cli.bench.faults_link import Link
from tocsin_cloud.adapters.nats_server import NatsServer
from tocsin_cloud.settings import Address, BrokerSettings
from tocsin_core.clock import SystemClock
from tocsin_core.readings import BAD_NOT_CONNECTED

__all__ = ["own_umask"]
ALWAYS = "start=1970-01-01T00:00:00Z&end=2100-01-01T00:00:00Z"


@asynccontextmanager
async def broker(settings: BrokerSettings) -> AsyncIterator[str]:
    """Run a broker on what is in its folder, or on nothing."""
    server = await NatsServer.start(settings, SystemClock())
    try:
        yield server.url
    finally:
        await server.stop()


async def stored(cloud: CloudProcess) -> Counter[tuple[str, str]]:
    """Count the stored readings by point and time, without what the cloud side itself marked at a gateway's death."""
    found: Counter[tuple[str, str]] = Counter()
    for point in SENSORS:
        rows = await cloud.get(f"points/{point}/readings?{ALWAYS}")
        read = zip(rows["time"], rows["quality"], strict=True)
        found.update((point, time) for time, quality in read if quality != BAD_NOT_CONNECTED)
    return found


async def committed(ends: Ends) -> None:
    """Wait until the cloud side has everything that the gateway has read by now."""
    newest = ends.gateway.counters()["batch_last"]
    await eventually_async(lambda: ends.gateway.counters()["batch_committed"] >= newest, LONG_S)


async def before_the_loss(ends: Ends, folder: Path) -> dict[str, Any]:
    """A is raised; then the backup; then A returns, B is raised and returns, and C is raised: all told and stored."""
    ends.be("A", HIGH)
    await ends.phase_at_cloud("A/H", "unacknowledged")
    await ends.at_cloud("ack", "A/H")
    data = str(ends.cloud.data)
    await asyncio.to_thread(done, "user", "add", "wang", "--role", "operator", "--data", data)
    made = await asyncio.to_thread(done, "backup", data, "--to", str(folder))
    ends.be("A", LOW)
    ends.be("B", HIGH)
    await ends.phase_at_cloud("B/H", "unacknowledged")
    ends.be("B", LOW)
    ends.be("C", HIGH)
    await ends.phase_at_cloud("C/H", "unacknowledged")
    await eventually_async(ends.agree, LONG_S)
    await committed(ends)
    return made


def assert_whole(ends: Ends) -> None:
    """Each alarm that the gateway raised stands once, in its own phase; who was to be called is called; B's return."""
    rows = ends.cloud.rows("SELECT id, alarm, phase FROM occurrence")
    assert {row[0] for row in rows} == ends.raised
    assert sorted((alarm, phase) for _, alarm, phase in rows) == [
        ("A/H", "normal"),
        ("A/H", "unacknowledged"),
        ("B/H", "returned-unacknowledged"),
        ("C/H", "unacknowledged"),
    ]
    steps = Counter(ends.cloud.rows("SELECT occurrence, event FROM transition WHERE occurrence <> ''"))
    assert set(steps.values()) == {1}
    assert ends.cloud.rows("SELECT lost FROM gateway_journal") == [(0,)]
    assert ends.cloud.rows("SELECT count(DISTINCT occurrence), count(*) FROM message WHERE repeat = 0") == [(4, 4)]
    tickets = ends.cloud.rows("SELECT count(DISTINCT occurrence) FROM ticket_occurrence")
    assert tickets == [(4,)]


@pytest.mark.usefixtures("own_umask")
@pytest.mark.timeout(600)
def test_everything_is_lost_and_comes_back(tmp_path: Path) -> None:
    """What the backup has is there again, the rest the gateway sends: each reading once, each alarm once."""
    mqtt, nats = Address(HOST, free_port()), Address(HOST, free_port())

    def settings(name: str) -> BrokerSettings:
        return BrokerSettings(folder=tmp_path / name, nats=nats, mqtt=mqtt)

    async def story() -> None:
        async with (
            Link(mqtt.port).open() as link,
            Slave(dict.fromkeys(SENSORS.values(), LOW)).serve() as slave,
        ):
            plant = plant_file(tmp_path / "plant", link.port, slave.port, {})
            gateway = Gateway(plant, tmp_path / "edge")
            ends = Ends(gateway, CloudProcess(plant, tmp_path / "cloud", f"nats://{nats}", mqtt), link, slave)
            try:
                async with broker(settings("nats")):
                    ends.cloud.start()
                    await eventually_async(ends.cloud.ready, LONG_S)
                    gateway.start()
                    await eventually_async(lambda: ends.page()["decided"] == len(SENSORS), LONG_S)
                    await eventually_async(lambda: ends.cloud.rows("SELECT * FROM gateway_journal") != [], LONG_S)
                    made = await before_the_loss(ends, tmp_path)
                    ends.cloud.end(signal.SIGKILL)
                for lost in ("cloud", "nats", "plant"):
                    shutil.rmtree(tmp_path / lost)
                ends.be("A", HIGH)
                await ends.phase_at_gateway("A/H", "unacknowledged")
                restored = await asyncio.to_thread(done, "restore", made["backup"], "--data", str(tmp_path / "again"))
                assert restored["alarms_at_once"]
                ends.cloud = CloudProcess(Path(restored["plant"]), tmp_path / "again", f"nats://{nats}", mqtt)
                async with broker(settings("nats-again")):
                    ends.cloud.start()
                    await eventually_async(ends.cloud.ready, LONG_S)
                    await eventually_async(ends.agree, LONG_S)
                    await committed(ends)
                    assert await asyncio.to_thread(gateway.end, signal.SIGTERM) == 0
                    polled = gateway.counters()["readings_polled"]
                    assert gateway.counters()["readings_committed"] == polled
                    found = await stored(ends.cloud)
                    assert (len(found), set(found.values())) == (polled, {1})
                    (own,) = await ends.cloud.get("gateways")
                    assert own["readings"] == polled
                    data = str(ends.cloud.data)
                    users = await asyncio.to_thread(done, "user", "list", "--data", data)
                    assert [user["user"] for user in users["users"]] == ["admin", "wang"]
                    assert (await asyncio.to_thread(done, "audit", "verify", "--data", data))["sound"]
                    assert_whole(ends)
            finally:
                gateway.stop()
                ends.cloud.end(signal.SIGKILL)

    asyncio.run(story())
