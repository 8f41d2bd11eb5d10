"""The store-and-forward file: numbered batches in SQLite, kept until the database uphill has committed them."""

import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Final, Self

import structlog

from tocsin_core.sparkplug.edge import Columns
from tocsin_edge.adapters.spool_codec import pack, seal, unpack
from tocsin_edge.adapters.spool_file import (
    BD_SEQ_MODULUS,
    COUNTERS,
    MARKS,
    Opened,
    boot,
    code_of,
    identity_of,
    open_file,
    open_in_memory,
    open_to_read,
    put_back,
)
from tocsin_edge.adapters.spool_journal import JournalLane, is_sound
from tocsin_edge.adapters.spool_room import NARROW, Room

TRIM_CHUNK: Final = 1024
CHUNK_BYTES: Final = 1_000_000
MOST_PAGES: Final = 2**32 - 2
# The last numbers that there can be: SQLite's.
ALL: Final = (2**63 - 1, 2**63 - 1)
BYTES_PER_MB: Final = 1_000_000
# A disk that takes nothing at all leaves the memory, and of that no more than this.
IN_MEMORY_BYTES: Final = 16 * BYTES_PER_MB
# A batch is live while its newest reading is younger than this, and history afterwards.
LIVE_MS: Final = 60_000
# After a power cut the disk may have lost the newest numbers, which the cloud side has seen: none of them is given out
# again. A gateway of a thousand devices at 1 s uses as many in 100 s.
NUMBERS_LEFT_OUT: Final = 100_000
# A file that was closed longer ago may be a copy that was put back, of a card that was used for as long since.
RESTED_MS: Final = 24 * 3600 * 1000
SALVAGE_CHUNK: Final = 500
SALVAGE_PATIENCE: Final = 500
_ORDER: Final = {"uncommitted": "number", "committed": "committed_ms, number"}
GONE: Final = "its file was deleted or replaced"
# Beside the counters, while a commit takes several transactions: from which number on, and up to which, it is to go on.
OWED: Final = "owed from "
# Schema 1 had checksums of the columns alone.
UNSEALED_VERSION: Final = 1

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Batch:
    """One future data message: readings of one device; `columns.metric` counts in `metrics`, the names at that time."""

    number: int
    device: str
    metrics: tuple[str, ...]
    columns: Columns


def far_ahead(number: int, now_ms: int) -> int:
    """A number above all that may have been given out since `number`, of which the disk shows nothing.

    They only ever grow, and more slowly than the clock: a number a millisecond would be a thousand devices at 1 s.
    Where the clock is behind, what was left out has to do.
    """
    return max(number + NUMBERS_LEFT_OUT, now_ms)


Part = tuple[str, tuple[str, ...], Columns]
"""What becomes a batch: its device, the names of the device's metrics, and the readings."""


class Spool:
    """One gateway's spool; used by one thread at a time.

    Every append is one transaction: what was reported as kept survives kill -9, and, unless it was to be `synced` later
    (`keep`), a power cut; the loss window is the append that had not returned. Numbers count up from the clock at which
    the file was new (ms since 1970), and go on after a damaged file, with some left out. Beside the batches it holds
    the alarm `journal`, which is never dropped. `damaged`: how many batches did not check out since the start.
    """

    def __init__(self, path: Path, opened: Opened, max_bytes: int, keep_ms: int) -> None:
        """Use `open`."""
        self._path = path
        self._bound = max_bytes
        self._keep_ms = keep_ms
        self._journal_alone_told = self._no_growth_told = False
        self._room = Room(path)
        self.damaged = 0
        self._doubted = False
        self._place: tuple[tuple[int, int], ...] | None = None
        self._use(opened)

    @classmethod
    def open(cls, path: Path, max_mb: int, keep_s: float, now_ms: int) -> Self:
        """Open or create the spool at `path`.

        A damaged file is set aside, and what can be read of it is taken over. A sound one on a disk that takes nothing
        is opened for reading: `append` then raises, and `recover` tries again.

        Raises:
            OSError: the folder cannot be made.
            sqlite3.OperationalError: the file is not there and cannot be made, or another process holds it.
        """
        spool = cls(path, open_file(path, now_ms), max_mb * BYTES_PER_MB, round(keep_s * 1000))
        spool._begin(now_ms)
        spool._tell_room()
        return spool

    def recover(self, now_ms: int) -> None:
        """Open the file anew after it took nothing, or turned out damaged: then it is set aside as at the start.

        One that somebody deleted or replaced is still open here: it is written anew, and what is there set aside.

        Raises:
            OSError, sqlite3.Error: the file cannot be opened; every other method then raises sqlite3.Error. Or the disk
                has no room for what is to be written anew; then all stays as it is.
        """
        if self._opened.in_memory:
            return
        if self._place is not None and self._is_gone():
            self._put_back(self._place[1], now_ms)
        self._place = None
        # A connection that may only read makes every other one of this process to the same file like itself.
        self._db.close()
        self._use(open_file(self._path, now_ms))
        self._begin(now_ms)

    def _there(self) -> tuple[tuple[int, int], ...]:
        """Tell which files are now where the spool's file and its log should be."""
        return tuple(identity_of(Path(f"{self._path}{end}")) for end in ("", "-wal"))

    def _is_gone(self) -> bool:
        return self._place is not None and self._there() != self._place

    def _put_back(self, its_log: tuple[int, int], now_ms: int) -> None:
        """Write the file that is open to where it should be; a failing disk may keep it from being read."""
        try:
            aside = put_back(self._db, self._path, its_log, now_ms)
        except (OSError, sqlite3.Error) as error:
            # Without a free inode, too, it may be only for now.
            if isinstance(error, sqlite3.Error) and code_of(error) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN):
                raise
            log.critical("the spool that was deleted or replaced cannot be written anew", reason=str(error))
        else:
            log.critical("the spool was deleted or replaced: written anew", aside=aside and str(aside))

    @property
    def writable(self) -> bool:
        """Whether the file was opened for writing; where it was not, `recover` tries again."""
        return self._opened.writable

    @property
    def in_memory(self) -> bool:
        """Whether it has no file until the next start: a damaged one was on a disk that took nothing."""
        return self._opened.in_memory

    def resize(self, max_mb: int, keep_s: float) -> None:
        """Go on with another bound, and keep batches for another while after their commit."""
        self._bound, self._keep_ms = max_mb * BYTES_PER_MB, round(keep_s * 1000)
        self._max_bytes = IN_MEMORY_BYTES if self._opened.in_memory else self._bound
        self._tell_room()

    def room(self) -> int:
        """Tell how many bytes the file can come to: its bound, or less where the disk has no room for that.

        Raises:
            sqlite3.Error: the file cannot be read.
        """
        if self._opened.in_memory:
            return self._max_bytes
        file_bytes, _ = self._size()
        return min(self._max_bytes, file_bytes + max(0, self._room.growth(file_bytes) - NARROW))

    def _tell_room(self) -> None:
        room = self.room()
        if room < self._bound:
            log.warning("the disk has less room than the spool may use", max_bytes=self._bound, room_bytes=room)

    def _use(self, opened: Opened) -> None:
        self._opened = opened
        self._db = opened.database
        self._capped = False
        self._max_bytes = IN_MEMORY_BYTES if opened.in_memory else self._bound
        self._layouts: dict[tuple[str, tuple[str, ...]], int] = {}
        self._names: dict[int, tuple[str, tuple[str, ...]]] = {}
        self.journal = JournalLane(self._db, self._writing)

    def _begin(self, now_ms: int) -> None:
        """Take over what a damaged file still has, and begin with numbers that were never given out.

        The write that tried the file changes nothing, and SQLite puts no such on disk: a full one may show here first.
        """
        if not self._opened.writable:
            if not self._room.growth(0):
                self._room.refuse()
            return
        try:
            if self._opened.aside is not None:
                self._salvage(self._opened.aside, now_ms)
            self._begin_numbers(now_ms)
            self._place = self._there()
        except sqlite3.OperationalError as error:
            self._go_on_without_disk(error, now_ms)

    def _go_on_without_disk(self, error: sqlite3.OperationalError, now_ms: int) -> None:
        """Go on with what can be read; a file that was never used is refused, one beside a damaged one stays as new."""
        aside = self._opened.aside
        self._db.close()
        if code_of(error) == sqlite3.SQLITE_BUSY:
            raise error
        self._use(open_to_read(self._path, str(error)))
        if self._counter("batch_last"):
            return
        self._db.close()
        if aside is None:
            raise error
        self._use(open_in_memory())
        self._begin_numbers(now_ms)

    def _begin_numbers(self, now_ms: int) -> None:
        """Begin with numbers that were never given out.

        A file that knows of none may stand in for a lost one, whose numbers the cloud side has seen: it begins at the
        clock. So does one after a power cut, before which the disk may have taken nothing for long, and one that has
        rested for long: as a copy that was put back it would give out again what was given out since it was made.
        """
        with self._writing():
            opened, now = self._counter("opened_in_boot"), boot()
            cut = opened not in (0, now)
            rested = opened == 0 and 0 < self._newest_ms() < now_ms - RESTED_MS
            if cut:
                log.warning("the power was cut: numbers are left out")
            for counter in ("batch_last", "journal_last"):
                before = self._counter(counter)
                if before == 0:
                    self._set(counter, now_ms)
                elif cut:
                    self._set(counter, far_ahead(before, now_ms))
                elif rested:
                    self._set(counter, max(before, now_ms))
            for counter, highest in zip(("batch_last", "journal_last"), self.highest(), strict=True):
                self._set(counter, max(highest, self._counter(counter)))
            self._set("opened_in_boot", now)
            self._update_floor()
        # What a kill left of a commit. Of the journal it is nothing: its floor, too, is above what was left out.
        self._commit([], now_ms)
        self.journal.commit_upto(0, now_ms)

    def close(self) -> None:
        """Close the file; nothing is lost by not calling this."""
        if self._opened.writable:
            try:
                with self._writing():
                    self._set("opened_in_boot", 0)
            except sqlite3.Error as error:
                log.warning("spool not marked as closed", reason=str(error))
        self._db.close()

    def counters(self) -> dict[str, int]:
        """Get the cumulative counters by name."""
        return dict(self._db.execute("SELECT name, value FROM counters"))

    def append(self, parts: Sequence[Part], numbers: Sequence[int] | None = None) -> list[int]:
        """Keep one batch for each part, all in one transaction; give their numbers.

        `numbers`, rising and above all before, are those under which batches went out while they could not be kept.

        Raises:
            sqlite3.Error: nothing of this was kept (disk full, read-only or damaged).
        """
        with self._writing():
            given = self._put(parts, numbers)
            if numbers is not None:
                self._update_floor()
        return given

    def go_on_above(self, batch: int, entry: int) -> None:
        """Give out no batch number up to `batch` any more, and no journal number up to `entry`.

        Raises:
            sqlite3.Error: nothing of this is noted (disk full, read-only or damaged).
        """
        if batch <= self._counter("batch_last") and entry <= self._counter("journal_last"):
            return
        with self._writing():
            self._set("batch_last", max(batch, self._counter("batch_last")))
            self._update_floor()
            self.journal.go_on_above(entry)

    def keep(
        self, parts: Sequence[Part], entries: Sequence[tuple[int, bytes]], *, synced: bool = True
    ) -> tuple[list[int], list[int]]:
        """Keep batches, as `append` does, and journal entries (time_ms, body), all or nothing; give both their numbers.

        Where it is not to be `synced`, kill -9 takes nothing of it, and a power cut may until `sync`, or any other
        transaction, has returned.

        Raises:
            sqlite3.Error: nothing of this was kept (disk full, read-only or damaged).
        """
        if synced:
            self._refuse_doubted()
        with self._writing(synced=synced):
            return self._put(parts), self.journal.put(entries)

    def highest(self) -> tuple[int, int]:
        """Give the highest number of a batch that is there, and of a journal entry; 0 where there is none.

        Raises:
            sqlite3.Error: the file cannot be read.
        """
        batch = self._db.execute("SELECT coalesce(max(number), 0) FROM batches").fetchone()[0]
        return int(batch), self.journal.highest()

    def take_back(self, batch: int, entry: int) -> None:
        """Forget what is above number `batch`, and in the journal above `entry`: nobody was told that it is kept.

        What was given up, or failed, may be there all the same when the disk answers, or the file is opened anew.

        Raises:
            sqlite3.Error: what is there is there still (disk full, read-only or damaged).
        """
        found = self._db.execute(
            "SELECT count(*), coalesce(sum(readings), 0), coalesce(sum(readings) FILTER (WHERE committed_ms > 0), 0)"
            " FROM batches WHERE number > ?",
            (batch,),
        )
        batches, readings, committed = found.fetchone()
        entries = self.journal.count_above(entry)
        if not (batches or entries):
            return
        with self._writing():
            self._db.execute("DELETE FROM batches WHERE number > ?", (batch,))
            self._add("readings_polled", -readings)
            self._add("readings_committed", -committed)
            self._update_floor()
            self.journal.take_back(entry)
        log.warning("kept after it was given up: taken back", batches=batches, journal_entries=entries)

    def sync(self) -> None:
        """Return when what was kept without being synced is safe from a power cut too.

        SQLite syncs its log with a commit alone, and an empty one writes none. Its locks are on other files, so that
        this one can be opened beside it.

        Raises:
            sqlite3.OperationalError: the disk failed at it, or at anything before, and `mend` is due.
        """
        self._refuse_doubted()
        self._sync()

    def _refuse_doubted(self) -> None:
        if self._doubted and not self._opened.in_memory:
            raise sqlite3.OperationalError("not synced: an earlier write may be gone from the log")

    def mend(self) -> None:
        """Take into the file all that is in a log whose writing or syncing failed, and begin a new log, both synced.

        What a disk refused once is written by nobody again, and the next sync succeeds without it: after a power cut
        the log would end at this gap. It still reads whole until then.

        Raises:
            sqlite3.Error: the disk failed at it, or somebody reads the log for too long.
        """
        if not self._doubted or self._opened.in_memory:
            return
        busy = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if busy:
            raise sqlite3.OperationalError("the log is being read")
        self._sync()
        self._doubted = False

    def _sync(self) -> None:
        if self._opened.in_memory:
            return
        place = self._place
        if self._is_gone() and self._place is place:
            self._doubted = True
            raise sqlite3.OperationalError(GONE)
        try:
            log_file = os.open(f"{self._path}-wal", os.O_RDONLY)
            try:
                os.fdatasync(log_file)
            finally:
                os.close(log_file)
        except FileNotFoundError:
            # The file was opened anew since, and has taken in its log, synced.
            return
        except OSError as error:
            self._doubted = True
            raise sqlite3.OperationalError(f"not synced: {error}") from error

    @contextmanager
    def _writing(self, *, synced: bool = True) -> Iterator[None]:
        """Write all that is done within in one transaction."""
        if not synced:
            self._db.execute("PRAGMA synchronous = NORMAL")
        try:
            with self._noting_failure(), self._db:
                self._db.execute("BEGIN IMMEDIATE")
                yield
        finally:
            if not synced:
                self._db.execute("PRAGMA synchronous = FULL")

    @contextmanager
    def _noting_failure(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            # A layout that was new here went with the transaction.
            self._layouts.clear()
            self._gave_up_reserve(error)
            # A full disk refuses what is new, and syncs what it has.
            self._doubted |= code_of(error) == sqlite3.SQLITE_IOERR
            raise

    def _gave_up_reserve(self, error: sqlite3.Error) -> None:
        if code_of(error) == sqlite3.SQLITE_FULL:
            self._room.refuse()

    def _put(self, parts: Sequence[Part], numbers: Sequence[int] | None = None) -> list[int]:
        first = self._counter("batch_last") + 1
        given = list(range(first, first + len(parts)) if numbers is None else numbers)
        if not given:
            return given
        rows = [
            self._row(number, device, metrics, columns)
            for number, (device, metrics, columns) in zip(given, parts, strict=True)
        ]
        self._insert(rows)
        self._set("batch_last", max([first - 1, *given]))
        self._add("readings_polled", sum(row[2] for row in rows))
        return given

    def since(self, after: int, limit: int) -> list[Batch]:
        """Read at most `limit` batches after number `after` that are still there, committed or not, oldest first."""
        rows = self._db.execute(
            "SELECT number, layout, columns FROM batches WHERE number > ? ORDER BY number LIMIT ?", (after, limit)
        ).fetchall()
        found = ((number, self._named(layout), blob) for number, layout, blob in rows)
        return [
            Batch(number, *named, columns)
            for number, named, blob in found
            if named is not None and (columns := unpack(blob, seal(number, *named))) is not None
        ]

    def uncommitted(self, after: int, upto: int, limit: int) -> list[Batch]:
        """Read at most `limit` batches that wait for their commit, after < number <= upto, oldest first; none: no more.

        A batch whose bytes do not check out is dropped and counted, also in `damaged`.
        """
        batches: list[Batch] = []
        while not batches:
            rows = self._db.execute(
                "SELECT number, layout, readings, columns FROM batches INDEXED BY uncommitted"
                " WHERE committed_ms IS NULL AND number > ? AND number <= ? ORDER BY number LIMIT ?",
                (after, upto, limit),
            ).fetchall()
            if not rows:
                break
            batches = [batch for row in rows if (batch := self._sound(*row)) is not None]
        return batches

    def _sound(self, number: int, layout: int, readings: int, blob: object) -> Batch | None:
        named = self._named(layout)
        columns = None if named is None else unpack(blob, seal(number, *named))
        if named is not None and columns is not None and len(columns) == readings:
            return Batch(number, *named, columns)
        log.error("batch damaged, dropped", batch=number, readings=readings)
        self._drop([(number, readings)], "readings_damaged", "readings_dropped")
        self.damaged += 1
        return None

    def commit(self, numbers: Iterable[int], now_ms: int) -> int:
        """Note that the batches `numbers` are safe uphill; they are kept a while longer all the same.

        Gives the number up to which nothing waits any more.
        """
        return self._commit([(number, number) for number in numbers], now_ms)

    def commit_upto(self, number: int, now_ms: int) -> int:
        """Note that all batches up to `number` are safe uphill; they are kept a while longer all the same.

        Gives the number up to which nothing waits any more: a higher one where numbers above it were left out.
        """
        return self._commit([(0, number)], now_ms)

    def commit_some(self, number: int, now_ms: int) -> bool:
        """Do a part of `commit_upto`, the oldest, in one transaction; tell whether there was any."""
        some = self._oldest(f"committed_ms IS NULL AND number <= {number}", CHUNK_BYTES, "uncommitted")
        if some:
            self.commit_upto(some[-1][0], now_ms)
        return bool(some)

    def _commit(self, ranges: Sequence[tuple[int, int]], now_ms: int) -> int:
        # SQLite writes all of a row anew: in one transaction everything that waits would need its room twice. What is
        # left for the next ones is noted in the first, so that a kill between them leaves nothing half done.
        left = self._waiting_in(_merged([*self._owed(), *ranges]))
        while left:
            (first, last), *others = left
            which = f"committed_ms IS NULL AND number BETWEEN {first} AND {last}"
            some = self._oldest(which, CHUNK_BYTES, "uncommitted")
            left = self._waiting_in([(some[-1][0] + 1, last), *others])
            with self._writing():
                mark = "UPDATE batches SET committed_ms = ? WHERE number = ?"
                self._db.executemany(mark, [(now_ms, number) for number, _ in some])
                self._add("readings_committed", sum(readings for _, readings in some))
                self._owe(left)
                self._update_floor()
        return self._counter("batch_committed")

    def _waiting_in(self, ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Leave those ranges of numbers in which a batch waits for its commit."""
        some = (
            "SELECT 1 FROM batches INDEXED BY uncommitted WHERE committed_ms IS NULL AND number BETWEEN ? AND ? LIMIT 1"
        )
        return [each for each in ranges if self._db.execute(some, each).fetchone()]

    def _owed(self) -> list[tuple[int, int]]:
        rows = self._db.execute("SELECT name, value FROM counters WHERE name GLOB ?", (f"{OWED}*",))
        return [(int(name.removeprefix(OWED)), last) for name, last in rows]

    def _owe(self, ranges: Sequence[tuple[int, int]]) -> None:
        self._db.execute("DELETE FROM counters WHERE name GLOB ?", (f"{OWED}*",))
        owed = [(f"{OWED}{first}", last) for first, last in ranges]
        self._db.executemany("INSERT INTO counters VALUES (?, ?)", owed)

    def reopen(self, after: int) -> int:
        """Take back the commits of all batches after number `after` that are still kept; give how many.

        For a cloud side that was restored from an older state and has only what came up to `after`.
        """
        with self._writing():
            where = "WHERE number > ? AND committed_ms IS NOT NULL"
            count, undone = self._db.execute(
                f"SELECT count(*), coalesce(sum(readings), 0) FROM batches {where}",  # noqa: S608 - fixed text
                (after,),
            ).fetchone()
            self._db.execute(f"UPDATE batches SET committed_ms = NULL {where}", (after,))  # noqa: S608 - fixed text
            self._owe([(first, min(last, after)) for first, last in self._owed() if first <= after])
            self._add("readings_committed", -undone)
            self._update_floor()
        return int(count)

    def trim(self, now_ms: int, known: tuple[int, int] = ALL) -> int:
        """Forget what was committed long ago, and, over the byte bound, history before live and the oldest first.

        Batches and journal entries above those `known` elsewhere are not forgotten for their age: a start reads them.

        Where the disk has no room for the bound, or was full, as much goes as lets the file be written on. Gives the
        number of readings that were lost by this, which are also counted. The journal is never dropped: where it alone
        is too much, that is told, and it grows.
        """
        try:
            lost = self._trim(now_ms, known)
        except sqlite3.Error as error:
            if code_of(error) != sqlite3.SQLITE_FULL:
                raise
            # Now the log is written back first.
            lost = self._trim(now_ms, known)
        if not self._opened.in_memory:
            self._room.took()
            self._grow_in_time()
        return lost

    def _grow_in_time(self) -> None:
        """Have unused pages in the file while the disk has room, and none added to it where it has hardly any.

        To delete takes some, too; and a log with pages for which the file has no room cannot be written back.
        """
        file_bytes, unused = self._size()
        wide = self._room.wide(file_bytes)
        if wide == self._capped:
            # No less than it has now.
            self._db.execute(f"PRAGMA max_page_count = {MOST_PAGES if wide else 1}")
            self._capped = not wide
        spare = self._room.spare(file_bytes)
        if not wide or unused > spare // 2:
            return
        try:
            with self._writing():
                self._db.execute("INSERT INTO batches VALUES (-1, 0, 0, 0, zeroblob(?), 0)", (spare - unused,))
                self._db.execute("DELETE FROM batches WHERE number = -1")
            with self._noting_failure():
                self._db.execute("PRAGMA wal_checkpoint").fetchall()
        except sqlite3.OperationalError as error:
            if code_of(error) != sqlite3.SQLITE_FULL:
                raise
            # A quota, or something else was quicker. Now the oldest goes for it.
            if not self._no_growth_told:
                log.warning("the spool's file does not grow, though the disk has room", reason=str(error))
            self._no_growth_told = True
        else:
            self._no_growth_told = False

    def forget_some(self, now_ms: int, known: tuple[int, int] = ALL) -> bool:
        """Do a part of what `trim` does for their age, in one transaction; tell whether there was any."""
        old = f"committed_ms < {now_ms - self._keep_ms} AND number <= {known[0]}"
        forgotten = self._oldest(old, CHUNK_BYTES, "committed")
        if forgotten:
            self._forget(forgotten)
        return bool(forgotten)

    def _trim(self, now_ms: int, known: tuple[int, int]) -> int:
        lost = 0
        if self._room.refused:
            # The log has room again for what is deleted, once the file has what is in it.
            with self._noting_failure():
                self._db.execute("PRAGMA wal_checkpoint").fetchall()
        while self.forget_some(now_ms, known):
            pass
        self.journal.forget(now_ms - self._keep_ms, known[1])
        while (excess := self._excess()) > 0:
            committed = self._oldest("committed_ms IS NOT NULL", excess, "committed")
            if committed:
                self._forget(committed)
                continue
            history = self._oldest(f"committed_ms IS NULL AND newest_ms < {now_ms - LIVE_MS}", excess, "uncommitted")
            oldest = history or self._oldest("committed_ms IS NULL", excess, "uncommitted")
            if not oldest:
                self._tell_journal_alone(excess)
                break
            lane = "history" if history else "live"
            self._drop(oldest, f"readings_dropped_{lane}", "readings_dropped")
            dropped = sum(readings for _, readings in oldest)
            lost += dropped
            log.warning("spool full, oldest dropped", lane=lane, batches=len(oldest), readings=dropped)
        else:
            self._journal_alone_told = False
        return lost

    def _tell_journal_alone(self, excess: int) -> None:
        if not self._journal_alone_told:
            log.critical("the alarm journal alone is over the spool's bound or the disk's room", bytes_over=excess)
        self._journal_alone_told = True

    def next_bd_seq(self) -> int:
        """Give the bdSeq of the next connection: 0 at first, one up from the last, 0 to 255, over restarts."""
        with self._writing():
            value = (self._counter("bd_seq") + 1) % BD_SEQ_MODULUS
            self._set("bd_seq", value)
        return value

    def note_acknowledging_host(self) -> None:
        """Remember that the host acknowledges from its database; the broker's word no longer counts."""
        with self._writing():
            self._set("host_acknowledges", 1)

    def note_lost(self, readings: int) -> None:
        """Count live readings that were taken in and dropped before the disk took anything again."""
        with self._writing():
            for name in ("readings_polled", "readings_dropped", "readings_dropped_live"):
                self._add(name, readings)

    def _newest_ms(self) -> int:
        """Tell the time of the batch that was kept last; 0 where there is none any more."""
        found = self._db.execute("SELECT newest_ms FROM batches ORDER BY number DESC LIMIT 1").fetchone()
        return 0 if found is None else int(found[0])

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

    def _row(
        self, number: int, device: str, metrics: tuple[str, ...], columns: Columns
    ) -> tuple[int, int, int, int, bytes]:
        blob = pack(columns, seal(number, device, metrics))
        return number, self._layout(device, metrics), len(columns), int(columns.time_ms.max(initial=0)), blob

    def _insert(self, rows: Sequence[tuple[int, int, int, int, bytes]], clash: str = "") -> None:
        self._db.executemany(
            f"INSERT {clash} INTO batches(number, layout, readings, newest_ms, columns) VALUES (?, ?, ?, ?, ?)",  # noqa: S608 - own words
            rows,
        )

    def _layout(self, device: str, metrics: tuple[str, ...]) -> int:
        key = (device, metrics)
        if key not in self._layouts:
            names = json.dumps(metrics)
            self._db.execute("INSERT OR IGNORE INTO layouts(device, metrics) VALUES (?, ?)", (device, names))
            found = self._db.execute("SELECT id FROM layouts WHERE device = ? AND metrics = ?", (device, names))
            self._layouts[key] = int(found.fetchone()[0])
        return self._layouts[key]

    def _named(self, layout: int) -> tuple[str, tuple[str, ...]] | None:
        if layout not in self._names:
            row = self._db.execute("SELECT device, metrics FROM layouts WHERE id = ?", (layout,)).fetchone()
            named = None if row is None else _layout_of(*row)
            if named is None:
                return None
            self._names[layout] = named
        return self._names[layout]

    def _size(self) -> tuple[int, int]:
        """Give the file's length with what its log adds to it, and how much of that is unused."""
        pages, free, size = (
            self._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        return int(pages * size), int(free * size)

    def _excess(self) -> int:
        """Tell how many bytes are to go, by the bound and by the disk."""
        file_bytes, unused = self._size()
        over = file_bytes - unused - self._max_bytes
        return over if self._opened.in_memory else max(over, self._room.lacks(file_bytes, unused))

    def _oldest(self, which: str, excess: int, index: str) -> list[tuple[int, int]]:
        """Choose the oldest batches whose bytes come to `excess`, and never more than a chunk.

        `index`: the one to find them by, in its order (what is committed by when that was), where the planner would
        rather walk over all others, or sort all of these for each chunk: of a day's backlog that would take minutes.
        """
        rows = self._db.execute(
            f"SELECT number, readings, length(columns) FROM batches INDEXED BY {index} WHERE {which}"  # noqa: S608 - own conditions
            f" ORDER BY {_ORDER[index]} LIMIT ?",
            (TRIM_CHUNK,),
        ).fetchall()
        before = accumulate((row[2] for row in rows), initial=0)
        return [
            (number, readings) for (number, readings, _), freed in zip(rows, before, strict=False) if freed < excess
        ]

    def _forget(self, rows: Sequence[tuple[int, int]]) -> None:
        with self._writing():
            self._db.executemany("DELETE FROM batches WHERE number = ?", [(number,) for number, _ in rows])

    def _drop(self, rows: Sequence[tuple[int, int]], *counters: str) -> None:
        with self._writing():
            self._db.executemany("DELETE FROM batches WHERE number = ?", [(number,) for number, _ in rows])
            for name in counters:
                self._add(name, sum(readings for _, readings in rows))
            self._update_floor()

    def _salvage(self, aside: Path, now_ms: int) -> None:
        """Take over from a damaged file what can still be read: counters, the journal, and batches not committed."""
        with closing(_opened_aside(aside)) as old:
            highest = self._take_counters(old)
            # Without them nobody knows which numbers were used; the clock is ahead of any.
            first_free = far_ahead(highest, now_ms) if highest else now_ms
            with self._writing():
                self._set("batch_last", first_free)
                self._set("journal_last", far_ahead(self._counter("journal_last"), now_ms) if highest else now_ms)
                self._add("files_set_aside", 1)
            sealed = self._version(old) != UNSEALED_VERSION
            batches = self._salvaged(lambda: self._take_batches(old, highest, sealed=sealed))
            entries = self._salvaged(lambda: self._take_journal(old) if sealed else 0)
        log.warning("taken over from the damaged spool", batches=batches, journal_entries=entries)

    def _version(self, old: sqlite3.Connection) -> int:
        return self._salvaged(lambda: int(old.execute("PRAGMA user_version").fetchone()[0]))

    def _salvaged(self, take: Callable[[], int]) -> int:
        try:
            return take()
        except sqlite3.Error as error:
            log.critical("a part of the damaged spool cannot be read", reason=str(error))
            return 0

    def _take_counters(self, old: sqlite3.Connection) -> int | None:
        """Take over the counters; give the highest batch number, or None where they cannot be read."""
        try:
            held = dict(old.execute("SELECT name, value FROM counters").fetchall())
        except sqlite3.Error as error:
            log.critical("the counters of the damaged spool cannot be read", reason=str(error))
            return None
        if not all(isinstance(value, int) and value >= 0 for value in held.values()) or "batch_last" not in held:
            log.critical("the counters of the damaged spool are not to be believed", counters=str(held)[:500])
            return None
        with self._writing():
            for name in (*COUNTERS, *MARKS):
                if name in held and name != "opened_in_boot":
                    self._set(name, held[name])
        return int(held["batch_last"])

    def _take_batches(self, old: sqlite3.Connection, highest: int | None, *, sealed: bool) -> int:
        """Take over, in order of number, the batches that wait; around pages that cannot be read it feels its way."""
        query = "SELECT number, layout, columns FROM batches WHERE committed_ms IS NULL AND number > ? ORDER BY number"
        layouts = {
            row[0]: named
            for row in old.execute("SELECT id, device, metrics FROM layouts")
            if (named := _layout_of(*row[1:])) is not None
        }
        after, failures, taken = 0, 0, 0
        while True:
            rows, whole = _readable(old, f"{query} LIMIT ?", (after, SALVAGE_CHUNK))
            if rows:
                # In a damaged tree a number may come out of its order, but the search must come to its end.
                after, failures = max(after + 1, *(row[0] for row in rows)), 0
                taken += self._take(rows, layouts, sealed=sealed)
            elif whole:
                return taken
            if not whole:
                # Over the batches of one page one by one, over a larger hole in ever larger steps.
                failures += 1
                after += max(1, failures - SALVAGE_PATIENCE)
                if highest is None or after > highest:
                    return taken

    def _take(
        self, rows: Sequence[tuple[int, int, bytes]], layouts: dict[int, tuple[str, tuple[str, ...]]], *, sealed: bool
    ) -> int:
        sound = []
        with self._writing():
            for number, layout, blob in rows:
                named = layouts.get(layout)
                columns = None if named is None else unpack(blob, seal(number, *named) if sealed else 0)
                if named is not None and columns is not None:
                    sound.append(self._row(number, *named, columns))
            # A damaged tree may show a batch twice.
            self._insert(sound, "OR IGNORE")
        return len(sound)

    def _take_journal(self, old: sqlite3.Connection) -> int:
        """Take over all entries, those that are safe uphill too: a start needs what was said since its snapshot."""
        columns = "number, time_ms, body, crc, committed_ms"
        rows = old.execute(f"SELECT {columns} FROM journal").fetchall()  # noqa: S608 - fixed text
        sound = [row for row in rows if is_sound(*row[:4]) and isinstance(row[4], int | None)]
        with self._writing():
            insert = f"INSERT OR IGNORE INTO journal({columns}) VALUES (?, ?, ?, ?, ?)"  # noqa: S608 - fixed text
            self._db.executemany(insert, sound)
        return sum(row[4] is None for row in sound)


def _opened_aside(aside: Path) -> sqlite3.Connection:
    """Open a damaged file for reading; one that the disk does not even open reads like an empty one."""
    try:
        return sqlite3.connect(f"file:{aside}?mode=ro", uri=True)
    except sqlite3.OperationalError as error:
        log.critical("the damaged spool cannot be opened", reason=str(error))
        return sqlite3.connect(":memory:")


def _readable(
    old: sqlite3.Connection, query: str, values: tuple[int, ...]
) -> tuple[list[tuple[int, int, bytes]], bool]:
    """Read rows as far as it goes; tell whether that was to the end."""
    rows: list[tuple[int, int, bytes]] = []
    try:
        rows.extend(old.execute(query, values))
    except sqlite3.DatabaseError:
        return rows, False
    return rows, True


def _layout_of(device: object, metrics: object) -> tuple[str, tuple[str, ...]] | None:
    """Give the names in a row of the layouts, or None where they are none."""
    try:
        names = json.loads(metrics) if isinstance(metrics, str) else None
    except ValueError:
        return None
    if not isinstance(device, str) or not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    return device, tuple(names)


def _merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same numbers in as few ranges as there can be, none of them in two."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return merged
