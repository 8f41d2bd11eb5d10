"""The alarm engine: `step` takes readings and commands and returns what every alarm they concern did."""

from tocsin_core.engine.clock import LONGEST_TICK_NS
from tocsin_core.engine.commands import Aspect, overtaken
from tocsin_core.engine.gating import words_first
from tocsin_core.engine.outlook import Projection, projections
from tocsin_core.engine.snapshots import SnapshotError, kept, labelled, laid, restore, snapshot, unpacked
from tocsin_core.engine.state import (
    ELSEWHERE,
    FIRST_WORD_NS,
    HERE,
    Command,
    Decider,
    Refusal,
    State,
    StepResult,
    Told,
    Transition,
    initial,
    occurrence_id,
    set_back,
)
from tocsin_core.engine.stepping import Input, step

__all__ = [
    "ELSEWHERE",
    "FIRST_WORD_NS",
    "HERE",
    "LONGEST_TICK_NS",
    "Aspect",
    "Command",
    "Decider",
    "Input",
    "Projection",
    "Refusal",
    "SnapshotError",
    "State",
    "StepResult",
    "Told",
    "Transition",
    "initial",
    "kept",
    "labelled",
    "laid",
    "occurrence_id",
    "overtaken",
    "projections",
    "restore",
    "set_back",
    "snapshot",
    "step",
    "unpacked",
    "words_first",
]
