"""The verb `tocsin edge`: runs one gateway of a plant until it is told to stop."""

import asyncio
import json
import os
import sqlite3
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

from tocsin_core.clock import SystemClock
from tocsin_core.plant import PlantError
from tocsin_edge.adapters.kept_plant import own_plant
from tocsin_edge.adapters.memory import apart, imported, one_heap
from tocsin_edge.adapters.service_manager import ServiceManager
from tocsin_edge.app import run, stop_on_signals
from tocsin_edge.loops.managed import TRIAL_S
from tocsin_edge.settings import EdgeSettings, compile_settings, folder_of


class _Parser(ArgumentParser):
    """Python's own: a gateway that is started anew is not to wait for a larger one."""

    def error(self, message: str) -> NoReturn:
        """Say in one line what is wrong."""
        self.exit(2, f"tocsin: {message}\n")


def edge(arguments: Sequence[str]) -> int:
    """Run a gateway: read its instruments, keep every reading until the cloud has it, and send it up."""
    parser = _parser()
    given = parser.parse_args(arguments)
    one_heap()
    imported()
    try:
        counters = asyncio.run(_until_signal(given))
    except PlantError as error:
        parser.error(error.line)
    except (ValueError, OSError, sqlite3.Error) as error:
        parser.error(str(error))
    if given.json:
        sys.stdout.write(f"{json.dumps(counters)}\n")
    return 0


def _parser() -> ArgumentParser:
    parser = _Parser("tocsin edge", description=edge.__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("plant", type=_folder, metavar="PLANT", help="Folder of the plant.")
    add("--gateway", required=True, metavar="ID", help="Which of the plant's gateways this is.")
    add("--data", type=Path, default=Path("var"), metavar="DIR", help="Where it keeps its files (default: var).")
    where = "Where the broker is reached, if not at the plant file's address; of a cluster every server's, by commas."
    add("--uplink", metavar="HOST:PORT[,HOST:PORT…]", help=where)
    where = "PORT of 127.0.0.1, or HOST:PORT, at which Prometheus gets its figures."
    add("--metrics", metavar="PORT", help=where)
    until = f"Seconds in which a plant file sent from the cloud side must prove good (default: {TRIAL_S:g})."
    add("--trial", type=_trial, default=TRIAL_S, metavar="SECONDS", help=until)
    add("--json", action="store_true", help="End with one JSON object: the spool's counters.")
    return parser


def _folder(text: str) -> Path:
    folder = Path(text)
    if not folder.is_dir():
        raise ArgumentTypeError(f"{text!r} is a file, not a folder" if folder.exists() else f"{text!r} does not exist")
    return folder


def _trial(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 1.0 <= seconds < float("inf"):
        raise ArgumentTypeError(f"{text!r} is not a number of seconds from 1 on")
    return seconds


def _settings(given: Namespace) -> EdgeSettings:
    plant = own_plant(given.plant, given.gateway, folder_of(given.data, given.gateway))
    return compile_settings(plant, given.gateway, given.data, given.uplink)


async def _until_signal(given: Namespace) -> dict[str, int]:
    # Held by nobody here: a version from the cloud side takes their place, and their memory.
    settings = [apart(partial(_settings, given))]
    stop = asyncio.Event()
    stop_on_signals(stop)
    manager = ServiceManager.of(os.environ, os.getpid())
    return await run(settings.pop(), SystemClock(), stop, manager, given.metrics, given.trial)
