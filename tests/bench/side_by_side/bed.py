"""What every gateway of a side-by-side run stands on: devices, wire, broker, and a subscriber that writes it down."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiomqtt

from tests.bench.side_by_side import devices
from tests.bench.side_by_side.devices import Fault
from tests.bench.side_by_side.link import Link
from tests.bench.side_by_side.peer import Message
from tests.support.ports import free_port
from tocsin_cli.bench.programs import until_listening
from tocsin_core.clock import SystemClock

CANCEL_AGAIN_S: Final = 0.5


@dataclass
class Bed:
    """What a gateway stands on during its run, and everything that was seen."""

    folder: Path
    broker: int
    link: Link
    devices: Process
    ports: Sequence[int]
    clock: SystemClock = field(default_factory=SystemClock)
    messages: list[Message] = field(default_factory=list)

    @property
    def log(self) -> Path:
        """Where the devices write what they hand out."""
        return self.folder / "devices.log"

    async def fault(self, faults: Mapping[int, Fault]) -> None:
        """Let these devices do wrong, and no others."""
        assert self.devices.stdin is not None
        self.devices.stdin.write(json.dumps({str(device): fault for device, fault in faults.items()}).encode() + b"\n")
        await told(self.devices)


async def told(process: Process) -> dict[str, Any]:
    """The next line that a talking program says."""
    assert process.stdout is not None
    said: dict[str, Any] = json.loads(await process.stdout.readline())
    return said


@asynccontextmanager
async def program(*command: str, log: Path, talks: bool = False) -> AsyncIterator[Process]:
    """Run a program of the bed until left."""
    with log.open("ab") as out:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE if talks else None, stdout=PIPE if talks else out, stderr=out
        )
    try:
        yield process
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def bed(folder: Path, mosquitto: str, seed: int) -> AsyncIterator[Bed]:
    """Everything but the gateway: broker, wire, devices, and the subscriber that writes down what comes."""
    broker, clock = free_port(), SystemClock()
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {broker} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n"
        "max_queued_messages 1000000\nmax_inflight_messages 0\n",
        encoding="utf-8",
    )
    module = (sys.executable, "-m", devices.__name__, str(folder / "devices.log"), str(seed))
    async with (
        program(mosquitto, "-c", str(config), log=folder / "broker.log"),
        program(*module, log=folder / "devices.err", talks=True) as served,
        Link(broker).open() as link,
    ):
        await until_listening(broker, clock)
        made = Bed(folder, broker, link, served, (await told(served))["ports"])
        async with aiomqtt.Client("127.0.0.1", broker, keepalive=0) as client:
            await client.subscribe("#", qos=1)
            hearing = asyncio.create_task(_hear(client, made))
            try:
                yield made
            finally:
                # Python 3.11 swallows a cancellation that meets a `wait_for` just done.
                while not hearing.done():
                    hearing.cancel()
                    await asyncio.wait([hearing], timeout=CANCEL_AGAIN_S)
                if not hearing.cancelled():
                    hearing.result()


async def _hear(client: aiomqtt.Client, made: Bed) -> None:
    async for message in client.messages:
        made.messages.append(Message(str(message.topic), bytes(message.payload), made.clock.monotonic()))
