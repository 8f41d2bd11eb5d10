"""Neuron with its open Modbus and MQTT plugins in a side-by-side run, told over its own HTTP interface what to do."""

import json
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx

from tests.bench.side_by_side.counter import PLACES, Arrival
from tests.bench.side_by_side.devices import address_of
from tests.bench.side_by_side.given import GivenPeer
from tests.bench.side_by_side.peer import Message, NotInstalledError, Start
from tests.support.ports import free_port
from tests.support.wait import eventually

TOPIC: Final = "neuron/data"
APP: Final = "uplink"
GROUP: Final = "all"
READ: Final = 1
UINT32: Final = 6
STARTS_S: Final = 20.0
# Modbus addresses as its tags name them: unit, area 4 (holding registers), register counted from 1.
ADDRESS: Final = "1!4{:05d}"


class Neuron(GivenPeer):
    """The program that `TOCSIN_BENCH_NEURON` names, with `plugins` and `config` beside it as its build leaves them."""

    name = "neuron"
    variable = "TOCSIN_BENCH_NEURON"

    def configure(self, folder: Path, ports: Sequence[int], mqtt: int, period_s: float) -> Start:
        """A node a device with one group; QoS 1, what waits for the broker kept in memory and on disk; no pauses."""
        for name in ("logs", "persistence"):
            (folder / name).mkdir(parents=True)
        beside = self._program.parent
        shutil.copytree(beside / "config", folder / "config")
        port = free_port()
        settings = folder / "config" / "neuron.json"
        told = json.loads(settings.read_text(encoding="utf-8")) | {"ip": "127.0.0.1", "port": port}
        settings.write_text(json.dumps(told), encoding="utf-8")
        files = (
            "--config_file",
            "config/neuron.json",
            "--config_dir",
            "config",
            "--plugin_dir",
            str(beside / "plugins"),
        )
        start = Start((str(self._program), "--disable_auth", *files), folder)
        with _talking(start, port) as tell:
            tell("node", {"name": APP, "plugin": "MQTT", "params": _uplink(mqtt)})
            group = {"group": GROUP, "interval": round(period_s * 1000), "tags": _tags()}
            nodes = {f"d{number}": device for number, device in enumerate(ports, start=1)}
            for node, device in nodes.items():
                tell("node", {"name": node, "plugin": "Modbus TCP", "params": _device(device)})
                tell("gtags", {"node": node, "groups": [group]})
            # All at once: what it keeps of a single subscription may be memory that it has freed already.
            published = [{"driver": node, "group": GROUP, "params": {"topic": TOPIC}} for node in nodes]
            tell("subscribes", {"app": APP, "groups": published})
        return start

    def arrivals(self, messages: Iterable[Message]) -> list[Arrival]:
        """Every value of every group's messages."""
        found: list[Arrival] = []
        for message in messages:
            if message.topic != TOPIC:
                continue
            held = json.loads(message.payload)
            found += [
                Arrival(int(held["node"][1:]), int(name[1:]), value, held["timestamp"], message.at_s)
                for name, value in held["values"].items()
            ]
        return found


class _Tell:
    """Its HTTP interface."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def __call__(self, what: str, body: Mapping[str, Any]) -> None:
        answer = self._client.post(f"/api/v2/{what}", json=body)
        if answer.status_code != httpx.codes.OK:
            raise NotInstalledError(f"neuron does not take {what}: {answer.status_code} {answer.text}")

    def listens(self) -> bool:
        try:
            return self._client.post("/api/v2/ping").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False


@contextmanager
def _talking(start: Start, port: int) -> Iterator[_Tell]:
    """Run it to be told what to do, which it keeps at once; it is killed when left: asked to end, it may hang."""
    with (start.folder / "told.log").open("ab") as out, httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        process = subprocess.Popen(start.command, cwd=start.folder, stdout=out, stderr=out)
        try:
            tell = _Tell(client)
            eventually(tell.listens, STARTS_S)
            yield tell
        finally:
            process.kill()
            process.wait()


def _uplink(port: int) -> dict[str, object]:
    return {
        "client-id": "bench",
        "qos": 1,
        "format": 0,
        "upload_err": False,
        "write-req-topic": "neuron/write/req",
        "write-resp-topic": "neuron/write/resp",
        "driver-topic-prefix": "neuron/driver",
        "offline-cache": True,
        "cache-mem-size": 16,
        "cache-disk-size": 256,
        "cache-sync-interval": 10,
        "host": "127.0.0.1",
        "port": port,
        "ssl": False,
    }


def _device(port: int) -> dict[str, object]:
    return {
        "connection_mode": 0,
        "check_header": 1,
        "max_retries": 0,
        "retry_interval": 0,
        "interval": 0,
        "host": "127.0.0.1",
        "port": port,
        "timeout": 1000,
    }


def _tags() -> list[dict[str, object]]:
    return [
        {"name": f"p{place}", "address": ADDRESS.format(address_of(place) + 1), "attribute": READ, "type": UINT32}
        for place in range(PLACES)
    ]
