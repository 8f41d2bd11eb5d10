"""What goes wrong in each cycle of the cloud side's fault benchmark: drawn from a seed, the same each time."""

from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import Final

# A worker that stands still for less than its lease's patience goes on, one for longer finds another in its place.
PAUSE_S: Final = (0.3, 4.0)
SERVER_PAUSE_S: Final = (0.3, 2.0)
LEAD_S: Final = (0.1, 0.8)


class Fault(Enum):
    """What is done, with how often it is drawn."""

    KILL_HOLDER = "kill -9 of the worker that has the most leases", 30
    KILL_STANDBY = "kill -9 of the other worker", 8
    KILL_BOTH = "kill -9 of both workers", 8
    KILL_SERVER = "kill -9 of the NATS server", 16
    KILL_SERVER_AND_HOLDER = "kill -9 of the NATS server and of the worker that has the most leases", 8
    KILL_API = "kill -9 of the interface", 8
    PAUSE_HOLDER = "the worker that has the most leases stands still", 12
    PAUSE_SERVER = "the NATS server stands still", 6
    PAUSE_STANDBY = "the other worker stands still", 4

    @property
    def kills(self) -> int:
        """How many processes it kills."""
        return {Fault.KILL_BOTH: 2, Fault.KILL_SERVER_AND_HOLDER: 2}.get(self, int(self.name.startswith("KILL")))


@dataclass(frozen=True, slots=True)
class Cycle:
    """One cycle: the fault, how long all is well before it, and for how long whoever is paused stands still."""

    fault: Fault
    lead_s: float
    pause_s: float


def script(cycles: int, seed: int) -> list[Cycle]:
    """Draw so many cycles."""
    rng = Random(seed)  # noqa: S311 - faults, not secrets
    faults, weights = list(Fault), [fault.value[1] for fault in Fault]
    return [_cycle(rng, fault) for fault in rng.choices(faults, weights, k=cycles)]


def _cycle(rng: Random, fault: Fault) -> Cycle:
    pause = SERVER_PAUSE_S if fault is Fault.PAUSE_SERVER else PAUSE_S
    return Cycle(fault, rng.uniform(*LEAD_S), rng.uniform(*pause))
