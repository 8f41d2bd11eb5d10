"""`tocsin learn`: the normal-operation model of a unit from its recorded normal running."""

import csv
import json
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress

from tocsin_core import normal
from tocsin_core.normal import NormalModel, NormalModelError
from tocsin_core.plant import load_plant
from tocsin_core.readings import F64

ENDING: Final = ".normal"
DELIMITERS: Final = (";", ",", "\t")


@dataclass(frozen=True, slots=True)
class Table:
    """A recording: its points' names, its values [rows, points] with NaN for what is no number, seconds per row."""

    names: tuple[str, ...]
    values: F64
    period_s: float | None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _period(stamps: list[str]) -> float | None:
    """The median step of the time stamps in seconds."""
    moments = [datetime.fromisoformat(stamp) for stamp in stamps]
    steps = [(late - early).total_seconds() for early, late in pairwise(moments)]
    step = float(np.median(steps)) if steps else 0.0
    return step if step > 0.0 else None


def read_table(path: Path) -> Table:
    """The recording in a CSV file with a header; a first column of ISO times gives the period."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            first = lines.readline()
            delimiter = max(DELIMITERS, key=first.count)
            lines.seek(0)
            header, *rows = (row for row in csv.reader(lines, delimiter=delimiter) if row)
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise typer.BadParameter(f"{path}: {error}") from error
    wrong = next((number for number, row in enumerate(rows, start=2) if len(row) != len(header)), None)
    if wrong is not None or not rows:
        raise typer.BadParameter(f"{path}:{wrong or 1}: {'not as many values as names' if wrong else 'no rows'}")
    timed = all(_is_time(row[0]) for row in rows)
    skip = int(timed)
    values = np.array([[_number(text) for text in row[skip:]] for row in rows])
    return Table(tuple(header[skip:]), values, _period([row[0] for row in rows]) if timed else None)


def _chosen(table: Table, wanted: list[str], path: Path) -> Table:
    missing = [name for name in wanted if name not in table.names]
    if missing:
        raise typer.BadParameter(f"{path} has no column {missing[0]}; it has {', '.join(table.names)}")
    columns = [table.names.index(name) for name in wanted]
    return Table(tuple(wanted), table.values[:, columns], table.period_s)


def _span(text: str, rows: int) -> slice:
    """BEGIN:END as a slice of the rows, counted from 0, END not included; either may be left out."""
    begin, colon, end = text.partition(":")
    if not colon or any(part and not part.isdecimal() for part in (begin, end)):
        raise typer.BadParameter(f"{text!r} is not BEGIN:END")
    return slice(int(begin or 0), int(end or rows))


def _learned(table: Table, period_s: float) -> NormalModel:
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("learning", total=1.0)
        return normal.learn(
            table.values, table.names, period_s, progress=lambda share: progress.update(task, completed=share)
        )


def _report(model: NormalModel, out: Path) -> dict[str, object]:
    per_week, at_most = normal.falsely_raised_per_week(model)
    limits = normal.limits_of(model)
    return {
        "model": str(out),
        "points": len(model.names) - len(model.left_out),
        "rows": model.rows,
        "period_s": model.period_s,
        "components": model.basis.components,
        "explained_variance": round(model.explained, 4),
        "limits": {name: round(value, 4) for name, value in limits.items()},
        "false_alarms_per_week": round(per_week, 2),
        "false_alarms_per_week_at_most": round(at_most, 2),
        "wandering": list(model.wandering),
        "left_out": list(model.left_out),
    }


def learn(
    source: Annotated[Path, typer.Argument(help="A recording (CSV with a header), or a plant's folder.", exists=True)],
    *,
    recording: Annotated[Path | None, typer.Option("--from", help="The recording of a plant.", dir_okay=False)] = None,
    points: Annotated[str | None, typer.Option(help="Columns to learn, separated by commas.")] = None,
    rows: Annotated[str | None, typer.Option(help="Rows of normal running, BEGIN:END, counted from 0.")] = None,
    period: Annotated[float | None, typer.Option(help="Seconds per row, where the file has no time column.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where the model goes; beside the recording otherwise.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on the last line.")] = False,
) -> None:
    """Learn a unit from recorded normal running, write its model and say what it holds."""
    path = recording if source.is_dir() else source
    if path is None or (recording is not None and not source.is_dir()):
        raise typer.BadParameter("a plant's folder needs its recording (--from FILE.csv), a recording needs none")
    table = read_table(path)
    wanted = points.split(",") if points else list(table.names)
    if source.is_dir():
        known = load_plant(source).point_index
        strangers = [name for name in wanted if name not in known]
        if points and strangers:
            raise typer.BadParameter(f"{strangers[0]} is no point of {source}")
        wanted = [name for name in wanted if name in known]
    table = _chosen(table, wanted, path)
    seconds = period or table.period_s
    if seconds is None:
        raise typer.BadParameter(f"{path} has no time column: say --period SECONDS")
    span = _span(rows, len(table.values)) if rows else slice(None)
    try:
        model = _learned(Table(table.names, table.values[span], seconds), seconds)
    except NormalModelError as error:
        raise typer.BadParameter(f"{path}: {error}") from error
    target = out or path.with_suffix(ENDING)
    target.write_bytes(normal.model_to_bytes(model))
    report = _report(model, target)
    if as_json:
        typer.echo(json.dumps(report, ensure_ascii=False))
        return
    for key, value in report.items():
        typer.echo(f"{key.replace('_', ' ')}: {value}")
