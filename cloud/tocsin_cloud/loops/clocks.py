"""The gateways' clocks: what each last said of its own, and when readings were taken by one that nobody had set."""

from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, Final, Self

from tocsin_core.sparkplug import ClockState, Fed

# Of so many stretches the nearest two are made one: rather a reading too many in doubt than one too few.
MOST_STRETCHES: Final = 100

# First and last time of readings, ns.
Stretch = tuple[int, int]


@dataclass(slots=True)
class GatewayClock:
    """One gateway's clock; `state` is None where it says nothing of it.

    The stretches of readings in doubt stand by the time at which, by the clock itself, nobody had set it (ms).
    """

    state: ClockState | None = None
    doubts: dict[int, Stretch] = field(default_factory=dict)

    @property
    def stretches(self) -> tuple[Stretch, ...]:
        """The stretches in the order of time."""
        return tuple(sorted(self.doubts.values()))

    def hear(self, fed: Fed) -> bool:
        """Take in one message; tell whether anything is another than before."""
        before, doubts = self.state, self._doubt(fed)
        # A birth tells all that a node has to say.
        if fed.kind == "NBIRTH" or fed.clock is not None:
            self.state = fed.clock
        return doubts or self.state != before

    def forget(self, before_ns: int) -> None:
        """Forget stretches that ended before `before_ns`."""
        self.doubts = {since: stretch for since, stretch in self.doubts.items() if stretch[1] >= before_ns}

    def to_json(self) -> list[Any]:
        """All of it as plain values."""
        state = None if self.state is None else asdict(self.state)
        return [state, [[since, *stretch] for since, stretch in self.doubts.items()]]

    @classmethod
    def from_json(cls, held: list[Any]) -> Self:
        """Take back what `to_json` gave."""
        state, doubts = held
        return cls(
            None if state is None else ClockState(**state), {since: (first, last) for since, first, last in doubts}
        )

    def _doubt(self, fed: Fed) -> bool:
        since_ms = fed.unsynchronised_ms
        if since_ms is None or not len(fed.frame):
            return False
        first, last = int(fed.frame.time_ns.min()), int(fed.frame.time_ns.max())
        known = self.doubts.get(since_ms)
        longer = (first, last) if known is None else (min(first, known[0]), max(last, known[1]))
        self.doubts[since_ms] = longer
        if len(self.doubts) > MOST_STRETCHES:
            self._join()
        return longer != known

    def _join(self) -> None:
        ordered = sorted(self.doubts.items(), key=lambda row: row[1])
        gaps = [later[1][0] - earlier[1][1] for earlier, later in pairwise(ordered)]
        at = gaps.index(min(gaps))
        (gone, (first, last)), (kept, (begin, end)) = ordered[at : at + 2]
        del self.doubts[gone]
        self.doubts[kept] = (min(first, begin), max(last, end))
