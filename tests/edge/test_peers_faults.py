"""Faults of other gateways that no other test here holds; docs/peers-faults.md has the whole list."""

import asyncio
import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
import pytest

from tests.edge.rig import NEW_MS, Host, Link, Slave, modbus_device, nth, one_reading, plant
from tests.edge.send_rig import DeafLink, SlowLink, gateway_here
from tests.support.nats import Broker, nats_broker
from tests.support.wait import eventually_async
from tocsin_core.clock import SystemClock
from tocsin_core.readings import BAD_COMM_FAILURE, GOOD
from tocsin_core.sparkplug.edge import Columns
from tocsin_edge.adapters import uplink
from tocsin_edge.adapters.metrics import ask
from tocsin_edge.adapters.spool import Part, Spool
from tocsin_edge.loops import send_connection, silence
from tocsin_edge.settings import EdgeSettings

NS_PER_MS = 1_000_000


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """Give a running nats-server."""
    with nats_broker(tmp_path) as running:
        yield running


def counters(settings: EdgeSettings) -> dict[str, int]:
    """Read the spool's counters beside the gateway; all are 0 before it is there."""
    if not settings.spool.exists():
        return Counter()
    with closing(sqlite3.connect(f"file:{settings.spool}?mode=ro", uri=True, timeout=10)) as database:
        return dict(database.execute("SELECT name, value FROM counters"))


def whole(host: Host) -> bool:
    """Whether the host has every batch from the first to the newest that it heard of."""
    return bool(host.batches) and host.batches >= set(range(host.first, max(host.batches) + 1))


def test_a_unit_that_died_behind_one_address_lives_behind_another(broker: Broker, tmp_path: Path) -> None:
    """Unit 1 of one converter is dead; unit 1 of another keeps each of its periods."""

    async def story() -> None:
        async with (
            Slave({1: 1.5}, silent={1}).serve() as dead,
            Slave({1: 2.5}).serve() as live,
            Host(broker.mqtt).listen() as host,
        ):
            plant(tmp_path / "plant", 1, {"D": modbus_device("D", dead.port), "L": modbus_device("L", live.port)})
            async with gateway_here(tmp_path / "plant", tmp_path / "data", broker.mqtt):
                await eventually_async(lambda: len(host.of("D")) > 2)
                first = len(host.of("L"))
                await eventually_async(lambda: len(host.of("L")) > first + 10)
        assert {quality for _, _, quality in host.of("D")} == {BAD_COMM_FAILURE}
        assert {(value, quality) for _, value, quality in host.of("L")} == {(2.5, GOOD)}
        times = [time_ns // NS_PER_MS for time_ns, _, _ in host.of("L")]
        assert 150 < median(later - earlier for earlier, later in pairwise(times)) < 250

    asyncio.run(story())


def test_a_half_open_link_loses_nothing(broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What went into a connection that stands and carries nothing comes again by the next one."""
    monkeypatch.setattr(uplink, "KEEPALIVE_S", 2)

    async def story() -> None:
        async with (
            Slave({1: 1.5}).serve() as slave,
            Host(broker.mqtt).listen() as host,
            DeafLink(broker.mqtt).open() as link,
        ):
            plant(tmp_path / "plant", 1, {"A": modbus_device("A", slave.port)})
            async with gateway_here(tmp_path / "plant", tmp_path / "data", link.port) as settings:
                await eventually_async(lambda: len(host.batches) > 3)
                link.turn_deaf()
                swallowed = counters(settings)["batch_last"] + 3
                await eventually_async(lambda: max(host.batches) > swallowed)
                await eventually_async(lambda: whole(host))
                assert any(fed.historical for fed in host.fed)
                assert host.kinds().count("NBIRTH") == 2

    asyncio.run(story())


def test_what_nobody_acknowledges_is_never_given_up(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that heard and does not answer gets it again and again on the same connection, until it does."""
    monkeypatch.setattr(silence, "FIRST_S", 0.2)
    monkeypatch.setattr(silence, "MOST_S", 0.2)

    async def story() -> None:
        async with Slave({1: 1.5}).serve() as slave, Host(broker.mqtt).listen() as host:
            plant(tmp_path / "plant", 1, {"A": modbus_device("A", slave.port, period_ms=100)})
            async with gateway_here(tmp_path / "plant", tmp_path / "data", broker.mqtt) as settings:
                await eventually_async(lambda: len(host.batches) > 1)
                await eventually_async(lambda: counters(settings)["batch_committed"] > host.first)
                host.commits = False
                stuck = host.floor + 1

                def times_heard() -> int:
                    return Counter(fed.batch for fed in host.fed)[stuck]

                await eventually_async(lambda: times_heard() > 4)
                assert host.kinds().count("NBIRTH") == 1
                host.commits = True
                await eventually_async(lambda: counters(settings)["batch_committed"] > stuck)

    asyncio.run(story())


def test_a_partial_commit_leaves_exactly_the_rest(tmp_path: Path) -> None:
    """Of eight batches 1, 2 and 6 are safe uphill: the others wait, each once, also after the file is opened anew."""
    path = tmp_path / "spool.sqlite"
    with closing(Spool.open(path, 8, 600, NEW_MS)) as spool:
        spool.append([("dev", ("a",), one_reading(NEW_MS + n, float(n))) for n in range(1, 9)])
        spool.commit([nth(1), nth(2), nth(6)], NEW_MS)
    with closing(Spool.open(path, 8, 600, NEW_MS)) as spool:
        left = spool.uncommitted(0, nth(8), 100)
        assert [batch.number for batch in left] == [nth(n) for n in (3, 4, 5, 7, 8)]
        assert [batch.columns.value.tolist() for batch in left] == [[3.0], [4.0], [5.0], [7.0], [8.0]]
        assert spool.counters()["batch_committed"] == nth(2)


def test_a_spool_that_was_full_in_an_outage_goes_on_by_itself(broker: Broker, tmp_path: Path) -> None:
    """Over its bound while the link is cut: the oldest goes, and that is said; all the rest arrives, and new data."""
    readings, batches = 1000, 800

    async def story() -> None:
        async with (
            Slave({1: 1.5}).serve() as slave,
            Host(broker.mqtt).listen() as host,
            Link(broker.mqtt).open() as link,
        ):
            spool_of_8_mb = "    spool: {max_mb: 8}"
            plant(tmp_path / "plant", 1, {"A": modbus_device("A", slave.port)}, spool_of_8_mb)
            await link.cut()
            old_ms = SystemClock().now_ns() // NS_PER_MS - 86_400_000
            path = tmp_path / "data" / "gateways" / "gw" / "spool.sqlite"
            with closing(Spool.open(path, 64, 600, old_ms)) as spool:
                for n in range(batches):
                    spool.append([("A", ("A",), many(old_ms + 100 * n, readings))])
            async with gateway_here(tmp_path / "plant", tmp_path / "data", link.port) as settings:
                await eventually_async(lambda: counters(settings)["readings_dropped_history"])
                link.whole = True
                newest = counters(settings)["batch_last"]
                await eventually_async(lambda: host.floor > newest + 3, timeout_s=60)
                await eventually_async(lambda: counters(settings)["batch_committed"] > newest)
                lost = f"readings lost: {counters(settings)['readings_dropped_history']} history"
                await eventually_async(lambda: warned(settings, lost))
            told = counters(settings)
        assert told["readings_dropped"] == told["readings_dropped_history"] < readings * batches
        assert told["readings_polled"] == told["readings_committed"] + told["readings_dropped"]
        assert len(host.readings) == told["readings_committed"]

    asyncio.run(story())


async def warned(settings: EdgeSettings, text: str) -> bool:
    """Whether the gateway's status has this warning."""
    return text in json.loads(await asyncio.to_thread(ask, settings.spool.parent, "/status"))["warnings"]


def many(first_ms: int, n: int) -> Columns:
    """Make columns of `n` readings of a device's first metric, 80 s apart, 13 bytes each in a spool."""
    noise = np.random.default_rng(1).normal(size=n)
    return Columns(np.zeros(n, np.int64), first_ms + 80_021 * np.arange(n), noise, np.full(n, GOOD, np.uint8))


def test_devices_that_are_read_at_once_are_kept_in_one_write(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty units are read in each period: a card with few writes a second keeps up, as they are few."""
    units = range(1, 21)
    transactions: list[int] = []
    keep = Spool.keep

    def counted(
        spool: Spool, parts: Sequence[Part], entries: Sequence[tuple[int, bytes]], *, synced: bool
    ) -> tuple[list[int], list[int]]:
        transactions.append(len(parts))
        return keep(spool, parts, entries, synced=synced)

    monkeypatch.setattr(Spool, "keep", counted)

    async def story() -> None:
        async with Slave(dict.fromkeys(units, 1.0)).serve() as slave, Host(broker.mqtt).listen():
            devices = {f"D{unit}": modbus_device(f"D{unit}", slave.port, unit, period_ms=100) for unit in units}
            plant(tmp_path / "plant", 1, devices)
            async with gateway_here(tmp_path / "plant", tmp_path / "data", broker.mqtt):
                await eventually_async(lambda: sum(transactions) > 400, timeout_s=60)
        assert sum(transactions) > 2 * len(transactions)

    asyncio.run(story())


def test_a_disk_that_is_slow_holds_up_no_poll(broker: Broker, tmp_path: Path) -> None:
    """While a write waits for the disk the instruments are read on, and what was read is kept and sent."""

    async def story() -> None:
        async with Slave({1: 1.5}).serve() as slave, Host(broker.mqtt).listen() as host:
            plant(tmp_path / "plant", 1, {"A": modbus_device("A", slave.port)})
            async with gateway_here(tmp_path / "plant", tmp_path / "data", broker.mqtt) as settings:
                await eventually_async(lambda: len(host.batches) > 3)
                with closing(sqlite3.connect(settings.spool, isolation_level=None)) as other:
                    other.execute("BEGIN IMMEDIATE")
                    asked, begun_ns = len(slave.asked), SystemClock().now_ns()
                    await eventually_async(lambda: len(slave.asked) > asked + 8)
                    ended_ns = SystemClock().now_ns()
                    other.execute("ROLLBACK")
                asked = len(slave.asked)
                await eventually_async(lambda: len(slave.asked) > asked + 3)
                told = counters(settings)
                await eventually_async(lambda: len(host.readings) >= told["readings_polled"])
        assert sum(begun_ns < time_ns < ended_ns for time_ns, _, _ in host.of("A")) > 6

    asyncio.run(story())


def test_a_link_slower_than_the_plant_goes_by_the_disk_and_not_by_memory(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More is read than the link carries: what waits beyond a few batches is taken from the disk when it widens."""
    monkeypatch.setattr(send_connection, "LIVE_QUEUE", 20)
    units = range(1, 9)

    async def story() -> None:
        async with (
            Slave(dict.fromkeys(units, 1.0)).serve() as slave,
            Host(broker.mqtt).listen() as host,
            SlowLink(broker.mqtt, 2000).open() as link,
        ):
            devices = {f"D{unit}": modbus_device(f"D{unit}", slave.port, unit, period_ms=100) for unit in units}
            plant(tmp_path / "plant", 1, devices)
            async with gateway_here(tmp_path / "plant", tmp_path / "data", link.port) as settings:
                await eventually_async(lambda: any(fed.historical for fed in host.fed))
                link.bytes_per_s = 1_000_000
                newest = counters(settings)["batch_last"]
                await eventually_async(lambda: host.floor > newest, timeout_s=60)
                await eventually_async(lambda: whole(host))

    asyncio.run(story())


def test_a_change_of_the_plant_keeps_the_backlog(broker: Broker, tmp_path: Path) -> None:
    """Read under one plant file, sent under the next: all of a device that stayed; what is gone holds up nothing."""

    async def story() -> None:
        async with Slave({1: 1.5, 2: 2.5}).serve() as slave, Host(broker.mqtt).listen() as host:
            old = {"A": modbus_device("A", slave.port, 1), "B": modbus_device("B", slave.port, 2)}
            plant(tmp_path / "plant", 1, old)
            async with Link(broker.mqtt).open() as link:
                await link.cut()
                async with gateway_here(tmp_path / "plant", tmp_path / "data", link.port) as settings:
                    await eventually_async(lambda: slave.asked.count(1) > 5 and slave.asked.count(2) > 5)
            kept, backlog = counters(settings)["readings_polled"], counters(settings)["batch_last"]
            plant(tmp_path / "plant", 1, {"C": modbus_device("C", slave.port, 2), "A": old["A"]})
            async with gateway_here(tmp_path / "plant", tmp_path / "data", broker.mqtt):
                last = counters(settings)["batch_last"]
                await eventually_async(lambda: counters(settings)["batch_committed"] > last)
        # What the second start reads before it is connected is late, too.
        late = [fed for fed in host.fed if fed.historical and fed.batch is not None and fed.batch <= backlog]
        assert {fed.device for fed in late} == {"A"}
        assert len(late) * 2 >= kept - 2
        assert all(fed.frame.value.tolist() == [1.5] for fed in late)

    asyncio.run(story())


def test_a_damaged_batch_holds_up_no_other(broker: Broker, tmp_path: Path) -> None:
    """Bytes of some batches of a backlog are changed on the disk: they are counted, all others arrive without delay."""
    batches, damaged = 60, (1, 20, 21, 60)

    async def story() -> None:
        async with Slave({1: 1.5}).serve() as slave, Host(broker.mqtt).listen() as host:
            plant(tmp_path / "plant", 1, {"A": modbus_device("A", slave.port)})
            path = tmp_path / "data" / "gateways" / "gw" / "spool.sqlite"
            with closing(Spool.open(path, 64, 600, NEW_MS)) as spool:
                spool.append([("A", ("A",), one_reading(NEW_MS + n, float(n))) for n in range(1, batches + 1)])
            with closing(sqlite3.connect(path)) as file, file:
                file.executemany(
                    "UPDATE batches SET columns = zeroblob(length(columns)) WHERE number = ?",
                    [(nth(n),) for n in damaged],
                )
            async with gateway_here(tmp_path / "plant", tmp_path / "data", broker.mqtt) as settings:
                # Long before anything would be sent again.
                await eventually_async(lambda: counters(settings)["batch_committed"] > nth(batches))
                told = counters(settings)
        assert host.batches >= {nth(n) for n in range(1, batches + 1) if n not in damaged}
        assert told["readings_damaged"] == told["readings_dropped"] == len(damaged)

    asyncio.run(story())
