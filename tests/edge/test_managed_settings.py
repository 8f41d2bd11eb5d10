"""A gateway on its slice of the plant is the gateway it is on the whole plant, and knows what a change concerns."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.edge.rig import modbus_device, plant
from tocsin_core.clock import SystemClock
from tocsin_core.plant import load_plant
from tocsin_core.plant.slice import load_slice, slice_of
from tocsin_edge.adapters.sensors import Arrival
from tocsin_edge.loops.listen import Listener
from tocsin_edge.settings import ModbusDevice, compile_settings

if TYPE_CHECKING:
    from tocsin_edge.loops.keep import Sample

PLANTS: Final = Path(__file__).resolve().parents[2] / "simulators" / "plants"
OWN: Final = [
    (folder.name, gateway.id)
    for folder in sorted(PLANTS.iterdir())
    for gateway in load_plant(folder).file.gateways
    if not gateway.external
]


@pytest.mark.parametrize(("name", "gateway"), OWN)
def test_the_settings_on_the_slice_are_those_on_the_whole_plant(name: str, gateway: str, tmp_path: Path) -> None:
    """The same devices read by the same requests, kept by the same rules, sent to the same broker."""
    whole = load_plant(PLANTS / name)
    mine = compile_settings(load_slice(slice_of(whole, gateway)), gateway, tmp_path)
    other = compile_settings(whole, gateway, tmp_path)
    assert mine.devices == other.devices
    assert (mine.site, mine.gateway, mine.spool) == (other.site, other.gateway, other.spool)
    assert (mine.content, mine.alarms.prints) == (other.content, other.alarms.prints)
    for one, two in zip(mine.devices, other.devices, strict=True):
        assert one.sparkplug == two.sparkplug
        if isinstance(one.input, ModbusDevice) and isinstance(two.input, ModbusDevice):
            assert [(part.points, part.plan.requests, part.safety) for part in one.input.parts] == [
                (part.points, part.plan.requests, part.safety) for part in two.input.parts
            ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("period_ms: 200", "period_ms: 300"),
        ("port: 502", "port: 503"),
        ("timeout_ms: 100", "timeout_ms: 150"),
        ("f32_abcd", "f32_cdab"),
        ("unit: bar", "unit: MPa"),
        ("[0, 1000]", "[0, 2000]"),
        ("kind: generic", "kind: generic, report: {deadband: 1, longest_s: 5}"),
        ("kind: generic", "kind: generic, alarms: {H: {setpoint: 900, priority: critical}}"),
    ],
)
def test_a_device_that_reads_otherwise_is_another(old: str, new: str, tmp_path: Path) -> None:
    """Whatever changes how, or how often, it is read, or what is kept of it; its neighbour stays what it was."""
    text = modbus_device("A", 502)
    folder = plant(tmp_path, 1883, {"A": text, "B": modbus_device("B", 502, 2)})
    before = compile_settings(load_plant(folder), "gw", tmp_path)
    assert compile_settings(load_plant(folder), "gw", tmp_path).devices == before.devices
    changed = text.replace(old, new)
    assert changed != text
    after = compile_settings(
        load_plant(plant(tmp_path, 1883, {"A": changed, "B": modbus_device("B", 502, 2)})), "gw", tmp_path
    )
    assert after.devices[0] != before.devices[0]
    assert after.devices[1] == before.devices[1]


def test_a_set_point_alone_leaves_the_reading_alone(tmp_path: Path) -> None:
    """A limit of an ordinary alarm is moved: the device is read as before."""
    text = modbus_device("A", 502).replace("kind: generic", "kind: generic, alarms: {H: {setpoint: 500}}")
    before = compile_settings(load_plant(plant(tmp_path, 1883, {"A": text})), "gw", tmp_path)
    after = compile_settings(load_plant(plant(tmp_path, 1883, {"A": text.replace("500", "600")})), "gw", tmp_path)
    assert after.devices == before.devices
    assert after.alarms.rules.definitions != before.alarms.rules.definitions


@pytest.mark.parametrize("own_time", [", time: t", ""])
def test_a_message_that_two_listeners_hear_is_read_once(own_time: str, tmp_path: Path) -> None:
    """While a sensor's rules change both listen for a moment: whichever comes second knows that it came before."""

    def sensor(top: int) -> str:
        points = f"points: [{{id: S, name: S, kind: generic, field: v, range: [0, {top}]}}]"
        return f"period_ms: 60000\nmqtt: {{topic: s{own_time}}}\n{points}"

    settings = compile_settings(load_plant(plant(tmp_path, 1883, {"S": sensor(10)})), "gw", tmp_path)
    clock = SystemClock()
    samples: list[Sample] = []
    before = Listener.of(settings, clock, samples.append)
    changed = compile_settings(load_plant(plant(tmp_path, 1883, {"S": sensor(20)})), "gw", tmp_path)
    after = Listener.of(changed, clock, samples.append, before)
    assert after.sensors != before.sensors
    now_ms = clock.now_ns() // 1_000_000
    messages = [
        Arrival("s", f'{{"v": {number}, "t": {now_ms + number}}}'.encode(), retained=False) for number in range(4)
    ]
    for number, first, second in ((0, before, after), (1, after, before), (2, before, after), (3, after, after)):
        first.take(messages[number])
        second.take(messages[number])
    assert [float(sample.columns.value[0]) for sample in samples] == [0.0, 1.0, 2.0, 3.0]
    assert Listener.of(changed, clock, samples.append, after).sensors == after.sensors
