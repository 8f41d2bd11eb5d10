"""A clock that nobody sets travels with the data: from the gateway's board through spool and broker to any host."""

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.edge.rig import Host, Link, Slave, modbus_device, one_reading, plant
from tests.edge.send_rig import gateway_here
from tests.support.nats import nats_broker
from tests.support.wait import eventually_async
from tocsin_core.clock import SystemClock
from tocsin_core.sparkplug import ClockState, Fed
from tocsin_edge import app
from tocsin_edge.adapters.clock_sync import ClockSync
from tocsin_edge.adapters.spool_codec import pack, unpack
from tocsin_edge.loops import clock_watch

SET = ClockSync(synchronised=True, error_ms=2.5)
UNSET = ClockSync(synchronised=False, reason="nobody sets the clock")


@dataclass
class Kernel:
    """What the kernel says of the clock."""

    says: ClockSync = UNSET

    def __call__(self) -> ClockSync:
        """Say it."""
        return self.says


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """Let the gateways of this process ask a kernel that can be told what to say, and often."""
    said = Kernel()
    monkeypatch.setattr(app, "clock_sync", said)
    monkeypatch.setattr(clock_watch, "WATCH_EVERY_S", 0.05)
    return said


def clocks(host: Host) -> list[ClockState]:
    """Every word on the clock that the host heard."""
    return [fed.clock for fed in host.fed if fed.clock is not None]


def data(host: Host, first: int = 0) -> list[Fed]:
    """What the host heard of batches, from the message `first` on."""
    return [fed for fed in host.fed[first:] if fed.batch is not None]


def test_every_batch_tells_by_what_clock_it_was_read(tmp_path: Path, kernel: Kernel) -> None:
    """Marked from the first, with the birth's own since; unmarked once the clock is set, of which NDATA tells."""

    async def story(port: int) -> None:
        async with Slave({1: 1.5}).serve() as slave, Host(port).listen() as host:
            plant(tmp_path / "plant", port, {"A": modbus_device("A", slave.port)})
            async with gateway_here(tmp_path / "plant", tmp_path / "data", port):
                await eventually_async(lambda: len(data(host)) > 3)
                (told,) = clocks(host)
                assert (told.synchronised, told.error_ms, told.step_s) == (False, None, None)
                assert {fed.unsynchronised_ms for fed in data(host)} == {told.since_ms}
                kernel.says = SET
                await eventually_async(lambda: len(clocks(host)) > 1)
                assert clocks(host)[1] == ClockState(True, clocks(host)[1].since_ms, 2.5)  # noqa: FBT003 - the state
                assert clocks(host)[1].since_ms > told.since_ms
                heard = len(host.fed)
                await eventually_async(lambda: len(data(host, heard)) > 3)
                # What was read before and not yet sent may come first.
                assert [fed.unsynchronised_ms for fed in data(host, heard)][-3:] == [None] * 3
                assert not [fault for fed in host.fed for fault in fed.faults]

    with nats_broker(tmp_path) as broker:
        asyncio.run(story(broker.mqtt))


def test_history_keeps_the_mark_when_the_clock_has_been_set_meanwhile(tmp_path: Path, kernel: Kernel) -> None:
    """Read by an unset clock behind a cut link, sent after a restart by a clock that is set: marked all the same."""

    async def story(port: int) -> None:
        async with Slave({1: 1.5}).serve() as slave, Host(port).listen() as host, Link(port).open() as link:
            plant(tmp_path / "plant", port, {"A": modbus_device("A", slave.port)})
            await link.cut()
            async with gateway_here(tmp_path / "plant", tmp_path / "data", link.port):
                asked = len(slave.asked)
                await eventually_async(lambda: len(slave.asked) > asked + 6)
            kernel.says, link.whole = SET, True
            restarted_ns = SystemClock().now_ns()
            async with gateway_here(tmp_path / "plant", tmp_path / "data", link.port):
                await eventually_async(lambda: sum(fed.historical for fed in data(host)) > 3)
                await eventually_async(lambda: not data(host)[-1].historical)
            # What is read before the link is up again is history too, by a clock that is set.
            old = [fed for fed in data(host) if fed.frame.time_ns.max() < restarted_ns]
            (since_ms,) = {fed.unsynchronised_ms for fed in old}
            assert since_ms is not None
            assert all(fed.frame.time_ns.min() >= since_ms * 1_000_000 for fed in old)
            assert {fed.unsynchronised_ms for fed in data(host) if fed.frame.time_ns.min() >= restarted_ns} == {None}

    with nats_broker(tmp_path) as broker:
        asyncio.run(story(broker.mqtt))


@given(st.none() | st.integers(0, 2**63 - 1))
def test_the_spool_keeps_the_mark(since_ms: int | None) -> None:
    """With and without, under the checksum; it costs eight bytes where there is one."""
    columns = replace(one_reading(1000, 1.5), unsynchronised_ms=since_ms)
    blob = pack(columns)
    found = unpack(blob)
    assert found is not None
    assert found.unsynchronised_ms == since_ms
    assert len(blob) == len(pack(one_reading(1000, 1.5))) + (0 if since_ms is None else 8)
    assert unpack(blob[:-5] + bytes([blob[-5] ^ 1]) + blob[-4:]) is None
