"""`tocsin test-rules`: runs the tests that users write for their rules, and shows what differs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import Progress

from tocsin_core.plant import Plant, PlantError, Problem, load_plant
from tocsin_core.rule_tests import LEGEND, Case, Outcome, RuleTestError, draw, parse, run

SUFFIXES: Final = (".yaml", ".yml")


def find(place: Path) -> list[Path]:
    """The files of rule tests in a folder and those below it, by name; or the one file.

    Raises:
        typer.BadParameter: there are none.
    """
    files = [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.suffix in SUFFIXES)
    if not files:
        raise typer.BadParameter(f"no .yaml files in {place}")
    return files


def load(file: Path, shown: str) -> tuple[Case, ...]:
    """The tests of one file, called `shown` in messages; the plant that it names lies relative to the file.

    Raises:
        RuleTestError: with every problem of the file.
    """

    def open_plant(folder: str) -> Plant:
        place = file.parent / folder
        if not place.is_dir():
            raise PlantError([Problem(folder, 1, "", "no such folder")])
        return load_plant(place)

    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise RuleTestError([Problem(shown, 1, "", str(error.strerror))]) from error
    except UnicodeDecodeError as error:
        raise RuleTestError([Problem(shown, 1, "", f"not UTF-8: {error.reason} at byte {error.start}")]) from error
    return parse(text, shown, open_plant)


def _run_all(cases: list[Case], progress: Progress) -> Iterator[Outcome]:
    task = progress.add_task("rule tests", total=len(cases))
    for case in cases:
        progress.update(task, description=f"{case.line.file} {case.name}")
        yield run(case)
        progress.advance(task)


def _tell(file: str, outcomes: list[Outcome]) -> None:
    typer.echo(file)
    for outcome in outcomes:
        typer.echo(f"  {'ok    ' if outcome.passed else 'FAILED'}  {outcome.case.name}")
        for failure in outcome.failures:
            typer.echo(f"          {failure}")
        if not outcome.passed:
            for line in draw(outcome):
                typer.echo(f"          {line}".rstrip())


def _json(outcomes: list[Outcome], problems: list[Problem]) -> dict[str, Any]:
    return {
        "ok": not problems and all(outcome.passed for outcome in outcomes),
        "passed": sum(outcome.passed for outcome in outcomes),
        "failed": sum(not outcome.passed for outcome in outcomes),
        "problems": [{"file": p.file, "line": p.line, "path": p.path, "message": p.message} for p in problems],
        "tests": [
            {
                "file": outcome.case.line.file,
                "line": outcome.case.line.number,
                "name": outcome.case.name,
                "ok": outcome.passed,
                "failures": [{"line": f.line.number, "message": f.message} for f in outcome.failures],
            }
            for outcome in outcomes
        ],
    }


def rule_tests(
    place: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder with files of rule tests (*.yaml), or one file.", exists=True)
    ],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON object.")] = False,
) -> None:
    """Test alarm rules: series of readings in, the alarms that are expected at times; exit 1 where one differs."""
    cases: dict[str, list[Case]] = {}
    problems: list[Problem] = []
    for file in find(place):
        shown = file.name if place.is_file() else str(file.relative_to(place))
        try:
            cases[shown] = list(load(file, shown))
        except RuleTestError as error:
            problems += error.problems
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        outcomes = list(_run_all([case for group in cases.values() for case in group], progress))
    for problem in problems:
        typer.echo(str(problem), err=True)
    for shown in cases:
        _tell(shown, [outcome for outcome in outcomes if outcome.case.line.file == shown])
    result = _json(outcomes, problems)
    if result["failed"]:
        typer.echo(LEGEND)
    broken = f", {len(problems)} problems in the files" if problems else ""
    typer.echo(f"{result['passed']} ok, {result['failed']} failed{broken}")
    if as_json:
        typer.echo(json.dumps(result, ensure_ascii=False))
    raise typer.Exit(0 if result["ok"] else 1)
