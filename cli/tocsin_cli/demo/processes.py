"""The supervisor: starts processes, starts them again when they die, and ends them all within a bounded time."""

import asyncio
import ctypes
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tocsin_core.clock import Clock

PR_SET_PDEATHSIG: Final = 1
RESTART_FIRST_S: Final = 0.3
RESTART_LONGEST_S: Final = 5.0
SETTLED_S: Final = 5.0  # a process that lived this long is not blamed for its earlier deaths
HOPELESS: Final = 5  # deaths in a row, each before it settled
LOG_TAIL: Final = 15
WRONG_ARGUMENTS: Final = 2  # the exit code that no restart can mend


class SupervisorError(Exception):
    """A process that cannot be kept alive; the message ends with what it said last."""


@dataclass(frozen=True, slots=True)
class Spec:
    """One process: a name, the `tocsin` arguments it runs, and how long it may take to end, in seconds."""

    name: str
    arguments: tuple[str, ...]
    grace_s: float


@dataclass(slots=True)
class Process:
    """A process as it runs now; `restarts` counts new starts, the first `said_before` bytes of its log are older."""

    spec: Spec
    handle: asyncio.subprocess.Process
    started: float
    said_before: int
    restarts: int = 0
    early_deaths: int = 0
    ending: bool = False

    @property
    def alive(self) -> bool:
        """Whether it runs at this moment."""
        return self.handle.returncode is None


def _die_with_parent() -> None:
    """In the child: ask Linux to end it when the supervisor is gone, however that was killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Supervisor:
    """Processes by name, in the order of their start; each writes to its own file in `logs`."""

    def __init__(self, logs: Path, clock: Clock) -> None:
        """Prepare to log into the folder `logs`, which is made."""
        logs.mkdir(parents=True, exist_ok=True)
        self.logs = logs
        self.processes: dict[str, Process] = {}
        self._clock = clock
        self._watchers: dict[str, asyncio.Task[None]] = {}
        self.failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def __aenter__(self) -> Self:
        """Nothing runs yet."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End whatever still runs: all at once but the first, on which the others lean."""
        first, *rest = self.processes or [""]
        await self.stop_all(rest)
        await self.stop_all([first] if first else [])

    async def start(self, spec: Spec) -> None:
        """Start a process and keep it alive from now on."""
        log = self.logs / f"{spec.name}.log"
        said = log.stat().st_size if log.exists() else 0
        self.processes[spec.name] = Process(spec, await self._spawn(spec), self._clock.monotonic(), said)
        self._watchers[spec.name] = asyncio.create_task(self._watch(spec.name), name=f"watch {spec.name}")

    async def stop(self, name: str) -> None:
        """End a process: politely, and after its grace by force."""
        process = self.processes[name]
        process.ending = True
        # A watcher that is about to start the process again must not do so behind our back.
        self._watchers[name].cancel()
        if process.alive:
            process.handle.terminate()
            try:
                await asyncio.wait_for(process.handle.wait(), process.spec.grace_s)
            except TimeoutError:
                # It may have ended just then.
                if process.alive:
                    process.handle.kill()
                await process.handle.wait()

    async def stop_all(self, names: Sequence[str]) -> None:
        """End several processes at the same time."""
        await asyncio.gather(*(self.stop(name) for name in names))

    async def _spawn(self, spec: Spec) -> asyncio.subprocess.Process:
        with (self.logs / f"{spec.name}.log").open("ab") as log:
            # In sessions of their own Ctrl-C at the terminal reaches the supervisor alone, which ends them in order.
            return await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "tocsin_cli",
                *spec.arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    async def _watch(self, name: str) -> None:
        process = self.processes[name]
        while True:
            code = await process.handle.wait()
            if process.ending:
                return
            settled = self._clock.monotonic() - process.started > SETTLED_S
            process.early_deaths = 0 if settled else process.early_deaths + 1
            if process.early_deaths >= HOPELESS or (code == WRONG_ARGUMENTS and not settled):
                if not self.failed.done():
                    self.failed.set_result(f"{name} ended with {code} and cannot be kept alive:\n{self._tail(name)}")
                return
            await asyncio.sleep(min(RESTART_LONGEST_S, RESTART_FIRST_S * 2**process.early_deaths))
            process.restarts += 1
            process.handle, process.started = await self._spawn(process.spec), self._clock.monotonic()

    def _tail(self, name: str) -> str:
        said = (self.logs / f"{name}.log").read_bytes()[self.processes[name].said_before :]
        lines = said.decode(errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-LOG_TAIL:])
