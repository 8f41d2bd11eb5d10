"""Structure: suppression second by second, and the grades of GB 39496-2020."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.detectors import SECOND, START_NS, YES, Rounds, alone_and_together, flags, i64
from tocsin_core.detect import FALSE, TRUE
from tocsin_core.detectors import structure
from tocsin_core.detectors.structure import Grade, Suppression
from tocsin_core.readings import Bool

ON, OFF, LONGEST = 5 * SECOND, 30 * SECOND, 300 * SECOND


def active_slowly(life: list[tuple[int, int, bool]], until: int) -> bool:
    """Second by second: what the trigger last said, and for how long it has said so."""
    active, since = False, None
    told = dict[int, int]()
    for second, said, good in life:
        told[second] = said if good else -1
    for second in range(until + 1):
        if since is not None and second - since >= (30 if active else 5):
            active, since = not active, None
        said = told.get(second, 0)
        if said:
            differs = (said == 1) != active
            since = (second if since is None else since) if differs else None
            if since is not None and second - since >= (30 if active else 5):
                active, since = not active, None
    return active


@given(
    st.lists(st.tuples(st.sampled_from([1, 2, 4, 5, 6, 29, 30, 40]), st.sampled_from([-1, 0, 1]), st.booleans())),
    st.integers(0, 60),
)
def test_suppression_is_what_the_seconds_say(life: list[tuple[int, int, bool]], later: int) -> None:
    """Two numbers and a flag stand for all that the trigger has said."""
    state, second = Suppression.empty(1), 0
    past = []
    on, off = i64(ON), i64(OFF)
    for step, said, good in life:
        second += step
        past.append((second, said, good))
        at = i64(START_NS + second * SECOND)
        state = structure.advance_suppression(state, at, np.full(1, said, np.int8), flags(good), on, off)
    at = i64(START_NS + (second + later) * SECOND)
    told = structure.judge_suppression(state, at, on, off, i64(LONGEST))[0]
    assert told == (TRUE if past and active_slowly(past, second + later) else FALSE)


@given(st.lists(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([-1, 0, 1]), st.booleans()), max_size=4)))
def test_the_same_readings_in_other_portions_give_the_same_state(life: list[list[tuple[int, int, bool]]]) -> None:
    """Nothing depends on which triggers are taken together."""
    rounds: Rounds = []
    for number, part in enumerate(life):
        by_row = {row: (said, good) for row, said, good in part}
        said = np.asarray([s for s, _ in by_row.values()], np.int8)
        at = np.full(len(by_row), START_NS + number * 4 * SECOND)
        rounds.append((i64(*by_row), (at, said, flags(*(g for _, g in by_row.values())))))
    alone_and_together(
        Suppression.empty,
        lambda s, r, c: structure.advance_suppression(s, c[0], c[1], c[2], np.full(len(r), ON), np.full(len(r), OFF)),
        rounds,
    )
    assert Suppression.empty(2).bytes_per_row() == 17


def suppressed_at(state: Suppression, second: int) -> int:
    """What is said of a reading of the flow at this second."""
    at = i64(START_NS + second * SECOND)
    return int(structure.judge_suppression(state, at, i64(ON), i64(OFF), i64(LONGEST))[0])


def told(state: Suppression, second: int, said: np.int8, good: Bool = YES) -> Suppression:
    """The pump says whether it stands still."""
    at = i64(START_NS + second * SECOND)
    return structure.advance_suppression(state, at, np.full(1, said), good, i64(ON), i64(OFF))


def test_a_stopped_pump_suppresses_its_low_flow() -> None:
    """From 5 s after the stop to 30 s after the start; a pump that is not heard of suppresses nothing."""
    state = told(Suppression.empty(1), 0, FALSE)
    state = told(state, 10, TRUE)
    assert [suppressed_at(state, second) for second in (10, 14, 15, 310, 311)] == [FALSE, FALSE, TRUE, TRUE, FALSE]
    state = told(told(state, 100, TRUE), 200, FALSE)
    assert [suppressed_at(state, second) for second in (200, 229, 230)] == [TRUE, TRUE, FALSE]


def test_nothing_is_suppressed_on_a_guess() -> None:
    """A state that is not good ends the suppression as a start of the pump does."""
    state = told(told(Suppression.empty(1), 0, TRUE), 100, TRUE, ~YES)
    assert [suppressed_at(state, second) for second in (100, 130)] == [TRUE, FALSE]


N, B, Y, OR, R = Grade


@pytest.mark.parametrize(
    ("points", "item"),
    [
        ([N, N], N),
        ([B, B, B], B),
        ([B, B, B, B], Y),
        ([B, B, B, Y], Y),
        ([Y, Y], Y),
        ([Y, Y, Y], OR),
        ([B, B, B, B, Y, Y], Y),
        ([Y, Y, OR], OR),
        ([OR, OR], R),
        ([N, R], R),
    ],
)
def test_points_make_an_item(points: list[Grade], item: Grade) -> None:
    """GB 39496-2020 5.5.4: 4 blue -> yellow, 3 yellow -> orange, 2 orange -> red."""
    first = i64(0, len(points), len(points) + 1)
    told = structure.item_grade(np.asarray([*points, N], np.uint8), first)
    assert told.tolist() == [item, N]


@pytest.mark.parametrize(
    ("items", "pond"), [([B] * 4, Y), ([B] * 4 + [Y, Y], OR), ([B] * 3 + [Y, Y], Y), ([Y] * 3 + [OR], R), ([R, N], R)]
)
def test_items_make_a_pond(items: list[Grade], pond: Grade) -> None:
    """Four blue items count as a yellow one; the rest of the rule is likely."""
    assert structure.pond_grade(np.asarray(items, np.uint8), i64(0, len(items)))[0] == pond


@given(st.lists(st.lists(st.sampled_from(list(Grade)), min_size=1, max_size=9), min_size=1, max_size=5))
def test_grades_of_many_groups(groups: list[list[Grade]]) -> None:
    """Many groups in one call get what each gets by counting."""
    first = np.cumsum([0, *(len(group) for group in groups)])
    flat = np.asarray([grade for group in groups for grade in group], np.uint8)
    items, ponds = structure.item_grade(flat, first), structure.pond_grade(flat, first)
    for row, group in enumerate(groups):
        count = Counter(group)
        steps = ((B, 4, Y), (Y, 3, OR), (OR, 2, R))
        assert items[row] == max([*group, *(higher for which, enough, higher in steps if count[which] >= enough)])
        for which, enough, higher in steps:
            count[higher] += count[which] // enough
        assert ponds[row] == max((grade for grade in Grade if count[grade] and grade != N), default=N)
