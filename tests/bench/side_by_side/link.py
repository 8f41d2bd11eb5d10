"""The wire between a gateway and its broker: it carries, it is cut, or it hangs as a pulled cable does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Self

CHUNK: Final = 65536


class Wire(StrEnum):
    """What the wire does. `CUT`: connections break at once and new ones are refused; `PULLED`: nothing is said."""

    WHOLE = "whole"
    CUT = "cut"
    PULLED = "pulled"


@dataclass
class Link:
    """Carries connections to a port of 127.0.0.1; what was under way when it was pulled arrives when it is whole."""

    to: int
    port: int = 0
    wire: Wire = Wire.WHOLE
    _carries: asyncio.Event = field(default_factory=asyncio.Event)
    _ends: set[asyncio.Task[None]] = field(default_factory=set)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Self]:
        """Carry connections until left."""
        self._carries.set()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            await self.become(Wire.CUT)

    async def become(self, wire: Wire) -> None:
        """Change what the wire does."""
        self.wire = wire
        if wire is Wire.PULLED:
            self._carries.clear()
        else:
            self._carries.set()
        if wire is Wire.CUT:
            await self._break()

    async def _break(self) -> None:
        ends = list(self._ends)
        for end in ends:
            end.cancel()
        await asyncio.gather(*ends, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._ends.add(task)
        outward: asyncio.StreamWriter | None = None
        try:
            await self._carries.wait()
            if self.wire is not Wire.CUT:
                inward, outward = await asyncio.open_connection("127.0.0.1", self.to)
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._pump(reader, outward))
                    both.create_task(self._pump(inward, writer))
        except* (asyncio.CancelledError, ConnectionError):
            self._ends.discard(task)
        for end in (writer, outward):
            if end is not None:
                _close(end, at_once=self.wire is Wire.CUT)
                with suppress(ConnectionError):
                    await end.wait_closed()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(CHUNK):
            await self._carries.wait()
            writer.write(chunk)
            await writer.drain()
        # The end of one direction is the end of both.
        raise ConnectionResetError


def _close(end: asyncio.StreamWriter, *, at_once: bool) -> None:
    if at_once:
        end.transport.abort()
    else:
        end.close()
