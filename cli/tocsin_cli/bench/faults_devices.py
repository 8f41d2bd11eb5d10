"""The fault benchmark's instruments and outputs: Modbus TCP servers that note what is said, and misbehave when told."""

import asyncio
import struct
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from random import Random
from typing import Final, Self

from tocsin_cli.bench.faults_script import Trouble
from tocsin_core.clock import Clock
from tocsin_core.polling.writes import COIL_ON, WRITE_COIL

HEADER: Final = struct.Struct(">HHHB")
IMAGE: Final = struct.Struct(">If")
PERIOD_S: Final = 0.3
TIMEOUT_S: Final = 1.0
SLOW_S: Final = 0.25
LATE_S: Final = 1.4
LOW: Final = 10.0
HIGH: Final = 90.0
# So many answers in a row are above the limit, and then below it.
RUN: Final = (2, 8)
WATCH_S: Final = 0.02
STALL_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: its own number, which is also the value it gave, when it was given, and how long it took.

    Times are in s of the bench's monotonic clock.
    """

    number: int
    given_s: float
    took_s: float


@dataclass
class Stalls:
    """When this process itself stood still: what its instruments said then may be late without their noticing."""

    clock: Clock
    ended_s: list[float] = field(default_factory=list)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[Self]:
        """Watch until left."""
        watching = asyncio.create_task(self._watch(), name="stalls")
        try:
            yield self
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching

    async def _watch(self) -> None:
        seen = self.clock.monotonic()
        while True:
            await asyncio.sleep(WATCH_S)
            now = self.clock.monotonic()
            if now - seen > STALL_S:
                self.ended_s.append(now)
            seen = now


class Walk:
    """The level that each answer tells: runs above the limit and runs below it, of lengths drawn from a seed."""

    def __init__(self, seed: int) -> None:
        """Begin below the limit."""
        self._rng = Random(seed)  # noqa: S311 - levels, not secrets
        self._levels: list[float] = []

    def level(self, number: int) -> float:
        """Give the level of an answer."""
        while len(self._levels) <= number:
            level = HIGH if self._levels and self._levels[-1] == LOW else LOW
            self._levels += [level] * self._rng.randint(*RUN)
        return self._levels[number]


@dataclass
class Unit(ABC):
    """A Modbus TCP server that misbehaves when told to; what it answers its kinds know."""

    clock: Clock
    port: int = 0
    trouble: Trouble | None = None
    restarts_s: list[float] = field(default_factory=list)
    _server: asyncio.Server | None = None
    _talks: set[asyncio.Task[None]] = field(default_factory=set)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Self]:
        """Answer until left, on a free loopback port that stays the same."""
        await self._listen()
        try:
            yield self
        finally:
            await self._end()

    async def fail(self, trouble: Trouble) -> None:
        """Misbehave from now on."""
        self.trouble = trouble
        if trouble is Trouble.RESTART:
            self.restarts_s.append(self.clock.monotonic())
            await self._end()

    async def mend(self) -> None:
        """Be well again."""
        if self.trouble is Trouble.RESTART:
            await self._listen()
        self.trouble = None

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        if self._server is not None:
            self._server.close()
        talks = list(self._talks)
        for talk in talks:
            talk.cancel()
        await asyncio.gather(*talks, return_exceptions=True)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a connection is answered by a task")
        self._talks.add(task)
        try:
            while True:
                transaction, _, length, unit = HEADER.unpack(await reader.readexactly(HEADER.size))
                question = await reader.readexactly(length - 1)
                await self._answer(writer, transaction, unit, question)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
            # The gateway went, or this instrument restarts.
            self._talks.discard(task)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, writer: asyncio.StreamWriter, transaction: int, unit: int, question: bytes) -> None:
        asked_s, trouble = self.clock.monotonic(), self.trouble
        if trouble is Trouble.DEAD:
            return
        if trouble in {Trouble.SLOW, Trouble.LATE}:
            await asyncio.sleep(SLOW_S if trouble is Trouble.SLOW else LATE_S)
        body, number = self.reply(*struct.unpack(">BHH", question))
        writer.write(HEADER.pack(transaction, 0, len(body) + 1, unit) + body)
        await writer.drain()
        given_s = self.clock.monotonic()
        self.note(Answer(number, given_s, given_s - asked_s))

    @abstractmethod
    def reply(self, function: int, first: int, count: int) -> tuple[bytes, int]:
        """The answer to a question, and its number."""

    @abstractmethod
    def note(self, answer: Answer) -> None:
        """Take note that an answer was given."""


@dataclass
class Device(Unit):
    """One instrument: register 0 holds the answer's number as u32, register 2 its level as f32, both ABCD."""

    walk: Walk = field(default_factory=lambda: Walk(0))
    answers: list[Answer] = field(default_factory=list)
    _next: int = 0

    def reply(self, function: int, first: int, count: int) -> tuple[bytes, int]:
        """Registers of the next answer."""
        number, self._next = self._next, self._next + 1
        registers = IMAGE.pack(number, self.walk.level(number))[2 * first : 2 * (first + count)]
        return bytes([function, len(registers)]) + registers, number

    def note(self, answer: Answer) -> None:
        """Keep it."""
        self.answers.append(answer)


@dataclass
class Coils(Unit):
    """What the gateway's outputs switch: coils, by address; `answered_s` is when something was last answered."""

    on: dict[int, bool] = field(default_factory=dict)
    answered_s: float = 0.0

    def reply(self, function: int, first: int, count: int) -> tuple[bytes, int]:
        """Take a write, or tell how one coil is."""
        if function == WRITE_COIL:
            self.on[first] = count == COIL_ON
            return struct.pack(">BHH", function, first, count), 0
        return bytes([function, 1, self.on.get(first, False)]), 0

    def note(self, answer: Answer) -> None:
        """Know when the gateway last had an answer."""
        self.answered_s = answer.given_s
