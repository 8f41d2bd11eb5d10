"""Holds the engine's short cuts to their promise: what they leave out could have changed nothing."""

from dataclasses import replace
from math import nan
from typing import Final, NamedTuple

import numpy as np
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from tests.core.plants import SECOND, START_NS, definition, plant_of
from tests.core.test_engine_oracle import Clocks, Round, commands_of, frame_of, lives, plants
from tocsin_cli.bench.synthetic import rules_of
from tocsin_core import detect, engine
from tocsin_core.detect import Expectation, Trend
from tocsin_core.engine import Projection, State
from tocsin_core.plant import AlarmKind, Plant
from tocsin_core.readings import BAD, F64, GOOD, Bool, Frame
from tocsin_core.rules import Rules, compile_rules

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


def expected(trend: Trend, floor: F64) -> Expectation:
    """What `trend` expects."""
    out = Expectation(*np.empty((3, len(floor))))
    detect.expect(trend, floor, out)
    return out


def raised(
    trend: Trend, floor: F64, value: F64, setpoint: F64, sign: F64, limit: F64, horizon_s: F64, z: F64
) -> tuple[Bool, Bool]:
    """Where an alarm on the rate, and an early warning, is raised at `value`."""
    line, slope = expected(trend, floor), detect.fit(trend, floor)
    rate = slope.known & (detect.rate(line, setpoint) >= 0.0) & detect.is_sure_of_rate(slope)
    beyond = detect.time_to_limit(line, value, sign, limit, horizon_s)
    sure = detect.is_sure_of_limit(slope, beyond, sign, horizon_s, z)
    return rate, slope.known & (sign * (limit - value) > 0.0) & (beyond >= 0.0) & sure


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
def test_a_trend_that_is_not_near_does_not_speak(
    moments: tuple[float, ...], value: float, setpoint: float, limit: float, sign: float, horizon_s: float, z: float
) -> None:
    """Whatever the sums, even such as no readings make: neither detector answers TRUE where the short cut says no."""
    trend = Trend(*(np.asarray([moment]) for moment in moments))
    one = [np.asarray([number]) for number in (value, setpoint, sign, limit, horizon_s, z, 0.0)]
    values, setpoints, signs, limits, horizons, quantiles, zero = one
    with np.errstate(all="ignore"):
        near = detect.nears(expected(trend, zero + 0.01), values, setpoints, signs, limits, horizons)
        rate, early = raised(trend, zero + 0.01, values, setpoints, signs, limits, horizons, quantiles)
    assert near[0] or not (rate[0] or early[0])


@given(seed=st.integers(0, 2**32 - 1))
def test_what_speaks_is_near(seed: int) -> None:
    """Of lines with a little noise about them, thousands of which lead to their limits, none is left out."""
    dice, size = np.random.default_rng(seed), 4000
    slope, level, value = dice.normal(0.0, 0.3, size), dice.normal(0.0, 0.1, size), dice.normal(0.0, 50.0, size)
    weight, mean_x, sxx = dice.uniform(10.0, 60.0, size), -dice.uniform(1.0, 60.0, size), dice.uniform(1e3, 1e5, size)
    x, u, square = weight * mean_x, weight * (level + slope * mean_x), weight * weight / dice.uniform(8.0, 60.0, size)
    trend = Trend(
        weight=weight,
        x=x,
        xx=x * mean_x + sxx,
        u=u,
        xu=u * mean_x + slope * sxx,
        uu=u * u / weight + slope * slope * sxx + weight * dice.uniform(0.0, 0.01, size),
        square=square,
        square_x=square * mean_x,
        square_xx=square * (mean_x * mean_x + sxx / weight),
    )
    horizon_s, sign, zero = dice.uniform(1.0, 300.0, size), dice.choice(HIGH_AND_LOW, size), np.zeros(size)
    setpoint, limit = dice.uniform(0.1, 1.0, size), value + level + slope * horizon_s * dice.uniform(-0.2, 1.2, size)
    near = detect.nears(expected(trend, zero + 0.03), value, setpoint, sign, limit, horizon_s)
    with np.errstate(all="ignore"):
        rate, early = raised(trend, zero + 0.03, value, setpoint, sign, limit, horizon_s, zero + 1.6)
    assert min(rate.sum(), early.sum(), (~near).sum()) > size / 40
    assert not (~near & (rate | early)).any()


def seen_slowly(state: State, rules: Rules) -> list[Projection]:
    """The projections, each trend of the whole plant looked at."""
    found = []
    for number, each in enumerate(rules.definitions):
        if each.kind is not AlarmKind.TIME_TO_LIMIT:
            continue
        row = int(rules.trend[number])
        with np.errstate(all="ignore"):
            line = detect.fit(Trend(*state.sums[:, [row]]), rules.trend_floor[[row]])
            margin = float((line.student(rules.trend_z[[row]]) * line.slope_se)[0])
            level, slope = float(state.trend_value[row] + line.level[0]), float(line.slope[0])
            ahead = float((rules.setpoint[number] - np.float64(level)) / np.float64(slope))
        reaches = ahead if ahead >= 0.0 else nan
        near = reaches <= 3.0 * each.horizon_s and abs(slope) > margin
        if line.known[0] and (near or state.active[number]):
            ends = slope - margin, slope + margin
            found.append(Projection(number, int(state.trend_ns[row]), level, slope, *ends, reaches))
    return found


class Heading(NamedTuple):
    """A point on a ramp that turns back, and its early warning; the limit is where the ramp gets after `arrives_s`."""

    start: float
    slope: float
    arrives_s: float
    horizon_s: float
    side: int
    rated: bool


headings = st.builds(
    Heading,
    start=st.floats(-9.0, 9.0),
    slope=st.floats(-0.5, 0.5),
    arrives_s=st.floats(-50.0, 200.0),
    horizon_s=st.floats(1.0, 90.0),
    side=st.sampled_from((1, -1)),
    rated=st.booleans(),
)
TREND: Final = replace(definition("P0", AlarmKind.TIME_TO_LIMIT), window_s=20.0, confidence=0.95)


@settings(max_examples=60)
@given(many=st.lists(headings, min_size=1, max_size=5), noise=st.floats(0.0, 0.3), seed=st.integers(0, 99))
def test_no_point_that_is_heading_for_its_limit_is_overlooked(many: list[Heading], noise: float, seed: int) -> None:
    """Looking only at what is near shows what looking at all shows, to the bit, also right after a restart."""
    points = []
    for i, each in enumerate(many):
        limit = each.start + each.slope * each.arrives_s
        early = replace(TREND, id=f"P{i}/t", point=f"P{i}", limit=AlarmKind.H)
        early = replace(early, setpoint=limit, horizon_s=each.horizon_s, side=each.side)
        rate = replace(TREND, id=f"P{i}/r", point=f"P{i}", kind=AlarmKind.RATE, setpoint=1.0)
        points.append([early, rate] if each.rated else [early])
    rules, dice = compile_rules(plant_of(points)), np.random.default_rng(seed)
    state, numbers = engine.initial(rules, START_NS), range(len(points))
    for second in range(60):
        run_s = min(second, 80 - second)
        values = [each.start + each.slope * run_s + noise * dice.standard_normal() for each in many]
        quality = [GOOD if dice.random() < 0.9 else BAD for _ in numbers]
        frame = Frame.of(numbers, [START_NS + second * SECOND] * len(points), values, quality)
        state, _ = engine.step(state, rules, frame, [], START_NS + second * SECOND)
        expected = repr(seen_slowly(state, rules))
        assert repr(engine.projections(state, rules)) == expected
        if second % 20 == 19:
            state = engine.restore(engine.snapshot(state, rules), rules)
            assert repr(engine.projections(state, rules)) == expected
        event(f"shown: {bool(engine.projections(state, rules))}")


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
    assert np.all(np.delete(bands, 3, axis=0) == (20.0, 80.0))
    # The early warning has H behind it: it has something to foresee again as soon as the value is below.
    assert bands[3].tolist() == [np.nextafter(80.0, 0.0), 90.0]
