"""Alarm definitions of a plant compiled once into parallel arrays."""

from dataclasses import dataclass
from functools import cached_property
from math import inf, sqrt
from statistics import NormalDist
from typing import Final, NamedTuple

import numpy as np

from tocsin_core import detect
from tocsin_core.plant import AlarmDefinition, AlarmKind, Plant
from tocsin_core.readings import F64, I32, I64, U8, Bool
from tocsin_core.special import FAMILY, Family, Special, compile_special

NS: Final = 1_000_000_000


_LOW_SIDE: Final = (AlarmKind.L, AlarmKind.LL)

_GRADE: Final = {
    AlarmKind.RED: 5,
    AlarmKind.ORANGE: 4,
    AlarmKind.YELLOW: 3,
    AlarmKind.BLUE: 2,
    AlarmKind.HH: 3,
    AlarmKind.LL: 3,
    AlarmKind.H: 2,
    AlarmKind.L: 2,
    AlarmKind.TIME_TO_LIMIT: 1,
}

# A shelf is no place to forget an alarm on. Our own bounds, seconds by priority: ISA-18.2 asks for a limit, not for
# these figures.
MAX_SHELVE_S: Final = {1: 24 * 3600, 2: 12 * 3600, 3: 8 * 3600, 4: 3600}


@dataclass(frozen=True, eq=False)
class Rules:
    """D definitions on P points in columns, sorted by point; T trends feed those of a rate or a time to limit.

    `first[p] : first[p + 1]` are the definitions of point p, `trend_first[p] : trend_first[p + 1]` its trends.

    Of length D: `point`, `family`, `sign` (+1 where high is bad, -1 where low is), `setpoint` and `deadband` (the
    point's unit; `rate`: unit a second), `priority` (1 to 4), `latching`, `trend` (row of the trend or -1), `after_ns`
    (stale: of silence; bad: of readings that are uncertain), `grade` (how grave it is among those of its side of its
    point: 3 HH and LL, 2 H and L, 5 to 2 red to blue, 1 an early warning, 0 any other).

    Of shape [D, 2], for a definition that is not active and for one that is: `delay_ns`, on-delay and off-delay. Of
    shape [D, 4], for one that is neither, that is active, that waits for its on-delay and that is active and waits for
    its off-delay: `low` and `high`, the values from which on, downwards and upwards, a good reading turns it (see
    `detect.limits`), or, where it waits, no longer does. Of those that are no limits none turns while it is not active,
    and any while it is, whatever the value, as far as its detector knows no better. That of a trend does; of an early
    warning the numbers say where the value has reached its limit, and nothing is left to foresee.

    `realarm` are the numbers of the R definitions that re-alarm, in order, `realarm_ns` after how long.

    Of length T: `trend_point`, `trend_tau_s` (half the window: an exponential window of this constant has the mean age
    of a rectangular one twice as long), `trend_floor` (standard deviation of the last digit, 10^-decimals / sqrt(12));
    of its at most one rate `trend_rate` (setpoint; infinite where there is none), of its at most one time to limit
    `trend_foresees` (its number; -1 where there is none), `trend_sign`, `trend_limit` (setpoint; infinite where there
    is none), `trend_horizon_s`, `trend_z` (normal quantile of the confidence) and `trend_reach_s`, the time within
    which its limit is near: what tells with little work that neither can be raised.

    `special` is all that reaches beyond one reading of one point.
    """

    definitions: tuple[AlarmDefinition, ...]
    points: tuple[str, ...]
    point: I32
    family: U8
    sign: F64
    setpoint: F64
    deadband: F64
    delay_ns: I64
    low: F64
    high: F64
    priority: U8
    latching: Bool
    trend: I32
    after_ns: I64
    grade: U8
    realarm: I64
    realarm_ns: I64
    first: I64
    trend_point: I64
    trend_tau_s: F64
    trend_floor: F64
    trend_rate: F64
    trend_foresees: I64
    trend_sign: F64
    trend_limit: F64
    trend_horizon_s: F64
    trend_z: F64
    trend_reach_s: F64
    trend_first: I64
    special: Special

    @cached_property
    def index(self) -> dict[str, int]:
        """Definition number by alarm id."""
        return {definition.id: number for number, definition in enumerate(self.definitions)}

    @cached_property
    def bad_of(self) -> I64:
        """The number of each point's `bad` definition; -1 where it has none."""
        found = np.full(len(self.points), -1, np.int64)
        numbers = np.flatnonzero(self.family == Family.BAD)
        found[self.point[numbers]] = numbers
        return found

    @cached_property
    def stale(self) -> I64:
        """Numbers of the stale definitions."""
        return np.flatnonzero(self.family == Family.STALE)


def _starts(owner: I32 | I64, size: int) -> I64:
    return np.searchsorted(owner, np.arange(size + 1)).astype(np.int64)


class _Columns(NamedTuple):
    """Columns of length D that trends and definitions share."""

    family: U8
    sign: F64
    setpoint: F64
    trend: I32


def _of_trends(columns: _Columns, family: Family, size: int) -> I64:
    """The number of the definition of `family` that each of `size` trends feeds; -1 where there is none."""
    found = np.full(size, -1)
    rows = np.flatnonzero(columns.family == family)
    # Not by numpy's unique: it loads masked arrays, 10 MB that a gateway has no other use for.
    if len(set(columns.trend[rows].tolist())) < len(rows):
        raise ValueError(f"two alarm definitions of one point and window are {family.name}")
    found[columns.trend[rows]] = rows
    return found


def _turning(family: U8, sign: F64, setpoint: F64, deadband: F64) -> tuple[F64, F64]:
    """`Rules.low` and `Rules.high`."""
    low, high = detect.limits(sign, setpoint, deadband)
    other = family != Family.LIMIT
    low[other], high[other] = (-np.inf, np.inf), np.inf
    upwards = low == -np.inf
    stays_low = np.where(upwards, np.nextafter(high, -np.inf), -np.inf)
    stays_high = np.where(upwards, np.inf, np.nextafter(low, np.inf))
    on_trend, early = (family == Family.RATE) | (family == Family.TIME_TO_LIMIT), family == Family.TIME_TO_LIMIT
    low[on_trend], high[on_trend] = stays_low[on_trend], stays_high[on_trend] = -np.inf, np.inf
    above, below = early & (sign > 0.0), early & (sign < 0.0)
    high[above] = stays_high[above] = setpoint[above, None]
    low[below] = stays_low[below] = setpoint[below, None]
    return np.column_stack((low, stays_low)), np.column_stack((high, stays_high))


def _at(column: F64, number: I64, otherwise: float) -> F64:
    """`column` at `number`, and `otherwise` where that is -1."""
    return np.append(column, otherwise)[number]


class _Rows(NamedTuple):
    """The definitions of a plant in engine order, the point and trend of each, and the trends that they need."""

    definitions: list[AlarmDefinition]
    point: list[int]
    trend: list[int]
    trends: list[tuple[int, float, float]]


def _rows(plant: Plant) -> _Rows:
    rows = _Rows([], [], [], [])
    for place in plant.points:
        windows: dict[float, int] = {}
        for definition in place.definitions:
            row = -1
            if definition.kind in (AlarmKind.RATE, AlarmKind.TIME_TO_LIMIT):
                if definition.window_s not in windows:
                    windows[definition.window_s] = len(rows.trends)
                    rows.trends.append((place.index, definition.window_s / 2.0, 10.0**-place.decimals / sqrt(12.0)))
                row = windows[definition.window_s]
            rows.definitions.append(definition)
            rows.point.append(place.index)
            rows.trend.append(row)
    return rows


def compile_rules(plant: Plant) -> Rules:
    """The rules of `plant`: every definition of every point, in engine order.

    Raises:
        ValueError: a point has two definitions of a kind and window that only one can have.
    """
    definitions, point, trend, trend_rows = _rows(plant)
    points = np.asarray(point, dtype=np.int32)
    size = len(trend_rows)
    trend_point = np.asarray([row[0] for row in trend_rows], dtype=np.int64)
    per_unit = np.asarray([60.0 if d.kind is AlarmKind.RATE else 1.0 for d in definitions])
    shared = _Columns(
        family=np.asarray([FAMILY.get(d.kind, Family.LIMIT) for d in definitions], dtype=np.uint8),
        sign=np.asarray([-1.0 if d.side < 0 or (d.limit or d.kind) in _LOW_SIDE else 1.0 for d in definitions]),
        setpoint=np.asarray([d.setpoint for d in definitions]) / per_unit,
        trend=np.asarray(trend, dtype=np.int32),
    )
    deadband = np.asarray([d.deadband for d in definitions]) / per_unit
    delays_s = np.asarray([(d.on_delay_s, d.off_delay_s) for d in definitions]).reshape(-1, 2)
    low, high = _turning(shared.family, shared.sign, shared.setpoint, deadband)
    horizon_s = np.asarray([d.horizon_s for d in definitions])
    confidence_z = np.asarray([NormalDist().inv_cdf(d.confidence) if d.confidence else 0.0 for d in definitions])
    rate, foresees = (_of_trends(shared, family, size) for family in (Family.RATE, Family.TIME_TO_LIMIT))
    return Rules(
        **shared._asdict(),
        definitions=tuple(definitions),
        points=tuple(place.id for place in plant.points),
        point=points,
        deadband=deadband,
        delay_ns=np.rint(delays_s * NS).astype(np.int64),
        low=low,
        high=high,
        priority=np.asarray([d.priority.rank for d in definitions], dtype=np.uint8),
        latching=np.asarray([d.latching for d in definitions], dtype=np.bool_),
        after_ns=np.asarray([round(d.after_s * NS) for d in definitions], dtype=np.int64),
        grade=np.asarray([_GRADE.get(d.kind, 0) for d in definitions], dtype=np.uint8),
        realarm=np.asarray([i for i, d in enumerate(definitions) if d.realarm_s], dtype=np.int64),
        realarm_ns=np.asarray([round(d.realarm_s * NS) for d in definitions if d.realarm_s], dtype=np.int64),
        first=_starts(points, len(plant.points)),
        trend_point=trend_point,
        trend_tau_s=np.asarray([row[1] for row in trend_rows]),
        trend_floor=np.asarray([row[2] for row in trend_rows]),
        trend_rate=_at(shared.setpoint, rate, inf),
        trend_foresees=foresees,
        trend_sign=_at(shared.sign, foresees, 1.0),
        trend_limit=_at(shared.setpoint, foresees, inf),
        trend_horizon_s=_at(horizon_s, foresees, 0.0),
        trend_z=_at(confidence_z, foresees, 0.0),
        # A little more than near, for the time to a limit is a quotient, rounded.
        trend_reach_s=_at(horizon_s, foresees, 0.0) * (detect.NEAR * (1.0 + 1e-9)),
        trend_first=_starts(trend_point, len(plant.points)),
        special=compile_special(plant, list(zip(range(len(definitions)), point, definitions, strict=True))),
    )
