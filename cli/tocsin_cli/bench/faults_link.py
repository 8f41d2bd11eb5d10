"""The fault benchmark's link between gateway and cloud side: a TCP relay that can be cut in several ways."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Self

from tocsin_cli.bench.faults_script import Cut


@dataclass
class Link:
    """A relay on a free loopback port to the port `to`; `cut` tells what is wrong with it now.

    `swallowed` counts the bytes that a cut took, by their direction.
    """

    to: int
    port: int = 0
    cut: Cut | None = None
    swallowed: Counter[Cut] = field(default_factory=Counter)
    _carrying: set[asyncio.Task[None]] = field(default_factory=set)

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

    async def fail(self, cut: Cut) -> None:
        """Let the link be cut from now on."""
        self.cut = cut
        if cut is Cut.REFUSED:
            await self._break()

    async def mend(self) -> None:
        """Break what stands, as bytes of it may be missing, and carry again."""
        await self._break()
        self.cut = None

    async def _break(self) -> None:
        carrying = list(self._carrying)
        for task in carrying:
            task.cancel()
        await asyncio.gather(*carrying, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a connection is carried by a task")
        self._carrying.add(task)
        ends = [writer]
        try:
            if self.cut is not Cut.REFUSED:
                inward, outward = await asyncio.open_connection("127.0.0.1", self.to)
                ends.append(outward)
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._pump(reader, outward, Cut.UP), name="up")
                    both.create_task(self._pump(inward, writer, Cut.DOWN), name="down")
        except (asyncio.CancelledError, ExceptionGroup, OSError):
            # Either end may go at any time, and both go with it.
            self._carrying.discard(task)
        finally:
            for end in ends:
                end.transport.abort()
                with suppress(OSError):
                    await end.wait_closed()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Cut) -> None:
        while chunk := await reader.read(65536):
            if self.cut in {Cut.SILENT, direction}:
                self.swallowed[direction] += len(chunk)
                continue
            writer.write(chunk)
            await writer.drain()
        raise ConnectionResetError
