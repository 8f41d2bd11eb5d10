"""What only the passing of time brings: shelves whose time is up, alarms that re-alarm, and points gone stale."""

from typing import Final

import numpy as np

from tocsin_core.detectors.voting import Members
from tocsin_core.engine.rest import forget
from tocsin_core.engine.shelves import end_timed_shelves
from tocsin_core.engine.state import FAR, NEVER, PORTION, State, Transition
from tocsin_core.engine.turning import move, turn
from tocsin_core.lifecycle import Event, Phase
from tocsin_core.readings import I64, is_bad
from tocsin_core.rules import NS, Rules

# Ticks come every second. When none has come for this long nobody was listening (a worker was restarted, a log stood
# still), and readings that waited meanwhile bear the stamp of the tick before: what is longer is nobody's silence.
LONGEST_TICK_NS: Final = 5 * NS


def advance_clock(state: State, rules: Rules, elapsed_ns: int) -> list[Transition]:
    """What `state.now_ns`, `elapsed_ns` (> 0) after the last tick, brings.

    The whole plant is looked at only when something can be due: a healthy one every few seconds.
    """
    if elapsed_ns > LONGEST_TICK_NS:
        _forgive(state, elapsed_ns - LONGEST_TICK_NS)
    transitions = []
    if state.now_ns >= state.shelf_due_ns:
        transitions += end_timed_shelves(state, rules)
    if state.now_ns >= state.realarm_due_ns:
        transitions += _realarm(state, rules, elapsed_ns)
    if state.now_ns >= state.stale_due_ns:
        state.stale_due_ns = FAR
        for start in range(0, len(rules.stale), PORTION):
            transitions += _tell_silence(state, rules, rules.stale[start : start + PORTION])
    return transitions


def _forgive(state: State, pause_ns: int) -> None:
    """Take `pause_ns`, in which nobody listened, out of every silence."""
    state.seen_ns += pause_ns
    for table in state.tables.values():
        if isinstance(table, Members):
            table.time_ns[table.time_ns != NEVER] += pause_ns


def _realarm(state: State, rules: Rules, elapsed_ns: int) -> list[Transition]:
    """Alarms acknowledged long ago and active still wait for an acknowledgement again.

    What is hidden asks nobody: it does when it comes out, if it is active then.
    """
    number = rules.realarm
    standing = (state.phase[number] == Phase.ACKNOWLEDGED) & (state.acknowledged_ns > 0)
    hidden = state.suppressed[number] | state.out_of_service[number] | (state.shelved_until_ns[number] > 0)
    due_ns = np.where(standing, state.acknowledged_ns + rules.realarm_ns, FAR)
    over = (due_ns <= state.now_ns) & ~hidden
    state.realarm_due_ns = int(due_ns[~over].min(initial=FAR))
    # What was due before the last tick had been hidden since: it comes now.
    late = due_ns <= state.now_ns - elapsed_ns
    at_ns = np.where(late, state.now_ns, due_ns)[over]
    return [
        move(state, each, Event.REALARM, at, float(state.value[rules.point[each]]), reason="still active")
        for each, at in zip(number[over].tolist(), at_ns.tolist(), strict=True)
    ]


def _tell_silence(state: State, rules: Rules, stale: I64) -> list[Transition]:
    """Raise those of the `stale` definitions whose points have been silent too long; note when the next can be due."""
    point, after_ns = rules.point[stale], rules.after_ns[stale]
    gone_ns = state.seen_ns.take(point) + after_ns
    silent = gone_ns <= state.now_ns
    # Whatever is read from now on is heard now or later; only silence that has begun can be over sooner.
    sooner = np.where(silent, FAR, gone_ns)
    state.stale_due_ns = min(state.stale_due_ns, int(sooner.min()), state.now_ns + int(after_ns.min()))
    number, gone_ns, silent_point = stale[silent], gone_ns[silent], point[silent].astype(np.int64)
    if not len(number):
        return []
    # A point whose alarm says that it is bad has told so: silence after that is no second fault. One that read bad and
    # fell silent before that alarm's delay was over (its gateway died) has not.
    bad = rules.bad_of[silent_point]
    told_bad = is_bad(state.quality[silent_point]) & (bad >= 0) & state.active[bad]
    goes = ~state.active[number] & ~told_bad
    number, silent_point = number[goes], silent_point[goes]
    transitions = turn(state, rules, number, gone_ns[goes], np.full(len(number), np.nan))
    forget(state, silent_point)
    return transitions
