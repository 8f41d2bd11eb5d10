"""The cloud side's fault benchmark: what is to arrive, what counts as lost and doubled, and a short real run."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Final

import numpy as np
import pytest
from typer.testing import CliRunner

from tocsin_cli.bench import app
from tocsin_cli.bench.faults_cloud_bed import points_of, write_plant
from tocsin_cli.bench.faults_cloud_gateway import Course
from tocsin_cli.bench.faults_cloud_script import Fault, script
from tocsin_cli.bench.faults_cloud_tally import Alarms, alarms, messages, readings
from tocsin_cli.bench.faults_tally import Count
from tocsin_core import engine
from tocsin_core.lifecycle import Event
from tocsin_core.plant import load_plant
from tocsin_core.readings import Frame
from tocsin_core.rules import compile_rules

NS_PER_MS: Final = 1_000_000
BEGUN_MS: Final = 1_800_000_000_000
RIGHT: Final = Alarms({"a": True, "b": False}, {"a": 1, "b": 1}, {"a": 1}, frozenset())


def test_a_script_is_drawn_from_its_seed() -> None:
    """The same seed gives the same faults, another one others; every kind comes."""
    first = script(200, 1)
    assert script(200, 1) == first != script(200, 2)
    assert {cycle.fault for cycle in first} == set(Fault)
    assert sum(cycle.fault.kills for cycle in first) > 150


def test_the_alarms_that_are_expected_are_those_that_the_engine_raises(tmp_path: Path) -> None:
    """Of readings that arrive once and in order: each raising under its id, each return, the first of each point."""
    write_plant(tmp_path / "plant", ["gw1"], 30)
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
    assert messages({"a", "b"}, ["b", "a"]) == Count(2, 0, 0)


def test_what_is_missing_is_lost_and_what_is_too_many_is_doubled() -> None:
    """A reading, an alarm or its return, a message; stored twice, never sent, a step written down twice."""
    assert readings({("p", 1), ("p", 2)}, {("p", 1): 2, ("q", 9): 1}) == Count(2, 1, 2)
    assert alarms({"a": True, "b": True, "c": False}, RIGHT) == Count(3, 2, 0)
    assert alarms({"a": True}, RIGHT) == Count(1, 0, 1)
    assert alarms({"a": True, "b": False}, replace(RIGHT, raises={"a": 2, "b": 1}, returns={"a": 3})) == Count(2, 0, 3)
    assert alarms({"a": True, "b": False}, replace(RIGHT, given_up=frozenset({"a"}))) == Count(2, 1, 0)
    assert messages({"a", "b"}, ["a", "a", "c"]) == Count(2, 1, 2)


@pytest.mark.timeout(900)
def test_a_short_run_loses_and_doubles_nothing() -> None:
    """Two real workers, their server and the interface, killed and paused: all six figures are 0."""
    result = CliRunner().invoke(app, ["faults", "--side", "cloud", "--cycles", "3", "--seed", "203", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout.strip().splitlines()[-1])
    wrong = Counter({key: value for key, value in found.items() if key.endswith(("_lost", "_doubled"))})
    assert (len(wrong), wrong.total()) == (6, 0)
    assert found["cycles"] == 3
    assert found["kills"] == 2
    assert found["readings_sent"] > 50
    assert found["alarms_expected"] > 0
    assert found["worst_takeover_s"] > 0
