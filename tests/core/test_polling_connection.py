"""Connections in the plant file: serial lines, RTU over TCP, and what devices on one line must agree on."""

from pathlib import Path

import pytest

from tocsin_core.plant import PlantError, load_plant
from tocsin_core.plant.connection import Modbus, Serial

HEAD = "tocsin: 1\nsite: {id: site, name: site}\ngateways:\n"
POINT = "{id: %s, name: x, kind: generic, register: f32_abcd, unit: bar, range: [0, 10]}"


def load(folder: Path, *connections: str, gateways: int = 1) -> list[Modbus]:
    """Load a plant whose devices are reached so, dealt out to its gateways in turn."""
    text = HEAD
    for gateway in range(gateways):
        text += f"  - id: gw-{gateway}\n    devices:\n"
        for at, connection in enumerate(connections):
            if at % gateways == gateway:
                text += (
                    f"      - id: D{at}\n        profile: tocsin-word-orders\n        modbus: {{{connection}}}\n"
                    f"        points: [{POINT % f'P{at}'}]\n"
                )
    (folder / "plant.yaml").write_text(text, encoding="utf-8")
    plant = load_plant(folder)
    return [d.modbus for gateway in plant.file.gateways for d in gateway.devices if d.modbus is not None]


def problems(folder: Path, *connections: str, gateways: int = 1) -> list[str]:
    """Return what is wrong with such a plant."""
    with pytest.raises(PlantError) as caught:
        load(folder, *connections, gateways=gateways)
    return [f"{problem.path}: {problem.message}" for problem in caught.value.problems]


def test_three_ways_to_reach_a_device(tmp_path: Path) -> None:
    """TCP by default, RTU over TCP by its framing, a serial line with 9600 8N1 unless said otherwise."""
    tcp, rtu, serial, other = load(
        tmp_path,
        "host: a",
        "host: b, framing: rtu, unit: 2",
        "serial: {port: /dev/ttyUSB0}, unit: 3",
        "serial: {port: /dev/ttyS1, baud: 19200, parity: even}",
    )
    assert (tcp.line, tcp.rtu) == ("a:502", False)
    assert (rtu.line, rtu.rtu) == ("b:502", True)
    assert (serial.line, serial.rtu) == ("/dev/ttyUSB0", True)
    assert serial.serial == Serial(port="/dev/ttyUSB0", baud=9600, parity="none", stop_bits=1)
    assert serial.serial.bits_per_character == 10
    assert other.serial is not None
    assert other.serial.bits_per_character == 11


@pytest.mark.parametrize(
    ("connection", "problem"),
    [
        ("host: a, serial: {port: /dev/ttyUSB0}", "modbus: give either a serial line, or host, port and framing"),
        ("framing: rtu, serial: {port: /dev/ttyUSB0}", "modbus: give either a serial line, or host, port and framing"),
        ("serial: {port: /dev/ttyUSB0}, unit: 0", "modbus: on a serial line units are 1 to 247"),
        ("host: a, framing: rtu, unit: 248", "modbus: on a serial line units are 1 to 247"),
        ("serial: {port: ttyUSB0}", "modbus.serial.port: should be a device file like /dev/ttyUSB0 (given: 'ttyUSB0')"),
        ("serial: {}", "modbus.serial.port: is missing"),
    ],
)
def test_a_connection_that_cannot_be(tmp_path: Path, connection: str, problem: str) -> None:
    """Each is told at its place."""
    assert problems(tmp_path, connection) == [f"gateways[0].devices[0].{problem}"]


def test_devices_on_one_line_agree_on_it(tmp_path: Path) -> None:
    """One line has one speed and one framing, and each unit on it once."""
    found = problems(
        tmp_path,
        "serial: {port: /dev/ttyUSB0}, unit: 1",
        "serial: {port: /dev/ttyUSB0}, unit: 1",
        "serial: {port: /dev/ttyUSB0, baud: 19200}, unit: 2",
        "host: a, unit: 1",
        "host: a, framing: rtu, unit: 2",
    )
    assert found == [
        "gateways[0].devices[1].modbus: the same address as device 'D0'",
        "gateways[0].devices[2].modbus: on the line of device 'D0', which sets it otherwise",
        "gateways[0].devices[4].modbus: on the line of device 'D3', which sets it otherwise",
    ]


def test_each_gateway_has_serial_ports_of_its_own(tmp_path: Path) -> None:
    """The same port file on two gateways is two lines; the same host and port is one place."""
    line = "serial: {port: /dev/ttyUSB0}, unit: 1"
    assert len(load(tmp_path, line, line, gateways=2)) == 2
    assert problems(tmp_path, "host: a", "host: a", gateways=2) == [
        "gateways[1].devices[0].modbus: the same address as device 'D0'"
    ]
