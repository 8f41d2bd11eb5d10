"""One row after another: where the unit is against its reference, and the statistics of that deviation."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from tocsin_core.normal.model import Basis, Settings
from tocsin_core.readings import F64

# A deviation counts up to so many standard deviations: beyond it squares would say nothing more, and could overflow.
FURTHEST: Final = 1e4


@dataclass(slots=True)
class NormalState:
    """Everything the judging of the next row depends on; a copy of it gives the same future.

    `reference`, `deviation`, `direction`: [m], in scaled units, NaN for no reference yet; `unit`: smoothed T² and Q,
    [2]; `smooth`: smoothed point residuals, [smoothings, m]; `window`: the last point residuals, [2 · change_window,
    m], NaN where there was none.
    """

    reference: F64
    unit: F64
    smooth: F64
    deviation: F64
    window: F64
    direction: F64
    peak: float
    rows_followed: int
    rows_raised: int
    rows_calm: int
    rows_since_change: int

    def copy(self) -> "NormalState":
        """A state that shares nothing with this one."""
        return replace(
            self,
            reference=self.reference.copy(),
            unit=self.unit.copy(),
            smooth=self.smooth.copy(),
            deviation=self.deviation.copy(),
            window=self.window.copy(),
            direction=self.direction.copy(),
        )


def at_rest(basis: Basis, settings: Settings, unit_mean: F64) -> NormalState:
    """The state of a unit that is exactly at its reference; a wandering point has none before its first value."""
    points = basis.centre.size
    return NormalState(
        reference=np.where(basis.wandering, np.nan, 0.0),
        unit=unit_mean.copy(),
        smooth=np.zeros((len(settings.point_smoothing), points)),
        deviation=np.zeros(points),
        window=np.full((2 * settings.change_window, points), np.nan),
        direction=np.zeros(points),
        peak=0.0,
        rows_followed=0,
        rows_raised=0,
        rows_calm=0,
        rows_since_change=settings.change_hold,
    )


def _expected(precision: F64, deviation: F64) -> F64:
    """The deviation with each missing point at its mean given the others: known-data regression of a normal vector."""
    missing = np.isnan(deviation)
    given = np.where(missing, 0.0, deviation)
    given[missing] = -np.linalg.solve(precision[np.ix_(missing, missing)], precision[missing] @ given)
    return given


def deviate(basis: Basis, state: NormalState, row: F64) -> F64:
    """The row against the reference in standard deviations, [m]; NaN where the row holds no finite value.

    A wandering point's first value becomes its reference.
    """
    far = 2.0 * FURTHEST * basis.scale
    bounded = np.clip(np.where(np.isfinite(row), row, np.nan), basis.centre - far, basis.centre + far)
    scaled = (bounded - basis.centre) / basis.scale
    unset = np.isnan(state.reference)
    state.reference[unset] = scaled[unset]
    deviation: F64 = np.clip(scaled - state.reference, -FURTHEST, FURTHEST)
    return deviation


def absorb(basis: Basis, settings: Settings, state: NormalState, deviation: F64) -> F64:
    """Take one deviation into the smoothed statistics of `state`; returns its own T² and Q, [2].

    A missing point takes part in T² and Q with what the others let expect of it, so that it adds nothing; its own
    residual and deviation stay where they were, so that a bad reading neither raises nor clears.
    """
    missing = np.isnan(deviation)
    some = bool(missing.any())
    whole = _expected(basis.precision, deviation) if some else deviation
    squares = np.square(whole @ basis.whiten)
    now = np.array([squares[: basis.components].sum(), squares[basis.components :].sum()])
    state.unit += settings.unit_smoothing * (now - state.unit)
    residual = (whole @ basis.precision) * basis.point_scale
    if some:
        residual = np.where(missing, np.nan, residual)
    weights = np.array(settings.point_smoothing)[:, None]
    state.smooth += weights * np.where(missing, 0.0, residual - state.smooth)
    state.deviation += settings.unit_smoothing * np.where(missing, 0.0, whole - state.deviation)
    state.window[:-1] = state.window[1:]
    state.window[-1] = residual
    return now


def window_change(settings: Settings, state: NormalState) -> F64:
    """Mean residual of the last window less that of the window before, [m]; 0 where either holds a gap."""
    width = settings.change_window
    change: F64 = state.window[width:].mean(axis=0) - state.window[:width].mean(axis=0)
    change[np.isnan(change)] = 0.0
    return change


def follow_rate(basis: Basis, rows_before: int) -> F64:
    """The part of the way that the reference goes towards a row, [m]; a wandering point's begins as a running mean."""
    running_mean = np.where(basis.wandering, 1.0 / (rows_before + 1.0), 0.0)
    return np.maximum(basis.follow, running_mean)


def follow(basis: Basis, state: NormalState, deviation: F64, *, held: bool) -> None:
    """Move the reference towards the row; a missing point's stays, when `held` so does that of all but what wanders."""
    rate = follow_rate(basis, state.rows_followed)
    if held:
        rate = np.where(basis.wandering, rate, 0.0)
    state.reference += rate * np.nan_to_num(deviation, nan=0.0)
    state.rows_followed += 1
