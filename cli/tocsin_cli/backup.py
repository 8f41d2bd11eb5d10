"""`tocsin backup` and `tocsin restore`: everything that the cloud side keeps, into a folder and back."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from sqlalchemy.exc import SQLAlchemyError

from tocsin_cli.cloud_data import PRIVATE, Json, note
from tocsin_cloud.adapters.audit_chain import Deed, Outcome
from tocsin_cloud.adapters.backup import make_backup
from tocsin_cloud.adapters.backup_manifest import PLANT, BackupError, Manifest, Say
from tocsin_cloud.adapters.restore import Into, restore_backup
from tocsin_cloud.adapters.sql.engine import migrate, server_url, sqlite_url
from tocsin_cloud.settings import SQL_FILE, HistoryAddress
from tocsin_core.clock import SystemClock

Data = Annotated[Path, typer.Argument(help="Where the cloud side keeps its files.", exists=True, file_okay=False)]
To = Annotated[Path, typer.Option("--to", help="The backup's folder to be, or a folder that gets it as a subfolder.")]
From = Annotated[Path, typer.Argument(metavar="FROM", help="The backup's folder.", exists=True, file_okay=False)]
Sql = Annotated[
    str | None,
    typer.Option(
        "--sql",
        metavar="URL",
        help="The tables go to postgresql://USER@HOST:PORT/DATABASE, which is empty, instead of a file in --data.",
    ),
]
History = Annotated[
    str | None,
    typer.Option(
        "--history",
        metavar="ADDRESS",
        help="The readings go to this server, of the kind of the one that had them, if not to that.",
    ),
]
Folder = Annotated[Path, typer.Option("--data", help="Where the cloud side is to keep its files: empty, or not there.")]


def backup(data: Data, to: To, *, as_json: Json = False) -> None:
    """Back up everything that the cloud side keeps, but for the stream: while it runs, or not."""
    os.umask(PRIVATE)
    try:
        with _progress() as say:
            place, manifest = make_backup(data, to, SystemClock(), say)
    except (BackupError, OSError) as error:
        raise typer.BadParameter(str(error)) from error
    _note(data, "backup.make", place, manifest)
    _tell({"backup": str(place), **_told(manifest)}, f"{place}: {_in_words(manifest)}", as_json=as_json)
    if not manifest.alarms_at_once:
        typer.echo("the alarms' state is older than the tables: what was decided in between is decided anew", err=True)


def restore(
    source: From, data: Folder = Path("var"), *, sql: Sql = None, history: History = None, as_json: Json = False
) -> None:
    """Restore a backup into an empty folder; gateways then send what it lacks, as far as they keep it."""
    os.umask(PRIVATE)
    try:
        server = None if sql is None else server_url(sql)
        into = Into(
            data, None if server is None else str(server), None if history is None else HistoryAddress.parse(history)
        )
        with _progress() as say:
            manifest = restore_backup(source, into, SystemClock(), say)
        migrate(server or sqlite_url(data / SQL_FILE))
    except (BackupError, OSError, ValueError, SQLAlchemyError) as error:
        raise typer.BadParameter(str(error)) from error
    _note(data, "backup.restore", source, manifest)
    plant = data / PLANT
    _tell(
        {"data": str(data), "plant": str(plant), **_told(manifest)},
        f"{data}: {_in_words(manifest)}\nstart it: tocsin cloud {plant} --data {data}",
        as_json=as_json,
    )


def _note(data: Path, action: str, place: Path, manifest: Manifest) -> None:
    told = _told(manifest)
    note(data, Deed(action, str(place), Outcome.DONE, {name: told[name] for name in ("made_at", "files", "bytes")}))


def _told(manifest: Manifest) -> dict[str, str | int]:
    return {
        "site": manifest.site,
        "made_at": manifest.made_at,
        "tocsin": manifest.tocsin,
        "files": len(manifest.files),
        "bytes": manifest.size,
        "alarms_at_once": manifest.alarms_at_once,
    }


def _in_words(manifest: Manifest) -> str:
    size = f"{len(manifest.files)} files, {manifest.size / 1e6:.1f} MB"
    return f"{manifest.site} as of {manifest.made_at}, {size}"


def _tell(found: dict[str, str | int], text: str, *, as_json: bool) -> None:
    typer.echo(json.dumps(found, ensure_ascii=False) if as_json else text)


@contextmanager
def _progress() -> Iterator[Say]:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=None)
        yield lambda what, done, total: progress.update(bar, description=what, completed=done, total=total or None)
