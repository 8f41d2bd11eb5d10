"""Alarms that depend on other alarms: first-out, suppression by design, grades of a tailings pond."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np

from tocsin_core.detect import FALSE, HOLD, I8, TRUE
from tocsin_core.detectors.columns import NEVER, Columns
from tocsin_core.readings import I64, U8, Bool


@dataclass(slots=True)
class FirstOut(Columns):
    """Of each group: `member` i64 that tripped first (-1: none) at `time_ns` i64, and the last reset at `reset_ns`."""

    member: I64
    time_ns: I64
    reset_ns: I64

    @classmethod
    def empty(cls, size: int) -> "FirstOut":
        """`size` groups in which nothing has tripped."""
        return cls(*(np.full(size, NEVER, np.int64) for _ in range(3)))


def advance_first_out(state: FirstOut, group: I64, member: I64, onset_ns: I64) -> FirstOut:
    """`state` (it is consumed) of all groups with E alarms raised: `member` of `group` at `onset_ns` (i64[E]).

    First is the earliest onset in event time since the last reset; of two at once, the smaller member number. So an
    alarm that is told late, but was raised earlier, takes the place: the order of telling does not matter.
    """
    since = onset_ns > state.reset_ns[group]
    group, member, onset_ns = group[since], member[since], onset_ns[since]
    order = np.lexsort((member, onset_ns, group))
    named, place = np.unique(group[order], return_index=True)
    first = order[place]
    held = state.time_ns[named]
    same = (onset_ns[first] == held) & (member[first] < state.member[named])
    won = (held == NEVER) | (onset_ns[first] < held) | same
    state.member[named[won]] = member[first[won]]
    state.time_ns[named[won]] = onset_ns[first[won]]
    return state


def reset_first_out(state: FirstOut, group: I64, at_ns: I64) -> FirstOut:
    """`state` (it is consumed) after people reset `group` (each once) at `at_ns`: what was raised till then is past."""
    state.member[group] = NEVER
    state.time_ns[group] = NEVER
    state.reset_ns[group] = np.maximum(state.reset_ns[group], at_ns)
    return state


def judge_first_out(state: FirstOut, group: I64, member: I64) -> I8:
    """Beyond for the member that tripped first, inside for the others, neither where nothing has tripped."""
    held = state.member[group]
    return np.where(held == NEVER, HOLD, np.where(held == member, TRUE, FALSE))


@dataclass(slots=True)
class Suppression(Columns):
    """Of each suppression: `active` as of `time_ns` i64, the trigger's last reading (-1: none).

    `since_ns` i64: since when the trigger has said otherwise (-1: it does not).
    """

    active: Bool
    since_ns: I64
    time_ns: I64

    @classmethod
    def empty(cls, size: int) -> "Suppression":
        """`size` suppressions that are not active."""
        return cls(np.zeros(size, np.bool_), np.full(size, NEVER, np.int64), np.full(size, NEVER, np.int64))


def _active_at(state: Suppression, time_ns: I64, on_ns: I64, off_ns: I64) -> Bool:
    waited = time_ns - state.since_ns >= np.where(state.active, off_ns, on_ns)
    active: Bool = state.active ^ ((state.since_ns != NEVER) & waited)
    return active


def advance_suppression(state: Suppression, time_ns: I64, said: I8, good: Bool, on_ns: I64, off_ns: I64) -> Suppression:
    """`state` with one reading more of each trigger; `said` answers whether its state suppresses (neither: as before).

    What the trigger says holds until its next reading, and takes effect after `on_ns` or `off_ns`. A reading that is
    not good says that it does not: nothing is suppressed on a guess.
    """
    active = _active_at(state, time_ns, on_ns, off_ns)
    wanted = np.where(good, said, FALSE)
    turning = wanted == np.where(active, FALSE, TRUE)
    waiting = np.where(active == state.active, state.since_ns, NEVER)
    started = np.where(waiting == NEVER, time_ns, waiting)
    kept = np.where(wanted == HOLD, waiting, NEVER)
    return Suppression(active, np.where(turning, started, kept), time_ns.copy())


def judge_suppression(state: Suppression, time_ns: I64, on_ns: I64, off_ns: I64, longest_ns: I64) -> I8:
    """Beyond where a reading at `time_ns` of the other point is suppressed by design, inside where it is not.

    A trigger not read for more than `longest_ns` suppresses nothing.
    """
    heard = (state.time_ns != NEVER) & (time_ns - state.time_ns <= longest_ns)
    return np.where(heard & _active_at(state, time_ns, on_ns, off_ns), TRUE, FALSE)


def components(size: int, one: I64, other: I64) -> I64:
    """A number for each of `size` points, the same for those that are joined by pairs `one[i]`, `other[i]`.

    Readings of points with the same number must be taken one after the other, in arrival order: what a reading of one
    leads to depends on the other's.
    """
    label = np.arange(size)
    while True:
        least = np.minimum(label[one], label[other])
        joined = label.copy()
        np.minimum.at(joined, one, least)
        np.minimum.at(joined, other, least)
        joined = joined[joined]
        if np.array_equal(joined, label):
            return label
        label = joined


class Grade(IntEnum):
    """Grades of a warning, low to high: GB 39496-2020 5.5.4."""

    NONE = 0
    BLUE = 1
    YELLOW = 2
    ORANGE = 3
    RED = 4


# GB 39496-2020 5.5.4: so many of a grade make one of the next: 4 blue, 3 yellow, 2 orange.
NEXT_GRADE: Final = ((Grade.BLUE, 4), (Grade.YELLOW, 3), (Grade.ORANGE, 2))


def _number_of(grade: U8, first: I64, which: Grade) -> I64:
    return np.add.reduceat((grade == which).astype(np.int64), first[:-1])


def item_grade(grade: U8, first: I64) -> U8:
    """The grade of each of G monitored items from those of its points, `first[g] : first[g + 1]` of `grade`.

    GB 39496-2020 5.5.4: 4 points blue make the item yellow, 3 yellow make it orange, 2 orange make it red. That it is
    never lower than its highest point is taken for granted.
    """
    result = np.maximum.reduceat(grade, first[:-1])
    for which, enough in NEXT_GRADE:
        reached = _number_of(grade, first, which) >= enough
        result = np.maximum(result, np.where(reached, np.uint8(which + 1), np.uint8(0)))
    return result


def pond_grade(grade: U8, first: I64) -> U8:
    """The grade of each of G ponds from those of its items, `first[g] : first[g + 1]` of `grade`.

    GB 39496-2020 5.5.4: 4 blue items count as one yellow. Likely, the text being cut off there: 3 yellow items, so
    counted, count as one orange, and 2 orange as one red; the pond is at the highest grade there is one of.
    """
    carried = np.zeros(len(first) - 1, np.int64)
    result = np.zeros(len(first) - 1, np.uint8)
    for which, enough in NEXT_GRADE:
        number = _number_of(grade, first, which) + carried
        result = np.where(number > 0, np.uint8(which), result)
        carried = number // enough
    return np.where(_number_of(grade, first, Grade.RED) + carried > 0, np.uint8(Grade.RED), result)


def judge_grade(grade: U8, level: U8) -> I8:
    """Beyond where `grade` is at least `level`, inside where it is lower."""
    return np.where(grade >= level, TRUE, FALSE)
