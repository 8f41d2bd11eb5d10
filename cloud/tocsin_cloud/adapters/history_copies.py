"""The history's process copies its store for whoever may write to the data folder: a socket there, and its client."""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import structlog

from tocsin_cloud.adapters.history import History, HistoryError

SOCKET: Final = "history.sock"

log = structlog.get_logger()


@asynccontextmanager
async def copying(history: History, data: Path) -> AsyncIterator[None]:
    """Copy `history` into whichever folder is asked for at the socket in `data`, while the context lasts.

    Raises:
        OSError: the socket cannot be made.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            folder = Path(json.loads(await reader.readline()))
            log.info("history is copied", to=str(folder))
            try:
                await history.copy(folder)
            except HistoryError as error:
                log.error("history not copied", reason=str(error))  # noqa: TRY400 -- the message is the reason
                writer.write(json.dumps(str(error)).encode())
            else:
                writer.write(b'""')
            await writer.drain()
        except (OSError, ValueError) as error:
            log.warning("history copy: who asked went, or asked nothing", reason=str(error) or repr(error))
        finally:
            writer.close()

    server = await asyncio.start_unix_server(answer, sock=_listener(data))
    try:
        yield
    finally:
        server.close()
        (data / SOCKET).unlink(missing_ok=True)


def ask_for_copy(data: Path, folder: Path) -> bool:
    """Have the process that has the history of `data` copy it into `folder`; False if there is no such process.

    Raises:
        HistoryError: it could not, or ended before it was done.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            with _short(data) as name:
                connection.connect(name)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        try:
            connection.sendall(json.dumps(str(folder.resolve())).encode() + b"\n")
            said = b"".join(iter(lambda: connection.recv(65536), b""))
            refusal = str(json.loads(said))
        except (OSError, ValueError) as error:
            raise HistoryError(f"the process that has the history ended: {str(error) or repr(error)}") from error
    if refusal:
        raise HistoryError(refusal)
    return True


def _listener(data: Path) -> socket.socket:
    # One process has the history: what an earlier one left behind gives way.
    (data / SOCKET).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _short(data) as name:
            listener.bind(name)
        (data / SOCKET).chmod(0o600)
    except OSError:
        listener.close()
        raise
    return listener


@contextmanager
def _short(data: Path) -> Iterator[str]:
    """Name the socket in `data` by way of an open descriptor: a path may have 107 bytes only (unix(7))."""
    descriptor = os.open(data, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET}"
    finally:
        os.close(descriptor)
