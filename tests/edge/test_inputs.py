"""What reads the instruments changes line by line: what is the same stays the very same, a link open if it can."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Final

import pytest

from tests.edge.rig import Slave, modbus_device, plant
from tests.support.ports import free_port
from tests.support.wait import PATIENCE_S, eventually_async
from tocsin_core.clock import SystemClock
from tocsin_core.plant import load_plant
from tocsin_edge.loops import poll
from tocsin_edge.loops.inputs import Inputs, with_known_devices
from tocsin_edge.loops.keep import Sample
from tocsin_edge.settings import EdgeSettings, compile_settings

CLOCK: Final = SystemClock()


def settings(folder: Path, devices: dict[str, str]) -> EdgeSettings:
    """Compile a plant of these devices."""
    return compile_settings(load_plant(plant(folder, 1883, devices)), "gw", folder)


@asynccontextmanager
async def reading(of: EdgeSettings, samples: list[Sample]) -> AsyncIterator[Inputs]:
    """Read until left."""
    inputs = Inputs(of, CLOCK, samples.append)
    try:
        async with asyncio.TaskGroup() as group:
            inputs.start(group)
            yield inputs
            inputs.cancel()
    finally:
        inputs.close()


def test_only_what_changes_is_made_anew(tmp_path: Path) -> None:
    """An equal line keeps its poller, a changed one its connection; one that is gone is closed, a new one is read."""

    async def story() -> None:
        same, changed, gone, new = (Slave({1: 1.0, 2: 2.0}) for _ in range(4))
        async with same.serve(), changed.serve(), gone.serve(), new.serve():
            first = {
                "A": modbus_device("A", same.port),
                "B": modbus_device("B", changed.port),
                "C": modbus_device("C", gone.port),
            }
            second = {
                "A": first["A"],
                "B": modbus_device("B", changed.port, timeout_ms=150),
                "D": modbus_device("D", changed.port, 2),
                "E": modbus_device("E", new.port),
            }
            samples: list[Sample] = []
            before = settings(tmp_path, first)
            async with reading(before, samples) as inputs:
                await eventually_async(lambda: {each.device.id for each in samples} == set("ABC"))
                pollers = {poller.name: poller for poller in inputs.pollers}
                after = with_known_devices(before, settings(tmp_path, second))
                assert after.devices[0] is before.devices[0]
                await inputs.adopt(after)
                found = {poller.name: poller for poller in inputs.pollers}
                assert list(found) == [f"127.0.0.1:{slave.port}" for slave in (same, changed, new)]
                names = list(found)
                assert found[names[0]] is pollers[names[0]]
                assert found[names[1]] is not pollers[names[1]]
                assert found[names[1]].line is pollers[names[1]].line
                assert not pollers[f"127.0.0.1:{gone.port}"].line.up
                samples.clear()
                await eventually_async(lambda: {each.device.id for each in samples} == set("ABDE"))
                assert found[names[1]].line.counts["connects"] == 1
                assert inputs.settings is after

    asyncio.run(story())


def test_a_line_that_is_never_idle_changes_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot keep its periods, so that there is no moment between two ticks: it ends between two questions."""
    monkeypatch.setattr(poll, "END_S", 0.5)

    async def story() -> None:
        slave = Slave({1: 1.0, 2: 2.0}, late_s={1: 0.15, 2: 0.15})
        async with slave.serve():
            devices = {name: modbus_device(name, slave.port, unit, 200, 500) for unit, name in ((1, "A"), (2, "B"))}
            samples: list[Sample] = []
            before = settings(tmp_path, devices)
            async with reading(before, samples) as inputs:
                await eventually_async(lambda: inputs.pollers[0].figures().stretched)
                after = with_known_devices(before, settings(tmp_path, {"B": devices["B"]}))
                async with asyncio.timeout(PATIENCE_S):
                    await inputs.adopt(after)
                samples.clear()
                await eventually_async(lambda: len(samples) > 3)
                assert {each.device.id for each in samples} == {"B"}

    asyncio.run(story())


def test_a_line_to_another_place_is_another_line(tmp_path: Path) -> None:
    """A device whose converter got another address is read there, and no more at the old one."""

    async def story() -> None:
        old, new = Slave({1: 1.0}), Slave({1: 2.0}, port=free_port())
        async with old.serve(), new.serve():
            samples: list[Sample] = []
            before = settings(tmp_path, {"A": modbus_device("A", old.port)})
            async with reading(before, samples) as inputs:
                await eventually_async(lambda: samples)
                await inputs.adopt(settings(tmp_path, {"A": modbus_device("A", new.port)}))
                asked = len(old.asked)
                await eventually_async(lambda: float(samples[-1].columns.value[0]) == 2.0)
                assert len(old.asked) == asked

    asyncio.run(story())


def test_a_line_that_takes_a_device_reads_on_until_the_other_line_gives_it(tmp_path: Path) -> None:
    """A device is moved because its line is overloaded: what was well on the new line misses nothing meanwhile."""

    async def story() -> None:
        well, slow = Slave({1: 1.0, 2: 2.0}), Slave({1: 1.0, 2: 2.0}, late_s={1: 0.15, 2: 0.15})
        async with well.serve(), slow.serve():
            stays = {"W": modbus_device("W", well.port, 1, 200), "B": modbus_device("B", slow.port, 2, 200, 3000)}
            samples: list[Sample] = []
            before = settings(tmp_path, {**stays, "A": modbus_device("A", slow.port, 1, 200, 3000)})
            async with reading(before, samples) as inputs:
                await eventually_async(lambda: inputs.pollers[1].figures().stretched)
                after = settings(tmp_path, {**stays, "A": modbus_device("A", well.port, 2, 200, 3000)})
                adopting = asyncio.create_task(inputs.adopt(with_known_devices(before, after)))
                await asyncio.sleep(0)
                samples.clear()
                await eventually_async(lambda: sum(each.device.id == "W" for each in samples) >= 3)
                assert not adopting.done()
                slow.late_s.clear()
                await adopting
                samples.clear()
                await eventually_async(lambda: {each.device.id for each in samples} == set("WAB"))

    asyncio.run(story())


def test_lines_that_exchange_devices_wait_for_each_other_only_until_both_have_ended(tmp_path: Path) -> None:
    """Each gives one away and takes one: neither waits for ever."""

    async def story() -> None:
        one, other = Slave({1: 1.0, 2: 2.0}), Slave({1: 3.0, 2: 4.0})
        async with one.serve(), other.serve():
            samples: list[Sample] = []
            before = settings(tmp_path, {"A": modbus_device("A", one.port, 1), "B": modbus_device("B", other.port, 2)})
            async with reading(before, samples) as inputs:
                await eventually_async(lambda: {each.device.id for each in samples} == set("AB"))
                after = {"A": modbus_device("A", other.port, 1), "B": modbus_device("B", one.port, 2)}
                async with asyncio.timeout(30):
                    await inputs.adopt(settings(tmp_path, after))
                samples.clear()
                await eventually_async(lambda: {float(each.columns.value[0]) for each in samples} == {3.0, 2.0})

    asyncio.run(story())


def test_a_device_that_moves_is_never_read_at_two_places_at_once(tmp_path: Path) -> None:
    """Its new place is asked once the old one has answered: at one tick both readings could bear one stamp."""

    async def story() -> None:
        old, new = Slave({1: 1.0}, late_s={1: 0.05}), Slave({1: 2.0}, port=free_port())
        async with old.serve(), new.serve():
            samples: list[Sample] = []
            before = settings(tmp_path, {"A": modbus_device("A", old.port)})
            async with reading(before, samples) as inputs:
                await eventually_async(lambda: len(samples) >= 2)
                await inputs.adopt(settings(tmp_path, {"A": modbus_device("A", new.port)}))
                await eventually_async(lambda: float(samples[-1].columns.value[0]) == 2.0)
                values = [float(each.columns.value[0]) for each in samples]
                assert values == sorted(values)
                stamps = [int(each.columns.time_ms[0]) for each in samples]
                assert min(later - sooner for sooner, later in pairwise(stamps)) > 1

    asyncio.run(story())
