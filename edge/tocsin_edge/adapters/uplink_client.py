"""The MQTT library's client as the uplink needs it: it writes at once, and gives a ping the time that its way takes."""

import asyncio
import fcntl
import math
import socket
import sys
import termios
import threading
from typing import Final, Self

import aiomqtt
import paho.mqtt.client as paho

LOOK_S: Final = 1.0
# linux/tcp.h: tcpi_bytes_acked in struct tcp_info.
ACKNOWLEDGED: Final = slice(120, 128)


class UplinkClient(aiomqtt.Client):
    """The library's client, but what fits into the socket is written at once, and a ping on its way is not given up.

    The library has the event loop look out for room first and wakes the publisher when it has written: for each message
    six turns of the loop, a task and five system calls.
    """

    _at_home = 0
    # Of the connection's bytes: how many the other end had at the last look, and with how many it has the ping too.
    _there = _with_ping = math.inf

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

    async def _misc_loop(self) -> None:
        while True:
            self._bear_with_the_ping()
            if self._client.loop_misc() != paho.MQTT_ERR_SUCCESS:
                return
            await asyncio.sleep(LOOK_S)

    def _bear_with_the_ping(self) -> None:
        """Let the time that a ping's answer has begin anew while the other end takes what goes before the ping.

        The library counts from when it asked for it, and a narrow link may carry a large message before it for long.
        That the other end takes what comes behind it is no sign: its kernel does so for a broker that stands still.
        """
        client, sock = self._client, self._client.socket()
        if not isinstance(sock, socket.socket) or not client._ping_t:  # noqa: SLF001 -- the library shows none of this
            self._there = self._with_ping = math.inf
            return
        before, self._there = self._there, _acknowledged(sock)
        if self._with_ping == math.inf and all(each["command"] != paho.PINGREQ for each in client._out_packet):  # noqa: SLF001
            self._with_ping = self._there + _unacknowledged(sock)
        if before < min(self._there, self._with_ping):
            client._ping_t = client._last_bytes_received = paho.time_func()  # noqa: SLF001


def _acknowledged(sock: socket.socket) -> int:
    """How many bytes of a TCP connection the other end's kernel has acknowledged."""
    return int.from_bytes(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)[ACKNOWLEDGED], sys.byteorder)


def _unacknowledged(sock: socket.socket) -> int:
    """How many bytes this end's kernel has taken and the other's has not acknowledged."""
    return int.from_bytes(fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
