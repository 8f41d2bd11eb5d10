"""`tocsin user` as an administrator runs it on the cloud side's machine."""

import asyncio
import json
from pathlib import Path

from tests.cli.command import started, tocsin
from tests.support.postgres import Postgres
from tocsin_cloud.adapters.accounts import Account, Accounts
from tocsin_cloud.adapters.sql.engine import Database, sqlite_url
from tocsin_cloud.adapters.users import ensure_administrator
from tocsin_cloud.settings import SQL_FILE
from tocsin_core.clock import SystemClock


def signed_in(data: Path, user: str, password: str) -> Account | None:
    """Sign in as the API does."""

    async def story() -> Account | None:
        database = await Database.open(sqlite_url(data / SQL_FILE))
        try:
            # Users exist already: the start of the cloud side makes nobody.
            assert await ensure_administrator(database, SystemClock()) is None
            found = await Accounts(database, SystemClock()).sign_in(user, password)
            return None if found is None else found[0]
        finally:
            await database.close()

    return asyncio.run(story())


def test_users_are_made_and_changed_before_the_first_start(tmp_path: Path) -> None:
    """The first one is an administrator, in a folder that only its owner reads; the audit log has every step."""
    data = tmp_path / "new" / "var"
    refused = tocsin("user", "add", "wang", "--role", "operator", "--data", str(data))
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "administrator" in refused.stderr
    made = started("user", "add", "chief", "--role", "administrator", "--name", "站长", "--data", str(data), "--json")
    assert made.returncode == 0, made.stderr
    password = json.loads(made.stdout.splitlines()[-1])["password"]
    assert data.stat().st_mode & 0o077 == 0
    assert (data / SQL_FILE).stat().st_mode & 0o077 == 0
    account = signed_in(data, "chief", password)
    assert account is not None
    assert (account.display, account.role) == ("站长", "administrator")
    assert tocsin("user", "add", "wang", "--role", "operator", "--data", str(data)).returncode == 0
    changed = tocsin("user", "change", "wang", "--role", "shift-leader", "--disable", "--data", str(data), "--json")
    assert json.loads(changed.stdout.splitlines()[-1]) == {"user": "wang", "role": "shift-leader", "disabled": "true"}
    new = json.loads(tocsin("user", "password", "chief", "--data", str(data), "--json").stdout.splitlines()[-1])
    assert signed_in(data, "chief", password) is None
    assert signed_in(data, "chief", new["password"]) is not None
    listed = started("user", "list", "--data", str(data))
    assert listed.stdout.splitlines() == [
        "chief  administrator  站长",
        "wang  shift-leader  wang  (disabled)",
    ]
    verdict = json.loads(tocsin("audit", "verify", "--data", str(data), "--json").stdout.splitlines()[-1])
    assert (verdict["sound"], verdict["entries"]) == (True, 6)


def test_users_of_a_server_are_made_there(postgres_server: Postgres, tmp_path: Path) -> None:
    """On an empty PostgreSQL the first user is made with the tables, and the log is walked there; no file is made."""
    url = postgres_server.make("users")
    where = ("--sql", f"postgresql://{url.username}@{url.host}:{url.port}/{url.database}", "--data", str(tmp_path))
    made = tocsin("user", "add", "chief", "--role", "administrator", *where)
    assert made.returncode == 0, made.stderr
    verdict = json.loads(tocsin("audit", "verify", *where, "--json").stdout.splitlines()[-1])
    assert (verdict["sound"], verdict["entries"]) == (True, 1)
    assert list(tmp_path.iterdir()) == []
    refused = tocsin("user", "list", "--sql", "postgresql://u@127.0.0.1:1/d")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)


def test_what_cannot_be_is_told_in_one_line(tmp_path: Path) -> None:
    """No database, nobody known, nothing to change, a role that is none: exit 2 and one line."""
    data = str(tmp_path)
    assert tocsin("user", "list", "--data", data).returncode == 2
    assert tocsin("user", "add", "chief", "--role", "administrator", "--data", data).returncode == 0
    for arguments in (
        ["password", "nobody"],
        ["change", "chief"],
        ["change", "chief", "--disable"],
        ["add", "chief", "--role", "administrator"],
        ["add", "li", "--role", "king"],
    ):
        done = tocsin("user", *arguments, "--data", data)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
