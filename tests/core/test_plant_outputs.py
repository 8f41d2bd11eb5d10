"""Sirens, beacons, relays and push-buttons in the plant file: what passes, and every mistake by its place."""

from pathlib import Path

import pytest

from tocsin_core.plant import Plant, PlantError, load_plant

SIREN = "id: SIREN, kind: siren, modbus: {port: 510}, address: 3"
BUTTON = "id: ACK, modbus: {port: 510}, address: 4"


def load(folder: Path, outputs: list[str], buttons: list[str], extra: str = "") -> Plant:
    """The plant of a gateway `a` with these outputs and buttons, and of a gateway `b`."""
    text = f"""
tocsin: 1
site: {{id: s, name: S}}
hazard_sources: [{{id: tanks, name: Tanks}}]
gateways:
  - id: a
    {extra}
    outputs: [{", ".join(f"{{{each}}}" for each in outputs)}]
    acknowledge: [{", ".join(f"{{{each}}}" for each in buttons)}]
    devices:
      - id: da
        profile: tocsin-word-orders
        modbus: {{port: 502}}
        points: [{{id: A1, name: A1, kind: generic, register: f32_abcd}}]
  - id: b
    devices:
      - {{id: db, mqtt: {{topic: t}}, points: [{{id: B1, name: B1, kind: generic, field: v}}]}}
"""
    (folder / "plant.yaml").write_text(text, encoding="utf-8")
    return load_plant(folder)


def test_outputs_and_buttons_are_read(tmp_path: Path) -> None:
    """What is left out: function 5 with 1 and 0, read back, all high alarms; a discrete input, pressed when 1."""
    beacon = "id: BEACON, kind: beacon, modbus: {port: 502}, function: 16, address: 3, on: 255"
    beacon += ", sources: [tanks], points: [A1]"
    gateway = load(tmp_path, [SIREN, beacon], [BUTTON]).gateway("a")
    siren, light = gateway.outputs
    assert (siren.function, siren.on, siren.off, siren.read_back, siren.min_priority) == (5, 1, 0, True, "high")
    assert siren.coil
    assert not light.coil
    assert (light.on, light.sources, light.points) == (255, ("tanks",), ("A1",))
    (button,) = gateway.acknowledge
    assert (button.function, button.bit, button.pressed) == (2, None, 1)


@pytest.mark.parametrize(
    ("outputs", "buttons", "problem"),
    [
        ([f"{SIREN}, on: 0"], [], "outputs[0]: on and off are the same"),
        ([f"{SIREN}, on: 2"], [], "outputs[0]: a coil is 0 or 1"),
        ([f"{SIREN}, function: 3"], [], "outputs[0].function: should be 5, 6, 15 or 16 (given: 3)"),
        ([f"{SIREN}, sources: [pump]"], [], "outputs[0].sources[0]: no hazard source 'pump'"),
        ([f"{SIREN}, points: [A2]"], [], "outputs[0].points[0]: no point 'A2'"),
        (
            [f"{SIREN}, points: [A1, B1]"],
            [],
            "outputs[0].points[1]: 'B1' is a point of gateway 'b', not of this one",
        ),
        ([SIREN, SIREN.replace("SIREN", "HORN")], [], "outputs[1].address: the same as that of output 'SIREN'"),
        (
            [SIREN.replace("port: 510", "port: 510, unit: 0")],
            [],
            "outputs[0].modbus.unit: 0 is every unit of the line: name the one that has the output",
        ),
        ([SIREN], [BUTTON.replace("ACK", "SIREN")], "acknowledge[0].id: output or button 'SIREN' is already there"),
        ([], [f"{BUTTON}, bit: 3"], "acknowledge[0]: functions 3 and 4 name a bit, 1 and 2 do not"),
        ([], [f"{BUTTON}, function: 4"], "acknowledge[0]: functions 3 and 4 name a bit, 1 and 2 do not"),
        (
            [SIREN.replace("{port: 510}", "{port: 502, framing: rtu}")],
            [],
            "outputs[0].modbus: on the line of device 'da', which sets it otherwise",
        ),
    ],
)
def test_mistakes_are_told_at_their_place(tmp_path: Path, outputs: list[str], buttons: list[str], problem: str) -> None:
    """One line each, whatever is wrong."""
    with pytest.raises(PlantError) as told:
        load(tmp_path, outputs, buttons)
    assert [str(each).split(": gateways[0].", 1)[1].split(" (plant.yaml")[0] for each in told.value.problems] == [
        problem
    ]


def test_one_unit_may_have_several_outputs_and_be_read(tmp_path: Path) -> None:
    """A controller with four relays that is also a device."""
    outputs = [f"id: R{n}, kind: relay, modbus: {{port: 502}}, address: {n}" for n in range(4)]
    assert len(load(tmp_path, outputs, []).gateway("a").outputs) == 4


def test_somebody_elses_gateway_switches_nothing(tmp_path: Path) -> None:
    """It is not run by us."""
    with pytest.raises(PlantError, match=r"outputs\[0\]: an external gateway switches and acknowledges nothing for us"):
        load(tmp_path, [SIREN], [], extra="external: true")
