"""The benchmark's host: hears one gateway, acknowledges once a second, and counts what came when."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, Self

import aiomqtt

from tocsin_core.clock import Clock
from tocsin_core.sparkplug import committed
from tocsin_core.sparkplug.payload import BATCH, OLDEST, parse
from tocsin_core.sparkplug.topics import Topic

COMMIT_EVERY_S: Final = 1.0
NS_PER_MS: Final = 1_000_000
NOT_SEEN: Final = -1.0


@dataclass
class Host:
    """What one gateway's host has: the batches without a hole up to `floor`, counts, and when data came, in s.

    Whole messages are taken apart once, here as in a real host, but readings are counted and not stored.
    """

    group: str
    node: str
    port: int
    clock: Clock
    floor: int = 0
    above: set[int] = field(default_factory=set)
    live_delays_s: list[float] = field(default_factory=list)
    history_readings: int = 0
    history_from_s: float = NOT_SEEN
    history_to_s: float = NOT_SEEN

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[Self]:
        """Hear and acknowledge until left."""
        async with aiomqtt.Client("127.0.0.1", self.port) as client:
            await client.subscribe(f"spBv1.0/{self.group}/+/{self.node}/#")
            await client.subscribe(f"spBv1.0/{self.group}/+/{self.node}")
            tasks = [asyncio.create_task(self._hear(client)), asyncio.create_task(self._acknowledge(client))]
            try:
                yield self
            finally:
                for task in tasks:
                    task.cancel()
                    with suppress(asyncio.CancelledError, aiomqtt.MqttError):
                        await task

    def forget(self) -> None:
        """Begin to count anew."""
        self.live_delays_s.clear()

    async def _hear(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            kind = str(message.topic).split("/")[2]
            if kind in ("NBIRTH", "NDATA", "DDATA"):
                self._take(bytes(message.payload), data=kind == "DDATA")

    def _take(self, payload: bytes, *, data: bool) -> None:
        metrics = parse(payload).metrics
        for metric in metrics:
            if metric.name == OLDEST:
                self._reach(metric.long_value - 1)
        if not data or metrics[0].name != BATCH:
            return
        self.above.add(metrics[0].long_value)
        self._reach(self.floor)
        if metrics[1].is_historical:
            self.history_to_s = self.clock.monotonic()
            self.history_from_s = self.history_to_s if self.history_from_s == NOT_SEEN else self.history_from_s
            self.history_readings += len(metrics) - 1
        else:
            self.live_delays_s.append((self.clock.now_ns() / NS_PER_MS - metrics[1].timestamp) / 1000)

    def _reach(self, number: int) -> None:
        self.floor = max(self.floor, number)
        while self.floor + 1 in self.above:
            self.floor += 1
            self.above.discard(self.floor)

    async def _acknowledge(self, client: aiomqtt.Client) -> None:
        topic = str(Topic(self.group, "NCMD", self.node))
        while True:
            await asyncio.sleep(COMMIT_EVERY_S)
            await client.publish(topic, committed(self.floor, self.clock.now_ns() // NS_PER_MS))
