"""Modbus servers that are not ours: npm's by our read plans, pymodbus's on a serial line by the gateway's reader."""

import asyncio

import numpy as np
import pytest
from pymodbus.server import ModbusSerialServer
from pymodbus.simulator import DataType, SimData, SimDevice

from tests.support.modbus_reads import read
from tests.support.node_peer import modbus_serial_server
from tests.support.serial_line import joined_ports
from tocsin_core.clock import SystemClock
from tocsin_core.plant import shipped_profiles
from tocsin_core.plant.connection import Modbus, Serial
from tocsin_core.readings import BAD_COMM_FAILURE, BAD_CONFIGURATION, GOOD
from tocsin_core.registers import ReadRequest, parse_profile
from tocsin_edge.adapters.modbus import ModbusLine

EXPECTED = {
    "f32_abcd": 100.25,
    "f32_cdab": 100.25,
    "f32_dcba": 100.25,
    "f32_badc": 100.25,
    "s32_abcd": -123456.0,
    "s32_cdab": -123456.0,
    "s32_dcba": -123456.0,
    "s32_badc": -123456.0,
    "f64_abcd": -2.5e-7,
    "f64_cdab": -2.5e-7,
    "s16": -321.0,
    "u16_input": 40000.0,
    "coil": 1.0,
    "discrete": 1.0,
}


def test_modbus_serial_gives_the_right_values_in_every_word_order() -> None:
    """Numbers that node laid out come back as the same numbers, whatever their word order, type and function."""
    file = "tocsin-word-orders.yaml"
    profile = parse_profile((shipped_profiles() / file).read_text(encoding="utf-8"), file)
    numbers = {"f32": 100.25, "s32": -123456, "f64": -2.5e-7, "s16": -321, "u16": 40000}
    with modbus_serial_server(numbers) as port:
        decoded = asyncio.run(read(profile, list(EXPECTED), port, unit=7))
    assert decoded.quality.tolist() == [GOOD] * len(EXPECTED)
    assert dict(zip(EXPECTED, decoded.value.tolist(), strict=True)) == pytest.approx(EXPECTED, rel=1e-12)


def served(unit: int, first: int) -> SimDevice:
    """A unit of pymodbus's with three bits and three registers of each kind."""
    bits = [SimData(0, values=[True, False, True], datatype=DataType.BITS)]
    inputs = [SimData(0, values=[False, True, True], datatype=DataType.BITS)]
    holding = [SimData(0, values=[first, first + 1, first + 2], datatype=DataType.REGISTERS)]
    input_registers = [SimData(0, values=[first + 10, first + 11, first + 12], datatype=DataType.REGISTERS)]
    return SimDevice(unit, (bits, inputs, holding, input_registers))


def without_answers_of_3(sending: bool, packet: bytes) -> bytes:  # noqa: FBT001 - pymodbus calls it so
    """Swallow what unit 3 answers: pymodbus does not survive a question to a unit that it does not have."""
    return b"" if sending and packet[0] == 3 else packet


def test_pymodbus_on_a_serial_line_is_read_by_all_functions() -> None:
    """Two units of a line give their own values; what they have not is refused; a silent one costs no other's."""

    async def story() -> None:
        with joined_ports() as (ours, theirs):
            units = [served(1, 11), served(2, 41), served(3, 71)]
            server = ModbusSerialServer(units, port=theirs, baudrate=19200, trace_packet=without_answers_of_3)
            await server.serve_forever(background=True)
            serial = Serial.model_validate({"port": ours, "baud": 19200})
            line = ModbusLine(Modbus(serial=serial, timeout_ms=1000, retries=0), SystemClock(), lambda: 0.5)
            try:
                for unit, first in ((1, 11), (2, 41), (1, 11)):
                    got = [(await line.ask(unit, ReadRequest(function, 0, 3), 1.0)).reply for function in (1, 2, 3, 4)]
                    assert [np.asarray(reply)[:3].tolist() for reply in got] == [
                        [True, False, True],
                        [False, True, True],
                        [first, first + 1, first + 2],
                        [first + 10, first + 11, first + 12],
                    ]
                    refused = await line.ask(unit, ReadRequest(3, 2, 2), 1.0)
                    assert (refused.exception, refused.reply, refused.silent) == (2, BAD_CONFIGURATION, False)
                    nobody = await line.ask(3, ReadRequest(3, 0, 3), 0.2)
                    assert (nobody.reply, nobody.silent) == (BAD_COMM_FAILURE, True)
            finally:
                line.close()
                await server.shutdown()  # type: ignore[no-untyped-call]  # so in pymodbus

    asyncio.run(story())
