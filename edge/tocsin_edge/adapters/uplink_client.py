"""The MQTT library's client as the uplink needs it: it writes at once, and counts no time that a narrow link takes."""

import asyncio
import fcntl
import math
import socket
import sys
import termios
import threading
from collections.abc import Awaitable
from typing import Final, Self, TypeVar

import aiomqtt
import paho.mqtt.client as paho

LOOK_S: Final = 1.0
# linux/tcp.h, struct tcp_info: tcpi_bytes_acked, and tcpi_delivered: segments, also those behind one that is lost.
ACKNOWLEDGED: Final = slice(120, 128)
DELIVERED: Final = slice(192, 196)

T = TypeVar("T")


class _Ahead:
    """What goes before something on its way to the other end's kernel, and whether that takes it.

    That it takes what comes behind is no sign of anything: it does so for a broker that stands still.
    """

    def __init__(self) -> None:
        """Look for the first time later."""
        # Bytes, segments, and the bytes with which the other end has the thing itself.
        self._acknowledged = self._delivered = self._upto = math.inf

    def shrinks(self, sock: socket.socket, *, queued: bool) -> bool:
        """Whether some of it arrived since the last look; `queued`: the thing itself is in the library's queue."""
        before, delivered = self._acknowledged, self._delivered
        told = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        self._acknowledged = int.from_bytes(told[ACKNOWLEDGED], sys.byteorder)
        self._delivered = int.from_bytes(told[DELIVERED], sys.byteorder)
        if self._upto == math.inf and not queued:
            here = fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4))
            self._upto = self._acknowledged + int.from_bytes(here, sys.byteorder)
        return before < self._upto and delivered < self._delivered


class UplinkClient(aiomqtt.Client):
    """The library's client, but what fits into the socket is written at once, and nothing is given up on its way.

    The library has the event loop look out for room first and wakes the publisher when it has written: for each message
    six turns of the loop, a task and five system calls.
    """

    _at_home = 0
    _before_ping = _Ahead()

    async def __aenter__(self) -> Self:
        """Connect."""
        self._at_home = threading.get_ident()
        return await super().__aenter__()

    def _on_socket_register_write(self, client: paho.Client, userdata: object, sock: socket.socket) -> None:
        # A connect is in a thread of its own.
        if threading.get_ident() == self._at_home:
            client.loop_write()
            if not client.want_write() or sock.fileno() < 0:
                return
        super()._on_socket_register_write(client, userdata, sock)

    async def _wait_for(self, fut: Awaitable[T], timeout: float | None) -> T:  # noqa: ASYNC109 -- the library's signature
        """Wait as the library does, but do not count the time in which the link carries what goes before."""
        if fut in (self._connected, self._disconnected):
            return await super()._wait_for(fut, timeout)
        loop, ahead, client = asyncio.get_running_loop(), _Ahead(), self._client
        patience_s = self.timeout if timeout is None else timeout
        looking: asyncio.TimerHandle

        def look() -> None:
            nonlocal looking
            looking, sock = loop.call_later(LOOK_S, look), client.socket()
            arrives = isinstance(sock, socket.socket) and ahead.shrinks(sock, queued=client.want_write())
            if arrives and not patience.expired():
                patience.reschedule(loop.time() + patience_s)

        try:
            async with asyncio.timeout(patience_s) as patience:
                look()
                try:
                    return await fut
                finally:
                    looking.cancel()
        except TimeoutError:
            raise aiomqtt.MqttError("Operation timed out") from None

    async def _misc_loop(self) -> None:
        while True:
            self._bear_with_the_ping()
            if self._client.loop_misc() != paho.MQTT_ERR_SUCCESS:
                return
            await asyncio.sleep(LOOK_S)

    def _bear_with_the_ping(self) -> None:
        """Let the time that a ping's answer has begin anew while the link carries what goes before the ping.

        The library counts from when it asked for it, and a narrow link may carry a large message before it for long.
        """
        client, sock = self._client, self._client.socket()
        if not isinstance(sock, socket.socket) or not client._ping_t:  # noqa: SLF001 -- the library shows none of this
            self._before_ping = _Ahead()
            return
        queued = any(each["command"] == paho.PINGREQ for each in client._out_packet)  # noqa: SLF001
        if self._before_ping.shrinks(sock, queued=queued):
            client._ping_t = client._last_bytes_received = paho.time_func()  # noqa: SLF001
