"""When a device counts as failing, dead and back again, told once each with its reason."""

from collections import Counter
from typing import Final

import structlog

# Bad readings go out with each of these periods; then Sparkplug's DDEATH says it for as long as it lasts.
FAILURES_UNTIL_DEAD: Final = 3

log = structlog.get_logger()


class Health:
    """One device's run of failures."""

    def __init__(self, device: str) -> None:
        """Start as alive with nothing heard."""
        self._device = device
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

    def fail(self, reason: str) -> None:
        """Count a try to which nobody answered."""
        self._failures += 1
        self.complain(reason)
        if self._failures == FAILURES_UNTIL_DEAD:
            log.warning("device dead", device=self._device, reason=reason, failures=self._failures)

    def answer(self) -> None:
        """Count a try that was answered, be it with an exception."""
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
