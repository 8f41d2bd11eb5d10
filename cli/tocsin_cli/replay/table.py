"""Reads a recorded table (CSV with one column a point) into readings and labels, column by column."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np

from tocsin_cli.replay.columns import ColumnMap, Columns, choose
from tocsin_cli.replay.recording import Recording, RecordingError, in_order, outside
from tocsin_core.plant import Plant
from tocsin_core.readings import F64, GOOD, I64, Frame
from tocsin_core.replay import Spans, spans_of
from tocsin_core.rules import NS

SEPARATORS: Final = (";", ",", "\t")
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

# Seconds of today have ten digits, milliseconds thirteen.
LEAST_MILLISECONDS: Final = 1e11
MOST_MILLISECONDS: Final = 1e14

LABELS: Final = {"0": 0.0, "1": 1.0, "": 0.0, "true": 1.0, "false": 0.0}


def read_table(
    path: Path, plant: Plant, folder: Path, given: ColumnMap | None, label: str | None, chosen: slice = slice(None)
) -> Recording:
    """The readings of a CSV file (semicolon, comma or tab) with a header, a column of time, and one column a point.

    Times are ISO 8601 (in the site's time zone where they name none) or epoch seconds or milliseconds. An empty cell
    is no reading; one that is no finite number (`nan`) is a bad reading. `label` names a column that is 0 or 1.
    `chosen` are the rows that are read, counted from 0.

    Raises:
        RecordingError: the table cannot be played, with file and line.
    """
    header, rows, lines = _read(path)
    rows, lines = rows[chosen], lines[chosen]
    if not rows:
        raise RecordingError(f"{path.name}: none of its rows is chosen")
    columns = choose(header, plant, folder, given)
    if label is not None and label not in header:
        raise RecordingError(f"{path.name}:1: no column {label}; there are: {', '.join(header)}")
    cells = dict(zip(header, zip(*rows, strict=True), strict=True))
    zone = ZoneInfo(plant.site.timezone)
    time_ns = _column(cells[columns.time], lambda cell: time_ns_of(cell, zone), path.name, lines).astype(np.int64)
    wrong = outside(time_ns)
    if len(wrong):
        raise RecordingError(f"{path.name}:{lines[wrong[0]]}: {rows[wrong[0]][header.index(columns.time)]} is no time")
    order = np.argsort(time_ns, kind="stable")
    frame = _frame(columns, cells, time_ns, plant, path.name, lines)
    if not len(frame):
        raise RecordingError(f"{path.name}: no cell of its points holds a number")
    labels = None if label is None else _labels(cells[label], time_ns, order, path.name, lines)
    return Recording(frame, labels, (_remark(columns, header, label),))


def _read(path: Path) -> tuple[list[str], list[list[str]], list[int]]:
    """Header, rows, and the line of each row."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RecordingError(f"{path.name}: {error}") from error
    first = text.partition("\n")[0]
    separator = max(SEPARATORS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        header = [name.strip() for name in next(reader, [])]
        rows, lines = [], []
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise RecordingError(f"{path.name}:{reader.line_num}: {len(row)} cells under {len(header)} columns")
            rows.append(row)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise RecordingError(f"{path.name}:{reader.line_num}: not CSV: {error}") from error
    if not rows:
        raise RecordingError(f"{path.name}: no rows")
    twice = {name for name in header if header.count(name) > 1}
    if twice:
        raise RecordingError(f"{path.name}:1: two columns are called {', '.join(sorted(twice))}")
    return header, rows, lines


def _column(cells: Sequence[str], read: Callable[[str], float], file: str, lines: Sequence[int]) -> F64 | I64:
    try:
        return np.asarray([read(cell) for cell in cells])
    except ValueError:
        for cell, line in zip(cells, lines, strict=True):
            try:
                read(cell)
            except ValueError as error:
                raise RecordingError(f"{file}:{line}: {error}") from error
        raise


def time_ns_of(cell: str, zone: ZoneInfo) -> int:
    """ISO 8601, in `zone` where it names none, or epoch seconds or milliseconds; a ValueError for anything else."""
    text = cell.strip()
    try:
        number = float(text)
    except ValueError:
        time = datetime.fromisoformat(text)
        since = (time if time.tzinfo is not None else time.replace(tzinfo=zone)) - EPOCH
        time_ns = (since.days * 86_400 + since.seconds) * NS + since.microseconds * 1000
        if abs(time_ns) > np.iinfo(np.int64).max:
            raise ValueError(f"{text} is no time") from None
        return time_ns
    if not 0.0 <= number < MOST_MILLISECONDS:
        raise ValueError(f"{text} is no time")
    return round(number * (1_000_000 if number >= LEAST_MILLISECONDS else NS))


def _value(cell: str) -> float:
    return float(cell)


def _frame(
    columns: Columns, cells: Mapping[str, Sequence[str]], time_ns: I64, plant: Plant, file: str, lines: Sequence[int]
) -> Frame:
    frames = []
    for column, target in columns.targets.items():
        texts = np.asarray(cells[column])
        there = np.flatnonzero(np.char.strip(texts) != "")
        try:
            values = texts[there].astype(np.float64)
        except ValueError:
            # Slower, and knows which line it was.
            _column([cells[column][i] for i in there.tolist()], _value, file, [lines[i] for i in there.tolist()])
            raise
        index = plant.point_index[target.point]
        values = values * target.gain + target.offset
        frames.append(Frame.of(np.full(len(there), index), time_ns[there], values, np.full(len(there), GOOD, np.uint8)))
    return in_order(Frame.concat(frames))


def _label(cell: str) -> float:
    text = cell.strip().lower().removesuffix(".0")
    if text not in LABELS:
        raise ValueError(f"{cell!r} is no label: 0 or 1")
    return LABELS[text]


def _labels(cells: Sequence[str], time_ns: I64, order: I64, file: str, lines: Sequence[int]) -> Spans:
    labels = _column(cells, _label, file, lines).astype(np.float64)
    return spans_of(time_ns[order], labels[order])


def _remark(columns: Columns, header: Sequence[str], label: str | None) -> str:
    used = {columns.time, label, *columns.targets, *columns.computed}
    unused = [column for column in header if column not in used]
    mapped = ", ".join(
        column if column == target.point else f"{column} → {target.point}" for column, target in columns.targets.items()
    )
    computed = f"; computed anew: {', '.join(columns.computed)}" if columns.computed else ""
    return f"columns {columns.how}: {mapped}{computed}" + (f"; not used: {', '.join(unused)}" if unused else "")
