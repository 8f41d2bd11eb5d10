"""Points at rest: which readings can change nothing, told by two comparisons in place of all their definitions."""

import numpy as np

from tocsin_core.engine.state import NEVER, State
from tocsin_core.readings import I64
from tocsin_core.rules import Rules


def recognise(state: State, rules: Rules, point: I64, definition: I64, source: I64) -> None:
    """Find the quiet bands of `point` (each once) from what its definitions (see `rules.members`) are doing.

    A good reading between `quiet_low` and `quiet_high` (both excluded) leaves each of its limits as it is: they are the
    nearest values at which one turns (`Rules.low` and `Rules.high`). Where a definition waits for a delay, or an alarm
    other than a limit is active, every reading counts and the band is empty. Alarms on trends are told to be silent by
    `detect.nears`; `bad` by the reading's being good; `stale` that is not active has nothing to return from. A point
    that a detector follows reading by reading is never at rest. What remains is judged in full, and afterwards the
    bands of its points are found anew; a point of which nothing is known yet (a new state, a restored one) has an
    empty band.
    """
    row = definition * 2 + state.active[definition]
    owner, low, high = point[source], rules.low.take(row), rules.high.take(row)
    low[state.since_ns[definition] != NEVER] = np.inf
    if rules.special.watchful:
        low[rules.special.awake[owner]] = np.inf
    state.quiet_low[point], state.quiet_high[point] = -np.inf, np.inf
    np.maximum.at(state.quiet_low, owner, low)
    np.minimum.at(state.quiet_high, owner, high)
