"""A mass of `stale` alarms is committed in portions: each step once and in order, whatever dies in between."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy.engine import URL

from tests.cloud.rig import PLANT, POINT, depose
from tests.cloud.test_alarms import Rig, UnansweringDatabase, rig
from tests.cloud.test_callings import CrashingDatabase, ended, restarted, ticking
from tests.core.plants import SECOND, START_NS, definition, plant_of
from tests.support.postgres import on_both
from tests.support.wait import eventually_async
from tocsin_cloud.adapters.lease import LeaseLostError
from tocsin_cloud.adapters.snapshot import position_of
from tocsin_cloud.adapters.sql import models as sql
from tocsin_cloud.adapters.stream import STREAM, Position
from tocsin_cloud.loops import alarms, held_back
from tocsin_cloud.loops.disagreeing import Standing, orphans, untold
from tocsin_cloud.loops.held_back import HeldBack
from tocsin_cloud.loops.journal import Step
from tocsin_core import engine
from tocsin_core.engine import Command, Transition, occurrence_id
from tocsin_core.lifecycle import TURNS, Event, Phase, Verb
from tocsin_core.plant import AlarmKind, Plant, Priority, load_plant
from tocsin_core.readings import GOOD, Frame
from tocsin_core.rules import Rules, compile_rules
from tocsin_core.sparkplug import EdgeMetric

POINTS: Final = 6
AFTER_S: Final = 60.0
HIGH: Final = 50.0
Told = tuple[Event, Phase, Phase, int, int]


def rules_of_many() -> Rules:
    """Six points with a limit and a silence each; the silence of some is graver, or latches."""
    points = []
    for number in range(POINTS):
        stale = replace(
            definition(f"P{number}", AlarmKind.STALE),
            after_s=AFTER_S,
            priority=Priority.HIGH if number == POINTS - 1 else Priority.LOW,
            latching=number == 1,
        )
        points.append([definition(f"P{number}", AlarmKind.H, HIGH), stale])
    return compile_rules(plant_of(points))


RULES: Final = rules_of_many()
NUMBERS: Final = np.arange(len(RULES.definitions))


@dataclass
class Tables:
    """What is committed: how each occurrence stands, and the journal of each alarm."""

    stands: dict[tuple[str, int], Phase] = field(default_factory=dict)
    journal: dict[str, list[Transition]] = field(default_factory=dict)

    def commit(self, steps: Sequence[Step]) -> None:
        """Take steps in, each of which has to follow on what is there."""
        for each in (step.transition for step in steps):
            alarm = RULES.definitions[each.definition].id
            if each.event is Event.RAISE:
                assert (alarm, each.onset_ns) not in self.stands
                assert self.stands.pop((alarm, each.superseded_ns), Phase.NORMAL) is each.phase_from
            elif each.onset_ns:
                assert self.stands.pop((alarm, each.onset_ns), Phase.NORMAL) is each.phase_from
            if each.phase_to is not Phase.NORMAL:
                self.stands[alarm, each.onset_ns] = each.phase_to
            self.journal.setdefault(alarm, []).append(each)

    def standing(self) -> dict[str, Standing]:
        """As whoever takes over reads it."""
        return {
            occurrence_id(alarm, raised_ns): Standing(alarm, raised_ns, phase)
            for (alarm, raised_ns), phase in self.stands.items()
        }


@dataclass
class World:
    """An engine, what it has committed, and what it should have."""

    held: HeldBack = field(default_factory=lambda: HeldBack(RULES))
    tables: Tables = field(default_factory=Tables)
    expected: dict[str, list[Transition]] = field(default_factory=dict)
    now_ns: int = START_NS
    kills: int = 0

    def __post_init__(self) -> None:
        """Begin with a reading of each point."""
        self.state = engine.initial(RULES, START_NS)
        self.read(range(POINTS), 1.0)

    def read(self, points: Sequence[int], value: float) -> None:
        """A reading of each of some points."""
        self.now_ns += SECOND
        n = len(points)
        self._step(Frame.of(points, [self.now_ns] * n, [value] * n, [GOOD] * n), [])

    def wait(self, seconds: int) -> None:
        """Let time pass, by ticks as they come."""
        for _ in range(seconds):
            self.now_ns += SECOND
            self._step(Frame.empty(), [])

    def ask(self, verb: Verb, number: int) -> None:
        """What a person asks of an alarm."""
        until_ns = self.now_ns + 90 * SECOND if verb is Verb.SHELVE else 0
        once = bool(verb is Verb.SHELVE and self.state.active[number])
        self._step(Frame.empty(), [Command(verb, number, self.now_ns, "li", "why", 0, until_ns, once)])

    def cut_off(self, portions: int) -> None:
        """Let all fall silent; so many portions are committed afterwards."""
        self.wait(int(AFTER_S) + 1)
        self.commit(portions)

    def back(self, portions: int) -> None:
        """Let all be read again; so many portions are committed afterwards."""
        self.read(range(POINTS), 1.0)
        self.commit(portions)

    def commit(self, portions: int) -> None:
        """Commit so many portions."""
        for _ in range(portions):
            self.tables.commit(self.held.portion())

    def kill(self) -> None:
        """Let somebody else take over, who knows the engine's state and what is committed."""
        self.kills += 1
        self.held, stands = HeldBack(RULES), self.tables.standing()
        missing = list(untold(self.state, RULES, stands.values(), NUMBERS))
        assert orphans(self.state, RULES, stands, missing) == set()
        self.tables.commit(self.held.take(self._steps(missing)))

    def _step(self, frame: Frame, inputs: Sequence[engine.Input]) -> None:
        self.state, result = engine.step(self.state, RULES, frame, inputs, self.now_ns)
        for each in result.transitions:
            self.expected.setdefault(RULES.definitions[each.definition].id, []).append(each)
        self.tables.commit(self.held.take(self._steps(result.transitions)))

    def _steps(self, transitions: Sequence[Transition]) -> list[Step]:
        at = Position(1, self.now_ns)
        return [Step(each, at, False, None, False, False) for each in transitions]  # noqa: FBT003 -- neither timely nor hidden


def told(journal: dict[str, list[Transition]]) -> dict[str, list[Told]]:
    """What no takeover may change."""
    return {
        alarm: [(each.event, each.phase_from, each.phase_to, each.onset_ns, each.superseded_ns) for each in steps]
        for alarm, steps in journal.items()
    }


SOME: Final = st.lists(st.integers(0, POINTS - 1), min_size=1, max_size=POINTS, unique=True)
DEEDS: Final = st.one_of(
    st.tuples(st.sampled_from(["cut_off", "back"]), st.integers(0, POINTS // 2)),
    st.tuples(st.sampled_from(["cut_off", "back"]), st.integers(0, POINTS // 2)),
    st.just(("kill",)),
    st.tuples(st.just("read"), SOME, st.sampled_from([1.0, 60.0])),
    st.tuples(st.just("wait"), st.sampled_from([1, 30])),
    st.tuples(st.just("ask"), st.sampled_from(list(Verb)), st.integers(0, len(NUMBERS) - 1)),
)


@given(st.lists(DEEDS, min_size=5, max_size=30))
@example([("cut_off", 0), ("back", 0), ("cut_off", 0), ("kill",)])
@example([("cut_off", 3), ("back", 0), ("cut_off", 0), ("kill",), ("back", 0), ("kill",)])
@example([("cut_off", 3), ("back", 0), ("cut_off", 1), ("back", 1), ("kill",), ("cut_off", 1), ("kill",)])
def test_each_step_is_committed_once_and_in_order_whenever_somebody_takes_over(deeds: list[tuple[Any, ...]]) -> None:
    """Raised and returned in masses and one by one, acknowledged, shelved: the journal of each alarm is the engine's.

    After a takeover a return that waited has the time of a later reading; all else is as it was.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(held_back, "PORTION", 2)
        world = World()
        for deed, *how in deeds:
            getattr(world, deed)(*how)
        world.commit(POINTS)
    journal, expected = world.tables.journal, world.expected
    assert told(journal) == told(expected)
    for alarm, steps in expected.items():
        for ours, theirs in zip(journal[alarm], steps, strict=True):
            if not world.kills or theirs.event is Event.RAISE:
                assert repr(ours) == repr(theirs)


def test_a_portion_is_of_so_many_steps_however_many_an_alarm_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raised, returned, and nothing of it committed yet: the two steps of one alarm are a portion of two."""
    monkeypatch.setattr(held_back, "PORTION", 2)
    world = World()
    world.cut_off(0)
    world.back(0)
    assert world.held.waiting == 2 * POINTS
    for waiting in range(2 * POINTS - 2, -1, -2):
        (first, then) = [step.transition for step in world.held.portion()]
        assert (first.event, then.event in TURNS, then.definition) == (Event.RAISE, True, first.definition)
        assert world.held.waiting == waiting
    assert not world.held.portion()


def test_only_silences_wait_and_the_gravest_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit that is passed in the same moment is committed with the position."""
    monkeypatch.setattr(held_back, "PORTION", 2)
    world = World()
    world.wait(60)
    assert not world.tables.journal
    assert world.held.waiting == POINTS
    world.read([0], 60.0)
    # What came before of an alarm goes in with what it does then, and so in order.
    assert list(world.tables.journal) == ["P0/H", "P0/stale"]
    assert len(world.tables.journal["P0/stale"]) == 2
    world.commit(1)
    assert list(world.tables.journal)[2:] == ["P5/stale", "P1/stale"]
    world.commit(POINTS)
    assert not world.held.waiting
    assert told(world.tables.journal) == told(world.expected)


METRICS: Final = (EdgeMetric(POINT, "kPa", 0.0, 100.0), *(EdgeMetric(f"P{number}") for number in (2, 3, 4)))
SILENCES: Final = [f"P{number}/stale" for number in (1, 2, 3, 4)]


def silent_soon(folder: Path) -> Plant:
    """The small plant with four points that are stale after a second."""
    lines = PLANT.replace("stale: false", "stale: {after_s: 1}").splitlines()
    (second,) = [line for line in lines if "id: P2" in line]
    more = [second.replace("P2", name).replace("field: w", f"field: {name}") for name in ("P3", "P4")]
    at = lines.index(second) + 1
    folder.mkdir()
    (folder / "plant.yaml").write_text("\n".join([*lines[:at], *more, *lines[at:]]), encoding="utf-8")
    return load_plant(folder)


async def steps_of(r: Rig) -> dict[str, list[str]]:
    """The events of each alarm."""
    found: dict[str, list[str]] = {}
    for row in await r.all(sql.Transition):
        found.setdefault(row.alarm, []).append(row.event)
    return found


async def committed(r: Rig, events: list[str]) -> bool:
    """Whether each point's silence has gone through these events."""
    found = await steps_of(r)
    return all(found.get(alarm) == events for alarm in SILENCES)


@on_both
def test_a_worker_that_dies_around_every_portion_loses_and_doubles_nothing(
    tmp_path: Path, sql_url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four points fall silent at once and are back at once, two to a portion: the worker dies before and after each."""
    monkeypatch.setattr(held_back, "PORTION", 2)

    async def story() -> None:
        async with rig(tmp_path, sql_url, METRICS) as r:
            r.plant = silent_soon(tmp_path / "silent")
            r.database = dying = CrashingDatabase(r.database)
            async with restarted(r):
                # Without any, what waits when it dies is known by no tables.
                await eventually_async((tmp_path / "s.npz").exists)
                async with ticking(r):
                    await eventually_async(lambda: committed(r, ["raise"]))
                await r.gateway.send(dict.fromkeys(range(4), 1.0))
                await eventually_async(lambda: committed(r, ["raise", "return"]))
                # What is committed is seen by others before it dies of it.
                await eventually_async(lambda: dying.crashes >= 8)
            assert await committed(r, ["raise", "return"])
            assert {row.phase for row in await r.all(sql.Occurrence)} == {"returned-unacknowledged"}
            assert len(await r.all(sql.Occurrence)) == len(SILENCES)

    asyncio.run(story())


class LaterUnansweringDatabase(UnansweringDatabase):
    """The same, of which the third transition's commit is the first to be lost."""

    def _lose(self, written: int | None) -> None:
        super()._lose(max(0, (written or 0) - 2))


@pytest.mark.parametrize("done", [True, False], ids=["committed", "not committed"])
def test_what_waits_when_a_worker_ends_is_committed_by_the_next_one_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, done: bool
) -> None:
    """The first has committed one portion of four; the answer to the next one's second is lost, while more waits."""
    monkeypatch.setattr(held_back, "PORTION", 1)
    monkeypatch.setattr(alarms, "REST_S", 3600.0)

    async def story() -> None:
        async with rig(tmp_path, None, METRICS) as r:
            r.plant = silent_soon(tmp_path / "silent")

            async def one_is_raised() -> bool:
                return len(await r.all(sql.Transition)) == 1

            async with ticking(r), r.working():
                await eventually_async(one_is_raised)
            assert await one_is_raised()
            monkeypatch.setattr(alarms, "REST_S", 0.0)
            r.database = unanswering = LaterUnansweringDatabase(r.database, committed=done)
            async with r.working():
                await eventually_async(lambda: committed(r, ["raise"]))
            assert unanswering.lost == 1
            assert await committed(r, ["raise"])

    asyncio.run(story())


def test_a_candidate_that_began_before_there_was_a_snapshot_tells_what_waited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of four silences that are over one is committed: who takes over knows the others by the first snapshot kept."""
    monkeypatch.setattr(held_back, "PORTION", 1)
    monkeypatch.setattr(alarms, "REST_S", 3600.0)

    async def story() -> None:
        async with rig(tmp_path, None, METRICS) as r:
            r.plant = silent_soon(tmp_path / "silent")
            working = asyncio.create_task(r.worker().run())
            live = r.live
            async with ticking(r) as ticks:
                await eventually_async(lambda: _transitions(r, 1))
                r.folder = tmp_path / "elsewhere"
                r.folder.mkdir()
                candidate = r.worker()
                await candidate.follow(0.0)
                assert candidate.behind > 0
                following = asyncio.create_task(candidate.run())
                ticks.cancel()
                await r.gateway.send(dict.fromkeys(range(4), 1.0))
                index = [r.plant.point_index[alarm.removesuffix("/stale")] for alarm in SILENCES]
                await eventually_async(lambda: bool((live.value[index] == 1.0).all()))
                over = (await r.client.jsm().stream_info(STREAM)).state.last_seq

                async def kept() -> bytes:
                    await r.gateway.send(dict.fromkeys(range(4), 1.0))
                    # The holder is not ready with the first one yet, or just puts a later one into its place.
                    with suppress(FileNotFoundError):
                        body = (tmp_path / "s.npz").read_bytes()
                        return body if position_of(body).sequence >= over else b""
                    return b""

                (r.folder / "s.npz").write_bytes(await eventually_async(kept))
                await eventually_async(lambda: candidate.behind == 0)
                assert await _transitions(r, 1)
                monkeypatch.setattr(alarms, "REST_S", 0.0)
                await depose(r.database)
                # The lease is lost to whatever of the holder writes next: one or two say so.
                await asyncio.wait([working])
                assert isinstance(working.exception(), LeaseLostError | ExceptionGroup)
                await eventually_async(lambda: committed(r, ["raise", "return"]))
            assert r.metrics.registry.get_sample_value("tocsin_engine_rebuilt_timestamp_seconds") == 0
            await ended(following)

    asyncio.run(story())


async def _transitions(r: Rig, number: int) -> bool:
    return len(await r.all(sql.Transition)) == number
