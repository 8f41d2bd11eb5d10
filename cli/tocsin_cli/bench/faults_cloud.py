"""`tocsin bench faults --side cloud`: parts killed and paused at random, and whether anything is lost or doubled."""

import asyncio
import os
import secrets
import signal
from asyncio import TaskGroup
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from statistics import median
from typing import Any, Final

from tocsin_cli.bench.faults_cloud_account import LONG_S, Account
from tocsin_cli.bench.faults_cloud_bed import (
    AGAIN_S,
    GATEWAYS,
    HOST,
    USER,
    Part,
    Row,
    Sql,
    SqlServer,
    Tables,
    meanwhile,
    points_of,
    running,
    sql_server,
    write_plant,
)
from tocsin_cli.bench.faults_cloud_gateway import Course, Gateway
from tocsin_cli.bench.faults_cloud_listener import Listener, listening
from tocsin_cli.bench.faults_cloud_script import SHARED, Cycle, Fault, Target, script
from tocsin_cli.bench.faults_cloud_takeover import RECOVERY_S, Roles, Waits
from tocsin_cli.bench.faults_cloud_tally import (
    Messages,
    alarms,
    decided_alarms,
    delivered_messages,
    messages,
    readings,
    stored_readings,
)
from tocsin_cli.bench.faults_diary import Diary
from tocsin_cli.bench.faults_tally import Count
from tocsin_cli.bench.programs import TOCSIN
from tocsin_cli.demo.client import ApiClient
from tocsin_cli.demo.ports import free_port
from tocsin_cloud.adapters.history_open import FILE as HISTORY_FILE
from tocsin_cloud.adapters.nats_server import NatsServer
from tocsin_cloud.adapters.sql.engine import Database
from tocsin_cloud.settings import Address, BrokerSettings
from tocsin_core.clock import Clock

# So many points of each gateway are raised in a cycle, at most; people are told of each point once.
FRESH_A_CYCLE: Final = 2
FRESH_AT_LEAST: Final = 20

Say = Callable[[str], None]


@dataclass
class Record:
    """What was done in a run, and how long it was felt, in s."""

    cycles: list[Fault] = field(default_factory=list)
    takeovers_s: dict[Fault, list[float]] = field(default_factory=dict)
    outages_s: list[float] = field(default_factory=list)
    long: list[dict[str, Any]] = field(default_factory=list)

    @property
    def kills(self) -> int:
        """How many programs were killed; a server with all its processes is one."""
        return sum(len(fault.targets) for fault in self.cycles if fault.kills)

    def worst_takeover_s(self) -> float:
        """The longest that the work of a role was not done although somebody could have done it."""
        return round(max((max(took) for took in self.takeovers_s.values() if took), default=0.0), 2)

    def by_fault(self) -> dict[str, dict[str, float]]:
        """How often each fault came, and the takeovers that were measured of it."""
        found: dict[str, dict[str, float]] = {}
        for fault in sorted(set(self.cycles), key=str):
            took = self.takeovers_s.get(fault, [])
            found[str(fault)] = {"cycles": self.cycles.count(fault), "takeovers": len(took)}
            if took:
                found[str(fault)] |= {"median_s": round(median(took), 2), "worst_s": round(max(took), 2)}
        return found


@dataclass(frozen=True, slots=True)
class Found:
    """What a run came to."""

    record: Record
    sql: Sql
    readings: Count
    alarms: Count
    messages: Messages

    def figures(self) -> dict[str, Any]:
        """The figures by name."""
        return {
            "cycles": len(self.record.cycles),
            "kills": self.record.kills,
            "readings_sent": self.readings.expected,
            "readings_lost": self.readings.lost,
            "readings_doubled": self.readings.doubled,
            "alarms_expected": self.alarms.expected,
            "alarms_lost": self.alarms.lost,
            "alarms_doubled": self.alarms.doubled,
            "messages_expected": self.messages.count.expected,
            "messages_delivered": self.messages.delivered,
            "messages_lost": self.messages.count.lost,
            "messages_doubled": self.messages.count.doubled,
            "messages_known_again": self.messages.known_again,
            "worst_takeover_s": self.record.worst_takeover_s(),
            "worst_outage_s": round(max(self.record.outages_s, default=0.0), 2),
            "sql": self.sql.value,
            "faults": self.record.by_fault(),
            "long": self.record.long,
        }


@dataclass
class Bench(Waits):
    """One run: the parts, and what the bench itself did to them."""

    server: NatsServer
    database: Part | None
    workers: list[Part]
    api: Part
    gateways: list[Gateway]
    account: Account
    record: Record = field(default_factory=Record)

    async def cycle(self, cycle: Cycle) -> None:
        """Let one cycle happen; it ends once all that was read before is committed, and the page is ready.

        A worker that was killed may still be starting then: the next kill may find it alone, or not yet there.
        """
        await asyncio.sleep(cycle.lead_s)
        before = await self.tables.leases()
        targets = self._targets(before)
        hit = ", ".join(f"{part.name} is {target}" for target, part in targets.items())
        self.account.diary.note(f"{cycle.fault} ({hit})")
        hit_s = self.clock.monotonic()
        strike = self._kill if cycle.fault.kills else self._pause
        took_s = await strike(cycle, before, targets)
        await self.recovered()
        self.account.diary.note("all is as it was")
        self.record.cycles.append(cycle.fault)
        self.record.takeovers_s.setdefault(cycle.fault, []).extend(took_s)
        self.record.outages_s.append(self.clock.monotonic() - hit_s)

    def _targets(self, leases: Mapping[str, Row]) -> dict[Target, Part]:
        """Everything but the NATS server; the holder is the worker that has the most leases."""
        held = [row.pid for row in leases.values()]
        holder, standby = sorted(self.workers, key=lambda part: -held.count(part.pid))
        found = {Target.HOLDER: holder, Target.STANDBY: standby, Target.API: self.api}
        return found if self.database is None else {**found, Target.DATABASE: self.database}

    async def _kill(self, cycle: Cycle, before: Mapping[str, Row], targets: Mapping[Target, Part]) -> list[float]:
        """Kill, and return how long each role was not done that this concerns, once somebody could do it, in s."""
        hit = cycle.fault.targets
        dead = {targets[target].pid for target in hit if target in targets}
        restarts = self.server.restarts + (Target.SERVER in hit)
        for target in hit:
            if target in targets:
                targets[target].kill(cycle.pause_s if target is Target.DATABASE else AGAIN_S)
            elif self.server.pid is not None:
                os.kill(self.server.pid, signal.SIGKILL)

        async def there() -> bool:
            served = self.server.restarts >= restarts and any(worker.answers() for worker in self.workers)
            return served and bool(await self.tables.leases())

        await self.until(there, RECOVERY_S, "the return of what was killed")
        taken = {role: row for role, row in before.items() if row.pid in dead}
        return await self._measure(taken, also_kept=bool(SHARED.intersection(hit)))

    async def _pause(self, cycle: Cycle, before: Mapping[str, Row], targets: Mapping[Target, Part]) -> list[float]:
        """Have somebody stand still for a while, and return as `_kill`."""
        (target,) = cycle.fault.targets
        if target in SHARED:
            async with self._still(target, targets):
                await asyncio.sleep(cycle.pause_s)
            return await self._measure({}, also_kept=True)
        held = {role: row for role, row in before.items() if row.pid == targets[target].pid}
        others = [worker for worker in self.workers if worker is not targets[target]]
        since = self.roles.now()
        watching = {}
        async with self._still(target, targets), TaskGroup() as tasks:
            if any(other.answers() for other in others):
                for role, row in held.items():
                    taken = partial(self.roles.taken, role, since, row)
                    watching[role] = tasks.create_task(self._timed(taken, since.s, role), name=role)
            await asyncio.sleep(cycle.pause_s)
            self._signal(target, targets, signal.SIGCONT)
            await self.recovered()
            after = await self.tables.leases()
            for role, task in watching.items():
                # It woke in time: nobody took this over.
                if after[role].epoch == before[role].epoch:
                    task.cancel()
        return [task.result() for task in watching.values() if not task.cancelled()]

    async def _measure(self, taken: Mapping[str, Row], *, also_kept: bool) -> list[float]:
        """From now: how long until somebody has taken over each of the roles, and until the others are done again."""
        since, rows = self.roles.now(), await self.tables.leases()
        self.account.diary.note("takeovers count from here")
        conditions = {role: partial(self.roles.taken, role, since, row) for role, row in taken.items()}
        if also_kept:
            conditions |= {
                role: partial(self.roles.done, role, since, row) for role, row in rows.items() if role not in taken
            }
        async with TaskGroup() as tasks:
            timed = [tasks.create_task(self._timed(done, since.s, role)) for role, done in conditions.items()]
        return [task.result() for task in timed]

    async def _timed(self, condition: Callable[[], Awaitable[bool]], since_s: float, role: str) -> float:
        turns = self.account.turns()
        await self.until(condition, RECOVERY_S, f"the work of {role}")
        took_s = self.clock.monotonic() - since_s
        if took_s > LONG_S:
            self.record.long.append(self.account.of(f"the work of {role}", since_s, turns))
        return took_s

    @asynccontextmanager
    async def _still(self, target: Target, targets: Mapping[Target, Part]) -> AsyncIterator[None]:
        """Have a part stand still until left, or told to go on."""
        self._signal(target, targets, signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(target, targets, signal.SIGCONT)

    def _signal(self, target: Target, targets: Mapping[Target, Part], number: signal.Signals) -> None:
        self.account.diary.note(f"{number.name} to {target}")
        if target in targets:
            targets[target].signal(number)
        elif self.server.pid is not None:
            os.kill(self.server.pid, number)


async def measure(folder: Path, clock: Clock, cycles: int, seed: int, say: Say, sql: Sql) -> Found:
    """Run so many cycles, its files in `folder`, and count; `say` is told what is going on."""
    say("starting the cloud side")
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(listening(HOST))
        diary = Diary(clock)
        url, database = await sql_server(folder, sql, stack, diary)
        tables = Tables(Database.as_it_is(url))
        stack.push_async_callback(tables.database.close)
        async with _bench(folder, listener, (url, database), tables, diary, clock, cycles, seed) as bench:
            await bench.until(bench.ready, RECOVERY_S, "the cloud side's start")
            async with meanwhile(gateway.speak for gateway in bench.gateways):
                async with meanwhile(gateway.read for gateway in bench.gateways):
                    await bench.recovered()
                    for place, cycle in enumerate(script(cycles, seed, database=database is not None), 1):
                        say(f"cycle {place} of {cycles}: {cycle.fault}")
                        await bench.cycle(cycle)
                say("waiting for what is still under way")
                await bench.settled()
        say("counting")
        sent = {reading for gateway in bench.gateways for reading in gateway.readings()}
        raised = {one: gone for gateway in bench.gateways for one, gone in gateway.course.raised.items()}
        told = {one for gateway in bench.gateways for one in gateway.course.told}
        return Found(
            bench.record,
            sql,
            readings(sent, stored_readings(folder / "cloud" / HISTORY_FILE)),
            alarms(raised, await decided_alarms(tables)),
            messages(told, await delivered_messages(tables, listener.keys)),
        )


@asynccontextmanager
async def _bench(
    folder: Path,
    listener: Listener,
    sql: SqlServer,
    tables: Tables,
    diary: Diary,
    clock: Clock,
    cycles: int,
    seed: int,
) -> AsyncIterator[Bench]:
    points = max(FRESH_AT_LEAST, FRESH_A_CYCLE * cycles)
    write_plant(folder / "plant", GATEWAYS, points, f"json://{HOST}:{listener.port}/")
    mqtt, nats, http = Address(HOST, free_port()), Address(HOST, free_port()), Address(HOST, free_port())
    password = secrets.token_urlsafe(12)
    env = {"TOCSIN_ADMIN_PASSWORD": password}
    command = [*TOCSIN, "cloud", str(folder / "plant"), "--data", str(folder / "cloud"), "--nats", f"nats://{nats}"]
    command += ["--mqtt", str(mqtt), "--http", str(http)]
    url, database = sql
    if database is not None:
        command += ["--sql", f"postgresql://{url.username}@{url.host}:{url.port}/{url.database}"]
    logs = [folder / f"{name}.log" for name in ("worker-1", "worker-2")]
    workers = [Part([*command, "--role", "workers"], log, env, diary) for log in logs]
    api = Part([*command, "--role", "api"], folder / "api.log", env, diary)
    gateways = [
        Gateway(name, mqtt.port, Course(points_of(name, points), Random(f"{seed} {name}")), clock)  # noqa: S311 - faults, not secrets
        for name in GATEWAYS
    ]
    page = ApiClient(f"http://{http}/", USER, password, clock)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(page.close)
        server = await NatsServer.start(BrokerSettings(folder=folder / "nats", nats=nats, mqtt=mqtt), clock)
        stack.push_async_callback(server.stop)
        await stack.enter_async_context(meanwhile([server.supervise]))
        await stack.enter_async_context(running([*workers, api]))
        roles = Roles(tables, gateways, clock)
        account = Account(diary, [*workers, api], clock)
        yield Bench(roles, page.ready, clock, server, database, workers, api, gateways, account)
