"""A small HTTP listener for figures, on a TCP port and on a socket in the gateway's folder, and the reader of it."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

SOCKET: Final = "status.sock"
LONGEST_HEAD: Final = 8192
PATIENCE_S: Final = 5.0
TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Page:
    """What is at a path: its content type, and what gives its text anew each time."""

    content_type: str
    text: Callable[[], str]


def port_socket(address: str) -> socket.socket:
    """Open a listening socket at HOST:PORT, or at a bare PORT of 127.0.0.1 (0: any that is free).

    Raises:
        ValueError: that is no address.
        OSError: it cannot be had.
    """
    host, _, port = address.rpartition(":")
    if not port.isdecimal():
        raise ValueError(f"{address!r} is neither PORT nor HOST:PORT")
    host = host.strip("[]") or "127.0.0.1"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, int(port)), family=family)


def folder_socket(folder: Path) -> socket.socket:
    """Open a listening socket in `folder`, for those who may write to it; the one of an earlier process gives way.

    Raises:
        OSError: it cannot be made.
    """
    (folder / SOCKET).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _short(folder) as name:
            listener.bind(name)
        # Whoever may write to the gateway's files may ask it, by owner or group.
        (folder / SOCKET).chmod(0o660)
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


@asynccontextmanager
async def serving(listeners: Sequence[socket.socket], pages: Mapping[str, Page]) -> AsyncIterator[None]:
    """Answer GET of `pages` on listening sockets until left; then they are closed."""
    loop = asyncio.get_running_loop()
    open_ones: set[asyncio.Transport] = set()
    servers = []
    for listener in listeners:
        make = loop.create_unix_server if listener.family == socket.AF_UNIX else loop.create_server
        servers.append(await make(lambda: _Exchange(pages, open_ones), sock=listener))
    try:
        yield
    finally:
        for server in servers:
            server.close()
        for transport in tuple(open_ones):
            transport.abort()


def ask(where: Path | str, path: str) -> str:
    """Get the text at `path` from the gateway whose folder, or HOST:PORT, is `where`; waits for 5 s at most.

    Raises:
        OSError: nobody answers there, or not as a gateway does.
    """
    with closing(_connected(where)) as connection:
        connection.settimeout(PATIENCE_S)
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: gateway\r\n\r\n".encode())
        pieces = []
        while piece := connection.recv(65536):
            pieces.append(piece)
    head, gap, body = b"".join(pieces).partition(b"\r\n\r\n")
    if not gap or b" 200 " not in head.split(b"\r\n")[0] + b" ":
        raise ConnectionError(f"{where} does not answer as a gateway does")
    return body.decode()


def _connected(where: Path | str) -> socket.socket:
    if isinstance(where, str):
        host, _, port = where.rpartition(":")
        return socket.create_connection((host.strip("[]") or "127.0.0.1", int(port)), PATIENCE_S)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _short(where) as name:
            connection.connect(name)
    except OSError:
        connection.close()
        raise
    return connection


@contextmanager
def _short(folder: Path) -> Iterator[str]:
    """Name the socket in `folder` by way of an open descriptor: a path may have 107 bytes only (unix(7))."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET}"
    finally:
        os.close(descriptor)


class _Exchange(asyncio.Protocol):
    """One connection: one question, one answer, and an end after 5 s whatever the other side does."""

    def __init__(self, pages: Mapping[str, Page], open_ones: set[asyncio.Transport]) -> None:
        self._pages = pages
        self._open_ones = open_ones
        self._head = b""
        self._answered = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._open_ones.add(self._transport)
        self._patience = asyncio.get_running_loop().call_later(PATIENCE_S, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        self._head += data
        if self._answered or (b"\r\n\r\n" not in self._head and len(self._head) <= LONGEST_HEAD):
            return
        self._answered = True
        self._transport.write(self._answer())
        self._transport.close()

    def connection_lost(self, _: Exception | None) -> None:
        self._patience.cancel()
        self._open_ones.discard(self._transport)

    def _answer(self) -> bytes:
        if b"\r\n\r\n" not in self._head:
            return _response("431 Request Header Fields Too Large", TEXT, "")
        words = self._head.split(b"\r\n", 1)[0].decode("latin-1").split()
        method, target = (*words, "", "")[:2]
        page = self._pages.get(target.partition("?")[0])
        if method not in ("GET", "HEAD"):
            return _response("405 Method Not Allowed", TEXT, "")
        if page is None:
            return _response("404 Not Found", TEXT, "".join(f"{name}\n" for name in self._pages))
        whole = _response("200 OK", page.content_type, page.text())
        return whole if method == "GET" else whole.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"


def _response(status: str, content_type: str, text: str) -> bytes:
    body = text.encode()
    lines = (
        f"HTTP/1.1 {status}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "Connection: close",
    )
    return "\r\n".join((*lines, "", "")).encode() + body
