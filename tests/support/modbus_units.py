"""Modbus units that misbehave on command, and what they would say, whatever the line they are on."""

import asyncio
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Self


class Fault(Enum):
    """What a unit does wrong."""

    NONE = "none"
    SILENT = "silent"
    LATE = "late"
    GARBAGE = "garbage"
    WRONG_UNIT = "wrong unit"
    WRONG_FUNCTION = "wrong function"
    WRONG_LENGTH = "wrong length"
    WRONG_CHECKSUM = "wrong checksum"
    HALF = "half a frame"
    TWICE = "answers twice"
    NOISE_BEFORE = "noise before the answer"
    BUSY = "busy"
    STILL_BUSY = "acknowledged and still busy"
    TARGET_SILENT = "gateway target failed"
    NO_PATH = "gateway path unavailable"
    CLOSES = "closes the connection in the middle"


CODES = {Fault.STILL_BUSY: 5, Fault.BUSY: 6, Fault.NO_PATH: 10, Fault.TARGET_SILENT: 11}


@dataclass
class Unit:
    """Registers by address; addresses that are `illegal` are refused with exception 2.

    It answers no other counts than those that it `knows`, if any: the others with an exception that has the code 0.
    On a serial line it hears no question that comes sooner than `pause_s` after its last answer.
    """

    registers: dict[int, int] = field(default_factory=dict)
    fault: Fault = Fault.NONE
    late_s: float = 0.0
    illegal: frozenset[int] = frozenset()
    knows: frozenset[int] = frozenset()
    pause_s: float = 0.0
    asked: list[tuple[int, int, int]] = field(default_factory=list)
    """Function, address, count of each question."""

    def answer(self, question: bytes) -> bytes:
        """Return the PDU of the answer to that of a question, as a healthy unit would."""
        function, address, count = struct.unpack(">BHH", question)
        self.asked.append((function, address, count))
        if self.fault in CODES:
            return bytes([function | 0x80, CODES[self.fault]])
        if self.illegal.intersection(range(address, address + count)):
            return bytes([function | 0x80, 2])
        if self.knows and count not in self.knows:
            return bytes([function | 0x80, 0])
        words = [self.registers.get(at, 0) for at in range(address, address + count)]
        return bytes([function, 2 * count]) + struct.pack(f">{count}H", *words)


def crc(frame: bytes) -> bytes:
    """The checksum, bit by bit as the standard's appendix has it: not the table of the program under test."""
    value = 0xFFFF
    for byte in frame:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ 0xA001 if value & 1 else value >> 1
    return bytes([value & 0xFF, value >> 8])


def rtu_frames(number: int, unit: Unit, pdu: bytes) -> list[tuple[float, bytes]]:
    """What the unit puts on a serial line, each with its delay in s."""
    match unit.fault:
        case Fault.SILENT:
            return []
        case Fault.WRONG_UNIT:
            number += 1
        case Fault.WRONG_FUNCTION:
            pdu = bytes([pdu[0] ^ 7]) + pdu[1:]
        case Fault.WRONG_LENGTH:
            pdu = pdu[:1] + bytes([pdu[1] - 2]) + pdu[2:-2]
        case _:
            pass
    frame = bytes([number]) + pdu
    frame += crc(frame)
    match unit.fault:
        case Fault.GARBAGE:
            frame = bytes(0x55 ^ byte for byte in frame)
        case Fault.WRONG_CHECKSUM:
            frame = frame[:-1] + bytes([frame[-1] ^ 1])
        case Fault.HALF | Fault.CLOSES:
            frame = frame[: len(frame) // 2]
        case Fault.NOISE_BEFORE:
            frame = b"\x00\xff" + frame
        case _:
            pass
    return [(unit.late_s if unit.fault is Fault.LATE else 0.0, frame)]


def tcp_frames(transaction: int, number: int, unit: Unit, pdu: bytes) -> Iterator[tuple[float, bytes]]:
    """What the unit sends over TCP, each with its delay in s."""
    match unit.fault:
        case Fault.SILENT:
            return
        case Fault.WRONG_UNIT:
            number += 1
        case Fault.WRONG_FUNCTION:
            pdu = bytes([pdu[0] ^ 7]) + pdu[1:]
        case Fault.WRONG_LENGTH:
            pdu = pdu[:1] + bytes([pdu[1] - 2]) + pdu[2:-2]
        case _:
            pass
    frame = struct.pack(">HHHB", transaction, 0, len(pdu) + 1, number) + pdu
    if unit.fault is Fault.GARBAGE:
        frame = b"HTTP/1.1 400 Bad Request\r\n"
    if unit.fault in (Fault.HALF, Fault.CLOSES):
        frame = frame[: len(frame) // 2]
    yield (unit.late_s if unit.fault is Fault.LATE else 0.0), frame
    if unit.fault is Fault.TWICE:
        yield 0.0, frame


class TcpUnits:
    """A Modbus TCP server, or a converter that passes RTU frames (`rtu`), with these units behind it."""

    def __init__(self, units: dict[int, Unit], *, rtu: bool = False) -> None:
        """Listen nowhere yet."""
        self.units = units
        self.port = 0
        self.connections = 0
        self._rtu = rtu
        self._talks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Drop everything."""
        assert self._server is not None
        self._server.close()
        for talk in self._talks:
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        talk = asyncio.current_task()
        assert talk is not None
        self._talks.add(talk)
        try:
            while True:
                await (self._rtu_turn(reader, writer) if self._rtu else self._tcp_turn(reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            self._talks.discard(talk)
        finally:
            writer.transport.abort()

    async def _tcp_turn(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        transaction, _, length, number = struct.unpack(">HHHB", await reader.readexactly(7))
        question = await reader.readexactly(length - 1)
        unit = self.units.get(number)
        if unit is None:
            return
        for delay, frame in tcp_frames(transaction, number, unit, unit.answer(question)):
            _write_later(writer, frame, delay)
        if unit.fault is Fault.CLOSES:
            await writer.drain()
            raise ConnectionResetError

    async def _rtu_turn(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frame = await reader.readexactly(8)
        assert crc(frame[:6]) == frame[6:]
        unit = self.units.get(frame[0])
        if unit is None:
            return
        for delay, answer in rtu_frames(frame[0], unit, unit.answer(frame[1:6])):
            _write_later(writer, answer, delay)
        if unit.fault is Fault.CLOSES:
            await writer.drain()
            raise ConnectionResetError


def _write_later(writer: asyncio.StreamWriter, frame: bytes, delay: float) -> None:
    def write() -> None:
        if not writer.is_closing():
            writer.write(frame)

    if delay:
        asyncio.get_running_loop().call_later(delay, write)
    else:
        write()
