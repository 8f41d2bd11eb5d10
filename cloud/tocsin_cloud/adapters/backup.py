"""Makes a backup of the cloud side, whether it runs or not: a folder that is there whole, or not at all."""

import os
import shutil
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import duckdb

from tocsin_cloud.adapters import history_copies, history_duckdb_tables, history_open, history_state
from tocsin_cloud.adapters.backup_manifest import DATA, FILE, PLANT, BackupError, Kept, Manifest, Say, hashed_copy
from tocsin_cloud.adapters.backup_readings import keep_readings
from tocsin_cloud.adapters.backup_tables import SNAPSHOTS, Patience, copy_tables
from tocsin_cloud.adapters.history import HistoryError
from tocsin_cloud.adapters.plant_record import plant_files
from tocsin_cloud.adapters.settings_file import history_of, noted_settings
from tocsin_cloud.adapters.whole_file import sync
from tocsin_cloud.settings import ENROLLED, SQL_FILE, HistoryAddress
from tocsin_core.clock import Clock

# What is no part of a backup: the stream, which gateways fill again; a gateway's own folder, whose batch numbers must
# never be given out twice; gateways' private keys on the way to their boxes; the demo's logs;
# a plant that was restored, which has its own place in the backup.
LEFT_OUT: Final = ("nats", "gateways", ENROLLED, "logs", PLANT)
PASSING: Final = (".new", ".lock", ".log", ".sock", ".wal", "-wal", "-shm", "-journal")
HISTORY_FILES: Final = (history_open.FILE, history_state.FILE)
# The alarms worker makes a snapshot every 10 s, of a large plant or on a busy machine less often; right after one its
# state and the tables are of the same moment.
AT_ONCE_S: Final = 180.0


def make_backup(data: Path, target: Path, clock: Clock, say: Say) -> tuple[Path, Manifest]:
    """Back up the cloud side whose files are in `data` to the folder `target`; one that exists gets it as a subfolder.

    Returns the folder of the backup. While it is being made its name ends in `.partial`.

    Raises:
        BackupError: there is nothing to back up, `target` is no place for it, or a part cannot be copied whole.
        OSError: the disk does not take it.
    """
    settings, history = _settings(data)
    made_at = datetime.fromtimestamp(clock.now_ns() / 1e9, UTC)
    if target.is_dir():
        target /= f"tocsin-{settings['site']}-{made_at:%Y%m%dT%H%M%SZ}"
    if target.exists():
        raise BackupError(f"{target} exists already")
    if target.resolve().is_relative_to(data.resolve()):
        # It would hold all that are there already, and itself.
        raise BackupError(f"{target} lies in {data}, which is what is backed up: give a place outside it")
    partial = target.with_name(f"{target.name}.partial")
    try:
        partial.mkdir(mode=0o700)
    except FileExistsError as error:
        raise BackupError(f"{partial} is another backup that is being made, or was cut short: remove it") from error
    try:
        kept = partial / DATA
        kept.mkdir()
        runs = _copy_history(data, kept, say)
        at_once, revision = copy_tables(
            data, settings.get("sql"), kept, Patience(clock, AT_ONCE_S if runs else 0.0), say
        )
        # After the historian's state: readings that it does not know of come again, and are there once.
        keep_readings(history, partial, clock, say)
        _copy_files(data, _rest(data), kept)
        _copy_files(Path(settings["plant"]), plant_files(Path(settings["plant"])), partial / PLANT)
        manifest = Manifest(
            tocsin=version("tocsin"), made_at=made_at.isoformat(timespec="seconds"), site=settings["site"],
            revision=revision, history=history.kind, alarms_at_once=at_once,
            files=_summed(partial, say),
        )  # fmt: skip
        (partial / FILE).write_bytes(manifest.to_bytes())
        for path in (partial / FILE, partial):
            sync(path)
        partial.rename(target)
        sync(target.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target, manifest


def _settings(data: Path) -> tuple[dict[str, Any], HistoryAddress]:
    try:
        settings = noted_settings(data)
        if not settings:
            raise BackupError(f"the cloud side never ran on {data}: it does not tell of which plant it is")
        return settings, history_of(settings)
    except ValueError as error:
        raise BackupError(str(error)) from error


def _copy_history(data: Path, kept: Path, say: Say) -> bool:
    """Copy the history by the process that has it, or, where none has, by ourselves; tells whether one has."""
    held = [name for name in HISTORY_FILES if (data / name).is_file()]
    say("history", 0, 0)
    try:
        if history_copies.ask_for_copy(data, kept):
            return True
        for name in held:
            _copy_held(data / name, kept)
    except (HistoryError, duckdb.Error) as error:
        raise BackupError(f"the history is not copied: {error}") from error
    return False


def _copy_held(path: Path, kept: Path) -> None:
    if path.name == history_state.FILE:
        state = history_state.StateFile.open(path.parent)
        try:
            state.copy(kept)
        finally:
            state.close()
        return
    with duckdb.connect(str(path)) as connection:
        history_duckdb_tables.copy(connection, kept / path.name)


def _copy_files(folder: Path, paths: Iterable[Path], kept: Path) -> None:
    """Copy files of `folder` to the same places in `kept`."""
    for path in paths:
        place = kept / path.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, place)


def _rest(data: Path) -> Iterator[Path]:
    """All other files of `data` that are to be kept: keys, versions given out, messages left in the outbox."""
    for folder, folders, names in os.walk(data):
        here = Path(folder)
        if here == data:
            folders[:] = [name for name in folders if name not in LEFT_OUT]
        for name in names:
            path = here / name
            copied = here == data and (name in (SQL_FILE, *HISTORY_FILES) or path.match(SNAPSHOTS))
            if not copied and not name.endswith(PASSING):
                yield path


def _summed(backup: Path, say: Say) -> dict[str, Kept]:
    """Every file of the backup with its size and hash; each is on disk when this returns."""
    paths = sorted(path for path in backup.rglob("*") if path.is_file())
    total, done = sum(path.stat().st_size for path in paths), 0
    found: dict[str, Kept] = {}

    def told(size: int) -> None:
        nonlocal done
        done += size
        say("checksums", done, total)

    for path in paths:
        with path.open("rb") as file:
            found[path.relative_to(backup).as_posix()] = hashed_copy(file, None, told)
        sync(path)
    for folder in (path for path in backup.rglob("*") if path.is_dir()):
        sync(folder)
    return found
