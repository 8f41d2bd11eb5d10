"""A gateway whose journal tells of another's alarms: its certificate lets it in, and it may be in wrong hands."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import select

from tests.cloud.ears import Ears
from tests.cloud.rig import DEVICE, GATEWAY, PLANT, SITE, columns
from tests.support.hostile import NOW_MS, NOW_NS
from tests.support.sqlite import with_tables
from tocsin_cloud.adapters.sql import models as sql
from tocsin_cloud.adapters.sql.engine import Database
from tocsin_cloud.adapters.stream import Message
from tocsin_cloud.loops.journal import Journal
from tocsin_core.engine import occurrence_id
from tocsin_core.journal import Entry, encode
from tocsin_core.lifecycle import Event, Phase
from tocsin_core.plant import load_plant
from tocsin_core.rules import NS, compile_rules
from tocsin_core.sparkplug import EdgeDevice, EdgeMetric, EdgeSession, JournalNumbers
from tocsin_core.sparkplug import Message as Said

OTHER: Final = "other"
MORE: Final = """
  - id: other
    devices:
      - id: D2
        mqtt: {topic: d2}
        points:
          - {id: Q1, name: Q1, kind: generic, unit: kPa, range: [0, 100], field: v,
             alarms: {H: {setpoint: 50, deadband: 5, priority: high}, bad: false, stale: false}}
"""
ONSET_NS: Final = NOW_MS * 1_000_000
TOLD: Final = (
    Entry("P1/H", Event.ACKNOWLEDGE, ONSET_NS + NS, Phase.ACKNOWLEDGED, ONSET_NS, who="Anna", reason="seen"),
    Entry("P1/H", Event.RETURN, ONSET_NS + 2 * NS, Phase.NORMAL, ONSET_NS),
    # By another onset, and of an hour in which nothing was.
    Entry("P1/H", Event.ACKNOWLEDGE, ONSET_NS + NS, Phase.ACKNOWLEDGED, ONSET_NS + 1, who="Boris"),
    Entry("P1/H", Event.RAISE, ONSET_NS - 3600 * NS, Phase.UNACKNOWLEDGED, ONSET_NS - 3600 * NS, value=99.0),
    Entry("P1/H", Event.RETURN, ONSET_NS - 3000 * NS, Phase.NORMAL, ONSET_NS - 3600 * NS),
)


def said() -> Iterator[Said]:
    """An alarm is raised by a reading of one gateway, and the other tells what came of it."""
    one = EdgeSession(SITE, GATEWAY, [EdgeDevice(DEVICE, (EdgeMetric("P1"), EdgeMetric("P2")))])
    other = EdgeSession(SITE, OTHER, [])
    for session in (one, other):
        session.will(1, NOW_MS)
    yield one.nbirth(0, 1, NOW_MS)
    yield one.dbirth(DEVICE, columns({0: 1.0, 1: 1.0}, NOW_MS - 1000), 0, NOW_MS)
    yield one.ddata(DEVICE, columns({0: 70.0}, NOW_MS), 1, NOW_MS, historical=False)
    yield other.nbirth(0, 1, NOW_MS, journal=JournalNumbers(len(TOLD), 1, b"anything"))
    yield other.journal(1, [encode(entry) for entry in TOLD], 1, NOW_MS)


@pytest.mark.parametrize("by", ["", "suppressed_by: {point: X1, above: 5}, "])
def test_it_tells_nothing_of_anothers_occurrence(by: str, tmp_path: Path) -> None:
    """That stays as it was, and nothing is made up beside it; what was told is kept under the name of who told it.

    Nor of one that the cloud side alone decides, by what no gateway reads all of.
    """
    text = PLANT.replace("H: {setpoint: 50", f"H: {{{by}setpoint: 50")
    (tmp_path / "plant.yaml").write_text(text + MORE, encoding="utf-8")
    plant = load_plant(tmp_path)

    async def story(database: Database) -> None:
        ears, journal = Ears(database, of=plant), Journal(plant, compile_rules(plant), 0)
        for number, each in enumerate(said(), 1):
            batch = ears.hear([Message(number, NOW_NS + number, each.topic, each.payload)])
            async with database.write() as session:
                await journal.record(session, batch, 0, NOW_NS + number)
        async with database.read() as session:
            (row,) = await session.scalars(select(sql.Occurrence).where(sql.Occurrence.alarm == "P1/H"))
            assert (row.id, row.phase) == (occurrence_id("P1/H", ONSET_NS), "unacknowledged")
            assert (row.acknowledged_by, row.acknowledged_ns, row.returned_ns) == (None, None, None)
            events = await session.scalars(select(sql.Transition.event).where(sql.Transition.alarm == "P1/H"))
            assert list(events) == ["raise"]
            events = await session.scalars(select(sql.Transition.event).where(sql.Transition.alarm == "other/P1/H"))
            assert list(events) == [each.event.text for each in TOLD if each.event is not None]

    async def run() -> None:
        database = await Database.open(with_tables(tmp_path / "db"))
        try:
            await story(database)
        finally:
            await database.close()

    asyncio.run(run())
