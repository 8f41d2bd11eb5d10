"""The devices of the side-by-side run: every value they hand out is one of a kind, and each is written down."""

import asyncio
import json
import random
import struct
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final, TextIO

from tocsin_core.clock import SystemClock

HEADER: Final = struct.Struct(">HHHB")
QUESTION: Final = struct.Struct(">BHH")
HOLDING: Final = 3
ILLEGAL_FUNCTION: Final = 1
ILLEGAL_ADDRESS: Final = 2
DEVICES: Final = 20
# Two blocks, too far apart for one question: an answer that serves the wrong question is then a wrong register.
BLOCKS: Final = (0, 1000)
VALUES: Final = 5
REGISTERS: Final = 2
# An unsigned 32-bit value in decimal digits: device (3), place (2), number of the answer (5).
SERIALS: Final = 100_000
PLACES: Final = 100
PROMPT_S: Final = 0.005
SLOW_S: Final = 0.4
LATE_S: Final = 1.3
LATE_SHARE: Final = 0.5
END_S: Final = 5.0


class Fault(StrEnum):
    """What a device does wrong: nothing, no answer ever, slow answers, every second answer after its time."""

    NONE = "none"
    DEAD = "dead"
    SLOW = "slow"
    LATE = "late"


@dataclass(frozen=True, slots=True)
class HandedOut:
    """One value that left a device.

    `overtaken`: when it left, the same connection had asked something else since, so its answer served nobody.
    """

    device: int
    place: int
    value: int
    at_s: float
    overtaken: bool


def value_of(device: int, place: int, serial: int) -> int:
    """The value at a place in the answer of that serial number."""
    return (device * PLACES + place) * SERIALS + serial % SERIALS


def place_of(value: int) -> tuple[int, int]:
    """Device and place that a value belongs to."""
    return divmod(value // SERIALS, PLACES)


def address_of(place: int) -> int:
    """The first register of a place."""
    block, within = divmod(place, VALUES)
    return BLOCKS[block] + REGISTERS * within


@dataclass
class Device:
    """One Modbus TCP device, unit 1 at a port of its own; it answers one question after the other."""

    number: int
    log: TextIO
    chance: random.Random
    clock: SystemClock = field(default_factory=SystemClock)
    fault: Fault = Fault.NONE
    serial: int = 0
    talks: set[asyncio.Task[None]] = field(default_factory=set)

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[int]:
        """Listen on the port that is given, until left."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for talk in self.talks:
                talk.cancel()
            await asyncio.gather(*self.talks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.talks.add(task)
        talk = _Talk(self, writer)
        answering = asyncio.create_task(talk.answer())
        try:
            await talk.hear(reader)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            self.talks.discard(task)
        finally:
            answering.cancel()
            writer.transport.abort()

    def wait_s(self) -> float:
        """How long the next answer takes."""
        if self.fault is Fault.SLOW:
            return SLOW_S
        if self.fault is Fault.LATE and self.chance.random() < LATE_SHARE:
            return LATE_S
        return PROMPT_S

    def answer(self, question: bytes) -> tuple[bytes, range]:
        """The answer's bytes, and which places it hands out under the next serial number."""
        function, address, count = QUESTION.unpack(question)
        if function != HOLDING:
            return bytes([function | 0x80, ILLEGAL_FUNCTION]), range(0)
        for block, first in enumerate(BLOCKS):
            begin, odd = divmod(address - first, REGISTERS)
            end, torn = divmod(address + count - first, REGISTERS)
            if not odd and not torn and 0 <= begin < end <= VALUES:
                places = range(block * VALUES + begin, block * VALUES + end)
                self.serial += 1
                words = struct.pack(
                    f">{len(places)}I", *(value_of(self.number, place, self.serial) for place in places)
                )
                return bytes([function, len(words)]) + words, places
        return bytes([function | 0x80, ILLEGAL_ADDRESS]), range(0)

    def note(self, places: range, serial: int, *, overtaken: bool) -> None:
        """Write down what has just been handed out."""
        at = self.clock.monotonic()
        self.log.write(f"{self.number},{places.start},{places.stop},{serial},{at:.6f},{int(overtaken)}\n")


@dataclass
class _Talk:
    """One connection: questions are heard at once and answered in their turn."""

    device: Device
    writer: asyncio.StreamWriter
    questions: asyncio.Queue[tuple[int, int, bytes]] = field(default_factory=asyncio.Queue)
    newest: int = -1

    async def hear(self, reader: asyncio.StreamReader) -> None:
        while True:
            transaction, _, length, unit = HEADER.unpack(await reader.readexactly(HEADER.size))
            question = await reader.readexactly(length - 1)
            self.newest = transaction
            self.questions.put_nowait((transaction, unit, question))

    async def answer(self) -> None:
        while True:
            transaction, unit, question = await self.questions.get()
            if self.device.fault is Fault.DEAD:
                continue
            await asyncio.sleep(self.device.wait_s())
            answer, places = self.device.answer(question)
            serial = self.device.serial
            if self.writer.is_closing():
                return
            self.writer.write(HEADER.pack(transaction, 0, len(answer) + 1, unit) + answer)
            if places:
                self.device.note(places, serial, overtaken=transaction != self.newest)


def read_log(path: Path) -> list[HandedOut]:
    """Every value that the devices of a log handed out, in order."""
    found = []
    for line in path.read_text(encoding="ascii").splitlines():
        device, start, stop, serial, at, overtaken = line.split(",")
        found += [
            HandedOut(int(device), place, value_of(int(device), place, int(serial)), float(at), overtaken == "1")
            for place in range(int(start), int(stop))
        ]
    return found


async def _serve(log: TextIO, seed: int) -> None:
    devices = [Device(number, log, random.Random(seed * DEVICES + number)) for number in range(1, DEVICES + 1)]  # noqa: S311
    async with AsyncExitStack() as stack:
        _say({"ports": [await stack.enter_async_context(device.serve()) for device in devices]})
        # A line on standard input sets the faults, by device; its end is ours.
        while line := await asyncio.to_thread(sys.stdin.readline):
            faults: dict[str, str] = json.loads(line)
            for device in devices:
                device.fault = Fault(faults.get(str(device.number), Fault.NONE))
            _say({"faults": faults})


def _say(held: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(held) + "\n")
    sys.stdout.flush()


def main(arguments: Sequence[str]) -> None:
    """Serve all devices; arguments: the log's file, the seed."""
    with Path(arguments[0]).open("w", encoding="ascii", buffering=1) as log:
        asyncio.run(_serve(log, int(arguments[1])))


if __name__ == "__main__":
    main(sys.argv[1:])
