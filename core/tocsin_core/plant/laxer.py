"""Set points of the plant file that are laxer than the standard's own: legal here and there, and mostly a slip."""

from collections.abc import Iterator

from tocsin_core.plant.brought import EXPOSURE_CLAUSES, alarms_brought, exposure_limit
from tocsin_core.plant.definition import AlarmDefinition
from tocsin_core.plant.fields import Text
from tocsin_core.plant.load import Plant
from tocsin_core.plant.point import PlantPoint
from tocsin_core.plant.standards import written
from tocsin_core.plant.units import UNITS

# What the arithmetic of a conversion may leave.
ROUNDING = 1e-9


def laxer_than_standard(plant: Plant) -> Iterator[tuple[AlarmDefinition, float, Text]]:
    """Definitions that speak later than the kind's standard wants, with its set point and its clause.

    Only where the point is in a unit that the standard's set points are in.
    """
    for point in plant.points:
        known = UNITS.get(point.kind)
        if known is not None and written(point.unit) not in known:
            continue
        for each in point.definitions:
            at, clause = _standard(point, each)
            if at is not None and clause is not None and (each.setpoint - at) * each.side > ROUNDING * abs(at):
                yield each, at, clause


def _standard(point: PlantPoint, each: AlarmDefinition) -> tuple[float | None, Text | None]:
    config = point.config.model_copy(update={"unit": point.unit})
    if each.kind in EXPOSURE_CLAUSES:
        return exposure_limit(config, each.kind, point.unit), EXPOSURE_CLAUSES[each.kind]
    setting, clause = alarms_brought(config, point.compute).get(each.kind, (None, None))
    return None if setting is None else setting.setpoint, clause
