"""A real gateway process between real slaves and a real broker: what it promises under each fault."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from tests.edge.rig import Gateway, Host, Link, Slave, modbus_device, one_reading, plant
from tests.support.nats import Broker, mosquitto_broker, nats_broker
from tests.support.need import need_program
from tests.support.wait import eventually, eventually_async
from tocsin_core.clock import SystemClock
from tocsin_core.readings import BAD_COMM_FAILURE, BAD_CONFIGURATION, GOOD
from tocsin_edge.adapters.spool import Spool


@pytest.fixture(params=["nats", "mosquitto"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Broker]:
    """Give a running broker, of both makes in turn."""
    folder = tmp_path / "broker"
    folder.mkdir()
    if request.param == "nats":
        with nats_broker(folder) as running:
            yield running
    else:
        with mosquitto_broker(need_program("mosquitto"), folder) as running:
            yield running


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """Give a gateway of the plant in `tmp_path`/plant that is not started, and end it."""
    process = Gateway(tmp_path / "plant", tmp_path / "data")
    yield process
    process.stop()


def test_kill_and_restart_lose_nothing(broker: Broker, gateway: Gateway, tmp_path: Path) -> None:
    """After kill -9 the numbers go on, and what the devices were asked arrives, each reading once."""

    async def story() -> None:
        async with Slave({1: 1.5, 2: 2.5}).serve() as slave, Host(broker.mqtt).listen() as host:
            plant(
                tmp_path / "plant",
                broker.mqtt,
                {"A": modbus_device("A", slave.port, 1), "B": modbus_device("B", slave.port, 2)},
            )
            gateway.start()
            await eventually_async(lambda: len(host.of("A")) > 4 and len(host.of("B")) > 4)
            await eventually_async(lambda: gateway.counters()["batch_committed"] > host.first)
            host.commits = False
            before = len(host.readings)
            await eventually_async(lambda: len(host.readings) > before + 4)
            gateway.end(signal.SIGKILL)
            last, floor, heard = gateway.counters()["batch_last"], gateway.counters()["batch_committed"], len(host.fed)
            host.commits = True
            gateway.start()
            await eventually_async(lambda: max(host.batches) > last + 4)
            # What the host has acknowledged does not come again.
            assert host.first < floor < min(fed.batch for fed in host.fed[heard:] if fed.batch is not None)
            assert await asyncio.to_thread(gateway.end, signal.SIGTERM) == 0
            counters = gateway.counters()
            await eventually_async(lambda: len(host.readings) == counters["readings_polled"])
            assert host.batches == set(range(host.first, counters["batch_last"] + 1))
            assert counters["batch_committed"] == counters["batch_last"]
            assert counters["readings_committed"] == counters["readings_polled"]
            for unit, metric in ((1, "A"), (2, "B")):
                good = sum(quality == GOOD for _, _, quality in host.of(metric))
                bad = len(host.of(metric)) - good
                # By the device's own count: what it answered at the kill and at the end, or too late, may be missing.
                assert 0 <= slave.asked.count(unit) - good <= 2 + bad
            assert {value for _, value, _ in host.of("A")} == {1.5}
            assert {fault.reason for fed in host.fed for fault in fed.faults} <= {"stale-death"}

    asyncio.run(story())


def test_after_a_cut_the_present_comes_first_then_history(broker: Broker, gateway: Gateway, tmp_path: Path) -> None:
    """What was read while the link was cut arrives marked historical, after births with the present, none missing."""

    async def story() -> None:
        async with (
            Slave({1: 1.5}).serve() as slave,
            Link(broker.mqtt).open() as link,
            Host(broker.mqtt).listen() as host,
        ):
            plant(tmp_path / "plant", link.port, {"A": modbus_device("A", slave.port)})
            gateway.start()
            await eventually_async(lambda: len(host.of("A")) > 2)
            await link.cut()
            last = gateway.counters()["batch_last"]
            await eventually_async(lambda: gateway.counters()["batch_last"] > last + 20)
            heard = len(host.fed)
            link.whole = True
            await eventually_async(lambda: gateway.counters()["batch_committed"] > last + 20)
            data = [fed for fed in host.fed[heard:] if fed.batch is not None]
            history = [fed for fed in data if fed.historical]
            kinds = [fed.kind for fed in host.fed[heard:]]
            birth = host.fed[heard + kinds.index("DBIRTH")]
            assert kinds.index("DBIRTH") < kinds.index("DDATA")
            assert birth.frame.time_ns.max() >= max(fed.frame.time_ns.max() for fed in history)
            assert {fed.batch for fed in history} >= set(range(last + 2, last + 20))
            assert host.batches >= set(range(host.first, host.floor + 1))
            assert "NDEATH" in host.kinds()
            assert not [fault for fed in host.fed for fault in fed.faults if fault.reason != "stale-death"]

    asyncio.run(story())


def test_draining_a_backlog_leaves_live_prompt(gateway: Gateway, tmp_path: Path) -> None:
    """While thousands of old batches drain, each new reading is still sent within 2 s, and all old ones arrive."""
    backlog = 4000

    async def story() -> None:
        with nats_broker(tmp_path) as broker:
            async with Slave({1: 1.5}).serve() as slave, Host(broker.mqtt).listen() as host:
                plant(tmp_path / "plant", broker.mqtt, {"A": modbus_device("A", slave.port)})
                last = fill_spool(gateway, backlog)
                gateway.start()
                await eventually_async(lambda: gateway.counters()["batch_committed"] >= last, timeout_s=60)
                assert host.batches >= set(range(last - backlog + 1, last + 1))
                drained = next(n for n in reversed(range(len(host.fed))) if host.fed[n].historical)
                during = [n for n in range(drained) if host.fed[n].batch and not host.fed[n].historical]
                assert len(during) >= 3
                began = next(n for n, fed in enumerate(host.fed) if fed.historical)
                # On a busy machine everything takes longer; what waits its turn behind the backlog waits all of it.
                drain_s = host.sent_s[drained] - host.sent_s[began]
                late_s = sorted(host.sent_s[n] - host.fed[n].frame.time_ns.max() / 1e9 for n in during)
                # The first readings wait for the connection, too.
                assert late_s[-3] < max(2, drain_s / 2)

    asyncio.run(story())


def fill_spool(gateway: Gateway, batches: int) -> int:
    """Leave batches of device A in the spool, as a long outage does; give the last one's number."""
    now_ms = SystemClock().now_ns() // 1_000_000
    with closing(Spool.open(gateway.spool, 64, 600, now_ms)) as spool:
        parts = [("A", ("A",), one_reading(now_ms - 1000 * (batches - n), n)) for n in range(batches)]
        return spool.append(parts)[-1]


def test_a_dead_device_does_not_delay_others(broker: Broker, gateway: Gateway, tmp_path: Path) -> None:
    """Its points turn bad with the reason, then it dies; its neighbour on the line keeps its period; it comes back."""

    async def story() -> None:
        async with (
            Slave({1: 1.5, 2: 2.5, 3: 3.5}, silent={2}, exception={3: 2}).serve() as slave,
            Host(broker.mqtt).listen() as host,
        ):
            devices = {name: modbus_device(name, slave.port, unit) for unit, name in ((1, "A"), (2, "B"), (3, "C"))}
            plant(tmp_path / "plant", broker.mqtt, devices)
            gateway.start()
            await eventually_async(lambda: any(f.kind == "DDEATH" and f.device == "B" for f in host.fed))
            assert {quality for _, _, quality in host.of("B")} == {BAD_COMM_FAILURE}
            assert {quality for _, _, quality in host.of("C")} == {BAD_CONFIGURATION}
            seen, asked = len(host.of("A")), len(slave.asked)
            await eventually_async(lambda: slave.asked[asked:].count(2) >= 3, timeout_s=60)
            last_ns = slave.asked_ns[-1]
            await eventually_async(lambda: host.of("A")[-1][0] > last_ns)
            times = [time_ns for time_ns, _, _ in host.of("A")][seen:]
            probes = [at for at, unit in zip(slave.asked_ns, slave.asked, strict=True) if unit == 2]
            gaps = [(b - a) / 1e6 for a, b in pairwise(times) if any(a < probe < b for probe in probes)]
            # The machine may hold up one; a silent unit that did would do so with each probe.
            assert gaps
            assert min(gaps) < 3 * 200, gaps
            slave.silent.clear()
            await eventually_async(lambda: any(quality == GOOD for _, _, quality in host.of("B")))
            births = [fed for fed in host.fed if fed.kind == "DBIRTH" and fed.device == "B"]
            assert len(births) == 2

    asyncio.run(story())


def test_sigterm_ends_cleanly_and_quickly(gateway: Gateway, tmp_path: Path) -> None:
    """SIGTERM ends with the node's death on the wire and exit code 0; without a broker it also ends."""

    async def story() -> None:
        with nats_broker(tmp_path) as broker:
            async with Slave({1: 1.5}).serve() as slave:
                plant(tmp_path / "plant", broker.mqtt, {"A": modbus_device("A", slave.port)})
                async with Host(broker.mqtt).listen() as host:
                    gateway.start()
                    await eventually_async(lambda: len(host.of("A")) > 2)
                    clock = asyncio.get_running_loop().time
                    begun = clock()
                    assert await asyncio.to_thread(gateway.end, signal.SIGTERM) == 0
                    # And what a busy machine adds.
                    assert clock() - begun < 3 + 5
                    await eventually_async(lambda: host.kinds()[-1] == "NDEATH")
                broker.stop()
                last = gateway.counters()["batch_last"]
                gateway.start()
                await eventually_async(lambda: gateway.counters()["batch_last"] > last + 2)
                begun = clock()
                assert await asyncio.to_thread(gateway.end, signal.SIGTERM) == 0
                assert clock() - begun < 3 + 5

    asyncio.run(story())


def test_bad_arguments_are_one_line_and_exit_2(gateway: Gateway, tmp_path: Path) -> None:
    """An unknown gateway, or a plant that does not pass, is told in one line."""
    plant(tmp_path / "plant", 1, {"A": modbus_device("A", 1)})
    (tmp_path / "plant" / "plant.yaml").write_text("tocsin: 2\n", encoding="utf-8")
    gateway.start()
    eventually(lambda: gateway.log.read_text(encoding="utf-8").strip())
    lines = gateway.log.read_text(encoding="utf-8").strip().splitlines()
    assert len(lines) == 1
    assert "plant.yaml" in lines[0]
