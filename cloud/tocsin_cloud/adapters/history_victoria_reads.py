"""What is asked of a VictoriaMetrics server: samples by its export, figures by MetricsQL, hours that are rolled up."""

import asyncio
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, NamedTuple

import numpy as np

from tocsin_cloud.adapters.history import Trend
from tocsin_cloud.adapters.history_lines import (
    BAD_VALUE,
    LARGER,
    MEASUREMENT,
    NUMBER,
    QUALITY,
    VALUE,
    Column,
    at,
    column,
    trend_of_samples,
    trend_of_steps,
)
from tocsin_cloud.adapters.history_victoria_server import VictoriaServer

HOUR_MS: Final = 3_600_000
# Below -search.maxPointsPerTimeseries (30,000) and -search.maxSamplesPerSeries (30,000,000, at a sample a second).
MOST_STEPS: Final = 10_000
LONGEST_QUERY_MS: Final = 90 * 86_400_000
# A query of one series runs on one core of the server.
AT_ONCE: Final = 4
# Samples are asked for by stretches, the next one twice as long, until there are enough.
FIRST_STRETCH_MS: Final = 6 * HOUR_MS
FIGURES: Final = {
    "avg_over_time": "mean",
    "min_over_time": "low",
    "max_over_time": "high",
    "count_over_time": NUMBER,
}
# The roll-ups of hours: a measurement of its own, which no query of the readings takes for one of them.
HOURS: Final = f"{MEASUREMENT}_hour"
# Whose roll-ups they are: those of a state file that was lost are nobody's.
MADE: Final = "made"

Samples = tuple[list[int], list[float]]


class Windows(NamedTuple):
    """`number` windows of `width` ms, one after the other from `begin` on; the first belongs to the step `step`."""

    begin: int
    width: int
    number: int
    step: int

    def step_of(self, last: int) -> int:
        """The step of the window whose last millisecond is `last`."""
        return self.step + (last - self.width + 1 - self.begin)


class VictoriaReads:
    """The reading side of a VictoriaMetrics server; points are named by their tag values, times are in ms."""

    def __init__(self, server: VictoriaServer) -> None:
        """Ask nothing yet."""
        self._server = server

    async def samples(self, point: str, start: int, end: int, limit: int) -> Trend:
        """The readings of [start, end), at most `limit`.

        Raises:
            HistoryError: the server is away, or refuses.
        """
        fields: dict[str, Samples] = {name: ([], []) for name in (QUALITY, VALUE, BAD_VALUE)}
        stretch = FIRST_STRETCH_MS
        while start < end and len(fields[QUALITY][0]) < limit:
            until = min(start + stretch, end)
            await self._export(MEASUREMENT, _matcher([point]), (start, until), fields)
            start, stretch = until, stretch * 2
        return trend_of_samples({name: _in_order(found) for name, found in fields.items()}, limit)

    async def steps(self, point: str, windows: Iterator[Windows], limit: int) -> Trend:
        """The figures of windows worked out from the readings; at most `limit` of them.

        Raises:
            HistoryError: the server is away, or refuses.
        """
        return trend_of_steps(await self.figures(point, windows, limit), limit)

    async def figures(self, point: str, windows: Iterator[Windows], limit: int) -> Mapping[str, Column]:
        """The figures of windows worked out from the readings, by name: at least `limit` of them, or all.

        Raises:
            HistoryError: the server is away, or refuses.
        """
        found: dict[str, Samples] = {name: ([], []) for name in (QUALITY, *FIGURES.values())}
        while len(found[QUALITY][0]) < limit and (asked := list(islice(windows, AT_ONCE))):
            for answer in await asyncio.gather(*(self.roll_ups([point], window) for window in asked)):
                for (_, name), (times, values) in answer.items():
                    found[name][0].extend(times)
                    found[name][1].extend(map(float, values))
        return {name: column(*rows) for name, rows in found.items()}

    async def roll_ups(
        self, points: Sequence[str], window: Windows
    ) -> Mapping[tuple[str, str], tuple[list[int], list[str]]]:
        """By point and figure, the steps that have one and the numbers as the server writes them.

        Raises:
            HistoryError: the server is away, or refuses.
        """
        selector = f"{{{_matcher(points)}}}[{window.width}ms]"
        functions = ",".join(f'"{function}"' for function in FIGURES)
        query = (
            f'label_set(min_over_time({MEASUREMENT}_{QUALITY}{selector}), "rollup", "{QUALITY}") '
            f'or aggr_over_time(({functions}), {{__name__=~"{MEASUREMENT}_{VALUE}({LARGER})?",{selector[1:]}) '
            "keep_metric_names"
        )
        # A window ends with its time stamp, which belongs to it, and begins after that of the window before.
        first = window.begin + window.width - 1
        asked = {"query": query, "start": _s(first), "end": _s(first + (window.number - 1) * window.width)}
        text = await self._server.ask("query_range", {**asked, "step": f"{window.width}ms", "nocache": "1"})
        names = {QUALITY: QUALITY, **FIGURES}
        # By point, figure and step: one for each field, of which there are several where values are of all magnitudes.
        parts: defaultdict[tuple[str, str], defaultdict[int, dict[str, str]]] = defaultdict(lambda: defaultdict(dict))
        for series in json.loads(text)["data"]["result"]:
            metric = series["metric"]
            steps = parts[metric["point"], names[metric["rollup"]]]
            for time, value in series["values"]:
                steps[window.step_of(round(time * 1000))][metric.get("__name__", "")] = value
        found: dict[tuple[str, str], tuple[list[int], list[str]]] = {}
        for (point, name), steps in parts.items():
            # What has no usable value in the whole row of windows has no numbers at all.
            numbers: Mapping[int, dict[str, str]] = parts.get((point, NUMBER)) or {}
            order = sorted(steps)
            found[point, name] = order, [_whole(name, steps[step], numbers.get(step) or {}) for step in order]
        return found

    async def hours(self, point: str, span: tuple[int, int], made: str, generation: int) -> Mapping[str, Column]:
        """The roll-ups of the hours of `span` that are stored, by name; of each hour the last up to `generation`.

        Raises:
            HistoryError: the server is away, or refuses.
        """
        fields: dict[str, Samples] = {name: ([], []) for name in (QUALITY, *FIGURES.values())}
        await self._export(HOURS, f'{_matcher([point])},{MADE}="{made}"', span, fields)
        columns = {name: _in_order(found) for name, found in fields.items()}
        stamps = columns[QUALITY][0]
        stamps = stamps[stamps % HOUR_MS <= generation]
        begins = stamps // HOUR_MS * HOUR_MS
        last = np.append(begins[1:] != begins[:-1], True)[: len(begins)]
        return {name: (begins[last], at(stamps[last], found)) for name, found in columns.items()}

    async def _export(self, measurement: str, matcher: str, span: tuple[int, int], into: Mapping[str, Samples]) -> None:
        """Add what is stored of the fields of `into`."""
        selector = f'{{__name__=~"{measurement}_({"|".join(into)})({LARGER})?",{matcher}}}'
        asked = {"match[]": selector, "start": _s(span[0]), "end": _s(span[1] - 1)}
        for line in (await self._server.ask("export", asked)).encode().splitlines():
            series = json.loads(line)
            name = series["metric"]["__name__"].removeprefix(f"{measurement}_")
            times, values = into[re.sub(f"{LARGER}$", "", name)]
            times += series["timestamps"]
            values += series["values"]


def windows_of(start: int, end: int, step: int, since: int) -> Iterator[Windows]:
    """The steps of [start, end) as windows, in rows that one query may ask for, without what is before `since`.

    The first and the last step may be broken ones, which have a width of their own.
    """
    begin = max(start, since)
    place = start + (begin - start) // step * step
    if begin > place and begin < end:
        yield Windows(begin, min(place + step, end) - begin, 1, place)
        place += step
    most = max(1, min(MOST_STEPS, LONGEST_QUERY_MS // step))
    while place + step <= end:
        number = min(most, (end - place) // step)
        yield Windows(place, step, number, place)
        place += number * step
    if place < end:
        yield Windows(place, end - place, 1, place)


def joined(pieces: Iterable[Mapping[str, Column]]) -> Mapping[str, Column]:
    """Columns of figures after one another."""
    found: dict[str, list[Column]] = {name: [column([], [])] for name in (QUALITY, *FIGURES.values())}
    for piece in pieces:
        for name, figures in piece.items():
            found[name].append(figures)
    return {
        name: (np.concatenate([times for times, _ in rows]), np.concatenate([values for _, values in rows]))
        for name, rows in found.items()
    }


def _whole(name: str, parts: Mapping[str, str], numbers: Mapping[str, str]) -> str:
    """The figure of a step whose values are in several fields, of their figures and their numbers of values."""
    if len(parts) == 1:
        return next(iter(parts.values()))
    figures = [float(part) for part in parts.values()]
    if name in ("low", "high"):
        return repr(min(figures) if name == "low" else max(figures))
    if name == NUMBER:
        return repr(sum(figures))
    number = sum(map(float, numbers.values()))
    return repr(sum(float(numbers[field]) / number * float(part) for field, part in parts.items()))


def _in_order(samples: Samples) -> Column:
    """A column of samples that are of several fields, one after the other."""
    times, values = column(*samples)
    order = np.argsort(times, kind="stable")
    return times[order], values[order]


def _matcher(points: Sequence[str]) -> str:
    if len(points) == 1:
        return f"point={json.dumps(points[0], ensure_ascii=False)}"
    return f"point=~{json.dumps('|'.join(re.escape(point) for point in points), ensure_ascii=False)}"


def _s(milliseconds: int) -> str:
    return f"{milliseconds // 1000}.{milliseconds % 1000:03d}"
