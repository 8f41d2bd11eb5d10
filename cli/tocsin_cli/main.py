"""The `tocsin` command: its verbs, and one clear line for whatever was given wrong."""

import gc
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Final, NamedTuple

from tocsin_cli.cancelling import keep_cancellations
from tocsin_cli.exits import INTERRUPTED_EXIT, USAGE_EXIT
from tocsin_cli.logs import log_to_stderr


class Verb(NamedTuple):
    """Where a verb's function (or application of its own verbs) is, and the extra that brings what it imports.

    `light`: its function takes its arguments as they are, so that it starts without all that the others need. It begins
    with the collector off.
    """

    module: str
    function: str
    needs: str
    extra: str
    light: bool = False


VERBS: Final = {
    "check": Verb("tocsin_cli.check", "check", "tocsin_core", ""),
    "demo": Verb("tocsin_cli.demo.command", "demo", "fastapi", "cloud,edge,sim"),
    "edge": Verb("tocsin_edge.cli", "edge", "aiomqtt", "edge", light=True),
    "status": Verb("tocsin_cli.status", "status", "tocsin_edge", ""),
    "gateway": Verb("tocsin_cli.gateway", "app", "tocsin_edge", ""),
    "cloud": Verb("tocsin_cloud.cli", "cloud", "fastapi", "cloud"),
    "user": Verb("tocsin_cli.user", "app", "sqlalchemy", "cloud"),
    "grafana": Verb("tocsin_cli.grafana", "app", "grafana_client", "cloud"),
    "audit": Verb("tocsin_cli.audit", "app", "sqlalchemy", "cloud"),
    "backup": Verb("tocsin_cli.backup", "backup", "sqlalchemy", "cloud"),
    "restore": Verb("tocsin_cli.backup", "restore", "sqlalchemy", "cloud"),
    "replay": Verb("tocsin_cli.replay.command", "replay", "tocsin_core", ""),
    "test-rules": Verb("tocsin_cli.rule_tests", "rule_tests", "tocsin_core", ""),
    "broker": Verb("tocsin_cli.broker", "app", "nats", "cloud"),
    "sim": Verb("tocsin_sim.cli", "sim", "pymodbus", "sim"),
    "learn": Verb("tocsin_cli.learn", "learn", "tocsin_core", ""),
    "plan": Verb("tocsin_cli.plan", "plan", "tocsin_core", ""),
    "profile": Verb("tocsin_cli.profile", "app", "tocsin_core", ""),
    "bench": Verb("tocsin_cli.bench", "app", "tocsin_core", ""),
}


def _run(arguments: list[str]) -> int:
    """Do what is asked, with as little as it needs: a gateway begins before all that the others need is imported."""
    called = next((argument for argument in arguments if not argument.startswith("-")), None)
    verbs = VERBS if called not in VERBS else {called: VERBS[called]}
    installed = {name: verb for name, verb in verbs.items() if find_spec(verb.needs) is not None}
    if called in VERBS and not installed:
        sys.stderr.write(f"tocsin: `tocsin {called}` needs the extra: pip install 'tocsin[{VERBS[called].extra}]'\n")
        return USAGE_EXIT
    if called in VERBS and VERBS[called].light and arguments[0] == called:
        # It would look through all that is imported again and again, of which nothing becomes free.
        gc.disable()
        code: int = getattr(import_module(VERBS[called].module), VERBS[called].function)(arguments[1:])
        return code
    from tocsin_cli.application import run_application  # noqa: PLC0415 -- what a light verb does without

    return run_application(installed, arguments)


def main() -> None:
    """Run the command line; exits 2 with one line on stderr when an argument or a file is wrong."""
    log_to_stderr()
    keep_cancellations()
    try:
        code = _run(sys.argv[1:])
    except KeyboardInterrupt:
        code = INTERRUPTED_EXIT
    sys.exit(code)
