"""Gateways a day ahead of the server: what they read is judged, and stays with them while the server may be behind."""

from typing import Final

from tests.cloud.api.stand_ins import HandClock
from tests.cloud.ears import Ears
from tests.cloud.rig import DEVICE, GATEWAY, SITE, columns
from tests.support.hostile import NOW_MS, NOW_NS
from tocsin_cloud.adapters.stream import Message
from tocsin_cloud.loops.journal import Batch
from tocsin_cloud.loops.server_clock import HEARD_S, LISTEN_S, ServerClock
from tocsin_core.lifecycle import Event
from tocsin_core.sparkplug import EdgeDevice, EdgeMetric, EdgeSession
from tocsin_core.sparkplug import Message as Said

DAYS_MS: Final = 3 * 86_400_000
NS_PER_MS: Final = 1_000_000
ADDRESS: Final = (SITE, GATEWAY)


class Plant:
    """Both roles, and gateways whose clocks are not the server's."""

    def __init__(self) -> None:
        """Nobody was heard."""
        self.clock = HandClock()
        self.ears = Ears(clock=self.clock)
        self.server_ns = NOW_NS
        self.session = EdgeSession(SITE, GATEWAY, [EdgeDevice(DEVICE, (EdgeMetric("P1"), EdgeMetric("P2")))])
        self.heard = 0

    def hear(self, *said: Said) -> Batch:
        """Take messages in as the server hands them on."""
        messages = []
        for each in said:
            self.heard += 1
            messages.append(Message(self.heard, self.server_ns, each.topic, each.payload))
        return self.ears.hear(messages)

    def born(self, now_ms: int) -> None:
        """Let the gateway be born, by its own clock."""
        last = columns({0: 0.0, 1: 0.0}, now_ms)
        self.hear(self.session.nbirth(0, 1, now_ms), self.session.dbirth(DEVICE, last, 0, now_ms))

    def others(self, *nodes: str) -> None:
        """Let other gateways be born, whose clocks are as the server's is."""
        self.hear(*(EdgeSession(SITE, node, []).nbirth(0, 1, self.server_ns // NS_PER_MS) for node in nodes))

    def batch(self, number: int, value: float, now_ms: int, *, historical: bool = False) -> list[Event]:
        """Let the gateway send a reading of now; returns what its alarm does."""
        data = self.session.ddata(DEVICE, columns({0: value}, now_ms), number, now_ms, historical=historical)
        alarm = self.ears.alarms._rules.index["P1/H"]  # noqa: SLF001 -- shown nowhere else
        steps = (step.transition for step in self.hear(data).steps)
        return [step.event for step in steps if step.definition == alarm]

    @property
    def acknowledged(self) -> int:
        """Up to which batch the gateway may forget."""
        return self.ears.ledgers[ADDRESS].committed


def test_what_a_server_cannot_store_because_its_clock_is_behind_stays_at_the_gateways() -> None:
    """Not acknowledged, and shown; asked for again once the clock is right. Alarms go by the arrival meanwhile."""
    plant, right_ms = Plant(), NOW_MS + DAYS_MS
    plant.born(right_ms)
    plant.clock.move(LISTEN_S)
    assert plant.batch(1, 60.0, right_ms) == [Event.RAISE]
    # What is sent late says nothing of now.
    assert plant.batch(2, 1.0, right_ms, historical=True) == []
    assert (plant.acknowledged, plant.ears.ledgers[ADDRESS].newest) == (0, 0)
    # What its device's birth repeats is left out, and comes in a batch as well.
    assert plant.ears.quarantine.counts == {"day-ahead": 2, "server-behind": 2}
    plant.server_ns += DAYS_MS * NS_PER_MS
    assert plant.batch(3, 1.0, right_ms + 1) == [Event.RETURN]
    assert plant.acknowledged == 0
    assert plant.ears.historian._births._wanted == {ADDRESS}  # noqa: SLF001 -- shown nowhere else
    for number in (1, 2):
        plant.batch(number, 60.0, right_ms, historical=True)
    assert plant.acknowledged == 3


def test_a_gateway_that_is_alone_in_being_ahead_has_the_wrong_clock() -> None:
    """Where most others agree with the server; while not enough of them were heard, nothing is acknowledged."""
    plant, wrong_ms = Plant(), NOW_MS + DAYS_MS
    plant.born(wrong_ms)
    plant.others("theirs", "more")
    assert plant.batch(1, 60.0, wrong_ms) == [Event.RAISE]
    assert plant.acknowledged == 0
    plant.clock.move(LISTEN_S)
    plant.batch(1, 60.0, wrong_ms)
    assert plant.acknowledged == 1
    assert plant.ears.quarantine.counts == {"day-ahead": 3, "server-behind": 1}


def test_who_was_not_heard_for_long_says_nothing_of_today() -> None:
    """Half are enough to doubt the server's clock; of those that were heard of late."""
    hands = HandClock()
    clock, doubts = ServerClock(hands), []

    def hear(gateway: str, ahead_ms: int = 0) -> None:
        clock.hear((SITE, gateway), NOW_MS + ahead_ms, NOW_NS)
        doubts.append(clock.may_be_behind)

    hear("a")
    hands.move(LISTEN_S)
    hear("b")
    hear("c", DAYS_MS)
    hear("a", DAYS_MS)
    hear("a")
    hands.move(HEARD_S)
    hear("c", DAYS_MS)
    assert doubts == [True, False, False, True, False, True]
