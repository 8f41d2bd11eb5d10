"""The clock that stamps the readings: never back by a little, at once back by much, and no guessing."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from tests.edge.rig import modbus_device, plant
from tocsin_core.plant import load_plant
from tocsin_core.sparkplug.edge import Columns
from tocsin_edge.adapters.spool import Spool
from tocsin_edge.adapters.steady_clock import SteadyClock
from tocsin_edge.loops.alarm_restore import last_stamp_ns
from tocsin_edge.settings import compile_settings

START_S: Final = 1_800_000_000
NS: Final = 1_000_000_000


@dataclass
class Hands:
    """Two clocks that are set by hand; `held_s` is how long the processor is lost with each look at the wall clock."""

    s: float = 1000.0
    set_s: float = START_S
    held_s: float = 0.0

    def now_ns(self) -> int:
        """What the wall clock shows."""
        self.s += self.held_s
        now_ns = round((self.s + self.set_s) * NS)
        self.s += self.held_s
        return now_ns

    def monotonic(self) -> float:
        """What is never set."""
        return self.s


def ahead_s(steady: SteadyClock, hands: Hands) -> float:
    """By how much it is ahead of the machine's."""
    return round((steady.now_ns() - hands.now_ns()) / NS, 6)


def test_a_small_step_back_is_caught_up_with_slowly() -> None:
    """Nobody sees it go back; each second a tenth of one is given up, and then it is the machine's again."""
    hands = Hands()
    steady = SteadyClock(hands)
    before_ns = steady.now_ns()
    hands.s += 1
    hands.set_s -= 4
    assert round((steady.now_ns() - before_ns) / NS, 6) == 1
    for second in range(1, 50):
        hands.s += 1
        assert ahead_s(steady, hands) == pytest.approx(max(0.0, 4 - 0.1 * second))


def test_a_step_forward_is_followed_and_takes_back_a_lead() -> None:
    """Set back by mistake and put right again, both are the same at once."""
    hands = Hands()
    steady = SteadyClock(hands)
    for by_s, ahead in ((3.0, 0.0), (-3.0, 3.0), (2.0, 1.0), (2.0, 0.0), (3600.0, 0.0)):
        hands.set_s += by_s
        assert ahead_s(steady, hands) == ahead


def test_a_large_step_back_is_followed_at_once() -> None:
    """By itself, or with what was not caught up with yet."""
    hands = Hands()
    steady = SteadyClock(hands)
    for by_s, ahead in ((-3600.0, 0.0), (-3.0, 3.0), (-3.0, 0.0)):
        hands.set_s += by_s
        assert ahead_s(steady, hands) == ahead


def test_a_clock_that_is_steered_or_looked_at_on_a_busy_machine_was_not_set() -> None:
    """What chrony takes off a clock is followed; between two looks the processor may be gone for long."""
    hands = Hands()
    steady = SteadyClock(hands)
    for held_s in (0.0, 2.0, 0.0, 0.3, 0.0) * 3:
        hands.held_s = held_s
        steady.now_ns()
        hands.held_s = 0.0
        assert ahead_s(steady, hands) == 0
        hands.s += 1
        hands.set_s -= 0.083
        assert ahead_s(steady, hands) == 0


def test_over_a_restart_it_goes_on_from_what_was_stamped_last(tmp_path: Path) -> None:
    """By its own clock, and not by that of a sensor; a clock that was set back by much is followed."""
    devices = {
        "A": modbus_device("A", 502),
        "S": "mqtt: {topic: s, time: t}\npoints: [{id: S, name: S, kind: generic, field: v}]",
    }
    settings = compile_settings(load_plant(plant(tmp_path / "plant", 1, devices)), "gw", tmp_path)
    settings.spool.parent.mkdir(parents=True)
    spool = Spool.open(settings.spool, 64, 600, START_S * 1000)
    assert last_stamp_ns(settings, spool) == 0
    newest_ms = (START_S + 1000) * 1000
    for device, at_ms in (("A", newest_ms), ("S", newest_ms + 9000), ("A", newest_ms - 300)):
        columns = Columns(np.zeros(1, np.int64), np.array([at_ms]), np.ones(1), np.full(1, 192, np.uint8))
        spool.keep([(device, (device,), columns)], [])
    stamp_ns = last_stamp_ns(settings, spool)
    spool.close()
    assert stamp_ns == newest_ms * 1_000_000
    # Later than the stamp, which no reading may bear again.
    for set_s, ahead in ((0.0, 0.001), (-3.0, 3.001), (+3.0, 0.0), (-3600.0, 0.0)):
        hands = Hands(set_s=START_S + set_s)
        steady = SteadyClock(hands)
        steady.go_on_from(stamp_ns)
        assert ahead_s(steady, hands) == ahead
