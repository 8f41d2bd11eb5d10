"""What the cloud side's fault benchmark stands on: its plant, processes to be killed, and what is in their tables."""

import asyncio
import os
import signal
import sqlite3
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tocsin_cli.bench.faults_cloud_gateway import DEVICE, SETPOINT, SITE
from tocsin_cli.bench.programs import TOCSIN, end
from tocsin_cloud.settings import SQL_FILE

PERSON: Final = "anna"
AGAIN_S: Final = 0.3
ANSWERS: Final = b'"worker answers"'


def points_of(gateway: str, count: int) -> list[str]:
    """The points of a gateway."""
    return [f"{gateway}p{place}" for place in range(count)]


def write_plant(folder: Path, gateways: Sequence[str], points: int) -> None:
    """Write a plant of these gateways, of which nobody decides alarms but the cloud side."""
    folder.mkdir(parents=True)
    lines = ["tocsin: 1", f"site: {{id: {SITE}, name: faults}}"]
    lines += [f'people: [{{id: {PERSON}, name: {PERSON}, channels: ["outbox://{PERSON}"]}}]']
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
    """A process of the cloud side that is started again whenever it has ended, by a kill or by itself."""

    arguments: Sequence[str]
    log: Path
    password: str
    process: Process | None = None
    _begun: int = 0

    async def supervise(self) -> None:
        """Keep it running until cancelled."""
        while True:
            env = os.environ | {"TOCSIN_ADMIN_PASSWORD": self.password}
            with self.log.open("ab") as out:
                self._begun = out.tell()
                self.process = await asyncio.create_subprocess_exec(
                    *TOCSIN, *self.arguments, stdout=out, stderr=out, env=env
                )
            await self.process.wait()
            await asyncio.sleep(AGAIN_S)

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return None if self.process is None or self.process.returncode is not None else self.process.pid

    def kill(self) -> None:
        """Kill it with -9."""
        if self.pid is not None:
            os.kill(self.pid, signal.SIGKILL)

    def answers(self) -> bool:
        """Whether it runs and has said that it answers others: it works, or stands by."""
        if self.pid is None:
            return False
        with self.log.open("rb") as log:
            log.seek(self._begun)
            return ANSWERS in log.read()

    async def end(self) -> None:
        """Let it end, and make it end if it does not."""
        process = self.process
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGCONT)
        await end(process)


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


@asynccontextmanager
async def paused(pid: int) -> AsyncIterator[None]:
    """Have a process stand still meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@dataclass
class Tables:
    """The cloud side's SQL tables, looked into from beside."""

    data: Path

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """The answer to a query; nothing where there are no tables yet."""
        path = self.data / SQL_FILE
        if not path.exists():
            return []
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as tables:
            try:
                return tables.execute(query).fetchall()
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):
                    return []
                raise

    def leases(self) -> dict[str, tuple[str, int]]:
        """Holder and epoch of each role's lease."""
        return {name: (holder, epoch) for name, holder, epoch in self.rows("SELECT name, holder, epoch FROM lease")}

    def position(self) -> int:
        """How far the alarms worker has committed, in the stream's own time."""
        rows = self.rows("SELECT max(updated_ns) FROM worker")
        return int(rows[0][0] or 0) if rows else 0
