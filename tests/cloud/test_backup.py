"""`tocsin backup` and `tocsin restore` on a data folder that nobody works on, and what they refuse."""

import asyncio
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import typer
from sqlalchemy import select
from typer.testing import CliRunner

from tests.cli.command import started
from tests.cloud.rig import HOST, plant_folder
from tests.support.postgres import Postgres
from tocsin_cli import audit, user
from tocsin_cli.backup import backup, restore
from tocsin_cloud.adapters.history import HistoryError
from tocsin_cloud.adapters.history_copies import ask_for_copy, copying
from tocsin_cloud.adapters.history_duckdb import DuckdbHistory
from tocsin_cloud.adapters.history_open import FILE
from tocsin_cloud.adapters.issued import Issued, IssuedFile
from tocsin_cloud.adapters.settings_file import note_settings
from tocsin_cloud.adapters.signing import PRIVATE_FILE, signing_key
from tocsin_cloud.adapters.sql.copies import copy_rows
from tocsin_cloud.adapters.sql.engine import Database, sqlite_url
from tocsin_cloud.adapters.sql.models import Audit, Occurrence, Quarantine
from tocsin_cloud.cli import cloud
from tocsin_cloud.settings import SQL_FILE, Address, CloudSettings
from tocsin_core.readings import GOOD, Frame

OCCURRENCE: Final = {
    "alarm": "P1/H", "point": "P1", "kind": "H", "priority": "high", "phase": "normal", "raised_ns": 1 << 60,
    "reading_ns": 1, "committed_ns": 1, "out_of_service": True, "value": 0.1, "unit": "kPa",
    "message": {"zh": "高", "en": "high"},
}  # fmt: skip
STATE: Final = b'{"position": [7, 8]}'
VERBS: Final = typer.Typer()
for verb in (backup, restore, cloud):
    VERBS.command(verb.__name__)(verb)
VERBS.add_typer(user.app, name="user")
VERBS.add_typer(audit.app, name="audit")


@pytest.fixture(autouse=True)
def own_umask() -> Iterator[None]:
    """The verbs set it for their process, which here is everybody's."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder as the cloud side leaves it."""
    folder = tmp_path / "var"
    done("user", "add", "chief", "--role", "administrator", "--data", str(folder))
    plant = plant_folder(tmp_path / "plant")
    (plant / "notes.txt").write_text("no part of the plant", encoding="utf-8")
    here = Address(HOST, 1)
    note_settings(CloudSettings(plant=plant, data=folder, http=here, mqtt=here), "site")
    signing_key(folder)
    IssuedFile.open(folder).note("gw", Issued(5, "hash"))
    for left_out in ("nats/jetstream", "gateways/gw", "enrolled/gw"):
        (folder / left_out).mkdir(parents=True)
        (folder / left_out / "spool.sqlite").write_text("not the cloud side's", encoding="utf-8")

    async def history() -> None:
        store = await DuckdbHistory.open(folder / FILE)
        await store.commit(Frame.of([store.key("P1")], [1_000], [1.5], [GOOD]), {"position": STATE})
        await store.close()

    asyncio.run(history())
    return folder


def done(*arguments: str) -> dict[str, Any]:
    """Run the command line, and give its last line, which is JSON."""
    ran = CliRunner().invoke(VERBS, [*arguments, "--json"])
    assert ran.exit_code == 0, ran.output
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


def refused(*arguments: str) -> str:
    """Run the command line, which refuses, and give why."""
    ran = CliRunner().invoke(VERBS, [*arguments], standalone_mode=False)
    assert isinstance(ran.exception, typer.BadParameter), ran.output
    return str(ran.exception)


def names(folder: Path) -> set[str]:
    """Every file in the folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_all_that_is_kept_comes_back(data: Path, tmp_path: Path) -> None:
    """Tables, readings, keys, versions given out, settings and plant; not the stream, nor what belongs to a gateway."""
    made = done("backup", str(data), "--to", str(tmp_path))
    place = Path(made["backup"])
    assert place.parent == tmp_path
    assert place.name.startswith("tocsin-site-")
    assert place.stat().st_mode & 0o077 == 0
    assert not list(tmp_path.glob("*.partial"))
    assert names(place) == {
        "manifest.json", "plant/plant.yaml",
        *(f"data/{name}" for name in (SQL_FILE, FILE, PRIVATE_FILE, "cloud.pub", "slices.json", "settings.json")),
    }  # fmt: skip
    again = tmp_path / "new" / "var"
    assert done("restore", str(place), "--data", str(again))["files"] == made["files"] == 7
    assert (again / PRIVATE_FILE).read_bytes() == (data / PRIVATE_FILE).read_bytes()
    assert (again / "plant" / "plant.yaml").read_bytes() == (tmp_path / "plant" / "plant.yaml").read_bytes()
    assert IssuedFile.open(again).last("gw") == Issued(5, "hash")
    users = done("user", "list", "--data", str(again))["users"]
    assert [user["user"] for user in users] == ["chief"]
    assert done("audit", "verify", "--data", str(again))["sound"]
    with closing(sqlite3.connect(again / SQL_FILE)) as tables:
        actions = [action for (action,) in tables.execute("SELECT action FROM audit ORDER BY seq")]
    assert actions == ["user.add", "backup.restore"]

    async def history() -> None:
        store = await DuckdbHistory.open(again / FILE)
        assert dict(store.state) == {"position": STATE}
        assert (await store.read("P1", 0, 2_000, None, 9)).mean.tolist() == [1.5]
        await store.close()

    asyncio.run(history())
    # What was restored can be backed up before it ever ran: it knows where its plant lies now.
    shutil.rmtree(tmp_path / "plant")
    assert done("backup", str(again), "--to", str(tmp_path / "second"))["files"] == 7


def test_a_damaged_backup_is_refused_and_leaves_nothing(data: Path, tmp_path: Path) -> None:
    """Another byte, a file that is missing, a manifest that is cut, one of a newer version, a place outside."""
    good, into = Path(done("backup", str(data), "--to", str(tmp_path / "good"))["backup"]), tmp_path / "new"

    @contextmanager
    def damaged(name: str) -> Iterator[Path]:
        shutil.copytree(good, tmp_path / "bad")
        yield tmp_path / "bad" / name
        said = refused("restore", str(tmp_path / "bad"), "--data", str(into))
        assert wanted in said
        assert not into.exists() or not list(into.iterdir())
        shutil.rmtree(tmp_path / "bad")

    wanted = f"data/{FILE} is not what was backed up"
    with damaged(f"data/{FILE}") as path:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    wanted = "slices.json is not what was backed up"
    with damaged("data/slices.json") as path:
        path.unlink()
    wanted = "manifest.json is damaged"
    with damaged("manifest.json") as path:
        path.write_bytes(path.read_bytes()[:-9])
    manifest = json.loads((good / "manifest.json").read_bytes())
    wanted = "newer Tocsin 99"
    for newer in ({"format": 2, "tocsin": "99"}, {"revision": "9999", "tocsin": "99"}):
        with damaged("manifest.json") as path:
            path.write_text(json.dumps(manifest | newer), encoding="utf-8")
    wanted = "no place for"
    with damaged("manifest.json") as path:
        path.write_text(json.dumps(manifest | {"files": {"data/../../x": {"size": 0, "sha256": ""}}}), encoding="utf-8")


def test_what_cannot_be_backed_up_or_restored_is_told_in_one_line(data: Path, tmp_path: Path) -> None:
    """A folder without a database, a place that is taken, a backup cut short, a folder that is not empty."""
    place = tmp_path / "backup"
    # As a process of its own: one line, and the exit code of what was given wrong.
    ran = started("backup", str(tmp_path / "plant"), "--to", str(place))
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1), ran.stderr
    assert "never ran" in ran.stderr
    (tmp_path / "backup.partial").mkdir()
    assert "cut short" in refused("backup", str(data), "--to", str(place))
    (tmp_path / "backup.partial").rmdir()
    done("backup", str(data), "--to", str(place))
    (tmp_path / "file").touch()
    assert "exists already" in refused("backup", str(data), "--to", str(tmp_path / "file"))
    assert "is not empty" in refused("restore", str(place), "--data", str(data))
    assert "no backup" in refused("restore", str(tmp_path / "plant"), "--data", str(tmp_path / "new"))
    # A restore that was killed half-way: a cloud side must not begin anew on what is there.
    (tmp_path / "half" / "restoring").mkdir(parents=True)
    said = refused("cloud", str(tmp_path / "plant"), "--data", str(tmp_path / "half"))
    assert "was cut short" in said
    (data / "settings.json").unlink()
    assert "which plant" in refused("backup", str(data), "--to", str(tmp_path / "other"))


def test_no_backup_lies_in_what_it_backs_up(data: Path, tmp_path: Path) -> None:
    """Each would hold all earlier ones, itself as well, and be twice as large as the one before."""
    (data / "backups").mkdir()
    (tmp_path / "link").symlink_to(data)
    for place in (data / "backups", data / "new", data, tmp_path / "link" / "new"):
        assert "lies in" in refused("backup", str(data), "--to", str(place))
    assert not list(data.rglob("tocsin-*"))


def test_the_process_that_has_the_history_copies_it(tmp_path: Path) -> None:
    """By a socket that only its owner may use; nobody there is told apart from a copy that fails."""
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    assert not ask_for_copy(folder, tmp_path)

    async def story() -> None:
        history = await DuckdbHistory.open(folder / FILE)
        async with copying(history, folder):
            assert (folder / "history.sock").stat().st_mode & 0o077 == 0
            assert await asyncio.to_thread(ask_for_copy, folder, tmp_path)
            with pytest.raises(HistoryError, match="nowhere"):
                await asyncio.to_thread(ask_for_copy, folder, tmp_path / "nowhere")
        await history.close()
        assert not await asyncio.to_thread(ask_for_copy, folder, tmp_path)
        copy = await DuckdbHistory.open(tmp_path / FILE)
        await copy.close()

    asyncio.run(story())


def test_tables_come_from_a_server_and_go_to_one(data: Path, tmp_path: Path, postgres_server: Postgres) -> None:
    """A file's into an empty PostgreSQL, from there into a backup, and that into a file: every row as it was."""
    first = done("backup", str(data), "--to", str(tmp_path / "first"))["backup"]
    url = postgres_server.with_tables()
    server = url.set(drivername="postgresql").render_as_string()
    into = tmp_path / "on the server"
    done("restore", first, "--data", str(into), "--sql", server)
    assert not (into / SQL_FILE).exists()
    assert "is not empty" in refused("restore", first, "--data", str(tmp_path / "other"), "--sql", server)
    assert not list((tmp_path / "other").iterdir())
    second = done("backup", str(into), "--to", str(tmp_path / "second"))["backup"]
    done("restore", second, "--data", str(tmp_path / "again"))
    assert done("audit", "verify", "--data", str(tmp_path / "again"))["sound"]

    async def actions(database: Database) -> list[str]:
        try:
            async with database.read() as session:
                return list(await session.scalars(select(Audit.action).order_by(Audit.seq)))
        finally:
            await database.close()

    wanted = ["user.add", "backup.restore", "backup.make", "backup.restore"]
    on_server = asyncio.run(actions(Database.as_it_is(url)))
    assert on_server == wanted[:3]
    assert asyncio.run(actions(Database.as_it_is(sqlite_url(tmp_path / "again" / SQL_FILE)))) == [
        wanted[0],
        wanted[1],
        wanted[3],
    ]


def test_rows_keep_their_kinds_and_their_numbers(tmp_path: Path, postgres_server: Postgres) -> None:
    """Names, bytes, truth values and nothing at all; a row that comes after them gets the next number."""
    url = postgres_server.with_tables()

    async def story() -> None:
        file, server = (
            await Database.open(sqlite_url(tmp_path / "file")),
            Database.as_it_is(url),
        )
        back = await Database.open(sqlite_url(tmp_path / "back"))
        for number, body in enumerate((b"\x00\xff", b"")):
            async with file.write() as session:
                session.add(Quarantine(at_ns=number, topic="t", reason="r", detail="储罐", size=2, head=body))
                session.add(Occurrence(**OCCURRENCE, id=str(number)))
        for source, target in ((file, server), (server, back)):
            async with source.read() as reading, target.write() as writing:
                await copy_rows(reading, writing)
            async with target.write() as session:
                session.add(Quarantine(at_ns=9, topic="t", reason="r", detail="", size=0, head=b""))
        async with back.read() as session:
            rows = (await session.scalars(select(Quarantine).order_by(Quarantine.id))).all()
            assert [(row.id, row.at_ns, row.head) for row in rows] == [
                (1, 0, b"\x00\xff"),
                (2, 1, b""),
                (3, 9, b""),
                (4, 9, b""),
            ]
            found = (await session.scalars(select(Occurrence).order_by(Occurrence.id))).all()
            assert [(row.id, row.message, row.clause, row.out_of_service, row.value) for row in found] == [
                ("0", {"zh": "高", "en": "high"}, None, True, 0.1),
                ("1", {"zh": "高", "en": "high"}, None, True, 0.1),
            ]
        for database in (file, server, back):
            await database.close()

    asyncio.run(story())
