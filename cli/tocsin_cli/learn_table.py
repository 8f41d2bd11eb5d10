"""Learns a unit from a recording without a plant: a CSV file, a row each period."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress

from tocsin_cli.learn_report import of_model
from tocsin_cli.learn_writing import write
from tocsin_cli.replay.columns import TIME_NAMES
from tocsin_cli.replay.table import time_ns_of
from tocsin_core import normal
from tocsin_core.normal import NormalModel, NormalModelError
from tocsin_core.readings import F64
from tocsin_core.rules import NS

UTC: Final = ZoneInfo("UTC")
DELIMITERS: Final = (";", ",", "\t")


@dataclass(frozen=True, slots=True)
class Table:
    """A recording: its points' names, its values [rows, points] with NaN for what is no number, seconds per row."""

    names: tuple[str, ...]
    values: F64
    period_s: float | None


def number_of(text: str) -> float:
    """What a cell says, NaN where it is no number."""
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


def _period(stamps: Iterable[str]) -> float | None:
    """The median step of the time stamps in seconds."""
    steps = np.diff([time_ns_of(stamp, UTC) for stamp in stamps])
    step = float(np.median(steps)) / NS if len(steps) else 0.0
    return step if step > 0.0 else None


def read_table(path: Path) -> Table:
    """The recording in a CSV file with a header; a first column called time, or of ISO times, gives the period."""
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
    timed = header[0].strip().lower() in TIME_NAMES or all(_is_time(row[0]) for row in rows)
    skip = int(timed)
    values = np.array([[number_of(text) for text in row[skip:]] for row in rows])
    try:
        return Table(tuple(header[skip:]), values, _period(row[0] for row in rows) if timed else None)
    except ValueError as error:
        raise typer.BadParameter(f"{path}: {error}") from error


def _chosen(table: Table, wanted: list[str], path: Path) -> Table:
    missing = [name for name in wanted if name not in table.names]
    if missing:
        raise typer.BadParameter(f"{path} has no column {missing[0]}; it has {', '.join(table.names)}")
    columns = [table.names.index(name) for name in wanted]
    return Table(tuple(wanted), table.values[:, columns], table.period_s)


def _learned(table: Table, period_s: float) -> NormalModel:
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("learning", total=1.0)
        return normal.learn(
            table.values, table.names, period_s, progress=lambda share: progress.update(task, completed=share)
        )


def learn_table(path: Path, wanted: list[str] | None, span: slice, period_s: float | None, out: Path) -> dict[str, Any]:
    """Learn the rows `span` of the columns `wanted` (None: all) and write the model to `out`; the report."""
    table = read_table(path)
    table = _chosen(table, wanted or list(table.names), path)
    seconds = period_s or table.period_s
    if seconds is None:
        raise typer.BadParameter(f"{path} has no time column: say --period SECONDS")
    try:
        model = _learned(Table(table.names, table.values[span], seconds), seconds)
    except NormalModelError as error:
        raise typer.BadParameter(f"{path}: {error}") from error
    replaced = out.exists()
    write(out, normal.model_to_bytes(model))
    return of_model(model, str(out), replaced=replaced)
