"""Detectors that follow single points reading by reading: which points, with what parameters, and how they judge."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Generic, NamedTuple, TypeVar, cast

import numpy as np

from tocsin_core.detect import I8, TRUE
from tocsin_core.detectors import change, exposure, health
from tocsin_core.detectors.columns import NS, Columns
from tocsin_core.plant import AlarmDefinition, AlarmKind
from tocsin_core.readings import F64, I64, U8, Bool, Frame, is_good
from tocsin_core.special.families import Family
from tocsin_core.special.tables import Table

S = TypeVar("S", bound=Columns)

# A reading this many robust standard deviations off its 31 neighbours is suspect (our choice: of normal noise 2 in
# 12 million readings were, counted; 0.1 a week at one a second); so many equal readings may be stuck.
SPIKE_TIMES: Final = 10.0
STUCK_LEAST: Final = 10


class Heard(NamedTuple):
    """One reading of each of k points: `time_ns` i64, `value` f64, `good` bool."""

    time_ns: I64
    value: F64
    good: Bool


class Detector(ABC, Generic[S]):
    """A detector with the parameters of its n points in columns; `at` (i64[k]) says which points the rows are of."""

    @abstractmethod
    def empty(self, size: int) -> S:
        """`size` points that nothing has been read from."""

    @abstractmethod
    def advance(self, state: S, at: I64, heard: Heard) -> S:
        """`state` (consumed) with one reading more of each point."""

    @abstractmethod
    def judge(self, state: S, at: I64, family: U8) -> I8:
        """What the state after a good reading says to an alarm of `family`."""


@dataclass(frozen=True, eq=False)
class _Means(Detector[exposure.Exposure]):
    """STEL or TWA: the mean over `span`; `setpoint`, `deadband` f64[n], a reading holds for `hold_ns` i64[n]."""

    span: exposure.Span
    setpoint: F64
    deadband: F64
    hold_ns: I64

    def empty(self, size: int) -> exposure.Exposure:
        return exposure.Exposure.empty(size, self.span)

    def advance(self, state: exposure.Exposure, at: I64, heard: Heard) -> exposure.Exposure:
        return exposure.advance(state, self.span, heard.time_ns, heard.value, heard.good, self.hold_ns[at])

    def judge(self, state: exposure.Exposure, at: I64, family: U8) -> I8:
        share = np.full(len(family), exposure.LEAST_SHARE)
        return exposure.judge(exposure.average(state, self.span), self.setpoint[at], self.deadband[at], share)


@dataclass(frozen=True, eq=False)
class _PeakRule(Detector[exposure.Peaks]):
    """The rule of peaks against `twa` f64[n]."""

    twa: F64

    def empty(self, size: int) -> exposure.Peaks:
        return exposure.Peaks.empty(size)

    def advance(self, state: exposure.Peaks, at: I64, heard: Heard) -> exposure.Peaks:
        return exposure.advance_peaks(state, heard.time_ns, heard.value, heard.good, self.twa[at])

    def judge(self, state: exposure.Peaks, at: I64, family: U8) -> I8:  # noqa: ARG002 it has one family and no level
        return exposure.judge_peaks(state)


@dataclass(frozen=True, eq=False)
class _Charting(Detector[change.Change]):
    """CUSUM and EWMA by the calibrations of n points."""

    charts: change.Charts

    def empty(self, size: int) -> change.Change:
        return change.Change.empty(size)

    def advance(self, state: change.Change, at: I64, heard: Heard) -> change.Change:
        return change.advance(state, self.charts.rows(at), heard.time_ns, heard.value, heard.good)

    def judge(self, state: change.Change, at: I64, family: U8) -> I8:
        charts = self.charts.rows(at)
        return np.where(family == Family.CUSUM, change.judge_cusum(state, charts), change.judge_ewma(state, charts))


@dataclass(slots=True)
class _Current(Columns):
    """The last reading's loop current, f64[n] (mA)."""

    current_ma: F64


@dataclass(frozen=True, eq=False)
class LoopDetector(Detector[_Current]):
    """NE 43 on a 4 to 20 mA loop whose ends stand for `low` and `high` f64[n].

    It speaks of readings that are not good too: a failed loop makes them so (`failed`). Of a reading without a value
    it says nothing.
    """

    low: F64
    high: F64

    def empty(self, size: int) -> _Current:
        """`size` loops of which nothing has been read."""
        return _Current(np.full(size, np.nan))

    def advance(self, state: _Current, at: I64, heard: Heard) -> _Current:  # noqa: ARG002 nothing of the past counts
        """The current behind each reading."""
        return _Current(health.current_of(heard.value, self.low[at], self.high[at]))

    def judge(self, state: _Current, at: I64, family: U8) -> I8:  # noqa: ARG002 it has one family and fixed limits
        """What NE 43 says of the current."""
        return health.loop(state.current_ma)

    def failed(self, at: I64, value: F64) -> Bool:
        """Which readings are no measurement but a transmitter's failure, or a broken wire."""
        failed: Bool = health.loop(health.current_of(value, self.low[at], self.high[at])) == TRUE
        return failed


@dataclass(frozen=True, eq=False)
class _Stillness(Detector[health.Stuck]):
    """Stuck: `window_ns` i64[n], `floor`, `zero` (NaN: none) and `zero_band` f64[n]."""

    window_ns: I64
    floor: F64
    zero: F64
    zero_band: F64

    def empty(self, size: int) -> health.Stuck:
        return health.Stuck.empty(size)

    def advance(self, state: health.Stuck, at: I64, heard: Heard) -> health.Stuck:
        least = np.full(len(at), STUCK_LEAST, np.int64)
        return health.advance_stuck(
            state, heard.time_ns, heard.value, heard.good, self.window_ns[at], self.floor[at], least
        )

    def judge(self, state: health.Stuck, at: I64, family: U8) -> I8:
        least = np.full(len(family), STUCK_LEAST, np.int64)
        return health.judge_stuck(state, self.window_ns[at], least, self.zero[at], self.zero_band[at])


@dataclass(frozen=True, eq=False)
class _Spiking(Detector[health.Spikes]):
    """Spikes: `floor` f64[n]."""

    floor: F64

    def empty(self, size: int) -> health.Spikes:
        return health.Spikes.empty(size)

    def advance(self, state: health.Spikes, at: I64, heard: Heard) -> health.Spikes:
        times = np.full(len(at), SPIKE_TIMES)
        return health.advance_spikes(state, heard.time_ns, heard.value, heard.good, self.floor[at], times)

    def judge(self, state: health.Spikes, at: I64, family: U8) -> I8:  # noqa: ARG002 the state holds the answer
        return health.judge_spikes(state)


@dataclass(frozen=True, eq=False)
class Watch(Generic[S]):
    """One detector on n points: `point` i64[n] ascending.

    Its k definitions are `definition` i64[k], ascending, each on row `row` i64[k] of the points.
    """

    name: str
    detector: Detector[S]
    point: I64
    definition: I64
    row: I64
    table: Table

    @property
    def table_name(self) -> str:
        """Its table's name in the engine's state."""
        return f"watch.{self.name}"

    def hears(self, frame: Frame) -> tuple[I64, I64]:
        """Of the readings of `frame`, which are of these points; and the points' rows."""
        place = np.minimum(np.searchsorted(self.point, frame.point), len(self.point) - 1)
        here = np.flatnonzero(self.point[place] == frame.point)
        return here, place[here]

    def take(self, state: S, frame: Frame) -> None:
        """`frame` (no point twice, none late) into `state`."""
        here, row = self.hears(frame)
        if len(here):
            heard = Heard(frame.time_ns[here], frame.value[here], is_good(frame.quality[here]))
            state.put(row, self.detector.advance(state.rows(row), row, heard))

    def judge(self, state: S, definition: I64, family: U8) -> tuple[I64, I8]:
        """Which of `definition` are of this watch, and what the state says to them."""
        place = np.minimum(np.searchsorted(self.definition, definition), len(self.definition) - 1)
        mine = np.flatnonzero(self.definition[place] == definition)
        row = self.row[place[mine]]
        return mine, self.detector.judge(state.rows(row), row, family[mine])


Numbered = tuple[int, int, AlarmDefinition]
"""A definition with its number and that of its point."""


def _column(found: Sequence[Numbered], name: str) -> F64:
    return np.asarray([getattr(definition, name) for _, _, definition in found], np.float64)


def _nanoseconds(found: Sequence[Numbered], name: str) -> I64:
    return np.asarray([round(getattr(definition, name) * NS) for _, _, definition in found], np.int64)


def _charting(found: Sequence[Numbered]) -> _Charting:
    calibrations = [definition.charts for _, _, definition in found if definition.charts is not None]
    if len(calibrations) < len(found):
        lacking = next(definition.id for _, _, definition in found if definition.charts is None)
        raise ValueError(f"{lacking} has no calibration")
    return _Charting(change.charts_of(calibrations))


def _detector(name: str, found: Sequence[Numbered]) -> Detector[Columns]:
    """The detector called `name` on the first definition of each of its points."""
    made: object
    match name:
        case "stel" | "twa":
            span = exposure.STEL if name == "stel" else exposure.TWA
            made = _Means(span, _column(found, "setpoint"), _column(found, "deadband"), _nanoseconds(found, "hold_s"))
        case "peaks":
            made = _PeakRule(_column(found, "setpoint"))
        case "loop":
            made = LoopDetector(_column(found, "low"), _column(found, "high"))
        case "stuck":
            columns = (_column(found, name) for name in ("floor", "zero", "zero_band"))
            made = _Stillness(_nanoseconds(found, "window_s"), *columns)
        case "spike":
            made = _Spiking(_column(found, "floor"))
        case _:
            made = _charting(found)
    return cast("Detector[Columns]", made)


WATCHED: Final[dict[AlarmKind, str]] = {
    AlarmKind.STEL: "stel",
    AlarmKind.TWA: "twa",
    AlarmKind.PEAKS: "peaks",
    AlarmKind.CUSUM: "charts",
    AlarmKind.EWMA: "charts",
    AlarmKind.LOOP: "loop",
    AlarmKind.STUCK: "stuck",
    AlarmKind.SPIKE: "spike",
}


def _key(name: str, definition: AlarmDefinition) -> str:
    """What gives a row its meaning: a chart's sums are in its own standard deviations and steps."""
    if name == "charts" and definition.charts is not None:
        charts = definition.charts
        return f"{definition.point}@{charts.step_s!r}/{charts.mean!r}/{charts.sigma!r}/{charts.rho!r}"
    return definition.point


def compile_watches(definitions: Sequence[Numbered]) -> tuple[Watch[Columns], ...]:
    """The watches of `definitions`, which come in ascending order of their numbers and points."""
    grouped: dict[str, list[Numbered]] = {}
    for numbered in definitions:
        name = WATCHED.get(numbered[2].kind)
        if name is not None:
            grouped.setdefault(name, []).append(numbered)
    watches = []
    for name, found in grouped.items():
        by_point: dict[int, Numbered] = {}
        for numbered in found:
            by_point.setdefault(numbered[1], numbered)
        first = list(by_point.values())
        point = np.asarray(list(by_point), np.int64)
        detector = _detector(name, first)
        row = np.searchsorted(point, np.asarray([each[1] for each in found], np.int64))
        keys = tuple(_key(name, definition) for _, _, definition in first)
        number = np.asarray([each[0] for each in found], np.int64)
        watches.append(
            Watch(name, detector, point, number, row.astype(np.int64), Table(keys, partial(detector.empty, len(first))))
        )
    return tuple(watches)
