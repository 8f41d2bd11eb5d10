"""`tocsin bench takeover`: how long nobody decides alarms when their worker is told to end, and when it is killed."""

import asyncio
import json
import signal
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final, NamedTuple

import typer
from rich.console import Console

from tocsin_cli.bench.candidates import Candidates
from tocsin_cli.bench.pipeline_bed import NS_PER_MS, Bed, Plan, Say, bed, start_most_s, until
from tocsin_cli.bench.pipeline_plant import GATEWAY_POINTS, LIMITS, SITE, Course
from tocsin_cloud.adapters.stream import STREAM
from tocsin_core.clock import Clock, SystemClock

POINTS: Final = 440_000
ROLES: Final = ("historian", "alarms")
FIRST, SECOND, THIRD = "alarms", "alarms-2", "alarms-3"
# The births are read, and the points' trends have their windows.
WARM_S: Final = 10
WARM_POINTS_A_SECOND: Final = 10_000
# The gateways read for so long at most: a worker that begins anew within that time takes longer with more points.
SECONDS: Final = 300
POINTS_A_SECOND: Final = 1_000
# Alarms of so long after the end of the former holder are looked at.
AFTER_S: Final = 10
MOST_S: Final = 120.0


class Standing(NamedTuple):
    """Who holds the lease of the alarms (a process id), and the stream's time (ns) up to which it has committed."""

    pid: int
    position: int
    committed_ns: int


def _standing(data: Path) -> Standing:
    with closing(sqlite3.connect(f"file:{data / 'tocsin.sqlite'}?mode=ro", uri=True)) as database:
        held = database.execute("SELECT holder FROM lease WHERE name = 'alarms'").fetchone()
        position, committed_ns = database.execute("SELECT max(position), max(updated_ns) FROM worker").fetchone()
    return Standing(int(held[0].split(":")[1]) if held and held[0] else 0, position or 0, committed_ns or 0)


@dataclass(frozen=True, slots=True)
class Story:
    """One run: what it is done to, what the gateways read, and who waits."""

    on: Bed
    course: Course
    candidates: Candidates

    async def stands_by(self, name: str) -> float:
        """Start a worker and wait until it follows the holder; returns how long that took, in s."""
        begun = self.on.clock.monotonic()
        await self.on.start("alarms", name)
        pid, most_s = self.on.cloud[name].pid, start_most_s(self.course.gateways)
        await until(lambda: self.candidates.follows("alarms", pid), self.on, most_s, "a candidate's reading up")
        return round(self.on.clock.monotonic() - begun, 1)

    def in_turn(self, *names: str) -> tuple[str, ...]:
        """Those processes, the one that holds the lease first: on a slow machine another one may have taken it."""
        holder = _standing(self.on.data).pid
        return tuple(sorted(names, key=lambda name: self.on.cloud[name].pid != holder))

    async def taken_over(self, before: str, after: str, number: signal.Signals) -> dict[str, Any]:
        """End the process `before` by a signal, and measure how long it takes `after` to decide, by phases."""
        clock, data, pid = self.on.clock, self.on.data, self.on.cloud[after].pid
        ended = self.on.cloud.pop(before)
        behind = self.candidates.behind.get(("alarms", pid))
        hit_s, hit_ns = clock.monotonic(), clock.now_ns()
        ended.send_signal(number)
        await until(lambda: _standing(data).pid == pid, self.on, MOST_S, "the lease's change")
        lease_s = clock.monotonic() - hit_s
        await until(lambda: _standing(data).committed_ns > hit_ns, self.on, MOST_S, "the next commit")
        decides_s = clock.monotonic() - hit_s
        code = await asyncio.wait_for(ended.wait(), MOST_S)
        await until(lambda: clock.now_ns() > hit_ns + AFTER_S * 1000 * NS_PER_MS, self.on, MOST_S, "")
        ready = _line(self._log(after), "alarms worker ready")
        if ready is None:
            raise RuntimeError(f"{after} has the alarms and does not say so")
        return {
            "exit_code": code,
            "behind_messages": behind,
            "takeover_s": round(decides_s, 2),
            "lease_s": round(lease_s, 2),
            "ready_s": round(datetime.fromisoformat(ready["timestamp"]).timestamp() - hit_ns / 1e9, 2),
            "replayed_messages": ready["replayed"],
            **{name: ready[name] for name in ("replayed_s", "reconciled_s", "told_s")},
            **self._alarms(hit_ns),
        }

    def _alarms(self, hit_ns: int) -> dict[str, Any]:
        """The alarms that were due within a while after the end of the holder, and the worst delay of one, in s."""
        end_ms = self.on.clock.now_ns() // NS_PER_MS
        due = {one: at_ms for one, at_ms in self.course.expected().items() if hit_ns // NS_PER_MS <= at_ms <= end_ms}
        heard = self.on.heard.alarms
        delays = [heard[one] / NS_PER_MS - at_ms for one, at_ms in due.items() if one in heard]
        return {"alarms_due": len(due), "worst_alarm_s": round(max(delays) / 1e3, 2) if delays else None}

    def _log(self, name: str) -> Path:
        return self.on.folder / f"{name}.log"

    async def settled(self) -> int:
        """Wait until all that the stream has now is decided; returns when that was, in ms."""
        last = (await self.on.client.jsm().stream_info(STREAM)).state.last_seq
        now_ms = self.on.clock.now_ns() // NS_PER_MS
        await until(lambda: _standing(self.on.data).position >= last, self.on, MOST_S, "the last decision")
        return now_ms


def _line(log: Path, event: str) -> dict[str, Any] | None:
    """The last line of a log that tells of `event`."""
    for line in reversed(log.read_text(encoding="utf-8").splitlines()):
        if f'"event": "{event}"' in line:
            told: dict[str, Any] = json.loads(line)
            return told
    return None


def counted(data: Path, course: Course, until_ms: int) -> dict[str, int]:
    """How the alarms of limits that were due until then are in the tables: lost, doubled, or never due."""
    marks = ", ".join("?" * len(LIMITS))
    query = (
        "SELECT transition.occurrence, count(*) FROM transition JOIN occurrence ON occurrence.id = occurrence "  # noqa: S608 -- question marks
        f"WHERE event = 'raise' AND kind IN ({marks}) GROUP BY transition.occurrence"
    )
    with closing(sqlite3.connect(f"file:{data / 'tocsin.sqlite'}?mode=ro", uri=True)) as database:
        raised: dict[str, int] = dict(database.execute(query, [str(kind) for kind in LIMITS]).fetchall())
    expected = course.expected()
    due = {one for one, at_ms in expected.items() if at_ms < until_ms}
    return {
        "alarms_expected": len(due),
        "alarms_lost": len(due - raised.keys()),
        "alarms_doubled": sum(count - 1 for count in raised.values()) + len(raised.keys() - expected.keys()),
    }


async def measure(folder: Path, points: int, clock: Clock, say: Say) -> dict[str, Any]:
    """Every figure of the benchmark, its files in `folder`; `say` hears what goes on."""
    gateways = points // GATEWAY_POINTS
    plan = Plan(gateways, WARM_S + points // WARM_POINTS_A_SECOND, SECONDS + points // POINTS_A_SECOND)
    async with bed(folder, gateways, ROLES, clock, say) as on:
        candidates = Candidates()
        await candidates.listen(on.client, SITE)
        # They begin before a second worker does: points that nobody reads for the minute it takes go stale.
        story = Story(on, await on.begin(plan), candidates)
        say(f"{points} points: {plan.warm_s} s of running in")
        warm_ms = story.course.due_ms(0, plan.warm_s)
        await until(lambda: clock.now_ns() >= warm_ms * NS_PER_MS, on, plan.warm_s + MOST_S, "")
        say("a second worker starts")
        await story.stands_by(SECOND)
        say("the worker is told to end")
        holder, waiting = story.in_turn(FIRST, SECOND)
        told = await story.taken_over(holder, waiting, signal.SIGTERM)
        say("a worker starts anew")
        standby_s = await story.stands_by(THIRD)
        say("the worker is killed")
        holder, waiting = story.in_turn(waiting, THIRD)
        killed = await story.taken_over(holder, waiting, signal.SIGKILL)
        if clock.now_ns() > story.course.due_ms(0, plan.warm_s + plan.seconds) * NS_PER_MS:
            raise RuntimeError("the gateways had ended before the worker was killed: this machine is too slow")
        until_ms = await story.settled()
    figures = {"points": points, "readings_per_second": points, "standby_after_s": standby_s}
    return figures | {"told_to_end": told, "killed": killed} | counted(on.data, story.course, until_ms)


def takeover(
    *,
    points: Annotated[
        int, typer.Option(min=GATEWAY_POINTS, help="Points, each read once a second; a multiple of 1000.")
    ] = POINTS,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on the last line.")] = False,
) -> None:
    """Measure how long nobody decides alarms when the worker ends, and what that time consists of."""
    if points % GATEWAY_POINTS:
        raise typer.BadParameter(f"{points} is no multiple of {GATEWAY_POINTS}")
    with Console(stderr=True).status("") as status, TemporaryDirectory(prefix="tocsin-bench-") as name:
        found = asyncio.run(measure(Path(name), points, SystemClock(), status.update))
    if as_json:
        typer.echo(json.dumps(found))
        return
    for key, value in found.items():
        typer.echo(f"{key.replace('_', ' ')}: {value}")
