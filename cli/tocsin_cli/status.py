"""`tocsin status`: one screen that says whether a gateway, or the cloud side, watches its plant, and what not."""

import json
import sqlite3
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from tocsin_cli import status_cloud
from tocsin_cli.spans import span
from tocsin_core.clock import SystemClock
from tocsin_edge.adapters.folder_lock import FolderHeldError, held
from tocsin_edge.adapters.metrics import ask
from tocsin_edge.adapters.metrics_spool import spool_counters, spool_figures, spool_newest

NOT_WATCHED_EXIT: Final = 1
NOT_RUNNING_EXIT: Final = 2
MS_PER_S: Final = 1000.0
NS_PER_MS: Final = 1_000_000

# A gateway's status, and what is left of one in its folder, are JSON.
Status = dict[str, Any]


def status(
    data: Annotated[Path, typer.Option(help="Where the gateway keeps its files.")] = Path("var"),
    *,
    gateway: Annotated[str | None, typer.Option(help="Which one, where there are several in the folder.")] = None,
    at: Annotated[str | None, typer.Option(help="HOST:PORT of its figures, instead of its folder.")] = None,
    cloud: Annotated[
        str | None,
        typer.Option(
            help="http://HOST:PORT of the cloud side instead of a gateway; the API token is in TOCSIN_TOKEN, or in a "
            "file that TOCSIN_TOKEN_FILE names."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say whether a gateway, or with --cloud the cloud side, watches its plant, and what it does not.

    Exit 0, or 1 if something is not watched, or 2 if it does not run.
    """
    if cloud is not None:
        found, lines = status_cloud.asked(cloud), status_cloud.screen
    else:
        found, lines = _asked(at) if at is not None else _of_folder(folder_of(data, gateway)), _screen
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
    else:
        for line in lines(found):
            typer.echo(line)
    if not found["running"]:
        raise typer.Exit(NOT_RUNNING_EXIT)
    if not found["watching"]:
        raise typer.Exit(NOT_WATCHED_EXIT)


def _asked(at: str) -> Status:
    host, _, port = at.rpartition(":")
    if not port.isdecimal():
        raise typer.BadParameter(f"{at!r} is neither PORT nor HOST:PORT")
    try:
        return _parsed(ask(f"{host}:{port}", "/status"))
    except OSError as error:
        return {"gateway": at, "running": False, "faults": [f"no gateway answers at {at}: {error}"]}


def _parsed(text: str) -> Status:
    """Read a gateway's answer.

    Raises:
        ConnectionError: it is none, as of some other program's page.
    """
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if isinstance(found, dict) and "running" in found:
        return found
    raise ConnectionError("that is not how a gateway answers")


def folder_of(data: Path, gateway: str | None) -> Path:
    """The folder of `gateway`, or of the only one, under `data`.

    Raises:
        typer.BadParameter: there is none, or it is not said which.
    """
    folders = sorted(each.name for each in (data / "gateways").glob("*") if each.is_dir())
    if gateway is None and len(folders) == 1:
        gateway = folders[0]
    if gateway is None and folders:
        raise typer.BadParameter(f"there are several in {data}: say --gateway, one of {', '.join(folders)}")
    if gateway not in folders:
        raise typer.BadParameter(f"{data} is no folder of the gateway {gateway or ''}".rstrip())
    return data / "gateways" / gateway


def _of_folder(folder: Path) -> Status:
    try:
        return _parsed(ask(folder, "/status"))
    except OSError as error:
        reason = str(error)
    try:
        with held(folder):
            return _left(folder)
    except FolderHeldError:
        # It runs, but this user may not ask it, or it no longer answers.
        return {"gateway": folder.name, "running": True, "watching": False, "faults": [f"it does not answer: {reason}"]}
    except OSError as error:
        raise typer.BadParameter(f"{folder}: {error.strerror or error}") from error


def _left(folder: Path) -> Status:
    """Tell what a gateway that does not run has left behind."""
    now_ms = SystemClock().now_ns() // NS_PER_MS
    spool = folder / "spool.sqlite"
    found: Status = {"gateway": folder.name, "running": False, "watching": False, "now_ms": now_ms}
    found["faults"] = ["it does not run: nothing is watched"]
    try:
        figures, counters = spool_figures(spool, now_ms, beside_gateway=False), spool_counters(spool)
        newest = spool_newest(spool)
    except sqlite3.Error as error:
        return found | {"warnings": [f"its spool cannot be read: {error}"]}
    dropped = {name: counters[f"readings_dropped_{name}"] for name in ("history", "live")}
    lanes = {name: {"rows": lane.rows, "bytes": lane.bytes} for name, lane in figures.lanes.items()}
    return found | {
        "devices": [{"id": device, "last_ms": last_ms} for device, last_ms in newest.items()],
        "spool": {
            "bytes": figures.bytes,
            "lanes": lanes,
            "oldest_unsent_ms": figures.oldest_unsent_ms,
            "dropped": dropped | {"damaged": counters["readings_damaged"]},
        },
    }


def _screen(found: Status) -> list[str]:
    now_ms, devices = int(found.get("now_ms", 0)), found.get("devices", [])
    head = "watches its plant" if found.get("watching") else "DOES NOT WATCH ALL OF ITS PLANT"
    lines = [f"gateway {found['gateway']}: {head if found['running'] else 'DOES NOT RUN'}"]
    lines += [f"  fault: {text}" for text in found.get("faults", ())]
    lines += [f"  warning: {text}" for text in found.get("warnings", ())]
    if devices and found["running"]:
        watched = sum(device["watched"] for device in devices)
        lines.append(f"devices: {watched} of {len(devices)} watched")
        lines += [_device(device, now_ms) for device in sorted(devices, key=lambda each: bool(each["watched"]))]
        lines += [
            f"line {line['name']}: {'up' if line['up'] else 'DOWN'}, busy {line['utilisation']:.0%} of the time"
            for line in found["lines"]
        ]
    elif devices:
        lines.append("devices, when last heard:")
        lines += [f"  {device['id']}  {_ago(device['last_ms'], now_ms)}" for device in devices]
    if "spool" in found:
        lines.append(_spool(found["spool"], now_ms))
    if "link" in found:
        link = found["link"]
        word = "never since the start" if link["committed_ms"] is None else _ago(link["committed_ms"], now_ms)
        state = "up" if link["connected"] else "DOWN"
        lines.append(f"link: {state} to {link['to']}; the database last took something {word}")
    if "clock" in found:
        lines.append(_clock(found["clock"], now_ms))
    if found.get("slice"):
        lines.append(_slice(found["slice"]))
    return lines


def _slice(piece: Status) -> str:
    version, answer = piece["version"], piece["answer"]
    runs = f"version {version} from the cloud side" if version else "the gateway's own plant file"
    last = (
        "" if answer is None or answer["version"] == version else f"; version {answer['version']} {answer['outcome']}"
    )
    return f"plant: {runs} ({piece['hash'][:12]}), good versions kept: {len(piece['good'])}{last}"


def _clock(clock: Status, now_ms: int) -> str:
    sure = f"synchronised, wrong by {clock['error_ms']:.0f} ms at most" if clock["synchronised"] else ""
    state = sure or f"NOT synchronised: {clock['reason']}"
    step = "" if clock["step_s"] is None else f"; set by {clock['step_s']:+.1f} s last"
    return f"clock: {state}, since {_ago(clock['since_ms'], now_ms)}{step}"


def _device(device: Status, now_ms: int) -> str:
    good = "no good reading yet" if device["last_good_ms"] is None else f"good {_ago(device['last_good_ms'], now_ms)}"
    points = f"{device['good']}/{device['points']} points good"
    mark = "  " if device["watched"] else "! "
    dead = "DEAD, " if device["dead"] else ""
    reason = f"  {dead}{device['reason']}" if device["reason"] else ""
    return f"{mark}{device['id']}  {points}, {good}  ({device['where']}){reason}"


def _spool(spool: Status, now_ms: int) -> str:
    lanes = ", ".join(f"{name} {lane['rows']}" for name, lane in spool["lanes"].items() if name != "committed")
    oldest = "" if spool["oldest_unsent_ms"] is None else f", the oldest from {_ago(spool['oldest_unsent_ms'], now_ms)}"
    size = "" if spool["bytes"] is None else f"; {spool['bytes'] / 1e6:.1f} MB"
    lost = sum(spool["dropped"].values())
    return f"spool: waiting {lanes or '(not counted yet)'}{oldest}{size}; readings lost {lost}"


def _ago(then_ms: int, now_ms: int) -> str:
    return f"{span((now_ms - then_ms) / MS_PER_S)} ago"
