"""Work on the cloud side's database from the command line, beside a cloud side that runs or without one."""

import asyncio
import getpass
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Final, TypeVar

import typer
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from tocsin_cloud.adapters.audit import append
from tocsin_cloud.adapters.audit_chain import Actor, Deed
from tocsin_cloud.adapters.authority import CA_FILE
from tocsin_cloud.adapters.settings_file import noted_settings
from tocsin_cloud.adapters.sql.engine import Database, server_url, sqlite_url
from tocsin_cloud.settings import AUTHORITY, SQL_FILE
from tocsin_core.clock import SystemClock

T = TypeVar("T")
# Accounts are nobody else's business on this machine.
PRIVATE: Final = 0o077

Data = Annotated[Path, typer.Option(help="Where the cloud side keeps its files.")]
Sql = Annotated[
    str | None,
    typer.Option(
        "--sql", metavar="URL", help="Its PostgreSQL database, as `tocsin cloud --sql` takes it; else a file in --data."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="End with one JSON object.")]


def on_database(data: Path, sql: str | None, work: Callable[[Database], Awaitable[T]], *, fresh: bool = False) -> T:
    """Return what `work` answers on the database at `sql`, else on the one in `data`, as it is.

    With `fresh` one is made in `data` where there is none, and a server's is brought to today's tables.

    Raises:
        typer.BadParameter: there is no database, or none that can be read.
    """
    url = _server(sql) if sql is not None else sqlite_url(data / SQL_FILE)
    missing = sql is None and not (data / SQL_FILE).is_file()
    if missing and not fresh:
        raise typer.BadParameter(f"the cloud side has no database in {data}")
    if missing:
        os.umask(PRIVATE)
        data.mkdir(parents=True, exist_ok=True)

    async def run() -> T:
        database = await Database.open(url) if fresh and (missing or sql is not None) else Database.as_it_is(url)
        try:
            return await work(database)
        finally:
            await database.close()

    try:
        return asyncio.run(run())
    except (SQLAlchemyError, OSError) as error:
        raise typer.BadParameter(f"{sql or data / SQL_FILE}: {getattr(error, 'orig', None) or error}") from error


def known_authority(data: Path) -> None:
    """Refuse a folder in which no certificate was ever issued: for a slip in its name nobody would be let in any more.

    Raises:
        typer.BadParameter: it is one.
    """
    if not (data / AUTHORITY / CA_FILE).is_file():
        raise typer.BadParameter(f"no certificate was ever issued in {data}", param_hint="--data")


def note(data: Path, deed: Deed) -> None:
    """Put into the audit log of the cloud side in `data` what was done here; where it never ran there is none yet.

    Raises:
        typer.BadParameter: its database does not take the entry; what was done stands.
    """

    async def work(url: URL) -> None:
        database = Database.as_it_is(url)
        try:
            async with database.write() as session:
                await append(session, SystemClock().now_ns(), command_line(), deed)
        finally:
            await database.close()

    try:
        server = noted_settings(data).get("sql")
        if server is not None or (data / SQL_FILE).is_file():
            asyncio.run(work(sqlite_url(data / SQL_FILE) if server is None else make_url(server)))
    except (SQLAlchemyError, OSError, ValueError) as error:
        raise typer.BadParameter(f"done, but not in the audit log: {error}") from error


def _server(sql: str) -> URL:
    try:
        return server_url(sql)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def command_line() -> Actor:
    """Who works here: the user of this machine."""
    try:
        who = getpass.getuser()
    except (KeyError, OSError):
        # A machine that does not know its user by name.
        who = ""
    return Actor(who, "", "command line")
