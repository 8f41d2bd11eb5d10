"""What the gateway's tests stand on: a slave that misbehaves on command, a host that commits, and a small plant."""

import asyncio
import os
import signal
import sqlite3
import struct
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiomqtt
import numpy as np

from tocsin_cli.set_clock import PROGRAM
from tocsin_core.clock import SystemClock
from tocsin_core.journal import Entry, decode
from tocsin_core.readings import GOOD
from tocsin_core.sparkplug import Fed, HostSession, JournalPart, committed, journal_committed, rebirth
from tocsin_core.sparkplug.edge import Columns
from tocsin_core.sparkplug.payload import sent_ms

HEADER = struct.Struct(">HHHB")
# The clock at which the tests' own spools are new.
NEW_MS = 1_790_000_000_000


@dataclass
class Slave:
    """A Modbus TCP server: f32 value by unit at address 0 (ABCD), and what each unit does wrong."""

    value: dict[int, float]
    silent: set[int] = field(default_factory=set)
    exception: dict[int, int] = field(default_factory=dict)
    late_s: dict[int, float] = field(default_factory=dict)
    asked: list[int] = field(default_factory=list)
    asked_ns: list[int] = field(default_factory=list)
    echo_transaction: bool = True
    port: int = 0
    talks: set[asyncio.Task[None]] = field(default_factory=set)

    @asynccontextmanager
    async def serve(self) -> AsyncIterator["Slave"]:
        """Listen on a free port, or on the one it had before."""
        server = await asyncio.start_server(self._talk, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for talk in self.talks:
                talk.cancel()
            await asyncio.gather(*self.talks, return_exceptions=True)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        late: set[asyncio.Task[None]] = set()
        talk = asyncio.current_task()
        assert talk is not None
        self.talks.add(talk)
        try:
            while True:
                transaction, _, length, unit = HEADER.unpack(await reader.readexactly(7))
                question = await reader.readexactly(length - 1)
                self.asked.append(unit)
                self.asked_ns.append(SystemClock().now_ns())
                answer = self._answer(unit, question)
                if answer is None:
                    continue
                number = transaction if self.echo_transaction else 0
                frame = HEADER.pack(number, 0, len(answer) + 1, unit) + answer
                wait = self.late_s.get(unit, 0.0)
                late.add(asyncio.create_task(_write_later(writer, frame, wait)))
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            self.talks.discard(talk)
        finally:
            for task in late:
                task.cancel()
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    def _answer(self, unit: int, question: bytes) -> bytes | None:
        if unit in self.silent:
            return None
        function, _, count = struct.unpack(">BHH", question)
        if unit in self.exception:
            return bytes([function | 0x80, self.exception[unit]])
        registers = struct.pack(">f", self.value[unit]).ljust(2 * count, b"\x00")[: 2 * count]
        return bytes([function, len(registers)]) + registers


async def _write_later(writer: asyncio.StreamWriter, frame: bytes, wait: float) -> None:
    await asyncio.sleep(wait)
    writer.write(frame)


@dataclass
class Link:
    """A TCP link to a port of 127.0.0.1 that can be cut and mended."""

    to: int
    port: int = 0
    whole: bool = True
    _ends: set[asyncio.Task[None]] = field(default_factory=set)

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Link"]:
        """Carry connections until left."""
        server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            await self.cut()

    async def cut(self) -> None:
        """Break what is connected, and refuse more until `whole` is set again."""
        self.whole = False
        for end in self._ends:
            end.cancel()
        await asyncio.gather(*self._ends, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._ends.add(task)
        outward: asyncio.StreamWriter | None = None
        try:
            if self.whole:
                inward, outward = await asyncio.open_connection("127.0.0.1", self.to)
                async with asyncio.TaskGroup() as both:
                    both.create_task(_pump(reader, outward))
                    both.create_task(_pump(inward, writer))
        except (asyncio.CancelledError, ExceptionGroup, ConnectionError):
            self._ends.discard(task)
        finally:
            for end in (writer, outward):
                if end is not None:
                    end.transport.abort()
                    with suppress(ConnectionError):
                        await end.wait_closed()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(65536):
        writer.write(chunk)
        await writer.drain()
    raise ConnectionResetError


@dataclass
class Host:
    """A Sparkplug host that keeps what it hears and, if it `commits`, acknowledges without holes."""

    port: int
    node: str = "gw"
    commits: bool = True
    session: HostSession = field(init=False)
    points: dict[str, int] = field(default_factory=dict)
    readings: dict[tuple[int, int], tuple[float, int]] = field(default_factory=dict)
    fed: list[Fed] = field(default_factory=list)
    delay_s: list[float] = field(default_factory=list)
    sent_s: list[float] = field(default_factory=list)
    """When each message was sent, by its sender: this host may be far behind on a busy machine."""
    batches: set[int] = field(default_factory=set)
    floor: int = 0
    journal: dict[int, bytes] = field(default_factory=dict)
    journal_floor: int = 0
    clashes: int = 0
    """How often a journal number came with another entry than before."""
    _client: aiomqtt.Client | None = None

    def __post_init__(self) -> None:
        """Number the metrics as they come."""
        self.session = HostSession(
            lambda _group, _node, _device, metric: self.points.setdefault(metric, len(self.points))
        )

    @asynccontextmanager
    async def listen(self) -> AsyncIterator["Host"]:
        """Hear everything of the broker until left."""
        async with aiomqtt.Client("127.0.0.1", self.port) as client:
            await client.subscribe("spBv1.0/#", qos=1)
            self._client = client
            hearing = asyncio.create_task(self._hear(client))
            try:
                yield self
            finally:
                # Python 3.11 swallows a cancellation that meets a wait_for just done: it is repeated until heeded.
                while not hearing.done():
                    hearing.cancel()
                    await asyncio.wait((hearing,), timeout=0.5)
                with suppress(asyncio.CancelledError, aiomqtt.MqttError):
                    await hearing

    async def command(self, payload: bytes) -> None:
        """Send the gateway an NCMD."""
        assert self._client is not None
        await self._client.publish(f"spBv1.0/site/NCMD/{self.node}", payload)

    @property
    def entries(self) -> list[Entry]:
        """The journal as it was heard, in order."""
        return [decode(self.journal[number]) for number in sorted(self.journal)]

    async def _heed_journal(self, told: JournalPart, now_ns: int) -> None:
        if told.oldest is not None:
            self.journal_floor = max(self.journal_floor, told.oldest - 1)
        for number, body in enumerate(told.entries, told.first or 0):
            self.clashes += self.journal.setdefault(number, body) != body
        while self.journal_floor + 1 in self.journal:
            self.journal_floor += 1
        if self.commits:
            await self.command(journal_committed(self.journal_floor, now_ns // 1_000_000))

    async def _hear(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            if "/NCMD/" in str(message.topic):
                continue
            now_ns = SystemClock().now_ns()
            fed = self.session.feed(str(message.topic), message.payload, now_ns)
            self.fed.append(fed)
            self.sent_s.append((sent_ms(message.payload) or 0) / 1e3)
            self.delay_s.append((now_ns - int(fed.frame.time_ns.max(initial=0))) / 1e9)
            command = f"spBv1.0/site/NCMD/{self.node}"
            if fed.rebirth:
                await client.publish(command, rebirth(now_ns // 1_000_000))
            if fed.oldest_batch is not None:
                self.floor = max(self.floor, fed.oldest_batch - 1)
            if fed.journal is not None:
                await self._heed_journal(fed.journal, now_ns)
            if fed.batch is None:
                continue
            for point, time_ns, value, quality in zip(
                fed.frame.point.tolist(),
                fed.frame.time_ns.tolist(),
                fed.frame.value.tolist(),
                fed.frame.quality.tolist(),
                strict=True,
            ):
                self.readings[point, time_ns] = (value, quality)
            self.batches.add(fed.batch)
            while self.floor + 1 in self.batches:
                self.floor += 1
            if self.commits:
                await client.publish(command, committed(self.floor, now_ns // 1_000_000))

    @property
    def first(self) -> int:
        """The first number that a new gateway gave out; its first birth was heard."""
        return next(fed.oldest_batch for fed in self.fed if fed.oldest_batch is not None)

    def of(self, metric: str) -> list[tuple[int, float, int]]:
        """Get the (time_ns, value, quality) of a metric in the order of time."""
        wanted = self.points.get(metric)
        return sorted((time_ns, *reading) for (point, time_ns), reading in self.readings.items() if point == wanted)

    def kinds(self) -> list[str]:
        """Get the kinds of message heard, in order."""
        return [fed.kind for fed in self.fed]


def plant(folder: Path, mqtt: int, devices: Mapping[str, str], extra: str = "") -> Path:
    """Write a plant of one gateway, `gw` of `site`; `devices` gives each device's lines after its id."""
    lines = [
        "tocsin: 1",
        "site: {id: site, name: site}",
        "gateways:",
        "  - id: gw",
        f"    uplink: {{host: 127.0.0.1, port: {mqtt}}}",
        f"    sensors: {{host: 127.0.0.1, port: {mqtt}}}",
        *([extra] if extra else []),
        "    devices:",
    ]
    for name, text in devices.items():
        lines.append(f"      - id: {name}")
        lines += [f"        {line}" for line in text.splitlines()]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plant.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def modbus_device(name: str, port: int, unit: int = 1, period_ms: int = 200, timeout_ms: int = 100) -> str:
    """Write the lines of a device with one f32 point of its name, 0 to 1000 bar."""
    return (
        f"profile: tocsin-word-orders\nperiod_ms: {period_ms}\n"
        f"modbus: {{host: 127.0.0.1, port: {port}, unit: {unit}, timeout_ms: {timeout_ms}, retries: 0}}\n"
        f"points:\n  - {{id: {name}, name: {name}, kind: generic, register: f32_abcd, unit: bar, range: [0, 1000]}}"
    )


def nth(place: int) -> int:
    """Give the number of the batch or journal entry at a place, from 1, in a spool new at `NEW_MS`."""
    return NEW_MS + place


def run(first: int, last: int) -> list[int]:
    """List the numbers of a run of places."""
    return list(range(nth(first), nth(last) + 1))


def one_reading(time_ms: int, value: float, quality: int = GOOD) -> Columns:
    """Make columns of one reading of a device's first metric."""
    return Columns(
        np.array([0], dtype=np.int64),
        np.array([time_ms], dtype=np.int64),
        np.array([value], dtype=np.float64),
        np.array([quality], dtype=np.uint8),
    )


def wide(readings: int, time_ms: int) -> Columns:
    """Make columns of which nothing can be packed but their time: 17 bytes a reading."""
    noise = np.random.default_rng(1)
    return Columns(
        noise.integers(0, 2**63, readings),
        np.full(readings, time_ms),
        noise.normal(size=readings),
        noise.integers(0, 256, readings, np.uint8),
    )


def plain(columns: Columns, start: int = 0) -> bytes:
    """Write columns as versions did that packed nothing, under a checksum that begins with `start`."""
    body = struct.pack("<I", len(columns)) + columns.metric.astype("<u2").tobytes()
    body += columns.time_ms.tobytes() + columns.value.tobytes() + columns.quality.tobytes()
    if columns.unsynchronised_ms is not None:
        body += struct.pack("<Q", columns.unsynchronised_ms)
    return body + struct.pack("<I", zlib.crc32(body, start))


class Gateway:
    """A real `tocsin edge` process."""

    def __init__(self, folder: Path, data: Path, *more: str, clock: Path | None = None) -> None:
        """Start nothing yet; `more` are further arguments of the verb; `clock` is the file of a clock that is set."""
        self._command = [sys.executable, "-c", "from tocsin_cli.main import main; main()"]
        self._command += ["edge", str(folder), "--gateway", "gw", "--data", str(data), *more]
        if clock is not None:
            self._command = [*PROGRAM, str(folder), "gw", str(data), str(clock), "60"]
        self.spool = data / "gateways" / "gw" / "spool.sqlite"
        self.log = data / "edge.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; its log goes to `log`."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stderr=log, stdout=log)

    def end(self, with_signal: signal.Signals) -> int:
        """Send it a signal and give its exit code."""
        assert self._process is not None
        os.kill(self._process.pid, with_signal)
        return self._process.wait(30)

    def stop(self) -> None:
        """Make sure that it is gone."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def counters(self) -> dict[str, int]:
        """Read the spool's counters as another process does."""
        if not self.spool.exists():
            return {}
        with closing(sqlite3.connect(f"file:{self.spool}?mode=ro", uri=True)) as database:
            try:
                return dict(database.execute("SELECT name, value FROM counters"))
            except sqlite3.OperationalError as error:
                # The gateway has just made the file, and nothing in it yet.
                if "no such table" in str(error):
                    return {}
                raise

    def kept(self) -> set[int]:
        """Read the numbers of all batches in the spool."""
        with closing(sqlite3.connect(f"file:{self.spool}?mode=ro", uri=True)) as database:
            return {row[0] for row in database.execute("SELECT number FROM batches")}
