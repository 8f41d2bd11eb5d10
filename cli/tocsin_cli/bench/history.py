"""`tocsin bench history`: how fast a year of readings goes into a time-series store, and its trends come back."""

import asyncio
import json
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final

import numpy as np
import typer
from rich.console import Console
from rich.status import Status

from tocsin_cloud.adapters.history import History, HistoryError, Trend
from tocsin_cloud.adapters.history_open import open_history
from tocsin_cloud.settings import HistoryAddress, HistoryKind
from tocsin_core.clock import Clock, SystemClock
from tocsin_core.readings import GOOD, Frame
from tocsin_core.rules import NS

HOUR_S: Final = 3600
DAY_S: Final = 86_400
FRAME_ROWS: Final = 200_000
ROUNDS: Final = 5
# How a server is given the time to show what it has taken.
SHOWN_LOOK_S: Final = 0.5
# By name: the length of a step in seconds, None for the samples themselves, and of the span in days, None for all.
TRENDS: Final[dict[str, tuple[int | None, float | None]]] = {
    "all_by_day_s": (DAY_S, None),
    "all_by_6_h_s": (6 * HOUR_S, None),
    "all_by_hour_s": (HOUR_S, None),
    "day_by_minute_s": (60, 1),
    "hour_of_samples_s": (None, 1 / 24),
}
MOST_ROWS: Final = 20_001


class Bed:
    """The readings of `points` points, one each `period_s` over `days`, up to the last whole hour."""

    def __init__(self, points: int, days: int, period_s: int, clock: Clock) -> None:
        """Nothing is stored."""
        self.points, self.period_s, self.clock = points, period_s, clock
        self.rounds = days * DAY_S // period_s
        self.end_ns = clock.now_ns() // (HOUR_S * NS) * HOUR_S * NS
        self.start_ns = self.end_ns - days * DAY_S * NS
        prefix = f"bench-{clock.now_ns()}"
        self.ids = [f"{prefix}-{number}" for number in range(points)]

    async def fill(self, history: History, status: Status) -> float:
        """Store them all; the seconds that it took."""
        keys = np.asarray([history.key(point) for point in self.ids], dtype=np.int32)
        noise = np.random.default_rng(1)
        rows = max(1, FRAME_ROWS // self.points)
        begun = self.clock.monotonic()
        for first in range(0, self.rounds, rows):
            number = min(rows, self.rounds - first)
            times = self.start_ns + np.arange(first, first + number, dtype=np.int64) * self.period_s * NS
            level = 50 + 20 * np.sin(times / (DAY_S * NS) * 2 * np.pi)
            values = np.round(np.repeat(level, self.points) + noise.normal(0, 1, number * self.points), 2)
            quality = np.full(len(values), GOOD, np.uint8)
            await history.commit(Frame(np.tile(keys, number), np.repeat(times, self.points), values, quality), {})
            status.update(f"storing {(first + number) / self.rounds:.0%}")
        return self.clock.monotonic() - begun

    async def shown(self, history: History) -> None:
        """Wait until the last hour can be read."""
        wanted = HOUR_S // self.period_s
        while len((await self._read(history, None, 1 / 24)).time_ns) < wanted:  # noqa: ASYNC110 -- the store tells nobody
            await asyncio.sleep(SHOWN_LOOK_S)

    async def trends(self, history: History) -> dict[str, float]:
        """The median time of each of `TRENDS`, in seconds."""
        found = {}
        for name, (step_s, days) in TRENDS.items():
            times = []
            for _ in range(ROUNDS):
                begun = self.clock.monotonic()
                await self._read(history, step_s, days)
                times.append(self.clock.monotonic() - begun)
            found[name] = round(median(times), 4)
        return found

    async def _read(self, history: History, step_s: int | None, days: float | None) -> Trend:
        start_ns = self.start_ns if days is None else self.end_ns - round(days * DAY_S) * NS
        step_ns = None if step_s is None else step_s * NS
        return await history.read(self.ids[self.points // 2], start_ns, self.end_ns, step_ns, MOST_ROWS)


async def _rolled_up(history: History) -> None:
    """Have the store do what makes long trends quick, and wait until it has nothing more to do."""
    while True:
        await history.durable()
        if not await history.tend():
            return
        await asyncio.sleep(SHOWN_LOOK_S)


async def _store(bed: Bed, address: HistoryAddress, folder: Path, status: Status) -> tuple[float, float]:
    history = await open_history(address, folder, bed.clock)
    try:
        taken_s = await bed.fill(history, status)
        status.update("waiting until it is shown")
        await bed.shown(history)
        status.update("waiting until it is rolled up")
        begun = bed.clock.monotonic()
        await _rolled_up(history)
    finally:
        await history.close()
    return taken_s, bed.clock.monotonic() - begun


async def _read(bed: Bed, address: HistoryAddress, folder: Path) -> dict[str, float]:
    history = await open_history(address, folder, bed.clock)
    try:
        return await bed.trends(history)
    finally:
        await history.close()


def measure(bed: Bed, address: HistoryAddress, status: Status) -> dict[str, Any]:
    """Store and read, each on a history of its own opening.

    Raises:
        HistoryError: the store refused or did not answer.
    """
    with TemporaryDirectory() as name:
        folder, rows = Path(name), bed.rounds * bed.points
        taken_s, rolled_up_s = asyncio.run(_store(bed, address, folder, status))
        stored = sum(path.stat().st_size for path in folder.iterdir())
        status.update("reading trends")
        trends = asyncio.run(_read(bed, address, folder))
    return {
        "store": str(address.kind),
        "points": bed.points,
        "readings": rows,
        "period_s": bed.period_s,
        "stored_per_second": round(rows / taken_s),
        # What a server keeps is on the server.
        "bytes_per_reading": round(stored / rows, 1) if address.kind is HistoryKind.DUCKDB else None,
        "rolled_up_s": round(rolled_up_s, 1),
        **trends,
    }


def history(
    *,
    address: Annotated[
        str, typer.Option("--history", metavar="ADDRESS", help="The store, as `tocsin cloud` takes it.")
    ] = HistoryKind.DUCKDB,
    points: Annotated[int, typer.Option(min=1, help="Points that are stored.")] = 1,
    days: Annotated[int, typer.Option(min=1, help="Days that are stored of each.")] = 365,
    period: Annotated[int, typer.Option(min=1, max=60, help="Seconds from one reading of a point to the next.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on the last line.")] = False,
) -> None:
    """Measure a time-series store: readings stored a second, and the time that long and short trends take."""
    try:
        where = HistoryAddress.parse(address)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    bed = Bed(points, days, period, SystemClock())
    with Console(stderr=True).status("") as status:
        try:
            found = measure(bed, where, status)
        except HistoryError as error:
            typer.echo(f"tocsin: {error}", err=True)
            raise typer.Exit(1) from error
    if as_json:
        typer.echo(json.dumps(found))
        return
    for key, value in found.items():
        typer.echo(f"{key.replace('_', ' ')}: {value}")
