"""A gateway that really sends too fast, through a real broker: nothing is lost silently, and no other waits for it."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiomqtt
import duckdb
import pytest

from tests.cloud.rig import SITE, CloudProcess, SpoolingGateway, broker, columns, now_ms, plant_folder
from tests.support.http import plain_client
from tests.support.logs import json_lines
from tests.support.wait import eventually_async
from tocsin_cloud.settings import Address
from tocsin_core.sparkplug import EdgeDevice, EdgeMetric, EdgeSession

pytestmark = pytest.mark.timeout(300)

RATE: Final = 50
FLOOD: Final = 600
# As a gateway of ours sends again what was not acknowledged: some of the oldest.
AGAIN: Final = 50
RAISED: Final = "SELECT count(*) FROM transition WHERE alarm = '{}' AND event = 'raise'"


class Other:
    """Another gateway of the plant, which keeps to what it may."""

    def __init__(self, client: aiomqtt.Client) -> None:
        """Not born yet."""
        self._client = client
        self._session = EdgeSession(
            SITE, "theirs", [EdgeDevice("plc", (EdgeMetric("tank/pressure", "bar", 0.0, 10.0),))]
        )
        self.sent: list[int] = []

    async def be_born(self) -> None:
        """Tell what it is."""
        began = now_ms()
        for birth in (
            self._session.nbirth(0, 1, began),
            self._session.dbirth("plc", columns({0: 1.0}, began - 60_000), 0, began),
        ):
            await self._client.publish(birth.topic, birth.payload)

    async def send(self, value: float) -> None:
        """Send one reading."""
        at = max(now_ms(), self.sent[-1] + 1 if self.sent else 0)
        self.sent.append(at)
        message = self._session.ddata("plc", columns({0: value}, at), len(self.sent), at, historical=False)
        await self._client.publish(message.topic, message.payload)


@asynccontextmanager
async def other(mqtt: Address) -> AsyncIterator[Other]:
    """The other gateway, connected and born."""
    async with aiomqtt.Client(mqtt.host, mqtt.port, identifier="theirs") as client:
        gateway = Other(client)
        await gateway.be_born()
        yield gateway


async def figure(cloud: CloudProcess, name: str) -> float:
    """What a figure shows."""
    async with plain_client() as client:
        text = (await client.get(f"http://{cloud.http}/metrics")).text
    return next((float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(f"{name} ")), 0.0)


async def told(cloud: CloudProcess) -> list[dict[str, Any]]:
    """What the health page says of gateways that send too fast."""
    return [each for each in (await cloud.get("health"))["troubles"] if each["kind"] == "too-fast"]


async def until_all_is_acknowledged(gateway: SpoolingGateway) -> None:
    """Send the oldest again that are not acknowledged, some at a time and slower than it may, until nothing is left."""

    async def sent_again() -> bool:
        for number in range(gateway.committed + 1, min(gateway.newest, gateway.committed + AGAIN) + 1):
            await gateway.send_again(number)
        return gateway.committed == gateway.newest

    await eventually_async(sent_again, 180, 2 * AGAIN / RATE)


def stored(data: Path, point: str) -> Counter[int]:
    """How often a reading of each time (ms) is stored of a point; only while no process has the file."""
    with duckdb.connect(str(data / "history.duckdb"), read_only=True) as history:
        query = "SELECT time_ns // 1000000 FROM readings JOIN points ON key = point WHERE id = ? AND value IS NOT NULL"
        return Counter(time for (time,) in history.execute(query, [point]).fetchall())


async def _story(folder: Path) -> None:
    async with broker(folder / "nats") as (server, settings):
        cloud = CloudProcess(
            plant_folder(folder / "plant"),
            folder / "data",
            server.url,
            settings.mqtt,
            more=("--gateway-rate", str(RATE)),
        )
        cloud.start()
        try:
            await cloud.until_ready()
            async with SpoolingGateway(settings.mqtt).connected() as fast, other(settings.mqtt) as calm:
                await _a_flood(cloud, fast, calm)
                await until_all_is_acknowledged(fast)
                await eventually_async(lambda: cloud.rows(RAISED.format("P1/H")) == [(1,)])
            assert cloud.end() == 0
        finally:
            cloud.end(signal.SIGKILL)
        times = stored(cloud.data, "P1")
        assert set(times) >= {int(batch.time_ms[0]) for batch in fast.batches.values()}
        assert max(times.values()) == 1
        assert set(stored(cloud.data, "X1")) >= set(calm.sent)
        logged = json_lines((cloud.data / "all.log").read_text(encoding="utf-8"))
        assert [line for line in logged if "faster than it may" in str(line)]


async def _a_flood(cloud: CloudProcess, fast: SpoolingGateway, calm: Other) -> None:
    began = now_ms()
    # Over its limit with the last reading, which is refused as most are.
    for number in range(FLOOD):
        await fast.send({0: 90.0 if number == FLOOD - 1 else 10.0}, time_ms=began + number)
        if number % (FLOOD // 10) == 0:
            await calm.send(9.0)
    await eventually_async(lambda: cloud.rows(RAISED.format("X1/H")) == [(1,)])
    refused = 'tocsin_quarantined_total{reason="too-fast"}'

    async def are_refused() -> bool:
        return await figure(cloud, refused) > 0 and await figure(cloud, "tocsin_alarms_unheard_total") > 0

    await eventually_async(are_refused)
    assert fast.committed < FLOOD
    (trouble,) = await eventually_async(lambda: told(cloud))
    assert (trouble["severity"], (await cloud.get("health"))["watching"]) == ("fault", False)

    async def is_shown() -> bool:
        return "too-fast" in {row["reason"] for row in await cloud.get("quarantine")}

    await eventually_async(is_shown)


def test_a_flood_is_told_and_comes_again_and_another_gateways_alarm_does_not_wait(tmp_path: Path) -> None:
    """Many times what it may: what was not heard is counted, told and not acknowledged, and in the end stored once."""
    asyncio.run(_story(tmp_path))
