"""`tocsin user`: the users of the cloud side, made and changed on its own machine, whether it runs or not."""

import json
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Final, TypeVar

import typer

from tocsin_cli.cloud_data import Data, Json, Sql, command_line, on_database
from tocsin_cloud.adapters.accounts import Accounts
from tocsin_cloud.adapters.roles import Role
from tocsin_cloud.adapters.sql.engine import Database
from tocsin_cloud.adapters.users import Change, UnknownError, UserError, Users
from tocsin_core.clock import SystemClock

T = TypeVar("T")
MADE_BYTES: Final = 12

app = typer.Typer(help="Make, list and change the users of the cloud side, on its own machine.")

User = Annotated[str, typer.Argument(help="The name to sign in with.")]
Ask = Annotated[bool, typer.Option("--ask", help="Ask for the password; left out, one is made and shown once.")]


@app.command()
def add(
    user: User,
    role: Annotated[Role, typer.Option(help="What the user is in the plant.")],
    data: Data = Path("var"),
    *,
    sql: Sql = None,
    name: Annotated[str | None, typer.Option(help="The name to show; the user's if left out.")] = None,
    ask: Ask = False,
    as_json: Json = False,
) -> None:
    """Add a user; the first one of a plant has to be an administrator."""
    password = _password(ask=ask)
    _run(data, sql, lambda users: users.add(command_line(), user, name or user, role, password), fresh=True)
    _say(user, password, asked=ask, as_json=as_json)


@app.command()
def password(user: User, data: Data = Path("var"), *, sql: Sql = None, ask: Ask = False, as_json: Json = False) -> None:
    """Give a user a new password; every session of theirs ends."""
    new = _password(ask=ask)
    _run(data, sql, lambda users: users.change(command_line(), user, Change(password=new)))
    _say(user, new, asked=ask, as_json=as_json)


@app.command()
def change(
    user: User,
    data: Data = Path("var"),
    *,
    sql: Sql = None,
    role: Annotated[Role | None, typer.Option(help="What the user is from now on.")] = None,
    name: Annotated[str | None, typer.Option(help="The name to show.")] = None,
    disabled: Annotated[
        bool | None, typer.Option("--disable/--enable", help="Whether the user may sign in no longer, or again.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Change a user; shutting one out ends every session."""
    wanted = Change(display=name, role=role, disabled=disabled)
    if wanted == Change():
        raise typer.BadParameter("nothing to change: --role, --name, --disable or --enable")
    _run(data, sql, lambda users: users.change(command_line(), user, wanted))
    typer.echo(json.dumps({"user": user, **wanted.told()}, ensure_ascii=False) if as_json else f"{user}: changed")


@app.command("list")
def list_users(data: Data = Path("var"), *, sql: Sql = None, as_json: Json = False) -> None:
    """List the users."""
    found = _run(data, sql, lambda users: users.everybody())
    if as_json:
        rows = [{"user": row.name, "name": row.display, "role": row.role, "disabled": row.disabled} for row in found]
        typer.echo(json.dumps({"users": rows}, ensure_ascii=False))
        return
    for row in found:
        typer.echo(f"{row.name}  {row.role}  {row.display}" + ("  (disabled)" if row.disabled else ""))


def _password(*, ask: bool) -> str:
    if ask:
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    return secrets.token_urlsafe(MADE_BYTES)


def _say(user: str, password: str, *, asked: bool, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"user": user, **({} if asked else {"password": password})}, ensure_ascii=False))
    else:
        typer.echo(f"{user}: done" if asked else f"{user}: the password is {password} (it is not shown again)")


def _run(data: Path, sql: str | None, work: Callable[[Users], Awaitable[T]], *, fresh: bool = False) -> T:
    clock = SystemClock()
    try:
        return on_database(data, sql, lambda database: work(_users(database, clock)), fresh=fresh)
    except (UserError, UnknownError) as error:
        raise typer.BadParameter(str(error)) from error


def _users(database: Database, clock: SystemClock) -> Users:
    return Users(database, clock, Accounts(database, clock))
