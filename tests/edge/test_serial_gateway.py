"""A real gateway process on a serial line, a dead unit on it, and a host that hears of both."""

import asyncio
import struct
from itertools import pairwise
from pathlib import Path

from tests.edge.rig import Gateway, Host, plant
from tests.support.modbus_units import Fault, Unit
from tests.support.nats import nats_broker
from tests.support.serial_line import SerialLine
from tests.support.wait import eventually_async
from tocsin_core.readings import BAD_COMM_FAILURE, GOOD


def test_readings_of_a_serial_line_reach_the_host_and_a_dead_unit_is_told(tmp_path: Path) -> None:
    """The live unit keeps its ticks while the other dies and returns."""

    async def story() -> None:
        with nats_broker(tmp_path) as broker:
            units = {unit: Unit(_float(unit + 0.5)) for unit in (1, 2)}
            async with SerialLine(units, 19200) as line, Host(broker.mqtt).listen() as host:
                gateway = Gateway(tmp_path / "plant", tmp_path / "data")
                devices = {name: _device(name, line.path, unit) for unit, name in ((1, "A"), (2, "B"))}
                plant(tmp_path / "plant", broker.mqtt, devices)
                gateway.start()
                try:
                    await eventually_async(lambda: len(host.of("A")) >= 3 and len(host.of("B")) >= 3)
                    units[2].fault = Fault.SILENT
                    await eventually_async(lambda: any(f.kind == "DDEATH" for f in host.fed))
                    units[2].fault = Fault.NONE
                    count = len([each for each in host.of("B") if each[2] == GOOD])
                    await eventually_async(lambda: len([each for each in host.of("B") if each[2] == GOOD]) > count + 2)
                finally:
                    gateway.stop()
                assert {(value, quality) for _, value, quality in host.of("A")} == {(1.5, GOOD)}
                assert {quality for _, _, quality in host.of("B")} == {GOOD, BAD_COMM_FAILURE}
                gaps = [(later - sooner) / 1e9 for (sooner, *_), (later, *_) in pairwise(host.of("A"))]
                # The machine may hold up one or two; a silent unit would with each question.
                assert sum(gap >= 2.0 for gap in gaps) <= 2, gaps
                assert (line.collisions, line.too_soon) == (0, 0)

    asyncio.run(story())


def _float(value: float) -> dict[int, int]:
    """Two registers, ABCD."""
    return dict(enumerate(struct.unpack(">2H", struct.pack(">f", value))))


def _device(name: str, path: str, unit: int) -> str:
    """Write the lines of a device with one f32 point of its name."""
    return (
        "profile: tocsin-word-orders\nperiod_ms: 1000\n"
        f"modbus: {{serial: {{port: {path}, baud: 19200}}, unit: {unit}, timeout_ms: 200, retries: 1}}\n"
        f"points:\n  - {{id: {name}, name: {name}, kind: generic, register: f32_abcd, unit: bar, range: [0, 1000]}}"
    )
