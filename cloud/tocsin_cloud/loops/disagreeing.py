"""What the engine has moved and nobody was told of: the steps that bring the tables to where it is."""

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np

from tocsin_core.engine import State, Transition, occurrence_id
from tocsin_core.engine.state import HERE
from tocsin_core.lifecycle import Event, Phase
from tocsin_core.rules import Rules

_ACTIVE: Final = (Phase.UNACKNOWLEDGED, Phase.ACKNOWLEDGED)
_RETURNED: Final = (Phase.NORMAL, Phase.RETURNED_UNACKNOWLEDGED)


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
        if told is None and phase in _ACTIVE:
            yield Transition(
                number, Event.RAISE, Phase.NORMAL, phase, onset_ns, value, onset_ns, 0, hidden, who="", reason=""
            )
        elif told in _ACTIVE and phase in _RETURNED:
            time_ns = int(state.time_ns[point])
            yield Transition(number, Event.RETURN, told, phase, time_ns, value, onset_ns, 0, hidden, who="", reason="")
