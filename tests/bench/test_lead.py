"""How early warnings are held against what came of them, and the benchmark over a few seeded hours."""

import json
from collections import Counter
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tocsin_cli.bench import app
from tocsin_cli.bench.lead import MINE, RECORDED, START_NS, draw, judge, plant_scores, record, shipped
from tocsin_cli.bench.lead_course import Course, Disturbance, Incident
from tocsin_cli.bench.lead_figures import (
    NO_DEFINITION,
    NOT_SURE,
    NOTHING_TO_SEE,
    Raised,
    Stretch,
    cause_of,
    first_shown,
    is_false,
    report,
    tally,
    together,
)
from tocsin_cli.bench.lead_readings import NOT_READ
from tocsin_core.plant import AlarmDefinition, AlarmKind, Priority
from tocsin_core.readings import GOOD
from tocsin_core.rules import NS, compile_rules

# The package gives the command of this name; the module behind it is what is looked into.
detection = import_module("tocsin_cli.bench.detection")


def rule(kind: AlarmKind, point: str = "P") -> AlarmDefinition:
    """A limit at 10, or the early warning of H with a horizon of 100 s and an on-delay of 2 s."""
    early = kind is AlarmKind.TIME_TO_LIMIT
    return AlarmDefinition(
        id=f"{point}/{kind}",
        point=point,
        kind=kind,
        priority=Priority.HIGH,
        setpoint=10.0,
        deadband=0.0,
        on_delay_s=2.0 if early else 0.0,
        off_delay_s=0.0,
        latching=False,
        clause=None,
        horizon_s=100.0 if early else 0.0,
        limit=AlarmKind.H if early else None,
    )


H, EARLY = rule(AlarmKind.H), rule(AlarmKind.TIME_TO_LIMIT)
RULES = (H, EARLY, rule(AlarmKind.H, "Q"))


def stretch(*raised: Raised, point: str = "P", rise_s: int = 100) -> Stretch:
    """An hour with one incident from 1000 to 1500, in which `point` goes from 0 to 10 in the `rise_s` up to 1200."""
    course = Course(3600, 0.0, np.random.default_rng(1))
    course.incidents.append(Incident("leak", 1000, 1500, (point,)))
    course.disturbances.append(Disturbance("door", 2000, 2100, ("P", "Q")))
    value = np.zeros((3600, 2))
    value[:, "PQ".index(point)] = np.clip((np.arange(3600) - (1200 - rise_s)) / rise_s, 0.0, 1.0) * 10.0
    return Stretch(course, value, np.full(value.shape, GOOD, np.uint8), raised)


def counted(*stretches: Stretch) -> dict[str, object]:
    """The figures over the points P and Q, with one decimal."""
    return report(tally(1.0, [("P", 1), ("Q", 1)], RULES, stretches))


def test_the_lead_is_from_the_first_warning_to_the_first_limit() -> None:
    """What was possible counts from the cause, what could be seen from the first reading that shows it."""
    found = counted(stretch(Raised(EARLY, 1150.0, 1300.0), Raised(EARLY, 1170.0, 1300.0), Raised(H, 1200.0, 1400.0)))
    assert (found["incidents"], found["warned_before_level_1"], found["missed"]) == (1, 1, 0)
    assert found["lead_s"] == {"median": 50.0, "p10": 50.0}
    assert found["onset_to_level_1_s"] == {"median": 200.0, "p10": 200.0}
    assert found["shown_to_level_1_s"] == {"median": 98.0, "p10": 98.0}
    assert found["lead_share_of_onset_to_level_1"] == 0.25
    assert found["false_early_warnings"] == found["false_alarms_per_day"] == 0


@pytest.mark.parametrize(
    ("point", "rise_s", "reason"), [("P", 100, NOT_SURE), ("P", 4, NOTHING_TO_SEE), ("Q", 100, NO_DEFINITION)]
)
def test_a_miss_has_its_reason(point: str, rise_s: int, reason: str) -> None:
    """No rule that could foresee it, a step that nobody can foresee, or a warning that was too careful."""
    late = Raised(EARLY, 1201.0, 1300.0)
    found = counted(stretch(Raised(rule(AlarmKind.H, point), 1200.0, 1400.0), late, point=point, rise_s=rise_s))
    assert found["missed_because"] == {reason: 1}
    assert found["lead_s"] == {"median": None, "p10": None}
    assert found["lead_s_missed_as_0"] == {"median": 0.0, "p10": 0.0}


def test_an_incident_that_stays_below_its_limit_is_neither_warned_nor_missed() -> None:
    """Its warning was false all the same, and is put down to it."""
    found = counted(stretch(Raised(EARLY, 1150.0, 1300.0)))
    assert (found["incidents"], found["stayed_below_level_1"], found["missed"]) == (0, 1, 0)
    assert found["false_early_warnings_by_cause"] == {"incident: leak": 1}
    assert found["false_early_warnings_in_normal_running"] == 0
    assert found["false_early_warnings_per_day"] == 24.0
    assert found["false_early_warnings_per_day_per_100_points"] == 1200.0


@pytest.mark.parametrize(
    ("limit", "false"),
    [
        (Raised(H, 2150.0, 2200.0), False),
        (Raised(H, 2151.0, 2200.0), True),
        (Raised(H, 1900.0, 2001.0), False),
        (Raised(H, 1900.0, 2000.0), True),
        (Raised(rule(AlarmKind.HH), 2010.0, 2200.0), True),
        (Raised(rule(AlarmKind.H, "Q"), 2010.0, 2200.0), True),
    ],
)
def test_a_warning_is_false_unless_its_limit_follows_within_one_and_a_half_horizons(
    limit: Raised, *, false: bool
) -> None:
    """Or stands already; another limit or another point's does not count."""
    warning = Raised(EARLY, 2000.0, 2100.0)
    assert is_false(warning, [limit, warning]) is false


def test_a_false_warning_is_put_down_to_what_began_last() -> None:
    """And to noise where nothing was going on at its point."""
    course = stretch().course
    course.disturbances.append(Disturbance("whiff", 2040, 2100, ("P",)))
    assert [cause_of(Raised(EARLY, time, np.inf), course) for time in (2039.0, 2050.0, 3000.0)] == [
        "door",
        "whiff",
        "noise and drift alone",
    ]


def test_a_limit_outside_incidents_is_a_false_alarm() -> None:
    """Also at a point that the incident does not concern."""
    found = counted(stretch(Raised(rule(AlarmKind.H, "Q"), 1200.0, 1300.0), Raised(H, 2050.0, 2060.0)))
    assert found["false_alarms_per_day"] == 48.0
    assert found["false_alarms_by_cause"] == {"noise and drift alone": 1, "door": 1}


def test_readings_that_are_not_there_show_nothing() -> None:
    """A gap neither begins what is seen nor ends it."""
    value = np.where(np.arange(300) < 200, 0.0, 5.0)
    quality = np.full(300, GOOD, np.uint8)
    quality[200:210] = NOT_READ
    assert first_shown(value, quality, 150, 290.0, 0.1) == 210.0
    assert first_shown(np.zeros(300), quality, 150, 290.0, 0.1) == 290.0


def test_plants_together_add_up() -> None:
    """Rates of the whole are by plant-hours and point-days."""
    one = tally(24.0, [("P", 1), ("Q", 1)], RULES, [stretch(Raised(EARLY, 3000.0, 3100.0))])
    both = together([one, one])
    assert both.false == Counter({"noise and drift alone": 2})
    whole = report(both)
    assert (whole["hours"], whole["points"], whole["early_warnings_defined"]) == (48.0, 4, 2)
    assert whole["false_early_warnings_per_day"] == 1.0
    assert whole["false_early_warnings_per_day_per_100_points"] == 50.0


def test_half_of_the_stretches_have_an_incident_an_hour() -> None:
    """And each is over before the next begins, within its own inputs."""
    plant, simulation = shipped(MINE)
    quiet, _ = draw(plant, simulation, 3 * 3600, 4, 1)
    loud, _ = draw(plant, simulation, 3 * 3600, 5, 1)
    assert quiet.incidents == []
    assert [each.onset_s // 3600 for each in loud.incidents] == [0, 1, 2]
    assert all(before.over_s < after.onset_s for before, after in zip(loud.incidents, loud.incidents[1:], strict=False))


def test_stamps_are_a_little_late_and_one_for_a_device() -> None:
    """As a gateway's: a reading bears the time of its device's answer, a whole millisecond after the tick."""
    plant, simulation = shipped(MINE)
    recorded = record(plant, simulation, 0.1, 3, lambda _what, _share: None)
    readings = recorded.readings[0]
    assert readings.device.tolist() == [0] * 7 + [1] * 6
    for frame, now_ns in list(readings.frames(START_NS, 3))[:50]:
        late = frame.time_ns - (now_ns - NS)
        assert (late > 0).all()
        assert (late < NS).all()
        assert (late % 1_000_000 == 0).all()
        assert all(len(set(late[readings.device[frame.point] == device])) <= 1 for device in range(2))


def test_the_same_seed_gives_the_same_figures() -> None:
    """To the digit; another seed draws other hours."""

    def figures(seed: int) -> dict[str, object]:
        plant, simulation = shipped(MINE)
        recorded = record(plant, simulation, 2.0, seed, lambda _what, _share: None)
        return report(judge(recorded, compile_rules(plant), seed, lambda _what, _share: None))

    one = figures(1)
    assert one["incidents"] == 1
    assert one == figures(1)
    assert one != figures(2)


def test_every_shipped_plant_is_told() -> None:
    """The recorded one with its points and no hours; the progress names what is going on."""
    told: list[str] = []
    found = plant_scores(0.5, 1, lambda what, _share: told.append(what))
    assert list(found) == ["ammonia-refrigeration", "coal-mine-face", "skab-pump-loop", "total"]
    loop, total = found[RECORDED], found["total"]
    assert (loop["hours"], loop["points"], loop["false_early_warnings_per_day"]) == (0.0, 8, None)
    assert (total["hours"], total["points"]) == (1.0, 71 + 13)
    assert {"coal-mine-face: simulating", "coal-mine-face: judging"} <= set(told)


def test_the_command_tells_the_plants_beside_the_recorded_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Under `plants` in the object, and as lines for people; hours and seed are handed on."""
    monkeypatch.setattr(detection, "_measure_skab", lambda _folder, _console: {"f1": 1.0})
    monkeypatch.setattr(detection, "_measure_tep", lambda _folder, _console: ("test", {"faults": {}}))
    for name in ("skab", "tep"):
        (tmp_path / name).mkdir()
    given = ["detection", "--data", str(tmp_path), "--hours", "0.2", "--seed", "4"]
    done = CliRunner().invoke(app, [*given, "--json"])
    assert done.exit_code == 0, done.output
    plants = json.loads(done.stdout.splitlines()[-1])["plants"]
    assert plants == json.loads(json.dumps(plant_scores(0.2, 4, lambda _what, _share: None)))
    told = CliRunner().invoke(app, given).stdout
    assert "coal-mine-face\n  hours: 0.2\n" in told
    assert "by kind" not in told
