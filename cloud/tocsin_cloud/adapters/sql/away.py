"""Which failures of a database pass by themselves: decided here alone, for whoever has to try again."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi as Driver
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

log = structlog.get_logger()
T = TypeVar("T")

AGAIN_S: Final = 0.5
# Tries between two lines of the log: a minute, or more where a try takes its time.
SAID_EVERY: Final = 120
# Classes and codes of PostgreSQL's SQLSTATE (appendix A of its manual) that say nothing of the statement itself:
# connection, serialization and deadlock, resources, locks, an operator's hand, the system, a server that only reads,
# the server's own faults, but not data or an index that it finds corrupted (XX001, XX002).
TRY_AGAIN: Final = ("08", "40", "53", "55P03", "57", "58", "25P03", "25006", "XX000")
# What the driver says of its own faults, and of a plan made before the tables were changed.
DRIVERS_OWN: Final = (Driver.InternalClientError, Driver.InvalidCachedStatementError)
# The driver has one class for a connection that is gone and for a mistake in how it is used.
CLOSED: Final = "connection is closed"
# SQLite's like (https://www.sqlite.org/rescode.html): another one writes, and a disk or a memory that does not do it.
SQLITE_TRY_AGAIN: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    }
)  # fmt: skip
PRIMARY: Final = 0xFF
"""The bits of SQLite's extended result code that are its primary one."""


class DatabaseAwayError(OperationalError):
    """The database could not do it now, but may later; any other error of it is a mistake of ours."""

    @property
    def reason(self) -> str:
        """What the database, the driver or the network said."""
        return str(self.orig) or repr(self.orig)

    def __str__(self) -> str:
        """The reason alone: the statement says nothing of it, and would fill a log."""
        return self.reason


async def when_back(work: Callable[[], Awaitable[T]], what: str) -> T:
    """Do what needs the database; while it is away try again, and say once a minute that `what` waits."""
    tried = 0
    while True:
        try:
            return await work()
        except DatabaseAwayError as error:
            if tried % SAID_EVERY == 0:
                log.warning("waiting for the database", what=what, reason=error.reason)
        tried += 1
        await asyncio.sleep(AGAIN_S)


def said_away(context: ExceptionContext) -> DatabaseAwayError | None:
    """Tell SQLAlchemy to raise `DatabaseAwayError` where that is what a failure means (its event `handle_error`)."""
    error = context.original_exception
    if not isinstance(error, Exception):
        # Whoever is cancelled while the database works has to hear that, and nothing of the connection it cost.
        return None
    if context.is_disconnect or passes(error):
        # By `connection_invalidated` the pool knows that it has to connect anew.
        return DatabaseAwayError(context.statement, None, error, connection_invalidated=context.is_disconnect)
    return None


def passes(error: Exception) -> bool:
    """Whether a failure says nothing of the statement itself, so that the same may do later."""
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", 0) & PRIMARY in SQLITE_TRY_AGAIN
    if isinstance(error, Driver.InterfaceError):
        return CLOSED in str(error)
    state = str(getattr(error, "sqlstate", None) or "")
    return isinstance(error, (OSError, PoolTimeoutError, *DRIVERS_OWN)) or state.startswith(TRY_AGAIN)
