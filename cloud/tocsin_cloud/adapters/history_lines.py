"""Readings as InfluxDB line protocol: how they are named, written by influxdb-client, and put together again."""

import re
from collections.abc import Mapping, Sequence
from math import log10
from typing import Final

import numpy as np
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.domain.write_precision import WritePrecision
from influxdb_client.rest import ApiException
from urllib3.exceptions import HTTPError

from tocsin_cloud.adapters.history import HistoryError, Trend
from tocsin_core.readings import F64, I64, Frame, is_bad

MEASUREMENT: Final = "tocsin"
# A value that is bad has a field of its own: no query of the values can take it for a good one.
VALUE: Final = "value"
BAD_VALUE: Final = "bad_value"
QUALITY: Final = "quality"
# How many values a mean is of.
NUMBER: Final = "number"
MILLISECOND: Final = 1_000_000
# VictoriaMetrics packs thousands of values of a series as whole numbers of 18 digits with one exponent: beside 1e38,
# as a transmitter may tell that it is broken, it keeps 20.5 as 0. So there a field has values of twelve decades only;
# those from 1e12 on are in others, named after it.
DECADES: Final = 12
LARGE: Final = 10.0**DECADES
LARGER: Final = "_e[0-9]+"
# In a tag or in a query's text these cannot be written, or mean something else.
UNSAFE: Final = re.compile(r"[\x00-\x1f\x7f\\%\"$]")
WRITE_TIMEOUT_S: Final = 30.0


class Names:
    """The points' keys, their tag values and their beginnings of a line."""

    def __init__(self) -> None:
        """Know no point."""
        self._keys: dict[str, int] = {}
        self._ids: list[str] = []
        self._heads: list[str] = []

    def key(self, point_id: str) -> int:
        """The key of a point, a new one if it is new."""
        key = self._keys.get(point_id)
        if key is None:
            key = self._keys[point_id] = len(self._heads)
            self._ids.append(point_id)
            self._heads.append(f"{MEASUREMENT},{tag_set(tag(point_id))} ")
        return key

    def known(self, point_id: str) -> int | None:
        """The key of a point that has one."""
        return self._keys.get(point_id)

    def id(self, key: int) -> str:
        """The id of the point with that key."""
        return self._ids[key]

    def lines(self, frame: Frame, *, by_magnitude: bool = False) -> bytes:
        """One line for each reading: its quality, and its value if it has one, in a field by its magnitude or not."""
        usable = ~is_bad(frame.quality)
        heads, finite = self._heads, np.isfinite(frame.value)
        rows = zip(
            frame.point.tolist(),
            frame.value.tolist(),
            frame.quality.tolist(),
            (frame.time_ns // MILLISECOND).tolist(),
            (usable.astype(np.int8) + finite).tolist(),
            strict=True,
        )
        # A usable value is finite, so 2 is usable, 1 bad with a value, 0 bad without one.
        fields = (f"{QUALITY}=", f"{BAD_VALUE}=%r,{QUALITY}=", f"{VALUE}=%r,{QUALITY}=")
        lines = [
            f"{heads[point]}{fields[kind] % value if kind else fields[0]}{quality}i {time_ms}"
            for point, value, quality, time_ms, kind in rows
        ]
        for row in (finite & (np.abs(frame.value) >= LARGE)).nonzero()[0].tolist() if by_magnitude else ():
            field = VALUE if usable[row] else BAD_VALUE
            # Behind the head: a point may be called anything.
            head = heads[int(frame.point[row])]
            rest = lines[row].removeprefix(head).removeprefix(field)
            lines[row] = f"{head}{field_of(field, float(frame.value[row]))}{rest}"
        return "\n".join(lines).encode()


def field_of(name: str, value: float) -> str:
    """The field of VictoriaMetrics that has a value, which is finite, of the field `name`."""
    size = abs(value)
    return name if size < LARGE else f"{name}_e{int(log10(size)) // DECADES * DECADES}"


def tag(point_id: str) -> str:
    """The tag value of a point: its id, with what cannot be written in lines and queries as %XX."""
    return UNSAFE.sub(lambda match: f"%{ord(match[0]):02X}", point_id)


def point_of(value: str) -> str:
    """The id of the point that has this tag value."""
    return re.sub("%([0-9A-F]{2})", lambda match: chr(int(match[1], 16)), value)


def tag_set(point: str) -> str:
    """The tag value `point` as the tag that a line has."""
    return "point=" + re.sub(r"([ ,=])", r"\\\1", point)


class LineWriter:
    """Writes lines to a server that takes them as InfluxDB 2 does."""

    def __init__(self, url: str, org: str, bucket: str, token: str) -> None:
        """Connect with the first write."""
        self._client = InfluxDBClient(url, token, org=org, timeout=int(WRITE_TIMEOUT_S * 1000))
        self._api = self._client.write_api(write_options=SYNCHRONOUS)
        self._bucket = bucket

    @property
    def client(self) -> InfluxDBClient:
        """The client, for what is not writing."""
        return self._client

    def write(self, lines: bytes) -> None:
        """Have the server take the lines; blocks.

        Raises:
            HistoryError: it refused them, or did not answer; it may have taken some.
        """
        try:
            self._api.write(self._bucket, record=lines, write_precision=WritePrecision.MS)  # type: ignore[arg-type]
        except (ApiException, HTTPError, OSError) as error:
            raise HistoryError(reason(error)) from error

    def close(self) -> None:
        """Disconnect."""
        self._api.close()  # type: ignore[no-untyped-call]
        self._client.close()  # type: ignore[no-untyped-call]


def reason(error: Exception) -> str:
    """What the server said, or why it said nothing, in one line."""
    said = f"{error.status} {error.body or error.reason}" if isinstance(error, ApiException) else str(error)
    return " ".join((said or repr(error)).split())


Column = tuple[I64, F64]  # times in ms, ascending and each once, and the values at them


def trend_of_samples(fields: Mapping[str, Column], limit: int) -> Trend:
    """The trend of single readings, put together from their fields by time.

    A usable reading whose value the server does not show yet is left out.
    """
    times, numbers = fields[QUALITY]
    quality = numbers.astype(np.uint8)
    bad = is_bad(quality)
    value = np.where(bad, at(times, fields[BAD_VALUE]), at(times, fields[VALUE]))
    shown = (bad | np.isfinite(value)).nonzero()[0][:limit]
    value = value[shown]
    return Trend(times[shown] * MILLISECOND, value, value, value, quality[shown])


def trend_of_steps(columns: Mapping[str, Column], limit: int) -> Trend:
    """The trend by steps, put together from "mean", "low", "high" and `QUALITY` by the steps' beginnings."""
    times, numbers = columns[QUALITY][0][:limit], columns[QUALITY][1][:limit]
    mean, low, high = (at(times, columns[name]) for name in ("mean", "low", "high"))
    return Trend(times * MILLISECOND, mean, low, high, numbers.astype(np.uint8))


def trend_of_hours(columns: Mapping[str, Column], start: int, step: int, limit: int) -> Trend:
    """The trend by steps of whole hours from `start` on, put together from hours, which have their `NUMBER` of values.

    The columns are by the hours' beginnings; start and step are in ms, a step is whole hours.
    """
    times, quality = columns[QUALITY]
    begins, first = np.unique(start + (times - start) // step * step, return_index=True)
    if not len(begins):
        return trend_of_steps(columns, limit)
    number, mean, low, high = (at(times, columns[name]) for name in (NUMBER, "mean", "low", "high"))
    number = np.nan_to_num(number)
    total = np.where(number > 0, mean * number, 0.0)
    numbers = np.add.reduceat(number, first)
    figures = {
        QUALITY: np.minimum.reduceat(quality, first),
        "mean": np.divide(np.add.reduceat(total, first), numbers, np.full(len(begins), np.nan), where=numbers > 0),
        "low": np.fmin.reduceat(low, first),
        "high": np.fmax.reduceat(high, first),
    }
    return trend_of_steps({name: (begins, values) for name, values in figures.items()}, limit)


def column(times: Sequence[int], values: Sequence[float]) -> Column:
    """A column from what a server's answer was taken apart into."""
    return np.asarray(times, dtype=np.int64), np.asarray(values, dtype=np.float64)


def at(times: I64, field: Column) -> F64:
    """The values of a column at `times`; NaN where it has none."""
    there, values = field
    found = np.full(len(times), np.nan)
    if len(there):
        place = np.minimum(np.searchsorted(there, times), len(there) - 1)
        same = there[place] == times
        found[same] = values[place[same]]
    return found
