"""A TCP link to a port of 127.0.0.1 that can be cut in one direction or both: bytes vanish, nobody is told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Self


class Cut(Enum):
    """Which direction carries nothing; `up` is from whoever connects."""

    NONE = ()
    UP = ("up",)
    DOWN = ("down",)
    BOTH = ("up", "down")


@dataclass
class OneWayLink:
    """Carries connections to `to`. What was sent into a cut is lost, as on a line that takes it for longer than TCP."""

    to: int
    port: int = 0
    cut: Cut = Cut.NONE
    swallowed: dict[str, int] = field(default_factory=lambda: {"up": 0, "down": 0})
    _ends: set[asyncio.Task[None]] = field(default_factory=set)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Self]:
        """Carry connections until left."""
        server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            await self._break()

    async def heal(self) -> None:
        """Carry everything again; what was torn in the middle of a message is reset, as the ends' TCP would do."""
        self.cut = Cut.NONE
        await self._break()

    async def _break(self) -> None:
        for end in self._ends:
            end.cancel()
        await asyncio.gather(*self._ends, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._ends.add(task)
        ends = [writer]
        try:
            inward, outward = await asyncio.open_connection("127.0.0.1", self.to)
            ends.append(outward)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(reader, outward, "up"))
                both.create_task(self._pump(inward, writer, "down"))
        except (asyncio.CancelledError, ExceptionGroup, ConnectionError):
            self._ends.discard(task)
        finally:
            for end in ends:
                end.transport.abort()
                with suppress(ConnectionError):
                    await end.wait_closed()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str) -> None:
        while chunk := await reader.read(65536):
            if way in self.cut.value:
                self.swallowed[way] += len(chunk)
                continue
            writer.write(chunk)
            await writer.drain()
        raise ConnectionResetError
