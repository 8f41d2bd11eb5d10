"""How long to wait before a broker is tried again: at random, so that not all who lost it come back at once."""

from collections.abc import Callable
from typing import Final

FIRST_S: Final = 0.25
SOON_S: Final = 1.0
# Of the time that it has been away. Where 50,000 gateways lost theirs half an hour ago it hears of fewer than 2,000 a
# second when it is back, and nobody was away for a sixtieth longer because of that.
PART: Final = 1 / 60
MOST_S: Final = 30.0


class Reconnect:
    """The waits between attempts: up to twice the one before, to a second, and longer when it is away for longer."""

    def __init__(self, now_s: float) -> None:
        """Begin with a connection that was good until now (monotonic s)."""
        self.was_good(now_s)

    def was_good(self, now_s: float) -> None:
        """Take note that the connection that ended now was a good one: the first wait is short again."""
        self._good_s = now_s
        self._longest_s = FIRST_S

    def wait_s(self, now_s: float, draw: Callable[[], float]) -> float:
        """Tell how long to wait after an attempt that failed; `draw` gives random numbers [0, 1) (full jitter)."""
        wait_s = draw() * self._longest_s
        away_s = now_s - self._good_s
        self._longest_s = min(2 * self._longest_s, max(SOON_S, min(PART * away_s, MOST_S)))
        return wait_s
