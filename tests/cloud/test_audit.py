"""The audit log: entries in one chain whoever writes at once, and every way of tampering told exactly."""

import asyncio
import dataclasses
import hashlib
import json
import shutil
import sqlite3
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from tests.cli.command import started, tocsin
from tests.cloud.audited import WANG, deed, write
from tests.support.postgres import on_both
from tests.support.sqlite import with_tables
from tocsin_cloud.adapters.audit import Verdict, append, entries, verify
from tocsin_cloud.adapters.audit_chain import GENESIS, Actor, Deed, Entry, Link, Outcome
from tocsin_cloud.adapters.plant_record import files_of, note_plant
from tocsin_cloud.adapters.sql.engine import Database
from tocsin_cloud.settings import SQL_FILE
from tocsin_core.clock import SystemClock

Story = Callable[[Database], Awaitable[Any]]


def tell(where: Path | URL, story: Story) -> Any:  # noqa: ANN401 -- whatever the story answers
    """Run a story on the database in a folder, or at an address."""

    async def run() -> Any:  # noqa: ANN401 -- whatever the story answers
        database = await Database.open(where if isinstance(where, URL) else with_tables(where / SQL_FILE))
        try:
            return await story(database)
        finally:
            await database.close()

    return asyncio.run(run())


async def walk(database: Database, checkpoint: Link | None = None) -> Verdict:
    """Verify the chain."""
    async with database.read() as session:
        return await verify(session, checkpoint, lambda _done, _total: None)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A folder with a log of nine entries."""
    tell(tmp_path, lambda database: write(database, 9))
    return tmp_path


@pytest.fixture
def chain(sql_url: URL) -> URL:
    """The address of a log of nine entries."""
    tell(sql_url, lambda database: write(database, 9))
    return sql_url


@contextmanager
def tampering(folder: Path) -> Iterator[sqlite3.Connection]:
    """A connection of somebody who owns the machine: the triggers are out of the way."""
    with closing(sqlite3.connect(folder / SQL_FILE)) as connection, connection:
        connection.execute("DROP TRIGGER audit_update")
        connection.execute("DROP TRIGGER audit_delete")
        yield connection


def test_a_sound_log_is_sound(log: Path) -> None:
    """Nine entries, each after the one before it, and what they say is what was written."""
    verdict = tell(log, walk)
    assert (verdict.entries, verdict.last.seq, verdict.broken) == (9, 9, None)

    async def read(database: Database) -> list[tuple[Entry, str]]:
        async with database.read() as session:
            return [each async for each in entries(session)]

    found = tell(log, read)
    assert [entry.previous for entry, _ in found] == [GENESIS, *(hashed for _, hashed in found[:-1])]
    first = found[0][0]
    assert (first.at_ns, first.who, first.role, first.origin) == (1_001, "wang", "operator", "10.0.0.7")
    assert (first.action, first.target, first.outcome) == ("alarm.ack", "occurrence 1", "done")
    assert json.loads(first.detail) == {"reason": "看过", "number": 1}


def test_the_hash_is_of_every_field() -> None:
    """The canonical bytes do not change with a release, and no field can change without its hash."""
    entry = Entry(1, 2, "王", "operator", "a", "b", "c", "done", "{}", GENESIS)
    canonical = f'[1,2,"王","operator","a","b","c","done","{{}}","{GENESIS}"]'
    assert entry.digest() == hashlib.sha256(canonical.encode()).hexdigest()
    others: list[dict[str, Any]] = [
        {field.name: 9 if field.type is int else "x"} for field in dataclasses.fields(entry)
    ]
    changed = {dataclasses.replace(entry, **other).digest() for other in others}
    assert len(changed) == 10
    assert entry.digest() not in changed


@on_both
@pytest.mark.parametrize("statement", ["UPDATE audit SET who = 'li' WHERE seq = 3", "DELETE FROM audit WHERE seq = 9"])
def test_nobody_changes_an_entry(chain: URL, statement: str) -> None:
    """The database itself refuses to change or delete entries."""

    async def tamper(database: Database) -> None:
        async with database.write() as session:
            await session.execute(text(statement))

    with pytest.raises(DBAPIError, match="only appended to"):
        tell(chain, tamper)


TAMPERED = {
    "altered": ("UPDATE audit SET who = 'li' WHERE seq = 5", "altered", 5),
    "removed": ("DELETE FROM audit WHERE seq IN (5, 6)", "missing", 5),
    "first removed": ("DELETE FROM audit WHERE seq = 1", "missing", 1),
    "cut off": ("DELETE FROM audit WHERE seq > 7", "truncated", 8),
    "emptied": ("DELETE FROM audit", "truncated", 1),
    "moved to the end": ("UPDATE audit SET seq = 10 WHERE seq = 5", "moved", 5),
    "moved and altered": ("UPDATE audit SET seq = 10, who = 'li' WHERE seq = 5", "missing", 5),
    "relinked": ("UPDATE audit SET previous = 'x' WHERE seq = 2", "altered", 2),
    "moved before the first": ("UPDATE audit SET seq = -1 WHERE seq = 1", "moved", 1),
    "put before the first": (
        (
            "INSERT INTO audit SELECT -7, at_ns, 'li', role, origin, action, target, outcome, detail, previous, hash"
            " FROM audit WHERE seq = 1"
        ),
        "foreign",
        -7,
    ),
    "head set back": ("UPDATE audit_head SET seq = 8, hash = (SELECT hash FROM audit WHERE seq = 8)", "foreign", 9),
    "a text as the number of the last": ("UPDATE audit SET seq = 'nine' WHERE seq = 9", "moved", 9),
    "a text as a number, and altered": ("UPDATE audit SET seq = 'nine', who = 'li' WHERE seq = 9", "foreign", 9),
    "a text as a number within": ("UPDATE audit SET seq = 'five' WHERE seq = 5", "moved", 5),
    "a number with a fraction": ("UPDATE audit SET seq = 5.5, who = 'li' WHERE seq = 5", "foreign", 5),
    "between two": (
        (
            "INSERT INTO audit SELECT 4.5, at_ns, 'li', role, origin, action, target, outcome, detail, previous, hash"
            " FROM audit WHERE seq = 4"
        ),
        "foreign",
        5,
    ),
    "bytes as the number": ("UPDATE audit SET seq = x'00' WHERE seq = 5", "moved", 5),
    "put behind the last": (
        (
            "INSERT INTO audit SELECT 10, at_ns, 'li', role, origin, action, target, outcome, detail, previous, hash"
            " FROM audit WHERE seq = 9"
        ),
        "altered",
        10,
    ),
    "bytes for a text": ("UPDATE audit SET target = CAST(target AS BLOB) WHERE seq = 5", "altered", 5),
    "no UTF-8 in a text": ("UPDATE audit SET detail = CAST(x'ff' AS TEXT) WHERE seq = 5", "altered", 5),
    "no UTF-8 in the last hash": ("UPDATE audit SET hash = CAST(x'ff' AS TEXT) WHERE seq = 9", "altered", 9),
    "bytes for a hash": ("UPDATE audit SET hash = CAST(hash AS BLOB) WHERE seq = 5", "altered", 5),
    "a text for the time": ("UPDATE audit SET at_ns = 'now' WHERE seq = 5", "altered", 5),
    "a fraction for the time": ("UPDATE audit SET at_ns = 0.5 WHERE seq = 5", "altered", 5),
    "no head": ("DELETE FROM audit_head", "truncated", 10),
    "two heads": ("INSERT INTO audit_head SELECT id + 1, seq, hash FROM audit_head", "truncated", 10),
    "a text for the head's number": ("UPDATE audit_head SET seq = 'nine'", "truncated", 10),
    "bytes for the head's hash": ("UPDATE audit_head SET hash = CAST(hash AS BLOB)", "truncated", 10),
    "head changed": ("UPDATE audit_head SET hash = 'x'", "replaced", 9),
}


@pytest.mark.parametrize("how", TAMPERED)
def test_tampering_is_told_exactly(log: Path, how: str) -> None:
    """Whatever was done, the first entry that is not right is named, and in which way."""
    statement, kind, seq = TAMPERED[how]
    with tampering(log) as connection:
        connection.execute(statement)
    broken = tell(log, walk).broken
    assert (broken.kind, broken.seq) == (kind, seq)


VALUES = ("x'00ff'", "'x'", "0.5", "9e999", "CAST(x'ff' AS TEXT)", "NULL")


@pytest.mark.parametrize("column", [*(field.name for field in dataclasses.fields(Entry)), "hash"])
def test_whatever_stands_in_a_column_names_the_entry(log: Path, tmp_path: Path, column: str) -> None:
    """A value of every type that SQLite takes there: the entry is named, and the log can be written out."""
    for number, value in enumerate(VALUES):
        folder = tmp_path / str(number)
        folder.mkdir()
        shutil.copy(log / SQL_FILE, folder / SQL_FILE)
        try:
            with tampering(folder) as connection:
                connection.execute(f"UPDATE audit SET {column} = {value} WHERE seq = 5")  # noqa: S608 -- of the lists above
        except sqlite3.IntegrityError:
            assert value == "NULL"
            continue
        broken = tell(folder, walk).broken
        # With half as its number it stands before all others.
        expected = (
            (1, "foreign") if (column, value) == ("seq", "0.5") else (5, "moved" if column == "seq" else "altered")
        )
        assert (broken.seq, broken.kind) == expected, (value, broken)
    done = tocsin("audit", "verify", "--data", str(tmp_path / "4"))
    assert (done.returncode, done.stdout.count("\n"), done.stderr) == (1, 1, "")
    lines = tmp_path / "lines"
    for number in (0, 4):
        assert tocsin("audit", "export", str(lines), "--data", str(tmp_path / str(number))).returncode == 0
        assert lines.read_bytes().count(b"\n") == 9


def test_entries_that_changed_places_are_told(log: Path) -> None:
    """Two entries swapped: the first of the two places, and where its own entry stands now."""
    with tampering(log) as connection:
        connection.execute("UPDATE audit SET seq = 100 WHERE seq = 4")
        connection.execute("UPDATE audit SET seq = 4 WHERE seq = 6")
        connection.execute("UPDATE audit SET seq = 6 WHERE seq = 100")
    broken = tell(log, walk).broken
    assert (broken.kind, broken.seq) == ("moved", 4)
    assert "place 6" in broken.told


def rewritten(folder: Path, first: int, last: int) -> None:
    """Make the entries from `first` to `last` anew, in another's name, with hashes that fit."""
    with tampering(folder) as connection:
        connection.row_factory = sqlite3.Row
        previous = connection.execute("SELECT hash FROM audit WHERE seq = ?", (first - 1,)).fetchone()["hash"]
        for seq in range(first, last + 1):
            row = dict(connection.execute("SELECT * FROM audit WHERE seq = ?", (seq,)).fetchone())
            del row["hash"]
            entry = Entry(**{**row, "who": "li", "previous": previous})
            previous = entry.digest()
            connection.execute(
                "UPDATE audit SET who = 'li', previous = ?, hash = ? WHERE seq = ?", (entry.previous, previous, seq)
            )
        if last == 9:
            connection.execute("UPDATE audit_head SET hash = ?", (previous,))


def test_an_entry_with_a_hash_of_its_own_is_found(log: Path) -> None:
    """Whoever makes the hash of a changed entry fit still breaks the link to the next one."""
    rewritten(log, 5, 5)
    broken = tell(log, walk).broken
    assert (broken.kind, broken.seq) == ("replaced", 5)


def test_a_checkpoint_finds_what_the_log_alone_cannot(log: Path) -> None:
    """A tail made anew, or cut off together with the head, is found by a link that was written down before."""
    checkpoint = tell(log, walk).last
    rewritten(log, 5, 9)
    assert tell(log, walk).broken is None
    broken = tell(log, lambda database: walk(database, checkpoint)).broken
    assert (broken.kind, broken.seq) == ("rewritten", 9)
    with closing(sqlite3.connect(log / SQL_FILE)) as connection, connection:
        connection.execute("DELETE FROM audit WHERE seq > 6")
        connection.execute("UPDATE audit_head SET seq = 6, hash = (SELECT hash FROM audit WHERE seq = 6)")
    assert tell(log, walk).broken is None
    broken = tell(log, lambda database: walk(database, checkpoint)).broken
    assert (broken.kind, broken.seq) == ("truncated", 7)


WRITER = """
import asyncio, sys
from tests.cloud.audited import write
from tocsin_cloud.adapters.sql.engine import Database

async def run() -> None:
    database = Database.as_it_is(sys.argv[1])
    await asyncio.gather(*(write(database, 10) for _ in range(3)))
    await database.close()

asyncio.run(run())
"""


@on_both
def test_writers_at_once_never_fork_the_chain(chain: URL) -> None:
    """Three processes of three writers each: all entries stand in one chain."""

    async def run() -> list[int]:
        where = chain.render_as_string(hide_password=False)
        processes = [await asyncio.create_subprocess_exec(sys.executable, "-c", WRITER, where) for _ in range(3)]
        return [await process.wait() for process in processes]

    assert asyncio.run(run()) == [0, 0, 0]
    verdict = tell(chain, walk)
    assert (verdict.entries, verdict.broken) == (9 + 3 * 3 * 10, None)


@on_both
def test_an_entry_goes_with_what_it_tells_of(chain: URL) -> None:
    """A transaction that fails leaves no entry, and the next one follows the last that holds."""

    async def fail(database: Database) -> None:
        async with database.write() as session:
            await append(session, 1, WANG, deed(10))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        tell(chain, fail)
    tell(chain, lambda database: write(database, 1))
    verdict = tell(chain, walk)
    assert (verdict.entries, verdict.broken) == (10, None)


@on_both
def test_texts_that_strangers_choose_cannot_keep_an_entry_out(chain: URL) -> None:
    """Characters that no database takes are replaced, endless texts are cut, and the chain holds."""

    async def odd(database: Database) -> None:
        async with database.write() as session:
            actor = Actor("a\0b\ud800", "", "x" * 10_000)
            await append(session, 1, actor, Deed("session.open", "\0", Outcome.REFUSED, {"why": "\udfff"}))

    tell(chain, odd)
    assert tell(chain, walk).broken is None


def test_the_files_of_the_plant_are_recorded(tmp_path: Path) -> None:
    """At a start the log says which files the plant consists of, as `sha256sum` tells them; others do not matter."""
    folder = tmp_path / "plant"
    (folder / "profiles").mkdir(parents=True)
    for name in ("plant.yaml", "profiles/b.yaml", "profiles/a.yaml", "notes.txt"):
        (folder / name).write_text(name, encoding="utf-8")

    async def start(database: Database) -> Entry:
        await note_plant(database.write, SystemClock(), "north", files_of(folder))
        async with database.read() as session:
            ((entry, _),) = [each async for each in entries(session)]
        return entry

    entry = tell(tmp_path, start)
    assert (entry.who, entry.action, entry.target) == ("tocsin", "plant.load", "north")
    assert json.loads(entry.detail) == {
        name: hashlib.sha256(name.encode()).hexdigest() for name in ("plant.yaml", "profiles/a.yaml", "profiles/b.yaml")
    }


def test_the_verbs_say_what_the_log_is_worth(log: Path, tmp_path: Path) -> None:
    """`verify` answers 0 and its JSON serves as the checkpoint; after tampering it answers 1 and names the entry."""
    done = started("audit", "verify", "--data", str(log), "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["sound"], result["entries"], result["last"]["seq"]) == (True, 9, 9)
    checkpoint = tmp_path / "checkpoint.json"
    checkpoint.write_text(done.stdout, encoding="utf-8")
    lines = tmp_path / "audit.jsonl"
    assert tocsin("audit", "export", str(lines), "--data", str(log), "--after", "4").returncode == 0
    exported = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    assert [each["seq"] for each in exported] == [5, 6, 7, 8, 9]
    assert exported[-1].pop("hash") == result["last"]["hash"] == Entry(**exported[-1]).digest()
    rewritten(log, 5, 9)
    assert tocsin("audit", "verify", "--data", str(log)).returncode == 0
    done = tocsin("audit", "verify", "--data", str(log), "--checkpoint", str(checkpoint), "--json")
    assert done.returncode == 1
    broken = json.loads(done.stdout.splitlines()[-1])["broken"]
    assert (broken["kind"], broken["seq"]) == ("rewritten", 9)


def test_wrong_arguments_are_told_in_one_line(tmp_path: Path) -> None:
    """No database, a file that is none, a checkpoint that is none: exit 2 and one line."""
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / SQL_FILE).write_bytes(b"not a database at all, not by far")
    checkpoint = tmp_path / "checkpoint.json"
    checkpoint.write_text("{}", encoding="utf-8")
    for arguments in (
        ["--data", str(tmp_path)],
        ["--data", str(tmp_path / "broken")],
        ["--data", str(tmp_path / "broken"), "--checkpoint", str(checkpoint)],
    ):
        done = tocsin("audit", "verify", *arguments)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
