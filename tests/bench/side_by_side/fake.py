"""A gateway that miscounts on purpose, so that the counting itself is proven: it loses, doubles, and mixes up."""

import asyncio
import json
import struct
import sys
from collections.abc import Iterable, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from tests.bench.side_by_side.counter import Arrival
from tests.bench.side_by_side.devices import BLOCKS, HEADER, HOLDING, QUESTION, REGISTERS, VALUES
from tests.bench.side_by_side.peer import Message, Peer, Start
from tocsin_core.clock import SystemClock

TOPIC: Final = "fake"
TIMEOUT_PERIODS: Final = 1.5


class Sin(IntEnum):
    """What it does with an answer, by the last digit of its serial number."""

    LOSES = 3
    SAYS_OF_ANOTHER = 5
    DOUBLES = 7
    DOUBLES_WITH_A_NEW_STAMP = 8


class Fake(Peer):
    """A peer that needs no installation."""

    name = "fake"

    def install(self, folder: Path) -> dict[str, str]:
        """Nothing to do."""
        del folder
        return {}

    def configure(self, folder: Path, ports: Sequence[int], mqtt: int, period_s: float) -> Start:
        """All that it needs are arguments."""
        folder.mkdir()
        root = Path(__file__).resolve().parents[3]
        told = (str(mqtt), str(period_s), *map(str, ports))
        return Start((sys.executable, "-m", __name__, *told), folder, {"PYTHONPATH": str(root)})

    def arrivals(self, messages: Iterable[Message]) -> list[Arrival]:
        """Every value that it published."""
        found: list[Arrival] = []
        for message in messages:
            if message.topic == TOPIC:
                held = json.loads(message.payload)
                found += [
                    Arrival(held["device"], held["place"] + at, value, held["ts"], message.at_s)
                    for at, value in enumerate(held["values"])
                ]
        return found


async def _poll(device: int, port: int, period_s: float, client: mqtt.Client) -> None:
    """Ask for the blocks in turn; an answer is taken for the question that is out, whatever it was given to."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    clock, transaction = SystemClock(), 0
    while True:
        next_s = clock.monotonic() + period_s
        for block, first in enumerate(BLOCKS):
            transaction = (transaction + 1) % 65536
            question = QUESTION.pack(HOLDING, first, VALUES * REGISTERS)
            writer.write(HEADER.pack(transaction, 0, len(question) + 1, 1) + question)
            try:
                async with asyncio.timeout(TIMEOUT_PERIODS * period_s):
                    header = await reader.readexactly(HEADER.size)
                    answer = await reader.readexactly(HEADER.unpack(header)[2] - 1)
            except TimeoutError:
                continue
            _publish(client, device, block * VALUES, list(struct.unpack(f">{VALUES}I", answer[2:])))
        await asyncio.sleep(max(0.0, next_s - clock.monotonic()))


def _publish(client: mqtt.Client, device: int, place: int, values: list[int]) -> None:
    sin = values[0] % 10
    if sin == Sin.LOSES:
        return
    stamp_ms = SystemClock().now_ns() // 1_000_000
    said = {"device": device, "place": place, "values": values, "ts": stamp_ms}
    if sin == Sin.SAYS_OF_ANOTHER:
        said["place"] = place + 1
    client.publish(TOPIC, json.dumps(said), qos=1)
    if sin == Sin.DOUBLES_WITH_A_NEW_STAMP:
        said["ts"] = stamp_ms + 1
    if sin in (Sin.DOUBLES, Sin.DOUBLES_WITH_A_NEW_STAMP):
        client.publish(TOPIC, json.dumps(said), qos=1)


async def _run(broker: int, period_s: float, ports: Sequence[int]) -> None:
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.reconnect_delay_set(1, 1)
    client.connect_async("127.0.0.1", broker)
    client.loop_start()
    async with asyncio.TaskGroup() as polls:
        for device, port in enumerate(ports, start=1):
            polls.create_task(_poll(device, port, period_s, client))


if __name__ == "__main__":
    asyncio.run(_run(int(sys.argv[1]), float(sys.argv[2]), [int(port) for port in sys.argv[3:]]))
