"""When a device counts as failing, dead and back again, told once each with its reason."""

from collections import Counter
from math import inf
from typing import Final

import structlog

from tocsin_core.clock import Clock

# A plant and its gateways are switched on together, in any order: so many periods, within these bounds, a device that
# was never reached may still be starting.
GRACE_PERIODS: Final = 2
GRACE_LEAST_S: Final = 2.0
GRACE_MOST_S: Final = 10.0
# Bad readings go out with each of these periods; then Sparkplug's DDEATH says it for as long as it lasts.
FAILURES_UNTIL_DEAD: Final = 3

log = structlog.get_logger()


def grace_s(period_s: float) -> float:
    """Say how long, in s, a polled device of this period may be silent after the start: two periods, 2 to 10 s."""
    return min(max(GRACE_PERIODS * period_s, GRACE_LEAST_S), GRACE_MOST_S)


class Health:
    """One device's run of failures; none is counted while a device that was never reached may still be starting."""

    def __init__(self, device: str, clock: Clock, grace_s: float) -> None:
        """Start as alive with nothing heard; it may be starting for `grace_s` from now on."""
        self._device = device
        self._clock = clock
        self._grace_until = clock.monotonic() + grace_s
        self._failures = 0
        self._reason = ""
        self.reasons: Counter[str] = Counter()

    @property
    def failing(self) -> bool:
        """Whether the last try failed."""
        return self._failures > 0

    @property
    def dead(self) -> bool:
        """Whether it has failed often enough to be taken for dead."""
        return self._failures >= FAILURES_UNTIL_DEAD

    def fail(self, reason: str) -> bool:
        """Count a try to which nobody answered; tells whether its readings are worth telling."""
        if self._clock.monotonic() < self._grace_until:
            self.reasons[reason] += 1
            return False
        was_dead = self.dead
        self._failures += 1
        self.complain(reason)
        if self._failures == FAILURES_UNTIL_DEAD:
            log.warning("device dead", device=self._device, reason=reason, failures=self._failures)
        return not was_dead

    def answer(self) -> None:
        """Count a try that was answered, be it with an exception."""
        self._grace_until = -inf
        if self.dead:
            log.info("device back", device=self._device, after_failures=self._failures)
        self._failures = 0

    def complain(self, reason: str) -> None:
        """Count what is wrong with an answer; a reason is logged when it is another than last time."""
        if reason:
            self.reasons[reason] += 1
            if reason != self._reason:
                log.warning("device trouble", device=self._device, reason=reason)
        self._reason = reason
