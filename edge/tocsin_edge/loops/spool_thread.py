"""The spool in a thread of its own, so that neither a slow disk nor one that hangs holds up the polls."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Final, ParamSpec, TypeVar

import structlog

from tocsin_core.clock import Clock
from tocsin_edge.adapters.spool import Spool

NS_PER_MS: Final = 1_000_000
# A card answers within half a second by its standard, and a poor one that puts itself in order within some. What takes
# longer goes on in the thread, and nobody waits for it.
DISK_PATIENCE_S: Final = 5.0

P = ParamSpec("P")
T = TypeVar("T")

log = structlog.get_logger()


class DiskHangsError(sqlite3.OperationalError):
    """The disk has not answered in time: what it was asked may be done, never be done, or be done at any time."""

    def __init__(self) -> None:
        """Say so."""
        super().__init__("the disk hangs")


class _Worker:
    """A thread that does one job after the other.

    `hangs`: nobody waits any more for what it was given, and no more is given to it until this is set back; `stuck`: it
    is not through with that yet.
    """

    def __init__(self, name: str, *, daemon: bool = False) -> None:
        """Start no thread before the first call."""
        self._name, self._daemon = name, daemon
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._waiting: set[asyncio.Future[Any]] = set()
        self.hangs = self.stuck = False

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function in the thread, unless its turn comes when nobody waits for it any more.

        Raises:
            DiskHangsError: it was not done in time.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=self._daemon)
            self._thread.start()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        # A library's executor takes three times as long for this, many times a second.
        def job() -> None:
            if answer.done():
                return
            settled: Callable[[Any], None] = answer.set_result
            try:
                found: object = function(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - whoever waits for it raises it
                settled, found = answer.set_exception, error
            # Where the loop has ended, nobody waits for it any more.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_settle, answer, settled, found)

        self._jobs.put(job)
        self._waiting.add(answer)
        patience = loop.call_later(DISK_PATIENCE_S, self._give_up, answer, loop)
        try:
            return await answer
        finally:
            patience.cancel()
            self._waiting.discard(answer)

    def _give_up(self, answer: asyncio.Future[Any], loop: asyncio.AbstractEventLoop) -> None:
        if answer.done():
            return
        self.hangs = self.stuck = True

        # It comes to this behind all that it was given.
        def through() -> None:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._come_through)

        self._jobs.put(through)
        for each in self._waiting:
            if not each.done():
                each.set_exception(DiskHangsError())

    def _come_through(self) -> None:
        self.stuck = False

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    def end(self) -> None:
        """Let the thread end after what it was given, and wait for that unless it is a daemon."""
        self._jobs.put(None)
        if self._thread is not None and not self._daemon:
            self._thread.join()


class SpoolThread:
    """The spool, used from its own thread so that neither a slow disk nor one that hangs holds up the polls.

    Once a call has raised DiskHangsError all others do so at once, until `go_on`: what was given up may be done as soon
    as the disk answers, and nobody is to see it before whoever keeps the spool has taken it back.
    """

    def __init__(self, spool: Spool, clock: Clock) -> None:
        """Start no thread before the first call."""
        self.spool = spool
        self._clock = clock
        self._worker = _Worker("spool")
        # The loop's own threads may all wait for a name server. What hangs in a sync uses nothing that is closed.
        self._syncer = _Worker("spool sync", daemon=True)
        self._refused: dict[object, str] = {}

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a method of `spool` in its thread, unless its turn comes when nobody waits for it any more.

        Raises:
            DiskHangsError: it was not done in time, or something before it was not.
        """
        self.refuse_while_it_hangs()
        return await self._worker.call(function, *args, **kwargs)

    async def sync(self) -> None:
        """Sync what the spool was given, beside its thread.

        Raises:
            sqlite3.OperationalError: the disk failed at it, or hangs.
        """
        self.refuse_while_it_hangs()
        await self._syncer.call(self.spool.sync)

    @property
    def hangs(self) -> bool:
        """Whether something was not done in time, and all else is refused since."""
        return self._worker.hangs or self._syncer.hangs

    @property
    def stuck(self) -> bool:
        """Whether what was given up is still not over."""
        return self._worker.stuck or self._syncer.stuck

    def refuse_while_it_hangs(self) -> None:
        """Do nothing while all is well.

        Raises:
            DiskHangsError: it `hangs`.
        """
        if self.hangs:
            raise DiskHangsError

    def go_on(self) -> None:
        """Let all be asked again."""
        self._worker.hangs = self._syncer.hangs = False

    async def attempt(self, otherwise: T, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a method of `spool` in its thread; where the disk or the file fails, tell it once and give `otherwise`.

        A file that turns out damaged is set aside on the way.
        """
        try:
            answer = await self.call(function, *args, **kwargs)
        except sqlite3.Error as error:
            if self._refused.get(function) != str(error):
                log.critical("spool refuses", reason=str(error))
            self._refused[function] = str(error)
            if not isinstance(error, sqlite3.OperationalError):
                await self.recover()
            return otherwise
        self._refused.pop(function, None)
        return answer

    async def recover(self) -> None:
        """Try to open the spool's file anew; where that fails, all stays as it is."""
        try:
            await self.call(self.spool.recover, self._clock.now_ns() // NS_PER_MS)
        except (OSError, sqlite3.Error) as error:
            log.critical("spool cannot be opened anew", reason=str(error))

    def close(self) -> None:
        """End after what was given, but for a sync that hangs, then close the file."""
        self._syncer.end()
        self._worker.end()
        self.spool.close()


def _settle(answer: asyncio.Future[T], settled: Callable[[Any], None], found: object) -> None:
    if not answer.done():
        settled(found)
