"""Prometheus as a second opinion on limits with delays and on linear prediction: same series in, same times out.

Where the two differ on purpose, a test says how, and promtool confirms that Prometheus does what is said of it:

- Prometheus judges at the evaluations of its own clock, the engine at each reading. The series here have a sample at
  each evaluation, so the two coincide; in a gap they do not (see the test of the gap).
- Prometheus has no deadband: the rule holds on to itself by looking at its own ALERTS of the evaluation before.
- predict_linear takes a straight line through a rectangular window as it is; the early warning weighs its readings
  by age and warns only when the limit is reached at the stated confidence.
"""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Final

import numpy as np
import pytest

from tests.core.plants import SECOND, START_NS, definition, rules_of
from tests.support.need import need_program
from tocsin_core import engine
from tocsin_core.lifecycle import Event
from tocsin_core.plant import AlarmDefinition, AlarmKind
from tocsin_core.readings import GOOD, Frame

PROMTOOL: Final = need_program("promtool")

# What the series may lack: None is a second without a reading.
Values = Sequence[float | None]


def ours(alarm: AlarmDefinition, values: Values) -> list[bool]:
    """Whether the alarm stands after each second, by the engine; readings come with the ticks of the clock."""
    rules = rules_of(alarm, decimals=6)
    state = engine.initial(rules, START_NS)
    standing, is_raised = [], False
    for second, value in enumerate(values):
        now = START_NS + second * SECOND
        state, _ = engine.step(state, rules, Frame.empty(), [], now)
        frame = Frame.empty() if value is None else Frame.of([0], [now], [value], [GOOD])
        state, result = engine.step(state, rules, frame, [], now)
        for each in result.transitions:
            is_raised = each.event is Event.RAISE
        standing.append(is_raised)
    return standing


@dataclass(frozen=True)
class Case:
    """A Prometheus alerting rule, the series it sees, and whether it is to be firing at each second."""

    expression: str
    hold_s: float
    keep_s: float
    values: Values
    firing: list[bool]


def case_of(alarm: AlarmDefinition, name: str, values: Values, firing: list[bool]) -> Case:
    """A limit in PromQL: reaching it is enough, as in ours, and a standing alert holds inside the deadband."""
    sign, inside = (">=", -1.0) if alarm.kind in (AlarmKind.H, AlarmKind.HH) else ("<=", 1.0)
    held = alarm.setpoint + inside * alarm.deadband
    expression = f"x {sign} {alarm.setpoint!r}"
    if alarm.deadband:
        expression += f' or (x {sign} {held!r} and on() ALERTS{{alertname="{name}",alertstate="firing"}})'
    return Case(expression, alarm.on_delay_s, alarm.off_delay_s, values, firing)


def promtool(folder: Path, cases: Sequence[Case]) -> subprocess.CompletedProcess[str]:
    """Let promtool judge: each case is a rule of its own (`A0`, `A1`, …) with a test that asks at every second."""
    rules = [
        {"alert": f"A{n}", "expr": case.expression, "for": f"{case.hold_s:g}s", "keep_firing_for": f"{case.keep_s:g}s"}
        for n, case in enumerate(cases)
    ]
    tests = [
        {
            "interval": "1s",
            "input_series": [{"series": "x", "values": " ".join("_" if v is None else repr(v) for v in case.values)}],
            "alert_rule_test": [
                {"eval_time": f"{second}s", "alertname": f"A{n}", "exp_alerts": [{}] if is_firing else []}
                for second, is_firing in enumerate(case.firing)
            ],
        }
        for n, case in enumerate(cases)
    ]
    # JSON is YAML.
    for n, rule in enumerate(rules):
        group = {"groups": [{"name": "one", "interval": "1s", "rules": [rule]}]}
        (folder / f"rules{n}.yml").write_text(json.dumps(group), encoding="utf-8")
        test = {"rule_files": [f"rules{n}.yml"], "evaluation_interval": "1s", "tests": [tests[n]]}
        (folder / f"test{n}.yml").write_text(json.dumps(test), encoding="utf-8")
    files = [f"test{n}.yml" for n in range(len(cases))]
    return subprocess.run(
        [PROMTOOL, "test", "rules", *files], cwd=folder, capture_output=True, text=True, check=False, timeout=100
    )


def agrees(folder: Path, cases: Sequence[Case]) -> None:
    """Prometheus fires exactly when it is said to."""
    done = promtool(folder, cases)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("SUCCESS") == len(cases)


def walk(random: Random, seconds: int) -> list[float]:
    """A value that wanders about 10, with two decimals: it meets limits and deadbands exactly now and then."""
    value, values = 10.0, []
    for _ in range(seconds):
        value += random.choice([-0.5, -0.25, 0.0, 0.0, 0.25, 0.5]) + (10.0 - value) * 0.02
        values.append(round(value * 4) / 4)
    return values


def limits(random: Random) -> AlarmDefinition:
    """A high or low limit near 10, with any deadband and delays."""
    kind = random.choice([AlarmKind.H, AlarmKind.L])
    return replace(
        definition("P0", kind, 11.0 if kind is AlarmKind.H else 9.0),
        deadband=random.choice([0.0, 0.25, 0.5, 1.0]),
        on_delay_s=float(random.choice([0, 1, 2, 3, 7])),
        off_delay_s=float(random.choice([0, 1, 2, 5, 11])),
    )


def test_limits_with_deadbands_and_delays_are_raised_and_returned_at_the_same_second(tmp_path: Path) -> None:
    """Forty limits on forty wandering series: `for` is the on-delay, `keep_firing_for` the off-delay."""
    random = Random(7)  # noqa: S311 -- series of a test
    cases = []
    for number in range(40):
        alarm, values = limits(random), walk(random, 240)
        cases.append(case_of(alarm, f"A{number}", values, ours(alarm, values)))
    # What is compared is worth comparing: alarms that come and go, some while the other side of a delay waits.
    turns = [sum(a != b for a, b in zip(case.firing, case.firing[1:], strict=False)) for case in cases]
    assert sum(turn >= 2 for turn in turns) > 20
    agrees(tmp_path, cases)


@pytest.mark.parametrize("shift", [-1, 1])
def test_a_second_off_would_be_seen(tmp_path: Path, shift: int) -> None:
    """The comparison itself notices an alarm that is raised and returned one second early or late."""
    alarm = replace(definition("P0", AlarmKind.H, 11.0), on_delay_s=3.0, off_delay_s=5.0)
    values = [10.0] * 20 + [11.0] * 20 + [10.0] * 20
    firing = ours(alarm, values)
    assert firing == [False] * 23 + [True] * 22 + [False] * 15
    agrees(tmp_path, [case_of(alarm, "A0", values, firing)])
    shifted = case_of(alarm, "A0", values, firing[-shift:] + firing[:-shift])
    assert promtool(tmp_path, [shifted]).returncode == 1


def test_in_a_gap_prometheus_goes_on_with_the_last_value_and_the_engine_waits(tmp_path: Path) -> None:
    """A delay may run out unseen: Prometheus then fires on a value it no longer has, the engine at the next reading."""
    alarm = replace(definition("P0", AlarmKind.H, 11.0), on_delay_s=5.0, off_delay_s=5.0)
    # Over the limit from 5 on, silent from 7 to 19, still over at 20; inside from 25 on, silent from 27 to 39.
    values: list[float | None] = [10.0] * 5 + [11.0] * 2 + [None] * 13 + [11.0] * 5 + [10.0] * 2 + [None] * 13 + [10.0]
    assert [second for second, is_up in enumerate(ours(alarm, values)) if is_up] == list(range(20, 40))
    agrees(tmp_path, [case_of(alarm, "A0", values, [10 <= second < 30 for second in range(len(values))])])


def test_reaching_the_limit_is_enough_where_prometheus_rules_often_say_above(tmp_path: Path) -> None:
    """`>` instead of `>=` is a different rule: at the set point itself it does not fire, and ours stands."""
    alarm = definition("P0", AlarmKind.H, 11.0)
    values = [10.0, 11.0, 11.0, 12.0, 10.0]
    assert ours(alarm, values) == [False, True, True, True, False]
    strict = replace(case_of(alarm, "A0", values, [False, False, False, True, False]), expression="x > 11.0")
    agrees(tmp_path, [case_of(alarm, "A0", values, ours(alarm, values)), strict])


WINDOW_S: Final = 30
HORIZON_S: Final = 300
LIMIT: Final = 40.0


def early(confidence: float = 0.999) -> AlarmDefinition:
    """An early warning of the limit, without delays."""
    return replace(
        definition("P0", AlarmKind.TIME_TO_LIMIT, LIMIT),
        limit=AlarmKind.H,
        window_s=float(WINDOW_S),
        horizon_s=float(HORIZON_S),
        confidence=confidence,
    )


def predicted(values: Sequence[float]) -> list[float]:
    """What predict_linear is documented to give each second: least squares over [t - 30 s, t], at t + 300 s."""
    found = [float("nan")]
    for second in range(1, len(values)):
        recent = np.asarray(values[max(0, second - WINDOW_S) : second + 1])
        slope, level = np.polyfit(np.arange(1 - len(recent), 1), recent, 1)
        found.append(float(level + slope * HORIZON_S))
    return found


def foreseen_by_prometheus(values: Sequence[float]) -> Case:
    """The same prediction as an alerting rule that is silent once the limit itself is reached."""
    expression = f"predict_linear(x[{WINDOW_S}s], {HORIZON_S}) >= {LIMIT!r} and x < {LIMIT!r}"
    prediction = predicted(values)
    assert min(abs(level - LIMIT) for level in prediction[1:]) > 1e-6, "too close to tell apart"
    firing = [level >= LIMIT and value < LIMIT for level, value in zip(prediction, values, strict=True)]
    return Case(expression, 0.0, 0.0, values, firing)


def first(standing: list[bool]) -> int:
    """The second at which it stands first."""
    return standing.index(True)


def test_on_a_straight_line_both_foresee_the_limit_at_the_same_second(tmp_path: Path) -> None:
    """Without noise every window gives the same slope and there is nothing to be unsure of."""
    for slope, at in ((0.05, 101), (0.08, 151), (0.1, 51)):
        start = LIMIT - slope * (HORIZON_S + at - 0.5)
        values = [start + slope * second for second in range(240)]
        case = foreseen_by_prometheus(values)
        assert first(case.firing) == at
        assert first(ours(early(), values)) == at
        agrees(tmp_path, [case])


def test_after_a_bend_ours_warns_within_the_window_of_prometheus(tmp_path: Path) -> None:
    """A bend is at first no straight line: the confidence waits until the new slope is the more likely one."""
    values = [10.0] * 60 + [10.0 + 0.2 * second for second in range(120)]
    case = foreseen_by_prometheus(values)
    agrees(tmp_path, [case])
    delay = first(ours(early(), values)) - first(case.firing)
    assert 0 <= delay <= WINDOW_S


def test_when_the_rise_stops_both_take_it_back_within_the_window(tmp_path: Path) -> None:
    """A rectangular window forgets all at once, ours by age: the two ends lie at most a window apart."""
    values = [10.0 + 0.2 * second for second in range(80)] + [26.0] * 120
    case = foreseen_by_prometheus(values)
    agrees(tmp_path, [case])
    mine = ours(early(), values)
    assert case.firing[79]
    assert mine[79]
    theirs_ends, ours_ends = case.firing.index(False, 80), mine.index(False, 80)
    assert abs(theirs_ends - ours_ends) <= WINDOW_S
    assert not any(mine[ours_ends:])


def test_on_noise_prometheus_warns_and_ours_does_not(tmp_path: Path) -> None:
    """The one difference that is the point: a prediction without its confidence is a false alarm in the making."""
    random = Random(3)  # noqa: S311 -- series of a test
    values = [round(25.0 + random.gauss(0.0, 1.0), 3) for _ in range(600)]
    case = foreseen_by_prometheus(values)
    agrees(tmp_path, [case])
    raised = sum(b and not a for a, b in zip(case.firing, case.firing[1:], strict=False))
    assert raised >= 3
    assert not any(ours(early(), values))
