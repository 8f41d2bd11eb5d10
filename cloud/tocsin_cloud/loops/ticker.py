"""The ticker: puts the passing of time into the stream, so that a replay knows it too."""

import asyncio

import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError

from tocsin_cloud.adapters.stream import publish_tick
from tocsin_core.clock import Clock

log = structlog.get_logger()


async def tick(client: Client, site: str, interval_s: float, clock: Clock) -> None:
    """Publish a tick of `site` every `interval_s` seconds until cancelled; one that fails is left out."""
    while True:
        try:
            await publish_tick(client, site)
        except (NatsError, TimeoutError, OSError) as error:
            log.warning("tick not published", reason=str(error) or repr(error))
        await asyncio.sleep(interval_s - (clock.now_ns() / 1e9) % interval_s)
