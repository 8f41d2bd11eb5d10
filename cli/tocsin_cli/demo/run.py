"""One run of the demo from its first process to its last: starts it, shows it, ends it, and tells what came of it."""

import asyncio
import secrets
import signal
import sqlite3
from collections.abc import Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import httpx
from rich.console import Console
from rich.live import Live

from tocsin_cli.demo import report, screen
from tocsin_cli.demo.client import ApiClient
from tocsin_cli.demo.plan import Options, Specs, own_gateways, specs
from tocsin_cli.demo.processes import Supervisor, SupervisorError
from tocsin_cli.demo.report import Evidence, SpoolCount
from tocsin_core.clock import Clock
from tocsin_core.plant import Plant

USER: Final = "admin"
READY_S: Final = 60.0
SETTLE_S: Final = 10.0
STOPPED_S: Final = 0.5  # the same after Ctrl-C: everything ends within 5 seconds
REFRESH_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class How:
    """How the run is watched, when it ends by itself, and whether it ends with a report."""

    headless: bool
    seconds: float | None
    report: bool


def password_of(data: Path) -> str:
    """The demo's own administrator password: made once and kept beside its data, readable by its owner alone."""
    path = data / "admin-password"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(9), encoding="utf-8")
    return path.read_text(encoding="utf-8")


def spool_counts(plant: Plant, data: Path) -> list[SpoolCount]:
    """What each gateway's spool counts; zeros where it has none yet."""
    counts = []
    for name in own_gateways(plant):
        path = data / "gateways" / name / "spool.sqlite"
        rows: dict[str, int] = {}
        if path.exists():
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as spool:
                rows = dict(spool.execute("SELECT name, value FROM counters"))
        counts.append(
            SpoolCount(
                rows.get("readings_polled", 0), rows.get("readings_committed", 0), rows.get("readings_dropped", 0)
            )
        )
    return counts


class Run:
    """One run of the demo."""

    def __init__(self, plant: Plant, options: Options, how: How, console: Console, clock: Clock) -> None:
        """Nothing is started yet."""
        self.plant = plant
        self.options = options
        self.how = how
        self.console = console
        self.clock = clock
        self.specs: Specs = specs(plant, options)
        self.view = screen.View()
        self.stop = asyncio.Event()
        self._address = "http://{}:{}/".format(*options.http)

    async def run(self) -> report.Row:
        """Run until the time is up or somebody ends it; returns the report.

        Raises:
            SupervisorError: a process cannot be kept alive.
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self.stop.set)
        before = spool_counts(self.plant, self.options.data)
        started_at = (
            datetime.fromtimestamp(self.clock.now_ns() / 1e9, tz=UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z")
        )
        async with AsyncExitStack() as stack:
            supervisor = await stack.enter_async_context(Supervisor(self.options.data / "logs", self.clock))
            api = ApiClient(self._address, USER, password_of(self.options.data), self.clock)
            stack.push_async_callback(api.close)
            starting = asyncio.create_task(self._start(supervisor, api), name="start")
            if not await self._unless_stopped(starting):
                return {}
            stored_before = await self._stored(api)
            await supervisor.start(self.specs.plant)
            for spec in self.specs.gateways:
                await supervisor.start(spec)
            await self._watch(supervisor, api)
            await supervisor.stop_all([spec.name for spec in self.specs.gateways])
            if not self.how.report:
                return {}
            return await self._conclude(supervisor, api, before, stored_before, started_at)

    async def _start(self, supervisor: Supervisor, api: ApiClient) -> None:
        self.console.print("starting the broker and the cloud side …", style="dim")
        await supervisor.start(self.specs.broker)
        await supervisor.start(self.specs.cloud)
        await supervisor.start(self.specs.page)
        await self._until_ready(supervisor, api)
        login = f"user [bold]{USER}[/]   password [bold]{password_of(self.options.data)}[/]"
        self.console.print(f"the page: [bold cyan underline]{self._address}[/]   {login}")

    async def _until_ready(self, supervisor: Supervisor, api: ApiClient) -> None:
        deadline = self.clock.monotonic() + READY_S
        while not await api.ready():
            self._check(supervisor)
            if self.clock.monotonic() > deadline:
                raise SupervisorError(f"the cloud side was not ready within {READY_S:.0f} s; see {supervisor.logs}")
            await asyncio.sleep(0.1)

    async def _unless_stopped(self, work: asyncio.Task[None]) -> bool:
        """Wait for `work`; somebody who ends the demo meanwhile ends the wait too (then False)."""
        stopped = asyncio.create_task(self.stop.wait(), name="stopped")
        await asyncio.wait((work, stopped), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not work.done():
            work.cancel()
            return False
        work.result()
        return True

    def _check(self, supervisor: Supervisor) -> None:
        if supervisor.failed.done():
            raise SupervisorError(supervisor.failed.result())

    async def _stored(self, api: ApiClient) -> int:
        return sum(int(row["readings"]) for row in await api.get("gateways"))

    async def _watch(self, supervisor: Supervisor, api: ApiClient) -> None:
        end = None if self.how.seconds is None else self.clock.monotonic() + self.how.seconds
        login = f"{USER} / {password_of(self.options.data)}"
        head = screen.Head(self._address, login, ZoneInfo(self.plant.site.timezone))
        with Live(console=self.console, auto_refresh=False, transient=False) as live:
            while not self.stop.is_set() and (end is None or self.clock.monotonic() < end):
                self._check(supervisor)
                await self._look(api)
                if not self.how.headless:
                    live.update(screen.render(head, list(supervisor.processes.values()), self.view), refresh=True)
                left = REFRESH_S if end is None else min(REFRESH_S, max(0.0, end - self.clock.monotonic()))
                await self._pause(left)

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self.stop.wait(), seconds)
        except TimeoutError:
            return

    async def _look(self, api: ApiClient) -> None:
        """Ask the cloud side for what the screen shows; while it is down the screen says so."""
        try:
            self.view.kpi = await api.get("kpi")
            self.view.alarms = await api.get("alarms", state="all", limit=screen.ROWS)
            self.view.tickets = await api.get("tickets", state="open")
            self.view.notifications = await api.get("notifications", limit=10)
        except httpx.HTTPError:
            self.view.silent = True
        else:
            self.view.silent = False

    async def _settled(self, api: ApiClient) -> tuple[list[SpoolCount], int]:
        """Wait a while until what the gateways sent is stored; the spools' counts, and the readings stored."""
        deadline = self.clock.monotonic() + (STOPPED_S if self.stop.is_set() else SETTLE_S)
        while True:
            after = spool_counts(self.plant, self.options.data)
            stored = await self._stored(api)
            if stored >= sum(count.committed for count in after) or self.clock.monotonic() > deadline:
                return after, stored
            await asyncio.sleep(0.1)

    async def _conclude(
        self, supervisor: Supervisor, api: ApiClient, before: Sequence[SpoolCount], stored_before: int, started_at: str
    ) -> report.Row:
        await self._until_ready(supervisor, api)
        after, stored = await self._settled(api)
        kpi = await api.get("kpi", since=started_at)
        evidence = Evidence(
            started_at=started_at,
            points=len(self.plant.points),
            gateways=len(self.specs.gateways),
            before=before,
            after=after,
            stored_before=stored_before,
            stored_after=stored,
            alarms=await api.get("alarms", state="all", limit=1000),
            tickets=await api.get("tickets", state="all"),
            notifications=await api.get("notifications", limit=1000),
            latency_ms=kpi["latency_ms"],
            restarts=sum(process.restarts for process in supervisor.processes.values()),
        )
        return report.build(evidence)
