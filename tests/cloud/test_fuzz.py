"""Hostile and broken input through all that hears it: nothing raises, what is refused is counted, nothing grows."""

import asyncio
import os
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.cloud.rig import COMPUTED, columns, plant_folder
from tests.support.hostile import MESSAGES, NOW_MS, NOW_NS, Said
from tocsin_cloud.adapters.metrics import Metrics
from tocsin_cloud.adapters.quarantine import Quarantine
from tocsin_cloud.adapters.sql.engine import Database, sqlite_url
from tocsin_cloud.adapters.stream import Message, is_data
from tocsin_cloud.loops.alarms import AlarmParts, AlarmsWorker
from tocsin_cloud.loops.computed import Outlet
from tocsin_cloud.loops.historian import Historian, HistorianParts
from tocsin_cloud.loops.journal import Journal, take_partition
from tocsin_cloud.loops.live import LiveView
from tocsin_cloud.loops.points import PointTable
from tocsin_cloud.settings import AlarmSettings, HistorianSettings, StrangerSettings
from tocsin_core.owned import fingerprint
from tocsin_core.plant import Plant, load_plant
from tocsin_core.rules import compile_rules
from tocsin_core.sparkplug import EdgeDevice, EdgeMetric, EdgeSession, JournalNumbers
from tocsin_core.sparkplug.host import HostSession
from tocsin_core.sparkplug.payload import PayloadError, parse

EXAMPLES: Final = int(os.environ.get("TOCSIN_FUZZ_EXAMPLES", "120"))
MOST: Final = StrangerSettings(gateways=3, devices=4, points=10)


class Still:
    """A clock that stands still."""

    def now_ns(self) -> int:
        """The time at which all of this comes in."""
        return NOW_NS

    def monotonic(self) -> float:
        """No time passes."""
        return 0.0


class Ears:
    """A historian and an alarms worker on the small plant, without a broker: what they hear is given to them."""

    def __init__(self, database: Any) -> None:  # noqa: ANN401 -- none, where nothing is committed
        """Have heard nothing."""
        self.table = PointTable(plant(), MOST)
        self.live, self.metrics, clock = LiveView(self.table), Metrics(), Still()
        self.quarantine = Quarantine(database, self.metrics, 100)
        nobody: Any = None
        history: Any = SimpleNamespace(state={}, key=len)
        self.historian = Historian(
            HistorianParts(
                nobody, history, self.table, self.live, self.quarantine, self.metrics, clock, HistorianSettings()
            )
        )
        self.alarms = AlarmsWorker(
            AlarmParts(
                nobody,
                database,
                plant(),
                self.live,
                self.metrics,
                clock,
                AlarmSettings(),
                Path(),
                Outlet(nobody, self.table),
            )
        )

    def hear(self, said: Sequence[Said]) -> Any:  # noqa: ANN401 -- what the alarms worker would commit
        """Take in messages as both roles do between two commits, and keep what they would."""
        messages = [Message(n, NOW_NS + n, each.topic, each.body) for n, each in enumerate(said, 1)]
        for message in messages:
            before = sum(self.quarantine.counts.values())
            self.historian._take(message)  # noqa: SLF001 -- what `run` does between two waits
            if _is_garbage(message):
                assert sum(self.quarantine.counts.values()) > before
        self.historian._position_state()  # noqa: SLF001 -- what `run` does between two waits
        self.historian._session_state()  # noqa: SLF001 -- what `run` does between two waits
        self.historian._clocks_state()  # noqa: SLF001 -- what `run` does between two waits
        self.historian._show(1.0)  # noqa: SLF001 -- what `run` does between two waits
        batch = self.alarms._advance(messages)  # noqa: SLF001 -- what `run` does between two waits
        held = self.alarms._snapshot()  # noqa: SLF001 -- what `run` does between two waits
        assert held is not None
        HostSession.restore(held.session, self.table.resolve)
        LiveView(self.table).restore(self.live.known())
        return batch

    def bounded(self) -> None:
        """Hold what is kept to its bounds."""
        kept = self.historian
        known = {*self.live.gateways, *kept._ledgers, *kept._clocks, *kept._readings}  # noqa: SLF001 -- shown nowhere else
        assert len(known) <= MOST.gateways + len(self.table.gateways)
        assert len(self.table.undeclared) <= MOST.points
        assert max((len(one.id) for one in self.table.undeclared), default=0) < 2000
        assert sum(len(unit) for unit in self.live.units.values()) < 100 * len(self.table)
        assert len(self.quarantine._waiting) <= 100  # noqa: SLF001 -- shown nowhere else
        assert len(kept._session.snapshot()) < 200_000  # noqa: SLF001 -- shown nowhere else


def _is_garbage(message: Message) -> bool:
    """Whether nobody can read a Sparkplug message of a gateway."""
    if not is_data(message.topic):
        return False
    try:
        parse(message.payload)
    except PayloadError:
        return True
    return False


@cache
def plant() -> Plant:
    """The small plant, with a computed point."""
    with TemporaryDirectory() as folder:
        return load_plant(plant_folder(Path(folder), COMPUTED))


@cache
def births() -> tuple[Said, ...]:
    """What a sound gateway says first, and with it that it decides its own alarms."""
    session = EdgeSession("site", "gw", [EdgeDevice("D1", (EdgeMetric("P1"), EdgeMetric("P2")))])
    numbers = JournalNumbers(5, 1, fingerprint(plant(), "gw"))
    node = session.nbirth(3, 1, NOW_MS, journal=numbers)
    device = session.dbirth("D1", columns({0: 1.0, 1: 1.0}, NOW_MS), 3, NOW_MS)
    return Said(node.topic, node.payload), Said(device.topic, device.payload)


def talks() -> st.SearchStrategy[list[Said]]:
    """Some messages, now and then after the births of a gateway that can be heard."""
    some = st.lists(MESSAGES, min_size=1, max_size=8)
    return st.one_of(some, some.map(lambda said: [*births(), *said]))


@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
@given(talks())
def test_nothing_that_comes_in_raises(said: list[Said]) -> None:
    """Whatever is said is taken in or refused, with a reason and a count, by both roles; both can be kept after it."""
    ears = Ears(None)
    ears.hear(said)
    ears.bounded()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[asyncio.Runner, Database]]:
    """An empty database, and the loop that it lives in."""
    with asyncio.Runner() as runner:
        opened = runner.run(Database.open(sqlite_url(tmp_path_factory.mktemp("sql") / "db")))
        yield runner, opened
        runner.run(opened.close())


class UndoneError(Exception):
    """Nothing of an example is to stay."""


@settings(max_examples=max(1, EXAMPLES // 3), suppress_health_check=list(HealthCheck))
@given(talks())
def test_what_came_of_it_can_be_committed(database: tuple[asyncio.Runner, Database], said: list[Said]) -> None:
    """The database takes what both roles make of it: answers, entries, orders, and what was refused."""
    runner, opened = database

    async def story() -> None:
        ears = Ears(opened)
        batch = ears.hear(said)
        await ears.quarantine.flush()
        async with opened.write() as session:
            epoch, _ = await take_partition(session, 0)
            journal = Journal(plant(), compile_rules(plant()), 0, epoch)
            await journal.record(session, batch, 0, NOW_NS)
            await session.flush()
            raise UndoneError

    with pytest.raises(UndoneError):
        runner.run(story())
