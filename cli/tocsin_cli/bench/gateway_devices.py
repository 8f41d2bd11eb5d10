"""The benchmark's instruments: Modbus units behind converters that take as long as an RS-485 line takes."""

import asyncio
import json
import math
import struct
import sys
from dataclasses import dataclass, field
from typing import Final

from tocsin_core.clock import Clock, SystemClock

HEADER: Final = struct.Struct(">HHHB")
# A Modbus RTU character is 11 bits, a message has address and CRC around it, and 3.5 characters of silence after it
# (Modbus over Serial Line 1.02, 2.5.1).
CHARACTER_BITS: Final = 11
AROUND: Final = 3
SILENCE: Final = 3.5
SWING_S: Final = 60.0


@dataclass
class Line:
    """One converter: what its line carried so far, in seconds and questions."""

    baud: int
    clock: Clock
    busy_s: float = 0.0
    asked: int = 0
    free: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer questions for holding registers, one after the other, as long as somebody asks."""
        try:
            while True:
                transaction, _, length, unit = HEADER.unpack(await reader.readexactly(HEADER.size))
                question = await reader.readexactly(length - 1)
                answer = self._answer(unit, question)
                async with self.free:
                    await asyncio.sleep(self._carry(len(question)) + self._carry(len(answer)))
                self.asked += 1
                writer.write(HEADER.pack(transaction, 0, len(answer) + 1, unit) + answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def _carry(self, size: int) -> float:
        seconds = (size + AROUND + SILENCE) * CHARACTER_BITS / self.baud
        self.busy_s += seconds
        return seconds

    def _answer(self, unit: int, question: bytes) -> bytes:
        function, first, count = struct.unpack(">BHH", question)
        now = self.clock.monotonic()
        values = [50 + 40 * math.sin(now / SWING_S + unit + place) for place in range(first // 2, (first + count) // 2)]
        registers = struct.pack(f">{len(values)}f", *values)
        return bytes([function, len(registers)]) + registers


async def _run(lines: int, baud: int) -> None:
    clock = SystemClock()
    made = [Line(baud, clock) for _ in range(lines)]
    servers = [await asyncio.start_server(line.serve, "127.0.0.1", 0) for line in made]
    _say({"ports": [server.sockets[0].getsockname()[1] for server in servers]})
    # Each line on standard input is answered with the counts so far; its end is ours.
    while await asyncio.to_thread(sys.stdin.readline):
        _say({"busy_s": sum(line.busy_s for line in made), "asked": sum(line.asked for line in made)})
    for server in servers:
        server.close()


def _say(held: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(held) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Serve as many lines as the first argument says, at the second's baud rate."""
    asyncio.run(_run(int(sys.argv[1]), int(sys.argv[2])))
