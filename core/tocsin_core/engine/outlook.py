"""Where points are heading: the early warnings' lines, drawn ahead for people to see."""

from dataclasses import dataclass

import numpy as np

from tocsin_core import detect
from tocsin_core.detect import Expectation, Slope, Trend
from tocsin_core.engine.state import State
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

    Near is a slope that is surely not 0 and reaches the limit within `detect.NEAR` times the definition's horizon. Of
    all others no more is looked at than the line.
    """
    with np.errstate(all="ignore"):
        near = detect.nears(
            Expectation(*state.expected),
            state.trend_value,
            rules.trend_rate,
            rules.trend_sign,
            rules.trend_limit,
            rules.trend_reach_s,
        )
    early = rules.trend_foresees[np.flatnonzero(near)]
    active = np.flatnonzero(state.active)
    rows = np.union1d(early[early >= 0], active[rules.family[active] == Family.TIME_TO_LIMIT])
    if not len(rows):
        return []
    trend = rules.trend[rows].astype(np.int64)
    with np.errstate(all="ignore"):
        slope = detect.fit(Trend(*state.sums[:, trend]), rules.trend_floor[trend])
        level = state.trend_value[trend] + slope.level
        reaches = _reaches(slope, level, rules.setpoint[rows])
        margin = slope.student(rules.trend_z[trend]) * slope.slope_se
        heading = (reaches <= detect.NEAR * rules.trend_horizon_s[trend]) & (np.abs(slope.slope) > margin)
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
        for i in np.flatnonzero(slope.known & (heading | state.active[rows])).tolist()
    ]


def look_ahead(state: State, rules: Rules) -> None:
    """Find anew from the sums, for the whole plant, what each trend expects."""
    with np.errstate(all="ignore"):
        detect.expect(state.trend, rules.trend_floor, Expectation(*state.expected))


def _reaches(slope: Slope, level: F64, setpoint: F64) -> F64:
    seconds = (setpoint - level) / slope.slope
    return np.where(seconds >= 0.0, seconds, np.nan)
