"""The gateway's own alarms, driven by hand: what they make of the gateway's clock."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.edge.rig import modbus_device, plant
from tocsin_core.journal import decode
from tocsin_core.lifecycle import Event
from tocsin_core.plant import load_plant
from tocsin_core.readings import GOOD
from tocsin_core.sparkplug.edge import Columns
from tocsin_edge.adapters.spool import Spool
from tocsin_edge.loops.alarm_restore import resume
from tocsin_edge.loops.journal_feed import JournalFeed
from tocsin_edge.loops.keep import Sample
from tocsin_edge.loops.local_alarms import LocalAlarms
from tocsin_edge.loops.spool_thread import SpoolThread
from tocsin_edge.settings import compile_alarms, compile_settings

HOUR_MS = 3_600_000
NOW_MS = 1_800_000_000_000
ALARMS = ", alarms: {H: {setpoint: 100, deadband: 1, off_delay_s: 0, priority: high}, bad: false}"


@dataclass
class HandClock:
    """A clock that somebody sets."""

    ms: int

    def now_ns(self) -> int:
        """Nanoseconds as set."""
        return self.ms * 1_000_000

    def monotonic(self) -> float:
        """Never moves: nothing here waits."""
        return 0.0


def test_a_clock_set_back_leaves_nobody_deaf(tmp_path: Path) -> None:
    """Raised by a clock that is an hour ahead; once it is set right, the return and the next raise are told at once."""
    device = modbus_device("A", 1502, period_ms=100, timeout_ms=300)[:-1] + ALARMS + "}"
    settings = compile_settings(load_plant(plant(tmp_path / "plant", 1883, {"A": device})), "gw", tmp_path)
    clock = HandClock(NOW_MS + HOUR_MS)
    spool = Spool.open(tmp_path / "spool.db", 10, 600, clock.ms)
    thread = SpoolThread(spool, clock)
    compiled = compile_alarms(settings)
    alarms = LocalAlarms(settings, compiled, resume(compiled, None, spool, clock.now_ns()), clock, JournalFeed(thread))
    put = alarms.before(lambda _sample: None)

    def told(value: float, stamp_ms: int) -> list[Event | None]:
        columns = Columns(np.asarray([0]), np.asarray([stamp_ms]), np.asarray([value]), np.asarray([GOOD], np.uint8))
        put(Sample(settings.devices[0], columns))
        return [decode(body).event for _, body in alarms.take().entries]

    assert told(200.0, clock.ms) == [Event.RAISE]
    clock.ms = NOW_MS
    # A reading taken before the clock was set, and told after it.
    assert told(200.0, NOW_MS + HOUR_MS + 100) == []
    clock.ms = NOW_MS + 1000
    assert told(5.0, clock.ms) == [Event.RETURN]
    clock.ms = NOW_MS + 2000
    assert told(200.0, clock.ms) == [Event.RAISE]
    thread.close()
