"""Leaves a NATS server that is cut off from its cluster: it answers pings, and neither keeps nor tells anything."""

import asyncio
from typing import Final

import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.errors import APIError

from tocsin_cloud.adapters.stream import API_TIMEOUT_S, UNAVAILABLE
from tocsin_core.clock import Clock

log = structlog.get_logger()

ASK_S: Final = 2.0
# A cluster that elects a leader is without one for 4 to 9 s (measured); to leave a server of it then is of no use.
PATIENCE_S: Final = 10.0


async def leave_the_cut_off(client: Client, clock: Clock) -> None:
    """Until cancelled, ask what only the cluster's leader answers; where it does not for long try another server."""
    well_s = clock.monotonic()
    while True:
        await asyncio.sleep(ASK_S)
        # A connection that is lost goes to another server by itself.
        if not client.is_connected or await _has_leader(client):
            well_s = clock.monotonic()
        elif clock.monotonic() - well_s > PATIENCE_S:
            log.warning("the nats-server is cut off from its cluster: trying another")
            await client.force_reconnect()
            well_s = clock.monotonic()


async def _has_leader(client: Client) -> bool:
    try:
        await client.jsm(timeout=API_TIMEOUT_S).account_info()
    except APIError as error:
        return error.code != UNAVAILABLE
    except (NatsError, TimeoutError):
        return False
    return True
