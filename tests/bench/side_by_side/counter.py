"""Counts what one gateway made of a run: from what the devices handed out and what the subscriber got, nothing else."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from tests.bench.side_by_side.devices import BLOCKS, VALUES, HandedOut, place_of

PLACES: Final = len(BLOCKS) * VALUES
LATE_PERIODS: Final = 2.0
# A gap of one period and a half is a reading that was not made.
GAP_PERIODS: Final = 1.5

Point = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Arrival:
    """One value as the subscriber got it: of which point it was said to be, with which stamp, when it came."""

    device: int
    place: int
    value: int
    stamp_ms: int
    at_s: float


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the run. `reachable`: the broker was; `killed`: the gateway was killed as it began."""

    name: str
    from_s: float
    to_s: float
    reachable: bool = True
    killed: bool = False


@dataclass(frozen=True, slots=True)
class Course:
    """What was done to the gateway: the spans without a gap between them, and which devices had no fault at all."""

    spans: Sequence[Span]
    healthy: frozenset[int]
    dead: int
    dead_until_s: float
    period_s: float

    @property
    def from_s(self) -> float:
        """When counting begins."""
        return self.spans[0].from_s

    @property
    def to_s(self) -> float:
        """What is handed out later is not counted."""
        return self.spans[-1].to_s

    def span(self, at_s: float) -> Span:
        """The span that a moment lies in."""
        return next(span for span in self.spans if at_s <= span.to_s)


def figures(course: Course, handed: Sequence[HandedOut], arrivals: Sequence[Arrival]) -> dict[str, Any]:
    """Every count of one run; see docs/benchmarks.md for what each of them means."""
    counted = [each for each in handed if course.from_s <= each.at_s <= course.to_s and each.device in course.healthy]
    came: dict[int, list[Arrival]] = defaultdict(list)
    for arrival in arrivals:
        came[arrival.value].append(arrival)
    lost = [each for each in counted if each.value not in came]
    late = [
        each
        for each in counted
        if each.value in came and _first(came[each.value]) - each.at_s > LATE_PERIODS * course.period_s
    ]
    doubled = [each for each in counted if len(came.get(each.value, ())) > 1]
    stored = [each for each in doubled if len({arrival.stamp_ms for arrival in came[each.value]}) > 1]
    gaps = list(_gaps(course, counted))
    return {
        "readings_handed_out": len(counted),
        "readings_not_made": _not_made(course, counted),
        "not_made_by_span": _by_span(course, gaps),
        "longest_gap_s": round(max((missing + 1 for _, missing in gaps), default=1) * course.period_s, 1),
        "readings_lost": len(lost),
        "lost_by_span": _by_span(course, _ones(lost)),
        **_kills(course, lost),
        "readings_late": sum(1 for each in late if course.span(each.at_s).reachable),
        "late_by_span": _by_span(course, _ones(late)),
        "readings_doubled": len(doubled),
        "readings_doubled_in_store": len(stored),
        "doubled_by_span": _by_span(course, _ones(doubled)),
        **_wrong(handed, arrivals),
        "recovery": _recoveries(course, counted, came),
        "dead_device_back_s": _back(course, handed, came),
    }


def _first(arrivals: Iterable[Arrival]) -> float:
    return min(arrival.at_s for arrival in arrivals)


def _ones(readings: Iterable[HandedOut]) -> Iterable[tuple[float, int]]:
    return ((each.at_s, 1) for each in readings)


def _by_span(course: Course, found: Iterable[tuple[float, int]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for at_s, count in found:
        name = course.span(at_s).name
        counts[name] = counts.get(name, 0) + count
    return counts


def _kills(course: Course, lost: Iterable[HandedOut]) -> dict[str, float]:
    """How many kills there were, before how many something was lost, and how long before it at the most."""
    kills = [span.from_s for span in course.spans if span.killed]
    ages: dict[float, float] = {}
    for each in lost:
        kill = next((at_s for at_s in kills if at_s >= each.at_s), None)
        if kill is not None:
            ages[kill] = max(ages.get(kill, 0.0), kill - each.at_s)
    oldest_ms = round(1000 * max(ages.values(), default=0.0), 1)
    return {"kills": len(kills), "kills_that_took_some": len(ages), "oldest_taken_ms": oldest_ms}


def _times(course: Course, counted: Iterable[HandedOut]) -> Mapping[Point, list[float]]:
    """When each point of the healthy devices was read."""
    times: dict[Point, list[float]] = {(device, place): [] for device in course.healthy for place in range(PLACES)}
    for each in counted:
        times[each.device, each.place].append(each.at_s)
    return times


def _not_made(course: Course, counted: Iterable[HandedOut]) -> int:
    """How many readings fewer there are than periods, summed over the points that have too few.

    From the first reading to the last there must be one a period, and neither may be far from the run's ends.
    """
    missing = 0
    for times in _times(course, counted).values():
        if not times:
            missing += round((course.to_s - course.from_s) / course.period_s)
            continue
        due = 1 + round((times[-1] - times[0]) / course.period_s)
        edges = int((times[0] - course.from_s) / course.period_s) + int((course.to_s - times[-1]) / course.period_s)
        missing += max(0, due + edges - len(times))
    return missing


def _gaps(course: Course, counted: Iterable[HandedOut]) -> Iterable[tuple[float, int]]:
    """When each gap between two readings of a point began, and how many readings are missing in it."""
    for times in _times(course, counted).values():
        for before, after in pairwise(times):
            if after - before > GAP_PERIODS * course.period_s:
                yield before, round((after - before) / course.period_s) - 1


def _wrong(handed: Sequence[HandedOut], arrivals: Sequence[Arrival]) -> dict[str, int]:
    """Values that came as another point's, that no device handed out, or whose question was given up long ago."""
    known = {each.value for each in handed}
    overtaken = {each.value for each in handed if each.overtaken}
    return {
        "values_of_another_point": sum(place_of(each.value) != (each.device, each.place) for each in arrivals),
        "values_made_up": len({each.value for each in arrivals} - known),
        "late_answers_taken": len({each.value for each in arrivals} & overtaken),
        "late_answers": len(overtaken),
    }


def _recoveries(
    course: Course, counted: Sequence[HandedOut], came: Mapping[int, list[Arrival]]
) -> dict[str, dict[str, float | None]]:
    """After each end of a cut and each kill: until all healthy devices are live again, and until the backlog is up."""
    arrived = sorted((_first(came[each.value]), each.at_s, each.device) for each in counted if each.value in came)
    found: dict[str, dict[str, float | None]] = {}
    for before, span in pairwise(course.spans):
        mended = span.reachable and not before.reachable
        if not mended and not (span.killed and span.reachable):
            continue
        since = span.from_s
        firsts: dict[int, float] = {}
        for at_s, handed_s, device in arrived:
            if handed_s > since and at_s - handed_s <= LATE_PERIODS * course.period_s:
                firsts.setdefault(device, at_s)
        live = max(firsts.values()) - since if len(firsts) == len(course.healthy) else None
        behind = [at_s for at_s, handed_s, _ in arrived if handed_s <= since]
        found[span.name] = {
            "live_s": None if live is None else round(live, 1),
            "backlog_s": round(max(0.0, max(behind, default=since) - since), 1),
        }
    return found


def _back(course: Course, handed: Sequence[HandedOut], came: Mapping[int, list[Arrival]]) -> float | None:
    """How long after its fault ended the first value of the dead device came; None: never."""
    first = [
        _first(came[each.value])
        for each in handed
        if each.device == course.dead and course.dead_until_s < each.at_s <= course.to_s and each.value in came
    ]
    return round(min(first) - course.dead_until_s, 1) if first else None
