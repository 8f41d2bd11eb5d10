"""The flood of the pipeline benchmark: 10,000 alarms in one second, and what people at the page notice of it."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np

from tocsin_cli.bench.faults_cloud_bed import Sql
from tocsin_cli.bench.pipeline_bed import NS_PER_MS, PASSWORD, ROLES, Bed, Plan, Say, bed, told, until
from tocsin_cli.bench.pipeline_plant import GATEWAY_POINTS
from tocsin_core.clock import Clock

# Every point raises one alarm of a limit, and what its rate and its trend raise besides.
PLAN: Final = Plan(gateways=10, warm_s=12, seconds=6)
WATCH_MOST_S: Final = 60.0
PATIENCE_S: Final = 30.0
# As programs ask; the page asks for all alarms, and once.
LISTS: Final = ("alarms?limit=1000", "kpi")
BETWEEN_S: Final = 0.5
AGAIN_S: Final = 0.1
BUSY: Final = (httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.GATEWAY_TIMEOUT)


@dataclass(slots=True)
class Noticed:
    """What clients of the interface got: the time of each answer (ms) by path, when (ns) the stream told each alarm."""

    answers_ms: dict[str, list[float]] = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=dict)
    # How often the stream ended, or told of a gap: a reader then has to read everything anew.
    ended: int = 0
    acknowledged_ms: float | None = None
    # Commands that were not answered in time: a person presses again.
    refused: int = 0


async def _ask(client: httpx.AsyncClient, path: str, noticed: Noticed, clock: Clock) -> None:
    while True:
        begun = clock.monotonic()
        (await client.get(path)).raise_for_status()
        noticed.answers_ms.setdefault(path, []).append(1e3 * (clock.monotonic() - begun))
        await asyncio.sleep(BETWEEN_S)


async def _listen(client: httpx.AsyncClient, noticed: Noticed, clock: Clock) -> None:
    while True:
        async with client.stream("GET", "events") as answer:
            if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
                # The worker has only just begun: who is refused comes back.
                await asyncio.sleep(AGAIN_S)
                continue
            answer.raise_for_status()
            kind = ""
            async for line in answer.aiter_lines():
                name, _, rest = line.partition(": ")
                if name == "event":
                    kind = rest
                elif name == "data" and kind == "reset":
                    noticed.ended += 1
                elif name == "data" and kind == "transitions":
                    now_ns = clock.now_ns()
                    for alarm in json.loads(rest):
                        noticed.events.setdefault(alarm["id"], now_ns)
        noticed.ended += 1


async def _acknowledge(client: httpx.AsyncClient, on: Bed, expected: Sequence[str], noticed: Noticed) -> None:
    """Answer an alarm of the flood as soon as one is there."""
    await until(lambda: any(one in on.heard.alarms for one in expected), on, WATCH_MOST_S, "the first alarm")
    first = next(one for one in expected if one in on.heard.alarms)
    begun = on.clock.monotonic()
    while (answer := await client.post(f"alarms/{first}/ack")).status_code in BUSY:
        noticed.refused += 1
    # What was not answered in time may have been carried out all the same.
    if not (noticed.refused and answer.status_code == httpx.codes.CONFLICT):
        answer.raise_for_status()
    noticed.acknowledged_ms = 1e3 * (on.clock.monotonic() - begun)


async def _watched(on: Bed, client: httpx.AsyncClient, expected: Sequence[str], begin_ns: int) -> Noticed:
    """Look at everything from `begin_ns` on, until all of the `expected` are told everywhere."""
    noticed, wanted = Noticed(), set(expected)
    async with asyncio.TaskGroup() as tasks:
        looking = [tasks.create_task(_listen(client, noticed, on.clock))]
        await until(lambda: on.clock.now_ns() >= begin_ns, on, WATCH_MOST_S, "the running in")
        looking += [tasks.create_task(_ask(client, path, noticed, on.clock)) for path in LISTS]
        answering = tasks.create_task(_acknowledge(client, on, expected, noticed))
        with suppress(TimeoutError):
            await until(lambda: wanted <= on.heard.alarms.keys() & noticed.events.keys(), on, WATCH_MOST_S, "")
            await until(answering.done, on, PATIENCE_S, "")
        for task in (*looking, answering):
            task.cancel()
    return noticed


def _within_s(times_ns: dict[str, int], expected: Sequence[str], begin_ns: int) -> float | None:
    """Seconds until the last of the `expected` was told; None where one never was."""
    if not times_ns.keys() >= set(expected):
        return None
    return round(max(times_ns[one] - begin_ns for one in expected) / 1e9, 2)


async def measure_flood(
    folder: Path, clock: Clock, say: Say, plan: Plan = PLAN, roles: Sequence[str] = ROLES, sql: Sql = Sql.SQLITE
) -> dict[str, Any]:
    """What becomes of a flood in which every point raises an alarm within one second; files go into `folder`."""
    async with bed(folder, plan.gateways, roles, clock, say, sql) as on:
        say(f"{plan.gateways * GATEWAY_POINTS} alarms in a second")
        async with httpx.AsyncClient(base_url=f"{on.page}/api/v1/", timeout=PATIENCE_S) as client:
            answer = await client.post("session", json={"user": "admin", "password": PASSWORD})
            client.headers["Authorization"] = f"Bearer {answer.raise_for_status().json()['token']}"
            course = await on.begin(plan, flood=True)
            expected, begin_ns = list(course.expected()), course.due_ms(0, plan.warm_s) * NS_PER_MS
            noticed = await _watched(on, client, expected, begin_ns)
        await told(on.sender, on.folder)
        p99 = {path: round(float(np.percentile(each, 99)), 1) for path, each in noticed.answers_ms.items()}
        return {
            "alarms": len(expected),
            "committed": sum(one in on.heard.alarms for one in expected),
            "committed_within_s": _within_s(on.heard.alarms, expected, begin_ns),
            "events_heard": sum(one in noticed.events for one in expected),
            "events_within_s": _within_s(noticed.events, expected, begin_ns),
            "streams_ended": noticed.ended,
            "alarms_request_p99_ms": p99.get(LISTS[0]),
            "kpi_request_p99_ms": p99.get(LISTS[1]),
            "commands_refused": noticed.refused,
            "acknowledged_ms": None if noticed.acknowledged_ms is None else round(noticed.acknowledged_ms, 1),
        }
