"""What a gateway sends again while nobody acknowledges: a few, not the backlog, into a stream that alarms read."""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, Never, cast

import pytest

from tests.edge.rig import one_reading
from tests.support.wait import eventually_async
from tocsin_core.plant.mqtt import Mqtt
from tocsin_core.ranges import Ranges
from tocsin_core.sparkplug import Command, EdgeDevice, EdgeMetric, EdgeSession, HostSession, Message
from tocsin_edge.adapters import spool as spools
from tocsin_edge.adapters.spool import Spool
from tocsin_edge.loops import send_connection
from tocsin_edge.loops.board import Board
from tocsin_edge.loops.journal_feed import JournalFeed
from tocsin_edge.loops.keep import Kept, Sample
from tocsin_edge.loops.outstanding import Numbers, Outstanding
from tocsin_edge.loops.primary import PrimaryHost
from tocsin_edge.loops.send_connection import Connection
from tocsin_edge.loops.silence import ANSWERED_S, FEW, FIRST_S, MANY, MOST_S, Silence
from tocsin_edge.loops.spool_thread import SpoolThread
from tocsin_edge.settings import DeviceSettings, SensorDevice

if TYPE_CHECKING:
    from tocsin_edge.adapters.uplink import Uplink

NOW_MS: Final = 1_800_000_000_000
DEVICE: Final = DeviceSettings(
    EdgeDevice("D", (EdgeMetric("A"),)), Ranges.of([None]), 10**9, SensorDevice(Mqtt(topic="t"), ("A",))
)


def test_silences_grow_and_an_answer_brings_more_sooner() -> None:
    """60 s, 120 s … 600 s and a few each while nobody answers; answered, twice as many each time; then as before."""
    silence = Silence(0.0)
    now, gaps = 0.0, []
    for _ in range(7):
        begun = now
        while not (many := silence.over(9_000, now)):
            now += 1.0
        assert many == FEW
        gaps.append(now - begun - 1)
    assert gaps == [FIRST_S, 120, 240, 480, *(3 * [MOST_S])]
    counts = []
    for step in range(6):
        silence.heard(step, now)
        assert not silence.over(9_000, now + ANSWERED_S)
        now += ANSWERED_S + 1
        counts.append(silence.over(9_000, now))
    assert counts == [2 * FEW, 4 * FEW, 8 * FEW, MANY, MANY, MANY]
    silence.heard(9_000, now)
    assert not silence.over(9_500, now + FIRST_S)
    assert silence.over(9_500, now + FIRST_S + 1) == FEW


def test_a_week_without_a_host_takes_no_room() -> None:
    """What waits are runs of numbers; a number is there or not, whatever order they went out in."""
    outstanding = Outstanding(0)
    for number in (*range(101, 5_000), *range(6_000, 6_100)):
        outstanding.sent(number, historical=False)
    for number in (*range(1, 50), 60, 55, 101, 55):
        outstanding.sent(number, historical=True)
    assert (outstanding.oldest, outstanding.newest, outstanding.old) == (1, 6_099, 51)
    assert len(outstanding) == 4_899 + 100 + 51
    assert [number for number in (0, 1, 49, 50, 55, 56, 100, 101, 5_000, 6_099, 6_100) if number in outstanding] == [
        1, 49, 55, 101, 6_099,
    ]  # fmt: skip
    outstanding.settle(frozenset({1, 55, 4_000}))
    outstanding.hear(3_000, newest=6_099)
    assert outstanding.all() == {*range(3_001, 4_000), *range(4_001, 5_000), *range(6_000, 6_100)}
    week = Numbers()
    for number in range(10_000):
        week.add(number)
    assert week.runs == [range(10_000)]


class Hands:
    """A clock that is set by hand."""

    s = 0.0

    def now_ns(self) -> int:
        """The time, ns since 1970."""
        return (NOW_MS + round(self.s * 1000)) * 1_000_000

    def monotonic(self) -> float:
        """The time, s."""
        return self.s


class Ear:
    """An uplink whose other end counts how often it heard each batch, and says what it is told to."""

    def __init__(self, clock: Hands) -> None:
        """Hear nothing yet."""
        self._clock = clock
        self.host = HostSession(lambda *_: 0)
        self.words: asyncio.Queue[Command] = asyncio.Queue()
        self.batches: Counter[int] = Counter()
        self.live: list[int] = []
        self.kinds: list[str] = []
        self.well = True
        self.asked_s: list[float] = []

    async def publish(self, message: Message) -> None:
        """Hear it as a host does."""
        fed = self.host.feed(message.topic, message.payload, self._clock.now_ns())
        assert not fed.faults
        self.kinds.append(fed.kind)
        if fed.batch is not None:
            self.batches[fed.batch] += 1
            if not fed.historical:
                self.live.append(fed.batch)
        await asyncio.sleep(0)

    async def broker_has_all(self) -> None:
        """It has."""

    async def keeps(self) -> bool:
        """Whether it is well."""
        self.asked_s.append(self._clock.s)
        return self.well

    async def heard(self) -> AsyncIterator[Command]:
        """What hosts say."""
        while True:
            yield await self.words.get()


def ignore(_: bytes) -> None:
    """Take nothing else."""
    raise AssertionError("nobody says that here")


class Bench:
    """A connection over a real spool of a gateway whose host has acknowledged before."""

    def __init__(self, folder: Path) -> None:
        """Connect; nothing is kept yet."""
        self.clock = Hands()
        self.ear = Ear(self.clock)
        self.spool = Spool.open(folder / "spool.sqlite", 64, 600, NOW_MS)
        self.spool.note_acknowledging_host()
        self.thread = SpoolThread(self.spool, self.clock)
        self.session = EdgeSession("site", "gw", [DEVICE.sparkplug])
        self.ear.host.feed(*self._plain(self.session.will(1, NOW_MS)), 0)
        self.wake = asyncio.Event()
        counters = self.spool.counters()
        self.first = counters["batch_last"] + 1
        self.connection = Connection(
            cast("Uplink", self.ear),
            self.session,
            JournalFeed(self.thread),
            Board((DEVICE.sparkplug,), NOW_MS),
            self.clock,
            PrimaryHost(required=False),
            self.wake,
            counters,
        )

    @staticmethod
    def _plain(message: Message) -> tuple[str, bytes]:
        return message.topic, message.payload

    def reads(self, count: int) -> None:
        """Keep so many batches and hand them over to be sent live."""
        samples = [Sample(DEVICE, one_reading(NOW_MS + n, 1.0)) for n in range(count)]
        numbers = self.spool.append([("D", ("A",), sample.columns) for sample in samples])
        self.connection.fresh([Kept(number, sample) for number, sample in zip(numbers, samples, strict=True)])

    def heard(self, nth: int) -> int:
        """How often the host heard the `nth` batch."""
        return self.ear.batches[self.first + nth - 1]

    async def hears(self, nth: int) -> None:
        """Have the host say that it has the first `nth` batches, and the gateway take that."""
        self.ear.words.put_nowait(Command(committed=self.first + nth - 1))
        await eventually_async(lambda: self.spool.counters()["batch_committed"] == self.first + nth - 1)

    def passes(self, seconds: float) -> None:
        """Let time pass, as if nothing had come in meanwhile."""
        self.clock.s += seconds
        self.wake.set()

    async def sent(self, count: int) -> None:
        """Wait until so many data messages have gone out in all, and see that no more do."""
        await eventually_async(lambda: self.ear.batches.total() >= count, timeout_s=60)
        for _ in range(3):
            self.wake.set()
            await eventually_async(lambda: not self.wake.is_set())
            await self.thread.attempt(None, lambda: None)
        assert self.ear.batches.total() == count


def test_the_backlog_does_not_go_again_while_the_historian_is_away(tmp_path: Path) -> None:
    """Over an hour of silences a few go each time, the oldest; live ones go once; what was lost goes when asked for."""

    async def story() -> None:
        async with asyncio.TaskGroup() as tasks:
            stopping = asyncio.Event()
            running = tasks.create_task(bench.connection.run(stopping, tasks))
            hearing = tasks.create_task(bench.connection.hear(ignore, ignore, ignore))
            bench.reads(300)
            await bench.sent(300)
            total = 300
            for gap in (60, 120, 240, 480, 600, 600, 600, 600):
                bench.passes(gap + 1)
                bench.reads(1)
                total += 1 + FEW
                await bench.sent(total)
            assert len(bench.ear.live) == 308
            assert [bench.heard(nth) for nth in (1, FEW, FEW + 1, 300, 308)] == [9, 9, 1, 1, 1]
            # The host is back and goes on through the stream: nothing more is sent to it.
            for nth in (40, 200, 250):
                await bench.hears(nth)
                bench.passes(ANSWERED_S - 1)
                await bench.sent(total)
            # What it does not get from there was lost: soon, from where it stands.
            bench.passes(2)
            await bench.sent(total + 58)
            assert [bench.heard(nth) for nth in (250, 251, 308)] == [1, 2, 2]
            await bench.hears(308)
            stopping.set()
            bench.wake.set()
            await running
            hearing.cancel()

    bench = Bench(tmp_path)
    try:
        asyncio.run(story())
    finally:
        bench.thread.close()


@pytest.mark.parametrize(("writes", "again"), [(("reopen",), 3), (("commit_upto", "reopen"), 5)])
def test_a_host_that_went_back_while_the_disk_refuses_gets_what_is_kept_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: tuple[str, ...], again: int
) -> None:
    """It says so once: that is done when the disk takes it, and what the host had said before is not."""

    async def story() -> None:
        async with asyncio.TaskGroup() as tasks:
            stopping = asyncio.Event()
            running = tasks.create_task(bench.connection.run(stopping, tasks))
            hearing = tasks.create_task(bench.connection.hear(ignore, ignore, ignore))
            bench.reads(5)
            await bench.sent(5)
            refused: list[int] = []

            def refuse(number: int, *_: object) -> Never:
                refused.append(number - bench.first + 1)
                raise sqlite3.OperationalError("attempt to write a readonly database")

            with monkeypatch.context() as disk:
                for write in writes:
                    disk.setattr(bench.spool, write, refuse)
                for nth in (5, 2):
                    bench.ear.words.put_nowait(Command(committed=bench.first + nth - 1))
                    await bench.sent(5)
                await eventually_async(lambda: 2 in refused)
            bench.connection.send_again()
            await bench.sent(5 + again)
            assert [bench.heard(nth) for nth in range(1, 6)] == [1] * (5 - again) + [2] * again
            await bench.hears(5)
            stopping.set()
            bench.wake.set()
            await running
            hearing.cancel()

    bench = Bench(tmp_path)
    try:
        asyncio.run(story())
    finally:
        bench.thread.close()


def test_a_long_backlog_that_is_acknowledged_at_once_leaves_the_disk_to_others_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes many transactions, on a slow card some time: readings are kept, and nothing hangs, between them."""
    monkeypatch.setattr(spools, "TRIM_CHUNK", 1)
    bench = Bench(tmp_path)
    done: list[str] = []
    update = bench.spool._update_floor  # noqa: SLF001 - as it is

    async def story() -> None:
        loop = asyncio.get_running_loop()
        others: list[asyncio.Task[None]] = []

        def another() -> None:
            others.append(asyncio.create_task(bench.thread.call(done.append, "another's")))

        def committed() -> None:
            if not done:
                loop.call_soon_threadsafe(another)
            done.append("committed")
            update()

        async with asyncio.TaskGroup() as tasks:
            stopping = asyncio.Event()
            running = tasks.create_task(bench.connection.run(stopping, tasks))
            hearing = tasks.create_task(bench.connection.hear(ignore, ignore, ignore))
            bench.reads(5)
            await bench.sent(5)
            monkeypatch.setattr(bench.spool, "_update_floor", committed)
            await bench.hears(5)
            await asyncio.gather(*others)
            assert done[0] == "committed"
            assert sorted(done) == ["another's", *(["committed"] * 5)]
            assert done[-1] == "committed"
            stopping.set()
            bench.wake.set()
            await running
            hearing.cancel()

    try:
        asyncio.run(story())
    finally:
        bench.thread.close()


def test_what_no_disk_takes_waits_for_its_host_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A card that died while the primary host is away, or a link that takes little: the newest are sent, no more."""
    monkeypatch.setattr(send_connection, "LIVE_QUEUE", 3)
    monkeypatch.setattr(send_connection, "MOST_WAITING", 5)
    bench = Bench(tmp_path)
    numbers = range(bench.first, bench.first + 9)

    async def story() -> None:
        for number in numbers:
            sample = Sample(DEVICE, one_reading(NOW_MS, 1.0))
            bench.connection.fresh([Kept(number, sample, on_disk=False)])
        async with asyncio.TaskGroup() as tasks:
            stopping = asyncio.Event()
            running = tasks.create_task(bench.connection.run(stopping, tasks))
            await bench.sent(5)
            stopping.set()
            bench.wake.set()
            await running

    try:
        asyncio.run(story())
        assert bench.ear.live == [*numbers[-5:]]
    finally:
        bench.thread.close()


def test_a_change_of_the_plant_in_the_midst_of_a_birth_costs_the_newest_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waited for that birth goes back to where it was, unless that is full: then it is the oldest."""
    monkeypatch.setattr(send_connection, "MOST_WAITING", 5)
    bench = Bench(tmp_path)
    numbers = range(bench.first, bench.first + 6)
    say = bench.ear.publish

    def read(some: range) -> None:
        for number in some:
            bench.connection.fresh([Kept(number, Sample(DEVICE, one_reading(NOW_MS, 1.0)), on_disk=False)])

    async def publish(message: Message) -> None:
        await say(message)
        if bench.ear.kinds == ["NBIRTH", "DBIRTH"]:
            bench.connection.adopt(bench.session)
            read(numbers[1:])

    monkeypatch.setattr(bench.ear, "publish", publish)

    async def story() -> None:
        read(numbers[:1])
        async with asyncio.TaskGroup() as tasks:
            stopping = asyncio.Event()
            running = tasks.create_task(bench.connection.run(stopping, tasks))
            await bench.sent(5)
            stopping.set()
            bench.wake.set()
            await running

    try:
        asyncio.run(story())
        assert bench.ear.live == [*numbers[1:]]
    finally:
        bench.thread.close()
