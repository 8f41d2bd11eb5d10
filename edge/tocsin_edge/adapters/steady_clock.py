"""The machine's clock; but where that is set back a little this one goes on, slower, until both are the same."""

from typing import Final

import structlog

from tocsin_core.clock import Clock
from tocsin_core.readings import AHEAD_NS

NS_PER_S: Final = 1_000_000_000
# Of each second so much is given up of what this clock is ahead: intervals are out by no more than that.
CATCH_UP: Final = 0.1
# chrony steers by at most 8.3 %, and no stamp shows less than a ms: what goes back by more was set.
STEERED: Final = 0.1
LEAST_NS: Final = 1_000_000

log = structlog.get_logger()


class SteadyClock:
    """What stamps the readings: by a clock that is set back they would bear stamps that others have borne already.

    Those the history would take for the same readings, and every engine for late ones, for as long as the step. A step
    back by more than `AHEAD_NS` is followed at once all the same: stamps as wrong as that are worse.
    """

    def __init__(self, clock: Clock) -> None:
        """Begin as `clock`."""
        self._clock = clock
        self._lead_ns = 0
        now_ns, self._looked_s = clock.now_ns(), clock.monotonic()
        # How far the wall clock is before the monotonic one, at the least and at the most.
        self._least_ns = self._most_ns = now_ns - _ns(self._looked_s)
        self._shown_ns = now_ns

    def monotonic(self) -> float:
        """Seconds that never step back."""
        return self._clock.monotonic()

    def go_on_from(self, stamp_ns: int) -> None:
        """Be later than a stamp that was given before a restart, if the clock was set back by a little since."""
        ahead_ns = stamp_ns + LEAST_NS - self.now_ns()
        if 0 < ahead_ns <= AHEAD_NS - self._lead_ns:
            self._lead_ns += ahead_ns

    def now_ns(self) -> int:
        """Wall clock, nanoseconds since the Unix epoch, UTC."""
        before_s, now_ns, after_s = self._clock.monotonic(), self._clock.now_ns(), self._clock.monotonic()
        passed_ns = max(0, _ns(before_s - self._looked_s))
        # Only what is certain: anybody may have had the processor between one clock and the other.
        least_ns, most_ns = now_ns - _ns(after_s), now_ns - _ns(before_s)
        steered_ns = LEAST_NS + STEERED * passed_ns
        back_ns, forward_ns = self._least_ns - most_ns, least_ns - self._most_ns
        self._lead_ns = max(0, self._lead_ns - round(CATCH_UP * passed_ns))
        if back_ns > steered_ns:
            # What is not certain of the step must not show either.
            self._step_back(max(back_ns, self._shown_ns - now_ns - self._lead_ns))
        elif forward_ns > steered_ns:
            self._lead_ns = max(0, self._lead_ns - forward_ns)
        self._looked_s, self._least_ns, self._most_ns = after_s, least_ns, most_ns
        self._shown_ns = now_ns + self._lead_ns
        return self._shown_ns

    def _step_back(self, by_ns: int) -> None:
        follows = self._lead_ns + by_ns > AHEAD_NS
        log.warning("the clock was set back", by_s=by_ns / NS_PER_S, followed_at_once=follows)
        self._lead_ns = 0 if follows else self._lead_ns + by_ns


def _ns(seconds: float) -> int:
    return round(seconds * NS_PER_S)
