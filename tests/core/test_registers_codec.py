"""Registers to numbers and back, in the four word orders."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin_core.readings import GOOD
from tocsin_core.registers import EncodeError, Profile, Reply, compile_plan, encode, parse_profile

ORDERS = ("ABCD", "CDAB", "DCBA", "BADC")
LIMITS = {"u16": (0, 2**16 - 1), "s16": (-(2**15), 2**15 - 1), "u32": (0, 2**32 - 1), "s32": (-(2**31), 2**31 - 1)}
# f64 carries whole numbers exactly up to 2**53.
WIDE = {"u64": (0, 2**53), "s64": (-(2**53), 2**53)}


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


def back(profile: Profile, value: float) -> float:
    """Return what is read after `value` was encoded."""
    registers = encode(profile, "v", value)
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


def test_one_bit_of_a_shared_register_is_not_written_alone() -> None:
    """A bit that shares its register cannot be encoded without the others."""
    with pytest.raises(EncodeError, match="one bit"):
        encode(one_value("bool", more=", bit: 3"), "v", 1.0)
