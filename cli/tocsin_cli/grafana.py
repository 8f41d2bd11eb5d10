"""`tocsin grafana push`: the dashboards and their data sources into a Grafana, as often as you like."""

import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Final

import typer

from tocsin_cloud.adapters.grafana import SHIPPED, Grafana, GrafanaError, Put, push

REFUSED_EXIT: Final = 1
TOKEN: Final = "TOCSIN_GRAFANA_TOKEN"  # noqa: S105 -- the variable's name

app = typer.Typer(help="Put Tocsin's dashboards into a Grafana.")
app.callback()(lambda: None)


@app.command("push")
def push_all(
    url: Annotated[str, typer.Option(help="Where Grafana is: https://HOST[:PORT][/PATH].")],
    *,
    token: Annotated[
        str,
        typer.Option(envvar=TOKEN, help="Token of a service account with the role Admin; rather in the environment."),
    ],
    dashboards: Annotated[
        Path, typer.Option("--from", help="Folder of the dashboards.", exists=True, file_okay=False)
    ] = SHIPPED,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON object.")] = False,
) -> None:
    """Make or bring up to date: folders, dashboards in both languages, and the data sources whose addresses are set.

    The data sources' addresses come from the environment, as for Grafana's provisioning: TOCSIN_PROMETHEUS_URL,
    TOCSIN_POSTGRES_HOST, _DATABASE, _USER, _PASSWORD, _SSLMODE.
    """
    try:
        grafana = Grafana(url, token)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--url") from error
    done: list[Put] = []
    failed = ""
    try:
        for put in push(grafana, dashboards, os.environ, f"tocsin {version('tocsin')}"):
            done.append(put)
            if not as_json:
                typer.echo(f"{put.what} {put.uid}: {put.outcome}{f' ({put.reason})' if put.reason else ''}")
    except GrafanaError as error:
        failed = str(error)
    except (OSError, ValueError, KeyError) as error:
        raise typer.BadParameter(f"{dashboards}: {error}", param_hint="--from") from error
    if as_json:
        typer.echo(json.dumps({"put": [put._asdict() for put in done], "error": failed or None}, ensure_ascii=False))
    if failed:
        typer.echo(f"tocsin: {failed}", err=True)
        raise typer.Exit(REFUSED_EXIT)
