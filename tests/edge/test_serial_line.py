"""A serial line at the speed of its bits: how much of it the polls use, and what a bad unit costs the others."""

import asyncio
import os
import termios
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from tests.support.modbus_switches import SwitchUnit
from tests.support.modbus_units import Fault, Unit
from tests.support.serial_line import SerialLine, joined_ports, words
from tests.support.wait import eventually_async
from tocsin_core.clock import SystemClock
from tocsin_core.plant.connection import Modbus, Serial
from tocsin_core.plant.outputs import Button, Output
from tocsin_core.polling import WriteRequest
from tocsin_core.ranges import Ranges
from tocsin_core.readings import BAD_COMM_FAILURE, GOOD
from tocsin_core.registers import Line, Profile, ReadRequest, compile_plan
from tocsin_core.sparkplug import EdgeDevice, EdgeMetric
from tocsin_edge.adapters.modbus import Answer, ModbusLine
from tocsin_edge.adapters.serial_port import SerialLink
from tocsin_edge.loops.chores import Chore, PushButton
from tocsin_edge.loops.keep import Sample
from tocsin_edge.loops.poll import Holes, Poller
from tocsin_edge.settings import DeviceSettings, ModbusDevice, Part

CLOCK = SystemClock()
TEN: ReadRequest = ReadRequest(3, 0, 10)
NO_LIMITS: Mapping[str, int] = {}


def profile(count: int, limits: Mapping[str, int]) -> Profile:
    """Make a device of so many u16 registers from address 0."""
    values = {f"v{at}": {"address": at, "type": "u16"} for at in range(count)}
    given = {"vendor": "test", "model": "test", "trust": "documented", "source": "this test", "values": values}
    return Profile.model_validate({**given, "limits": limits})


def device(
    unit: int, address: Modbus, *, count: int = 10, period_ms: int = 1000, limits: Mapping[str, int] = NO_LIMITS
) -> DeviceSettings:
    """Make a device of so many points, named after its unit."""
    of = profile(count, limits)
    names = list(of.values)
    assert address.serial is not None
    line = Line.serial(address.serial.baud)
    how = ModbusDevice(
        address.model_copy(update={"unit": unit}),
        of,
        (Part(tuple(range(count)), compile_plan(of, names, line)),),
    )
    metrics = tuple(EdgeMetric(f"{unit}/{name}") for name in names)
    return DeviceSettings(EdgeDevice(f"d{unit}", metrics), Ranges.of([None] * count), period_ms * 1_000_000, how)


def at(path: str, baud: int = 19200, timeout_ms: int = 300) -> Modbus:
    """Make the address of a port."""
    return Modbus(serial=Serial.model_validate({"port": path, "baud": baud}), timeout_ms=timeout_ms, retries=1)


def poller(folder: Path, devices: list[DeviceSettings], put: list[Sample], *chores: Chore) -> Poller:
    """Make a poller of these devices, which share a line, and of what it does beside."""
    how = devices[0].input
    assert isinstance(how, ModbusDevice)
    line = ModbusLine(how.address, CLOCK, lambda: 0.5)
    return Poller(devices, line, Holes(folder), CLOCK, put.append, lambda: 0.5, chores)


@pytest.mark.parametrize("baud", [9600, 19200])
def test_as_fast_as_it_can_it_fills_the_line_with_questions_and_answers(
    baud: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Five units of forty registers at a tenth of the time they need: every byte is of an exchange that was needed."""

    async def story() -> None:
        units = {unit: Unit(words(unit, 40)) for unit in range(1, 6)}
        async with SerialLine(units, baud) as line:
            samples: list[Sample] = []
            devices = [device(unit, at(line.path, baud), count=40, period_ms=100) for unit in units]
            polls = poller(tmp_path, devices, samples)
            polling = asyncio.create_task(polls.run())
            await eventually_async(lambda: line.answers >= 60, timeout_s=60)
            # Where the machine does something else the line waits: the promise is of the best ten exchanges in a row.
            await eventually_async(lambda: most_used(line) >= 0.9, timeout_s=60)
            polling.cancel()
            polls.close()
            record_property("utilisation", most_used(line))
            assert line.asked_bytes == 8 * line.questions
            assert line.answered_bytes == line.answers * (5 + 2 * 40)
            assert 0 <= line.questions - line.answers <= 1
            assert (line.collisions, line.too_soon) == (0, 0)
            counts = [len(unit.asked) for unit in units.values()]
            assert max(counts) - min(counts) <= 1
            assert {int(q) for sample in samples for q in sample.columns.quality} == {GOOD}
            for sample in samples:
                assert set(sample.columns.value.tolist()) == {float(sample.device.id[1:])}

    asyncio.run(story())


def most_used(line: SerialLine) -> float:
    """Compute the share of its time for which the line was used by any ten answered exchanges in a row."""
    ideal_s = 10 * line.line_s / line.answers
    return max(ideal_s / (last - first) for first, last in zip(line.answered_s, line.answered_s[10:], strict=False))


BAD = [fault for fault in Fault if fault not in (Fault.NONE, Fault.TWICE, Fault.NOISE_BEFORE, Fault.CLOSES)]


def test_a_bad_unit_on_a_serial_line_costs_the_others_no_period(tmp_path: Path) -> None:
    """Whatever it does, the healthy units' ticks are all there, good and right; it is bad, and heals."""

    async def story(fault: Fault) -> None:
        units = {unit: Unit(words(unit, 10)) for unit in (1, 2, 3)}
        async with SerialLine(units, 19200) as line:
            samples: list[Sample] = []
            polls = poller(tmp_path, [device(unit, at(line.path)) for unit in units], samples)
            polling = asyncio.create_task(polls.run())
            await eventually_async(lambda: len({s.device.id for s in samples}) == 3)
            units[2].fault, units[2].late_s = fault, 0.35
            await eventually_async(lambda: bad(samples, "d2"))
            seen = len(samples)
            await eventually_async(lambda: all(good(samples[seen:], d) >= 4 for d in ("d1", "d3")))
            missed = left_out(polls)
            assert (missed["d1"], missed["d3"]) == (0, 0), fault
            units[2].fault = Fault.NONE
            seen = len(samples)
            await eventually_async(lambda: good(samples[seen:], "d2") >= 2)
            polling.cancel()
            polls.close()
            for sample in samples:
                right = float(sample.device.id[1:])
                assert {v for v in sample.columns.value.tolist() if not np.isnan(v)} <= {right}, fault
                assert right == 2.0 or set(sample.columns.quality.tolist()) == {GOOD}, fault

    async def stories() -> None:
        async with asyncio.TaskGroup() as group:
            for fault in BAD:
                group.create_task(story(fault), name=fault.value)

    asyncio.run(stories())


def test_all_units_of_a_cable_that_is_cut_are_bad_before_each_was_asked(tmp_path: Path) -> None:
    """To ask them all, with a time-out and a retry each, takes 7 s; they are back with the cable, and a button, too."""

    async def story() -> None:
        units = {unit: Unit(words(unit, 10)) for unit in range(1, 14)}
        async with SerialLine(units, 115200) as line:
            samples: list[Sample] = []
            address = at(line.path, 115200)
            devices = [device(unit, address, period_ms=500) for unit in range(1, 13)]
            names = {device.id for device in devices}
            told = {"id": "ACK", "function": 3, "address": 0, "bit": 15, "period_ms": 500}
            button = Button.model_validate(told | {"modbus": address.model_copy(update={"unit": 13})})
            polls = poller(tmp_path, devices, samples, push := PushButton(button, CLOCK, print))
            polling = asyncio.create_task(polls.run())
            await eventually_async(lambda: all(good(samples, name) >= 2 for name in names))
            for unit in units.values():
                unit.fault = Fault.SILENT
            with capture_logs() as logs:
                await eventually_async(lambda: all(bad(samples, name) for name in names))
            assert "nobody on the line answers" in {line.get("reason") for line in logs}
            for name in names:
                newest = max(s.columns.time_ms.max() for s in samples if s.device.id == name and not is_bad_sample(s))
                first = min(s.columns.time_ms.min() for s in samples if s.device.id == name and is_bad_sample(s))
                assert 0 < first - newest < 4000
            seen = len(samples)
            for unit in units.values():
                unit.fault = Fault.NONE
            await eventually_async(lambda: all(good(samples[seen:], name) for name in names))
            await eventually_async(lambda: push.figures.reason == "")
            polling.cancel()
            polls.close()

    asyncio.run(story())


def is_bad_sample(sample: Sample) -> bool:
    """Whether nothing of it is known."""
    return bool((sample.columns.quality == BAD_COMM_FAILURE).all() and np.isnan(sample.columns.value).all())


def test_a_dead_unit_on_a_serial_line_is_asked_seldom_and_costs_the_others_no_period(tmp_path: Path) -> None:
    """A time-out is nearly as long as a period: once the unit is dead it is probed, and the others have the line."""

    async def story() -> None:
        units = {unit: Unit(words(unit, 10)) for unit in (1, 2, 3)}
        async with SerialLine(units, 19200) as line:
            samples: list[Sample] = []
            devices = [device(unit, at(line.path, timeout_ms=400), period_ms=500) for unit in units]
            polls = poller(tmp_path, devices, samples)
            polling = asyncio.create_task(polls.run())
            await eventually_async(lambda: len({s.device.id for s in samples}) == 3)
            units[2].fault = Fault.SILENT
            await eventually_async(lambda: any(s.dead for s in samples))
            seen, asked, before = len(samples), len(units[2].asked), left_out(polls)
            await eventually_async(lambda: all(good(samples[seen:], d) >= 12 for d in ("d1", "d3")), timeout_s=60)
            polling.cancel()
            polls.close()
            # A live unit is asked once in every period.
            assert len(units[2].asked) - asked <= good(samples[seen:], "d1") / 2
            after = left_out(polls)
            assert [after[d] - before[d] for d in ("d1", "d3")] == [0, 0]

    asyncio.run(story())


def test_the_units_on_this_side_of_a_cable_that_is_cut_in_its_middle_are_read(tmp_path: Path) -> None:
    """Those beyond are bad, then dead and asked seldom; nobody on this side is bad, or kept from being read."""

    async def story() -> None:
        units = {unit: Unit(words(unit, 10)) for unit in range(1, 11)}
        here, beyond = [f"d{unit}" for unit in range(1, 6)], [f"d{unit}" for unit in range(6, 11)]
        async with SerialLine(units, 115200) as line:
            samples: list[Sample] = []
            polls = poller(tmp_path, [device(unit, at(line.path, 115200)) for unit in units], samples)
            polling = asyncio.create_task(polls.run())
            await eventually_async(lambda: len({s.device.id for s in samples}) == 10)
            for unit in range(6, 11):
                units[unit].fault = Fault.SILENT
            await eventually_async(lambda: {s.device.id for s in samples if s.dead} == set(beyond))
            seen, asked = len(samples), [len(units[unit].asked) for unit in range(6, 11)]
            await eventually_async(lambda: min(good(samples[seen:], name) for name in here) >= 10)
            assert max(len(units[unit].asked) - asked[unit - 6] for unit in range(6, 11)) <= 10
            assert not any(is_bad_sample(s) for s in samples if s.device.id in here)
            seen = len(samples)
            for unit in range(6, 11):
                units[unit].fault = Fault.NONE
            await eventually_async(lambda: all(good(samples[seen:], name) for name in beyond))
            polling.cancel()
            polls.close()

    asyncio.run(story())


def left_out(polls: Poller) -> dict[str, int]:
    """Ticks that were left out, by device."""
    return {job.name: job.missed for job in polls.figures().jobs}


def good(samples: list[Sample], device: str) -> int:
    """Count the good samples of a device."""
    return sum(s.device.id == device and set(s.columns.quality.tolist()) == {GOOD} for s in samples)


def bad(samples: list[Sample], device: str) -> bool:
    """Whether a device was told to be bad, by a communication failure without a value."""
    found = [s.columns for s in samples if s.device.id == device and BAD_COMM_FAILURE in s.columns.quality]
    return bool(found) and all(np.isnan(columns.value).all() for columns in found)


async def asked(modbus: ModbusLine) -> Answer:
    """Ask unit 1 for ten registers, again as long as the line says that it did not come to that."""
    while (answer := await modbus.ask(1, TEN, 2.0)).again:
        pass
    return answer


def test_a_late_answer_never_serves_the_next_question() -> None:
    """Asked again while the answer to the first question is still on its way, the value is the later one's."""

    async def story() -> None:
        unit = Unit(words(1, 10), fault=Fault.LATE, late_s=0.25)
        async with SerialLine({1: unit, 2: Unit(words(2, 10))}, 19200) as line:
            modbus = ModbusLine(at(line.path), CLOCK, lambda: 0.5)
            for value in (10, 20, 30):
                unit.fault, unit.registers = Fault.LATE, words(value, 10)
                late = await modbus.ask(1, TEN, 0.2)
                assert late.silent
                unit.fault, unit.registers = Fault.NONE, words(value + 1, 10)
                # The late answer may collide with the question; the one after it must be answered.
                heard = [each for each in [await asked(modbus), await asked(modbus)] if not each.silent]
                assert heard
                assert all(np.asarray(each.reply).tolist() == [value + 1] * 10 for each in heard)
            modbus.close()
            assert len(unit.asked) >= 9

    asyncio.run(story())


def test_a_late_answer_that_nothing_tells_apart_is_waited_for() -> None:
    """A device that may be asked for one register at a time only: the answer for one is not taken for the next."""

    async def story() -> None:
        unit = Unit({0: 1, 1: 2}, fault=Fault.LATE, late_s=0.5)
        async with SerialLine({1: unit}, 19200) as line:
            modbus = ModbusLine(at(line.path), CLOCK, lambda: 0.5)
            assert (await modbus.ask(1, ReadRequest(3, 0, 1), 0.2)).silent
            unit.fault = Fault.NONE
            waits = await modbus.ask(1, ReadRequest(3, 1, 1), 2.0, lambda _: None)
            assert waits.again

            async def answered() -> Answer | None:
                answer = await modbus.ask(1, ReadRequest(3, 1, 1), 2.0, lambda _: None)
                return None if answer.again else answer

            answer = await eventually_async(answered)
            assert answer is not None
            modbus.close()
            assert np.asarray(answer.reply).tolist() == [2]

    asyncio.run(story())


def test_an_output_is_switched_while_a_late_answer_is_waited_for() -> None:
    """The echo of a write is no answer to a read; as it may be an older write's, reads wait as they did."""

    async def story() -> None:
        unit = SwitchUnit({0: 1, 1: 2}, fault=Fault.SILENT)
        async with SerialLine({1: unit}, 19200) as line:
            modbus = ModbusLine(at(line.path), CLOCK, lambda: 0.5)
            siren = Output(id="S", kind="siren", modbus=at(line.path), function=6, address=7)
            modbus.allow([(1, siren)])
            assert (await modbus.ask(1, ReadRequest(3, 0, 1), 0.2)).silent
            unit.fault = Fault.NONE
            taken = await modbus.ask(1, WriteRequest(siren, on=True), 2.0, lambda _: None)
            assert (taken.again, taken.reason) == (False, "")
            assert unit.registers[7] == 1
            # Told apart by another question all the same, as if nothing had been written.
            assert (await modbus.ask(1, ReadRequest(3, 1, 1), 2.0)).again
            assert np.asarray((await modbus.ask(1, ReadRequest(3, 1, 1), 2.0)).reply).tolist() == [2]
            modbus.close()

    asyncio.run(story())


@pytest.mark.parametrize("registers", [125, 1])
def test_a_device_that_needs_its_pause_is_back_after_one_lost_answer(registers: int, tmp_path: Path) -> None:
    """What tells a late answer apart is asked with the device's pause around it, if it may be asked at all."""

    async def story() -> None:
        unit = Unit(words(7, 2), pause_s=0.4)
        limits = {"pause_ms": 450, "registers": registers}
        async with SerialLine({1: unit}, 19200) as line:
            samples: list[Sample] = []
            polls = poller(tmp_path, [device(1, at(line.path), count=1, limits=limits)], samples)
            polling = asyncio.create_task(polls.run())
            await eventually_async(lambda: good(samples, "d1"))
            asked = len(unit.asked)
            unit.fault = Fault.SILENT
            await eventually_async(lambda: len(unit.asked) > asked)
            unit.fault = Fault.NONE
            seen = len(samples)
            await eventually_async(lambda: good(samples[seen:], "d1") >= 3)
            polling.cancel()
            polls.close()
            assert {count for _, _, count in unit.asked} == ({1, 2} if registers > 1 else {1})

    asyncio.run(story())


def test_a_unit_that_refuses_without_a_code_what_tells_it_apart_is_back_and_its_neighbour_is_not_late(
    tmp_path: Path,
) -> None:
    """It has answered, if only with exception 0: the line goes on after one lost answer."""

    async def story() -> None:
        units = {1: Unit(words(1, 10), knows=frozenset({10})), 2: Unit(words(2, 10))}
        async with SerialLine(units, 19200) as line:
            samples: list[Sample] = []
            polls = poller(tmp_path, [device(unit, at(line.path)) for unit in units], samples)
            polling = asyncio.create_task(polls.run())
            await eventually_async(lambda: good(samples, "d1") and good(samples, "d2"))
            asked = len(units[1].asked)
            units[1].fault = Fault.SILENT
            await eventually_async(lambda: len(units[1].asked) > asked)
            units[1].fault, seen = Fault.NONE, len(samples)
            await eventually_async(lambda: all(good(samples[seen:], name) >= 2 for name in ("d1", "d2")))
            polling.cancel()
            polls.close()
            others = [count for _, _, count in units[1].asked[asked:] if count != 10]
            assert 1 <= len(others) <= 2

    asyncio.run(story())


def test_an_answer_after_noise_is_an_answer() -> None:
    """A glitch as the driver switches on does not cost the answer."""

    async def story() -> None:
        async with SerialLine({1: Unit(words(5, 10), fault=Fault.NOISE_BEFORE)}, 9600) as line:
            modbus = ModbusLine(at(line.path, 9600), CLOCK, lambda: 0.5)
            answer = await modbus.ask(1, TEN, 1.0)
            modbus.close()
            assert np.asarray(answer.reply).tolist() == [5] * 10

    asyncio.run(story())


def test_a_port_that_is_not_there_is_not_serial_or_is_held() -> None:
    """Each is told by its reason, at once."""

    async def story(folder: str) -> None:
        reasons = []
        for path in (f"{folder}/none", os.devnull):
            modbus = ModbusLine(at(path), CLOCK, lambda: 0.0)
            reasons.append((await modbus.ask(1, TEN, 1.0)).reason)
            modbus.close()
        async with SerialLine({1: Unit(words(5, 10))}, 9600) as line:
            first, second = (ModbusLine(at(line.path, 9600), CLOCK, lambda: 0.0) for _ in range(2))
            assert not (await first.ask(1, TEN, 1.0)).silent
            reasons.append((await second.ask(1, TEN, 1.0)).reason)
            first.close()
            assert not (await second.ask(1, TEN, 1.0)).silent
            second.close()
        assert reasons == [
            "no connection: No such file or directory",
            "no connection: not a serial port",
            "no connection: another program holds the port",
        ]

    asyncio.run(story("/nowhere"))


@pytest.mark.parametrize(
    ("settings", "speed", "form"),
    [
        ({"baud": 9600}, termios.B9600, 0),
        ({"baud": 19200, "parity": "even"}, termios.B19200, termios.PARENB),
        ({"baud": 1200, "parity": "odd"}, termios.B1200, termios.PARENB | termios.PARODD),
        ({"baud": 115200, "stop_bits": 2}, termios.B115200, termios.CSTOPB),
    ],
)
def test_a_port_is_set_as_the_plant_file_says(
    settings: dict[str, object], speed: int, form: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Speed, parity and stop bits, as the driver is asked for them: a pseudo-terminal keeps no parity to look at."""
    asked_for: list[list[Any]] = []
    set_port = termios.tcsetattr

    def noted(fd: int, when: int, attributes: list[Any]) -> None:
        asked_for.append(attributes)
        set_port(fd, when, attributes)

    async def story() -> None:
        with joined_ports() as (ours, _):
            link = SerialLink(Serial.model_validate({"port": ours} | settings))
            await link.open()
            link.close()

    monkeypatch.setattr(termios, "tcsetattr", noted)
    asyncio.run(story())
    ((checks, _, control, _, speed_in, speed_out, _),) = asked_for
    assert (speed_in, speed_out) == (speed, speed)
    assert control & (termios.CSIZE | termios.PARENB | termios.PARODD | termios.CSTOPB) == termios.CS8 | form
    assert bool(checks & termios.INPCK) == bool(form & termios.PARENB)


def test_a_port_that_goes_away_is_told_and_opened_again(tmp_path: Path) -> None:
    """A USB converter is pulled out and put in again: bad with the reason, then good."""

    async def story() -> None:
        link = tmp_path / "port"
        samples: list[Sample] = []
        async with SerialLine({1: Unit(words(5, 10))}, 19200) as line:
            link.symlink_to(line.path)
            polls = poller(tmp_path, [device(1, at(str(link)), period_ms=200)], samples)
            polling = asyncio.create_task(polls.run())
            await eventually_async(lambda: good(samples, "d1"))
            line.unplug()
            link.unlink()
            await eventually_async(lambda: bad(samples, "d1"))
        async with SerialLine({1: Unit(words(6, 10))}, 19200) as line:
            link.symlink_to(line.path)
            await eventually_async(lambda: 6.0 in samples[-1].columns.value)
        polling.cancel()
        polls.close()

    asyncio.run(story())
