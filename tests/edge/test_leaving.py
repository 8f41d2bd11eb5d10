"""Outputs that leave the plant file are switched off before they are let go, also after a restart, and not for ever."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.edge.rig import modbus_device, plant
from tests.support.modbus_switches import Fault, SwitchUnit
from tests.support.modbus_units import TcpUnits
from tests.support.wait import eventually_async
from tocsin_core.clock import SystemClock
from tocsin_core.plant import load_plant
from tocsin_core.plant.outputs import Output
from tocsin_core.polling import WriteRequest
from tocsin_edge.adapters.modbus import NotAllowedError
from tocsin_edge.adapters.switched_outputs import FILE, read_outputs, write_outputs
from tocsin_edge.loops import leaving
from tocsin_edge.loops.chores import Switch
from tocsin_edge.loops.inputs import Inputs
from tocsin_edge.loops.leaving import LEAVE_S, OFF, UNKNOWN, Leaving
from tocsin_edge.settings import compile_settings

CLOCK: Final = SystemClock()


def siren(address: int, port: int = 502) -> str:
    """A siren as a plant file has it."""
    modbus = f"{{port: {port}, unit: 2, timeout_ms: 100, retries: 0}}"
    return f"{{id: SIREN, kind: siren, modbus: {modbus}, address: {address}, refresh_ms: 500}}"


class Life:
    """One life of a gateway whose siren is at the coil of `address`, of what it has to do with outputs."""

    def __init__(self, folder: Path, port: int, address: int) -> None:
        """Begin with the files as they are."""
        written = plant(
            folder / str(address), 1, {"A": modbus_device("A", port)}, f"    outputs: [{siren(address, port)}]"
        )
        self._settings = compile_settings(load_plant(written), "gw", folder)
        self.folder = self._settings.spool.parent
        self.folder.mkdir(parents=True, exist_ok=True)
        (output,) = self._settings.gateway.outputs
        self.leaving, self.switch = Leaving(self.folder, [output], CLOCK), Switch(output)
        self.inputs = Inputs(self._settings, CLOCK, lambda _: None, [self.switch, *self.leaving.switches])

    async def _let_go(self) -> None:
        await self.inputs.adopt(self._settings, [self.switch, *self.leaving.switches])

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Life"]:
        """Read and switch until it is killed."""
        async with asyncio.TaskGroup() as group:
            self.inputs.start(group)
            task = group.create_task(self.leaving.run(self._let_go))
            yield self
            task.cancel()
            self.inputs.cancel()
        self.inputs.close()


def test_what_left_the_plant_file_between_two_starts_is_switched_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the gateway is killed before its unit answers; then nothing may write it any more, and nothing does."""
    monkeypatch.setattr(leaving, "LOOK_S", 0.05)

    async def story() -> None:
        unit = SwitchUnit()
        async with TcpUnits({1: SwitchUnit(), 2: unit}) as units:
            async with Life(tmp_path, units.port, 7).running() as first:
                first.switch.want(on=True)
                await eventually_async(lambda: unit.coils.get(7) == 1)
            unit.fault = Fault.TARGET_SILENT
            async with Life(tmp_path, units.port, 8).running() as second:
                (left,) = second.leaving.switches
                await eventually_async(lambda: left.figures.failures > 1)
                assert second.leaving.warnings() == (
                    "output SIREN left the plant file and may be on: exception 11: gateway target failed to respond",
                )
            unit.fault = Fault.NONE
            assert unit.coils[7] == 1
            async with Life(tmp_path, units.port, 8).running() as third:
                (left,) = third.leaving.switches
                third.switch.want(on=True)
                await eventually_async(lambda: read_outputs(third.folder) == (third.switch.output,))
                assert (unit.coils[7], third.leaving.counts) == (0, {OFF: 1, UNKNOWN: 0})
                assert third.leaving.warnings() == ()
                await eventually_async(lambda: unit.coils.get(8) == 1)
                (poller,) = third.inputs.pollers
                assert poller.line.counts["connects"] == 1
                with pytest.raises(NotAllowedError):
                    await poller.line.ask(2, WriteRequest(left.output, on=True), 0.1)
            assert Life(tmp_path, units.port, 8).leaving.switches == ()

    asyncio.run(story())


class Hands:
    """A clock that is set by hand."""

    s = 0.0

    def now_ns(self) -> int:
        """The same time, as ns."""
        return round(self.s * 1e9)

    def monotonic(self) -> float:
        """The time, s."""
        return self.s


def output(address: int) -> Output:
    """A siren."""
    return Output.model_validate({"id": "S", "kind": "siren", "modbus": {"port": 5}, "address": address})


def test_what_a_trial_lacks_is_held_and_leaves_when_it_is_settled(tmp_path: Path) -> None:
    """A siren that sounds is wanted on meanwhile; rolled back it is the very same, and what the trial had leaves."""
    before, trial = Switch(output(7)), Switch(output(8))
    before.want(on=True)
    of = Leaving(tmp_path, [before.output], Hands())
    asyncio.run(of.expect([trial.output]))
    assert [each.address for each in read_outputs(tmp_path)] == [8, 7]
    of.adopt([before], [trial.output])
    assert (of.held, of.switches, of.warnings()) == ((before,), (before,), ())
    assert before.figures.wanted
    trial.want(on=True)
    of.adopt([trial], [before.output])
    assert of.held == (trial,)
    assert trial.figures.wanted
    of.settle()
    assert set(of.switches) == {trial}
    assert before.figures.wanted
    assert (trial.figures.wanted, trial.figures.known) == (False, None)
    # A version that has it again switches it by another hand.
    of.adopt([before], [before.output, trial.output])
    assert not of.switches


def test_what_is_only_described_otherwise_leaves_nothing(tmp_path: Path) -> None:
    """What counts is the coil: another id or refresh for the same one must not interrupt the siren."""
    before = Switch(output(7))
    of = Leaving(tmp_path, [before.output], Hands())
    of.adopt([before], [before.output.model_copy(update={"id": "T", "refresh_ms": 900})])
    assert of.switches == ()


def test_a_unit_that_never_answers_is_given_up_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an hour; from then on the file does not have it either."""
    monkeypatch.setattr(leaving, "LOOK_S", 0.01)
    write_outputs(tmp_path, [output(7), output(8)])
    clock = Hands()
    of = Leaving(tmp_path, [output(8)], clock)

    async def changed() -> None:
        assert clock.s == LEAVE_S

    async def story() -> None:
        task = asyncio.create_task(of.run(changed))
        clock.s = LEAVE_S - 1
        await eventually_async(lambda: len(of.switches) == 1)
        clock.s = LEAVE_S
        await eventually_async(lambda: read_outputs(tmp_path) == (output(8),))
        task.cancel()

    asyncio.run(story())
    assert not of.switches
    assert of.counts == {OFF: 0, UNKNOWN: 1}


def test_a_file_that_cannot_be_used_keeps_nobody_from_being_warned(tmp_path: Path) -> None:
    """What can be understood of it leaves; a disk that takes nothing is a warning."""
    (tmp_path / FILE).write_text('[{"id": "S"}, {"id": "T", "kind": "relay", "modbus": {}, "address": 3}]')
    of = Leaving(tmp_path, [], Hands())
    assert [each.output.id for each in of.switches] == ["T"]
    for damage in ("[", "7", '"x"'):
        (tmp_path / FILE).write_text(damage)
        assert Leaving(tmp_path, [], Hands()).switches == ()
    (tmp_path / FILE).unlink()
    (tmp_path / FILE).mkdir()
    blind = Leaving(tmp_path, [output(7)], Hands())
    assert blind.switches == ()
    assert blind.warnings()[0].startswith("which outputs are switched is not kept: ")
