"""A gateway that floods: it is heard up to its rate, alike by every role, and nothing of it or of others is lost."""

import numpy as np

from tests.cloud.ears import Ears
from tests.cloud.rig import columns
from tests.support.hostile import NOW_MS, NOW_NS
from tocsin_cloud.adapters.stream import Message
from tocsin_cloud.loops.limits import NS, Limits
from tocsin_cloud.settings import LimitSettings
from tocsin_core.sparkplug import EdgeDevice, EdgeMetric, EdgeSession

SLOW = LimitSettings(messages_per_s=10, bytes_per_s=1 << 20, burst_s=1.0)


def heard(limits: Limits, count: int, at_ns: int, size: int = 100) -> int:
    """How many of so many messages at one time are heard."""
    return sum(limits.admits("gw", size, at_ns) for _ in range(count))


def test_a_rate_with_room_for_a_burst() -> None:
    """A burst at once, then the rate; who was silent may burst again; another sender is not concerned."""
    limits = Limits(SLOW)
    assert heard(limits, 100, NOW_NS) == 11
    assert heard(limits, 100, NOW_NS + NS) == 10
    assert limits.admits("other", 100, NOW_NS + NS)
    assert heard(limits, 100, NOW_NS + 60 * NS) == 11


def test_bytes_count_too_and_a_clock_set_back_does_not() -> None:
    """Large messages use up more; after a step of the stream's clock nobody has to wait for the old time."""
    limits = Limits(SLOW)
    assert heard(limits, 100, NOW_NS, 1 << 19) == 3
    assert heard(limits, 100, NOW_NS - 3600 * NS) > 0


class Sender:
    """A gateway, whose batches are messages that anybody may carry."""

    def __init__(self, name: str = "gw") -> None:
        """Not born yet; `gw` is in the plant file."""
        self.session = EdgeSession("site", name, [EdgeDevice("D1", (EdgeMetric("P1"), EdgeMetric("P2")))])
        self.sent = 0

    def message(self, topic: str, payload: bytes, at_ns: int) -> Message:
        """A message as the stream has it."""
        self.sent += 1
        return Message(self.sent, at_ns, topic, payload)

    def births(self, newest: int, committed: int, at_ns: int) -> list[Message]:
        """Its births."""
        node = self.session.nbirth(newest, committed + 1, at_ns // 1_000_000)
        device = self.session.dbirth("D1", columns({0: 0.0, 1: 0.0}, NOW_MS), newest, at_ns // 1_000_000)
        return [self.message(each.topic, each.payload, at_ns) for each in (node, device)]

    def batch(self, number: int, at_ns: int) -> Message:
        """One batch, its reading of a time of its own."""
        data = self.session.ddata(
            "D1", columns({0: 1.0}, NOW_MS + number), number, at_ns // 1_000_000, historical=False
        )
        return self.message(data.topic, data.payload, at_ns)


def test_what_a_flood_loses_comes_again_and_every_role_hears_the_same() -> None:
    """Of 200 batches in a second a few are heard; the rest is counted, not acknowledged, sent again, and then whole.

    A worker that begins anew in the midst of it with its snapshot hears what the other heard.
    """
    ears, gw = Ears(limits=SLOW), Sender()
    ears.hear(gw.births(0, 0, NOW_NS))
    for number in range(1, 201):
        ears.hear([gw.batch(number, NOW_NS + number * 1_000_000)])
        if number == 100:
            ears.restart()
    assert ears.agree()
    refused = ears.quarantine.counts["too-fast"]
    ledger = ears.ledgers["site", "gw"]
    assert 180 <= refused < 200
    assert ledger.committed < 20
    # Shown once, counted always: what else was refused stays to be seen.
    kept = [row["reason"] for row in ears.quarantine._waiting]  # noqa: SLF001 -- shown nowhere else
    assert kept.count("too-fast") == 1
    at_ns = NOW_NS + 60 * NS
    ears.hear(gw.births(200, ledger.committed, at_ns))
    for number in range(ledger.committed + 1, 201):
        at_ns += NS // 8
        ears.hear([gw.batch(number, at_ns)])
    assert ledger.committed == 200
    assert ears.quarantine.counts["too-fast"] == refused
    assert ears.agree()
    point = ears.table.ids.index("P1")
    stored = np.concatenate([each.time_ns[each.point == point] for each in ears.historian._rows])  # noqa: SLF001 -- what waits for the commit
    assert set(stored.tolist()) == {(NOW_MS + number) * 1_000_000 for number in range(1, 201)}
    assert ears.live.time_ns[point] == (NOW_MS + 200) * 1_000_000


def test_a_device_s_death_is_heard_in_a_flood_and_a_flood_of_deaths_is_bounded() -> None:
    """No device stays online because its gateway sends too fast; deaths without end are refused as all else is."""
    ears, gw = Ears(limits=SLOW), Sender()
    ears.alarms._caught_up = True  # noqa: SLF001 -- what is repeated was counted before
    ears.hear(gw.births(0, 0, NOW_NS))
    ears.hear([gw.batch(number, NOW_NS + number * 1_000_000) for number in range(1, 60)])
    refused = ears.quarantine.counts["too-fast"]
    assert refused > 40
    death, at_ns = gw.session.ddeath("D1", NOW_MS), NOW_NS + 60 * 1_000_000
    ears.hear([gw.message(death.topic, death.payload, at_ns)])
    assert ears.live.gateways["site", "gw"].devices == {"D1": "offline"}
    assert ears.quarantine.counts["too-fast"] == refused
    ears.hear([gw.message(death.topic, death.payload, at_ns) for _ in range(100)])
    assert ears.quarantine.counts["too-fast"] == refused + 90
    assert ears.agree()
    # The worker of the alarms says by itself what it has not heard.
    unheard = ears.metrics.registry.get_sample_value("tocsin_alarms_unheard_total")
    assert unheard == ears.quarantine.counts["too-fast"]


def test_who_was_never_born_shares_one_allowance_and_the_plant_s_own_are_heard() -> None:
    """A flood under a thousand names is one flood; in its midst the plant's gateway loses nothing."""
    ears, gw = Ears(limits=SLOW), Sender()
    ears.alarms._caught_up = True  # noqa: SLF001 -- what is repeated was counted before
    ears.hear(gw.births(0, 0, NOW_NS))
    for number in range(1, 6):
        at_ns = NOW_NS + number * NS
        flood = [gw.message(f"spBv1.0/site/NDATA/n{number}-{name}", b"", at_ns) for name in range(200)]
        ears.hear([*flood, gw.batch(number, at_ns)])
    assert ears.ledgers["site", "gw"].committed == 5
    # No fault of the plant's: whoever is told that it is not watched would look for what is not there.
    assert ears.quarantine.counts["too-fast"] == 0
    assert ears.quarantine.counts["strangers-too-fast"] > 900
    unheard = ears.metrics.registry.get_sample_value("tocsin_alarms_unheard_total")
    assert unheard == ears.quarantine.counts["strangers-too-fast"]
    assert ears.is_bounded()


def test_a_flood_of_a_stranger_that_was_born_is_a_stranger_s_too() -> None:
    """Nobody counts on it: the plant is watched as before."""
    ears, stranger = Ears(limits=SLOW), Sender("stranger")
    ears.hear(stranger.births(0, 0, NOW_NS))
    for number in range(1, 100):
        ears.hear([stranger.batch(number, NOW_NS + number * 1_000_000)])
    assert ears.quarantine.counts["too-fast"] == 0
    assert ears.quarantine.counts["strangers-too-fast"] > 80
