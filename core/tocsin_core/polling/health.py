"""Whether a unit answers: a value that a failure or an answer turns into the next, and how long it is left alone."""

from dataclasses import dataclass, replace
from math import inf
from typing import Final

# Bad readings are told with each of these periods; then the unit counts as dead and is only probed.
FAILURES_UNTIL_DEAD: Final = 3
# A plant and its gateways are switched on together, in any order: so many periods, within these bounds, a device that
# was never reached may still be starting.
GRACE_PERIODS: Final = 2
GRACE_LEAST_S: Final = 2.0
GRACE_MOST_S: Final = 10.0
# A dead unit is asked again after a random wait (full jitter) below a bound that doubles from the first to the most.
PROBE_FIRST_S: Final = 1.0
PROBE_MOST_S: Final = 5.0
# A probe waits this many times the usual answer, but every so many probes as long as the plant file allows: the unit
# may have become slower.
PROBE_PATIENCE: Final = 4.0
PROBE_PATIENCE_LEAST_S: Final = 0.1
PATIENT_PROBE_EVERY: Final = 4
# Weight of the newest answer in what is usual.
USUAL_WEIGHT: Final = 0.2


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before trying again: full jitter below a bound that doubles with each failure in a row."""

    first_s: float
    most_s: float
    failures: int = 0
    not_before_s: float = 0.0

    def failed(self, now_s: float, draw: float) -> "Backoff":
        """The state after one more failure at `now_s` (monotonic s); `draw` is a random number, 0 <= draw < 1."""
        bound = min(self.most_s, self.first_s * 2.0 ** min(self.failures, 32))
        return replace(self, failures=self.failures + 1, not_before_s=now_s + draw * bound)

    def succeeded(self) -> "Backoff":
        """The state after a success: nothing is waited for."""
        if not self.failures and not self.not_before_s:
            return self
        return replace(self, failures=0, not_before_s=0.0)


def grace_s(period_s: float) -> float:
    """Say how long, in s, a polled device of this period may be silent after the start: two periods, 2 to 10 s."""
    return min(max(GRACE_PERIODS * period_s, GRACE_LEAST_S), GRACE_MOST_S)


@dataclass(frozen=True, slots=True)
class Health:
    """One unit's run of failures: live, failing, or dead (from FAILURES_UNTIL_DEAD failed cycles in a row).

    `grace_until_s` is when a unit that was never heard stops being thought to be starting; `usual_s` is how long its
    answers usually take, 0 if it never answered.
    """

    grace_until_s: float = -inf
    failures: int = 0
    usual_s: float = 0.0
    probes: Backoff = Backoff(PROBE_FIRST_S, PROBE_MOST_S)

    @property
    def failing(self) -> bool:
        """Whether the last cycle failed."""
        return self.failures > 0

    @property
    def dead(self) -> bool:
        """Whether it has failed often enough to be taken for dead."""
        return self.failures >= FAILURES_UNTIL_DEAD

    def failed(self, now_s: float, draw: float) -> "Health":
        """The state after a cycle to which nobody answered, at `now_s`; `draw` is a random number, 0 <= draw < 1.

        While a unit that was never heard may still be starting, no failure is counted.
        """
        if now_s < self.grace_until_s:
            return self
        after = replace(self, failures=self.failures + 1)
        return replace(after, probes=self.probes.failed(now_s, draw)) if after.dead else after

    def answered(self, took_s: float) -> "Health":
        """The state after an answer, be it an exception, that took `took_s`."""
        usual = took_s if not self.usual_s else self.usual_s + USUAL_WEIGHT * (took_s - self.usual_s)
        return Health(usual_s=usual, probes=self.probes.succeeded())

    def ready(self) -> "Health":
        """The state after the line that led to it is there again: a dead unit is probed at once."""
        return replace(self, probes=self.probes.succeeded())

    def patience_s(self, timeout_s: float) -> float:
        """How long to wait for its next answer where `timeout_s` is allowed: a dead one gets less than a live one."""
        if not self.dead or self.probes.failures % PATIENT_PROBE_EVERY == 0:
            return timeout_s
        return self.usual_patience_s(timeout_s)

    def usual_patience_s(self, timeout_s: float) -> float:
        """How long an answer takes at most as long as all is as usual; `timeout_s` where nobody knows."""
        if not self.usual_s:
            return timeout_s
        return min(timeout_s, max(PROBE_PATIENCE_LEAST_S, PROBE_PATIENCE * self.usual_s))
