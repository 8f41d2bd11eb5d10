"""Holds what the engine calls calm to it: judged all the same, such a point turns nothing and stands as it stood."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.plants import SECOND, START_NS, definition, plant_of
from tocsin_core import detect, engine
from tocsin_core.detect import Expectation
from tocsin_core.engine import State
from tocsin_core.engine.state import Move
from tocsin_core.engine.taking import Judging, judge
from tocsin_core.plant import AlarmDefinition, AlarmKind
from tocsin_core.readings import F64, GOOD, Bool
from tocsin_core.rules import Rules, compile_rules

POINTS: Final = 80
TURNS: Final = 24
# As of twenty readings about two seconds ago: how sure a line is goes with the noise about it alone.
SUMS: Final = np.asarray([20.0, -40.0, 400.0, 0.0, 0.0, 0.0, 20.0, -40.0, 400.0])
STANDING: Final = ("since_ns", "active", "phase", "onset_ns")
BANDS: Final = ("quiet_low", "quiet_high", "due_ns")
BOUNDS: Final = ("side", "bound", "waits")


def eighths(dice: np.random.Generator, low: float, high: float, size: int) -> F64:
    """Numbers whose sums are exact, so that many meet."""
    return dice.integers(round(8 * low), round(8 * high), size, endpoint=True) / 8.0


def alarms_of(point: str, dice: np.random.Generator) -> Iterator[AlarmDefinition]:
    """An early warning and mostly a rate and limits on either side; set points, deadbands and delays are thrown."""
    side, horizon_s = int(dice.choice((1, -1))), float(dice.choice((1.0, 2.0, 8.0)))
    for kind in (AlarmKind.RATE, AlarmKind.TIME_TO_LIMIT, AlarmKind.H, AlarmKind.L):
        per_unit, least = (60.0, 0.125) if kind is AlarmKind.RATE else (1.0, -2.0)
        made = replace(
            definition(point, kind, per_unit * float(eighths(dice, least, 1.5, 1)[0])),
            deadband=per_unit * float(eighths(dice, 0.0, 0.5, 1)[0]),
            on_delay_s=float(dice.choice((0.0, 3.0))),
            off_delay_s=float(dice.choice((0.0, 3.0))),
            latching=bool(dice.random() < 0.3),
            window_s=10.0,
        )
        if kind is AlarmKind.TIME_TO_LIMIT:
            limit = AlarmKind.H if side > 0 else AlarmKind.L
            yield replace(made, limit=limit, side=side, horizon_s=horizon_s, confidence=0.6)
        elif dice.random() < 0.7:
            yield made


def draw_lines(state: State, rules: Rules, values: F64, dice: np.random.Generator) -> Bool:
    """Other lines through all trends; some of too few readings, which are returned, some that nothing is sure of."""
    trends = len(rules.trend_point)
    unknown = dice.random(trends) < 0.1
    noise = np.where(unknown, np.inf, dice.choice((1e-9, 1e-9, 4.0), trends))
    known = ~unknown
    state.expected[:] = eighths(dice, -1.0, 1.0, trends) * known, eighths(dice, -1.0, 1.0, trends) * known, noise
    state.trend_value[:] = np.where(dice.random(trends) < 0.9, values[rules.trend_point], 0.0)
    return unknown


def is_calm(state: State, rules: Rules, values: F64, unknown: Bool, now_ns: int) -> Bool:
    """The points that a step would leave alone."""
    stirs = detect.stirs(
        Expectation(*state.expected),
        state.trend_value,
        rules.trend_rate,
        rules.trend_limit,
        rules.trend_horizon_s,
        state.side,
        state.bound,
    )
    stirs |= unknown & state.waits.any(axis=0)
    calm = (values > state.quiet_low) & (values < state.quiet_high) & (now_ns < state.due_ns)
    calm[rules.trend_point[stirs]] = False
    return calm


@settings(max_examples=10)
@given(seed=st.integers(0, 2**32 - 1))
def test_what_is_calm_is_as_it_was_when_it_is_judged(seed: int) -> None:
    """Lines and values jump between numbers that meet bounds and limits, or miss them by a unit in the last place."""
    dice = np.random.default_rng(seed)
    rules = compile_rules(plant_of([list(alarms_of(f"P{index}", dice)) for index in range(POINTS)]))
    state, point, values = engine.initial(rules, START_NS), np.arange(POINTS), np.zeros(POINTS)
    state.sums[:] = SUMS[:, None]
    calm_ones = changed_ones = 0
    for turn in range(TURNS):
        now_ns = START_NS + turn * SECOND
        drawn = eighths(dice, -2.5, 2.5, POINTS)
        drawn = np.nextafter(drawn, drawn + dice.choice((-1.0, 0.0, 1.0), POINTS))
        values = np.where(dice.random(POINTS) < 0.4, values, drawn)
        unknown = draw_lines(state, rules, values, dice)
        calm = is_calm(state, rules, values, unknown, now_ns)
        before = {name: getattr(state, name).copy() for name in (*STANDING, *BANDS, *BOUNDS)}
        moves = list[Move]()
        quality = np.full(POINTS, GOOD, np.uint8)
        judge(state, rules, Judging(point, np.full(POINTS, now_ns), values, quality, point, None), moves)
        changed = {name: column != getattr(state, name) for name, column in before.items()}
        assert not calm[[key for key, _ in moves]].any()
        for name in STANDING:
            assert not (changed[name] & calm[rules.point]).any(), name
        for name in BANDS:
            assert not (changed[name] & calm).any(), name
        for name in BOUNDS:
            assert not (changed[name] & calm[rules.trend_point]).any(), name
        calm_ones += int(calm.sum())
        changed_ones += int(changed["since_ns"].sum())
    assert min(calm_ones, changed_ones) > POINTS * TURNS / 10
