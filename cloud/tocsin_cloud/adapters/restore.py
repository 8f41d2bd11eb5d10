"""Puts a backup into an empty folder: every file checked before anything is where a cloud side would find it."""

import os
import shutil
from pathlib import Path, PurePosixPath
from typing import Final

from tocsin_cloud.adapters.backup_manifest import DATA, PLANT, BackupError, Kept, Manifest, Say, hashed_copy
from tocsin_cloud.adapters.backup_tables import put_tables
from tocsin_cloud.adapters.settings_file import note_moved
from tocsin_cloud.adapters.sql.engine import known_revisions
from tocsin_cloud.adapters.whole_file import sync
from tocsin_cloud.settings import SQL_FILE

# Where the files are until all of them are there.
UNFINISHED: Final = "restoring"


def restore_backup(backup: Path, data: Path, server: str | None, say: Say) -> Manifest:
    """Restore the backup in `backup` into `data`, which is empty or not there; its plant goes to `data/plant`.

    The tables go to the empty database at the address `server`, or stay a file in `data`.

    Raises:
        BackupError: it is no backup, damaged, or made by a newer version; or `data` or the database is not empty.
        OSError: the disk does not take it, or the backup cannot be read.
    """
    manifest = Manifest.read(backup)
    if manifest.revision not in known_revisions():
        raise BackupError(f"{backup} was made by the newer Tocsin {manifest.tocsin}: restore it with that")
    if data.exists() and (not data.is_dir() or any(data.iterdir())):
        raise BackupError(f"{data} is not empty")
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    unfinished = data / UNFINISHED
    unfinished.mkdir(mode=0o700)
    try:
        _copy(backup, unfinished, manifest, say)
        if server is not None:
            say("database", 0, 0)
            put_tables(unfinished / DATA / SQL_FILE, server)
    except BaseException:
        shutil.rmtree(unfinished)
        raise
    for path in (unfinished / DATA).iterdir():
        path.rename(data / path.name)
    if (unfinished / PLANT).is_dir():
        (unfinished / PLANT).rename(data / PLANT)
    note_moved(data, (data / PLANT).resolve(), server)
    unfinished.joinpath(DATA).rmdir()
    unfinished.rmdir()
    sync(data)
    return manifest


def _copy(backup: Path, unfinished: Path, manifest: Manifest, say: Say) -> None:
    done = 0

    def told(size: int) -> None:
        nonlocal done
        done += size
        say("files", done, manifest.size)

    for name, kept in manifest.files.items():
        place = PurePosixPath(name)
        if place.parts[0] not in (DATA, PLANT) or ".." in place.parts:
            raise BackupError(f"{backup} is damaged: it has no place for {name}")
        (unfinished / place).parent.mkdir(parents=True, exist_ok=True)
        try:
            with (backup / place).open("rb") as source, (unfinished / place).open("xb") as target:
                found: Kept | None = hashed_copy(source, target, told)
                os.fsync(target.fileno())
        except FileNotFoundError:
            found = None
        if found != kept:
            raise BackupError(f"{backup} is damaged: {name} is not what was backed up")
