"""Holds what stands in alarm to costing no more than what is quiet: it is judged only when it may change."""

import numpy as np
import pytest

from tests.core.plants import SECOND, START_NS
from tocsin_cli.bench.synthetic import rules_of
from tocsin_core import detect, engine
from tocsin_core.detect import Expectation
from tocsin_core.plant import AlarmKind
from tocsin_core.readings import F64, GOOD, Frame

POINTS = 10
STANDS_S = 400
HIGH, QUIET = 85.0, 50.0


def test_a_plant_that_stands_in_alarm_is_at_rest_until_it_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of minutes of readings beyond a limit none is judged; each alarm returns at the end of its delay."""
    judged: list[int] = []
    rate = detect.rate

    def counting(expected: Expectation, setpoint: F64) -> F64:
        judged.append(len(setpoint))
        return rate(expected, setpoint)

    monkeypatch.setattr(detect, "rate", counting)
    rules, dice = rules_of(POINTS), np.random.default_rng(1)
    high = {number for number, each in enumerate(rules.definitions) if each.kind is AlarmKind.H}
    state, told = engine.initial(rules, START_NS), set[tuple[int, int]]()
    for second in range(2 * STANDS_S):
        if second == STANDS_S // 2:
            assert judged, "what the first readings stirred up is judged, and this test sees it"
            judged.clear()
        if second == STANDS_S:
            assert not judged
        now_ns = START_NS + second * SECOND
        values = (HIGH if second < STANDS_S else QUIET) + 0.3 * dice.standard_normal(POINTS)
        frame = Frame.of(list(range(POINTS)), [now_ns] * POINTS, values, [GOOD] * POINTS)
        state, result = engine.step(state, rules, frame, [], now_ns)
        told |= {(each.definition, second) for each in result.transitions if each.definition in high}
    ends_s = {(number, STANDS_S + round(rules.definitions[number].off_delay_s)) for number in high}
    assert told == ends_s | {(number, 0) for number in high}
