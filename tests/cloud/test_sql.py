"""The SQL side: the migrations make the models' tables, writers wait for each other, readers for nobody."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect, select, text

from tocsin_cloud.adapters.metrics import Metrics
from tocsin_cloud.adapters.quarantine import Quarantine
from tocsin_cloud.adapters.sql import engine as sql_engine
from tocsin_cloud.adapters.sql.engine import Database, migrate, sqlite_url
from tocsin_cloud.adapters.sql.models import AlarmState, Base
from tocsin_cloud.adapters.sql.models import Quarantine as Row

Story = Callable[[Database], Awaitable[None]]


def tell(path: Path, story: Story) -> None:
    """Run a story on the database in `path`."""

    async def run() -> None:
        database = await Database.open(sqlite_url(path))
        try:
            await story(database)
        finally:
            await database.close()

    asyncio.run(run())


def test_the_migrations_make_the_tables_of_the_models(tmp_path: Path) -> None:
    """Nothing is in the one that is not in the other; doing it again changes nothing."""
    path = tmp_path / "db"
    migrate(sqlite_url(path))
    migrate(sqlite_url(path))
    plain = create_engine(f"sqlite:///{path}")
    with plain.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    plain.dispose()


def test_the_migrations_can_be_undone(tmp_path: Path) -> None:
    """Back at the beginning no table of ours is left."""
    path = tmp_path / "db"
    migrate(sqlite_url(path))
    command.downgrade(alembic_config(path), "base")
    plain = create_engine(f"sqlite:///{path}")
    assert inspect(plain).get_table_names() == ["alembic_version"]
    plain.dispose()


def test_an_older_database_keeps_its_callings_and_what_is_hidden(tmp_path: Path) -> None:
    """A message of before belongs to the calling of its raising; whatever was shelved or out of service is hidden."""
    path = tmp_path / "db"
    config = alembic_config(path)
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


def alembic_config(path: Path) -> Config:
    """What alembic needs to know to work on the database in `path`."""
    config = Config()
    config.set_main_option("script_location", str(Path(sql_engine.__file__).with_name("migrations")))
    config.attributes["url"] = sqlite_url(path)
    return config


def test_a_commit_is_synced_and_readers_hold_up_nobody(tmp_path: Path) -> None:
    """WAL with full syncing on both sides; a reader sees what was there when it began while a writer commits."""

    async def story(database: Database) -> None:
        async with database.read() as reading:
            for pragma, value in (("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)):
                assert await reading.scalar(text(f"PRAGMA {pragma}")) == value
            assert (await reading.scalars(select(AlarmState))).all() == []
            async with database.write() as writing:
                writing.add(AlarmState(alarm="a", shelved_until_ns=None, out_of_service=False, who=None, reason=None))
            assert (await reading.scalars(select(AlarmState))).all() == []
        async with database.read() as reading:
            assert len((await reading.scalars(select(AlarmState))).all()) == 1

    tell(tmp_path / "db", story)


def test_writers_that_read_first_never_lose_an_update(tmp_path: Path) -> None:
    """Twenty that each read, wait and add one end at twenty, without an error."""

    async def story(database: Database) -> None:
        async with database.write() as session:
            session.add(AlarmState(alarm="a", shelved_until_ns=0, out_of_service=False, who=None, reason=None))

        async def add_one() -> None:
            async with database.write() as session:
                row = await session.get_one(AlarmState, "a")
                await asyncio.sleep(0)
                row.shelved_until_ns = (row.shelved_until_ns or 0) + 1

        await asyncio.gather(*(add_one() for _ in range(20)))
        async with database.read() as session:
            assert (await session.get_one(AlarmState, "a")).shelved_until_ns == 20

    tell(tmp_path / "db", story)


def test_a_failed_transaction_leaves_nothing(tmp_path: Path) -> None:
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

    tell(tmp_path / "db", story)


def test_the_quarantine_keeps_the_newest_and_counts_all(tmp_path: Path) -> None:
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

    tell(tmp_path / "db", story)
