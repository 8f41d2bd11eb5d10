"""Points at rest: which readings can change nothing, told by two comparisons in place of all their definitions."""

from typing import Final

import numpy as np

from tocsin_core.engine.state import NEVER, State
from tocsin_core.readings import I64
from tocsin_core.rules import Rules
from tocsin_core.special import Family

_LIMIT: Final = np.uint8(Family.LIMIT)


def recognise(state: State, rules: Rules, point: I64, definition: I64, source: I64) -> None:
    """Find the quiet bands of `point` (each once) from what its definitions (see `rules.members`) are doing.

    A good reading in [`quiet_low`, `quiet_high`] leaves each of its limits as it is. A limit that is not active
    bounds the band at its set point, one that is active (a standing alarm) where its deadband ends. Where a
    definition waits for a delay, or an alarm other than a limit is active, every reading counts and the band is
    empty. Alarms on trends are told to be silent by `detect.nears`; `bad` by the reading's being good; `stale`
    that is not active has nothing to return from. A point that a detector follows reading by reading is never at rest.
    What remains is judged in full, and afterwards the bands of its
    points are found anew; a point of which nothing is known yet (a new state, a restored one) has an empty band.

    The bounds are one step of the floating point further in than they need be, so that rounding never decides.
    """
    active = state.active[definition]
    sign = rules.sign[definition]
    is_limit = rules.family[definition] == _LIMIT
    edge = rules.setpoint[definition] - active * (sign * rules.deadband[definition])
    below = (sign > 0.0) ^ active
    awake = (state.since_ns[definition] != NEVER) | (active & ~is_limit)
    owner = point[source]
    if rules.special.watchful:
        awake |= rules.special.awake[owner]
    inner = np.nextafter(edge, np.where(below, -np.inf, np.inf))
    low = np.where(is_limit & ~below, inner, -np.inf)
    high = np.where(is_limit & below, inner, np.inf)
    low[awake], high[awake] = np.inf, -np.inf
    state.quiet_low[point], state.quiet_high[point] = -np.inf, np.inf
    np.maximum.at(state.quiet_low, owner, low)
    np.minimum.at(state.quiet_high, owner, high)
