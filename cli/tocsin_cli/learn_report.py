"""What `tocsin learn` says: of each model and each chart what it holds and how often it will be wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import typer
from rich.console import Console
from rich.table import Table

from tocsin_cli.learn_plant import Lesson, stated_per_week
from tocsin_core import normal
from tocsin_core.detectors.change import Calibration
from tocsin_core.normal import NormalModel
from tocsin_core.plant import AlarmKind, Plant

FILE_WIDTH: Final = 120
LEAST_SHOWN: Final = 0.001


def of_model(model: NormalModel, place: str, *, replaced: bool) -> dict[str, Any]:
    """The report of one model; `place` is where it was written, `replaced` whether there was one before."""
    per_week, at_most = normal.falsely_raised_per_week(model)
    limits = normal.limits_of(model)
    return {
        "model": place,
        "replaced": replaced,
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


def of_charts(
    lesson: Lesson, asked: Mapping[str, Sequence[AlarmKind]], before: Mapping[str, Calibration]
) -> list[dict[str, Any]]:
    """The report of each point's charts, with the alarms that ask for them."""
    return [
        {
            "point": point,
            "alarms": [str(kind) for kind in asked[point]],
            "replaced": point in before,
            **asdict(charts),
            "false_alarms_per_week": stated_per_week(asked[point], charts),
        }
        for point, charts in lesson.charts.items()
    ]


def tell_model(report: Mapping[str, Any]) -> None:
    """One model in words, a line for each figure."""
    for key, value in report.items():
        typer.echo(f"{key.replace('_', ' ')}: {value}")


def tell_charts(reports: Sequence[Mapping[str, Any]], plant: Plant) -> None:
    """The charts as a table; a threshold that no alarm asks for is in brackets."""
    table = Table(box=None, header_style="dim")
    for name in ("point", "mean", "σ", "step s", "autocorrelation", "left", "cusum h", "a week", "ewma L", "a week"):
        table.add_column(name, justify="left" if name == "point" else "right", no_wrap=True)
    for each in reports:
        decimals = plant.points[plant.point_index[each["point"]]].decimals
        cells = [each["point"], f"{each['mean']:.{decimals}f}", f"{each['sigma']:.3g}", f"{each['step_s']:g}"]
        cells += [f"{each['rho']:.2f}", f"{each['left']:.2f}"]
        for kind, threshold in (("cusum", "h"), ("ewma", "width")):
            per_week = each[f"{kind}_per_week"]
            held = (f"{each[threshold]:.2f}", f"{per_week:.3f}" if per_week >= LEAST_SHOWN else f"<{LEAST_SHOWN}")
            cells += held if kind in each["alarms"] else [f"({cell})" for cell in held]
        table.add_row(*cells)
    console = Console()
    if not console.is_terminal:
        console.width = FILE_WIDTH
    if table.row_count:
        console.print(table)


def tell_sum(report: Mapping[str, Any]) -> None:
    """What replaced something, what was kept, what could not be learned and why, and the sum for the plant."""
    replaced = [each["point"] for each in report["charts"] if each["replaced"]]
    if replaced:
        typer.echo(f"charts replaced: {', '.join(replaced)}")
    if report["kept"]:
        typer.echo(f"charts kept as they were: {', '.join(report['kept'])}")
    for each in report["not_learned"]:
        typer.echo(f"not learned: {each['what']}: {each['why']}")
    if report["charts"]:
        typer.echo(
            f"the plant's {report['chart_alarms']} chart alarms state {report['chart_false_alarms_per_week']:.2f} "
            "false alarms a week in all"
        )
