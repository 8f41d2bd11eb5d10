"""Alarms moved through the table of states, each move told as a transition."""

from typing import Final

import numpy as np

from tocsin_core.engine.state import State, Transition
from tocsin_core.lifecycle import NEXT, Event, Phase
from tocsin_core.readings import F64, I64
from tocsin_core.rules import Rules

_EVENTS: Final = tuple(Event)
_PHASES: Final = tuple(Phase)


def turn(state: State, rules: Rules, number: I64, time_ns: I64, value: F64) -> list[Transition]:
    """Turn the conditions of the alarms `number` (each once): raise those not active, return those that are."""
    raising = ~state.active[number]
    before, earlier = state.phase[number], state.onset_ns[number]
    event = np.where(raising, Event.RAISE, np.where(rules.latching[number], Event.RETURN_LATCHED, Event.RETURN))
    after = NEXT[before, event]
    onset = np.where(raising, time_ns, earlier)
    superseded = np.where(raising & (before != Phase.NORMAL), earlier, 0)
    suppressed = (state.shelved_until_ns[number] > 0) | state.suppressed[number] | state.out_of_service[number]
    state.active[number] = raising
    state.phase[number] = after
    state.onset_ns[number] = onset
    columns = (number, event, before, after, time_ns, value, onset, superseded, suppressed)
    return [
        Transition(which, _EVENTS[e], _PHASES[b], _PHASES[a], when, at, began, ended, hidden, "", "")
        for which, e, b, a, when, at, began, ended, hidden in zip(*(c.tolist() for c in columns), strict=True)
    ]


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
