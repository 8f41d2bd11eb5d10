"""An RS-485 line on a pty: one transmission at a time, at the speed of real bits, and what collides is garbled."""

import asyncio
import os
import pty
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Self

from tests.support.modbus_units import Unit, crc, rtu_frames

QUESTION_BYTES = 8
READ_BYTES = 4096
SILENCE_CHARACTERS = 3.5
# Bytes are handed on so many at a time, as a UART with a small buffer does.
CHUNK = 16


@contextmanager
def joined_ports() -> Iterator[tuple[str, str]]:
    """Give the paths of two serial ports that a cable joins: what goes into one comes out of the other."""
    loop = asyncio.get_running_loop()
    (here, near), (there, far) = pty.openpty(), pty.openpty()
    for end in (near, far):
        tty.setraw(end)
    loop.add_reader(here, lambda: os.write(there, os.read(here, READ_BYTES)))
    loop.add_reader(there, lambda: os.write(here, os.read(there, READ_BYTES)))
    try:
        yield os.ttyname(near), os.ttyname(far)
    finally:
        for master in (here, there):
            loop.remove_reader(master)
        for end in (here, near, there, far):
            os.close(end)


@dataclass
class _Sending:
    """Something on its way over the line."""

    begins: float
    ends: float
    garbled: bool = False


class SerialLine:
    """Units on a line of `baud` bits per second; `path` is the port at which the gateway's end is opened.

    Counts the bytes of each side, the questions that came before the line had been silent for 3.5 characters, and the
    collisions. `line_s` is how long an ideal master would have needed for the exchanges that took place, `answered_s`
    when each answer began (loop time).
    """

    def __init__(self, units: dict[int, Unit], baud: int, bits_per_character: int = 10) -> None:
        """Open nothing yet."""
        self.units = units
        self.character_s = bits_per_character / baud
        self.path = ""
        self.asked_bytes = 0
        self.answered_bytes = 0
        self.questions = 0
        self.answers = 0
        self.answered_s: list[float] = []
        self.too_soon = 0
        self.collisions = 0
        self._ends: tuple[int, int] = (-1, -1)
        self._sendings: list[_Sending] = []
        self._free: dict[int, float] = {}
        self._timers: set[asyncio.TimerHandle] = set()

    @property
    def line_s(self) -> float:
        """Both frames of each answered exchange and the silence after each of them."""
        characters = self.asked_bytes + self.answered_bytes + 2 * SILENCE_CHARACTERS * self.answers
        return characters * self.character_s

    async def __aenter__(self) -> Self:
        """Put up the line."""
        master, slave = pty.openpty()
        tty.setraw(slave)
        os.set_blocking(master, False)
        self.path = os.ttyname(slave)
        self._ends = (master, slave)
        asyncio.get_running_loop().add_reader(master, self._from_gateway)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Take it down."""
        asyncio.get_running_loop().remove_reader(self._ends[0])
        for timer in self._timers:
            timer.cancel()
        for end in self._ends:
            os.close(end)

    def unplug(self) -> None:
        """Take the converter away: the gateway's end gets an error."""
        asyncio.get_running_loop().remove_reader(self._ends[0])
        os.close(self._ends[0])
        self._ends = (os.open(os.devnull, os.O_RDWR), self._ends[1])
        asyncio.get_running_loop().call_soon(lambda: None)

    def _later(self, at: float, do: object, *args: object) -> None:
        self._timers = {timer for timer in self._timers if timer.when() > asyncio.get_running_loop().time() - 1.0}
        self._timers.add(asyncio.get_running_loop().call_at(at, do, *args))  # type: ignore[arg-type]

    def _send(self, begins: float, size: int) -> _Sending:
        """Occupy the line; whatever overlaps is garbled, both of it."""
        sending = _Sending(begins, begins + size * self.character_s)
        now = asyncio.get_running_loop().time()
        self._sendings = [other for other in self._sendings if other.ends > now - 1.0]
        for other in self._sendings:
            if other.begins < sending.ends and sending.begins < other.ends:
                other.garbled = sending.garbled = True
                self.collisions += 1
        self._sendings.append(sending)
        return sending

    def _from_gateway(self) -> None:
        data = os.read(self._ends[0], READ_BYTES)
        now = asyncio.get_running_loop().time()
        self.asked_bytes += len(data)
        quiet = max((other.ends for other in self._sendings if other.begins < now), default=0.0)
        if quiet <= now < quiet + 0.9 * SILENCE_CHARACTERS * self.character_s:
            self.too_soon += 1
        sending = self._send(now, len(data))
        self._later(sending.ends, self._heard, sending, data)

    def _heard(self, sending: _Sending, data: bytes) -> None:
        """The devices have heard a frame, and the one that is meant begins to answer after the silence."""
        if sending.garbled or len(data) != QUESTION_BYTES or crc(data[:6]) != data[6:]:
            return
        self.questions += 1
        unit = self.units.get(data[0])
        if unit is None or sending.begins < self._free.get(data[0], 0.0) + unit.pause_s:
            return
        at = sending.ends + SILENCE_CHARACTERS * self.character_s
        for delay, frame in rtu_frames(data[0], unit, unit.answer(data[1:6])):
            # A unit does one thing after the other: no answer overtakes the one before.
            at = max(at + delay, self._free.get(data[0], 0.0))
            self._free[data[0]] = at + len(frame) * self.character_s
            self._later(at, self._answer, at, frame)

    def _answer(self, at: float, frame: bytes) -> None:
        sending = self._send(at, len(frame))
        self.answers += 1
        self.answered_s.append(at)
        self.answered_bytes += len(frame)
        for first in range(0, len(frame), CHUNK):
            chunk = frame[first : first + CHUNK]
            self._later(at + (first + len(chunk)) * self.character_s, self._to_gateway, sending, chunk)

    def _to_gateway(self, sending: _Sending, chunk: bytes) -> None:
        data = bytes(byte ^ 0x5A for byte in chunk) if sending.garbled else chunk
        os.write(self._ends[0], data)


def words(value: int, count: int) -> dict[int, int]:
    """Registers 0 to `count` - 1 that all hold `value`."""
    return dict(chain.from_iterable([(at, value)] for at in range(count)))
