"""When a simulated sensor has its turn, and whether the scenario keeps it silent."""

import asyncio
from collections.abc import AsyncIterator

from tocsin_core.clock import Clock
from tocsin_core.plant.model import Device
from tocsin_sim.world import World


async def turns_of(world: World, device: Device, clock: Clock) -> AsyncIterator[bool]:
    """Yield at each of the device's periods, the first at once: whether it is silent now."""
    period_s = device.period_ms / 1000.0
    due = clock.monotonic()
    while True:
        yield device.id in world.moment.silent
        due = max(due + period_s, clock.monotonic())
        await asyncio.sleep(due - clock.monotonic())
