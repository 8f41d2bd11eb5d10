"""A kept batch as bytes: all of it comes back, of each form that was ever written, and it takes few of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.edge.rig import plain
from tocsin_core.readings import GOOD
from tocsin_core.sparkplug.edge import Columns
from tocsin_edge.adapters.spool_codec import pack, unpack

NOW_MS = 1_790_000_000_000
EXTREMES = [-(2**63), 2**63 - 1, -1, 0, NOW_MS]
TIMES = st.integers(-(2**63), 2**63 - 1) | st.integers(NOW_MS, NOW_MS + 1000) | st.sampled_from(EXTREMES)
ROWS = st.tuples(st.integers(0, 2**16 - 1), TIMES, st.floats() | st.floats(width=32), st.integers(0, 255))
SINCE = st.none() | st.integers(0, 2**64 - 1)


def columns_of(rows: list[tuple[int, int, float, int]], since_ms: int | None) -> Columns:
    """Make columns of (metric, time, value, quality)."""
    return Columns(
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.int64),
        np.array([row[2] for row in rows], np.float64),
        np.array([row[3] for row in rows], np.uint8),
        since_ms,
    )


def check(found: Columns | None, wanted: Columns) -> None:
    """Compare all bits and types."""
    assert found is not None
    assert found.unsynchronised_ms == wanted.unsynchronised_ms
    for name in ("metric", "time_ms", "value", "quality"):
        ours, theirs = getattr(found, name), getattr(wanted, name)
        assert ours.dtype == theirs.dtype
        assert ours.tobytes() == theirs.tobytes()


@given(st.lists(ROWS, max_size=40), SINCE, st.integers(0, 2**32 - 1))
def test_whatever_was_kept_comes_back(
    rows: list[tuple[int, int, float, int]], since_ms: int | None, start: int
) -> None:
    """None, one or many; out of order, twice, at any time, of any quality; by a clock that was set or not."""
    columns = columns_of(rows, since_ms)
    check(unpack(pack(columns, start), start), columns)
    assert unpack(pack(columns, start), start ^ 1) is None


@given(st.lists(ROWS, max_size=40), SINCE)
def test_what_an_earlier_version_kept_is_read(rows: list[tuple[int, int, float, int]], since_ms: int | None) -> None:
    """Its form has the columns as they are."""
    columns = columns_of(rows, since_ms)
    check(unpack(plain(columns, 7), 7), columns)


@given(st.binary(max_size=80))
def test_bytes_that_are_no_batch_are_known_for_it(blob: bytes) -> None:
    """Only what was packed unpacks."""
    columns = unpack(blob)
    assert columns is None or blob in (pack(columns), plain(columns))


@given(st.lists(ROWS, min_size=1, max_size=5), SINCE, st.data())
def test_a_byte_that_changed_or_is_missing_is_no_batch(
    rows: list[tuple[int, int, float, int]], since_ms: int | None, data: st.DataObject
) -> None:
    """At any place, the head and the checksum among them."""
    blob = bytearray(pack(columns_of(rows, since_ms)))
    at = data.draw(st.integers(0, len(blob) - 1))
    assert unpack(bytes(blob[:at])) is None
    blob[at] ^= data.draw(st.integers(1, 255))
    assert unpack(bytes(blob)) is None


@pytest.mark.parametrize(
    ("values", "most"),
    [
        (np.random.default_rng(1).normal(50, 0.1, 50).astype(np.float32).astype(np.float64), 4.0),
        (np.rint(np.random.default_rng(1).normal(500, 100, 50)) * 0.1, 2.0),
        (np.random.default_rng(1).normal(50, 0.1, 50), 7.6),
    ],
    ids=["f32", "tenths", "f64"],
)
def test_a_poll_of_a_device_takes_few_bytes_a_reading(values: np.ndarray, most: float) -> None:
    """Of one moment, in turn and all good, as most are: 19 bytes each they were."""
    columns = Columns(np.arange(50), np.full(50, NOW_MS), values, np.full(50, GOOD, np.uint8))
    assert len(pack(columns)) <= 50 * most
