"""Holds the engine's short cuts to their promise: what they leave out could have changed nothing."""

from typing import Final

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.core.plants import START_NS
from tests.core.test_engine_oracle import Clocks, Round, commands_of, frame_of, lives, plants
from tocsin_cli.bench.synthetic import rules_of
from tocsin_core import detect, engine
from tocsin_core.detect import TRUE, Trend
from tocsin_core.plant import Plant
from tocsin_core.readings import GOOD, Frame
from tocsin_core.rules import compile_rules

sums = st.floats(-1e6, 1e6)
weights = st.floats(0.0, 1e3)
HIGH_AND_LOW: Final = (1.0, -1.0)


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(plant=plants(), life=lives)
def test_points_judged_in_full_at_every_reading_tell_the_same(plant: Plant, life: list[Round]) -> None:
    """An engine that forgets before every step which points are at rest goes on as the one that knows, to the bit."""
    rules, clocks = compile_rules(plant), Clocks()
    knowing, forgetful = (engine.initial(rules, START_NS) for _ in range(2))
    for turn in life:
        frame = frame_of(clocks.stamp(turn))
        commands = commands_of(turn, rules, knowing, clocks.now_ns)
        forgetful.quiet_low[:], forgetful.quiet_high[:] = np.inf, -np.inf
        forgetful.shelf_due_ns = forgetful.stale_due_ns = 0
        knowing, first = engine.step(knowing, rules, frame, commands, clocks.now_ns)
        forgetful, second = engine.step(forgetful, rules, frame, commands, clocks.now_ns)
        assert repr(first) == repr(second)
        assert engine.snapshot(knowing, rules) == engine.snapshot(forgetful, rules)


@settings(max_examples=500)
@given(
    moments=st.tuples(weights, sums, sums, sums, sums, sums, weights, sums, sums),
    value=sums,
    setpoint=sums,
    limit=sums,
    sign=st.sampled_from(HIGH_AND_LOW),
    horizon_s=st.floats(0.0, 1e4),
    z=st.floats(0.0, 5.0),
)
def test_a_trend_that_may_not_speak_does_not(
    moments: tuple[float, ...], value: float, setpoint: float, limit: float, sign: float, horizon_s: float, z: float
) -> None:
    """Whatever the sums, even such as no readings make: neither detector answers TRUE where the short cut says no."""
    trend = Trend(*(np.asarray([moment]) for moment in moments))
    one = [np.asarray([number]) for number in (value, setpoint, sign, limit, horizon_s, z, 0.0)]
    values, setpoints, signs, limits, horizons, quantiles, zero = one
    with np.errstate(all="ignore"):
        may = detect.may_speak(trend, values, setpoints, signs, limits, horizons)
        slope = detect.fit(trend, zero + 0.01)
        answers = (
            detect.rate(slope, setpoints, zero),
            detect.time_to_limit(slope, values, signs, limits, zero, horizons, quantiles),
        )
    if not may[0]:
        assert all(answer[0] != TRUE for answer in answers)


def test_a_quiet_plant_is_at_rest_and_a_trip_wakes_its_point_alone() -> None:
    """After one reading each the bands are as wide as the limits; beyond one, its point has another band."""
    rules = rules_of(10)
    state, now_ns = engine.initial(rules, START_NS), START_NS
    told: list[str] = []
    for value in (50.0, 85.0):
        now_ns += 1_000_000_000
        values = np.full(10, 50.0)
        values[3] = value
        frame = Frame.of(list(range(10)), np.full(10, now_ns), values, np.full(10, GOOD))
        state, result = engine.step(state, rules, frame, [], now_ns)
        told += [rules.definitions[each.definition].id for each in result.transitions]
    assert told == ["P3/H"]
    bands = np.column_stack([state.quiet_low, state.quiet_high])
    assert np.allclose(np.delete(bands, 3, axis=0), (20.0, 80.0))
    assert np.all(np.delete(bands, 3, axis=0) != (20.0, 80.0))
    deadband = rules.deadband[rules.index["P3/H"]]
    assert np.allclose(bands[3], (80.0 - deadband, 90.0))
