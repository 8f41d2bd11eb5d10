"""The cloud side on a history that is a server: what it promises when that server is killed."""

import asyncio
import json
import signal
from pathlib import Path

import pytest

from tests.cloud.rig import CloudProcess, SpoolingGateway, broker, now_ms, plant_folder
from tests.contract.history_stores import Victoria, victoria
from tests.support.wait import eventually_async

RISES = "SELECT count(*) FROM transition WHERE event = 'raise' AND alarm = 'P1/H'"
ALL = "points/P1/readings?start=2020-01-01T00:00:00Z&end=2100-01-01T00:00:00Z"


LATE_MS = 3 * 3_600_000


def stored_of(history: Victoria) -> int:
    """How many readings of the point the server itself has."""
    answer = history.get("/api/v1/export?match[]=tocsin_quality{point=%22P1%22}")
    return sum(len(json.loads(line)["timestamps"]) for line in answer.splitlines())


def names_on(history: Victoria) -> set[str]:
    """The names of the series that the server shows."""
    history.show()
    return {series["__name__"] for series in history.series()}


@pytest.mark.timeout(300)
def test_a_history_server_that_is_killed_costs_no_reading_and_holds_up_no_alarm(tmp_path: Path) -> None:
    """Alarms rise while it is away; no gateway is told of what may be lost; all is stored once, and rolled up."""

    async def story() -> None:
        async with broker(tmp_path / "nats") as (server, settings):
            with victoria(tmp_path / "victoria") as history:
                plant = plant_folder(tmp_path / "plant")
                cloud = CloudProcess(plant, tmp_path / "data", server.url, settings.mqtt, history=history.address)
                cloud.start()
                try:
                    await cloud.until_ready()
                    gateway = SpoolingGateway(settings.mqtt)
                    async with gateway.connected():
                        began = now_ms()

                        async def send(values: list[float]) -> None:
                            for value in values:
                                await gateway.send({0: value}, time_ms=began + gateway.newest)

                        def on_server() -> int:
                            history.show()
                            return stored_of(history)

                        await gateway.send({0: 10.0}, time_ms=began - LATE_MS)
                        await send([10.0] * 49)
                        await eventually_async(on_server)
                        history.end()
                        told = gateway.committed
                        history.start()
                        assert told <= stored_of(history), "what the server has just lost was acknowledged"
                        history.end()
                        await send([10.0] * 50 + [90.0] * 50)
                        await eventually_async(lambda: cloud.rows(RISES) == [(1,)])
                        cloud.end(signal.SIGKILL)
                        cloud.start()
                        await cloud.until_ready()
                        history.start()
                        await send([90.0])
                        await eventually_async(lambda: gateway.committed == gateway.newest == 151, 90)
                    await eventually_async(lambda: "tocsin_hour_mean" in names_on(history), 90)
                    history.end()
                    history.start()
                    stored = await cloud.get(ALL)
                    assert len(set(stored["time"])) == len(stored["time"])
                    assert (stored["value"].count(10.0), stored["value"].count(90.0)) == (100, 51)
                finally:
                    cloud.end(signal.SIGKILL)

    asyncio.run(story())
