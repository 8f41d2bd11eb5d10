"""Alarms moved through the table of states, each move told as a transition."""

from collections.abc import Iterator
from functools import partial
from itertools import repeat
from typing import Final

import numpy as np

from tocsin_core.engine.state import State, Transition
from tocsin_core.lifecycle import NEXT, NONE, Event, Phase
from tocsin_core.readings import F64, I64
from tocsin_core.rules import Rules

NEVER_SHOWN: Final = "suppressed by design all the while"

_EVENTS: Final = np.asarray(Event, np.object_)
_PHASES: Final = np.asarray(Phase, np.object_)
# What turns an alarm that is not active, one that is, and one that is and latches.
_TURNING: Final = np.asarray([Event.RAISE, Event.RETURN, Event.RETURN_LATCHED])
# As arrays: it takes several times as long with an enum, twice with a number.
_NORMAL, _NOT_SHELVED = np.asarray(Phase.NORMAL, np.int64), np.asarray(0)
# A quarter of the time of the class's own way: ten thousand alarms may come at once.
_transition: Final = partial(tuple.__new__, Transition)


def turn(state: State, rules: Rules, number: I64, time_ns: I64, value: F64) -> list[Transition]:
    """Turn the conditions of the alarms `number` (each once): raise those not active, return those that are."""
    active = state.active[number]
    raising = ~active
    before, onset = state.phase[number].astype(np.int64), state.onset_ns[number]
    event = _TURNING[active.astype(np.int64) + (active & rules.latching[number])]
    after = NEXT[before, event]
    superseded = onset * (raising & (before != _NORMAL))
    np.copyto(onset, time_ns, where=raising)
    suppressed = state.suppressed[number] | state.out_of_service[number]
    suppressed |= state.shelved_until_ns[number] > _NOT_SHELVED
    state.active[number] = raising
    state.unseen[number] = np.where(raising, state.suppressed[number], state.unseen[number])
    state.phase[number] = after
    state.onset_ns[number] = onset
    told = (_EVENTS[event], _PHASES[before], _PHASES[after])
    columns = (number, *told, time_ns, value, onset, superseded, suppressed)
    return list(map(_transition, zip(*map(np.ndarray.tolist, columns), repeat(""), repeat(""))))


def move(
    state: State, number: int, event: Event, time_ns: int, value: float, *, who: str = "", reason: str = ""
) -> Transition:
    """Move one alarm by an event that leaves its condition alone."""
    before = Phase(int(state.phase[number]))
    after = Phase(int(NEXT[before, event]))
    state.phase[number] = after
    suppressed = bool(state.shelved_until_ns[number] or state.suppressed[number] or state.out_of_service[number])
    return Transition(
        number, event, before, after, time_ns, value, int(state.onset_ns[number]), 0, suppressed, who, reason
    )


def answered(state: State, returned: Transition) -> Iterator[Transition]:
    """The end of an alarm that was suppressed by design from its raising to its return: nobody is asked to answer it.

    ISA-18.2: what is suppressed by design is normal afterwards, where its condition is gone. Nor does it stay latched.
    """
    number, time_ns, value = returned.definition, returned.time_ns, returned.value
    state.unseen[number] = False
    for event in (Event.ACKNOWLEDGE, Event.RESET):
        if NEXT[state.phase[number], event] != NONE:
            yield move(state, number, event, time_ns, value, reason=NEVER_SHOWN)
