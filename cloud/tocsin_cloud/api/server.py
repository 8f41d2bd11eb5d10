"""Runs the HTTP interface on a socket, and ends it promptly however many event streams are open."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final, NamedTuple

import uvicorn
from starlette.applications import Starlette

from tocsin_cloud.api.context import Api
from tocsin_cloud.settings import Address

GRACE_S: Final = 2
BACKLOG: Final = 256


class Listening(NamedTuple):
    """Where the server listens."""

    host: str
    port: int


class _Server(uvicorn.Server):
    """uvicorn, with its event streams ended first: it waits for open answers, and those never end by themselves."""

    def __init__(self, config: uvicorn.Config, api: Api | None) -> None:
        super().__init__(config)
        self._api = api
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._api is not None:
            self._api.end()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Signals belong to the program, which ends this server in its turn.
        yield


@asynccontextmanager
async def serving(app: Starlette, host: str, port: int) -> AsyncIterator[Listening]:
    """Serve `app` (that of `build_api`, or one without event streams) on host:port while the context is open.

    Port 0 takes a free one.

    Raises:
        OSError: the address cannot be listened on.
    """
    config = uvicorn.Config(
        app,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        ws="none",
    )
    server = _Server(config, getattr(app.state, "api", None))
    with _listen(host, port) as listener:
        bound = listener.getsockname()
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(server.serve(sockets=[listener]), name="api-server")
            listening = tasks.create_task(server.listening.wait(), name="api-listening")
            await asyncio.wait((running, listening), return_when=asyncio.FIRST_COMPLETED)
            if not server.started:
                # uvicorn logs what the lifespan raised, and says only by its flag that it gave up.
                listening.cancel()
                raise OSError("the HTTP interface could not start")
            try:
                yield Listening(bound[0], bound[1])
            finally:
                server.should_exit = True
                # Cancelled it would leave its connections open, and whoever asks on one of them an answer of before.
                await asyncio.wait([running])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"{error.strerror}: {Address(host, port)}, for the page") from error
    return listener
