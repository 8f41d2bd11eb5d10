"""How far a gateway's clock is from ours, measured by when it says that it sent a message and when the message came."""

from dataclasses import dataclass
from typing import Final

NS_PER_MS: Final = 1_000_000
WINDOW_NS: Final = 60_000_000_000
BOUND_S: Final = 30.0
"""Beyond it a clock is called wrong. A link that is so slow for a minute is one too."""


@dataclass(slots=True)
class Skew:
    """One gateway's.

    A message's own time stamp says when it was sent, also where what is in it is old. On its way it can only be held
    up: the message that looks least late, of the present minute and the one before, is the nearest to the truth.
    """

    _window: int = 0
    _now_s: float | None = None
    _before_s: float | None = None

    @property
    def seconds(self) -> float | None:
        """By how much its clock is ahead, negative where it is behind; None where no message told of late."""
        known = [each for each in (self._now_s, self._before_s) if each is not None]
        return max(known, default=None)

    def hear(self, sent_ms: int, at_ns: int) -> None:
        """Take in that a message of `sent_ms` (by the gateway's clock) came at `at_ns` (by ours)."""
        window, ahead_s = at_ns // WINDOW_NS, (sent_ms * NS_PER_MS - at_ns) / 1e9
        if window != self._window:
            self._before_s = self._now_s if window == self._window + 1 else None
            self._window, self._now_s = window, None
        self._now_s = ahead_s if self._now_s is None else max(self._now_s, ahead_s)


def is_skewed(seconds: float | None) -> bool:
    """Whether a clock that is ahead by so much is wrong."""
    return seconds is not None and abs(seconds) > BOUND_S
