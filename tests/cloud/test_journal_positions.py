"""How far the journal of a gateway is taken in, whatever is lost on the way: decided on each message alone."""

from pathlib import Path

import pytest

from tests.cloud.rig import GATEWAY, SITE, plant_folder
from tocsin_cloud.loops.delegation import Delegation, Words
from tocsin_cloud.loops.judged import Judged
from tocsin_core import engine
from tocsin_core.engine import Command
from tocsin_core.journal import Entry, encode
from tocsin_core.lifecycle import Event, Phase, Verb
from tocsin_core.owned import fingerprints, packed
from tocsin_core.plant import Plant, load_plant
from tocsin_core.readings import Frame
from tocsin_core.sparkplug import EdgeSession, HostSession, JournalNumbers, Message

NOW_MS = 1_800_000_000_000
NOW_NS = NOW_MS * 1_000_000


class Bench:
    """What the alarms worker has of one gateway, without a stream."""

    def __init__(self, plant: Plant) -> None:
        """Know nothing of the gateway yet."""
        judged = Judged.of(plant)
        rules = self.plant_rules = judged.rules
        self.delegation = Delegation(plant.site.id, judged)
        self.state = engine.initial(rules, NOW_NS)
        self.number = rules.index["P1/H"]
        self.host = HostSession(lambda *_: None)
        self.node = EdgeSession(SITE, GATEWAY, [])
        self.rules = packed(fingerprints(plant, GATEWAY).values())

    def hear(self, message: Message) -> Words | None:
        """Take a message as the worker does."""
        fed = self.host.feed(message.topic, message.payload, NOW_NS)
        words = self.delegation.heard(fed, self.state, NOW_NS)
        inputs = () if words is None else words.inputs
        self.state, _ = engine.step(self.state, self.plant_rules, Frame.empty(), inputs, NOW_NS)
        return words

    def birth(self, newest: int, oldest: int) -> Words | None:
        """Hear it be born with such a journal."""
        return self.hear(self.node.nbirth(0, 1, NOW_MS, journal=JournalNumbers(newest, oldest, self.rules)))

    def entries(self, first: int, n: int, oldest: int) -> Words:
        """Hear `n` entries, the first of which has this number."""
        body = encode(Entry("P1/H", Event.RAISE, NOW_NS, Phase.UNACKNOWLEDGED, NOW_NS, value=1.0))
        words = self.hear(self.node.journal(first, [body] * n, oldest, NOW_MS))
        assert words is not None
        return words


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Give the small plant's gateway."""
    return Bench(load_plant(plant_folder(tmp_path / "plant")))


def test_a_first_message_that_was_lost_is_waited_for(bench: Bench) -> None:
    """An acknowledgement is cumulative: one beyond what never came would have the gateway forget it."""
    bench.birth(1300, 1001)
    words = bench.entries(1201, 100, 1001)
    assert (words.position, words.gap, words.inputs) == (1000, True, [])
    words = bench.entries(1001, 300, 1001)
    assert (words.position, words.gap, words.lost, len(words.inputs)) == (1300, False, 0, 300)


def test_a_gateway_apart_is_ordered_acknowledgements_of_its_own_occurrence_alone(bench: Bench) -> None:
    """And nothing any more once it says that it decides nothing: what waits for it is given up."""
    command = Command(Verb.ACKNOWLEDGE, bench.number, NOW_NS, "li")
    assert bench.delegation.order(bench.state, command, "1") is None
    bench.rules = b"another."
    bench.birth(0, 1)
    bench.entries(1, 1, 1)
    order = bench.delegation.order(bench.state, command, "1")
    assert order is not None
    assert (order.gateway, order.order.onset_ns) == (GATEWAY, NOW_NS)
    shelve = Command(Verb.SHELVE, bench.number, NOW_NS, "li", "because", 0, NOW_NS + 1)
    assert bench.delegation.order(bench.state, shelve, "2") is None
    words = bench.hear(bench.node.nbirth(0, 1, NOW_MS))
    assert words is not None
    assert (words.decides, words.position) == (False, 1)
    assert bench.delegation.order(bench.state, command, "1") is None
