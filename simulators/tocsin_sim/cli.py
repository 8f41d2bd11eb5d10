"""`tocsin sim`: the command line of the simulator."""

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer

from tocsin_sim.app import load_world, main
from tocsin_sim.player import RecordError
from tocsin_sim.settings import Settings
from tocsin_sim.simulation import SimulationError


def sim(
    plant: Annotated[
        Path, typer.Argument(help="Folder of a plant with a simulation.yaml.", file_okay=False, exists=True)
    ],
    scenario: Annotated[str | None, typer.Option(help="What happens; the plant's own default if left out.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed and scenario give the same registers.")] = 1,
    speed: Annotated[float, typer.Option(min=0.01, max=1000.0, help="Scenario seconds in a second.")] = 1.0,
    play: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv", help="Recorded table to serve, on plants made for one.", dir_okay=False, exists=True
        ),
    ] = None,
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="End with one JSON object: how far the scenario got.")
    ] = False,
) -> None:
    """Serve a simulated plant: Modbus devices and MQTT sensors, moved by physics and a scenario, or by a record."""
    settings = Settings(plant=plant, scenario=scenario, seed=seed, speed=speed, play=play)
    try:
        reached_s = asyncio.run(main(*load_world(settings), settings))
    except (SimulationError, RecordError, OSError, RuntimeError) as error:
        raise typer.BadParameter(str(error)) from error
    if as_json:
        typer.echo(json.dumps({"scenario_s": round(reached_s, 1), "seed": seed}))
