"""What this process costs: processor time and memory, as the kernel counts them."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

STATM: Final = Path("/proc/self/statm")


@dataclass(frozen=True, slots=True)
class ProcessFigures:
    """Processor time of all threads since the start in s; resident memory in bytes, None where it is not told."""

    cpu_s: float
    resident_bytes: int | None


def process_figures() -> ProcessFigures:
    """Ask the kernel (times(2); proc(5), /proc/pid/statm field 2)."""
    times = os.times()
    try:
        pages = int(STATM.read_text(encoding="ascii").split()[1])
    except OSError:
        return ProcessFigures(times.user + times.system, None)
    return ProcessFigures(times.user + times.system, pages * os.sysconf("SC_PAGE_SIZE"))
