"""Holds frames and quality bytes to their invariants."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin_core.readings import (
    AHEAD_NS,
    BAD_COMM_FAILURE,
    BAD_SENSOR_FAILURE,
    GOOD,
    UNCERTAIN,
    Frame,
    FrameError,
    is_bad,
    is_good,
    quality_text,
)


def test_every_byte_is_good_or_uncertain_or_bad() -> None:
    """The top two bits decide (OPC DA 3.00, 6.8); the reserved 0x80 counts as bad, and every byte has words."""
    every = np.arange(256, dtype=np.uint8)
    top = every >> 6
    assert (is_good(every) == (top == 3)).all()
    assert (is_bad(every) == ((top == 0) | (top == 2))).all()
    for quality in range(256):
        word = {0: "bad", 1: "uncertain", 2: "bad", 3: "good"}[quality >> 6]
        assert quality_text(quality).split(":")[0] == word


@pytest.mark.parametrize(
    ("quality", "text"),
    [
        (0xC1, "good: below range"),
        (0xC2, "good: above range"),
        (0xC3, "good"),
        (0x18, "bad: comm failure"),
        (0x1B, "bad: comm failure"),
        (0x54, "uncertain: range exceeded"),
        (0x56, "uncertain: range exceeded"),
    ],
)
def test_the_limit_bits_say_where_a_good_value_left_its_range(quality: int, text: str) -> None:
    """Above or below its range a value is good and says so; limited high or low, a comm failure is a comm failure."""
    assert quality_text(quality) == text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(("given_quality", "kept"), [(GOOD, BAD_SENSOR_FAILURE), (UNCERTAIN, BAD_SENSOR_FAILURE)])
def test_a_value_that_is_no_number_is_never_good(value: float, given_quality: int, kept: int) -> None:
    """`of` marks it a sensor failure; the columns themselves refuse it."""
    frame = Frame.of([1], [1], [value], [given_quality])
    assert frame.quality.tolist() == [kept]
    with pytest.raises(FrameError, match="not finite"):
        Frame(frame.point, frame.time_ns, frame.value, np.asarray([given_quality], np.uint8))


def test_a_bad_reading_keeps_its_reason() -> None:
    """What is bad already is not called a sensor failure as well."""
    assert Frame.of([1], [1], [float("nan")], [BAD_COMM_FAILURE]).quality.tolist() == [BAD_COMM_FAILURE]


def test_columns_of_different_lengths_are_refused() -> None:
    """With the lengths in the message."""
    with pytest.raises(FrameError, match=r"= \[2, 1, 1, 1\]"):
        Frame.of([1, 2], [1], [1.0], [GOOD])


rows = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2**62), st.floats(), st.integers(0, 255)), max_size=20)


@given(parts=st.lists(rows, max_size=4))
def test_joining_keeps_every_reading_in_order(parts: list[list[tuple[int, int, float, int]]]) -> None:
    """`concat` of frames is the frame of all their rows, and `take` finds each again; types never change."""
    frames = [Frame.of(*zip(*part, strict=True)) if part else Frame.empty() for part in parts]
    whole = Frame.concat(frames)
    flat = [row for part in parts for row in part]
    assert len(whole) == len(flat)
    assert whole.point.tolist() == [row[0] for row in flat]
    assert whole.time_ns.tolist() == [row[1] for row in flat]
    assert np.array_equal(whole.value, np.asarray([row[2] for row in flat], np.float64), equal_nan=True)
    types = [whole.point.dtype, whole.time_ns.dtype, whole.value.dtype, whole.quality.dtype]
    assert types == [np.int32, np.int64, np.float64, np.uint8]
    reversed_ = whole.take(np.arange(len(whole))[::-1])
    assert reversed_.time_ns.tolist() == [row[1] for row in flat][::-1]


def test_no_reading_is_of_a_time_to_come() -> None:
    """What is more than five seconds ahead of its arrival is taken to be of then; the rest, and `self`, stay."""
    now_ns = 10**18
    frame = Frame.of([1, 2, 3], [now_ns - 1, now_ns + AHEAD_NS, now_ns + AHEAD_NS + 1], [1.0] * 3, [GOOD] * 3)
    assert frame.not_ahead(now_ns).time_ns.tolist() == [now_ns - 1, now_ns + AHEAD_NS, now_ns]
    assert frame.not_ahead(now_ns + 1) is frame
    assert frame.not_ahead(now_ns, 0).time_ns.tolist() == [now_ns - 1, now_ns, now_ns]
