"""A small HTTP listener for figures, on a TCP port, and for commands too on a socket in the folder, and its client."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, cast

SOCKET: Final = "status.sock"
LONGEST_HEARD: Final = 8192
OK: Final = 200
BAD_REQUEST: Final = 400
PATIENCE_S: Final = 5.0
TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Page:
    """What is at a path: its content type, and what gives its text anew each time."""

    content_type: str
    text: Callable[[], str]


Action = Callable[[bytes], Awaitable[str]]
"""What is done at a path with the body of a POST; gives JSON, and raises ValueError for a body that is none of its."""


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
async def serving(
    listeners: Sequence[socket.socket], pages: Mapping[str, Page], actions: Mapping[str, Action]
) -> AsyncIterator[None]:
    """Answer GET of `pages` on listening sockets until left; then they are closed.

    `actions` are for those who may write to the gateway's folder: POST is answered on its socket alone.
    """
    loop = asyncio.get_running_loop()
    open_ones: set[asyncio.Transport] = set()
    servers = []
    for listener in listeners:
        if listener.family == socket.AF_UNIX:
            make = partial(_Exchange, pages, actions, open_ones)
            servers.append(await loop.create_unix_server(make, sock=listener))
        else:
            servers.append(await loop.create_server(partial(_Exchange, pages, {}, open_ones), sock=listener))
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
    status, body = _exchanged(where, f"GET {path} HTTP/1.0\r\nHost: gateway\r\n\r\n".encode())
    if status != OK:
        raise ConnectionError(f"{where} does not answer as a gateway does")
    return body


def tell(folder: Path, path: str, body: str) -> str:
    """Have the gateway whose folder is `folder` do what `body` says; gives what came of it, waits for 5 s at most.

    Raises:
        OSError: nobody answers there, or not as a gateway does.
        ValueError: the gateway does not understand it, for the reason given.
    """
    data = body.encode()
    head = f"POST {path} HTTP/1.0\r\nHost: gateway\r\nContent-Length: {len(data)}\r\n\r\n"
    status, answer = _exchanged(folder, head.encode() + data)
    if status == BAD_REQUEST:
        raise ValueError(answer.strip())
    if status != OK:
        raise ConnectionError(f"{folder} does not answer as a gateway does")
    return answer


def _exchanged(where: Path | str, question: bytes) -> tuple[int, str]:
    """Say `question`, and give the status and the body of the answer; 0 where it is none."""
    with closing(_connected(where)) as connection:
        connection.settimeout(PATIENCE_S)
        connection.sendall(question)
        pieces = []
        while piece := connection.recv(65536):
            pieces.append(piece)
    head, gap, body = b"".join(pieces).partition(b"\r\n\r\n")
    words = head.split(b"\r\n")[0].split()
    known = gap and len(words) > 1 and words[0].startswith(b"HTTP/") and words[1].isdigit()
    return (int(words[1]), body.decode(errors="replace")) if known else (0, "")


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

    def __init__(
        self, pages: Mapping[str, Page], actions: Mapping[str, Action], open_ones: set[asyncio.Transport]
    ) -> None:
        self._pages = pages
        self._actions = actions
        self._open_ones = open_ones
        self._heard = b""
        self._answered = False
        self._acting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._open_ones.add(self._transport)
        self._patience = asyncio.get_running_loop().call_later(PATIENCE_S, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        self._heard += data
        if self._answered:
            return
        head, gap, body = self._heard.partition(b"\r\n\r\n")
        if not gap or len(body) < _length(head):
            if len(self._heard) <= LONGEST_HEARD:
                return
            self._end(_response("431 Request Header Fields Too Large", TEXT, ""))
            return
        words = head.split(b"\r\n", 1)[0].decode("latin-1").split()
        method, target = (*words, "", "")[:2]
        path = target.partition("?")[0]
        action = self._actions.get(path)
        if method == "POST" and action is not None:
            self._answered = True
            self._acting = asyncio.get_running_loop().create_task(self._act(action, body), name=f"POST {path}")
        else:
            self._end(self._answer(method, path))

    def connection_lost(self, _: Exception | None) -> None:
        self._patience.cancel()
        self._open_ones.discard(self._transport)

    def _end(self, answer: bytes) -> None:
        self._answered = True
        self._transport.write(answer)
        self._transport.close()

    async def _act(self, action: Action, body: bytes) -> None:
        try:
            answer = _response("200 OK", JSON, await action(body))
        except ValueError as error:
            answer = _response("400 Bad Request", TEXT, f"{error}\n")
        self._end(answer)

    def _answer(self, method: str, path: str) -> bytes:
        page = self._pages.get(path)
        if method not in ("GET", "HEAD"):
            return _response("405 Method Not Allowed", TEXT, "")
        if page is None:
            return _response("404 Not Found", TEXT, "".join(f"{name}\n" for name in self._pages))
        whole = _response("200 OK", page.content_type, page.text())
        return whole if method == "GET" else whole.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"


def _length(head: bytes) -> int:
    """How many bytes of a body the head announces."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and value.strip().isdigit():
            return int(value)
    return 0


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
