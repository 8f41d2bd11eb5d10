"""The side-by-side run: `python -m tests.bench.side_by_side [--json]`, the same faults for each gateway in turn."""

import argparse
import asyncio
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from tests.bench.side_by_side.bed import bed
from tests.bench.side_by_side.neuron import Neuron
from tests.bench.side_by_side.nodered import NodeRed
from tests.bench.side_by_side.peer import NotInstalledError, Peer
from tests.bench.side_by_side.run import SCRIPT, Plan, Step, killings, run
from tests.bench.side_by_side.telegraf import Telegraf
from tests.bench.side_by_side.thingsboard import ThingsBoard
from tests.bench.side_by_side.tocsin import Tocsin
from tocsin_core.clock import SystemClock

PEERS: Final[dict[str, type[Peer]]] = {
    "tocsin": Tocsin,
    "thingsboard": ThingsBoard,
    "nodered": NodeRed,
    "telegraf": Telegraf,
    "neuron": Neuron,
}


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.side_by_side", description=__doc__)
    parser.add_argument("--only", action="append", choices=PEERS, help="one of the gateways; may be repeated")
    parser.add_argument("--seed", type=int, default=1, help="draws the faulty devices and the moments")
    kills = "instead of the script so many kills, 4 to 5 s apart"
    parser.add_argument("--kills", type=int, default=0, metavar="N", help=kills)
    parser.add_argument("--folder", type=Path, help="where peers are installed and logs stay; otherwise temporary")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    return parser.parse_args(arguments)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


async def _one(peer: Peer, folder: Path, mosquitto: str, seed: int, steps: Sequence[Step]) -> dict[str, Any]:
    async with bed(folder, mosquitto, seed) as made:
        return await run(peer, made, Plan.drawn(seed, steps), lambda what: _say(f"{peer.name}: {what}"))


def measure(names: Sequence[str], folder: Path, mosquitto: str, seed: int, steps: Sequence[Step]) -> dict[str, Any]:
    """Every gateway's figures, or why there are none."""
    found: dict[str, Any] = {}
    for name in names:
        peer = PEERS[name]()
        _say(f"{peer.name}: installing")
        try:
            versions = peer.install(folder)
        except NotInstalledError as error:
            _say(f"{peer.name}: left out: {error}")
            found[name] = {"not_installed": str(error)}
            continue
        at = folder / f"{name}-{SystemClock().now_ns() // 1_000_000_000}"
        at.mkdir()
        try:
            found[name] = {"versions": versions} | asyncio.run(_one(peer, at, mosquitto, seed, steps))
        except TimeoutError as error:
            found[name] = {"versions": versions, "failed": str(error)}
    machine = {"cores": os.cpu_count(), "system": platform.system(), "machine": platform.machine()}
    return {"seed": seed, "machine": machine, "gateways": found}


def _main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    mosquitto = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if mosquitto is None:
        _say("error: mosquitto is not installed (Debian: apt-get install mosquitto)")
        return 2
    with ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="side-by-side-")))
        folder.mkdir(parents=True, exist_ok=True)
        steps = killings(options.kills) if options.kills else SCRIPT
        found = measure(options.only or list(PEERS), folder.resolve(), mosquitto, options.seed, steps)
    if options.json:
        sys.stdout.write(json.dumps(found) + "\n")
    else:
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
