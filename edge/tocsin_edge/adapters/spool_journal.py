"""The spool's first lane: alarm journal entries, numbered, never dropped, kept until they are safe uphill."""

import sqlite3
import zlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass

import structlog

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the alarm journal; the spool does not look into `body`."""

    number: int
    time_ms: int
    body: bytes


def entry_crc(number: int, time_ms: int, body: bytes) -> int:
    """Checksum of an entry under its number and time."""
    return zlib.crc32(body, zlib.crc32(f"{number} {time_ms}".encode()))


def is_sound(number: int, time_ms: int, body: object, crc: int) -> bool:
    """Tell whether an entry read from a file is what was written."""
    return isinstance(body, bytes) and entry_crc(number, time_ms, body) == crc


class JournalLane:
    """The journal in the spool's file; its numbers are its own and count up for ever.

    Whoever writes it owes its entries to the people who are to be warned: an entry that `append` refused is still the
    writer's.
    """

    def __init__(self, database: sqlite3.Connection, writing: Callable[[], AbstractContextManager[None]]) -> None:
        """Work on an open spool, whose transactions are made by `writing`."""
        self._db = database
        self._writing = writing

    def append(self, entries: Sequence[tuple[int, bytes]], numbers: Sequence[int] | None = None) -> list[int]:
        """Keep entries (time_ms, body) in one transaction, on disk when this returns; give their numbers.

        `numbers`, rising and above all before, are those under which entries went out while they could not be kept.

        Raises:
            sqlite3.Error: nothing of this was kept (disk full, file damaged).
        """
        with self._writing():
            given = self.put(entries, numbers)
            if numbers is not None:
                self._update_floor()
        return given

    def put(self, entries: Sequence[tuple[int, bytes]], numbers: Sequence[int] | None = None) -> list[int]:
        """Do as `append` in a transaction that is open already."""
        if not entries:
            return []
        first = self._value("journal_last") + 1
        given = list(range(first, first + len(entries)) if numbers is None else numbers)
        rows = [(number, *entry, entry_crc(number, *entry)) for number, entry in zip(given, entries, strict=True)]
        self._db.executemany("INSERT INTO journal(number, time_ms, body, crc) VALUES (?, ?, ?, ?)", rows)
        self._set("journal_last", max([first - 1, *given]))
        return given

    def go_on_above(self, number: int) -> None:
        """Give out no number up to `number` any more, in a transaction that is open already."""
        self._set("journal_last", max(number, self._value("journal_last")))
        self._update_floor()

    def highest(self) -> int:
        """Give the highest number of an entry that is there; 0 where there is none."""
        return int(self._db.execute("SELECT coalesce(max(number), 0) FROM journal").fetchone()[0])

    def count_above(self, number: int) -> int:
        """Count the entries above `number`."""
        return int(self._db.execute("SELECT count(*) FROM journal WHERE number > ?", (number,)).fetchone()[0])

    def take_back(self, number: int) -> None:
        """Forget the entries above `number`, in a transaction that is open already."""
        self._db.execute("DELETE FROM journal WHERE number > ?", (number,))
        self._update_floor()

    def since(self, after: int) -> list[Entry]:
        """Read all entries above number `after` that are still there and sound, committed or not, oldest first."""
        rows = self._db.execute(
            "SELECT number, time_ms, body, crc FROM journal WHERE number > ? ORDER BY number", (after,)
        )
        return [Entry(*row[:3]) for row in rows if is_sound(*row)]

    def waiting(self, after: int, limit: int) -> list[Entry]:
        """Read at most `limit` entries above number `after` that wait for their commit, oldest first; fewer: no more.

        An entry whose bytes do not check out is taken out, counted and logged.
        """
        entries: list[Entry] = []
        while missing := limit - len(entries):
            rows = self._db.execute(
                "SELECT number, time_ms, body, crc FROM journal WHERE committed_ms IS NULL AND number > ?"
                " ORDER BY number LIMIT ?",
                (after, missing),
            ).fetchall()
            entries += [Entry(*row[:3]) for row in rows if self._sound(*row)]
            if len(rows) < missing:
                break
            after = rows[-1][0]
        return entries

    def _sound(self, number: int, time_ms: int, body: object, crc: int) -> bool:
        if is_sound(number, time_ms, body, crc):
            return True
        log.critical("alarm journal entry damaged", entry=number)
        # Where the disk takes nothing it stays there: what is behind it must not wait for that.
        with suppress(sqlite3.OperationalError), self._writing():
            self._db.execute("DELETE FROM journal WHERE number = ?", (number,))
            self._set("journal_damaged", self._value("journal_damaged") + 1)
        return False

    def commit_upto(self, number: int, now_ms: int) -> int:
        """Note that all entries up to `number` are safe uphill; they are kept a while longer all the same.

        Gives the number up to which nothing waits any more: a higher one where numbers above it were left out.
        """
        with self._writing():
            where = "WHERE number <= ? AND committed_ms IS NULL"
            self._db.execute(f"UPDATE journal SET committed_ms = ? {where}", (now_ms, number))  # noqa: S608 - fixed text
            self._update_floor()
        return self._value("journal_committed")

    def reopen(self, after: int) -> int:
        """Take back the commits of all entries above number `after` that are still kept; give how many."""
        with self._writing():
            where = "WHERE number > ? AND committed_ms IS NOT NULL"
            found = self._db.execute(f"UPDATE journal SET committed_ms = NULL {where}", (after,))  # noqa: S608 - fixed text
            self._update_floor()
        return found.rowcount

    def forget(self, before_ms: int, known: int) -> None:
        """Forget what was committed before `before_ms`, up to the entry `known`."""
        with self._writing():
            self._db.execute("DELETE FROM journal WHERE committed_ms < ? AND number <= ?", (before_ms, known))

    def _value(self, name: str) -> int:
        return int(self._db.execute("SELECT value FROM counters WHERE name = ?", (name,)).fetchone()[0])

    def _set(self, name: str, value: int) -> None:
        self._db.execute("UPDATE counters SET value = ? WHERE name = ?", (value, name))

    def _update_floor(self) -> None:
        lowest = self._db.execute("SELECT min(number) FROM journal WHERE committed_ms IS NULL").fetchone()[0]
        self._set("journal_committed", self._value("journal_last") if lowest is None else lowest - 1)
