"""Devices over TCP that go wrong in every way the field knows, and what their neighbours notice of it: nothing."""

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest

from tests.support.modbus_units import CODES, Fault, TcpUnits, Unit
from tests.support.serial_line import words
from tests.support.wait import eventually_async
from tocsin_core.clock import Clock, SystemClock
from tocsin_core.plant.brought import BAD_PERIODS
from tocsin_core.plant.connection import Modbus
from tocsin_core.ranges import Ranges
from tocsin_core.readings import BAD_COMM_FAILURE, BAD_CONFIGURATION, GOOD
from tocsin_core.registers import TCP, Hole, Profile, compile_plan
from tocsin_core.sparkplug import EdgeDevice, EdgeMetric
from tocsin_edge.adapters.modbus import ModbusLine
from tocsin_edge.adapters.modbus_holes import read_holes, write_holes
from tocsin_edge.loops import poll
from tocsin_edge.loops.keep import Sample
from tocsin_edge.loops.poll import Holes, Poller
from tocsin_edge.settings import DeviceSettings, ModbusDevice, Part

CLOCK = SystemClock()
PERIOD_MS = 1000
TIMEOUT_MS = 300
STANDS_MS = 1_800_000_000_000
FAULTS = [fault for fault in Fault if fault not in (Fault.NONE, Fault.TWICE, Fault.NOISE_BEFORE)]

# The stream of frames goes on: nobody else's connection is broken for these.
KEEP_CONNECTION = (Fault.SILENT, Fault.LATE, Fault.WRONG_UNIT, Fault.WRONG_FUNCTION, *CODES)


def profile(addresses: Sequence[int]) -> Profile:
    """Make a device of u16 registers at these addresses."""
    values = {f"v{at}": {"address": at, "type": "u16"} for at in addresses}
    given = {"vendor": "test", "model": "test", "trust": "documented", "source": "this test", "values": values}
    return Profile.model_validate(given)


def device(address: Modbus, unit: int, addresses: Sequence[int] = (0, 1), period_ms: int = PERIOD_MS) -> DeviceSettings:
    """Make a device of a point for each address, named after its unit."""
    of = profile(addresses)
    names = list(of.values)
    part = Part(tuple(range(len(names))), compile_plan(of, names, TCP))
    how = ModbusDevice(address.model_copy(update={"unit": unit}), of, (part,))
    metrics = tuple(EdgeMetric(f"{unit}/{name}") for name in names)
    return DeviceSettings(EdgeDevice(f"d{unit}", metrics), Ranges.of([None] * len(names)), period_ms * 1_000_000, how)


def to(port: int, framing: str = "tcp") -> Modbus:
    """Make an address on this machine."""
    given = {"host": "127.0.0.1", "port": port, "framing": framing, "timeout_ms": TIMEOUT_MS, "retries": 1}
    return Modbus.model_validate(given)


@asynccontextmanager
async def polled(
    folder: Path, *lines: list[DeviceSettings], clock: Clock = CLOCK
) -> AsyncIterator[tuple[list[Sample], list[Poller]]]:
    """Poll the devices of each line; gives what they put, and the pollers."""
    samples: list[Sample] = []
    pollers, holes = [], Holes(folder)
    draws = cycle((0.1, 0.9, 0.5, 0.3, 0.7))
    for devices in lines:
        how = devices[0].input
        assert isinstance(how, ModbusDevice)
        line = ModbusLine(how.address, clock, lambda: next(draws))
        pollers.append(Poller(devices, line, holes, clock, samples.append, lambda: next(draws)))
    tasks = [asyncio.create_task(run) for run in (holes.run(), *(poller.run() for poller in pollers))]
    try:
        yield samples, pollers
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        for poller in pollers:
            poller.close()
    assert all(isinstance(each, asyncio.CancelledError) for each in ended), ended


def good(samples: Sequence[Sample], device: str) -> int:
    """Count the good samples of a device."""
    return sum(s.device.id == device and set(s.columns.quality.tolist()) == {GOOD} for s in samples)


def bad(samples: Sequence[Sample], device: str) -> list[Sample]:
    """Collect a device's bad samples, none of which may have a value."""
    found = [s for s in samples if s.device.id == device and GOOD not in s.columns.quality]
    assert all(np.isnan(s.columns.value).all() for s in found)
    return found


def missed(pollers: Sequence[Poller]) -> dict[str, int]:
    """Ticks that were left out, by device."""
    return {job.name: job.missed for poller in pollers for job in poller.figures().jobs}


@pytest.mark.parametrize("framing", ["tcp", "rtu"])
def test_a_bad_unit_behind_a_converter_costs_the_others_no_period(framing: str, tmp_path: Path) -> None:
    """Three units behind one address; one goes wrong in each way, is soon bad with the reason, never 0, and heals."""

    async def story(fault: Fault) -> None:
        units = {unit: Unit(words(unit, 2)) for unit in (1, 2, 3)}
        async with TcpUnits(units, rtu=framing == "rtu") as server:
            devices = [device(to(server.port, framing), unit) for unit in units]
            async with polled(tmp_path, devices) as (samples, pollers):
                await eventually_async(lambda: len({s.device.id for s in samples}) == 3)
                units[2].fault, units[2].late_s = fault, 0.35
                await eventually_async(lambda: bad(samples, "d2"))
                assert pollers[0].figures().troubles["d2"], fault
                last = next(s for s in reversed(samples) if s.device.id == "d2" and GOOD in s.columns.quality)
                # Two periods from the first question that went wrong, which is a period after the last that did not.
                gap_ms = bad(samples, "d2")[0].columns.time_ms[0] - last.columns.time_ms[0]
                assert gap_ms <= 3 * PERIOD_MS, fault
                seen = len(samples)
                await eventually_async(lambda: all(good(samples[seen:], d) >= 4 for d in ("d1", "d3")))
                left_out = missed(pollers)
                assert (left_out["d1"], left_out["d3"]) == (0, 0), fault
                units[2].fault = Fault.NONE
                seen = len(samples)
                await eventually_async(lambda: good(samples[seen:], "d2") >= 2)
                for sample in samples:
                    right = float(sample.device.id[1:])
                    assert {v for v in sample.columns.value.tolist() if not np.isnan(v)} <= {right}, fault
                    assert right == 2.0 or set(sample.columns.quality.tolist()) == {GOOD}, fault
                assert fault not in KEEP_CONNECTION or server.connections == 1, fault

    async def stories() -> None:
        async with asyncio.TaskGroup() as group:
            for fault in FAULTS:
                if fault is not Fault.WRONG_CHECKSUM or framing == "rtu":
                    group.create_task(story(fault), name=fault.value)

    asyncio.run(stories())


def test_the_bad_readings_of_a_unit_that_dies_lie_apart_however_often_it_is_tried(tmp_path: Path) -> None:
    """The last of the three raises the instrument alarm, also where the first question was asked three times."""

    async def story() -> None:
        units = {1: Unit(words(1, 2))}
        async with TcpUnits(units) as server:
            address = to(server.port).model_copy(update={"retries": 2})
            async with polled(tmp_path, [device(address, 1)]) as (samples, _):
                await eventually_async(lambda: samples)
                units[1].fault = Fault.SILENT
                await eventually_async(lambda: any(sample.dead for sample in samples))
                stamps = [int(sample.columns.time_ms[0]) for sample in bad(samples, "d1")]
                assert stamps[-1] - stamps[0] >= BAD_PERIODS * PERIOD_MS

    asyncio.run(story())


def test_a_reading_that_a_later_try_brought_is_of_that_try(tmp_path: Path) -> None:
    """Only what nobody answered at all is of the first: else it would be older than it is."""

    async def story() -> None:
        unit = Unit(words(1, 2))
        async with TcpUnits({1: unit}) as server:
            address = to(server.port).model_copy(update={"retries": 2})
            async with polled(tmp_path, [device(address, 1)]) as (samples, _):
                await eventually_async(lambda: samples)
                unit.fault, asked = Fault.SILENT, len(unit.asked)
                await eventually_async(lambda: len(unit.asked) >= asked + 2)
                unit.fault, healed_ms, seen = Fault.NONE, CLOCK.now_ns() // 1_000_000, len(samples)
                await eventually_async(lambda: good(samples[seen:], "d1"))
                back = next(s for s in samples[seen:] if GOOD in s.columns.quality)
                # The middle of the exchange, which may have begun just before.
                assert back.columns.time_ms[0] >= healed_ms - TIMEOUT_MS / 4

    asyncio.run(story())


@pytest.mark.parametrize("framing", ["tcp", "rtu"])
def test_units_beside_many_dead_ones_are_read(framing: str, tmp_path: Path) -> None:
    """Probes that nobody answers, one after the other, make the connection anew, and that is no line that came back."""

    async def story() -> None:
        units = {unit: Unit(words(unit, 2)) for unit in range(1, 9)}
        async with TcpUnits(units, rtu=framing == "rtu") as server:
            devices = [device(to(server.port, framing), unit) for unit in units]
            async with polled(tmp_path, devices) as (samples, pollers):
                await eventually_async(lambda: len({s.device.id for s in samples}) == 8)
                for unit in range(1, 5):
                    units[unit].fault = Fault.SILENT
                await eventually_async(lambda: sum(job.dead for job in pollers[0].figures().jobs) == 4)
                seen, asked = len(samples), [len(units[unit].asked) for unit in range(1, 5)]
                await eventually_async(lambda: min(good(samples[seen:], f"d{unit}") for unit in range(5, 9)) >= 10)
                # A live unit is asked once in every period, a dead one more seldom.
                assert max(len(units[unit].asked) - asked[unit - 1] for unit in range(1, 5)) <= 10
                assert not any(bad(samples, f"d{unit}") for unit in range(5, 9))

    asyncio.run(story())


def test_a_server_that_answers_twice_is_understood(tmp_path: Path) -> None:
    """The second answer to a question is nobody's, and shifts nothing."""

    async def story() -> None:
        units = {1: Unit(words(1, 2), fault=Fault.TWICE), 2: Unit(words(2, 2), fault=Fault.TWICE)}
        async with TcpUnits(units) as server:
            devices = [device(to(server.port), unit, period_ms=200) for unit in units]
            async with polled(tmp_path, devices) as (samples, pollers):
                await eventually_async(lambda: min(good(samples, "d1"), good(samples, "d2")) >= 8)
                assert not bad(samples, "d1") + bad(samples, "d2")
                assert all(set(s.columns.value.tolist()) == {float(s.device.id[1:])} for s in samples)
                assert server.connections == 1
                assert pollers[0].figures().counts["late answers"] > 0

    asyncio.run(story())


def test_a_port_that_accepts_and_says_nothing_is_bad_and_its_neighbours_are_not_late(tmp_path: Path) -> None:
    """On a connection of its own it costs nobody anything; bad within two periods of its first question, then dead."""

    async def story() -> None:
        begun_s = CLOCK.monotonic()
        async with TcpUnits({}) as mute, TcpUnits({1: Unit(words(1, 2))}) as server:
            lines = ([device(to(server.port), 1)], [device(to(mute.port), 9)])
            async with polled(tmp_path, *lines) as (samples, pollers):
                await eventually_async(lambda: bad(samples, "d9"))
                await eventually_async(lambda: bad(samples, "d9")[-1].dead)
                assert len(bad(samples, "d9")) == 3
                assert good(samples, "d1") >= int(CLOCK.monotonic() - begun_s) - 2
                assert missed(pollers)["d1"] == 0
                # The connection itself is doubted after three questions without a byte.
                await eventually_async(lambda: mute.connections >= 2)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault.STILL_BUSY, "exception 5: acknowledge, still busy"),
        (Fault.BUSY, "exception 6: server device busy"),
    ],
)
def test_a_busy_device_is_bad_with_the_reason_and_never_zero(fault: Fault, reason: str, tmp_path: Path) -> None:
    """Exceptions 5 and 6 are asked again, then told as a communication failure; the device is not dead."""

    async def story() -> None:
        unit = Unit(words(7, 2), fault=fault)
        async with (
            TcpUnits({1: unit}) as server,
            polled(tmp_path, [device(to(server.port), 1, period_ms=200)]) as (samples, pollers),
        ):
            await eventually_async(lambda: len(bad(samples, "d1")) >= 6)
            assert pollers[0].figures().troubles == {"d1": reason}
            assert len(unit.asked) >= 2 * 6
            assert not any(sample.dead for sample in samples)
            assert {int(q) for s in samples for q in s.columns.quality} == {BAD_COMM_FAILURE}

    asyncio.run(story())


def test_what_a_device_refuses_is_learned_and_kept_over_a_restart(tmp_path: Path) -> None:
    """Only the registers that are not there are bad; after a restart no request touches them together with others."""

    async def story() -> None:
        unit = Unit(words(7, 20), illegal=frozenset({9}))
        addresses = [0, 2, 4, 9, 14, 19]
        async with TcpUnits({1: unit}) as server:
            devices = [device(to(server.port), 1, addresses, 200)]
            expected = [BAD_CONFIGURATION if at == 9 else GOOD for at in addresses]
            async with polled(tmp_path, devices) as (samples, _):
                await eventually_async(lambda: samples and samples[-1].columns.quality.tolist() == expected)
                await eventually_async(
                    lambda: {h.proven for each in read_holes(tmp_path).values() for h in each} == {True}
                )
                assert all(s.columns.quality.tolist() == expected for s in samples)
            assert list(read_holes(tmp_path)) == [f"d1 127.0.0.1:{server.port} 1 test"]
            unit.asked.clear()
            async with polled(tmp_path, devices) as (samples, _):
                await eventually_async(lambda: len(samples) >= 3)
            together = [(at, at + count) for _, at, count in unit.asked if at <= 9 < at + count]
            assert {last - first for first, last in together} == {1}

    asyncio.run(story())


def test_what_is_learned_waits_for_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk hangs while a refusal is written down: the line polls on, and it is kept once the disk answers."""
    goes_on = threading.Event()

    def hanging(folder: Path, holes: Mapping[str, Sequence[Hole]]) -> None:
        goes_on.wait(60)
        write_holes(folder, holes)

    monkeypatch.setattr(poll, "write_holes", hanging)

    async def story() -> None:
        unit = Unit(words(7, 20), illegal=frozenset({9}))
        async with (
            TcpUnits({1: unit}) as server,
            polled(tmp_path, [device(to(server.port), 1, [0, 9, 19], 200)]) as (samples, _),
        ):
            try:
                await eventually_async(lambda: len(samples) > 4)
                assert read_holes(tmp_path) == {}
            finally:
                goes_on.set()
            await eventually_async(lambda: read_holes(tmp_path))

    asyncio.run(story())


def test_what_a_device_refused_while_it_was_starting_is_unlearned(tmp_path: Path) -> None:
    """It refuses a register that it has for a while: then one request reads all again, and no hole is kept."""

    async def story() -> None:
        unit = Unit(words(7, 20), illegal=frozenset({9}))
        addresses = [0, 9, 19]
        async with (
            TcpUnits({1: unit}) as server,
            polled(tmp_path, [device(to(server.port), 1, addresses, 200)]) as (samples, _),
        ):
            await eventually_async(lambda: len(unit.asked) > 1)
            unit.illegal = frozenset()
            await eventually_async(lambda: (3, 0, 20) in unit.asked[-3:] and good(samples[-2:], "d1") == 2)
            await eventually_async(lambda: set(read_holes(tmp_path).values()) == {()})

    asyncio.run(story())


def test_a_host_that_is_no_name_is_told(tmp_path: Path) -> None:
    """It is a device's trouble, not the gateway's end."""

    async def story() -> None:
        address = Modbus.model_validate({"host": f"{'a' * 70}.x", "timeout_ms": TIMEOUT_MS})
        async with polled(tmp_path, [device(address, 1, period_ms=200)]) as (samples, pollers):
            await eventually_async(lambda: bad(samples, "d1"))
            assert "no connection" in pollers[0].figures().troubles["d1"]

    asyncio.run(story())


def test_a_file_of_refusals_that_is_broken_is_left_out(tmp_path: Path) -> None:
    """The gateway starts without it, and writes it anew."""
    for content in ("{", "[1]", '{"d": [[9, 1, 2]]}', '{"d": 1}', "\udcff"):
        (tmp_path / "refused.json").write_text(content, encoding="utf-8", errors="surrogateescape")
        assert read_holes(tmp_path) == {}


def test_a_reading_has_the_time_of_the_middle_of_its_own_exchange(tmp_path: Path) -> None:
    """Two requests of one device are answered at different times, and their points say so."""

    async def story() -> None:
        unit = Unit(words(7, 2) | words(7, 400), fault=Fault.LATE, late_s=0.1)
        async with (
            TcpUnits({1: unit}) as server,
            polled(tmp_path, [device(to(server.port), 1, [0, 300])]) as (samples, _),
        ):
            before_ms = CLOCK.now_ns() // 1_000_000
            await eventually_async(lambda: samples)
            after_ms = CLOCK.now_ns() // 1_000_000
            first, second = samples[0].columns.time_ms.tolist()
            assert len(unit.asked) == 2
            assert second - first >= 100
            assert before_ms + 50 <= first
            assert second <= after_ms - 50

    asyncio.run(story())


class StandingClock:
    """A wall clock that stands still: whatever is read is of one ms."""

    def now_ns(self) -> int:
        """UTC, always the same."""
        return STANDS_MS * 1_000_000

    def monotonic(self) -> float:
        """Seconds since anywhere."""
        return CLOCK.monotonic()


def test_no_two_readings_of_a_device_bear_one_stamp(tmp_path: Path) -> None:
    """However often it is asked within a ms, each reading has a stamp of its own: of two the history would keep one."""

    async def story() -> None:
        async with (
            TcpUnits({1: Unit(words(7, 2))}) as server,
            polled(tmp_path, [device(to(server.port), 1, period_ms=50)], clock=StandingClock()) as (samples, _),
        ):
            await eventually_async(lambda: len(samples) >= 5)
            stamps = [sample.columns.time_ms.tolist() for sample in samples[:5]]
            assert stamps == [[STANDS_MS + place] * 2 for place in range(5)]

    asyncio.run(story())


class SetBackClock(StandingClock):
    """A wall clock that is set back by `back_ms`, at once and by more than a gateway makes up for."""

    back_ms = 0

    def now_ns(self) -> int:
        """UTC."""
        return CLOCK.now_ns() - self.back_ms * 1_000_000


def test_stamps_follow_a_clock_that_was_set_back(tmp_path: Path) -> None:
    """What was stamped before does not hold the later readings at one place of time."""

    async def story() -> None:
        clock = SetBackClock()
        async with (
            TcpUnits({1: Unit(words(7, 2))}) as server,
            polled(tmp_path, [device(to(server.port), 1, period_ms=200)], clock=clock) as (samples, _),
        ):
            await eventually_async(lambda: len(samples) >= 2)
            before = int(samples[-1].columns.time_ms[0])
            clock.back_ms = 5100
            seen = len(samples) + 1
            await eventually_async(lambda: len(samples) >= seen + 4)
            assert all(int(each.columns.time_ms[0]) < before for each in samples[seen : seen + 2])

    asyncio.run(story())


def test_units_that_died_with_their_line_are_back_with_it(tmp_path: Path) -> None:
    """The converter is switched off until all are dead, and on again: all are read at once, not probe by probe."""

    async def story() -> None:
        units = {unit: Unit(words(unit, 2)) for unit in range(1, 7)}
        server = TcpUnits(units)
        async with server:
            port = server.port
            devices = [device(to(port), unit, period_ms=200) for unit in units]
            context = polled(tmp_path, devices)
            samples, pollers = await context.__aenter__()
            await eventually_async(lambda: len({s.device.id for s in samples}) == 6)
        await eventually_async(lambda: all(job.failed >= 6 for job in pollers[0].figures().jobs))
        seen = len(samples)
        async with server:
            await eventually_async(lambda: good(samples[seen:], "d1") or len(samples) > seen)
            first = next(s for s in samples[seen:])
            await eventually_async(lambda: len({s.device.id for s in samples[seen:]}) == 6)
            times = [int(s.columns.time_ms[0]) for s in samples[seen:] if good([s], s.device.id)]
            assert max(times[:6]) - int(first.columns.time_ms[0]) < 1000
            await context.__aexit__(None, None, None)

    asyncio.run(story())
