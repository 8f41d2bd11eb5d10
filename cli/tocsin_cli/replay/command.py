"""`tocsin replay`: its arguments, the run with its progress, and the report."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo

import typer
from rich.console import Console
from rich.table import Table

from tocsin_cli.replay.page import page
from tocsin_cli.replay.recording import Recording, RecordingError
from tocsin_cli.replay.source import Source, read_source, told_progress
from tocsin_core.plant import load_plant
from tocsin_core.readings import Frame
from tocsin_core.replay import Occurrence, Report, judged, occurrences, play, report
from tocsin_core.rules import NS, Rules, compile_rules

FILE_WIDTH: Final = 120


def replay(
    plant: Annotated[Path, typer.Argument(help="Folder of the plant.", exists=True, file_okay=False)],
    *,
    source: Annotated[
        str, typer.Option("--from", metavar="FILE.csv|START/END", help="Recorded table, or a stretch of the historian.")
    ],
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
    label: Annotated[
        str | None, typer.Option("--label", help="FILE.csv: column that is 1 where something was wrong, else 0.")
    ] = None,
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0.0, help="Seconds beside a labelled stretch that count as in it.")
    ] = 30.0,
    html: Annotated[Path | None, typer.Option("--html", help="Write the picture here.", dir_okay=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON object.")] = False,
) -> None:
    """Run the plant's alarm rules over recorded data: how often they speak, how early, how often wrongly."""
    loaded = load_plant(plant)
    rules = compile_rules(loaded)
    try:
        recording = read_source(loaded, plant, Source(source, data, column_map, label))
    except RecordingError as error:
        raise typer.BadParameter(str(error)) from error
    found, result, computed = _play(rules, recording, tolerance)
    if html is not None:
        seen = replace(recording, frame=Frame.concat((recording.frame, computed)))
        try:
            html.write_text(page(loaded, rules, seen, found, result, Path(source).name), encoding="utf-8")
        except OSError as error:
            raise typer.BadParameter(f"{html}: {error.strerror}") from error
    _tell(result, recording, html, ZoneInfo(loaded.site.timezone))
    if as_json:
        typer.echo(json.dumps(_json(result, recording, found, rules), ensure_ascii=False))


def _play(rules: Rules, recording: Recording, tolerance_s: float) -> tuple[list[Occurrence], Report, Frame]:
    """What was raised, what there is to say of it, and the readings of computed points."""
    frame = recording.frame
    is_judged = judged(rules, frame)
    transitions, late, computed = [], 0, []
    with told_progress("replaying", len(frame)) as (progress, task):
        for played in play(rules, frame):
            transitions += played.transitions
            late += played.late
            computed.append(played.computed)
            progress.advance(task, played.readings)
    found = [each for each in occurrences(transitions) if is_judged[each.definition]]
    told = report(rules, frame, found, is_judged, late, recording.labels, tolerance_s)
    return found, told, Frame.concat(computed)


def _time(time_ns: int, zone: ZoneInfo) -> str:
    return f"{datetime.fromtimestamp(time_ns / NS, UTC).astimezone(zone):%Y-%m-%d %H:%M:%S}"


def _tell(result: Report, recording: Recording, html: Path | None, zone: ZoneInfo) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = FILE_WIDTH
    for remark in recording.remarks:
        console.print(remark, highlight=False, style="dim", soft_wrap=True)
    if result.not_judged:
        rules = f"{len(result.not_judged)} rules are not judged (their points have no readings, or too seldom for them)"
        console.print(rules, highlight=False, style="dim", soft_wrap=True)
    hours = (result.end_ns - result.start_ns) / NS / 3600
    console.print(
        f"{_time(result.start_ns, zone)} to {_time(result.end_ns, zone)} ({hours:.2f} h): "
        f"{result.readings} readings of {result.points} points, {result.occurrences} alarms"
        + "".join(f", {count} {priority}" for priority, count in result.by_priority.items() if count)
        + (f"; {result.late} late readings" if result.late else ""),
        highlight=False,
        soft_wrap=True,
    )
    _tell_rules(result, console)
    _tell_earlies(result, console)
    if result.worst_at_ns is not None:
        flood = ": an alarm flood" if result.flood else ""
        when = _time(result.worst_at_ns, zone)
        console.print(f"at most {result.worst_10_min} alarms in 10 min, from {when} on{flood}", highlight=False)
    if result.labels is not None:
        held = result.labels
        console.print(
            f"{held.detected} of {held.stretches} labelled stretches found; {held.false_alarms} false alarms "
            f"(outside of them by more than {held.tolerance_s:g} s), {held.false_alarms_per_day:.1f} a day",
            highlight=False,
            soft_wrap=True,
        )
    if html is not None:
        console.print(f"picture: {html}", highlight=False, soft_wrap=True)


def _tell_rules(result: Report, console: Console) -> None:
    table = Table(box=None, header_style="dim")
    labelled = result.labels is not None
    for name in ("rule", "priority", "raised", "a day", "standing s", *(("false",) if labelled else ())):
        table.add_column(name, justify="left" if name in ("rule", "priority") else "right", no_wrap=True)
    for each in sorted(result.rules, key=lambda each: -each.occurrences):
        if each.occurrences:
            false = "—" if each.false_alarms is None else str(each.false_alarms)
            row = (
                each.alarm,
                str(each.priority),
                str(each.occurrences),
                f"{each.per_day:.1f}",
                f"{each.standing_s:.0f}",
            )
            table.add_row(*row, *((false,) if labelled else ()))
    if table.row_count:
        console.print(table)


def _tell_earlies(result: Report, console: Console) -> None:
    table = Table(box=None, header_style="dim")
    for name in ("early warning", "limit", "warned", "foreseen", "unfulfilled", "lead s", "p10 s"):
        table.add_column(name, justify="left" if name in ("early warning", "limit") else "right", no_wrap=True)
    for each in result.early:
        leads = ["—" if lead is None else f"{lead:.0f}" for lead in (each.lead_median_s, each.lead_p10_s)]
        foreseen = f"{each.foreseen} of {each.limits}"
        table.add_row(each.alarm, each.limit, str(each.warnings), foreseen, str(each.unfulfilled), *leads)
    if table.row_count:
        console.print(table)


def _json(result: Report, recording: Recording, found: Sequence[Occurrence], rules: Rules) -> dict[str, Any]:
    def time(time_ns: int | None) -> str | None:
        return None if time_ns is None else datetime.fromtimestamp(time_ns / NS, UTC).isoformat().replace("+00:00", "Z")

    return {
        "start": time(result.start_ns),
        "end": time(result.end_ns),
        "readings": result.readings,
        "points": result.points,
        "late": result.late,
        "alarms": result.occurrences,
        "by_priority": {str(priority): count for priority, count in result.by_priority.items()},
        "worst_10_min": {"alarms": result.worst_10_min, "from": time(result.worst_at_ns), "flood": result.flood},
        "rules": [asdict(rule) for rule in result.rules],
        "early": [asdict(early) for early in result.early],
        "raised": [
            {
                "alarm": rules.definitions[each.definition].id,
                "at": time(each.raised_ns),
                "returned": time(each.returned_ns),
                "value": each.value if isfinite(each.value) else None,
                "reason": each.reason,
            }
            for each in found
        ],
        "labels": None if result.labels is None else asdict(result.labels),
        "not_judged": list(result.not_judged),
        "remarks": list(recording.remarks),
    }
