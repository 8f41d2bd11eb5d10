"""Shelves that end by themselves: their time is up, a one-shot one has returned, or a worse alarm was raised."""

from collections.abc import Iterable

import numpy as np

from tocsin_core.engine.state import ELSEWHERE, FAR, State, Transition
from tocsin_core.engine.turning import move
from tocsin_core.lifecycle import Event
from tocsin_core.rules import Rules

TIME_IS_UP = "time is up"
HAS_RETURNED = "the alarm has returned"
WORSE_RAISED = "a worse alarm of the point was raised"


def end_timed_shelves(state: State, rules: Rules) -> list[Transition]:
    """Take from the shelf what `state.now_ns` has reached the end of, at the time at which it ended."""
    shelved = np.flatnonzero(state.shelved_until_ns)
    until_ns = state.shelved_until_ns[shelved]
    over = until_ns <= state.now_ns
    state.shelf_due_ns = int(until_ns[~over].min(initial=FAR))
    return [
        _unshelve(state, each, ended, float(state.value[rules.point[each]]), TIME_IS_UP)
        for each, ended in zip(shelved[over].tolist(), until_ns[over].tolist(), strict=True)
    ]


def end_shelves(state: State, rules: Rules, turned: Iterable[Transition]) -> list[Transition]:
    """Take from the shelf what the alarms `turned` by readings end: a reading's in the order of its definitions.

    A one-shot shelf ends with its alarm's return. A graver alarm of the same side of the point, unless it is hidden
    itself, ends any: who shelved a high alarm did not mean to sleep through the high-high. Of what another end decides
    it tells by itself.
    """
    reasons: dict[int, tuple[Transition, str]] = {}
    for each in turned:
        number = each.definition
        if each.event is not Event.RAISE:
            if state.shelved_until_ns[number] and state.shelved_once[number]:
                reasons[number] = each, HAS_RETURNED
        elif not each.suppressed:
            point = rules.point[number]
            for other in range(int(rules.first[point]), int(rules.first[point + 1])):
                lesser = 0 < rules.grade[other] < rules.grade[number] and rules.sign[other] == rules.sign[number]
                if lesser and state.shelved_until_ns[other]:
                    reasons.setdefault(other, (each, WORSE_RAISED))
    return [
        _unshelve(state, number, each.time_ns, each.value, reason)
        for number, (each, reason) in sorted(reasons.items())
        if state.elsewhere[number] != ELSEWHERE
    ]


def _unshelve(state: State, number: int, time_ns: int, value: float, reason: str) -> Transition:
    state.shelved_until_ns[number] = 0
    return move(state, number, Event.UNSHELVE, time_ns, value, reason=reason)
