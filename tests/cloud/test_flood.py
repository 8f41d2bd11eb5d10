"""A flood of alarms: committed in one go with few statements, each with its ticket, and nothing twice."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, event, func, select

from tests.core.plants import definition, plant_of
from tests.support.database import tell
from tests.support.sqlite import with_tables
from tocsin_cli.bench.synthetic import HIGH, START_NS, block
from tocsin_cloud.adapters.sql import models as sql
from tocsin_cloud.adapters.sql.engine import Database
from tocsin_cloud.adapters.stream import Position
from tocsin_cloud.loops.journal import Batch, Journal, Step
from tocsin_core import engine
from tocsin_core.engine import Transition
from tocsin_core.plant import AlarmKind, Priority
from tocsin_core.readings import GOOD, Frame
from tocsin_core.rules import NS, compile_rules

ALARMS = 3000


def test_a_flood_is_committed_with_few_statements(tmp_path: Path) -> None:
    """3,000 points pass a limit at once: as many occurrences, transitions, tickets; the next alarms are cheap."""
    asyncio.run(_flood(tmp_path))


def _step(transition: Transition, at: Position) -> Step:
    return Step(transition, at, timely=True, shelved_until_ns=None, shelved_once=False, out_of_service=False)


@pytest.mark.parametrize(("priority", "asked"), [(Priority.MEDIUM, 0), (Priority.HIGH, 1)])
def test_where_nobody_is_called_nobody_is_looked_for_who_is(tmp_path: Path, priority: Priority, asked: int) -> None:
    """What waits for an answer in a place is looked up among all that does, which after a mass takes long."""
    plant = plant_of([[replace(definition("P0", AlarmKind.H, 50.0), priority=priority)]])
    rules = compile_rules(plant)
    looked: list[str] = []

    def note(*told: Any) -> None:  # noqa: ANN401 -- as SQLAlchemy calls it
        looked.extend([told[2]] if "coalesce(occurrence.source" in told[2] else [])

    async def story(database: Database) -> None:
        frame = Frame.of([0], [START_NS], [60.0], [GOOD])
        _, result = engine.step(engine.initial(rules, START_NS), rules, frame, [], START_NS)
        at = Position(1, START_NS)
        event.listen(Engine, "before_cursor_execute", note)
        async with database.write() as session:
            batch = Batch(at, [_step(each, at) for each in result.transitions])
            await Journal(plant, rules, 0).record(session, batch, 0, START_NS)
        event.remove(Engine, "before_cursor_execute", note)

    tell(with_tables(tmp_path / "tocsin.sqlite"), story)
    assert len(looked) == asked


async def _flood(folder: Path) -> None:
    database = await Database.open(with_tables(folder / "tocsin.sqlite"))
    plant = block(ALARMS)
    rules = compile_rules(plant)
    point, quality = np.arange(ALARMS, dtype=np.int32), np.full(ALARMS, GOOD, np.uint8)
    state = engine.initial(rules, START_NS)
    statements: list[str] = []

    def note(*told: Any) -> None:  # noqa: ANN401 -- as SQLAlchemy calls it
        statements.append(told[2])

    event.listen(Engine, "before_cursor_execute", note)
    journal = Journal(plant, rules, 0)
    counts = []
    for second, value, number in ((1, HIGH, ALARMS), (2, 90.0, 3)):
        now_ns = START_NS + second * NS
        frame = Frame(point[:number], np.full(number, now_ns), np.full(number, value), quality[:number])
        state, result = engine.step(state, rules, frame, [], now_ns)
        at = Position(second, now_ns)
        batch = Batch(at, [_step(each, at) for each in result.transitions])
        statements.clear()
        async with database.write() as session:
            done = await journal.record(session, batch, 0, now_ns)
        counts.append((len(result.transitions), len(done.tickets), len(statements)))
    event.remove(Engine, "before_cursor_execute", note)
    (raised, tickets, first), (more, again, second_) = counts
    assert (raised, tickets, more, again) == (ALARMS, ALARMS, 3, 3)
    assert first < ALARMS / 50
    assert second_ < 20
    async with database.read() as session:
        for table, rows in ((sql.Occurrence, ALARMS + 3), (sql.Transition, ALARMS + 3), (sql.Ticket, ALARMS)):
            assert await session.scalar(select(func.count()).select_from(table)) == rows
        assert await session.scalar(select(func.count()).select_from(sql.TicketOccurrence)) == ALARMS + 3
    await database.close()
