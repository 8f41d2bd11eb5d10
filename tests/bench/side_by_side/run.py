"""One gateway through the whole fault script: what is done to it when, and what is written down meanwhile."""

import asyncio
import os
import random
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import psutil

from tests.bench.side_by_side.bed import Bed
from tests.bench.side_by_side.counter import Course, Span, figures
from tests.bench.side_by_side.devices import DEVICES, Fault, read_log
from tests.bench.side_by_side.link import Wire
from tests.bench.side_by_side.peer import Peer, Start

PERIOD_S: Final = 1.0
BEGIN_S: Final = 120.0
LOOK_EVERY_S: Final = 0.25
LINES: Final = 20
LOG: Final = "gateway.log"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Step:
    """A stretch of the script; `faults`: the three devices do wrong; `kill`: it begins with a kill and a new start."""

    name: str
    seconds: float
    wire: Wire = Wire.WHOLE
    faults: bool = False
    kill: bool = False


KILLS: Final = 5
SCRIPT: Final = (
    Step("calm", 30),
    Step("devices faulty", 60, faults=True),
    Step("devices well again", 30),
    Step("broker gone", 60, wire=Wire.CUT),
    Step("broker back", 40),
    Step("cable pulled", 60, wire=Wire.PULLED),
    Step("cable back", 40),
    *(Step(f"killed {time}", 12, kill=True) for time in range(1, KILLS + 1)),
    Step("broker gone again", 20, wire=Wire.CUT),
    Step("killed without broker", 20, wire=Wire.CUT, kill=True),
    Step("all well", 40),
)
DRAIN_S: Final = 60.0
# Longer than the slowest of them takes until it reads again: each kill hits a gateway at its usual work.
BETWEEN_KILLS_S: Final = 4.0


def killings(times: int) -> Sequence[Step]:
    """Nothing but kills, at any moment of the period: a few say little, as what is read at one moment is lost together.

    Between one period and the next nearly every gateway has all on its disk; most kills fall there.
    """
    kills = (Step(f"killed {time}", BETWEEN_KILLS_S, kill=True) for time in range(1, times + 1))
    return (Step("calm", 10), *kills, Step("all well", 20))


@dataclass(frozen=True, slots=True)
class Plan:
    """A script with what the seed has drawn: the faulty devices, and each step's own length."""

    steps: Sequence[Step]
    faults: Mapping[int, Fault]
    period_s: float
    drain_s: float

    @classmethod
    def drawn(
        cls, seed: int, steps: Sequence[Step] = SCRIPT, period_s: float = PERIOD_S, drain_s: float = DRAIN_S
    ) -> "Plan":
        """Draw the faulty devices, and up to a period that each step is longer, so that kills fall anywhere in it."""
        chance = random.Random(seed)  # noqa: S311
        faulty = chance.sample(range(1, DEVICES + 1), 3)
        longer = [
            Step(step.name, step.seconds + chance.random() * period_s, step.wire, step.faults, step.kill)
            for step in steps
        ]
        faults = dict(zip(faulty, (Fault.DEAD, Fault.SLOW, Fault.LATE), strict=True))
        return cls(longer, faults, period_s, drain_s)

    @property
    def dead(self) -> int:
        """The device that is silent."""
        return next(device for device, fault in self.faults.items() if fault is Fault.DEAD)


@dataclass
class Usage:
    """Processor time and memory of a gateway over all its starts."""

    cpu_s: float = 0.0
    rss_most_mb: float = 0.0
    _ended_s: float = 0.0

    def look(self, process: Process) -> float:
        """Take note of what the running process, with its children, has used; gives its memory in MB."""
        with suppress(psutil.NoSuchProcess):
            main = psutil.Process(process.pid)
            all_of_them = [main, *main.children(recursive=True)]
            times = [each.cpu_times() for each in all_of_them]
            self.cpu_s = self._ended_s + sum(each.user + each.system for each in times)
            rss_mb = float(sum(each.memory_info().rss for each in all_of_them)) / 1e6
            self.rss_most_mb = max(self.rss_most_mb, rss_mb)
            return rss_mb
        return 0.0

    def ended(self) -> None:
        """The process is gone; the next one counts from 0."""
        self._ended_s = self.cpu_s


@asynccontextmanager
async def gateway(start: Start) -> AsyncIterator["Running"]:
    """The gateway's process, which is killed when left."""
    running = Running(start)
    await running.begin()
    try:
        yield running
    finally:
        await running.kill()


class Running:
    """A gateway under a supervisor that starts it again at once, whoever ended it."""

    def __init__(self, start: Start) -> None:
        self._start = start
        self._process: Process | None = None
        self.usage = Usage()
        self.ended_by_itself = 0

    async def begin(self) -> None:
        """Start it, in a process group of its own."""
        with (self._start.folder / LOG).open("ab") as out:
            self._process = await asyncio.create_subprocess_exec(
                *self._start.command,
                cwd=self._start.folder,
                env={**os.environ, **self._start.environment},
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    async def kill(self) -> None:
        """Kill -9, with all that it has started."""
        assert self._process is not None
        self.usage.look(self._process)
        self.usage.ended()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()

    async def look(self) -> float:
        """Take note of what it uses, and start it again if it has ended; its memory now, in MB."""
        assert self._process is not None
        if self._process.returncode is not None:
            self.ended_by_itself += 1
            self.usage.ended()
            await self.begin()
        return self.usage.look(self._process)

    def last_words(self) -> str:
        """The end of what it wrote."""
        said = (self._start.folder / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(said[-LINES:])


@dataclass
class Session:
    """A gateway on its way through a plan."""

    made: Bed
    running: Running
    plan: Plan
    say: Say
    spans: list[Span] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    dead_until_s: float = 0.0

    async def begin(self, peer: Peer) -> float:
        """Wait until values of every device come; how long that took, in s.

        Raises:
            TimeoutError: they do not; with the gateway's last words.
        """
        clock = self.made.clock
        began = clock.monotonic()
        self.say("starts")
        seen: set[int] = set()
        while len(seen) < DEVICES:
            await self.running.look()
            seen = {arrival.device for arrival in peer.arrivals(self.made.messages)}
            if clock.monotonic() > began + BEGIN_S:
                told = f"only devices {sorted(seen)} were read within {BEGIN_S:g} s"
                raise TimeoutError(f"{told}; it said:\n{self.running.last_words()}")
            await asyncio.sleep(LOOK_EVERY_S)
        return clock.monotonic() - began

    async def go(self) -> None:
        """Every step of the plan; `rss_mb` and `cpu_s` are as at each one's end, `cpu_s` also before the first."""
        self.cpu_s.append(self.running.usage.cpu_s)
        clock, faulty = self.made.clock, False
        for step in self.plan.steps:
            self.say(step.name)
            await self.made.link.become(step.wire)
            if step.faults is not faulty:
                faulty = step.faults
                await self.made.fault(self.plan.faults if faulty else {})
                self.dead_until_s = clock.monotonic()
            if step.kill:
                await self.running.kill()
            from_s = clock.monotonic()
            if step.kill:
                await self.running.begin()
            self.rss_mb.append(await self.watch(from_s + step.seconds))
            self.cpu_s.append(self.running.usage.cpu_s)
            reachable = step.wire is Wire.WHOLE
            self.spans.append(Span(step.name, from_s, clock.monotonic(), reachable=reachable, killed=step.kill))

    async def watch(self, until_s: float) -> float:
        """Look at the gateway's use until a moment; its memory then, in MB."""
        rss_mb = await self.running.look()
        while (left := until_s - self.made.clock.monotonic()) > 0:
            await asyncio.sleep(min(LOOK_EVERY_S, left))
            rss_mb = await self.running.look()
        return rss_mb

    def course(self) -> Course:
        """What was done, for the counter."""
        healthy = frozenset(range(1, DEVICES + 1)) - set(self.plan.faults)
        return Course(_joined(self.spans), healthy, self.plan.dead, self.dead_until_s, self.plan.period_s)


async def run(peer: Peer, made: Bed, plan: Plan, say: Say) -> dict[str, Any]:
    """Put one gateway through the script; every figure of it."""
    folder = made.folder / "gateway"
    start = await asyncio.to_thread(peer.configure, folder, made.ports, made.link.port, plan.period_s)
    load = os.getloadavg()[0]
    async with peer.host(made.broker), gateway(start) as running:
        session = Session(made, running, plan, say)
        ready_s = await session.begin(peer)
        await session.go()
        say("what is still to come")
        await session.watch(made.clock.monotonic() + plan.drain_s)
    course, cpu_s = session.course(), session.cpu_s
    calm = course.spans[0]
    return {
        **figures(course, read_log(made.log), peer.arrivals(made.messages)),
        "spans": {span.name: (span.from_s, span.to_s) for span in course.spans},
        "ended_by_itself": running.ended_by_itself,
        "ready_s": round(ready_s, 1),
        "cpu_s": round(cpu_s[-1] - cpu_s[0], 1),
        "cpu_percent_of_one_core": round(100 * (cpu_s[1] - cpu_s[0]) / (calm.to_s - calm.from_s), 1),
        "rss_mb": round(session.rss_mb[0], 1),
        "rss_most_mb": round(running.usage.rss_most_mb, 1),
        "seconds": round(course.to_s - course.from_s, 1),
        "load_average": [round(load, 1), round(os.getloadavg()[0], 1)],
    }


def _joined(spans: Sequence[Span]) -> list[Span]:
    """The same spans, each reaching to the next."""
    ends = [span.from_s for span in spans[1:]] + [spans[-1].to_s]
    return [
        Span(span.name, span.from_s, end, reachable=span.reachable, killed=span.killed)
        for span, end in zip(spans, ends, strict=True)
    ]
