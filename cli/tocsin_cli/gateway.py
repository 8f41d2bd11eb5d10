"""`tocsin gateway`: the alarms that a running gateway decides, and commands for them, on the gateway's own machine."""

import getpass
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from tocsin_cli.status import folder_of
from tocsin_core.foreign import LONGEST_TEXT, is_writable
from tocsin_core.lifecycle import Verb
from tocsin_edge.adapters.metrics import ask, tell

REFUSED_EXIT: Final = 1
MINUTE_S: Final = 60.0

app = typer.Typer(help="The alarms of a gateway, on its own machine; its certificates, on the cloud side's.")
# A gateway's box has neither the cloud side's libraries nor its data.
if find_spec("nats") is not None:
    from tocsin_cli import enrolment

    app.command()(enrolment.enroll)
    app.command()(enrolment.renew)
    app.command()(enrolment.revoke)
    app.command("list")(enrolment.list_certificates)

Data = Annotated[Path, typer.Option(help="Where the gateway keeps its files.")]
Which = Annotated[str | None, typer.Option(help="Which one, where there are several in the folder.")]
Alarms = Annotated[list[str], typer.Argument(help="Alarms, each POINT/KIND.")]
Who = Annotated[str | None, typer.Option(help="Who asks; the user of this machine if left out.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Because = Annotated[str, typer.Option(help="Why; the journal keeps it.")]


@app.command()
def alarms(data: Data = Path("var"), *, gateway: Which = None, as_json: Json = False) -> None:
    """List the alarms that are not at rest, the outputs and the push-buttons."""
    found = _parsed(data, gateway)
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
        return
    for each in found["alarms"]:
        typer.echo("  ".join(filter(None, (each["alarm"], each["priority"], each["phase"], _hidden(each)))))
    for each in found["outputs"]:
        known = {True: "on", False: "off", None: "unknown"}[each["known"]]
        wanted = "on" if each["wanted"] else "off"
        typer.echo(f"{each['kind']} {each['id']}: should be {wanted}, is {known}" + _because(each))
    for each in found["leaving"]:
        typer.echo(f"{each['kind']} {each['id']}: no longer in the plant file, to be switched off" + _because(each))
    for each in found["buttons"]:
        typer.echo(f"button {each['id']}: pressed {each['presses']} times" + _because(each))
    journal = found["journal"]
    typer.echo(f"{len(found['alarms'])} of {found['decided']} alarms; journal {journal['newest']}, ", nl=False)
    typer.echo(f"the cloud side has it up to {journal['committed']}")


@app.command()
def ack(
    names: Annotated[list[str] | None, typer.Argument(help="Alarms, each POINT/KIND; all that wait if none.")] = None,
    data: Data = Path("var"),
    *,
    gateway: Which = None,
    who: Who = None,
    reason: Because = "",
    as_json: Json = False,
) -> None:
    """Acknowledge alarms."""
    _do(folder_of(data, gateway), who, as_json=as_json, verb=Verb.ACKNOWLEDGE, alarms=names or None, reason=reason)


@app.command()
def reset(
    names: Alarms, data: Data = Path("var"), *, gateway: Which = None, who: Who = None, as_json: Json = False
) -> None:
    """Reset latched alarms that were acknowledged."""
    _do(folder_of(data, gateway), who, as_json=as_json, verb=Verb.RESET, alarms=names)


@app.command()
def shelve(
    names: Alarms,
    reason: Annotated[str, typer.Option(help="Why; it must be said.")],
    minutes: Annotated[float, typer.Option(min=0.0, help="For how long.")],
    data: Data = Path("var"),
    *,
    once: Annotated[bool, typer.Option(help="Until the alarm returns, at the longest.")] = False,
    gateway: Which = None,
    who: Who = None,
    as_json: Json = False,
) -> None:
    """Hide alarms for a while."""
    _do(
        folder_of(data, gateway),
        who,
        as_json=as_json,
        verb=Verb.SHELVE,
        alarms=names,
        reason=reason,
        duration_s=minutes * MINUTE_S,
        once=once,
    )


@app.command()
def unshelve(
    names: Alarms, data: Data = Path("var"), *, gateway: Which = None, who: Who = None, as_json: Json = False
) -> None:
    """Take alarms from the shelf."""
    _do(folder_of(data, gateway), who, as_json=as_json, verb=Verb.UNSHELVE, alarms=names)


def _do(folder: Path, who: str | None, *, as_json: bool, **wish: object) -> None:
    """Have the gateway of `folder` do as `who` wishes, and say what came of it; exit 1 if any of it was refused."""
    wish["who"] = who or _user()
    for name, value in wish.items():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and not is_writable(text):
                raise typer.BadParameter(f"{name}: not UTF-8, or longer than {LONGEST_TEXT} characters")
    try:
        body = json.dumps(wish)
        found: dict[str, Any] = json.loads(tell(folder, "/alarms", body))
    except OSError as error:
        raise typer.BadParameter(f"the gateway does not answer: {error}") from error
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
    else:
        for outcome in found["outcomes"]:
            typer.echo(f"{outcome['alarm']}: {outcome['refusal'] or 'done'}")
        if not found["outcomes"]:
            typer.echo("no alarm waits to be acknowledged")
    if any(outcome["refusal"] for outcome in found["outcomes"]):
        raise typer.Exit(REFUSED_EXIT)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A machine that does not know its user by name.
        return "local"


def _parsed(data: Path, gateway: str | None) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(ask(folder_of(data, gateway), "/alarms"))
    except OSError as error:
        raise typer.BadParameter(f"the gateway does not answer: {error}") from error
    return found


def _hidden(alarm: dict[str, Any]) -> str:
    words = []
    if alarm["shelved_until_ns"]:
        words.append("shelved")
    if alarm["out_of_service"]:
        words.append("out of service")
    if alarm["suppressed"]:
        words.append("suppressed by design")
    return ", ".join(words)


def _because(chore: dict[str, Any]) -> str:
    return f" ({chore['reason']})" if chore["reason"] else ""
