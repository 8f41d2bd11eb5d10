"""The spool's file: its schema, how it is opened and checked, and how it is set aside when SQLite cannot use it."""

import sqlite3
import zlib
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import structlog

from tocsin_edge.adapters.whole_file import sync_folder

SCHEMA_VERSION: Final = 2
COUNTERS: Final = (
    "readings_polled",
    "readings_committed",
    "readings_dropped",
    "readings_dropped_history",
    "readings_dropped_live",
    "readings_damaged",
    "batch_last",
    "batch_committed",
    "journal_last",
    "journal_committed",
    "journal_damaged",
    "files_set_aside",
)
MARKS: Final = ("bd_seq", "host_acknowledges", "opened_in_boot")
# The first bdSeq of a gateway is the one after this: 0 (tck-id-topics-nbirth-bdseq-increment).
BD_SEQ_MODULUS: Final = 256
# How long the log may stay. It is written back once it has so many pages: the rest is for the transaction after that.
WAL_LIMIT: Final = 4_000_000
WAL_PAGES: Final = 600
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")

SCHEMA: Final = """
CREATE TABLE counters(name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE layouts(
    id INTEGER PRIMARY KEY,
    device TEXT NOT NULL,
    metrics TEXT NOT NULL,
    UNIQUE(device, metrics)
) STRICT;
CREATE TABLE batches(
    number INTEGER PRIMARY KEY,
    layout INTEGER NOT NULL REFERENCES layouts(id),
    readings INTEGER NOT NULL,
    newest_ms INTEGER NOT NULL,
    columns BLOB NOT NULL,
    committed_ms INTEGER
) STRICT;
CREATE INDEX uncommitted ON batches(number) WHERE committed_ms IS NULL;
CREATE INDEX committed ON batches(committed_ms) WHERE committed_ms IS NOT NULL;
CREATE TABLE journal(
    number INTEGER PRIMARY KEY,
    time_ms INTEGER NOT NULL,
    body BLOB NOT NULL,
    crc INTEGER NOT NULL,
    committed_ms INTEGER
) STRICT;
"""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Opened:
    """A connection to the spool's file, and what became of the file.

    `aside`: the file that could not be used and where it is now. Not `writable`: a sound file on a disk that takes
    nothing. `in_memory`: a damaged file on such a disk; the connection is to no file at all.
    """

    database: sqlite3.Connection
    aside: Path | None = None
    writable: bool = True
    in_memory: bool = False


def open_file(path: Path, now_ms: int) -> Opened:
    """Open or create the file at `path`; one that SQLite cannot use is set aside for people to look at.

    Raises:
        OSError: the folder cannot be made.
        sqlite3.OperationalError: the file is not there and cannot be made, or another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return Opened(_ready(path))
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            if not path.exists() or code_of(error) == sqlite3.SQLITE_BUSY:
                raise
            # Where the file reads well the disk is at fault.
            with suppress(sqlite3.DatabaseError):
                return open_to_read(path, str(error))
        reason = str(error)
    try:
        aside = _set_aside(path, now_ms)
        database = _ready(path)
    except (OSError, sqlite3.OperationalError) as error:
        log.critical("damaged spool on a disk that takes nothing: kept in memory", reason=reason, disk=str(error))
        return open_in_memory()
    log.critical("spool damaged, set aside", file=str(path), aside=str(aside), reason=reason)
    return Opened(database, aside)


def open_to_read(path: Path, reason: str) -> Opened:
    """Open a sound file that cannot be written for `reason`, at best with what is in its WAL.

    Raises:
        sqlite3.DatabaseError: it does not read well in any way.
    """
    found = Opened(_read_only(path), writable=False)
    log.critical("spool cannot be written", file=str(path), reason=reason)
    return found


def open_in_memory() -> Opened:
    """Open a new spool without a file."""
    database = sqlite3.connect(":memory:", check_same_thread=False)
    _create(database)
    return Opened(database, in_memory=True)


def code_of(error: sqlite3.Error) -> int:
    """Give SQLite's primary result code; 0 for an error that is not SQLite's own, as of a database closed before."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def boot() -> int:
    """Tell this run of the operating system from the one before it; 0 where the system does not say."""
    with suppress(OSError):
        return zlib.crc32(BOOT_ID.read_bytes()) or 1
    return 0


def _ready(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, check_same_thread=False, timeout=5)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT}")
        database.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
        _check(database)
        if database.execute("PRAGMA user_version").fetchone()[0] == 0:
            _create(database)
        # SQLite opens a file that it may not write without a word; only a write tells.
        with database:
            database.execute("UPDATE counters SET value = value WHERE name = 'bd_seq'")
    except sqlite3.Error:
        database.close()
        raise
    return database


def _read_only(path: Path) -> sqlite3.Connection:
    try:
        return _reading(f"file:{path}?mode=ro", "NORMAL")
    except sqlite3.DatabaseError:
        pass
    try:
        # The index of the WAL in memory, where it can be neither found nor made on disk; after a write-back that broke
        # off, the file is whole only together with its WAL.
        return _reading(f"file:{path}?mode=rw", "EXCLUSIVE")
    except sqlite3.DatabaseError:
        # The last commits are out of sight until the disk is back.
        return _reading(f"file:{path}?mode=ro&immutable=1", "NORMAL")


def _reading(uri: str, locking: str) -> sqlite3.Connection:
    database = sqlite3.connect(uri, uri=True, check_same_thread=False, timeout=5)
    try:
        database.execute(f"PRAGMA locking_mode = {locking}")
        _check(database)
    except sqlite3.Error:
        database.close()
        raise
    return database


def _check(database: sqlite3.Connection) -> None:
    # What an index leaves out would never be sent, and the quick check does not compare indexes with their tables.
    verdict = database.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict)
    version = database.execute("PRAGMA user_version").fetchone()[0]
    tables = database.execute("SELECT count(*) FROM sqlite_schema WHERE type = 'table'").fetchone()[0]
    if version not in (0, SCHEMA_VERSION) or (version == 0 and tables):
        raise sqlite3.DatabaseError(f"schema version {version}")
    if version:
        if _schema_of(database) != _our_schema():
            raise sqlite3.DatabaseError("the schema is not ours")
        names = {row[0] for row in database.execute("SELECT name FROM counters")}
        if not names.issuperset((*COUNTERS, *MARKS)):
            raise sqlite3.DatabaseError("counters are missing")


def _schema_of(database: sqlite3.Connection) -> list[tuple[str, ...]]:
    return database.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name").fetchall()


@cache
def _our_schema() -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(":memory:")) as database:
        _create(database)
        return _schema_of(database)


def _create(database: sqlite3.Connection) -> None:
    first = {"bd_seq": BD_SEQ_MODULUS - 1}
    values = (f"('{name}', {first.get(name, 0)})" for name in (*COUNTERS, *MARKS))
    fill = f"INSERT INTO counters VALUES {', '.join(values)};"  # noqa: S608 - own names
    database.executescript(f"BEGIN IMMEDIATE;{SCHEMA}{fill}PRAGMA user_version = {SCHEMA_VERSION};COMMIT;")


def identity_of(path: Path) -> tuple[int, int]:
    """Tell which file is at `path`; (0, 0): none. A disk that does not say counts as one that has none."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_dev, found.st_ino


def put_back(database: sqlite3.Connection, path: Path, its_log: tuple[int, int], now_ms: int) -> Path | None:
    """Write an open file, with its log, that are not at `path` any more; give where that is now which was there.

    Raises:
        OSError, sqlite3.Error: the open file cannot be read, or the disk does not take it.
    """
    new = path.with_name(f"{path.name}.new")
    path.parent.mkdir(parents=True, exist_ok=True)
    new.unlink(missing_ok=True)
    with closing(sqlite3.connect(new)) as copy:
        database.backup(copy)
    log_file, index = (path.with_name(path.name + end) for end in ("-wal", "-shm"))
    # With what is there now these have nothing to do.
    index.unlink(missing_ok=True)
    if identity_of(log_file) == its_log:
        log_file.unlink(missing_ok=True)
    aside = _set_aside(path, now_ms) if path.exists() else None
    new.replace(path)
    sync_folder(path.parent)
    return aside


def _set_aside(path: Path, now_ms: int) -> Path:
    """Rename the file with its WAL; only the newest such file is kept, so that damage never fills the disk."""
    older = [each for each in path.parent.glob(f"{path.name}.damaged-*") if not each.is_dir()]
    aside = path.with_name(f"{path.name}.damaged-{now_ms}")
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    for file in older:
        file.unlink()
    return aside
