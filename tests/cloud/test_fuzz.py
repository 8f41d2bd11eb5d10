"""Hostile and broken input through all that hears it: nothing raises, what is refused is counted, nothing grows."""

import asyncio
import os
import re
from collections.abc import Iterator, Sequence
from functools import cache
from hashlib import sha256
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import URL

from tests.cloud.ears import MOST, Ears, plant
from tests.cloud.rig import columns
from tests.support.database import tell
from tests.support.hostile import MESSAGES, NOW_MS, NOW_NS, Said
from tests.support.need import ROOT
from tests.support.postgres import on_both
from tocsin_cloud.adapters.sql.engine import Database, sqlite_url
from tocsin_cloud.adapters.stream import Message, Position, is_data
from tocsin_cloud.loops.journal import Batch, Journal
from tocsin_core.foreign import LONGEST_TEXT
from tocsin_core.journal import LONGEST_ALARM, Entry, encode
from tocsin_core.lifecycle import Event, Phase
from tocsin_core.owned import fingerprints, packed
from tocsin_core.rules import compile_rules
from tocsin_core.sparkplug import EdgeDevice, EdgeMetric, EdgeSession, JournalNumbers
from tocsin_core.sparkplug import payload as codec
from tocsin_core.sparkplug.payload import DataType, PayloadError, parse
from tocsin_core.sparkplug.sparkplug_b_pb2 import Payload

EXAMPLES: Final = int(os.environ.get("TOCSIN_FUZZ_EXAMPLES", "80"))
# What docs/third-parties.md lists under "What is quarantined".
PAGE: Final = (ROOT / "docs" / "third-parties.md").read_text(encoding="utf-8")
REASONS: Final = set(re.findall(r"`([a-z-]+)`", " ".join(re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE))))


@cache
def births() -> tuple[Said, ...]:
    """What a sound gateway says first, and with it that it decides its own alarms."""
    session = EdgeSession("site", "gw", [EdgeDevice("D1", (EdgeMetric("P1"), EdgeMetric("P2")))])
    numbers = JournalNumbers(5, 1, packed(fingerprints(plant(), "gw").values()))
    node = session.nbirth(3, 1, NOW_MS, journal=numbers)
    device = session.dbirth("D1", columns({0: 1.0, 1: 1.0}, NOW_MS), 3, NOW_MS)
    return Said(node.topic, node.payload), Said(device.topic, device.payload)


def hear(ears: Ears, said: Sequence[Said]) -> Batch:
    """Have both roles hear it, and hold that nothing which nobody can read goes uncounted, each reason on the page."""
    batch = Batch(Position(0, 0))
    for number, each in enumerate(said, 1):
        before, message = sum(ears.quarantine.counts.values()), Message(number, NOW_NS + number, each.topic, each.body)
        batch = ears.hear([message])
        assert not is_garbage(message) or sum(ears.quarantine.counts.values()) > before
    assert ears.quarantine.counts.keys() <= REASONS
    ears.keep()
    return batch


def is_garbage(message: Message) -> bool:
    """Whether nobody can read a Sparkplug message of a gateway."""
    if not is_data(message.topic):
        return False
    try:
        parse(message.payload)
    except PayloadError:
        return True
    return False


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
    ears = Ears()
    hear(ears, said)
    assert ears.is_bounded()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[asyncio.Runner, Database]]:
    """An empty database, and the loop that it lives in."""
    with asyncio.Runner() as runner:
        opened = runner.run(Database.open(sqlite_url(tmp_path_factory.mktemp("sql") / "db")))
        yield runner, opened
        runner.run(opened.close())


@on_both
@pytest.mark.parametrize("length", [LONGEST_ALARM, LONGEST_TEXT])
def test_no_alarm_is_too_long_for_a_database(sql_url: URL, length: int) -> None:
    """A server takes nothing of so many bytes into an index: what is longer is none, and counted."""
    # Such as no server makes smaller.
    name = "".join(sha256(bytes([n])).hexdigest() for n in range(64))[: length - 3]
    entry = Entry(f"{name}/HH", Event.RAISE, NOW_NS, Phase.UNACKNOWLEDGED, NOW_NS)
    payload = Payload(timestamp=NOW_MS, seq=2)
    payload.metrics.add(name=codec.JOURNAL_FIRST, timestamp=NOW_MS, datatype=DataType.UINT64, long_value=1)
    payload.metrics.add(name=codec.JOURNAL_ENTRY, timestamp=NOW_MS, datatype=DataType.BYTES, bytes_value=encode(entry))

    async def story(database: Database) -> None:
        batch = hear(Ears(database), [*births(), Said("spBv1.0/site/NDATA/gw", payload.SerializeToString())])
        (words,) = batch.words
        assert (len(words.aside), words.lost) == ((1, 0) if length == LONGEST_ALARM else (0, 1))
        async with database.write() as session:
            await Journal(plant(), compile_rules(plant()), 0).record(session, batch, 0, NOW_NS)

    tell(sql_url, story)


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
        batch = hear(ears, said)
        await ears.quarantine.flush()
        async with opened.write() as session:
            journal = Journal(plant(), compile_rules(plant()), 0)
            await journal.record(session, batch, 0, NOW_NS)
            await session.flush()
            raise UndoneError

    with pytest.raises(UndoneError):
        runner.run(story())
