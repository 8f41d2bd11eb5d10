"""`tocsin demo`: its arguments, and what is checked before anything starts."""

import asyncio
import fcntl
import json
import os
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated, Final, TextIO

import typer
from rich.console import Console

from tocsin_cli.demo.plan import Options
from tocsin_cli.demo.ports import LOOPBACK, Address, free_port, is_taken, on_free_ports, starting_alone
from tocsin_cli.demo.processes import SupervisorError
from tocsin_cli.demo.report import Row
from tocsin_cli.demo.run import How, Run, password_of
from tocsin_core.clock import SystemClock
from tocsin_core.plant import Plant, load_plant
from tocsin_sim.app import links_of, load_world
from tocsin_sim.player import RecordError
from tocsin_sim.settings import Settings
from tocsin_sim.simulation import SimulationError

DEFAULT_PLANT: Final = "ammonia-refrigeration"
PLAYED_PLANT: Final = "skab-pump-loop"
PAGE_PORT: Final = 8420
LAST_PORT: Final = 65535


def _folder(plant: Path | None, play: Path | None) -> Path:
    if plant is not None:
        return plant
    with as_file(files("tocsin_sim").joinpath("plants", DEFAULT_PLANT if play is None else PLAYED_PLANT)) as folder:
        return folder.resolve()


def _lock(data: Path) -> TextIO:
    """Hold the data folder: two demos on one would undo each other. Released by the system when this process ends."""
    lock = (data / "demo.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise typer.BadParameter(f"another demo is running on {data}") from error
    return lock


def _page(text: str | None) -> Address:
    """Where the page is: as given, else the usual port or, where that is held by another program, a free one."""
    if text is None:
        usual = (LOOPBACK, PAGE_PORT)
        return (LOOPBACK, free_port()) if is_taken(usual) else usual
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or not 1 <= int(port) <= LAST_PORT:
        raise typer.BadParameter(f"{text!r} is not HOST:PORT")
    address = (host or LOOPBACK, int(port))
    if is_taken(address):
        raise typer.BadParameter(f"{text} is in use by another program")
    return address


def _check_plant(settings: Settings) -> None:
    """Refuse, before anything starts, what the simulator would refuse after everything else has."""
    try:
        load_world(settings)
    except (SimulationError, RecordError, OSError) as error:
        raise typer.BadParameter(str(error)) from error


async def _run(plant: Plant, options: Options, how: How, console: Console) -> Row:
    return await Run(plant, options, how, console, SystemClock()).run()


def demo(  # noqa: PLR0913 -- the options of a command are its arguments
    plant: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of the plant; an ammonia refrigeration plant if left out.", exists=True, file_okay=False
        ),
    ] = None,
    *,
    headless: Annotated[bool, typer.Option("--headless", help="No live table.")] = False,
    seconds: Annotated[
        float | None, typer.Option("--seconds", min=1.0, help="End by itself after so long, with a report.")
    ] = None,
    speed: Annotated[
        float, typer.Option("--speed", min=0.1, max=100.0, help="How much faster than real the plant runs.")
    ] = 1.0,
    play: Annotated[
        Path | None,
        typer.Option(
            "--play", help="Recorded plant data (CSV) instead of the simulated plant.", exists=True, dir_okay=False
        ),
    ] = None,
    scenario: Annotated[
        str | None, typer.Option("--scenario", help="What happens to the plant; its own default if left out.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of every random thing in the plant.")] = 1,
    data: Annotated[
        Path | None, typer.Option("--data", help="Where everything is kept; var/demo/<plant> if left out.")
    ] = None,
    http: Annotated[str | None, typer.Option("--http", help="HOST:PORT of the page.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON object.")] = False,
) -> None:
    """Run a simulated plant, its gateways, the broker and the cloud side, and let an incident happen."""
    folder = _folder(plant, play)
    loaded = load_plant(folder)
    _check_plant(Settings(folder, scenario, seed, speed, play))
    home = data or Path("var") / "demo" / loaded.name
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    console = Console(stderr=True)
    with _lock(home), starting_alone() as started:
        runnable, place, held = on_free_ports(loaded, folder, links_of(folder, scenario), home.resolve())
        for host, port in held:
            console.print(f"{host}:{port} is in use by another program: the demo takes another port", style="yellow")
        page = _page(http)
        if http is None and page[1] != PAGE_PORT:
            console.print(f"port {PAGE_PORT} is in use by another program: the page takes another port", style="yellow")
        links = tuple(links_of(place, scenario))
        options = Options(place, home.resolve(), scenario, seed, speed, play, links, page, (LOOPBACK, free_port()))
        os.environ["TOCSIN_ADMIN_PASSWORD"] = password_of(home)
        try:
            how = How(headless, seconds, as_json, started)
            result = asyncio.run(_run(runnable, options, how, console))
        except SupervisorError as error:
            console.print(f"tocsin: {error}", style="red", highlight=False)
            raise typer.Exit(1) from error
    if as_json:
        typer.echo(json.dumps(result, ensure_ascii=False))
