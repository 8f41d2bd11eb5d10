"""History on a narrow link: it takes what the link has left, and live data is never more than 2 s late."""

import asyncio
from contextlib import closing
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.edge.rig import Gateway, Host, Slave, modbus_device, plant
from tests.edge.send_rig import SlowLink, gateway_here
from tests.support.nats import nats_broker
from tests.support.wait import eventually_async
from tocsin_core.clock import SystemClock
from tocsin_core.readings import GOOD
from tocsin_core.sparkplug.edge import Columns
from tocsin_edge.adapters.spool import Spool
from tocsin_edge.adapters.uplink import Uplink
from tocsin_edge.loops.send_pace import LEAST_BYTES, MOST_BYTES, Pace

WIDE: Final = 200
# 256 kbit/s, as a poor mobile link has; a backlog of 60 batches of 5 kB fills it for 10 s.
BYTES_PER_S: Final = 32_000
# A good link, on which the window grows, becomes one of 64 kbit/s; the backlog would fill it for a quarter of an hour.
GOOD_BYTES_PER_S: Final = 4_000_000
NARROW_BYTES_PER_S: Final = 8_000
NARROW_S: Final = 6.0


@given(st.lists(st.floats(0, 30), max_size=60))
def test_the_window_stays_within_its_bounds(answers: list[float]) -> None:
    """Quick answers widen it, slow ones narrow it, and nothing takes it beyond 4 KiB and 4 MiB."""
    pace = Pace()
    for took_s in answers:
        before = pace.window
        pace.sent(before, 0.0)
        was_full = pace.full(0.0)
        pace.proven(took_s)
        assert (was_full, pace.full(0.0)) == (True, False)
        assert LEAST_BYTES <= pace.window <= MOST_BYTES
        assert (pace.window > before) <= (took_s < 0.2)
        assert (pace.window < before) <= (took_s > 0.5)


def test_a_window_that_was_not_filled_says_nothing_and_lasts_half_a_second() -> None:
    """What the link carried of it makes the next one; a quick answer to little widens none."""
    pace = Pace()
    pace.proven(0.01)
    for _ in range(4):
        pace.sent(pace.window, 0.0)
        pace.proven(0.01)
    wide = pace.window
    pace.sent(10_000, 7.0)
    assert not pace.full(7.4)
    assert pace.full(7.6)
    pace.proven(0.01)
    assert pace.window == wide == 8192 * 16
    pace.sent(20_000, 8.0)
    pace.proven(0.6)
    assert pace.window == 10_000
    pace.sent(10_000, 9.0)
    pace.proven(1.0)
    assert pace.window == 5_000


def test_a_long_way_to_the_broker_is_no_narrow_one() -> None:
    """What it takes there and back without history says nothing of the link, up to 1 s; the shortest time counts."""
    pace = Pace()
    pace.idle(0.6)
    pace.sent(pace.window, 0.0)
    pace.proven(0.7)
    assert pace.window == 16 * 1024
    pace.sent(pace.window, 1.0)
    pace.proven(0.6 + 1.0)
    assert pace.window == 8 * 1024
    # The time at first was too long: something else was on the way.
    pace.sent(1000, 2.0)
    pace.proven(0.05)
    pace.sent(pace.window, 3.0)
    pace.proven(0.7)
    assert pace.window == LEAST_BYTES
    pace.idle(30.0)
    pace.sent(pace.window, 4.0)
    pace.proven(1.6)
    assert pace.window == LEAST_BYTES


def test_a_backlog_goes_up_a_long_link_in_ever_larger_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 600 kB on a way of 0.3 s each is more than 8 kB: else 60 of them would wait for the broker's answer."""
    asked, near = 0, Uplink.broker_has_all

    async def far(uplink: Uplink) -> None:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.3)
        await near(uplink)

    monkeypatch.setattr(Uplink, "broker_has_all", far)

    async def story(port: int) -> None:
        async with Slave({1: 1.5}).serve() as slave, Host(port).listen() as host:
            plant(tmp_path / "plant", port, {"A": modbus_device("A", slave.port)})
            old = fill(Gateway(tmp_path / "plant", tmp_path / "data"), 120)
            async with gateway_here(tmp_path / "plant", tmp_path / "data", port):
                await eventually_async(lambda: host.batches >= old, timeout_s=90)

    with nats_broker(tmp_path) as broker:
        asyncio.run(story(broker.mqtt))
    assert asked < 40


def test_on_a_narrow_link_live_data_stays_under_two_seconds(tmp_path: Path) -> None:
    """While a backlog fills a 256 kbit/s link, each new reading arrives within 2 s."""
    gateway = Gateway(tmp_path / "plant", tmp_path / "data")

    async def story(port: int) -> None:
        async with (
            Slave({1: 1.5}).serve() as slave,
            SlowLink(port, BYTES_PER_S).open() as link,
            Host(port).listen() as host,
        ):
            plant(tmp_path / "plant", link.port, {"A": modbus_device("A", slave.port)})
            old = fill(gateway, 60)
            gateway.start()
            await eventually_async(lambda: host.batches >= old, timeout_s=90)
            last = max(n for n, fed in enumerate(host.fed) if fed.historical)
            during = live_delays_s(host, 0, last)
            assert len(during) > 20
            # The machine may hold up one or two; a link that is too full would hold up every one.
            assert sorted(during)[-3] < 2

    try:
        with nats_broker(tmp_path) as broker:
            asyncio.run(story(broker.mqtt))
    finally:
        gateway.stop()


def test_a_link_that_narrows_while_a_backlog_goes_up_still_carries_live_data_within_two_seconds(tmp_path: Path) -> None:
    """At 64 kbit/s instead of a good link, from one moment to the next: what is on its way by then is little."""
    gateway = Gateway(tmp_path / "plant", tmp_path / "data")

    async def story(port: int) -> None:
        async with (
            Slave({1: 1.5}).serve() as slave,
            SlowLink(port, GOOD_BYTES_PER_S).open() as link,
            Host(port).listen() as host,
        ):
            plant(tmp_path / "plant", link.port, {"A": modbus_device("A", slave.port)})
            old = fill(gateway, 1500)
            gateway.start()
            await eventually_async(lambda: len(host.batches & old) > 400, timeout_s=90)
            link.bytes_per_s = NARROW_BYTES_PER_S
            first = len(host.fed)
            until_ns = SystemClock().now_ns() + int(NARROW_S * 1e9)
            await eventually_async(lambda: host.fed[-1].frame.time_ns.max(initial=0) > until_ns, timeout_s=120)
            link.bytes_per_s = GOOD_BYTES_PER_S
            during = live_delays_s(host, first, len(host.fed))
            # History goes on between.
            assert any(fed.historical for fed in host.fed[first:])
            # Of five a second: what is not heard as live was given up to history.
            assert len(during) > 0.6 * 5 * NARROW_S
            assert sorted(during)[-3] < 2

    try:
        with nats_broker(tmp_path) as broker:
            asyncio.run(story(broker.mqtt))
    finally:
        gateway.stop()


def live_delays_s(host: Host, first: int, last: int) -> list[float]:
    """How late live batches were among the messages from `first` on and before `last`."""
    heard = zip(host.fed[first:last], host.delay_s[first:last], strict=True)
    return [delay for fed, delay in heard if fed.batch is not None and not fed.historical]


def fill(gateway: Gateway, batches: int) -> set[int]:
    """Leave wide batches of device A in the spool, as a long outage does; give their numbers."""
    numbers: set[int] = set()
    now_ms = SystemClock().now_ns() // 1_000_000
    with closing(Spool.open(gateway.spool, 64, 600, now_ms)) as spool:
        for batch in range(batches):
            time_ms = now_ms - 1000 * (batches - batch) * WIDE + 1000 * np.arange(WIDE)
            columns = Columns(
                np.zeros(WIDE, np.int64), time_ms, np.full(WIDE, float(batch)), np.full(WIDE, GOOD, np.uint8)
            )
            numbers.update(spool.append([("A", ("A",), columns)]))
    return numbers
