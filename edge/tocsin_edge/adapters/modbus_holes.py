"""What devices' refusals taught the read plans, kept in a file so that a restart does not ask again."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import structlog

from tocsin_core.registers import Hole, holes_of
from tocsin_edge.adapters.whole_file import write_whole

FILE: Final = "refused.json"

log = structlog.get_logger()


def read_holes(folder: Path) -> dict[str, tuple[Hole, ...]]:
    """Read the holes by where they were found; a file that cannot be read is left out and will be written anew."""
    path = folder / FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {str(where): holes_of(rows) for where, rows in dict(content).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        log.warning("learned refusals not read", file=path.name, reason=str(error))
        return {}


def write_holes(folder: Path, holes: Mapping[str, Sequence[Hole]]) -> None:
    """Write the holes so that a power cut leaves the old file or the new one.

    Raises:
        OSError: the disk does not take it.
    """
    content = {where: [hole.as_row() for hole in each] for where, each in sorted(holes.items())}
    write_whole(folder / FILE, json.dumps(content).encode())
