"""The embedded time-series store: one DuckDB file holding readings, point keys and the historian's own state."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Self, TypeVar

import duckdb
import numpy as np
from numpy.typing import NDArray

from tocsin_cloud.adapters.history import HistoryError, Trend
from tocsin_core.readings import F64, GOOD, QUALITY_MASK, UNCERTAIN, Frame

T = TypeVar("T")

FORMAT: Final = 1
# How DuckDB says that another process has the file; it has no type of its own for that.
LOCKED: Final = "Could not set lock"
SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS readings
    (point INTEGER NOT NULL, time_ns BIGINT NOT NULL, value DOUBLE, quality UTINYINT NOT NULL);
CREATE TABLE IF NOT EXISTS points (key INTEGER PRIMARY KEY, id VARCHAR NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS meta (format INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS state (name VARCHAR PRIMARY KEY, body BLOB NOT NULL);
"""
# NaN cannot be told from a value by min and max: what is no value is stored as none.
INSERT: Final = (
    "INSERT INTO readings SELECT point, time_ns, CASE WHEN isnan(value) THEN NULL ELSE value END, quality FROM incoming"
)
# A reading that came twice outside a batch stands twice in the table and is read once.
ONCE: Final = """
SELECT time_ns, first(value) AS value, first(quality) AS quality FROM readings
WHERE point = $point AND time_ns >= $start AND time_ns < $end GROUP BY time_ns
"""
SAMPLES: Final = f"""
SELECT time_ns, value AS mean, value AS low, value AS high, quality FROM ({ONCE}) ORDER BY time_ns LIMIT $limit
"""  # noqa: S608 -- constants
USABLE: Final = f"CASE WHEN (quality & {QUALITY_MASK}) IN ({GOOD}, {UNCERTAIN}) THEN value END"
STEPS: Final = f"""
SELECT $start + ((time_ns - $start) // $step) * $step AS step_ns,
       avg(usable) AS mean, min(usable) AS low, max(usable) AS high, min(quality) AS quality
FROM (SELECT time_ns, quality, {USABLE} AS usable FROM ({ONCE}))
GROUP BY step_ns ORDER BY step_ns LIMIT $limit
"""  # noqa: S608 -- constants


class DuckdbHistory:
    """The History port on one DuckDB file.

    One thread writes, and each commit is one DuckDB transaction, synced to its log before it answers; DuckDB moves the
    log into the file by itself once it has 16 MiB, and at `close`. Readers see the last commit and hold up nobody.
    """

    durable_after_s = 0.0

    def __init__(self, connection: duckdb.DuckDBPyConnection, thread: ThreadPoolExecutor) -> None:
        """Keep what `open` made."""
        self._connection = connection
        self._thread = thread
        self._keys: dict[str, int] = {}
        self._durable_keys = 0
        self._state: dict[str, bytes] = {}

    @classmethod
    async def open(cls, path: Path) -> Self:
        """Open or create the file; a log that a crash left behind is replayed.

        Raises:
            HistoryError: another process has it open, or it is not ours.
        """
        thread = ThreadPoolExecutor(1, thread_name_prefix="history")
        try:
            connection = await asyncio.get_running_loop().run_in_executor(thread, duckdb.connect, str(path))
            history = cls(connection, thread)
            await history._in_thread(history._load)
        except duckdb.Error as error:
            thread.shutdown()
            if LOCKED in str(error):
                raise HistoryError(f"another process works on {path.parent}: it holds {path.name}") from error
            raise HistoryError(f"{path}: {error}") from error
        except BaseException:
            thread.shutdown()
            raise
        return history

    @property
    def state(self) -> Mapping[str, bytes]:
        """The state that the commits left."""
        return self._state

    def key(self, point_id: str) -> int:
        """The key of `point_id`, a new one if it is new."""
        return self._keys.setdefault(point_id, len(self._keys))

    async def commit(self, frame: Frame, state: Mapping[str, bytes]) -> None:
        """Store readings, new keys and `state` in one transaction.

        Raises:
            HistoryError: nothing was stored.
        """
        fresh = list(self._keys.items())[self._durable_keys :]
        await self._in_thread(lambda: self._commit(frame, fresh, state))
        self._durable_keys += len(fresh)
        self._state.update(state)

    async def read(self, point_id: str, start_ns: int, end_ns: int, step_ns: int | None, limit: int) -> Trend:
        """Rows of one point, as the port says.

        Raises:
            HistoryError: DuckDB refused.
        """
        key = self._keys.get(point_id)
        if key is None:
            key = -1
        values = {"point": key, "start": start_ns, "end": end_ns, "limit": limit}
        if step_ns is not None:
            values["step"] = step_ns
        try:
            return await asyncio.to_thread(self._read, SAMPLES if step_ns is None else STEPS, values)
        except duckdb.Error as error:
            raise HistoryError(str(error)) from error

    async def retain(self, before_ns: int) -> int:
        """Delete readings older than `before_ns`.

        Raises:
            HistoryError: DuckDB refused.
        """
        return await self._in_thread(lambda: self._retain(before_ns))

    async def close(self) -> None:
        """Move the log into the file and close it."""
        try:
            await self._in_thread(self._connection.close)
        finally:
            self._thread.shutdown()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except duckdb.Error as error:
            raise HistoryError(str(error)) from error

    def _load(self) -> None:
        connection = self._connection
        connection.execute(SCHEMA)
        connection.execute("INSERT INTO meta SELECT ? WHERE NOT EXISTS (FROM meta)", [FORMAT])
        if connection.execute("SELECT format FROM meta").fetchall() != [(FORMAT,)]:
            raise HistoryError(f"the history file is of another format than {FORMAT}")
        self._keys = {
            point: key for key, point in connection.execute("SELECT key, id FROM points ORDER BY key").fetchall()
        }
        self._durable_keys = len(self._keys)
        self._state = {
            name: bytes(body) for name, body in connection.execute("SELECT name, body FROM state").fetchall()
        }

    def _commit(self, frame: Frame, fresh: list[tuple[str, int]], state: Mapping[str, bytes]) -> None:
        connection = self._connection
        connection.execute("BEGIN")
        try:
            if fresh:
                connection.executemany("INSERT INTO points VALUES (?, ?)", [[key, point] for point, key in fresh])
            if len(frame):
                columns = {
                    "point": frame.point,
                    "time_ns": frame.time_ns,
                    "value": frame.value,
                    "quality": frame.quality,
                }
                connection.register("incoming", columns)
                try:
                    connection.execute(INSERT)
                finally:
                    connection.unregister("incoming")
            for name, body in state.items():
                connection.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", [name, body])
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise

    def _read(self, query: str, values: dict[str, int]) -> Trend:
        with self._connection.cursor() as cursor:
            columns = cursor.execute(query, values).fetchnumpy()
        return Trend(
            np.asarray(columns[next(iter(columns))], dtype=np.int64),
            _floats(columns["mean"]),
            _floats(columns["low"]),
            _floats(columns["high"]),
            np.asarray(columns["quality"], dtype=np.uint8),
        )

    def _retain(self, before_ns: int) -> int:
        found = self._connection.execute("DELETE FROM readings WHERE time_ns < ?", [before_ns]).fetchone()
        return 0 if found is None else int(found[0])


def _floats(column: NDArray[np.float64]) -> F64:
    # DuckDB hands out absent values masked.
    return (
        np.ma.filled(np.ma.asarray(column, dtype=np.float64), np.nan)
        if np.ma.isMaskedArray(column)
        else np.asarray(column, np.float64)
    )
