"""The plant file: strict models, the standards' defaults, and loading with every problem named by file and line."""

from tocsin_core.plant.definition import AlarmDefinition, Suppressor
from tocsin_core.plant.fields import Text
from tocsin_core.plant.load import Plant, PlantError, load_plant, shipped_profiles
from tocsin_core.plant.model import AlarmKind, AlarmSetting, PointKind, Priority
from tocsin_core.plant.point import ModeSource, PlantPoint
from tocsin_core.plant.source import Problem

__all__ = [
    "AlarmDefinition",
    "AlarmKind",
    "AlarmSetting",
    "ModeSource",
    "Plant",
    "PlantError",
    "PlantPoint",
    "PointKind",
    "Priority",
    "Problem",
    "Suppressor",
    "Text",
    "load_plant",
    "shipped_profiles",
]
