"""The only place that reads the clock: the `Clock` protocol and the system's implementation of it."""

import time
from typing import Protocol


class Clock(Protocol):
    """What a shell needs to know of time; tests pass one that they move by hand."""

    def now_ns(self) -> int:
        """Wall clock, nanoseconds since the Unix epoch, UTC."""

    def monotonic(self) -> float:
        """Seconds that never step back, from an arbitrary origin: for deadlines and intervals."""


class SystemClock:
    """The machine's own clocks."""

    def now_ns(self) -> int:
        """Wall clock, nanoseconds since the Unix epoch, UTC."""
        return time.time_ns()

    def monotonic(self) -> float:
        """Seconds that never step back."""
        return time.monotonic()
