"""What a gateway's journal tells that is history alone, written."""

import asyncio
from dataclasses import replace
from pathlib import Path

from sqlalchemy import event, func, select

from tests.cloud.ears import plant
from tests.support.hostile import NOW_NS
from tests.support.sqlite import with_tables
from tocsin_cloud.adapters.sql import models as sql
from tocsin_cloud.adapters.sql.engine import Database
from tocsin_cloud.adapters.stream import Position
from tocsin_cloud.loops.aside import Aside, write_beside
from tocsin_cloud.loops.delegation import Beside
from tocsin_core.journal import Entry
from tocsin_core.lifecycle import Event, Phase
from tocsin_core.rules import compile_rules


def test_many_entries_cost_few_statements_and_each_is_written_once(tmp_path: Path) -> None:
    """The transaction of the alarms worker bears no question for each of them; what comes again is there already."""
    raised = [
        Entry(f"X{each}/HH", Event.RAISE, NOW_NS + each, Phase.UNACKNOWLEDGED, NOW_NS + each) for each in range(400)
    ]
    returned = [
        replace(each, event=Event.RETURN, time_ns=each.time_ns + 1, phase=Phase.RETURNED_UNACKNOWLEDGED)
        for each in raised
    ]
    statements: list[str] = []

    async def write(database: Database, entries: list[Entry]) -> list[str]:
        async with database.write() as session:
            bind = session.sync_session.get_bind()

            def note(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
                statements.append(statement)

            event.listen(bind, "before_cursor_execute", note)
            written = await Aside(plant(), compile_rules(plant())).write(session, entries, Position(1, NOW_NS), NOW_NS)
            await session.flush()
            event.remove(bind, "before_cursor_execute", note)
            return written

    async def run() -> None:
        database = await Database.open(with_tables(tmp_path / "db"))
        try:
            assert len(await write(database, [*raised, *raised])) == len(raised)
            assert len(await write(database, [*raised, *returned])) == len(raised)
            assert 0 < len(statements) < 20
            async with database.read() as session:
                steps = select(sql.Transition.event, sql.Transition.phase_from, func.count())
                rows = await session.execute(steps.group_by(sql.Transition.event, sql.Transition.phase_from))
                assert {tuple(row) for row in rows} == {
                    ("raise", "normal", len(raised)),
                    ("return", "unacknowledged", len(raised)),
                }
                times = select(sql.Occurrence.returned_ns - sql.Occurrence.raised_ns, sql.Occurrence.phase).distinct()
                assert [tuple(row) for row in await session.execute(times)] == [(1, "normal")]
        finally:
            await database.close()

    asyncio.run(run())


def test_a_step_at_the_gateway_is_written_once(tmp_path: Path) -> None:
    """A journal that goes back tells it again: it belongs to what stands here, and is there already."""
    raised = Entry("P1/H", Event.RAISE, NOW_NS, Phase.UNACKNOWLEDGED, NOW_NS)
    told = [Beside(raised, NOW_NS - 1, Phase.ACKNOWLEDGED)]

    async def run() -> None:
        database = await Database.open(with_tables(tmp_path / "db"))
        try:
            for beside in ([*told, *told], told):
                async with database.write() as session:
                    assert len(await write_beside(session, beside, Position(1, NOW_NS), NOW_NS)) == len(beside)
            async with database.read() as session:
                (row,) = await session.scalars(select(sql.Transition))
                assert (row.phase_from, row.phase_to) == ("acknowledged", "acknowledged")
        finally:
            await database.close()

    asyncio.run(run())
