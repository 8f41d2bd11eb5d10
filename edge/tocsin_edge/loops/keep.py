"""The keep loop: readings of all devices, gathered for a moment, into the spool at once, then to the sender."""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final, ParamSpec, TypeVar

import structlog

from tocsin_core.clock import Clock
from tocsin_core.sparkplug.edge import Columns
from tocsin_edge.adapters.spool import Spool
from tocsin_edge.loops.board import Board
from tocsin_edge.settings import DeviceSettings

GATHER_S: Final = 0.05
RETRY_S: Final = 1.0
TRIM_EVERY_S: Final = 5.0
# While the disk takes nothing, this many device readings wait in memory; then the oldest are lost and counted.
MOST_WAITING: Final = 20_000
NS_PER_MS: Final = 1_000_000

P = ParamSpec("P")
T = TypeVar("T")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Sample:
    """Readings of one device from one poll or message; `dead`: the device counts as dead from now on."""

    device: DeviceSettings
    columns: Columns
    dead: bool = False


@dataclass(frozen=True, slots=True)
class Kept:
    """A sample that is on disk under its batch number."""

    number: int
    sample: Sample


class SpoolThread:
    """The spool, used from its own thread so that a slow disk does not hold up the polls."""

    def __init__(self, spool: Spool) -> None:
        """Start no thread before the first call."""
        self.spool = spool
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="spool")

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a method of `spool` in its thread."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, partial(function, *args, **kwargs))

    def close(self) -> None:
        """End the thread after what it was given, then close the file."""
        self._executor.shutdown()
        self.spool.close()


class Keeper:
    """Takes samples from the polls (`put`) and hands them on (`on_kept`) once they are on disk.

    `on_lost` is called when the spool, over its bound, gave up batches that nobody has.
    """

    def __init__(
        self,
        thread: SpoolThread,
        board: Board,
        clock: Clock,
        on_kept: Callable[[list[Kept]], None],
        on_lost: Callable[[], None],
    ) -> None:
        """Wire only; `run` does the work."""
        self._thread = thread
        self._board = board
        self._clock = clock
        self._on_kept = on_kept
        self._on_lost = on_lost
        self._waiting: deque[Sample] = deque()
        self._some = asyncio.Event()
        self._closing = False
        self.lost = 0

    def put(self, sample: Sample) -> None:
        """Take a sample; never waits."""
        if len(self._waiting) >= MOST_WAITING:
            self.lost += len(self._waiting.popleft().columns)
        self._waiting.append(sample)
        self._some.set()

    def close(self) -> None:
        """Let `run` return once everything that was put is kept, or cannot be."""
        self._closing = True
        self._some.set()

    async def run(self) -> None:
        """Keep samples until `close`."""
        trimmed = self._clock.monotonic()
        while not (self._closing and not self._waiting):
            await self._some.wait()
            if not self._closing:
                await asyncio.sleep(GATHER_S)
            self._some.clear()
            if not await self._flush():
                if self._closing:
                    log.error("readings lost at the end", readings=sum(len(s.columns) for s in self._waiting))
                    return
                await asyncio.sleep(RETRY_S)
                self._some.set()
            if self._clock.monotonic() - trimmed > TRIM_EVERY_S:
                trimmed = self._clock.monotonic()
                await self._trim()

    async def _flush(self) -> bool:
        samples, self._waiting = self._waiting, deque()
        if not samples:
            return True
        parts = [(s.device.id, tuple(m.name for m in s.device.sparkplug.metrics), s.columns) for s in samples]
        try:
            numbers = await self._thread.call(self._thread.spool.append, parts)
        except sqlite3.Error as error:
            self._waiting.extendleft(reversed(samples))
            log.critical("spool takes nothing", reason=str(error), waiting=len(self._waiting), lost=self.lost)
            return False
        for sample in samples:
            self._board.update(sample.device.id, sample.columns, dead=sample.dead)
        self._on_kept([Kept(number, sample) for number, sample in zip(numbers, samples, strict=True)])
        return True

    async def _trim(self) -> None:
        try:
            if await self._thread.call(self._thread.spool.trim, self._clock.now_ns() // NS_PER_MS):
                self._on_lost()
        except sqlite3.Error as error:
            log.critical("spool not trimmed", reason=str(error))
