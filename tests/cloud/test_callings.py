"""An alarm that asks again calls people again, once each, however often the worker dies over it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Delete, Update, func, select
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncSession

from tests.cloud.rig import PLANT, SITE, candidate, now_ms
from tests.cloud.test_alarms import Rig, rig
from tests.cloud.test_notify import Post
from tests.support.postgres import on_both
from tests.support.wait import eventually_async
from tocsin_cloud.adapters.lease import hold
from tocsin_cloud.adapters.sql import models as sql
from tocsin_cloud.adapters.sql.engine import Database
from tocsin_cloud.adapters.stream import publish_command
from tocsin_cloud.loops.notify import Notifier
from tocsin_cloud.loops.ticker import tick
from tocsin_core.clock import SystemClock
from tocsin_core.kpi import Flood
from tocsin_core.plant import Plant, load_plant
from tocsin_core.plant.model import EscalationStep

STREAM: Final = "READINGS"
REALARM_S: Final = 0.3


class CrashError(Exception):
    """The worker's process is gone."""


class CrashingDatabase(Database):
    """A database over which a worker dies around each commit of transitions: first just before it, then just after."""

    def __init__(self, inner: Database) -> None:
        """Pass everything on to `inner`."""
        self._inner = inner
        self.crashes = 0
        self._written = 0
        self._died_before: set[int] = set()

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """A writing transaction that may be the last thing its worker does."""
        async with self._inner.write() as session:
            yield session
            written = await session.scalar(select(func.count()).select_from(sql.Transition)) or 0
            if written > self._written and written not in self._died_before:
                self._died_before.add(written)
                self.crashes += 1
                raise CrashError
        if written > self._written:
            self._written = written
            self.crashes += 1
            raise CrashError

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """A reading transaction."""
        async with self._inner.read() as session:
            yield session

    async def change(self, statement: Update | Delete) -> int:
        """One statement."""
        return await self._inner.change(statement)


def soon(plant: Plant) -> Plant:
    """The plant with alarms that ask again at once, and with a second step an hour later."""
    points = tuple(
        replace(point, definitions=tuple(replace(each, realarm_s=REALARM_S) for each in point.definitions))
        for point in plant.points
    )
    steps = (*plant.file.notify.steps, EscalationStep(after_s=3600, to=("anna",)))
    notify = plant.file.notify.model_copy(update={"steps": steps})
    return replace(plant, points=points, file=plant.file.model_copy(update={"notify": notify}))


@asynccontextmanager
async def restarted(r: Rig) -> AsyncIterator[asyncio.Task[None]]:
    """A worker that is begun again whenever it has died."""
    over = asyncio.Event()

    async def run() -> None:
        # Told to end just as it dies, it dies of that, and the word to end is lost.
        while not over.is_set():
            with suppress(CrashError):
                await r.worker().run()

    task = asyncio.create_task(run())
    try:
        yield task
    finally:
        over.set()
        await ended(task)


@asynccontextmanager
async def sending(r: Rig, post: Post, database: Database) -> AsyncIterator[None]:
    """An outbox worker over the same tables."""

    async def publish(_kind: str, _body: object) -> None: ...

    lease = candidate(database, "notify")
    notifier = Notifier(database, lease, post, publish, r.plant, SystemClock(), CollectorRegistry())
    task = asyncio.create_task(hold(lease, notifier.run))
    try:
        yield
    finally:
        await ended(task)


@asynccontextmanager
async def ticking(r: Rig) -> AsyncIterator[asyncio.Task[None]]:
    """The ticks of the site."""
    task = asyncio.create_task(tick(r.client, SITE, 0.05, SystemClock()))
    try:
        yield task
    finally:
        await ended(task)


async def ended(task: asyncio.Task[None]) -> None:
    """End a task."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def delivered(r: Rig, number: int) -> bool:
    """Whether the outbox has noted so many as delivered."""
    return len([row for row in await r.all(sql.Message) if row.state == "delivered"]) == number


async def events(r: Rig) -> list[str]:
    """What the journal tells, in order."""
    return [row.event for row in await r.all(sql.Transition)]


@on_both
@pytest.mark.parametrize("crashes", [0, 8], ids=["undisturbed", "dying around every commit"])
def test_a_realarm_and_an_unacknowledgement_call_again_once_each(tmp_path: Path, sql_url: URL, crashes: int) -> None:
    """Three callings about one occurrence: three letters, an hour later's messages of the answered ones cancelled."""

    async def story() -> None:
        post = Post()
        async with rig(tmp_path, sql_url) as r:
            r.plant = soon(r.plant)
            plain, dying = r.database, CrashingDatabase(r.database)
            if crashes:
                r.database = dying
            async with restarted(r), ticking(r) as ticks, sending(r, post, plain):
                await r.gateway.send({0: 60.0}, time_ms=now_ms())
                await eventually_async(lambda: delivered(r, 1))
                await r.command("ack")
                await eventually_async(lambda: delivered(r, 2))
                # Without ticks no time passes: it does not ask by itself before its answer is taken back.
                ticks.cancel()
                assert (await r.command("ack")).accepted
                assert (await r.command("unacknowledge")).accepted
                await eventually_async(lambda: delivered(r, 3))
                # Twice around each of at least four commits: the answer and the re-alarm may come in one. What is
                # committed is seen by others before it dies of it.
                await eventually_async(lambda: dying.crashes >= crashes)
            assert await events(r) == ["raise", "acknowledge", "realarm", "acknowledge", "unacknowledge"]
            assert len({letter.id for letter in post.sent}) == 3
            assert {letter.subject for letter in post.sent} == {"【Site】P1 高报：60.00 kPa ≥ 50 kPa"}
            assert len(post.sent) == 3
            callings = sorted(await r.all(sql.Message), key=lambda row: (row.round_ns, row.step))
            answered, waiting = [(0, "delivered"), (1, "cancelled")], [(0, "delivered"), (1, "pending")]
            assert [(row.step, row.state) for row in callings] == answered + answered + waiting
            asked = [row.time_ns for row in await r.all(sql.Transition) if row.event in {"realarm", "unacknowledge"}]
            assert [row.round_ns for row in callings[::2]] == [0, *asked]
            (row,) = await r.all(sql.Occurrence)
            assert (row.phase, row.acknowledged_by, row.acknowledged_ns) == ("unacknowledged", None, None)

    asyncio.run(story())


def test_an_answer_and_what_followed_it_are_found_together_after_a_pause(tmp_path: Path) -> None:
    """While no worker was there somebody answered and the alarm asked again: one calling is over, the other runs."""

    async def story() -> None:
        async with rig(tmp_path) as r:
            r.plant = soon(r.plant)
            async with r.working():
                await r.gateway.send({0: 60.0})
                await eventually_async(lambda: last_event(r, "raise"))
            body = {"id": "meanwhile", "verb": "ack", "alarm": "P1/H", "who": "anna"}
            answered = await publish_command(r.client, SITE, body)
            async with ticking(r):
                await eventually_async(lambda: much_later(r, answered))
            async with r.working():
                await eventually_async(lambda: last_event(r, "realarm"))
            (realarm,) = [row for row in await r.all(sql.Transition) if row.event == "realarm"]
            messages = {(row.round_ns, row.step): row.state for row in await r.all(sql.Message)}
            assert messages == {
                (0, 0): "cancelled",
                (0, 1): "cancelled",
                (realarm.time_ns, 0): "pending",
                (realarm.time_ns, 1): "pending",
            }

    asyncio.run(story())


async def much_later(r: Rig, sequence: int) -> bool:
    """Whether the stream is longer past this message than it takes an alarm to ask again."""
    jsm = r.client.jsm()
    asked, newest = await jsm.get_msg(STREAM, sequence), (await jsm.stream_info(STREAM)).state.last_seq
    last = await jsm.get_msg(STREAM, newest)
    assert asked.time is not None
    return last.time is not None and (last.time - asked.time).total_seconds() > 2 * REALARM_S


def behind_another(folder: Path) -> Plant:
    """The plant whose alarm is suppressed while P2 reads 0, its file in the new `folder`."""
    folder.mkdir()
    text = PLANT.replace("priority: high}", "priority: high, suppressed_by: {point: P2, equals: 0}}", 1)
    (folder / "plant.yaml").write_text(text, encoding="utf-8")
    return load_plant(folder)


def test_what_is_suppressed_by_design_calls_nobody_until_it_is_not(tmp_path: Path) -> None:
    """Raised behind another point's state it is neither called for, ticketed nor counted; shown, it is called for."""

    async def story() -> None:
        async with rig(tmp_path) as r:
            r.plant = behind_another(tmp_path / "behind")
            async with r.working():
                await r.gateway.send({1: 0.0})
                await r.gateway.send({0: 60.0})
                await eventually_async(lambda: last_event(r, "raise"))
                assert await r.all(sql.Message) == await r.all(sql.Ticket) == []
                (row,) = await r.all(sql.Occurrence)
                assert (row.suppressed, row.annunciated) == (True, False)
                assert (row.shelved_until_ns, row.out_of_service) == (None, False)
                assert (await r.all(sql.AlarmState))[0].suppressed
                await r.gateway.send({1: 1.0})
                await r.gateway.send({0: 61.0})
                await eventually_async(lambda: last_event(r, "unsuppress"))
                (message,) = await r.all(sql.Message)
                assert message.reason == "an unacknowledged alarm is no longer suppressed"
                assert message.round_ns == (await r.all(sql.Transition))[-1].time_ns
                assert not (await r.all(sql.Occurrence))[0].suppressed

    asyncio.run(story())


def test_what_was_suppressed_by_design_all_the_while_calls_nobody_when_it_is_not(tmp_path: Path) -> None:
    """The pump stood still, its flow was low, it runs again: nobody is called for that, and nothing waits."""

    async def story() -> None:
        async with rig(tmp_path) as r:
            r.plant = behind_another(tmp_path / "behind")
            async with r.working():
                began_ms = now_ms()
                for later_ms, (point, value) in enumerate(((1, 0.0), (0, 60.0), (0, 1.0), (1, 1.0), (0, 2.0))):
                    await r.gateway.send({point: value}, time_ms=began_ms + later_ms)
                await eventually_async(lambda: last_event(r, "unsuppress"))
                assert await r.all(sql.Message) == await r.all(sql.Ticket) == []
                assert await events(r) == ["suppress", "raise", "return", "acknowledge", "unsuppress"]
                (row,) = await r.all(sql.Occurrence)
                assert (row.phase, row.acknowledged_by, row.suppressed) == ("normal", None, False)

    asyncio.run(story())


async def last_event(r: Rig, event: str) -> bool:
    """Whether this is the last that the journal tells."""
    return (await events(r))[-1:] == [event]


RECENT: Final = "tocsin_alarms_last_ten_minutes"


def flood_of(r: Rig) -> Flood | None:
    """The flood that the worker shows."""
    return r.live.flood


async def burst(r: Rig, number: int) -> None:
    """Raise P1/H `number` times, each time anew."""
    for _ in range(number):
        for value in (60.0, 1.0):
            r.newest_ms = max(r.newest_ms + 1, now_ms())
            await r.gateway.send({0: value}, time_ms=r.newest_ms)


def test_a_flood_is_shown_and_known_again_after_a_restart(tmp_path: Path) -> None:
    """It begins with the eleventh alarm, is counted, and goes on with its beginning when the worker starts anew."""

    async def story() -> None:
        async with rig(tmp_path) as r, ticking(r):
            async with r.working():
                await burst(r, 10)
                await eventually_async(lambda: r.metrics.registry.get_sample_value(RECENT) == 10)
                assert flood_of(r) is None
                await burst(r, 2)
                await eventually_async(lambda: r.metrics.registry.get_sample_value(RECENT) == 12)
                flood = await eventually_async(lambda: flood_of(r))
                assert r.metrics.registry.get_sample_value("tocsin_alarm_flood") == 1
                assert r.metrics.registry.get_sample_value("tocsin_alarm_floods_total") == 1
            async with r.working():
                assert await eventually_async(lambda: flood_of(r)) == flood
                assert flood is not None
                assert (flood.alarms, flood.first) == (12, "P1/H")

    asyncio.run(story())
