"""The alarms worker's snapshot as bytes: what has become of them on a disk is told, and ends nobody."""

from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np

from tocsin_cloud.adapters.snapshot import Snapshot, earlier, load, pack, position_of, save, unpack
from tocsin_cloud.adapters.stream import Position

BITS: Final = (0x01, 0x20, 0x40)
DIRECTORY: Final = b"PK\x01\x02"


def packed(sequence: int = 1) -> bytes:
    """A small snapshot's bytes."""
    times, values, qualities = np.array([1, 2]), np.array([0.5, 1.5]), np.array([192, 0], np.uint8)
    at = Position(sequence, sequence)
    return pack(Snapshot(at, b"engine", b"{}", [], {"gw": 4}, [], b"", {}, ["A", "B"], times, values, qualities))


def test_whatever_bit_is_another_one_it_is_read_or_refused() -> None:
    """Also a bit by which the file would be encrypted, or packed in a way that nobody can unpack."""
    body = packed()
    # Everything before has a checksum.
    for place in range(body.index(DIRECTORY), len(body)):
        for bit in BITS:
            other = body[:place] + bytes([body[place] ^ bit]) + body[place + 1 :]
            with suppress(ValueError):
                unpack(other)
            with suppress(ValueError):
                position_of(other)


def test_a_file_that_looks_encrypted_is_one_that_cannot_be_read(tmp_path: Path) -> None:
    """The worker goes on from the one before, instead of ending at each start."""
    path = tmp_path / "s.npz"
    save(path, packed(1))
    body = bytearray(packed(2))
    body[body.index(DIRECTORY) + 8] |= 1
    save(path, bytes(body))
    held = load(path)
    assert held is not None
    assert held.position.sequence == 1
    assert earlier(path).exists()
