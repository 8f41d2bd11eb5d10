"""Points at rest: which readings can change nothing, told by a few comparisons in place of all their definitions."""

from typing import Final, NamedTuple

import numpy as np

from tocsin_core.engine.state import NEVER, State
from tocsin_core.readings import F64, I32, I64, Bool
from tocsin_core.rules import Rules

# The bound of an alarm on a trend by what it does, in the order of `Rules.low`: which way, how many deadbands off, and
# whether it is always reached.
_SIDE: Final = np.asarray([1.0, -1.0, 1.0, 1.0])
_DEADBANDS: Final = np.asarray([0.0, 1.0, 0.0, -1.0])
_ALWAYS: Final = np.asarray([0.0, 0.0, -np.inf, 0.0])
# As arrays: an operation with a number takes twice as long.
_NEVER, _FOUR = np.asarray(NEVER), np.asarray(4)


class OnTrends(NamedTuple):
    """The alarms on trends among definitions: their places there, trends, signs, set points and deadbands.

    `early` tells those that foresee a limit from those of rates, `outside` which of them have it behind them.
    """

    here: I64
    trend: I64
    sign: F64
    setpoint: F64
    deadband: F64
    early: Bool
    outside: Bool


def forget(state: State, point: I64 | I32 | np.int32) -> None:
    """Let `point` be judged in full at its next reading: its definitions were changed without one, or by a bad one."""
    state.quiet_low[point], state.quiet_high[point] = np.inf, -np.inf


def recognise(state: State, rules: Rules, point: I64, definition: I64, source: I64, on_trends: OnTrends | None) -> None:
    """Find the bands of rest of `point` (each once) from what its definitions (see `columns.members`) are doing.

    A good reading changes nothing where each condition that waits for its delay goes on to wait, and no other begins
    to. So it is while its value is between `quiet_low` and `quiet_high` (both excluded), the nearest values at which a
    limit turns, or one that waits no longer does (`Rules.low` and `Rules.high`); while no trend gets to its bound
    (`detect.stirs`); and before `due_ns`, the first end of a delay. `bad` is told by the reading's being good; `stale`
    that is not active has nothing to return from. A point that a detector follows reading by reading is never at rest.
    What remains is judged in full, and afterwards the bands of its points are found anew; a point of which nothing is
    known yet (a new state, a restored one) has an empty band.
    """
    owner, waits = point[source], state.since_ns[definition] != _NEVER
    doing = waits.astype(np.int64)
    doing += doing
    doing += state.active[definition]
    row = _FOUR * definition
    row += doing
    low, high = rules.low.take(row), rules.high.take(row)
    if on_trends is not None:
        _bind(state, on_trends, doing[on_trends.here], waits[on_trends.here], low, high)
    if rules.special.watchful:
        low[rules.special.awake[owner]] = np.inf
    state.quiet_low[point], state.quiet_high[point] = -np.inf, np.inf
    np.maximum.at(state.quiet_low, owner, low)
    np.minimum.at(state.quiet_high, owner, high)


def _bind(state: State, alarms: OnTrends, doing: I64, waits: Bool, low: F64, high: F64) -> None:
    """Bind the trends of `alarms` by what these are `doing`, `waits` among it; `low` and `high` are of all definitions.

    With its limit behind it an early warning does not turn, however its trend goes, while the value stays there. One
    that waits to be raised must be sure at every reading.
    """
    here, trend, sign, setpoint, deadband, early, outside = alarms
    place = trend + early * state.waits.shape[1]
    side = _SIDE[doing]
    bound = _DEADBANDS[doing]
    bound *= deadband
    bound += _ALWAYS[doing]
    mute = (outside > waits).nonzero()[0]
    if len(mute):
        behind, setpoint = sign[mute] > 0.0, setpoint[mute]
        bound[mute] = np.inf
        low[here[mute]] = np.where(behind, np.nextafter(setpoint, -np.inf), -np.inf)
        high[here[mute]] = np.where(behind, np.inf, np.nextafter(setpoint, np.inf))
    np.copyto(side, side * sign, where=early)
    state.side.reshape(-1)[place] = side
    state.bound.reshape(-1)[place] = bound
    state.waits.reshape(-1)[place] = waits
