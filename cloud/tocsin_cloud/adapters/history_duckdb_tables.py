"""The tables of the DuckDB history, and the statements that take readings from their arrival to minutes and hours."""

# There are three levels: readings, minutes, hours. On each, rows gather in one table and go over in chunks, sorted by
# point and time, to another, so that a trend of one point touches few blocks of the file. The roll-ups of a chunk are
# made of exactly the readings that it adds, in the same transaction: on each level a reading counts once, however late
# and often it comes, and no roll-up is ever made anew.

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from duckdb import DuckDBPyConnection
from numpy.typing import NDArray

from tocsin_cloud.adapters.history import HOUR, MINUTE
from tocsin_core.readings import GOOD, QUALITY_MASK, UNCERTAIN, Frame

Columns = Mapping[str, NDArray[Any]]

# Where readings gather: one table takes the commits while the other is moved on.
RECENT: Final = ("recent_0", "recent_1")
SORTED: Final = "sorted"
ROLLED: Final = ("minutes_recent", "minutes", "hours_recent", "hours")
# By the unit of a trend: the tables that together hold each reading of SORTED once.
SOURCES: Final = {HOUR: ("hours", "hours_recent", "minutes_recent"), MINUTE: ("minutes", "minutes_recent")}

FORMAT: Final = 2
COPIED: Final = "tocsin_copy"
READING: Final = "(point INTEGER NOT NULL, time_ns BIGINT NOT NULL, value DOUBLE, quality UTINYINT NOT NULL)"
ROLL_UP: Final = (
    "(point INTEGER NOT NULL, time_ns BIGINT NOT NULL, low DOUBLE, high DOUBLE, total DOUBLE, number BIGINT NOT NULL, "
    "quality UTINYINT NOT NULL)"
)
SCHEMA: Final = (
    *(f"CREATE TABLE IF NOT EXISTS {table} {READING}" for table in (SORTED, *RECENT)),
    *(f"CREATE TABLE IF NOT EXISTS {table} {ROLL_UP}" for table in ROLLED),
    # For whoever looks into the file with tools of their own.
    f"CREATE VIEW IF NOT EXISTS readings AS FROM {SORTED} UNION ALL FROM {RECENT[0]} UNION ALL FROM {RECENT[1]}",
    "CREATE TABLE IF NOT EXISTS points (key INTEGER PRIMARY KEY, id VARCHAR NOT NULL UNIQUE)",
    "CREATE TABLE IF NOT EXISTS state (name VARCHAR PRIMARY KEY, body BLOB NOT NULL)",
)

USABLE: Final = f"CASE WHEN (quality & {QUALITY_MASK}) IN ({GOOD}, {UNCERTAIN}) THEN value END"
# One reading, as the roll-up that it is by itself.
ALONE: Final = f"time_ns, {USABLE} AS low, low AS high, low AS total, (low IS NOT NULL)::BIGINT AS number, quality"
FRESH_ALONE: Final = f"(SELECT point, {ALONE} FROM fresh)"  # noqa: S608 -- constants
MERGED: Final = (
    "min(low) AS low, max(high) AS high, sum(total) AS total, sum(number)::BIGINT AS number, min(quality) AS quality"
)
IN_SPAN: Final = "point = $point AND time_ns >= $start AND time_ns < $end"
# What of a point has gathered: looked for once, for it stands anywhere.
ARRIVED: Final = f"""
CREATE OR REPLACE TEMP TABLE arrived AS SELECT time_ns, value, quality
FROM (FROM {RECENT[0]} UNION ALL FROM {RECENT[1]}) WHERE {IN_SPAN}
"""  # noqa: S608 -- constants
# What has gathered and is not in SORTED yet; only the stretch of it is looked through there.
NEW: Final = f"""
SELECT DISTINCT ON (time_ns) time_ns, value, quality FROM arrived WHERE time_ns NOT IN
    (SELECT time_ns FROM {SORTED} WHERE point = $point AND time_ns BETWEEN $first AND $last)
"""  # noqa: S608 -- constants


SAMPLES: Final = f"""
SELECT time_ns, value AS mean, value AS low, value AS high, quality
FROM (SELECT time_ns, value, quality FROM {SORTED} WHERE {IN_SPAN} UNION ALL {NEW}) ORDER BY time_ns LIMIT $limit
"""  # noqa: S608 -- constants


def _steps(tables: Sequence[str]) -> str:
    """The trend by steps: [start, whole) from roll-ups, [whole, end) and what is new from readings."""
    rolled = "".join(
        f"UNION ALL SELECT time_ns, low, high, total, number, quality FROM {table} "  # noqa: S608 -- constants
        "WHERE point = $point AND time_ns >= $start AND time_ns < $whole "
        for table in tables
    )
    return f"""
    SELECT begin_ns AS time_ns, total / nullif(number, 0) AS mean, low, high, quality
    FROM (SELECT $start + (time_ns - $start) // $step * $step AS begin_ns, {MERGED}
          FROM (SELECT {ALONE}
                FROM (SELECT time_ns, value, quality FROM {SORTED} WHERE {IN_SPAN} AND time_ns >= $whole
                      UNION ALL {NEW})
                {rolled})
          GROUP BY begin_ns ORDER BY begin_ns LIMIT $limit)
    ORDER BY begin_ns
    """  # noqa: S608 -- constants


STEPS: Final = {unit: _steps(tables) for unit, tables in SOURCES.items()}
STEPS_OF_READINGS: Final = _steps(())
# For several points, each in its own span: one pass over the readings. Of what is there twice that in SORTED counts.
STEPS_OF_EACH: Final = f"""
SELECT row, begin_ns AS time_ns, total / nullif(number, 0) AS mean, low, high, quality
FROM (SELECT row, begin_ns, {MERGED}
      FROM (SELECT row, begin_ns, {ALONE}
            FROM (SELECT DISTINCT ON (row, time_ns) row, time_ns, value, quality,
                         start_ns + (time_ns - start_ns) // step_ns * step_ns AS begin_ns
                  FROM (SELECT *, 0 AS rank FROM {SORTED} UNION ALL
                        SELECT *, 1 AS rank FROM (FROM {RECENT[0]} UNION ALL FROM {RECENT[1]}))
                  JOIN wanted USING (point)
                  WHERE time_ns >= $first AND time_ns < $last AND time_ns >= start_ns AND time_ns < end_ns
                  ORDER BY row, time_ns, rank))
      GROUP BY row, begin_ns)
ORDER BY row, begin_ns
"""  # noqa: S608 -- constants


class FormatError(RuntimeError):
    """The file was written by another version."""


class Span(NamedTuple):
    """The readings of the point `key` in [start_ns, end_ns)."""

    key: int
    start_ns: int
    end_ns: int


def prepare(connection: DuckDBPyConnection) -> None:
    """Make the tables that are missing.

    Raises:
        FormatError: the file has another format.
        duckdb.Error: it cannot be read or written.
    """
    connection.execute("BEGIN")
    connection.execute("CREATE TABLE IF NOT EXISTS meta (format INTEGER PRIMARY KEY)")
    formats = [row[0] for row in connection.execute("FROM meta").fetchall()]
    if formats == [1]:
        # The first format had nothing but readings as they came.
        connection.execute(f"ALTER TABLE readings RENAME TO {RECENT[0]}")
    elif formats not in ([], [FORMAT]):
        raise FormatError(f"the history file is of another format than {FORMAT}")
    if formats != [FORMAT]:
        for statement in (*SCHEMA, "DELETE FROM meta"):
            connection.execute(statement)
        connection.execute("INSERT INTO meta VALUES (?)", [FORMAT])
    connection.execute("COMMIT")


def copy(connection: DuckDBPyConnection, path: Path) -> None:
    """Write all tables into a new file, as they are in one transaction.

    Raises:
        duckdb.Error: the file is there already, cannot be written, or another copy is being made.
    """
    (own,) = connection.execute("SELECT current_database()").fetchall()[0]
    place = str(path).replace("'", "''")
    connection.execute(f"ATTACH '{place}' AS {COPIED}")
    try:
        connection.execute(f'COPY FROM DATABASE "{own}" TO {COPIED}')
    finally:
        # Moves its log into the file.
        connection.execute(f"DETACH {COPIED}")


def insert(connection: DuckDBPyConnection, frame: Frame, recent: str) -> None:
    """Add readings as they came, inside the caller's transaction."""
    columns = {"point": frame.point, "time_ns": frame.time_ns, "value": frame.value, "quality": frame.quality}
    # What is no number is stored as none: min and max would take it for one.
    _take_over(connection, columns, recent, "point, time_ns, CASE WHEN isfinite(value) THEN value END, quality")


def name(connection: DuckDBPyConnection, points: Sequence[tuple[str, int]]) -> None:
    """Add the keys of new points, inside the caller's transaction."""
    columns = {
        "id": np.asarray([point for point, _ in points], object),
        "key": np.asarray([key for _, key in points], np.int32),
    }
    _take_over(connection, columns, "points", "key, id")


def _take_over(connection: DuckDBPyConnection, columns: Mapping[str, object], table: str, selected: str) -> None:
    with _registered(connection, "incoming", columns):
        connection.execute(f"INSERT INTO {table} SELECT {selected} FROM incoming")  # noqa: S608 -- constants


@contextmanager
def _registered(connection: DuckDBPyConnection, name: str, columns: Mapping[str, object]) -> Iterator[None]:
    """Let `columns` be a table `name` meanwhile."""
    connection.register(name, columns)
    try:
        yield
    finally:
        connection.unregister(name)


def move_on(connection: DuckDBPyConnection, recent: str, chunk: int) -> None:
    """Sort the readings of `recent` into SORTED and roll them up; as soon as `chunk` roll-ups gathered, those too.

    Raises:
        duckdb.Error: nothing has moved.
    """
    connection.execute("BEGIN")
    # Sorted once, for all that follows: what is there twice stands side by side.
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE fresh AS SELECT point, time_ns, value, quality "  # noqa: S608 -- constants
        "FROM (SELECT *, lag(point) OVER () AS point_before, lag(time_ns) OVER () AS time_before "
        f"FROM (FROM {recent} ORDER BY point, time_ns)) "
        "WHERE point_before IS DISTINCT FROM point OR time_before IS DISTINCT FROM time_ns"
    )
    for first_ns, last_ns in _stretches(connection):
        connection.execute(
            f"DELETE FROM fresh USING {SORTED} AS kept WHERE kept.time_ns BETWEEN ? AND ? "  # noqa: S608 -- constants
            "AND kept.point = fresh.point AND kept.time_ns = fresh.time_ns",
            [first_ns, last_ns],
        )
    connection.execute(f"INSERT INTO {SORTED} FROM fresh")
    _roll_up(connection, FRESH_ALONE, MINUTE, "minutes_recent")
    connection.execute("DROP TABLE fresh")
    connection.execute(f"TRUNCATE {recent}")
    if rows(connection, "minutes_recent") >= chunk:
        _roll_up(connection, "minutes_recent", MINUTE, "minutes")
        _roll_up(connection, "minutes_recent", HOUR, "hours_recent")
        connection.execute("TRUNCATE minutes_recent")
    if rows(connection, "hours_recent") >= chunk:
        _roll_up(connection, "hours_recent", HOUR, "hours")
        connection.execute("TRUNCATE hours_recent")
    connection.execute("COMMIT")


def _stretches(connection: DuckDBPyConnection) -> Iterator[tuple[int, int]]:
    """The times [first, last] of the readings of `fresh`, of each run of hours without one that has none.

    A gateway that sends its backlog brings one of days ago and one of now: what lies between need not be looked at, nor
    what an hour had before: chunks that hold no such time are passed over.
    """
    hours = connection.execute(
        f"SELECT time_ns // {HOUR} AS hour, min(time_ns), max(time_ns) FROM fresh GROUP BY hour ORDER BY hour"  # noqa: S608 -- constants
    ).fetchall()
    first_ns: int | None = None
    for place, (hour, begin_ns, last_ns) in enumerate(hours):
        first_ns = begin_ns if first_ns is None else first_ns
        if place + 1 == len(hours) or hours[place + 1][0] != hour + 1:
            yield first_ns, last_ns
            first_ns = None


def _roll_up(connection: DuckDBPyConnection, source: str, unit: int, target: str) -> None:
    connection.execute(
        f"INSERT INTO {target} SELECT point, time_ns // {unit} * {unit} AS begin_ns, {MERGED} "  # noqa: S608 -- constants
        f"FROM {source} GROUP BY point, begin_ns ORDER BY point, begin_ns"
    )


def rows(connection: DuckDBPyConnection, table: str) -> int:
    """How many rows a table has."""
    found = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 -- constants
    return 0 if found is None else int(found[0])


def forget(connection: DuckDBPyConnection, before_ns: int) -> None:
    """Delete readings and roll-ups that are older than the whole hour before `before_ns`.

    Raises:
        duckdb.Error: nothing was deleted.
    """
    connection.execute("BEGIN")
    for table in (SORTED, *RECENT, *ROLLED):
        connection.execute(f"DELETE FROM {table} WHERE time_ns < ?", [before_ns // HOUR * HOUR])  # noqa: S608 -- constants
    connection.execute("COMMIT")


def read(connection: DuckDBPyConnection, span: Span, step_ns: int | None, limit: int) -> Columns:
    """The columns of a trend by name, as the History port says; an absent value is masked.

    Raises:
        duckdb.Error: DuckDB refused.
    """
    values = {"point": span.key, "start": span.start_ns, "end": span.end_ns, "limit": limit}
    query = SAMPLES
    if step_ns is not None:
        unit = next((unit for unit in SOURCES if span.start_ns % unit == 0 and step_ns % unit == 0), None)
        # The last, broken unit of the span is made of its readings.
        whole_ns = span.start_ns if unit is None else max(span.start_ns, span.end_ns // unit * unit)
        values |= {"step": step_ns, "whole": whole_ns}
        query = STEPS_OF_READINGS if unit is None else STEPS[unit]
    # One transaction: a chunk that moves on meanwhile is seen before it or after it.
    connection.execute("BEGIN")
    _ask(connection, ARRIVED, values)
    gathered = _ask(connection, "SELECT min(time_ns) AS first, max(time_ns) AS last FROM arrived", values)
    values |= {name: int(np.ma.filled(column, 0)[0]) for name, column in gathered.items()}
    columns = _ask(connection, query, values)
    connection.execute("COMMIT")
    return columns


def read_each(connection: DuckDBPyConnection, spans: Sequence[Span], steps_ns: Sequence[int]) -> Columns:
    """The columns of a trend by name, as `read` gives them by steps, and `row`: which of `spans` they are of.

    Raises:
        duckdb.Error: DuckDB refused.
    """
    keys, starts, ends = (np.asarray(column, np.int64) for column in zip(*spans, strict=True))
    wanted = {"row": np.arange(len(spans)), "point": keys.astype(np.int32), "start_ns": starts, "end_ns": ends}
    with _registered(connection, "wanted", wanted | {"step_ns": np.asarray(steps_ns, np.int64)}):
        return _ask(connection, STEPS_OF_EACH, {"first": int(starts.min()), "last": int(ends.max())})


def _ask(connection: DuckDBPyConnection, query: str, values: Mapping[str, int]) -> Columns:
    used = re.findall(r"\$(\w+)", query)
    return connection.execute(query, {name: values[name] for name in used}).fetchnumpy()
