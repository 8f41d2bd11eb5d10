"""The time-series store on InfluxDB 2: written as lines, read by Flux."""

import asyncio
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, ParamSpec, Self, TypeVar

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
    Names,
    column,
    reason,
    tag,
    trend_of_samples,
    trend_of_steps,
)
from tocsin_cloud.adapters.history_state import StateFile
from tocsin_cloud.settings import HistoryAddress
from tocsin_core.readings import Frame

P = ParamSpec("P")
T = TypeVar("T")

HOUR_S: Final = 3600
HOUR_NS: Final = HOUR_S * 1000 * MILLISECOND
ROLL_UPS: Final = {"mean": (VALUE, "mean"), "low": (VALUE, "min"), "high": (VALUE, "max"), QUALITY: (QUALITY, "min")}
NOTHING: Final = trend_of_samples(dict.fromkeys((QUALITY, VALUE, BAD_VALUE), column([], [])), 0)
EPOCH: Final = datetime.fromtimestamp(0, UTC)


class InfluxHistory:
    """The History port on a bucket of InfluxDB 2.

    The server syncs a write to its log before it answers (storage-wal-fsync-delay is 0 unless set), and keeps one
    value a field, point and time: the later one. The historian's state lies in a file in the data folder, and is
    replaced after the readings that belong to it are written.
    """

    def __init__(self, address: HistoryAddress, token: str, state: StateFile) -> None:
        """Talk to nobody yet."""
        org, self._bucket = address.path
        url = f"{'https' if address.secure else 'http'}://{address.hosts[0]}"
        self._writer = LineWriter(url, org, self._bucket, token)
        self._queries = self._writer.client.query_api()
        self._deletes = self._writer.client.delete_api()
        self._file = state
        self._state = state.load()
        self._names = Names()
        self._commits = 0

    @classmethod
    async def open(cls, address: HistoryAddress, folder: Path, token: str) -> Self:
        """Take the state file in `folder`; a server that is away is waited for by the commits.

        Raises:
            HistoryError: another process works on the folder.
        """
        return cls(address, token, StateFile.open(folder))

    @property
    def state(self) -> Mapping[str, bytes]:
        """The state that the commits left."""
        return self._state

    def key(self, point_id: str) -> int:
        """The key of `point_id`, a new one if it is new."""
        return self._names.key(point_id)

    async def commit(self, frame: Frame, state: Mapping[str, bytes]) -> None:
        """Write the readings, then `state`.

        Raises:
            HistoryError: the server is away or refuses, or the state file does.
        """
        if len(frame):
            await asyncio.to_thread(lambda: self._writer.write(self._names.lines(frame)))
        await asyncio.to_thread(self._file.save, state)
        self._state.update(state)
        self._commits += 1

    async def durable(self) -> int:
        """All commits: the server syncs before it answers."""
        return self._commits

    async def read(self, point_id: str, start_ns: int, end_ns: int, step_ns: int | None, limit: int) -> Trend:
        """Rows of one point, as the port says.

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

    async def tend(self) -> bool:
        """Nothing: a trend is worked out of all its readings."""
        return False

    async def retain(self, before_ns: int) -> None:
        """Delete what is older than the whole hour before `before_ns`.

        Raises:
            HistoryError: the server is away, or the token does not allow to delete.
        """
        until = datetime.fromtimestamp(before_ns // HOUR_NS * HOUR_S, UTC)
        await self._ask(self._deletes.delete, EPOCH, until, f'_measurement="{MEASUREMENT}"', self._bucket)

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
