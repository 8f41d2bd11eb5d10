"""When things are due: ticks of a fixed period, each key's ticks shifted by a jitter of its own that never changes."""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, Self

NS_PER_S: Final = 1_000_000_000
LEAST_SLOTS: Final = 4
# So many jobs at one moment: what is done for several at once costs a process half as much, and more would make the
# last of them late.
JOBS_PER_SLOT: Final = 8


def phase_of(period_ns: int, key: str) -> int:
    """Tell the shift of `key`'s ticks within the period, 0 <= phase < `period_ns`: a hash, so the same on every start.

    Devices that share a period are spread over it instead of being asked all at once.
    """
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big") % period_ns


@dataclass(frozen=True, slots=True)
class Grid:
    """The moments at which a gateway asks: `slots` in a second, or in a period that is shorter than one.

    They are `shift`, 0 <= shift < 1, of a slot later than those of a gateway with another shift.
    """

    slots: int
    shift: float

    @classmethod
    def of(cls, gateway: str, jobs: int) -> Self:
        """Take a power of two of slots: where there are twice as many, no job's moment moves by a slot."""
        slots = LEAST_SLOTS
        while slots * JOBS_PER_SLOT < jobs:
            slots *= 2
        return cls(slots, phase_of(NS_PER_S, gateway) / NS_PER_S)

    def moment(self, period_ns: int, phase_ns: int) -> int:
        """Give the moment of the grid that is before a shift within the period."""
        width_ns = max(1, min(period_ns, NS_PER_S) // self.slots)
        return phase_ns // width_ns * width_ns + int(self.shift * width_ns)


def first_due(period_ns: int, key: str, now_ns: int, grid: Grid | None = None) -> int:
    """Tell the first tick of `key` at or after `now_ns`: the ticks are the times k * `period_ns` + phase, k whole.

    With a `grid` the phase is one of its moments.

    Raises:
        ValueError: the period is not positive.
    """
    if period_ns <= 0:
        raise ValueError(f"a period of {period_ns} ns")
    phase = phase_of(period_ns, key)
    if grid is not None:
        phase = grid.moment(period_ns, phase)
    return now_ns + (phase - now_ns) % period_ns
