"""How long something took or takes, in words that fit into a line."""

from typing import Final

MINUTE_S: Final = 120.0
HOUR_S: Final = 7200.0
DAY_S: Final = 172_800.0


def span(seconds: float) -> str:
    """Say `seconds` in one unit: `90 s`, `14 min`, `7 h`, `3 days`; never less than nothing."""
    for most, unit, name in ((MINUTE_S, 1.0, "s"), (HOUR_S, 60.0, "min"), (DAY_S, 3600.0, "h")):
        if seconds < most:
            return f"{max(0.0, seconds) / unit:.0f} {name}"
    return f"{seconds / 86400.0:.0f} days"
