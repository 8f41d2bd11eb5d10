"""The alternative of the pipeline benchmark: the same readings and rules on VictoriaMetrics with vmalert."""

import asyncio
import shutil
from asyncio.subprocess import Process
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np

from tocsin_cli.bench.pipeline_plant import GATEWAY_POINTS, Course, point_id
from tocsin_cli.bench.programs import cpu_s, last_line, program, until_listening
from tocsin_cli.demo.ports import free_port
from tocsin_core.clock import Clock

NAME: Final = "VictoriaMetrics and vmalert, each second"
HOST: Final = "127.0.0.1"
FIRST_POINTS: Final = 10_000
WARM_S: Final = 8
SECONDS: Final = 12
MOST_ROUNDS: Final = 8
# A next try aims at rounds that take this part of their second, and is at most so much larger.
AIM: Final = 0.9
MOST_LARGER: Final = 3.0
FINEST: Final = 1.1

# The seven rules of `synthetic.block` as far as MetricsQL expresses them: no deadbands, no confidence, no lifecycle.
RULES: Final = (
    ("HH", "{m} > 90"),
    ("H", "{m} > 80"),
    ("L", "{m} < 20"),
    ("LL", "{m} < 10"),
    ("rate", "abs(deriv({m}[60s])) * 60 > 30"),
    ("time_to_limit", "predict_linear({m}[60s], 180) > 80 and {m} < 80"),
    ("stale", "lag({m}[1m]) > 10"),
)
Say = Callable[[str], None]


class MissingError(RuntimeError):
    """The programs of the alternative are not installed."""


@dataclass(frozen=True, slots=True)
class Round:
    """What one size came to; `busy_s` is how long an evaluation of all rules took."""

    points: int
    kept_pace: bool
    busy_s: float
    cpu_seconds_per_million_readings: float


def _rules(metric: str) -> str:
    lines = ["groups:", "  - name: plant", "    interval: 1s", "    concurrency: 2", "    rules:"]
    for name, expression in RULES:
        lines += [f"      - alert: {name}", f"        expr: '{expression.format(m=metric)}'"]
    return "\n".join(lines) + "\n"


def _body(labels: list[str], values: list[float], time_ms: int) -> bytes:
    """Readings in the lines of InfluxDB: of the formats that it reads the one that its makers recommend for speed."""
    end = f" {time_ms}000000\n"
    return "".join(f"{label}{value}{end}" for label, value in zip(labels, values, strict=True)).encode()


async def _feed(course: Course, metric: str, url: str, clock: Clock) -> float:
    """Send all readings when they are due, one request a gateway and second; how late they were taken (ms, p99)."""
    labels = [
        [f"{metric},point={point_id(gateway * GATEWAY_POINTS + n)} value=" for n in range(GATEWAY_POINTS)]
        for gateway in range(course.gateways)
    ]
    late_ms: list[float] = []
    async with httpx.AsyncClient(base_url=url, timeout=30.0) as client, asyncio.TaskGroup() as tasks:

        async def send(gateway: int, second: int, body: bytes) -> None:
            (await client.post("/write", content=body)).raise_for_status()
            if second >= course.warm_s:
                late_ms.append(clock.now_ns() / 1e6 - course.due_ms(gateway, second))

        for second in range(course.warm_s + course.seconds):
            for gateway in range(course.gateways):
                due_ms = course.due_ms(gateway, second)
                body = _body(labels[gateway], course.values(gateway, second).tolist(), due_ms)
                await asyncio.sleep(max(0.0, due_ms / 1e3 - clock.now_ns() / 1e9))
                tasks.create_task(send(gateway, second, body))
    return float(np.percentile(late_ms, 99))


async def _figures(port: int) -> dict[str, float]:
    """The figures of vmalert itself, each summed over its labels."""
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"http://{HOST}:{port}/metrics")).text
    found: dict[str, float] = {}
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        if not line.startswith("#") and name and "quantile=" not in name:
            key = name.partition("{")[0]
            found[key] = found.get(key, 0.0) + float(value)
    return found


async def _take_alerts(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Be told of alarms, as Alertmanager is: to do so over HTTP is part of what vmalert does."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n")[0]))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    except (asyncio.IncompleteReadError, OSError):
        writer.close()


@dataclass(frozen=True, slots=True)
class _Bed:
    """VictoriaMetrics as it runs: its folder, its process, its address."""

    folder: Path
    clock: Clock
    store: Process
    url: str
    listener: str


async def _round(bed: _Bed, number: int, points: int) -> Round:
    """Feed so many points for a while, under a name that no earlier round used."""
    metric, port = f"r{number}", free_port()
    rules = bed.folder / f"{metric}.yml"
    rules.write_text(_rules(f"{metric}_value"), encoding="utf-8")
    arguments = [
        f"-rule={rules}", f"-datasource.url={bed.url}", f"-remoteWrite.url={bed.url}", "-evaluationInterval=1s",
        "-datasource.queryStep=5s", f"-notifier.url={bed.listener}", f"-httpListenAddr={HOST}:{port}",
    ]  # fmt: skip
    course = Course.of(points // GATEWAY_POINTS, WARM_S, SECONDS, bed.clock.now_ns() // 1_000_000 + 2000)
    async with program(_found("vmalert"), *arguments, log=bed.folder / "vmalert.log") as judge:
        feeding = asyncio.create_task(_feed(course, metric, bed.url, bed.clock))
        begin_s = course.due_ms(0, course.warm_s) / 1e3
        await asyncio.sleep(begin_s - bed.clock.now_ns() / 1e9)
        if judge.returncode is not None:
            raise RuntimeError(f"vmalert ended: {last_line(bed.folder / 'vmalert.log')}")
        used, before = cpu_s(bed.store.pid) + cpu_s(judge.pid), await _figures(port)
        late_ms = await feeding
        after = await _figures(port)
        used = cpu_s(bed.store.pid) + cpu_s(judge.pid) - used

    def grown(figure: str) -> float:
        return after.get(f"vmalert_{figure}", 0.0) - before.get(f"vmalert_{figure}", 0.0)

    rounds = grown("iteration_duration_seconds_count")
    faults = grown("iteration_missed_total") + grown("execution_errors_total")
    kept_pace = faults == 0 and rounds >= SECONDS - 1 and late_ms < 1000.0  # noqa: PLR2004 -- the interval
    busy_s = grown("iteration_duration_seconds_sum") / max(1.0, rounds)
    return Round(points, kept_pace, busy_s, used / (points * SECONDS) * 1e6)


def _found(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise MissingError(f"{name} is not installed (Debian: victoria-metrics)")
    return path


async def measure_victoria(folder: Path, most: int, clock: Clock, say: Say) -> dict[str, Any]:
    """The most points (at most `most`) that it keeps pace with, to a tenth; None where the programs are missing.

    Pace is kept where every second all rules are evaluated on all points, and no reading waits for a second.

    Raises:
        MissingError: its programs are not installed.
    """
    port = free_port()
    arguments = [
        f"-storageDataPath={folder / 'store'}", f"-httpListenAddr={HOST}:{port}", "-search.latencyOffset=0s",
        "-search.maxUniqueTimeseries=10000000", "-retentionPeriod=1d",
    ]  # fmt: skip
    good: Round | None = None
    bad = most + 1
    points = min(FIRST_POINTS, most)
    async with program(_found("victoria-metrics"), *arguments, log=folder / "victoria.log") as store:
        await until_listening(port, clock)
        async with await asyncio.start_server(_take_alerts, HOST, 0) as listener:
            place = f"http://{HOST}:{listener.sockets[0].getsockname()[1]}"
            bed = _Bed(folder, clock, store, f"http://{HOST}:{port}", place)
            for number in range(MOST_ROUNDS):
                say(f"VictoriaMetrics and vmalert: {points} points")
                found = await _round(bed, number, points)
                if found.kept_pace:
                    good = found
                else:
                    bad = points
                wanted = next_size(found, good, bad, most)
                if wanted is None:
                    break
                points = wanted
    return {
        "name": NAME,
        "readings_per_second_sustained": 0 if good is None else good.points,
        "cpu_seconds_per_million_readings": None if good is None else round(good.cpu_seconds_per_million_readings, 2),
    }


def next_size(found: Round, good: Round | None, bad: int, most: int) -> int | None:
    """The size to try next, at most `most`: between the largest that went `good` and the smallest that went `bad`.

    None when that is near enough.
    """
    least = 0 if good is None else good.points
    if bad <= max(FINEST * least, least + GATEWAY_POINTS) or least == most:
        return None
    if good is None:
        wanted = found.points / 2
    elif found.kept_pace:
        wanted = found.points * max(FINEST, min(MOST_LARGER, AIM / max(found.busy_s, 0.01)))
    else:
        wanted = (least + bad) / 2
    if bad <= most:
        wanted = min(wanted, (bad + least) / 2)
    return max(1, round(min(wanted, most) / GATEWAY_POINTS)) * GATEWAY_POINTS
