"""The clock's state: what the kernel's answer means, when the clock was set, and that the gateway knows."""

from collections import Counter
from typing import Final

import pytest
from structlog.testing import capture_logs

from tests.edge.rig import one_reading
from tocsin_core.sparkplug import EdgeDevice, EdgeMetric
from tocsin_edge.adapters.clock_sync import ClockSync, clock_sync, judged
from tocsin_edge.loops.board import Board
from tocsin_edge.loops.clock_watch import ClockWatch

START_MS: Final = 1_800_000_000_000


class HandClock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        """Start anywhere."""
        self.ns = START_MS * 1_000_000
        self.s = 100.0

    def now_ns(self) -> int:
        """UTC."""
        return self.ns

    def monotonic(self) -> float:
        """Seconds since anywhere."""
        return self.s

    def pass_s(self, seconds: float, *, set_by_s: float = 0.0) -> None:
        """Let time pass, and set the wall clock."""
        self.s += seconds
        self.ns += round((seconds + set_by_s) * 1e9)


@pytest.mark.parametrize(
    ("state", "status", "synchronised"), [(0, 0x2001, True), (5, 0x2041, False), (0, 0x0040, False), (5, 0, False)]
)
def test_the_kernels_answer(state: int, status: int, synchronised: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """TIME_ERROR or STA_UNSYNC: nobody sets the clock; otherwise the greatest error is known."""
    found = judged(state, status, 12_500)
    assert found.synchronised is synchronised
    assert found.error_ms == (12.5 if synchronised else None)
    assert bool(found.reason) is not synchronised


def test_this_machine_can_be_asked() -> None:
    """Whatever it answers, it is one of the two."""
    found = clock_sync()
    assert found.synchronised == (not found.reason)
    assert found.error_ms is None or found.error_ms >= 0


def test_the_board_knows_the_clock_and_changes_are_told_once() -> None:
    """Not synchronised at the start, then synchronised, then not again: three lines in the log, each with its since."""
    clock, board, changes = HandClock(), Board((), 0), Counter[int]()
    answers = [ClockSync(synchronised=False, reason="x")] * 2 + [ClockSync(synchronised=True, error_ms=1.0)] * 2
    answers.append(ClockSync(synchronised=False, reason="y"))
    with capture_logs() as logs:
        watch = ClockWatch(clock, board, lambda: answers.pop(0), lambda: changes.update([board.clock.since_ms]))
        seen = [board.clock]
        while answers:
            clock.pass_s(10)
            watch.look()
            seen.append(board.clock)
    assert [each.synchronised for each in seen] == [False, False, True, True, False]
    assert [(each.since_ms - START_MS) // 1000 for each in seen] == [0, 0, 20, 20, 40]
    assert changes == dict.fromkeys((START_MS, START_MS + 20_000, START_MS + 40_000), 1)
    assert board.unsynchronised_ms == START_MS + 40_000
    assert [entry["event"] for entry in logs] == [
        "clock not synchronised",
        "clock synchronised",
        "clock not synchronised",
    ]
    assert (watch.steps, watch.backwards) == (0, 0)


@pytest.mark.parametrize(
    ("set_by_s", "steps", "backwards"), [(-3600.0, 1, 1), (3600.0, 1, 0), (0.8, 0, 0), (-0.8, 0, 0), (2.0, 1, 0)]
)
def test_a_clock_that_was_set_is_counted(set_by_s: float, steps: int, backwards: int) -> None:
    """Steering and a second's difference are none; an hour back is, and the state begins anew with the new time."""
    clock, board = HandClock(), Board((), 0)
    watch = ClockWatch(clock, board, lambda: ClockSync(synchronised=False, reason="x"), lambda: None)
    clock.pass_s(10, set_by_s=set_by_s)
    watch.look()
    then_ms = clock.ns // 1_000_000
    clock.pass_s(10)
    watch.look()
    assert (watch.steps, watch.backwards) == (steps, backwards)
    assert board.clock.since_ms == (then_ms if steps else START_MS)
    assert board.clock.step_s == (pytest.approx(set_by_s) if steps else None)


def test_after_a_step_back_the_board_takes_what_is_read() -> None:
    """Readings of the hour that comes again are not older than those that stand on the board; late ones still are."""
    clock, device = HandClock(), EdgeDevice("D", (EdgeMetric("m"),))
    board = Board((device,), START_MS)
    watch = ClockWatch(clock, board, lambda: ClockSync(synchronised=True), lambda: None)

    def read(after_ms: int, value: float) -> float:
        board.update(device, one_reading(START_MS + after_ms, value), dead=False)
        return float(board.last("D").value[0])

    assert [read(1000, 1.0), read(500, 2.0)] == [1.0, 1.0]
    clock.pass_s(10, set_by_s=-3600)
    watch.look()
    assert [read(-3_590_000, 3.0), read(-3_591_000, 4.0)] == [3.0, 3.0]
