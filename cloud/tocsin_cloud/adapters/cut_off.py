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
# Time for an election, and for two servers more.
LOST_S: Final = 30.0


class Reach:
    """Whether a connection reaches, at any server, somebody who knows the stream: `watch` finds out."""

    def __init__(self, client: Client, clock: Clock) -> None:
        """It does as far as is known."""
        self._client = client
        self._clock = clock
        self.lost = False
        """Whether it has not for `LOST_S`: who does the work of a role had better be another."""

    async def watch(self) -> None:
        """Until cancelled, ask what only the cluster's leader answers; where it does not for long, try another."""
        client, clock = self._client, self._clock
        well_s: float | None = None
        tried_s = unsure_s = clock.monotonic()
        while True:
            await asyncio.sleep(ASK_S)
            # A connection that is lost goes to another server by itself.
            has_leader = await _has_leader(client) if client.is_connected else False
            if has_leader or not client.is_connected:
                tried_s = clock.monotonic()
            elif clock.monotonic() - tried_s > PATIENCE_S and len(client.servers) > 1:
                log.warning("the nats-server is cut off from its cluster: trying another")
                await client.force_reconnect()
                tried_s = clock.monotonic()
            now_s = clock.monotonic()
            if has_leader:
                well_s = now_s
            # An answer that does not come may be waiting behind what the stream sends, or be none because we may not
            # ask; a server that is cut off says so, 9 s after (measured).
            if has_leader is not False:
                unsure_s = now_s
            lost = well_s is not None and now_s - well_s > LOST_S and now_s - unsure_s > PATIENCE_S
            if lost and not self.lost:
                log.error("no nats-server tells of the stream: work on it is left to whoever reaches one")
            self.lost = lost


async def _has_leader(client: Client) -> bool | None:
    """Whether there is somebody who knows the stream; None where no answer came."""
    try:
        await client.jsm(timeout=API_TIMEOUT_S).account_info()
    except APIError as error:
        return error.code != UNAVAILABLE
    except (NatsError, TimeoutError):
        return None
    return True
