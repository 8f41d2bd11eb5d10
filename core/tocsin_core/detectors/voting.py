"""Redundant sensors: groups of points, their median, the deviation between neighbours, and voting M out of N."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from tocsin_core.detectors.columns import NEVER, Columns
from tocsin_core.readings import BAD_WAITING, F64, I64, U8, Bool, is_good

NOBODY: Final = -1


@dataclass(frozen=True, eq=False)
class Groups:
    """G groups of points: seats `first[g] : first[g + 1]` belong to group g, seat s to point `member[s]` (all i64)."""

    first: I64
    member: I64

    @classmethod
    def of(cls, groups: Sequence[Sequence[int]]) -> "Groups":
        """The groups with these point numbers.

        Raises:
            ValueError: a group is empty, or has a point twice.
        """
        for number, points in enumerate(groups):
            if not points or len(set(points)) != len(points):
                raise ValueError(f"group {number} is empty or has a point twice: {list(points)}")
        first = np.cumsum([0, *(len(points) for points in groups)], dtype=np.int64)
        return cls(first, np.asarray([point for points in groups for point in points], np.int64))

    @cached_property
    def size(self) -> I64:
        """Number of seats of each group."""
        return np.diff(self.first)

    @cached_property
    def group(self) -> I64:
        """Group of each seat."""
        return np.repeat(np.arange(len(self.size)), self.size)

    @cached_property
    def _by_point(self) -> tuple[I64, I64]:
        order = np.argsort(self.member, kind="stable")
        return order, self.member[order]

    def seats_of(self, point: I64) -> tuple[I64, I64]:
        """The seats of the points of E readings, joined, and for each of them which reading it is; arrival order."""
        order, sorted_member = self._by_point
        low = np.searchsorted(sorted_member, point, "left")
        counts = np.searchsorted(sorted_member, point, "right") - low
        source = np.repeat(np.arange(len(point)), counts)
        within = np.arange(len(source)) - np.repeat(np.cumsum(counts) - counts, counts)
        return order[low[source] + within], source


@dataclass(slots=True)
class Members(Columns):
    """What each seat last read: `time_ns` i64, when it was heard (-1: nothing yet), `value` f64, `quality` u8."""

    time_ns: I64
    value: F64
    quality: U8

    @classmethod
    def empty(cls, size: int) -> "Members":
        """`size` seats that nothing has been read from."""
        return cls(np.full(size, NEVER, np.int64), np.full(size, np.nan), np.full(size, BAD_WAITING, np.uint8))


@dataclass(frozen=True, eq=False)
class Seen:
    """A group as it stood right after each of E readings, in arrival order.

    `group` and `at_ns` i64[E]; its members are `first[e] : first[e + 1]` of `seat`, `time_ns`, `value`, `quality`.
    """

    group: I64
    at_ns: I64
    first: I64
    seat: I64
    time_ns: I64
    value: F64
    quality: U8

    @cached_property
    def row(self) -> I64:
        """Which of the E readings each member belongs to."""
        return np.repeat(np.arange(len(self.group)), np.diff(self.first))

    def usable(self, longest_ns: I64) -> Bool:
        """Which members may be judged: good, and read at most `longest_ns` (i64[E]) before the group's reading."""
        return is_good(self.quality) & (self.at_ns[self.row] - self.time_ns <= longest_ns[self.row])


def advance(state: Members, groups: Groups, seat: I64, time_ns: I64, value: F64, quality: U8) -> tuple[Members, Seen]:
    """`state` (it is consumed) of all seats with E readings in arrival order, of any seats any number of times.

    A reading that is late for its point must have been left out. What each group looked like after each reading does
    not depend on which readings came in the same call.
    """
    group = groups.group[seat]
    order = np.argsort(group, kind="stable")
    sorted_group = group[order]
    size = groups.size[sorted_group]
    width = int(size.max(initial=0))
    number = np.arange(len(order))
    # Last reading of each member up to each reading of the group: its number in the sorted order, carried down.
    last = np.full((len(order), width), NOBODY, np.int64)
    last[number, seat[order] - groups.first[sorted_group]] = number
    last = np.maximum.accumulate(last, axis=0)
    begins = np.searchsorted(sorted_group, sorted_group, "left")
    last = np.where(last < begins[:, None], NOBODY, last)
    arrived = np.empty_like(last)
    arrived[order] = last
    present = np.arange(width) < groups.size[group][:, None]
    source = arrived[present]
    seats = (groups.first[group][:, None] + np.arange(width))[present]
    kept = source == NOBODY
    place = order[source] if len(order) else source
    seen = Seen(
        group=group,
        at_ns=time_ns,
        first=np.concatenate((np.zeros(1, np.int64), np.cumsum(groups.size[group]))),
        seat=seats,
        time_ns=np.where(kept, state.time_ns[seats], time_ns[place]),
        value=np.where(kept, state.value[seats], value[place]),
        quality=np.where(kept, state.quality[seats], quality[place]),
    )
    newest, place = np.unique(seat[::-1], return_index=True)
    place = len(seat) - 1 - place
    state.put(newest, Members(time_ns[place], value[place], quality[place]))
    return state, seen


def _counted(each: Bool, first: I64) -> I64:
    return np.add.reduceat(each.astype(np.int64), first[:-1])


def median(value: F64, usable: Bool, first: I64) -> F64:
    """The median of the usable members of each of E groups (NaN: none is).

    Of three it is the middle one; of two, after one has failed, their mean; of one, that.
    """
    row = np.repeat(np.arange(len(first) - 1), np.diff(first))
    kept = np.where(usable, value, np.inf)
    ordered = kept[np.lexsort((kept, row))]
    count = _counted(usable, first)
    low = ordered[first[:-1] + np.maximum(count - 1, 0) // 2]
    high = ordered[np.minimum(first[:-1] + count // 2, first[1:] - 1)]
    return np.where(count > 0, low * 0.5 + high * 0.5, np.nan)


MAJORITY: Final = 3


@dataclass(frozen=True, slots=True)
class Deviation:
    """How far neighbours are apart, of length E: `spread`, largest less smallest (NaN: fewer than two are usable).

    `worst` is the place among all members of the one furthest from the median, -1 where fewer than three are left: of
    two nobody can tell which is wrong.
    """

    spread: F64
    worst: I64


def deviation(value: F64, usable: Bool, first: I64) -> Deviation:
    """How far usable members are apart. How far is too far, and for how long, is for a limit on the spread to say."""
    row = np.repeat(np.arange(len(first) - 1), np.diff(first))
    count = _counted(usable, first)
    largest = np.maximum.reduceat(np.where(usable, value, -np.inf), first[:-1])
    smallest = np.minimum.reduceat(np.where(usable, value, np.inf), first[:-1])
    with np.errstate(over="ignore", invalid="ignore"):
        spread = np.where(count > 1, largest - smallest, np.nan)
        distance = np.where(usable, np.abs(value - median(value, usable, first)[row]), -1.0)
    furthest = np.maximum.reduceat(distance, first[:-1])
    place = np.where(distance == furthest[row], np.arange(len(value)), len(value))
    return Deviation(spread, np.where(count >= MAJORITY, np.minimum.reduceat(place, first[:-1]), NOBODY))


@dataclass(frozen=True, slots=True)
class Vote:
    """What a vote comes down to, of length E: `value`, and what was voted: `need` out of `of` (i64), as degraded."""

    value: F64
    need: I64
    of: I64


def vote(value: F64, usable: Bool, first: I64, need: I64, safe: Bool, high: Bool) -> Vote:
    """M out of N: the value that `need` of the usable members have reached (NaN: none is usable).

    `high`: the need-th largest, else the need-th smallest. At least `need` members are beyond a limit of that side if
    and only if this value is, and fewer than `need` could be beyond it if and only if this value is inside by the
    deadband: so any limit on it, with deadband and delays, is a vote on the members' limits.

    A member that is not usable has no vote, and the vote degrades as its group has declared (IEC 61511 practice). Where
    `safe`, it counts as one that would have tripped: 2oo3 -> 1oo2 -> 1oo1. Otherwise, for availability, as one that
    would not: 2oo3 -> 2oo2 -> 1oo1.
    """
    of = _counted(usable, first)
    degraded = np.maximum(np.where(safe, need - (np.diff(first) - of), np.minimum(need, of)), 1)
    row = np.repeat(np.arange(len(first) - 1), np.diff(first))
    kept = np.where(usable, value, np.inf)
    ordered = kept[np.lexsort((kept, row))]
    place = np.where(high, of - degraded, degraded - 1)
    voted = ordered[first[:-1] + np.maximum(place, 0)]
    return Vote(np.where(of > 0, voted, np.nan), degraded, of)
