"""The store-and-forward file: numbered batches in SQLite, kept until the database uphill has committed them."""

import json
import sqlite3
import zlib
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Final, Self

import numpy as np
import structlog

from tocsin_core.sparkplug.edge import Columns

SCHEMA_VERSION: Final = 1
COUNTERS: Final = ("readings_polled", "readings_committed", "readings_dropped", "batch_last", "batch_committed")
MARKS: Final = ("bd_seq", "host_acknowledges")
BD_SEQ_MODULUS: Final = 256
TRIM_CHUNK: Final = 256
BYTES_PER_MB: Final = 1_000_000
WAL_LIMIT: Final = 4_000_000
# One packed reading: u16, i64, f64 and u8.
READING_BYTES: Final = 19

SCHEMA: Final = """
CREATE TABLE counters(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE layouts(id INTEGER PRIMARY KEY, device TEXT NOT NULL, metrics TEXT NOT NULL, UNIQUE(device, metrics));
CREATE TABLE batches(
    number INTEGER PRIMARY KEY,
    layout INTEGER NOT NULL REFERENCES layouts(id),
    readings INTEGER NOT NULL,
    columns BLOB NOT NULL,
    committed_ms INTEGER
);
CREATE INDEX uncommitted ON batches(number) WHERE committed_ms IS NULL;
CREATE INDEX committed ON batches(committed_ms) WHERE committed_ms IS NOT NULL;
"""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Batch:
    """One future data message: readings of one device; `columns.metric` counts in `metrics`, the names at that time."""

    number: int
    device: str
    metrics: tuple[str, ...]
    columns: Columns


class Spool:
    """One gateway's spool; used by one thread at a time.

    Every append is one transaction with `synchronous=FULL`: what was reported as kept survives kill -9 and a power cut;
    the loss window is the append that had not returned. Numbers count up for as long as the file lives, and go on after
    a damaged file as far as it can still be read.
    """

    def __init__(self, path: Path, database: sqlite3.Connection, max_bytes: int, keep_ms: int) -> None:
        """Use `open`."""
        self._path = path
        self._db = database
        self._max_bytes = max_bytes
        self._keep_ms = keep_ms
        self._layouts: dict[tuple[str, tuple[str, ...]], int] = {}
        self._names: dict[int, tuple[str, tuple[str, ...]]] = {}

    @classmethod
    def open(cls, path: Path, max_mb: int, keep_s: float, now_ms: int) -> Self:
        """Open or create the spool at `path`; a damaged file is set aside, and what can be read of it is taken over.

        Raises:
            OSError: the folder cannot be made or written.
            sqlite3.OperationalError: the file cannot be opened although it is not damaged (read-only, disk full).
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        aside: Path | None = None
        try:
            database = _connect(path)
            _check(database)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError) and path.exists() and _is_sound(path):
                raise
            aside = _set_aside(path, now_ms)
            log.critical("spool damaged, set aside", file=str(path), aside=str(aside), reason=str(error))
            database = _connect(path)
        if database.execute("PRAGMA user_version").fetchone()[0] == 0:
            _create(database)
        spool = cls(path, database, max_mb * BYTES_PER_MB, round(keep_s * 1000))
        if aside is not None:
            spool._salvage(aside)
        return spool

    def close(self) -> None:
        """Close the file; nothing is lost by not calling this."""
        self._db.close()

    def counters(self) -> dict[str, int]:
        """Get the cumulative counters by name."""
        return dict(self._db.execute("SELECT name, value FROM counters"))

    def append(self, parts: Sequence[tuple[str, tuple[str, ...], Columns]]) -> list[int]:
        """Keep one batch for each (device, metric names, columns), all in one transaction; give their numbers.

        Raises:
            sqlite3.Error: nothing of this was kept (disk full, file damaged).
        """
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            first = self._counter("batch_last") + 1
            rows = [
                (number, self._layout(device, metrics), len(columns), pack(columns))
                for number, (device, metrics, columns) in enumerate(parts, first)
            ]
            self._db.executemany("INSERT INTO batches(number, layout, readings, columns) VALUES (?, ?, ?, ?)", rows)
            self._set("batch_last", first + len(rows) - 1)
            self._add("readings_polled", sum(row[2] for row in rows))
        return [row[0] for row in rows]

    def uncommitted(self, after: int, upto: int, limit: int) -> list[Batch]:
        """Read at most `limit` batches that wait for their commit, after < number <= upto, oldest first.

        A batch whose bytes do not check out is dropped and counted.
        """
        rows = self._db.execute(
            "SELECT number, layout, readings, columns FROM batches INDEXED BY uncommitted"
            " WHERE committed_ms IS NULL AND number > ? AND number <= ? ORDER BY number LIMIT ?",
            (after, upto, limit),
        ).fetchall()
        batches = []
        for number, layout, readings, blob in rows:
            columns = unpack(blob)
            if columns is None or len(columns) != readings:
                log.error("batch damaged, dropped", batch=number, readings=readings)
                self._drop([(number, readings)])
                continue
            batches.append(Batch(number, *self._named(layout), columns))
        return batches

    def commit(self, numbers: Iterable[int], now_ms: int) -> None:
        """Note that the batches `numbers` are safe uphill; they are kept a while longer all the same."""
        self._commit(_ranges(numbers), now_ms)

    def commit_upto(self, number: int, now_ms: int) -> None:
        """Note that all batches up to `number` are safe uphill; they are kept a while longer all the same."""
        self._commit([(0, number)], now_ms)

    def _commit(self, ranges: Sequence[tuple[int, int]], now_ms: int) -> None:
        where = "WHERE number BETWEEN ? AND ? AND committed_ms IS NULL"
        # The planner would walk the whole range by the primary key, over all that is committed already.
        total = f"SELECT coalesce(sum(readings), 0) FROM batches INDEXED BY uncommitted {where}"  # noqa: S608 - fixed text
        mark = f"UPDATE batches INDEXED BY uncommitted SET committed_ms = ? {where}"  # noqa: S608 - fixed text
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            done = 0
            for first, last in ranges:
                done += self._db.execute(total, (first, last)).fetchone()[0]
                self._db.execute(mark, (now_ms, first, last))
            self._add("readings_committed", done)
            self._update_floor()

    def reopen(self, after: int) -> int:
        """Take back the commits of all batches after number `after` that are still kept; give how many.

        For a cloud side that was restored from an older state and has only what came up to `after`.
        """
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            where = "WHERE number > ? AND committed_ms IS NOT NULL"
            count, undone = self._db.execute(
                f"SELECT count(*), coalesce(sum(readings), 0) FROM batches {where}",  # noqa: S608 - fixed text
                (after,),
            ).fetchone()
            self._db.execute(f"UPDATE batches SET committed_ms = NULL {where}", (after,))  # noqa: S608 - fixed text
            self._add("readings_committed", -undone)
            self._update_floor()
        return int(count)

    def trim(self, now_ms: int) -> int:
        """Forget what was committed long ago, and, over the byte bound, the oldest.

        Gives the number of readings that were lost by this, which are also counted.
        """
        lost = 0
        with self._db:
            self._db.execute("DELETE FROM batches WHERE committed_ms < ?", (now_ms - self._keep_ms,))
        while (excess := self._used() - self._max_bytes) > 0:
            committed = self._oldest("NOT NULL", excess)
            if committed:
                with self._db:
                    self._db.executemany("DELETE FROM batches WHERE number = ?", [(row[0],) for row in committed])
                continue
            oldest = self._oldest("NULL", excess)
            if not oldest:
                break
            self._drop(oldest)
            dropped = sum(readings for _, readings in oldest)
            lost += dropped
            log.warning("spool full, oldest history dropped", batches=len(oldest), readings=dropped)
        return lost

    def next_bd_seq(self) -> int:
        """Give the bdSeq of the next connection: one up from the last, 0 to 255, over restarts."""
        with self._db:
            value = (self._counter("bd_seq") + 1) % BD_SEQ_MODULUS
            self._set("bd_seq", value)
        return value

    @property
    def host_acknowledges(self) -> bool:
        """Whether a host has ever acknowledged a batch of this spool."""
        return bool(self._counter("host_acknowledges"))

    def note_acknowledging_host(self) -> None:
        """Remember that the host acknowledges from its database; the broker's word no longer counts."""
        with self._db:
            self._set("host_acknowledges", 1)

    def _counter(self, name: str) -> int:
        return int(self._db.execute("SELECT value FROM counters WHERE name = ?", (name,)).fetchone()[0])

    def _set(self, name: str, value: int) -> None:
        self._db.execute("UPDATE counters SET value = ? WHERE name = ?", (value, name))

    def _add(self, name: str, value: int) -> None:
        self._db.execute("UPDATE counters SET value = value + ? WHERE name = ?", (value, name))

    def _update_floor(self) -> None:
        lowest = self._db.execute(
            "SELECT min(number) FROM batches INDEXED BY uncommitted WHERE committed_ms IS NULL"
        ).fetchone()[0]
        self._set("batch_committed", self._counter("batch_last") if lowest is None else lowest - 1)

    def _layout(self, device: str, metrics: tuple[str, ...]) -> int:
        key = (device, metrics)
        if key not in self._layouts:
            names = json.dumps(metrics)
            self._db.execute("INSERT OR IGNORE INTO layouts(device, metrics) VALUES (?, ?)", (device, names))
            found = self._db.execute("SELECT id FROM layouts WHERE device = ? AND metrics = ?", (device, names))
            self._layouts[key] = int(found.fetchone()[0])
        return self._layouts[key]

    def _named(self, layout: int) -> tuple[str, tuple[str, ...]]:
        if layout not in self._names:
            device, metrics = self._db.execute("SELECT device, metrics FROM layouts WHERE id = ?", (layout,)).fetchone()
            self._names[layout] = (device, tuple(json.loads(metrics)))
        return self._names[layout]

    def _used(self) -> int:
        pages, free, size = (
            self._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def _oldest(self, committed: str, excess: int) -> list[tuple[int, int]]:
        """Choose the oldest batches whose bytes come to `excess`, and never more than a chunk."""
        rows = self._db.execute(
            f"SELECT number, readings, length(columns) FROM batches WHERE committed_ms IS {committed}"  # noqa: S608 - NULL or NOT NULL
            " ORDER BY number LIMIT ?",
            (TRIM_CHUNK,),
        ).fetchall()
        before = accumulate((row[2] for row in rows), initial=0)
        return [
            (number, readings) for (number, readings, _), freed in zip(rows, before, strict=False) if freed < excess
        ]

    def _drop(self, rows: Sequence[tuple[int, int]]) -> None:
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("DELETE FROM batches WHERE number = ?", [(number,) for number, _ in rows])
            self._add("readings_dropped", sum(readings for _, readings in rows))
            self._update_floor()

    def _salvage(self, aside: Path) -> None:
        """Take over from a damaged file what can still be read: counters, and batches that were not committed."""
        taken = 0
        try:
            with closing(sqlite3.connect(f"file:{aside}?mode=ro", uri=True)) as old:
                for name, value in old.execute("SELECT name, value FROM counters").fetchall():
                    if name in (*COUNTERS, *MARKS):
                        with self._db:
                            self._set(name, value)
                layouts = {row[0]: row[1:] for row in old.execute("SELECT id, device, metrics FROM layouts")}
                rows = old.execute(
                    "SELECT number, layout, columns FROM batches WHERE committed_ms IS NULL ORDER BY number"
                )
                for number, layout, blob in rows:
                    columns = unpack(blob)
                    if columns is not None and layout in layouts:
                        self._take(number, layouts[layout][0], tuple(json.loads(layouts[layout][1])), columns)
                        taken += 1
        except sqlite3.Error as error:
            log.critical("the rest of the damaged spool cannot be read", aside=str(aside), reason=str(error))
        with self._db:
            self._update_floor()
        log.warning("taken over from the damaged spool", batches=taken)

    def _take(self, number: int, device: str, metrics: tuple[str, ...], columns: Columns) -> None:
        with self._db:
            row = (number, self._layout(device, metrics), len(columns), pack(columns))
            self._db.execute(
                "INSERT OR IGNORE INTO batches(number, layout, readings, columns) VALUES (?, ?, ?, ?)", row
            )


def pack(columns: Columns) -> bytes:
    """Write columns as bytes: n, then metric u16, time_ms i64, value f64, quality u8 (little-endian), then CRC-32."""
    body = b"".join(
        (
            len(columns).to_bytes(4, "little"),
            columns.metric.astype("<u2").tobytes(),
            columns.time_ms.astype("<i8").tobytes(),
            columns.value.astype("<f8").tobytes(),
            columns.quality.astype("u1").tobytes(),
        )
    )
    return body + zlib.crc32(body).to_bytes(4, "little")


def unpack(blob: bytes) -> Columns | None:
    """Read what `pack` wrote, or give None where the bytes do not check out."""
    body, crc = blob[:-4], blob[-4:]
    if len(blob) < 8 or zlib.crc32(body).to_bytes(4, "little") != crc:  # noqa: PLR2004 - n and CRC
        return None
    n = int.from_bytes(body[:4], "little")
    if len(body) != 4 + n * READING_BYTES:
        return None
    starts = [4 + n * offset for offset in (0, 2, 10, 18)]
    return Columns(
        np.frombuffer(body, "<u2", n, starts[0]).astype(np.int64),
        np.frombuffer(body, "<i8", n, starts[1]).astype(np.int64),
        np.frombuffer(body, "<f8", n, starts[2]).astype(np.float64),
        np.frombuffer(body, "u1", n, starts[3]).astype(np.uint8),
    )


def _ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    ranges: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    return ranges


def _connect(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, check_same_thread=False, timeout=5)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT}")
    except sqlite3.Error:
        database.close()
        raise
    return database


def _check(database: sqlite3.Connection) -> None:
    try:
        verdict = database.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        version = database.execute("PRAGMA user_version").fetchone()[0]
        tables = database.execute("SELECT count(*) FROM sqlite_schema WHERE type = 'table'").fetchone()[0]
        if version not in (0, SCHEMA_VERSION) or (version == 0 and tables):
            raise sqlite3.DatabaseError(f"schema version {version}")
        if version:
            names = {row[0] for row in database.execute("SELECT name FROM counters")}
            if not names.issuperset((*COUNTERS, *MARKS)):
                raise sqlite3.DatabaseError("counters are missing")
    except sqlite3.Error:
        database.close()
        raise


def _create(database: sqlite3.Connection) -> None:
    fill = "".join(f"INSERT INTO counters VALUES ('{name}', 0);" for name in (*COUNTERS, *MARKS))  # noqa: S608 - own names
    database.executescript(f"BEGIN IMMEDIATE;{SCHEMA}{fill}PRAGMA user_version = {SCHEMA_VERSION};COMMIT;")


def _is_sound(path: Path) -> bool:
    """Tell whether a file that could not be opened for writing reads well: then the disk is at fault, not the file."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as database:
            return bool(database.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok")
    except sqlite3.Error:
        return False


def _set_aside(path: Path, now_ms: int) -> Path:
    aside = path.with_name(f"{path.name}.damaged-{now_ms}")
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    return aside
