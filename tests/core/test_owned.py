"""Which alarms a gateway decides by itself, and that it decides them as the whole plant's engine would."""

from pathlib import Path

import numpy as np
import pytest

from tests.core.plants import SECOND, START_NS
from tocsin_core.engine import initial, step
from tocsin_core.lifecycle import Event, Phase
from tocsin_core.normal import Settings, learn, model_to_bytes
from tocsin_core.owned import PRINT, alone, among, fingerprints, packed, unpacked
from tocsin_core.plant import AlarmKind, Plant, load_plant
from tocsin_core.readings import BAD_SENSOR_FAILURE, GOOD, Frame
from tocsin_core.rules import Rules, compile_rules

PLAIN = "kind: generic, alarms: {H: {setpoint: 10}"
POINTS = {
    "A1": f"{PLAIN}, stuck: {{window_s: 60}}}}",
    "A2": "kind: generic, alarms: {H: {setpoint: 10, suppressed_by: {point: A1, above: 20}}}",
    "A3": "kind: generic, alarms: {H: {setpoint: 10, suppressed_by: {point: B1, above: 20}}, L: {setpoint: 1}}",
    "A4": f"{PLAIN}}}, status: {{point: A5, codes: {{warm_up: [1]}}}}",
    "A5": "kind: status, alarms: {bad: false, stale: false}",
    "A6": f"{PLAIN}}}, status: {{point: B1, codes: {{warm_up: [1]}}}}",
    "A7": "kind: generic, alarms: {bad: false, stale: false}",
}
PLANT = f"""
tocsin: 1
site: {{id: s, name: S}}
gateways:
  - id: a
    devices:
      - id: da
        mqtt: {{topic: t/a}}
        points: [{", ".join(f"{{id: {name}, name: {name}, field: {name}, {rest}}}" for name, rest in POINTS.items())}]
  - id: b
    devices:
      - {{id: db, mqtt: {{topic: t/b}}, points: [{{id: B1, name: B1, field: B1, {PLAIN}}}}}]}}
  - id: c
    external: true
    devices:
      - {{id: dc, points: [{{id: C1, name: C1, {PLAIN}}}}}]}}
computed:
  - {{id: V1, name: V1, from: {{rule: vote, of: [A1, A2, A7], need: 2}}, alarms: {{H: {{setpoint: 10}}}}}}
  - {{id: V2, name: V2, from: {{rule: median, of: [A1, B1]}}, alarms: {{H: {{setpoint: 10}}}}}}
  - {{id: V3, name: V3, from: {{rule: median, of: [A1, A6]}}, alarms: {{H: {{setpoint: 10}}}}}}
first_out:
  - {{id: trip, name: Trip, alarms: [A1/H, B1/H]}}
"""


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    """Two gateways of ours and one of somebody else's, with everything that looks at several points."""
    (tmp_path / "plant.yaml").write_text(PLANT, encoding="utf-8")
    return load_plant(tmp_path)


def names(plant: Plant, gateway: str) -> set[str]:
    """The alarms that a gateway decides, of those that do not only tell of a bad reading."""
    rules = compile_rules(plant)
    found = fingerprints(plant, gateway)
    return {each.id for each in rules.definitions if each.id in found and each.kind is not AlarmKind.BAD}


def test_a_gateway_decides_what_needs_nobody_elses_readings(plant: Plant) -> None:
    """Not what another gateway's point suppresses, explains or is a member of; and silence never."""
    assert names(plant, "a") == {"A1/H", "A1/stuck", "A2/H", "A3/L", "A4/H", "V1/H"}
    assert names(plant, "b") == {"B1/H"}


def test_of_somebody_elses_gateway_nothing_is_decided_there(plant: Plant) -> None:
    """It has no engine of ours."""
    assert names(plant, "c") == set()
    assert alone(plant, "c").points == ()


def test_a_gateway_that_does_not_exist_is_an_error(plant: Plant) -> None:
    """The message names those there are."""
    with pytest.raises(KeyError, match="there are: a, b, c"):
        fingerprints(plant, "d")


def test_the_part_has_the_decided_alarms_and_what_they_look_at(plant: Plant) -> None:
    """In the plant's order, numbered anew; a point that nothing decided looks at is not in it."""
    part = alone(plant, "a")
    assert [point.id for point in part.points] == ["A1", "A2", "A3", "A4", "A5", "A7", "V1"]
    assert [point.index for point in part.points] == list(range(7))
    rules, whole = compile_rules(part), compile_rules(plant)
    decided = fingerprints(plant, "a")
    assert list(rules.definitions) == [each for each in whole.definitions if each.id in decided]
    assert fingerprints(part, "a") == decided


def story(rng: np.random.Generator, size: int) -> list[tuple[str, int, float, int]]:
    """Readings of the gateway's points: id, time, value around every set point, now and then bad."""
    points = ("A1", "A2", "A3", "A4", "A5", "A6", "A7")
    found = []
    for second in range(size):
        for point in points:
            value = float(rng.integers(0, 3)) if point == "A5" else float(rng.choice([0.0, 5.0, 9.5, 15.0, 25.0]))
            quality = BAD_SENSOR_FAILURE if rng.random() < 0.05 else GOOD
            found.append((point, START_NS + second * SECOND, value, quality))
    return found


Told = tuple[str, Event, Phase, int, int, bool]
"""Alarm, event, phase after it, its time, the occurrence's onset, and whether it is suppressed."""


def told(plant: Plant, rules: Rules, rows: list[tuple[str, int, float, int]]) -> list[Told]:
    """What an engine over `rules` says of the decided alarms, one step a second."""
    state = initial(rules, START_NS)
    found: list[Told] = []
    mine = np.asarray([each.id in fingerprints(plant, "a") for each in rules.definitions], np.bool_)
    for at in range(0, len(rows), 7):
        part = [row for row in rows[at : at + 7] if row[0] in rules.points]
        numbers = [rules.points.index(row[0]) for row in part]
        frame = Frame.of(numbers, [row[1] for row in part], [row[2] for row in part], [row[3] for row in part])
        state, result = step(state, rules, frame, [], rows[at][1] + SECOND)
        found += [
            (
                rules.definitions[each.definition].id,
                each.event,
                each.phase_to,
                each.time_ns,
                each.onset_ns,
                each.suppressed,
            )
            for each in result.transitions
            if mine[each.definition]
        ]
    return found


def test_alone_the_same_alarms_are_raised_at_the_same_times(plant: Plant) -> None:
    """The whole plant's engine and the gateway's, over the same readings, agree on every onset."""
    rows = story(np.random.default_rng(7), 400)
    part = alone(plant, "a")
    here = told(part, compile_rules(part), rows)
    assert here == told(plant, compile_rules(plant), rows)
    assert {row[0] for row in here} >= names(plant, "a") - {"A1/stuck"}


def test_what_decides_an_alarm_is_known_by_its_fingerprint_alone(plant: Plant, tmp_path: Path) -> None:
    """Another limit, range, status, suppressor, member or vote touches what goes by it, and no other alarm."""
    mine = fingerprints(plant, "a")

    def touched(before: str, after: str) -> set[str]:
        assert before in PLANT
        folder = tmp_path / "changed"
        folder.mkdir(exist_ok=True)
        (folder / "plant.yaml").write_text(PLANT.replace(before, after), encoding="utf-8")
        other = fingerprints(load_plant(folder), "a")
        found = {alarm for alarm in mine.keys() | other.keys() if mine.get(alarm) != other.get(alarm)}
        return {alarm for alarm in found if not alarm.endswith("/bad")}

    theirs = "name: B1, field: B1, kind: generic, alarms: {H: {setpoint: "
    assert touched(f"{theirs}10", f"{theirs}11") == set()
    assert touched("L: {setpoint: 1}", "L: {setpoint: 2}") == {"A3/L"}
    assert touched("L: {setpoint: 1}", "L: {setpoint: 1}, LL: {setpoint: 0}") == {"A3/LL"}
    assert touched("of: [A1, A2, A7], need: 2", "of: [A1, A2, A7], need: 1") == {"V1/H"}
    assert touched("point: A1, above: 20", "point: A1, above: 21") == {"A2/H"}
    assert touched("point: A5, codes: {warm_up: [1]}", "point: A5, codes: {warm_up: [2]}") == {"A4/H"}
    assert touched("name: A1, field: A1, kind", "name: A1, field: A1, range: [0, 50], kind") == {
        *("A1/H", "A1/stuck"),
        # What it suppresses, and what is computed of it.
        *("A2/H", "V1/H"),
    }


def test_a_model_of_normal_running_is_told_by_what_it_has_learned(tmp_path: Path) -> None:
    """One that was learned anew has the same name: until both ends have it each judges by its own."""
    unit = "  - {id: V4, name: V4, from: {rule: normal, model: unit}, alarms: {H: {setpoint: 1}}}\nfirst_out:\n"
    (tmp_path / "plant.yaml").write_text(PLANT.replace("first_out:\n", unit), encoding="utf-8")
    (tmp_path / "models").mkdir()
    found = []
    for seed in (1, 2, 1):
        rows = 50.0 + 12.0 * np.random.default_rng(seed).normal(size=(220, 3))
        model = learn(rows, ("A1", "A2", "A7"), 1.0, Settings(change_window=5, folds=3))
        (tmp_path / "models" / "unit.normal").write_bytes(model_to_bytes(model))
        found.append(fingerprints(load_plant(tmp_path), "a"))
    first, other, again = found
    differ = {alarm for alarm in first if first[alarm] != other[alarm]}
    assert "V4/H" in differ
    assert all(alarm.startswith("V4/") for alarm in differ)
    assert first == again


def test_fingerprints_of_a_large_gateway_are_small_and_in_no_order(plant: Plant) -> None:
    """Six thousand alarms take 48 kB of a birth; a plant that tells them in another order tells the same."""
    mine = fingerprints(plant, "a")
    assert PRINT * 6000 == 48_000
    assert packed(mine.values()) == packed(reversed(mine.values()))
    assert len(packed(mine.values())) == PRINT * len(mine)
    assert sorted(each.tobytes() for each in unpacked(packed(mine.values()))) == sorted(mine.values())
    assert len(unpacked(b"")) == len(unpacked(b"1234567")) == 0
    ours = unpacked(b"111111112222222233333333")
    assert among(ours, unpacked(b"333333330000000011111111")).tolist() == [True, False, True]
    assert among(ours, unpacked(b"")).tolist() == [False] * 3
