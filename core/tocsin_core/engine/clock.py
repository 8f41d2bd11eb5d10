"""What only the passing of time brings: shelves whose time is up, and points gone stale."""

from typing import Final

import numpy as np

from tocsin_core.engine.rest import recognise
from tocsin_core.engine.state import NEVER, State, Transition
from tocsin_core.engine.turning import move, turn
from tocsin_core.lifecycle import Event
from tocsin_core.readings import I64, Bool, is_bad
from tocsin_core.rules import NS, Rules

# Ticks come every second. When none has come for this long nobody was listening (a worker was restarted, a log stood
# still), and readings that waited meanwhile bear the stamp of the tick before: that time is nobody's silence.
LONGEST_TICK_NS: Final = 5 * NS

_FAR: Final = 1 << 62


def advance_clock(state: State, rules: Rules, elapsed_ns: int) -> list[Transition]:
    """What `state.now_ns`, `elapsed_ns` (> 0) after the last tick, brings; the whole plant is looked at when due."""
    if elapsed_ns > LONGEST_TICK_NS:
        state.seen_ns += elapsed_ns
    if state.now_ns < state.due_ns:
        return []
    transitions = []
    for each in np.flatnonzero((state.shelved_until_ns > 0) & (state.shelved_until_ns <= state.now_ns)).tolist():
        ended = int(state.shelved_until_ns[each])
        state.shelved_until_ns[each] = 0
        value = float(state.value[rules.point[each]])
        transitions.append(move(state, each, Event.UNSHELVE, ended, value, reason="time is up"))
    stale, gone_ns, may_go = _silence(state, rules)
    silent = may_go & (gone_ns <= state.now_ns)
    number = stale[silent]
    transitions += turn(state, rules, number, gone_ns[silent], np.full(len(number), np.nan))
    recognise(state, rules, rules.point[number].astype(np.int64))
    # Whatever is read from now on is heard now or later; only silence that has begun can be over sooner.
    sooner = gone_ns[may_go & ~silent]
    soonest = min(int(sooner.min(initial=_FAR)), state.now_ns + int(rules.after_ns[stale].min(initial=_FAR)))
    shelved = state.shelved_until_ns[state.shelved_until_ns > 0]
    state.due_ns = min(soonest, int(shelved.min(initial=_FAR)))
    return transitions


def _silence(state: State, rules: Rules) -> tuple[I64, I64, Bool]:
    """The stale definitions, when each has been without a reading for too long, and whether that may be told."""
    stale = rules.stale
    point = rules.point[stale]
    # A point known to be bad has told so already: silence after that is no second fault.
    known_bad = is_bad(state.quality[point]) & (state.time_ns[point] != NEVER)
    return stale, state.seen_ns[point] + rules.after_ns[stale], ~state.active[stale] & ~known_bad
