"""How much history may be on the link at once, so that a live batch never waits long behind it: decisions only."""

from typing import Final

FIRST_BYTES: Final = 8 * 1024
LEAST_BYTES: Final = 4 * 1024
MOST_BYTES: Final = 4 * 1024 * 1024
# Live data is to be uphill within 2 s: what the broker takes longer than SLOW_S to swallow was too much at once.
SLOW_S: Final = 0.5
FAST_S: Final = 0.2
# A good link may have become a narrow one since the broker answered last: it is asked anew at least so often.
STRETCH_S: Final = 0.5
# A broker by satellite answers in 0.8 s; what took longer had something before it on the way.
MOST_ROUND_TRIP_S: Final = 1.0


class Pace:
    """Bytes of history since the broker last proved that it has everything, and how many there may be.

    The window doubles while the broker answers for a whole one within 0.2 s. When it takes more than 0.5 s the window
    becomes what the link carried of it in that time, and half of what was sent at most. Both are counted from the
    shortest time in which it has answered: that one is the way there and back, on which history has no part.
    """

    def __init__(self) -> None:
        """Start with 8 KiB, a second of a 64 kbit/s link."""
        self.window = FIRST_BYTES
        self.unproven = 0
        self._begun_s = 0.0
        self._round_trip_s = 0.0

    def idle(self, took_s: float) -> None:
        """Note how long the broker took to answer when nothing was sent before."""
        self._round_trip_s = min(took_s, MOST_ROUND_TRIP_S)

    def full(self, now_s: float) -> bool:
        """Whether the broker has to answer before more history goes out."""
        return self.unproven >= self.window or (self.unproven > 0 and now_s - self._begun_s > STRETCH_S)

    def sent(self, size: int, now_s: float) -> None:
        """Note `size` bytes of history on their way from now on, by a steady clock."""
        if not self.unproven:
            self._begun_s = now_s
        self.unproven += size

    def proven(self, took_s: float) -> None:
        """Note that the broker has all that was sent, `took_s` after it was asked."""
        sent, self.unproven = self.unproven, 0
        self._round_trip_s = min(took_s, self._round_trip_s)
        waited_s = took_s - self._round_trip_s
        if waited_s > SLOW_S:
            self.window = max(int(min(self.window, sent) * min(0.5, SLOW_S / waited_s)), LEAST_BYTES)
        elif waited_s < FAST_S and sent >= self.window:
            self.window = min(self.window * 2, MOST_BYTES)
