"""Reads a stretch of the historian's readings, point by point, through its own adapter."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

import numpy as np

from tocsin_cli.replay.recording import Recording, RecordingError, in_order
from tocsin_core.clock import SystemClock
from tocsin_core.plant import Plant
from tocsin_core.readings import Frame
from tocsin_core.rules import NS

if TYPE_CHECKING:
    from tocsin_cloud.adapters.history import StoredReadings

FILE: Final = "history.duckdb"
# What the address of a server has, and no folder.
SERVER: Final = "://"
EVERY: Final = 2**62
_RANGE: Final = re.compile(r"(\d{4}-\d\d-\d\d[^/]*)/(\d{4}-\d\d-\d\d[^/]*)")


def range_of(text: str, zone: ZoneInfo) -> tuple[int, int] | None:
    """`2026-11-22T00:00/2026-11-23T00:00` as ns, in the site's time zone where none is named; None for another text.

    Raises:
        RecordingError: it looks like a range and is none.
    """
    match = _RANGE.fullmatch(text)
    if match is None:
        return None
    try:
        start, end = (datetime.fromisoformat(part) for part in match.groups())
    except ValueError as error:
        raise RecordingError(f"{text}: {error}") from error
    times = [(time if time.tzinfo is not None else time.replace(tzinfo=zone)).timestamp() for time in (start, end)]
    if times[0] >= times[1]:
        raise RecordingError(f"{text}: ends before it begins")
    return round(times[0]) * NS, round(times[1]) * NS


def read_history(data: str, plant: Plant, span: tuple[int, int], advance: Callable[[], None]) -> Recording:
    """The readings of the plant's measured points in [start, end) that the historian stored.

    `data` is the folder of the cloud side that keeps them, or the address of its database server. What was stored of
    computed points is left out: they are computed anew. `advance` is called after each point.

    Raises:
        RecordingError: there is no historian, it is in use, or it holds nothing of that time.
    """
    place = data if SERVER in data else str(Path(data) / FILE)
    if SERVER not in data and not Path(place).is_file():
        raise RecordingError(f"{place}: no historian here")
    frame = in_order(Frame.concat(asyncio.run(_read(data, plant, span, advance))))
    if not len(frame):
        raise RecordingError(f"{place}: no readings of this plant's points in that time")
    there, computed = len(np.unique(frame.point)), sum(point.compute is not None for point in plant.points)
    remark = f"historian {place}: {there} of {len(plant.points) - computed} points have readings"
    return Recording(frame, None, (remark + (f"; {computed} are computed anew" if computed else ""),))


async def _read(data: str, plant: Plant, span: tuple[int, int], advance: Callable[[], None]) -> list[Frame]:
    from tocsin_cloud.adapters.history import HistoryError  # noqa: PLC0415 -- the cloud side is an extra

    frames = []
    try:
        async with _opened(data) as history:
            for point in plant.points:
                if point.compute is None:
                    trend = await history.read(point.id, *span, None, EVERY)
                    index = np.full(len(trend.time_ns), point.index, np.int32)
                    frames.append(Frame.of(index, trend.time_ns, trend.mean, trend.quality))
                advance()
    except HistoryError as error:
        hint = "" if SERVER in data else " (while the cloud side runs, replay a copy of its folder)"
        raise RecordingError(f"{error}{hint}") from error
    return frames


@asynccontextmanager
async def _opened(data: str) -> AsyncIterator["StoredReadings"]:
    """The history, to be read; what one on a server keeps beside it is its historian's, and not looked at."""
    from tocsin_cloud.adapters.history_open import open_history  # noqa: PLC0415 -- the cloud side is an extra
    from tocsin_cloud.settings import HistoryAddress  # noqa: PLC0415 -- the cloud side is an extra

    try:
        address = HistoryAddress.parse(data if SERVER in data else "duckdb")
    except ValueError as error:
        raise RecordingError(str(error)) from error
    with TemporaryDirectory() as folder:
        history = await open_history(address, Path(folder if SERVER in data else data), SystemClock())
        try:
            yield history
        finally:
            await history.close()
