"""Modbus frames: what is framed, what is found, and everything else that may be on a line passed over."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.framer import FramerRTU
from pymodbus.pdu import DecodePDU
from pymodbus.pdu.register_message import ReadHoldingRegistersRequest

from tocsin_core.polling import (
    Question,
    different,
    rtu_begun,
    rtu_frame,
    rtu_search,
    rtu_trouble,
    tcp_frame,
    tcp_search,
)
from tocsin_core.polling.frames import crc
from tocsin_core.registers import ReadRequest

ASKED = Question(7, ReadRequest(3, 100, 2), number=9)
ANSWER_PDU = bytes([3, 4, 0x12, 0x34, 0x56, 0x78])
TCP_ANSWER = bytes([0, 9, 0, 0, 0, 7, 7]) + ANSWER_PDU


def rtu(unit: int, pdu: bytes) -> bytes:
    """Frame a PDU as a unit on a serial line does."""
    frame = bytes([unit]) + pdu
    return frame + crc(frame)


RTU_ANSWER = rtu(7, ANSWER_PDU)


def test_frames_are_those_of_the_library() -> None:
    """The question of pymodbus's own RTU framer, and the standard's example of Modbus TCP (4.4.1.3 of the guide)."""
    request = ReadHoldingRegistersRequest(address=100, count=2, dev_id=7)
    assert rtu_frame(ASKED) == FramerRTU(DecodePDU(is_server=True)).buildFrame(request)
    assert tcp_frame(Question(0xFF, ReadRequest(3, 4, 1), 0x15)) == bytes.fromhex("00150000 0006ff 03 0004 0001")


@given(before=st.binary(max_size=30), after=st.binary(max_size=10))
def test_an_rtu_answer_is_found_whatever_is_around_it(before: bytes, after: bytes) -> None:
    """Noise, echoes and other frames before and after do not hide it."""
    found = rtu_search(ASKED, before + RTU_ANSWER + after)
    assert found.content is not None
    assert found.content.tolist() == [0x1234, 0x5678]


@given(st.data())
def test_an_rtu_answer_with_a_wrong_bit_is_none(data: st.DataObject) -> None:
    """One flipped bit anywhere, or an end that is missing, and there is no answer."""
    bit = data.draw(st.integers(0, 8 * len(RTU_ANSWER) - 1))
    broken = bytearray(RTU_ANSWER)
    broken[bit // 8] ^= 1 << bit % 8
    assert not rtu_search(ASKED, bytes(broken)).over
    assert not rtu_search(ASKED, RTU_ANSWER[: data.draw(st.integers(0, len(RTU_ANSWER) - 1))]).over


@pytest.mark.parametrize(
    ("heard", "trouble"),
    [
        (b"", ""),
        (rtu(8, ANSWER_PDU), "unit 8 answered"),
        (rtu(7, bytes([4, 4, 1, 2, 3, 4])), "answered function 4"),
        (rtu(7, bytes([3, 2, 1, 2])), "answered late"),
        (rtu(7, bytes([0x84, 2])), "answered function 132"),
        (RTU_ANSWER[:5], "answer broken off after 5 of 9 bytes"),
        (RTU_ANSWER[:-1] + b"\xaa", "wrong checksum"),
        (b"\xff\xfe\xfd", "3 bytes that are no answer"),
    ],
)
def test_what_was_heard_instead_is_said(heard: bytes, trouble: str) -> None:
    """None of it is an answer, and the reason says what it was."""
    assert not rtu_search(ASKED, heard).over
    assert rtu_trouble(ASKED, heard) == trouble


def test_a_broadcast_or_another_units_answer_before_it_is_passed_over() -> None:
    """What others say on the line neither hides the answer nor breaks anything."""
    for other in (rtu(0, bytes([6, 0, 1, 0, 3])), rtu(8, ANSWER_PDU), rtu_frame(ASKED)):
        found = rtu_search(ASKED, other + RTU_ANSWER)
        assert found.content is not None
        assert found.content.tolist() == [0x1234, 0x5678]


def test_a_question_on_the_line_is_no_answer_to_it() -> None:
    """An adapter's echo, or another master's question, is not taken for the answer or its beginning."""
    asked = Question(7, ReadRequest(3, 0x0400, 2))
    assert not rtu_search(asked, rtu_frame(asked)).over
    assert rtu_begun(asked, RTU_ANSWER[:3])
    assert not rtu_begun(ASKED, rtu_frame(ASKED))


@pytest.mark.parametrize("code", [2, 6, 11])
def test_a_refusal_is_an_answer(code: int) -> None:
    """In both framings."""
    assert rtu_search(ASKED, rtu(7, bytes([0x83, code]))).exception == code
    assert tcp_search(ASKED, bytes([0, 9, 0, 0, 0, 3, 7, 0x83, code])).exception == code


@pytest.mark.parametrize(
    ("received", "wrong", "lost"),
    [
        (TCP_ANSWER[:6] + bytes([8]) + ANSWER_PDU, "unit 8 answered", False),
        (TCP_ANSWER[:7] + bytes([4, 4, 1, 2, 3, 4]), "answered function 4 to 3", False),
        (bytes([0, 9, 0, 0, 0, 5, 7, 3, 2, 1, 2]), "answer of a wrong length", False),
        (bytes([0, 9, 0, 0, 0, 7, 7, 3, 6, 1, 2, 3, 4]), "answer of a wrong length", False),
        (b"HTTP/1.1 400 Bad Request", "not Modbus TCP", True),
        (bytes([0, 9, 0, 0, 0, 1, 7]), "not Modbus TCP", True),
    ],
)
def test_a_tcp_answer_that_does_not_fit_is_wrong(received: bytes, wrong: str, lost: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Another unit, function or length under the right number, or no Modbus at all."""
    found = tcp_search(ASKED, received)
    assert (found.content, found.wrong, found.lost) == (None, wrong, lost)


def test_tcp_answers_to_other_questions_are_passed_over() -> None:
    """By their number; what is left of the bytes stays for later, and half a frame is waited for."""
    late = bytes([0, 8]) + TCP_ANSWER[2:]
    found = tcp_search(ASKED, late + TCP_ANSWER + late[:4])
    assert found.content is not None
    assert (found.content.tolist(), found.others, found.rest) == ([0x1234, 0x5678], (8,), late[:4])
    assert not tcp_search(ASKED, TCP_ANSWER[:-1]).over
    assert tcp_search(ASKED, late, any_number=True).content is not None


def test_bits_are_read_lowest_first() -> None:
    """As many as were asked for (Application Protocol 6.1)."""
    found = rtu_search(Question(1, ReadRequest(1, 0, 10)), rtu(1, bytes([1, 2, 0b00000101, 0b10])))
    assert found.content is not None
    assert found.content.dtype == np.bool_
    assert found.content.astype(int).tolist() == [1, 0, 1, 0, 0, 0, 0, 0, 0, 1]


@given(st.sampled_from([1, 2, 3, 4]), st.integers(1, 125))
def test_no_answer_fits_both_a_question_and_its_different_one(function: int, count: int) -> None:
    """Their answers have different lengths."""
    request = ReadRequest(function, 0, count)
    other = different(request)
    assert Question(1, other).rtu_answer_bytes != Question(1, request).rtu_answer_bytes
    assert other.count >= 1
