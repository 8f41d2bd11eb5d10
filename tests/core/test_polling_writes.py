"""Writes: the bytes of the four functions, what answers them, and that an output is all that can be written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.framer import FramerRTU
from pymodbus.pdu import DecodePDU, ModbusPDU
from pymodbus.pdu.bit_message import WriteMultipleCoilsRequest, WriteSingleCoilRequest
from pymodbus.pdu.register_message import WriteMultipleRegistersRequest, WriteSingleRegisterRequest

from tocsin_core.plant.connection import Modbus
from tocsin_core.plant.outputs import Output
from tocsin_core.polling import Question, WriteRequest, rtu_begun, rtu_frame, rtu_search, tcp_frame, tcp_search
from tocsin_core.polling.frames import HEADER, crc
from tocsin_core.registers import ReadRequest

UNIT = 17


def output(function: int, on: int = 1, off: int = 0) -> Output:
    """An output at address 0xAC."""
    told = {"id": "R", "kind": "relay", "modbus": Modbus(), "function": function, "address": 0xAC, "on": on, "off": off}
    return Output.model_validate(told)


WRITES: list[tuple[Output, bool, ModbusPDU]] = [
    (output(5), True, WriteSingleCoilRequest(address=0xAC, bits=[True], dev_id=UNIT)),
    (output(5), False, WriteSingleCoilRequest(address=0xAC, bits=[False], dev_id=UNIT)),
    (output(5, on=0, off=1), True, WriteSingleCoilRequest(address=0xAC, bits=[False], dev_id=UNIT)),
    (output(15), True, WriteMultipleCoilsRequest(address=0xAC, bits=[True], dev_id=UNIT)),
    (output(15), False, WriteMultipleCoilsRequest(address=0xAC, bits=[False], dev_id=UNIT)),
    (output(6, on=0x1234), True, WriteSingleRegisterRequest(address=0xAC, registers=[0x1234], dev_id=UNIT)),
    (output(16, on=3, off=0xFFFF), False, WriteMultipleRegistersRequest(address=0xAC, registers=[0xFFFF], dev_id=UNIT)),
]


@pytest.mark.parametrize(("switched", "on", "theirs"), WRITES)
def test_a_write_is_that_of_the_library(switched: Output, theirs: ModbusPDU, *, on: bool) -> None:
    """Byte for byte pymodbus's own."""
    question = Question(UNIT, WriteRequest(switched, on))
    assert rtu_frame(question) == FramerRTU(DecodePDU(is_server=True)).buildFrame(theirs)


@given(
    function=st.sampled_from([5, 6, 15, 16]),
    on=st.booleans(),
    before=st.binary(max_size=30),
    after=st.binary(max_size=9),
    bit=st.integers(0, 63),
)
def test_a_write_is_answered_by_its_echo_alone(
    function: int, before: bytes, after: bytes, bit: int, *, on: bool
) -> None:
    """Whatever is around it on the line; one flipped bit in it, and it is no answer."""
    question = Question(UNIT, WriteRequest(output(function), on))
    frame = rtu_frame(question)[:6]
    answer = frame + crc(frame)
    found = rtu_search(question, before + answer + after)
    assert found.content is not None
    assert len(found.content) == 0
    broken = bytearray(answer)
    broken[bit // 8] ^= 1 << bit % 8
    assert not rtu_search(question, bytes(broken)).over
    assert rtu_begun(question, answer[:4])


@pytest.mark.parametrize("function", [5, 6, 15, 16])
def test_over_tcp_the_echo_of_another_address_is_wrong(function: int) -> None:
    """A unit that wrote elsewhere has not done what was asked."""
    question = Question(UNIT, WriteRequest(output(function), on=True), number=9)
    echo = tcp_frame(question)[HEADER.size :][:5]
    head = HEADER.pack(9, 0, 6, UNIT)
    assert tcp_search(question, head + echo).content is not None
    elsewhere = bytes([echo[0], echo[1], echo[2] ^ 1]) + echo[3:]
    assert tcp_search(question, head + elsewhere).wrong == "answer to another write"
    assert tcp_search(question, HEADER.pack(9, 0, 3, UNIT) + bytes([function | 0x80, 2])).exception == 2


def test_what_was_written_is_read_back_where_it_was_written() -> None:
    """A coil with function 1, a register with function 3."""
    assert WriteRequest(output(15), on=True).back == ReadRequest(1, 0xAC, 1)
    assert WriteRequest(output(6), on=True).back == ReadRequest(3, 0xAC, 1)


@pytest.mark.parametrize("function", [0, *range(5, 128)])
def test_no_read_request_can_be_made_into_a_write(function: int) -> None:
    """Only functions 1 to 4 are framed as questions, whatever a register map or a program asks for."""
    for frame in (tcp_frame, rtu_frame):
        with pytest.raises(ValueError, match="does not read"):
            frame(Question(UNIT, ReadRequest(function, 0, 1)))
