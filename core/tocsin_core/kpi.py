"""What the journal says of the alarm system itself: floods, chattering, the figures of ISA-18.2 and EEMUA 191."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

import numpy as np

from tocsin_core.plant import Priority
from tocsin_core.readings import I64

SECOND: Final = 1_000_000_000
MINUTE: Final = 60 * SECOND
TEN_MINUTES: Final = 10 * MINUTE
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

# ISA-18.2-2016, alarm system performance metrics.
FLOOD_BEGINS_OVER: Final = 10  # alarms in ten minutes and for one operator
FLOOD_ENDS_BELOW: Final = 5
CHATTERING_IN_A_MINUTE: Final = 3
MOST_IN_AN_HOUR: Final = 30
STANDING_AFTER: Final = DAY
TOP: Final = 10
# The standards call an alarm fleeting that is gone before anybody can do something about it, and name no time: our own.
FLEETING_BELOW: Final = 10 * SECOND


class Annunciated(NamedTuple):
    """One occurrence that was told to an operator (neither shelved nor out of service when it was raised).

    `returned_ns` is None while it is active.
    """

    alarm: str
    priority: Priority
    raised_ns: int
    returned_ns: int | None


class Flood(NamedTuple):
    """More alarms than an operator can take in: `end_ns` is None where it had not ended; `first` is its first-out."""

    begin_ns: int
    end_ns: int | None
    alarms: int
    first: str


class Load(StrEnum):
    """How EEMUA 191 calls an average rate of alarms for one operator in steady operation."""

    ACCEPTABLE = "acceptable"
    MANAGEABLE = "manageable"
    OVER_DEMANDING = "over-demanding"
    UNACCEPTABLE = "unacceptable"


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one span of time, alarms counted for each operator; shares are of 1.

    `by_hour` is the alarms of each hour from the span's beginning on, the last one perhaps begun only.

    Targets (ISA-18.2): `per_day` at most 144 very likely acceptable, 288 manageable; `most_in_ten_minutes` at most 10;
    `ten_minutes_over` (windows with more than 10), `hours_over` (hours with more than 30) and `in_flood` (of the time)
    each below 0.01; `top_share`, of the ten most frequent alarms, below 0.05; no `chattering` (most raises within a
    minute, by alarm) and no `fleeting` (occurrences, by alarm); fewer than 5 `standing` (active longer than 24 h);
    `priorities` about 0.80 low, 0.15 medium, 0.05 high, below 0.01 critical.
    """

    alarms: int
    by_hour: tuple[float, ...]
    per_day: float
    per_hour: float
    per_ten_minutes: float
    load: Load
    most_in_ten_minutes: float
    ten_minutes_over: float
    hours_over: float
    floods: tuple[Flood, ...]
    in_flood: float
    top: tuple[tuple[str, int], ...]
    top_share: float
    priorities: Mapping[Priority, float]
    chattering: Mapping[str, int]
    fleeting: Mapping[str, int]
    standing: tuple[str, ...]


def chattering(journal: Iterable[Annunciated]) -> dict[str, int]:
    """The alarms raised three times or more within less than a minute, and the most raises of each in one."""
    raises: defaultdict[str, list[int]] = defaultdict(list)
    for one in journal:
        raises[one.alarm].append(one.raised_ns)
    most: dict[str, int] = {}
    for alarm, raised_ns in raises.items():
        if len(raised_ns) >= CHATTERING_IN_A_MINUTE:
            times = np.sort(np.asarray(raised_ns, np.int64))
            count = int((np.searchsorted(times, times + MINUTE) - np.arange(len(times))).max())
            if count >= CHATTERING_IN_A_MINUTE:
                most[alarm] = count
    return most


def fleeting(journal: Sequence[Annunciated]) -> dict[str, int]:
    """How often each alarm came and went within `FLEETING_BELOW`; those that chatter are left to `chattering`."""
    known = chattering(journal)
    return dict(
        Counter(
            one.alarm
            for one in journal
            if one.returned_ns is not None
            and one.returned_ns - one.raised_ns < FLEETING_BELOW
            and one.alarm not in known
        )
    )


def floods(journal: Iterable[Annunciated], end_ns: int, operators: int = 1) -> list[Flood]:
    """The floods up to `end_ns`, in their order.

    One begins with the alarm that makes them more than ten within the last ten minutes for each of `operators`, and
    ends when they have become fewer than five; it counts the alarms raised while it lasts and the ten minutes before.
    """
    ordered = sorted((one for one in journal if one.raised_ns <= end_ns), key=lambda one: one.raised_ns)
    times = np.asarray([one.raised_ns for one in ordered], np.int64)
    # How many were raised in the ten minutes up to each alarm, and in those after it: the latter are what is left of
    # the window when the alarm leaves it.
    before = np.arange(1, len(times) + 1) - np.searchsorted(times, times - TEN_MINUTES, side="right")
    after = np.searchsorted(times, times + TEN_MINUTES, side="right") - np.searchsorted(times, times, side="right")
    begins = np.flatnonzero(before > FLOOD_BEGINS_OVER * operators)
    leaves = times[after < FLOOD_ENDS_BELOW * operators] + TEN_MINUTES
    found: list[Flood] = []
    free_from = 0
    for index in begins.tolist():
        begin = int(times[index])
        if begin < free_from:
            continue
        over = leaves[leaves > begin]
        ended = int(over[0]) if len(over) else end_ns + 1
        first = int(np.searchsorted(times, begin - TEN_MINUTES, side="right"))
        last = int(np.searchsorted(times, min(ended, end_ns), side="right"))
        found.append(Flood(begin, ended if ended <= end_ns else None, last - first, ordered[first].alarm))
        free_from = ended
    return found


class FloodWatch:
    """The flood of the present moment, by the same rule as `floods`, for raisings told one by one as they come."""

    def __init__(self) -> None:
        """Know of no alarm yet."""
        self._raised: list[Annunciated] = []
        self._fresh = False
        self._flood: Flood | None = None

    def take(self, raised: Iterable[Annunciated]) -> None:
        """Take in alarms that were raised, in any order."""
        before = len(self._raised)
        self._raised += raised
        self._fresh |= len(self._raised) > before

    def at(self, now_ns: int) -> tuple[Flood | None, int]:
        """The flood that goes on at `now_ns`, which never goes back, or None; and the alarms of the last ten minutes.

        What lies an hour before it all, and can no longer count, is forgotten.
        """
        if self._fresh or self._flood is not None:
            past = floods(self._raised, now_ns)
            self._flood = past[-1] if past and past[-1].end_ns is None else None
            self._fresh = any(one.raised_ns > now_ns for one in self._raised)
        begin_ns = now_ns if self._flood is None else self._flood.begin_ns
        self._raised = [one for one in self._raised if one.raised_ns > begin_ns - HOUR]
        return self._flood, sum(now_ns - TEN_MINUTES < one.raised_ns <= now_ns for one in self._raised)


BANDS: Final = ((Load.ACCEPTABLE, 1.0), (Load.MANAGEABLE, 2.0), (Load.OVER_DEMANDING, 10.0))
"""Where each load ends, in alarms in ten minutes: one in ten minutes, one in five, one a minute; beyond is no good."""


def load(per_ten_minutes: float) -> Load:
    """EEMUA 191's word for an average rate of alarms in ten minutes; the first band ends below its bound."""
    (acceptable, first), *others = BANDS
    if per_ten_minutes < first:
        return acceptable
    return next((load for load, most in others if per_ten_minutes <= most), Load.UNACCEPTABLE)


def _windows(times: I64, begin_ns: int, end_ns: int, width_ns: int) -> I64:
    """How many of `times` each whole or begun window of `width_ns` from `begin_ns` on holds."""
    return np.bincount((times - begin_ns) // width_ns, minlength=-(-(end_ns - begin_ns) // width_ns)).astype(np.int64)


def _most(times: I64) -> int:
    """The most raisings in any ten minutes, as a flood counts them: those of the clock may cut it in two."""
    ordered = np.sort(times)
    before = np.arange(1, len(ordered) + 1) - np.searchsorted(ordered, ordered - TEN_MINUTES, side="right")
    return int(before.max(initial=0))


def _standing(journal: Iterable[Annunciated], begin_ns: int, end_ns: int) -> tuple[str, ...]:
    until = ((one, end_ns if one.returned_ns is None else min(end_ns, one.returned_ns)) for one in journal)
    long = {one.alarm for one, over_ns in until if over_ns > begin_ns and over_ns - one.raised_ns > STANDING_AFTER}
    return tuple(sorted(long))


def figures(journal: Sequence[Annunciated], begin_ns: int, end_ns: int, operators: int = 1) -> Figures:
    """The figures of the alarms raised in [`begin_ns`, `end_ns`), shared by `operators` (at least 1).

    `journal` may hold more: what was raised before counts where it still stands, and for a flood that goes on.

    Raises:
        ValueError: the span is empty.
    """
    if end_ns <= begin_ns:
        raise ValueError("a span that ends before it begins has no figures")
    earlier = [one for one in journal if one.raised_ns < end_ns]
    inside = [one for one in earlier if one.raised_ns >= begin_ns]
    times = np.asarray([one.raised_ns for one in inside], np.int64)
    rate = len(inside) / operators / ((end_ns - begin_ns) / TEN_MINUTES)
    tens = _windows(times, begin_ns, end_ns, TEN_MINUTES) / operators
    hours = _windows(times, begin_ns, end_ns, HOUR) / operators
    flooded = [one for one in floods(earlier, end_ns, operators) if one.end_ns is None or one.end_ns > begin_ns]
    wet_ns = sum((one.end_ns or end_ns) - max(one.begin_ns, begin_ns) for one in flooded)
    top = Counter(one.alarm for one in inside).most_common(TOP)
    count = max(1, len(inside))
    return Figures(
        alarms=len(inside),
        by_hour=tuple(hours.tolist()),
        per_day=rate * 144.0,
        per_hour=rate * 6.0,
        per_ten_minutes=rate,
        load=load(rate),
        most_in_ten_minutes=_most(times) / operators,
        ten_minutes_over=float(np.mean(tens > FLOOD_BEGINS_OVER)),
        hours_over=float(np.mean(hours > MOST_IN_AN_HOUR)),
        floods=tuple(flooded),
        in_flood=wet_ns / (end_ns - begin_ns),
        top=tuple(top),
        top_share=sum(times for _, times in top) / count,
        priorities={each: sum(one.priority is each for one in inside) / count for each in Priority},
        chattering=chattering(inside),
        fleeting=fleeting(inside),
        standing=_standing(earlier, begin_ns, end_ns),
    )
