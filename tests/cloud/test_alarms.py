"""The alarms worker in this process on a real stream: commands, fencing, evidence of what it decides once."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

import aiomqtt
import pytest
from nats.aio.client import Client
from prometheus_client import CollectorRegistry
from sqlalchemy import Delete, Engine, Update, event, func, select, update
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncSession

from tests.cloud.api.stand_ins import HandClock
from tests.cloud.ears import Ears
from tests.cloud.rig import (
    GATEWAY,
    PLANT,
    SITE,
    SpoolingGateway,
    broker,
    candidate,
    depose,
    held,
    let_a_server_be_behind,
    now_ms,
    plant_folder,
)
from tests.support.database import failing
from tests.support.postgres import on_both
from tests.support.sqlite import with_tables
from tests.support.wait import eventually_async
from tocsin_cloud.adapters.gateways import ask_rebirth
from tocsin_cloud.adapters.history import HistoryError, Trend, Wanted
from tocsin_cloud.adapters.history_duckdb import DuckdbHistory
from tocsin_cloud.adapters.lease import LeaseLostError
from tocsin_cloud.adapters.metrics import Metrics
from tocsin_cloud.adapters.metrics_watch import WatchMetrics
from tocsin_cloud.adapters.snapshot import earlier
from tocsin_cloud.adapters.snapshot import load as load_snapshot
from tocsin_cloud.adapters.snapshot_store import SnapshotStore
from tocsin_cloud.adapters.sql import models as sql
from tocsin_cloud.adapters.sql.away import DatabaseAwayError
from tocsin_cloud.adapters.sql.engine import Database
from tocsin_cloud.adapters.stream import (
    START,
    STREAM,
    Message,
    Position,
    connect,
    ensure_stream,
    publish_command,
    publish_tick,
)
from tocsin_cloud.loops.alarms import TICK, AlarmParts, AlarmsWorker
from tocsin_cloud.loops.computed import Outlet
from tocsin_cloud.loops.evidence import EvidenceParts, keep_evidence
from tocsin_cloud.loops.judged import Judged
from tocsin_cloud.loops.live import LiveView
from tocsin_cloud.loops.points import PointTable
from tocsin_cloud.settings import AlarmSettings, StrangerSettings, StreamSettings
from tocsin_core.clock import SystemClock
from tocsin_core.plant import Plant, load_plant
from tocsin_core.readings import BAD_NOT_CONNECTED, Frame
from tocsin_core.rules import NS
from tocsin_core.sparkplug import EdgeMetric

TICKET: Final[dict[str, Any]] = {
    "title": {"zh": "罐"}, "source": None, "level": "general", "state": "rectifying", "deadline_ns": 1, "reason": "r",
    "liable": None, "submitted_by": None,
}  # fmt: skip
OCCURRENCE: Final[dict[str, Any]] = {
    "point": "P1", "kind": "H", "priority": "high", "phase": "unacknowledged", "reading_ns": 1, "committed_ns": 1,
    "out_of_service": False, "unit": "", "message": {},
}  # fmt: skip


class Rig:
    """What a worker needs: stream, database, gateway; and the worker as a task that can be ended and begun again."""

    def __init__(self, folder: Path, client: Client, database: Database, gateway: SpoolingGateway) -> None:
        """Prepare a worker of the small plant."""
        self.plant = load_plant(plant_folder(folder / "plant"))
        self.client, self.database, self.gateway = client, database, gateway
        self.folder = folder
        self.commands = 0
        self.newest_ms = 0
        self.metrics = Metrics()
        self.ordered = asyncio.Event()
        self.shared: SnapshotStore | None = None
        self.rebirth_interval_s = 10.0

    def worker(self) -> AlarmsWorker:
        """A new worker that knows nothing but what is in the files."""
        table = PointTable(self.plant, StrangerSettings())
        self.live = LiveView(table)
        self.metrics = Metrics()
        self.lease = candidate(self.database)
        settings = AlarmSettings(
            snapshot_interval_s=0.3, share_interval_s=0.3, rebirth_interval_s=self.rebirth_interval_s
        )
        parts = AlarmParts(
            self.client,
            self.database,
            self.lease,
            self.plant,
            Judged.of(self.plant),
            self.live,
            self.metrics,
            SystemClock(),
            settings,
            self.folder / "s.npz",
            Outlet(self.client, table),
            self.ordered,
            shared=self.shared,
        )
        return AlarmsWorker(parts)

    @asynccontextmanager
    async def working(self) -> AsyncIterator[asyncio.Task[None]]:
        """A worker at work."""
        worker = self.worker()
        task = asyncio.create_task(worker.run())
        try:
            await eventually_async(lambda: worker.ready or task.done())
            yield task
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def damage(self) -> None:
        """Leave nothing of the snapshots that a worker could start from."""
        for each in (self.folder / "s.npz", earlier(self.folder / "s.npz")):
            each.write_bytes(b"no snapshot")

    async def all(self, table: type[Any]) -> list[Any]:
        """Every row of a table."""
        async with self.database.read() as session:
            return list((await session.scalars(select(table))).all())

    async def phase(self) -> str | None:
        """The phase of the only occurrence."""
        rows = await self.all(sql.Occurrence)
        return rows[0].phase if rows else None

    async def command(self, verb: str, identity: str | None = None, **more: object) -> sql.Command:
        """Send a command about P1/H and wait for the answer."""
        self.commands += 1
        identity = identity or f"command-{self.commands}"
        body = {"id": identity, "verb": verb, "alarm": "P1/H", "who": "anna", "reason": "why", **more}
        await publish_command(self.client, SITE, body)

        async def answer() -> sql.Command | None:
            async with self.database.read() as session:
                return await session.get(sql.Command, identity)

        found = await eventually_async(answer)
        assert found is not None
        return found


@asynccontextmanager
async def rig(
    folder: Path, url: URL | None = None, metrics: tuple[EdgeMetric, ...] = SpoolingGateway.metrics
) -> AsyncIterator[Rig]:
    """Everything but the worker itself, with the gateway connected; on the database at `url`, else on SQLite.

    However long a snapshot takes on a busy machine, the next one is due as soon as on a quiet one.
    """
    async with broker(folder / "nats") as (server, settings):
        client = await connect(server.url, "test")
        await ensure_stream(client, StreamSettings(max_bytes=1 << 28))
        database = await Database.open(url or with_tables(folder / "db"))
        patch = pytest.MonkeyPatch()
        patch.setattr("tocsin_cloud.loops.alarms.SNAPSHOT_REST", 0)
        try:
            async with SpoolingGateway(settings.mqtt, metrics=metrics).connected() as gateway:
                yield Rig(folder, client, database, gateway)
        finally:
            patch.undo()
            await database.close()
            await client.close()


@on_both
def test_an_alarm_lives_through_raise_acknowledge_and_return(tmp_path: Path, sql_url: URL) -> None:
    """Each step is one row with who, when and the latency; a second acknowledgement is refused with the reason."""

    async def story() -> None:
        async with rig(tmp_path, sql_url) as r, r.working():
            await r.gateway.send({0: 60.0})
            await eventually_async(lambda: _is(r, "unacknowledged"))
            first = await r.command("ack")
            assert (first.accepted, first.answer) == (True, "")
            second = await r.command("ack")
            assert not second.accepted
            assert "already acknowledged" in second.answer
            await r.gateway.send({0: 1.0})
            await eventually_async(lambda: _is(r, "normal"))
            steps = await r.all(sql.Transition)
            assert [(s.event, s.who) for s in steps] == [("raise", None), ("acknowledge", "anna"), ("return", None)]
            assert steps[0].latency_ns is not None
            assert 0 < steps[0].latency_ns < 5_000_000_000
            assert steps[1].latency_ns is None
            (row,) = await r.all(sql.Occurrence)
            assert (row.acknowledged_by, row.value, row.setpoint, row.unit) == ("anna", 60.0, 50.0, "kPa")

    asyncio.run(story())


async def _is(r: Rig, phase: str) -> bool:
    return await r.phase() == phase


def test_a_clock_that_was_ahead_and_is_set_back_leaves_nobody_deaf(tmp_path: Path) -> None:
    """Readings stamped an hour ahead raise; so do, and return, those stamped rightly straight after."""

    async def story() -> None:
        async with rig(tmp_path) as r, r.working():
            await r.gateway.send({0: 60.0}, time_ms=now_ms() + 3_600_000)
            await eventually_async(lambda: _is(r, "unacknowledged"))
            await r.gateway.send({0: 1.0})
            await eventually_async(lambda: _is(r, "returned-unacknowledged"))
            figure = r.metrics.registry.get_sample_value
            assert (figure("tocsin_readings_ahead_total"), figure("tocsin_readings_late_total")) == (1, 0)

    asyncio.run(story())


def test_a_gateway_that_goes_and_comes_back_ends_no_alarm_and_nobody_is_called_again(tmp_path: Path) -> None:
    """Its death makes the point bad, which returns nothing; what stands when it is back was raised before."""

    async def story() -> None:
        async with rig(tmp_path) as r, r.working():
            await r.gateway.send({0: 60.0})
            await eventually_async(lambda: _is(r, "unacknowledged"))
            index, node = r.plant.point_index["P1"], (SITE, GATEWAY)
            death = r.gateway.session.will(r.gateway.bd_seq, now_ms())
            async with aiomqtt.Client(*r.gateway.mqtt) as anybody:
                await anybody.publish(death.topic, death.payload, qos=1)
            await eventually_async(lambda: r.live.gateways[node].state == "offline")
            assert int(r.live.quality[index]) == BAD_NOT_CONNECTED
            assert await r.phase() == "unacknowledged"
            await ask_rebirth(r.client, SITE, GATEWAY, SystemClock().now_ns())
            await eventually_async(lambda: r.live.gateways[node].state == "online")
            await r.gateway.send({0: 61.0})
            await eventually_async(lambda: float(r.live.value[index]) == 61.0)
            await r.gateway.send({0: 1.0})
            await eventually_async(lambda: _is(r, "returned-unacknowledged"))
            assert [step.event for step in await r.all(sql.Transition)] == ["raise", "return"]
            assert len(await r.all(sql.Message)) == len(await r.all(sql.Ticket)) == 1

    asyncio.run(story())


def test_what_comes_with_the_word_that_it_is_no_gas_raises_nothing(tmp_path: Path) -> None:
    """The instrument's status word stands behind its reading in the message: the next one alone is of the plant."""

    async def story() -> None:
        async with rig(tmp_path) as r:
            text = PLANT.replace("field: v,", "field: v, status: {point: P2, flags: {calibration: [0]}},", 1)
            (tmp_path / "worded").mkdir()
            (tmp_path / "worded" / "plant.yaml").write_text(text, encoding="utf-8")
            r.plant = load_plant(tmp_path / "worded")
            async with r.working():
                began_ms = now_ms()
                for later_ms, values in enumerate(({0: 60.0, 1: 1.0}, {0: 61.0, 1: 0.0})):
                    await r.gateway.send(values, time_ms=began_ms + later_ms)
                await eventually_async(lambda: _is(r, "unacknowledged"))
                (row,) = await r.all(sql.Occurrence)
                assert (row.alarm, row.value) == ("P1/H", 61.0)

    asyncio.run(story())


def test_a_shelved_alarm_is_neither_told_nor_ticketed_until_it_comes_off(tmp_path: Path) -> None:
    """Shelving shows on the definition and on its raisings; taken off the shelf, the waiting alarm is told."""

    async def story() -> None:
        async with rig(tmp_path) as r, r.working():
            assert (await r.command("shelve", duration_s=3600)).accepted
            await r.gateway.send({0: 60.0})
            await eventually_async(lambda: _is(r, "unacknowledged"))
            assert await r.all(sql.Message) == await r.all(sql.Ticket) == []
            (hidden,) = await r.all(sql.Occurrence)
            assert hidden.shelved_until_ns is not None
            assert (hidden.suppressed, hidden.annunciated, hidden.shelved_once) == (True, False, False)
            assert (await r.all(sql.AlarmState))[0].shelved_until_ns is not None
            assert (await r.command("unshelve")).accepted
            (shown,) = await r.all(sql.Occurrence)
            assert (shown.shelved_until_ns, shown.suppressed, shown.annunciated) == (None, False, False)
            assert [m.to_person for m in await r.all(sql.Message)] == ["anna"]

    asyncio.run(story())


def test_an_alarm_that_is_shelved_and_taken_off_is_called_for_again(tmp_path: Path) -> None:
    """Shelving ends the calling of the raising; what comes off the shelf unanswered begins one of its own."""

    async def story() -> None:
        async with rig(tmp_path) as r, r.working():
            await r.gateway.send({0: 60.0})
            await eventually_async(lambda: _is(r, "unacknowledged"))
            assert (await r.command("shelve", duration_s=3600)).accepted
            assert [m.state for m in await r.all(sql.Message)] == ["cancelled"]
            assert (await r.command("unshelve")).accepted
            messages = {m.round_ns: (m.state, m.reason) for m in await r.all(sql.Message)}
            taken_off = (await r.all(sql.Transition))[-1].time_ns
            assert messages == {
                0: ("cancelled", "first alarm of its place"),
                taken_off: ("pending", "an unacknowledged alarm came off the shelf"),
            }

    asyncio.run(story())


def test_a_one_shot_shelf_ends_with_the_return(tmp_path: Path) -> None:
    """While it lasts it is marked as such; only an alarm that is active can have one."""

    async def story() -> None:
        async with rig(tmp_path) as r, r.working():
            refused = await r.command("shelve", duration_s=3600, once=True)
            assert (refused.accepted, refused.answer) == (False, "the alarm is not active")
            await r.gateway.send({0: 60.0})
            await eventually_async(lambda: _is(r, "unacknowledged"))
            assert not (await r.command("shelve", duration_s=3600, once="yes")).accepted
            assert (await r.command("shelve", duration_s=3600, once=True)).accepted
            assert (await r.all(sql.Occurrence))[0].shelved_once
            await r.gateway.send({0: 1.0})
            await eventually_async(lambda: _is(r, "returned-unacknowledged"))
            (row,) = await r.all(sql.Occurrence)
            assert (row.shelved_until_ns, row.shelved_once, row.suppressed) == (None, False, False)
            last = (await r.all(sql.Transition))[-1]
            assert (last.event, last.reason) == ("unshelve", "the alarm has returned")

    asyncio.run(story())


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"alarm": "nobody/H"}, "no such alarm"),
        ({"verb": "explode"}, "not understood"),
        ({"verb": "shelve", "duration_s": "long"}, "not understood"),
        ({"verb": "shelve", "duration_s": 1e10}, "not understood"),
        ({"verb": "shelve", "duration_s": float("inf")}, "not understood"),
        ({"verb": "ack", "occurrence": "0123456789abcdef"}, "not active"),
    ],
)
def test_a_command_that_makes_no_sense_is_answered(tmp_path: Path, more: dict[str, Any], reason: str) -> None:
    """It gets an answer that says why, and the worker goes on."""

    async def story() -> None:
        async with rig(tmp_path) as r, r.working():
            for nonsense in (
                b"\xff not json",
                b"[" * 100_000,
                b'{"id":"1","alarm":' + b"[" * 100_000,
                b'{"id":"1","verb":[[]]}',
            ):
                await r.client.jetstream().publish(f"tocsin.command.{SITE}", nonsense)
            verb = str(more.get("verb", "ack"))
            answer = await r.command(verb, **{key: value for key, value in more.items() if key != "verb"})
            assert not answer.accepted
            assert reason in answer.answer or "another" in answer.answer or "again" in answer.answer
            assert not (await r.command("ack")).accepted

    asyncio.run(story())


def test_a_command_in_the_stream_twice_is_obeyed_once_also_in_a_replay(tmp_path: Path) -> None:
    """The second copy, beyond the stream's own window, changes nothing, now or when the worker starts again."""

    async def story() -> None:
        async with rig(tmp_path) as r:
            async with r.working():
                await r.gateway.send({0: 60.0})
                await eventually_async(lambda: _is(r, "unacknowledged"))
                await r.command("shelve", "same", duration_s=3600)
                until = (await r.all(sql.AlarmState))[0].shelved_until_ns
                body = {"id": "same", "verb": "shelve", "alarm": "P1/H", "who": "anna", "reason": "why"}
                again = json.dumps(body | {"duration_s": 1800}).encode()
                await r.client.jetstream().publish(f"tocsin.command.{SITE}", again)
                await r.command("unshelve")
                await r.command("shelve", "other", duration_s=3600)
                assert (await r.all(sql.AlarmState))[0].shelved_until_ns != until
            r.damage()
            before = [(s.seq, s.event) for s in await r.all(sql.Transition)]
            async with r.working():
                await r.gateway.send({0: 1.0})
                await eventually_async(lambda: _is(r, "returned-unacknowledged"))
                assert [(s.seq, s.event) for s in await r.all(sql.Transition)][:-1] == before

    asyncio.run(story())


@on_both
def test_a_worker_that_lost_its_partition_cannot_commit(tmp_path: Path, sql_url: URL) -> None:
    """When a second worker takes over, the first one ends with an error and the alarm is raised once."""

    async def story() -> None:
        async with rig(tmp_path, sql_url) as r, r.working() as first:
            await depose(r.database)
            async with r.working():
                await fenced(r, first)

    async def fenced(r: Rig, first: asyncio.Task[None]) -> None:
        await r.gateway.send({0: 60.0})
        await eventually_async(lambda: _is(r, "unacknowledged"))
        await publish_tick(r.client, SITE)
        await eventually_async(first.done)
        assert isinstance(first.exception(), LeaseLostError)
        assert len(await r.all(sql.Transition)) == 1

    with pytest.raises(LeaseLostError):
        asyncio.run(story())


class UnansweringDatabase(Database):
    """A database whose connection is lost just when it has committed the first transition, or just before that."""

    def __init__(self, inner: Database, *, committed: bool = True) -> None:
        """Pass everything on to `inner`; without `committed`, that transaction is rolled back."""
        self._inner = inner
        self._committed = committed
        self.lost = 0

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """A writing transaction that is said to have failed."""
        async with self._inner.write() as session:
            yield session
            written = await session.scalar(select(func.count()).select_from(sql.Transition))
            if not self._committed:
                self._lose(written)
        self._lose(written)

    async def change(self, statement: Update | Delete) -> int:
        """One statement."""
        return await self._inner.change(statement)

    def _lose(self, written: int | None) -> None:
        if written and not self.lost:
            self.lost += 1
            raise DatabaseAwayError(None, None, ConnectionError("lost"))

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """A reading transaction."""
        async with self._inner.read() as session:
            yield session


def test_a_command_waits_for_a_database_that_is_away(tmp_path: Path) -> None:
    """It was taken from the stream, once: whoever gave it hears of it when the database is back."""

    async def story() -> None:
        async with rig(tmp_path) as r, r.working():
            await r.gateway.send({0: 60.0})
            await eventually_async(lambda: _is(r, "unacknowledged"))
            # A reading transaction, which only the look for what was answered before begins. Were all refused, the
            # worker might be at its position when the command comes, and not take it before the database is back.
            with failing(r.database, only="BEGIN") as failed:
                await publish_command(r.client, SITE, {"id": "1", "verb": "ack", "alarm": "P1/H", "who": "anna"})
                await eventually_async(lambda: len(failed) > 1)
            assert (await r.command("ack", "1")).accepted

    asyncio.run(story())


def test_a_commit_whose_answer_was_lost_is_made_once(tmp_path: Path) -> None:
    """What is in the database already is not written again, and the work goes on behind it."""

    async def story() -> None:
        async with rig(tmp_path) as r:
            r.database = unanswering = UnansweringDatabase(r.database)
            async with r.working():
                await r.gateway.send({0: 60.0})
                await eventually_async(lambda: _is(r, "unacknowledged"))
                assert (await r.command("ack")).accepted
            assert unanswering.lost == 1
            assert [row.event for row in await r.all(sql.Transition)] == ["raise", "acknowledge"]
            assert len(await r.all(sql.TicketLog)) == 1

    asyncio.run(story())


def test_without_its_snapshot_the_worker_finds_the_same_state_in_the_stream(tmp_path: Path) -> None:
    """A snapshot that is gone or damaged costs a replay and changes nothing."""

    async def story() -> None:
        async with rig(tmp_path) as r:
            async with r.working():
                await r.gateway.send({0: 60.0})
                await eventually_async(lambda: _is(r, "unacknowledged"))
            before = [s.seq for s in await r.all(sql.Transition)]
            r.damage()
            async with r.working():
                await r.command("ack")
                assert [s.seq for s in await r.all(sql.Transition)][:-1] == before
                assert await r.phase() == "acknowledged"

    asyncio.run(story())


def test_a_server_that_is_behind_does_not_end_the_catching_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that has not caught up itself says that this was all: nothing is decided a second time."""

    async def story() -> None:
        async with rig(tmp_path) as r:
            async with r.working():
                began_ms = now_ms() - 3
                for later_ms, value in enumerate((60.0, 1.0, 60.0)):
                    await r.gateway.send({0: value}, time_ms=began_ms + later_ms)
                await eventually_async(lambda: _steps(r, 3))
            r.damage()
            let_a_server_be_behind(monkeypatch)
            async with r.working():
                await r.gateway.send({0: 1.0})
                await eventually_async(lambda: _steps(r, 4))
            assert [step.event for step in await r.all(sql.Transition)] == ["raise", "return", "raise", "return"]

    asyncio.run(story())


def test_a_stream_whose_clock_was_set_back_is_caught_up_with(tmp_path: Path) -> None:
    """Where a message has a later time than the last one that is committed, whoever takes over reads on even so."""

    async def story() -> None:
        async with rig(tmp_path) as r:
            async with r.working():
                await eventually_async(lambda: _kept(r) is not None)
            old = (tmp_path / "s.npz").read_bytes()
            async with r.working():
                await r.gateway.send({0: 60.0})
                await eventually_async(lambda: _is(r, "unacknowledged"))
                await asyncio.gather(*(publish_tick(r.client, SITE) for _ in range(50)))
            # As if the server's clock had been set back between them.
            last, before_ns = await _two_within_a_millisecond(r)
            async with r.database.write() as session:
                await session.execute(update(sql.Worker).values(position=last, updated_ns=before_ns - 1000))
            (tmp_path / "s.npz").write_bytes(old)
            async with r.working():
                await r.gateway.send({0: 1.0})
                await eventually_async(lambda: _is(r, "returned-unacknowledged"))
            assert [step.event for step in await r.all(sql.Transition)] == ["raise", "return"]

    asyncio.run(story())


def test_births_are_asked_for_where_the_historian_does_not(tmp_path: Path) -> None:
    """It is away, or has much to read first: a gateway whose births were lost is understood all the same."""

    async def story() -> None:
        async with rig(tmp_path) as r:
            r.rebirth_interval_s = 0.3
            await eventually_async(lambda: _messages(r, 2))
            await r.client.jsm().purge_stream(STREAM)
            async with r.working():

                async def raised() -> bool:
                    await r.gateway.send({0: 60.0})
                    return await _is(r, "unacknowledged")

                await eventually_async(raised, interval_s=0.1)
            assert r.gateway.rebirths

    asyncio.run(story())


async def _messages(r: Rig, number: int) -> bool:
    return (await r.client.jsm().stream_info(STREAM)).state.messages >= number


async def _two_within_a_millisecond(r: Rig) -> tuple[int, int]:
    """The number of the later of two messages, and when the stream took the one before, to 1 µs."""
    manager = r.client.jsm()
    last, later_ns = (await manager.stream_info(STREAM)).state.last_seq, 0
    while True:
        taken = (await manager.get_msg(STREAM, seq=last)).time
        assert taken is not None
        time_ns = round(taken.timestamp() * 1e6) * 1000
        if later_ns - time_ns < NS // 1250 and later_ns:
            return last + 1, time_ns
        last, later_ns = last - 1, time_ns


async def _steps(r: Rig, number: int) -> bool:
    return len(await r.all(sql.Transition)) >= number


def test_a_damaged_snapshot_loses_nothing_that_the_stream_no_longer_has(tmp_path: Path) -> None:
    """What stands and was shelved is in the snapshot before it, too: it is not closed, and returns."""

    async def story() -> None:
        async with rig(tmp_path) as r:
            async with r.working():
                await r.gateway.send({0: 60.0})
                await eventually_async(lambda: _is(r, "unacknowledged"))
                (raised,) = await r.all(sql.Transition)

                async def kept_twice() -> bool:
                    await publish_tick(r.client, SITE)
                    held = load_snapshot(earlier(tmp_path / "s.npz"))
                    return held is not None and held.position.time_ns >= raised.now_ns

                await eventually_async(kept_twice)
            (tmp_path / "s.npz").write_bytes(b"no snapshot")
            await r.client.jsm().purge_stream(STREAM)
            async with r.working():
                await r.gateway.send({0: 1.0})
                await eventually_async(lambda: _is(r, "returned-unacknowledged"))
            assert [step.event for step in await r.all(sql.Transition)] == ["raise", "return"]

    asyncio.run(story())


def test_snapshots_cost_a_fiftieth_of_the_time_at_most(tmp_path: Path) -> None:
    """One that took three seconds, as that of a large plant may, is 150 s from the next; a quick one ten."""
    ears, clock = Ears(snapshot=tmp_path / "s.npz"), HandClock()
    worker = ears.alarms
    worker._parts = replace(worker._parts, clock=clock)  # noqa: SLF001 -- time is moved by hand

    async def rest_s(took_s: float) -> float:
        await worker._save(lambda: clock.move(took_s), bytes, START)  # noqa: SLF001 -- what `run` does beside its work
        return worker._keep_at - clock.monotonic()  # noqa: SLF001 -- shown nowhere else

    assert asyncio.run(rest_s(3.0)) == 150.0
    assert asyncio.run(rest_s(0.1)) == AlarmSettings().snapshot_interval_s == 10.0


def test_a_snapshot_is_kept_in_the_memory_of_the_one_before_once_that_is_written(tmp_path: Path) -> None:
    """Each is of its own moment, also where the next is due before it is in the file."""
    ears, clock = Ears(snapshot=tmp_path / "s.npz"), HandClock()
    worker, columns = ears.alarms, list[Any]()
    worker._parts = replace(worker._parts, clock=clock)  # noqa: SLF001 -- time is moved by hand

    def is_due(tick: int) -> bool:
        ears.hear([Message(tick, tick * NS, TICK + SITE, b"")])
        clock.move(1000.0)
        return worker._snapshot_is_due()  # noqa: SLF001 -- what `_work` asks again and again

    async def story() -> None:
        for tick in (1, 3):
            assert is_due(tick)
            worker._keep_snapshot()  # noqa: SLF001 -- what `_work` does then
            columns.append(worker._columns)  # noqa: SLF001 -- shown nowhere else
            assert not is_due(tick + 1)
            await cast("Any", worker._saving)  # noqa: SLF001 -- who ends waits for it
            held = load_snapshot(tmp_path / "s.npz")
            assert held is not None
            assert (held.position.sequence, int(held.engine["now_ns"])) == (tick, tick * NS)

    asyncio.run(story())
    assert columns[0]["value"] is columns[1]["value"]


def test_a_machine_without_a_snapshot_goes_on_from_the_shared_one(tmp_path: Path) -> None:
    """What the stream holds no more is known all the same: the alarm that stood there returns, and is not closed."""

    async def story() -> None:
        async with rig(tmp_path) as r:
            shared = r.shared = SnapshotStore(r.client, SITE)
            assert await shared.later_than(0) is None
            async with r.working():
                await r.gateway.send({0: 60.0})
                await eventually_async(lambda: _is(r, "unacknowledged"))
                (raised,) = await r.all(sql.Transition)

                async def kept() -> bool:
                    await publish_tick(r.client, SITE)
                    return await shared.later_than(raised.now_ns) is not None

                await eventually_async(kept)
            r.damage()
            await r.client.jsm().purge_stream(STREAM)
            async with r.working():
                await r.gateway.send({0: 1.0})
                await eventually_async(lambda: _is(r, "returned-unacknowledged"))
            assert [step.event for step in await r.all(sql.Transition)] == ["raise", "return"]

    asyncio.run(story())


def test_a_snapshot_that_the_disk_does_not_take_is_shared_all_the_same(tmp_path: Path) -> None:
    """Another machine goes on from what was known last, and not from when the disk had room."""

    async def story() -> None:
        async with rig(tmp_path) as r:
            shared = r.shared = SnapshotStore(r.client, SITE)
            # Nothing can be written where it would go.
            (tmp_path / "s.lock").mkdir()
            async with r.working():
                await r.gateway.send({0: 60.0})
                await eventually_async(lambda: _is(r, "unacknowledged"))
                (raised,) = await r.all(sql.Transition)

                async def kept() -> bool:
                    await publish_tick(r.client, SITE)
                    return await shared.later_than(raised.now_ns) is not None

                await eventually_async(kept)
            assert not (tmp_path / "s.npz").exists()

    asyncio.run(story())


async def _goes_on(r: Rig) -> None:
    """A worker that has the state of an alarm that was raised: it returns by a reading, and nothing begins anew."""
    async with r.working():
        assert r.metrics.registry.get_sample_value("tocsin_engine_rebuilt_timestamp_seconds") == 0
        await r.gateway.send({0: 1.0})
        await eventually_async(lambda: _is(r, "returned-unacknowledged"))
    assert [step.event for step in await r.all(sql.Transition)] == ["raise", "return"]


def test_a_restored_snapshot_counts_though_a_later_one_is_shared_that_is_ahead(tmp_path: Path) -> None:
    """The broker was not lost, and no longer has what came before the backup: the engine's state is that of the backup.

    So it is where the file is ahead, and what is shared is not.
    """

    async def story() -> None:
        async with rig(tmp_path) as r:
            shared = r.shared = SnapshotStore(r.client, SITE)
            files = tmp_path / "s.npz", earlier(tmp_path / "s.npz")
            async with r.working():
                await r.gateway.send({0: 60.0})
                await eventually_async(lambda: _is(r, "unacknowledged"))
            (backup,) = await r.all(sql.Worker)
            content = files[0].read_bytes()
            async with r.working():

                async def shared_since() -> bool:
                    await publish_tick(r.client, SITE)
                    return await shared.later_than(backup.updated_ns) is not None

                await eventually_async(shared_since)
            await r.client.jsm().purge_stream(STREAM, seq=backup.position + 1)

            async def put_back() -> None:
                async with r.database.write() as session:
                    await session.merge(
                        sql.Worker(
                            partition=backup.partition,
                            position=backup.position,
                            computed_position=backup.computed_position,
                            updated_ns=backup.updated_ns,
                        )
                    )

            await put_back()
            for file in files:
                file.write_bytes(content)
            async with r.working():
                assert r.metrics.registry.get_sample_value("tocsin_engine_rebuilt_timestamp_seconds") == 0
            # Now the file is ahead.
            await put_back()
            assert await shared.put(content, backup.updated_ns)
            await _goes_on(r)

    asyncio.run(story())


def test_a_shared_snapshot_that_cannot_be_read_costs_nothing_where_the_own_one_can(tmp_path: Path) -> None:
    """A newer version may have shared it: back on the one before nothing is replayed, and nothing begins anew."""

    async def story() -> None:
        async with rig(tmp_path) as r:
            shared = r.shared = SnapshotStore(r.client, SITE)
            async with r.working():
                await r.gateway.send({0: 60.0})
                await eventually_async(lambda: _is(r, "unacknowledged"))
            assert await shared.put(b"of another format", now_ms() * 1_000_000)
            (left,) = await r.all(sql.Worker)
            await r.client.jsm().purge_stream(STREAM, seq=left.position + 1)
            await _goes_on(r)

    asyncio.run(story())


def test_a_snapshot_of_a_stream_that_was_lost_is_gone_on_from(tmp_path: Path) -> None:
    """Killed before its first snapshot of the new stream, whose numbers are lower, the worker closes no alarm."""

    async def story() -> None:
        async with rig(tmp_path) as r:
            async with r.working():
                await r.gateway.send({0: 60.0})
                await eventually_async(lambda: _is(r, "unacknowledged"))
                for _ in range(20):
                    await publish_tick(r.client, SITE)
            (before,) = await r.all(sql.Worker)
            old = (tmp_path / "s.npz").read_bytes()
            await r.client.jsm().delete_stream(STREAM)
            await ensure_stream(r.client, StreamSettings(max_bytes=1 << 28))
            async with r.working():
                await publish_tick(r.client, SITE)

                async def on_the_new_stream() -> bool:
                    (now,) = await r.all(sql.Worker)
                    return bool(now.position < before.position and now.updated_ns > before.updated_ns)

                await eventually_async(on_the_new_stream)
            (tmp_path / "s.npz").write_bytes(old)
            async with r.working():
                assert await r.phase() == "unacknowledged"
                await r.gateway.send({0: 1.0})
                await eventually_async(lambda: _is(r, "returned-unacknowledged"))
            assert [step.event for step in await r.all(sql.Transition)] == ["raise", "return"]

    asyncio.run(story())


def _kept(r: Rig) -> Position | None:
    """Up to where the snapshot in the file goes."""
    held = load_snapshot(r.folder / "s.npz")
    return None if held is None else held.position


@pytest.mark.parametrize("committed", [True, False])
def test_what_another_plant_file_raised_and_returned_in_silence_is_told_at_the_takeover(
    tmp_path: Path, *, committed: bool
) -> None:
    """A candidate with a lower limit raises while it stands by, one with a higher limit returns: both are committed.

    Once each, whether the transaction that seemed to fail took place or not.
    """

    async def story() -> None:
        async with rig(tmp_path) as r, AsyncExitStack() as stack:
            r.database = unanswering = UnansweringDatabase(r.database, committed=committed)
            limits = plant_folder(tmp_path / "higher")
            text = (limits / "plant.yaml").read_text(encoding="utf-8")
            (limits / "plant.yaml").write_text(text.replace("setpoint: 50", "setpoint: 80"), encoding="utf-8")
            lower, higher = r.plant, load_plant(limits)
            former: list[asyncio.Task[None]] = []

            async def joined(plant: Plant, value: float) -> None:
                """A worker with `plant` stands by until it has seen `value`, then takes over."""
                r.plant = plant
                worker = r.worker()
                task = asyncio.create_task(worker.run())

                async def end() -> None:
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)

                stack.push_async_callback(end)

                async def seen() -> bool:
                    await publish_tick(r.client, SITE)
                    return worker.ready or float(r.live.value[plant.point_index["P1"]]) == value

                await r.gateway.send({0: value})
                await eventually_async(seen, 60)
                if not worker.ready:
                    await depose(r.database)
                await eventually_async(lambda: worker.ready, 60)
                if former:
                    await asyncio.wait([former.pop()], timeout=60)
                former.append(task)
                began = worker.position.sequence

                async def kept() -> bool:
                    await publish_tick(r.client, SITE)
                    held = _kept(r)
                    return held is not None and held.sequence > began

                # The next one is to know what this one knew, not what the one before had kept in the end.
                await eventually_async(kept, interval_s=0.2)

            await joined(higher, 60.0)
            assert await r.phase() is None
            await joined(lower, 61.0)
            assert await r.phase() == "unacknowledged"
            await joined(higher, 62.0)
            assert await r.phase() == "returned-unacknowledged"
            assert unanswering.lost == 1
            assert [step.event for step in await r.all(sql.Transition)] == ["raise", "return"]
            assert len(await r.all(sql.Ticket)) == len({row.occurrence for row in await r.all(sql.Message)}) == 1

    asyncio.run(story())


def test_an_alarm_that_left_the_plant_is_closed(tmp_path: Path) -> None:
    """What nothing watches any more does not stand in the list for ever; the journal says why it ended."""

    async def story() -> None:
        async with rig(tmp_path) as r:
            async with r.working():
                await r.gateway.send({0: 60.0})
                await eventually_async(lambda: _is(r, "unacknowledged"))
                assert (await r.command("out-of-service")).accepted
                assert await r.all(sql.AlarmState)
            text = (tmp_path / "plant" / "plant.yaml").read_text(encoding="utf-8")
            changed = tmp_path / "changed"
            changed.mkdir()
            (changed / "plant.yaml").write_text(text.replace("setpoint: 50, deadband: 5", "setpoint: 50").replace(
                "{H: {setpoint: 50, off_delay_s: 0, priority: high}, bad", "{bad"), encoding="utf-8")  # fmt: skip
            r.plant = load_plant(changed)
            async with r.working():
                assert await r.phase() == "normal"
                assert (await r.all(sql.Transition))[-1].reason == "no longer watched"
                # Else it would be hidden when it is put back, and the engine's state lost.
                assert not await r.all(sql.AlarmState)

    asyncio.run(story())


def test_a_ticket_gets_its_evidence_and_gets_it_again_when_the_alarm_has_returned(tmp_path: Path) -> None:
    """The trend from the history, with the point's limits; taken once on opening and once more, whole, at the end."""

    async def story() -> None:
        async with rig(tmp_path) as r, r.working():
            history = await DuckdbHistory.open(tmp_path / "history")
            settings = AlarmSettings(evidence_interval_s=0.05)
            registry = CollectorRegistry()
            waiting = WatchMetrics(registry).tickets_without_evidence
            lease = await held(r.database, "evidence")
            parts = EvidenceParts(r.client, r.database, lease, history, r.plant, SystemClock(), settings, waiting)
            keeping = asyncio.create_task(keep_evidence(parts))

            async def evidence() -> dict[str, Any] | None:
                rows = await r.all(sql.Ticket)
                return rows[0].evidence if rows else None

            async def store(value: float) -> None:
                frame = Frame.of([history.key("P1")], [SystemClock().now_ns()], [value], [192])
                await history.commit(frame, {})

            async def waits(tickets: float) -> bool:
                return registry.get_sample_value("tocsin_tickets_without_evidence") == tickets

            try:
                await r.gateway.send({0: 60.0})
                await eventually_async(lambda: _is(r, "unacknowledged"))
                await eventually_async(lambda: waits(1))
                await store(60.0)
                first = await eventually_async(evidence)
                assert first is not None
                assert first["value"] == [60.0]
                assert first["limits"] == [{"kind": "H", "setpoint": 50.0}]
                assert not first["complete"]
                await r.gateway.send({0: 1.0})
                await eventually_async(lambda: _is(r, "returned-unacknowledged"))

                async def complete() -> bool:
                    found = await evidence()
                    return found is not None and bool(found["complete"])

                await eventually_async(complete)
                await eventually_async(lambda: waits(0))
            finally:
                keeping.cancel()
                with suppress(asyncio.CancelledError):
                    await keeping
                await history.close()

    asyncio.run(story())


@pytest.mark.parametrize("most", [1, 10])
def test_a_history_too_slow_for_many_trends_at_once_is_asked_for_fewer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """Each of ten tickets has its evidence in the end, of a history that never answers for more than one.

    Of one that answers for all it is written in one statement: alarms wait for no row of it.
    """
    at_once = DuckdbHistory.read_each
    written: list[str] = []

    def note(*told: Any) -> None:  # noqa: ANN401 -- as SQLAlchemy calls it
        written.extend([told[2]] if told[2].startswith("UPDATE ticket") else [])

    async def few_at_a_time(history: DuckdbHistory, wanted: Sequence[Wanted]) -> list[Trend]:
        if len(wanted) > most:
            raise HistoryError("no answer in time")
        return await at_once(history, wanted)

    monkeypatch.setattr(DuckdbHistory, "read_each", few_at_a_time)

    async def story() -> None:
        async with rig(tmp_path) as r, AsyncExitStack() as stack:
            history = await DuckdbHistory.open(tmp_path / "history")
            stack.push_async_callback(history.close)
            async with r.database.write() as session:
                for n in range(10):
                    session.add(sql.Ticket(**TICKET | {"id": f"t{n}", "alarm": f"P1/{n}"}, opened_ns=10))
                    session.add(sql.Occurrence(**OCCURRENCE | {"id": f"o{n}", "alarm": f"P1/{n}"}, raised_ns=5))
            lease = await held(r.database, "evidence")
            settings = AlarmSettings(evidence_interval_s=0.01)
            waiting = WatchMetrics(CollectorRegistry()).tickets_without_evidence
            parts = EvidenceParts(r.client, r.database, lease, history, r.plant, SystemClock(), settings, waiting)
            event.listen(Engine, "after_cursor_execute", note)
            stack.callback(event.remove, Engine, "after_cursor_execute", note)
            keeping = asyncio.create_task(keep_evidence(parts))

            async def all_have() -> bool:
                return all(ticket.evidence is not None for ticket in await r.all(sql.Ticket))

            try:
                await eventually_async(all_have)
            finally:
                keeping.cancel()
                with suppress(asyncio.CancelledError):
                    await keeping
            assert len(written) == 10 // most

    asyncio.run(story())
