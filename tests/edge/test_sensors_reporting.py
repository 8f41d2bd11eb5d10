"""Report by exception in the whole gateway: what is kept and sent, and what everything before the spool sees."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.edge.rig import Host, Slave, modbus_device, one_reading, plant
from tests.support.nats import Broker, nats_broker
from tests.support.wait import eventually_async
from tocsin_core.clock import SystemClock
from tocsin_core.plant import load_plant
from tocsin_core.plant.mqtt import Mqtt
from tocsin_core.ranges import Ranges
from tocsin_core.readings import BAD_COMM_FAILURE, GOOD
from tocsin_core.sensors import Exceptions, Rule
from tocsin_core.sparkplug import EdgeDevice, EdgeMetric
from tocsin_edge.app import run
from tocsin_edge.loops.by_exception import Reporter
from tocsin_edge.loops.keep import Sample
from tocsin_edge.settings import DeviceSettings, SensorDevice, compile_settings


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """Give a running nats-server."""
    with nats_broker(tmp_path) as running:
        yield running


def test_only_exceptions_of_the_points_that_say_so_reach_the_host(broker: Broker, tmp_path: Path) -> None:
    """A steady value is told once, a step and a failure at once; the device beside it is told whole."""

    async def story() -> None:
        async with Slave({1: 1.5, 2: 2.5}).serve() as slave, Host(broker.mqtt).listen() as host:
            thin = modbus_device("A", slave.port).removesuffix("}")
            thin += ", report: {deadband: 0.5, longest_s: 3600}, alarms: {stale: false, bad: false}}"
            devices = {"A": thin, "B": modbus_device("B", slave.port, unit=2)}
            settings = compile_settings(load_plant(plant(tmp_path / "plant", broker.mqtt, devices)), "gw", tmp_path)
            stop = asyncio.Event()
            gateway = asyncio.create_task(run(settings, SystemClock(), stop))
            try:
                await eventually_async(lambda: len(host.of("B")) >= 12)
                good = [value for _, value, quality in host.of("A") if quality == GOOD]
                assert good == [1.5]
                slave.value[1] = 1.75
                seen = len(host.of("B"))
                await eventually_async(lambda: len(host.of("B")) >= seen + 5)
                slave.value[1] = 2.25
                await eventually_async(lambda: host.of("A")[-1][1:] == (2.25, GOOD))
                slave.silent.add(1)
                await eventually_async(lambda: host.of("A")[-1][2] == BAD_COMM_FAILURE)
                slave.silent.clear()
                await eventually_async(lambda: host.of("A")[-1][1:] == (2.25, GOOD))
                assert 1.75 not in [value for _, value, _ in host.of("A")]
            finally:
                stop.set()
                await gateway

    asyncio.run(story())


def test_what_tells_nothing_goes_no_further_and_a_death_does() -> None:
    """A sample of which nothing has to be told goes no further; one that says dead always does, for it is bad."""
    sensor = SensorDevice(Mqtt(topic="t"), ("v",))
    rules = Exceptions.of([Rule(1.0, 60.0, 0.0)])
    how = DeviceSettings(EdgeDevice("D", (EdgeMetric("v"),)), Ranges.of([None]), 10**9, sensor, rules)
    kept: list[Sample] = []
    reporter = Reporter([how], kept.append)
    for second in range(5):
        reporter.put(Sample(how, one_reading(1000 * second, 5.0)))
    reporter.put(Sample(how, one_reading(5000, np.nan, BAD_COMM_FAILURE), dead=True))
    assert [(sample.columns.time_ms.tolist(), sample.dead) for sample in kept] == [([0], False), ([5000], True)]
