"""A gateway by a clock that can be set, for the fault benchmark; no module of it, for a start is to import no more."""

import asyncio
import struct
import sys
from collections.abc import Sequence
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Final

from tocsin_cli.logs import log_to_stderr
from tocsin_core.clock import SystemClock
from tocsin_core.plant import load_plant
from tocsin_edge.app import run, stop_on_signals
from tocsin_edge.settings import EdgeSettings, compile_settings

OFFSET: Final = struct.Struct("=q")
PROGRAM: Final = (sys.executable, "-c", "from tocsin_cli.set_clock import main; main()")


class SetClock(SystemClock):
    """The machine's clocks, of which the wall clock is ahead by what the file says."""

    def __init__(self, file: Path) -> None:
        """Read the file from now on."""
        with file.open("rb") as opened:
            self._offset = mmap(opened.fileno(), OFFSET.size, access=ACCESS_READ)

    def now_ns(self) -> int:
        """Wall clock, nanoseconds since the Unix epoch, UTC."""
        return super().now_ns() + int(OFFSET.unpack(self._offset)[0])


def set_clock(file: Path, ahead_s: float) -> None:
    """Let the clock be ahead by so many s from now on: all eight bytes at once."""
    with file.open("r+b" if file.exists() else "wb") as opened:
        opened.write(OFFSET.pack(round(ahead_s * 1e9)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a gateway; arguments: the plant's folder, its id, its files' folder, the clock's file, a trial's s."""
    plant, gateway, data, file, trial_s = sys.argv[1:] if arguments is None else arguments
    log_to_stderr()
    settings = compile_settings(load_plant(Path(plant)), gateway, Path(data))
    asyncio.run(_until_told(settings, SetClock(Path(file)), float(trial_s)))


async def _until_told(settings: EdgeSettings, clock: SetClock, trial_s: float) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    await run(settings, clock, stop, trial_s=trial_s)
