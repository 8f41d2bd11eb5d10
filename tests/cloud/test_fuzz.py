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
from hypothesis import HealthCheck, example, given, settings
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
from tocsin_cloud.loops.journal import Journal
from tocsin_cloud.loops.live import LiveView
from tocsin_cloud.loops.points import PointTable
from tocsin_cloud.settings import AlarmSettings, HistorianSettings, StrangerSettings
from tocsin_core import engine
from tocsin_core.owned import fingerprint
from tocsin_core.plant import Plant, load_plant
from tocsin_core.rules import compile_rules
from tocsin_core.sparkplug import EdgeDevice, EdgeMetric, EdgeSession, JournalNumbers
from tocsin_core.sparkplug import payload as codec
from tocsin_core.sparkplug.host import HostSession
from tocsin_core.sparkplug.payload import DataType, PayloadError, parse
from tocsin_core.sparkplug.sparkplug_b_pb2 import Payload

EXAMPLES: Final = int(os.environ.get("TOCSIN_FUZZ_EXAMPLES", "150"))
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
        parts: dict[str, Any] = {
            "client": nobody,
            "lease": nobody,
            "live": self.live,
            "metrics": self.metrics,
            "clock": clock,
        }
        heard = HistorianParts(
            history=history, table=self.table, quarantine=self.quarantine, settings=HistorianSettings(), **parts
        )
        self.historian = Historian(heard)
        judged = AlarmParts(
            database=database, plant=plant(), settings=AlarmSettings(), snapshot_file=Path(),
            outlet=Outlet(nobody, self.table), **parts,
        )  # fmt: skip
        self.alarms = AlarmsWorker(judged)

    def hear(self, said: Sequence[Said]) -> Any:  # noqa: ANN401 -- what the alarms worker would commit
        """Take in messages as both roles do between two commits, and keep what they would."""
        messages = [Message(n, NOW_NS + n, each.topic, each.body) for n, each in enumerate(said, 1)]
        for message in messages:
            before = sum(self.quarantine.counts.values())
            self.historian._take(message)  # noqa: SLF001 -- what `run` does between two waits
            if _is_garbage(message):
                assert sum(self.quarantine.counts.values()) > before
        kept, worker = self.historian, self.alarms
        for keep in (kept._position_state, kept._session_state, kept._clocks_state):  # noqa: SLF001 -- what a commit needs
            assert keep()
        kept._show(1.0)  # noqa: SLF001 -- the same
        batch = worker._advance(messages)  # noqa: SLF001 -- what `run` does between two waits
        assert worker._state is not None  # noqa: SLF001 -- shown nowhere else
        engine.restore(engine.snapshot(worker._state, worker._rules), worker._rules)  # noqa: SLF001 -- what a snapshot holds
        HostSession.restore(worker._session.snapshot(), self.table.resolve)  # noqa: SLF001 -- the same
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


def from_gateway(name: str, **value: Any) -> Said:  # noqa: ANN401 -- the value's field
    """Let the plant's own gateway say something of itself."""
    payload = Payload(timestamp=NOW_MS, seq=2)
    payload.metrics.add(name=name, timestamp=NOW_MS, datatype=DataType.UINT64, **value)
    return Said("spBv1.0/site/NDATA/gw", payload.SerializeToString())


# What ended a role, or filled it, before it was found.
BEYOND_SQL: Final = [*births(), from_gateway(codec.JOURNAL_OLDEST, long_value=2**64 - 1)]
BEYOND_INT: Final = [*births(), from_gateway(codec.SLICE, string_value='{"version":Infinity,"hash":"","answer":null}')]
TOO_DEEP: Final = [Said("tocsin/computed/site", b"[" * 20_000)]
UNBORN: Final = [
    Said(f"spBv1.0/site/NDATA/n{n}", from_gateway(codec.BATCH, long_value=n).body) for n in range(2 * MOST.gateways + 3)
]
ENDLESS: Final = [
    Said("spBv1.0/site/NBIRTH/" + "x" * 2000, births()[0].body),
    Said("spBv1.0/site/NBIRTH/a", from_gateway("x" * 100_000, long_value=1).body),
]


@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
@example(BEYOND_INT)
@example(TOO_DEEP)
@example(UNBORN)
@example(ENDLESS)
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
@example(BEYOND_SQL)
@given(talks())
def test_what_came_of_it_can_be_committed(database: tuple[asyncio.Runner, Database], said: list[Said]) -> None:
    """The database takes what both roles make of it: answers, entries, orders, and what was refused."""
    runner, opened = database

    async def story() -> None:
        ears = Ears(opened)
        batch = ears.hear(said)
        await ears.quarantine.flush()
        async with opened.write() as session:
            journal = Journal(plant(), compile_rules(plant()), 0)
            await journal.record(session, batch, 0, NOW_NS)
            await session.flush()
            raise UndoneError

    with pytest.raises(UndoneError):
        runner.run(story())
