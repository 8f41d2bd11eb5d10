"""The verb `tocsin edge`: runs one gateway of a plant until it is told to stop."""

import asyncio
import json
import os
import sqlite3
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from tocsin_core.clock import SystemClock
from tocsin_core.plant import load_plant
from tocsin_edge.adapters.memory import apart
from tocsin_edge.adapters.service_manager import ServiceManager
from tocsin_edge.app import run, stop_on_signals
from tocsin_edge.loops.managed import TRIAL_S
from tocsin_edge.settings import EdgeSettings, compile_settings


def edge(
    plant: Annotated[Path, typer.Argument(help="Folder of the plant.", exists=True, file_okay=False)],
    gateway: Annotated[str, typer.Option(help="Which of the plant's gateways this is.")],
    data: Annotated[Path, typer.Option(help="Where it keeps its files.")] = Path("var"),
    *,
    uplink: Annotated[
        str | None, typer.Option(help="HOST:PORT at which the broker is reached, where it is not the plant file's.")
    ] = None,
    metrics: Annotated[
        str | None, typer.Option(help="PORT of 127.0.0.1, or HOST:PORT, at which Prometheus gets its figures.")
    ] = None,
    trial: Annotated[
        float, typer.Option(min=1.0, help="Seconds in which a plant file sent from the cloud side must prove good.")
    ] = TRIAL_S,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON object: the spool's counters.")] = False,
) -> None:
    """Run a gateway: read its instruments, keep every reading until the cloud has it, and send it up."""
    loaded = apart(partial(load_plant, plant))
    try:
        settings = compile_settings(loaded, gateway, data, uplink)
        counters = asyncio.run(_until_signal(settings, metrics, trial))
    except (ValueError, OSError, sqlite3.Error) as error:
        raise typer.BadParameter(str(error)) from error
    if as_json:
        typer.echo(json.dumps(counters))


async def _until_signal(settings: EdgeSettings, metrics: str | None, trial_s: float) -> dict[str, int]:
    stop = asyncio.Event()
    stop_on_signals(stop)
    return await run(settings, SystemClock(), stop, ServiceManager.of(os.environ, os.getpid()), metrics, trial_s)
