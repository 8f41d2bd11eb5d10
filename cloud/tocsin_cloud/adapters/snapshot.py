"""The files with the alarms worker's snapshot, the newest and the one before; each written whole, or not at all."""

import json
import struct
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, flock
from io import BytesIO
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO, Final
from zipfile import BadZipFile, ZipFile

import numpy as np
import structlog

from tocsin_cloud.adapters.stream import Position
from tocsin_cloud.adapters.whole_file import written_whole
from tocsin_core import engine
from tocsin_core.readings import F64, I64, U8

log = structlog.get_logger()

FORMAT: Final = 2
# The engine's columns were one column of bytes, a file within the file.
ONE_COLUMN: Final = 1
_ENGINE: Final = "engine/"
# So many bytes are written at once, so that other threads get their turn.
_PIECE: Final = 1 << 20
# What the readers of a damaged file are known to raise, beside ValueError.
_UNREADABLE: Final = (
    OSError, EOFError, LookupError, TypeError, AttributeError, RuntimeError, SyntaxError, MemoryError,
    BadZipFile, TokenError, struct.error, zlib.error,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything the alarms worker remembers after the message at `position`.

    `engine` are the columns of the core's snapshot, `session` is one in bytes; `gateways` plain values; the latest
    reading of each point in `ids` in columns of that length. Of gateways that decide alarms: `journals`, how far the
    journal of each is in the engine; `deciding`, which they are; `alike`, the fingerprints of the alarms that they
    judge as this end would; `theirs`, by gateway and alarm its occurrence there.
    """

    position: Position
    engine: Mapping[str, np.ndarray]
    session: bytes
    gateways: list[Any]
    journals: dict[str, int]
    deciding: list[str]
    alike: bytes
    theirs: dict[str, dict[str, list[int]]]
    ids: list[str]
    time_ns: I64
    value: F64
    quality: U8


def save(path: Path, snapshot: Snapshot) -> None:
    """Put the snapshot into the file, and keep what was there. Blocks: call it in a thread.

    After a crash at any moment `load` finds the old one or the new one. Holder and candidates may share a folder:
    whoever finds another just writing leaves it at that one's, which is as good.

    Raises:
        OSError: it could not be written; the old one stands.
    """
    with path.with_suffix(".lock").open("w") as lock:
        try:
            flock(lock, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            return
        with suppress(FileNotFoundError):
            path.replace(earlier(path))
        with written_whole(path) as file:
            pack(snapshot, file)


def earlier(path: Path) -> Path:
    """Where the snapshot before the one in the file is kept."""
    return path.with_suffix(".before")


def pack(snapshot: Snapshot, file: BinaryIO) -> None:
    """Write the snapshot into a file, column by column. Blocks: call it in a thread.

    It is never a whole in memory: that of a large plant would take as long to get as to write, and hold up all else.
    """
    columns = {
        "session": np.frombuffer(snapshot.session, dtype=np.uint8),
        "alike": np.frombuffer(snapshot.alike, dtype=np.uint8),
        "time_ns": snapshot.time_ns,
        "value": snapshot.value,
        "quality": snapshot.quality,
    }
    columns |= {f"{_ENGINE}{name}": column for name, column in snapshot.engine.items()}
    head = {
        "format": FORMAT,
        "position": [snapshot.position.sequence, snapshot.position.time_ns],
        "gateways": snapshot.gateways,
        "journals": snapshot.journals,
        "deciding": snapshot.deciding,
        "at_gateways": snapshot.theirs,
        "ids": snapshot.ids,
        "columns": list(columns),
    }
    columns["head"] = np.frombuffer(json.dumps(head).encode(), dtype=np.uint8)
    with ZipFile(file, "w") as archive:
        for name, column in columns.items():
            _write(archive, name, np.asarray(column, order="C"))


def _write(archive: ZipFile, name: str, column: np.ndarray) -> None:
    """As `numpy.savez` would, but for its copy of the column."""
    with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
        np.lib.format.write_array_header_1_0(entry, np.lib.format.header_data_from_array_1_0(column))
        content = column.reshape(-1).view(np.uint8).data
        for start in range(0, len(content), _PIECE):
            entry.write(content[start : start + _PIECE])


def load(path: Path) -> Snapshot | None:
    """The snapshot in the file, or the one before it where that cannot be read; None if there is neither.

    What stands is in no table: where the stream no longer reaches back, it would be lost with a file that is damaged.

    Raises:
        ValueError: what there is, is no snapshot of this format.
    """
    unreadable: list[str] = []
    for each in (path, earlier(path)):
        try:
            with each.open("rb") as file:
                found = unpack(file)
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            unreadable.append(f"{each}: {error}")
            continue
        if unreadable:
            log.error("snapshot cannot be used: going on from the one before", reason=unreadable[0])
        return found
    if unreadable:
        raise ValueError("; ".join(unreadable))
    return None


def unpack(file: BinaryIO) -> Snapshot:
    """What `pack` wrote.

    Raises:
        ValueError: it is no snapshot of this format.
    """
    try:
        with np.load(file, allow_pickle=False) as found:
            columns = {name: found[name] for name in found}
            head = json.loads(columns.pop("head").tobytes())
            if head["format"] not in {FORMAT, ONE_COLUMN}:
                raise ValueError(f"of format {head['format']}, not {FORMAT}")
            # Where the file's list of its columns is damaged some are not found: that is not as if they had not been.
            if head["format"] == FORMAT and set(columns) != set(head["columns"]):
                raise ValueError("columns are missing")
            return Snapshot(
                Position(*head["position"]),
                _engine(columns),
                columns["session"].tobytes(),
                head["gateways"],
                # Earlier versions took none in, and then knew only of whole gateways that judge otherwise.
                head.get("journals", {}),
                head.get("deciding", head.get("apart", [])),
                columns["alike"].tobytes() if "alike" in columns else b"",
                head.get("at_gateways", {}),
                head["ids"],
                columns["time_ns"],
                columns["value"],
                columns["quality"],
            )
    except _UNREADABLE as error:
        raise ValueError(f"no snapshot: {error}") from error


def _engine(columns: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    if "engine" in columns:
        return engine.unpacked(columns["engine"].tobytes())
    return {name.removeprefix(_ENGINE): columns[name] for name in columns if name.startswith(_ENGINE)}


def position_of(data: bytes) -> Position:
    """The place in the stream up to which a snapshot knows everything, by the bytes of its file.

    Raises:
        ValueError: they are no snapshot.
    """
    try:
        with np.load(BytesIO(data), allow_pickle=False) as columns:
            return Position(*json.loads(columns["head"].tobytes())["position"])
    except _UNREADABLE as error:
        raise ValueError(f"no snapshot: {error}") from error
