"""A sensor's own time: RFC 3339 or a count since 1970, taken only where it may be true."""

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tocsin_core.readings import EARLIEST_NS, LATEST_NS

NS_PER_MS: Final = 1_000_000
MS_PER_S: Final = 1000
# From 2000 to 2100 the counts in s, ms, us and ns do not overlap: each is above its bound here and below the next.
FIRST_MS: Final = 1e11
FIRST_US: Final = 1e14
FIRST_NS: Final = 1e17
LONGEST_COUNT: Final = 32


@dataclass(frozen=True, slots=True)
class Window:
    """How far a sensor's own time may lie behind and ahead of its arrival, ms."""

    behind_ms: int
    ahead_ms: int

    def holds(self, time_ms: int, now_ms: int) -> bool:
        """Whether `time_ms` may be the time of what arrived at `now_ms`."""
        may_be = EARLIEST_NS <= time_ms * NS_PER_MS < LATEST_NS
        return may_be and now_ms - self.behind_ms <= time_ms <= now_ms + self.ahead_ms


DEFAULT_WINDOW: Final = Window(86_400_000, 60_000)


def stamp_ms(found: object) -> int | None:
    """Read a time out of JSON, ms since 1970: RFC 3339 with a zone, or a count of s, ms, us or ns since 1970.

    None where it is neither; a count may be in quotes. Without a zone nobody knows when it was.
    """
    if isinstance(found, str):
        return _text_ms(found)
    if isinstance(found, int | float) and not isinstance(found, bool):
        return _count_ms(found)
    return None


def _text_ms(text: str) -> int | None:
    try:
        # RFC 3339, 5.6: "t" and "z" may stand for "T" and "Z".
        stamp = datetime.fromisoformat(text.upper())
        if stamp.tzinfo is not None:
            return round(stamp.timestamp() * MS_PER_S)
    except (ValueError, OverflowError):
        if len(text) > LONGEST_COUNT:
            return None
    try:
        return _count_ms(int(text) if text.isdecimal() else float(text))
    except ValueError:
        return None


def _count_ms(count: float) -> int | None:
    size = abs(count)
    if not (isinstance(count, int) or math.isfinite(count)) or size >= FIRST_NS * NS_PER_MS:
        return None
    if size < FIRST_MS:
        return round(count * MS_PER_S)
    if size < FIRST_US:
        return round(count)
    per_ms = 1000 if size < FIRST_NS else NS_PER_MS
    return int(count // per_ms)
