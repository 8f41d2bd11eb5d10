"""What a stream comes to while plant files differ: the same, in whichever portions it is read."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from tests.cloud.ears import Ears, plant
from tests.cloud.rig import DEVICE, GATEWAY, SITE, columns
from tests.support.hostile import NOW_MS, NOW_NS
from tocsin_cloud.adapters.stream import Message
from tocsin_cloud.loops.delegation import Beside
from tocsin_core.engine import occurrence_id
from tocsin_core.journal import Entry, encode
from tocsin_core.lifecycle import Event, Phase
from tocsin_core.managed import Standing
from tocsin_core.owned import fingerprints, packed
from tocsin_core.rules import compile_rules
from tocsin_core.sparkplug import ClockState, EdgeDevice, EdgeMetric, EdgeSession, JournalNumbers
from tocsin_core.sparkplug import Message as Said

# During a cut an alarm was raised and was over, and raised again; the last reading comes before the journal.
MS: Final = 1_000_000
RAISED_NS: Final = NOW_NS - 2_000_000_000
LAST_MS: Final = NOW_MS - 1_000
OVER_NS: Final = NOW_NS - 4_000_000_000
TOLD: Final = (
    Entry("P1/H", Event.RAISE, OVER_NS, Phase.UNACKNOWLEDGED, OVER_NS, value=60.0),
    Entry("P1/H", Event.RETURN, OVER_NS + MS, Phase.RETURNED_UNACKNOWLEDGED, OVER_NS, value=10.0),
    Entry("P1/H", Event.RAISE, RAISED_NS, Phase.UNACKNOWLEDGED, RAISED_NS, value=60.0),
)

Step = tuple[str, Event, int, int, int]


def said() -> Iterator[Said]:
    """A birth with the last reading, the journal after it, and readings that end and begin again what stands."""
    session = EdgeSession(SITE, GATEWAY, [EdgeDevice(DEVICE, (EdgeMetric("P1"), EdgeMetric("P2")))])
    yield session.will(1, NOW_MS)
    yield session.nbirth(0, 1, NOW_MS, journal=JournalNumbers(3, 1, b"another."))
    yield session.dbirth(DEVICE, columns({0: 60.0, 1: 0.0}, LAST_MS), 0, NOW_MS)
    yield session.journal(1, [encode(entry) for entry in TOLD], 1, NOW_MS)
    yield session.ddata(DEVICE, columns({0: 10.0}, LAST_MS + 1), 1, NOW_MS, historical=False)
    yield session.ddata(DEVICE, columns({0: 70.0}, LAST_MS + 2), 2, NOW_MS, historical=False)


def stream() -> list[Message]:
    """The messages, the last about the occurrence that the last reading raised."""
    messages = [Message(number, NOW_NS + number, each.topic, each.payload) for number, each in enumerate(said(), 1)]
    occurrence = occurrence_id("P1/H", (LAST_MS + 2) * MS)
    order = f'{{"id": "1", "verb": "ack", "alarm": "P1/H", "who": "anna", "occurrence": "{occurrence}"}}'
    number = len(messages) + 1
    return [*messages, Message(number, NOW_NS + number, "tocsin/command/site", order.encode())]


def heard(portion: int) -> tuple[list[Step], list[bool], list[Entry], list[Beside], dict[str, list[int]]]:
    """The steps, the answers, what is history alone or beside, and the state, read in portions of so many messages."""
    ears, definitions = Ears(), compile_rules(plant()).definitions
    steps: list[Step] = []
    answers: list[bool] = []
    aside: list[Entry] = []
    beside: list[Beside] = []
    messages = stream()
    for first in range(0, len(messages), portion):
        batch = ears.hear(messages[first : first + portion])
        told = [step.transition for step in batch.steps]
        steps += [(definitions[t.definition].id, t.event, t.time_ns, t.onset_ns, t.superseded_ns) for t in told]
        aside += [entry for words in batch.words for entry in words.aside]
        beside += [each for words in batch.words for each in words.beside]
        answers += [answer.accepted for answer in batch.answers]
    state = ears.alarms._state  # noqa: SLF001 -- shown nowhere else
    assert state is not None
    names = ("phase", "active", "onset_ns", "since_ns", "elsewhere")
    return steps, answers, aside, beside, {name: np.asarray(getattr(state, name)).tolist() for name in names}


def test_how_the_stream_is_portioned_changes_nothing() -> None:
    """One message at a time as it came, or all at once as after a restart: the same steps, answers and state."""
    singly, at_once = heard(1), heard(100)
    assert singly == at_once
    steps, answers, aside, beside, _ = singly
    found_ns, again_ns = LAST_MS * MS, (LAST_MS + 2) * MS
    assert (answers, aside) == ([True], list(TOLD[:2]))
    assert beside == [(TOLD[2], found_ns, Phase.UNACKNOWLEDGED)]
    assert [(event, onset_ns) for alarm, event, _, onset_ns, _ in steps if alarm == "P1/H"] == [
        (Event.RAISE, found_ns),
        (Event.RETURN, found_ns),
        (Event.RAISE, again_ns),
        (Event.ACKNOWLEDGE, again_ns),
    ]


def test_a_birth_that_a_server_held_up_takes_nothing_back() -> None:
    """It tells how an earlier session began: the gateway decides on, no order is given up, all is shown on."""
    ears, session = Ears(), EdgeSession(SITE, GATEWAY, [EdgeDevice(DEVICE, (EdgeMetric("P1"),))])
    journal = JournalNumbers(1, 1, packed(fingerprints(plant(), GATEWAY).values()))
    clock, standing = ClockState(synchronised=True, since_ms=NOW_MS), Standing(7, "a hash")

    def born(bd_seq: int, time_ms: int) -> list[bool | None]:
        session.will(bd_seq, time_ms)
        birth = session.nbirth(0, 1, time_ms, clock, journal, standing.to_text())
        heard = ears.hear([Message(bd_seq, NOW_NS, birth.topic, birth.payload)])
        return [words.decides for words in heard.words]

    assert born(2, NOW_MS) == [True]
    assert born(1, NOW_MS - 1) == []
    assert ears.live.gateways[SITE, GATEWAY].standing == standing
    assert ears.historian._clocks[SITE, GATEWAY].state == clock  # noqa: SLF001 -- shown after a commit
