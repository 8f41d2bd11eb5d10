"""Replay: the same alarms as live, second by second, and the numbers that come of them."""

from dataclasses import replace
from math import nan
from pathlib import Path
from random import Random
from typing import Final

import numpy as np
import pytest

from tests.core.plants import SECOND, START_NS, definition, plant_of
from tocsin_core import engine
from tocsin_core.engine import Transition
from tocsin_core.plant import AlarmDefinition, AlarmKind, Priority, load_plant
from tocsin_core.plant.computed import Median
from tocsin_core.plant.definition import Suppressor
from tocsin_core.readings import BAD_SENSOR_FAILURE, GOOD, Frame
from tocsin_core.replay import Occurrence, Report, Spans, judged, occurrences, play, report, spans_of
from tocsin_core.rules import Rules, compile_rules

HOUR: Final = 3600


def limit(point: str, setpoint: float, kind: AlarmKind = AlarmKind.H) -> AlarmDefinition:
    """A limit with both delays."""
    return replace(definition(point, kind, setpoint), deadband=0.5, on_delay_s=2.0, off_delay_s=3.0)


def stale(point: str, after_s: float = 10.0) -> AlarmDefinition:
    """A stale alarm."""
    return replace(definition(point, AlarmKind.STALE), after_s=after_s)


def early(point: str, setpoint: float) -> AlarmDefinition:
    """An early warning of H."""
    return replace(
        definition(point, AlarmKind.TIME_TO_LIMIT, setpoint),
        limit=AlarmKind.H,
        window_s=30.0,
        horizon_s=60.0,
        confidence=0.99,
        deadband=0.5,
    )


def bad(point: str) -> AlarmDefinition:
    """An instrument alarm."""
    return replace(definition(point, AlarmKind.BAD), off_delay_s=5.0)


def frame_of(rows: list[tuple[int, float, float]]) -> Frame:
    """Good readings (point, second, value), NaN ones bad; in order of time."""
    rows = sorted(rows, key=lambda row: row[1])
    quality = [GOOD if row[2] == row[2] else BAD_SENSOR_FAILURE for row in rows]
    return Frame.of(
        [r[0] for r in rows], [START_NS + round(r[1] * SECOND) for r in rows], [r[2] for r in rows], quality
    )


def live(rules: Rules, frame: Frame) -> list[Transition]:
    """What a worker would have made of `frame`: a tick each second, each reading by itself when it comes."""
    now = int(frame.time_ns[0]) // SECOND * SECOND
    state, told = engine.initial(rules, now), []
    for place in range(len(frame)):
        while now + SECOND <= frame.time_ns[place]:
            now += SECOND
            state, result = engine.step(state, rules, Frame.empty(), [], now)
            told += result.transitions
        state, result = engine.step(state, rules, frame.take(slice(place, place + 1)), [], now)
        told += result.transitions
    return told


def played(rules: Rules, frame: Frame) -> list[Transition]:
    """What the replay makes of it."""
    return [transition for portion in play(rules, frame) for transition in portion.transitions]


def what(transitions: list[Transition]) -> list[tuple[int, int, str]]:
    """Transitions that can be compared whatever order they were told in within a second."""
    return sorted((each.definition, each.time_ns, each.event.text) for each in transitions)


def walk(random: Random) -> Frame:
    """Three points that wander about their limits, with silences of all lengths, bad stretches and odd times."""
    rows = []
    for point in range(3):
        value, second = 8.0, random.random() * 20
        while second < 600:
            value += random.gauss(0.0, 0.6) + (8.0 - value) * 0.02
            bad = random.random() < 0.05
            rows.append((point, second, nan if bad else value))
            second += random.choice([1.0, 1.0, 1.0, 0.5, 0.37, 3.0]) if random.random() < 0.97 else random.random() * 60
    return frame_of(rows)


@pytest.mark.parametrize("seed", range(12))
def test_a_replay_tells_what_live_told(seed: int) -> None:
    """Ticks that are left out where nobody is silent change nothing: every transition has the same time."""
    rules = compile_rules(
        plant_of([[limit(f"P{i}", 10), early(f"P{i}", 10), bad(f"P{i}"), stale(f"P{i}")] for i in range(3)])
    )
    frame = walk(Random(seed))  # noqa: S311 -- a test's readings
    told = played(rules, frame)
    assert what(told) == what(live(rules, frame))
    assert {each.event.text for each in told} == {"raise", "return"}
    kinds = {rules.definitions[each.definition].kind for each in told}
    assert kinds >= {AlarmKind.H, AlarmKind.STALE, AlarmKind.BAD}


VOTE: Final = """\
tocsin: 1
site: {id: s, name: S}
gateways:
  - id: g
    external: true
    devices:
      - {id: d, points: [{id: A, name: A, kind: generic, SILENT}, {id: B, name: B, kind: generic, SILENT}]}
      - {id: e, period_ms: SLOW, points: [{id: C, name: C, kind: generic, SILENT}]}
computed:
  - id: V
    name: V
    kind: generic
    from: {rule: vote, of: [A, B, C], need: 2, lost: safe}
    alarms: {H: {setpoint: 50, on_delay_s: 0, off_delay_s: 0}}
"""


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("slow_ms", "silent"), [(1000, "alarms: {stale: false}"), (5000, "alarms: {}")])
def test_a_vote_loses_a_silent_member_when_it_would_have_live(
    seed: int, slow_ms: int, silent: str, tmp_path: Path
) -> None:
    """At the second, where no stale alarm tells of the silence, or another member's longer one; also over a night."""
    (tmp_path / "plant.yaml").write_text(VOTE.replace("SILENT", silent).replace("SLOW", str(slow_ms)), "utf-8")
    rules, random = compile_rules(load_plant(tmp_path)), Random(seed)  # noqa: S311 -- a test's readings
    rows = []
    for begin in (0, 2 * HOUR):
        gone = [(begin + random.randrange(60, 200), random.randrange(5, 60)) for _ in range(3)]
        for second in range(begin, begin + 300):
            rows += [
                (point, second + 0.1 * point, 60.0 if point == 0 else 10.0)
                for point, (since, long) in enumerate(gone)
                if not since <= second < since + long and (point < 2 or not second % (slow_ms // 1000))
            ]
    frame = frame_of(rows)
    told = played(rules, frame)
    assert what(told) == what(live(rules, frame))
    assert "V/H" in {rules.definitions[each.definition].id for each in told}


def test_silence_before_the_first_reading_and_after_the_last_counts() -> None:
    """A point that comes late or goes early was silent meanwhile, as long as others were heard."""
    rules = compile_rules(plant_of([[stale("P0")], [stale("P1")]]))
    rows = [(0, float(second), 1.0) for second in range(100)] + [(1, float(second), 1.0) for second in range(80, 90)]
    told = [
        (each.definition, each.event.text, (each.time_ns - START_NS) // SECOND)
        for each in played(rules, frame_of(rows))
    ]
    assert told == [(1, "raise", 60), (1, "return", 80), (1, "raise", 99)]


def test_a_silence_that_ends_between_two_resting_ticks_is_found() -> None:
    """Of eleven seconds, at the very second: neither the tick before nor the one after would have seen it."""
    rules = compile_rules(plant_of([[definition("P0", AlarmKind.H, 10.0)], [stale("P1", 11.0)]]))
    everybody = [(0, float(second), 1.0) for second in range(90)]
    late, gap = [62.5, *range(63, 80)], [*range(20), 31.5, *range(32, 60)]
    for seconds, raised, returned in ((late, 61.0, 62.5), (gap, 30.0, 31.5)):
        told = played(rules, frame_of([*everybody, *((1, float(second), 1.0) for second in seconds)]))
        times = [(each.event.text, (each.time_ns - START_NS) / SECOND) for each in told]
        assert times[:2] == [("raise", raised), ("return", returned)]


def test_a_night_without_data_costs_no_ticks_and_is_one_silence() -> None:
    """Both points go silent once, and come back after twelve hours."""
    rules = compile_rules(plant_of([[stale("P0")], [stale("P1", 300.0)]]))
    rows = [(p, float(s), 1.0) for p in range(2) for s in (*range(60), *range(12 * HOUR, 12 * HOUR + 60))]
    told = [
        (each.definition, each.event.text, (each.time_ns - START_NS) // SECOND)
        for each in played(rules, frame_of(rows))
    ]
    assert sorted(told) == [
        (0, "raise", 69), (0, "return", 12 * HOUR), (1, "raise", 359), (1, "return", 12 * HOUR),
    ]  # fmt: skip


def test_late_readings_are_counted() -> None:
    """A reading of a time that its point has already told is of no effect."""
    rules = compile_rules(plant_of([[limit("P0", 10)]]))
    portions = list(play(rules, frame_of([(0, 0.0, 1.0), (0, 0.0, 1.0), (0, 1.0, 1.0)])))
    assert sum(portion.late for portion in portions) == 1
    assert sum(portion.readings for portion in portions) == 3


def test_a_long_recording_gives_signs_of_life() -> None:
    """Every 20,000 readings or so, and all of them are counted once."""
    rules = compile_rules(plant_of([[limit("P0", 10)]]))
    portions = list(play(rules, frame_of([(0, second / 10, 1.0) for second in range(90_000)])))
    assert len(portions) == 5
    assert sum(portion.readings for portion in portions) == 90_000


def test_nothing_is_played_of_nothing() -> None:
    """An empty recording has no portions."""
    assert list(play(compile_rules(plant_of([[limit("P0", 10)]])), Frame.empty())) == []


def test_rules_that_the_recording_cannot_speak_of_are_not_judged() -> None:
    """A point without readings, and the silence alarm of a point recorded more seldom than that waits."""
    rules = compile_rules(
        plant_of([[limit("P0", 10), stale("P0")], [limit("P1", 10), stale("P1", 300.0)], [limit("P2", 1)]])
    )
    rows = [(p, minute * 60.0, 1.0) for p in range(2) for minute in range(30)]
    answer = judged(rules, frame_of(rows))
    assert {rules.definitions[number].id: bool(is_so) for number, is_so in enumerate(answer)} == {
        "P0/H": True, "P0/stale": False, "P1/H": True, "P1/stale": True, "P2/H": False,
    }  # fmt: skip


def test_labels_become_stretches() -> None:
    """From the first row of a stretch to its last; a stretch may begin or end the recording."""
    time_ns = np.arange(8) * SECOND
    spans = spans_of(time_ns, np.asarray([1, 1, 0, 0, 1, 0, 1, 1.0]))
    assert (spans.start_ns // SECOND).tolist() == [0, 4, 6]
    assert (spans.end_ns // SECOND).tolist() == [1, 4, 7]
    assert len(spans_of(time_ns, np.zeros(8))) == 0


def test_near_a_stretch() -> None:
    """Both ends and the tolerance on either side count."""
    spans = Spans(np.asarray([100, 200]), np.asarray([110, 210]))
    times = np.asarray([94, 95, 100, 110, 115, 116, 150, 195, 215, 216])
    assert spans.near(times, 5).tolist() == [False, True, True, True, True, False, False, True, True, False]
    empty = Spans(np.zeros(0, np.int64), np.zeros(0, np.int64))
    assert not empty.near(times, 5).any()


def told_of(rows: list[tuple[int, float, float | None]], labels: Spans | None = None) -> Report:
    """A report of two hours of P0 (H, an early warning of it, bad, stale) in which these occurrences were found."""
    rules = compile_rules(
        plant_of([[replace(limit("P0", 10), priority=Priority.HIGH), early("P0", 10), bad("P0"), stale("P0")]])
    )
    frame = frame_of([(0, float(second), 1.0) for second in range(2 * HOUR + 1)])
    found = [
        Occurrence(
            number, START_NS + round(at * SECOND), None if until is None else START_NS + round(until * SECOND), 1.0
        )
        for number, at, until in sorted(rows, key=lambda row: row[1])
    ]
    return report(rules, frame, found, np.ones(4, np.bool_), 0, labels, 10.0)


H: Final = 0
EARLY: Final = 1
BAD: Final = 2


def test_how_often_and_how_long() -> None:
    """Raised, a day, standing in all, and whether it stood to the end."""
    made = told_of([(H, 100, 160), (H, 7000, None)])
    rule = made.rules[0]
    assert (rule.alarm, rule.priority, rule.occurrences) == ("P0/H", Priority.HIGH, 2)
    assert rule.per_day == pytest.approx(24)
    assert rule.standing_s == 60 + 200
    assert rule.standing_at_end
    assert made.by_priority == {Priority.CRITICAL: 0, Priority.HIGH: 2, Priority.MEDIUM: 0, Priority.LOW: 0}
    assert (made.readings, made.points, made.occurrences) == (7201, 1, 2)


def test_the_lead_of_a_warning() -> None:
    """From the warning to the first limit that comes while it stands; a limit without a warning is unforeseen."""
    warned = [(EARLY, 100, 400), (EARLY, 1000, 1500), (EARLY, 2000, 2100), (EARLY, 4000, None)]
    limits: list[tuple[int, float, float | None]] = [
        (H, 220, 300),
        (H, 350, 380),
        (H, 1010, 1020),
        (H, 3000, 3010),
        (H, 4300, 4400),
    ]
    (made,) = told_of([*warned, *limits]).early
    assert (made.alarm, made.limit, made.warnings, made.limits) == ("P0/time-to-limit", "P0/H", 4, 5)
    assert (made.foreseen, made.unfulfilled) == (4, 1)
    assert made.lead_median_s == 120
    assert made.lead_p10_s == pytest.approx(10 + 0.2 * 110)


def test_a_warning_of_nothing_has_no_lead() -> None:
    """Nothing is made up for it; and a rule that neither warned nor was needed is not listed."""
    (made,) = told_of([(EARLY, 100, 400)]).early
    assert (made.unfulfilled, made.lead_median_s, made.lead_p10_s) == (1, None, None)
    assert told_of([(BAD, 1, 2)]).early == ()


def test_the_worst_ten_minutes() -> None:
    """The most raisings in any ten minutes, the end not included; more than ten are a flood."""
    made = told_of([(H, 60.0 * minute, 60.0 * minute + 1) for minute in (0, 20, 21, 29.9, 30, 45)])
    assert (made.worst_10_min, made.worst_at_ns, made.flood) == (3, START_NS + 1200 * SECOND, False)
    assert told_of([(H, 1000.0 + second, 1000.5 + second) for second in range(11)]).flood
    assert not told_of([(H, 1000.0 + second, 1000.5 + second) for second in range(10)]).flood
    assert told_of([]).worst_at_ns is None


def test_false_alarms_by_the_labels() -> None:
    """Raised outside of every stretch and its tolerance; the instrument's own alarms are neither right nor wrong."""
    labels = Spans(START_NS + np.asarray([100, 3000, 5000]) * SECOND, START_NS + np.asarray([200, 3100, 5100]) * SECOND)
    made = told_of(
        [(H, 91, 95), (H, 89, 90), (EARLY, 205, 260), (EARLY, 2000, 2050), (BAD, 4000, 4010), (H, 3105, 3120)], labels
    )
    assert [rule.false_alarms for rule in made.rules] == [1, 1, None, None]
    assert made.labels is not None
    assert (made.labels.stretches, made.labels.detected, made.labels.false_alarms) == (3, 2, 2)
    assert made.labels.false_alarms_per_day == pytest.approx(24)


def test_without_labels_nothing_is_called_false() -> None:
    """Where nobody said what was wrong there is no number."""
    made = told_of([(H, 91, 95)])
    assert made.labels is None
    assert made.rules[0].false_alarms is None


def test_what_is_suppressed_by_design_counts_when_it_is_told() -> None:
    """Not at all where it returns before that; the next one, and one that stands when the suppression ends, do."""
    by = Suppressor("P1", low=-0.5, high=0.5, on_delay_s=0.0, off_delay_s=0.0, longest_s=60.0)
    low = replace(definition("P0", AlarmKind.L, 10.0), suppressed_by=by)
    rules = compile_rules(plant_of([[low], []]))
    rows = [(1, 0.0, 0.0), (0, 1.0, 5.0), (0, 2.0, 50.0), (0, 3.0, 6.0), (1, 4.0, 1.0), (0, 5.0, 7.0), (0, 6.0, 50.0)]
    found = occurrences(played(rules, frame_of([*rows, (0, 7.0, 4.0)])))
    seconds = [tuple(at and (at - START_NS) // SECOND for at in (each.raised_ns, each.returned_ns)) for each in found]
    assert (seconds, [each.value for each in found]) == ([(5, 6), (7, None)], [7.0, 4.0])
    # What says that it is hidden stands behind it; and it is over when it is hidden no longer.
    over = [(0, 0.0, 5.0), (1, 0.0, 0.0), (0, 2.0, 50.0), (1, 3.0, 1.0), (0, 4.0, 50.0)]
    assert not occurrences(played(rules, frame_of(over)))


def test_each_trip_of_a_recording_tells_its_first() -> None:
    """What has returned counts as acknowledged, and reset where it latches: what comes then is another trip."""
    high = replace(definition("P0", AlarmKind.H, 10.0), latching=True)
    plant = plant_of([[high], [definition("P1", AlarmKind.H, 10.0)]])
    rules = compile_rules(replace(plant, first_out={"K-101": ("P0/H", "P1/H")}))
    trip = [(0, 0.0, 20.0), (1, 1.0, 20.0), (0, 7.0, 1.0), (1, 8.0, 1.0)]
    rows = [(point, at + start, value) for start in (0.0, 20.0, 40.0) for point, at, value in trip]
    other = [(1, 60.0, 20.0), (0, 61.0, 20.0)]
    found = occurrences(played(rules, frame_of([*rows, *other])))
    assert [each.reason for each in found] == ["first out of K-101", ""] * 4
    assert [each.definition for each in found] == [0, 1, 0, 1, 0, 1, 1, 0]


def test_two_trips_within_seconds_tell_each_its_first() -> None:
    """The second trip came before anybody could answer the first; in a recording its return is the answer."""
    plant = plant_of([[definition(f"P{number}", AlarmKind.H, 10.0)] for number in range(2)])
    rules = compile_rules(replace(plant, first_out={"K-101": ("P0/H", "P1/H")}))
    rows = [(0, 0.0, 20.0), (0, 1.0, 1.0), (1, 2.0, 20.0), (1, 3.0, 1.0), (0, 4.0, 20.0)]
    assert [each.reason for each in occurrences(played(rules, frame_of(rows)))] == ["first out of K-101"] * 3


def test_two_trips_within_a_second_tell_each_its_first() -> None:
    """Also where one of the group is computed: what has returned is answered before the group's next reading."""
    plant = plant_of([[definition(f"P{number}", AlarmKind.H, 10.0)] for number in range(2)])
    rows = [(0, 0.0, 20.0), (0, 0.1, 1.0), (1, 0.2, 20.0), (1, 0.3, 1.0), (0, 0.4, 20.0), (1, 0.4, 20.0)]
    rules = compile_rules(replace(plant, first_out={"K-101": ("P0/H", "P1/H")}))
    first = "first out of K-101"
    assert [each.reason for each in occurrences(played(rules, frame_of(rows)))] == [first, first, first, ""]
    plant = plant_of([[definition("P0", AlarmKind.H, 10.0)], [], [], [definition("P3", AlarmKind.H, 10.0)]])
    middle = replace(plant.points[3], compute=Median(rule="median", of=("P1", "P2")))
    rules = compile_rules(replace(plant, points=(*plant.points[:3], middle), first_out={"K-101": ("P0/H", "P3/H")}))
    assert [each.reason for each in occurrences(played(rules, frame_of(rows)))] == [first, first, first, ""]


def test_occurrences_are_paired_with_their_returns() -> None:
    """Each raising with the return of the same alarm; one that stands to the end has none."""
    rules = compile_rules(
        plant_of([[replace(limit("P0", 10), on_delay_s=0.0, off_delay_s=0.0)], [definition("P1", AlarmKind.H, 5.0)]])
    )
    rows = [(0, 1.0, 11.0), (1, 2.0, 6.0), (0, 3.0, 1.0), (0, 4.0, 12.0), (0, 5.0, 1.0)]
    found = occurrences(played(rules, frame_of(rows)))
    assert [(each.definition, each.value) for each in found] == [(0, 11.0), (1, 6.0), (0, 12.0)]
    assert [(each.raised_ns - START_NS) // SECOND for each in found] == [1, 2, 4]
    assert [each.returned_ns and (each.returned_ns - START_NS) // SECOND for each in found] == [3, None, 5]
