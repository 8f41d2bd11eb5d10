"""The `tocsin` command: the verbs of whichever parts are installed, and one clear line for whatever was given wrong."""

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Final, NamedTuple

import typer

from tocsin_cli.logs import log_to_stderr
from tocsin_core.plant import PlantError

USAGE_EXIT: Final = 2


class Verb(NamedTuple):
    """Where a verb's function (or application of its own verbs) is, and the extra that brings what it imports."""

    module: str
    function: str
    needs: str
    extra: str


VERBS: Final = {
    "check": Verb("tocsin_cli.check", "check", "tocsin_core", ""),
    "demo": Verb("tocsin_cli.demo.command", "demo", "fastapi", "cloud,edge,sim"),
    "edge": Verb("tocsin_edge.cli", "edge", "aiomqtt", "edge"),
    "status": Verb("tocsin_cli.status", "status", "tocsin_edge", ""),
    "gateway": Verb("tocsin_cli.gateway", "app", "tocsin_edge", ""),
    "cloud": Verb("tocsin_cloud.cli", "cloud", "fastapi", "cloud"),
    "user": Verb("tocsin_cli.user", "app", "sqlalchemy", "cloud"),
    "audit": Verb("tocsin_cli.audit", "app", "sqlalchemy", "cloud"),
    "replay": Verb("tocsin_cli.replay.command", "replay", "tocsin_core", ""),
    "test-rules": Verb("tocsin_cli.rule_tests", "rule_tests", "tocsin_core", ""),
    "broker": Verb("tocsin_cli.broker", "app", "nats", "cloud"),
    "sim": Verb("tocsin_sim.cli", "sim", "pymodbus", "sim"),
    "learn": Verb("tocsin_cli.learn", "learn", "tocsin_core", ""),
    "plan": Verb("tocsin_cli.plan", "plan", "tocsin_core", ""),
    "profile": Verb("tocsin_cli.profile", "app", "tocsin_core", ""),
    "bench": Verb("tocsin_cli.bench", "app", "tocsin_core", ""),
}


def _mount(app: typer.Typer, name: str, verb: Verb) -> None:
    found = getattr(import_module(verb.module), verb.function)
    if isinstance(found, typer.Typer):
        app.add_typer(found, name=name)
    else:
        app.command(name)(found)


def _application(arguments: list[str]) -> typer.Typer:
    """Mount the one verb that is called, so that a gateway never imports the cloud; for help, all that can be had."""
    app = typer.Typer(
        name="tocsin",
        help="Early warning for major hazard sources.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(lambda: None)
    called = next((argument for argument in arguments if not argument.startswith("-")), None)
    for name, verb in VERBS.items():
        if called in VERBS and name != called:
            continue
        if find_spec(verb.needs) is not None:
            _mount(app, name, verb)
        elif name == called:
            _fail(f"`tocsin {name}` needs the extra: pip install 'tocsin[{verb.extra}]'")
    return app


def _fail(line: str) -> None:
    sys.stderr.write(f"tocsin: {line}\n")
    sys.exit(USAGE_EXIT)


def _plant_line(error: PlantError) -> str:
    more = len(error.problems) - 1
    return f"{error.problems[0]}" + (f" (and {more} more: `tocsin check PLANT` lists them)" if more else "")


def main() -> None:
    """Run the command line; exits 2 with one line on stderr when an argument or a file is wrong."""
    arguments = sys.argv[1:]
    log_to_stderr()
    try:
        code = _application(arguments)(arguments, standalone_mode=False)
    except PlantError as error:
        _fail(_plant_line(error))
    except typer.TyperException as error:
        _fail(error.format_message().replace("\n", " "))
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(130)
    else:
        sys.exit(code if isinstance(code, int) else 0)
