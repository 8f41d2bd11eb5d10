"""Where a recording is read from: a table or a stretch of the historian, by the words a user gave for it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from tocsin_cli.replay.columns import read_map
from tocsin_cli.replay.historian import range_of, read_history
from tocsin_cli.replay.recording import Recording, RecordingError
from tocsin_cli.replay.table import read_table
from tocsin_core.plant import Plant

_LIKE_RANGE: Final = re.compile(r"\d{4}[^/]*/\d{4}[^/]*")


class Source(NamedTuple):
    """FILE.csv, with a map, a column of labels and the rows to read; or START/END, and where the historian keeps it."""

    text: str
    data: str | None = None
    column_map: Path | None = None
    label: str | None = None
    rows: slice | None = None


@contextmanager
def told_progress(words: str, total: float) -> Iterator[tuple[Progress, TaskID]]:
    """A bar on a terminal's standard error, and nothing elsewhere."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield progress, progress.add_task(words, total=total)


def read_source(plant: Plant, folder: Path, source: Source) -> Recording:
    """The recording of the plant in `folder` that `source` names.

    Raises:
        RecordingError: it cannot be read, or its words do not go together.
    """
    span = range_of(source.text, ZoneInfo(plant.site.timezone))
    if span is None:
        if _LIKE_RANGE.fullmatch(source.text) and not Path(source.text).exists():
            why = "a stretch START/END needs --data and whole dates (2026-03-02, 2026-03-02T08:00)"
            raise RecordingError(f"{source.text}: {why}; and there is no file of that name")
        if source.data is not None:
            raise RecordingError("--data belongs to a range START/END")
        given = read_map(source.column_map) if source.column_map else None
        return read_table(Path(source.text), plant, folder, given, source.label, source.rows or slice(None))
    if source.data is None or source.column_map is not None or source.label is not None or source.rows is not None:
        raise RecordingError("a range START/END takes --data DIR, and no --map, no --label and no --rows")
    if find_spec("duckdb") is None:
        raise RecordingError("reading the historian needs the extra: pip install 'tocsin[cloud]'")
    with told_progress("reading", len(plant.points)) as (progress, task):
        return read_history(source.data, plant, span, lambda: progress.advance(task))
