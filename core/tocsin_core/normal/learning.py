"""Learning a unit from its recorded normal running; the limits come from rows that were held out."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final

import numpy as np

from tocsin_core.normal.judging import TINY, UNIT, raw_statistics
from tocsin_core.normal.model import DEFAULT, Basis, Limits, NormalModel, NormalModelError, Settings
from tocsin_core.normal.tracking import absorb, at_rest, deviate, follow, window_change
from tocsin_core.readings import F64, Bool

# Blocks of the recording whose means tell a level from a wandering.
BLOCKS: Final = 5
LEAST_ROWS: Final = 100
LEAST_ROWS_PER_POINT: Final = 3
# A standard deviation below this part of the mean is the rounding of a value that stands still.
STILL: Final = 1e-9
# Rows before a held-out block over which the smoothed statistics find their level, in time constants.
WARM_UP: Final = 6.0
FLOOR: Final = 1e-9
# Larger numbers are no measurement, and their squares could overflow.
LARGEST: Final = 1e100
SECONDS_A_WEEK: Final = 604_800.0
UPPER_BOUND: Final = 0.05

Progress = Callable[[float], None]


def _wandering(scaled: F64, settings: Settings) -> Bool:
    """Whether the means of five blocks hold more of a point's variance than `settings.wandering`."""
    means = np.array([block.mean(axis=0) for block in np.array_split(scaled, BLOCKS)])
    wandering: Bool = means.var(axis=0) > settings.wandering * scaled.var(axis=0)
    return wandering


def _tracked(scaled: F64, rate: F64, wandering: Bool) -> F64:
    """The rows less the reference that follows them, as the judging of an undisturbed unit has it."""
    reference = np.where(wandering, scaled[0], 0.0)
    out = np.empty_like(scaled)
    for i, row in enumerate(scaled):
        out[i] = row - reference
        reference += np.maximum(rate, np.where(wandering, 1.0 / (i + 1.0), 0.0)) * out[i]
    return out


def _basis(rows: F64, settings: Settings, length: int, wandering: Bool | None = None) -> Basis:
    """Centre, scale and directions of `rows`; `length` is how many rows the whole recording has."""
    centre = rows.mean(axis=0)
    scale = rows.std(axis=0)
    scaled = (rows - centre) / scale
    moves = _wandering(scaled, settings) if wandering is None else wandering
    rate = np.where(moves, settings.follow_wandering, settings.follow) / length
    tracked = _tracked(scaled, rate, moves)
    spread = tracked.std(axis=0)
    tracked /= spread
    covariance = tracked.T @ tracked / len(tracked)
    values, vectors = np.linalg.eigh(covariance)
    order = np.argsort(-values)
    values, vectors = np.maximum(values[order], 0.0), vectors[:, order]
    share = np.cumsum(values) / values.sum()
    components = min(int(np.searchsorted(share, settings.variance)) + 1, max(len(values) - 1, 1))
    precision = np.ascontiguousarray((vectors / (values + settings.ridge)) @ vectors.T)
    return Basis(
        centre=centre,
        scale=scale * spread,
        follow=rate,
        wandering=moves,
        eigenvalues=values,
        whiten=np.ascontiguousarray(vectors / np.sqrt(values + settings.ridge)),
        precision=precision,
        point_scale=1.0 / np.sqrt(np.maximum(np.diag(precision @ covariance @ precision), FLOOR)),
        components=components,
    )


def _means(basis: Basis, settings: Settings, rows: F64) -> Limits:
    """The mean statistics over the learned rows, with nothing said yet about their spread.

    What a point wandered while it was learned is counted at `wandering_scale` times its size: later it may wander more.
    """
    m, levels = basis.centre.size, len(settings.point_smoothing)
    state = at_rest(basis, settings, np.zeros(UNIT))
    unit, point, change = np.zeros(UNIT), np.zeros((levels, m)), np.zeros(m)
    warm = 2 * settings.change_window
    for i, row in enumerate(rows):
        deviation = deviate(basis, state, row)
        unit += absorb(basis, settings, state, deviation)
        follow(basis, state, deviation, held=False)
        if i >= warm:
            point += np.square(state.smooth)
            change += np.square(window_change(settings, state))
    counted = (len(rows) - warm) / np.where(basis.wandering, settings.wandering_scale**2, 1.0)
    nothing = np.zeros(UNIT + levels + 1)
    return Limits(
        unit_mean=unit / len(rows),
        point_mean=np.maximum(point / counted, FLOOR),
        change_mean=np.maximum(change / counted, FLOOR),
        log_mean=nothing,
        log_sd=nothing + 1.0,
    )


def _logs(basis: Basis, settings: Settings, limits: Limits, rows: F64) -> F64:
    """The logarithms of the statistics of every row, the reference following throughout: [n, 3 + smoothings]."""
    state = at_rest(basis, settings, limits.unit_mean)
    out = np.empty((len(rows), limits.log_mean.size))
    for i, row in enumerate(rows):
        deviation = deviate(basis, state, row)
        absorb(basis, settings, state, deviation)
        out[i] = raw_statistics(settings, limits, state)
        follow(basis, state, deviation, held=False)
    logs: F64 = np.log(out + TINY)
    return logs


def _folds(rows: F64, settings: Settings) -> Iterator[tuple[int, int, F64]]:
    """Where each block begins and ends, and the rows of all others."""
    for begin, end in pairwise(np.linspace(0, len(rows), settings.folds + 1).astype(int).tolist()):
        yield begin, end, np.concatenate([rows[:begin], rows[end:]])


def _held_out(rows: F64, settings: Settings, wandering: Bool, progress: Progress) -> list[F64]:
    """The logarithms of the statistics over each block, judged by what the other blocks teach."""
    windows = 2 * settings.change_window
    warm = max(math.ceil(WARM_UP / settings.unit_smoothing), windows)
    held = []
    for fold, (begin, end, others) in enumerate(_folds(rows, settings)):
        basis = _basis(others, settings, len(rows), wandering)
        limits = _means(basis, settings, others)
        first = max(0, begin - warm)
        held.append(_logs(basis, settings, limits, rows[first:end])[max(begin - first, windows) :])
        progress((fold + 1) / (settings.folds + 1))
    return held


def _usable(data: F64, names: Sequence[str], settings: Settings) -> tuple[F64, Bool]:
    """The whole rows of the points that moved, and which points those are; raises NormalModelError.

    What moved in one block alone, as a valve that was opened once, has no scale in the others to judge that block by; a
    point without any good value is left out as well, and makes no row less whole.
    """
    if data.ndim != 2 or data.shape[1] != len(names):  # noqa: PLR2004 a table of rows
        raise NormalModelError(f"the recording has the shape {data.shape}, there are {len(names)} names")
    if len(set(names)) != len(names):
        raise NormalModelError("a point is named twice")
    good = np.abs(data) < LARGEST
    count = good.sum(axis=0)
    rows = np.where(count > 0, data, 0.0)[(good | (count == 0)).all(axis=1)]
    if len(rows) < LEAST_ROWS:
        short = count.min(initial=len(data)) < len(data)
        which = f"; {names[count.argmin()]} has {count.min()} good values" if short else ""
        raise NormalModelError(f"{len(rows)} of {len(data)} rows are whole: at least {LEAST_ROWS}{which}")
    moved = [others.std(axis=0) > STILL * np.abs(others.mean(axis=0)) for _, _, others in _folds(rows, settings)]
    used: Bool = np.all(moved, axis=0)
    points = int(used.sum())
    least = max(LEAST_ROWS, LEAST_ROWS_PER_POINT * points, settings.folds * 4 * settings.change_window // 2)
    if points < UNIT:
        raise NormalModelError(f"{points} of {len(names)} points move: a unit needs two")
    if len(rows) < least:
        raise NormalModelError(f"{len(rows)} rows with every value good; {points} points need at least {least}")
    return rows[:, used], used


def _raises(held: list[F64], settings: Settings, log_mean: F64, log_sd: F64) -> tuple[int, float]:
    """How often the held-out rows would have raised the alarm, and the share of them beyond the limit."""
    raised, beyond = 0, 0
    for logs in held:
        scores = (logs - log_mean) / log_sd
        scores[:, :UNIT] -= settings.unit_margin
        index = scores[:, :-1].max(axis=1)
        on = False
        for value in index:
            raised += int(value > settings.raise_at and not on)
            on = value > settings.raise_at or (on and value >= settings.clear_at)
        beyond += int((index > settings.raise_at).sum())
    return raised, beyond / sum(len(logs) for logs in held)


def learn(
    data: F64,
    names: Sequence[str],
    period_s: float,
    settings: Settings = DEFAULT,
    progress: Progress = lambda _: None,
) -> NormalModel:
    """The normal-operation model of a unit from `data` [rows, points], recorded normal running, a row per `period_s`.

    NaN stands for a bad value; a row that has one is left out. `progress` hears the share done. Raises NormalModelError
    when there are too few rows, or fewer than two points that move.
    """
    if not period_s > 0.0:
        raise NormalModelError(f"a period of {period_s} s")
    rows, used = _usable(np.asarray(data), names, settings)
    basis = _basis(rows, settings, len(rows))
    held = _held_out(rows, settings, basis.wandering, progress)
    logs = np.concatenate(held)
    log_mean, log_sd = logs.mean(axis=0), np.maximum(logs.std(axis=0), FLOOR)
    means = _means(basis, settings, rows)
    raised, share = _raises(held, settings, log_mean, log_sd)
    progress(1.0)
    return NormalModel(
        names=tuple(names),
        period_s=period_s,
        settings=settings,
        used=used,
        rows=len(rows),
        held_raises=raised,
        held_alarm_share=share,
        basis=basis,
        limits=replace(means, log_mean=log_mean, log_sd=log_sd),
    )


def _at_most(count: int, mean: float) -> float:
    """Probability that a Poisson variable of this mean is at most `count`."""
    return sum(math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(count + 1))


def falsely_raised_per_week(model: NormalModel) -> tuple[float, float]:
    """False alarms a week as the held-out rows had them, and the 95 % upper bound of that rate (Poisson)."""
    weeks = model.rows * model.period_s / SECONDS_A_WEEK
    low, high = 1e-9, 10.0 * (model.held_raises + 3.0)
    for _ in range(100):
        middle = (low + high) / 2.0
        low, high = (middle, high) if _at_most(model.held_raises, middle) > UPPER_BOUND else (low, middle)
    return model.held_raises / weeks, high / weeks


def limits_of(model: NormalModel) -> dict[str, float]:
    """Where T², Q and each smoothing of the points raise the alarm, in the statistics' own units.

    T² and Q are sums of squared standard deviations, a point's limit counts mean squares of its smoothed residual.
    """
    settings, limits = model.settings, model.limits
    names = ("T2", "Q", *(f"point at {weight}" for weight in settings.point_smoothing))
    margin = np.array([settings.unit_margin] * UNIT + [0.0] * len(settings.point_smoothing))
    values = np.exp(limits.log_mean[:-1] + (settings.raise_at + margin) * limits.log_sd[:-1])
    return {name: float(value) for name, value in zip(names, values, strict=True)}
