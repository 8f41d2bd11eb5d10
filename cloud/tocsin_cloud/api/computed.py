"""How a computed point is worked out, in words."""

from typing import Final

from tocsin_cloud.api import model
from tocsin_core.plant import Plant, PlantPoint
from tocsin_core.plant.computed import Compute, Vote, points_of

_TOLD: Final = {
    "median": model.Name(zh="中位值", en="median"),
    "spread": model.Name(zh="最大差值", en="largest difference"),
    "balance": model.Name(zh="物料平衡", en="mass balance"),
    "grade": model.Name(zh="分级汇总", en="grade of all"),
    "normal": model.Name(zh="正常运行模型", en="normal-operation model"),
}


def computed(point: PlantPoint, plant: Plant) -> model.Computed | None:
    """Return the rule of `point` and the points that it is computed from, None where it is measured."""
    rule = point.compute
    if rule is None:
        return None
    members = points_of(rule, {name: found.names for name, found in plant.models.items()})
    return model.Computed(rule=rule.rule, told=_told(rule), members=list(dict.fromkeys(members)))


def _told(rule: Compute) -> model.Name:
    if isinstance(rule, Vote):
        return model.Name(zh=f"{len(rule.of)} 取 {rule.need} 表决", en=f"vote, {rule.need} out of {len(rule.of)}")
    return _TOLD[rule.rule]
