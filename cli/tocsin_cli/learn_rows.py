"""Recorded readings as what is learned from: rows for the model of a unit, values for the charts of a point."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np

from tocsin_core.detectors.change import CalibrationError
from tocsin_core.readings import F64, I64, Bool, Frame, is_good
from tocsin_core.rules import NS

# Medians of recorded steps are taken to the millisecond, so that clocks that tremble do not give odd periods.
STEP_NS: Final = NS // 1000

# A record with good readings in fewer of its periods than one in so many says nothing of how neighbours follow.
SPARSEST: Final = 100


class Series(NamedTuple):
    """The readings of one point, ascending in time."""

    time_ns: I64
    value: F64
    good: Bool


def by_point(frame: Frame) -> dict[int, Series]:
    """The series of each point that has readings in `frame` (ascending in time), by its number."""
    order = np.argsort(frame.point, kind="stable")
    sorted_frame = frame.take(order)
    points, first = np.unique(sorted_frame.point, return_index=True)
    parts = (sorted_frame.take(slice(begin, end)) for begin, end in pairwise([*first.tolist(), len(frame)]))
    return {
        point: Series(part.time_ns, part.value, is_good(part.quality))
        for point, part in zip(points.tolist(), parts, strict=True)
    }


def period_of(series: Series) -> float | None:
    """The median time from one reading to the next, seconds; None where there are not two moments."""
    steps = np.diff(series.time_ns)
    steps = steps[steps > 0]
    if not len(steps):
        return None
    return max(round(float(np.median(steps)) / STEP_NS), 1) * STEP_NS / NS


def unit_rows(members: Sequence[Series], period_s: float, longest_s: float) -> F64:
    """A row [rows, points] for each period in which something was read, as the engine closes them.

    A value is the last at the period's end, NaN where it was not good or is older than `longest_s` (or the period).
    The rows begin with the period in which every point has been read.
    """
    period_ns = round(period_s * NS)
    oldest_ns = max(round(longest_s * NS), period_ns)
    slots = np.unique(np.concatenate([series.time_ns // period_ns for series in members]))
    slots = slots[slots >= max(int(series.time_ns[0]) for series in members) // period_ns]
    ends = (slots + 1) * period_ns
    rows = np.empty((len(slots), len(members)))
    for column, series in enumerate(members):
        last = np.searchsorted(series.time_ns, ends) - 1
        usable = series.good[last] & (ends - series.time_ns[last] <= oldest_ns)
        rows[:, column] = np.where(usable, series.value[last], np.nan)
    return rows


def chart_values(series: Series, period_s: float) -> F64:
    """The first good reading of each period, NaN where there is none, as a chart takes its samples.

    Raises:
        CalibrationError: good readings stand in fewer than 1 % of the periods.
    """
    slots = series.time_ns[series.good] // round(period_s * NS)
    if not len(slots):
        raise CalibrationError("the record holds no good value")
    slots = slots - slots[0]
    size = int(slots[-1]) + 1
    if size > SPARSEST * len(slots):
        raise CalibrationError(f"good readings in {len(slots)} of {size} periods of {period_s:g} s")
    kept, first = np.unique(slots, return_index=True)
    values = np.full(size, np.nan)
    values[kept] = series.value[series.good][first]
    return values
