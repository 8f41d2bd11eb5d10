"""The outputs that this gateway may have switched on, in a file: what leaves the plant file is switched off by it."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import structlog
from pydantic import ValidationError

from tocsin_core.plant.outputs import Output
from tocsin_edge.adapters.whole_file import write_whole

FILE: Final = "outputs.json"

log = structlog.get_logger()


def read_outputs(folder: Path) -> tuple[Output, ...]:
    """Get what was written last; one that cannot be understood is told and left out."""
    path = folder / FILE
    try:
        rows = list(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, TypeError) as error:
        log.critical("which outputs were switched before is not known", file=path.name, reason=str(error))
        return ()
    found = []
    for row in rows:
        try:
            found.append(Output.model_validate(row))
        except ValidationError as error:
            log.critical("an output that was switched before is not known", output=row, reason=str(error))
    return tuple(found)


def write_outputs(folder: Path, outputs: Iterable[Output]) -> None:
    """Put `outputs` in the place of what was there before, on disk when this returns.

    Raises:
        OSError: the disk does not take it; what was there before is there still.
    """
    rows = [output.model_dump(mode="json", exclude_unset=True) for output in outputs]
    write_whole(folder / FILE, json.dumps(rows, ensure_ascii=False).encode())
