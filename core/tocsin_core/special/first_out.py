"""First-out: which alarm of a group came first since all of them were last back to normal."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from tocsin_core.detectors.columns import NEVER, Columns
from tocsin_core.plant import Plant
from tocsin_core.readings import I64
from tocsin_core.special.tables import Table
from tocsin_core.special.watches import Numbered

FIRST_OUT: Final = "first-out"


@dataclass(slots=True)
class FirstOut(Columns):
    """Of each group: the onset `time_ns` i64 of the alarm that tripped first (-1: none), and its place `member` i64.

    `reset_ns` i64: when all of the group were last back to normal; what was raised before is past.
    """

    member: I64
    time_ns: I64
    reset_ns: I64

    @classmethod
    def empty(cls, size: int) -> "FirstOut":
        """`size` groups in which nothing has tripped."""
        return cls(*(np.full(size, NEVER, np.int64) for _ in range(3)))


@dataclass(frozen=True, eq=False)
class FirstOutGroups:
    """`names[g]` is the id of group g, `members[g]` its definitions, ascending.

    `places[d]` are the groups of definition d, with its place among the members of each. `every` i64 are all members,
    `suppressible` i64 those that can be suppressed by design.
    """

    names: tuple[str, ...]
    members: tuple[I64, ...]
    places: dict[int, tuple[tuple[int, int], ...]]
    every: I64
    suppressible: I64
    table: Table


def compile_first_out(plant: Plant, definitions: Sequence[Numbered]) -> FirstOutGroups | None:
    """The first-out groups of `plant`, None where it has none."""
    if not plant.first_out:
        return None
    number = {definition.id: each for each, _, definition in definitions}
    named = [sorted(alarms, key=number.__getitem__) for alarms in plant.first_out.values()]
    members = tuple(np.asarray([number[alarm] for alarm in alarms], np.int64) for alarms in named)
    places: dict[int, tuple[tuple[int, int], ...]] = {}
    for group, mine in enumerate(members):
        for place, each in enumerate(mine.tolist()):
            places[each] = (*places.get(each, ()), (group, place))
    keys = tuple(f"{name}:{','.join(alarms)}" for name, alarms in zip(plant.first_out, named, strict=True))
    suppressible = [each for each, _, definition in definitions if each in places and definition.suppressed_by]
    table = Table(keys, partial(FirstOut.empty, len(members)))
    every, may_hide = (np.asarray(each, np.int64) for each in (sorted(places), suppressible))
    return FirstOutGroups(tuple(plant.first_out), members, places, every, may_hide, table)
