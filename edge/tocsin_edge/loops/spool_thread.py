"""The spool in a thread of its own, so that a slow disk does not hold up the polls."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final, ParamSpec, TypeVar

import structlog

from tocsin_core.clock import Clock
from tocsin_edge.adapters.spool import Spool

NS_PER_MS: Final = 1_000_000

P = ParamSpec("P")
T = TypeVar("T")

log = structlog.get_logger()


class SpoolThread:
    """The spool, used from its own thread so that a slow disk does not hold up the polls."""

    def __init__(self, spool: Spool, clock: Clock) -> None:
        """Start no thread before the first call."""
        self.spool = spool
        self._clock = clock
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._worker: threading.Thread | None = None
        self._refused: dict[object, str] = {}

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a method of `spool` in its thread, unless its turn comes when nobody waits for it any more."""
        if self._worker is None:
            self._worker = threading.Thread(target=self._work, name="spool")
            self._worker.start()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        # A library's executor takes three times as long for this, many times a second.
        def job() -> None:
            if answer.cancelled():
                return
            settled: Callable[[Any], None] = answer.set_result
            try:
                found: object = function(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - whoever waits for it raises it
                settled, found = answer.set_exception, error
            loop.call_soon_threadsafe(_settle, answer, settled, found)

        self._jobs.put(job)
        return await answer

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

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
        """End the thread after what it was given, then close the file."""
        if self._worker is not None:
            self._jobs.put(None)
            self._worker.join()
        self.spool.close()


def _settle(answer: asyncio.Future[T], settled: Callable[[Any], None], found: object) -> None:
    if not answer.done():
        settled(found)
