"""Work on the cloud side's database from the command line, beside a cloud side that runs or without one."""

import asyncio
import getpass
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Final, TypeVar

import typer
from sqlalchemy.exc import SQLAlchemyError

from tocsin_cloud.adapters.audit_chain import Actor
from tocsin_cloud.adapters.sql.engine import Database, sqlite_url
from tocsin_cloud.settings import SQL_FILE

T = TypeVar("T")
# Accounts are nobody else's business on this machine.
PRIVATE: Final = 0o077

Data = Annotated[Path, typer.Option(help="Where the cloud side keeps its files.")]
Json = Annotated[bool, typer.Option("--json", help="End with one JSON object.")]


def on_database(data: Path, work: Callable[[Database], Awaitable[T]], *, fresh: bool = False) -> T:
    """Return what `work` answers on the database in `data`, as it is; with `fresh` one is made where there is none.

    Raises:
        typer.BadParameter: there is no database, or none that can be read.
    """
    path = data / SQL_FILE
    missing = not path.is_file()
    if missing and not fresh:
        raise typer.BadParameter(f"the cloud side has no database in {data}")

    if missing:
        os.umask(PRIVATE)

    async def run() -> T:
        url = sqlite_url(path)
        database = await Database.open(url) if missing else Database.as_it_is(url)
        try:
            return await work(database)
        finally:
            await database.close()

    try:
        data.mkdir(parents=True, exist_ok=True)
        return asyncio.run(run())
    except (SQLAlchemyError, OSError) as error:
        raise typer.BadParameter(f"{path}: {getattr(error, 'orig', None) or error}") from error


def command_line() -> Actor:
    """Who works here: the user of this machine."""
    try:
        who = getpass.getuser()
    except (KeyError, OSError):
        # A machine that does not know its user by name.
        who = ""
    return Actor(who, "", "command line")
