"""What the gateway's alarm engine remembers, in a file that is there whole or not at all."""

import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from tocsin_edge.adapters.whole_file import write_whole

FILE: Final = "alarms.state"
MAGIC: Final = b"tocsin alarms 1\n"
CRC_BYTES: Final = 4

log = structlog.get_logger()


class Answered(NamedTuple):
    """When (ns) an order of the cloud side was answered, by which journal entry (None: it has no number yet), and how.

    `refusal` is why it was not carried out, empty where it was.
    """

    at_ns: int
    entry: int | None
    refusal: str


@dataclass(frozen=True, slots=True)
class AlarmState:
    """The engine's snapshot after all batches up to number `batch` and all journal entries up to `entry`.

    `obeyed` are the orders of the cloud side that were answered, by id.
    """

    engine: bytes
    batch: int
    entry: int
    obeyed: dict[str, Answered] = field(default_factory=dict)


def write_alarm_state(folder: Path, state: AlarmState) -> None:
    """Put `state` in the place of what was there before, on disk when this returns.

    Raises:
        OSError: the disk does not take it; what was there before is there still.
    """
    head = json.dumps({"batch": state.batch, "entry": state.entry, "obeyed": state.obeyed}).encode()
    body = b"".join((MAGIC, head, b"\n", state.engine))
    write_whole(folder / FILE, body + zlib.crc32(body).to_bytes(CRC_BYTES, "little"))


def read_alarm_state(folder: Path) -> AlarmState | None:
    """Get what was written last; None where there is nothing, or it cannot be used, which is told."""
    try:
        data = (folder / FILE).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        log.critical("the alarms' state cannot be read", reason=str(error))
        return None
    body, crc = data[:-CRC_BYTES], data[-CRC_BYTES:]
    if not body.startswith(MAGIC) or zlib.crc32(body).to_bytes(CRC_BYTES, "little") != crc:
        log.critical("the alarms' state is damaged", bytes=len(data))
        return None
    head, _, engine = body.removeprefix(MAGIC).partition(b"\n")
    try:
        told = json.loads(head)
        told["obeyed"] = {order: Answered(*row) for order, row in told["obeyed"].items()}
        return AlarmState(engine, **told)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        log.critical("the alarms' state is of another version", reason=str(error))
        return None
