"""What a history on a server does when the server is away, dies, forgets, or is not set up as it has to be."""

import asyncio
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from structlog.testing import capture_logs

from tests.contract.history_stores import FLAGS, Store, Victoria, victoria
from tests.support.wait import eventually_async
from tocsin_cloud.adapters.history import History, HistoryError
from tocsin_core.clock import SystemClock
from tocsin_core.readings import BAD_COMM_FAILURE, BAD_SENSOR_FAILURE, GOOD, Frame

S: Final = 1_000_000_000
HOUR: Final = 3600 * S
T0: Final = 472_222 * HOUR


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
        assert await seen(history, server) == [], "the test needs a server that loses what it did not flush"
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
    """It takes readings from beyond its retention, or days ahead, without a word; the history says so."""
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
