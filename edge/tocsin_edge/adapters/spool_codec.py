"""A batch's columns as bytes and back, under a checksum that also holds its number, device and metric names."""

import json
import zlib
from functools import lru_cache
from typing import Final

import numpy as np

from tocsin_core.packing import pack_values, pack_whole, unpack_values, unpack_whole
from tocsin_core.sparkplug.edge import Columns

# How many readings, and in which form: earlier versions counted in four bytes, of which the last was 0.
COUNT_BYTES: Final = 3
PLAIN: Final = 0
PACKED: Final = 1
# What of a packed batch was read by a clock that nobody had set.
PACKED_SINCE: Final = 2
# One reading of a plain batch: u16, i64, f64 and u8.
READING_BYTES: Final = 19
# In a batch whose clock nobody had set: since when, i64.
SINCE_BYTES: Final = 8
CRC_BYTES: Final = 4


def seal(number: int, device: str, metrics: tuple[str, ...]) -> int:
    """Start the checksum of batch `number` of `device`: a batch that turns up under another name does not check out."""
    return zlib.crc32(_names(device, metrics), zlib.crc32(b"[%d, " % number))


@lru_cache(4096)
def _names(device: str, metrics: tuple[str, ...]) -> bytes:
    return json.dumps([device, *metrics]).encode()[1:]


def pack(columns: Columns, start: int = 0) -> bytes:
    """Write columns as bytes: how many, the form, metric, time_ms, quality and value, each packed, then CRC-32.

    The metrics are told by how far each is from its place, as most often all of a device are read in turn. `start` is
    what `seal` gave.
    """
    n, since_ms = len(columns), columns.unsynchronised_ms
    parts = [n.to_bytes(COUNT_BYTES, "little"), bytes((PACKED if since_ms is None else PACKED_SINCE,))]
    if since_ms is not None:
        parts.append(since_ms.to_bytes(SINCE_BYTES, "little"))
    if n:
        parts.append(pack_whole((columns.metric.astype(np.int64) - np.arange(n)).view(np.uint64)))
        parts.append(pack_whole(columns.time_ms.astype(np.int64).view(np.uint64)))
        parts.append(pack_whole(columns.quality.astype(np.uint64)))
        parts.append(pack_values(columns.value))
    body = b"".join(parts)
    return body + zlib.crc32(body, start).to_bytes(CRC_BYTES, "little")


def unpack(blob: object, start: int = 0) -> Columns | None:
    """Read what `pack` wrote with the same `start`, or give None where it is no bytes or they do not check out."""
    if not isinstance(blob, bytes):
        return None
    body, crc = blob[:-CRC_BYTES], blob[-CRC_BYTES:]
    if len(body) <= COUNT_BYTES or zlib.crc32(body, start).to_bytes(CRC_BYTES, "little") != crc:
        return None
    n, form = int.from_bytes(body[:COUNT_BYTES], "little"), body[COUNT_BYTES]
    try:
        return _plain(body, n) if form == PLAIN else _packed(body, n, form)
    except ValueError:
        return None


def _packed(body: bytes, n: int, form: int) -> Columns:
    at, since_ms = COUNT_BYTES + 1, None
    if form == PACKED_SINCE:
        since_ms, at = int.from_bytes(body[at : at + SINCE_BYTES], "little"), at + SINCE_BYTES
    elif form != PACKED:
        raise ValueError("another form")
    if not n:
        metric = time_ms = quality = np.zeros(0, np.uint64)
        value = np.zeros(0)
    else:
        metric, at = unpack_whole(body, at, n)
        time_ms, at = unpack_whole(body, at, n)
        quality, at = unpack_whole(body, at, n)
        value, at = unpack_values(body, at, n)
    if at != len(body):
        raise ValueError("bytes left over")
    return Columns(
        metric.view(np.int64) + np.arange(n), time_ms.view(np.int64), value, quality.astype(np.uint8), since_ms
    )


def _plain(body: bytes, n: int) -> Columns:
    """Read the form of earlier versions: metric u16, time_ms i64, value f64, quality u8 (little-endian)."""
    head = COUNT_BYTES + 1
    end = head + n * READING_BYTES
    if len(body) not in (end, end + SINCE_BYTES):
        raise ValueError("another length")
    starts = [head + n * offset for offset in (0, 2, 10, 18)]
    return Columns(
        np.frombuffer(body, "<u2", n, starts[0]).astype(np.int64),
        np.frombuffer(body, "<i8", n, starts[1]).astype(np.int64),
        np.frombuffer(body, "<f8", n, starts[2]).astype(np.float64),
        np.frombuffer(body, "u1", n, starts[3]).astype(np.uint8),
        int.from_bytes(body[end:], "little") if len(body) > end else None,
    )
