"""`tocsin audit`: the chain of the cloud side's audit log walked from end to end, and the log written out."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tocsin_cli.cloud_data import Data, Json, Sql, on_database
from tocsin_cloud.adapters.audit import Verdict, entries, verify
from tocsin_cloud.adapters.audit_chain import Link
from tocsin_cloud.adapters.sql.engine import Database

BROKEN_EXIT: Final = 1

app = typer.Typer(help="Check and write out the audit log of the cloud side.")


@app.command("verify")
def verify_log(
    data: Data = Path("var"),
    *,
    sql: Sql = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="What an earlier `verify --json` printed, kept where nobody of this machine can change it."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Walk the chain of hashes from the first entry to the last; exit 1 at the first place where it does not hold."""
    known = None if checkpoint is None else _link(checkpoint)

    async def work(database: Database) -> Verdict:
        console = Console(stderr=True)
        columns = (TextColumn("audit log"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            bar = progress.add_task("audit log", total=None)
            async with database.read() as session:
                return await verify(
                    session, known, lambda done, total: progress.update(bar, completed=done, total=total)
                )

    found = on_database(data, sql, work)
    if as_json:
        broken = None if found.broken is None else {**asdict(found.broken), "kind": str(found.broken.kind)}
        told = {"sound": broken is None, "entries": found.entries, "last": found.last._asdict(), "broken": broken}
        typer.echo(json.dumps(told, ensure_ascii=False))
    elif found.broken is None:
        typer.echo(f"the audit log is sound: {found.entries} entries, the last of them {found.last.hash}")
    else:
        typer.echo(f"{found.broken.kind}: {found.broken.told}; {found.entries} entries before it hold")
    if found.broken is not None:
        raise typer.Exit(BROKEN_EXIT)


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="Where the entries go, one JSON object a line.", dir_okay=False)],
    data: Data = Path("var"),
    *,
    sql: Sql = None,
    after: Annotated[int, typer.Option(min=0, help="Only entries with a higher number than this.")] = 0,
    as_json: Json = False,
) -> None:
    """Write the entries out as JSON lines, with all that is needed to walk the chain elsewhere."""

    async def work(database: Database) -> int:
        written = 0
        # What somebody put in place of a text is written out as it stands.
        with file.open("w", encoding="utf-8", errors="surrogateescape") as lines:
            async with database.read() as session:
                async for entry, hashed in entries(session, after):
                    lines.write(json.dumps({**asdict(entry), "hash": hashed}, ensure_ascii=False, default=repr) + "\n")
                    written += 1
        return written

    written = on_database(data, sql, work)
    typer.echo(json.dumps({"entries": written, "file": str(file)}) if as_json else f"{file}: {written} entries")


def _link(checkpoint: Path) -> Link:
    try:
        last = json.loads(checkpoint.read_text(encoding="utf-8").splitlines()[-1])["last"]
        return Link(int(last["seq"]), str(last["hash"]))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise typer.BadParameter(f"{checkpoint} is not what `tocsin audit verify --json` prints: {error}") from error
