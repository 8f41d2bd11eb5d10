"""One run of the demo from its first process to its last: starts it, shows it, ends it, and tells what came of it."""

import asyncio
import secrets
import signal
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import httpx
from rich.console import Console
from rich.live import Live

from tocsin_cli.demo import report, screen
from tocsin_cli.demo.client import ApiClient
from tocsin_cli.demo.plan import Options, Specs, own_gateways, specs
from tocsin_cli.demo.ports import accepts, instruments
from tocsin_cli.demo.processes import Supervisor, SupervisorError
from tocsin_cli.demo.report import Evidence, SpoolCount
from tocsin_core.clock import Clock
from tocsin_core.plant import Plant

USER: Final = "admin"
READY_S: Final = 60.0
SETTLE_S: Final = 10.0
ANSWER_S: Final = 15.0
STOPPED_S: Final = 0.5  # the same after Ctrl-C: everything ends within 5 seconds
REFRESH_S: Final = 1.0
HEARTBEAT_S: Final = 10.0  # a run without a screen says this often how it goes


@dataclass(frozen=True, slots=True)
class How:
    """How the run is watched, when it ends by itself, whether with a report, and who is told that all of it listens."""

    headless: bool
    seconds: float | None
    report: bool
    started: Callable[[], None]


def password_of(data: Path) -> str:
    """The demo's own administrator password: made once and kept beside its data, readable by its owner alone."""
    path = data / "admin-password"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(9), encoding="utf-8")
    return path.read_text(encoding="utf-8")


def spool_counts(plant: Plant, data: Path, stored_to: Mapping[str, int]) -> list[SpoolCount]:
    """What each gateway's spool counts; zeros where it has none yet.

    `stored_to` gives, by gateway, the batch up to which the historian has everything: what the spool keeps above it
    waits. Its own mark of what is committed would not do: an acknowledgement can be lost when the reading is not.
    """
    counts = []
    for name in own_gateways(plant):
        path = data / "gateways" / name / "spool.sqlite"
        if not path.exists():
            counts.append(SpoolCount(0, 0))
            continue
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as spool:
            polled = spool.execute("SELECT value FROM counters WHERE name = 'readings_polled'").fetchone()
            kept = "SELECT coalesce(sum(readings), 0) FROM batches WHERE committed_ms IS NULL AND number > ?"
            waiting = spool.execute(kept, (stored_to.get(name, 0),)).fetchone()
        counts.append(SpoolCount(0 if polled is None else polled[0], waiting[0]))
    return counts


@dataclass(frozen=True, slots=True)
class Stored:
    """What the historian has of our gateways: readings in all, and by gateway the batch up to which none is missing."""

    readings: int
    up_to: Mapping[str, int]


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
            before = spool_counts(self.plant, self.options.data, stored_before.up_to)
            starting = asyncio.create_task(self._start_plant(supervisor), name="start plant")
            if not await self._unless_stopped(starting):
                return {}
            self.how.started()
            await self._watch(supervisor, api)
            await supervisor.stop_all([spec.name for spec in self.specs.gateways])
            if not self.how.report:
                return {}
            await self._until_ready(supervisor, api)
            return await self._conclude(supervisor, api, before, stored_before.readings, started_at)

    async def _start(self, supervisor: Supervisor, api: ApiClient) -> None:
        self.console.print("starting the broker and the cloud side …", style="dim")
        await supervisor.start(self.specs.broker)
        await supervisor.start(self.specs.cloud)
        await supervisor.start(self.specs.page)
        await self._until_ready(supervisor, api)
        login = f"user [bold]{USER}[/]   password [bold]{password_of(self.options.data)}[/]"
        self.console.print(f"the page: [bold cyan underline]{self._address}[/]   {login}")

    async def _start_plant(self, supervisor: Supervisor) -> None:
        """Start the plant, and the gateways once its instruments can be reached: else they would begin with faults."""
        await supervisor.start(self.specs.plant)
        deadline = self.clock.monotonic() + READY_S
        for address in instruments(self.plant):
            while not await asyncio.to_thread(accepts, address):
                self._check(supervisor)
                if self.clock.monotonic() > deadline:
                    raise SupervisorError(f"no instrument answers at {address}; see {supervisor.logs}")
                await asyncio.sleep(0.05)
        for spec in self.specs.gateways:
            await supervisor.start(spec)

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

    async def _ask(self, api: ApiClient, path: str, **query: str | int) -> Any:  # noqa: ANN401 -- the resource's JSON
        """One resource, asked for again while the cloud side does not answer.

        Raises:
            SupervisorError: it does not answer for `ANSWER_S`.
        """
        deadline = self.clock.monotonic() + ANSWER_S
        while True:
            try:
                return await api.get(path, **query)
            except httpx.HTTPError as error:
                if self.clock.monotonic() > deadline:
                    raise SupervisorError(f"the cloud side does not answer: {error!r}") from error
            await asyncio.sleep(0.2)

    async def _stored(self, api: ApiClient) -> Stored:
        own = own_gateways(self.plant)
        rows = [row for row in await self._ask(api, "gateways") if row["id"] in own]
        return Stored(sum(int(row["readings"]) for row in rows), {row["id"]: int(row["committed"]) for row in rows})

    async def _alarms(self, api: ApiClient, since: str) -> list[report.Row]:
        """Every alarm raised since then, however many there are."""
        found: dict[str, report.Row] = {}
        query: dict[str, str] = {}
        while True:
            page: list[report.Row] = await self._ask(api, "alarms", state="all", limit=1000, **query)
            fresh = [row for row in page if row["id"] not in found and row["raised_at"] >= since]
            if not fresh:
                return list(found.values())
            found |= {row["id"]: row for row in fresh}
            query = {"before": min(row["raised_at"] for row in page)}

    async def _watch(self, supervisor: Supervisor, api: ApiClient) -> None:
        end = None if self.how.seconds is None else self.clock.monotonic() + self.how.seconds
        login = f"{USER} / {password_of(self.options.data)}"
        head = screen.Head(self._address, login, ZoneInfo(self.plant.site.timezone))
        heartbeat = self.clock.monotonic() + HEARTBEAT_S
        with Live(console=self.console, auto_refresh=False, transient=False) as live:
            while not self.stop.is_set() and (end is None or self.clock.monotonic() < end):
                self._check(supervisor)
                await self._look(api)
                if not self.how.headless:
                    live.update(
                        screen.render(head, list(supervisor.processes.values()), self.view, self.console.height),
                        refresh=True,
                    )
                elif self.clock.monotonic() >= heartbeat:
                    heartbeat += HEARTBEAT_S
                    self.console.print(screen.numbers(self.view), style="dim", highlight=False)
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
            self.view.points = await api.get("points")
            self.view.alarms = await api.get("alarms", state="all", limit=self.console.height)
            self.view.tickets = await api.get("tickets", state="open")
            self.view.notifications = await api.get("notifications", limit=10)
        except httpx.HTTPError:
            self.view.silent = True
        else:
            self.view.silent = False

    async def _settled(self, api: ApiClient) -> tuple[list[SpoolCount], int]:
        """Wait a while until nothing waits in the spools; their counts, and the readings stored."""
        deadline = self.clock.monotonic() + (STOPPED_S if self.stop.is_set() else SETTLE_S)
        while True:
            stored = await self._stored(api)
            after = spool_counts(self.plant, self.options.data, stored.up_to)
            waiting = sum(count.waiting for count in after)
            if stored.readings + waiting >= sum(count.polled for count in after) and not waiting:
                return after, stored.readings
            if self.clock.monotonic() > deadline:
                return after, stored.readings
            await asyncio.sleep(0.1)

    async def _conclude(
        self, supervisor: Supervisor, api: ApiClient, before: Sequence[SpoolCount], stored_before: int, started_at: str
    ) -> report.Row:
        after, stored = await self._settled(api)
        evidence = Evidence(
            started_at=started_at,
            points=len(self.plant.measured),
            gateways=len(self.specs.gateways),
            before=before,
            after=after,
            stored_before=stored_before,
            stored_after=stored,
            alarms=await self._alarms(api, started_at),
            tickets=await self._ask(api, "tickets", state="all"),
            notifications=await self._ask(api, "notifications", limit=1000),
            latency_ms=(await self._ask(api, "kpi", since=started_at))["latency_ms"],
            restarts=sum(process.restarts for process in supervisor.processes.values()),
        )
        return report.build(evidence)
