"""Modbus servers that are not pymodbus, read through our read plans."""

import asyncio

import pytest

from tests.support.modbus_reads import read
from tests.support.node_peer import modbus_serial_server
from tocsin_core.plant import shipped_profiles
from tocsin_core.readings import GOOD
from tocsin_core.registers import parse_profile

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
