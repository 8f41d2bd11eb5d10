"""Connections to the SQL database: the writing and the reading side on SQLite and PostgreSQL, and the migration."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, Self

import asyncpg
import structlog
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.script.revision import ResolutionError
from alembic.util import CommandError
from sqlalchemy import Delete, Update, event
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from tocsin_cloud.adapters.sql.away import DatabaseAwayError, passes, said_away

SQLITE: Final = "sqlite+aiosqlite"
POSTGRESQL: Final = "postgresql+asyncpg"
BUSY_TIMEOUT_MS: Final = 10_000
CONNECT_TIMEOUT_S: Final = 5.0
ANSWER_TIMEOUT_S: Final = 15.0
NO_TIME: Final = "it did not answer before the end"
# A writer that stands still in its transaction holds up every other one: PostgreSQL ends it after this long.
IDLE_TIMEOUT_MS: Final = 5_000
ALONE: Final = "tocsin_alone"
"""The option of a connection whose transaction is one statement."""
WRITERS: Final = 0x746F6373696E
"""The advisory lock of whoever writes: the name of the program in ASCII."""

# The loop itself keeps no task alive.
_LETTING_GO: Final[set[asyncio.Future[None]]] = set()

log = structlog.get_logger()


class NewerTablesError(SQLAlchemyError):
    """The database has tables that this version does not know, as a newer one has made them meanwhile."""


def sqlite_url(path: Path) -> URL:
    """The address of the SQLite database in the file `path`."""
    return URL.create(SQLITE, database=str(path))


def server_url(text: str) -> URL:
    """The address `postgresql://[USER@]HOST[:PORT]/DATABASE`; a password comes from PGPASSWORD or PGPASSFILE.

    Raises:
        ValueError: it is something else.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:
        raise ValueError(f"{text!r} is not postgresql://USER@HOST:PORT/DATABASE") from error
    if url.password is not None:
        raise ValueError("a password does not belong into the address: other users of the machine see it")
    if url.drivername != "postgresql" or not url.host or not url.database:
        raise ValueError(f"{text!r} is not postgresql://USER@HOST:PORT/DATABASE")
    return url.set(drivername=POSTGRESQL)


def _set_up_sqlite(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    # The driver must not open transactions by itself: the begin hook does, and says which kind.
    connection.isolation_level = None
    cursor = connection.cursor()
    # FULL: a commit that was answered survives a power cut; the position and the transitions depend on it.
    for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={BUSY_TIMEOUT_MS}", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _let_go(connection: DBAPIConnection, _entry: ConnectionPoolEntry, _error: BaseException | None) -> None:
    """Roll back what a connection that is given up was doing, as whoever used it was cancelled.

    SQLite closes a connection only when the last of its statements is gone, which may be as late as Python's next full
    collection: until then one in a transaction that writes would lock everybody out.
    """
    task = asyncio.ensure_future(_rolled_back(connection.driver_connection))
    _LETTING_GO.add(task)
    task.add_done_callback(_LETTING_GO.discard)


async def _rolled_back(connection: Any) -> None:  # noqa: ANN401 -- aiosqlite's, which SQLAlchemy does not type
    try:
        await connection.rollback()
    except (sqlite3.Error, ValueError) as error:
        # It is closed already, and holds nothing.
        log.debug("connection not rolled back", reason=str(error))


class _Connection(asyncpg.Connection):  # type: ignore[misc]  # it has no types
    """One to PostgreSQL that a server which stands still cannot keep open."""

    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 -- as asyncpg calls it
        """Close it within `timeout` s; without one it is not in use: nothing is waited for, no answer either."""
        if timeout is None:
            self.terminate()
        else:
            await super().close(timeout=timeout)


def _begin_writing(connection: Connection) -> None:
    if ALONE in connection.get_execution_options():
        return
    # A deferred transaction that first reads and then writes can fail at once with SQLITE_BUSY, whatever the timeout.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin_reading(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _write_alone(connection: Connection) -> None:
    if ALONE in connection.get_execution_options():
        return
    # The writers of a database come one after the other, as on SQLite: none works on what another is changing, none
    # deadlocks with another, and rows are numbered in the order in which they become visible.
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITERS})")


def _without_nul(
    _connection: Connection,
    _cursor: object,
    statement: str,
    parameters: Sequence[Any],
    _context: object,
    _executemany: bool,  # noqa: FBT001 -- as SQLAlchemy calls it
) -> tuple[str, Sequence[Any]]:
    """Put another character in the place of NUL, which PostgreSQL has in no text: a name with one is nobody's."""
    return statement, _writable(parameters)


def _writable(value: Any) -> Any:  # noqa: ANN401 -- a parameter, a row of them, or rows of them, as SQLAlchemy groups them
    if isinstance(value, str):
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}")
    return type(value)(map(_writable, value)) if isinstance(value, list | tuple) and _holds_nul(value) else value


def _holds_nul(values: Sequence[Any]) -> bool:
    # Of thousands of rows nearly none has one: a list that holds neither text nor lists is told by its types alone.
    kinds = [kind for kind in set(map(type, values)) if issubclass(kind, str | list | tuple)]
    return bool(kinds) and any(
        "\0" in each if isinstance(each, str) else isinstance(each, list | tuple) and _holds_nul(each)
        for each in values
    )


def create_engine(url: URL, *, writing: bool) -> AsyncEngine:
    """An engine on `url`, set up for transactions that write, or for those that only read."""
    # One writing connection: a database has one writer anyway, and waiting in the pool is fairer than elsewhere.
    pool: dict[str, Any] = {"pool_size": 1, "max_overflow": 0} if writing else {}
    if url.get_backend_name() == "sqlite":
        engine = create_async_engine(url, **pool)
        event.listen(engine.sync_engine, "handle_error", said_away, retval=True)
        event.listen(engine.sync_engine, "connect", _set_up_sqlite)
        event.listen(engine.sync_engine, "invalidate", _let_go)
        event.listen(engine.sync_engine, "begin", _begin_writing if writing else _begin_reading)
        return engine
    settings = {
        "application_name": f"tocsin {'writes' if writing else 'reads'}",
        "idle_in_transaction_session_timeout": str(IDLE_TIMEOUT_MS),
        "lock_timeout": str(BUSY_TIMEOUT_MS),
    }
    # Behind the lock each statement has to see what was committed before it; a reader sees one moment throughout.
    engine = create_async_engine(
        url,
        isolation_level="READ COMMITTED" if writing else "REPEATABLE READ",
        pool_pre_ping=True,
        connect_args={
            "timeout": CONNECT_TIMEOUT_S, "command_timeout": ANSWER_TIMEOUT_S, "server_settings": settings,
            "connection_class": _Connection,
        },
        **pool,
    )  # fmt: skip
    event.listen(engine.sync_engine, "handle_error", said_away, retval=True)
    event.listen(engine.sync_engine, "before_cursor_execute", _without_nul, retval=True)
    if writing:
        event.listen(engine.sync_engine, "begin", _write_alone)
    return engine


class Database:
    """Sessions on one database: `write()` for transactions that change rows, `read()` for those that do not."""

    def __init__(self, writer: AsyncEngine, reader: AsyncEngine) -> None:
        """Keep the two sides; use `open`."""
        self._writer = writer
        self._reader = reader
        self._until_s: float | None = None

    @classmethod
    async def open(cls, url: URL | str) -> Self:
        """Migrate the database at `url` to the present tables and open it.

        Raises:
            DatabaseAwayError: the database cannot do it now.
            sqlalchemy.exc.SQLAlchemyError: the database cannot be migrated.
        """
        address = make_url(url)
        try:
            await asyncio.to_thread(migrate, address)
        except (OSError, sqlite3.Error) as error:
            if not passes(error):
                raise
            raise DatabaseAwayError(None, None, error) from error
        return cls.as_it_is(address)

    @classmethod
    def as_it_is(cls, url: URL | str) -> Self:
        """Open the database at `url` without migrating it: for looking at what is there."""
        address = make_url(url)
        return cls(create_engine(address, writing=True), create_engine(address, writing=False))

    def end_within(self, seconds: float) -> None:
        """Give up in so many seconds what is begun from now on: whoever ends does not wait for a database."""
        self._until_s = asyncio.get_running_loop().time() + seconds

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """A session in one writing transaction: committed at the end, rolled back on an error.

        Raises:
            DatabaseAwayError: the database cannot do it now. Where that happens at the end, on
                PostgreSQL, the transaction may have been committed all the same.
        """
        async with self._session(self._writer) as session:
            yield session

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """A session in one reading transaction: a consistent view, which holds up no writer.

        Raises:
            DatabaseAwayError: the database cannot do it now.
        """
        async with self._session(self._reader) as session:
            yield session

    async def change(self, statement: Update | Delete) -> int:
        """Carry out one statement that changes rows, as a transaction of its own; returns how many it changed.

        Between the steps of a transaction of `write` the event loop has other work, for as long as that takes, and
        meanwhile nobody else writes, in no process. This one holds up nobody: SQLite has committed when the statement
        returns, and PostgreSQL locks no more than the rows.

        Raises:
            DatabaseAwayError: as `write`.
        """
        async with self._session(self._writer, {ALONE: True}) as session:
            return (await (await session.connection()).execute(statement)).rowcount

    @asynccontextmanager
    async def _session(
        self, side: AsyncEngine, options: Mapping[str, Any] | None = None
    ) -> AsyncIterator[AsyncSession]:
        in_time = asyncio.timeout_at(self._until_s)
        try:
            async with in_time, AsyncSession(side, expire_on_commit=False) as session, session.begin():
                await _connect(session, options)
                yield session
        except TimeoutError as error:
            if not in_time.expired():
                raise
            raise DatabaseAwayError(None, None, TimeoutError(NO_TIME)) from error

    async def close(self) -> None:
        """Close every connection."""
        await self._reader.dispose()
        await self._writer.dispose()


async def _connect(session: AsyncSession, options: Mapping[str, Any] | None) -> None:
    try:
        _ = await session.connection(execution_options=options)
    except (OSError, PoolTimeoutError) as error:
        raise DatabaseAwayError(None, None, error) from error


def migrate(url: URL) -> None:
    """Bring the database at `url` to the newest tables; does nothing if it has them. Blocks: call it in a thread.

    Raises:
        NewerTablesError: it has newer ones.
        sqlalchemy.exc.SQLAlchemyError, OSError: the database does not do it.
    """
    if url.get_backend_name() == "sqlite":
        # Whether the file can be opened: the asynchronous driver's thread would outlive the loop of steps that fail.
        sqlite3.connect(str(url.database)).close()
    config = _steps()
    config.attributes["url"] = url
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        unknown = error.__cause__
        if not isinstance(unknown, ResolutionError):
            raise
        told = f"the tables are of a newer version of Tocsin ({unknown.argument}): start that, or one newer still"
        raise NewerTablesError(told) from error


def known_revisions() -> frozenset[str]:
    """The revisions of the tables, from the first to the newest, that this version can open."""
    return frozenset(step.revision for step in ScriptDirectory.from_config(_steps()).walk_revisions())


def newest_revision() -> str:
    """The revision of today's tables."""
    return str(ScriptDirectory.from_config(_steps()).get_current_head())


def _steps() -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("tocsin_cloud.adapters.sql") / "migrations"))
    return config
