"""Looks every few minutes whether the ways to people are open: one that is dead is known before somebody is called."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Final, Protocol

import structlog
from prometheus_client import Gauge

from tocsin_cloud.adapters.channels import ChannelError, kind_of, service_of
from tocsin_core.clock import Clock

log = structlog.get_logger(__name__)

EVERY_S: Final = 300.0
# Whether one that did not answer is dead, or its server was just started anew.
AGAIN_S: Final = 30.0
IN_VAIN: Final = 2
AT_ONCE: Final = 8
POLL_S: Final = 1.0


class Prober(Protocol):
    """The ways to people, as far as nobody notices."""

    async def probe(self, channel: str) -> None:
        """Try `channel` without a word to anybody.

        Raises:
            ChannelError: nothing would get out by it.
        """


class Ways:
    """One address of each service, tried in turn; `dead` shows by kind how many failed twice in a row."""

    def __init__(self, prober: Prober, channels: Iterable[str], clock: Clock, dead: Gauge) -> None:
        """Nothing was tried yet."""
        self._prober = prober
        self._ways = sorted({service_of(channel): channel for channel in channels}.values())
        self._clock = clock
        self._dead = dead
        self._failed: Counter[str] = Counter()
        self._due_s = clock.monotonic()
        for way in self._ways:
            dead.labels(kind_of(way)).set(0)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(POLL_S)

    async def look(self) -> None:
        """Try each of the ways, if it is time: every five minutes, and soon again where one has just failed."""
        if self._clock.monotonic() < self._due_s:
            return
        free = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as tasks:
            for way in self._ways:
                tasks.create_task(self._try(way, free), name=f"probe {kind_of(way)}")
        counts = Counter(kind_of(way) for way in self._ways if self._failed[way] >= IN_VAIN)
        for kind in set(map(kind_of, self._ways)):
            self._dead.labels(kind).set(counts[kind])
        doubtful = any(0 < times < IN_VAIN for times in self._failed.values())
        self._due_s = self._clock.monotonic() + (AGAIN_S if doubtful else EVERY_S)

    async def _try(self, way: str, free: asyncio.Semaphore) -> None:
        async with free:
            try:
                await self._prober.probe(way)
            except ChannelError as error:
                self._failed[way] += 1
                if self._failed[way] == IN_VAIN:
                    log.error("a way to people does not work", channel=kind_of(way), reason=str(error))  # noqa: TRY400 -- the reason is told
            else:
                if self._failed[way] >= IN_VAIN:
                    log.info("a way to people works again", channel=kind_of(way))
                self._failed[way] = 0
