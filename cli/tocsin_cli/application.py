"""The command line of all verbs but the light ones: their options, their help, and one line for what is wrong."""

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Final

import typer
from typer.core import TyperGroup

from tocsin_cli.exits import INTERRUPTED_EXIT, USAGE_EXIT
from tocsin_core.plant import PlantError

if TYPE_CHECKING:
    from tocsin_cli.main import Verb

# What a light verb takes it knows by itself, help included.
AS_IT_IS: Final = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def run_application(verbs: Mapping[str, "Verb"], arguments: list[str]) -> int:
    """Do what is asked of one of `verbs`; gives the exit code, 2 with one line on stderr where something is wrong."""
    try:
        code = _application(verbs)(arguments or ["--help"], prog_name="tocsin", standalone_mode=False)
    except PlantError as error:
        return _wrong(error.line)
    except typer.TyperException as error:
        return _wrong(error.format_message().replace("\n", " ") + _where_to_look(error))
    except typer.Abort:
        return INTERRUPTED_EXIT
    if not arguments:
        return USAGE_EXIT
    return code if isinstance(code, int) else 0


def _application(verbs: Mapping[str, "Verb"]) -> typer.Typer:
    app = typer.Typer(
        name="tocsin",
        help="Early warning for major hazard sources.",
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(lambda: None)
    for name, verb in verbs.items():
        _mount(app, name, verb)
    return app


def _mount(app: typer.Typer, name: str, verb: "Verb") -> None:
    found = getattr(import_module(verb.module), verb.function)
    if isinstance(found, typer.Typer):
        app.add_typer(found, name=name)
    elif verb.light:

        def passed_on(context: typer.Context) -> None:
            raise typer.Exit(found(context.args))

        app.command(name, help=found.__doc__, context_settings=AS_IT_IS)(passed_on)
    else:
        app.command(name)(found)


def _where_to_look(error: typer.TyperException) -> str:
    """Where no verb is named, or one that there is not: how to see those that there are."""
    context = getattr(error, "ctx", None)
    if context is not None and isinstance(context.command, TyperGroup):
        return f" (`{context.command_path} --help` lists them)"
    return ""


def _wrong(line: str) -> int:
    sys.stderr.write(f"tocsin: {line}\n")
    return USAGE_EXIT
