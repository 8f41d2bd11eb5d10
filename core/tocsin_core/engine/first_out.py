"""Which alarm came first: told in the reason of its raising, and kept until all of its group are back to normal."""

from collections.abc import Sequence
from typing import Final, cast

from tocsin_core.detectors.columns import NEVER
from tocsin_core.engine.state import State, Transition
from tocsin_core.lifecycle import Event, Phase
from tocsin_core.special.first_out import FIRST_OUT, FirstOut, FirstOutGroups

_FIRST: Final = "first out of"


def mark_first_out(state: State, groups: FirstOutGroups, transitions: Sequence[Transition]) -> list[Transition]:
    """`transitions` of a step, in order and already in `state`, with the first-out among them marked.

    First is the earliest onset in event time, of two at once the one that stands first in the plant: an alarm told
    later, but raised earlier, takes the place. A raising that is suppressed does not count.
    """
    table = cast("FirstOut", state.tables[FIRST_OUT])
    concerned = [each for each in transitions if each.definition in groups.places]
    which = {group for each in concerned for group, _ in groups.places[each.definition]}
    standing = {group: int((state.phase[groups.members[group]] != Phase.NORMAL).sum()) for group in which}
    for each in concerned:
        for group, _ in groups.places[each.definition]:
            standing[group] -= _more(each)
    told = []
    for each in transitions:
        firsts = []
        for group, member in groups.places.get(each.definition, ()):
            if each.event is Event.RAISE and not each.suppressed and _is_first(table, group, member, each.onset_ns):
                table.member[group], table.time_ns[group] = member, each.onset_ns
                firsts.append(f"{_FIRST} {groups.names[group]}")
            standing[group] += _more(each)
            if not standing[group] and each.phase_from is not Phase.NORMAL:
                table.member[group] = table.time_ns[group] = NEVER
                table.reset_ns[group] = max(int(table.reset_ns[group]), each.time_ns)
        told.append(each._replace(reason="; ".join(filter(None, (each.reason, *firsts)))) if firsts else each)
    return told


def _more(each: Transition) -> int:
    """How many alarms more than before are not back to normal."""
    return int(each.phase_to is not Phase.NORMAL) - int(each.phase_from is not Phase.NORMAL)


def _is_first(table: FirstOut, group: int, member: int, onset_ns: int) -> bool:
    held_ns = int(table.time_ns[group])
    earlier = (onset_ns, member) < (held_ns, int(table.member[group]))
    return onset_ns > table.reset_ns[group] and (held_ns == NEVER or earlier)
