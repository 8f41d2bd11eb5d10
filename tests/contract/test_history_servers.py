"""What a history on a server does when the server is away, dies, forgets, or is not set up as it has to be."""

import asyncio
import math
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from structlog.testing import capture_logs

from tests.contract.history_stores import FLAGS, Store, Victoria, roll_up, victoria
from tests.support.wait import eventually_async
from tocsin_cloud.adapters.history import History, HistoryError
from tocsin_cloud.adapters.metrics import Metrics
from tocsin_cloud.loops.historian import tend
from tocsin_core.clock import SystemClock
from tocsin_core.readings import BAD_COMM_FAILURE, BAD_SENSOR_FAILURE, GOOD, Frame

S: Final = 1_000_000_000
HOUR: Final = 3600 * S
T0: Final = 472_222 * HOUR
# All that is kept of the readings themselves.
RAW: Final = ("tocsin_value", "tocsin_bad_value", "tocsin_quality")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Victoria]:
    """Run a VictoriaMetrics that the test may end."""
    with victoria(tmp_path / "victoria") as running:
        yield running


@pytest.fixture
def store(server: Victoria, tmp_path: Path) -> Store:
    """The history on it."""
    return Store(server.address, tmp_path, server.show)


def readings(history: History, first: int, number: int = 10) -> Frame:
    """Readings of one point, one a second, that tell their number."""
    rows = range(first, first + number)
    return Frame.of([history.key("A")] * number, [T0 + n * S for n in rows], list(rows), [GOOD] * number)


async def seen(history: History, server: Victoria) -> list[float]:
    """The values that the server shows of the point."""
    server.show()
    values: list[float] = (await history.read("A", T0, T0 + HOUR, None, 10_000)).mean.tolist()
    return values


def test_a_server_that_is_killed_gets_again_what_it_lost(store: Store, server: Victoria) -> None:
    """Commits that were not durable are written to the server that comes back, before any is called durable."""

    async def story(history: History) -> None:
        await history.commit(readings(history, 0), {"rows": b"10"})
        await history.commit(readings(history, 10), {"rows": b"20"})
        server.end()
        server.start()
        # Every few seconds it flushes what it has by then.
        assert len(await seen(history, server)) < 20, "the test needs a server that loses what it did not flush"
        await history.commit(readings(history, 20), {"rows": b"30"})
        store.clock.ahead_s += 60
        assert await history.durable() == 0
        assert await seen(history, server) == list(range(30))
        store.clock.ahead_s += 60
        assert await history.durable() == 3

    async def look(history: History) -> None:
        assert dict(history.state) == {"rows": b"30"}

    store.tell(story, look)


def test_what_is_durable_outlives_kill_9_of_the_server(store: Store, server: Victoria) -> None:
    """A server that is really killed as soon as commits count as durable has them all, in series that it never had."""

    async def story(history: History) -> None:
        await history.commit(readings(history, 0, 1000), {})
        await history.commit(readings(history, 1000, 1000), {})

        async def both() -> bool:
            return await history.durable() == 2

        await eventually_async(both, 60)
        server.end()
        server.start()
        assert await seen(history, server) == list(range(2000))

    store.tell(story)


def test_a_state_is_never_ahead_of_durable_readings(store: Store) -> None:
    """Closed before its readings are durable, the history opens with the state before them."""

    async def write(history: History) -> None:
        await history.commit(readings(history, 0), {"rows": b"10"})
        store.clock.ahead_s += 60
        assert await history.durable() == 1
        await history.commit(readings(history, 10), {"rows": b"20"})
        assert await history.durable() == 1

    async def look(history: History) -> None:
        assert dict(history.state) == {"rows": b"10"}

    store.tell(write, look)


def test_an_outage_is_an_error_of_the_port_and_ends(store: Store, server: Victoria) -> None:
    """While the server is away nothing is taken or read, and opening still works, so that all else can go on."""
    server.end()

    async def story(history: History) -> None:
        with pytest.raises(HistoryError):
            await history.commit(readings(history, 0), {"rows": b"10"})
        with pytest.raises(HistoryError):
            await history.read("A", T0, T0 + HOUR, None, 10)
        with pytest.raises(HistoryError):
            await history.retain(T0)
        assert dict(history.state) == {}
        server.start()
        await history.commit(readings(history, 0), {"rows": b"10"})
        assert await seen(history, server) == list(range(10))
        server.end()
        store.clock.ahead_s += 60
        with pytest.raises(HistoryError):
            await history.durable()

    store.tell(story)


@pytest.mark.parametrize("flags", [FLAGS[:1], (*FLAGS[:1], "-dedup.minScrapeInterval=30s")], ids=["none", "too-long"])
def test_a_server_that_would_count_twice_is_refused(tmp_path: Path, flags: tuple[str, ...]) -> None:
    """Without the deduplication of equal time stamps, or with one that thins readings out, nothing is opened."""
    with victoria(tmp_path / "victoria", *flags) as server:
        store = Store(server.address, tmp_path)
        with pytest.raises(HistoryError, match=r"-dedup\.minScrapeInterval=1ms"):
            asyncio.run(store.open())


def test_what_the_server_drops_is_told(tmp_path: Path) -> None:
    """It takes readings from beyond its retention, or days ahead, without a word; the history says and counts so."""
    with victoria(tmp_path / "victoria", FLAGS[1], "-retentionPeriod=2w") as server:
        store = Store(server.address, tmp_path, server.show)
        now = SystemClock().now_ns()

        async def story(history: History) -> None:
            with capture_logs() as logs:
                times = [now - 1000 * HOUR, now + 1000 * HOUR, now - HOUR]
                await history.commit(Frame.of([history.key("A")] * 3, times, [1.0, 2.0, 3.0], [GOOD] * 3), {})
                # It brings its own figures up to date once a second.
                dropped = 'vm_rows_ignored_total{reason="big_timestamp"} 2'
                await eventually_async(lambda: dropped in server.get("/metrics"))
                store.clock.ahead_s += 60
                assert await history.durable() == 1
            assert [entry["event"] for entry in logs] == ["VictoriaMetrics dropped readings"]
            assert history.dropped >= 2
            metrics = Metrics()
            tending = asyncio.create_task(tend(history, metrics))
            figure = metrics.registry.get_sample_value
            await eventually_async(lambda: figure("tocsin_history_dropped_values_total") == history.dropped)
            tending.cancel()
            with capture_logs() as logs:
                await history.retain(now - 13 * 24 * HOUR)
                assert logs == []
                await history.retain(now - 15 * 24 * HOUR)
            assert [entry["flag"] for entry in logs] == ["-retentionPeriod=2w"]

        store.tell(story)


def test_bad_values_are_in_no_series_of_values(store: Store, server: Victoria) -> None:
    """Whoever asks the server itself, a dashboard say, cannot mistake a bad value, or none, for a reading."""

    async def story(history: History) -> None:
        key = history.key("A")
        values, qualities = [0.0, math.nan], [BAD_SENSOR_FAILURE, BAD_COMM_FAILURE]
        await history.commit(Frame.of([key, key], [T0, T0 + S], values, qualities), {})
        server.show()
        assert {series["__name__"] for series in server.series()} == {"tocsin_bad_value", "tocsin_quality"}

    store.tell(story)


def lose(server: Victoria, *series: str) -> None:
    """Delete series on the server, so that only what does not need them is still read."""
    for name in series:
        server.get(f"/api/v1/admin/tsdb/delete_series?match[]={name}")


async def durable(history: History, store: Store) -> None:
    """Have the one commit count as durable, also on a server that was started since."""
    for _ in range(2):
        store.clock.ahead_s += 60
        await history.durable()
    assert await history.durable() == 1


def readings_only(server: Victoria) -> bool:
    """Whether it shows readings, and no roll-ups."""
    return {series["__name__"] for series in server.series()} == {"tocsin_value", "tocsin_quality"}


async def by_hour(history: History, server: Victoria) -> list[float]:
    """The means of the point's first ten hours, those that have one."""
    server.show()
    means: list[float] = (await history.read("A", T0, T0 + 10 * HOUR, HOUR, 10)).mean.tolist()
    return means


def hours(history: History, *readings: tuple[int, float]) -> Frame:
    """Readings (minute, value) of one point."""
    minutes, values = zip(*readings, strict=True)
    times, number = [T0 + minute * HOUR // 60 for minute in minutes], len(minutes)
    return Frame.of([history.key("A")] * number, times, values, [GOOD] * number)


def test_long_trends_are_read_of_roll_ups_and_what_is_due_of_readings(
    store: Store, server: Victoria, tmp_path: Path
) -> None:
    """After a roll-up the readings are not looked at; hours of late readings are, until they are rolled up again."""
    copied = tmp_path / "copied"
    copied.mkdir()

    async def rolled(history: History) -> None:
        await history.commit(hours(history, (0, 1.0), (1, 3.0), (60, 5.0), (120, 7.0), (190, 9.0)), {})
        assert await by_hour(history, server) == [2.0, 5.0, 7.0, 9.0]
        await roll_up(history, store)
        lose(server, *RAW)
        assert await seen(history, server) == []
        assert await by_hour(history, server) == [2.0, 5.0, 7.0, 9.0]
        whole = await history.read("A", T0, T0 + 10 * HOUR, 10 * HOUR, 10)
        assert (whole.mean.tolist(), whole.low.tolist(), whole.high.tolist()) == ([5.0], [1.0], [9.0])
        # Half an hour is no whole one: what of it has been is not known but of readings.
        broken = await history.read("A", T0, T0 + HOUR + HOUR // 2, HOUR, 10)
        assert broken.mean.tolist() == [2.0]

    async def late(history: History) -> None:
        assert await by_hour(history, server) == [2.0, 5.0, 7.0, 9.0]
        await history.commit(hours(history, (70, 6.0)), {})
        await history.commit(hours(history, (130, 8.0)), {})
        assert await by_hour(history, server) == [2.0, 6.0, 8.0, 9.0], (
            "hours of late readings were not read of readings"
        )

    async def again(history: History) -> None:
        assert await by_hour(history, server) == [2.0, 6.0, 8.0, 9.0]
        await roll_up(history, store)
        lose(server, *RAW)
        assert await by_hour(history, server) == [2.0, 6.0, 8.0, 9.0]
        await history.copy(copied)

    async def elsewhere(history: History) -> None:
        assert await by_hour(history, server) == [], "a copy's roll-ups are of another moment than its readings"

    store.tell(rolled, late, again)
    store.folder = copied
    store.tell(elsewhere)


def test_readings_that_a_state_file_was_never_told_of_are_rolled_up_once_somebody_reads_them(
    store: Store, server: Victoria, tmp_path: Path
) -> None:
    """After the state file was lost, which had them: at once, though all else has been rolled up and it rests."""
    lost = tmp_path / "lost"
    lost.mkdir()

    async def before(history: History) -> None:
        await history.commit(hours(history, (0, 1.0), (1, 3.0), (60, 5.0)), {})
        await durable(history, store)

    async def after(history: History) -> None:
        await history.commit(hours(history, (180, 9.0)), {})
        await roll_up(history, store)
        assert await by_hour(history, server) == [2.0, 5.0, 9.0]
        # Taken, made, and done when that is durable.
        for _ in range(2):
            await history.durable()
            assert await history.tend()
            store.clock.ahead_s += 60
        assert await history.tend() == 0
        lose(server, *RAW)
        assert await by_hour(history, server) == [2.0, 5.0, 9.0]

    store.tell(before)
    store.folder = lost
    store.tell(after)


def test_hours_that_another_historian_stored_readings_of_are_rolled_up_anew(
    store: Store, server: Victoria, tmp_path: Path
) -> None:
    """It has a state file of its own, and the one that comes back was not told: also where it is killed just then."""
    own, others = store.folder, tmp_path / "others"
    others.mkdir()

    async def rolled(history: History) -> None:
        await history.commit(hours(history, (0, 1.0), (60, 5.0), (120, 7.0)), {})
        await roll_up(history, store)
        assert await by_hour(history, server) == [1.0, 5.0, 7.0]

    async def other(history: History) -> None:
        await history.commit(hours(history, (1, 3.0), (70, 7.0)), {})
        await durable(history, store)

    async def back(history: History) -> None:
        history.overtaken()
        assert await by_hour(history, server) == [2.0, 6.0, 7.0]
        await history.commit(Frame.empty(), {})

    async def again(history: History) -> None:
        assert await by_hour(history, server) == [2.0, 6.0, 7.0]
        await roll_up(history, store)
        lose(server, *RAW)
        assert await by_hour(history, server) == [2.0, 6.0, 7.0]

    store.tell(rolled)
    store.folder = others
    store.tell(other)
    store.folder = own
    store.tell(back, again)


def test_roll_ups_of_many_points_are_each_points_own(store: Store, server: Victoria) -> None:
    """Asked for together, whatever they are called, and more of them than one query may name."""
    names = ["a b,c=d", 'q"uote', "back\\slash\\", "line\nbreak", "氨 储罐", "100%", "${x}", "#", "a|b", "a.*", "{}"]
    names += [f"P-{number}-{'.' * 60}" for number in range(150)]

    async def story(history: History) -> None:
        keys, number = [history.key(name) for name in names], len(names)
        hour = SystemClock().now_ns() // HOUR * HOUR - 3 * HOUR
        await history.commit(Frame.of(keys, [hour] * number, list(range(number)), [GOOD] * number), {})
        await roll_up(history, store)
        lose(server, *RAW)
        server.show()
        for value, name in enumerate(names):
            assert (await history.read(name, hour, hour + HOUR, HOUR, 10)).mean.tolist() == [value], name

    store.tell(story)


def test_readings_that_come_while_their_hour_is_rolled_up_are_not_lost_on_it(store: Store, server: Victoria) -> None:
    """Committed between any two steps of a roll-up, they are in every trend."""

    async def story(history: History) -> None:
        await history.commit(hours(history, (0, 0.0)), {})
        store.clock.ahead_s += 60
        await history.durable()
        # Work is taken in the midst of a commit, and waits until what that commits is durable too.
        committing = asyncio.create_task(history.commit(hours(history, (0, 0.0)), {}))
        await asyncio.sleep(0)
        assert await history.tend()
        await committing
        assert await history.tend()
        server.show()
        assert readings_only(server)
        for step in range(1, 5):
            await history.commit(hours(history, (step, float(step))), {})
            assert await by_hour(history, server) == [step / 2]
            store.clock.ahead_s += 60
            await history.durable()
            assert await history.tend(), "what came meanwhile is due"
            assert await by_hour(history, server) == [step / 2]
        await roll_up(history, store)
        assert not readings_only(server)
        lose(server, *RAW)
        assert await by_hour(history, server) == [2.0]

    store.tell(story)


def test_roll_ups_that_a_killed_server_lost_are_made_again(store: Store, server: Victoria) -> None:
    """Written and not durable when the server was killed, they count for nothing; so it is when the writer ends."""

    async def written(history: History) -> None:
        await history.commit(hours(history, (0, 1.0), (60, 5.0)), {})
        server.show()
        for _ in range(3):
            assert await history.tend()
        assert readings_only(server), "rolled up before the readings are durable"
        # In order, so that it has the readings on disk.
        server.end(signal.SIGTERM)
        server.start()
        await durable(history, store)
        assert await history.tend()
        assert await history.tend()

    async def lost(history: History) -> None:
        assert await by_hour(history, server) == [1.0, 5.0]
        assert await history.tend()
        assert await history.tend()
        server.end()
        server.start()
        assert readings_only(server)
        store.clock.ahead_s += 60
        assert await history.tend()
        assert await by_hour(history, server) == [1.0, 5.0]
        await roll_up(history, store)
        lose(server, *RAW)
        assert await by_hour(history, server) == [1.0, 5.0]

    store.tell(written, lost)
