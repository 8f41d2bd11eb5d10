"""Modbus frames as bytes: questions framed for TCP or RTU, and the answer to a question sought in what arrived."""

import struct
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tocsin_core.polling.writes import WriteRequest
from tocsin_core.registers import ReadRequest
from tocsin_core.registers.profile import BIT_FUNCTIONS

EXCEPTION_FLAG: Final = 0x80
# MODBUS Messaging on TCP/IP Implementation Guide 1.0b, 3.1.3: transaction, protocol (0), length, unit.
HEADER: Final = struct.Struct(">HHHB")
LENGTHS: Final = range(3, 255)
# MODBUS over Serial Line 1.02, 2.5.1: address, function and checksum around the data.
RTU_SHORTEST: Final = 5
CRC_BYTES: Final = 2
READS: Final = range(1, 5)
BITS_PER_BYTE: Final = 8

Content = NDArray[np.uint16] | NDArray[np.bool_]
_NOTHING: Final = np.zeros(0, dtype=np.uint16)


def _table() -> tuple[int, ...]:
    """The checksum's table: polynomial 0xA001 (MODBUS over Serial Line 1.02, 6.2.2)."""
    table = []
    for byte in range(256):
        value = byte
        for _ in range(BITS_PER_BYTE):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_CRC: Final = _table()


def crc(data: bytes) -> bytes:
    """The checksum of an RTU frame's bytes, as it travels."""
    value = 0xFFFF
    for byte in data:
        value = value >> 8 ^ _CRC[(value ^ byte) & 0xFF]
    return struct.pack("<H", value)


@dataclass(frozen=True, slots=True)
class Question:
    """A request to a unit; `number` is its transaction number, of meaning to TCP only."""

    unit: int
    request: ReadRequest | WriteRequest
    number: int = 0

    @property
    def pdu(self) -> bytes:
        """Function, address and count; of a write function, address and value.

        Raises:
            ValueError: a read request of a function that does not read: it could be a write.
        """
        request = self.request
        if isinstance(request, WriteRequest):
            return request.pdu
        if request.function not in READS:
            raise ValueError(f"function {request.function} does not read")
        return struct.pack(">BHH", request.function, request.address, request.count)

    @property
    def answer_begins(self) -> bytes:
        """How the PDU of its answer begins: with function and number of bytes, or with all that is echoed."""
        if isinstance(self.request, WriteRequest):
            return self.request.echo
        return bytes([self.request.function, self.request.data_bytes])

    @property
    def rtu_answer_bytes(self) -> int:
        """How long its answer is on an RTU line."""
        data = 0 if isinstance(self.request, WriteRequest) else self.request.data_bytes
        return 1 + len(self.answer_begins) + data + CRC_BYTES


@dataclass(frozen=True, slots=True)
class Search:
    """What was found of an answer: its content, an exception code, or what is `wrong` with it; else it is awaited.

    `rest` are the bytes to go on with; `others` are the numbers of frames that were passed over; after `lost` no frame
    can be told from the next any more.
    """

    content: Content | None = None
    exception: int = 0
    wrong: str = ""
    rest: bytes = b""
    others: tuple[int, ...] = ()
    lost: bool = False

    @property
    def over(self) -> bool:
        """Whether there is nothing more to wait for."""
        return self.content is not None or self.exception > 0 or bool(self.wrong)


def tcp_frame(question: Question) -> bytes:
    """The question with Modbus TCP's header."""
    pdu = question.pdu
    return HEADER.pack(question.number, 0, len(pdu) + 1, question.unit) + pdu


def tcp_search(question: Question, received: bytes, *, any_number: bool = False) -> Search:
    """Seek the answer to `question` in what arrived; frames of other numbers are passed over.

    `any_number`: the server is known not to give back transaction numbers, so unit, function and length must do.
    """
    others: tuple[int, ...] = ()
    while len(received) >= HEADER.size:
        number, protocol, length, unit = HEADER.unpack_from(received)
        if protocol != 0 or length not in LENGTHS:
            return Search(wrong="not Modbus TCP", lost=True, others=others)
        end = HEADER.size + length - 1
        if len(received) < end:
            break
        pdu, received = received[HEADER.size : end], received[end:]
        if number != question.number and not any_number:
            others = (*others, number)
            continue
        found = Search(wrong=f"unit {unit} answered") if unit != question.unit else _read(question, pdu)
        return replace(found, rest=received, others=others) if received or others else found
    return Search(rest=received, others=others)


def rtu_frame(question: Question) -> bytes:
    """The question with address and checksum."""
    frame = bytes([question.unit]) + question.pdu
    return frame + crc(frame)


def rtu_search(question: Question, received: bytes) -> Search:
    """Seek the answer to `question` in what arrived, wherever it begins: noise, echoes, other units' frames around it.

    A frame is an answer only if unit, function, length and checksum are those of an answer to this very question.
    """
    for at in range(len(received) - RTU_SHORTEST + 1):
        if received[at] != question.unit:
            continue
        if received.startswith(question.answer_begins, at + 1):
            end = at + question.rtu_answer_bytes
        elif received[at + 1] == question.request.function | EXCEPTION_FLAG:
            end = at + RTU_SHORTEST
        else:
            continue
        if end <= len(received) and crc(received[at : end - CRC_BYTES]) == received[end - CRC_BYTES : end]:
            return replace(_read(question, received[at + 1 : end - CRC_BYTES]), rest=received[end:])
    return Search(rest=received)


def rtu_begun(question: Question, received: bytes) -> bool:
    """Whether what arrived has in it something that begins as the answer to `question` does."""
    begins, refuses = question.answer_begins[:2], question.request.function | EXCEPTION_FLAG
    return any(
        received[at] == question.unit and (received.startswith(begins, at + 1) or received[at + 1] == refuses)
        for at in range(len(received) - 2)
    )


def rtu_trouble(question: Question, received: bytes) -> str:
    """Say what was heard instead of the answer to `question`; empty if nothing was."""
    if not received:
        return ""
    for at in range(len(received) - RTU_SHORTEST + 1):
        unit, function, size = received[at : at + 3]
        end = at + RTU_SHORTEST + (0 if function & EXCEPTION_FLAG else size)
        if end <= len(received) and crc(received[at : end - CRC_BYTES]) == received[end - CRC_BYTES : end]:
            if unit != question.unit:
                return f"unit {unit} answered"
            return f"answered function {function}" if function != question.request.function else "answered late"
    whole = question.rtu_answer_bytes
    begins = received[:2] == bytes([question.unit, question.request.function])
    if begins and len(received) < whole:
        return f"answer broken off after {len(received)} of {whole} bytes"
    return "wrong checksum" if begins else f"{len(received)} bytes that are no answer"


def different(request: ReadRequest) -> ReadRequest:
    """A question to the same address whose answer no late answer to `request` can pass for; its device is unknown."""
    return request.variants[0]


def _read(question: Question, pdu: bytes) -> Search:
    """The content of an answer's PDU, or what is wrong with it."""
    function = pdu[0]
    if function == question.request.function | EXCEPTION_FLAG and len(pdu) == 2:  # noqa: PLR2004 - function and code
        return Search(exception=pdu[1]) if pdu[1] else Search(wrong="exception without a code")
    if function != question.request.function:
        return Search(wrong=f"answered function {function} to {question.request.function}")
    request = question.request
    if isinstance(request, WriteRequest):
        return Search(content=_NOTHING) if pdu == request.echo else Search(wrong="answer to another write")
    size = pdu[1] if len(pdu) > 1 else 0
    data = pdu[2:]
    if size != request.data_bytes or len(data) != size:
        return Search(wrong="answer of a wrong length")
    if function in BIT_FUNCTIONS:
        bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8), bitorder="little")[: request.count]
        return Search(content=bits.astype(np.bool_))
    return Search(content=np.frombuffer(data, dtype=">u2").astype(np.uint16))
