"""What the engine has moved and nobody was told of: the steps that bring the tables to where it is."""

from collections.abc import Iterator, Mapping
from math import nan
from typing import Final

import numpy as np

from tocsin_core.engine import State, Transition, occurrence_id
from tocsin_core.engine.state import HERE
from tocsin_core.lifecycle import ACTIVE, Event, Phase
from tocsin_core.rules import Rules

_RETURNS: Final = {
    Phase.NORMAL: Event.RETURN,
    Phase.RETURNED_UNACKNOWLEDGED: Event.RETURN,
    Phase.LATCHED_UNACKNOWLEDGED: Event.RETURN_LATCHED,
    Phase.LATCHED_ACKNOWLEDGED: Event.RETURN_LATCHED,
}


def untold(state: State, rules: Rules, stands: Mapping[str, Phase]) -> Iterator[Transition]:
    """The raisings and returns of alarms decided here that are missing where `stands` (by occurrence) is all that is.

    Between two engines with the same rules over the same messages there are none.
    """
    for number in np.flatnonzero((state.onset_ns > 0) & (state.elsewhere == HERE)).tolist():
        onset_ns, phase = int(state.onset_ns[number]), Phase(state.phase[number])
        told = stands.get(occurrence_id(rules.definitions[number].id, onset_ns))
        point = int(rules.point[number])
        value = float(state.value[point])
        hidden = bool(state.suppressed[number] or state.out_of_service[number] or state.shelved_until_ns[number])
        if told is None and phase is not Phase.NORMAL:
            told = phase if phase in ACTIVE else Phase.UNACKNOWLEDGED
            # Of what has returned since, nobody remembers at what value it was raised.
            at = value if phase is told else nan
            yield Transition(
                number, Event.RAISE, Phase.NORMAL, told, onset_ns, at, onset_ns, 0, hidden, who="", reason=""
            )
        if told in ACTIVE and phase in _RETURNS:
            event, time_ns = _RETURNS[phase], int(state.time_ns[point])
            yield Transition(number, event, told, phase, time_ns, value, onset_ns, 0, hidden, who="", reason="")
