"""Which points are dark: bad, never read, or silent for longer than they may be."""

import numpy as np

from tocsin_core.plant import AlarmKind, Plant, PlantPoint
from tocsin_core.plant.computed import Normal
from tocsin_core.readings import I64, U8, Bool, is_bad
from tocsin_core.rules import NS


def stale_after_ns(point: PlantPoint, plant: Plant) -> int | None:
    """After how many nanoseconds without a new reading the value of `point` is too old; None: it never is."""
    after = next((definition.after_s for definition in point.definitions if definition.kind is AlarmKind.STALE), None)
    if after is None and point.compute is not None:
        # A unit is judged once a period, when the next one begins.
        period_s = plant.models[point.compute.model].period_s if isinstance(point.compute, Normal) else 0.0
        after = point.longest_s + 2 * period_s
    return None if after is None else int(after * NS)


def silences(plant: Plant) -> I64:
    """`stale_after_ns` of all points of `plant`, by index; 0 for those that may be silent for ever."""
    return np.asarray([stale_after_ns(point, plant) or 0 for point in plant.points], dtype=np.int64)


def silent(time_ns: I64, quality: U8, allowed_ns: I64, now_ns: int) -> Bool:
    """Which points were read, are not bad, and are older than `allowed_ns`."""
    late: Bool = (allowed_ns > 0) & (time_ns > 0) & (now_ns - time_ns > allowed_ns) & ~is_bad(quality)
    return late


def dark(time_ns: I64, quality: U8, allowed_ns: I64, now_ns: int) -> Bool:
    """Which points nobody can judge: bad, never read, or silent."""
    found: Bool = is_bad(quality) | (time_ns == 0) | silent(time_ns, quality, allowed_ns, now_ns)
    return found
