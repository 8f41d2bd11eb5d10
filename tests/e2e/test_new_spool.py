"""A gateway whose data folder was lost starts anew: nothing that it reads then is taken for what it sent before."""

import asyncio
import shutil
import signal
from collections import Counter
from pathlib import Path

import pytest

from tests.cloud.rig import CloudProcess, broker
from tests.edge.rig import Gateway, Link, Slave, modbus_device, plant
from tests.support.logs import json_lines
from tests.support.wait import eventually_async
from tocsin_core.readings import BAD_NOT_CONNECTED
from tocsin_edge.adapters.spool import Spool

# It stands from the first reading of each life on.
ALARM = ", alarms: {H: {setpoint: 1, deadband: 0.1, on_delay_s: 0, off_delay_s: 0}, bad: false, stale: false}"


async def stored(cloud: CloudProcess) -> Counter[str]:
    """Count the stored readings of point A by time, without what the cloud side itself marked."""
    found = await cloud.get("points/A/readings?start=1970-01-01T00:00:00Z&end=2100-01-01T00:00:00Z")
    # The gateway's own may be bad: an answer that came too late is one.
    each = zip(found["time"], found["quality"], strict=True)
    return Counter(time for time, quality in each if quality != BAD_NOT_CONNECTED)


async def lived(gateway: Gateway, slave: Slave, polls: int, link: Link) -> int:
    """Let the gateway live until it polled so often, mend the link, end it, and give how many readings it kept."""
    polled = len(slave.asked)
    gateway.start()
    await eventually_async(lambda: len(slave.asked) > polled + polls, timeout_s=60)
    link.whole = True
    await eventually_async(lambda: gateway.counters()["readings_committed"] > 0, timeout_s=60)
    assert await asyncio.to_thread(gateway.end, signal.SIGTERM) == 0
    return gateway.counters()["readings_polled"]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("clock", ["right", "1970", "in the first life"])
def test_a_new_spool_repeats_nothing(tmp_path: Path, clock: str) -> None:
    """Each reading and raising of both lives is kept once, also where the second began unheard and by a wrong clock."""
    gateway = Gateway(tmp_path / "plant", tmp_path / "edge")

    async def story() -> None:
        async with (
            broker(tmp_path / "nats") as (server, settings),
            Slave({1: 1.5}).serve() as slave,
            Link(settings.mqtt.port).open() as link,
        ):
            device = modbus_device("A", slave.port, period_ms=100)[:-1] + ALARM + "}"
            folder = plant(tmp_path / "plant", link.port, {"A": device})
            cloud = CloudProcess(folder, tmp_path / "cloud", server.url, settings.mqtt)
            cloud.start()
            try:
                await cloud.until_ready()
                first = await lived(gateway, slave, 40, link)
                last = gateway.counters()["batch_last"]
                shutil.rmtree(gateway.spool.parent)
                if clock != "right":
                    now_ms = 30_000 if clock == "1970" else last - 35
                    Spool.open(gateway.spool, 64, 600, now_ms).close()
                await link.cut()
                second = await lived(gateway, slave, 10, link)

                async def told() -> bool:
                    (own,) = await cloud.get("gateways")
                    return bool(own["committed"] == gateway.counters()["batch_last"])

                await eventually_async(told, 60)
                (own,) = await cloud.get("gateways")
                assert own["readings"] == first + second
                times = await stored(cloud)
                assert len(times) == first + second
                assert set(times.values()) == {1}

                async def raised() -> bool:
                    return len(await cloud.get("alarms?state=all")) == 2

                # One occurrence of each life: the second gateway knows nothing of the first one's.
                await eventually_async(raised, 60)
                assert cloud.end() == 0
                # Whatever went wrong meanwhile, who reads the logs finds each line in the same form.
                for log in (gateway.log, cloud.data / "all.log"):
                    assert json_lines(log.read_text(encoding="utf-8"))
            finally:
                cloud.end(signal.SIGKILL)

    try:
        asyncio.run(story())
    finally:
        gateway.stop()
