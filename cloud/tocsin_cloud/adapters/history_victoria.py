"""The time-series store on VictoriaMetrics: written as InfluxDB lines, read by its export and MetricsQL."""

import asyncio
import json
import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import httpx
import structlog

from tocsin_cloud.adapters.history import HistoryError, Trend
from tocsin_cloud.adapters.history_lines import (
    BAD_VALUE,
    MEASUREMENT,
    MILLISECOND,
    QUALITY,
    VALUE,
    LineWriter,
    Names,
    column,
    reason,
    tag,
    trend_of_samples,
    trend_of_steps,
)
from tocsin_cloud.adapters.history_state import StateFile
from tocsin_cloud.settings import HistoryAddress
from tocsin_core.clock import Clock
from tocsin_core.readings import Frame

log = structlog.get_logger()

# VictoriaMetrics answers a write before it is on disk. Killed at a moment of our choice, version 1.79.5 had lost what
# was up to 9 s old and nothing that was 10 s old; later versions flush every 5 s (-inmemoryDataFlushInterval).
DURABLE_AFTER_S: Final = 20.0
FLUSH_FLAG: Final = "inmemoryDataFlushInterval"
LONGEST_FLUSH: Final = "5s"
# Of samples with one time stamp all are kept, and all would count in a mean, unless this flag is set.
DEDUPLICATION_FLAG: Final = "dedup.minScrapeInterval"
DEDUPLICATION: Final = "1ms"
RETENTION_FLAG: Final = "retentionPeriod"
RETENTION_HOURS: Final = {"h": 1.0, "d": 24.0, "w": 7 * 24.0, "y": 365 * 24.0, "": 31 * 24.0}
READ_TIMEOUT_S: Final = 30.0
# Below -search.maxPointsPerTimeseries (30,000) and -search.maxSamplesPerSeries (30,000,000, at a sample a second).
MOST_STEPS: Final = 10_000
LONGEST_QUERY_MS: Final = 90 * 86_400_000
# A query of one series runs on one core of the server.
AT_ONCE: Final = 4
# Samples are asked for by stretches, the next one twice as long, until there are enough.
FIRST_STRETCH_MS: Final = 6 * 3_600_000
ROLL_UPS: Final = {"mean": "avg_over_time", "low": "min_over_time", "high": "max_over_time"}
RETAINED: Final = "retained_from_ms"
HOUR_MS: Final = 3_600_000


class _Look(NamedTuple):
    """What the server tells of itself: since when it runs, what it took and ignored since, and its flags."""

    started: float
    inserted: float
    ignored: float
    flags: Mapping[str, str]

    def goes_on_from(self, earlier: "_Look") -> bool:
        """Whether it is still the process that it was; the start is told in whole seconds."""
        return self.started == earlier.started and self.inserted >= earlier.inserted


@dataclass(slots=True)
class _Pending:
    """A commit that is not durable yet: written at `at`, to the server that `seen` was heard of before."""

    frame: Frame
    state: Mapping[str, bytes]
    seen: _Look
    at: float


class VictoriaHistory:
    """The History port on a VictoriaMetrics server, or on a cluster of them.

    The historian's state lies in a file in the data folder, and is replaced only when the readings that belong to it
    are durable. Commits that are not are kept: a server that went away with them gets them again.
    """

    def __init__(self, address: HistoryAddress, state: StateFile, clock: Clock) -> None:
        """Talk to nobody yet."""
        scheme = "https" if address.secure else "http"
        roots = [f"{scheme}://{host}" for host in address.hosts]
        cluster = len(roots) > 1
        self._writer = LineWriter(roots[0] + ("/insert/0/influx" if cluster else ""), "-", MEASUREMENT, "")
        self._client = httpx.AsyncClient(timeout=READ_TIMEOUT_S, trust_env=False)
        self._root = roots[-1]
        self._api = roots[-1] + ("/select/0/prometheus" if cluster else "") + "/api/v1/"
        self._clock = clock
        self._file = state
        self._state = state.load()
        self._retained_ms = int(self._state.pop(RETAINED, b"0"))
        self._names = Names()
        self._seen: _Look | None = None
        self._pending: deque[_Pending] = deque()
        self._durable = 0

    @classmethod
    async def open(cls, address: HistoryAddress, folder: Path, clock: Clock) -> Self:
        """Take the state file in `folder`; a server that is away is waited for by the commits.

        Raises:
            HistoryError: another process works on the folder, or the server's flags do not do.
        """
        history = cls(address, StateFile.open(folder), clock)
        try:
            await history._look()
        except _AwayError as error:
            log.warning("history is away", reason=str(error))
        except BaseException:
            await history.close()
            raise
        return history

    @property
    def state(self) -> Mapping[str, bytes]:
        """The state that the commits left."""
        return self._state

    def key(self, point_id: str) -> int:
        """The key of `point_id`, a new one if it is new."""
        return self._names.key(point_id)

    async def commit(self, frame: Frame, state: Mapping[str, bytes]) -> None:
        """Write the readings, and keep them and `state` until they are durable.

        Raises:
            HistoryError: the server is away, refuses, or has flags that do not do.
        """
        # What is heard of the server before the write: if it is another one afterwards, the write may be lost.
        seen = self._seen or await self._look()
        await self._write(frame)
        self._pending.append(_Pending(frame, dict(state), seen, self._clock.monotonic()))
        self._state.update(state)

    async def durable(self) -> int:
        """How many commits the server has had for long enough without a restart; others are written to it again.

        Raises:
            HistoryError: the server is away, or has flags that do not do.
        """
        if self._pending and self._clock.monotonic() - self._pending[0].at >= DURABLE_AFTER_S:
            await self._settle()
        return self._durable

    async def read(self, point_id: str, start_ns: int, end_ns: int, step_ns: int | None, limit: int) -> Trend:
        """Rows of one point, as the port says.

        Raises:
            HistoryError: the server is away, or refuses.
        """
        start, end = -(-start_ns // MILLISECOND), -(-end_ns // MILLISECOND)
        if step_ns is None:
            return await self._samples(tag(point_id), max(start, self._retained_ms), end, limit)
        return await self._steps(tag(point_id), _windows(start, end, step_ns // MILLISECOND, self._retained_ms), limit)

    async def retain(self, before_ns: int) -> None:
        """Read nothing older any more; the server frees the room by its own flag, which has to be long enough.

        Raises:
            HistoryError: the server is away, or the state file does not take it.
        """
        before_ms = before_ns // MILLISECOND // HOUR_MS * HOUR_MS
        kept = (await self._look()).flags.get(RETENTION_FLAG, "")
        wanted_hours = (self._clock.now_ns() // MILLISECOND - before_ms) / HOUR_MS - 1
        number = re.fullmatch(r"([0-9.]+)([hdwy]?)", kept)
        if number is None or float(number[1]) * RETENTION_HOURS[number[2]] < wanted_hours:
            log.error("VictoriaMetrics may forget too early", flag=f"-{RETENTION_FLAG}={kept}", wanted_h=wanted_hours)
        if before_ms > self._retained_ms:
            await asyncio.to_thread(self._file.save, {RETAINED: str(before_ms).encode()})
            self._retained_ms = before_ms

    async def copy(self, folder: Path) -> None:
        """Write the state file; the readings are on the server.

        Raises:
            HistoryError: the file could not be written.
        """
        await asyncio.to_thread(self._file.copy, folder)

    async def close(self) -> None:
        """Let go of the server and the state file."""
        self._file.close()
        self._writer.close()
        await self._client.aclose()

    async def _write(self, frame: Frame) -> None:
        if len(frame):
            await asyncio.to_thread(lambda: self._writer.write(self._names.lines(frame)))

    async def _settle(self) -> None:
        seen = await self._look()
        for pending in self._pending:
            if not seen.goes_on_from(pending.seen):
                await self._write(pending.frame)
                pending.seen, pending.at = seen, self._clock.monotonic()
        now, number = self._clock.monotonic(), 0
        state: dict[str, bytes] = {}
        for pending in self._pending:
            if now - pending.at < DURABLE_AFTER_S:
                break
            state.update(pending.state)
            number += 1
        await asyncio.to_thread(self._file.save, state)
        for _ in range(number):
            self._pending.popleft()
        self._durable += number

    async def _look(self) -> _Look:
        """Hear what the server tells of itself.

        Raises:
            _AwayError: it does not answer.
            HistoryError: with these flags it would lose readings or count some twice.
        """
        try:
            answer = await self._client.get(self._root + "/metrics")
            answer.raise_for_status()
        except httpx.HTTPError as error:
            raise _AwayError(f"{self._root}: {reason(error)}") from error
        look = _look_of(answer.text)
        if look.flags.get(DEDUPLICATION_FLAG) != DEDUPLICATION:
            raise HistoryError(f"{self._root} has to run with -{DEDUPLICATION_FLAG}={DEDUPLICATION}")
        if look.flags.get(FLUSH_FLAG, LONGEST_FLUSH) != LONGEST_FLUSH:
            raise HistoryError(f"{self._root} has to run with -{FLUSH_FLAG}={LONGEST_FLUSH}, the default")
        if self._seen is not None and look.goes_on_from(self._seen) and look.ignored > self._seen.ignored:
            # Older than its retention, or more than two days ahead of its clock: it takes the lines and drops them.
            log.error("VictoriaMetrics dropped readings", fields=int(look.ignored - self._seen.ignored))
        self._seen = look
        return look

    async def _samples(self, point: str, start: int, end: int, limit: int) -> Trend:
        fields: dict[str, tuple[list[int], list[float]]] = {name: ([], []) for name in (QUALITY, VALUE, BAD_VALUE)}
        stretch = FIRST_STRETCH_MS
        while start < end and len(fields[QUALITY][0]) < limit:
            until = min(start + stretch, end)
            selector = f'{{__name__=~"{MEASUREMENT}_.*",point={json.dumps(point, ensure_ascii=False)}}}'
            text = await self._ask("export", {"match[]": selector, "start": _s(start), "end": _s(until - 1)})
            for line in text.splitlines():
                series = json.loads(line)
                times, values = fields[series["metric"]["__name__"].removeprefix(f"{MEASUREMENT}_")]
                times += series["timestamps"]
                values += series["values"]
            start, stretch = until, stretch * 2
        return trend_of_samples({name: column(*found) for name, found in fields.items()}, limit)

    async def _steps(self, point: str, windows: Iterator["_Windows"], limit: int) -> Trend:
        found: dict[str, tuple[list[int], list[float]]] = {name: ([], []) for name in (QUALITY, *ROLL_UPS)}
        while asked := list(islice(windows, AT_ONCE)):
            for answer in await asyncio.gather(*(self._roll_ups(point, window) for window in asked)):
                for name, (times, values) in answer.items():
                    found[name][0].extend(times)
                    found[name][1].extend(values)
            if len(found[QUALITY][0]) >= limit:
                break
        return trend_of_steps({name: column(*rows) for name, rows in found.items()}, limit)

    async def _roll_ups(self, point: str, window: "_Windows") -> Mapping[str, tuple[list[int], list[float]]]:
        selector = f"{{point={json.dumps(point, ensure_ascii=False)}}}[{window.width}ms]"
        functions = ",".join(f'"{function}"' for function in ROLL_UPS.values())
        query = (
            f'label_set(min_over_time({MEASUREMENT}_{QUALITY}{selector}), "rollup", "{QUALITY}") '
            f"or aggr_over_time(({functions}), {MEASUREMENT}_{VALUE}{selector})"
        )
        # A window ends with its time stamp, which belongs to it, and begins after that of the window before.
        first = window.begin + window.width - 1
        asked = {"query": query, "start": _s(first), "end": _s(first + (window.number - 1) * window.width)}
        text = await self._ask("query_range", {**asked, "step": f"{window.width}ms", "nocache": "1"})
        names = {QUALITY: QUALITY, **{function: name for name, function in ROLL_UPS.items()}}
        return {
            names[series["metric"]["rollup"]]: (
                [window.step_of(round(time * 1000)) for time, _ in series["values"]],
                [float(value) for _, value in series["values"]],
            )
            for series in json.loads(text)["data"]["result"]
        }

    async def _ask(self, resource: str, asked: Mapping[str, Any]) -> str:
        try:
            answer = await self._client.post(self._api + resource, data=asked)
        except httpx.HTTPError as error:
            raise HistoryError(f"{self._root}: {reason(error)}") from error
        if answer.status_code != httpx.codes.OK:
            raise HistoryError(f"{self._root}: {answer.status_code} {' '.join(answer.text.split())}")
        return answer.text


class _AwayError(HistoryError):
    """The server does not answer."""


class _Windows(NamedTuple):
    """A row of `number` windows of `width`, one after the other from `begin`; the first belongs to the step `step`."""

    begin: int
    width: int
    number: int
    step: int

    def step_of(self, last: int) -> int:
        """The step of the window whose last millisecond is `last`."""
        return self.step + (last - self.width + 1 - self.begin)


def _windows(start: int, end: int, step: int, since: int) -> Iterator[_Windows]:
    """The steps of [start, end) as windows, in rows that one query may ask for, without what is before `since`.

    The first and the last step may be broken ones, which have a width of their own.
    """
    begin = max(start, since)
    place = start + (begin - start) // step * step
    if begin > place and begin < end:
        yield _Windows(begin, min(place + step, end) - begin, 1, place)
        place += step
    most = max(1, min(MOST_STEPS, LONGEST_QUERY_MS // step))
    while place + step <= end:
        number = min(most, (end - place) // step)
        yield _Windows(place, step, number, place)
        place += number * step
    if place < end:
        yield _Windows(place, end - place, 1, place)


def _look_of(text: str) -> _Look:
    def total(name: str) -> float:
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE))

    flags = re.findall(r'^flag\{name="([^"]*)", ?value="([^"]*)"', text, re.MULTILINE)
    return _Look(
        total("process_start_time_seconds"),
        total("vm_rows_inserted_total"),
        total("vm_rows_ignored_total"),
        dict(flags),
    )


def _s(milliseconds: int) -> str:
    return f"{milliseconds // 1000}.{milliseconds % 1000:03d}"
