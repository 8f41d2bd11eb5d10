"""What the interface hears of processes that each do a part: their state in portions, figures added up, candidates."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest
from nats.aio.msg import Msg
from nats.errors import TimeoutError as NatsTimeoutError
from prometheus_client import CollectorRegistry, generate_latest

from tests.cloud.api.stand_ins import START_NS, HandClock, StoredTrend
from tests.cloud.rig import GATEWAY, SITE, broker, candidate, held, plant_folder
from tests.support.sqlite import with_tables
from tests.support.wait import eventually_async
from tocsin_cloud.adapters.history import HOUR, Wanted
from tocsin_cloud.adapters.metrics import Metrics
from tocsin_cloud.adapters.metrics_watch import WatchMetrics
from tocsin_cloud.adapters.quarantine import Quarantine
from tocsin_cloud.adapters.sql.engine import Database
from tocsin_cloud.adapters.stream import connect
from tocsin_cloud.api import remote
from tocsin_cloud.api.added import Added
from tocsin_cloud.api.growth import Growth
from tocsin_cloud.api.live_port import LivePort
from tocsin_cloud.api.ports import ReadingsUnknownError
from tocsin_cloud.api.remote import (
    COLUMNS,
    DETAILS_S,
    LOOK_S,
    MISSED,
    SILENT_S,
    RemoteHistory,
    RemoteLive,
    Told,
    WorkersMetrics,
    _pack,
    answering,
)
from tocsin_cloud.loops.candidates import keep_telling
from tocsin_cloud.loops.live import GatewayLive, LiveView, Stored
from tocsin_cloud.loops.points import PointTable, numbering
from tocsin_cloud.settings import WORKERS, Role, StrangerSettings
from tocsin_core.clock import SystemClock
from tocsin_core.plant import load_plant
from tocsin_core.readings import GOOD, Frame

if TYPE_CHECKING:
    from nats.aio.client import Client


def test_figures_of_several_processes_are_one_each() -> None:
    """What both count is the sum, histograms too; what a process tells of itself stays apart."""
    first, second = Metrics(), Metrics()
    first.stored.inc(3)
    second.commits.labels("alarms").inc(2)
    for metrics in (first, second):
        metrics.late.inc()
        metrics.latency.observe(0.02)
    families = {
        family.name: family
        for family in Added().of(
            {"a": generate_latest(first.registry).decode(), "b": generate_latest(second.registry).decode()}, set()
        )
    }
    values = {
        (sample.name, *sample.labels.values()): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert values["tocsin_readings_stored_total",] == 3
    assert values["tocsin_commits_total", "alarms"] == 2
    assert values["tocsin_readings_late_total",] == 2
    assert values["tocsin_alarm_latency_seconds_count",] == 2
    assert {key for key in values if key[0] == "process_resident_memory_bytes"} == {
        ("process_resident_memory_bytes", "a"),
        ("process_resident_memory_bytes", "b"),
    }
    assert not any(name.endswith("_created") for name in families)


def test_what_was_counted_stays_while_its_process_is_silent_and_when_another_has_taken_over() -> None:
    """A sum that goes back looks like growth to whoever looks next: warnings of things that never happened."""
    metrics = {name: Metrics() for name in "abc"}
    metrics["a"].quarantined.labels("too-fast").inc(1000)
    metrics["b"].quarantined.labels("too-fast").inc(5)
    metrics["a"].held_back.set(7)
    added, grown = Added(), Growth()
    known = {"a", "b"}
    seen = []

    def look(*heard: str) -> None:
        families = added.of({name: generate_latest(metrics[name].registry).decode() for name in heard}, known)
        values = {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}
        grown.look(values, 0.0)
        refused = values["tocsin_quarantined_total", frozenset({("reason", "too-fast")})]
        seen.append((refused, values.get(("tocsin_alarm_steps_waiting", frozenset()))))

    look("a", "b")
    look("b")
    look("a", "b")
    known = {"b", "c"}
    look("b", "c")
    metrics["c"].quarantined.labels("too-fast").inc(2)
    look("b", "c")
    look("b", "c")
    assert seen == [(1005, 7), (1005, 0), (1005, 7), (1005, 0), (1007, 0), (1007, 0)]
    assert list(grown.of_late("quarantined_total", 300, 0.0).values()) == [2]


def test_an_interface_that_was_held_up_does_not_take_the_workers_for_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two questions in a row have to be in vain, however late it is since the last answer; that for readings is none.

    It is under way together with another one, and one silence would count as two.
    """
    monkeypatch.setattr(remote, "LOOK_S", 0.0)
    clock = HandClock()

    class Worker:
        asked, silent = 0, False

        async def request(self, subject: str, _data: bytes, timeout: float, headers: object) -> Msg:  # noqa: ASYNC109 -- as nats-py has it
            del timeout, headers
            self.asked += 1
            if self.silent:
                raise NatsTimeoutError
            body = _pack(dict.fromkeys(COLUMNS, np.empty(0)), {"process": "a", "ready": None, "undeclared": []})
            return Msg(_client=cast("Client", self), subject=subject, data=body)

    async def story() -> None:
        worker = Worker()
        live = RemoteLive(cast("Client", worker), SITE, "ours", clock)
        await live.hear(asyncio.Event())
        clock.move(2 * SILENT_S)
        assert live.ready() is None
        worker.silent = True
        await live.latest()
        waiting = asyncio.create_task(live.hear(asyncio.Event()))
        await eventually_async(lambda: worker.asked == 3, interval_s=0)
        assert live.ready() is None
        await eventually_async(lambda: live.ready() == "the alarms worker does not answer")
        worker.silent = False
        await waiting
        assert live.ready() is None

    asyncio.run(story())


def test_readings_are_asked_for_when_somebody_wants_them() -> None:
    """All else is asked for without them; two who want them at once make one question, and so do two in a row."""
    clock, asked = HandClock(), list[bytes]()

    class Worker:
        is_connected = False

        async def subscribe(self, _subject: str, cb: object) -> None:
            del cb

        async def request(self, subject: str, data: bytes, timeout: float, headers: object) -> Msg:  # noqa: ASYNC109 -- as nats-py has it
            del timeout, headers
            asked.append(data)
            column = np.asarray([len(asked)])
            columns = dict.fromkeys(COLUMNS, column) if data else {}
            told: dict[str, object] = {
                "process": "a",
                "ready": None,
                "points": len(columns.get("value", ())),
                "undeclared": [],
            }
            body = _pack(columns, told)
            return Msg(_client=cast("Client", self), subject=subject, data=body)

    async def story() -> None:
        live = RemoteLive(cast("Client", Worker()), SITE, "ours", clock)
        await live.hear(asyncio.Event())
        following = asyncio.create_task(live.follow())
        await eventually_async(lambda: len(asked) == 1 + len(WORKERS))
        following.cancel()
        assert asked == [b"0", *[b""] * len(WORKERS)]
        clock.move(2 * LOOK_S)
        found = [await live.latest(), *await asyncio.gather(live.latest(), live.latest())]
        assert asked[1 + len(WORKERS) :] == [b"0"]
        assert {latest.value.tolist()[0] for latest in found} == {len(asked)}
        with suppress(asyncio.CancelledError):
            await following

    asyncio.run(story())


def test_what_is_long_is_asked_for_now_and_then_and_of_whoever_has_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """In between, the figures and gateways told last stand; those of a process that has lost its role do not."""
    monkeypatch.setattr(remote, "LOOK_S", 0.0)
    clock = HandClock()

    class Worker:
        process, whole, brief, is_connected = "a", 0, 0, False

        async def subscribe(self, _subject: str, cb: object) -> None:
            del cb

        async def request(self, subject: str, data: bytes, timeout: float, headers: object) -> Msg:  # noqa: ASYNC109 -- as nats-py has it
            del timeout, data
            if Role.ALARMS not in subject:
                raise NatsTimeoutError
            self.brief, self.whole = self.brief + (headers is not None), self.whole + (headers is None)
            told: dict[str, object] = {"process": self.process, "ready": None, "points": 0, "undeclared": []}
            if headers is None:
                told |= {"metrics": f"of {self.process}, {self.whole}"}
            return Msg(_client=cast("Client", self), subject=subject, data=_pack({}, told))

    async def story() -> None:
        worker = Worker()
        live = RemoteLive(cast("Client", worker), SITE, "ours", clock)
        following = asyncio.create_task(live.follow())
        await eventually_async(lambda: worker.brief > 2, interval_s=0)
        assert live.metrics() == {"a": "of a, 1"}
        clock.move(DETAILS_S)
        await eventually_async(lambda: live.metrics() == {"a": "of a, 2"}, interval_s=0)
        worker.process = "b"
        await eventually_async(lambda: live.metrics() == {"b": "of b, 3"}, interval_s=0)
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following

    asyncio.run(story())


def test_readings_of_a_worker_with_other_points_are_nobodys() -> None:
    """A page that begins on a changed plant file before the worker does would show readings under others' names."""
    clock = HandClock()

    class Worker:
        numbered_as: str | None = "ours"
        value = 1.0

        async def request(self, subject: str, _data: bytes, timeout: float, headers: object) -> Msg:  # noqa: ASYNC109 -- as nats-py has it
            del timeout, headers
            told: dict[str, object] = {"process": "a", "ready": None, "points": 1, "undeclared": []}
            if self.numbered_as is not None:
                told["numbered_as"] = self.numbered_as
            body = _pack(dict.fromkeys(COLUMNS, np.asarray([self.value])), told)
            return Msg(_client=cast("Client", self), subject=subject, data=body)

    async def story() -> None:
        worker = Worker()
        live = RemoteLive(cast("Client", worker), SITE, "ours", clock)
        await live.hear(asyncio.Event())
        assert ((await live.latest()).value.tolist(), live.ready()) == ([1.0], None)
        worker.numbered_as, worker.value = "others", 2.0
        clock.move(2 * LOOK_S)
        with pytest.raises(ReadingsUnknownError, match="another plant file"):
            await live.latest()
        assert "another plant file" in (live.ready() or "")
        worker.numbered_as = "ours"
        clock.move(2 * LOOK_S)
        assert ((await live.latest()).value.tolist(), live.ready()) == ([2.0], None)
        # One of an earlier version does not say.
        worker.numbered_as, worker.value = None, 3.0
        clock.move(2 * LOOK_S)
        assert (await live.latest()).value.tolist() == [3.0]

    asyncio.run(story())


def test_points_are_numbered_as_their_order_says() -> None:
    """One more point in the midst, or two that change places, is another numbering."""
    told = [numbering(ids) for ids in (["a", "b"], ["b", "a"], ["a", "x", "b"], ["a", "b"])]
    assert told[0] == told[3]
    assert len(set(told)) == 3


def test_readings_of_long_ago_do_not_pass_for_the_latest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody wanted them for an hour, and the question for them is in vain: they are unknown, and nobody is held dead.

    Whose they are is what was told with them. Those of a worker that has died since stay.
    """
    monkeypatch.setattr(remote, "LOOK_S", 0.0)
    clock = HandClock()

    class Worker:
        silent, readings, process, is_connected = False, True, "a", False

        async def subscribe(self, _subject: str, cb: object) -> None:
            del cb

        async def request(self, subject: str, data: bytes, timeout: float, headers: object) -> Msg:  # noqa: ASYNC109 -- as nats-py has it
            del timeout, headers
            if self.silent or (data and not self.readings):
                raise NatsTimeoutError
            stranger = {"index": 0, "id": self.process, "unit": "", "gateway": "gw", "device": "d"}
            columns = dict.fromkeys(COLUMNS, np.asarray([clock.ns])) if data else {}
            told = {"process": self.process, "ready": None, "points": 1, "undeclared": [stranger]}
            body = _pack(columns, told)
            return Msg(_client=cast("Client", self), subject=subject, data=body)

    async def story() -> None:
        worker = Worker()
        live = RemoteLive(cast("Client", worker), SITE, "ours", clock)
        await live.hear(asyncio.Event())
        following = asyncio.create_task(live.follow())
        clock.move(3600)
        worker.readings, worker.process = False, "b"
        await eventually_async(lambda: live.undeclared()[0].id == "b")
        for _ in range(MISSED):
            with pytest.raises(ReadingsUnknownError):
                await live.latest()
            clock.move(2 * SILENT_S)
            assert live.ready() is None
        worker.readings = True
        told = await live.latest()
        worker.process = "c"
        await eventually_async(lambda: live.undeclared()[0].id == "c")
        worker.readings = False
        kept = await live.latest()
        assert (kept.time_ns.tolist(), kept.undeclared[0].id) == (told.time_ns.tolist(), "b")
        worker.silent = True
        clock.move(3600)
        await eventually_async(lambda: live.ready() == "the alarms worker does not answer")
        assert (await live.latest()).time_ns.tolist() == told.time_ns.tolist()
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following

    asyncio.run(story())


def test_the_interface_puts_together_what_the_holders_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readings and gateways of the alarms worker, what is stored of the historian; a candidate is heard, not asked."""
    monkeypatch.setattr(remote, "PORTION", 2)
    plant = load_plant(plant_folder(tmp_path / "plant"))

    async def story() -> None:
        async with broker(tmp_path / "nats") as (server, _):
            client = await connect(server.url, "test")
            database = await Database.open(with_tables(tmp_path / "db"))
            leases = {role: await held(database, role) for role in (Role.ALARMS, Role.HISTORIAN)}

            def told(role: Role) -> tuple[Told, LiveView]:
                view = LiveView(PointTable(plant, StrangerSettings()))
                port = LivePort(view, Quarantine(database, Metrics(), 1))
                registry = CollectorRegistry()
                process = leases[role].holder
                clock = SystemClock()
                return Told(
                    SITE, process, {role: leases[role]}, port, StoredTrend(3), lambda: None, registry, clock
                ), view

            (alarms, now), (historian, kept) = told(Role.ALARMS), told(Role.HISTORIAN)
            now.take(Frame.of([0, 1, 2], [5, 6, 7], [1.5, 2.5, 3.5], [GOOD] * 3))
            now.gateways[SITE, GATEWAY] = GatewayLive(SITE, GATEWAY, "online", 1, 2)
            kept.stored[SITE, GATEWAY] = Stored(100, 9, 7)
            kept.readings_stored, now.late = 100, 4
            live = RemoteLive(client, SITE, numbering(point.id for point in plant.points), SystemClock())
            # Who has not looked at its lease yet could take nothing over, and is not told of.
            waiting = {Role.ALARMS: candidate(database), Role.NOTIFY: candidate(database, Role.NOTIFY)}
            assert not await waiting[Role.ALARMS].take()
            behind = keep_telling(client, SITE, waiting, lambda: 8, WatchMetrics(CollectorRegistry()))
            keeping = [asyncio.create_task(lease.keep()) for lease in leases.values()]
            async with answering(client, alarms), answering(client, historian):
                await live.hear(asyncio.Event())
                tasks = [asyncio.create_task(work) for work in (live.follow(), behind)]
                await eventually_async(lambda: live.answers(Role.HISTORIAN) and live.candidates())
                spans = [(START_NS, START_NS + HOUR), (0, 1), (START_NS + 1, START_NS + HOUR)]
                wanted = [Wanted("A", *span, 1_000_000_000) for span in spans]
                at = [START_NS + second * 1_000_000_000 for second in range(3)]
                trends = await RemoteHistory(client, SITE).read_each(wanted)
                latest = await live.latest()
                for task in (*tasks, *keeping):
                    task.cancel()
                await asyncio.gather(*tasks, *keeping, return_exceptions=True)
            assert [trend.time_ns.tolist() for trend in trends] == [at, [], at[1:]]
            assert latest.value.tolist()[:3] == [1.5, 2.5, 3.5]
            assert live.ready() is None
            (own, *_) = live.gateways()
            assert (own.id, own.state, own.readings, own.committed) == (GATEWAY, "online", 100, 7)
            assert (live.figures().readings_stored, live.figures().late_readings) == (100, 4)
            families = {family.name: family.samples for family in WorkersMetrics(live).collect()}
            answered = {sample.labels["role"]: sample.value for sample in families["tocsin_role_answers"]}
            assert answered == {"alarms": 1, "historian": 1, "notify": 0}
            (lag,) = families["tocsin_candidate_lag_messages"]
            assert (lag.labels["process"], lag.value) == (waiting[Role.ALARMS].holder, 8)
            await database.close()
            await client.close()

    asyncio.run(story())
