"""A real gateway on a disk that takes nothing: live data goes up all the same, it is said, and nothing is lost."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from urllib.request import urlopen

from tests.edge.rig import Gateway, Host, Slave, modbus_device, plant
from tests.edge.send_rig import LimitedGateway, UnprivilegedGateway
from tests.support.nats import nats_broker
from tests.support.ports import free_port
from tests.support.wait import eventually_async
from tocsin_edge.adapters.metrics import ask
from tocsin_edge.adapters.spool import NUMBERS_LEFT_OUT

PERIOD_MS = 100
# Less than the spool's file has from the start, and enough for the log.
LIMIT = 20_000


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Let nothing below `folder` be written but the log while the context lasts."""
    paths = [folder, *(path for path in folder.rglob("*") if path.suffix != ".log")]
    modes = {path: path.stat().st_mode for path in paths}
    for path in paths:
        path.chmod(modes[path] & 0o555)
    try:
        yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


def log_of(gateway: Gateway) -> str:
    """Read what the gateway said."""
    return gateway.log.read_text(encoding="utf-8")


def in_memory(gateway: Gateway) -> float:
    """How many batches the gateway says that its disk did not take."""
    lines = dict(line.rsplit(" ", 1) for line in ask(gateway.spool.parent, "/metrics").splitlines() if line[0] != "#")
    return float(lines["tocsin_edge_spool_batches_in_memory"])


def test_on_a_full_disk_live_data_goes_up_and_is_kept_later(tmp_path: Path) -> None:
    """Files that may not grow: readings arrive without a gap meanwhile, that is said, and they are kept at last."""
    gateway = LimitedGateway(tmp_path / "plant", tmp_path / "data")

    async def story(port: int) -> None:
        async with Slave({1: 1.5}).serve() as slave, Host(port).listen() as host:
            plant(tmp_path / "plant", port, {"A": modbus_device("A", slave.port, period_ms=PERIOD_MS)})
            gateway.start()
            await eventually_async(lambda: len(host.of("A")) > 5)
            gateway.limit(LIMIT)
            await eventually_async(lambda: max(host.batches) > host.first + NUMBERS_LEFT_OUT, timeout_s=60)
            seen = len(host.of("A"))
            await eventually_async(lambda: len(host.of("A")) > seen + 20)
            assert "spool takes nothing" in log_of(gateway)
            assert await asyncio.to_thread(in_memory, gateway) > 20
            gateway.limit()
            await eventually_async(lambda: "spool takes readings again" in log_of(gateway))
            assert await asyncio.to_thread(in_memory, gateway) == 0
            left_out = host.first + NUMBERS_LEFT_OUT
            await eventually_async(lambda: gateway.counters()["batch_committed"] > left_out)
            assert await asyncio.to_thread(gateway.end, signal.SIGTERM) == 0
            counters = gateway.counters()
            await eventually_async(lambda: len(host.readings) == counters["readings_polled"])
            assert counters["readings_committed"] == counters["readings_polled"]
            assert counters["readings_dropped"] == 0
            times = [time_ns / 1e6 for time_ns, _, _ in host.of("A")]
            assert max(later - sooner for sooner, later in pairwise(times)) < 20 * PERIOD_MS
            assert {value for _, value, _ in host.of("A")} == {1.5}

    try:
        with nats_broker(tmp_path) as broker:
            asyncio.run(story(broker.mqtt))
    finally:
        gateway.stop()


def test_after_a_start_on_a_read_only_disk_live_data_goes_up(tmp_path: Path) -> None:
    """A gateway that ran before comes up where it may only read: its points go up, and the disk's state is said."""
    data = tmp_path / "data"
    first = Gateway(tmp_path / "plant", data)
    second = UnprivilegedGateway(tmp_path / "plant", data)

    async def story(port: int) -> None:
        async with Slave({1: 1.5}).serve() as slave, Host(port).listen() as host:
            plant(tmp_path / "plant", port, {"A": modbus_device("A", slave.port, period_ms=PERIOD_MS)})
            first.start()
            await eventually_async(lambda: len(host.of("A")) > 3)
            assert await asyncio.to_thread(first.end, signal.SIGTERM) == 0
            last = first.counters()["batch_last"]
            with read_only(data):
                seen = len(host.of("A"))
                second.start()
                await eventually_async(lambda: len(host.of("A")) > seen + 10)
                assert "spool cannot be written" in log_of(second)
                assert "spool takes nothing" in log_of(second)
                # A number that is not on disk is far ahead of any that a restart would give out.
                assert min(number for number in host.batches if number > last) > last + NUMBERS_LEFT_OUT
                assert second.counters()["batch_last"] == last
            await eventually_async(lambda: "spool takes readings again" in log_of(second), timeout_s=60)
            await eventually_async(lambda: second.counters()["batch_committed"] > last + NUMBERS_LEFT_OUT)
            assert await asyncio.to_thread(second.end, signal.SIGTERM) == 0
            counters = second.counters()
            await eventually_async(lambda: len(host.readings) == counters["readings_polled"])

    try:
        with nats_broker(tmp_path) as broker:
            asyncio.run(story(broker.mqtt))
    finally:
        first.stop()
        second.stop()


class ShownGateway(UnprivilegedGateway):
    """One whose figures can be had where it can make no socket in its folder."""

    def __init__(self, folder: Path, data: Path) -> None:
        """Start nothing yet."""
        super().__init__(folder, data)
        self.figures = f"http://127.0.0.1:{(port := free_port())}/metrics"
        self._command += ["--metrics", str(port)]

    def spool_up(self) -> bool:
        """Whether it says that its disk takes what is read."""
        with urlopen(self.figures, timeout=10) as answer:  # noqa: S310 -- our own address
            return b"\ntocsin_edge_spool_up 1\n" in answer.read()


def test_a_damaged_spool_on_a_read_only_disk_is_told_as_long_as_nothing_is_kept(tmp_path: Path) -> None:
    """It is in memory until the next start, also when the disk can be written again: so long a restart loses it."""
    data = tmp_path / "data"
    first = Gateway(tmp_path / "plant", data)
    second = ShownGateway(tmp_path / "plant", data)

    async def story(port: int) -> None:
        async with Slave({1: 1.5}).serve() as slave, Host(port).listen() as host:
            plant(tmp_path / "plant", port, {"A": modbus_device("A", slave.port, period_ms=PERIOD_MS)})
            first.start()
            await eventually_async(lambda: len(host.of("A")) > 3)
            assert await asyncio.to_thread(first.end, signal.SIGTERM) == 0
            first.spool.write_bytes(b"x" * 10_000)
            with read_only(data):
                seen = len(host.of("A"))
                second.start()
                await eventually_async(lambda: len(host.of("A")) > seen + 10)
                assert not await asyncio.to_thread(second.spool_up)
            seen = len(host.of("A"))
            await eventually_async(lambda: len(host.of("A")) > seen + 10)
            assert not await asyncio.to_thread(second.spool_up)
            assert await asyncio.to_thread(second.end, signal.SIGTERM) == 0
            second.start()
            await eventually_async(lambda: "spool damaged, set aside" in log_of(second))
            await eventually_async(lambda: second.counters().get("readings_polled", 0) > 0)
            assert await asyncio.to_thread(second.spool_up)

    try:
        with nats_broker(tmp_path) as broker:
            asyncio.run(story(broker.mqtt))
    finally:
        first.stop()
        second.stop()
