"""Connections to the SQL database: a writing and a reading side, SQLite's settings, the migration to today's tables."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Self

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

BUSY_TIMEOUT_MS = 10_000


def sqlite_url(path: Path) -> URL:
    """The address of the SQLite database in the file `path`."""
    return URL.create("sqlite+aiosqlite", database=str(path))


def _set_up_sqlite(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    # The driver must not open transactions by itself: the begin hook does, and says which kind.
    connection.isolation_level = None
    cursor = connection.cursor()
    # FULL: a commit that was answered survives a power cut; the position and the transitions depend on it.
    for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={BUSY_TIMEOUT_MS}", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_writing(connection: Connection) -> None:
    # A deferred transaction that first reads and then writes can fail at once with SQLITE_BUSY, whatever the timeout.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin_reading(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def create_engine(url: URL, *, writing: bool) -> AsyncEngine:
    """An engine on `url`, set up for transactions that write, or for those that only read."""
    if url.get_backend_name() != "sqlite":
        return create_async_engine(url)
    # One writing connection: SQLite has one writer anyway, and waiting in the pool is fairer than its busy loop.
    engine = create_async_engine(url, pool_size=1, max_overflow=0) if writing else create_async_engine(url)
    event.listen(engine.sync_engine, "connect", _set_up_sqlite)
    event.listen(engine.sync_engine, "begin", _begin_writing if writing else _begin_reading)
    return engine


class Database:
    """Sessions on one database: `write()` for transactions that change rows, `read()` for those that do not."""

    def __init__(self, writer: AsyncEngine, reader: AsyncEngine) -> None:
        """Keep the two sides; use `open`."""
        self._writer = writer
        self._reader = reader

    @classmethod
    async def open(cls, url: URL | str) -> Self:
        """Migrate the database at `url` to the present tables and open it.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: the database cannot be reached or migrated.
        """
        address = make_url(url)
        await asyncio.to_thread(migrate, address)
        return cls.as_it_is(address)

    @classmethod
    def as_it_is(cls, url: URL | str) -> Self:
        """Open the database at `url` without migrating it: for looking at what is there."""
        address = make_url(url)
        return cls(create_engine(address, writing=True), create_engine(address, writing=False))

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """A session in one writing transaction: committed at the end, rolled back on an error."""
        async with AsyncSession(self._writer, expire_on_commit=False) as session, session.begin():
            yield session

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """A session in one reading transaction: a consistent view, which holds up no writer."""
        async with AsyncSession(self._reader, expire_on_commit=False) as session, session.begin():
            yield session

    async def close(self) -> None:
        """Close every connection."""
        await self._reader.dispose()
        await self._writer.dispose()


def migrate(url: URL) -> None:
    """Bring the database at `url` to the newest tables; does nothing if it has them. Blocks: call it in a thread."""
    config = _steps()
    config.attributes["url"] = url
    command.upgrade(config, "head")


def known_revisions() -> frozenset[str]:
    """The revisions of the tables, from the first to the newest, that this version can open."""
    return frozenset(step.revision for step in ScriptDirectory.from_config(_steps()).walk_revisions())


def _steps() -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("tocsin_cloud.adapters.sql") / "migrations"))
    return config
