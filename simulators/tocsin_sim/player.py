"""A recorded plant: a semicolon-separated table with a time column, checked against what the simulation expects."""

import csv
from collections.abc import Iterable
from datetime import datetime
from math import isfinite, nan
from typing import Final

from tocsin_sim.physics.sources import Row
from tocsin_sim.simulation import Record

MOST_SHOWN: Final = 200


class RecordError(Exception):
    """A table that cannot be played, with file and line."""


def read_record(lines: Iterable[str], record: Record, file: str) -> list[Row]:
    """Return the rows as (seconds since the first, value by column); an empty or infinite cell is NaN.

    Raises:
        RecordError: a column is missing, a cell is no number, or time does not go on.
    """
    try:
        return _rows(csv.DictReader(lines, delimiter=";"), record, file)
    except csv.Error as error:
        raise RecordError(f"{file}: {error}") from error


def _rows(reader: "csv.DictReader[str]", record: Record, file: str) -> list[Row]:
    there = reader.fieldnames or []
    missing = [name for name in (record.time, *record.columns) if name not in there]
    if missing:
        raise RecordError(
            f"{file}:1: no column {', '.join(missing)} (semicolon-separated); "
            f"there are: {', '.join(there)[:MOST_SHOWN]}"
        )
    rows: list[Row] = []
    start: datetime | None = None
    for line, cells in enumerate(reader, 2):
        try:
            time = datetime.fromisoformat(cells[record.time])
            start = start or time
            values = {name: _number(cells[name]) for name in record.columns}
            since = (time - start).total_seconds()
        except (TypeError, ValueError) as error:
            raise RecordError(f"{file}:{line}: {error}") from error
        if rows and since < rows[-1][0]:
            raise RecordError(f"{file}:{line}: time goes back")
        rows.append((since, values))
    if not rows:
        raise RecordError(f"{file}: no rows")
    return rows


def _number(cell: str | None) -> float:
    if cell is None:
        raise ValueError("the row is too short")
    value = float(cell) if cell.strip() else nan
    return value if isfinite(value) else nan
