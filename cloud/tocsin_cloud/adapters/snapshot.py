"""The files with the alarms worker's snapshot, the newest and the one before; each written whole, or not at all."""

import json
from contextlib import suppress
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, flock
from io import BytesIO
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

import numpy as np
import structlog

from tocsin_cloud.adapters.stream import Position
from tocsin_cloud.adapters.whole_file import write_whole
from tocsin_core.readings import F64, I64, U8

log = structlog.get_logger()

FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything the alarms worker remembers after the message at `position`.

    `engine` and `session` are the bytes of the core's own snapshots; `gateways` plain values; the latest reading of
    each point in `ids` in columns of that length. Of gateways that decide alarms: `journals`, how far the journal of
    each is in the engine; `deciding`, which they are; `alike`, the fingerprints of the alarms that they judge as this
    end would; `theirs`, by gateway and alarm its occurrence there.
    """

    position: Position
    engine: bytes
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


def save(path: Path, body: bytes) -> None:
    """Put what `pack` made into the file, and keep what was there. Blocks: call it in a thread.

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
        write_whole(path, body)


def earlier(path: Path) -> Path:
    """Where the snapshot before the one in the file is kept."""
    return path.with_suffix(".before")


def pack(snapshot: Snapshot) -> bytes:
    """The snapshot as the bytes of a file. Blocks: call it in a thread."""
    head = {
        "format": FORMAT,
        "position": [snapshot.position.sequence, snapshot.position.time_ns],
        "gateways": snapshot.gateways,
        "journals": snapshot.journals,
        "deciding": snapshot.deciding,
        "at_gateways": snapshot.theirs,
        "ids": snapshot.ids,
    }
    buffer = BytesIO()
    np.savez(
        buffer,
        head=np.frombuffer(json.dumps(head).encode(), dtype=np.uint8),
        engine=np.frombuffer(snapshot.engine, dtype=np.uint8),
        session=np.frombuffer(snapshot.session, dtype=np.uint8),
        alike=np.frombuffer(snapshot.alike, dtype=np.uint8),
        time_ns=snapshot.time_ns,
        value=snapshot.value,
        quality=snapshot.quality,
    )
    return buffer.getvalue()


def load(path: Path) -> Snapshot | None:
    """The snapshot in the file, or the one before it where that cannot be read; None if there is neither.

    What stands is in no table: where the stream no longer reaches back, it would be lost with a file that is damaged.

    Raises:
        ValueError: what there is, is no snapshot of this format.
    """
    unreadable: list[str] = []
    for each in (path, earlier(path)):
        try:
            found = unpack(each.read_bytes())
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


def unpack(data: bytes) -> Snapshot:
    """What `pack` made bytes of.

    Raises:
        ValueError: they are no snapshot of this format.
    """
    try:
        with np.load(BytesIO(data), allow_pickle=False) as columns:
            head = json.loads(columns["head"].tobytes())
            if head["format"] != FORMAT:
                raise ValueError(f"of format {head['format']}, not {FORMAT}")
            return Snapshot(
                Position(*head["position"]),
                columns["engine"].tobytes(),
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
    except (OSError, KeyError, EOFError, TypeError, AttributeError, RuntimeError, BadZipFile) as error:
        raise ValueError(f"no snapshot: {error}") from error


def position_of(data: bytes) -> Position:
    """The place in the stream up to which a snapshot knows everything, by the bytes of its file.

    Raises:
        ValueError: they are no snapshot.
    """
    try:
        with np.load(BytesIO(data), allow_pickle=False) as columns:
            return Position(*json.loads(columns["head"].tobytes())["position"])
    except (OSError, KeyError, EOFError, TypeError, AttributeError, RuntimeError, BadZipFile) as error:
        raise ValueError(f"no snapshot: {error}") from error
