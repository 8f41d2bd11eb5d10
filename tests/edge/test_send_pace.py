"""History on a narrow link: it takes what the link has left, and live data is never more than 2 s late."""

import asyncio
from contextlib import closing
from pathlib import Path
from typing import Final

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.edge.rig import Gateway, Host, Slave, modbus_device, plant
from tests.edge.send_rig import SlowLink
from tests.support.nats import nats_broker
from tests.support.wait import eventually_async
from tocsin_core.clock import SystemClock
from tocsin_core.readings import GOOD
from tocsin_core.sparkplug.edge import Columns
from tocsin_edge.adapters.spool import Spool
from tocsin_edge.loops.send_pace import LEAST_BYTES, MOST_BYTES, Pace

BATCHES: Final = 120
WIDE: Final = 200
# 256 kbit/s, as a poor mobile link has; a backlog of 120 batches of 5 kB fills it for 19 s.
BYTES_PER_S: Final = 32_000


@given(st.lists(st.floats(0, 30), max_size=60))
def test_the_window_stays_within_its_bounds(answers: list[float]) -> None:
    """Quick answers widen it, slow ones narrow it, and nothing takes it beyond 8 KiB and 4 MiB."""
    pace = Pace()
    for took_s in answers:
        before = pace.window
        pace.sent(before)
        was_full = pace.full
        pace.proven(took_s)
        assert (was_full, pace.full) == (True, False)
        assert LEAST_BYTES <= pace.window <= MOST_BYTES
        assert (pace.window > before) <= (took_s < 0.2)
        assert (pace.window < before) <= (took_s > 0.5)


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
            old = fill(gateway)
            gateway.start()
            await eventually_async(lambda: host.batches >= old, timeout_s=90)
            last = max(n for n, fed in enumerate(host.fed) if fed.historical)
            during = [
                delay
                for fed, delay in zip(host.fed[:last], host.delay_s, strict=False)
                if fed.batch is not None and not fed.historical
            ]
            assert len(during) > 20
            # The machine may hold up one or two; a link that is too full would hold up every one.
            assert sorted(during)[-3] < 2

    try:
        with nats_broker(tmp_path) as broker:
            asyncio.run(story(broker.mqtt))
    finally:
        gateway.stop()


def fill(gateway: Gateway) -> set[int]:
    """Leave wide batches of device A in the spool, as a long outage does; give their numbers."""
    numbers: set[int] = set()
    now_ms = SystemClock().now_ns() // 1_000_000
    with closing(Spool.open(gateway.spool, 64, 600, now_ms)) as spool:
        for batch in range(BATCHES):
            time_ms = now_ms - 1000 * (BATCHES - batch) * WIDE + 1000 * np.arange(WIDE)
            columns = Columns(
                np.zeros(WIDE, np.int64), time_ms, np.full(WIDE, float(batch)), np.full(WIDE, GOOD, np.uint8)
            )
            numbers.update(spool.append([("A", ("A",), columns)]))
    return numbers
