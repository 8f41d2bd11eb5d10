"""simulation.yaml: the shipped ones hold and cover their plants, and mistakes are named by line."""

import re
from pathlib import Path

import pytest

from tests.support.plants import PLANTS, copy_plant
from tocsin_core.plant import load_plant
from tocsin_sim.simulation import Signal, SimulationError, load_simulation
from tocsin_sim.world import World

NAMES = sorted(path.parent.name for path in PLANTS.glob("*/simulation.yaml"))


def test_the_example_plants_are_there() -> None:
    """The three plants that the documents speak of."""
    assert NAMES == ["ammonia-refrigeration", "coal-mine-face", "skab-pump-loop"]


@pytest.mark.parametrize("name", NAMES)
def test_every_point_of_a_plant_is_simulated(name: str) -> None:
    """No point of an example plant would read a register that nobody fills."""
    plant, simulation = load_plant(PLANTS / name), load_simulation(PLANTS / name)
    for point in plant.measured:
        assert (point.config.register_ or point.config.field) in simulation.instruments[point.device.id], point.id


def test_the_ammonia_plant_is_as_large_as_it_should_be() -> None:
    """Two gateways, at least 60 points, 8 gas detectors, 8 Modbus devices with real maps and 2 MQTT sensors."""
    plant = load_plant(PLANTS / "ammonia-refrigeration")
    devices = [device for gateway in plant.file.gateways for device in gateway.devices]
    assert len(plant.file.gateways) == 2
    assert len(plant.measured) >= 60
    assert sum(point.kind == "toxic-gas" for point in plant.measured) >= 8
    assert sum(device.modbus is not None and device.profile != "tocsin-player" for device in devices) >= 8
    assert sum(device.mqtt is not None for device in devices) >= 2


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (
            r"quantity: \[face.wind_m_s, air.flutter\], noise",
            "quantity: [face.wind, air.flutter], noise",
            "no quantity 'face.wind'",
        ),
        (r"input: face.methane_m3_min", "input: face.methane", r"scenarios.gas-surge.effects\[0\].input: no input"),
        (r"default_scenario: gas-surge", "default_scenario: surge", r"default_scenario: no scenario 'surge'"),
        (r"mixing_s: 8", "mixing: 8", r"sources.face"),
        (r"device: SS-2, start_s", "device: SS-9, start_s", r"effects\[0\].device: no simulated device 'SS-9'"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, old: str, new: str, problem: str) -> None:
    """A broken simulation.yaml says where and what."""
    folder = copy_plant("coal-mine-face", tmp_path)
    file = folder / "simulation.yaml"
    text = file.read_text(encoding="utf-8")
    broken = re.sub(old, new, text, count=1)
    assert broken != text
    file.write_text(broken, encoding="utf-8")
    line = 1 + next(i for i, (a, b) in enumerate(zip(text.splitlines(), broken.splitlines(), strict=True)) if a != b)
    with pytest.raises(SimulationError, match=rf"^simulation\.yaml:{line}: .*{problem}"):
        load_simulation(folder)


def test_a_plant_without_a_simulation_says_so(tmp_path: Path) -> None:
    """A plant of real devices cannot be simulated."""
    with pytest.raises(SimulationError, match="nothing to simulate"):
        load_simulation(tmp_path)


def test_names_that_the_plant_does_not_have_are_refused() -> None:
    """Instruments must be devices, their values in the profile, and the scenario one of the file's."""
    plant, simulation = load_plant(PLANTS / "coal-mine-face"), load_simulation(PLANTS / "coal-mine-face")
    wrong = simulation.model_copy(update={"instruments": {"SS-1": {"gas": Signal()}, "SS-3": {"column_1": Signal()}}})
    with pytest.raises(SimulationError) as caught:
        World(plant, wrong, "storm", seed=1)
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [
        "no scenario 'storm'; there are",
        *["simulation.yaml"] * 2,
    ]
