"""Puts a backup into an empty folder: every file checked before anything is where a cloud side would find it."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from secrets import token_hex
from typing import BinaryIO, Final

from tocsin_cloud.adapters.backup_manifest import DATA, PLANT, BackupError, Kept, Manifest, Say, hashed_copy
from tocsin_cloud.adapters.backup_readings import READINGS, put_readings
from tocsin_cloud.adapters.backup_tables import put_tables
from tocsin_cloud.adapters.history_state import RESTORED, StateFile
from tocsin_cloud.adapters.settings_file import history_of, note_moved, noted_settings
from tocsin_cloud.adapters.sql.engine import known_revisions
from tocsin_cloud.adapters.whole_file import sync
from tocsin_cloud.settings import SQL_FILE, HistoryAddress, HistoryKind
from tocsin_core.clock import Clock

# Where the files are until all of them are there.
UNFINISHED: Final = "restoring"


@dataclass(frozen=True, slots=True)
class Into:
    """Where a backup goes: the folder `data`, which is empty or not there, and servers instead of files in it.

    `sql`: the address of an empty database. `history`: where the readings are from now on, if not where they were.
    """

    data: Path
    sql: str | None = None
    history: HistoryAddress | None = None


def restore_backup(backup: Path, into: Into, clock: Clock, say: Say) -> Manifest:
    """Restore the backup in `backup`; its plant goes to `data/plant`, readings of a server to a server.

    Raises:
        BackupError: it is no backup, damaged, or made by a newer version; or `data` or the database is not empty, or
            the history's server does not take the readings.
        OSError: the disk does not take it, or the backup cannot be read.
    """
    manifest, data = Manifest.read(backup), into.data
    if manifest.revision not in known_revisions():
        raise BackupError(f"{backup} was made by the newer Tocsin {manifest.tocsin}: restore it with that")
    if data.exists() and (not data.is_dir() or any(data.iterdir())):
        raise BackupError(f"{data} is not empty")
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    unfinished = data / UNFINISHED
    unfinished.mkdir(mode=0o700)
    try:
        _copy(backup, unfinished, manifest, say)
        history = into.history or history_of(noted_settings(unfinished / DATA))
        # Before the tables: these go into an empty database only, readings may come twice.
        put_readings(backup, manifest, history, clock, say)
        if history.kind is not HistoryKind.DUCKDB:
            _mark(unfinished / DATA)
        if into.sql is not None:
            say("database", 0, 0)
            put_tables(unfinished / DATA / SQL_FILE, into.sql)
    except BaseException:
        shutil.rmtree(unfinished)
        raise
    for path in (unfinished / DATA).iterdir():
        path.rename(data / path.name)
    if (unfinished / PLANT).is_dir():
        (unfinished / PLANT).rename(data / PLANT)
    note_moved(data, (data / PLANT).resolve(), into.sql, history)
    unfinished.joinpath(DATA).rmdir()
    unfinished.rmdir()
    sync(data)
    return manifest


def _mark(data: Path) -> None:
    """Tell the historian's state apart from one that is shared on a broker which was not lost: that knows of more."""
    file = StateFile.open(data)
    try:
        file.save({RESTORED: token_hex(8).encode()})
    finally:
        file.close()


def _copy(backup: Path, unfinished: Path, manifest: Manifest, say: Say) -> None:
    done = 0

    def told(size: int) -> None:
        nonlocal done
        done += size
        say("files", done, manifest.size)

    for name, kept in manifest.files.items():
        place = PurePosixPath(name)
        if place.parts[0] not in (DATA, PLANT, READINGS) or ".." in place.parts:
            raise BackupError(f"{backup} is damaged: it has no place for {name}")
        try:
            with (backup / place).open("rb") as source:
                # Readings go to their server out of the backup itself.
                copied = None if place.parts[0] == READINGS else unfinished / place
                found: Kept | None = _copied(source, copied, told)
        except FileNotFoundError:
            found = None
        if found != kept:
            raise BackupError(f"{backup} is damaged: {name} is not what was backed up")


def _copied(source: BinaryIO, copy: Path | None, told: Callable[[int], None]) -> Kept:
    if copy is None:
        return hashed_copy(source, None, told)
    copy.parent.mkdir(parents=True, exist_ok=True)
    with copy.open("xb") as target:
        found = hashed_copy(source, target, told)
        os.fsync(target.fileno())
    return found
