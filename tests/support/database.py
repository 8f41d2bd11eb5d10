"""A test's story told on a database that is opened for it, and a database whose driver fails."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from math import inf
from typing import Final

import asyncpg
from sqlalchemy import event
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi as Driver
from sqlalchemy.engine import URL

from tocsin_cloud.adapters.sql.engine import Database

Story = Callable[[Database], Awaitable[None]]


def tell(url: URL, story: Story) -> None:
    """Run a story on the database at `url`."""

    async def run() -> None:
        database = await Database.open(url)
        try:
            await story(database)
        finally:
            await database.close()

    asyncio.run(run())


def broken(code: int = sqlite3.SQLITE_IOERR) -> sqlite3.Error:
    """What SQLite's driver raises with this result code."""
    error = sqlite3.OperationalError(f"made for a test: {code}")
    error.sqlite_errorcode = code
    return error


def _driver(name: str, cause: Exception | None = None) -> Exception:
    """What SQLAlchemy's driver for PostgreSQL makes of an error of asyncpg's."""
    made: Exception = getattr(Driver, name)(f"made for a test: {cause}", cause)
    return made


Make = Callable[[], Exception]

PASSING: Final[dict[str, tuple[Make, ...]]] = {
    "sqlite": (broken, *(partial(broken, code) for code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL, 266))),
    "postgresql": (
        ConnectionResetError,
        TimeoutError,
        partial(_driver, "InterfaceError", asyncpg.InterfaceError("cannot perform operation: connection is closed")),
        partial(_driver, "InternalClientError"),
        partial(_driver, "InternalServerError", asyncpg.InternalServerError("")),
        partial(_driver, "InvalidCachedStatementError"),
        partial(_driver, "Error", asyncpg.SerializationError("")),
        partial(_driver, "Error", asyncpg.AdminShutdownError("")),
    ),
}
"""By the make of database, failures that pass by themselves; 266 is SQLite's extended code of a read that failed."""

LASTING: Final[dict[str, tuple[Make, ...]]] = {
    "sqlite": (partial(broken, sqlite3.SQLITE_ERROR), partial(broken, sqlite3.SQLITE_CORRUPT)),
    "postgresql": (
        partial(_driver, "ProgrammingError", asyncpg.UndefinedTableError("")),
        partial(_driver, "Error", asyncpg.DataError("")),
        partial(_driver, "InterfaceError", asyncpg.InterfaceError("the server expects 1 argument, 2 were passed")),
        partial(_driver, "InternalServerError", asyncpg.DataCorruptedError("")),
        partial(_driver, "InternalServerError", asyncpg.IndexCorruptedError("")),
    ),
}
"""Those that trying again does not mend."""


@contextmanager
def failing(
    database: Database, error: Make = broken, times: float = inf, only: str | None = None
) -> Iterator[list[str]]:
    """Have the driver raise `error` at the next statements of `database`, `times` of them; yields those statements.

    Where one is given, at that statement `only`.
    """
    failed: list[str] = []

    def fail(_cursor: object, statement: str, _parameters: object, _context: object) -> None:
        if only in (None, statement) and len(failed) < times:
            failed.append(statement)
            raise error()

    engines = [side.sync_engine for side in (database._writer, database._reader)]  # noqa: SLF001 -- the seam to the driver is there
    for engine in engines:
        event.listen(engine, "do_execute", fail)
    try:
        yield failed
    finally:
        for engine in engines:
            event.remove(engine, "do_execute", fail)
