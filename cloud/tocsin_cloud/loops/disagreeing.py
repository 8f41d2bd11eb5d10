"""What the engine has moved and nobody was told of: the steps that bring the tables to where it is."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import partial
from math import nan
from typing import Final, NamedTuple

import numpy as np

from tocsin_core.engine import State, Transition
from tocsin_core.engine.state import HERE
from tocsin_core.lifecycle import ACTIVE, TURNS, Event, Phase, after
from tocsin_core.readings import I64
from tocsin_core.rules import Rules
from tocsin_core.special import Family

_RETURNS: Final = {
    Phase.NORMAL: Event.RETURN,
    Phase.RETURNED_UNACKNOWLEDGED: Event.RETURN,
    Phase.LATCHED_UNACKNOWLEDGED: Event.RETURN_LATCHED,
    Phase.LATCHED_ACKNOWLEDGED: Event.RETURN_LATCHED,
}


class Standing(NamedTuple):
    """An occurrence that is not normal, as the tables have it."""

    alarm: str
    raised_ns: int
    phase: Phase


_NOTHING: Final = Standing("", 0, Phase.NORMAL)


def untold(state: State, rules: Rules, stands: Collection[Standing], numbers: I64) -> Iterator[Transition]:
    """The raisings and returns of the alarms `numbers` that are decided here and missing where `stands` is all that is.

    Between two engines with the same rules over the same messages there are none, but for what a mass of `stale` alarms
    has left to be committed (`HeldBack`).
    """
    phases = {(each.alarm, each.raised_ns): each.phase for each in stands}
    others = {each.alarm: each for each in stands}
    number = numbers[(state.onset_ns[numbers] > 0) & (state.elsewhere[numbers] == HERE)]
    point = rules.point[number]
    hidden = state.suppressed[number] | state.out_of_service[number] | (state.shelved_until_ns[number] > 0)
    silent = rules.family[number] == Family.STALE
    of_points = state.time_ns[point], state.value[point]
    columns = number, state.phase[number], state.onset_ns[number], *of_points, hidden, silent
    for each, at, onset_ns, time_ns, value, unseen, silence in zip(*map(np.ndarray.tolist, columns), strict=True):
        alarm, phase = rules.definitions[each].id, Phase(at)
        made = partial(Transition, suppressed=unseen, who="", reason="")
        told = phases.get((alarm, onset_ns))
        if told is None and phase is not Phase.NORMAL:
            told = phase if phase in ACTIVE else Phase.UNACKNOWLEDGED
            # Of what has returned since, nobody remembers at what value it was raised; silence has none.
            of = nan if silence or phase is not told else value
            before = others.get(alarm, _NOTHING)
            if silence and before.phase in ACTIVE and before.raised_ns < onset_ns:
                # The point was read in between, at the latest when it was read last.
                event = TURNS[int(rules.latching[each])]
                over = before._replace(phase=after(before.phase, event))
                read_ns = min(time_ns, onset_ns)
                yield made(each, event, before.phase, over.phase, read_ns, value, over.raised_ns, 0)
                before = over
            # What has returned, and waits for an answer, is replaced.
            if before.phase in (Phase.NORMAL, *ACTIVE) or before.raised_ns > onset_ns:
                before = _NOTHING
            yield made(each, Event.RAISE, before.phase, told, onset_ns, of, onset_ns, before.raised_ns)
        if told in ACTIVE and phase in _RETURNS:
            yield made(each, _RETURNS[phase], told, phase, time_ns, value, onset_ns, 0)


def orphans(state: State, rules: Rules, stands: Mapping[str, Standing], steps: Iterable[Transition]) -> set[str]:
    """Those of `stands` (by id) that the engine does not know and that `steps` do not end."""
    ended = {
        (rules.definitions[each.definition].id, onset_ns)
        for each in steps
        for onset_ns in (each.onset_ns, each.superseded_ns)
    }

    def known(each: Standing) -> bool:
        number = rules.index.get(each.alarm)
        present = number is not None and each.raised_ns == state.onset_ns[number]
        return present or (each.alarm, each.raised_ns) in ended

    return {occurrence for occurrence, each in stands.items() if not known(each)}
