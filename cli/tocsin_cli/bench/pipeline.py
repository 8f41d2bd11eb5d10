"""`tocsin bench pipeline`: readings a second through broker, history and alarms at once, and how soon they alarm."""

import asyncio
import json
import sqlite3
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from math import inf, isfinite
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final, NamedTuple

import duckdb
import numpy as np
import typer
from nats.aio.client import Client
from nats.aio.msg import Msg
from rich.console import Console

from tocsin_cli.bench.pipeline_gateways import BIRTHS_S
from tocsin_cli.bench.pipeline_plant import GATEWAY_POINTS, LIMITS, SITE, Course, gateway_id
from tocsin_cli.bench.pipeline_victoria import MissingError, measure_victoria
from tocsin_cli.bench.programs import TOCSIN, cpu_s, last_line, program, until_listening
from tocsin_cli.demo.ports import free_port
from tocsin_cloud.adapters.stream import STREAM, connect, ensure_stream, to_subject
from tocsin_cloud.settings import StreamSettings
from tocsin_core.clock import Clock, SystemClock
from tocsin_core.sparkplug import Topic, parse_command

POINTS: Final = 440_000
SECONDS: Final = 60
ROLES: Final = ("historian", "alarms,notify", "api")
# Before anything is measured: the births are read, and the trends of the points have their windows.
WARM_S: Final = 10
WARM_POINTS_A_SECOND: Final = 20_000
# A plant of a million points takes minutes to be made and compiled.
START_MOST_S: Final = 300.0
START_POINTS_A_SECOND: Final = 200
# Who has everything committed so soon after the last message kept pace with them.
KEPT_PACE_S: Final = 1.0
CATCH_UP_MOST_S: Final = 300.0
# Listeners are told right after the commit.
HEAR_MOST_S: Final = 5.0
LOOK_S: Final = 0.05
GATEWAYS: Final = "gateways"
NS_PER_MS: Final = 1_000_000

Say = Callable[[str], None]


class Plan(NamedTuple):
    """How much is measured: gateways of 1,000 points, over so many seconds, after so many in which all is as later."""

    gateways: int
    warm_s: int
    seconds: int


@dataclass(slots=True)
class Heard:
    """What listeners are told: when (ns) each alarm was committed first, and which batch of each gateway is."""

    alarms: dict[str, int] = field(default_factory=dict)
    batches: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Bed:
    """What the benchmark runs on: its folder, its broker's client, the processes whose work is measured."""

    folder: Path
    clock: Clock
    client: Client
    broker: Process
    cloud: Mapping[str, Process]
    sender: Process
    heard: Heard

    @property
    def data(self) -> Path:
        """The data folder of the cloud side."""
        return self.folder / "data"

    def cpu_s(self) -> dict[str, float]:
        """Processor time that each process of the system, by its role, and the simulated gateways used until now."""
        processes = {"broker": self.broker, **self.cloud, GATEWAYS: self.sender}
        return {name: cpu_s(process.pid) for name, process in processes.items()}

    def check(self) -> None:
        """See that nothing has ended.

        Raises:
            RuntimeError: something has.
        """
        for process in (self.broker, self.sender, *self.cloud.values()):
            if process.returncode is not None:
                said = [f"{log.name}: {last_line(log)}" for log in sorted(self.folder.glob("*.log"))]
                raise RuntimeError(f"a process ended with code {process.returncode}; " + "; ".join(said))


async def _listen(client: Client, heard: Heard, clock: Clock) -> None:
    async def on_alarm(message: Msg) -> None:
        heard.alarms.setdefault(json.loads(message.data)["id"], clock.now_ns())

    async def on_command(message: Msg) -> None:
        batch = parse_command(message.data).committed
        if batch is not None:
            heard.batches[message.subject.rsplit(".", 1)[-1]] = batch

    await client.subscribe("tocsin.event.transition", cb=on_alarm)
    await client.subscribe(f"{to_subject(str(Topic(SITE, 'NCMD', '_'))).removesuffix('_')}*", cb=on_command)


@asynccontextmanager
async def _bed(folder: Path, gateways: int, roles: Sequence[str], clock: Clock, say: Say) -> AsyncIterator[Bed]:
    nats, mqtt, http = free_port(), free_port(), free_port()
    data = folder / "data"

    def python(module: str, *arguments: object) -> tuple[str, ...]:
        code = f"from tocsin_cli.bench.{module} import main; main()"
        return (sys.executable, "-c", code, *map(str, arguments))

    async with AsyncExitStack() as stack:
        run = stack.enter_async_context
        ports = ("--nats", f"127.0.0.1:{nats}", "--mqtt", f"127.0.0.1:{mqtt}")
        broker = await run(program(*TOCSIN, "broker", "--data", str(data), *ports, log=folder / "broker.log"))
        await until_listening(mqtt, clock, START_MOST_S)
        client = await connect(f"nats://127.0.0.1:{nats}", "bench")
        stack.push_async_callback(client.close)
        heard = Heard()
        await _listen(client, heard, clock)
        await ensure_stream(client, StreamSettings())
        say("the gateways make their messages")
        sending = python("pipeline_gateways", gateways, mqtt)
        sender = await run(program(*sending, log=folder / "gateways.log", talks=True))
        await _told(sender, folder)
        ticked = asyncio.Event()

        async def on_tick(_: Msg) -> None:
            ticked.set()

        await client.subscribe(f"tocsin.tick.{SITE}", cb=on_tick)
        say("the cloud side starts")
        cloud = {}
        for role in roles:
            arguments = (role, gateways, data, f"nats://127.0.0.1:{nats}", f"127.0.0.1:{http}", f"127.0.0.1:{mqtt}")
            cloud[role] = await run(program(*python("pipeline_cloud", *arguments), log=folder / f"{role}.log"))
        bed = Bed(folder, clock, client, broker, cloud, sender, heard)
        await _until(ticked.is_set, bed, START_MOST_S + gateways * GATEWAY_POINTS / START_POINTS_A_SECOND, "the start")
        # The interface renders the plant first, which is no part of what is measured.
        await until_listening(http, clock, START_MOST_S)
        yield bed


async def _told(sender: Process, folder: Path) -> dict[str, Any]:
    line = b"" if sender.stdout is None else await sender.stdout.readline()
    if not line:
        raise RuntimeError(f"the gateways ended: {last_line(folder / 'gateways.log')}")
    told: dict[str, Any] = json.loads(line)
    return told


async def _until(condition: Callable[[], bool], bed: Bed, most_s: float, what: str) -> None:
    deadline = bed.clock.monotonic() + most_s
    while not condition():
        bed.check()
        if bed.clock.monotonic() > deadline:
            raise TimeoutError(f"{what} took more than {most_s:g} s")
        await asyncio.sleep(LOOK_S)


def _alarms_position(data: Path) -> int:
    """How far in the stream what alarms came of is committed."""
    with closing(sqlite3.connect(f"file:{data / 'tocsin.sqlite'}?mode=ro", uri=True)) as database:
        row = database.execute("SELECT min(position) FROM worker").fetchone()
    return 0 if row[0] is None else int(row[0])


def _stored(data: Path, course: Course) -> int:
    """How many of the measured readings are in the history, each counted once."""
    begin_ns = course.due_ms(0, course.warm_s) * NS_PER_MS
    with duckdb.connect(str(data / "history.duckdb"), read_only=True) as database:
        row = database.execute(
            "SELECT count(*) FROM (SELECT DISTINCT point, time_ns FROM readings WHERE time_ns >= ? AND quality = 192)",
            [begin_ns],
        ).fetchone()
    return 0 if row is None else int(row[0])


def _raised(data: Path) -> list[str]:
    """The occurrences of limits that are in the database."""
    marks = ", ".join("?" * len(LIMITS))
    with closing(sqlite3.connect(f"file:{data / 'tocsin.sqlite'}?mode=ro", uri=True)) as database:
        rows = database.execute(f"SELECT id FROM occurrence WHERE kind IN ({marks})", [str(kind) for kind in LIMITS])  # noqa: S608 -- question marks
        return [row[0] for row in rows]


async def _caught_up(bed: Bed, course: Course) -> float | None:
    """Seconds from the last message until all is committed; None if that took too long."""
    begun = bed.clock.monotonic()
    last = (await bed.client.jsm().stream_info(STREAM)).state.last_seq
    batch = course.warm_s + course.seconds
    names = [gateway_id(number) for number in range(course.gateways)]
    try:
        await _until(lambda: all(bed.heard.batches.get(name, 0) >= batch for name in names), bed, CATCH_UP_MOST_S, "")
        await _until(lambda: _alarms_position(bed.data) >= last, bed, CATCH_UP_MOST_S, "")
    except TimeoutError:
        return None
    return bed.clock.monotonic() - begun


async def _measured(bed: Bed, plan: Plan, say: Say) -> tuple[Course, dict[str, Any]]:
    gateways, warm_s, seconds = plan
    begin_ms = bed.clock.now_ns() // NS_PER_MS + 1000 * BIRTHS_S + 200
    course = Course.of(gateways, warm_s, seconds, begin_ms)
    if bed.sender.stdin is None:
        raise RuntimeError("the gateways do not listen")
    bed.sender.stdin.write(json.dumps({"warm_s": warm_s, "seconds": seconds, "begin_ms": begin_ms}).encode() + b"\n")
    say(f"{gateways * GATEWAY_POINTS} points: {warm_s} s of running in")
    measured_ms = course.due_ms(0, warm_s)
    await _until(lambda: bed.clock.now_ns() >= measured_ms * NS_PER_MS, bed, 3600.0, "")
    used = bed.cpu_s()
    say(f"{gateways * GATEWAY_POINTS} points: {seconds} s of readings")
    sent = await _told(bed.sender, bed.folder)
    say("everything is committed")
    behind_s = await _caught_up(bed, course)
    await _heard(bed, course)
    used = {name: (until - used[name]) / sent["sent"] * 1e6 for name, until in bed.cpu_s().items()}
    if sent["lost_links"]:
        raise RuntimeError(f"the broker cut off {sent['lost_links']} gateways")
    took_s = seconds + (0.0 if behind_s is None or behind_s <= KEPT_PACE_S else behind_s)
    return course, {
        "points": gateways * GATEWAY_POINTS,
        "readings_per_second_sustained": 0 if behind_s is None else round(sent["sent"] / took_s),
        "latency_ms": latency(bed.heard, course),
        "alarms_unheard": len(course.expected().keys() - bed.heard.alarms.keys()),
        "readings_lost": sent["sent"],
        "cpu_seconds_per_million_readings": round(sum(used.values()) - used[GATEWAYS], 2),
        "cpu_by_process": {name: round(each, 2) for name, each in used.items()},
        "behind_s": behind_s,
        "gateways_late_p99_ms": round(sent["late_p99_ms"], 1),
    }


async def _heard(bed: Bed, course: Course) -> None:
    """Wait for the alarms that are committed and not yet told; one that is not told by then counts as never heard."""
    expected = course.expected().keys()
    with suppress(TimeoutError):
        await _until(lambda: expected <= bed.heard.alarms.keys(), bed, HEAR_MOST_S, "")


def latency(heard: Heard, course: Course) -> dict[str, float | None]:
    """From when a reading had to be sent to when listeners were told that what it raised is committed.

    One that was never heard took for ever: with it there is no 99 %, be it one of a thousand.
    """
    expected = course.expected()
    found = [heard.alarms.get(occurrence, inf) / NS_PER_MS - due_ms for occurrence, due_ms in expected.items()]
    p50 = float(np.percentile(found, 50, method="higher"))
    p99 = inf if inf in found else float(np.percentile(found, 99))
    return {name: round(each, 1) if isfinite(each) else None for name, each in (("p50", p50), ("p99", p99))}


async def measure(folder: Path, plan: Plan, clock: Clock, say: Say, roles: Sequence[str] = ROLES) -> dict[str, Any]:
    """Every figure of the benchmark, its files in `folder`, a process for each of `roles`; `say` hears what goes on."""
    async with _bed(folder, plan.gateways, roles, clock, say) as bed:
        course, found = await _measured(bed, plan, say)
    # What is there is counted when nobody works on it any more.
    raised, expected = _raised(folder / "data"), course.expected()
    found["readings_lost"] -= _stored(folder / "data", course)
    found["alarms_raised"], found["alarms_expected"] = len(raised), len(expected)
    found["alarms_wrong"] = len(expected.keys() ^ set(raised))
    return found


def _alternative(folder: Path, points: int, console: Console, say: Say) -> dict[str, Any] | None:
    try:
        return asyncio.run(measure_victoria(folder, points, SystemClock(), say))
    except MissingError as error:
        console.print(f"The alternative was not measured: {error}.")
        return None


def pipeline(
    *,
    points: Annotated[
        int, typer.Option(min=GATEWAY_POINTS, help="Points, each read once a second; a multiple of 1000.")
    ] = POINTS,
    seconds: Annotated[int, typer.Option(min=1, help="Seconds to measure over.")] = SECONDS,
    alternative: Annotated[
        bool, typer.Option("--alternative/--no-alternative", help="Measure VictoriaMetrics and vmalert too.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on the last line.")] = False,
) -> None:
    """Measure the cloud side whole: from MQTT into history and alarms, all on this machine."""
    if points % GATEWAY_POINTS:
        raise typer.BadParameter(f"{points} is no multiple of {GATEWAY_POINTS}")
    console = Console(stderr=True)
    with console.status("") as status, TemporaryDirectory(prefix="tocsin-bench-") as folder:
        plan = Plan(points // GATEWAY_POINTS, WARM_S + points // WARM_POINTS_A_SECOND, seconds)
        found = asyncio.run(measure(Path(folder), plan, SystemClock(), status.update))
        if alternative:
            found["alternative"] = _alternative(Path(folder), points, console, status.update)
    if as_json:
        typer.echo(json.dumps(found))
        return
    for key, value in found.items():
        typer.echo(f"{key.replace('_', ' ')}: {value}")
