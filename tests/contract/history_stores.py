"""The time-series stores that the suite of the History port runs on, and how a test starts, stops and asks them."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from uuid import uuid4

from tests.support.need import need_program
from tests.support.ports import free_port
from tests.support.wait import eventually
from tocsin_cloud.adapters.history import History
from tocsin_cloud.adapters.history_duckdb import DuckdbHistory
from tocsin_cloud.adapters.history_open import FILE, open_history
from tocsin_cloud.adapters.history_victoria import VictoriaHistory
from tocsin_cloud.settings import HistoryAddress
from tocsin_core.clock import SystemClock
from tocsin_core.readings import Frame
from tocsin_core.rules import NS

INFLUX_URL: Final = "TOCSIN_TEST_INFLUX_URL"
INFLUX_PLACE: Final = ("TOCSIN_TEST_INFLUX_ORG", "TOCSIN_TEST_INFLUX_BUCKET")
FLAGS: Final = ("-retentionPeriod=100y", "-dedup.minScrapeInterval=1ms")


class AheadClock:
    """The machine's clock, of which the monotonic side can be put ahead."""

    def __init__(self) -> None:
        """Run with the machine's clock."""
        self._clock = SystemClock()
        self.ahead_s = 0.0

    def now_ns(self) -> int:
        """Return the wall clock."""
        return self._clock.now_ns()

    def monotonic(self) -> float:
        """Return the monotonic seconds, with what they were put ahead."""
        return self._clock.monotonic() + self.ahead_s


def no_need() -> None:
    """Everything that is committed can be read at once."""


@dataclass
class Store:
    """A history that a test may open as often as it likes, with names of points that are the test's own."""

    address: str
    folder: Path
    # Has the server show what was committed; it would by itself, some seconds later.
    show: Callable[[], None] = no_need
    clock: AheadClock = field(default_factory=AheadClock)
    # For DuckDB: how early readings move on to roll-ups.
    least_chunk_rows: int | None = None
    # For VictoriaMetrics: whether each commit is rolled up before the next comes.
    rolled: bool = False
    prefix: str = field(default_factory=lambda: uuid4().hex[:8])

    async def open(self) -> History:
        """Open it."""
        if self.least_chunk_rows is not None:
            return await DuckdbHistory.open(self.folder / FILE, self.least_chunk_rows)
        if self.rolled:
            history = await RolledVictoria.open(HistoryAddress.parse(self.address), self.folder, self.clock)
            history.store = self
            return history
        return await open_history(HistoryAddress.parse(self.address), self.folder, self.clock)

    def point(self, name: str) -> str:
        """The id of a point of this test."""
        return f"{self.prefix} {name}"

    def tell(self, *stories: Callable[[History], Awaitable[None]]) -> None:
        """Run each story on the store, which is closed and opened again between them."""

        async def run() -> None:
            for story in stories:
                history = await self.open()
                try:
                    await story(history)
                finally:
                    await history.close()

        asyncio.run(run())


class RolledVictoria(VictoriaHistory):
    """A history on VictoriaMetrics whose every commit comes late, after the roll-up of all before it."""

    store: Store

    async def commit(self, frame: Frame, state: Mapping[str, bytes]) -> None:
        """Commit, and roll up at once what it is about."""
        await super().commit(frame, state)
        await roll_up(self, self.store)


async def roll_up(history: History, store: Store) -> None:
    """Have the store do all the work that long trends ask for; no time passes but on its clock."""
    store.clock.ahead_s += 1000
    while True:
        store.show()
        await history.durable()
        if not await history.tend():
            return
        store.clock.ahead_s += 60


def show(address: str) -> None:
    """Have the VictoriaMetrics at `address` show what it was given."""
    with urllib.request.urlopen(f"http://{HistoryAddress.parse(address).hosts[0]}/internal/force_flush"):
        pass


class Victoria:
    """A VictoriaMetrics server of the Debian package, on one port and one folder over all its lives."""

    def __init__(self, folder: Path, *flags: str) -> None:
        """Start nothing yet."""
        self._folder = folder
        self._flags = flags or FLAGS
        self._program = need_program("victoria-metrics")
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._began_s = 0

    @property
    def address(self) -> str:
        """Its address as `--history` takes it."""
        return f"victoriametrics://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it answers; in another second than before, for it tells its start in whole ones."""
        eventually(lambda: SystemClock().now_ns() // NS > self._began_s + 1)
        self._began_s = SystemClock().now_ns() // NS
        command = [self._program, f"-storageDataPath={self._folder}", f"-httpListenAddr=127.0.0.1:{self.port}"]
        self._process = subprocess.Popen([*command, *self._flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually(self._answers)

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it by a signal; at once, unless told otherwise."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()
            self._process = None

    def show(self) -> None:
        """Have it show what it was given."""
        show(self.address)

    def get(self, resource: str) -> str:
        """What it answers to a GET."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{resource}") as answer:
            text: str = answer.read().decode()
        return text

    def series(self) -> list[dict[str, str]]:
        """The labels of all that it shows."""
        return [json.loads(line)["metric"] for line in self.get("/api/v1/export?match[]={point!=%22%22}").splitlines()]

    def _answers(self) -> bool:
        try:
            return self.get("/health") == "OK"
        except (urllib.error.URLError, ConnectionError):
            return False


@contextmanager
def victoria(folder: Path, *flags: str) -> Iterator[Victoria]:
    """Run a VictoriaMetrics server."""
    server = Victoria(folder, *flags)
    server.start()
    try:
        yield server
    finally:
        server.end()
        shutil.rmtree(folder, ignore_errors=True)


def influx_address() -> str | None:
    """The address of the InfluxDB that the run was given, or None; its token is where `tocsin cloud` looks for it."""
    url = os.environ.get(INFLUX_URL)
    if not url:
        return None
    scheme, _, host = url.rstrip("/").partition("://")
    secure = "+https" if scheme == "https" else ""
    return f"influxdb{secure}://{host}/" + "/".join(os.environ[name] for name in INFLUX_PLACE)
