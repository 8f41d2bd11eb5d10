"""`tocsin bench faults --side cloud`: parts killed and paused at random, and whether anything is lost or doubled."""

import asyncio
import os
import secrets
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from tocsin_cli.bench.faults_cloud_bed import PERSON, Part, Tables, paused, points_of, running, write_plant
from tocsin_cli.bench.faults_cloud_gateway import Course, Gateway
from tocsin_cli.bench.faults_cloud_script import Cycle, Fault, script
from tocsin_cli.bench.faults_cloud_tally import (
    alarms,
    decided_alarms,
    delivered_messages,
    messages,
    readings,
    stored_readings,
)
from tocsin_cli.bench.faults_tally import Count
from tocsin_cli.demo.client import ApiClient
from tocsin_cli.demo.ports import free_port
from tocsin_cloud.adapters.history_open import FILE as HISTORY_FILE
from tocsin_cloud.adapters.nats_server import NatsServer
from tocsin_cloud.settings import Address, BrokerSettings
from tocsin_core.clock import Clock

GATEWAYS: Final = ("gw1", "gw2")
HOST: Final = "127.0.0.1"
USER: Final = "admin"
POLL_S: Final = 0.1
# All that a fault held up has to be there again within this, and the last of it at the end.
RECOVERY_S: Final = 600.0
# So many points of each gateway are raised in a cycle, at most; people are told of each point once.
FRESH_A_CYCLE: Final = 2
FRESH_AT_LEAST: Final = 20

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Found:
    """What a run came to."""

    cycles: int
    kills: int
    readings: Count
    alarms: Count
    messages: Count
    worst_takeover_s: float

    def figures(self) -> dict[str, float]:
        """The figures by name."""
        return {
            "cycles": self.cycles,
            "kills": self.kills,
            "readings_sent": self.readings.expected,
            "readings_lost": self.readings.lost,
            "readings_doubled": self.readings.doubled,
            "alarms_expected": self.alarms.expected,
            "alarms_lost": self.alarms.lost,
            "alarms_doubled": self.alarms.doubled,
            "messages_lost": self.messages.lost,
            "messages_doubled": self.messages.doubled,
            "worst_takeover_s": round(self.worst_takeover_s, 2),
        }


@dataclass
class Bench:
    """One run: the parts, and what the bench itself did to them."""

    server: NatsServer
    workers: list[Part]
    api: Part
    gateways: list[Gateway]
    tables: Tables
    page: ApiClient
    clock: Clock
    kills: int = 0
    takeovers_s: list[float] = field(default_factory=list)

    async def cycle(self, cycle: Cycle) -> None:
        """Let one cycle happen; it ends once all that was read before is committed, and the page is ready.

        A worker that was killed may still be starting then: the next kill may find it alone, or not yet there.
        """
        await asyncio.sleep(cycle.lead_s)
        holder, standby = self._by_leases()
        self.kills += cycle.fault.kills
        match cycle.fault:
            case Fault.KILL_HOLDER if standby.answers():
                await self._take_over(holder)
            case Fault.KILL_HOLDER:
                holder.kill()
            case Fault.KILL_STANDBY:
                standby.kill()
            case Fault.KILL_BOTH:
                holder.kill()
                standby.kill()
            case Fault.KILL_SERVER:
                self._kill_server()
            case Fault.KILL_SERVER_AND_HOLDER:
                self._kill_server()
                holder.kill()
            case Fault.KILL_API:
                self.api.kill()
            case Fault.PAUSE_HOLDER | Fault.PAUSE_STANDBY | Fault.PAUSE_SERVER:
                pause = {Fault.PAUSE_HOLDER: holder.pid, Fault.PAUSE_STANDBY: standby.pid}
                pid = pause.get(cycle.fault, self.server.pid)
                if pid is not None:
                    async with paused(pid):
                        await asyncio.sleep(cycle.pause_s)
        await self.recovered()

    def _kill_server(self) -> None:
        if self.server.pid is not None:
            os.kill(self.server.pid, signal.SIGKILL)

    def _by_leases(self) -> tuple[Part, Part]:
        """The worker that has the most leases, and the other one."""
        held = [holder.split(":")[1] for holder, _ in self.tables.leases().values() if holder]
        first, second = sorted(self.workers, key=lambda part: -held.count(str(part.pid)))
        return first, second

    async def _take_over(self, holder: Part) -> None:
        """Kill a worker while the other stands by, and measure for how long none of its roles is done."""
        before = self.tables.leases()
        had = {role: epoch for role, (name, epoch) in before.items() if name.split(":")[1:2] == [str(holder.pid)]}
        holder.kill()
        killed_s, killed_ns = self.clock.monotonic(), self.clock.now_ns()
        batches = [gateway.newest for gateway in self.gateways]
        at_work: Mapping[str, Callable[[], bool]] = {
            "alarms": lambda: self.tables.position() > killed_ns,
            "historian": lambda: any(
                gateway.committed > batch for gateway, batch in zip(self.gateways, batches, strict=True)
            ),
        }

        async def taken(role: str, epoch: int) -> None:
            done = at_work.get(role, lambda: True)

            async def works() -> bool:
                return self.tables.leases()[role][1] > epoch and done()

            await self.until(works, RECOVERY_S, f"the takeover of {role}")
            self.takeovers_s.append(self.clock.monotonic() - killed_s)

        async with asyncio.TaskGroup() as tasks:
            for role, epoch in had.items():
                tasks.create_task(taken(role, epoch), name=role)

    async def recovered(self) -> None:
        """Wait until what was read by now is committed, to the history and by the alarms, and the page is ready."""
        now_ns = self.clock.now_ns()
        batches = [gateway.newest for gateway in self.gateways]

        async def back() -> bool:
            return (
                all(gateway.committed >= batch for gateway, batch in zip(self.gateways, batches, strict=True))
                and self.tables.position() > now_ns
                and await self.page.ready()
            )

        await self.until(back, RECOVERY_S, "the recovery")

    async def settled(self) -> None:
        """Wait until nothing is under way any more; the gateways read nothing new."""
        await self.recovered()

        async def told() -> bool:
            # The next call of the same people is a day away.
            under_way = "SELECT 1 FROM message WHERE state IN ('pending', 'sending') AND repeat = 0 LIMIT 1"
            return not self.tables.rows(under_way)

        await self.until(told, RECOVERY_S, "the last message")

    async def until(self, condition: Callable[[], Awaitable[bool]], most_s: float, what: str) -> None:
        """Wait for a condition.

        Raises:
            TimeoutError: it did not come.
        """
        deadline = self.clock.monotonic() + most_s
        while not await condition():
            if self.clock.monotonic() > deadline:
                raise TimeoutError(f"{what} took more than {most_s:g} s")
            await asyncio.sleep(POLL_S)


async def measure(folder: Path, clock: Clock, cycles: int, seed: int, say: Say) -> Found:
    """Run so many cycles, its files in `folder`, and count; `say` is told what is going on."""
    data = folder / "cloud"
    tables = Tables(data)
    async with _bench(folder, tables, clock, cycles, seed) as bench:
        say("starting the cloud side")
        await bench.until(bench.page.ready, RECOVERY_S, "the cloud side's start")
        async with _tasks(gateway.speak for gateway in bench.gateways):
            async with _tasks(gateway.read for gateway in bench.gateways):
                await bench.recovered()
                for place, cycle in enumerate(script(cycles, seed), 1):
                    say(f"cycle {place} of {cycles}: {cycle.fault.value[0]}")
                    await bench.cycle(cycle)
            say("waiting for what is still under way")
            await bench.settled()
    say("counting")
    sent = {reading for gateway in bench.gateways for reading in gateway.readings()}
    raised = {one: gone for gateway in bench.gateways for one, gone in gateway.course.raised.items()}
    told = {one for gateway in bench.gateways for one in gateway.course.told}
    return Found(
        cycles,
        bench.kills,
        readings(sent, stored_readings(data / HISTORY_FILE)),
        alarms(raised, decided_alarms(tables)),
        messages(told, delivered_messages(tables, data / "outbox" / f"{PERSON}.jsonl")),
        max(bench.takeovers_s, default=0.0),
    )


@asynccontextmanager
async def _bench(folder: Path, tables: Tables, clock: Clock, cycles: int, seed: int) -> AsyncIterator[Bench]:
    points = max(FRESH_AT_LEAST, FRESH_A_CYCLE * cycles)
    write_plant(folder / "plant", GATEWAYS, points)
    mqtt, nats, http = Address(HOST, free_port()), Address(HOST, free_port()), Address(HOST, free_port())
    password = secrets.token_urlsafe(12)
    command = ["cloud", str(folder / "plant"), "--data", str(tables.data), "--nats", f"nats://{nats}"]
    command += ["--mqtt", str(mqtt), "--http", str(http)]
    workers = [
        Part([*command, "--role", "workers"], folder / f"{name}.log", password) for name in ("worker-1", "worker-2")
    ]
    api = Part([*command, "--role", "api"], folder / "api.log", password)
    gateways = [
        Gateway(name, mqtt.port, Course(points_of(name, points), Random(f"{seed} {name}")), clock)  # noqa: S311 - faults, not secrets
        for name in GATEWAYS
    ]
    page = ApiClient(f"http://{http}/", USER, password, clock)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(page.close)
        server = await NatsServer.start(BrokerSettings(folder=folder / "nats", nats=nats, mqtt=mqtt), clock)
        stack.push_async_callback(server.stop)
        await stack.enter_async_context(_tasks([server.supervise]))
        await stack.enter_async_context(running([*workers, api]))
        yield Bench(server, workers, api, gateways, tables, page, clock)


@asynccontextmanager
async def _tasks(works: Iterable[Callable[[], Awaitable[None]]]) -> AsyncIterator[None]:
    """Have works that never end go on meanwhile; one that fails ends what goes on meanwhile too."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_awaited(work)) for work in works]
        yield
        for task in tasks:
            task.cancel()


async def _awaited(work: Callable[[], Awaitable[None]]) -> None:
    await work()
