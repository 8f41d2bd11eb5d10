"""Which alarm came first: told in the reason of its raising, and kept until all of its group are back to normal."""

from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple, cast

from tocsin_core.detectors.columns import NEVER
from tocsin_core.engine.state import State, Transition
from tocsin_core.lifecycle import Event, Phase
from tocsin_core.readings import I64
from tocsin_core.special.first_out import FIRST_OUT, FirstOut, FirstOutGroups

_FIRST: Final = "first out of"


class Hidden(NamedTuple):
    """Which members of groups are suppressed by design, were so from their raising on, or are out of service."""

    suppressed: set[int]
    unseen: set[int]
    out: set[int]

    def has(self, number: int) -> bool:
        """Whether what it reads counts as normal."""
        return number in self.unseen or number in self.out


def hidden_members(state: State, groups: FirstOutGroups) -> Hidden:
    """Those that are hidden now."""
    number, every = groups.suppressible, groups.every
    suppressed, unseen = state.suppressed[number], state.unseen[number]
    out = every[state.out_of_service[every]]
    return Hidden(set(number[suppressed].tolist()), set(number[unseen].tolist()), set(out.tolist()))


def mark_first_out(
    state: State, groups: FirstOutGroups, transitions: Sequence[Transition], hidden: Hidden
) -> list[Transition]:
    """`transitions` of a step, in order and already in `state`, with the first-out among them marked.

    First is the earliest onset in event time, of two at once the one that stands first in the plant: an alarm told
    later, but raised earlier, takes the place. A raising that is suppressed does not count; and what has been
    suppressed by design since it was raised, or is out of service, counts as back to normal: a spare pump's low flow
    may be so for weeks, and would keep each trip from telling its first. `hidden` (consumed) is what was so before the
    step.
    """
    table = cast("FirstOut", state.tables[FIRST_OUT])
    concerned = [each for each in transitions if each.definition in groups.places]
    which = {group for each in concerned for group, _ in groups.places[each.definition]}
    standing = {group: _standing(state, groups.members[group]) for group in which}
    changes = deque(_more(each, hidden) for each in concerned)
    for each, more in zip(concerned, changes, strict=True):
        for group, _ in groups.places[each.definition]:
            standing[group] -= more
    told = []
    for each in transitions:
        change = changes.popleft() if each.definition in groups.places else 0
        firsts = []
        for group, member in groups.places.get(each.definition, ()):
            if each.event is Event.RAISE and not each.suppressed and _is_first(table, group, member, each.onset_ns):
                table.member[group], table.time_ns[group] = member, each.onset_ns
                firsts.append(f"{_FIRST} {groups.names[group]}")
            standing[group] += change
            if not standing[group] and change < 0:
                table.member[group] = table.time_ns[group] = NEVER
                table.reset_ns[group] = max(int(table.reset_ns[group]), each.time_ns)
        told.append(each._replace(reason="; ".join(filter(None, (each.reason, *firsts)))) if firsts else each)
    return told


def _standing(state: State, members: I64) -> int:
    away = state.unseen[members] | state.out_of_service[members]
    return int(((state.phase[members] != Phase.NORMAL) & ~away).sum())


def _more(each: Transition, hidden: Hidden) -> int:
    """How many alarms more than before are not back to normal; `hidden` is brought to after it."""
    number = each.definition
    before = each.phase_from is not Phase.NORMAL and not hidden.has(number)
    match each.event:
        case Event.RAISE if number in hidden.suppressed:
            hidden.unseen.add(number)
        case Event.SUPPRESS:
            hidden.suppressed.add(number)
            hidden.unseen.discard(number)
        case Event.UNSUPPRESS:
            hidden.suppressed.discard(number)
            hidden.unseen.discard(number)
        case Event.OUT_OF_SERVICE:
            hidden.out.add(number)
        case Event.IN_SERVICE:
            hidden.out.discard(number)
        case _:
            pass
    return int(each.phase_to is not Phase.NORMAL and not hidden.has(number)) - int(before)


def _is_first(table: FirstOut, group: int, member: int, onset_ns: int) -> bool:
    held_ns = int(table.time_ns[group])
    earlier = (onset_ns, member) < (held_ns, int(table.member[group]))
    return onset_ns >= table.reset_ns[group] and (held_ns == NEVER or earlier)
