"""The part of a backup that must be of one moment: the SQL tables, as a SQLite file, and the alarms' snapshots."""

import asyncio
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from tocsin_cloud.adapters import snapshot
from tocsin_cloud.adapters.backup_manifest import BackupError, Say
from tocsin_cloud.adapters.sql.copies import copy_rows, decided_since, is_untouched, revision_of
from tocsin_cloud.adapters.sql.engine import Database, migrate, newest_revision, sqlite_url
from tocsin_cloud.settings import SQL_FILE
from tocsin_core.clock import Clock

SNAPSHOTS: Final = "alarms-*.npz"
LOOK_S: Final = 0.05
PAGES: Final = 2000

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for tables and snapshots of one moment."""

    clock: Clock
    most_s: float


def copy_tables(data: Path, server: str | None, kept: Path, patience: Patience, say: Say) -> tuple[bool, str]:
    """Copy the snapshots in `data`, and the tables: of the database at the address `server`, or of the file in `data`.

    Returns whether both are of the same moment, and the tables' revision.

    Raises:
        BackupError: there are no tables, or they cannot be read.
    """
    if server is not None:
        say("database", 0, 0)
        try:
            return asyncio.run(_copy_server(data, server, kept, patience))
        except (SQLAlchemyError, OSError) as error:
            raise BackupError(f"{server}: {getattr(error, 'orig', None) or error}") from error
    if not (data / SQL_FILE).is_file():
        raise BackupError(f"the cloud side has no database in {data}")
    return _copy_file(data, kept, patience, say)


def put_tables(file: Path, server: str) -> None:
    """Move the tables of the SQLite file into the empty database at the address `server`.

    Raises:
        BackupError: somebody has worked with that database, or it cannot be written.
    """
    try:
        asyncio.run(_put(file, server))
    except (SQLAlchemyError, OSError) as error:
        raise BackupError(f"{server}: {getattr(error, 'orig', None) or error}") from error
    file.unlink()


def _copy_file(data: Path, kept: Path, patience: Patience, say: Say) -> tuple[bool, str]:
    deadline = patience.clock.monotonic() + patience.most_s
    with closing(sqlite3.connect(data / SQL_FILE, isolation_level=None)) as source:
        while True:
            # First the snapshots: one of a later moment than the tables would be of no use.
            held = _snapshots(data)
            # The copy is of this transaction's moment, however long it takes and whatever is committed meanwhile.
            source.execute("BEGIN")
            later = "SELECT 1 FROM transition WHERE now_ns > ? UNION ALL SELECT 1 FROM command WHERE at_ns > ? LIMIT 1"
            at_once = source.execute(later, (_taken_ns(held),) * 2).fetchone() is None
            if at_once or patience.clock.monotonic() >= deadline:
                break
            source.execute("COMMIT")
            say("waiting for the alarms' state", 0, 0)
            time.sleep(LOOK_S)
        _keep(held, kept)
        with closing(sqlite3.connect(kept / SQL_FILE)) as copy:
            source.backup(copy, pages=PAGES, progress=lambda _, left, all_: say("database", all_ - left, all_))
            (revision,) = copy.execute("SELECT version_num FROM alembic_version").fetchone()
        source.execute("COMMIT")
    return at_once, str(revision)


async def _copy_server(data: Path, server: str, kept: Path, patience: Patience) -> tuple[bool, str]:
    deadline = patience.clock.monotonic() + patience.most_s
    source, copy = Database.as_it_is(server), await Database.open(sqlite_url(kept / SQL_FILE))
    try:
        while True:
            held = _snapshots(data)
            async with source.read() as session:
                at_once = not await decided_since(session, _taken_ns(held))
                if at_once or patience.clock.monotonic() >= deadline:
                    revision = await revision_of(session)
                    if revision != newest_revision():
                        raise BackupError(f"{server} has other tables than this version: start the cloud side once")
                    async with copy.write() as copying:
                        await copy_rows(session, copying)
                    _keep(held, kept)
                    return at_once, revision
            await asyncio.sleep(LOOK_S)
    finally:
        await source.close()
        await copy.close()


async def _put(file: Path, server: str) -> None:
    await asyncio.to_thread(migrate, sqlite_url(file))
    source, target = Database.as_it_is(sqlite_url(file)), await Database.open(server)
    try:
        async with target.write() as writing, source.read() as reading:
            if not await is_untouched(writing):
                raise BackupError(f"{server} is not empty")
            await copy_rows(reading, writing)
    finally:
        await source.close()
        await target.close()


def _snapshots(data: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in data.glob(SNAPSHOTS)}


def _keep(snapshots: dict[str, bytes], kept: Path) -> None:
    for name, content in snapshots.items():
        (kept / name).write_bytes(content)


def _taken_ns(snapshots: dict[str, bytes]) -> int:
    """When the stream took the last message that all of the snapshots know of; 0 where there is none."""
    found = [0] if not snapshots else []
    for name, content in snapshots.items():
        try:
            found.append(snapshot.position_of(content).time_ns)
        except ValueError as error:
            log.warning("a snapshot of the alarms cannot be read", file=name, reason=str(error))
            found.append(0)
    return min(found)
