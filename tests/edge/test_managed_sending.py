"""While the gateway's devices change, no reading goes up under another point's name, whenever the change comes."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import numpy as np
import pytest

from tests.edge.rig import one_reading
from tests.support.wait import eventually_async
from tocsin_core.clock import SystemClock
from tocsin_core.plant.mqtt import Mqtt
from tocsin_core.ranges import Ranges
from tocsin_core.readings import BAD_WAITING, GOOD
from tocsin_core.sparkplug import EdgeDevice, EdgeMetric, EdgeSession, HostSession, Message
from tocsin_core.sparkplug.edge import Columns
from tocsin_edge.adapters.spool import Spool
from tocsin_edge.loops.board import Board
from tocsin_edge.loops.journal_feed import JournalFeed
from tocsin_edge.loops.keep import Kept, Sample
from tocsin_edge.loops.primary import PrimaryHost
from tocsin_edge.loops.send_connection import Connection
from tocsin_edge.loops.spool_thread import SpoolThread
from tocsin_edge.settings import DeviceSettings, SensorDevice

if TYPE_CHECKING:
    from tocsin_edge.adapters.uplink import Uplink

CLOCK: Final = SystemClock()
# What each point reads tells whose it is.
VALUES: Final = {"X": 1.0, "Y": 2.0, "Z": 3.0}


def device(*names: str) -> DeviceSettings:
    """Give the device D with these points."""
    how = SensorDevice(Mqtt(topic="t"), names)
    metrics = tuple(EdgeMetric(name) for name in names)
    return DeviceSettings(EdgeDevice("D", metrics), Ranges.of([None] * len(names)), 10**9, how)


OLD: Final = device("X", "Y")
NEW: Final = device("Y", "Z")


def readings(of: DeviceSettings, time_ms: int) -> Columns:
    """Give one good reading of each point."""
    names = [metric.name for metric in of.sparkplug.metrics]
    n = len(names)
    values = np.array([VALUES[name] for name in names])
    return Columns(np.arange(n), np.full(n, time_ms), values, np.full(n, GOOD, np.uint8))


class Recorder:
    """An uplink that hears itself as a host does, and calls `then` with its message number `at`."""

    def __init__(self, at: int, then: Callable[[], None]) -> None:
        """Hear nothing yet."""
        self._at, self._then = at, then
        self.points: dict[str, int] = {}
        self.host = HostSession(lambda _group, _node, _device, metric: self.points.setdefault(metric, len(self.points)))
        self.heard: list[tuple[str, float]] = []
        self.faults: list[str] = []
        self.batches: set[int] = set()
        self.sent = 0

    async def publish(self, message: Message) -> None:
        """Hear it as it is, after others had their turn."""
        self.sent += 1
        if self.sent == self._at:
            self._then()
        fed = self.host.feed(message.topic, message.payload, CLOCK.now_ns())
        names = {number: name for name, number in self.points.items()}
        good = fed.frame.quality == GOOD
        self.heard += [
            (names[point], value)
            for point, value in zip(fed.frame.point[good].tolist(), fed.frame.value[good].tolist(), strict=True)
        ]
        self.faults += [fault.reason for fault in fed.faults]
        if fed.batch is not None:
            self.batches.add(fed.batch)
        await asyncio.sleep(0)

    async def broker_has_all(self) -> None:
        """It has."""


@pytest.mark.parametrize("heard", [True, False])
@pytest.mark.parametrize("at", range(1, 13))
def test_a_change_at_any_message_mixes_nothing_up(at: int, heard: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """Births, live data and history are under way: every reading arrives under its own name, or not at all."""

    async def story() -> None:
        now_ms = CLOCK.now_ns() // 1_000_000
        spool = Spool.open(tmp_path / "spool.sqlite", 8, 60, now_ms)
        thread = SpoolThread(spool, CLOCK)
        board = Board((OLD.sparkplug,), now_ms)
        if heard:
            # Else it is born with its first reading.
            board.update(OLD.sparkplug, readings(OLD, now_ms - 100), dead=False)
        session = EdgeSession("site", "gw", [OLD.sparkplug])
        session.will(1, now_ms)

        def keep(of: DeviceSettings, count: int) -> list[Kept]:
            samples = [Sample(of, readings(of, now_ms + n)) for n in range(count)]
            names = tuple(metric.name for metric in of.sparkplug.metrics)
            numbers = spool.append([("D", names, sample.columns) for sample in samples])
            return [Kept(number, sample) for number, sample in zip(numbers, samples, strict=True)]

        def change() -> None:
            board.adopt([NEW.sparkplug], now_ms)
            connection.adopt(session.with_devices([NEW.sparkplug]))
            connection.fresh(late)
            connection.fresh(fresh)

        old, live = keep(OLD, 5), keep(OLD, 5)
        late, fresh = keep(OLD, 2), keep(NEW, 3)
        uplink = Recorder(at, change)
        wake, stopping = asyncio.Event(), asyncio.Event()
        counters = spool.counters() | {"batch_last": old[-1].number}
        journal, primary = JournalFeed(thread), PrimaryHost(required=False)
        connection = Connection(cast("Uplink", uplink), session, journal, board, CLOCK, primary, wake, counters)
        connection.fresh(live)
        try:
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(connection.run(stopping, tasks))
                wanted = {kept.number for kept in (*old, *live, *late, *fresh)}
                await eventually_async(lambda: wanted <= uplink.batches)
                running.cancel()
        finally:
            thread.close()
        assert {value for name, value in uplink.heard if name == "Z"} == {VALUES["Z"]}
        assert set(uplink.heard) <= set(VALUES.items())
        assert not uplink.faults

    asyncio.run(story())


def test_the_board_keeps_what_it_knows_of_points_that_stay() -> None:
    """By name, whatever their place; what is still on its way of the former device finds its place too."""
    board = Board((OLD.sparkplug, EdgeDevice("E", (EdgeMetric("e"),))), 1)
    board.update(OLD.sparkplug, readings(OLD, 5), dead=True)
    board.adopt([NEW.sparkplug], 9)
    last = board.last("D")
    assert last.quality.tolist() == [GOOD, BAD_WAITING]
    assert (last.time_ms.tolist()[0], last.value.tolist()[0]) == (5, VALUES["Y"])
    assert (board.heard, board.dead) == ({"D"}, {"D"})
    board.update(OLD.sparkplug, readings(OLD, 7), dead=False)
    assert (board.last("D").time_ms.tolist()[0], board.last("D").quality.tolist()[1], board.dead) == (
        7,
        BAD_WAITING,
        set(),
    )
    board.update(EdgeDevice("E", (EdgeMetric("e"),)), one_reading(7, 1.0), dead=False)
    assert board.heard == {"D"}
