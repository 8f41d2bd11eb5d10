"""The loop that keeps the sensors' broker up where the gateway runs it itself."""

import asyncio
from pathlib import Path
from random import SystemRandom
from typing import Final

import structlog

from tocsin_core.clock import Clock
from tocsin_core.plant.model import SensorBroker
from tocsin_edge.adapters.local_broker import LocalBrokerError, serve

AGAIN_FIRST_S: Final = 0.5
AGAIN_MOST_S: Final = 60.0
# One that stayed up so long is started anew at once.
STEADY_S: Final = 60.0

log = structlog.get_logger()
_random = SystemRandom()


async def host_broker(broker: SensorBroker, folder: Path, clock: Clock) -> None:
    """Run the broker for ever; where it cannot be, everything else goes on and each reason is told once."""
    longest, told = AGAIN_FIRST_S, ""
    while True:
        begun = clock.monotonic()
        try:
            await serve(broker, folder)
        except LocalBrokerError as error:
            if str(error) != told:
                log.critical("the sensors' broker is down", reason=str(error))
            told = str(error)
        if clock.monotonic() - begun > STEADY_S:
            longest = AGAIN_FIRST_S
        await asyncio.sleep(_random.uniform(0.0, longest))
        longest = min(2 * longest, AGAIN_MOST_S)
