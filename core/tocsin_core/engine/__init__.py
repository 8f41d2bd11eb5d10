"""The alarm engine: `step` takes readings and commands and returns what every alarm they concern did."""

from tocsin_core.engine.clock import LONGEST_TICK_NS
from tocsin_core.engine.outlook import Projection, projections
from tocsin_core.engine.snapshots import SnapshotError, restore, snapshot
from tocsin_core.engine.state import PORTION, Command, Refusal, State, StepResult, Transition, initial, occurrence_id
from tocsin_core.engine.stepping import step

__all__ = [
    "LONGEST_TICK_NS",
    "PORTION",
    "Command",
    "Projection",
    "Refusal",
    "SnapshotError",
    "State",
    "StepResult",
    "Transition",
    "initial",
    "occurrence_id",
    "projections",
    "restore",
    "snapshot",
    "step",
]
