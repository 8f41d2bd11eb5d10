"""The one place where the simulator is wired: world, Modbus servers, MQTT sensors, links."""

import asyncio
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import structlog

from tocsin_core.clock import Clock, SystemClock
from tocsin_core.plant import Plant, load_plant
from tocsin_core.plant.model import Broker, Device
from tocsin_sim.adapters.link_proxy import LinkProxy
from tocsin_sim.adapters.modbus_server import ModbusDevices, by_address
from tocsin_sim.adapters.mqtt_publisher import publish
from tocsin_sim.adapters.switch_box import SwitchBox, wired_by_address
from tocsin_sim.physics.sources import Row
from tocsin_sim.player import RecordError, read_record
from tocsin_sim.scenario import turns
from tocsin_sim.settings import Settings
from tocsin_sim.simulation import Link, Simulation, SimulationError, links_cut, load_simulation
from tocsin_sim.world import World

log = structlog.get_logger()

# Behind by more than this, the world is let fall behind rather than the sockets starved.
LONGEST_JUMP_S: Final = 5.0


def load_world(settings: Settings) -> tuple[Plant, Simulation, World]:
    """Read plant, simulation and record, and set the world up at scenario time 0.

    Raises:
        PlantError, SimulationError, RecordError: something of it does not hold.
    """
    plant = load_plant(settings.plant)
    simulation = load_simulation(settings.plant)
    scenario = settings.scenario or simulation.default_scenario
    table = _table(simulation, settings.play)
    return plant, simulation, World(plant, simulation, scenario, settings.seed, table)


def links_of(folder: Path, scenario: str | None) -> list[Link]:
    """Return the links that the scenario (None: the plant's own default) cuts, without starting anything.

    Raises:
        SimulationError: there is no simulation.yaml, it does not hold, or it has no such scenario.
    """
    simulation = load_simulation(folder)
    return list(links_cut(simulation, scenario or simulation.default_scenario))


def _table(simulation: Simulation, play: Path | None) -> Sequence[Row]:
    if play is None:
        return ()
    if simulation.record is None:
        raise SimulationError("this plant has no registers for a recorded table: it cannot --play one")
    try:
        with play.open(encoding="utf-8", newline="") as file:
            return read_record(file, simulation.record[1], play.name)
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{play}: {error}") from error


async def run(plant: Plant, simulation: Simulation, world: World, settings: Settings, clock: Clock) -> None:
    """Serve the simulated plant until cancelled.

    Raises:
        RuntimeError, OSError: an address is taken.
    """
    devices = [
        device for gateway in plant.file.gateways for device in gateway.devices if device.id in simulation.instruments
    ]
    async with AsyncExitStack() as stack:
        group_of = by_address(devices)
        for address, units in group_of.items():
            await stack.enter_async_context(ModbusDevices(world, address, units))
        boxes = wired_by_address(plant.file.gateways)
        for address in boxes.keys() - group_of.keys():
            await stack.enter_async_context(SwitchBox(address, boxes[address]))
        cut = links_cut(simulation, settings.scenario or simulation.default_scenario)
        links = [await stack.enter_async_context(LinkProxy(world, link)) for link in cut]
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        tasks.create_task(_turn(world, settings, clock), name="world")
        for link in links:
            tasks.create_task(link.watch(), name="link")
        for broker, sensors in _sensors(plant, simulation).items():
            tasks.create_task(publish(world, broker, sensors, clock), name=f"sensors {broker.host}:{broker.port}")
        log.info(
            "simulator ready",
            plant=plant.name,
            modbus=[f"{host}:{port}" for host, port in group_of],
            devices=len(devices),
            switches=[f"{host}:{port}" for host, port in boxes],
        )


def _sensors(plant: Plant, simulation: Simulation) -> dict[Broker, list[Device]]:
    found: dict[Broker, list[Device]] = {}
    for gateway in plant.file.gateways:
        for device in gateway.devices:
            if device.mqtt is not None and device.id in simulation.instruments:
                found.setdefault(gateway.sensors, []).append(device)
    return found


async def _turn(world: World, settings: Settings, clock: Clock) -> None:
    """Keep scenario time in step with the clock, `speed` times as fast."""
    last = clock.monotonic()
    target = world.time_s
    while True:
        await asyncio.sleep(settings.update_s)
        now = clock.monotonic()
        target += min(now - last, LONGEST_JUMP_S) * settings.speed
        last = now
        before = world.time_s
        world.advance(target)
        for effect, begins in turns(world.scenario, before, world.time_s):
            details = effect.model_dump(exclude={"effect", "start_s", "duration_s"})
            log.info("scenario", what=effect.effect, on=begins, at_s=round(world.time_s, 1), **details)


async def main(plant: Plant, simulation: Simulation, world: World, settings: Settings) -> float:
    """Run until SIGTERM or SIGINT, then end cleanly; returns the scenario time reached, in seconds."""
    loop = asyncio.get_running_loop()
    running = loop.create_task(run(plant, simulation, world, settings, SystemClock()), name="simulator")
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    try:
        await running
    except asyncio.CancelledError:
        log.info("simulator ends")
    return world.time_s
