"""The embedded time-series store: one DuckDB file holding readings, point keys and the historian's own state."""

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Final, Self, TypeVar

import duckdb
import numpy as np
import structlog
from numpy.typing import NDArray

from tocsin_cloud.adapters.history import HistoryBusyError, HistoryError, Trend, Wanted
from tocsin_cloud.adapters.history_duckdb_tables import (
    RECENT,
    Columns,
    FormatError,
    Span,
    copy,
    forget,
    insert,
    move_on,
    name,
    prepare,
    read,
    read_each,
    rows,
)
from tocsin_core.readings import F64, Frame

log = structlog.get_logger()

T = TypeVar("T")

# How DuckDB says that another process has the file; it has no type of its own for that.
LOCKED: Final = "Could not set lock"
# A trend of one point reads at least a block of 122,880 rows of each chunk, and everything that has not moved on yet: a
# chunk holds some rows of each point, at least two blocks, and no more than can be sorted in memory (100 bytes a row).
CHUNK_ROWS_A_POINT: Final = 200
LEAST_CHUNK_ROWS: Final = 250_000
MOST_CHUNK_ROWS: Final = 8_000_000
# So many trends are read at a time.
READERS: Final = 4
# So often a copy is told to stop that has perhaps not begun in earnest yet.
INTERRUPT_S: Final = 0.05


class DuckdbHistory:
    """The History port on one DuckDB file.

    One thread commits, each commit in one transaction that is synced to DuckDB's log before it answers; DuckDB moves
    the log into the file by itself once it has 16 MiB, and at `close`. A second thread moves chunks of readings on,
    and forgets; commits wait for it only when more comes than it can sort. Readers see the last commit.
    """

    def __init__(
        self,
        path: Path,
        connection: duckdb.DuckDBPyConnection,
        committing: ThreadPoolExecutor,
        least_chunk_rows: int,
    ) -> None:
        """Keep what `open` made."""
        self._path = path
        self._connection = connection
        self._committing = committing
        self._tidying = ThreadPoolExecutor(1, thread_name_prefix="history-tidying")
        self._reading = ThreadPoolExecutor(READERS, thread_name_prefix="history-reading")
        self._copies: set[duckdb.DuckDBPyConnection] = set()
        self._copying = threading.Lock()
        # Whoever is cancelled while it waits for that leaves it: the thread goes on with it, and `close` waits for it.
        self._moving: asyncio.Future[None] | None = None
        self._least_chunk_rows = least_chunk_rows
        # Rows in each table of RECENT, and which of them takes the commits.
        self._gathered = [0, 0]
        self._active = 0
        self._commits = 0
        self._keys: dict[str, int] = {}
        # Keys that are in no commit yet.
        self._fresh: list[tuple[str, int]] = []
        self._state: dict[str, bytes] = {}
        # After some failures, as of a full disk while its log moves into the file, DuckDB takes and gives nothing more
        # until the file is opened anew.
        self._invalid = False

    @classmethod
    async def open(cls, path: Path, least_chunk_rows: int = LEAST_CHUNK_ROWS) -> Self:
        """Open or create the file; a log that a crash left behind is replayed.

        Raises:
            HistoryError: another process has it open, or it is not ours.
        """
        loop, thread = asyncio.get_running_loop(), ThreadPoolExecutor(1, thread_name_prefix="history")
        try:
            connection = await loop.run_in_executor(thread, duckdb.connect, str(path))
            try:
                history = cls(path, connection, thread, least_chunk_rows)
                await loop.run_in_executor(thread, history._load)
            except BaseException:
                # In its turn: whoever was cancelled may have left it busy there.
                await loop.run_in_executor(thread, connection.close)
                raise
        except (duckdb.Error, FormatError) as error:
            thread.shutdown()
            if LOCKED in str(error):
                raise HistoryBusyError(f"another process works on {path.parent}: it holds {path.name}") from error
            raise HistoryError(f"{path}: {error}") from error
        except BaseException:
            thread.shutdown()
            raise
        return history

    @property
    def state(self) -> Mapping[str, bytes]:
        """The state that the commits left."""
        return self._state

    @property
    def dropped(self) -> int:
        """None: what is taken is stored."""
        return 0

    def key(self, point_id: str) -> int:
        """The key of `point_id`, a new one if it is new; it belongs to it for as long as the file lives."""
        known = self._keys.get(point_id)
        if known is None:
            known = self._keys[point_id] = len(self._keys)
            self._fresh.append((point_id, known))
        return known

    async def commit(self, frame: Frame, state: Mapping[str, bytes]) -> None:
        """Store readings, new keys and `state` in one transaction.

        Raises:
            HistoryError: nothing was stored.
        """
        if self._invalid:
            await self._open_anew()
        await self._tidy()
        fresh = self._fresh.copy()
        await self._in(self._committing, lambda: self._commit(frame, fresh, state))
        del self._fresh[: len(fresh)]
        self._state.update(state)
        self._commits += 1
        self._gathered[self._active] += len(frame)

    async def durable(self) -> int:
        """All commits: each was synced before it answered."""
        return self._commits

    async def read(self, point_id: str, start_ns: int, end_ns: int, step_ns: int | None, limit: int) -> Trend:
        """Rows of one point, as the port says.

        Raises:
            HistoryError: DuckDB refused.
        """
        span = Span(self._keys.get(point_id, -1), start_ns, end_ns)
        return await self._in(self._reading, lambda: self._read(span, step_ns, limit))

    async def read_each(self, wanted: Sequence[Wanted]) -> list[Trend]:
        """As the port says, in one pass over what has gathered.

        Raises:
            HistoryError: DuckDB refused.
        """
        spans = [Span(self._keys.get(each.point_id, -1), each.start_ns, each.end_ns) for each in wanted]
        steps_ns = [each.step_ns for each in wanted]
        return await self._in(self._reading, lambda: self._read_each(spans, steps_ns))

    def overtaken(self) -> None:
        """Nothing: what others have stored is in files of their own."""

    async def tend(self) -> int:
        """Nothing: readings are rolled up as they move on."""
        return 0

    async def retain(self, before_ns: int) -> None:
        """Delete readings and roll-ups older than the whole hour before `before_ns`.

        Raises:
            HistoryError: DuckDB refused.
        """
        await self._in(self._tidying, lambda: self._aside(lambda cursor: forget(cursor, before_ns)))

    async def copy(self, folder: Path) -> None:
        """Write the store into another file, as the port says.

        Raises:
            HistoryError: DuckDB refused, or is just making another copy; or the store is closed meanwhile.
        """
        await self._in(self._reading, lambda: self._aside(lambda cursor: self._copy(cursor, folder / self._path.name)))

    async def close(self) -> None:
        """Let a chunk that moves on finish, and what is being read, but no copy; move the log into the file, close it.

        Raises:
            HistoryError: the log stayed where it is, for the next opening.
        """
        try:
            if self._moving is not None:
                await asyncio.shield(self._moving)
            # Nobody may wait for an answer any more, and DuckDB closes nothing that is being read.
            ending = asyncio.ensure_future(asyncio.to_thread(self._reading.shutdown, cancel_futures=True))
            while not ending.done():
                with self._copying:
                    for cursor in self._copies:
                        cursor.interrupt()
                await asyncio.wait([ending], timeout=INTERRUPT_S)
            await ending
            await asyncio.to_thread(self._tidying.shutdown)
            await self._in(self._committing, self._connection.close)
        finally:
            self._committing.shutdown()

    async def _tidy(self) -> None:
        """Move on what has gathered when it is a chunk; commits go to the other table from now on."""
        wanted = max(self._least_chunk_rows, CHUNK_ROWS_A_POINT * len(self._keys))
        chunk = min(wanted, MOST_CHUNK_ROWS)
        gathered = self._gathered[self._active]
        if self._moving is not None and not self._moving.done():
            if gathered < 2 * chunk:
                return
            # More comes than can be sorted: what comes waits, lest what is to be sorted grows without end.
            await asyncio.shield(self._moving)
        if gathered >= chunk:
            full, self._active = self._active, 1 - self._active
            self._moving = asyncio.ensure_future(self._move_on(full, chunk))

    async def _open_anew(self) -> None:
        """Close the file that is given up, and open it. Whoever reads meanwhile is refused; nothing committed is lost.

        Raises:
            HistoryError: it cannot be opened yet.
        """
        if self._moving is not None:
            await asyncio.shield(self._moving)
        await self._in(self._committing, self._reconnect)
        self._invalid = False
        log.warning("history opened anew")

    async def _move_on(self, full: int, chunk: int) -> None:
        try:
            await self._in(self._tidying, lambda: self._aside(lambda cursor: move_on(cursor, RECENT[full], chunk)))
        except HistoryError as error:
            # The rows are read where they are, and go with the next chunk.
            log.error("history not compacted", reason=str(error), rows=self._gathered[full])  # noqa: TRY400 -- the message is the reason
        else:
            self._gathered[full] = 0

    async def _in(self, thread: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        waiting, task = asyncio.get_running_loop().run_in_executor(thread, work), asyncio.current_task()
        try:
            return await waiting
        except duckdb.Error as error:
            self._invalid |= isinstance(error, duckdb.FatalException)
            raise HistoryError(str(error)) from error
        except asyncio.CancelledError:
            if waiting.cancelled() and task is not None and not task.cancelling():
                raise HistoryError("the history was closed before its turn came") from None
            raise

    def _aside(self, work: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        # A cursor that is closed with a transaction open takes it back.
        with self._connection.cursor() as cursor:
            return work(cursor)

    def _copy(self, cursor: duckdb.DuckDBPyConnection, path: Path) -> None:
        with self._copying:
            self._copies.add(cursor)
        try:
            copy(cursor, path)
        finally:
            with self._copying:
                self._copies.discard(cursor)

    def _reconnect(self) -> None:
        self._connection.close()
        # While somebody's cursor is still open this is the old one, and refuses.
        self._connection = duckdb.connect(str(self._path))
        connection = self._connection
        self._gathered = [rows(connection, table) for table in RECENT]
        # A commit that was refused may have taken place.
        named = {point for (point,) in connection.execute("SELECT id FROM points").fetchall()}
        self._fresh = [fresh for fresh in self._fresh if fresh[0] not in named]

    def _load(self) -> None:
        connection = self._connection
        prepare(connection)
        self._gathered = [rows(connection, table) for table in RECENT]
        self._keys = {
            point: key for key, point in connection.execute("SELECT key, id FROM points ORDER BY key").fetchall()
        }
        self._state = {
            part: bytes(body) for part, body in connection.execute("SELECT name, body FROM state").fetchall()
        }

    def _commit(self, frame: Frame, fresh: list[tuple[str, int]], state: Mapping[str, bytes]) -> None:
        connection = self._connection
        connection.execute("BEGIN")
        try:
            if fresh:
                name(connection, fresh)
            if len(frame):
                insert(connection, frame, RECENT[self._active])
            for part, body in state.items():
                # Megabytes: REPLACE would make a text of them first.
                connection.execute("DELETE FROM state WHERE name = ?", [part])
                connection.execute("INSERT INTO state VALUES (?, ?)", [part, body])
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise

    def _read(self, span: Span, step_ns: int | None, limit: int) -> Trend:
        return _trend(self._aside(lambda cursor: read(cursor, span, step_ns, limit)))

    def _read_each(self, spans: list[Span], steps_ns: list[int]) -> list[Trend]:
        columns = self._aside(lambda cursor: read_each(cursor, spans, steps_ns))
        ends = np.searchsorted(columns["row"], np.arange(len(spans) + 1))
        return [_trend({name: column[slice(*ends)] for name, column in columns.items()}) for ends in pairwise(ends)]


def _trend(columns: Columns) -> Trend:
    return Trend(
        np.asarray(columns["time_ns"], dtype=np.int64),
        _floats(columns["mean"]),
        _floats(columns["low"]),
        _floats(columns["high"]),
        np.asarray(columns["quality"], dtype=np.uint8),
    )


def _floats(column: NDArray[np.float64]) -> F64:
    # DuckDB hands out absent values masked.
    return (
        np.ma.filled(np.ma.asarray(column, dtype=np.float64), np.nan)
        if np.ma.isMaskedArray(column)
        else np.asarray(column, np.float64)
    )
