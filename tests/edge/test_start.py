"""The first seconds: a device that comes up a little after its gateway was never bad; one that never comes is."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.edge.rig import Slave
from tests.support.ports import free_port
from tests.support.wait import eventually_async
from tocsin_core.clock import SystemClock
from tocsin_core.plant.connection import Modbus
from tocsin_core.plant.mqtt import Mqtt
from tocsin_core.polling import grace_s
from tocsin_core.ranges import Ranges
from tocsin_core.readings import BAD_COMM_FAILURE, BAD_NOT_CONNECTED, GOOD
from tocsin_core.registers import Profile, compile_plan
from tocsin_core.sparkplug import EdgeDevice, EdgeMetric
from tocsin_edge.adapters.modbus import ModbusLine
from tocsin_edge.adapters.sensors import Arrival
from tocsin_edge.loops.keep import Sample
from tocsin_edge.loops.poll import Holes, Poller
from tocsin_edge.loops.sensor import Sensor
from tocsin_edge.settings import DeviceSettings, ModbusDevice, Part, SensorDevice

CLOCK = SystemClock()
PROFILE = Profile.model_validate(
    {
        "vendor": "test",
        "model": "test",
        "trust": "documented",
        "source": "this test",
        "values": {"v": {"address": 0, "type": "f32"}},
    }
)


def device(how: ModbusDevice | SensorDevice, period_ms: int = 200) -> DeviceSettings:
    """Make a device of one point."""
    return DeviceSettings(EdgeDevice("D", (EdgeMetric("v"),)), Ranges.of([None]), period_ms * 1_000_000, how)


def qualities(samples: list[Sample]) -> set[int]:
    """Collect the qualities of what was put."""
    return {int(quality) for sample in samples for quality in sample.columns.quality}


@pytest.mark.parametrize(
    ("period_s", "grace"), [(0.2, 2.0), (1.0, 2.0), (2.0, 4.0), (4.9, 9.8), (5.0, 10.0), (60.0, 10.0)]
)
def test_two_periods_of_grace_within_bounds(period_s: float, grace: float) -> None:
    """Two periods, but at least 2 s and at most 10 s."""
    assert grace_s(period_s) == grace


async def polled(folder: Path, port: int, story: Callable[[list[Sample]], object]) -> None:
    """Poll a device at `port` while `story` runs."""
    address = Modbus(host="127.0.0.1", port=port, unit=1, timeout_ms=100, retries=0)
    how = ModbusDevice(address, PROFILE, (Part((0,), compile_plan(PROFILE, ["v"])),))
    samples: list[Sample] = []
    line = ModbusLine(address, CLOCK, lambda: 0.5)
    poller = Poller([device(how)], line, Holes(folder), CLOCK, samples.append, lambda: 0.5)
    polling = asyncio.create_task(poller.run())
    try:
        await story(samples)  # type: ignore[misc]
    finally:
        polling.cancel()
        poller.close()


def test_a_device_that_comes_up_after_the_gateway_was_never_bad(tmp_path: Path) -> None:
    """Nobody listens for the first half second: no reading says so, and the first one is good."""

    async def story(samples: list[Sample]) -> None:
        begun = CLOCK.monotonic()
        await eventually_async(lambda: CLOCK.monotonic() - begun > 0.5)
        assert not samples
        async with slave.serve():
            await eventually_async(lambda: len(samples) > 3)
        assert qualities(samples[:3]) == {GOOD}
        await eventually_async(lambda: qualities(samples[-1:]) == {BAD_COMM_FAILURE})

    slave = Slave({1: 1.5}, port=free_port())
    asyncio.run(polled(tmp_path, slave.port, story))


def test_a_device_that_never_comes_is_bad_after_its_grace_and_then_dead(tmp_path: Path) -> None:
    """After 2 s and not before its points are bad; three bad readings, then it is dead."""

    async def story(samples: list[Sample]) -> None:
        begun = CLOCK.monotonic()
        await eventually_async(lambda: samples)
        assert CLOCK.monotonic() - begun > 1.95
        assert qualities(samples) == {BAD_COMM_FAILURE}
        await eventually_async(lambda: samples[-1].dead)
        assert [sample.dead for sample in samples] == [False, False, True]

    asyncio.run(polled(tmp_path, free_port(), story))


def test_a_sensor_that_was_never_heard_has_two_seconds_and_then_two_periods() -> None:
    """A sensor of a short period is bad 2 s after the start if it says nothing, and two periods after its last word."""

    async def story() -> None:
        how = SensorDevice(Mqtt(topic="t"), ("",))
        samples: list[Sample] = []
        sensor = Sensor(device(how), how, CLOCK, samples.append)
        begun = CLOCK.monotonic()
        watching = asyncio.create_task(sensor.watch())
        await eventually_async(lambda: samples)
        assert 1.95 < CLOCK.monotonic() - begun < 6
        assert qualities(samples) == {BAD_NOT_CONNECTED}
        sensor.take(Arrival("t", b"1.5", retained=False))
        spoke = CLOCK.monotonic()
        assert samples[-1].columns.value.tolist() == [1.5]
        await eventually_async(lambda: np.isnan(samples[-1].columns.value[0]))
        assert CLOCK.monotonic() - spoke < 1.9
        watching.cancel()

    asyncio.run(story())
