"""What the tests of the sending side stand on beside the rig: slow and deaf links, gateways under limits or in here."""

import asyncio
import resource
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.edge.rig import Gateway
from tocsin_core.clock import SystemClock
from tocsin_core.plant import load_plant
from tocsin_edge import app
from tocsin_edge.settings import EdgeSettings, compile_settings

# PR_CAPBSET_DROP of CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH (linux/prctl.h, linux/capability.h).
WITHOUT_OVERRIDE = """
import ctypes, os, sys
for capability in (1, 2):
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""

# A gateway to which nothing that it writes to its spool is answered while a file is there; it waits half a second.
HANGING = """
import sys, time
from contextlib import contextmanager
from pathlib import Path
from tocsin_edge.adapters.spool import Spool
from tocsin_edge.loops import spool_thread
spool_thread.DISK_PATIENCE_S = 0.5
hang, writing, sync = Path(sys.argv.pop(1)), Spool._writing, Spool._sync
def answer():
    while hang.exists():
        time.sleep(0.05)
@contextmanager
def written(self, **how):
    with writing(self, **how):
        yield
    answer()
def synced(self):
    sync(self)
    answer()
Spool._writing, Spool._sync = written, synced
from tocsin_cli.main import main
main()
"""


class HangingGateway(Gateway):
    """A real gateway process whose disk hangs while the file `hang` is there: what it writes is done, and not told."""

    def __init__(self, folder: Path, data: Path) -> None:
        """Start nothing yet."""
        super().__init__(folder, data)
        self.hang = folder.parent / "hang"
        self._command = [sys.executable, "-c", HANGING, str(self.hang), *self._command[3:]]


class LimitedGateway(Gateway):
    """A real gateway process whose files may be kept from growing, as on a full disk."""

    def limit(self, size: int = resource.RLIM_INFINITY) -> None:
        """Let no file of it be written beyond `size` bytes from now on."""
        assert self._process is not None
        resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


class UnprivilegedGateway(Gateway):
    """A real gateway process for which files are what their modes say, also where the tests run as root."""

    def __init__(self, folder: Path, data: Path) -> None:
        """Start nothing yet."""
        super().__init__(folder, data)
        self._command = [sys.executable, "-c", WITHOUT_OVERRIDE, *self._command]


@dataclass
class SlowLink:
    """A TCP link to a port of 127.0.0.1 that carries so many bytes a second outward, with hardly a buffer.

    `bytes_per_s` may be changed while it carries.
    """

    to: int
    bytes_per_s: int
    port: int = 0
    _carrying: set[asyncio.Task[None]] = field(default_factory=set)

    @asynccontextmanager
    async def open(self) -> AsyncIterator["SlowLink"]:
        """Carry connections until left."""
        with socket.socket() as listening:
            # What the kernel would hold ready for us is no part of the link; connections take the size over.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            listening.bind(("127.0.0.1", 0))
            server = await asyncio.start_server(self._carry, sock=listening, limit=1024)
            self.port = listening.getsockname()[1]
            try:
                yield self
            finally:
                server.close()
                for each in self._carrying:
                    each.cancel()
                await asyncio.gather(*self._carrying)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        carrying = asyncio.current_task()
        assert carrying is not None
        self._carrying.add(carrying)
        inward, outward = await asyncio.open_connection("127.0.0.1", self.to)
        with suppress(ConnectionError, ExceptionGroup, asyncio.CancelledError):
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(reader, outward, paced=True))
                both.create_task(self._pump(inward, writer, paced=False))
        for end in (writer, outward):
            end.transport.abort()
        for end in (writer, outward):
            # The link may be left just as a connection ends by itself.
            with suppress(ConnectionError, asyncio.CancelledError):
                await end.wait_closed()
        self._carrying.discard(carrying)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, paced: bool) -> None:
        while chunk := await reader.read(1024):
            if paced:
                await asyncio.sleep(len(chunk) / self.bytes_per_s)
            writer.write(chunk)
            await writer.drain()
        raise ConnectionResetError


# An MQTT packet's kind is in its first four bits (MQTT 3.1.1, 2.2.1).
PUBLISH = 0x30


class ForgetfulLink(SlowLink):
    """One over which the broker's first messages with `word` in them, `most`, do not come, as `lost` counts."""

    word = b"/STATE/"
    most = 1
    lost = 0

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, paced: bool) -> None:
        while not paced:
            packet = await reader.readexactly(2)
            while packet[-1] & 0x80:
                packet += await reader.readexactly(1)
            length = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(packet[1:]))
            packet += await reader.readexactly(length)
            if packet[0] & 0xF0 == PUBLISH and self.word in packet and self.lost < self.most:
                self.lost += 1
            else:
                writer.write(packet)
        await super()._pump(reader, writer, paced=paced)


@dataclass
class DeafLink:
    """A TCP link whose connections can turn half-open: both ends think that they stand, and nothing comes through."""

    to: int
    port: int = 0
    _deaf: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def open(self) -> AsyncIterator["DeafLink"]:
        """Carry connections until left."""
        server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    def turn_deaf(self) -> None:
        """Swallow from now on whatever comes by the connections that there are; new ones are whole."""
        self._deaf.set()
        self._deaf = asyncio.Event()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        deaf = self._deaf
        inward, outward = await asyncio.open_connection("127.0.0.1", self.to)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while chunk := await source.read(65536):
                if not deaf.is_set():
                    sink.write(chunk)
                    await sink.drain()
            raise ConnectionResetError

        with suppress(ConnectionError, ExceptionGroup, asyncio.CancelledError):
            async with asyncio.TaskGroup() as both:
                both.create_task(pump(reader, outward))
                both.create_task(pump(inward, writer))
        for end in (writer, outward):
            end.transport.abort()


@asynccontextmanager
async def gateway_here(plant: Path, data: Path, uplink: int) -> AsyncIterator[EdgeSettings]:
    """Run the gateway `gw` of `plant` in this process, its uplink at the port `uplink` of 127.0.0.1."""
    stop = asyncio.Event()
    settings = compile_settings(load_plant(plant), "gw", data, f"127.0.0.1:{uplink}")
    running = asyncio.create_task(app.run(settings, SystemClock(), stop))
    try:
        yield settings
    finally:
        stop.set()
        await running
