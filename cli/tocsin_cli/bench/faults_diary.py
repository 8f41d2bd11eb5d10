"""What the fault benchmark did, and when: for whoever has to find out why something was lost."""

from datetime import UTC, datetime
from typing import Final

from tocsin_core.clock import Clock

NS_PER_MS: Final = 1_000_000
NS_PER_S: Final = 1_000_000_000


def utc(time_ms: int) -> str:
    """Write a time in ms since 1970."""
    return datetime.fromtimestamp(time_ms / 1000, tz=UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Diary:
    """The faults in the order in which they came, each with its time by the bench's own clock."""

    def __init__(self, clock: Clock) -> None:
        """Begin with nothing."""
        self._clock = clock
        self._zero_ns = clock.now_ns() - round(clock.monotonic() * NS_PER_S)
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        """Write down what happens now."""
        self.lines.append(f"{self.utc(self._clock.monotonic())} {text}")

    def utc(self, at_s: float) -> str:
        """Write a time of the monotonic clock."""
        return utc((self._zero_ns + round(at_s * NS_PER_S)) // NS_PER_MS)
