"""`tocsin sim` as a user starts it: in a process of its own."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import tocsin
from tests.support.nats import listens
from tests.support.plants import PLANTS, copy_plant
from tests.support.wait import eventually
from tocsin_core.plant import load_plant

START = [sys.executable, "-m", "tocsin_cli", "sim"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([str(PLANTS / "ammonia-refrigeration"), "--scenario", "flood"], "no scenario 'flood'; there are: calm, leak"),
        ([str(PLANTS / "skab-pump-loop")], "give one with --play FILE.csv"),
        ([str(PLANTS / "skab-pump-loop"), "--play", __file__], "test_cli.py:1: no column datetime"),
        ([str(PLANTS / "skab-pump-loop"), "--play", sys.executable], "can't decode byte"),
        ([str(PLANTS / "ammonia-refrigeration"), "--play", __file__], "cannot --play one"),
        ([str(PLANTS)], "plant.yaml"),
        ([str(PLANTS / "nowhere")], "nowhere"),
    ],
)
def test_a_wrong_start_is_one_clear_line_and_exit_2(arguments: list[str], problem: str) -> None:
    """Nothing is started, and what was wrong is on stderr."""
    done = tocsin("sim", *arguments)
    assert done.returncode == 2
    assert problem in done.stderr
    assert done.stderr.count("\n") == 1


def test_it_serves_until_told_to_end(tmp_path: Path) -> None:
    """Its ports listen, and SIGTERM ends it with 0, without a broker as well."""
    folder = copy_plant("coal-mine-face", tmp_path)
    modbus = load_plant(folder).file.gateways[0].devices[0].modbus
    assert modbus is not None
    with subprocess.Popen(
        [*START, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        eventually(lambda: listens(modbus.port))
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "simulator ready" in output
    assert not listens(modbus.port)
