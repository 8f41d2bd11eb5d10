"""The SQL side: the migrations make the models' tables, writers wait for each other, readers for nobody."""

import ast
import asyncio
import gc
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Engine, event, inspect, select, text
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from structlog.testing import capture_logs

import tocsin_cloud
from tests.support.database import LASTING, PASSING, failing, tell
from tests.support.postgres import Postgres, on_both, postgres
from tocsin_cloud.adapters.metrics import Metrics
from tocsin_cloud.adapters.quarantine import Quarantine
from tocsin_cloud.adapters.sql import engine as sql_engine
from tocsin_cloud.adapters.sql.away import DatabaseAwayError
from tocsin_cloud.adapters.sql.bulk import put
from tocsin_cloud.adapters.sql.engine import (
    POSTGRESQL,
    Database,
    NewerTablesError,
    create_engine,
    migrate,
    server_url,
    sqlite_url,
)
from tocsin_cloud.adapters.sql.models import AlarmState, Base, GatewayOrder, Message, Occurrence, Ticket, TicketLog
from tocsin_cloud.adapters.sql.models import Quarantine as Row
from tocsin_cloud.loops.evidence import wanting
from tocsin_core.readings import LATEST_NS

TICKET: Final[dict[str, Any]] = {
    "id": "t", "title": {"zh": "罐"}, "source": None, "level": "general", "state": "rectifying", "deadline_ns": 1,
    "reason": "r", "alarm": "P/H", "liable": None, "submitted_by": None,
}  # fmt: skip


OCCURRENCE: Final[dict[str, Any]] = {
    "point": "P", "kind": "H", "priority": "high", "phase": "unacknowledged", "reading_ns": 1, "committed_ns": 1,
    "out_of_service": False, "unit": "", "message": {},
}  # fmt: skip


@on_both
def test_the_migrations_make_the_tables_of_the_models(sql_url: URL) -> None:
    """Nothing is in the one that is not in the other; doing it again changes nothing."""
    migrate(sql_url)
    migrate(sql_url)

    async def story(database: Database) -> None:
        async with database.read() as session:
            connection = await session.connection()
            assert await connection.run_sync(_differences) == []

    tell(sql_url, story)


def _differences(connection: Connection) -> list[Any]:
    return list(compare_metadata(MigrationContext.configure(connection), Base.metadata))


@on_both
def test_tables_of_a_newer_version_are_refused_in_one_line(sql_url: URL) -> None:
    """An older process that is started beside newer ones ends with what to do; theirs stay as they are."""

    async def newer() -> None:
        engine = create_engine(sql_url, writing=True)
        async with engine.begin() as connection:
            await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        await engine.dispose()

    migrate(sql_url)
    asyncio.run(newer())
    with pytest.raises(NewerTablesError) as told:
        asyncio.run(Database.open(sql_url))
    assert isinstance(told.value, SQLAlchemyError), "what ends a process with one line"
    assert str(told.value) == "the tables are of a newer version of Tocsin (9999): start that, or one newer still"


@on_both
def test_the_migrations_can_be_undone(sql_url: URL) -> None:
    """Back at the beginning no table of ours is left."""
    migrate(sql_url)
    command.downgrade(alembic_config(sql_url), "base")

    async def run() -> list[str]:
        engine = create_engine(sql_url, writing=False)
        async with engine.connect() as connection:
            names = await connection.run_sync(lambda sync: inspect(sync).get_table_names())
        await engine.dispose()
        return names

    assert asyncio.run(run()) == ["alembic_version"]


MIGRATION: Final = """
import sys
from sqlalchemy.engine import make_url
from tocsin_cloud.adapters.sql.engine import migrate

migrate(make_url(sys.argv[1]))
"""


def test_workers_that_start_at_once_make_the_tables_once(postgres_server: Postgres) -> None:
    """Two processes on an empty server each find today's tables; SQLite lies on one machine, which starts one."""
    url = postgres_server.make("empty")
    command = [sys.executable, "-c", MIGRATION, url.render_as_string()]
    processes = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]
    tell(url, _nothing_waits)


async def _nothing_waits(database: Database) -> None:
    async with database.read() as session:
        assert (await session.scalars(select(AlarmState))).all() == []


def test_an_older_database_keeps_its_callings_and_what_is_hidden(tmp_path: Path) -> None:
    """A message of before belongs to the calling of its raising; whatever was shelved or out of service is hidden."""
    path = tmp_path / "db"
    config = alembic_config(sqlite_url(path))
    command.upgrade(config, "0001")
    occurrences = [("shown", None, 0), ("shelved", 17, 0), ("out", None, 1)]
    with closing(sqlite3.connect(path)) as older, older:
        older.executemany(
            "INSERT INTO occurrence (id, alarm, point, kind, priority, phase, raised_ns, reading_ns, committed_ns,"
            " shelved_until_ns, out_of_service, unit, message) VALUES (?, 'P/H', 'P', 'H', 'high', 'unacknowledged',"
            " 1, 1, 1, ?, ?, '', '{}')",
            occurrences,
        )
        older.execute(
            "INSERT INTO message (id, occurrence, to_person, channel, subject, body, state, due_ns, attempts, reason,"
            " step, repeat) VALUES ('m', 'shown', 'anna', 'sms', '', '', 'pending', 1, 0, '', 0, 0)"
        )
    command.upgrade(config, "head")
    with closing(sqlite3.connect(path)) as newer:
        rows = newer.execute("SELECT id, suppressed, annunciated, shelved_once FROM occurrence").fetchall()
        assert set(rows) == {("shown", 0, 1, 0), ("shelved", 1, 1, 0), ("out", 1, 1, 0)}
        assert newer.execute("SELECT id, round_ns, answered FROM message").fetchall() == [("m", 0, 0)]
        again = (
            "INSERT INTO message SELECT 'again', occurrence, ticket, to_person, channel, subject, body, state, due_ns,"
            " sent_ns, attempts, error, reason, step, repeat, ?, answered FROM message WHERE id = 'm'"
        )
        with pytest.raises(sqlite3.IntegrityError):
            newer.execute(again, (0,))
        newer.execute(again, (5,))
        newer.commit()
    command.downgrade(config, "0001")
    with closing(sqlite3.connect(path)) as older:
        assert older.execute("SELECT id FROM message").fetchall() == [("m",)]


def alembic_config(url: URL) -> Config:
    """What alembic needs to know to work on the database at `url`."""
    config = Config()
    config.set_main_option("script_location", str(Path(sql_engine.__file__).with_name("migrations")))
    config.attributes["url"] = url
    return config


def test_sqlite_syncs_every_commit(tmp_path: Path) -> None:
    """WAL with full syncing on both sides."""

    async def story(database: Database) -> None:
        for side in (database.read(), database.write()):
            async with side as session:
                for pragma, value in (("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)):
                    assert await session.scalar(text(f"PRAGMA {pragma}")) == value

    tell(sqlite_url(tmp_path / "db"), story)


@on_both
def test_readers_hold_up_nobody(sql_url: URL) -> None:
    """A reader sees what was there when it began while a writer commits."""

    async def story(database: Database) -> None:
        async with database.read() as reading:
            assert (await reading.scalars(select(AlarmState))).all() == []
            async with database.write() as writing:
                writing.add(AlarmState(alarm="a", shelved_until_ns=None, out_of_service=False, who=None, reason=None))
            assert (await reading.scalars(select(AlarmState))).all() == []
        async with database.read() as reading:
            assert len((await reading.scalars(select(AlarmState))).all()) == 1

    tell(sql_url, story)


@on_both
def test_writers_that_read_first_never_lose_an_update(sql_url: URL) -> None:
    """Twenty, half of them of another process, that each read, wait and add one end at twenty, without an error."""

    async def story(database: Database) -> None:
        async with database.write() as session:
            session.add(AlarmState(alarm="a", shelved_until_ns=0, out_of_service=False, who=None, reason=None))

        other = Database.as_it_is(sql_url)
        async with other.write():
            pass  # connected: both begin at once

        async def add_one(by: Database) -> None:
            async with by.write() as session:
                row = await session.get_one(AlarmState, "a")
                await asyncio.sleep(0)
                row.shelved_until_ns = (row.shelved_until_ns or 0) + 1

        await asyncio.gather(*(add_one(by) for by in (database, other) for _ in range(10)))
        await other.close()
        async with database.read() as session:
            assert (await session.get_one(AlarmState, "a")).shelved_until_ns == 20

    tell(sql_url, story)


@on_both
def test_a_failed_transaction_leaves_nothing(sql_url: URL) -> None:
    """An error inside rolls all of it back, and the next writer is served."""

    async def story(database: Database) -> None:
        async def fail() -> None:
            async with database.write() as session:
                session.add(AlarmState(alarm="a", shelved_until_ns=0, out_of_service=False, who=None, reason=None))
                await session.flush()
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        async with database.write() as session:
            assert (await session.scalars(select(AlarmState))).all() == []

    tell(sql_url, story)


@on_both
def test_the_quarantine_keeps_the_newest_and_counts_all(sql_url: URL) -> None:
    """Over its bound the oldest go; counts, sizes and the first bytes stay right; odd characters do no harm."""

    async def story(database: Database) -> None:
        quarantine = Quarantine(database, Metrics(), 3)
        for i in range(5):
            quarantine.add(f"topic\0{i}", bytes([i]) * 100, "undecodable", "d" * 9999, 1_000 + i)
            await quarantine.flush()
        quarantine.add("t", b"", "sequence-gap", "", 2_000, count=7)
        await quarantine.flush()
        assert quarantine.counts == {"undecodable": 5, "sequence-gap": 7}
        async with database.read() as session:
            rows = (await session.scalars(select(Row).order_by(Row.id))).all()
        assert [row.at_ns for row in rows] == [1_003, 1_004, 2_000]
        assert (rows[0].size, rows[0].head[:2]) == (100, b"\x03\x03")
        assert len(rows[0].head) < 100
        assert len(rows[0].detail) < 9999

    tell(sql_url, story)


@on_both
def test_evidence_is_wanted_by_open_tickets_without_or_whose_alarm_has_returned(sql_url: URL) -> None:
    """The raising that counts is the last one before the ticket was opened, whatever came before and after."""

    async def story(database: Database) -> None:
        # By ticket: its evidence, its state, and when (raised, returned) its alarm was raised before it was opened.
        tickets: dict[str, tuple[bool | None, str, list[tuple[int, int | None]]]] = {
            "none yet": (None, "rectifying", [(1, 2), (5, None), (20, None)]),
            "stands": (False, "rectifying", [(1, 2), (5, None)]),
            "returned": (False, "reported", [(1, None), (5, 30)]),
            "whole": (True, "rectifying", [(5, 30)]),
            "accepted": (None, "accepted", [(5, 30)]),
        }
        async with database.write() as session:
            for name, (whole, state, raisings) in tickets.items():
                evidence = None if whole is None else {"complete": whole}
                row = TICKET | {"id": name, "state": state, "alarm": name}
                session.add(Ticket(**row, opened_ns=10, evidence=evidence))
                for raised, returned in raisings:
                    row = OCCURRENCE | {"id": f"{name}{raised}", "alarm": name}
                    session.add(Occurrence(**row, raised_ns=raised, returned_ns=returned))
        found = [(each.ticket, each.opened_ns, each.occurrence.raised_ns) for each in await wanting(database)]
        assert found == [("none yet", 10, 5), ("returned", 10, 5)]

    tell(sql_url, story)


@on_both
def test_numbers_and_texts_come_back_as_they_were(sql_url: URL) -> None:
    """Nanoseconds of any year, Chinese in JSON, bytes with zeros: what is written is what is read."""

    async def story(database: Database) -> None:
        evidence = {"zh": "高报", "time": [LATEST_NS], "value": [0.1, None]}
        async with database.write() as session:
            session.add(Ticket(**TICKET, opened_ns=LATEST_NS, evidence=evidence))
            session.add(GatewayOrder(id="o", gateway="g", alarm="a", body=bytes(range(256)), at_ns=-LATEST_NS,
                                     state="waiting", answer=""))  # fmt: skip
        async with database.read() as session:
            ticket = await session.get_one(Ticket, "t")
            assert (ticket.opened_ns, ticket.evidence) == (LATEST_NS, evidence)
            order = await session.get_one(GatewayOrder, "o")
            assert (order.body, order.at_ns) == (bytes(range(256)), -LATEST_NS)

    tell(sql_url, story)


@on_both
def test_strangers_may_ask_for_names_that_no_text_can_be(sql_url: URL) -> None:
    """Nobody is called so, and that is all: no row, no error."""

    async def story(database: Database) -> None:
        async with database.read() as session:
            assert await session.get(AlarmState, "a\0b") is None
            assert (await session.scalars(select(AlarmState).where(AlarmState.alarm.in_(["\0", "a"])))).all() == []

    tell(sql_url, story)


def test_a_server_that_is_away_may_be_asked_again(tmp_path: Path) -> None:
    """Killed in a transaction, away, and back: each time it is said like a busy SQLite, and then the work goes on."""
    with postgres(tmp_path / "server", settings=()) as server:

        async def interrupted(database: Database) -> None:
            async with database.write() as session:
                session.add(_state("interrupted"))
                await session.flush()
                await asyncio.to_thread(server.stop)

        async def story(database: Database) -> None:
            await _nothing_waits(database)
            with pytest.raises(DatabaseAwayError):
                await interrupted(database)
            await asyncio.to_thread(server.start)
            # The connection that stood before it was killed is not asked first.
            await _nothing_waits(database)
            await asyncio.to_thread(server.stop)
            with pytest.raises(DatabaseAwayError):
                await _nothing_waits(database)
            await asyncio.to_thread(server.start)
            async with database.write() as session:
                session.add(_state("after"))

        tell(server.with_tables(), story)


@on_both
def test_one_place_says_what_passes(sql_url: URL) -> None:
    """Each failure that passes by itself is said as that, reading and writing; any other one as what it is."""
    make = sql_url.get_backend_name()

    async def story(database: Database) -> None:
        for error in PASSING[make]:
            with failing(database, error, 2):
                with pytest.raises(DatabaseAwayError):
                    await _nothing_waits(database)
                with pytest.raises(DatabaseAwayError):
                    await _write(database)
            await _write(database)
        for error in LASTING[make]:
            with failing(database, error), pytest.raises(DBAPIError) as told:
                await _nothing_waits(database)
            assert not isinstance(told.value, DatabaseAwayError)

    tell(sql_url, story)


def test_a_quarantine_that_drops_what_is_beyond_its_bound_holds_up_nobody(tmp_path: Path) -> None:
    """Right after the statement, when the event loop has other work perhaps for seconds, another process may write."""
    file, written = tmp_path / "tocsin.sqlite", list[str]()

    def write_beside(*told: object) -> None:
        if str(told[2]).startswith("DELETE FROM quarantine"):
            with closing(sqlite3.connect(file, timeout=0)) as other, other:
                other.execute("BEGIN IMMEDIATE")
            written.append("beside")

    async def story(database: Database) -> None:
        quarantine = Quarantine(database, Metrics(), 1)
        event.listen(Engine, "after_cursor_execute", write_beside)
        try:
            for number in range(3):
                quarantine.add("topic", b"?", "undecodable", "nonsense", number)
                await quarantine.flush()
        finally:
            event.remove(Engine, "after_cursor_execute", write_beside)
        async with database.read() as session:
            assert list(await session.scalars(select(Row.at_ns))) == [2]

    tell(sqlite_url(file), story)
    assert len(written) == 3


def test_a_quarantine_ends_without_the_database(sql_url: URL) -> None:
    """How much of it is lost is told; it is not the reason of the end, which may be that a lease was lost."""

    async def story(database: Database) -> None:
        quarantine = Quarantine(database, Metrics(), 10)
        quarantine.add("topic", b"?", "undecodable", "nonsense", 1)
        with capture_logs() as logs, failing(database):
            await quarantine.close()
        assert [(line["event"], line["rows"]) for line in logs] == [("quarantine lost", 1)]

    tell(sql_url, story)


def test_a_writer_whose_turn_does_not_come_may_try_again(sql_url: URL) -> None:
    """Waiting in the pool is as good as waiting at the database."""

    async def story(database: Database) -> None:
        database._writer.sync_engine.pool._timeout = 0.01  # type: ignore[attr-defined]  # noqa: SLF001 -- 30 s otherwise
        async with database.write():
            with pytest.raises(DatabaseAwayError):
                await _write(database)

    tell(sql_url, story)


def test_none_but_one_place_decides_what_passes() -> None:
    """Neither loops nor interface import errors of SQLAlchemy or a driver: they catch what one place makes of them."""
    parts = Path(tocsin_cloud.__file__).parent
    found = {
        path.name: _errors_of_databases(path) for part in ("loops", "api") for path in (parts / part).rglob("*.py")
    }
    assert len(found) > 20
    assert {name: errors for name, errors in found.items() if errors} == {}


def test_an_error_of_a_database_is_found_however_it_is_imported(tmp_path: Path) -> None:
    """As a module, from one, under another name, within a function; what is no error is nobody's business."""
    ways = (
        "import sqlalchemy",
        "import sqlalchemy.exc as e",
        "from sqlalchemy import exc",
        "from sqlalchemy.exc import DBAPIError",
        "def f():\n    from sqlalchemy.orm.exc import NoResultFound",
        "import asyncpg as pg",
    )
    for way in ways:
        (tmp_path / "loop.py").write_text(f"from sqlalchemy import select, func\n{way}\n", encoding="utf-8")
        assert len(_errors_of_databases(tmp_path / "loop.py")) == 1, way


def _errors_of_databases(path: Path) -> list[str]:
    """What `path` imports by which it could catch errors of SQLAlchemy or of a driver."""
    imported: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imported += [f"{node.module}.{alias.name}" for alias in node.names]
    parts = {name: name.split(".") for name in imported}
    drivers = {"asyncpg", "aiosqlite", "sqlite3"}
    return [
        name
        for name, (package, *rest) in parts.items()
        if package in drivers or (package == "sqlalchemy" and (not rest or "exc" in rest))
    ]


async def _write(database: Database) -> None:
    async with database.write() as session:
        await session.execute(select(AlarmState.alarm))


def test_a_writer_that_stands_still_is_ended(postgres_server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was stopped in its transaction holds the others up for a bounded time, and learns of it."""
    monkeypatch.setattr(sql_engine, "IDLE_TIMEOUT_MS", 200)

    url = postgres_server.with_tables()

    async def stopped(database: Database, other: Database) -> None:
        async with database.write() as session:
            session.add(_state("a"))
            await session.flush()
            async with other.write() as meanwhile:
                meanwhile.add(_state("a"))

    async def story(database: Database) -> None:
        other = Database.as_it_is(url)
        with pytest.raises(DatabaseAwayError):
            await stopped(database, other)
        await other.close()

    tell(url, story)


def _state(alarm: str) -> AlarmState:
    return AlarmState(alarm=alarm, shelved_until_ns=None, out_of_service=False, who=None, reason=None)


@pytest.mark.parametrize(
    "text",
    ["sqlite:///x", "postgresql:///db", "postgresql://host", "postgresql://u:secret@host/db", "db", "mysql://h/d"],
)
def test_an_address_of_something_else_is_refused(text: str) -> None:
    """Only a PostgreSQL server and its database will do, without a password that everybody on the machine could see."""
    with pytest.raises(ValueError, match=r"postgresql://|password"):
        server_url(text)


def test_the_address_of_a_server_names_the_driver() -> None:
    """People write what PostgreSQL's own tools take."""
    assert str(server_url("postgresql://tocsin@db:5433/north")) == "postgresql+asyncpg://tocsin@db:5433/north"


def test_whoever_is_cancelled_in_a_transaction_locks_nobody_out(tmp_path: Path) -> None:
    """In the middle of a statement whose rows were not fetched: the next writer need not wait for a collection."""
    slow = (
        "UPDATE audit_head SET seq = seq WHERE (WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n "
        "WHERE x < 3000000) SELECT max(x) FROM n) > 0 RETURNING seq"
    )

    async def story(database: Database) -> None:
        executing = asyncio.Event()

        async def write() -> None:
            async with database.write() as session:
                _ = await session.connection()
                executing.set()
                await session.execute(text(slow))

        writing = asyncio.create_task(write())
        await executing.wait()
        await asyncio.sleep(0.01)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        with closing(
            sqlite3.connect(tmp_path / "file", timeout=60, isolation_level=None, check_same_thread=False)
        ) as other:
            await asyncio.to_thread(other.execute, "BEGIN IMMEDIATE")

    gc.disable()
    try:
        tell(sqlite_url(tmp_path / "file"), story)
    finally:
        gc.enable()


@on_both
def test_many_rows_are_put_in_by_one_statement_as_they_are_and_in_their_order(sql_url: URL) -> None:
    """Texts with NUL, JSON, bytes, what is absent and what has a default: each row comes back as it was given."""
    given: list[tuple[str, list[Any]]] = []

    def note(*told: Any) -> None:  # noqa: ANN401 -- as SQLAlchemy calls it
        given.append((told[2], told[3]))

    logs = [{"ticket": "t", "at_ns": n, "who": "a\0b", "what": {"zh": f"罐\0{n}", "en": "x"}} for n in range(3, 0, -1)]
    rows = [{"at_ns": n, "topic": "t", "reason": "r", "detail": "d", "size": 0, "head": b"\0%d" % n} for n in (2, 1)]
    message = {
        "occurrence": "o", "ticket": None, "to_person": "anna", "channel": "sms", "subject": "", "body": "",
        "state": "pending", "due_ns": LATEST_NS, "sent_ns": None, "attempts": 0, "error": None, "reason": "", "step": 0,
        "repeat": 0,
    }  # fmt: skip

    async def story(database: Database) -> None:
        async with database.write() as session:
            await put(session, Ticket, [TICKET | {"opened_ns": 1, "evidence": None}])
            await put(session, Message, [{**message, "id": "m", "to_person": "x" * 100}])
            event.listen(Engine, "before_cursor_execute", note)
            await put(session, TicketLog, logs)
            event.remove(Engine, "before_cursor_execute", note)
            await put(session, Row, rows)
        async with database.read() as session:
            found = (await session.scalars(select(TicketLog).order_by(TicketLog.id))).all()
            # SQLite keeps a NUL in a text, and both keep the one in JSON.
            assert [(each.at_ns, each.who.replace("\0", "\N{REPLACEMENT CHARACTER}")) for each in found] == [
                (n, "a\N{REPLACEMENT CHARACTER}b") for n in (3, 2, 1)
            ]
            assert [each.what["zh"] for each in found] == ["罐\x003", "罐\x002", "罐\x001"]
            kept = (await session.scalars(select(Row).order_by(Row.id))).all()
            assert [(each.at_ns, each.head) for each in kept] == [(2, b"\x002"), (1, b"\x001")]
            sent = (await session.scalars(select(Message))).one()
            assert (sent.due_ns, sent.to_person, sent.answered, sent.ticket) == (LATEST_NS, "x" * 100, False, None)
            assert (await session.scalars(select(Ticket.id).where(Ticket.evidence.is_(None)))).all() == ["t"]

    tell(sql_url, story)
    ((_, values),) = given
    # A server is given a list for each column, as row by row its work and ours are twice as much.
    assert len(values) == (len(logs[0]) if sql_url.drivername == POSTGRESQL else len(logs))


def test_what_is_too_long_for_its_column_is_refused_and_not_cut_off(postgres_server: Postgres) -> None:
    """An id that lost its end would be another's."""

    async def story(database: Database) -> None:
        async with database.write() as session:
            await put(session, Ticket, [TICKET | {"id": "t" * 33, "opened_ns": 1, "evidence": None}])

    with pytest.raises(DBAPIError, match="too long"):
        tell(postgres_server.with_tables(), story)
