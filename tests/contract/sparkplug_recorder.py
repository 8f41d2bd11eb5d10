"""An MQTT 3.1.1 server that writes down every packet of one client at a time, bit by bit, and can say things to it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

PUBLISH: Final = 3


@dataclass(frozen=True)
class Connect:
    """A CONNECT: the flags as the packet holds them, and the will."""

    client: str
    protocol: int
    clean_session: bool
    will: bool
    will_qos: int
    will_retain: bool
    will_topic: str
    will_payload: bytes


@dataclass(frozen=True)
class Publish:
    """A PUBLISH."""

    topic: str
    payload: bytes
    qos: int
    retain: bool

    @property
    def kind(self) -> str:
        """The Sparkplug message type in its topic."""
        return self.topic.split("/")[2]


@dataclass(frozen=True)
class Subscribe:
    """A SUBSCRIBE: the filters with their QoS."""

    filters: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Disconnect:
    """A DISCONNECT."""


Packet = Connect | Publish | Subscribe | Disconnect


def _text(body: bytes, at: int) -> tuple[bytes, int]:
    size = int.from_bytes(body[at : at + 2], "big")
    return body[at + 2 : at + 2 + size], at + 2 + size


def _connect(body: bytes) -> Connect:
    name, at = _text(body, 0)
    assert name == b"MQTT"
    protocol, flags = body[at], body[at + 1]
    client, at = _text(body, at + 4)
    topic, payload = b"", b""
    if flags & 4:
        topic, at = _text(body, at)
        payload, at = _text(body, at)
    return Connect(
        client.decode(),
        protocol,
        bool(flags & 2),
        bool(flags & 4),
        flags >> 3 & 3,
        bool(flags & 32),
        topic.decode(),
        payload,
    )


def _publish(flags: int, body: bytes) -> tuple[Publish, bytes]:
    topic, at = _text(body, 0)
    qos = flags >> 1 & 3
    mid = body[at : at + 2] if qos else b""
    return Publish(topic.decode(), body[at + len(mid) :], qos, bool(flags & 1)), mid


def _subscribe(body: bytes) -> Subscribe:
    at, filters = 2, []
    while at < len(body):
        topic, at = _text(body, at)
        filters.append((topic.decode(), body[at]))
        at += 1
    return Subscribe(tuple(filters))


@dataclass
class Recorder:
    """Every packet in its order, over all connections."""

    packets: list[Packet] = field(default_factory=list)
    port: int = 0
    _writer: asyncio.StreamWriter | None = None

    @asynccontextmanager
    async def serve(self) -> AsyncIterator["Recorder"]:
        """Listen on a free port until left."""
        server = await asyncio.start_server(self._talk, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.drop()

    def drop(self) -> None:
        """Break the connection that stands."""
        if self._writer is not None:
            self._writer.transport.abort()

    def say(self, topic: str, payload: bytes) -> None:
        """Publish something to the client, QoS 0."""
        name = topic.encode()
        body = len(name).to_bytes(2, "big") + name + payload
        assert self._writer is not None
        self._writer.write(bytes([PUBLISH << 4]) + _length(len(body)) + body)

    def published(self) -> list[Publish]:
        """Give every PUBLISH in its order."""
        return [packet for packet in self.packets if isinstance(packet, Publish)]

    def of(self, kind: str) -> list[Publish]:
        """Give the PUBLISH packets of one Sparkplug message type."""
        return [packet for packet in self.published() if packet.kind == kind]

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                first = (await reader.readexactly(1))[0]
                size, shift = 0, 0
                while True:
                    byte = (await reader.readexactly(1))[0]
                    size |= (byte & 0x7F) << shift
                    shift += 7
                    if not byte & 0x80:
                        break
                self._take(first, await reader.readexactly(size), writer)
        writer.transport.abort()

    def _take(self, first: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        match first >> 4:
            case 1:
                self.packets.append(_connect(body))
                writer.write(bytes([0x20, 2, 0, 0]))
            case 3:
                packet, mid = _publish(first & 0x0F, body)
                self.packets.append(packet)
                if mid:
                    writer.write(bytes([0x40, 2]) + mid)
            case 8:
                asked = _subscribe(body)
                self.packets.append(asked)
                granted = bytes(qos for _, qos in asked.filters)
                writer.write(bytes([0x90, 2 + len(granted)]) + body[:2] + granted)
            case 10:
                writer.write(bytes([0xB0, 2]) + body[:2])
            case 12:
                writer.write(bytes([0xD0, 0]))
            case 14:
                self.packets.append(Disconnect())


def _length(size: int) -> bytes:
    out = bytearray()
    while True:
        size, low = divmod(size, 128)
        out.append(low | (0x80 if size else 0))
        if not size:
            return bytes(out)
