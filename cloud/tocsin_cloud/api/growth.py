"""How much counters have grown of late: what has just happened is no state that a look at the figures would show."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from typing import Final

import structlog
from prometheus_client import CollectorRegistry

from tocsin_core.clock import Clock

log = structlog.get_logger(__name__)

Labels = frozenset[tuple[str, str]]
Samples = Mapping[tuple[str, Labels], float]

LOOK_S: Final = 30.0
LONGEST_S: Final = 900.0
PART_S: Final = 10.0
# Counted as a role begins, maybe before the first look: of these all that is found then has grown.
FROM_THE_START: Final = frozenset({"tocsin_stream_unread_dropped_total"})


def samples_of(registry: CollectorRegistry) -> Samples:
    """Return every sample by name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in registry.collect()
        for sample in family.samples
    }


class Growth:
    """By how much each counter grew within the last quarter of an hour, as far as it was looked at.

    As `increase` of Prometheus has it: a counter that is lower than before has begun anew, and what one held when it
    was first seen is of before (but of `FROM_THE_START`).
    """

    def __init__(self) -> None:
        """Nothing was looked at yet."""
        self._known: dict[tuple[str, Labels], float] = {}
        self._grown: dict[int, dict[tuple[str, Labels], float]] = {}

    def look(self, samples: Samples, now_s: float) -> None:
        """Take the counters in (s of a clock that nobody sets)."""
        part = int(now_s // PART_S)
        grown = self._grown.setdefault(part, {})
        for key, value in samples.items():
            if not _counts(key[0]):
                continue
            before = self._known.get(key, 0.0 if key[0] in FROM_THE_START else value)
            by = value - before if value >= before else value
            if by:
                grown[key] = grown.get(key, 0.0) + by
            # Who is not heard for a moment goes on where it was.
            self._known[key] = value
        oldest = part - LONGEST_S / PART_S
        self._grown = {at: grown for at, grown in self._grown.items() if at > oldest}

    def of_late(self, counter: str, seconds: float, now_s: float) -> dict[Labels, float]:
        """By labels, how much a counter (without `tocsin_`) grew in the last `seconds`; none where it did not."""
        since = int(now_s // PART_S) - seconds / PART_S
        found: defaultdict[Labels, float] = defaultdict(float)
        for at, grown in self._grown.items():
            if at > since:
                for (name, labels), by in grown.items():
                    if name == f"tocsin_{counter}":
                        found[labels] += by
        return dict(found)


def _counts(name: str) -> bool:
    return name.startswith("tocsin_") and name.endswith(("_total", "_bucket"))


async def keep_looking(growth: Growth, registry: CollectorRegistry, clock: Clock) -> None:
    """Look at the counters twice a minute until cancelled."""
    while True:
        try:
            growth.look(await asyncio.to_thread(samples_of, registry), clock.monotonic())
        except Exception:
            # Whoever makes figures may be changing them just now, and no page is to end for that.
            log.exception("counters not looked at")
        await asyncio.sleep(LOOK_S)
