"""The time by which the gateway's alarms are judged: the clock's, but where that is set back a little it goes on."""

from typing import Final

import structlog

from tocsin_core.clock import Clock

NS_PER_S: Final = 1_000_000_000
# Of each second so much is given up of what this time is ahead: delays and slopes are out by no more than that.
CATCH_UP: Final = 0.1
# chrony steers by at most 8.3 %, and no stamp shows less than a ms: what goes back by more was set.
STEERED: Final = 0.1
LEAST_NS: Final = 1_000_000

log = structlog.get_logger()


class AlarmTime:
    """By how much (`lead_ns`) this time is ahead of the clock that stamps the readings.

    After a step back of the clock readings bear stamps that were borne before, and would be late for as long as the
    step. So they count as of when they would have been without it, until the clock has caught up with this time.
    """

    def __init__(self, clock: Clock, from_ns: int) -> None:
        """Go on from `from_ns`, where this time had come to: the clock may have been set back while nobody looked."""
        self._clock = clock
        now_ns, self._looked_s = clock.now_ns(), clock.monotonic()
        self._between_ns = now_ns - _ns(self._looked_s)
        self.lead_ns = max(0, from_ns - now_ns)

    def look(self) -> int:
        """Take note of how the clock went since the last look; gives what it shows now."""
        before_s, now_ns, after_s = self._clock.monotonic(), self._clock.now_ns(), self._clock.monotonic()
        passed_ns = _ns(before_s - self._looked_s)
        self.lead_ns = max(0, self.lead_ns - round(CATCH_UP * passed_ns))
        # Only what is certain: anybody may have had the processor between one clock and the other.
        back_ns = self._between_ns - (now_ns - _ns(before_s))
        if back_ns > LEAST_NS + STEERED * passed_ns:
            log.warning("the clock was set back", by_s=back_ns / NS_PER_S)
            self.lead_ns += back_ns
        self._looked_s, self._between_ns = after_s, now_ns - _ns(after_s)
        return now_ns

    def follow(self) -> None:
        """Be what the clock shows from now on."""
        self.lead_ns = 0


def _ns(seconds: float) -> int:
    return round(seconds * NS_PER_S)
