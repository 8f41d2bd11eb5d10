"""What the pipeline benchmark runs on: broker, cloud side and simulated gateways, and what listeners are told."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from nats.aio.client import Client
from nats.aio.msg import Msg

from tocsin_cli.bench.faults_cloud_bed import Part, Sql, Tables, sql_server
from tocsin_cli.bench.pipeline_gateways import BIRTHS_S
from tocsin_cli.bench.pipeline_plant import GATEWAY_POINTS, SITE, Course
from tocsin_cli.bench.programs import TOCSIN, cpu_s, last_line, program, until_listening
from tocsin_cli.demo.ports import free_port
from tocsin_cloud.adapters.sql.engine import Database
from tocsin_cloud.adapters.stream import connect, ensure_stream, to_subject
from tocsin_cloud.app import PASSWORD_VARIABLE
from tocsin_cloud.settings import Role, StreamSettings, parse_roles
from tocsin_core.clock import Clock
from tocsin_core.sparkplug import Topic, parse_command

ROLES: Final = ("historian", "alarms,notify", "api")
# A plant of a million points takes minutes to be made and compiled.
START_MOST_S: Final = 300.0
START_POINTS_A_SECOND: Final = 200
LOOK_S: Final = 0.05
GATEWAYS: Final = "gateways"
PASSWORD: Final = "of the benchmark alone"  # noqa: S105 -- of a cloud side that lives for minutes
NS_PER_MS: Final = 1_000_000

Say = Callable[[str], None]


class Plan(NamedTuple):
    """How much is measured: gateways of 1,000 points, over so many seconds, after so many in which all is as later."""

    gateways: int
    warm_s: int
    seconds: int


@dataclass(slots=True)
class Heard:
    """What listeners are told: when (ns) each alarm was committed first, and which batch of each gateway is."""

    alarms: dict[str, int] = field(default_factory=dict)
    batches: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Bed:
    """What the benchmark runs on: its folder, its broker's client, its page, the processes whose work is measured.

    `begun` begins a process of the cloud side of a role, under a name; `sql` is the server of its tables, if any.
    """

    folder: Path
    clock: Clock
    client: Client
    page: str
    broker: Process
    cloud: dict[str, Process]
    sender: Process
    heard: Heard
    begun: Callable[[str, str], Awaitable[Process]]
    tables: Tables
    sql: Part | None

    @property
    def data(self) -> Path:
        """The data folder of the cloud side."""
        return self.folder / "cloud"

    async def start(self, role: str, name: str) -> None:
        """Start a process of the cloud side, of `role`; it is `cloud[name]`, and its log `name`.log."""
        self.cloud[name] = await self.begun(role, name)

    def cpu_s(self) -> dict[str, float]:
        """Processor time that each process of the system, by its role, and the simulated gateways used until now."""
        processes: dict[str, Process | Part] = {"broker": self.broker, **self.cloud, GATEWAYS: self.sender}
        if self.sql is not None:
            processes["sql"] = self.sql
        pids = {name: process.pid for name, process in processes.items()}
        return {name: cpu_s(pid) for name, pid in pids.items() if pid is not None}

    def check(self) -> None:
        """See that nothing has ended.

        Raises:
            RuntimeError: something has.
        """
        for process in (self.broker, self.sender, *self.cloud.values()):
            if process.returncode is not None:
                said = [f"{log.name}: {last_line(log)}" for log in sorted(self.folder.glob("*.log"))]
                raise RuntimeError(f"a process ended with code {process.returncode}; " + "; ".join(said))

    async def begin(self, plan: Plan, *, flood: bool = False) -> Course:
        """Let the gateways begin with their births; what they send is the answer. `told` says when they are done."""
        begin_ms = self.clock.now_ns() // NS_PER_MS + 1000 * BIRTHS_S + 200
        course = Course.of(plan.gateways, plan.warm_s, plan.seconds, begin_ms)
        if self.sender.stdin is None:
            raise RuntimeError("the gateways do not listen")
        line = {"warm_s": plan.warm_s, "seconds": plan.seconds, "begin_ms": begin_ms, "flood": flood}
        self.sender.stdin.write(json.dumps(line).encode() + b"\n")
        return course.flooded() if flood else course


async def _listen(client: Client, heard: Heard, clock: Clock) -> None:
    async def on_alarm(message: Msg) -> None:
        heard.alarms.setdefault(json.loads(message.data)["id"], clock.now_ns())

    async def on_command(message: Msg) -> None:
        batch = parse_command(message.data).committed
        if batch is not None:
            heard.batches[message.subject.rsplit(".", 1)[-1]] = batch

    await client.subscribe("tocsin.event.transition", cb=on_alarm)
    await client.subscribe(f"{to_subject(str(Topic(SITE, 'NCMD', '_'))).removesuffix('_')}*", cb=on_command)


@asynccontextmanager
async def bed(
    folder: Path, gateways: int, roles: Sequence[str], clock: Clock, say: Say, sql: Sql = Sql.SQLITE
) -> AsyncIterator[Bed]:
    """Start everything: an empty cloud side of those `roles`, a process for each, and gateways that are connected."""
    nats, mqtt, http = free_port(), free_port(), free_port()
    data = folder / "cloud"
    env = {**os.environ, PASSWORD_VARIABLE: PASSWORD}

    def python(module: str, *arguments: object) -> tuple[str, ...]:
        code = f"from tocsin_cli.bench.{module} import main; main()"
        return (sys.executable, "-c", code, *map(str, arguments))

    async with AsyncExitStack() as stack:
        run = stack.enter_async_context
        url, server = await sql_server(folder, sql, stack)
        tables = Tables(Database.as_it_is(url))
        stack.push_async_callback(tables.database.close)
        ports = ("--nats", f"127.0.0.1:{nats}", "--mqtt", f"127.0.0.1:{mqtt}")
        broker = await run(program(*TOCSIN, "broker", "--data", str(data), *ports, log=folder / "broker.log"))
        await until_listening(mqtt, clock, START_MOST_S)
        client = await connect(f"nats://127.0.0.1:{nats}", "bench")
        stack.push_async_callback(client.close)
        heard = Heard()
        await _listen(client, heard, clock)
        await ensure_stream(client, StreamSettings())
        say("the gateways make their messages")
        sending = python("pipeline_gateways", gateways, mqtt)
        sender = await run(program(*sending, log=folder / "gateways.log", talks=True))
        await told(sender, folder)
        ticked = asyncio.Event()

        async def on_tick(_: Msg) -> None:
            ticked.set()

        await client.subscribe(f"tocsin.tick.{SITE}", cb=on_tick)
        say("the cloud side starts")

        async def begun(role: str, name: str) -> Process:
            listens = (f"nats://127.0.0.1:{nats}", f"127.0.0.1:{http}", f"127.0.0.1:{mqtt}")
            command = python("pipeline_cloud", role, gateways, data, *listens, "" if server is None else url)
            return await run(program(*command, log=folder / f"{name}.log", env=env))

        page = f"http://127.0.0.1:{http}"
        made = Bed(folder, clock, client, page, broker, {}, sender, heard, begun, tables, server)
        for role in roles:
            await made.start(role, role)
        await until(ticked.is_set, made, start_most_s(gateways), "the start")
        if any(Role.API in parse_roles(role) for role in roles):
            # The interface renders the plant first, which is no part of what is measured.
            await until_listening(http, clock, START_MOST_S)
        yield made


def start_most_s(gateways: int) -> float:
    """Within so many seconds the alarms worker of so many gateways begins, however slow the machine is."""
    return START_MOST_S + gateways * GATEWAY_POINTS / START_POINTS_A_SECOND


async def told(sender: Process, folder: Path) -> dict[str, Any]:
    """What the gateways say next: `{}` when they are connected, then what they sent.

    Raises:
        RuntimeError: they have ended.
    """
    line = b"" if sender.stdout is None else await sender.stdout.readline()
    if not line:
        raise RuntimeError(f"the gateways ended: {last_line(folder / 'gateways.log')}")
    found: dict[str, Any] = json.loads(line)
    return found


async def until(condition: Callable[[], bool], on: Bed, most_s: float, what: str) -> None:
    """Wait until `condition` holds.

    Raises:
        TimeoutError: `what` took longer than `most_s`.
        RuntimeError: a process has ended.
    """
    deadline = on.clock.monotonic() + most_s
    while not condition():
        on.check()
        if on.clock.monotonic() > deadline:
            raise TimeoutError(f"{what} took more than {most_s:g} s")
        await asyncio.sleep(LOOK_S)
