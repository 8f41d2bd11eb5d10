"""A gateway whose clock is wrong: heard, stored, and told of."""

import asyncio
import signal
from pathlib import Path

import pytest

from tests.cloud.rig import HOST, CloudProcess
from tests.edge.rig import Gateway, Slave, modbus_device, plant
from tests.support.ports import free_port
from tests.support.wait import eventually_async
from tocsin_cli.set_clock import set_clock
from tocsin_cloud.settings import Address

BEHIND_S = 120.0


@pytest.mark.timeout(300)
def test_a_gateway_whose_clock_is_behind_is_flagged_until_it_is_right(tmp_path: Path) -> None:
    """The process is a gateway, its clock a file: what it reads is stored all the same."""
    mqtt, data, box = free_port(), tmp_path / "cloud", tmp_path / "box"
    clock = tmp_path / "clock"
    set_clock(clock, -BEHIND_S)

    async def story() -> None:
        async with Slave({1: 1.5}).serve() as slave:
            folder = plant(tmp_path / "plant", mqtt, {"A": modbus_device("A", slave.port)})
            cloud = CloudProcess(folder, data, "", Address(HOST, mqtt))
            gateway = Gateway(folder, box, clock=clock)
            cloud.start()
            gateway.start()

            async def skewed() -> float | None:
                (shown,) = await cloud.get("gateways")
                return float(shown["skew_s"]) if shown["skewed"] else None

            async def told() -> bool:
                health = await cloud.get("health")
                return any("clock is wrong by" in each["text"]["en"] for each in health["troubles"])

            async def right() -> bool:
                return await skewed() is None and not await told()

            try:
                await cloud.until_ready()
                by_s = await eventually_async(skewed, 60)
                assert by_s is not None
                assert abs(by_s + BEHIND_S) < 30
                await eventually_async(told, 60)
                await eventually_async(lambda: gateway.counters().get("readings_committed", 0) > 0, 60)
                set_clock(clock, 0.0)
                await eventually_async(right, 60)
            finally:
                gateway.stop()
                cloud.end(signal.SIGKILL)

    asyncio.run(story())
