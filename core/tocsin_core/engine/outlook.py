"""Where points are heading: the early warnings' lines, drawn ahead for people to see."""

from dataclasses import dataclass

import numpy as np

from tocsin_core import detect
from tocsin_core.detect import Slope
from tocsin_core.engine.state import NEVER, State
from tocsin_core.readings import F64
from tocsin_core.rules import Rules
from tocsin_core.special import Family


@dataclass(frozen=True, slots=True)
class Projection:
    """Where a point is heading.

    `level` (its unit) at `time_ns`, `slope` and its confidence bounds (unit a second), and in how many seconds the
    limit of `definition` is reached at that slope (NaN: it is not).
    """

    definition: int
    time_ns: int
    level: float
    slope: float
    slope_low: float
    slope_high: float
    reaches_s: float


def projections(state: State, rules: Rules) -> list[Projection]:
    """Where points are heading: of each definition that foresees a limit and is active or nears it.

    Near is a slope that is surely not 0 and reaches the limit within three times the definition's horizon.
    """
    rows = np.flatnonzero(rules.family == Family.TIME_TO_LIMIT)
    rows = rows[state.trend_ns[rules.trend[rows]] != NEVER]
    if not len(rows):
        return []
    trend = rules.trend[rows].astype(np.int64)
    slope = detect.fit(state.trend.rows(trend), rules.trend_floor[trend])
    level = state.trend_value[trend] + slope.level
    reaches = _reaches(slope, level, rules.setpoint[rows])
    margin = slope.student(rules.z[rows]) * slope.slope_se
    shown = slope.known & (
        (reaches <= 3.0 * rules.horizon_s[rows]) & (np.abs(slope.slope) > margin) | state.active[rows]
    )
    return [
        Projection(
            int(rows[i]),
            int(state.trend_ns[trend[i]]),
            float(level[i]),
            float(slope.slope[i]),
            float(slope.slope[i] - margin[i]),
            float(slope.slope[i] + margin[i]),
            float(reaches[i]),
        )
        for i in np.flatnonzero(shown).tolist()
    ]


def _reaches(slope: Slope, level: F64, setpoint: F64) -> F64:
    with np.errstate(divide="ignore", invalid="ignore"):
        seconds = (setpoint - level) / slope.slope
    return np.where(seconds >= 0.0, seconds, np.nan)
