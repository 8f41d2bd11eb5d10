"""`tocsin edge` is light: a gateway that runs has imported nothing that only others need, and takes its arguments."""

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.edge.rig import Gateway, Slave, modbus_device, plant
from tests.support.wait import eventually_async

COMMAND = [sys.executable, "-c", "from tocsin_cli.main import main; main()"]
TELLING = """
import atexit, json, sys
atexit.register(lambda: print(json.dumps(sorted(sys.modules))))
from tocsin_cli.main import main
main()
"""
OTHERS = {
    "rich",
    "ruamel.yaml",
    "typer",
    "tocsin_cli.application",
    "tocsin_cloud",
    "tocsin_sim",
    "pymodbus",
    "cryptography",
    "duckdb",
    "sqlalchemy",
    "fastapi",
    "nats",
}


class TellingGateway(Gateway):
    """A real gateway process that tells in the end what it has imported."""

    def __init__(self, folder: Path, data: Path) -> None:
        """Start nothing yet."""
        super().__init__(folder, data)
        self._command[2] = TELLING


def test_what_checks_a_plant_file_is_not_made_before_one_is_read() -> None:
    """The models of gateways, devices and points take a twentieth of a start; the child that reads it makes its own."""
    told = "from tocsin_core.plant.model import Device, Gateway, Point; import tocsin_edge.cli; "
    told += "print([each.__pydantic_complete__ for each in (Gateway, Device, Point)])"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[False, False, False]"


def test_a_gateway_has_imported_nothing_of_others(tmp_path: Path) -> None:
    """One that has read and kept something, and could not send it, had no need of a larger command line or a cloud."""
    gateway = TellingGateway(tmp_path / "plant", tmp_path / "data")

    async def story() -> None:
        async with Slave({1: 1.5}).serve() as slave:
            plant(tmp_path / "plant", 9, {"A": modbus_device("A", slave.port, 1)})
            gateway.start()
            await eventually_async(lambda: gateway.spool.exists() and bool(gateway.counters().get("batch_last")))
            assert gateway.end(signal.SIGTERM) == 0

    try:
        asyncio.run(story())
    finally:
        gateway.stop()
    imported = json.loads(gateway.log.read_text(encoding="utf-8").splitlines()[-1])
    assert "tocsin_edge.app" in imported
    assert OTHERS.isdisjoint(imported)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((), "the following arguments are required: PLANT, --gateway"),
        (("{}", "--gateway"), "argument --gateway: expected one argument"),
        (("{}/none", "--gateway", "gw"), "argument PLANT: '{}/none' does not exist"),
        (("{}", "--gateway", "gw", "--trial", "0.5"), "argument --trial: '0.5' is not a number of seconds from 1 on"),
        (("{}", "--gateway", "gw"), "plant.yaml:1: no plant.yaml in {}"),
        (("{}", "--gateway", "gw", "--gate", "x"), "unrecognized arguments: --gate x"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(tmp_path: Path, arguments: tuple[str, ...], line: str) -> None:
    """As of every verb, with exit code 2, though it reads its arguments by itself."""
    given = [each.format(tmp_path) for each in arguments]
    done = subprocess.run([*COMMAND, "edge", *given], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"tocsin: {line.format(tmp_path)}\n")


def test_the_gateways_verb_stands_among_the_others() -> None:
    """`tocsin --help` lists it, and its own help comes from itself."""
    every = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, timeout=60, check=True).stdout
    own = subprocess.run([*COMMAND, "edge", "--help"], capture_output=True, text=True, timeout=60, check=True).stdout
    assert "  edge        Run a gateway: read its instruments" in every
    assert "--uplink HOST:PORT" in own
