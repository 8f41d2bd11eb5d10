"""Holds the engine's benchmark to what it says: a plant that is one, an alternative that tells the same, whole JSON."""

import json
import subprocess
import sys
from dataclasses import fields
from typing import Final

import numpy as np

from tests.core.plants import SECOND
from tocsin_cli.bench.engine import measured_objects
from tocsin_cli.bench.synthetic import START_NS, Weather, block, repeated, rules_of
from tocsin_core import engine
from tocsin_core.clock import SystemClock
from tocsin_core.lifecycle import Event
from tocsin_core.plant import AlarmKind
from tocsin_core.rules import Rules, compile_rules

LIMITS: Final = (AlarmKind.HH, AlarmKind.H, AlarmKind.L, AlarmKind.LL)


def test_a_repeated_plant_is_the_plant_compiled_at_its_full_size() -> None:
    """Every column but the names: three times four points are twelve points."""
    whole, made = compile_rules(block(12)), repeated(compile_rules(block(4)), 3)
    for field in fields(Rules):
        column = getattr(whole, field.name)
        if isinstance(column, np.ndarray):
            np.testing.assert_array_equal(getattr(made, field.name), column, err_msg=field.name)
            assert getattr(made, field.name).dtype == column.dtype


def test_each_point_has_the_seven_alarms_that_are_promised() -> None:
    """HH, H, L, LL, rate, time to limit and stale."""
    for point in block(2).points:
        kinds = {definition.kind for definition in point.definitions}
        assert kinds == {*LIMITS, AlarmKind.RATE, AlarmKind.TIME_TO_LIMIT, AlarmKind.STALE}


def test_the_alternative_tells_the_same_of_limits() -> None:
    """On the same readings, the same alarms of HH, H, L and LL at the same seconds: it is slower, not wrong."""
    points, seconds = 300, 90
    rules, weather = rules_of(points), Weather.of(points)
    state, told = engine.initial(rules, START_NS), []
    for second in range(1, seconds + 1):
        state, result = engine.step(state, rules, weather.frame(second), [], START_NS + second * SECOND)
        told += [
            (rules.definitions[each.definition].id, each.event is Event.RAISE, (each.time_ns - START_NS) / SECOND)
            for each in result.transitions
            if rules.definitions[each.definition].kind in LIMITS
        ]
    _, changes = measured_objects(points, SystemClock())
    assert len(told) >= 3
    assert sorted(told) == sorted(change for change in changes if change.alarm.split("/")[1] in LIMITS)


def test_the_verb_prints_one_object_with_every_figure() -> None:
    """A small run through the command itself."""
    command = [sys.executable, "-m", "tocsin_cli", "bench", "engine", "--points", "1000", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    found = json.loads(done.stdout.splitlines()[-1])
    assert {"points", "definitions", "readings_per_second", "bytes_per_point", "rules_bytes_per_point"} < found.keys()
    assert (found["points"], found["definitions"]) == (1000, 7000)
    assert found["scaling"] == [{"points": 1000, "readings_per_second": found["readings_per_second"]}]
    assert found["bytes_per_point"] < 1000
    assert found["sparse"]["readings"] == 100
    assert found["burst"]["transitions"] >= found["burst"]["readings"] > 0
    assert found["alternative"]["readings_per_second"] > 0
