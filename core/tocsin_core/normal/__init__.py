"""The normal-operation model of a unit: learned from recorded normal running, it says how far the unit is from it."""

from tocsin_core.normal.judging import Judgement, judge, start
from tocsin_core.normal.learning import falsely_raised_per_week, learn, limits_of
from tocsin_core.normal.model import NormalModel, NormalModelError, Settings
from tocsin_core.normal.stored import model_from_bytes, model_to_bytes, state_from_bytes, state_to_bytes
from tocsin_core.normal.tracking import NormalState

__all__ = [
    "Judgement",
    "NormalModel",
    "NormalModelError",
    "NormalState",
    "Settings",
    "falsely_raised_per_week",
    "judge",
    "learn",
    "limits_of",
    "model_from_bytes",
    "model_to_bytes",
    "start",
    "state_from_bytes",
    "state_to_bytes",
]
