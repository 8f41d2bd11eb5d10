"""`tocsin check`: every problem of a plant at once, with file, line and path."""

import json
from pathlib import Path
from typing import Annotated

import typer

from tocsin_core.plant import PlantError, load_plant


def check(
    plant: Annotated[Path, typer.Argument(help="Folder of the plant.", exists=True, file_okay=False)],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on the last line.")] = False,
) -> None:
    """Print every problem of a plant and exit 1, or say what the plant holds."""
    try:
        loaded = load_plant(plant)
    except PlantError as error:
        for problem in error.problems:
            typer.echo(str(problem), err=as_json)
        if as_json:
            problems = [{"file": p.file, "line": p.line, "path": p.path, "message": p.message} for p in error.problems]
            typer.echo(json.dumps({"ok": False, "problems": problems}, ensure_ascii=False))
        raise typer.Exit(1) from None
    summary = {
        "ok": True,
        "site": loaded.site.id,
        "hazard_sources": len(loaded.file.hazard_sources),
        "gateways": len(loaded.file.gateways),
        "devices": sum(len(gateway.devices) for gateway in loaded.file.gateways),
        "points": len(loaded.points),
        "alarms": sum(len(point.definitions) for point in loaded.points),
    }
    if as_json:
        typer.echo(json.dumps(summary, ensure_ascii=False))
        return
    counts = ", ".join(
        f"{value} {name.replace('_', ' ')}"
        for name, value in summary.items()
        if isinstance(value, int) and name != "ok"
    )
    typer.echo(f"{plant}: {loaded.site.name.zh} / {loaded.site.name.en}: {counts}; nothing is wrong")
