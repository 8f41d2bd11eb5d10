"""What a learned unit consists of: its settings, its directions of variation and its limits, none of which changes."""

from dataclasses import dataclass

from tocsin_core.readings import F64, Bool


class NormalModelError(ValueError):
    """Recorded data, a row or stored bytes that the normal-operation model cannot be made of or used with."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a unit is learned and judged; docs/normal-model.md has the measurement behind every value.

    Smoothing weights are per row. `raise_at`, `clear_at`, `unit_margin` and `change_at` count standard deviations of
    the logarithm of a statistic over rows that were held out in learning.
    """

    unit_smoothing: float = 0.1
    point_smoothing: tuple[float, ...] = (0.1, 0.25, 0.6)
    variance: float = 0.8
    ridge: float = 0.003
    wandering: float = 0.35
    follow: float = 1.0
    follow_wandering: float = 5.0
    wandering_scale: float = 2.0
    folds: int = 5
    raise_at: float = 2.9
    clear_at: float = 2.6
    unit_margin: float = 2.5
    off_delay: int = 2
    turn_after: int = 120
    change_window: int = 20
    change_at: float = 3.0
    change_hold: int = 60
    least_good: float = 0.5


DEFAULT = Settings()


@dataclass(frozen=True, slots=True)
class Basis:
    """The directions of normal variation of the m modelled points; the rows of `whiten` and `precision` are points.

    `centre`, `scale` (unit of the point), `follow` (per row), `wandering`, `point_scale`: [m]; `whiten`, `precision`:
    [m, m]; `eigenvalues`: [m], falling. The first `components` columns of `whiten` span T², the others Q.
    """

    centre: F64
    scale: F64
    follow: F64
    wandering: Bool
    eigenvalues: F64
    whiten: F64
    precision: F64
    point_scale: F64
    components: int


@dataclass(frozen=True, slots=True)
class Limits:
    """How large the statistics are in normal running.

    `unit_mean`: mean T² and Q, [2]; `point_mean`: mean square of each smoothed point residual, [smoothings, m];
    `change_mean`: of each difference of two windows, [m]; `log_mean` and `log_sd` of T², Q, the largest point at each
    smoothing, and the largest difference of windows: [3 + smoothings].
    """

    unit_mean: F64
    point_mean: F64
    change_mean: F64
    log_mean: F64
    log_sd: F64


@dataclass(frozen=True, slots=True)
class NormalModel:
    """One unit's normal running. `used[i]` says whether point `names[i]` moved in learning and is modelled."""

    names: tuple[str, ...]
    period_s: float
    settings: Settings
    used: Bool
    rows: int
    held_raises: int
    held_alarm_share: float
    basis: Basis
    limits: Limits

    @property
    def explained(self) -> float:
        """Share of the variance that the components of T² carry."""
        eigenvalues = self.basis.eigenvalues
        return float(eigenvalues[: self.basis.components].sum() / eigenvalues.sum())

    @property
    def left_out(self) -> tuple[str, ...]:
        """Points that were never good in learning, or moved never, or in one fifth of it alone: they have no scale."""
        return tuple(name for name, used in zip(self.names, self.used, strict=True) if not used)

    @property
    def wandering(self) -> tuple[str, ...]:
        """Points whose level wandered in learning: they are judged by their movement, not by their level."""
        modelled = [name for name, used in zip(self.names, self.used, strict=True) if used]
        return tuple(name for name, moves in zip(modelled, self.basis.wandering, strict=True) if moves)
