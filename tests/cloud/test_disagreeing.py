"""What nobody was told of the engine's alarms becomes steps of the alarms' lives, once."""

from dataclasses import replace

import numpy as np
import pytest

from tests.core.plants import SECOND, START_NS, definition, rules_of
from tocsin_cloud.loops.disagreeing import Standing, orphans, untold
from tocsin_core import engine
from tocsin_core.lifecycle import NEXT, Event, Phase
from tocsin_core.plant import AlarmKind
from tocsin_core.readings import GOOD, Frame

ALL = np.arange(1)


@pytest.mark.parametrize(
    ("latching", "values", "events"),
    [
        (False, [60.0], [Event.RAISE]),
        (False, [60.0, 1.0], [Event.RAISE, Event.RETURN]),
        (True, [60.0, 1.0], [Event.RAISE, Event.RETURN_LATCHED]),
    ],
)
def test_what_was_raised_in_silence_is_told_up_to_where_it_stands(
    values: list[float], events: list[Event], *, latching: bool
) -> None:
    """What has returned since waits for a person all the same, who can acknowledge only what was told."""
    rules = rules_of(replace(definition("P0", AlarmKind.H, 50.0), latching=latching))
    state = engine.initial(rules, START_NS)
    for number, value in enumerate(values, 1):
        now_ns = START_NS + number * SECOND
        state, _ = engine.step(state, rules, Frame.of([0], [now_ns], [value], [GOOD]), [], now_ns)
    steps = list(untold(state, rules, [], ALL))
    assert [step.event for step in steps] == events
    assert all(NEXT[step.phase_from, step.event] == step.phase_to for step in steps)
    assert steps[-1].phase_to == state.phase[0]
    stands = Standing("P0/H", steps[0].onset_ns, Phase(state.phase[0]))
    assert not list(untold(state, rules, [stands], ALL))
    raised_alone = stands._replace(phase=Phase.UNACKNOWLEDGED)
    assert [step.event for step in untold(state, rules, [raised_alone], ALL)] == events[1:]


def test_an_occurrence_that_stood_is_replaced_by_no_other_alarm_than_silence() -> None:
    """Under another plant file it may never have returned: it is closed as no longer watched."""
    rules = rules_of(definition("P0", AlarmKind.H, 50.0))
    state = engine.initial(rules, START_NS)
    state, _ = engine.step(state, rules, Frame.of([0], [START_NS], [60.0], [GOOD]), [], START_NS)
    before = Standing("P0/H", START_NS - SECOND, Phase.UNACKNOWLEDGED)
    (step,) = untold(state, rules, [before], ALL)
    assert (step.event, step.phase_from, step.superseded_ns) == (Event.RAISE, Phase.NORMAL, 0)
    assert orphans(state, rules, {"before": before}, [step]) == {"before"}
    (step,) = untold(state, rules, [waits := before._replace(phase=Phase.RETURNED_UNACKNOWLEDGED)], ALL)
    assert (step.phase_from, step.superseded_ns) == (waits.phase, waits.raised_ns)
    assert orphans(state, rules, {"before": waits}, [step]) == set()
