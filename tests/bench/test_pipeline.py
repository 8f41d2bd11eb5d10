"""The pipeline benchmark: its gateways send what real ones do, and a short run loses nothing and finds every alarm."""

import asyncio
import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from tests.support.need import need_program
from tocsin_cli.bench import app, pipeline_victoria
from tocsin_cli.bench.faults_cloud_bed import Sql
from tocsin_cli.bench.pipeline import latency, pipeline
from tocsin_cli.bench.pipeline_bed import Heard, Plan
from tocsin_cli.bench.pipeline_flood import measure_flood
from tocsin_cli.bench.pipeline_gateways import Encoder, columns
from tocsin_cli.bench.pipeline_plant import DEVICE, GATEWAY_POINTS, SITE, Course, gateway_id, plant, point_id
from tocsin_cli.bench.pipeline_victoria import MOST_ROUNDS, NAME, Round, measure_victoria, next_size
from tocsin_core import engine
from tocsin_core.clock import SystemClock
from tocsin_core.plant import AlarmKind
from tocsin_core.readings import Frame
from tocsin_core.rules import NS, compile_rules
from tocsin_core.sparkplug import EdgeDevice, EdgeMetric, EdgeSession

BEGIN_MS = 1_800_000_000_000
# Each process more costs seconds to start.
ROLES_IN_ONE = ("all",)
RULES = {"HH", "H", "L", "LL", "rate", "time-to-limit", "stale"}


def test_the_messages_are_those_of_a_gateway_of_ours() -> None:
    """Byte for byte what `EdgeSession` makes, births and every second's data."""
    course, encoder = Course.of(2, 3, 4, BEGIN_MS), Encoder(1)
    metrics = tuple(EdgeMetric(point_id(GATEWAY_POINTS + n), "kPa", 0.0, 100.0) for n in range(GATEWAY_POINTS))
    session = EdgeSession(SITE, gateway_id(1), [EdgeDevice(DEVICE, metrics)])
    values = course.values(1, 0)
    births = [session.nbirth(0, 1, BEGIN_MS), session.dbirth(DEVICE, columns(BEGIN_MS, values), 0, BEGIN_MS)]
    assert encoder.births(BEGIN_MS, values) == births
    for number in range(1, 300):
        due_ms, values = course.due_ms(1, number), course.values(1, number)
        message = session.ddata(DEVICE, columns(due_ms, values), number, due_ms, historical=False)
        assert (encoder.topic, encoder.data(number, due_ms, values)) == (message.topic, message.payload)


@pytest.mark.parametrize(
    ("processes", "says"),
    [
        (["historian,api"], "each of alarms,api,historian,notify must be done by one process: historian,api"),
        (["workers", "api", "notify"], "must be done by one process: workers api notify"),
        (["all", "nobody"], "'nobody' is not all, workers, or some of"),
    ],
)
def test_each_role_is_done_by_one_process(processes: list[str], says: str) -> None:
    """The whole cloud side is measured: a role that is missing, or there twice, is refused before anything starts."""
    with pytest.raises(typer.BadParameter, match=says):
        pipeline(process=processes)


def test_the_alarms_expected_are_those_of_the_rules() -> None:
    """The engine alone, on the same readings, raises exactly them of all limits; every point has the seven rules."""
    made, course = plant(2), Course.of(2, 2, 8, BEGIN_MS)
    assert {str(each.kind) for each in made.points[-1].definitions} == RULES
    rules = compile_rules(made)
    state = engine.initial(rules, BEGIN_MS * NS // 1000)
    raised: set[str] = set()
    for second in range(course.warm_s + course.seconds):
        for gateway in range(course.gateways):
            point = np.arange(GATEWAY_POINTS, dtype=np.int32) + gateway * GATEWAY_POINTS
            time_ns = np.full(GATEWAY_POINTS, course.due_ms(gateway, second) * NS // 1000)
            frame = Frame.of(point, time_ns, course.values(gateway, second), np.full(GATEWAY_POINTS, 192))
            state, result = engine.step(state, rules, frame, [], int(time_ns[0]))
            for each in result.transitions:
                definition = rules.definitions[each.definition]
                if definition.kind in (AlarmKind.HH, AlarmKind.H, AlarmKind.L, AlarmKind.LL):
                    raised.add(engine.occurrence_id(definition.id, each.onset_ns))
    assert len(raised) >= 4
    assert raised == course.expected().keys()


def test_an_alarm_that_is_never_heard_leaves_no_p99() -> None:
    """Of 60 alarms all but one are heard 20 ms late: that is the median, and nothing can be said of 99 % of them."""
    course = Course.of(20, 2, 8, BEGIN_MS)
    heard = Heard({occurrence: (due_ms + 20) * NS // 1000 for occurrence, due_ms in course.expected().items()})
    assert len(heard.alarms) > 50
    assert latency(heard, course) == {"p50": 20.0, "p99": 20.0}
    heard.alarms.popitem()
    assert latency(heard, course) == {"p50": 20.0, "p99": None}


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_alternative_is_tried_at_sizes_between_what_it_keeps_pace_with_and_what_not(power: float) -> None:
    """With a limit of 37,000 points, however its rounds take longer, the search ends little below it."""
    good: Round | None = None
    bad, points, tried = 440_001, 10_000, set[int]()
    while True:
        tried.add(points)
        found = Round(points, points <= 37_000, (points / 37_000) ** power, 0.0)
        good, bad = (found, bad) if found.kept_pace else (good, points)
        wanted = next_size(found, good, bad, 440_000)
        if wanted is None:
            break
        assert wanted not in tried
        points = wanted
    assert len(tried) <= MOST_ROUNDS
    assert good is not None
    assert 33_000 <= good.points <= 37_000


def test_the_alternative_takes_the_readings_and_all_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """VictoriaMetrics and vmalert themselves, with a thousand points, of which each second all rules are evaluated."""
    for name in ("victoria-metrics", "vmalert"):
        need_program(name)
    monkeypatch.setattr(pipeline_victoria, "WARM_S", 2)
    monkeypatch.setattr(pipeline_victoria, "SECONDS", 3)
    found: dict[str, Any] = {}
    attempts = 0
    # On a busy machine a second may pass in which it is not their turn.
    while not found.get("readings_per_second_sustained") and attempts < 5:
        attempts += 1
        folder = tmp_path / str(attempts)
        folder.mkdir()
        found = asyncio.run(measure_victoria(folder, GATEWAY_POINTS, SystemClock(), lambda _: None))
    assert (found["name"], found["readings_per_second_sustained"]) == (NAME, GATEWAY_POINTS)
    # The kernel counts in ticks of 10 ms, of which three seconds with so few points may take none.
    assert 0 <= found["cpu_seconds_per_million_readings"] < 1000


@pytest.mark.timeout(300)
@pytest.mark.parametrize("sql", Sql)
def test_a_short_run_loses_nothing_and_raises_what_is_expected(monkeypatch: pytest.MonkeyPatch, sql: Sql) -> None:
    """Real broker, history and alarms: every reading is stored once, every alarm is there, and each has its delay."""
    # The package has the verb under the module's name.
    monkeypatch.setattr(import_module("tocsin_cli.bench.pipeline"), "WARM_S", 1)
    words = ["--points", str(GATEWAY_POINTS), "--seconds", "3", "--process", "all", "--sql", sql.value, "--json"]
    done = CliRunner().invoke(app, ["pipeline", "--no-flood", "--no-alternative", *words])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found["points"] == GATEWAY_POINTS
    assert 0 < found["readings_per_second_sustained"] <= GATEWAY_POINTS
    assert (found["readings_lost"], found["alarms_wrong"]) == (0, 0)
    assert found["alarms_raised"] == found["alarms_expected"] > 0
    assert found["alarms_unheard"] == 0
    assert found["latency_ms"]["p99"] >= found["latency_ms"]["p50"] > 0
    assert found["cpu_seconds_per_million_readings"] > 0
    assert ("sql" in found["cpu_by_process"]) is (sql is Sql.POSTGRESQL)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("sql", Sql)
def test_a_flood_is_committed_and_seen(tmp_path: Path, sql: Sql) -> None:
    """1,000 alarms in a second through the real stream: each is committed and told, lists and commands are answered."""
    found = asyncio.run(measure_flood(tmp_path, SystemClock(), lambda _: None, Plan(1, 2, 1), ROLES_IN_ONE, sql))
    assert (found["alarms"], found["committed"], found["events_heard"]) == (1000, 1000, 1000)
    assert found["committed_within_s"] > 0
    assert found["alarms_request_p99_ms"] > 0
    assert found["acknowledged_ms"] > 0
    assert found["streams_ended"] == 0
