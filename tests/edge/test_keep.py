"""When the keep loop writes: at once after a quiet moment, and together what comes soon after."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from tests.support.wait import eventually_async
from tocsin_core.clock import SystemClock
from tocsin_core.plant.mqtt import Mqtt
from tocsin_core.ranges import Ranges
from tocsin_core.readings import GOOD
from tocsin_core.sparkplug import EdgeDevice, EdgeMetric
from tocsin_core.sparkplug.edge import Columns
from tocsin_edge.adapters.spool import Spool
from tocsin_edge.loops import keep
from tocsin_edge.loops.board import Board
from tocsin_edge.loops.journal_feed import JournalFeed
from tocsin_edge.loops.keep import Keeper, Kept, Sample, Verdict
from tocsin_edge.loops.spool_thread import SpoolThread
from tocsin_edge.settings import DeviceSettings, SensorDevice

CLOCK = SystemClock()
HOUR_S = 3600.0
DEVICE = DeviceSettings(
    EdgeDevice("D", (EdgeMetric("X"),)), Ranges.of([None]), 10**9, SensorDevice(Mqtt(topic="t"), ("X",))
)


def sample(time_ms: int) -> Sample:
    """Give one good reading."""
    return Sample(DEVICE, Columns(np.zeros(1, np.int64), np.array([time_ms]), np.ones(1), np.full(1, GOOD, np.uint8)))


def nothing_decided() -> Verdict:
    """Give the verdict of a gateway without alarms."""

    def kept(numbers: object, batch: int, *, on_disk: bool) -> None:
        del numbers, batch, on_disk

    return Verdict((), kept)


def test_the_first_sample_is_written_at_once_and_what_follows_soon_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill takes what is not written: with nothing to gather for, nothing waits; a card bears only so many writes."""
    monkeypatch.setattr(keep, "GATHER_S", HOUR_S)
    writes: list[list[Kept]] = []

    async def story() -> None:
        now_ms = CLOCK.now_ns() // 1_000_000
        thread = SpoolThread(Spool.open(tmp_path / "spool.sqlite", 8, 60, now_ms), CLOCK)
        journal, board = JournalFeed(thread), Board((), now_ms)
        keeper = Keeper(
            journal, board, CLOCK, nothing_decided, lambda: (0, 0), writes.append, lambda: None, lambda: None
        )
        running = asyncio.create_task(keeper.run())
        try:
            keeper.put(sample(1))
            await eventually_async(lambda: len(writes) == 1)
            for time_ms in (2, 3):
                keeper.put(sample(time_ms))
            # A write that did not wait would be in the spool's thread before this.
            for _ in range(3):
                await asyncio.sleep(0)
            await thread.call(thread.spool.counters)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            thread.close()

    asyncio.run(story())
    assert [[kept.sample.columns.time_ms.tolist() for kept in write] for write in writes] == [[[1]]]
