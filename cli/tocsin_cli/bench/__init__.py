"""`tocsin bench`: what is measured, each a subcommand of its own."""

import typer

from tocsin_cli.bench.detection import detection
from tocsin_cli.bench.engine import engine

app = typer.Typer(help="Measure the system and print the figures.", no_args_is_help=True, rich_markup_mode=None)
app.callback()(lambda: None)
app.command("detection")(detection)
app.command("engine")(engine)

__all__ = ["app"]
