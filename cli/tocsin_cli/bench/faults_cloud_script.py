"""What goes wrong in each cycle of the cloud side's fault benchmark: drawn from a seed, the same each time."""

from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Final

# A worker that stands still for less than its lease's patience goes on, one for longer finds another in its place.
PAUSE_S: Final = (0.3, 4.0)
# What everybody needs is away, or stands still, for so long.
SHARED_PAUSE_S: Final = (0.3, 2.0)
LEAD_S: Final = (0.1, 0.8)


class Target(StrEnum):
    """What is killed, or made to stand still."""

    HOLDER = "the worker with the most leases"
    STANDBY = "the other worker"
    SERVER = "the NATS server"
    DATABASE = "PostgreSQL"
    API = "the interface"


SHARED: Final = {Target.SERVER, Target.DATABASE}


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done to whom, all of it at once, and how often that is drawn."""

    weight: int
    targets: tuple[Target, ...]
    kills: bool = True

    def __str__(self) -> str:
        """In words."""
        return f"{'kill -9' if self.kills else 'SIGSTOP'} of {' and '.join(self.targets)}"


FAULTS: Final = (
    Fault(22, (Target.HOLDER,)),
    Fault(6, (Target.STANDBY,)),
    Fault(6, (Target.HOLDER, Target.STANDBY)),
    Fault(10, (Target.SERVER,)),
    Fault(6, (Target.SERVER, Target.HOLDER)),
    Fault(14, (Target.DATABASE,)),
    Fault(6, (Target.DATABASE, Target.HOLDER)),
    Fault(6, (Target.API,)),
    Fault(12, (Target.HOLDER,), kills=False),
    Fault(2, (Target.STANDBY,), kills=False),
    Fault(5, (Target.SERVER,), kills=False),
    Fault(5, (Target.DATABASE,), kills=False),
)


@dataclass(frozen=True, slots=True)
class Cycle:
    """One cycle: the fault, how long all is well before it, and how long whoever is hit stands still or is away."""

    fault: Fault
    lead_s: float
    pause_s: float


def script(cycles: int, seed: int, *, database: bool) -> list[Cycle]:
    """Draw so many cycles; without a `database` that is a process nothing happens to it."""
    rng = Random(seed)  # noqa: S311 - faults, not secrets
    faults = [fault for fault in FAULTS if database or Target.DATABASE not in fault.targets]
    return [_cycle(rng, fault) for fault in rng.choices(faults, [fault.weight for fault in faults], k=cycles)]


def _cycle(rng: Random, fault: Fault) -> Cycle:
    pause = SHARED_PAUSE_S if SHARED.intersection(fault.targets) else PAUSE_S
    return Cycle(fault, rng.uniform(*LEAD_S), rng.uniform(*pause))
