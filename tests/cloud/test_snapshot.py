"""The alarms worker's snapshot in its file."""

import io
import json
import tracemalloc
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Final
from zipfile import ZipFile

import numpy as np
import pytest

from tests.core.plants import plant_of
from tocsin_cloud.adapters.snapshot import Snapshot, earlier, load, pack, position_of, save, unpack
from tocsin_cloud.adapters.stream import Position
from tocsin_core import engine
from tocsin_core.rules import compile_rules

COLUMNS: Final[dict[str, np.ndarray]] = {
    "value": np.asarray([1.5, np.nan, -0.0]),
    "now_ns": np.asarray(7, np.int64),
    "none of them": np.zeros((0, 3), np.int64),
    "definitions": np.asarray([b"a", b"bcd"]),
    "no names": np.asarray([], np.bytes_),
    "flags": np.asarray([True, False]),
    "trend.rows": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "unit/\u7cbe\u998f\u5854": np.frombuffer(b"bytes", np.uint8),
}
SNAPSHOT: Final = Snapshot(
    Position(12, 34), COLUMNS, b"a session", [["g1", 5]], {"g1": 3}, ["g1"], b"alike", {"g1": {"a": [1, 2]}},
    ["p1"], np.asarray([1], np.int64), np.asarray([2.0]), np.asarray([0], np.uint8),
)  # fmt: skip


def _bytes(snapshot: Snapshot) -> bytes:
    file = io.BytesIO()
    pack(snapshot, file)
    return file.getvalue()


def _told(snapshot: Snapshot) -> str:
    """Everything that is in it, to the bit."""

    def column(array: np.ndarray) -> tuple[str, tuple[int, ...], bytes]:
        return array.dtype.str, array.shape, array.tobytes()

    plain = {field.name: getattr(snapshot, field.name) for field in fields(Snapshot)}
    plain["engine"] = {name: column(array) for name, array in snapshot.engine.items()}
    return repr({name: column(each) if isinstance(each, np.ndarray) else each for name, each in plain.items()})


def test_what_is_saved_is_found_again(tmp_path: Path) -> None:
    """Columns of every shape and type that the engine has, to the bit."""
    path = tmp_path / "s.npz"
    save(path, SNAPSHOT)
    found = load(path)
    assert found is not None
    assert _told(found) == _told(SNAPSHOT)
    assert position_of(path.read_bytes()) == Position(12, 34)


def test_a_snapshot_of_an_earlier_version_is_gone_on_from() -> None:
    """There the engine's columns were a file within the file."""
    rules = compile_rules(plant_of([]))
    before = engine.snapshot(engine.initial(rules, 5), rules)
    head = {"format": 1, "position": [12, 34], "gateways": [], "ids": []}
    file = io.BytesIO()
    np.savez(
        file,
        head=np.frombuffer(json.dumps(head).encode(), np.uint8),
        engine=np.frombuffer(before, np.uint8),
        session=np.frombuffer(b"a session", np.uint8),
        time_ns=np.asarray([], np.int64),
        value=np.asarray([]),
        quality=np.asarray([], np.uint8),
    )
    file.seek(0)
    found = unpack(file)
    assert found.position == Position(12, 34)
    assert engine.snapshot(engine.laid(found.engine, rules), rules) == before


def test_a_damaged_file_is_no_snapshot_or_the_same_one() -> None:
    """Torn at any byte, and altered at any byte: never a state that nobody was in, and never another error."""
    snapshot = replace(SNAPSHOT, engine={name: COLUMNS[name] for name in ("value", "now_ns", "definitions")})
    whole = _bytes(snapshot)
    for place in range(len(whole)):
        with pytest.raises(ValueError, match=r"."):
            unpack(io.BytesIO(whole[:place]))
        altered = bytearray(whole)
        altered[place] ^= 0x5A
        try:
            found = unpack(io.BytesIO(bytes(altered)))
        except ValueError:
            continue
        assert _told(found) == _told(snapshot), place


def test_a_file_that_looks_encrypted_is_one_that_cannot_be_read(tmp_path: Path) -> None:
    """Or packed in a way that nobody can unpack: told by errors of its own; the one before is gone on from."""
    directory = b"PK\x01\x02"
    small = replace(SNAPSHOT, engine={"value": COLUMNS["value"]})
    whole = _bytes(small)
    for place in range(whole.index(directory), len(whole)):
        for bit in (0x01, 0x20, 0x40):
            altered = whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :]
            with suppress(ValueError):
                assert position_of(altered) == small.position
            with suppress(ValueError):
                assert _told(unpack(io.BytesIO(altered))) == _told(small), place
    path = tmp_path / "s.npz"
    save(path, small)
    save(path, replace(small, position=Position(13, 35)))
    encrypted = bytearray(path.read_bytes())
    encrypted[encrypted.index(directory) + 8] |= 1
    path.write_bytes(encrypted)
    found = load(path)
    assert found is not None
    assert found.position == small.position


def test_a_file_that_lacks_a_column_is_no_snapshot() -> None:
    """Not one of an earlier version, which knew of no such thing: what was ordered, say, would be forgotten."""
    whole = ZipFile(io.BytesIO(_bytes(SNAPSHOT)))
    for left in whole.namelist():
        file = io.BytesIO()
        with ZipFile(file, "w") as torn:
            for name in whole.namelist():
                if name != left:
                    torn.writestr(name, whole.read(name))
        file.seek(0)
        with pytest.raises(ValueError, match=r"no snapshot|columns are missing"):
            unpack(file)


def test_where_the_newest_is_damaged_the_one_before_it_is_found(tmp_path: Path) -> None:
    """As after a crash of the machine that the disk did not bear."""
    path = tmp_path / "s.npz"
    save(path, SNAPSHOT)
    save(path, replace(SNAPSHOT, position=Position(13, 35)))
    path.write_bytes(path.read_bytes()[:-1])
    found = load(path)
    assert found is not None
    assert found.position == Position(12, 34)
    earlier(path).unlink()
    with pytest.raises(ValueError, match="no snapshot"):
        load(path)


def test_a_large_snapshot_is_never_a_whole_in_memory(tmp_path: Path) -> None:
    """A second copy, and a third, of a large plant's state once held up the alarms for three seconds."""
    large = replace(SNAPSHOT, engine={f"c{number}": np.zeros(1_000_000) for number in range(4)})
    tracemalloc.start()
    try:
        save(tmp_path / "s.npz", large)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000
