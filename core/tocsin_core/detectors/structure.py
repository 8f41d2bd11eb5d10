"""Alarms that depend on other alarms: first-out, suppression by design, grades of a tailings pond."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np

from tocsin_core.detect import FALSE, HOLD, I8, TRUE
from tocsin_core.detectors.columns import NEVER, Columns
from tocsin_core.readings import I64, U8, Bool


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

    A trigger not read for more than `longest_ns` suppresses nothing, nor one whose clock is that much ahead: it would
    count as alive long after its death.
    """
    heard = (state.time_ns != NEVER) & (np.abs(time_ns - state.time_ns) <= longest_ns)
    return np.where(heard & _active_at(state, time_ns, on_ns, off_ns), TRUE, FALSE)


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
