"""What the spool's file holds, lane by lane, read beside the gateway or without one."""

import sqlite3
import threading
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tocsin_edge.adapters.spool import LIVE_MS

# Of devices that have not been heard for as many batches nothing is said.
NEWEST_BATCHES: Final = 10_000
# Instructions of SQLite's machine, of which it does some ten million a second.
LOOK_UP_EVERY: Final = 100_000


@dataclass(frozen=True, slots=True)
class Lane:
    """What waits in one lane: batches or journal entries, and the bytes of their data."""

    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class SpoolFigures:
    """The lanes `journal`, `live`, `history`, and `committed` (kept a while longer); `bytes` is what the file uses.

    `oldest_unsent_ms`: the time of the oldest reading or entry that the database does not have, None if it has all.
    """

    lanes: dict[str, Lane]
    bytes: int
    oldest_unsent_ms: int | None


def spool_figures(
    path: Path, now_ms: int, *, beside_gateway: bool, given_up: threading.Event | None = None
) -> SpoolFigures:
    """Count what the file at `path` holds; reads all of it, so it takes seconds for a file of some 100 MB.

    `beside_gateway`: in the gateway's own process, where a connection that may only read would make it so for all. Once
    `given_up` is set it ends soon.

    Raises:
        sqlite3.Error: there is no such file, it cannot be read, or this was given up.
    """
    live_from = now_ms - LIVE_MS
    waits = "committed_ms IS NULL"
    with closing(_open(path, beside_gateway=beside_gateway)) as database:
        if given_up is not None:
            database.set_progress_handler(given_up.is_set, LOOK_UP_EVERY)
        live, history, committed = (
            f"count(*) FILTER (WHERE {which}), coalesce(sum(length(columns)) FILTER (WHERE {which}), 0)"
            for which in (f"{waits} AND newest_ms >= :from", f"{waits} AND newest_ms < :from", f"NOT {waits}")
        )
        found = database.execute(
            f"SELECT {live}, {history}, {committed}, min(newest_ms) FILTER (WHERE {waits}) FROM batches",  # noqa: S608 - own conditions
            {"from": live_from},
        ).fetchone()
        entries = database.execute(
            f"SELECT count(*), coalesce(sum(length(body)), 0), min(time_ms) FROM journal WHERE {waits}"  # noqa: S608 - own condition
        ).fetchone()
        pages, free, size = (
            database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
    lanes = {
        "journal": Lane(*entries[:2]),
        "live": Lane(*found[0:2]),
        "history": Lane(*found[2:4]),
        "committed": Lane(*found[4:6]),
    }
    oldest = min((time for time in (found[6], entries[2]) if time is not None), default=None)
    return SpoolFigures(lanes, (pages - free) * size, oldest)


def spool_newest(path: Path) -> dict[str, int]:
    """Read when each device was last heard (ms), good or bad, as far as the file at `path` still tells.

    Raises:
        sqlite3.Error: there is no such file, or it cannot be read.
    """
    with closing(_open(path, beside_gateway=False)) as database:
        return dict(
            database.execute(
                "SELECT device, max(newest_ms) FROM"
                " (SELECT layout, newest_ms FROM batches ORDER BY number DESC LIMIT ?)"
                " JOIN layouts ON layouts.id = layout GROUP BY device ORDER BY device",
                (NEWEST_BATCHES,),
            )
        )


def spool_counters(path: Path) -> dict[str, int]:
    """Read the spool's counters from the file at `path`.

    Raises:
        sqlite3.Error: there is no such file, or it cannot be read.
    """
    with closing(_open(path, beside_gateway=False)) as database:
        return dict(database.execute("SELECT name, value FROM counters"))


def _open(path: Path, *, beside_gateway: bool) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{path}?mode={'rw' if beside_gateway else 'ro'}", uri=True, timeout=5)
