"""Keeps roll-ups of hours on a VictoriaMetrics server: made from its own readings, anew when late ones come."""

# VictoriaMetrics has no roll-ups (downsampling is in its enterprise edition), and goes through all samples of a trend:
# 31,536,000 of a year. So each closed hour's figures are stored beside the readings, worked out by the server. They are
# made after the readings, not as these come: the server alone knows which of them it has already.
#
# Which hours can be read of the roll-ups stands in the state file, and is never ahead of them:
# - An hour for which readings come is noted as due before they are written.
# - It is worked out when all that was committed before is durable, and so can be seen; it is due until that is durable.
# - What comes meanwhile makes it due again.
# Of readings that this state file was never told of, as those of a state file that was lost, whoever reads them tells.
# Of samples with one time stamp the server keeps whichever it likes. So hours that are made anew are stored beside the
# older ones: each making has a number, and the time stamp is the hour's begin and this number in ms. The number is kept
# before anything is written with it, so none is ever used twice.

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from typing import Any, Final

import numpy as np

from tocsin_cloud.adapters.history import HOUR
from tocsin_cloud.adapters.history_lines import QUALITY, Column, Names, field_of, tag, tag_set
from tocsin_cloud.adapters.history_rolled import PART, RolledHours, Rows, Work
from tocsin_cloud.adapters.history_state import Row, StateFile
from tocsin_cloud.adapters.history_victoria_reads import (
    HOUR_MS,
    HOURS,
    MADE,
    VictoriaReads,
    Windows,
    joined,
    windows_of,
)
from tocsin_cloud.adapters.history_victoria_server import DURABLE_AFTER_S, Look, VictoriaServer
from tocsin_core.clock import Clock
from tocsin_core.readings import I64, Frame

# Readings come this late without their hour being made twice.
CLOSED_AFTER_NS: Final = 600_000_000_000
# Hours of points in one making: a bounded piece, after which what was made counts.
MOST_HOURS: Final = 100_000
# Hours of points in one query: at a reading a second 3,600,000 samples. And bytes of points' names, which a query has
# twice, and each as up to three: -search.maxQueryLen is 16,384.
QUERY_HOURS: Final = 500
QUERY_NAMES: Final = 2_500
# After a making of all that was due: a point that is always late is made anew six times an hour, and the 3,600,000
# numbers that there are last for 68 years.
REST_S: Final = 600.0
# Points whose rows are put together in one go: the thread that does it holds up the others so long.
PORTION: Final = 5_000


@dataclass(slots=True)
class _Making:
    """Work taken after `commits` commits; if it is written, then at `at`, to the server that `seen` was heard of."""

    work: Work
    commits: int
    seen: Look | None = None
    at: float = 0.0


class VictoriaHours:
    """The roll-ups of one history, which belong to its state file."""

    def __init__(self, server: VictoriaServer, file: StateFile, kept: bytes | None, names: Names, clock: Clock) -> None:
        """Go on with what `file` keeps; without its part `kept` none of that counts, and all is to be made anew."""
        self._server = server
        self._reads = VictoriaReads(server)
        self._file = file
        self._names = names
        self._clock = clock
        state: dict[str, Any] = json.loads(kept) if kept else {"made": f"{clock.now_ns():x}", "number": 0, "closed": 0}
        self._made, self._number = str(state["made"]), int(state["number"])
        # The last that is durable: of a later one a reader might see a part.
        self._readable = self._number
        points, figures = file.rolled()
        keys = np.fromiter(map(names.key, points), np.int64, len(points))
        self._hours = RolledHours(int(state["closed"]), Rows(keys, *figures))
        self._saving = asyncio.Lock()
        self._making: _Making | None = None
        self._rest_until = 0.0

    async def touch(self, frame: Frame) -> None:
        """Take note of readings that are about to be written.

        Raises:
            HistoryError: it could not be kept.
        """
        self._hours.touch(frame)
        if self._hours.changed:
            await self._save()

    def overtaken(self) -> None:
        """Take no hour for rolled up that was: kept with the first readings that are about to be written."""
        self._hours.close_anew()

    @property
    def busy(self) -> bool:
        """Whether there is work taken that `go_on` goes on with."""
        return self._making is not None

    @property
    def due(self) -> int:
        """How many hours of points are closed and have no roll-up."""
        return self._hours.due

    def take(self, commits: int) -> None:
        """Take what is due, of which there are readings of `commits` commits."""
        if self._clock.monotonic() < self._rest_until:
            return
        self._hours.close((self._clock.now_ns() - CLOSED_AFTER_NS) // HOUR)
        work = self._hours.take(MOST_HOURS)
        if work.hours < MOST_HOURS:
            self._rest_until = self._clock.monotonic() + REST_S
        self._making = _Making(work, commits) if work.hours else None

    async def go_on(self, durable: int, since_ms: int) -> None:
        """Do the next step of the work that was taken, if `durable` commits are enough; none before `since_ms`.

        Raises:
            HistoryError: the server is away or refuses, or the state file does.
        """
        making = self._making
        if making is None:
            return
        if making.seen is None:
            if durable >= making.commits:
                await self._make(making, since_ms // HOUR_MS)
        elif self._clock.monotonic() - making.at >= DURABLE_AFTER_S:
            await self._finish(making.seen)

    async def read(self, point_id: str, begin: int, end: int, limit: int) -> Mapping[str, Column]:
        """The figures by hours in [begin, end) ms, from roll-ups where there are any; `begin` is an hour's.

        Hours that have none are rolled up next.

        Raises:
            HistoryError: the server is away, or refuses.
        """
        key, point, pieces = self._names.known(point_id), tag(point_id), []
        whole = max(begin, end // HOUR_MS * HOUR_MS)
        stretches = [(begin // HOUR_MS, whole // HOUR_MS, False)]
        if key is not None:
            stretches = list(self._hours.stretches(key, begin // HOUR_MS, whole // HOUR_MS))
        made, readable = self._made, self._readable
        spans = [(low * HOUR_MS, high * HOUR_MS, rolled) for low, high, rolled in stretches]
        for low, high, rolled in [*spans, (whole, end, False)]:
            if rolled:
                pieces.append(await self._reads.hours(point, (low, high), made, readable))
            elif low < high:
                windows = windows_of(low, high, HOUR_MS, 0)
                pieces.append(await self._reads.figures(point, windows, limit))
                self._want(point_id, pieces[-1][QUALITY][0])
        return joined(pieces)

    def _want(self, point_id: str, times: I64) -> None:
        if len(times) and self._hours.want(self._names.key(point_id), int(times.min()) // HOUR_MS):
            self._rest_until = 0.0

    async def _make(self, making: _Making, since: int) -> None:
        try:
            seen = await self._server.look()
            self._number += 1
            await self._save()
            for points, window in _queries(making.work, since, lambda key: tag(self._names.id(key))):
                lines = self._lines(await self._reads.roll_ups(points, window))
                if lines:
                    await self._server.write(lines)
        except BaseException:
            self._hours.back()
            self._making = None
            raise
        making.seen, making.at = seen, self._clock.monotonic()

    async def _finish(self, seen: Look) -> None:
        if (await self._server.look()).goes_on_from(seen):
            self._hours.done()
            self._readable = self._number
        else:
            self._hours.back()
        self._making = None
        await self._save()

    async def _save(self) -> None:
        # One after the other: an older row must not take a newer one's place.
        async with self._saving:
            rows = self._hours.unsaved()
            state = {"made": self._made, "number": self._number, "closed": self._hours.closed}
            try:
                await asyncio.to_thread(self._file.save, {PART: json.dumps(state).encode()}, self._kept(rows))
            except BaseException:
                self._hours.not_saved(rows)
                raise

    def _kept(self, rows: Rows) -> Iterator[Row]:
        for begin in range(0, len(rows.key), PORTION):
            keys, *figures = (column[begin : begin + PORTION].tolist() for column in rows)
            yield from zip(map(self._names.id, keys), *figures, strict=True)

    def _lines(self, found: Mapping[tuple[str, str], tuple[list[int], list[str]]]) -> bytes:
        fields: dict[tuple[str, int], list[str]] = defaultdict(list)
        for (point, name), (hours, values) in found.items():
            for hour, value in zip(hours, values, strict=True):
                # A mean may be beyond what a number can be; its hour has none then.
                if isfinite(number := float(value)):
                    fields[point, hour].append(f"{field_of(name, number)}={value}")
        return "\n".join(
            f"{HOURS},{tag_set(point)},{MADE}={self._made} {','.join(figures)} {hour + self._number}"
            for (point, hour), figures in fields.items()
        ).encode()


def _queries(work: Work, since: int, name: Callable[[int], str]) -> Iterator[tuple[list[str], Windows]]:
    """The work as queries: points that have the same hours to be made are asked for together."""
    firsts = np.maximum(work.since, since)
    order = np.lexsort((work.until, firsts))
    keys, stretches = work.key[order], np.stack([firsts, work.until])[:, order]
    others = (stretches[:, 1:] != stretches[:, :-1]).any(axis=0).nonzero()[0] + 1
    for low, high in pairwise([0, *others.tolist(), len(keys)]):
        first, until = stretches[:, low].tolist()
        for hour in range(first, until, QUERY_HOURS):
            number = min(QUERY_HOURS, until - hour)
            begin = hour * HOUR_MS
            for some in _batches(map(name, keys[low:high].tolist()), max(1, QUERY_HOURS // number)):
                yield some, Windows(begin, HOUR_MS, number, begin)


def _batches(points: Iterable[str], most: int) -> Iterator[list[str]]:
    """Points, at most `most` and QUERY_NAMES bytes at a time."""
    batch: list[str] = []
    size = 0
    for point in points:
        more = len(point.encode())
        if batch and (len(batch) >= most or size + more > QUERY_NAMES):
            yield batch
            batch, size = [], 0
        batch.append(point)
        size += more
    if batch:
        yield batch
