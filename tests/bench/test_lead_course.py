"""The course of a simulated plant as arrays is what the simulator itself serves."""

import numpy as np
import pytest

from tocsin_cli.bench.lead import AMMONIA, MINE, shipped
from tocsin_core.plant import Plant, PlantPoint
from tocsin_core.registers import compile_plan
from tocsin_sim.course import lagged, quantities_over, shown_over, through_register
from tocsin_sim.simulation import Signal
from tocsin_sim.world import STEP_S, World

STEPS = 150


def served(world: World, plant: Plant, point: PlantPoint) -> float:
    """What a gateway reads of `point` now."""
    config, device = point.config, point.device.id
    if config.register_ is None:
        found: object = world.payload(device)
        for step in str(config.field).split("."):
            assert isinstance(found, dict)
            found = found[step]
        return float(str(found))
    plan = compile_plan(plant.profiles[point.device.profile or ""], [config.register_])
    image = world.registers(device)
    replies = [
        np.array([image[request.function, request.address + i] for i in range(request.count)], dtype=np.uint16)
        for request in plan.requests
    ]
    return float(plan.decode(replies).value[0])


@pytest.mark.parametrize("name", [AMMONIA, MINE])
def test_the_course_is_what_the_simulator_serves(name: str) -> None:
    """With the simulator's own step, seed and inputs every point's course is what its registers and payloads hold."""
    plant, simulation = shipped(name)
    world = World(plant, simulation, "calm", 5)
    seen = np.empty((STEPS, len(plant.measured)))
    for step in range(STEPS):
        world.advance(step * STEP_S)
        seen[step] = [served(world, plant, point) for point in plant.measured]
    quantities = quantities_over(simulation, 5, STEP_S, STEPS, {})
    for point in plant.measured:
        value = point.config.register_ or str(point.config.field)
        full = f"{point.device.id}.{value}"
        signal = simulation.instruments[point.device.id][value]
        shown = shown_over([(full, signal)], quantities, 5, STEP_S) if isinstance(signal, Signal) else {}
        course = shown.get(full, np.full(STEPS, signal if isinstance(signal, float | int) else np.nan))
        if point.config.register_ is not None:
            course = through_register(plant.profiles[point.device.profile or ""], value, course)
        assert course == pytest.approx(seen[:, point.index], rel=1e-6, abs=1e-6), full


def test_inputs_move_the_physics() -> None:
    """Twice the gas in the same air is twice the concentration, late by the face's mixing time."""
    _, simulation = shipped(MINE)
    gas = np.where(np.arange(400) < 100, 4.8, 9.6)
    methane = quantities_over(simulation, 1, 1.0, 400, {"face.methane_m3_min": gas})["face.methane_pct"]
    assert methane[:100] == pytest.approx(0.4)
    assert methane[100 + 8] == pytest.approx(0.4 + 0.4 * (1 - np.exp(-9 / 8)))
    assert methane[-1] == pytest.approx(0.8)


def test_a_lag_takes_its_time_to_90_percent() -> None:
    """A step is 90 % there after t90; without a t90 it is there at once."""
    target = np.where(np.arange(31) < 1, 0.0, 1.0)[:, None] * np.ones(2)
    found = lagged(target, 1.0, np.array([20.0, 0.0]))
    assert found[20, 0] == pytest.approx(0.9)
    assert found[1, 1] == 1.0
