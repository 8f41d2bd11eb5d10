"""What comes of a mass of alarms is made without Python's looking through all of it for garbage again and again."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.core.plants import SECOND, START_NS, definition, plant_of
from tocsin_cloud.adapters.stream import Position
from tocsin_cloud.loops.held_back import HeldBack
from tocsin_cloud.loops.journal import Step
from tocsin_core import engine
from tocsin_core.garbage import left_alone
from tocsin_core.plant import AlarmKind
from tocsin_core.readings import Frame
from tocsin_core.rules import compile_rules

POINTS = 3000


@contextmanager
def looks() -> Iterator[list[str]]:
    """When it was looked for."""
    found: list[str] = []

    def note(phase: str, _info: dict[str, int]) -> None:
        found.append(phase)

    gc.callbacks.append(note)
    try:
        yield found
    finally:
        gc.callbacks.remove(note)


def test_a_mass_that_is_held_back_is_not_looked_through() -> None:
    """3,000 silences begin at once: what waits of them makes as many lists."""
    rules = compile_rules(plant_of([[definition(f"P{number}", AlarmKind.STALE)] for number in range(POINTS)]))
    now_ns = START_NS
    state, steps = engine.initial(rules, START_NS), list[engine.Transition]()
    while not steps:
        now_ns += SECOND
        state, result = engine.step(state, rules, Frame.empty(), [], now_ns)
        steps = result.transitions
    at, held = Position(1, now_ns), HeldBack(rules)
    mass = [
        Step(each, at, timely=False, shelved_until_ns=None, shelved_once=False, out_of_service=False) for each in steps
    ]
    with looks() as found:
        assert held.take(mass) == []
    # The one for all that was made meanwhile.
    assert held.waiting == POINTS
    assert found.count("start") <= 1


@pytest.mark.parametrize("enabled", [True, False])
def test_it_is_looked_for_afterwards_as_before(*, enabled: bool) -> None:
    """Whatever went wrong meanwhile; and one inside another ends nothing."""
    before = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        with suppress(ZeroDivisionError), left_alone():
            with left_alone():
                assert not gc.isenabled()
            assert not gc.isenabled()
            _ = 1 / 0
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if before else gc.disable)()
