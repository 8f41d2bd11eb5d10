"""The spool's figures, looked at from time to time and never so often that it costs the gateway anything."""

import asyncio
import sqlite3
import threading
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from tocsin_core.clock import Clock
from tocsin_edge.adapters.metrics_spool import SpoolFigures, spool_figures
from tocsin_edge.loops.keep import Keeper
from tocsin_edge.loops.spool_thread import SpoolThread

LOOK_EVERY_S: Final = 5.0
# Counting the lanes reads the whole file, so it is rare, and rarer where it takes long.
LANES_EVERY_S: Final = 30.0
LANES_SHARE: Final = 20.0
NS_PER_MS: Final = 1_000_000
WITHOUT_FILE: Final = "a damaged spool could not be set aside; start it anew once the disk can be written"

log = structlog.get_logger()


class SpoolWatch:
    """What the spool holds and has counted; `committed_ms`: when the database last said that it has more.

    `room`: how many bytes the file can come to, by its bound and by the disk; None before the first look.

    `figures` is None where the file could not be read.
    """

    def __init__(self, path: Path, thread: SpoolThread, keeper: Keeper, clock: Clock) -> None:
        """Look at the counters for the first time."""
        self._path = path
        self._thread = thread
        self._keeper = keeper
        self._clock = clock
        self._lanes_at_s = 0.0
        self.counters = thread.spool.counters()
        self.figures: SpoolFigures | None = None
        self.room: int | None = None
        self.committed_ms: int | None = None

    @property
    def trouble(self) -> str:
        """Why the disk takes nothing, empty while it does."""
        return self._keeper.trouble or (WITHOUT_FILE if self._thread.spool.in_memory else "")

    @property
    def held(self) -> int:
        """How many batches are in memory alone."""
        return self._keeper.held

    @property
    def lost(self) -> int:
        """Readings that were lost while the disk took nothing and are in no counter yet."""
        return self._keeper.lost

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """Take the counters, and the lanes if it is time."""
        before = self.counters["batch_committed"]
        self.counters = await self._thread.attempt(self.counters, self._thread.spool.counters)
        self.room = await self._thread.attempt(self.room, self._thread.spool.room)
        if self.counters["batch_committed"] > before:
            self.committed_ms = self._now_ms()
        begun = self._clock.monotonic()
        # While the disk is in trouble the spool is opened anew again and again, and must be alone with its file.
        if begun < self._lanes_at_s or self.trouble:
            return
        given_up = threading.Event()
        count = partial(spool_figures, self._path, self._now_ms(), beside_gateway=True, given_up=given_up)
        try:
            self.figures = await asyncio.to_thread(count)
        except sqlite3.Error as error:
            log.warning("spool's lanes not counted", reason=str(error))
            self.figures = None
        finally:
            # Where this is cancelled the thread still counts, and the gateway's end would wait for it.
            given_up.set()
        took = self._clock.monotonic() - begun
        self._lanes_at_s = self._clock.monotonic() + max(LANES_EVERY_S, LANES_SHARE * took)

    def _now_ms(self) -> int:
        return self._clock.now_ns() // NS_PER_MS
