"""`tocsin bench`: what is measured, each a subcommand of its own."""

from importlib.util import find_spec

import typer

from tocsin_cli.bench.detection import detection
from tocsin_cli.bench.engine import engine

app = typer.Typer(help="Measure the system and print the figures.", rich_markup_mode=None)
app.callback()(lambda: None)
app.command("detection")(detection)
app.command("engine")(engine)
if all(find_spec(needed) is not None for needed in ("aiomqtt", "nats")):
    # Only with the extras of the gateway and of the cloud side, whose broker it stands on.
    from tocsin_cli.bench.faults import faults
    from tocsin_cli.bench.gateway import gateway

    app.command("faults")(faults)
    app.command("gateway")(gateway)
if find_spec("duckdb") is not None:
    from tocsin_cli.bench.history import history

    app.command("history")(history)
if all(find_spec(needed) is not None for needed in ("duckdb", "nats")):
    from tocsin_cli.bench.pipeline import pipeline
    from tocsin_cli.bench.takeover import takeover

    app.command("pipeline")(pipeline)
    app.command("takeover")(takeover)
if all(find_spec(needed) is not None for needed in ("aiomqtt", "duckdb", "nats")):
    from tocsin_cli.bench.rolling import rolling

    app.command("rolling")(rolling)

__all__ = ["app"]
