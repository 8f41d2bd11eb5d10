"""The clock watch: whether the time of the readings can be believed, since when, and when the clock was set."""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from tocsin_core.clock import Clock
from tocsin_core.sparkplug import ClockState
from tocsin_edge.adapters.clock_sync import ClockSync
from tocsin_edge.loops.board import Board

WATCH_EVERY_S: Final = 10.0
NS_PER_S: Final = 1_000_000_000
NS_PER_MS: Final = 1_000_000
# chrony steers by at most 8.3 %, and a clock without it strays by seconds a day: what differs more was set.
STEP_S: Final = 0.5
STEERED: Final = 0.1

log = structlog.get_logger()


class ClockWatch:
    """Keeps `board.clock` true, and calls `on_change` when it became another state or the clock was set.

    `steps` counts how often the clock was set, `backwards` how often it was set back.
    """

    def __init__(
        self, clock: Clock, board: Board, read: Callable[[], ClockSync], on_change: Callable[[], None]
    ) -> None:
        """Look for the first time."""
        self._clock = clock
        self._board = board
        self._read = read
        self._on_change = on_change
        self._last = (clock.now_ns(), clock.monotonic())
        self._told: bool | None = None
        self.steps = 0
        self.backwards = 0
        self._note(read(), None)

    async def run(self) -> None:
        """Look again for ever."""
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            self.look()

    def look(self) -> None:
        """Compare the two clocks, and ask the system."""
        now_ns, now_s = self._clock.now_ns(), self._clock.monotonic()
        (last_ns, last_s), self._last = self._last, (now_ns, now_s)
        passed_s = now_s - last_s
        step_s = (now_ns - last_ns) / NS_PER_S - passed_s
        was_set = abs(step_s) > STEP_S + STEERED * passed_s
        if was_set:
            self.steps += 1
            log.warning("clock was set", by_s=round(step_s, 3))
            if step_s < 0:
                self.backwards += 1
                self._board.set_back(now_ns // NS_PER_MS)
        self._note(self._read(), step_s if was_set else None)

    def _note(self, found: ClockSync, step_s: float | None) -> None:
        """Put what was found on the board; where the clock was set, its state begins anew with the new time."""
        before, changed = self._board.clock, found.synchronised != self._told
        since_ms = self._clock.now_ns() // NS_PER_MS if changed or step_s is not None else before.since_ms
        last_step_s = before.step_s if step_s is None else step_s
        self._board.clock = ClockState(found.synchronised, since_ms, found.error_ms, last_step_s)
        self._board.clock_reason = found.reason
        self._told = found.synchronised
        if changed or step_s is not None:
            self._on_change()
        if changed:
            self._log(found)

    def _log(self, found: ClockSync) -> None:
        if found.synchronised:
            log.info("clock synchronised", error_ms=found.error_ms)
        else:
            log.warning("clock not synchronised", reason=found.reason)
