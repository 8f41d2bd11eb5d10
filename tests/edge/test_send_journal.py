"""The journal on a connection: in order, again until it is acknowledged, and with every gap told."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import pytest

from tests.support.wait import eventually_async
from tocsin_core.sparkplug import EdgeDevice, EdgeMetric, EdgeSession, HostSession, Message
from tocsin_core.sparkplug.edge import JournalNumbers
from tocsin_edge.adapters.spool import NUMBERS_LEFT_OUT, Spool
from tocsin_edge.loops import journal_feed, spool_thread
from tocsin_edge.loops.journal_feed import JournalFeed
from tocsin_edge.loops.send_journal import MOST_BYTES, RESEND_FIRST_S, RESEND_MOST_S, JournalSender
from tocsin_edge.loops.spool_thread import DiskHangsError, SpoolThread

if TYPE_CHECKING:
    from tocsin_edge.adapters.uplink import Uplink

NOW_MS: Final = 1_800_000_000_000
RULES: Final = b"of alarm"
DEVICES: Final = [EdgeDevice("D", (EdgeMetric("A"),))]

Heard = tuple[int, list[bytes], int | None]
"""First number, bodies, and the oldest number that can still come where it is told, of one message."""


class Hands:
    """A clock that is set by hand."""

    s = 0.0

    def now_ns(self) -> int:
        """The time, ns since 1970."""
        return NOW_MS * 1_000_000

    def monotonic(self) -> float:
        """The time, s."""
        return self.s


class Ear:
    """Stands for the uplink: what is published is understood as a host understands it."""

    def __init__(self, session: EdgeSession) -> None:
        """Hear the birth."""
        self._host = HostSession(lambda *_: 0)
        self._session = session
        self._host.feed(*self._plain(session.will(0, NOW_MS)), 0)
        self._host.feed(*self._plain(session.nbirth(0, 1, NOW_MS, None, JournalNumbers(0, 1, RULES))), 0)
        self.heard: list[Heard] = []

    async def publish(self, message: Message) -> None:
        """Take a message."""
        fed = self._host.feed(*self._plain(message), 0)
        assert fed.faults == ()
        assert fed.journal is not None
        assert fed.journal.first is not None
        self.heard.append((fed.journal.first, list(fed.journal.entries), fed.journal.oldest))

    def taken(self) -> list[Heard]:
        """What was heard since the last time."""
        heard, self.heard = self.heard, []
        return heard

    @staticmethod
    def _plain(message: Message) -> tuple[str, bytes]:
        return message.topic, message.payload


class Bench:
    """A journal sender over a real spool."""

    def __init__(self, folder: Path) -> None:
        """Begin with an empty spool; numbers are told from `first` on."""
        self.clock = Hands()
        self.path = folder / "spool.sqlite"
        self.spool = Spool.open(self.path, 64, 600, NOW_MS)
        self.thread = SpoolThread(self.spool, self.clock)
        self.feed = JournalFeed(self.thread)
        self.first = self.feed.newest + 1
        self.session = EdgeSession("site", "gw", DEVICES)
        self.ear = Ear(self.session)
        self.sender = self.connected()

    def connected(self) -> JournalSender:
        """A new connection's."""
        return JournalSender(cast("Uplink", self.ear), self.feed, self.clock)

    def kept(self, *bodies: bytes) -> None:
        """Entries that are on disk."""
        entries = [(NOW_MS, body) for body in bodies]
        self.feed.kept(self.spool.journal.append(entries), entries)

    async def sent(self) -> list[Heard]:
        """What goes out now, numbers counted from the first."""
        await self.sender.send(self.session)
        return [
            (first - self.first, bodies, None if oldest is None else oldest - self.first)
            for first, bodies, oldest in self.ear.taken()
        ]

    def waits(self) -> bool:
        """Whether anything waits to be sent or acknowledged."""
        return self.sender.unsettled

    async def hears(self, number: int) -> None:
        """Take the host's word for everything up to this number, counted from the first."""
        await self.sender.heed(self.first + number)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Give one, and close it."""
    made = Bench(tmp_path)
    yield made
    made.thread.close()


def play(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a story."""
    asyncio.run(story())


def test_entries_go_out_once_in_order_and_the_new_after_them(bench: Bench) -> None:
    """One message for numbers without a gap; what is acknowledged is committed in the spool."""

    async def story() -> None:
        assert await bench.sent() == []
        bench.kept(b"a", b"b")
        assert await bench.sent() == [(0, [b"a", b"b"], None)]
        assert await bench.sent() == []
        await bench.hears(1)
        assert not bench.waits()
        bench.kept(b"c")
        assert bench.waits()
        assert await bench.sent() == [(2, [b"c"], 2)]
        assert bench.spool.counters()["journal_committed"] == bench.first + 1

    play(story)


def test_what_nobody_acknowledges_goes_out_again(bench: Bench) -> None:
    """After a while on one connection, at once on the next and after a birth."""

    async def story() -> None:
        bench.kept(b"a", b"b")
        await bench.sent()
        await bench.hears(0)
        bench.clock.s += RESEND_FIRST_S - 1
        assert await bench.sent() == []
        # That more is told meanwhile is no reason to wait longer.
        bench.kept(b"c")
        assert await bench.sent() == [(2, [b"c"], 1)]
        bench.clock.s += 2
        assert await bench.sent() == [(1, [b"b", b"c"], 1)]
        await bench.hears(2)
        bench.kept(b"d")
        assert await bench.sent() == [(3, [b"d"], 3)]
        bench.sender = bench.connected()
        assert await bench.sent() == [(3, [b"d"], None)]
        bench.feed.decides = RULES
        assert await bench.sender.reborn() == JournalNumbers(bench.first + 3, bench.first + 3, RULES)
        assert await bench.sent() == [(3, [b"d"], None)]

    play(story)


def test_to_a_host_that_takes_its_time_it_does_not_go_out_twice(bench: Bench) -> None:
    """Ever more rarely while nobody answers; once it is known how long the host takes, no more than once."""

    async def story() -> None:
        async def messages(seconds: int) -> int:
            found = 0
            for _ in range(seconds):
                bench.clock.s += 1
                found += len(await bench.sent())
            return found

        bench.kept(b"a")
        await bench.sent()
        assert await messages(60) == 5
        await bench.hears(0)
        for entry in range(1, 6):
            bench.kept(b"slow")
            await bench.sent()
            assert await messages(6) == 0
            await bench.hears(entry)
        for entry in range(6, 9):
            bench.kept(b"quick")
            await bench.sent()
            await bench.hears(entry)
        bench.kept(b"lost")
        await bench.sent()
        assert await messages(int(RESEND_FIRST_S) + 1) == 1

    play(story)


def test_a_gap_is_told_once_all_before_it_is_committed(bench: Bench) -> None:
    """Numbers that were left out never come: until the host knows that, it waits for them."""

    async def story() -> None:
        bench.kept(b"a")
        bench.feed.leave_out(NOW_MS)
        assert bench.feed.hold([(NOW_MS, b"b")]) == [bench.first + NUMBERS_LEFT_OUT + 1]
        far = NUMBERS_LEFT_OUT + 1
        assert await bench.sent() == [(0, [b"a"], None), (far, [b"b"], None)]
        await bench.hears(0)
        assert await bench.sent() == [(far, [b"b"], far)]
        await bench.hears(far)
        assert await bench.sent() == []
        assert not bench.waits()
        assert bench.feed.held == 1
        await bench.feed.put_back()
        assert bench.feed.held == 0
        assert [entry.number - bench.first for entry in bench.spool.journal.since(0)] == [0, far]

    play(story)


@pytest.mark.parametrize("most_here", [9, 1])
def test_while_the_disk_hangs_what_it_holds_goes_up_from_memory(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, most_here: int
) -> None:
    """The host is told that nothing comes between that and what the disk did not take, where all of it is here."""
    monkeypatch.setattr(journal_feed, "MOST_HERE", most_here)
    answers = threading.Event()
    whole = most_here > 1

    async def story() -> None:
        bench.kept(b"a")
        await bench.sent()
        await bench.hears(0)
        bench.kept(b"b", b"c")
        with monkeypatch.context() as impatient:
            impatient.setattr(spool_thread, "DISK_PATIENCE_S", 0.05)
            with pytest.raises(DiskHangsError):
                await bench.thread.call(answers.wait, 60)
        bench.feed.leave_out(NOW_MS)
        bench.feed.hold([(NOW_MS, b"d")])
        far = NUMBERS_LEFT_OUT + 3
        here, gap = [(1, [b"b", b"c"], 1), (far, [b"d"], 1)], [(far, [b"d"], far)]
        assert await bench.sent() == (here if whole else here[1:])
        if whole:
            await bench.hears(2)
            assert await bench.sent() == gap
            await bench.hears(far)
            assert not bench.waits()
        answers.set()
        await eventually_async(lambda: not bench.thread.stuck)
        bench.thread.go_on()
        await bench.feed.put_back()
        assert bench.feed.held == 0
        assert [entry.number - bench.first for entry in bench.spool.journal.since(0)] == [0, 1, 2, far]
        bench.clock.s += RESEND_MOST_S + 1
        assert await bench.sent() == ([] if whole else here)

    try:
        play(story)
    finally:
        answers.set()


def test_what_was_written_after_it_was_given_up_goes_up_once(bench: Bench) -> None:
    """The disk may show it before it is taken back, or fail at that: it goes up under the number from memory alone."""

    async def story() -> None:
        bench.kept(b"a")
        bench.spool.journal.append([(NOW_MS, b"b")])
        bench.feed.leave_out(NOW_MS)
        bench.feed.hold([(NOW_MS, b"b")])
        far = NUMBERS_LEFT_OUT + 1
        assert await bench.sent() == [(0, [b"a"], None), (far, [b"b"], None)]
        await bench.hears(0)
        assert await bench.sent() == [(far, [b"b"], far)]
        assert bench.feed.committed == bench.first + far - 1

    play(story)


def test_numbers_left_out_after_the_last_entry_are_nobodys_concern(bench: Bench) -> None:
    """Nothing waits then, nothing is sent again for ever, and a host that knows only the last entry did not go back."""

    async def story() -> None:
        bench.kept(b"a")
        await bench.sent()
        await bench.hears(0)
        bench.feed.leave_out(NOW_MS)
        assert await bench.sent() == []
        assert not bench.waits()
        await bench.hears(0)
        bench.clock.s += 2 * RESEND_MOST_S
        assert await bench.sent() == []
        assert not bench.waits()

    play(story)


def test_a_host_that_went_back_gets_what_is_still_kept(bench: Bench) -> None:
    """Restored from an older state; one that names what was never sent is not heeded."""

    async def story() -> None:
        bench.kept(b"a", b"b", b"c")
        await bench.sent()
        await bench.hears(9)
        assert bench.waits()
        await bench.hears(2)
        assert not bench.waits()
        await bench.hears(0)
        assert await bench.sent() == [(1, [b"b", b"c"], 1)]

    play(story)


def test_nothing_is_given_up_before_the_host_has_said_what_it_has(bench: Bench) -> None:
    """On a new connection: a restored host first hears only of new entries, and asks for those that it lacks."""

    async def story() -> None:
        bench.kept(b"a", b"b", b"c")
        await bench.sent()
        await bench.hears(2)
        bench.sender = bench.connected()
        bench.kept(b"d")
        assert await bench.sent() == [(3, [b"d"], None)]
        await bench.hears(0)
        assert await bench.sent() == [(1, [b"b", b"c", b"d"], 1)]

    play(story)


def test_a_host_that_was_never_told_of_a_gap_is_told_at_its_first_word(bench: Bench) -> None:
    """It has all before the numbers that were left out: what comes after them it must not wait for."""

    async def story() -> None:
        bench.kept(b"a")
        await bench.sent()
        await bench.hears(0)
        bench.sender = bench.connected()
        bench.feed.leave_out(NOW_MS)
        bench.feed.hold([(NOW_MS, b"b")])
        far = NUMBERS_LEFT_OUT + 1
        assert await bench.sent() == [(far, [b"b"], None)]
        await bench.hears(0)
        assert await bench.sent() == [(far, [b"b"], far)]
        await bench.hears(0)
        assert await bench.sent() == []
        # Nor is there anything for one that went back to before all that is kept.
        bench.spool.journal.forget(NOW_MS + 1, bench.first + far)
        bench.sender = bench.connected()
        assert await bench.sent() == [(far, [b"b"], None)]
        await bench.hears(-5)
        assert await bench.sent() == [(far, [b"b"], far)]

    play(story)


def test_a_damaged_entry_takes_no_other_with_it(bench: Bench) -> None:
    """The first that waits: a host that heard that none below some number comes any more leaves those that do."""

    async def story() -> None:
        bench.kept(b"a", b"b", b"c")
        await bench.sent()
        await bench.hears(0)
        bench.sender = bench.connected()
        bench.feed.decides = RULES
        with closing(sqlite3.connect(bench.path)) as other, other:
            other.execute("UPDATE journal SET time_ms = time_ms + 1 WHERE number = ?", (bench.first + 1,))
        assert await bench.sender.reborn() == JournalNumbers(bench.first + 2, bench.first + 2, RULES)
        assert await bench.sent() == [(2, [b"c"], None)]
        await bench.hears(0)
        assert await bench.sent() == [(2, [b"c"], 2)]
        await bench.hears(2)
        assert not bench.waits()

    play(story)


def test_where_no_host_acknowledges_the_brokers_word_counts(bench: Bench) -> None:
    """What was sent is settled; what came since is not."""

    async def story() -> None:
        bench.kept(b"a")
        await bench.sent()
        bench.kept(b"b")
        await bench.sender.settle()
        assert bench.waits()
        assert await bench.sent() == [(1, [b"b"], None)]

    play(story)


def test_a_flood_goes_out_in_messages_that_a_narrow_link_carries(bench: Bench) -> None:
    """In order and without a gap, each no larger than it may be, unless it is a single entry."""
    bodies = [bytes([place]) * 400 for place in range(150)]
    bodies[70] = bytes(2 * MOST_BYTES)

    async def story() -> None:
        bench.kept(*bodies)
        heard = await bench.sent()
        parts = [part for _, part, _ in heard]
        assert [body for part in parts for body in part] == bodies
        assert [first for first, _, _ in heard] == [sum(map(len, parts[:place])) for place in range(len(parts))]
        assert [part for part in parts if sum(map(len, part)) > MOST_BYTES] == [[bodies[70]]]
        assert len(parts) == 3

    play(story)
