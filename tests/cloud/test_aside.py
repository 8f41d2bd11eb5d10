"""What a gateway's journal tells that is history alone, written."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sqlalchemy import event, func, select

from tests.cloud.ears import plant
from tests.cloud.rig import GATEWAY
from tests.support.hostile import NOW_NS
from tests.support.sqlite import with_tables
from tocsin_cloud.adapters.sql import models as sql
from tocsin_cloud.adapters.sql.engine import Database
from tocsin_cloud.adapters.stream import Position
from tocsin_cloud.loops.aside import BESIDE, Aside, write_beside
from tocsin_cloud.loops.delegation import Beside, Words
from tocsin_cloud.loops.journal import Batch, Journal, Step
from tocsin_core.engine import Transition, occurrence_id
from tocsin_core.journal import Entry
from tocsin_core.lifecycle import Event, Phase
from tocsin_core.rules import NS, compile_rules


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


def test_what_was_over_at_the_gateway_before_it_stood_here_is_an_occurrence_of_its_own(tmp_path: Path) -> None:
    """Also where somebody answered it there once a later one had been raised here, whether told at once or not."""
    raised, returned = _stood(-60, -50)
    before, over = _stood(-150, -140)
    answered = replace(returned, event=Event.ACKNOWLEDGE, time_ns=NOW_NS + 5 * NS, phase=Phase.NORMAL, who="wang")
    stories = {
        "at-once": [[before, over, raised, returned, answered]],
        "later": [[before, over, raised, returned], [answered]],
    }
    for name, told in stories.items():
        rows, _ = asyncio.run(_written(tmp_path / name, [_stood(0, 0), *told]))
        assert [(row.raised_ns, row.returned_ns, row.acknowledged_by) for row in rows] == [
            (before.time_ns, over.time_ns, None),
            (raised.time_ns, returned.time_ns, "wang"),
            (NOW_NS, NOW_NS, None),
        ]


def test_what_stood_at_the_gateway_belongs_to_the_first_that_stood_here_meanwhile(tmp_path: Path) -> None:
    """It saw one where here it was three."""
    here = [_stood(-80, -70), _stood(-55, -50), _stood(-45, -30)]
    raised, returned = _stood(-60, -40)
    rows, steps = asyncio.run(_written(tmp_path / "db", [*here, [raised, returned]]))
    assert len(rows) == len(here)
    told = {(step.occurrence, step.time_ns) for step in steps if BESIDE in (step.reason or "")}
    first = occurrence_id("P1/H", NOW_NS - 55 * NS)
    assert told == {(first, raised.time_ns), (first, returned.time_ns)}


def test_what_is_raised_here_in_the_same_portion_of_the_stream_is_found(tmp_path: Path) -> None:
    """Live readings and the journal may be committed at once."""
    rules = compile_rules(plant())
    number = rules.index["P1/H"]
    raised = Transition(
        number, Event.RAISE, Phase.NORMAL, Phase.UNACKNOWLEDGED, NOW_NS, 60.0, NOW_NS, 0, suppressed=False, who="",
        reason="",
    )  # fmt: skip
    position = Position(1, NOW_NS)
    step = Step(raised, position, timely=True, shelved_until_ns=None, shelved_once=False, out_of_service=False)
    batch = Batch(position, [step], words=[Words(GATEWAY, aside=_stood(-1, 1))])

    async def run() -> None:
        database = await Database.open(with_tables(tmp_path / "db"))
        try:
            async with database.write() as session:
                await Journal(plant(), rules, 0).record(session, batch, 0, NOW_NS)
            async with database.read() as session:
                rows = await session.scalars(select(sql.Occurrence))
                assert [row.raised_ns for row in rows] == [NOW_NS]
        finally:
            await database.close()

    asyncio.run(run())


def _stood(begin_s: int, end_s: int) -> list[Entry]:
    """An occurrence of P1/H from one second to another, from now."""
    raised = Entry("P1/H", Event.RAISE, NOW_NS + begin_s * NS, Phase.UNACKNOWLEDGED, NOW_NS + begin_s * NS)
    time_ns = NOW_NS + end_s * NS
    return [raised, replace(raised, event=Event.RETURN, time_ns=time_ns, phase=Phase.RETURNED_UNACKNOWLEDGED)]


async def _written(
    path: Path, messages: Sequence[Sequence[Entry]]
) -> tuple[list[sql.Occurrence], list[sql.Transition]]:
    """The occurrences, oldest first, and the steps that come of messages."""
    database = await Database.open(with_tables(path))
    aside = Aside(plant(), compile_rules(plant()))
    try:
        for entries in messages:
            async with database.write() as session:
                await aside.write(session, entries, Position(1, NOW_NS), NOW_NS)
        async with database.read() as session:
            rows = list(await session.scalars(select(sql.Occurrence).order_by(sql.Occurrence.raised_ns)))
            return rows, list(await session.scalars(select(sql.Transition)))
    finally:
        await database.close()
