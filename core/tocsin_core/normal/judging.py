"""Judging rows against a learned unit: how far, which points, and when the alarm is raised and cleared."""

from typing import Final, NamedTuple

import numpy as np

from tocsin_core.normal.model import Limits, NormalModel, NormalModelError, Settings
from tocsin_core.normal.tracking import NormalState, absorb, at_rest, deviate, follow, window_change
from tocsin_core.readings import F64, Bool

# A statistic of exactly 0 has a logarithm too.
TINY: Final = 1e-12

UNIT: Final = 2  # T² and Q come first among the statistics


class Judgement(NamedTuple):
    """What each of n rows showed, [n], and which of the points contributed, [n, points].

    `score`, `t2`, `q`, `point` and `contributions` are on one scale: 1 is where the alarm is raised. `contributions` is
    each point's own share of the deviation, 0 for a point that is not modelled. `change` marks the rows at which the
    unit went over into another state; `judged` is false where too few points were good: such a row decides nothing.
    """

    score: F64
    t2: F64
    q: F64
    point: F64
    contributions: F64
    alarm: Bool
    change: Bool
    judged: Bool


def start(model: NormalModel) -> NormalState:
    """The state before the first row: the unit at its reference, no alarm."""
    return at_rest(model.basis, model.settings, model.limits.unit_mean)


def raw_statistics(settings: Settings, limits: Limits, state: NormalState) -> F64:
    """T², Q, the largest point at each smoothing and the largest change between windows, relative to normal running."""
    points = (np.square(state.smooth) / limits.point_mean).max(axis=1)
    change = (np.square(window_change(settings, state)) / limits.change_mean).max()
    return np.concatenate([state.unit, points, [change]])


def _scores(settings: Settings, limits: Limits, state: NormalState) -> F64:
    """The statistics as parts of the way to where each counts: 1 raises the alarm, or marks a change."""
    deviations = (np.log(raw_statistics(settings, limits, state) + TINY) - limits.log_mean) / limits.log_sd
    deviations[:UNIT] -= settings.unit_margin
    deviations[:-1] /= settings.raise_at
    deviations[-1] /= settings.change_at
    return deviations


def _contributions(settings: Settings, limits: Limits, state: NormalState) -> F64:
    logs = np.log(np.square(state.smooth) / limits.point_mean + TINY)
    scaled = (logs - limits.log_mean[UNIT:-1, None]) / limits.log_sd[UNIT:-1, None] / settings.raise_at
    contributions: F64 = np.maximum(scaled.max(axis=0), 0.0)
    return contributions


def _forget(state: NormalState, unit_mean: F64) -> None:
    """Drop what the statistics remember, as if the unit had been at its reference until now."""
    state.deviation[:] = 0.0
    state.smooth[:] = 0.0
    state.unit[:] = unit_mean


def _decide(settings: Settings, limits: Limits, state: NormalState, score: float) -> bool:
    """Raise or clear on this row's score; returns whether the alarm was raised or cleared.

    It clears when the score has been small for the off-delay, or when, after having stood for long, the smoothed
    deviation turns away from the direction in which it was largest: then its cause has gone, and what the statistics
    still remember of it is dropped. A unit that rests off its reference afterwards raises anew.
    """
    if state.rows_raised == 0:
        if score <= 1.0:
            return False
        state.peak = 0.0
        state.rows_calm = 0
    size = float(np.linalg.norm(state.deviation))
    if size > state.peak:
        state.peak = size
        state.direction[:] = state.deviation / size
    state.rows_calm = state.rows_calm + 1 if score < settings.clear_at / settings.raise_at else 0
    state.rows_raised += 1
    calm = state.rows_calm > settings.off_delay
    turned = state.rows_raised > settings.turn_after and float(state.deviation @ state.direction) < 0.0
    if turned and not calm:
        _forget(state, limits.unit_mean)
    if calm or turned:
        state.rows_raised = 0
        return True
    return state.rows_raised == 1


def _changed(settings: Settings, state: NormalState, score: float) -> bool:
    if score > 1.0 and state.rows_since_change >= settings.change_hold:
        state.rows_since_change = 0
        return True
    state.rows_since_change += 1
    return False


def _rows_of(model: NormalModel, rows: F64) -> F64:
    if rows.ndim != 2 or rows.shape[1] != len(model.names):  # noqa: PLR2004 a table of rows
        raise NormalModelError(f"rows have the shape {rows.shape}, the model has {len(model.names)} points")
    return np.ascontiguousarray(rows[:, model.used], dtype=np.float64)


def judge(model: NormalModel, state: NormalState, rows: F64) -> tuple[NormalState, Judgement]:
    """Judge `rows` [n, points], one a period, in order; NaN stands for a bad or missing value. `state` is left alone.

    A row is judged by itself and what went before, so that rows given at once and one by one have the same results.
    Raises NormalModelError when the rows have not the model's points.
    """
    data = _rows_of(model, rows)
    settings, basis, limits = model.settings, model.basis, model.limits
    after = state.copy()
    n = len(data)
    scores = np.zeros((n, limits.log_mean.size))
    contributions = np.zeros((n, basis.centre.size))
    alarm, change, judged = (np.zeros(n, dtype=np.bool_) for _ in range(3))
    for i, row in enumerate(data):
        deviation = deviate(basis, after, row)
        judged[i] = np.isfinite(deviation).mean() >= settings.least_good
        if judged[i]:
            absorb(basis, settings, after, deviation)
            scores[i] = _scores(settings, limits, after)
            contributions[i] = _contributions(settings, limits, after)
            decided = _decide(settings, limits, after, float(scores[i, :-1].max()))
            change[i] = _changed(settings, after, float(scores[i, -1])) or decided
            follow(basis, after, deviation, held=after.rows_raised > 0)
        alarm[i] = after.rows_raised > 0
    shared = np.zeros((n, len(model.names)))
    shared[:, model.used] = contributions
    unjudged = ~judged
    scores[unjudged] = np.nan
    shared[unjudged] = np.nan
    score = scores[:, :-1].max(axis=1) if n else np.zeros(0)
    point = scores[:, UNIT:-1].max(axis=1) if n else np.zeros(0)
    return after, Judgement(score, scores[:, 0], scores[:, 1], point, shared, alarm, change, judged)
