"""Holds a gateway's slice of the plant to its promises: all that the gateway needs, nothing else, the same bytes."""

from pathlib import Path
from typing import Final

import pytest

from tocsin_core.owned import alone, fingerprints
from tocsin_core.plant import Plant, PlantError, load_plant
from tocsin_core.plant.slice import SliceError, hash_of, load_slice, slice_of
from tocsin_core.rules import compile_rules

PLANTS: Final = Path(__file__).resolve().parents[2] / "simulators" / "plants"
OWN: Final = [
    (folder.name, gateway.id)
    for folder in sorted(PLANTS.iterdir())
    for gateway in load_plant(folder).file.gateways
    if not gateway.external
]
PLANT: Final = """\
tocsin: 1
site: {id: site, name: {zh: 厂区, en: Site}}
hazard_sources: [{id: farm, name: Farm, level: 2}]
people: [{id: li, name: Somebody, channels: ["mailto://somebody"]}]
rosters: [{id: duty, name: Duty, shifts: [{from: "08:00", to: "08:00", people: [li]}]}]
notify: {steps: [{after_s: 0, to: [duty]}]}
tickets: {liable: li}
first_out: [{id: trip, name: Trip, alarms: [P-1/H, Q-1/H]}]
computed:
  - {id: HERE, name: Here, from: {rule: median, of: [P-1, P-2]}}
  - {id: ACROSS, name: Across, from: {rule: median, of: [P-1, Q-1]}}
gateways:
  - id: gw
    devices:
      - id: d
        source: farm
        mqtt: {topic: d}
        points:
          - id: P-1
            name: P
            kind: pressure
            field: a
            range: [0, 10]
            alarms: {H: {setpoint: 5, suppressed_by: {point: Q-2, above: 1}}}
          - {id: P-2, name: P, kind: pressure, field: b, range: [0, 10], alarms: {L: {setpoint: 1}}}
  - id: other
    uplink: {username: u, password: very-secret}
    devices:
      - id: e
        period_ms: 3000
        mqtt: {topic: e/secret}
        points:
          - {id: Q-1, name: Q, kind: pressure, field: a, range: [0, 10], alarms: {H: {setpoint: 7}}}
          - {id: Q-2, name: Q2, kind: flow, field: b, unit: L/min, range: [0, 3], alarms: {H: {setpoint: 2}}}
"""


def plant_of(folder: Path, text: str = PLANT) -> Plant:
    """The plant in `text`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plant.yaml").write_text(text, encoding="utf-8")
    return load_plant(folder)


def same(one: Plant, other: Plant) -> None:
    """Both have the same points in the same order, with the same definitions, and so the same rules."""
    # Written out, a NaN is like another.
    assert [repr(point) for point in one.points] == [repr(point) for point in other.points]
    assert compile_rules(one).definitions == compile_rules(other).definitions


@pytest.mark.parametrize(("name", "gateway"), OWN)
def test_a_gateway_decides_the_same_alarms_on_its_slice(name: str, gateway: str) -> None:
    """The rules of what a gateway decides by itself are the same on the slice, and so is the slice of the slice."""
    plant = load_plant(PLANTS / name)
    data = slice_of(plant, gateway)
    back = load_slice(data)
    same(alone(plant, gateway), alone(back, gateway))
    assert fingerprints(plant, gateway) == fingerprints(back, gateway)
    assert slice_of(back, gateway) == data


def test_the_slice_has_what_is_the_gateways_and_nothing_of_others(tmp_path: Path) -> None:
    """Its points, what is computed of them alone, and a stand-in for what suppresses; no people and no secrets."""
    plant = plant_of(tmp_path)
    data = slice_of(plant, "gw")
    back = load_slice(data)
    assert [point.id for point in back.points] == ["P-1", "P-2", "Q-2", "HERE"]
    assert (back.gateway("other").external, back.points[2].unit, back.points[2].longest_s) == (
        True,
        "L/min",
        plant.points[3].longest_s,
    )
    assert [definition.id for definition in back.points[0].definitions] == [
        definition.id for definition in plant.points[0].definitions
    ]
    for word in (b"Somebody", b"mailto", b"duty", b"secret", b"Q-1", b"ACROSS", b"trip"):
        assert word not in data
    same(alone(plant, "gw"), alone(back, "gw"))
    assert fingerprints(plant, "gw") == fingerprints(back, "gw")


def test_only_what_concerns_the_gateway_changes_its_hash(tmp_path: Path) -> None:
    """Another person, or another set point of another gateway, is no new version; a set point of its own is."""
    before = hash_of(slice_of(plant_of(tmp_path / "a"), "gw"))
    for number, (old, new) in enumerate([("Somebody", "Else"), ("setpoint: 7", "setpoint: 8")]):
        assert hash_of(slice_of(plant_of(tmp_path / f"{number}", PLANT.replace(old, new)), "gw")) == before
    assert hash_of(slice_of(plant_of(tmp_path / "b", PLANT.replace("setpoint: 5", "setpoint: 6")), "gw")) != before


def test_bytes_that_are_no_slice_are_refused(tmp_path: Path) -> None:
    """Cut anywhere, or with another byte anywhere, a slice is refused with a reason, or still is a valid plant."""
    data = slice_of(plant_of(tmp_path), "gw")
    for end in range(0, len(data), 97):
        with pytest.raises(SliceError):
            load_slice(data[:end])
    refused = 0
    for place in range(0, len(data), 13):
        try:
            load_slice(data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :])
        except (SliceError, PlantError):
            refused += 1
    assert refused


def test_a_slice_is_held_to_what_a_plant_folder_is_held_to(tmp_path: Path) -> None:
    """What `tocsin check` refuses is refused in a slice too, by the place where it is wrong."""
    plant = plant_of(tmp_path)
    gateway = plant.gateway("gw")
    twice = gateway.model_copy(update={"devices": gateway.devices * 2})
    broken = plant.file.model_copy(update={"gateways": (twice, plant.file.gateways[1])})
    data = slice_of(Plant(plant.name, broken, plant.points, plant.profiles, maps=plant.maps), "gw")
    with pytest.raises(PlantError, match=r"plant.json:1: gateways\[0\].devices\[1\].id: device 'd' is already there"):
        load_slice(data)
