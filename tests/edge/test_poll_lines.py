"""From the plant file to the lines: who shares one, what is read together, and what goes first when it is too much."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from tests.support.modbus_units import Unit
from tests.support.serial_line import SerialLine, words
from tests.support.wait import eventually_async
from tocsin_core.clock import SystemClock
from tocsin_core.plant import load_plant
from tocsin_core.registers import TCP, Line
from tocsin_edge.loops.poll import Poller, pollers_of
from tocsin_edge.settings import EdgeSettings, ModbusDevice, Part, compile_settings

if TYPE_CHECKING:
    from tocsin_core.sparkplug.edge import Columns

CLOCK = SystemClock()
GAS = "{id: %s, name: x, kind: combustible-gas, register: %s}"
PLAIN = "{id: %s, name: x, kind: generic, register: %s, unit: x, range: [0, 100000]}"
CRITICAL = PLAIN[:-1] + ", alarms: {H: {setpoint: 50, priority: critical, deadband: 1}}}"
HIGHEST = PLAIN[:-1] + ", alarms: {HH: {setpoint: 90, deadband: 1}}}"
FEEBLE = PLAIN[:-1] + ", alarms: {H: {setpoint: 50, priority: low, deadband: 1}}}"


def plant(folder: Path, *devices: tuple[str, list[str]], period_ms: int = 1000) -> EdgeSettings:
    """Write and compile a plant of devices (connection, points) of two hundred u16 registers."""
    (folder / "profiles").mkdir(parents=True)
    values = "\n".join(f"  v{at}: {{address: {at}, type: u16}}" for at in range(200))
    head = "vendor: test\nmodel: test\ntrust: documented\nsource: this test\nvalues:\n"
    (folder / "profiles" / "test-words.yaml").write_text(head + values + "\n", encoding="utf-8")
    lines = ["tocsin: 1", "site: {id: site, name: site}", "gateways:", "  - id: gw", "    devices:"]
    for at, (connection, points) in enumerate(devices, 1):
        lines += [
            f"      - id: d{at}",
            "        profile: test-words",
            f"        period_ms: {period_ms}",
            f"        modbus: {{{connection}}}",
            f"        points: [{', '.join(points)}]",
        ]
    (folder / "plant.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    settings = compile_settings(load_plant(folder), "gw", folder / "data")
    settings.spool.parent.mkdir(parents=True)
    return settings


def parts(settings: EdgeSettings) -> list[tuple[Part, ...]]:
    """Return what is read together of each device."""
    return [device.input.parts for device in settings.devices if isinstance(device.input, ModbusDevice)]


def lines(settings: EdgeSettings) -> list[Poller]:
    """Make the pollers."""
    return pollers_of(settings, CLOCK, lambda _: None)


def test_devices_behind_one_address_or_port_share_a_line(tmp_path: Path) -> None:
    """And their requests are priced as on that line."""
    point = [PLAIN]
    given = [
        "host: a, unit: 1",
        "host: a, unit: 2",
        "host: a, port: 503, unit: 1, framing: rtu",
        "serial: {port: /dev/ttyS0, baud: 19200, parity: even}, unit: 1",
        "serial: {port: /dev/ttyS0, baud: 19200, parity: even}, unit: 2",
        "serial: {port: /dev/ttyS1}, unit: 1",
    ]
    devices = [(connection, [point[0] % (f"p{at}", "v0")]) for at, connection in enumerate(given)]
    settings = plant(tmp_path / "plant", *devices)
    found = {poller.name: [job.name for job in poller.figures().jobs] for poller in lines(settings)}
    assert found == {"a:502": ["d1", "d2"], "a:503": ["d3"], "/dev/ttyS0": ["d4", "d5"], "/dev/ttyS1": ["d6"]}
    prices = [part.plan.line for each in parts(settings) for part in each]
    assert prices == [TCP, TCP, TCP, Line.serial(19200, 11), Line.serial(19200, 11), Line.serial(9600, 10)]


@pytest.mark.parametrize(
    ("points", "split"),
    [
        ([GAS % ("g", "v0"), PLAIN % ("p", "v1")], [((0, 1), True)]),
        ([PLAIN % ("p", "v0"), GAS % ("g", "v199")], [((1,), True), ((0,), False)]),
        ([PLAIN % ("p", "v0"), CRITICAL % ("c", "v199")], [((1,), True), ((0,), False)]),
        ([PLAIN % ("p", "v0"), HIGHEST % ("h", "v199")], [((1,), True), ((0,), False)]),
        ([PLAIN % ("p", "v0"), FEEBLE % ("f", "v199")], [((0, 1), False)]),
        ([GAS % ("g", "v0"), GAS % ("h", "v199")], [((0, 1), True)]),
        # One more request is not worth it: then all of the device goes first.
        ([PLAIN % ("p", "v0"), GAS % ("g", "v2"), PLAIN % ("q", "v4")], [((0, 1, 2), True)]),
    ],
)
def test_what_is_for_safety_is_read_by_itself_where_that_costs_no_request(
    points: list[str], split: list[tuple[tuple[int, ...], bool]], tmp_path: Path
) -> None:
    """Gas, HH and critical alarms."""
    settings = plant(tmp_path / "plant", ("host: a", points))
    assert [(part.points, part.safety) for part in parts(settings)[0]] == split


def test_parts_of_a_device_are_told_each_with_its_own_points(tmp_path: Path) -> None:
    """The two samples name the points that they have, with the right values."""

    async def story() -> None:
        unit = Unit(words(1, 10) | dict.fromkeys(range(190, 200), 2))
        async with SerialLine({1: unit}, 115200) as line:
            connection = f"serial: {{port: {line.path}, baud: 115200}}"
            settings = plant(tmp_path / "plant", (connection, [PLAIN % ("p", "v0"), GAS % ("g", "v199")]))
            found: list[Columns] = []
            (poller,) = pollers_of(settings, CLOCK, lambda sample: found.append(sample.columns))
            polling = asyncio.create_task(poller.run())
            await eventually_async(lambda: len({tuple(columns.metric) for columns in found}) == 2)
            polling.cancel()
            poller.close()
            assert {(*columns.metric, *columns.value) for columns in found} == {(0, 1.0), (1, 2.0)}

    asyncio.run(story())


def test_on_an_overloaded_serial_line_gas_keeps_its_period_and_it_is_shown(tmp_path: Path) -> None:
    """A gas detector among six long devices at 9600 baud: none of its ticks is left out, the others' are."""

    async def story() -> None:
        units = {unit: Unit(words(unit, 200)) for unit in range(1, 8)}
        async with SerialLine(units, 9600) as line:
            connections = [f"serial: {{port: {line.path}}}, unit: {unit}, timeout_ms: 1000" for unit in units]
            long = [[PLAIN % (f"p{unit}_{at}", f"v{at}") for at in range(120)] for unit in range(2, 8)]
            contents = [[GAS % ("g", "v0")], *long]
            settings = plant(tmp_path / "plant", *zip(connections, contents, strict=True), period_ms=500)
            (poller,) = lines(settings)
            with capture_logs() as logs:
                polling = asyncio.create_task(poller.run())
                await eventually_async(lambda: min(j.cycles for j in poller.figures().jobs) >= 5, timeout_s=60)
                polling.cancel()
            figures = {job.name: job for job in poller.figures().jobs}
            poller.close()
            assert figures["d1"].missed == 0
            assert figures["d1"].cycles >= 1.4 * max(figures[f"d{at}"].cycles for at in range(2, 8))
            assert all(figures[f"d{at}"].missed > 0 and not figures[f"d{at}"].safety for at in range(2, 8))
            assert set(poller.figures().stretched) == {f"d{at}" for at in range(2, 8)}
            overloaded = [entry for entry in logs if entry["event"] == "line overloaded"]
            assert len(overloaded) == 1
            assert "d1" not in overloaded[0]["stretched"]
            assert poller.figures().utilisation == 0.0 or poller.figures().utilisation > 0.5

    asyncio.run(story())
