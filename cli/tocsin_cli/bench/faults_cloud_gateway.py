"""The cloud side's fault benchmark: a gateway that keeps every batch until it is acknowledged, and what it reads."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Final

import aiomqtt
import numpy as np

from tocsin_core.clock import Clock
from tocsin_core.engine import occurrence_id
from tocsin_core.readings import GOOD
from tocsin_core.sparkplug import EdgeDevice, EdgeMetric, EdgeSession, parse_command
from tocsin_core.sparkplug.edge import Columns

SITE: Final = "faults"
HOST: Final = "127.0.0.1"
DEVICE: Final = "d"
SETPOINT: Final = 50
LOW, HIGH = 10.0, 80.0
TICK_S: Final = 0.4
# So many points are read each time, in turn, beside those that change.
IN_TURN: Final = 10
FRESH_SHARE: Final = 0.1
CHANGE_SHARE: Final = 0.3
AGAIN_S: Final = 0.3
# What nobody has acknowledged for so long is sent again, then after twice as long, and so on.
PATIENCE_S: Final = 5.0
MOST_PATIENCE_S: Final = 60.0
BEFORE_MS: Final = 60_000
NS_PER_MS: Final = 1_000_000


@dataclass
class Course:
    """What a gateway reads: points go over their limit and back, at ticks drawn from a seed.

    `raised`: the occurrences that must be raised, each with whether it has to have returned. People must be told of
    those in `told`, the first ones of their points: nobody answers, so the calling goes on.
    """

    points: list[str]
    rng: Random
    raised: dict[str, bool] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)
    _high: dict[int, str] = field(default_factory=dict)
    _opened: int = 0
    _turn: int = 0

    def tick(self, time_ms: int) -> Columns:
        """Read once more."""
        read = {(self._turn + step) % len(self.points) for step in range(IN_TURN)}
        self._turn = (self._turn + IN_TURN) % len(self.points)
        drawn = self.rng.random()
        if drawn < FRESH_SHARE and self._opened < len(self.points):
            read.add(self._opened)
            self.told.add(self._raise(self._opened, time_ms))
            self._opened += 1
        elif FRESH_SHARE <= drawn < FRESH_SHARE + CHANGE_SHARE and self._opened:
            changed = self.rng.randrange(self._opened)
            read.add(changed)
            if changed in self._high:
                self.raised[self._high.pop(changed)] = True
            else:
                self._raise(changed, time_ms)
        places = sorted(read)
        return Columns(
            np.array(places, np.int64),
            np.full(len(places), time_ms, np.int64),
            np.array([HIGH if place in self._high else LOW for place in places]),
            np.full(len(places), GOOD, np.uint8),
        )

    def _raise(self, place: int, time_ms: int) -> str:
        occurrence = self._high[place] = occurrence_id(f"{self.points[place]}/H", time_ms * NS_PER_MS)
        self.raised[occurrence] = False
        return occurrence


class Gateway:
    """A gateway of ours, as the cloud side sees it: numbered batches, each sent again until it is acknowledged."""

    def __init__(
        self, name: str, port: int, course: Course, clock: Clock, *, host: str = HOST, site: str = SITE
    ) -> None:
        """Speak to the broker at `port` of `host`."""
        device = EdgeDevice(DEVICE, tuple(EdgeMetric(point, "bar", 0.0, 100.0) for point in course.points))
        self._session = EdgeSession(site, name, [device])
        self._name = name
        self._broker = host, port
        self._clock = clock
        self._begun_ms = self._now_ms()
        self._births = 0
        self._sent = 0
        self._moved_s = clock.monotonic()
        self._patience_s = PATIENCE_S
        self._news = asyncio.Event()
        self.course = course
        self.batches: list[Columns] = []
        self.committed = 0

    @property
    def newest(self) -> int:
        """The last number given out; batch n is at place n - 1."""
        return len(self.batches)

    def readings(self) -> Iterator[tuple[str, int]]:
        """Point and time, in ms since 1970, of everything that was read."""
        for batch in self.batches:
            for place, time_ms in zip(batch.metric.tolist(), batch.time_ms.tolist(), strict=True):
                yield self.course.points[place], time_ms

    async def read(self) -> None:
        """Read until cancelled, whether there is a connection or not."""
        last_ms = 0
        while True:
            # No two readings of a point have the same time, also where the machine stood still.
            last_ms = max(self._now_ms(), last_ms + 1)
            self.batches.append(self.course.tick(last_ms))
            self._news.set()
            await asyncio.sleep(TICK_S)

    async def speak(self) -> None:
        """Be connected and send what is not acknowledged, until cancelled."""
        while True:
            with suppress(aiomqtt.MqttError, TimeoutError):
                await self._connected()
            await asyncio.sleep(AGAIN_S)

    async def _connected(self) -> None:
        self._births += 1
        will = self._session.will(self._births, self._now_ms())
        async with aiomqtt.Client(
            *self._broker,
            identifier=f"faults-{self._name}",
            timeout=PATIENCE_S,
            will=aiomqtt.Will(will.topic, will.payload, qos=1),
        ) as client:
            await client.subscribe(self._session.command_topic, qos=1)
            await self._be_born(client)
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._hear(client), name="hear")
                    tasks.create_task(self._send(client), name="send")
            except* (aiomqtt.MqttError, TimeoutError) as lost:
                raise lost.exceptions[0] from None

    async def _be_born(self, client: aiomqtt.Client) -> None:
        now_ms, points = self._now_ms(), len(self.course.points)
        # What a birth shows of a gateway of ours counts for nothing: batches bring it.
        before = Columns(
            np.arange(points),
            np.full(points, self._begun_ms - BEFORE_MS, np.int64),
            np.full(points, LOW),
            np.full(points, GOOD, np.uint8),
        )
        births = (
            self._session.nbirth(self.newest, self.committed + 1, now_ms),
            self._session.dbirth(DEVICE, before, self.newest, now_ms),
        )
        for birth in births:
            await client.publish(birth.topic, birth.payload, qos=0)
        self._sent = self.committed
        self._news.set()

    async def _send(self, client: aiomqtt.Client) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE_S):
                    await self._news.wait()
            self._news.clear()
            now_s = self._clock.monotonic()
            if self._sent == self.committed:
                self._moved_s = now_s
            elif now_s - self._moved_s > self._patience_s:
                self._sent, self._moved_s = self.committed, now_s
                self._patience_s = min(2 * self._patience_s, MOST_PATIENCE_S)
            while self._sent < self.newest:
                number = self._sent + 1
                message = self._session.ddata(
                    DEVICE, self.batches[number - 1], number, self._now_ms(), historical=False
                )
                await client.publish(message.topic, message.payload, qos=0)
                # Else the host went back, or asked for a birth, meanwhile.
                if self._sent == number - 1:
                    self._sent = number

    async def _hear(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            command = parse_command(bytes(message.payload))
            if command.rebirth:
                await self._be_born(client)
            if command.committed is None or command.committed > self.newest:
                continue
            if command.committed < self.committed:
                self.committed = self._sent = command.committed
                oldest = self._session.ndata(self.committed + 1, self._now_ms())
                await client.publish(oldest.topic, oldest.payload, qos=0)
                self._news.set()
            elif command.committed > self.committed:
                self.committed, self._moved_s = command.committed, self._clock.monotonic()
                self._patience_s = PATIENCE_S

    def _now_ms(self) -> int:
        return self._clock.now_ns() // NS_PER_MS
