"""The byte streams below Modbus: a TCP connection or a serial port, opened, written, heard, and thrown away."""

import asyncio
from contextlib import suppress
from typing import Final, Protocol

from tocsin_edge.adapters.host_name import HostName

# What arrives faster than it is read is no answer to anything; the rest of it is not kept.
MOST_HEARD: Final = 65_536


class Inbox:
    """Bytes that arrived and were not looked at yet, and whether the other end is gone."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._waiter: asyncio.Future[None] | None = None
        self.gone: str = ""

    @property
    def pending(self) -> bool:
        """Whether something arrived that was not taken."""
        return bool(self._bytes)

    def take(self) -> bytes:
        """Everything that arrived since the last time; never waits."""
        found = bytes(self._bytes)
        self._bytes.clear()
        return found

    async def wait(self, until_s: float) -> None:
        """Wait until something arrived, the other end is gone, or the event loop's clock shows `until_s`."""
        if self._bytes or self.gone:
            return
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_at(until_s, self._wake)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None

    def put(self, data: bytes) -> None:
        """Take in what arrived."""
        self._bytes += data[: MOST_HEARD - len(self._bytes)]
        self._wake()

    def end(self, reason: str) -> None:
        """Note that nothing more will arrive."""
        self.gone = self.gone or reason
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Link(Protocol):
    """A byte stream to the units of one line."""

    inbox: Inbox

    @property
    def is_open(self) -> bool:
        """Whether it can be written to."""

    async def open(self) -> None:
        """Open it anew, with nothing heard.

        Raises:
            OSError: it cannot be opened, for the reason given.
        """

    def write(self, data: bytes) -> None:
        """Send `data`.

        Raises:
            OSError: the other end is gone.
        """

    def close(self) -> None:
        """Close it at once; what was not read is lost."""


class TcpLink:
    """A TCP connection."""

    def __init__(self, host: str, port: int) -> None:
        """Connect to nothing yet."""
        self._host = HostName(host)
        self._port = port
        self._transport: asyncio.Transport | None = None
        self.inbox = Inbox()

    @property
    def is_open(self) -> bool:
        """Whether it is connected, as far as is known."""
        return self._transport is not None and not self.inbox.gone

    async def open(self) -> None:
        """Connect.

        Raises:
            OSError: nobody is there.
        """
        self.close()
        self.inbox = inbox = Inbox()
        loop = asyncio.get_running_loop()
        *others, last = await self._host.addresses()
        for address in others:
            with suppress(OSError):
                self._transport, _ = await loop.create_connection(lambda: _Receiver(inbox), address, self._port)
                return
        self._transport, _ = await loop.create_connection(lambda: _Receiver(inbox), last, self._port)

    def write(self, data: bytes) -> None:
        """Send `data`.

        Raises:
            ConnectionError: the other end closed the connection.
        """
        if self._transport is None or self.inbox.gone:
            raise ConnectionResetError(self.inbox.gone or "not connected")
        self._transport.write(data)

    def close(self) -> None:
        """Break the connection off."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None


class _Receiver(asyncio.Protocol):
    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    def data_received(self, data: bytes) -> None:
        self._inbox.put(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._inbox.end(str(exc) if exc else "the other end closed the connection")
