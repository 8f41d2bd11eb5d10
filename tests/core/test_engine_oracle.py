"""Drives engine and oracle through the same random lives, and the engine through the same life cut differently."""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import isnan
from random import Random
from typing import Final

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.core.oracle import Asked, Oracle, Told, TooCloseError
from tests.core.plants import SECOND, START_NS, definition, plant_of
from tocsin_core import engine
from tocsin_core.engine import Command, State, StepResult
from tocsin_core.lifecycle import Event, Verb
from tocsin_core.plant import AlarmDefinition, AlarmKind, Plant, Priority
from tocsin_core.readings import BAD_COMM_FAILURE, BAD_SENSOR_FAILURE, GOOD, UNCERTAIN, Frame
from tocsin_core.rules import Rules, compile_rules

LETTERS: Final = "ABCDEF"
MS: Final = 1_000_000

Row = tuple[int, int, float, int]  # point, time (absolute ns, or ms after the point's newest), value, quality


@dataclass(frozen=True)
class Ask:
    """A command whose alarm, occurrence and end are found when it is given."""

    verb: Verb
    alarm: int
    onset: str
    reason: str
    shelf_s: float
    once: bool = False


@dataclass(frozen=True)
class Round:
    """One step: readings (point, ms after the point's newest, value, quality), commands, seconds by the clock."""

    readings: tuple[Row, ...]
    asks: tuple[Ask, ...]
    later_s: float


eighths = st.integers(-80, 880).map(lambda n: n / 8)  # exact in binary, so that limits may be met exactly
delays = st.sampled_from([0.0, 0.0, 1.0, 2.5, 10.0])
deadbands = st.sampled_from([0.0, 0.125, 1.0, 5.0])
qualities = st.sampled_from([GOOD] * 12 + [0xC3, UNCERTAIN, 0x80, BAD_COMM_FAILURE, BAD_SENSOR_FAILURE])


@st.composite
def definitions(draw: st.DrawFn, point: str) -> tuple[AlarmDefinition, ...]:
    """Some definitions of one point; the set points of trends keep off the grid of the values, where ties live."""
    made = []
    for kind in sorted(draw(st.sets(st.sampled_from(list(AlarmKind)), max_size=7)), key=list(AlarmKind).index):
        base = replace(
            definition(point, kind),
            priority=draw(st.sampled_from(list(Priority))),
            on_delay_s=draw(delays),
            off_delay_s=draw(delays),
            latching=draw(st.booleans()),
            realarm_s=draw(st.sampled_from([0.0, 0.0, 1.0, 30.0])),
        )
        if kind is AlarmKind.RATE:
            setpoint = draw(st.sampled_from([0.37, 3.1, 17.3, 61.7]))
            base = replace(base, setpoint=setpoint, deadband=draw(st.sampled_from([0.0, 0.21])) * setpoint)
            base = replace(base, window_s=draw(st.sampled_from([10.0, 30.0, 60.0])))
        elif kind is AlarmKind.TIME_TO_LIMIT:
            base = replace(
                base,
                limit=draw(st.sampled_from([AlarmKind.HH, AlarmKind.H, AlarmKind.L, AlarmKind.LL])),
                setpoint=draw(eighths) + 0.037,
                deadband=draw(st.sampled_from([0.0, 0.41])),
                window_s=draw(st.sampled_from([10.0, 30.0, 60.0])),
                horizon_s=draw(st.sampled_from([10.0, 60.0, 300.0])),
                confidence=draw(st.sampled_from([0.9, 0.999])),
            )
        elif kind is AlarmKind.STALE:
            base = replace(base, after_s=draw(st.sampled_from([2.0, 10.0, 30.0])))
        elif kind is not AlarmKind.BAD:
            base = replace(base, setpoint=draw(eighths), deadband=draw(deadbands))
        made.append(base)
    return tuple(made)


@st.composite
def plants(draw: st.DrawFn) -> Plant:
    """One to three points with any of the definitions."""
    count = draw(st.integers(1, 3))
    points = [draw(definitions(f"P{index}")) for index in range(count)]
    assume(any(points))
    return plant_of(points, decimals=draw(st.sampled_from([0, 1])))


@st.composite
def bursts(draw: st.DrawFn) -> list[Row]:
    """Readings of one point on a ramp with some noise and now and then a bad one: what trends are made of."""
    point = draw(st.integers(0, 2))
    pace = draw(st.sampled_from([100, 500, 1000, 3000]))
    base, slope = draw(eighths), draw(st.sampled_from([0.0, 0.125, -0.125, 0.5, -1.0, 4.0]))
    noise = draw(st.sampled_from([0.0, 0.125, 1.0]))
    shape = draw(st.lists(st.sampled_from([-1, 0, 0, 1]), min_size=1, max_size=7))
    quality = draw(st.lists(qualities, min_size=1, max_size=9))
    return [
        (point, pace, base + slope * i + noise * shape[i % len(shape)], quality[i % len(quality)])
        for i in range(draw(st.integers(1, 30)))
    ]


singles = st.tuples(
    st.sampled_from([-1, 0, 1, 2, 3]),
    st.sampled_from([-60_000, -1, 0, 1, 250, 1000, 5000, 600_000]),
    eighths,
    qualities,
)
readings = st.lists(st.one_of(bursts(), singles.map(lambda one: [one])), max_size=3).map(
    lambda groups: tuple(reading for group in groups for reading in group)
)
asks = st.builds(
    Ask,
    verb=st.sampled_from(list(Verb)),
    alarm=st.integers(0, 20),
    onset=st.sampled_from(["any", "any", "right", "wrong"]),
    reason=st.sampled_from(["", "being repaired", "being repaired"]),
    shelf_s=st.sampled_from([-1.0, 0.0, 3.0, 60.0, 3601.0, 30_000.0, 90_000.0]),
    once=st.booleans(),
)
rounds = st.builds(
    Round,
    readings=readings,
    asks=st.lists(asks, max_size=2).map(tuple),
    later_s=st.sampled_from([0.0, 1.0, 1.0, 1.0, 3.0, 5.0, 5.5, 40.0, -2.0]),
)
lives = st.lists(rounds, min_size=1, max_size=12)


class Clocks:
    """Turns the relative times of a life into stamps."""

    def __init__(self) -> None:
        """All points start at the same moment."""
        self.newest = dict.fromkeys(range(-1, 4), START_NS)
        self.now_ns = START_NS

    def stamp(self, life: Round) -> list[Row]:
        """The readings of a round with their times of sampling; a value that is no number where the quality is bad."""
        made = []
        for point, after_ms, value, quality in life.readings:
            time_ns = self.newest[point] + after_ms * MS
            self.newest[point] = max(self.newest[point], time_ns)
            made.append((point, time_ns, float("nan") if quality < UNCERTAIN else value, quality))
        self.now_ns += round(life.later_s * SECOND)
        return made


def interleaved(rows: Sequence[Row], dice: Random) -> list[Row]:
    """The rows with the points mixed at random, each point's own in their order."""
    waiting = {row[0]: deque(other for other in rows if other[0] == row[0]) for row in rows}
    order = [row[0] for row in rows]
    dice.shuffle(order)
    return [waiting[point].popleft() for point in order]


def frame_of(rows: Sequence[Row]) -> Frame:
    """The rows as a frame."""
    if not rows:
        return Frame.empty()
    point, time_ns, value, quality = zip(*rows, strict=True)
    return Frame.of(point, time_ns, value, quality)


def commands_of(life: Round, rules: Rules, state: State, now_ns: int) -> list[Command]:
    """The round's commands; the occurrence that a person saw is the present one, whichever, or one long gone."""
    made = []
    for ask in life.asks:
        number = ask.alarm % len(rules.definitions)
        onset = int(state.onset_ns[number])
        seen = {"any": 0, "right": onset, "wrong": onset - 1}[ask.onset]
        until = now_ns + round(ask.shelf_s * SECOND) if ask.verb is Verb.SHELVE else 0
        once = ask.once and ask.verb is Verb.SHELVE
        made.append(Command(ask.verb, number, now_ns, "li", ask.reason, seen, until, once))
    return made


def told_by(result: StepResult, rules: Rules) -> list[Told]:
    """The engine's transitions in the oracle's words."""
    return [
        Told(
            rules.definitions[t.definition].id,
            t.event.text,
            LETTERS[t.phase_from],
            LETTERS[t.phase_to],
            t.time_ns,
            None if isnan(t.value) else t.value,
            t.onset_ns,
            t.superseded_ns,
            t.suppressed,
            t.who,
            t.reason,
        )
        for t in result.transitions
    ]


def oracle_step(
    oracle: Oracle,
    rows: Sequence[Row],
    commands: Sequence[Command],
    names: Sequence[str],
    now_ns: int,
) -> tuple[list[Told], list[str], int, int]:
    """One step of the oracle: transitions, refusals, late readings, steps back of the clock."""
    oracle.told, oracle.late = [], 0
    elapsed = oracle.now(now_ns)
    for row in rows:
        oracle.read(*row)
    answers = [
        oracle.ask(Asked(str(c.verb), names[c.definition], c.at_ns, c.who, c.reason, c.onset_ns, c.until_ns, c.once))
        for c in commands
    ]
    if elapsed:
        oracle.tick(elapsed)
    return oracle.told, [answer for answer in answers if answer], oracle.late, int(elapsed is None)


def assert_same_knowledge(oracle: Oracle, state: State, rules: Rules) -> None:
    """The engine's columns hold what the oracle knows of every alarm."""
    for number, d in enumerate(rules.definitions):
        alarm = oracle.alarms[d.id]
        assert LETTERS[state.phase[number]] == alarm.state
        assert bool(state.active[number]) == alarm.active == (alarm.state in "BC")
        assert int(state.since_ns[number]) == (-1 if alarm.since_ns is None else alarm.since_ns)
        assert int(state.onset_ns[number]) == alarm.onset_ns
        assert int(state.shelved_until_ns[number]) == alarm.shelved_until_ns
        assert bool(state.shelved_once[number]) == alarm.once
        assert bool(state.out_of_service[number]) == alarm.out_of_service


def busy_plant(dice: Random) -> Plant:
    """Three points with every kind of definition, set so that a wandering value meets them all."""
    points = []
    for index in range(3):
        made = []
        for kind, setpoint in (("HH", 80.0), ("H", 60.0), ("L", 30.0), ("LL", 15.0), ("rate", 41.3)):
            made.append(replace(definition(f"P{index}", AlarmKind(kind), setpoint), window_s=20.0))
        early = definition(f"P{index}", AlarmKind.TIME_TO_LIMIT, 60.037)
        made.append(replace(early, limit=AlarmKind.H, window_s=20.0, horizon_s=60.0, confidence=0.99))
        made.append(definition(f"P{index}", AlarmKind.BAD))
        made.append(replace(definition(f"P{index}", AlarmKind.STALE), after_s=4.0))
        points.append(
            [
                replace(
                    each,
                    deadband=dice.choice([0.0, 0.5, 3.0]),
                    on_delay_s=dice.choice([0.0, 0.0, 2.0]),
                    off_delay_s=dice.choice([0.0, 0.0, 3.0]),
                    latching=dice.random() < 0.4,
                    realarm_s=dice.choice([0.0, 6.0]),
                    priority=dice.choice(list(Priority)),
                )
                for each in made
            ]
        )
    return plant_of(points, decimals=1)


def busy_rows(dice: Random, values: list[float], clocks: Clocks) -> list[Row]:
    """Some seconds of the plant: values that wander on ramps, now and then bad, doubled, late or missing."""
    rows: list[Row] = []
    slopes = [dice.choice([-2.0, -0.5, 0.0, 0.0, 0.5, 2.0]) for _ in values]
    silent = {index for index in range(len(values)) if dice.random() < 0.15}
    for _ in range(dice.randint(0, 15)):
        for index in set(range(len(values))) - silent:
            values[index] = min(95.0, max(5.0, values[index] + slopes[index] + dice.gauss(0.0, 0.3)))
            quality = dice.choices([GOOD, UNCERTAIN, BAD_COMM_FAILURE], [60, 1, 2])[0]
            after_ms = dice.choices([1000, 400, 0, -3000], [30, 3, 1, 1])[0]
            rows += clocks.stamp(Round(((index, after_ms, round(values[index], 1), quality),), (), 0.0))
    return rows


def busy_commands(dice: Random, rules: Rules, state: State, now_ns: int) -> list[Command]:
    """What a person asks in such a life: mostly of alarms that are not normal."""
    busy = [number for number in range(len(rules.definitions)) if state.phase[number]]
    pool = busy if busy and dice.random() < 0.8 else range(len(rules.definitions))
    asks = tuple(
        Ask(
            verb,
            dice.choice(pool),
            dice.choice(["any", "right", "wrong"]),
            "being repaired",
            dice.choice([3.0, 60.0]),
            once=dice.random() < 0.5,
        )
        for verb in dice.choices(list(Verb), [6, 6, 1, 3, 1, 1, 1], k=dice.randint(0, 3))
    )
    return commands_of(Round((), asks, 0.0), rules, state, now_ns)


@pytest.mark.timeout(600)
def test_long_busy_lives_are_told_alike_and_hold_every_event_of_every_kind() -> None:
    """Forty seeded lives of three points with all kinds: never a difference, and nothing that they leave out."""
    seen: Counter[tuple[str, str]] = Counter()
    unshelved: Counter[str] = Counter()
    for seed in range(40):
        dice = Random(seed)  # noqa: S311 - a life to be lived again, no secret
        plant, clocks, values = busy_plant(dice), Clocks(), [dice.uniform(10.0, 90.0) for _ in range(3)]
        rules = compile_rules(plant)
        names = [d.id for d in rules.definitions]
        oracle, state = Oracle(plant, START_NS), engine.initial(rules, START_NS)
        for _ in range(30):
            rows = busy_rows(dice, values, clocks)
            clocks.now_ns += round(dice.choice([0.0, 1.0, 2.5, 5.0, 7.0]) * SECOND)
            commands = busy_commands(dice, rules, state, clocks.now_ns)
            expected = oracle_step(oracle, rows, commands, names, clocks.now_ns)
            state, result = engine.step(state, rules, frame_of(rows), commands, clocks.now_ns)
            refusals = [str(refusal.reason) for refusal in result.refusals]
            assert (told_by(result, rules), refusals, result.late, result.clock_steps_back) == expected, f"seed {seed}"
            assert_same_knowledge(oracle, state, rules)
            seen.update((rules.definitions[t.definition].kind.value, t.event.name) for t in result.transitions)
            unshelved.update(t.reason for t in result.transitions if t.event is Event.UNSHELVE)
    both_ways = {(kind.value, event) for kind in AlarmKind for event in ("RAISE", "RETURN", "RETURN_LATCHED")}
    assert both_ways - seen.keys() == set()
    assert {event.name for event in Event} - {event for _, event in seen} == set()
    ends = {"being repaired", "time is up", "the alarm has returned", "a worse alarm of the point was raised"}
    assert set(unshelved) == ends


@pytest.mark.timeout(600)
@settings(max_examples=250, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(plant=plants(), life=lives, restarts=st.sets(st.integers(0, 11), max_size=3))
def test_the_engine_says_what_the_oracle_says(plant: Plant, life: list[Round], restarts: set[int]) -> None:
    """Transitions, refusals, late readings and what is remembered never differ, whenever the engine is restarted."""
    rules = compile_rules(plant)
    names = [d.id for d in rules.definitions]
    oracle, state, clocks = Oracle(plant, START_NS), engine.initial(rules, START_NS), Clocks()
    for number, turn in enumerate(life):
        rows = clocks.stamp(turn)
        commands = commands_of(turn, rules, state, clocks.now_ns)
        try:
            expected = oracle_step(oracle, rows, commands, names, clocks.now_ns)
        except TooCloseError:
            assume(False)  # noqa: FBT003 - hypothesis's way to say that this example is none
        state, result = engine.step(state, rules, frame_of(rows), commands, clocks.now_ns)
        refusals = [str(refusal.reason) for refusal in result.refusals]
        assert (told_by(result, rules), refusals, result.late, result.clock_steps_back) == expected
        assert_same_knowledge(oracle, state, rules)
        if number in restarts:
            state = engine.restore(engine.snapshot(state, rules), rules)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(plant=plants(), life=lives)
def test_a_restart_changes_nothing_to_the_bit(plant: Plant, life: list[Round]) -> None:
    """An engine restored before every step goes on as the one that was never stopped."""
    rules = compile_rules(plant)
    clocks, steady = Clocks(), engine.initial(rules, START_NS)
    restarted = engine.initial(rules, START_NS)
    for turn in life:
        rows = clocks.stamp(turn)
        commands = commands_of(turn, rules, steady, clocks.now_ns)
        steady, first = engine.step(steady, rules, frame_of(rows), commands, clocks.now_ns)
        restarted = engine.restore(engine.snapshot(restarted, rules), rules)
        restarted, second = engine.step(restarted, rules, frame_of(rows), commands, clocks.now_ns)
        assert repr(second) == repr(first)
        assert engine.snapshot(restarted, rules) == engine.snapshot(steady, rules)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(plant=plants(), life=lives, cuts=st.lists(st.integers(0, 120), max_size=8), dice=st.randoms())
def test_how_readings_are_grouped_between_two_ticks_changes_nothing(
    plant: Plant, life: list[Round], cuts: list[int], dice: Random
) -> None:
    """Any partition of the same readings gives the same transitions in the same order and the same state to the bit."""
    rules, clocks = compile_rules(plant), Clocks()
    rows = interleaved([row for turn in life for row in clocks.stamp(turn)], dice)
    whole, at_once = engine.step(engine.initial(rules, START_NS), rules, frame_of(rows), [], START_NS)
    parts, late = engine.initial(rules, START_NS), 0
    transitions = []
    edges = [0, *sorted(cut for cut in cuts if cut < len(rows)), len(rows)]
    for start, end in pairwise(edges):
        parts, result = engine.step(parts, rules, frame_of(rows[start:end]), [], START_NS)
        transitions += result.transitions
        late += result.late
    assert repr(transitions) == repr(at_once.transitions)
    assert late == at_once.late
    assert engine.snapshot(parts, rules) == engine.snapshot(whole, rules)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(plant=plants(), life=lives, later=st.data())
def test_changed_rules_keep_what_they_share(plant: Plant, life: list[Round], later: st.DataObject) -> None:
    """Laid onto rules with alarms taken away, added or set anew, a snapshot keeps what is known of all that stayed."""
    rules = compile_rules(plant)
    state, clocks = engine.initial(rules, START_NS), Clocks()
    for turn in life:
        rows = clocks.stamp(turn)
        commands = commands_of(turn, rules, state, clocks.now_ns)
        state, _ = engine.step(state, rules, frame_of(rows), commands, clocks.now_ns)
    points = [
        [
            replace(d, setpoint=d.setpoint + 1.0, latching=not d.latching)
            for d in point.definitions
            if later.draw(st.booleans())
        ]
        for point in plant.points
    ]
    points.append([definition(f"P{len(points)}", AlarmKind.H, 5.0)])
    changed = compile_rules(plant_of(points))
    restored = engine.restore(engine.snapshot(state, rules), changed)
    for number, d in enumerate(changed.definitions[:-1]):
        before = rules.index[d.id]
        for column in ("phase", "active", "since_ns", "onset_ns", "shelved_until_ns", "shelved_once", "out_of_service"):
            assert getattr(restored, column)[number] == getattr(state, column)[before], column
    for index in range(len(plant.points)):
        assert restored.time_ns[index] == state.time_ns[index]
        assert restored.seen_ns[index] == state.seen_ns[index]
    kept = {(rules.points[p], tau) for p, tau in zip(rules.trend_point, rules.trend_tau_s, strict=True)}
    for row, (p, tau) in enumerate(zip(changed.trend_point, changed.trend_tau_s, strict=True)):
        assert (changed.points[p], tau) in kept
        before = int(np.flatnonzero((rules.trend_point == p) & (rules.trend_tau_s == tau))[0])
        assert restored.trend_ns[row] == state.trend_ns[before]
        assert restored.trend.weight[row] == state.trend.weight[before]
    assert (restored.phase[-1], restored.time_ns[-1], restored.seen_ns[-1]) == (0, -1, state.now_ns)
    assert restored.now_ns == state.now_ns
