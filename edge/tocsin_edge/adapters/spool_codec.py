"""A batch's columns as bytes and back, under a checksum that also holds its number, device and metric names."""

import json
import zlib
from functools import lru_cache
from typing import Final

import numpy as np

from tocsin_core.sparkplug.edge import Columns

# One packed reading: u16, i64, f64 and u8.
READING_BYTES: Final = 19
COUNT_BYTES: Final = 4
# Behind the readings of a batch whose clock nobody had set: since when, i64.
SINCE_BYTES: Final = 8
CRC_BYTES: Final = 4


def seal(number: int, device: str, metrics: tuple[str, ...]) -> int:
    """Start the checksum of batch `number` of `device`: a batch that turns up under another name does not check out."""
    return zlib.crc32(_names(device, metrics), zlib.crc32(b"[%d, " % number))


@lru_cache(4096)
def _names(device: str, metrics: tuple[str, ...]) -> bytes:
    return json.dumps([device, *metrics]).encode()[1:]


def pack(columns: Columns, start: int = 0) -> bytes:
    """Write columns as bytes: n, then metric u16, time_ms i64, value f64, quality u8 (little-endian), then CRC-32.

    `start` is what `seal` gave.
    """
    since_ms = columns.unsynchronised_ms
    body = b"".join(
        (
            len(columns).to_bytes(COUNT_BYTES, "little"),
            columns.metric.astype("<u2").tobytes(),
            columns.time_ms.astype("<i8").tobytes(),
            columns.value.astype("<f8").tobytes(),
            columns.quality.astype("u1").tobytes(),
            b"" if since_ms is None else since_ms.to_bytes(SINCE_BYTES, "little"),
        )
    )
    return body + zlib.crc32(body, start).to_bytes(CRC_BYTES, "little")


def unpack(blob: object, start: int = 0) -> Columns | None:
    """Read what `pack` wrote with the same `start`, or give None where it is no bytes or they do not check out."""
    if not isinstance(blob, bytes):
        return None
    body, crc = blob[:-CRC_BYTES], blob[-CRC_BYTES:]
    if len(blob) < COUNT_BYTES + CRC_BYTES or zlib.crc32(body, start).to_bytes(CRC_BYTES, "little") != crc:
        return None
    n = int.from_bytes(body[:COUNT_BYTES], "little")
    end = COUNT_BYTES + n * READING_BYTES
    if len(body) not in (end, end + SINCE_BYTES):
        return None
    starts = [COUNT_BYTES + n * offset for offset in (0, 2, 10, 18)]
    return Columns(
        np.frombuffer(body, "<u2", n, starts[0]).astype(np.int64),
        np.frombuffer(body, "<i8", n, starts[1]).astype(np.int64),
        np.frombuffer(body, "<f8", n, starts[2]).astype(np.float64),
        np.frombuffer(body, "u1", n, starts[3]).astype(np.uint8),
        int.from_bytes(body[end:], "little") if len(body) > end else None,
    )
