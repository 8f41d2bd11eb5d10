"""Seeded lives in which much happens: plants whose alarms the values meet, and values that meet all the alarms."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import inf, nextafter
from random import Random
from typing import Final

from tests.core.oracle import Oracle
from tests.core.oracle_inputs import Ask
from tests.core.oracle_lines import TooCloseError
from tests.core.oracle_lives import (
    Clocks,
    Due,
    Round,
    answer_of,
    assert_alike,
    assert_same_knowledge,
    commands_of,
    frame_of,
    oracle_step,
    restarted,
)
from tests.core.oracle_plants import unit_model
from tests.core.plants import START_NS, definition, plant_of
from tocsin_core import engine
from tocsin_core.detectors.change import Calibration
from tocsin_core.engine import Input, State
from tocsin_core.lifecycle import Event, Verb
from tocsin_core.plant import AlarmDefinition, AlarmKind, Plant, Priority
from tocsin_core.plant.computed import Balance, Compute, Grade, Median, Normal, Spread, Vote
from tocsin_core.plant.definition import Suppressor
from tocsin_core.plant.point import ModeSource
from tocsin_core.readings import BAD_COMM_FAILURE, GOOD, UNCERTAIN
from tocsin_core.rules import Rules, compile_rules

CHARTS: Final = Calibration(50.037, 10.0, 0.37, 0.0, 1.0, 0.5, 3.1, 0.1, 0.2, 1.7, 0.1)

# Limits, and deadbands that end at numbers that no short decimal is.
EDGED: Final = (("HH", 80.3), ("H", 60.1), ("L", 30.7), ("LL", 15.9))
DEADBANDS: Final = (0.0, 0.3, 3.7)
EDGES: Final = [at - (-back if kind in ("L", "LL") else back) for kind, at in EDGED for back in DEADBANDS]

Rounds = Callable[[Random, list[float]], list[Due]]


def _of(point: str, kind: str, setpoint: float = float("nan"), **more: object) -> AlarmDefinition:
    side = -1 if kind in ("L", "LL") else 1
    return replace(definition(point, AlarmKind(kind), setpoint), **{"side": side, **more})  # type: ignore[arg-type]


def _varied(dice: Random, made: list[AlarmDefinition]) -> list[AlarmDefinition]:
    """The definitions with delays, priorities and the rest thrown."""
    deadbands = {
        each.id: 0.0 if each.kind in (AlarmKind.BAD, AlarmKind.STALE) else dice.choice([0.0, 0.5, 3.0]) for each in made
    }
    return [
        replace(
            each,
            after_s=8.0 if each.kind is AlarmKind.BAD else each.after_s,
            deadband=deadbands[each.id],
            on_delay_s=dice.choice([0.0, 0.0, 2.0]),
            off_delay_s=dice.choice([0.0, 0.0, 3.0]),
            latching=dice.random() < 0.4,
            realarm_s=dice.choice([0.0, 6.0]),
            priority=dice.choice(list(Priority)),
        )
        for each in made
    ]


def process_plant(dice: Random) -> Plant:
    """Three points with limits, trends, and the alarms on quality and silence."""
    return plant_of(
        [
            _varied(
                dice,
                [
                    *(_of(p, kind, at) for kind, at in (("HH", 80.0), ("H", 60.0), ("L", 30.0), ("LL", 15.0))),
                    _of(p, "rate", 41.3, window_s=20.0),
                    _of(p, "time-to-limit", 60.037, limit=AlarmKind.H, window_s=20.0, horizon_s=60.0, confidence=0.99),
                    _of(p, "bad"),
                    _of(p, "stale", after_s=4.0),
                ],
            )
            for p in ("P0", "P1", "P2")
        ]
    )


def process_rounds(dice: Random, values: list[float]) -> list[Due]:
    """Some seconds of values that wander on ramps, now and then bad, doubled, late or missing."""
    slopes = [dice.choice([-2.0, -0.5, 0.0, 0.0, 0.5, 2.0]) for _ in values]
    silent = {index for index in range(len(values)) if dice.random() < 0.15}
    made = []
    for _ in range(dice.randint(0, 15)):
        for index in set(range(len(values))) - silent:
            values[index] = min(95.0, max(5.0, values[index] + slopes[index] + dice.gauss(0.0, 0.3)))
            quality = dice.choices([GOOD, UNCERTAIN, BAD_COMM_FAILURE], [60, 1, 2])[0]
            after_ms = dice.choices([1000, 400, 0, -3000], [30, 3, 1, 1])[0]
            made.append(Due(index, after_ms, round(values[index], 1), quality))
    return made


def edge_plant(dice: Random) -> Plant:
    """Three points with limits, one of which has an early warning too."""
    warning = {"limit": AlarmKind.H, "window_s": 20.0, "horizon_s": 40.0, "confidence": 0.9}
    points = []
    for p in ("P0", "P1", "P2"):
        made = [_of(p, kind, at) for kind, at in EDGED]
        if p == "P2":
            made.append(_of(p, "time-to-limit", 60.1, **warning))
        points.append([replace(each, deadband=dice.choice(DEADBANDS)) for each in _varied(dice, made)])
    return plant_of(points)


def edge_rounds(dice: Random, values: list[float]) -> list[Due]:
    """Some seconds of values that meet the end of a deadband, or miss it by a unit in the last place."""
    made = []
    for _ in range(dice.randint(0, 25)):
        for index in range(len(values)):
            if dice.random() < 0.3:
                values[index] = dice.choice(EDGES)
            value = nextafter(values[index], dice.choice([-inf, values[index], inf]))
            quality = dice.choices([GOOD, UNCERTAIN, BAD_COMM_FAILURE], [120, 1, 2])[0]
            made.append(Due(index, dice.choices([1000, 400, -3000], [30, 3, 1])[0], value, quality))
    return made


def detector_plant(dice: Random) -> Plant:
    """Three points with grades, exposure, charts, and the health of the instrument."""
    colours = dict(zip(("red", "orange", "yellow", "blue"), (85.0, 75.0, 65.0, 55.0), strict=True))
    points = []
    for number in range(3):
        p, side = f"P{number}", -1 if number == 1 else 1
        graded = [_of(p, kind, 50.0 + side * (at - 50.0), side=side) for kind, at in colours.items()]
        exposed = [
            _of(p, "stel", 45.037, hold_s=dice.choice([90.0, 400.0])),
            _of(p, "twa", 49.037, hold_s=1000.0),
            _of(p, "peaks", 16.0),
        ]
        changed = [_of(p, kind, charts=CHARTS) for kind in ("cusum", "ewma")]
        zero = dice.choice([float("nan"), 20.0])
        health = [
            _of(p, "loop", low=8.0, high=92.0),
            _of(p, "stuck", window_s=dice.choice([8.0, 12.0]), floor=dice.choice([0.0, 0.8]), zero=zero, zero_band=2.0),
            _of(p, "spike", floor=0.5),
        ]
        points.append(_varied(dice, [*graded, *exposed, *changed, *health]))
    return plant_of(points)


def detector_rounds(dice: Random, values: list[float]) -> list[Due]:
    """Stretches in which a point stands still, flickers, wanders, spikes, steps, or comes home; at any pace."""
    made = []
    for index in range(len(values)):
        what = dice.choice(["still", "flicker", "wander", "spikes", "step", "home", "home"])
        pace = dice.choices([1000, 61_000, 907_000], [6, 3, 2])[0]
        if what in ("step", "still", "flicker"):
            values[index] = dice.uniform(0.0, 103.0)
        # A spike is told from its 31 neighbours.
        for number in range(dice.randint(38, 50) if what == "spikes" else dice.randint(5, 30)):
            noise = {"still": 0.0, "flicker": 0.1, "wander": 6.0}.get(what, 1.0)
            values[index] += {"home": 0.3 * (50.0 - values[index])}.get(what, 0.0)
            read = min(103.0, max(0.0, values[index] + (dice.gauss(0.0, noise) if noise else 0.0)))
            spike = 30.0 if what == "spikes" and number > 31 and number % 5 == 4 else 0.0
            quality = dice.choices([GOOD, UNCERTAIN, BAD_COMM_FAILURE], [60, 1, 1])[0]
            made.append(Due(index, dice.choices([pace, 0], [30, 1])[0], round(read + spike, 3), quality))
    return made


def whole_plant(dice: Random) -> Plant:
    """Four points, a status word, and a computed point of each rule; alarms, modes and suppression on all of them."""
    minutes = dice.random() < 0.5
    rules: list[Compute] = [
        Vote(rule="vote", of=("P0", "P1", "P2"), need=2, lost=dice.choice(["safe", "available"])),
        Vote(rule="vote", of=("P1", "P3"), need=dice.choice([1, 2]), side="low"),
        Median(rule="median", of=("P0", "P1", "P2", "P3")),
        Spread(rule="spread", of=("P0", "P1", "P2")),
        Balance(
            rule="balance",
            level="P0",
            temperature=dice.choice(["P3", None]),
            inflow=("P1",),
            outflow=("P2",),
            table=((0.0, 0.0), (5.037, 1570.8), (12.3, 3769.92)),
            density=750.0,
        ),
        Grade(rule="grade", items=(("P0", "P1"), ("P2", "P3"))),
        Normal(rule="normal", model="m60" if minutes else "m1"),
    ]
    several = {"vote": 50.0, "median": 50.0, "spread": 9.0, "balance": 30.0, "grade": 2.0, "normal": 1.0}
    points = [[_of(f"P{i}", kind, at) for kind, at in (("H", 60.0), ("red", 70.0), ("blue", 55.0))] for i in range(5)]
    for number, rule in enumerate(rules):
        p, at = f"P{5 + number}", several[rule.rule]
        abnormal = [_of(p, "abnormal")] if isinstance(rule, Normal) else []
        points.append([*abnormal, _of(p, "H", at), _of(p, "HH", 1.5 * at), _of(p, "L", 0.8 * at), _of(p, "bad")])
    laid = [
        [
            replace(
                each,
                deadband=min(each.deadband, 0.1 * abs(each.setpoint)) if each.kind is not AlarmKind.BAD else 0.0,
                suppressed_by=_suppressor(dice, each.point) if dice.random() < 0.3 else None,
            )
            for each in _varied(dice, made)
        ]
        for made in points
    ]
    plant = plant_of(laid)
    modes = ModeSource("P4", 0, 1, 2, dice.choice([0.0, 3.0]))
    units = {0: "%", 1: "kg/s", 2: "kg/s"}
    places = tuple(
        replace(
            place,
            unit=units.get(place.index, "°C"),
            longest_s=dice.choice([2.0, 3.0]) if not minutes else 150.0,
            mode_source=modes if place.index < 4 and dice.random() < 0.3 else None,
            compute=rules[place.index - 5] if place.index >= 5 else None,
        )
        for place in plant.points
    )
    alarms = [each.id for made in laid for each in made]
    groups = {f"G{n}": tuple(sorted(dice.sample(alarms, 6), key=alarms.index)) for n in range(3)}
    return replace(plant, points=places, models={"m1": unit_model(1.0), "m60": unit_model(60.0)}, first_out=groups)


def _suppressor(dice: Random, point: str) -> Suppressor:
    by = dice.choice([each for each in ("P2", "P3", "P4") if each != point])
    low = 3.0 if by == "P4" else 50.0
    return Suppressor(by, low, 100.0, dice.choice([0.0, 2.0]), dice.choice([0.0, 2.0]), dice.choice([5.0, 300.0]))


def whole_rounds(dice: Random, values: list[float]) -> list[Due]:
    """Sweeps over all points that drift together or apart, in any order, with holes; the word changes now and then."""
    pace = dice.choice([1000, 60_000, 60_000])
    apart = dice.choice([0.0, 0.0, 3.0])
    word = float(dice.choices([0, 1, 2, 3, 4], [8, 1, 1, 1, 4])[0])
    silent = {index for index in range(4) if dice.random() < 0.03}
    made = []
    for _ in range(dice.randint(0, 15)):
        values[0] += 0.1 * (52.0 - values[0]) + dice.gauss(0.0, 4.0)
        values[1] = values[0] + dice.gauss(0.0, 3.0 + apart)
        for index in (2, 3):
            values[index] += 0.1 * (52.0 - values[index]) + dice.gauss(0.0, 4.0)
        order = dice.sample(range(5), 5)
        for place, index in enumerate(order):
            if index in silent or dice.random() < 0.03:
                continue
            value = word if index == 4 else round(values[index], 1)
            quality = dice.choices([GOOD, UNCERTAIN, BAD_COMM_FAILURE], [60, 1, 2])[0]
            after_ms = pace if place == 0 else dice.choice([0, 0, -100])
            made.append(Due(index, after_ms, value, quality, abreast=dice.random() < 0.98))
    return made


def _commands(dice: Random, rules: Rules, state: State, now_ns: int) -> list[Input]:
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
        for verb in dice.choices(list(Verb), [6, 6, 1, 3, 1, 1, 1], k=dice.randint(0, 3 + len(busy) // 4))
    )
    return commands_of(Round((), asks, 0.0), rules, state, now_ns)


@dataclass
class Seen:
    """What happened in lives: events by kind of alarm and by rule of the point, and the reasons told."""

    events: Counter[tuple[str, str]] = field(default_factory=Counter)
    by_rule: Counter[tuple[str, str]] = field(default_factory=Counter)
    raised_because: Counter[str] = field(default_factory=Counter)
    unshelved_because: Counter[str] = field(default_factory=Counter)
    cut_short: int = 0


def live(seed: int, plant_of_dice: Callable[[Random], Plant], rounds: Rounds, steps: int, seen: Seen) -> None:
    """One seeded life of a plant, driven through both; it ends where rounding would decide."""
    dice = Random(seed)  # noqa: S311 - a life to be lived again, no secret
    plant = plant_of_dice(dice)
    rules, clocks = compile_rules(plant), Clocks.of(plant)
    values = [dice.uniform(10.0, 90.0) for _ in range(3 if len(plant.points) == 3 else 4)]
    names = [d.id for d in rules.definitions]
    rule_of = {d.id: "none" if p.compute is None else p.compute.rule for p in plant.points for d in p.definitions}
    oracle, state = Oracle(plant, START_NS), engine.initial(rules, START_NS)
    for _ in range(steps):
        rows = clocks.stamp(Round(tuple(rounds(dice, values)), (), dice.choice([0.0, 1.0, 2.5, 5.0, 7.0])))
        commands = _commands(dice, rules, state, clocks.now_ns)
        try:
            expected = oracle_step(oracle, rows, commands, names, clocks.now_ns)
        except TooCloseError:
            seen.cut_short += 1
            return
        state, result = engine.step(state, rules, frame_of(rows), commands, clocks.now_ns)
        assert_alike(answer_of(result, rules), expected, plant)
        assert_same_knowledge(oracle, state, rules)
        for t in result.transitions:
            d = rules.definitions[t.definition]
            seen.events[d.kind.value, t.event.name] += 1
            seen.by_rule[rule_of[d.id], t.event.name] += 1
            if t.event is Event.RAISE:
                seen.raised_because.update(filter(None, t.reason.split("; ")))
            if t.event is Event.UNSHELVE:
                seen.unshelved_because[t.reason] += 1
        if dice.random() < 0.1:
            state = restarted(state, rules)
