"""How much history may be on the link at once, so that a live batch never waits long behind it: decisions only."""

from typing import Final

FIRST_BYTES: Final = 16 * 1024
LEAST_BYTES: Final = 8 * 1024
MOST_BYTES: Final = 4 * 1024 * 1024
# Live data is to be uphill within 2 s: what the broker takes longer than SLOW_S to swallow was too much at once.
SLOW_S: Final = 0.5
FAST_S: Final = 0.2


class Pace:
    """Bytes of history since the broker last proved that it has everything, and how many there may be.

    The window doubles while the broker answers within 0.2 s and is halved when it takes more than 0.5 s.
    """

    def __init__(self) -> None:
        """Start with 16 KiB, half a second of a 256 kbit/s link."""
        self.window = FIRST_BYTES
        self.unproven = 0

    @property
    def full(self) -> bool:
        """Whether the broker has to answer before more history goes out."""
        return self.unproven >= self.window

    def sent(self, size: int) -> None:
        """Note `size` bytes of history on their way."""
        self.unproven += size

    def proven(self, took_s: float) -> None:
        """Note that the broker has all that was sent, `took_s` after it was asked."""
        self.unproven = 0
        if took_s > SLOW_S:
            self.window = max(self.window // 2, LEAST_BYTES)
        elif took_s < FAST_S:
            self.window = min(self.window * 2, MOST_BYTES)
