"""The historian's state beside a history on a server: one SQLite file in the data folder, held by one process."""

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, Self

import numpy as np

from tocsin_cloud.adapters.history import HistoryBusyError, HistoryError
from tocsin_cloud.adapters.history_rolled import PART
from tocsin_core.readings import I64

FILE: Final = "history-state.sqlite"
# The part that tells by which restore the state was put back, if by any.
RESTORED: Final = "restored"
# A point and its figures, as `history_rolled.Rows` has them in columns: first, since, until, closed.
Row = tuple[str, int, int, int, int]


@contextmanager
def _told(file: Path | str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise HistoryError(f"{file}: {error}") from error


class StateFile:
    """Named bytes, replaced together: after a crash all of a `save` is there or nothing of it.

    Losing the file loses no reading: the historian then reads the stream from its beginning, and stores again what is
    stored already.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Keep what `open` made."""
        self._connection = connection
        # A copy must not see half a `save`.
        self._whole = threading.Lock()

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open or create the file in `folder`, and keep every other process off it.

        Raises:
            HistoryError: another process has it, or it is not ours.
        """
        with _told(folder / FILE):
            connection = sqlite3.connect(folder / FILE, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            # An exclusive lock is taken with the first write, and held until the file is closed.
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, body BLOB NOT NULL)")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS rolled (point TEXT PRIMARY KEY, first INTEGER NOT NULL, "
                "since INTEGER NOT NULL, until INTEGER NOT NULL, closed INTEGER NOT NULL) WITHOUT ROWID"
            )
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            connection.close()
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
                raise HistoryBusyError(f"another process works on {folder}: it holds {FILE}") from error
            raise HistoryError(f"{folder / FILE}: {error}") from error
        return cls(connection)

    def load(self) -> dict[str, bytes]:
        """Everything that was saved, by name.

        Raises:
            HistoryError: it is damaged.
        """
        with _told(FILE), closing(self._connection.execute("SELECT name, body FROM state")) as found:
            return {name: bytes(body) for name, body in found}

    def rolled(self) -> tuple[list[str], I64]:
        """The rows that were saved of the points' roll-ups: n points, and their figures, shape (4, n).

        Raises:
            HistoryError: it is damaged.
        """
        with (
            _told(FILE),
            closing(self._connection.execute("SELECT point, first, since, until, closed FROM rolled")) as found,
        ):
            rows = found.fetchall()
        figures = np.array([row[1:] for row in rows], dtype=np.int64).reshape(-1, 4).T
        return [row[0] for row in rows], figures

    def save(self, parts: Mapping[str, bytes], rolled: Iterable[Row] = ()) -> None:
        """Replace the parts and the points' rows that are given, on disk when this returns.

        Raises:
            HistoryError: nothing was replaced.
        """
        with _told(FILE), self._whole:
            self._save(parts, rolled)

    def copy(self, folder: Path) -> None:
        """Write what is saved into a file of the same name in `folder`; all roll-ups are to be made anew there.

        The server that the copy comes to may have others than this one, or none.

        Raises:
            HistoryError: it could not be written.
        """
        with _told(folder / FILE), self._whole, closing(sqlite3.connect(folder / FILE)) as copy:
            self._connection.backup(copy)
            copy.execute("DELETE FROM state WHERE name = ?", [PART])
            copy.commit()

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def _save(self, parts: Mapping[str, bytes], rolled: Iterable[Row]) -> None:
        self._connection.execute("BEGIN")
        try:
            self._connection.executemany("INSERT OR REPLACE INTO state VALUES (?, ?)", list(parts.items()))
            self._connection.executemany("INSERT OR REPLACE INTO rolled VALUES (?, ?, ?, ?, ?)", rolled)
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
