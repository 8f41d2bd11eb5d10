"""The clock watch: whether the time of the readings can be believed, and when the clock was set."""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from tocsin_core.clock import Clock
from tocsin_edge.adapters.clock_sync import ClockSync
from tocsin_edge.loops.board import Board

WATCH_EVERY_S: Final = 10.0
NS_PER_S: Final = 1_000_000_000
# chrony steers by at most 8.3 %, and a clock without it strays by seconds a day: what differs more was set.
STEP_S: Final = 0.5
STEERED: Final = 0.1

log = structlog.get_logger()


class ClockWatch:
    """Keeps `board.clock` true; `steps` counts how often the clock was set, `backwards` how often it was set back."""

    def __init__(self, clock: Clock, board: Board, read: Callable[[], ClockSync]) -> None:
        """Look for the first time."""
        self._clock = clock
        self._board = board
        self._read = read
        self._last = (clock.now_ns(), clock.monotonic())
        self._told: bool | None = None
        self.steps = 0
        self.backwards = 0
        self._note(read())

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
        if abs(step_s) > STEP_S + STEERED * passed_s:
            self.steps += 1
            self.backwards += step_s < 0
            log.warning("clock was set", by_s=round(step_s, 3))
        self._note(self._read())

    def _note(self, found: ClockSync) -> None:
        self._board.clock = found
        if found.synchronised == self._told:
            return
        self._told = found.synchronised
        if found.synchronised:
            log.info("clock synchronised", error_ms=found.error_ms)
        else:
            log.warning("clock not synchronised", reason=found.reason)
