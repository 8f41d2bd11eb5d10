"""`tocsin learn`: everything that is learned from recorded normal running, its arguments and what it writes."""

import json
from collections.abc import Sequence
from pathlib import Path
from re import fullmatch
from typing import Annotated, Any

import typer

from tocsin_cli.learn_opening import ENDING, open_plant
from tocsin_cli.learn_plant import Lesson, Wanted, charts_asked, models_of, stated_per_week, teach
from tocsin_cli.learn_report import of_charts, of_model, tell_charts, tell_model, tell_sum
from tocsin_cli.learn_table import learn_table
from tocsin_cli.learn_writing import write
from tocsin_cli.replay.recording import Recording, RecordingError
from tocsin_cli.replay.source import Source, read_source
from tocsin_core import normal
from tocsin_core.detectors.change import Calibration
from tocsin_core.plant import Plant
from tocsin_core.plant.calibrations import (
    CALIBRATIONS_FILE,
    CalibrationsError,
    calibrations_from_json,
    calibrations_to_json,
)
from tocsin_core.plant.fields import IDENTIFIER
from tocsin_core.plant.load import MODELS_FOLDER


def _span(text: str) -> slice:
    """BEGIN:END as a slice of the rows, counted from 0, END not included; either may be left out."""
    begin, colon, end = text.partition(":")
    if not colon or any(part and not part.isdecimal() for part in (begin, end)):
        raise typer.BadParameter(f"{text!r} is not BEGIN:END")
    return slice(int(begin or 0), int(end) if end else None)


def _calibrations(folder: Path) -> dict[str, Calibration]:
    path = folder / CALIBRATIONS_FILE
    try:
        return calibrations_from_json(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (UnicodeDecodeError, CalibrationsError) as error:
        raise typer.BadParameter(f"{path}: {error}; repair it or move it away") from error


def _points(plant: Plant, folder: Path, names: list[str] | None) -> tuple[str, ...] | None:
    if names is None:
        return None
    strangers = [name for name in names if name not in plant.point_index]
    if strangers:
        raise typer.BadParameter(f"{strangers[0]} is no point of {folder}")
    return tuple(dict.fromkeys(names))


def _places(folder: Path, lesson: Lesson, out: Path | None) -> dict[str, Path]:
    return {name: out or folder / MODELS_FOLDER / f"{name}{ENDING}" for name in lesson.models}


def _plant_report(
    plant: Plant, recording: Recording, lesson: Lesson, places: dict[str, Path], before: dict[str, Calibration]
) -> dict[str, Any]:
    asked = charts_asked(plant)
    after = before | lesson.charts
    stated = {point: stated_per_week(kinds, after[point]) for point, kinds in asked.items() if point in after}
    return {
        "models": [
            of_model(model, str(places[name]), replaced=places[name].exists()) for name, model in lesson.models.items()
        ],
        "charts": of_charts(lesson, asked, before),
        "kept": [point for point in before if point not in lesson.charts],
        "not_learned": [{"what": what, "why": why} for what, why in lesson.failed.items()],
        "chart_alarms": sum(len(asked[point]) for point in stated),
        "chart_false_alarms_per_week": sum(stated.values()),
        "remarks": list(recording.remarks),
    }


def _learn_plant(folder: Path, source: Source, wanted: Wanted, out: Path | None, plant: Plant) -> dict[str, Any]:
    """Learn what is wanted of a plant and write it into its folder; the report."""
    before = _calibrations(folder)
    try:
        recording = read_source(plant, folder, source)
    except RecordingError as error:
        raise typer.BadParameter(str(error)) from error
    lesson = teach(folder, plant, recording.frame, wanted)
    places = _places(folder, lesson, out)
    report = _plant_report(plant, recording, lesson, places, before)
    for name, model in lesson.models.items():
        write(places[name], normal.model_to_bytes(model))
    if lesson.charts:
        write(folder / CALIBRATIONS_FILE, calibrations_to_json(before | lesson.charts).encode())
    return report


def _tell_plant(report: dict[str, Any], plant: Plant) -> None:
    for remark in report["remarks"]:
        typer.echo(remark)
    for model in report["models"]:
        tell_model(model)
    tell_charts(report["charts"], plant)
    tell_sum(report)


def _wanted(
    plant: Plant, folder: Path, names: list[str] | None, models: Sequence[str], out: Path | None, *, charts: bool
) -> Wanted:
    """What the options ask for: with neither --model nor --charts all that the plant asks for."""
    if any(not fullmatch(IDENTIFIER, name) for name in models):
        raise typer.BadParameter(f"{', '.join(models)}: a model's name has letters, digits, '.', '_' and '-'")
    if out is not None and (charts or len(models) > 1):
        raise typer.BadParameter("--out takes one model, and no charts")
    all_of_it = not models and not charts and out is None
    asked = tuple(dict.fromkeys(models))
    if out is not None:
        asked = asked or (out.stem,)
    elif all_of_it:
        asked = models_of(plant)
    charts = charts or all_of_it
    if not asked and not (charts and charts_asked(plant)):
        raise typer.BadParameter(
            f"{folder}: nothing to learn: no computed point of rule normal names a model, and no alarm is a chart "
            "(cusum, ewma); --model NAME learns a model that no point uses yet"
        )
    return Wanted(asked, charts, _points(plant, folder, names), None)


def learn(  # noqa: PLR0913 -- the options of a command are its arguments
    source: Annotated[Path, typer.Argument(help="Folder of a plant, or a recording (CSV) of a unit.", exists=True)],
    *,
    recording: Annotated[
        str | None,
        typer.Option("--from", metavar="FILE.csv|START/END", help="The plant's normal running, as of `tocsin replay`."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="DIR|ADDRESS",
            help="START/END: data folder of the cloud side that stored it, or the address of its database.",
        ),
    ] = None,
    column_map: Annotated[
        Path | None, typer.Option("--map", help="FILE.csv: which column is which point.", exists=True, dir_okay=False)
    ] = None,
    rows: Annotated[str | None, typer.Option(help="Rows of normal running, BEGIN:END, counted from 0.")] = None,
    points: Annotated[str | None, typer.Option(help="Only these points (columns), separated by commas.")] = None,
    models: Annotated[
        list[str] | None, typer.Option("--model", metavar="NAME", help="Only this model of the plant.")
    ] = None,
    charts: Annotated[bool, typer.Option("--charts", help="Only the charts of the plant's points.")] = False,
    period: Annotated[float | None, typer.Option(help="Seconds per row; as recorded otherwise.", min=0.001)] = None,
    out: Annotated[Path | None, typer.Option(help="Where a model goes, if not to its usual place.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on the last line.")] = False,
) -> None:
    """Learn from recorded normal running: a unit's model, or all models and charts that a plant asks for."""
    names = points.split(",") if points else None
    span = _span(rows) if rows else None
    if not source.is_dir():
        if recording or data or column_map or models or charts:
            raise typer.BadParameter(
                f"{source} is a recording by itself; --from, --data, --map, --model and --charts are of plants"
            )
        report = learn_table(source, names, span or slice(None), period, out or source.with_suffix(ENDING))
        if not as_json:
            tell_model(report)
    else:
        if recording is None:
            raise typer.BadParameter("a plant needs its recording: --from FILE.csv, or START/END with --data DIR")
        plant = open_plant(source, {})
        wanted = _wanted(plant, source, names, models or (), out, charts=charts)._replace(period_s=period)
        given = Source(recording, data, column_map, None, span)
        report = _learn_plant(source, given, wanted, out, plant)
        if not as_json:
            _tell_plant(report, plant)
    if as_json:
        typer.echo(json.dumps(report, ensure_ascii=False))
    if report.get("not_learned"):
        raise typer.Exit(1)
