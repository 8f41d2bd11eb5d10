"""A TCP proxy between a gateway and its broker: the wire that the scenario cuts."""

import asyncio
import contextlib
from types import TracebackType
from typing import Final, Self

import structlog

from tocsin_sim.simulation import Link
from tocsin_sim.world import World

log = structlog.get_logger()

LOOK_EVERY_S: Final = 0.1
CHUNK: Final = 65536


class LinkProxy:
    """Passes bytes both ways; while the link is cut, drops every connection and closes new ones at once."""

    def __init__(self, world: World, link: Link) -> None:
        self._world = world
        self._link = link
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._passing: set[asyncio.Task[None]] = set()

    @property
    def _cut(self) -> bool:
        return self._link.gateway in self._world.moment.cut

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            OSError: the port is taken.
        """
        self._server = await asyncio.start_server(self._connected, self._link.host, self._link.port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening and drop every connection."""
        if self._server is not None:
            self._server.close()
        self._drop()
        await asyncio.gather(*self._passing)

    async def watch(self) -> None:
        """Drop the connections whenever the link is cut; runs until cancelled."""
        while True:
            if self._cut:
                self._drop()
            await asyncio.sleep(LOOK_EVERY_S)

    def _drop(self) -> None:
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if self._cut or task is None:
            writer.transport.abort()
            return
        self._passing.add(task)
        try:
            up_reader, up_writer = await asyncio.open_connection(self._link.to.host, self._link.to.port)
        except OSError as error:
            log.warning("broker behind the link is not there", gateway=self._link.gateway, reason=str(error))
            writer.transport.abort()
        else:
            self._open |= {writer, up_writer}
            await asyncio.gather(_pass_on(reader, up_writer), _pass_on(up_reader, writer))
            self._open -= {writer, up_writer}
        finally:
            self._passing.discard(task)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    # Either end may vanish at any time: for a wire that is no fault, and the other direction ends with it.
    with contextlib.suppress(OSError):
        while chunk := await reader.read(CHUNK):
            writer.write(chunk)
            await writer.drain()
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
