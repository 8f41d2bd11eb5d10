"""The ThingsBoard gateway in a side-by-side run: its files at their best, and the far end that it waits for."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import aiomqtt

from tests.bench.side_by_side.counter import Arrival
from tests.bench.side_by_side.devices import BLOCKS, REGISTERS, VALUES
from tests.bench.side_by_side.peer import Message, Peer, Start, run_installer

# The gateway installs this very version of pymodbus when it first needs it: it is given it beforehand.
PACKAGES: Final = ("thingsboard-gateway==3.8.5", "pymodbus==3.9.2", "pyserial", "pyserial-asyncio")
TOLD: Final = ("thingsboard-gateway", "tb-mqtt-client", "pymodbus")
TELEMETRY: Final = "v1/gateway/telemetry"
ASKS: Final = "v1/devices/me/rpc/request/"
ANSWERS: Final = "v1/devices/me/rpc/response/"
NO_LIMIT: Final = "0:0,"
PACK: Final = 1000
FILES: Final = 100
LIMITS: Final = (
    "rateLimits",
    "dpRateLimits",
    "messagesRateLimits",
    "deviceMessagesRateLimits",
    "deviceRateLimits",
    "deviceDpRateLimits",
)


class ThingsBoard(Peer):
    """thingsboard-gateway of PyPI in a virtual environment of its own."""

    name = "thingsboard-gateway"

    def __init__(self) -> None:
        self._environment = Path()

    def install(self, folder: Path) -> dict[str, str]:
        """Make the virtual environment, unless it is there, and install the packages with pip."""
        self._environment = folder / "thingsboard"
        python = self._environment / "bin" / "python"
        if not python.exists():
            run_installer((sys.executable, "-m", "venv", str(self._environment)), folder, os.environ)
        run_installer((str(python), "-m", "pip", "install", "--quiet", *PACKAGES), folder, os.environ)
        listing = (str(python), "-m", "pip", "list", "--format", "json", "--disable-pip-version-check")
        listed = json.loads(subprocess.run(listing, capture_output=True, check=True).stdout)
        return {each["name"]: each["version"] for each in listed if each["name"] in TOLD} | {
            "python": sys.version.split()[0]
        }

    def configure(self, folder: Path, ports: Sequence[int], mqtt: int, period_s: float) -> Start:
        """File storage, QoS 1, no rate limit, small pauses; each block of registers one question, as it can."""
        config = folder / "config"
        config.mkdir(parents=True)
        gateway = {
            "thingsboard": {
                "host": "127.0.0.1",
                "port": mqtt,
                "remoteShell": False,
                "remoteConfiguration": False,
                "statistics": {"enable": False},
                "deviceFiltering": {"enable": False},
                "checkingDeviceActivity": {"checkDeviceInactivity": False},
                "maxPayloadSizeBytes": 65536,
                "minPackSendDelayMS": 50,
                "minPackSizeToSend": 500,
                "qos": 1,
                "security": {"type": "accessToken", "accessToken": "bench"},
                "reportStrategy": {"type": "ON_RECEIVED"},
                **dict.fromkeys(LIMITS, NO_LIMIT),
            },
            "storage": {
                "type": "file",
                "data_folder_path": f"{folder}/data/",
                "max_file_count": FILES,
                "max_read_records_count": PACK,
                "max_records_per_file": 10_000,
                "max_records_between_fsync": 1,
            },
            "grpc": {"enabled": False},
            "connectors": [{"name": "bench", "type": "modbus", "configuration": "modbus.json"}],
        }
        slaves = [_slave(number, port, period_s) for number, port in enumerate(ports, start=1)]
        (config / "tb_gateway.json").write_text(json.dumps(gateway), encoding="utf-8")
        (config / "modbus.json").write_text(
            json.dumps({"name": "bench", "logLevel": "ERROR", "master": {"slaves": slaves}}), encoding="utf-8"
        )
        (config / "logs.json").write_text(json.dumps(_logging()), encoding="utf-8")
        program = str(self._environment / "bin" / "thingsboard-gateway")
        return Start((program,), folder, {"TB_GW_CONFIG_DIR": str(config)})

    @asynccontextmanager
    async def host(self, mqtt: int) -> AsyncIterator[None]:
        """Answer the one question that the gateway asks before it sends anything: that it has no limits."""
        async with aiomqtt.Client("127.0.0.1", mqtt, keepalive=0) as client:
            await client.subscribe(f"{ASKS}+", qos=1)
            answering = asyncio.create_task(_answer(client))
            try:
                yield
            finally:
                answering.cancel()
                with suppress(asyncio.CancelledError, aiomqtt.MqttError):
                    await answering

    def arrivals(self, messages: Iterable[Message]) -> list[Arrival]:
        """Every value of the telemetry."""
        found: list[Arrival] = []
        for message in messages:
            if message.topic != TELEMETRY:
                continue
            for device, packs in json.loads(message.payload).items():
                for pack in packs:
                    found += [
                        Arrival(int(device[1:]), _place(key), value, pack["ts"], message.at_s)
                        for key, value in pack["values"].items()
                    ]
        return found


async def _answer(client: aiomqtt.Client) -> None:
    limits = json.dumps({"rateLimits": {}, "gatewayRateLimits": {}, "maxPayloadSize": 65536, "maxInflightMessages": 0})
    async for message in client.messages:
        await client.publish(ANSWERS + str(message.topic).removeprefix(ASKS), limits, qos=1)


def _slave(number: int, port: int, period_s: float) -> dict[str, object]:
    return {
        "host": "127.0.0.1",
        "port": port,
        "type": "tcp",
        "method": "socket",
        "unitId": 1,
        "deviceName": f"d{number}",
        "deviceType": "default",
        "timeout": 1,
        "retries": False,
        "byteOrder": "BIG",
        "wordOrder": "BIG",
        "pollPeriod": round(period_s * 1000),
        "connectAttemptTimeMs": 500,
        "connectAttemptCount": 5,
        "waitAfterFailedAttemptsMs": 30_000,
        "attributes": [],
        "timeseries": [_block(number, first) for number, first in enumerate(BLOCKS)],
        "attributeUpdates": [],
        "rpc": [],
    }


def _block(number: int, first: int) -> dict[str, object]:
    """A range read with one question; ranges with the same tag would be taken for one."""
    registers = REGISTERS * VALUES
    return {
        "tag": f"b{number}r${{address}}",
        "type": "32uint",
        "functionCode": 3,
        "objectsCount": REGISTERS,
        "address": f"{first}-{first + registers - 1}",
        "maxRegistersPerRequest": registers,
    }


def _place(key: str) -> int:
    block, address = map(int, key[1:].split("r"))
    return block * VALUES + (address - BLOCKS[block]) // REGISTERS


def _logging() -> dict[str, object]:
    """Its own loggers as it ships them, but quieter and to standard output alone."""
    named = ("service", "connector", "converter", "storage", "tb_connection", "extension", "database")
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"said": {"class": "logging.StreamHandler", "level": "INFO", "stream": "ext://sys.stdout"}},
        "loggers": {name: {"level": "WARNING"} for name in named},
        "root": {"level": "ERROR", "handlers": ["said"]},
    }
