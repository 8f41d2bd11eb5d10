"""Programs that a benchmark starts beside itself, and ends in any case."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from tocsin_core.clock import Clock

END_S: Final = 10.0
# The command line in a process of its own, with whatever Python this one has.
TOCSIN: Final = (sys.executable, "-c", "from tocsin_cli.main import main; main()")


def with_compiled_files(folder: Path) -> dict[str, str]:
    """The environment with what lets Python keep its compiled files in `folder`.

    An installation has them beside the sources; a checkout may have none, and may not be allowed to make any.
    """
    return {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder)}


@asynccontextmanager
async def program(
    *arguments: str, log: Path, talks: bool = False, env: Mapping[str, str] | None = None, apart: bool = False
) -> AsyncIterator[Process]:
    """Run a program until left; it is told to end, and made to if it does not. If it `talks`, its lines are ours.

    What it has to say of itself goes to `log`; if it stands `apart`, through us, and it has no file open for that.
    """
    with log.open("ab") as out:
        begins = asyncio.create_subprocess_exec
        if talks:
            process = await begins(*arguments, stdin=PIPE, stdout=PIPE, stderr=out, env=env)
        else:
            process = await begins(*arguments, stdout=out, stderr=PIPE if apart else out, env=env)
    copying = asyncio.create_task(_copy(process, log), name="log") if apart else None
    try:
        yield process
    finally:
        await end(process)
        if copying is not None:
            await copying


async def end(process: Process) -> None:
    """Tell a program to end, and make it end if it does not; one that has ended is left alone."""
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(END_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def _copy(process: Process, log: Path) -> None:
    if process.stderr is None:
        raise RuntimeError("a program that stands apart has a pipe")
    with log.open("ab") as out:
        while data := await process.stderr.read(1 << 16):
            out.write(data)
            out.flush()


async def until_listening(port: int, clock: Clock, most_s: float = END_S) -> None:
    """Wait until something on this machine accepts connections.

    Raises:
        OSError: nothing does within `most_s`.
    """
    deadline = clock.monotonic() + most_s
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            if clock.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return


def last_line(log: Path) -> str:
    """What a program said last."""
    said = log.read_text(encoding="utf-8").strip().splitlines()
    return said[-1] if said else ""


def cpu_s(pid: int) -> float:
    """Seconds of processor time that a process and those that it started have used, all threads of them.

    proc(5): /proc/pid/stat, fields 14 to 17; what has ended counts with who waited for it.
    """
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    own = sum(int(fields[place]) for place in range(11, 15)) / os.sysconf("SC_CLK_TCK")
    return own + sum(cpu_s(child) for child in started_by(pid))


def started_by(pid: int) -> list[int]:
    """The processes that a process has started and that still run (Linux); none of one that has ended."""
    found: list[int] = []
    # Threads end while they are listed, and so do processes.
    with suppress(FileNotFoundError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):
                found += map(int, (task / "children").read_text(encoding="ascii").split())
    return found
