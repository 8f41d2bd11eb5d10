"""What lies outside a point's range: marked, still good, still alarming; and what cannot be a measurement."""

import math
from pathlib import Path

import numpy as np
import pytest

from tests.edge.rig import modbus_device, plant
from tocsin_core import engine
from tocsin_core.lifecycle import Event
from tocsin_core.plant import load_plant
from tocsin_core.ranges import Ranges
from tocsin_core.readings import BAD_COMM_FAILURE, BAD_SENSOR_FAILURE, GOOD, UNCERTAIN, Frame, quality_text
from tocsin_core.rules import compile_rules
from tocsin_edge.loops.measured import measured
from tocsin_edge.settings import compile_settings


@pytest.mark.parametrize(
    ("value", "quality", "text"),
    [
        (5.0, 0xC0, "good"),
        (0.0, 0xC0, "good"),
        (10.0, 0xC0, "good"),
        (10.5, 0xC0, "good"),
        (10.6, 0xC2, "good: above range"),
        (55.0, 0xC2, "good: above range"),
        (-0.5, 0xC0, "good"),
        (-0.6, 0xC1, "good: below range"),
        (9.9e6, 0xC2, "good: above range"),
        (1e30, BAD_SENSOR_FAILURE | 0x02, "bad: sensor failure"),
        (-1e30, BAD_SENSOR_FAILURE | 0x01, "bad: sensor failure"),
    ],
)
def test_a_value_outside_its_range_is_marked(value: float, quality: int, text: str) -> None:
    """Range 0 to 10: 5 % of it are let pass, more is good with a limit bit, a million spans are no measurement."""
    judged, marked = Ranges.of([(0.0, 10.0)]).judge(np.array([value]), np.array([GOOD], dtype=np.uint8))
    assert marked.tolist() == [quality]
    assert quality_text(quality) == text
    assert judged.tolist() == pytest.approx([math.nan if text.startswith("bad") else value], nan_ok=True)


def test_what_is_bad_or_without_a_range_is_left_alone() -> None:
    """A bad reading keeps its reason, an uncertain one its doubt, and a point without a range any value."""
    ranges = Ranges.of([(0.0, 1.0), (0.0, 1.0), None])
    value, quality = ranges.judge(
        np.array([math.nan, 2.0, 1e30]), np.array([BAD_COMM_FAILURE, UNCERTAIN, GOOD], dtype=np.uint8)
    )
    assert quality.tolist() == [BAD_COMM_FAILURE, UNCERTAIN | 0x02, GOOD]
    assert value.tolist() == pytest.approx([math.nan, 2.0, 1e30], nan_ok=True)


def test_a_device_is_judged_by_the_ranges_of_its_plant_file(tmp_path: Path) -> None:
    """A point's own range counts, and a kind's in the kind's unit; a number without either is not judged."""
    points = [
        "{id: own, name: own, kind: generic, field: a, range: [0, 10]}",
        "{id: gas, name: gas, kind: combustible-gas, field: b}",
        "{id: count, name: count, kind: generic, field: c}",
        "{id: kpa, name: kpa, kind: pressure, field: d, unit: kPa}",
    ]
    device = "mqtt: {topic: t}\npoints:\n" + "\n".join(f"  - {point}" for point in points)
    settings = compile_settings(load_plant(plant(tmp_path, 1, {"S": device})), "gw", tmp_path)
    found = measured(settings.devices[0], np.array([55.0, 1e30, 4e9, 900.0]), np.full(4, GOOD, dtype=np.uint8), 1)
    assert found.columns.quality.tolist() == [0xC2, BAD_SENSOR_FAILURE | 0x02, GOOD, GOOD]
    assert found.reason == "gas: no possible measurement; look at register, type and word order"


def test_gas_over_the_detectors_range_still_raises(tmp_path: Path) -> None:
    """A detector far over its range at the worst moment: the alarm of level 2 is raised, and no instrument alarm."""
    text = modbus_device("G", 1).replace("kind: generic", "kind: combustible-gas").replace("unit: bar, ", "")
    loaded = load_plant(plant(tmp_path, 1, {"G": text.replace("range: [0, 1000]", "range: [0, 60]")}))
    device = compile_settings(loaded, "gw", tmp_path).devices[0]
    columns = measured(device, np.array([250.0]), np.array([GOOD], dtype=np.uint8), 0).columns
    assert columns.quality.tolist() == [0xC2]
    rules, now = compile_rules(loaded), 1_800_000_000_000_000_000
    state, raised = engine.initial(rules, now), set()
    for second in range(10):
        at = now + second * 1_000_000_000
        state, result = engine.step(state, rules, Frame.of([0], [at], columns.value, columns.quality), [], at)
        raised |= {rules.definitions[t.definition].id for t in result.transitions if t.event is Event.RAISE}
    assert raised == {"G/H", "G/HH"}
