"""Gateways a day ahead of the server: what they read is judged, and stays with them while the server may be behind."""

import asyncio
from pathlib import Path
from typing import Final

import pytest

from tests.cloud.api.stand_ins import HandClock
from tests.cloud.ears import Ears
from tests.cloud.rig import DEVICE, GATEWAY, SITE, columns
from tests.support.hostile import NOW_MS, NOW_NS
from tocsin_cloud.adapters.history_duckdb import DuckdbHistory
from tocsin_cloud.adapters.stream import Message
from tocsin_cloud.loops.hearing import as_of_arrival
from tocsin_cloud.loops.historian import forget_old
from tocsin_cloud.loops.journal import Batch
from tocsin_cloud.loops.server_clock import HEARD_S, LISTEN_S, ServerClock
from tocsin_cloud.settings import HistorianSettings
from tocsin_core.lifecycle import Event
from tocsin_core.readings import EARLIEST_NS, GOOD, Frame
from tocsin_core.sparkplug import EdgeDevice, EdgeMetric, EdgeSession
from tocsin_core.sparkplug import Message as Said

HOUR_MS: Final = 3_600_000
DAYS_MS: Final = 72 * HOUR_MS
NS_PER_MS: Final = 1_000_000
NS: Final = 1000 * NS_PER_MS
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

    def batch(
        self, number: int, value: float, now_ms: int, *, historical: bool = False, sent_ms: int = 0
    ) -> list[Event]:
        """Let the gateway send a reading of now, or of before; returns what its alarm does."""
        stamped = columns({0: value}, now_ms)
        data = self.session.ddata(DEVICE, stamped, number, sent_ms or now_ms, historical=historical)
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


def test_a_gateway_whose_clock_begins_in_1970_is_judged() -> None:
    """As of the arrival, also while it is set; what it sends late of before says nothing."""
    plant = Plant()
    plant.born(1000)
    steps = []
    for number, value in enumerate((60.0, 60.0, 1.0, 60.0), 1):
        plant.server_ns += NS
        steps.append(plant.batch(number, value, 1000 * number))
    assert steps == [[Event.RAISE], [], [Event.RETURN], [Event.RAISE]]
    plant.server_ns += NS
    right_ms = plant.server_ns // NS_PER_MS
    assert plant.batch(5, 1.0, 9000, historical=True, sent_ms=right_ms) == []
    assert plant.batch(6, 1.0, right_ms) == [Event.RETURN]


@pytest.mark.parametrize("hours", [8, -8])
def test_what_is_sent_late_is_late_by_whichever_clock_is_wrong(hours: int) -> None:
    """The gateway's is not as the server's is: a reading of an hour ago neither clears nor raises."""
    plant, gateway_ms = Plant(), NOW_MS + hours * HOUR_MS
    plant.born(gateway_ms)
    steps = []
    for number, (value, age_ms) in enumerate([(60.0, 0), (1.0, HOUR_MS), (60.0, 0), (1.0, 0), (60.0, HOUR_MS)], 1):
        plant.server_ns += NS
        gateway_ms += 1000
        late = age_ms > 0
        steps.append(plant.batch(number, value, gateway_ms - age_ms, historical=late, sent_ms=gateway_ms))
    assert steps == [[Event.RAISE], [], [], [Event.RETURN], []]


def test_what_is_as_old_as_the_clock_is_ahead_is_not_of_now() -> None:
    """Its stamps are the server's time, by chance."""
    plant, gateway_ms = Plant(), NOW_MS + 8 * HOUR_MS
    plant.born(gateway_ms)
    plant.server_ns += NS
    assert plant.batch(1, 60.0, gateway_ms + 1000) == [Event.RAISE]
    for number, read_ms in enumerate((NOW_MS + 2000, NOW_MS + 6000), 2):
        plant.server_ns += NS
        sent_ms = gateway_ms + number * 1000
        assert plant.batch(number, 1.0, read_ms, historical=True, sent_ms=sent_ms) == []
    plant.server_ns += NS
    assert plant.batch(4, 1.0, gateway_ms + 4000) == [Event.RETURN]


def test_what_a_clock_stamped_before_it_was_set_back_is_nothing_of_now() -> None:
    """It is ahead of the clock that sends it."""
    plant, right_ms = Plant(), NOW_MS
    plant.born(right_ms + 8 * HOUR_MS)
    plant.server_ns += NS
    assert plant.batch(1, 60.0, right_ms + 8 * HOUR_MS) == [Event.RAISE]
    plant.server_ns += NS
    assert plant.batch(2, 1.0, right_ms + 7 * HOUR_MS, historical=True, sent_ms=right_ms + 2000) == []
    assert plant.batch(3, 1.0, right_ms + 2000) == [Event.RETURN]


def test_where_all_comes_late_it_is_judged_in_its_order() -> None:
    """A link that is too narrow, and a clock that is ahead: nobody is deaf to it."""
    plant, gateway_ms = Plant(), NOW_MS + 8 * HOUR_MS
    plant.born(gateway_ms)
    plant.server_ns += 60 * NS
    steps = []
    for number, value in enumerate([60.0, 60.0, 1.0], 1):
        plant.server_ns += NS
        read_ms = gateway_ms + number * 1000
        steps.append(plant.batch(number, value, read_ms, historical=True, sent_ms=read_ms + 10_000))
    assert steps == [[Event.RAISE], [], [Event.RETURN]]


@pytest.mark.parametrize("sent_ms", [1, 2**50, 2**62])
def test_a_message_may_say_anything_of_when_it_was_sent(sent_ms: int) -> None:
    """It moves no alarm, and ends nobody."""
    plant = Plant()
    plant.born(NOW_MS)
    plant.server_ns += NS
    stamped = columns({0: 60.0}, NOW_MS + 8 * HOUR_MS)
    said = plant.session.ddata(DEVICE, stamped, 1, sent_ms, historical=True)
    heard = Message(plant.heard + 1, plant.server_ns, said.topic, said.payload)
    frame = as_of_arrival(plant.ears.alarms._session.hear(heard), heard)  # noqa: SLF001 -- shown nowhere else
    assert (frame.time_ns >= EARLIEST_NS).all()
    assert plant.batch(2, 60.0, NOW_MS + 8 * HOUR_MS, historical=True, sent_ms=sent_ms) == []


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


def test_a_server_that_is_a_year_ahead_forgets_nothing(tmp_path: Path) -> None:
    """Its own clock alone does not say how old a reading is: most gateways that it hears of late have to agree."""

    async def story() -> None:
        history = await DuckdbHistory.open(tmp_path / "history")
        hands, settings = HandClock(), HistorianSettings(retain_days=30)
        began_ns, clock = hands.now_ns(), ServerClock(hands)
        await history.commit(Frame.of([history.key("P1")], [began_ns], [1.0], [GOOD]), {})

        async def forgets(*gateways: str, behind_s: float = 0.0) -> tuple[bool, int]:
            for gateway in gateways:
                clock.hear((SITE, gateway), hands.now_ns() // NS_PER_MS - round(behind_s * 1000), hands.now_ns())
            forgot = await forget_old(history, settings, hands, clock)
            return forgot, len((await history.read("P1", began_ns, began_ns + NS, None, 10)).time_ns)

        year_s = 365 * 86400.0
        assert await forgets("a") == (False, 1)
        hands.move(LISTEN_S)
        assert await forgets() == (True, 1)
        hands.move(year_s)
        assert await forgets() == (False, 1)
        assert await forgets("a", "b", behind_s=year_s) == (False, 1)
        assert await forgets("c", "b") == (True, 0)
        hands.move(HEARD_S)
        assert await forgets() == (False, 0)
        await history.close()

    asyncio.run(story())
