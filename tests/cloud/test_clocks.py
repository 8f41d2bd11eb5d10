"""What a gateway says of its clock, and which readings a clock stamped that nobody had set: kept with the readings."""

import asyncio
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.cloud.rig import GATEWAY, POINT, CloudProcess, SpoolingGateway, broker, now_ms, plant_folder
from tests.edge.rig import Gateway, Slave, modbus_device, plant
from tests.support.http import plain_client
from tests.support.wait import eventually_async
from tocsin_cloud.loops.clocks import MOST_STRETCHES, GatewayClock
from tocsin_core.readings import Frame
from tocsin_core.sparkplug import ClockState, Fed
from tocsin_edge.adapters.clock_sync import clock_sync

MS = 1_790_000_000_000
UNSET = ClockState(synchronised=False, since_ms=MS)


def batch(since_ms: int | None, *times: int) -> Fed:
    """A batch with readings of these times (ns), stamped by a clock that was unset since `since_ms`."""
    n = len(times)
    return Fed(Frame.of([0] * n, list(times), [1.0] * n, [192] * n), kind="DDATA", batch=1, unsynchronised_ms=since_ms)


def test_a_stretch_grows_with_its_readings_in_any_order() -> None:
    """One for each time at which a clock became unset; what is not marked changes nothing; it survives as JSON."""
    clock = GatewayClock()
    assert clock.hear(batch(7, 50, 60))
    assert clock.hear(batch(7, 40))
    assert clock.hear(batch(9, 90))
    assert not clock.hear(batch(7, 45))
    assert not clock.hear(batch(None, 70))
    assert not clock.hear(batch(8))
    assert list(clock.stretches) == [(40, 60), (90, 90)]
    assert GatewayClock.from_json(clock.to_json()) == clock
    clock.forget(61)
    assert list(clock.stretches) == [(90, 90)]


def test_a_birth_tells_all_that_there_is_to_say() -> None:
    """The state stays through messages that say nothing of it, and goes with a birth that does not."""
    clock = GatewayClock()
    born = Fed(Frame.empty(), kind="NBIRTH", clock=UNSET)
    assert clock.hear(born)
    assert not clock.hear(born)
    assert not clock.hear(Fed(Frame.empty(), kind="NDATA"))
    assert GatewayClock.from_json(clock.to_json()).state == UNSET
    later = replace(UNSET, synchronised=True, error_ms=2.0, step_s=0.75)
    assert clock.hear(Fed(Frame.empty(), kind="NDATA", clock=later))
    assert GatewayClock.from_json(clock.to_json()).state == later
    assert clock.hear(Fed(Frame.empty(), kind="NBIRTH"))
    assert clock.state is None


def test_too_many_stretches_are_joined_and_none_is_lost() -> None:
    """The bound holds, and every reading that was in doubt still lies in a stretch."""
    clock = GatewayClock()
    times = [n * n for n in range(3 * MOST_STRETCHES)]
    for since, time in enumerate(times):
        clock.hear(batch(since, time))
    assert len(clock.stretches) == MOST_STRETCHES
    assert all(any(first <= time <= last for first, last in clock.stretches) for time in times)
    # The widest gaps are still there.
    assert clock.stretches[-1] == (times[-1], times[-1])


async def gateway_shown(cloud: CloudProcess) -> dict[str, Any]:
    """Ask the interface for the gateway."""
    (shown,) = [row for row in await cloud.get("gateways") if row["id"] == GATEWAY]
    return dict(shown)


async def doubts(cloud: CloudProcess) -> list[tuple[str, str]]:
    """Ask for the stretches in doubt among the readings of a point."""
    span = "start=2026-01-01T00:00:00Z&end=2099-01-01T00:00:00Z&step=8640000"
    answer = await cloud.get(f"points/{POINT}/readings?{span}")
    return [(row["first"], row["last"]) for row in answer["unsynchronised"]]


async def figures(cloud: CloudProcess) -> str:
    """Ask for the figures of the process."""
    async with plain_client() as client:
        return (await client.get(f"http://{cloud.http}/metrics")).text


def test_the_state_of_a_clock_reaches_who_looks_and_survives_kill_9(tmp_path: Path) -> None:
    """Through broker, historian and interface: unset, then set; readings of before stay marked, later ones are not."""

    async def story() -> None:
        async with broker(tmp_path / "nats") as (server, settings):
            cloud = CloudProcess(plant_folder(tmp_path / "plant"), tmp_path / "data", server.url, settings.mqtt)
            cloud.start()
            try:
                await cloud.until_ready()
                began = now_ms() - 1000
                gateway = SpoolingGateway(settings.mqtt, clock=ClockState(synchronised=False, since_ms=began))
                async with gateway.connected():
                    for n in range(4):
                        await gateway.send({0: 1.0, 1: 1.0}, time_ms=began + 100 * n)
                    await eventually_async(lambda: gateway.committed == 4)
                    (unset,) = await doubts(cloud)
                    shown = await gateway_shown(cloud)
                    assert (shown["clock"]["synchronised"], shown["clock"]["step_s"]) == (False, None)
                    assert [tuple(row.values()) for row in shown["unsynchronised"]] == [unset]
                    assert 'tocsin_gateway_clock_synchronised{gateway="gw"} 0.0' in await figures(cloud)
                    await gateway.tell_clock(ClockState(True, began + 500, 1.5, 3600.0))  # noqa: FBT003 - the state
                    await gateway.send({0: 2.0, 1: 2.0}, time_ms=began + 600)
                    await eventually_async(lambda: gateway.committed == 5)
                    cloud.end(signal.SIGKILL)
                    cloud.start()
                    await cloud.until_ready()
                    shown = await gateway_shown(cloud)
                    assert (shown["clock"]["synchronised"], shown["clock"]["error_ms"]) == (True, 1.5)
                    assert shown["clock"]["step_s"] == 3600.0
                    assert await doubts(cloud) == [unset]
                    assert 'tocsin_gateway_clock_synchronised{gateway="gw"} 1.0' in await figures(cloud)
            finally:
                cloud.end(signal.SIGKILL)

    asyncio.run(story())


def test_a_real_gateways_clock_is_shown(tmp_path: Path) -> None:
    """What the kernel of this machine says of its clock comes out of the interface, and marks the readings or not."""

    async def story() -> None:
        gateway = Gateway(tmp_path / "plant", tmp_path / "edge")
        async with broker(tmp_path / "nats") as (server, settings), Slave({1: 1.5}).serve() as slave:
            folder = plant(tmp_path / "plant", settings.mqtt.port, {"A": modbus_device("A", slave.port)})
            cloud = CloudProcess(folder, tmp_path / "data", server.url, settings.mqtt)
            cloud.start()
            try:
                await cloud.until_ready()
                gateway.start()
                await eventually_async(lambda: gateway.counters().get("readings_committed", 0) > 3)
                shown = await gateway_shown(cloud)
                assert shown["clock"]["synchronised"] is clock_sync().synchronised
                assert (len(shown["unsynchronised"]) == 0) is shown["clock"]["synchronised"]
            finally:
                gateway.stop()
                cloud.end(signal.SIGKILL)

    asyncio.run(story())
