"""Registers to numbers and back, in the four word orders."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin_core.readings import BAD_COMM_FAILURE, BAD_CONFIGURATION, GOOD
from tocsin_core.registers import EncodeError, Profile, Reply, compile_plan, encode, encode_text, parse_profile

ORDERS = ("ABCD", "CDAB", "DCBA", "BADC")
LIMITS = {"u16": (0, 2**16 - 1), "s16": (-(2**15), 2**15 - 1), "u32": (0, 2**32 - 1), "s32": (-(2**31), 2**31 - 1)}
# f64 carries whole numbers exactly up to 2**53.
WIDE = {"u64": (0, 2**53), "s64": (-(2**53), 2**53)}
BCD_DIGITS = {"bcd16": 4, "bcd32": 8, "bcd48": 12, "bcd64": 15}


def one_value(kind: str, order: str | None = None, more: str = "") -> Profile:
    """Return a profile of one value at wire address 10."""
    order_text = f", word_order: {order}" if order else ""
    text = f"""
vendor: test
model: test
trust: documented
source: this test
values:
  v: {{address: 10, type: {kind}{order_text}{more}}}
"""
    return parse_profile(text, "test.yaml")


def back(profile: Profile, value: float, beside: dict[int, int] | None = None) -> float:
    """Return what is read after `value` was encoded."""
    registers = encode(profile, "v", value, beside)
    plan = compile_plan(profile, ["v"])
    replies: list[Reply] = [
        np.array([registers[request.address + i] for i in range(request.count)], dtype=np.uint16)
        for request in plan.requests
    ]
    decoded = plan.decode(replies)
    assert decoded.quality.tolist() == [GOOD]
    return float(decoded.value[0])


@pytest.mark.parametrize(
    ("order", "registers"),
    [
        ("ABCD", [0x42C8, 0x8000]),
        ("CDAB", [0x8000, 0x42C8]),
        ("DCBA", [0x0080, 0xC842]),
        ("BADC", [0xC842, 0x0080]),
    ],
)
def test_the_manuals_example_reads_100_25_in_each_order(order: str, registers: list[int]) -> None:
    """100.25 is 42 C8 80 00, and travels as Rosemount's 3095FB manual prints it for codes 0 to 3."""
    profile = one_value("f32", order)
    assert encode(profile, "v", 100.25) == dict(zip((10, 11), registers, strict=True))
    decoded = compile_plan(profile, ["v"]).decode([np.array(registers, dtype=np.uint16)])
    assert decoded.value.tolist() == [100.25]


@given(st.sampled_from(ORDERS), st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_float_comes_back(order: str, value: float) -> None:
    """Every f32 survives the way through its registers."""
    assert back(one_value("f32", order), value) == value


@given(st.sampled_from(ORDERS), st.floats(allow_nan=False, allow_infinity=False))
def test_a_double_comes_back(order: str, value: float) -> None:
    """Every f64 survives the way through its registers."""
    assert back(one_value("f64", order), value) == value


@given(st.data(), st.sampled_from(ORDERS), st.sampled_from([*LIMITS, *WIDE]))
def test_a_whole_number_comes_back(data: st.DataObject, order: str, kind: str) -> None:
    """Every whole number of its type survives the way through its registers."""
    low, high = {**LIMITS, **WIDE}[kind]
    value = data.draw(st.integers(low, high))
    profile = one_value(kind, None if kind in {"u16", "s16"} else order)
    assert back(profile, value) == value


def test_scale_and_offset_are_applied_both_ways() -> None:
    """A controller that counts 0..1200 for -10..110 %LEL shows 25 %LEL as 350."""
    profile = one_value("u16", more=", scale: 0.1, offset: -10")
    assert encode(profile, "v", 25.0) == {10: 350}
    assert back(profile, 25.0) == pytest.approx(25.0)


@pytest.mark.parametrize(("kind", "value"), [("u16", -1.0), ("s16", 40000.0), ("u32", math.nan), ("f32", 1e300)])
def test_a_number_that_does_not_fit_is_refused(kind: str, value: float) -> None:
    """Nothing wraps round into another number."""
    with pytest.raises(EncodeError, match="v: "):
        encode(one_value(kind), "v", value)


@pytest.mark.parametrize("more", [", bit: 3", ", bit: 0"])
def test_one_bit_of_a_shared_register_is_not_written_alone(more: str) -> None:
    """A bit that shares its register cannot be encoded without the others."""
    with pytest.raises(EncodeError, match="one bit"):
        encode(one_value("bool", more=more), "v", 1.0)


def words_of(kind: str, order: str | None, more: str, *registers: int) -> tuple[float, int]:
    """Return the value and the quality that are read from these registers."""
    profile = one_value(kind, order, more)
    decoded = compile_plan(profile, ["v"]).decode([np.array(registers, dtype=np.uint16)])
    return float(decoded.value[0]), int(decoded.quality[0])


@given(st.data(), st.sampled_from(ORDERS), st.sampled_from([*BCD_DIGITS]))
def test_decimal_digits_come_back(data: st.DataObject, order: str, kind: str) -> None:
    """Every whole number of so many digits survives as BCD, in every order."""
    value = data.draw(st.integers(0, 10 ** BCD_DIGITS[kind] - 1))
    assert back(one_value(kind, None if kind == "bcd16" else order), value) == value


def test_twelve_decimal_digits_are_read_as_they_are_printed() -> None:
    """00 00 12 43 11 16 with four places is 1243.1116, as a gas flow computer sends its total."""
    value, quality = words_of("bcd48", "ABCD", ", scale: 0.0001", 0x0000, 0x1243, 0x1116)
    assert value == pytest.approx(1243.1116)
    assert quality == GOOD


@pytest.mark.parametrize(("kind", "registers"), [("bcd16", [0x12A4]), ("bcd32", [0x1234, 0x567F])])
def test_a_digit_above_nine_is_no_number(kind: str, registers: list[int]) -> None:
    """What is not BCD was taken for BCD by mistake: the reading is bad, never a number made up."""
    value, quality = words_of(kind, None, "", *registers)
    assert math.isnan(value)
    assert quality == BAD_CONFIGURATION


@given(st.integers(0, 2559))
def test_whole_and_tenths_in_a_byte_each_come_back(tenths: int) -> None:
    """0x1409 is 20.9, and so is every other pair of bytes."""
    assert encode(one_value("whole-tenths"), "v", tenths / 10) == {10: tenths // 10 << 8 | tenths % 10}
    assert back(one_value("whole-tenths"), tenths / 10) == tenths / 10


def test_more_than_nine_tenths_are_no_number() -> None:
    """0x140A has no meaning."""
    assert words_of("whole-tenths", None, "", 0x1409) == (20.9, GOOD)
    assert words_of("whole-tenths", None, "", 0x140A)[1] == BAD_CONFIGURATION


@pytest.mark.parametrize(
    ("kind", "more", "registers", "value"),
    [
        ("u16", ", bits: [8, 15]", [0xAB12], 0xAB),
        ("u16", ", bits: [0, 7]", [0xAB12], 0x12),
        ("s16", ", bits: [8, 15]", [0xFE12], -2),
        ("s16", ", bits: [0, 7]", [0x127F], 127),
        ("u16", ", bits: [0, 0]", [0xFFFE], 0),
        ("u16", ", bits: [4, 6]", [0b0101_0000], 5),
        ("u32", ", bits: [12, 19]", [0x0001, 0x2345], 0x12),
        ("u64", ", bits: [0, 62]", [0x8000, 0, 0, 7], 7),
        ("s64", ", bits: [60, 63]", [0xF000, 0, 0, 0], -1),
    ],
)
def test_packed_bytes_and_bits_are_numbers(kind: str, more: str, registers: list[int], value: float) -> None:
    """A byte, a nibble or any run of bits is a number of its own, signed if the type is."""
    assert words_of(kind, None, more, *registers) == (value, GOOD)


@given(st.data(), st.sampled_from(["u16", "s16", "u32", "s32", "u64", "s64"]))
def test_bits_come_back_and_leave_the_others(data: st.DataObject, kind: str) -> None:
    """Writing some bits changes those and no other, and they read as what was written."""
    size = int(kind[1:])
    low = data.draw(st.integers(0, size - 1))
    high = data.draw(st.integers(low, size - 1 if low else size - 2))
    width = high - low + 1
    least = -(2 ** (width - 1)) if kind[0] == "s" else 0
    value = data.draw(st.integers(max(least, -(2**53)), min(least + 2**width - 1, 2**53)))
    before = {10 + index: data.draw(st.integers(0, 0xFFFF)) for index in range(size // 16)}
    order = None if size == 16 else data.draw(st.sampled_from(ORDERS))
    profile = one_value(kind, order, f", bits: [{low}, {high}]")
    assert back(profile, value, before) == value
    whole = one_value(kind.replace("s", "u"), order)
    mask = (2**width - 1) << low
    after = encode(profile, "v", value, before)
    assert held(whole, after) & ~mask == held(whole, before) & ~mask


def held(profile: Profile, registers: dict[int, int]) -> int:
    """Return all the bits that the registers of the unsigned value hold."""
    plain = [registers[10 + index] for index in range(profile.values["v"].words)]
    order = profile.order_of("v")
    if order in ("CDAB", "DCBA"):
        plain.reverse()
    if order in ("DCBA", "BADC"):
        plain = [word >> 8 | (word & 0xFF) << 8 for word in plain]
    return sum(word << 16 * place for place, word in enumerate(reversed(plain)))


def test_bits_that_do_not_fit_are_refused() -> None:
    """256 has no place in a byte."""
    with pytest.raises(EncodeError, match="beyond 8 bits"):
        encode(one_value("u16", more=", bits: [0, 7]"), "v", 256, {})


@pytest.mark.parametrize(("order", "register"), [(None, 0x1234), ("AB", 0x1234), ("BA", 0x3412)])
def test_the_bytes_of_one_register_may_be_swapped(order: str | None, register: int) -> None:
    """A device that sends the low byte of its registers first is told by word_order: BA."""
    assert encode(one_value("u16", order), "v", 0x1234) == {10: register}
    assert back(one_value("u16", order), 0x1234) == 0x1234


@pytest.mark.parametrize("order", ORDERS)
def test_the_order_of_long_numbers_does_not_touch_short_ones(order: str) -> None:
    """A profile's word order is for 32 bits and more."""
    text = "vendor: t\nmodel: t\ntrust: documented\nsource: t\nword_order: " + order
    values = "v: {address: 1, type: u16}, s: {address: 2, type: string, characters: 2}"
    profile = parse_profile(f"{text}\nvalues: {{{values}}}", "t.yaml")
    assert encode(profile, "v", 0x1234) == {1: 0x1234}
    assert encode_text(profile, "s", "AB") == {2: 0x4142}


ASCII = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=14)


@given(ASCII, st.sampled_from([None, "BA"]))
def test_a_text_comes_back(content: str, order: str | None) -> None:
    """Whatever a device calls its gas is read as it wrote it, whichever byte comes first."""
    profile = one_value("string", order, ", characters: 14")
    registers = encode_text(profile, "v", content)
    plan = compile_plan(profile, ["v"])
    decoded = plan.decode([np.array([registers[10 + index] for index in range(7)], dtype=np.uint16)])
    assert decoded.text == {"v": content}


def test_a_text_is_no_measurement() -> None:
    """A point that names a string gets no number; a string that could not be read is missing, not empty."""
    plan = compile_plan(one_value("string", more=", characters: 3"), ["v"])
    decoded = plan.decode([np.array([0x4E48, 0x3300], dtype=np.uint16)])
    assert decoded.text == {"v": "NH3"}
    assert decoded.quality.tolist() == [BAD_CONFIGURATION]
    assert math.isnan(decoded.value[0])
    lost = plan.decode([BAD_COMM_FAILURE])
    assert lost.text == {}
    assert lost.quality.tolist() == [BAD_COMM_FAILURE]


def test_bytes_that_are_no_text_are_seen() -> None:
    """What is not ASCII is shown as such, and blanks around a text are dropped."""
    plan = compile_plan(one_value("string", more=", characters: 4"), ["v"])
    assert plan.decode([np.array([0x20FF, 0x4F20], dtype=np.uint16)]).text == {"v": "\ufffdO"}


@pytest.mark.parametrize("content", ["氨", "ABCDE"])
def test_a_text_that_does_not_fit_is_refused(content: str) -> None:
    """Nothing is cut off or replaced on the way out."""
    with pytest.raises(EncodeError, match="4 characters"):
        encode_text(one_value("string", more=", characters: 4"), "v", content)


def test_texts_and_numbers_are_not_mixed_up() -> None:
    """Each has its own way to be written."""
    with pytest.raises(EncodeError, match="encode_text"):
        encode(one_value("string", more=", characters: 4"), "v", 1.0)
    with pytest.raises(EncodeError, match="is a number"):
        encode_text(one_value("u16"), "v", "A")


@given(st.data(), st.sampled_from([*LIMITS, "u64", "s64"]))
def test_any_words_are_a_number_or_bad_and_never_an_error(data: st.DataObject, kind: str) -> None:
    """Whatever a device sends, reading it ends in a column."""
    count = int(kind[1:]) // 16
    registers = data.draw(st.lists(st.integers(0, 0xFFFF), min_size=count, max_size=count))
    value, quality = words_of(kind, None, "", *registers)
    whole = int.from_bytes(b"".join(word.to_bytes(2, "big") for word in registers), "big", signed=kind[0] == "s")
    assert quality == GOOD
    assert value == float(whole)
