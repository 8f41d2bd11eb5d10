"""A bucket of InfluxDB 2: written to as lines, asked by Flux."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, ParamSpec, TypeVar

from influxdb_client.client.flux_csv_parser import FluxQueryException
from influxdb_client.rest import ApiException
from urllib3.exceptions import HTTPError

from tocsin_cloud.adapters.history import HistoryError, Trend
from tocsin_cloud.adapters.history_lines import (
    BAD_VALUE,
    MEASUREMENT,
    MILLISECOND,
    QUALITY,
    VALUE,
    LineWriter,
    column,
    point_of,
    reason,
    tag,
    trend_of_samples,
    trend_of_steps,
)
from tocsin_cloud.settings import HistoryAddress

P = ParamSpec("P")
T = TypeVar("T")

ROLL_UPS: Final = {"mean": (VALUE, "mean"), "low": (VALUE, "min"), "high": (VALUE, "max"), QUALITY: (QUALITY, "min")}
NOTHING: Final = trend_of_samples(dict.fromkeys((QUALITY, VALUE, BAD_VALUE), column([], [])), 0)
EPOCH: Final = datetime.fromtimestamp(0, UTC)


class InfluxServer:
    """One bucket, with a token that may read and write it, and delete in it."""

    def __init__(self, address: HistoryAddress, token: str) -> None:
        """Talk to nobody yet."""
        org, self._bucket = address.path
        url = f"{'https' if address.secure else 'http'}://{address.hosts[0]}"
        self._writer = LineWriter(url, org, self._bucket, token)
        self._queries = self._writer.client.query_api()
        self._deletes = self._writer.client.delete_api()

    async def write(self, lines: bytes) -> None:
        """Have it take lines.

        Raises:
            HistoryError: it refused them, or did not answer; it may have taken some.
        """
        await asyncio.to_thread(self._writer.write, lines)

    async def points(self) -> list[str]:
        """The ids of all points that have readings.

        Raises:
            HistoryError: the server is away or refuses.
        """
        query = (
            'import "influxdata/influxdb/schema"\n'
            f'schema.tagValues(bucket: {_text(self._bucket)}, tag: "point", start: time(v: 0), '
            f'predicate: (r) => r._measurement == "{MEASUREMENT}")'
        )
        tables = await self._ask(self._queries.query, query)
        return [point_of(record.values["_value"]) for table in tables for record in table.records]

    async def read(self, point_id: str, start_ns: int, end_ns: int, step_ns: int | None, limit: int) -> Trend:
        """Rows of one point, as the History port says.

        Raises:
            HistoryError: the server is away or refuses.
        """
        if start_ns >= end_ns:
            # Flux takes no empty range.
            return NOTHING
        query = (
            f"data = from(bucket: {_text(self._bucket)}) "
            f"|> range(start: time(v: {start_ns}), stop: time(v: {end_ns})) "
            f'|> filter(fn: (r) => r._measurement == "{MEASUREMENT}" and r.point == {_text(tag(point_id))})\n'
        )
        wanted = {field: (field, "") for field in (QUALITY, VALUE, BAD_VALUE)}
        if step_ns is not None:
            wanted = {name: (field, _windows(start_ns, step_ns, fn)) for name, (field, fn) in ROLL_UPS.items()}
        query += "\n".join(
            f'data |> filter(fn: (r) => r._field == "{field}") {windows}|> limit(n: {limit}) '
            f"|> map(fn: (r) => ({{ms: int(v: r._time) / {MILLISECOND}, number: float(v: r._value)}})) "
            f'|> yield(name: "{name}")'
            for name, (field, windows) in wanted.items()
        )
        records = [record.values for table in await self._ask(self._queries.query, query) for record in table.records]
        found = {name: [record for record in records if record["result"] == name] for name in wanted}
        columns = {
            name: column([record["ms"] for record in rows], [record["number"] for record in rows])
            for name, rows in found.items()
        }
        return (trend_of_samples if step_ns is None else trend_of_steps)(columns, limit)

    async def forget(self, until: datetime) -> None:
        """Delete what is older.

        Raises:
            HistoryError: the server is away, or the token does not allow to delete.
        """
        await self._ask(self._deletes.delete, EPOCH, until, f'_measurement="{MEASUREMENT}"', self._bucket)

    def close(self) -> None:
        """Disconnect."""
        self._writer.close()

    async def _ask(self, asked: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        try:
            return await asyncio.to_thread(asked, *arguments, **named)
        except (ApiException, FluxQueryException, HTTPError, OSError) as error:
            raise HistoryError(reason(error)) from error


def _windows(start_ns: int, step_ns: int, function: str) -> str:
    every, offset = step_ns // MILLISECOND, start_ns % step_ns // MILLISECOND
    return (
        f"|> aggregateWindow(every: {every}ms, offset: {offset}ms, fn: {function}, createEmpty: false, "
        'timeSrc: "_start") '
    )


def _text(words: str) -> str:
    return json.dumps(words, ensure_ascii=False)
