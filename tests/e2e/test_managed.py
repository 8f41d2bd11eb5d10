"""A real cloud side manages a real gateway: what its plant file says of it goes down, and what comes of it comes up."""

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cloud.rig import CloudProcess, broker
from tests.edge.rig import Gateway, Slave, modbus_device, plant
from tests.support.ports import free_port
from tests.support.wait import eventually_async
from tocsin_core.managed import KEY_FILE


class TryingGateway(Gateway):
    """A real gateway that tries a version for five seconds."""

    def __init__(self, folder: Path, data: Path) -> None:
        """Start nothing yet."""
        super().__init__(folder, data)
        self._command += ["--trial", "5"]


@dataclass
class Plant:
    """A plant folder, a cloud side on it that the test starts anew, and the gateway."""

    folder: Path
    mqtt: int
    cloud: CloudProcess

    async def says(self, devices: dict[str, str]) -> None:
        """Let the plant file say something else, and start the cloud side anew."""
        plant(self.folder, self.mqtt, devices)
        # The slave lives in this loop.
        await asyncio.to_thread(self.cloud.end)
        self.cloud.start()
        await self.cloud.until_ready()

    async def gateway(self) -> dict[str, Any]:
        """The gateway as the interface shows it."""
        (found,) = await self.cloud.get("gateways")
        gateway: dict[str, Any] = found
        return gateway

    async def shows(self, **expected: object) -> bool:
        """Whether the interface shows this of the gateway's slice."""
        shown = (await self.gateway())["slice"]
        return shown is not None and all(shown[key] == value for key, value in expected.items())


@asynccontextmanager
async def running(tmp_path: Path, devices: dict[str, str]) -> AsyncIterator[Plant]:
    """A broker and a cloud side that is ready."""
    async with broker(tmp_path / "nats") as (server, settings):
        folder = plant(tmp_path / "plant", settings.mqtt.port, devices)
        cloud = CloudProcess(folder, tmp_path / "cloud", server.url, settings.mqtt)
        cloud.start()
        try:
            await cloud.until_ready()
            yield Plant(folder, settings.mqtt.port, cloud)
        finally:
            cloud.end(signal.SIGKILL)


@pytest.mark.timeout(600)
def test_the_plant_file_of_the_cloud_side_reaches_the_gateway(tmp_path: Path) -> None:
    """Another device is read after a start of the cloud side; what does not work goes back, and is shown."""

    async def story() -> None:
        async with Slave({1: 1.0, 2: 2.0}).serve() as slave:
            one = modbus_device("A", slave.port, 1, 500)
            two = modbus_device("B", slave.port, 2, 500)
            async with running(tmp_path, {"A": one}) as above:
                own = plant(tmp_path / "own", above.mqtt, {"A": one})
                gateway = TryingGateway(own, tmp_path / "gateway")
                trusted = tmp_path / "gateway" / "gateways" / "gw"
                trusted.mkdir(parents=True)
                shutil.copy(above.cloud.data / KEY_FILE, trusted)
                gateway.start()
                try:
                    await eventually_async(lambda: above.shows(version=0, current=True, sent=None), 120, 0.5)
                    await above.says({"A": one, "B": two})
                    await eventually_async(lambda: above.shows(current=True, outcome="applied"), 120, 0.5)
                    applied = (await above.gateway())["slice"]
                    assert applied["version"] == applied["sent"] > 0
                    await eventually_async(lambda: is_read(above, "B", 2.0), 120, 0.5)
                    nobody = modbus_device("A", free_port(), 1, 500)
                    await above.says({"A": nobody, "B": two})
                    await eventually_async(lambda: above.shows(current=False, outcome="rolled back"), 120, 0.5)
                    first = (await above.gateway())["slice"]
                    assert first["version"] == applied["version"] < first["sent"]
                    assert first["reason"].startswith("A: ")
                    await above.says({"A": one, "B": two})
                    await eventually_async(lambda: above.shows(current=True, version=applied["version"]), 120, 0.5)
                finally:
                    gateway.end(signal.SIGTERM)
                    gateway.stop()

    asyncio.run(story())


async def is_read(above: Plant, point: str, value: float) -> bool:
    """Whether the cloud side has this good reading of a point."""
    found = await above.cloud.get(f"points/{point}")
    return bool(found["quality"] == 0xC0 and found["value"] == value)
