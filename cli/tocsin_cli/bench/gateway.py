"""`tocsin bench gateway`: what a real gateway process costs on a steady plant, and how fast it drains a backlog."""

import asyncio
import json
import os
import sys
import tempfile
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Final

import numpy as np
import typer
from rich.console import Console

from tocsin_cli.bench.gateway_host import Host
from tocsin_cli.bench.programs import (
    END_S,
    TOCSIN,
    cpu_s,
    last_line,
    program,
    until_listening,
    with_compiled_files,
)
from tocsin_cli.demo.ports import free_port
from tocsin_cloud.adapters import nats_server
from tocsin_core.clock import Clock, SystemClock
from tocsin_core.readings import GOOD
from tocsin_core.sparkplug.edge import Columns
from tocsin_edge.adapters.metrics_spool import spool_figures
from tocsin_edge.adapters.spool import Spool

LINES: Final = 4
UNITS: Final = 5
POINTS: Final = 50
PERIOD_S: Final = 1.0
BAUD: Final = 19_200
WARM_S: Final = 8.0
STEADY_S: Final = 30
STARTS: Final = 3
LOOK_S: Final = 0.01
BACKLOG_S: Final = 3_000
APPEND_S: Final = 100
TELL_S: Final = 1.0
# A fifth of what is promised is no drain any more.
DRAIN_LEAST_PER_S: Final = 10_000
ENOUGH_LIVE: Final = 3
SPOOL_MB: Final = 512
NS_PER_MS: Final = 1_000_000
LOG: Final = "edge.log"
# Beyond what the devices show, so that each reading is judged and none alarms; with `bad` and `stale` four a point.
ALARMS: Final = "alarms: {HH: {setpoint: 98}, H: {setpoint: 95}}"
SITE: Final = "bench"
NODE: Final = "gw"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Bed:
    """What the gateway stands on: its folders, its instruments, its host."""

    folder: Path
    devices: Process
    host: Host
    clock: Clock


def _write_plant(folder: Path, mqtt: int, ports: list[int]) -> None:
    values = "".join(f"  v{n}: {{address: {2 * n}, type: f32, word_order: ABCD}}\n" for n in range(POINTS))
    (folder / "profiles").mkdir(parents=True)
    (folder / "profiles" / "bench.yaml").write_text(
        f"vendor: Tocsin\nmodel: bench\ntrust: interop-verified\nsource: the benchmark\nvalues:\n{values}",
        encoding="utf-8",
    )
    lines = ["tocsin: 1", f"site: {{id: {SITE}, name: bench}}", "gateways:", f"  - id: {NODE}"]
    lines += [f"    uplink: {{host: 127.0.0.1, port: {mqtt}}}", "    devices:"]
    for device in _devices():
        line, unit = divmod(int(device[1:]), UNITS)
        lines += [f"      - id: {device}", "        profile: bench", f"        period_ms: {round(PERIOD_S * 1000)}"]
        lines += [f"        modbus: {{host: 127.0.0.1, port: {ports[line]}, unit: {unit + 1}, timeout_ms: 1000}}"]
        lines += ["        points:"]
        kind = f"kind: generic, unit: bar, range: [0, 100], {ALARMS}"
        lines += [
            f"          - {{id: {name}, name: {name}, register: v{n}, {kind}}}"
            for n, name in enumerate(_points(device))
        ]
    (folder / "plant.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _devices() -> list[str]:
    return [f"d{n}" for n in range(LINES * UNITS)]


def _points(device: str) -> tuple[str, ...]:
    return tuple(f"{device}p{n}" for n in range(POINTS))


async def _until(condition: Callable[[], bool], process: Process, bed: Bed, most_s: float, what: str) -> None:
    deadline = bed.clock.monotonic() + most_s
    while not condition():
        if process.returncode is not None:
            raise RuntimeError(f"the gateway ended with code {process.returncode}: {last_line(bed.folder / LOG)}")
        if bed.clock.monotonic() > deadline:
            raise TimeoutError(f"{what} took more than {most_s:g} s")
        await asyncio.sleep(0.05)


@asynccontextmanager
async def _bed(folder: Path, clock: Clock) -> AsyncIterator[Bed]:
    mqtt, client = free_port(), free_port()
    config = folder / "nats.conf"
    config.write_text(
        f"server_name: bench\nlisten: 127.0.0.1:{client}\n"
        f"jetstream {{ store_dir: {json.dumps(str(folder / 'store'))} }}\n"
        f"mqtt {{ listen: 127.0.0.1:{mqtt} }}\n",
        encoding="utf-8",
    )
    code = "from tocsin_cli.bench.gateway_devices import main; main()"
    await _compile(folder)
    async with (
        program(nats_server.program(), "-c", str(config), log=folder / "nats.log"),
        program(sys.executable, "-c", code, str(LINES), str(BAUD), log=folder / "devices.log", talks=True) as devices,
    ):
        _write_plant(folder / "plant", mqtt, (await _told(devices))["ports"])
        await until_listening(mqtt, clock)
        async with Host(SITE, NODE, mqtt, clock).listen() as host:
            yield Bed(folder, devices, host, clock)


@asynccontextmanager
async def _gateway(bed: Bed, data: Path | None = None) -> AsyncIterator[Process]:
    command = ["edge", str(bed.folder / "plant"), "--gateway", NODE, "--data", str(data or bed.folder / "data")]
    async with program(*TOCSIN, *command, log=bed.folder / LOG, env=with_compiled_files(bed.folder / "pyc")) as process:
        yield process


def _rss_mb(pid: int) -> float:
    """Memory that a process holds now, in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def _told(devices: Process) -> dict[str, Any]:
    if devices.stdout is None:
        raise RuntimeError("the devices do not talk")
    told: dict[str, Any] = json.loads(await devices.stdout.readline())
    return told


async def _counts(devices: Process) -> dict[str, float]:
    if devices.stdin is not None:
        devices.stdin.write(b"\n")
    return await _told(devices)


async def _compile(folder: Path) -> None:
    """Let a gateway be imported once, as an installation compiles it once."""
    async with program(
        *TOCSIN, "edge", "--help", log=folder / "help.log", env=with_compiled_files(folder / "pyc")
    ) as it:
        await it.wait()


async def starts(bed: Bed) -> dict[str, float]:
    """Start the gateway and kill it, as often as it takes for a median: until the first instrument has answered."""
    took_s, used_s = [], []
    for _ in range(STARTS):
        before = (await _counts(bed.devices))["asked"]
        begun = bed.clock.monotonic()
        async with _gateway(bed) as process:
            while (await _counts(bed.devices))["asked"] == before:
                if process.returncode is not None or bed.clock.monotonic() - begun > 3 * END_S:
                    raise RuntimeError(f"the gateway does not begin: {last_line(bed.folder / LOG)}")
                await asyncio.sleep(LOOK_S)
            took_s.append(bed.clock.monotonic() - begun)
            used_s.append(cpu_s(process.pid))
            process.kill()
    return {"start_s": round(median(took_s), 2), "start_cpu_s": round(median(used_s), 2)}


async def steady(bed: Bed, seconds: int) -> dict[str, float]:
    """Run the gateway as it runs for years: what it costs over so many seconds, and how busy the lines are."""
    async with _gateway(bed) as process:
        first = LINES * UNITS
        await _until(lambda: len(bed.host.live_delays_s) > first, process, bed, 3 * END_S, "the first readings")
        await asyncio.sleep(WARM_S)
        bed.host.forget()
        begun, used, lines = bed.clock.monotonic(), cpu_s(process.pid), await _counts(bed.devices)
        await asyncio.sleep(seconds)
        took = bed.clock.monotonic() - begun
        after = await _counts(bed.devices)
        return {
            "points": LINES * UNITS * POINTS,
            "devices": LINES * UNITS,
            "period_s": PERIOD_S,
            "cpu_percent_of_one_core": round(100 * (cpu_s(process.pid) - used) / took, 1),
            "rss_mb": round(_rss_mb(process.pid), 1),
            "bus_utilisation": round((after["busy_s"] - lines["busy_s"]) / took / LINES, 3),
            "polls_per_second": round((after["asked"] - lines["asked"]) / took, 2),
            "live_p99_ms": _p99_ms(bed.host.live_delays_s),
        }


async def drain(bed: Bed, backlog_s: int, say: Say) -> dict[str, float]:
    """Leave `backlog_s` seconds of every point in the spool for a gateway that goes on reading."""
    # What the gateway ran on before stays out of it: its alarms would go through all that came since, at the start.
    data = bed.folder / "drained"
    spool = data / "gateways" / NODE / "spool.sqlite"
    readings = await asyncio.to_thread(fill, spool, backlog_s, bed.clock.now_ns() // NS_PER_MS, say)
    kept = await asyncio.to_thread(spool_figures, spool, bed.clock.now_ns() // NS_PER_MS, beside_gateway=False)
    host = bed.host
    host.history_from_s, host.history_readings = -1.0, 0
    host.forget()
    async with _gateway(bed, data) as process:
        rss = await _drained(bed, process, readings, say)
        delays = list(host.live_delays_s)
    took_s = host.history_to_s - host.history_from_s
    if len(delays) < ENOUGH_LIVE:
        raise RuntimeError("no live data came while the backlog went up")
    return {
        "backlog_readings": readings,
        "spool_bytes_per_reading": round(kept.bytes / readings, 2),
        "drain_s": round(took_s, 1),
        "drain_readings_per_second": round(host.history_readings / took_s),
        "drain_times_real_time": round(host.history_readings / took_s / (LINES * UNITS * POINTS / PERIOD_S), 1),
        "live_p99_ms_while_draining": _p99_ms(delays),
        "rss_mb_while_draining": round(rss, 1),
    }


async def _drained(bed: Bed, process: Process, readings: int, say: Say) -> float:
    """Wait until the host has as many readings of the past, and give the most memory that the gateway held, in MB."""
    host, clock = bed.host, bed.clock
    most_mb, next_look = 0.0, clock.monotonic()

    def arrived() -> bool:
        nonlocal most_mb, next_look
        now = clock.monotonic()
        if now >= next_look and process.returncode is None:
            next_look = now + TELL_S
            most_mb = max(most_mb, _rss_mb(process.pid))
            rate = host.history_readings / max(host.history_to_s - host.history_from_s, TELL_S)
            say(f"draining: {host.history_readings:,} of {readings:,} readings, {rate:,.0f} a second")
        return host.history_readings >= readings

    await _until(arrived, process, bed, END_S + readings / DRAIN_LEAST_PER_S, "the backlog")
    return most_mb


def fill(path: Path, backlog_s: int, now_ms: int, say: Say) -> int:
    """Write a spool at `path` with `backlog_s` seconds of every point, up to a minute ago; give how many readings."""
    devices, noise = _devices(), np.random.default_rng(1)
    level, swing_s = noise.uniform(5, 85, (2, len(devices), POINTS))
    metric, quality = np.arange(POINTS), np.full(POINTS, GOOD, dtype=np.uint8)
    first_ms = now_ms - (backlog_s + 60) * 1000
    with closing(Spool.open(path, SPOOL_MB, 600.0, now_ms)) as spool:
        for begin in range(0, backlog_s, APPEND_S):
            second = np.arange(begin, min(begin + APPEND_S, backlog_s))
            swing = np.sin(second[:, None, None] / (60 * swing_s))
            # An f32 as the devices have it, noise in its last digits: what is alike would be packed better than it is.
            value = (level + swing + noise.normal(0, 0.1, (len(second), *level.shape))).astype("f4").astype("f8")
            spool.append(
                [
                    (device, _points(device), Columns(metric, np.full(POINTS, first_ms + at * 1000), row, quality))
                    for at, rows in zip(second.tolist(), value, strict=True)
                    for device, row in zip(devices, rows, strict=True)
                ]
            )
            say(f"writing a backlog: {begin:,} of {backlog_s:,} s")
        dropped = spool.trim(now_ms)
    if dropped:
        raise ValueError(f"{backlog_s} s are more than a spool of {SPOOL_MB} MB holds: {dropped:,} readings too many")
    return backlog_s * LINES * UNITS * POINTS


def _p99_ms(delays_s: list[float]) -> float:
    return round(1000 * float(np.percentile(delays_s, 99)), 1)


async def measure(folder: Path, clock: Clock, steady_s: int, backlog_s: int, say: Say) -> dict[str, float]:
    """Every figure of the benchmark, its files in `folder`; `say` is told what is going on."""
    async with _bed(folder, clock) as bed:
        say(f"{steady_s} s of a steady plant")
        found = await steady(bed, steady_s)
        say("starting again and again")
        found |= await starts(bed)
        return found | await drain(bed, backlog_s, say)


def gateway(
    *,
    steady_s: Annotated[int, typer.Option(min=1, help="Seconds of a steady plant to measure over.")] = STEADY_S,
    backlog_s: Annotated[int, typer.Option(min=60, help="Seconds of backlog to drain.")] = BACKLOG_S,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on the last line.")] = False,
) -> None:
    """Measure a gateway of 1,000 points on 20 devices: processor, memory, lines, and a backlog's way up."""
    console = Console(stderr=True)
    with console.status("") as status, tempfile.TemporaryDirectory(prefix="tocsin-bench-") as folder:
        found = asyncio.run(measure(Path(folder), SystemClock(), steady_s, backlog_s, status.update))
    if as_json:
        typer.echo(json.dumps(found))
        return
    for key, value in found.items():
        typer.echo(f"{key.replace('_', ' ')}: {value}")
