"""Outputs and push-buttons on their lines: switched, read back, refused, and nothing else ever written."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.edge.rig import modbus_device, plant
from tests.support.modbus_switches import Fault, SwitchUnit
from tests.support.modbus_units import TcpUnits
from tests.support.ports import free_port
from tests.support.wait import eventually_async
from tocsin_core.clock import SystemClock
from tocsin_core.plant import load_plant
from tocsin_core.plant.connection import Modbus
from tocsin_core.plant.outputs import Button, Output
from tocsin_core.polling import WriteRequest
from tocsin_core.readings import is_good
from tocsin_edge.adapters.modbus import Answer, ModbusLine, NotAllowedError
from tocsin_edge.loops.chores import Chore, PushButton, Switch
from tocsin_edge.loops.poll import pollers_of
from tocsin_edge.settings import compile_settings
from tocsin_sim.adapters.switch_box import SwitchBox, Wired

if TYPE_CHECKING:
    from tocsin_edge.loops.keep import Sample

CLOCK = SystemClock()
PERIOD_MS = 200


class Rig:
    """A gateway's lines with an f32 device at unit 1 and what is in the plant file's `extra` lines."""

    def __init__(self, folder: Path, port: int, extra: str, framing: str = "tcp") -> None:
        """Compile it."""
        device = modbus_device("A", port, period_ms=PERIOD_MS).replace("unit: 1", f"framing: {framing}, unit: 1")
        settings = compile_settings(load_plant(plant(folder, 1, {"A": device}, extra)), "gw", folder)
        settings.spool.parent.mkdir(parents=True)
        self.samples: list[Sample] = []
        self.presses: list[str] = []
        self.switches = [Switch(output) for output in settings.gateway.outputs]
        self.buttons = [PushButton(each, CLOCK, self.presses.append) for each in settings.gateway.acknowledge]
        chores: list[Chore] = [*self.switches, *self.buttons]
        self.pollers = pollers_of(settings, CLOCK, self.samples.append, chores)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Rig"]:
        """Poll until left."""
        tasks = [asyncio.create_task(poller.run()) for poller in self.pollers]
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for poller in self.pollers:
                poller.close()


def output(port: int, function: int = 5, address: int = 7, unit: int = 2, rest: str = "") -> str:
    """An output as a plant file has it."""
    modbus = f"{{port: {port}, unit: {unit}, timeout_ms: 100, retries: 0}}"
    return f"{{id: S{address}, kind: siren, modbus: {modbus}, function: {function}, address: {address}{rest}}}"


@pytest.mark.parametrize(
    ("function", "rest", "on", "off"),
    [
        (5, "", 1, 0),
        (15, ", on: 0, off: 1", 0, 1),
        (6, ", on: 255, off: 3", 255, 3),
        (16, ", on: 65535", 65535, 0),
    ],
)
def test_an_output_is_switched_and_read_back(tmp_path: Path, function: int, rest: str, on: int, off: int) -> None:
    """By each function, first to what it should be at the start, and nothing but this address is ever written."""

    async def story() -> None:
        unit = SwitchUnit()
        async with TcpUnits({1: SwitchUnit(), 2: unit}) as server:
            rig = Rig(tmp_path, server.port, f"    outputs: [{output(server.port, function, rest=rest)}]")
            (switch,) = rig.switches
            state = unit.coils if function in (5, 15) else unit.registers
            async with rig.running():
                await eventually_async(lambda: switch.figures.known is False)
                assert state == {7: off}
                switch.want(on=True)
                await eventually_async(lambda: switch.figures.known is True)
                assert state == {7: on}
                switch.want(on=False)
                await eventually_async(lambda: switch.figures.known is False)
                assert switch.figures.reason == ""
            assert set(unit.written) == {(function, 7, on), (function, 7, off)}
            assert {asked[:2] for asked in unit.asked} == {(1 if function in (5, 15) else 3, 7)}
            assert not server.units[1].asked or {asked[0] for asked in server.units[1].asked} == {3}

    asyncio.run(story())


def test_a_unit_that_was_restarted_is_switched_again(tmp_path: Path) -> None:
    """What is on is written again and again."""

    async def story() -> None:
        unit = SwitchUnit()
        async with TcpUnits({1: SwitchUnit(), 2: unit}) as server:
            rig = Rig(tmp_path, server.port, f"    outputs: [{output(server.port, rest=', refresh_ms: 500')}]")
            rig.switches[0].want(on=True)
            async with rig.running():
                await eventually_async(lambda: unit.coils == {7: 1})
                unit.coils.clear()
                await eventually_async(lambda: unit.coils == {7: 1})

    asyncio.run(story())


@pytest.mark.parametrize("retries", [0, 1])
@pytest.mark.parametrize("fault", [Fault.SILENT, Fault.BUSY, Fault.TARGET_SILENT, Fault.NONE])
def test_a_write_that_fails_is_soon_written_again(tmp_path: Path, fault: Fault, retries: int) -> None:
    """However seldom it is written anew: nobody answers, it is refused, or (no fault) it is not done."""

    async def story() -> None:
        unit = SwitchUnit()
        async with TcpUnits({1: SwitchUnit(), 2: unit}) as server:
            told = output(server.port, rest=", refresh_ms: 60000").replace("retries: 0", f"retries: {retries}")
            (switch,) = (rig := Rig(tmp_path, server.port, f"    outputs: [{told}]")).switches
            async with rig.running():
                await eventually_async(lambda: switch.figures.known is False)
                unit.fault, unit.deaf = fault, fault is Fault.NONE
                switch.want(on=True)
                await eventually_async(lambda: switch.figures.failures > 0)
                unit.fault, unit.deaf = Fault.NONE, False
                await eventually_async(lambda: switch.figures.known is True)

    asyncio.run(story())


def test_what_reads_back_otherwise_is_told(tmp_path: Path) -> None:
    """A relay that says yes and does nothing is a fault; it is over once the relay follows."""

    async def story() -> None:
        unit = SwitchUnit(deaf=True)
        async with TcpUnits({1: SwitchUnit(), 2: unit}) as server:
            rig = Rig(tmp_path, server.port, f"    outputs: [{output(server.port, rest=', refresh_ms: 500')}]")
            (switch,) = rig.switches
            switch.want(on=True)
            async with rig.running():
                await eventually_async(lambda: switch.figures.reason == "reads back 0 where 1 was written")
                assert switch.figures.known is False
                assert switch.figures.failures > 0
                unit.deaf = False
                await eventually_async(lambda: switch.figures.reason == "")
                assert switch.figures.known is True

    asyncio.run(story())


def test_a_dead_output_costs_the_devices_of_its_line_nothing(tmp_path: Path) -> None:
    """On the same line a unit that never answers has its reason told, and the others keep their period."""

    async def story() -> None:
        silent = SwitchUnit(fault=Fault.SILENT)
        async with TcpUnits({1: SwitchUnit(), 2: silent}) as server:
            rig = Rig(tmp_path, server.port, f"    outputs: [{output(server.port, rest=', refresh_ms: 500')}]")
            (switch,) = rig.switches
            switch.want(on=True)
            async with rig.running():
                await eventually_async(lambda: switch.figures.reason == "no answer")
                await eventually_async(lambda: rig.pollers[0].figures().jobs[1].dead)
                before = len(rig.samples)
                await eventually_async(lambda: len(rig.samples) >= before + 10)
                # Ticks stay where they are on a machine that is slow: most samples are a period apart all the same.
                stamps = [int(sample.columns.time_ms[0]) for sample in rig.samples[before:]]
                assert median(later - sooner for sooner, later in pairwise(stamps)) < 1.5 * PERIOD_MS
                assert all(is_good(sample.columns.quality).all() for sample in rig.samples)
                assert switch.figures.known is None
                silent.fault = Fault.NONE
                await eventually_async(lambda: silent.coils == {7: 1})

    asyncio.run(story())


def test_a_line_writes_to_no_other_unit_or_output() -> None:
    """Whatever the program asks for, what is not on the list does not reach the line."""

    async def story() -> None:
        unit = SwitchUnit()
        async with TcpUnits({1: unit, 2: unit}) as server:
            told = {"id": "S", "kind": "siren", "address": 7, "modbus": Modbus(port=server.port)}
            mine = Output.model_validate(told)
            other = Output.model_validate(told | {"address": 8})
            line = ModbusLine(Modbus(port=server.port), CLOCK, lambda: 0.5)
            line.allow([(1, mine)])
            for number, wanted in ((2, mine), (1, other)):
                with pytest.raises(NotAllowedError):
                    await line.ask(number, WriteRequest(wanted, on=True), 0.5)
            assert unit.written == []
            await line.ask(1, WriteRequest(mine, on=True), 0.5)
            assert unit.written == [(5, 7, 1)]
            line.close()

    asyncio.run(story())


def button(port: int, rest: str) -> str:
    """A push-button as a plant file has it."""
    return f"{{id: ACK, modbus: {{port: {port}, unit: 2, timeout_ms: 100}}, period_ms: 100, {rest}}}"


@pytest.mark.parametrize(
    ("rest", "up", "down"),
    [
        ("address: 3", 0, 1),
        ("address: 3, pressed: 0", 1, 0),
        ("address: 3, function: 4, bit: 5", 0b1_1111, 0b11_1111),
    ],
)
def test_a_press_is_two_readings_in_a_row_and_is_told_once(tmp_path: Path, rest: str, up: int, down: int) -> None:
    """However long it is held; a button that was down from the beginning has to be let go first."""

    async def story() -> None:
        unit = SwitchUnit(inputs={3: down}, registers={3: down})
        async with TcpUnits({1: SwitchUnit(), 2: unit}) as server:
            rig = Rig(tmp_path, server.port, f"    acknowledge: [{button(server.port, rest)}]")

            async def readings(count: int) -> None:
                before = len(unit.asked)
                await eventually_async(lambda: len(unit.asked) >= before + count)

            async with rig.running():
                await eventually_async(lambda: rig.buttons[0].figures.pressed is True)
                await readings(4)
                assert rig.presses == []
                for presses in (1, 2):
                    unit.inputs[3] = unit.registers[3] = up
                    await eventually_async(lambda: rig.buttons[0].figures.pressed is False)
                    unit.inputs[3] = unit.registers[3] = down
                    # An answer that is late on a busy machine is none.
                    await eventually_async(lambda: len(rig.presses) >= presses)  # noqa: B023 -- awaited at once
                    await readings(6)
                    assert rig.presses == ["ACK"] * presses
            assert unit.written == []

    asyncio.run(story())


class Hands:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        """Begin at 0."""
        self.s = 0.0

    def now_ns(self) -> int:
        """The same time, as ns."""
        return round(self.s * 1e9)

    def monotonic(self) -> float:
        """The time, s."""
        return self.s


class Pressed:
    """A push-button that is read by hand, a second apart; `presses` are those that it told."""

    def __init__(self) -> None:
        """Read nothing yet."""
        self.clock, self.presses = Hands(), list[str]()
        told = {"id": "ACK", "modbus": Modbus(), "address": 3}
        self._button = PushButton(Button.model_validate(told), self.clock, self.presses.append)

    def read(self, *, down: bool | None) -> str:
        """One reading, None where there is no answer; what is wrong with it then."""
        request = self._button.request()
        assert request is not None
        reply = np.array([down]) if down is not None else 24
        self._button.note(request, Answer(reply, "" if down is not None else "no answer"))
        assert self._button.request() is None
        self._button.finish()
        self.clock.s += 1.0
        return self._button.figures.reason


def test_a_button_that_is_held_down_for_long_is_stuck() -> None:
    """That is told until it comes up, and it acknowledges once only; a reading that fails in between is no press."""
    button = Pressed()
    read, presses = button.read, button.presses
    assert [read(down=down) for down in (False, True, None, True)] == ["", "", "no answer", ""]
    assert presses == []
    reasons = [read(down=True) for _ in range(40)]
    assert presses == ["ACK"]
    assert reasons[20] == ""
    assert set(reasons[32:]) == {"held down for more than 30 s"}
    assert read(down=None) == "no answer"
    assert [read(down=down) for down in (True, True, True, False)] == [""] * 4
    assert presses == ["ACK"]
    assert [read(down=down) for down in (True, True)] == ["", ""]
    assert presses == ["ACK", "ACK"]


def test_a_button_whose_unit_was_away_must_be_let_go_first() -> None:
    """What an input says whose unit has just got its power back, or what jammed meanwhile, nobody has pressed."""
    button = Pressed()
    for down in (False, None, None, True, True, True):
        button.read(down=down)
    assert button.presses == []
    for down in (False, None, True, True):
        button.read(down=down)
    assert button.presses == ["ACK"]


async def known(switches: list[Switch], *, on: bool) -> None:
    """Wait until all of them are known to be so."""
    await eventually_async(lambda: all(each.figures.known is on for each in switches))


def test_a_server_that_is_not_ours_takes_every_write(tmp_path: Path) -> None:
    """The server of pymodbus: four functions, each read back, on and off; and a push-button that is up."""

    async def story() -> None:
        port = free_port()
        wired = [output(port, function, address) for address, function in enumerate((5, 6, 15, 16))]
        extra = f"    outputs: [{', '.join(wired)}]\n    acknowledge: [{button(port, 'address: 3')}]"
        rig = Rig(tmp_path, free_port(), extra)
        switches: list[Wired] = [*(each.output for each in rig.switches), *(each.button for each in rig.buttons)]
        async with SwitchBox(("127.0.0.1", port), switches), rig.running():
            for on in (True, False):
                for switch in rig.switches:
                    switch.want(on=on)
                await known(rig.switches, on=on)
            assert all(switch.figures.reason == "" for switch in rig.switches)
            await eventually_async(lambda: rig.buttons[0].figures.pressed is False)

    asyncio.run(story())


@pytest.mark.parametrize("function", [5, 6])
def test_on_an_rtu_line_outputs_and_devices_take_turns(tmp_path: Path, function: int) -> None:
    """Frames with checksums: the sensor of the same line keeps its period while an output is switched to and fro."""

    async def story() -> None:
        unit = SwitchUnit()
        async with TcpUnits({1: SwitchUnit(), 2: unit}, rtu=True) as server:
            siren = output(server.port, function, rest=", refresh_ms: 500").replace("unit: 2", "framing: rtu, unit: 2")
            rig = Rig(tmp_path, server.port, f"    outputs: [{siren}]", framing="rtu")
            (switch,) = rig.switches
            async with rig.running():
                for on in (True, False) * 3:
                    switch.want(on=on)
                    await known([switch], on=on)
                read = len(rig.samples)
                await eventually_async(lambda: len(rig.samples) > read + 3)
            assert switch.figures.failures == 0
            assert all(is_good(sample.columns.quality).all() for sample in rig.samples)
            assert {written[:2] for written in unit.written} == {(function, 7)}

    asyncio.run(story())
