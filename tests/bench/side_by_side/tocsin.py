"""`tocsin edge` in a side-by-side run: its plant file, and a host that acknowledges as the cloud side does."""

import re
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Final

from tests.bench.side_by_side.counter import PLACES, Arrival
from tests.bench.side_by_side.devices import address_of, value_of
from tests.bench.side_by_side.peer import Message, Peer, Start, run_installer
from tocsin_cli.bench.gateway_host import Host
from tocsin_cli.bench.programs import TOCSIN, with_compiled_files
from tocsin_core.clock import SystemClock
from tocsin_core.sparkplug.payload import parse

SITE: Final = "bench"
NODE: Final = "gw"
DATA: Final = "DDATA"
BIRTH: Final = "DBIRTH"
POINT: Final = re.compile(r"d\d+p\d+")


class Tocsin(Peer):
    """This project's gateway."""

    name = "tocsin edge"

    def __init__(self) -> None:
        """Nothing is compiled yet."""
        self._environment: dict[str, str] = {}

    def install(self, folder: Path) -> dict[str, str]:
        """It is installed: it is what this runs in. Only its files are compiled here, as pip does it for the others."""
        self._environment = with_compiled_files(folder / "tocsin")
        run_installer((*TOCSIN, "edge", "--help"), folder, self._environment)
        return {"tocsin": version("tocsin"), "python": sys.version.split()[0]}

    def configure(self, folder: Path, ports: Sequence[int], mqtt: int, period_s: float) -> Start:
        """One plant: a device a port, every value a point."""
        values = "".join(
            f"  v{place}: {{address: {address_of(place)}, type: u32, word_order: ABCD}}\n" for place in range(PLACES)
        )
        profiles = folder / "plant" / "profiles"
        profiles.mkdir(parents=True)
        (profiles / "bench.yaml").write_text(
            f"vendor: Tocsin\nmodel: bench\ntrust: interop-verified\nsource: the benchmark\nvalues:\n{values}",
            encoding="utf-8",
        )
        most = value_of(len(ports) + 1, 0, 0)
        lines = ["tocsin: 1", f"site: {{id: {SITE}, name: bench}}", "gateways:", f"  - id: {NODE}"]
        lines += [f"    uplink: {{host: 127.0.0.1, port: {mqtt}}}", "    devices:"]
        for number, port in enumerate(ports, start=1):
            lines += [
                f"      - id: d{number}",
                "        profile: bench",
                f"        period_ms: {round(period_s * 1000)}",
            ]
            lines += [f"        modbus: {{host: 127.0.0.1, port: {port}, unit: 1, timeout_ms: 1000, retries: 0}}"]
            lines += ["        points:"]
            lines += [
                f"          - {{id: d{number}p{place}, name: d{number}p{place}, kind: generic, register: v{place},"
                f" unit: bar, range: [0, {most}]}}"
                for place in range(PLACES)
            ]
        (folder / "plant" / "plant.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
        verb = ("edge", str(folder / "plant"), "--gateway", NODE, "--data", str(folder / "data"))
        return Start((*TOCSIN, *verb), folder, self._environment)

    @asynccontextmanager
    async def host(self, mqtt: int) -> AsyncIterator[None]:
        """Acknowledge once a second, as the cloud side does after its commit."""
        async with Host(SITE, NODE, mqtt, SystemClock()).listen():
            yield

    def arrivals(self, messages: Iterable[Message]) -> list[Arrival]:
        """Every number in the data messages; births, which repeat the newest values by rule, are not counted."""
        found: list[Arrival] = []
        aliases: dict[tuple[str, int], str] = {}
        for message in messages:
            parts = message.topic.split("/")
            if len(parts) < 5 or parts[2] not in (BIRTH, DATA):
                continue
            for metric in parse(message.payload).metrics:
                if parts[2] == BIRTH and metric.name:
                    aliases[parts[4], metric.alias] = metric.name
                name = metric.name or aliases.get((parts[4], metric.alias), "")
                if parts[2] != DATA or metric.is_null or POINT.fullmatch(name) is None:
                    continue
                device, place = map(int, name[1:].split("p"))
                found.append(Arrival(device, place, round(metric.double_value), metric.timestamp, message.at_s))
        return found
