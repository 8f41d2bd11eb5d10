"""What packs whole numbers and values: every bit comes back, and of like ones few bytes are taken."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tocsin_core.packing import pack_values, pack_whole, unpack_values, unpack_whole
from tocsin_core.readings import F64

RNG = np.random.default_rng(7)
MOST = 2**64 - 1
WORDS = st.integers(0, MOST) | st.sampled_from([0, 1, MOST, 2**63, 2**63 - 1])
# All bit patterns, among them each NaN; what instruments show; and whole numbers in the forms in which they arrive.
PATTERNS = WORDS.map(lambda word: float(np.uint64(word).view(np.float64)))
VALUES = (
    st.floats()
    | PATTERNS
    | st.floats(width=32)
    | st.sampled_from([0.0, -0.0, np.nan, -np.nan, np.inf, -np.inf, 5e-324, 1.7976931348623157e308])
    | st.integers(-(2**16), 2**16).map(lambda raw: raw * 0.1)
    | st.integers(-(2**16), 2**16).map(lambda raw: raw / 100)
)


def back(values: F64) -> F64:
    """Pack values between other bytes and unpack them."""
    packed = pack_values(values)
    found, end = unpack_values(b"before" + packed + b"after", 6, len(values))
    assert end == 6 + len(packed)
    return found


@given(st.lists(WORDS, min_size=1, max_size=40), st.integers(0, 63))
def test_whole_numbers_come_back(numbers: list[int], shift: int) -> None:
    """Any 64 bits, alone or many, alike or not, with zeros behind them or not."""
    given_ = np.array(numbers, np.uint64) >> np.uint64(shift) << np.uint64(shift)
    packed = pack_whole(given_)
    found, end = unpack_whole(b"before" + packed + b"after", 6, len(numbers))
    np.testing.assert_array_equal(found, given_)
    assert end == 6 + len(packed)


@given(arrays(np.float64, st.integers(1, 40), elements=VALUES) | st.lists(VALUES, min_size=1).map(np.array))
def test_every_bit_of_every_value_comes_back(values: F64) -> None:
    """Each NaN, -0, infinities, the smallest and the largest, in any mixture; the given stay as they are."""
    before = values.view(np.uint64).copy()
    np.testing.assert_array_equal(back(values).view(np.uint64), before)
    np.testing.assert_array_equal(values.view(np.uint64), before)


@pytest.mark.parametrize("factor", [0.1, 0.01, 0.001, 0.0001])
@pytest.mark.parametrize("sign", [1, -1])
def test_registers_with_decimals_take_as_many_bits_as_their_steps(factor: float, sign: int) -> None:
    """4,000 steps are 12 bits and not the 52 that their f64 has, as a scale makes them and as a text is read."""
    raw: F64 = sign * RNG.integers(0, 4000, 500).astype(np.float64)
    for values in (raw * factor, raw / round(1 / factor)):
        assert len(pack_values(values)) < 500 * 12.2 / 8
        np.testing.assert_array_equal(back(values).view(np.uint64), values.view(np.uint64))


def test_an_f32_takes_its_own_bits_and_one_that_is_missing_costs_the_others_one() -> None:
    """24 bits and what the exponents differ in, with a sign and a hole here and there."""
    values = RNG.uniform(1, 100, 500).astype(np.float32).astype(np.float64)
    assert len(pack_values(values)) < 500 * 26.5 / 8
    values[7] = np.nan
    values[8] *= -1
    assert len(pack_values(values)) < 500 * 28.5 / 8
    np.testing.assert_array_equal(back(values).view(np.uint64), values.view(np.uint64))


@given(st.binary(max_size=40), st.integers(1, 50))
def test_noise_is_refused_or_read_but_never_more(noise: bytes, n: int) -> None:
    """Whatever the bytes: as many values as were asked for, from within them, or ValueError."""
    try:
        values, end = unpack_values(noise, 0, n)
    except ValueError:
        return
    assert len(values) == n
    assert end <= len(noise)


@given(arrays(np.float64, st.integers(1, 20), elements=VALUES), st.data())
def test_what_is_cut_short_is_refused(values: F64, data: st.DataObject) -> None:
    """Nothing is made up for bytes that are not there."""
    packed = pack_values(values)
    with pytest.raises(ValueError, match=r"short|no values"):
        unpack_values(packed[: data.draw(st.integers(0, len(packed) - 1))], 0, len(values))
