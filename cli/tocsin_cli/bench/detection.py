"""`tocsin bench detection`: how early and how rarely wrongly plants are warned, on recorded data and simulated ones."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Final, TypeVar

import numpy as np
import typer
from rich.console import Console
from rich.progress import track

from tocsin_cli.bench.lead import HOURS, SEED, measure_plants
from tocsin_cli.learn_table import number_of
from tocsin_core.normal import NormalModelError, judge, learn, start
from tocsin_core.readings import F64, Bool
from tocsin_core.scoring import Changes, FaultScores, Seconds, change_scores, fault_scores, median_delay, row_scores

# SKAB's published protocol: the first 400 rows of every recording are normal running to learn from.
SKAB_LEARNED: Final = 400
SKAB_PERIOD_S: Final = 1.0
SKAB_LABELS: Final = ("anomaly", "changepoint")

TEP_POINTS: Final = tuple([f"XMEAS({i})" for i in range(1, 42)] + [f"XMV({i})" for i in range(1, 12)])
TEP_FAULTS: Final = range(1, 22)
# Faults 3, 9 and 15 leave no trace in the measurements (Russell, Chiang and Braatz 2000) and count in no mean.
TEP_HIDDEN: Final = frozenset({3, 9, 15})
TEP_PERIOD_S: Final = 180.0
TEP_TEST_FIRST: Final = 160
TEP_FOLDS: Final = 5

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Recording:
    """One labelled SKAB recording: whole seconds [n], values [n, points], and its two labels [n]."""

    names: tuple[str, ...]
    time: Seconds
    values: F64
    anomaly: Bool
    changepoint: Bool


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _skab(path: Path) -> Recording | None:
    """A labelled recording; None for one without labels, which is normal running.

    A cell that is no number is a missing value; a row that is cut off, or has no time, is none. The times stand in the
    first column that has one, and one without a name holds the rows' numbers.
    """
    with path.open(encoding="utf-8-sig") as lines:
        columns = [name.strip(' "') for name in lines.readline().strip().split(";")]
        rows = [row for line in lines if len(row := line.rstrip("\n").split(";")) == len(columns)]
    labels = [columns.index(label) for label in SKAB_LABELS if label in columns]
    if not labels:
        return None
    if len(labels) < len(SKAB_LABELS):
        raise ValueError(f"of {' and '.join(SKAB_LABELS)} only one is there")
    clock = next((i for row in rows for i, text in enumerate(row) if _is_time(text)), 0)
    rows = [row for row in rows if _is_time(row[clock])]
    if not rows:
        raise ValueError("no rows")
    time = np.array([datetime.fromisoformat(row[clock]).replace(tzinfo=None) for row in rows], "datetime64[s]")
    table = np.array([[number_of(text) for text in row] for row in rows])
    if np.isnan(table[:, labels]).all(axis=0).any():
        raise ValueError("its labels are no numbers")
    points = [i for i, name in enumerate(columns) if name and i not in (clock, *labels)]
    anomaly, changepoint = (table[:, label] > 0.0 for label in labels)
    return Recording(tuple(columns[i] for i in points), time.astype(np.int64), table[:, points], anomaly, changepoint)


def _tep(path: Path) -> F64:
    """A TEP recording [n, 52]; d00.dat is stored with its points as rows."""
    with path.open(encoding="utf-8") as lines:
        rows = [line for line in lines if line.strip()]
    table = np.loadtxt(rows, dtype=np.float64, ndmin=2) if rows else np.zeros((0, 0))
    turned: F64 = table if table.shape[1] == len(TEP_POINTS) else table.T
    if turned.shape[1] != len(TEP_POINTS):
        raise ValueError(f"the shape {table.shape}, not {len(TEP_POINTS)} points")
    return turned


def _fault(path: Path, first_row: int) -> F64:
    """A TEP recording in which the fault is there from `first_row` on."""
    rows = _tep(path)
    if len(rows) <= first_row:
        raise ValueError(f"{len(rows)} rows, and the fault is there from row {first_row + 1}")
    return rows


def _alarm(learned: F64, names: Sequence[str], period_s: float, judged: F64) -> tuple[Bool, Bool]:
    model = learn(learned, names, period_s)
    _, judgement = judge(model, start(model), judged)
    return judgement.alarm, judgement.change


def _judged(path: Path) -> tuple[tuple[Bool, Bool], Changes] | None:
    """A labelled recording, learned from its first 400 rows and judged whole; None for one without labels."""
    recording = _skab(path)
    if recording is None:
        return None
    alarm, change = _alarm(recording.values[:SKAB_LEARNED], recording.names, SKAB_PERIOD_S, recording.values)
    return (recording.anomaly, alarm), Changes(recording.time, recording.changepoint, change)


def skab_scores(rows: Sequence[tuple[Bool, Bool]], changes: Sequence[Changes]) -> dict[str, float | int]:
    """SKAB's own scores of all recordings."""
    scores, told = row_scores(rows), change_scores(changes)
    return {
        "f1": round(scores.f1, 4),
        "far": round(scores.far, 2),
        "mar": round(scores.mar, 2),
        "nab_standard": round(told.nab_standard, 2),
        "missed_changepoints": told.missed,
        "false_changepoints": told.false,
    }


def _held_out_alarms(normal: F64) -> Bool:
    """The alarms over normal running, each block judged by a model that was learned from the other blocks."""
    edges = np.linspace(0, len(normal), TEP_FOLDS + 1).astype(int)
    parts = []
    for begin, end in pairwise(edges):
        others = np.concatenate([normal[:begin], normal[end:]])
        parts.append(_alarm(others, TEP_POINTS, TEP_PERIOD_S, normal[begin:end])[0])
    return np.concatenate(parts)


def tep_scores(
    normal: F64, faults: Iterable[tuple[int, F64]], quiet: Sequence[F64], first_row: int
) -> dict[str, object]:
    """Detection rates and delays of `faults`, each there from `first_row`, by a model learned from `normal`.

    False alarms are counted over `quiet` and over what precedes each fault; where there is neither, over `normal`
    itself in blocks that were held out.
    """
    model = learn(normal, TEP_POINTS, TEP_PERIOD_S)
    minutes = TEP_PERIOD_S / 60.0
    undisturbed = [judge(model, start(model), rows)[1].alarm for rows in quiet]
    scores: dict[int, FaultScores] = {}
    lengths: dict[int, float] = {}
    for number, rows in faults:
        alarm = judge(model, start(model), rows)[1].alarm
        undisturbed.append(alarm[:first_row])
        scores[number] = fault_scores(alarm, first_row, minutes)
        lengths[number] = (len(rows) - first_row) * minutes
    before = np.concatenate(undisturbed) if undisturbed else np.zeros(0, dtype=np.bool_)
    false = before if before.size else _held_out_alarms(normal)
    counted = [number for number in scores if number not in TEP_HIDDEN]
    return {
        "mean_detection_rate": round(float(np.mean([scores[n].detection_rate for n in counted])), 4),
        "false_alarm_rate": round(float(false.mean()), 4),
        "median_delay_min": median_delay([scores[n].delay_min for n in counted], [lengths[n] for n in counted]),
        "faults": {
            str(number): {"detection_rate": round(score.detection_rate, 4), "delay_min": score.delay_min}
            for number, score in scores.items()
        },
    }


def _tep_files(folder: Path) -> tuple[str, dict[int, Path]]:
    """Which set there is to judge, and the file of each fault: the test set where any of it is there."""
    for tep_set, ending in (("test", "_te"), ("training", "")):
        found = {
            n: folder / f"d{n:02d}{ending}.dat" for n in TEP_FAULTS if (folder / f"d{n:02d}{ending}.dat").is_file()
        }
        if any(number not in TEP_HIDDEN for number in found):
            return tep_set, found
    raise typer.BadParameter(f"no d01.dat to d21.dat in {folder}")


def _each(
    files: Iterable[tuple[K, Path]], total: int, title: str, read: Callable[[Path], V | None], console: Console
) -> list[tuple[K, V]]:
    """What `read` makes of each file; one that nothing can be made of is told, and left out of the figures."""
    found = []
    for key, path in track(files, title, total=total, console=console, transient=True):
        try:
            made = read(path)
        except (ValueError, OSError) as error:
            console.print(f"left out: {path}: {error}", soft_wrap=True, highlight=False)
            continue
        if made is not None:
            found.append((key, made))
    return found


def _measure_skab(folder: Path, console: Console) -> dict[str, float | int]:
    files = sorted(folder.rglob("*.csv"))
    judged = _each(((path, path) for path in files), len(files), "SKAB", _judged, console)
    if not judged:
        raise typer.BadParameter(f"no labelled recording in {folder}")
    return skab_scores([rows for _, (rows, _) in judged], [changes for _, (_, changes) in judged])


def _measure_tep(folder: Path, console: Console) -> tuple[str, dict[str, object]]:
    normal = folder / "d00.dat"
    if not normal.is_file():
        raise typer.BadParameter(f"no d00.dat in {folder}")
    tep_set, files = _tep_files(folder)
    quiet = [path for path in (folder / "d00_te.dat",) if tep_set == "test" and path.is_file()]
    undisturbed = [rows for _, rows in _each(enumerate(quiet), len(quiet), "TEP", _tep, console)]
    first_row = TEP_TEST_FIRST if tep_set == "test" else 0
    faults = _each(files.items(), len(files), "TEP", partial(_fault, first_row=first_row), console)
    if all(fault in TEP_HIDDEN for fault, _ in faults):
        raise typer.BadParameter(f"no fault in {folder} can be read")
    try:
        learned = _tep(normal)
    except ValueError as error:
        raise typer.BadParameter(f"{normal}: {error}") from error
    return tep_set, tep_scores(learned, track(faults, "TEP", console=console, transient=True), undisturbed, first_row)


def _measure_recorded(
    data: Path, console: Console
) -> tuple[dict[str, float | int] | None, str | None, dict[str, object] | None]:
    """SKAB's figures, which TEP set was judged and its figures; None for a set whose folder is not there."""
    there = {name for name in ("skab", "tep") if (data / name).is_dir()}
    if not there:
        raise typer.BadParameter(f"neither skab nor tep in {data}")
    for name in sorted({"skab", "tep"} - there):
        console.print(f"no {name} in {data}: its figures are null")
    skab = _measure_skab(data / "skab", console) if "skab" in there else None
    tep_set, tep = _measure_tep(data / "tep", console) if "tep" in there else (None, None)
    return skab, tep_set, tep


def detection(
    data: Annotated[Path, typer.Option("--data", help="Folder with skab/ and tep/.", exists=True, file_okay=False)],
    hours: Annotated[
        float, typer.Option(min=0.0, help="Simulated hours of each shipped plant, half with incidents; 0: none.")
    ] = HOURS,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same simulated hours.")] = SEED,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on the last line.")] = False,
) -> None:
    """Measure how early and how rarely wrongly the normal-operation model warns on SKAB and the Tennessee Eastman.

    And the early warnings of limits, on the simulated plants.
    """
    console = Console(stderr=True)
    try:
        skab, tep_set, tep = _measure_recorded(data, console)
    except (NormalModelError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error
    plants = measure_plants(hours, seed, console) if hours else {}
    if as_json:
        typer.echo(json.dumps({"skab": skab, "tep": tep, "tep_set": tep_set, "plants": plants}))
        return
    told: Mapping[str, Mapping[str, object]] = {"skab": skab or {}, f"tep ({tep_set} set)": tep or {}, **plants}
    for name, scores in told.items():
        typer.echo(name)
        for key, value in scores.items():
            if key not in ("faults", "by_kind"):
                typer.echo(f"  {key.replace('_', ' ')}: {value}")
