"""Writes what was refused into SQL, a portion now and then."""

import asyncio

import structlog

from tocsin_cloud.adapters.quarantine import Quarantine
from tocsin_cloud.adapters.sql.away import DatabaseAwayError

log = structlog.get_logger()

INTERVAL_S = 1.0


async def keep_quarantine(quarantine: Quarantine) -> None:
    """Flush the quarantine every second until cancelled."""
    while True:
        await asyncio.sleep(INTERVAL_S)
        try:
            await quarantine.flush()
        except DatabaseAwayError as error:
            log.warning("quarantine not written", reason=error.reason)
