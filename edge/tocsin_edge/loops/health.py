"""When a device counts as failing, dead and back again, told once each with its reason."""

import structlog

from tocsin_core import polling
from tocsin_core.clock import Clock

log = structlog.get_logger()


class Complaints:
    """What is wrong with one device, logged when it changes."""

    def __init__(self, device: str) -> None:
        """Start with nothing wrong."""
        self._device = device
        self.reason = ""
        self._dead = False

    def complain(self, reason: str) -> None:
        """Note what is wrong with an answer, or that there was none; empty if nothing is."""
        if reason and reason != self.reason:
            log.warning("device trouble", device=self._device, reason=reason)
        self.reason = reason

    def note(self, *, dead: bool) -> None:
        """Log that the device is dead from now on, or back."""
        if dead and not self._dead:
            log.warning("device dead", device=self._device, reason=self.reason)
        if self._dead and not dead:
            log.info("device back", device=self._device)
        self._dead = dead


class Health:
    """One device's run of failures; none is counted while a device that was never heard may still be starting."""

    def __init__(self, device: str, clock: Clock, grace_s: float) -> None:
        """Start as alive with nothing heard; it may be starting for `grace_s` from now on."""
        self._clock = clock
        self._state = polling.Health(clock.monotonic() + grace_s)
        self._complaints = Complaints(device)

    @property
    def failing(self) -> bool:
        """Whether the last try failed."""
        return self._state.failing

    @property
    def dead(self) -> bool:
        """Whether it has failed often enough to be taken for dead."""
        return self._state.dead

    def fail(self, reason: str) -> None:
        """Count a try to which nobody answered."""
        self._state = self._state.failed(self._clock.monotonic(), 0.0)
        if self._state.failing:
            self._complaints.complain(reason)
            self._complaints.note(dead=self.dead)

    def answer(self) -> None:
        """Count a try that was answered."""
        self._state = self._state.answered(0.0)
        self._complaints.note(dead=False)

    def complain(self, reason: str) -> None:
        """Note what is wrong with an answer; a reason is logged when it is another than last time."""
        self._complaints.complain(reason)
