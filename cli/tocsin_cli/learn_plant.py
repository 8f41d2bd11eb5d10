"""What a plant learns from recorded normal running: the models of its units, and the charts of its points."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from tocsin_cli.learn_opening import model_in, open_plant
from tocsin_cli.learn_rows import Series, by_point, chart_values, period_of, unit_rows
from tocsin_cli.replay.source import told_progress
from tocsin_core import normal
from tocsin_core.detectors.change import Calibration, CalibrationError, calibrate
from tocsin_core.normal import NormalModel, NormalModelError
from tocsin_core.plant import AlarmKind, Plant, PlantPoint
from tocsin_core.plant.brought import CHARTS, last_digit
from tocsin_core.plant.computed import Normal
from tocsin_core.readings import Frame
from tocsin_core.replay import play
from tocsin_core.rules import compile_rules

PER_CENT: Final = 100


class Wanted(NamedTuple):
    """What is to be learned: the models by name, of `points` (None: those recorded), and whether charts are too.

    `period_s` is the time from row to row of a unit (None: as its slowest point was recorded).
    """

    models: tuple[str, ...]
    charts: bool
    points: tuple[str, ...] | None
    period_s: float | None


@dataclass(slots=True)
class Lesson:
    """What was learned, by the name of the model and by point, and why something was not."""

    models: dict[str, NormalModel] = field(default_factory=dict)
    charts: dict[str, Calibration] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


class _Recorded(NamedTuple):
    """A plant, and the series of those of its measured points that were recorded."""

    plant: Plant
    series: dict[int, Series]

    def has(self, name: str) -> bool:
        return self.plant.point_index.get(name, -1) in self.series


def models_of(plant: Plant) -> tuple[str, ...]:
    """The names of the models that the plant's computed points use, in the order of the file."""
    named = (point.compute.model for point in plant.points if isinstance(point.compute, Normal))
    return tuple(dict.fromkeys(named))


def charts_asked(plant: Plant) -> dict[str, tuple[AlarmKind, ...]]:
    """The points whose alarms ask for charts, and which alarms these are."""
    asked = {point.id: tuple(d.kind for d in point.definitions if d.kind in CHARTS) for point in plant.points}
    return {point: kinds for point, kinds in asked.items() if kinds}


def teach(folder: Path, plant: Plant, frame: Frame, wanted: Wanted) -> Lesson:
    """Learn what is wanted from `frame` (readings of measured points, ascending in time), with a bar of progress."""
    lesson = Lesson()
    recorded = _Recorded(plant, by_point(frame))
    for name in wanted.models:
        try:
            lesson.models[name] = _model(folder, recorded, name, wanted)
        except NormalModelError as error:
            lesson.failed[f"model {name}"] = str(error)
    if wanted.charts:
        asked = [plant.points[plant.point_index[name]] for name in charts_asked(plant)]
        points = [point for point in asked if wanted.points is None or point.id in wanted.points]
        _charts(folder, recorded, frame, points, lesson)
    return lesson


def _model(folder: Path, recorded: _Recorded, name: str, wanted: Wanted) -> NormalModel:
    names = _members(folder, recorded, name, wanted)
    missing = [each for each in names if not recorded.has(each)]
    if missing:
        raise NormalModelError(f"the recording has no readings of {', '.join(missing)}: say which --points it has")
    plant = recorded.plant
    members = [recorded.series[plant.point_index[each]] for each in names]
    periods = [period for series in members if (period := period_of(series)) is not None]
    period_s = wanted.period_s or max(periods, default=0.0)
    if not period_s > 0.0:
        raise NormalModelError("no point was recorded twice")
    longest_s = max(plant.points[plant.point_index[each]].longest_s for each in names)
    rows = unit_rows(members, period_s, longest_s)
    with told_progress(f"model {name}", PER_CENT) as (progress, task):
        return normal.learn(
            rows, names, period_s, progress=lambda share: progress.update(task, completed=round(share * PER_CENT))
        )


def _members(folder: Path, recorded: _Recorded, name: str, wanted: Wanted) -> Sequence[str]:
    """The points of a model: those asked for, those that it had before, or all that were recorded."""
    if wanted.points is not None and len(wanted.models) == 1:
        return wanted.points
    before = model_in(folder, name)
    if (
        wanted.points is None
        and before is not None
        and all(_is_measured(recorded.plant, each) for each in before.names)
    ):
        return before.names
    if len(wanted.models) > 1:
        raise NormalModelError(f"which points has it? Learn it by itself: --model {name} --points POINT,POINT,…")
    found = [point.id for point in recorded.plant.points if point.index in recorded.series]
    if not found:
        raise NormalModelError("the recording has no readings of measured points")
    return found


def _is_measured(plant: Plant, name: str) -> bool:
    index = plant.point_index.get(name)
    return index is not None and plant.points[index].compute is None


def _charts(folder: Path, recorded: _Recorded, frame: Frame, points: Collection[PlantPoint], lesson: Lesson) -> None:
    series = recorded.series
    periods = {index: period_s for index, each in series.items() if (period_s := period_of(each)) is not None}
    if any(point.compute is not None for point in points):
        computed, members = _computed(folder, recorded.plant, frame, lesson)
        series = series | computed
        # A computed point has a reading with each of its members', some of them at nearly one moment.
        for index, of in members.items():
            periods[index] = min((periods[each] for each in of if each in periods), default=0.0)
    with told_progress("charts", len(points)) as (progress, task):
        for point in points:
            try:
                lesson.charts[point.id] = _chart(point, series.get(point.index), periods.get(point.index), lesson)
            except CalibrationError as error:
                lesson.failed[f"charts of {point.id}"] = str(error)
            progress.advance(task)


def _chart(point: PlantPoint, series: Series | None, period_s: float | None, lesson: Lesson) -> Calibration:
    if isinstance(point.compute, Normal) and f"model {point.compute.model}" in lesson.failed:
        raise CalibrationError(f"its model {point.compute.model} was not learned")
    if series is None or not period_s:
        raise CalibrationError("the recording has no readings of it" if series is None else "it was recorded once")
    return calibrate(chart_values(series, period_s), period_s, last_digit(point.decimals))


def _computed(
    folder: Path, plant: Plant, frame: Frame, lesson: Lesson
) -> tuple[dict[int, Series], dict[int, tuple[int, ...]]]:
    """What the plant computes of the recording, with the models that it has now, and of which points it does."""
    had = {name: model for name in models_of(plant) if (model := _sound(folder, plant, name)) is not None}
    rules = compile_rules(open_plant(folder, had | lesson.models))
    computed = []
    with told_progress("computed points", len(frame)) as (progress, task):
        for played in play(rules, frame):
            computed.append(played.computed)
            progress.advance(task, played.readings)
    return by_point(Frame.concat(computed)), rules.special.inputs


def _sound(folder: Path, plant: Plant, name: str) -> NormalModel | None:
    model = model_in(folder, name)
    return model if model is not None and all(_is_measured(plant, each) for each in model.names) else None


def stated_per_week(asked: Iterable[AlarmKind], charts: Calibration) -> float:
    """The false alarms a week that the charts state for those alarms of a point that there are."""
    per_week = {AlarmKind.CUSUM: charts.cusum_per_week, AlarmKind.EWMA: charts.ewma_per_week}
    return sum(per_week[kind] for kind in asked)
