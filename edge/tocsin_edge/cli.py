"""The verb `tocsin edge`: runs one gateway of a plant until it is told to stop."""

import asyncio
import logging
import sqlite3
import sys
from pathlib import Path
from typing import Annotated

import structlog
import typer

from tocsin_core.clock import SystemClock
from tocsin_core.plant import PlantError, load_plant
from tocsin_edge.app import run, stop_on_signals
from tocsin_edge.settings import EdgeSettings, compile_settings


def edge(
    plant: Annotated[Path, typer.Argument(help="Folder of the plant.")],
    gateway: Annotated[str, typer.Option(help="Which of the plant's gateways this is.")],
    data: Annotated[Path, typer.Option(help="Where it keeps its files.")] = Path("var"),
) -> None:
    """Run a gateway: read its instruments, keep every reading until the cloud has it, and send it up."""
    _log_to_stderr()
    try:
        settings = compile_settings(load_plant(plant), gateway, data)
    except (PlantError, ValueError, OSError) as error:
        raise _refusal(str(error).splitlines()[0]) from error
    try:
        asyncio.run(_until_signal(settings))
    except (OSError, sqlite3.Error) as error:
        raise _refusal(f"{settings.spool}: {error}") from error


async def _until_signal(settings: EdgeSettings) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    await run(settings, SystemClock(), stop)


def _refusal(reason: str) -> typer.Exit:
    typer.echo(reason, err=True)
    return typer.Exit(2)


def _log_to_stderr() -> None:
    terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
