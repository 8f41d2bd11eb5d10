"""Which TCP ports a demo needs, a copy of its plant on other ones where they are held, and one start at a time."""

import fcntl
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tocsin_core.plant import Plant, load_plant
from tocsin_sim.simulation import Link

LOOPBACK: Final = "127.0.0.1"
_PORT: Final = re.compile(r"\bport:\s*(\d+)")

Address = tuple[str, int]


def free_port() -> int:
    """A loopback port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def is_taken(address: Address) -> bool:
    """Whether another program holds `address`."""
    host, port = address
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False


def uplink(plant: Plant) -> Address:
    """Where the plant's gateways expect the broker."""
    broker = next(gateway.uplink for gateway in plant.file.gateways if not gateway.external)
    return broker.host, broker.port


def instruments(plant: Plant) -> set[Address]:
    """The addresses of the plant's Modbus devices, outputs and push-buttons; those on a serial line have none."""
    found = [device.modbus for gateway in plant.file.gateways for device in gateway.devices]
    for gateway in plant.file.gateways:
        found += [output.modbus for output in gateway.outputs]
        found += [button.modbus for button in gateway.acknowledge]
    return {(modbus.host, modbus.port) for modbus in found if modbus is not None and modbus.serial is None}


def taken(plant: Plant, links: Sequence[Link]) -> list[Address]:
    """The addresses (broker, Modbus devices, `links` to be cut) of `plant` that another program holds."""
    needed = instruments(plant) | {uplink(plant)} | {(link.host, link.port) for link in links}
    return sorted(filter(is_taken, needed))


def accepts(address: Address) -> bool:
    """Whether somebody takes connections at `address`."""
    try:
        socket.create_connection(address, timeout=0.2).close()
    except OSError:
        return False
    return True


@contextmanager
def starting_alone() -> Iterator[Callable[[], None]]:
    """Let one demo at a time choose ports and start; call what is given once everything of this one listens.

    Between finding a port free and listening on it another demo could find the same.
    """
    with (Path(tempfile.gettempdir()) / f"tocsin-demo-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lambda: fcntl.flock(lock, fcntl.LOCK_UN)


def moved(folder: Path, home: Path, ports: set[int]) -> Path:
    """A copy of the plant in `folder`, under `home`, in which each of `ports` is another, free one; equal stay equal.

    The copy has the plant's own name, and is made anew on every start.
    """
    copy = home / "plant" / folder.name
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    instead = {port: free_port() for port in ports}
    for file in copy.glob("*.yaml"):
        text = file.read_text(encoding="utf-8")
        file.write_text(
            _PORT.sub(lambda match: f"port: {instead.get(int(match[1]), match[1])}", text), encoding="utf-8"
        )
    return copy


def on_free_ports(plant: Plant, folder: Path, links: Sequence[Link], home: Path) -> tuple[Plant, Path, list[Address]]:
    """The plant and its folder as they can run here, and the addresses that had to be left to others."""
    held = taken(plant, links)
    if not held:
        return plant, folder, []
    copy = moved(folder, home, {port for _, port in held})
    return load_plant(copy), copy, held
