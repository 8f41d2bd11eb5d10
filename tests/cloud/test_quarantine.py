"""What was refused is written down whatever comes meanwhile; what more comes than is kept is counted."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import event, select

from tests.support.database import failing
from tests.support.sqlite import with_tables
from tocsin_cloud.adapters.metrics import Metrics
from tocsin_cloud.adapters.quarantine import Quarantine
from tocsin_cloud.adapters.sql.away import DatabaseAwayError
from tocsin_cloud.adapters.sql.engine import Database
from tocsin_cloud.adapters.sql.models import Quarantine as Row

KEPT = 3


def refuse(quarantine: Quarantine, *names: str) -> None:
    """Refuse a payload of each name."""
    for name in names:
        quarantine.add(name, b"x", "undecodable", "", 1)


@contextmanager
def coming_meanwhile(database: Database, quarantine: Quarantine, *names: str) -> Iterator[None]:
    """Have these refused while the next ones are written down."""
    writer = database._writer.sync_engine  # noqa: SLF001 -- the seam to the driver is there

    def come(_connection: object) -> None:
        refuse(quarantine, *names)

    event.listen(writer, "commit", come, once=True)
    yield


async def written(database: Database) -> list[str]:
    """The topics of what is kept, oldest first."""
    async with database.read() as session:
        return list(await session.scalars(select(Row.topic).order_by(Row.id)))


def test_what_comes_while_others_are_written_waits_for_its_turn(tmp_path: Path) -> None:
    """Also where as many are written as are kept: they are not taken for those that have been written."""
    metrics = Metrics()

    def figure(name: str) -> float | None:
        return metrics.registry.get_sample_value(f"tocsin_quarantine_{name}")

    async def story() -> None:
        database = await Database.open(with_tables(tmp_path / "db"))
        quarantine = Quarantine(database, metrics, KEPT)
        refuse(quarantine, "a", "b", "c")
        assert (figure("waiting"), figure("dropped_total")) == (3, 0)
        with coming_meanwhile(database, quarantine, "d", "e"):
            await quarantine.flush()
        assert await written(database) == ["a", "b", "c"]
        assert figure("waiting") == 2
        await quarantine.flush()
        assert await written(database) == ["c", "d", "e"]
        assert (figure("waiting"), figure("dropped_total")) == (0, 0)
        await database.close()

    asyncio.run(story())


def test_what_is_too_much_while_the_database_is_away_is_counted(tmp_path: Path) -> None:
    """The newest wait on, in their order, and the others are figures alone."""
    metrics = Metrics()

    async def story() -> None:
        database = await Database.open(with_tables(tmp_path / "db"))
        quarantine = Quarantine(database, metrics, KEPT)
        refuse(quarantine, "a", "b")
        with failing(database), pytest.raises(DatabaseAwayError):
            await quarantine.flush()
        refuse(quarantine, "c", "d")
        assert metrics.registry.get_sample_value("tocsin_quarantine_dropped_total") == 1
        await quarantine.flush()
        assert await written(database) == ["b", "c", "d"]
        assert quarantine.counts["undecodable"] == 4
        await database.close()

    asyncio.run(story())
