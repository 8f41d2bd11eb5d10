"""All that a plant has beyond limits, trends and silence; empty for a plant that has nothing of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tocsin_core.detectors.columns import NS, Columns
from tocsin_core.normal import NormalModel
from tocsin_core.plant import AlarmKind, Plant
from tocsin_core.readings import Bool
from tocsin_core.special.computed import Computer, compile_computed, inputs_of
from tocsin_core.special.first_out import FIRST_OUT, FirstOutGroups, compile_first_out
from tocsin_core.special.gates import (
    MODES,
    SUPPRESSIONS,
    ModeGates,
    SuppressionGates,
    compile_modes,
    compile_suppressions,
)
from tocsin_core.special.tables import Table
from tocsin_core.special.watches import Numbered, Watch, compile_watches


@dataclass(frozen=True, eq=False)
class Special:
    """What `step` does besides: of each kind nothing, where a plant has none of it.

    By point, bool: `awake`, whose every good reading is judged in full; `feeds`, members of computed points. `inputs`
    are the numbers of the members of each computed point, by its own, `longest_ns` how old their readings may be.
    """

    watches: tuple[Watch[Columns], ...]
    modes: ModeGates | None
    suppressions: SuppressionGates | None
    computers: tuple[Computer, ...]
    first_out: FirstOutGroups | None
    awake: Bool
    feeds: Bool
    models: dict[str, NormalModel]
    inputs: dict[int, tuple[int, ...]]
    longest_ns: dict[int, int]

    @cached_property
    def watchful(self) -> bool:
        """Whether there is any point whose every reading is judged."""
        return bool(self.awake.any())

    @cached_property
    def tables(self) -> dict[str, Table]:
        """Every table of the engine's state, by name."""
        found = {watch.table_name: watch.table for watch in self.watches}
        for computer in self.computers:
            found |= computer.tables
        if self.modes is not None:
            found[MODES] = self.modes.table
        if self.suppressions is not None:
            found[SUPPRESSIONS] = self.suppressions.table
        if self.first_out is not None:
            found[FIRST_OUT] = self.first_out.table
        return found


def compile_special(plant: Plant, definitions: Sequence[Numbered]) -> Special:
    """What `plant`, whose `definitions` are in engine order, has beyond limits, trends and silence."""
    watches, computers = compile_watches(definitions), compile_computed(plant, definitions)
    awake, feeds = np.zeros(len(plant.points), np.bool_), np.zeros(len(plant.points), np.bool_)
    for watch in watches:
        awake[watch.point] = True
    awake[[point for _, point, definition in definitions if definition.kind is AlarmKind.ABNORMAL]] = True
    for computer in computers:
        feeds[computer.members] = True
    return Special(
        watches=watches,
        modes=compile_modes(plant),
        suppressions=compile_suppressions(plant, definitions),
        computers=computers,
        first_out=compile_first_out(plant, definitions),
        awake=awake,
        feeds=feeds,
        inputs=inputs_of(plant),
        longest_ns={place.index: round(place.longest_s * NS) for place in plant.points if place.compute is not None},
        models={name: model for computer in computers for name, model in computer.models.items()},
    )
