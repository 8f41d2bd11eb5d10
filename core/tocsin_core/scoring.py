"""How early and how rarely wrong: the scores of the public benchmarks, as those benchmarks themselves define them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tocsin_core.readings import F64, Bool

# NAB's standard profile: a detection in the window 1, a false one -0.11, a missed window -1 (Lavin and Ahmad 2015).
FALSE_DETECTION: Final = -0.11
MISSED: Final = -1.0
# SKAB samples its scoring curve, a hyperbolic tangent from -π/2 to π/2, at so many places.
CURVE: Final = 1000
# The TEP literature counts an alarm from the third one in a row, so that a lone outlier is none.
IN_A_ROW: Final = 3

Seconds = NDArray[np.int64]


class RowScores(NamedTuple):
    """SKAB's scores of rows: F1 as a fraction; the false and the missed alarm rate in percent, as it publishes them."""

    f1: float
    far: float
    mar: float


@dataclass(frozen=True, slots=True)
class Changes:
    """One recording's change points: `time` of each row in whole seconds, where they were, where they were told."""

    time: Seconds
    true: Bool
    told: Bool


class ChangeScores(NamedTuple):
    """SKAB's scores of change points: NAB standard (0 says nothing at all, 100 all at once), windows missed, false."""

    nab_standard: float
    missed: int
    false: int


class FaultScores(NamedTuple):
    """One fault of the TEP: the share of its rows with an alarm, and minutes to the third in a row, None for never."""

    detection_rate: float
    delay_min: float | None


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def row_scores(recordings: Sequence[tuple[Bool, Bool]]) -> RowScores:
    """F1, false and missed alarm rate over all rows of all recordings, each given as (anomaly, alarm), both [n]."""
    true = np.concatenate([anomaly for anomaly, _ in recordings])
    told = np.concatenate([alarm for _, alarm in recordings])
    hit, false = int((true & told).sum()), int((~true & told).sum())
    missed, quiet = int((true & ~told).sum()), int((~true & ~told).sum())
    return RowScores(
        f1=_ratio(hit, hit + (missed + false) / 2.0),
        far=100.0 * _ratio(false, false + quiet),
        mar=100.0 * _ratio(missed, missed + hit),
    )


def _curve() -> F64:
    x = np.linspace(-np.pi / 2.0, np.pi / 2.0, CURVE)
    half = (1.0 - FALSE_DETECTION) / 2.0
    curve: F64 = half + FALSE_DETECTION - half * np.tanh(x) / np.tanh(np.pi / 2.0)
    return curve


def _windows(changes: Changes, width_s: int) -> list[tuple[int, int]]:
    """[begin, end] to the right of each change point; one that overlaps the window before begins where that ends."""
    windows: list[tuple[int, int]] = []
    for moment in changes.time[changes.true]:
        begin = int(moment)
        if windows and windows[-1][1] >= begin:
            begin = windows[-1][1]
        windows.append((begin, int(moment) + width_s))
    return windows


def change_scores(recordings: Sequence[Changes], width_s: int = 60) -> ChangeScores:
    """The NAB standard score as SKAB computes it: a window of `width_s` to the right of every change point.

    The first detection in a window scores from 1 at its begin down to -0.11 at its end, every detection outside all
    windows -0.11, a window without any -1; the sum is put on a scale where saying nothing is 0 and perfection 100.
    """
    curve = _curve()
    score, count, missed, false = 0.0, 0, 0, 0
    for changes in recordings:
        told = changes.time[changes.told]
        inside = np.zeros(len(told), dtype=np.bool_)
        for begin, end in _windows(changes, width_s):
            count += 1
            here = (told >= begin) & (told <= end)
            inside |= here
            if not here.any():
                missed += 1
                continue
            place = int((int(told[here][0]) - begin) / (end - begin) * CURVE) if end > begin else 0
            score += float(curve[min(place, CURVE - 1)])
        false += int((~inside).sum())
    score += FALSE_DETECTION * false + MISSED * missed
    return ChangeScores(100.0 * _ratio(score - MISSED * count, (1.0 - MISSED) * count), missed, false)


def third_in_a_row(alarm: Bool) -> int | None:
    """The row of the first alarm that is the third in a row, None without any."""
    runs = (
        np.lib.stride_tricks.sliding_window_view(alarm, IN_A_ROW).all(axis=1) if len(alarm) >= IN_A_ROW else alarm[:0]
    )
    found = np.flatnonzero(runs)
    return int(found[0]) + IN_A_ROW - 1 if found.size else None


def fault_scores(alarm: Bool, first_row: int, minutes_per_row: float) -> FaultScores:
    """Detection rate and delay of a fault that is there from `first_row` (counted from 0) to the end.

    The delay is the time from the row at which the fault sets in to the third alarm in a row; alarms before the fault
    count for neither.
    """
    during = alarm[first_row:]
    row = third_in_a_row(during)
    return FaultScores(
        detection_rate=float(during.mean()) if len(during) else 0.0,
        delay_min=None if row is None else row * minutes_per_row,
    )


def median_delay(delays: Sequence[float | None], at_least: Sequence[float]) -> float:
    """Median of the delays in minutes; a fault that was never found counts with the length of its recording."""
    return float(np.median([limit if d is None else d for d, limit in zip(delays, at_least, strict=True)]))
