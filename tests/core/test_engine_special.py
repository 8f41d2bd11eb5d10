"""Detectors, gates, computed points and first-out in the engine, told by hand."""

from collections.abc import Sequence
from dataclasses import replace
from math import nan
from random import Random

import numpy as np
import pytest

from tests.core.plants import SECOND, START_NS, definition, plant_of
from tocsin_core import normal
from tocsin_core.detectors import structure
from tocsin_core.detectors.change import Calibration
from tocsin_core.detectors.columns import Columns
from tocsin_core.engine import (
    Command,
    State,
    Transition,
    initial,
    kept,
    labelled,
    laid,
    restore,
    set_back,
    snapshot,
    step,
)
from tocsin_core.lifecycle import Event, Phase, Verb
from tocsin_core.plant import AlarmDefinition, AlarmKind, Plant, Priority
from tocsin_core.plant.computed import Balance, Compute, Grade, Median, Normal, Spread, Vote
from tocsin_core.plant.definition import Suppressor
from tocsin_core.plant.point import ModeSource
from tocsin_core.readings import BAD_SENSOR_FAILURE, GOOD, I64, U8, Frame
from tocsin_core.rules import MAX_SHELVE_S, Rules, compile_rules
from tocsin_core.special import computed as special

Row = tuple[int, float, float] | tuple[int, float, float, int]
"""Point, second, value, and where it is not good its quality."""


def frame(*rows: Row) -> Frame:
    """These readings, in this order."""
    return Frame.of(
        [row[0] for row in rows],
        [START_NS + round(row[1] * SECOND) for row in rows],
        [row[2] for row in rows],
        [row[3] if len(row) > 3 else GOOD for row in rows],
    )


def told(transitions: Sequence[Transition], rules: Rules) -> list[tuple[str, str, float]]:
    """Alarm, event and second of each."""
    return [
        (rules.definitions[each.definition].id, each.event.text, round((each.time_ns - START_NS) / SECOND, 3))
        for each in transitions
    ]


def play(rules: Rules, *rows: Row, portions: int = 1) -> tuple[State, list[Transition], Frame]:
    """The readings through a fresh engine, in one frame or in several with restarts between them.

    What is kept of the state before a step is not of the state after it.
    """
    state, transitions, computed = initial(rules, START_NS), [], []
    for part in np.array_split(np.arange(len(rows)), portions):
        before, held = snapshot(state, rules), kept(state, rules)
        state, result = step(state, rules, frame(*(rows[i] for i in part.tolist())), [], START_NS)
        transitions += result.transitions
        computed.append(result.computed)
        assert snapshot(laid(labelled(held, rules), rules), rules) == before
        if portions > 1:
            state = restore(snapshot(state, rules), rules)
    return state, transitions, Frame.concat(computed)


def computing(plant: Plant, compute: Compute, definitions: Sequence[AlarmDefinition], unit: str = "") -> Plant:
    """`plant` with one point more, `C`, that is computed."""
    index = len(plant.points)
    model = replace(
        plant.points[0],
        index=index,
        config=plant.points[0].config.model_copy(update={"id": "C"}),
        definitions=tuple(replace(each, id=f"C/{each.kind}", point="C") for each in definitions),
        compute=compute,
        unit=unit,
    )
    return replace(plant, points=(*plant.points, model))


def test_the_mean_of_a_quarter_of_an_hour_is_alarmed_on() -> None:
    """40 ppm reach a STEL of 30 once enough is measured; the mean falls below 28 long after the gas."""
    stel = replace(definition("P0", AlarmKind.STEL, 30.0), deadband=2.0, hold_s=10.0)
    rules = compile_rules(plant_of([[stel]]))
    rows = [(0, s, 40.0) for s in range(0, 901, 5)] + [(0, s, 0.0) for s in range(905, 1805, 5)]
    for portions in (1, 7):
        _, transitions, _ = play(rules, *rows, portions=portions)
        assert told(transitions, rules) == [("P0/stel", "raise", 675.0), ("P0/stel", "return", 1180.0)]


def test_a_stuck_instrument_is_found_and_its_zero_is_not() -> None:
    """Ten equal readings over a minute are stuck at 5, and are none at the zero of a gas sensor."""
    stuck = replace(definition("P0", AlarmKind.STUCK), window_s=60.0, floor=0.0, zero=0.0, zero_band=1.0)
    rules = compile_rules(plant_of([[stuck]]))
    assert told(play(rules, *[(0, s, 5.0) for s in range(0, 100, 5)])[1], rules) == [("P0/stuck", "raise", 60.0)]
    assert play(rules, *[(0, s, 0.4) for s in range(0, 100, 5)])[1] == []


def test_a_spike_is_told_once_and_no_limit_waits_for_it() -> None:
    """The limit stands at the spike itself, the spike is known at the reading after it."""
    spike = replace(definition("P0", AlarmKind.SPIKE), floor=0.1, off_delay_s=3.0)
    rules = compile_rules(plant_of([[definition("P0", AlarmKind.H, 50.0), spike]]))
    rows = [(0, s, 90.0 if s == 40 else 20.0) for s in range(50)]
    assert told(play(rules, *rows)[1], rules) == [
        ("P0/H", "raise", 40.0),
        ("P0/H", "return", 41.0),
        ("P0/spike", "raise", 41.0),
        ("P0/spike", "return", 45.0),
    ]


def test_a_loop_current_off_its_band_is_a_failure() -> None:
    """-2.5 % of the range is 3.6 mA: NE 43."""
    loop = replace(definition("P0", AlarmKind.LOOP), low=0.0, high=100.0, on_delay_s=4.0)
    rules = compile_rules(plant_of([[loop]]))
    rows = [(0, s, -3.0 if 10 <= s < 20 else 1.0) for s in range(25)]
    assert told(play(rules, *rows)[1], rules) == [("P0/loop", "raise", 14.0), ("P0/loop", "return", 20.0)]


def test_a_broken_wire_neither_raises_nor_clears_a_process_alarm() -> None:
    """0 mA reads as -25 % of the range: bad, so that the gas alarm stands and a low alarm does not come."""
    kinds = [definition("P0", AlarmKind.H, 50.0), definition("P0", AlarmKind.L, 5.0)]
    loop = replace(definition("P0", AlarmKind.LOOP), low=0.0, high=100.0, on_delay_s=4.0)
    rules = compile_rules(plant_of([[*kinds, loop]]))
    rows = [(0, s, 60.0 if s < 10 else -25.0 if s < 20 else 60.0) for s in range(25)]
    assert told(play(rules, *rows)[1], rules) == [
        ("P0/H", "raise", 0.0),
        ("P0/loop", "raise", 14.0),
        ("P0/loop", "return", 20.0),
    ]


def test_a_shift_is_found_by_both_charts() -> None:
    """A shift by three standard deviations is beyond h = 5 after three samples: 3 x 2.5."""
    charts = Calibration(20.0, 1.0, 0.0, 0.0, 1.0, 0.5, 5.0, 0.1, 0.1, 2.8, 0.1)
    kinds = [replace(definition("P0", kind), charts=charts) for kind in (AlarmKind.CUSUM, AlarmKind.EWMA)]
    rules = compile_rules(plant_of([kinds]))
    rows = [(0, s, 23.0 if s >= 5 else 20.0) for s in range(12)]
    assert told(play(rules, *rows)[1], rules) == [("P0/cusum", "raise", 7.0), ("P0/ewma", "raise", 7.0)]


def test_calibration_gas_raises_nothing() -> None:
    """While the status word says calibration, and 30 s after, the gas reading is out of service."""
    plant = plant_of([[definition("P0", AlarmKind.H, 25.0), definition("P0", AlarmKind.BAD)], []])
    source = ModeSource("P1", code_mask=0, warm_up=0b01, calibration=0b10, settle_s=30.0)
    plant = replace(plant, points=(replace(plant.points[0], mode_source=source), plant.points[1]))
    rules = compile_rules(plant)
    rows: list[Row] = [(0, 0, 1.0), (1, 1, 2.0), (0, 2, 60.0), (1, 10, 0.0), (0, 20, 60.0), (0, 40, 1.0), (0, 41, 60.0)]
    for portions in (1, 3, 7):
        assert told(play(rules, *rows, portions=portions)[1], rules) == [
            ("P0/bad", "raise", 2.0),
            ("P0/bad", "return", 40.0),
            ("P0/H", "raise", 41.0),
        ]


def test_a_stopped_pump_suppresses_its_low_flow() -> None:
    """The alarm stands all the while, but nobody is told; when the pump runs again, its end of hiding is."""
    by = Suppressor("P1", low=-0.5, high=0.5, on_delay_s=0.0, off_delay_s=5.0, longest_s=60.0)
    plant = plant_of([[replace(definition("P0", AlarmKind.L, 10.0), suppressed_by=by)], []])
    rules = compile_rules(plant)
    rows: list[Row] = [(1, 0, 1.0), (0, 1, 50.0), (1, 2, 0.0), (0, 3, 5.0), (1, 4, 1.0), (0, 5, 5.0), (0, 9, 5.0)]
    for portions in (1, 4, 7):
        _, transitions, _ = play(rules, *rows, portions=portions)
        assert told(transitions, rules) == [
            ("P0/L", "suppress", 3.0),
            ("P0/L", "raise", 3.0),
            ("P0/L", "unsuppress", 9.0),
        ]
        assert [each.suppressed for each in transitions] == [True, True, False]


@pytest.mark.parametrize("latching", [False, True])
def test_what_was_hidden_by_design_all_the_while_asks_for_no_answer(*, latching: bool) -> None:
    """Nobody has seen it: what is shown after it is normal, also where it latches, and nobody has to reset it."""
    by = Suppressor("P1", low=-0.5, high=0.5, on_delay_s=0.0, off_delay_s=5.0, longest_s=60.0)
    low = replace(definition("P0", AlarmKind.L, 10.0), suppressed_by=by, latching=latching)
    rules = compile_rules(plant_of([[low], []]))
    rows: list[Row] = [(1, 0, 0.0), (0, 1, 5.0), (1, 2, 1.0), (0, 3, 50.0), (0, 8, 50.0), (0, 9, 5.0)]
    for portions in (1, 3, 6):
        _, transitions, _ = play(rules, *rows, portions=portions)
        assert told(transitions, rules) == [
            ("P0/L", "suppress", 1.0),
            ("P0/L", "raise", 1.0),
            ("P0/L", "return-latched" if latching else "return", 3.0),
            ("P0/L", "acknowledge", 3.0),
            *([("P0/L", "reset", 3.0)] if latching else []),
            ("P0/L", "unsuppress", 8.0),
            ("P0/L", "raise", 9.0),
        ]
        for answer in transitions[3:-2]:
            assert (answer.suppressed, answer.who, answer.reason) == (True, "", "suppressed by design all the while")
        assert transitions[-2].phase_to is Phase.NORMAL


def test_what_latched_while_hidden_by_design_holds_no_first_out() -> None:
    """A spare pump's low flow, gone when it starts: the next trip tells its first, and the one after it."""
    by = Suppressor("P2", low=-0.5, high=0.5, on_delay_s=0.0, off_delay_s=0.0, longest_s=60.0)
    low = replace(definition("P0", AlarmKind.L, 10.0), suppressed_by=by, latching=True)
    plant = plant_of([[low], [definition("P1", AlarmKind.H, 50.0)], []])
    rules = compile_rules(replace(plant, first_out={"K-101": ("P0/L", "P1/H")}))
    rows: list[Row] = [(2, 0, 0.0), (0, 1, 5.0), (1, 2, 60.0), (0, 3, 50.0), (1, 4, 0.0)]
    for portions in (1, 3, 5):
        state, transitions, _ = play(rules, *rows, portions=portions)
        ask = Command(Verb.ACKNOWLEDGE, 1, START_NS + 5 * SECOND, "li")
        state, _ = step(state, rules, Frame.empty(), [ask], START_NS + 5 * SECOND)
        _, result = step(state, rules, frame((2, 6, 1.0), (0, 7, 50.0), (1, 8, 60.0)), [], START_NS + 6 * SECOND)
        assert [each.reason for each in (*transitions, *result.transitions) if each.event is Event.RAISE] == [
            "",
            "first out of K-101",
            "first out of K-101",
        ]


@pytest.mark.parametrize(
    "rows",
    [
        [(0, 1, 5.0), (1, 2, 0.0), (0, 3, 5.0), (0, 4, 50.0), (1, 5, 1.0), (0, 12, 50.0)],
        [(1, 0, 0.0), (0, 1, 5.0), (1, 2, 1.0), (0, 7, 5.0), (1, 8, 0.0), (0, 9, 50.0), (1, 10, 1.0), (0, 16, 50.0)],
    ],
    ids=["raised before", "shown in between"],
)
def test_what_was_seen_before_it_was_hidden_by_design_waits_for_its_answer(rows: list[Row]) -> None:
    """That it returned behind a suppression is no answer."""
    by = Suppressor("P1", low=-0.5, high=0.5, on_delay_s=0.0, off_delay_s=5.0, longest_s=60.0)
    rules = compile_rules(plant_of([[replace(definition("P0", AlarmKind.L, 10.0), suppressed_by=by)], []]))
    for portions in (1, 3, len(rows)):
        _, transitions, _ = play(rules, *rows, portions=portions)
        assert (transitions[-1].event, transitions[-1].phase_to) == (Event.UNSUPPRESS, Phase.RETURNED_UNACKNOWLEDGED)
        assert Event.ACKNOWLEDGE not in {each.event for each in transitions}


def test_what_was_hidden_by_design_is_so_after_a_step_of_the_clock_and_asks_where_it_no_longer_is() -> None:
    """Set back it asks for no answer still; by a plant file that suppresses it no more people are told, and asked."""
    by = Suppressor("P1", low=-0.5, high=0.5, on_delay_s=0.0, off_delay_s=5.0, longest_s=60.0)
    low = replace(definition("P0", AlarmKind.L, 10.0), suppressed_by=by)
    rules, shown = (compile_rules(plant_of([[each], []])) for each in (low, replace(low, suppressed_by=None)))
    state, _, _ = play(rules, (1, 0, 0.0), (0, 1, 5.0))
    held = snapshot(state, rules)
    for other, back_s, events in (
        (rules, 3600, [Event.RETURN, Event.ACKNOWLEDGE]),
        (shown, 0, [Event.RETURN]),
    ):
        state = restore(held, other)
        if back_s:
            state = set_back(state, other, START_NS - back_s * SECOND)
        _, result = step(state, other, frame((0, 3 - back_s, 50.0)), [], state.now_ns)
        assert [each.event for each in result.transitions] == events


@pytest.mark.parametrize("back_s", [10, 3600])
@pytest.mark.parametrize("stamped_right", [False, True])
def test_a_clock_set_back_leaves_how_readings_are_taken(back_s: int, *, stamped_right: bool) -> None:
    """What a vote outvotes, what is hidden by design and the gas of a calibration are no alarms of the next reading.

    The stamps follow the clock that was set back, or were right before it, too.
    """
    by = Suppressor("P4", low=-0.5, high=0.5, on_delay_s=2.0, off_delay_s=0.0, longest_s=60.0)
    low = replace(definition("P3", AlarmKind.L, 10.0), suppressed_by=by)
    plant = plant_of([[], [], [], [low], [], [definition("P5", AlarmKind.H, 50.0)], []])
    plant = computing(plant, Vote(rule="vote", of=("P0", "P1", "P2"), need=2), [definition("C", AlarmKind.H, 50.0)])
    gas = replace(plant.points[5], mode_source=ModeSource("P6", 0, 1, 2, 30.0))
    rules = compile_rules(replace(plant, points=(*plant.points[:5], gas, *plant.points[6:])))
    state, transitions, stamped_s = initial(rules, START_NS), [], -back_s if stamped_right else 0
    for second in range(10):
        read = [(1, 1.0), (2, 1.0), (0, 90.0)] + ([(4, 0.0), (6, 2.0)] if second == 0 else [(3, 5.0), (5, 90.0)])
        rows = frame(*((point, second + stamped_s, value) for point, value in read))
        state, result = step(state, rules, rows, [], START_NS + second * SECOND)
        transitions += result.transitions
    assert told(transitions, rules) == [
        ("P3/L", "raise", 1.0 + stamped_s),
        ("P3/L", "suppress", 2.0 + stamped_s),
    ]
    state = set_back(state, rules, START_NS + (10 - back_s) * SECOND)
    for point, value in ((0, 90.0), (1, 1.0), (2, 1.0), (3, 5.0), (5, 90.0)):
        at_ns = START_NS + (10 - back_s) * SECOND
        state, result = step(state, rules, frame((point, 10 - back_s, value)), [], at_ns)
        assert (result.transitions, result.late) == ([], 0)


@pytest.mark.parametrize("to_s", [-3600, 5])
def test_who_was_silent_before_a_clock_was_set_back_has_no_vote_after_it(to_s: int) -> None:
    """One member high, one not, and the third, once high, has been silent for too long: one out of two is no alarm."""
    vote = Vote(rule="vote", of=("P0", "P1", "P2"), need=2, lost="available")
    rules = compile_rules(computing(plant_of([[], [], []]), vote, [definition("C", AlarmKind.H, 50.0)]))
    state = initial(rules, START_NS)
    state, _ = step(state, rules, frame((1, 0, 1.0), (2, 0, 1.0), (0, 0, 90.0)), [], START_NS)
    for second in range(0, 200, 5):
        state, result = step(state, rules, frame((1, second, 1.0), (2, second, 1.0)), [], START_NS + second * SECOND)
        assert not result.transitions
    state = set_back(state, rules, START_NS + to_s * SECOND)
    for second in (to_s + 1, to_s + 2):
        rows = frame((1, second, 90.0), (2, second, 1.0))
        state, result = step(state, rules, rows, [], START_NS + second * SECOND)
        assert not result.transitions


def test_a_calibration_that_was_over_before_a_clock_was_set_back_hides_no_gas_for_as_long() -> None:
    """It counts for half a minute longer, not for the hour by which the clock was ahead."""
    plant = plant_of([[definition("P0", AlarmKind.H, 50.0)], []])
    gas = replace(plant.points[0], mode_source=ModeSource("P1", 0, 1, 2, 30.0))
    rules = compile_rules(replace(plant, points=(gas, plant.points[1])))
    state, _, _ = play(rules, (1, 0, 2.0), (1, 1, 0.0), (0, 2, 90.0))
    state = set_back(state, rules, START_NS - 3600 * SECOND)
    state, result = step(state, rules, frame((0, 30 - 3600, 90.0)), [], START_NS - 3570 * SECOND)
    assert not result.transitions
    state, result = step(state, rules, frame((0, 31 - 3600, 90.0)), [], START_NS - 3569 * SECOND)
    assert told(result.transitions, rules) == [("P0/H", "raise", 31.0 - 3600)]


def test_two_out_of_three_and_what_it_degrades_to() -> None:
    """One high is no alarm, two are; with one lost, one of two is enough, and the alarm says so."""
    vote = Vote(rule="vote", of=("P0", "P1", "P2"), need=2)
    plant = computing(plant_of([[], [], []]), vote, [definition("C", AlarmKind.H, 50.0)])
    rules = compile_rules(plant)
    high: list[Row] = [(0, 0, 10.0), (1, 0, 10.0), (2, 0, 12.0), (1, 1, 70.0), (0, 2, 60.0)]
    _, transitions, computed = play(rules, *high)
    assert computed.value.tolist() == [10.0, 10.0, 10.0, 12.0, 60.0]
    assert [(each.reason, *event) for event, each in zip(told(transitions, rules), transitions, strict=True)] == [
        ("", "C/H", "raise", 2.0)
    ]
    for portions in (1, 2, 5):
        rows: list[Row] = [(0, 0, 20.0), (1, 0, 10.0), (2, 0, 12.0), (1, 1, nan, BAD_SENSOR_FAILURE), (0, 2, 60.0)]
        _, transitions, computed = play(rules, *rows, portions=portions)
        assert computed.value.tolist() == [20.0, 20.0, 12.0, 20.0, 60.0]
        assert [(*event, each.reason) for event, each in zip(told(transitions, rules), transitions, strict=True)] == [
            ("C/H", "raise", 2.0, "1oo2")
        ]


def test_the_member_that_is_off_is_named() -> None:
    """Neighbours more than 5 apart: the one furthest from the median is in the reason."""
    plant = computing(
        plant_of([[], [], []]), Spread(rule="spread", of=("P0", "P1", "P2")), [definition("C", AlarmKind.H, 5.0)]
    )
    rules = compile_rules(plant)
    _, transitions, _ = play(rules, (0, 0, 20.0), (1, 0, 21.0), (2, 0, 20.0), (2, 1, 30.0))
    assert [(each.event, each.reason) for each in transitions] == [(Event.RAISE, "P2")]


def test_a_median_goes_on_without_a_silent_member() -> None:
    """A member not read for 10 s is not used; of two left it is the mean."""
    plant = computing(plant_of([[], [], []]), Median(rule="median", of=("P0", "P1", "P2")), [])
    rules = compile_rules(plant)
    state, found = initial(rules, START_NS), []
    # The third one's clock is ten minutes ahead: it is no more alive for that, and the others are no older.
    heard: list[tuple[int, list[Row]]] = [(0, [(0, 0, 1.0), (1, 0, 2.0), (2, 600, 9.0)]), (4, []), (8, [(0, 8, 1.0)])]
    heard.append((11, [(1, 10.5, 2.0)]))
    for now, rows in heard:
        state, result = step(state, rules, frame(*rows), [], START_NS + now * SECOND)
        found += result.computed.value.tolist()
    assert found == [1.0, 1.5, 2.0, 2.0, 1.5]


def test_readings_of_one_moment_are_computed_one_after_the_other() -> None:
    """No two readings of a point have one time: the second is a nanosecond later."""
    plant = computing(plant_of([[], [], []]), Median(rule="median", of=("P0", "P1", "P2")), [])
    _, _, computed = play(compile_rules(plant), (0, 0, 1.0), (1, 0, 2.0), (2, 0, 9.0), (0, 8, 1.0))
    assert computed.time_ns.tolist() == [START_NS, START_NS + 1, START_NS + 2, START_NS + 8 * SECOND]


@pytest.mark.parametrize("seats", [1, 10, special.MOST_SEATS])
def test_four_blue_points_make_a_yellow_pond(monkeypatch: pytest.MonkeyPatch, seats: int) -> None:
    """GB 39496-2020 5.5.4, reading by reading, however many are graded in one go."""
    monkeypatch.setattr(special, "MOST_SEATS", seats)
    blue = [[replace(definition(f"P{i}", AlarmKind.BLUE, 10.0))] for i in range(4)]
    grade = Grade(rule="grade", items=(("P0", "P1", "P2", "P3"),))
    kinds = [definition("C", AlarmKind.BLUE, 1.0), definition("C", AlarmKind.YELLOW, 2.0)]
    rules = compile_rules(computing(plant_of(blue), grade, kinds))
    rows: list[Row] = [(i, s, 20.0 if s >= 1 + i else 5.0) for s in range(6) for i in range(4)]
    for portions in (1, 5, 24):
        _, transitions, computed = play(rules, *rows, portions=portions)
        assert [each for each in told(transitions, rules) if each[0][0] == "C"] == [
            ("C/blue", "raise", 1.0),
            ("C/yellow", "raise", 4.0),
        ]
        assert computed.value.tolist() == [0.0] * 4 + [1.0] * 15 + [2.0] * 5


def test_ponds_cost_what_is_read_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A storm over all of them in one frame is graded in one go, and a reading grades no pond but its own."""
    ponds, points = 40, 10
    blue = [[definition(f"P{i}", AlarmKind.BLUE, 10.0)] for i in range(ponds * points)]
    plant = plant_of(blue)
    places = [
        replace(
            plant.points[0],
            index=len(blue) + pond,
            config=plant.points[0].config.model_copy(update={"id": f"C{pond}"}),
            definitions=(),
            compute=Grade(rule="grade", items=(tuple(f"P{points * pond + i}" for i in range(points)),)),
        )
        for pond in range(ponds)
    ]
    rules = compile_rules(replace(plant, points=(*plant.points, *places)))
    graded, item_grade = list[int](), structure.item_grade

    def counted(grade: U8, first: I64) -> U8:
        graded.append(len(grade))
        return item_grade(grade, first)

    monkeypatch.setattr(structure, "item_grade", counted)
    state = initial(rules, START_NS)
    state, result = step(state, rules, frame(*((i, 1, 20.0) for i in range(len(blue)))), [], START_NS)
    assert result.computed.value[points - 1 :: points].tolist() == [float(structure.Grade.YELLOW)] * ponds
    assert graded == [(1 + points) * points * ponds]
    state, result = step(state, rules, frame((7, 2, 20.0)), [], START_NS)
    assert result.computed.value.tolist() == [float(structure.Grade.YELLOW)]
    assert graded[1:] == [points]


@pytest.mark.parametrize("word", [1e30, -1e30, 2.0**63])
def test_a_number_that_no_status_word_can_hold_says_nothing(word: float) -> None:
    """One processor makes all flags of it, another none: the detector goes on as its last word said."""
    plant = plant_of([[], [definition("P1", AlarmKind.H, 5.0)]])
    status = replace(plant.points[1], mode_source=ModeSource("P0", 0, 1, 2, 0.0))
    rules = compile_rules(replace(plant, points=(plant.points[0], status)))
    rows: list[Row] = [(0, 0, 2.0), (0, 1, word), (1, 2, 9.0), (0, 3, 0.0), (0, 4, word), (1, 5, 9.0)]
    _, transitions, _ = play(rules, *rows)
    assert told(transitions, rules) == [("P1/H", "raise", 5.0)]


def test_suppressions_and_status_words_cost_what_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the rows of a hundred pumps and detectors a step takes those of the points that were read."""
    by = [Suppressor(f"P{i}", -1.0, 0.0, 0.0, 0.0, 10.0) for i in range(100)]
    low = [[replace(definition(f"P{100 + i}", AlarmKind.L, 5.0), suppressed_by=by[i])] for i in range(100)]
    plant = plant_of([*([] for _ in range(100)), *low])
    status = [
        replace(point, mode_source=ModeSource(f"P{i}", 0, 1, 2, 0.0)) for i, point in enumerate(plant.points[100:])
    ]
    rules = compile_rules(replace(plant, points=(*plant.points[:100], *status)))
    taken, rows = list[int](), Columns.rows

    def counted(table: Columns, index: I64) -> Columns:
        taken.append(len(index))
        return rows(table, index)

    monkeypatch.setattr(Columns, "rows", counted)
    _, transitions, _ = play(rules, (7, 0, 0.0), (107, 1, 1.0))
    assert [each[:2] for each in told(transitions, rules)] == [("P107/L", "suppress"), ("P107/L", "raise")]
    assert max(taken) < 10


def test_a_tank_that_loses_more_than_its_meters_know() -> None:
    """100 m2, 1000 kg/m3: a fall of 1 mm a minute is 1.67 kg/s, of which the meter tells none."""
    tank = Balance(rule="balance", level="P0", outflow=("P1",), table=((0.0, 0.0), (10.0, 1000.0)), density=1000.0)
    plant = plant_of([[], []])
    plant = replace(plant, points=(replace(plant.points[0], unit="m"), replace(plant.points[1], unit="t/h")))
    plant = computing(plant, tank, [definition("C", AlarmKind.H, 3.0)], unit="σ")
    plant = replace(plant, points=(*plant.points[:2], replace(plant.points[2], longest_s=120.0)))
    rules = compile_rules(plant)
    rows: list[Row] = [row for m in range(130) for row in ((1, 60 * m, 0.0), (0, 60 * m + 1, 5.0 - 0.001 * m))]
    for portions in (1, 6):
        _, transitions, computed = play(rules, *rows, portions=portions)
        assert [each[0] for each in told(transitions, rules)] == ["C/H"]
        assert len(computed) == 130
    meters = [row if row[0] == 0 else (1, row[1], 6.0) for row in rows]
    assert play(rules, *meters)[1] == []


def test_a_unit_off_its_normal_running_names_its_points() -> None:
    """Three points that move together; then one goes its own way: the alarm names it, in any portions and restarts."""
    rng = np.random.default_rng(3)
    base = rng.normal(size=900)
    rows = np.column_stack((base, 2 * base, -base)) + rng.normal(size=(900, 3)) * 0.1
    model = normal.learn(rows[:600], ("P0", "P1", "P2"), 1.0)
    plant = computing(
        plant_of([[], [], []]), Normal(rule="normal", model="unit"), [definition("C", AlarmKind.ABNORMAL)]
    )
    rules = compile_rules(replace(plant, models={"unit": model}))
    live = rows[600:].copy()
    live[150:, 1] += 3.0
    readings: list[Row] = [(point, s, float(live[s, point])) for s in range(300) for point in range(3)]
    outcomes = []
    for portions in (1, 9):
        _, transitions, computed = play(rules, *readings, portions=portions)
        outcomes.append(transitions)
        _, judged = normal.judge(model, normal.start(model), live[:299])
        assert computed.value.tolist() == judged.score.tolist()
        raised = next(each for each in transitions if each.time_ns > START_NS + 150 * SECOND)
        assert raised.event is Event.RAISE
        assert raised.reason.startswith("P1 ")
    assert outcomes[0] == outcomes[1]


def test_the_first_of_a_group_is_marked_until_all_are_back() -> None:
    """Of three trips the earliest onset is first-out; after everything is normal again the next one is."""
    plant = plant_of([[definition(f"P{i}", AlarmKind.H, 50.0)] for i in range(3)])
    rules = compile_rules(replace(plant, first_out={"K-101": ("P0/H", "P1/H", "P2/H")}))
    state = initial(rules, START_NS)
    state, result = step(state, rules, frame((1, 5, 60.0), (0, 6, 60.0)), [], START_NS)
    assert [each.reason for each in result.transitions] == ["first out of K-101", ""]
    state, result = step(state, rules, frame((2, 4, 60.0)), [], START_NS)
    assert [each.reason for each in result.transitions] == ["first out of K-101"]


def test_an_alarm_suppressed_by_design_does_not_alarm_again() -> None:
    """The pump of an acknowledged low flow stands: nobody is asked again until it runs, and the flow is low still."""
    by = Suppressor("P1", low=-0.5, high=0.5, on_delay_s=0.0, off_delay_s=0.0, longest_s=1000.0)
    low = replace(definition("P0", AlarmKind.L, 10.0), suppressed_by=by, realarm_s=60.0)
    rules = compile_rules(plant_of([[low], []]))
    state, log, _ = play(rules, (1, 0, 1.0), (0, 1, 5.0))
    now_ns = START_NS + 2 * SECOND
    state, result = step(state, rules, Frame.empty(), [Command(Verb.ACKNOWLEDGE, 0, now_ns, "li")], now_ns)
    log += result.transitions
    for second, row in ((3, (1, 3, 0.0)), (100, (0, 4, 5.0)), (101, (1, 101, 1.0)), (102, (0, 102, 5.0)), (103, None)):
        rows = Frame.empty() if row is None else frame(row)
        state, result = step(state, rules, rows, [], START_NS + second * SECOND)
        log += result.transitions
    assert [(each.event, (each.time_ns - START_NS) // SECOND) for each in log] == [
        (Event.RAISE, 1),
        (Event.ACKNOWLEDGE, 2),
        (Event.SUPPRESS, 4),
        (Event.UNSUPPRESS, 102),
        (Event.REALARM, 102),
    ]


def test_what_is_out_of_service_holds_no_first_out() -> None:
    """A gauge that stands in alarm for weeks until it is repaired keeps no trip from telling its first."""
    plant = plant_of([[definition(f"P{i}", AlarmKind.H, 50.0)] for i in range(3)])
    rules = compile_rules(replace(plant, first_out={"K-101": ("P0/H", "P1/H", "P2/H")}))
    state, told = initial(rules, START_NS), list[str]()

    def ask(verb: Verb, number: int, second: float) -> Command:
        return Command(verb, number, START_NS + round(second * SECOND), "li", "repair")

    for rows, asked in (
        ([(0, 1, 60.0)], [ask(Verb.OUT_OF_SERVICE, 0, 2)]),
        ([(1, 3, 60.0), (2, 4, 60.0), (1, 5, 0.0), (2, 6, 0.0)], [ask(Verb.ACKNOWLEDGE, n, 7) for n in (1, 2)]),
        ([(2, 8, 60.0), (1, 9, 60.0)], [ask(Verb.IN_SERVICE, 0, 10)]),
        ([(1, 11, 0.0), (2, 12, 0.0)], [ask(Verb.ACKNOWLEDGE, n, 13) for n in (1, 2)]),
        ([(1, 14, 60.0)], []),
    ):
        state, result = step(state, rules, frame(*rows), asked, START_NS)
        told += [each.reason for each in result.transitions if each.event is Event.RAISE]
    assert told == ["first out of K-101", "first out of K-101", "", "first out of K-101", "", ""]


def trips(dice: Random) -> tuple[Rules, list[tuple[list[Row], list[tuple[Verb, int, int]]]]]:
    """Two groups with a common member, some hidden by the state of a pump; readings, and what people ask after them."""
    by = Suppressor("P3", low=-0.5, high=0.5, on_delay_s=0.0, off_delay_s=0.0, longest_s=1000.0)
    alarms = [
        replace(
            definition(f"P{n}", AlarmKind.H, 50.0),
            latching=dice.random() < 0.3,
            suppressed_by=by if dice.random() < 0.6 else None,
        )
        for n in range(3)
    ]
    plant = plant_of([*([each] for each in alarms), []])
    groups: dict[str, tuple[str, ...]] = {"K-101": ("P0/H", "P1/H", "P2/H"), "K-102": ("P1/H", "P2/H")}
    life = []
    for turn in range(40):
        rows: list[Row] = [] if turn else [(n, -1, 0.0) for n in range(4)]
        for place in range(dice.randint(0, 12)):
            point = dice.choice([0, 0, 1, 1, 2, 2, 3])
            value = dice.choice([0.0, 1.0]) if point == 3 else dice.choice([0.0, 90.0])
            # Now and then one comes late for the group, though not for its point.
            rows.append((point, 20 * turn + place + dice.choice([0.0, 0.0, 0.0, -15.5]), value))
        verbs = [Verb.ACKNOWLEDGE, Verb.ACKNOWLEDGE, Verb.RESET, Verb.OUT_OF_SERVICE, Verb.IN_SERVICE]
        asked = [(dice.choice(verbs), n, 20 * turn + 15) for n in range(3) if dice.random() < 0.7]
        life.append((rows, asked))
    return compile_rules(replace(plant, first_out=groups)), life


def test_what_was_raised_before_a_group_was_at_rest_is_past() -> None:
    """Told late, it is no first of the next trip, nor when what is later told still later has come to rest since."""
    by = Suppressor("P3", low=-0.5, high=0.5, on_delay_s=0.0, off_delay_s=0.0, longest_s=1000.0)
    alarms = [definition(f"P{n}", AlarmKind.H, 50.0) for n in range(3)]
    plant = plant_of(
        [*([each] for each in alarms), [], [replace(definition("P4", AlarmKind.H, 50.0), suppressed_by=by)]]
    )
    rules = compile_rules(replace(plant, first_out={"K-101": ("P0/H", "P1/H", "P2/H", "P4/H")}))

    def reasons(*stages: tuple[list[Row], list[int]], verb: Verb = Verb.ACKNOWLEDGE) -> list[str]:
        state, told = initial(rules, START_NS), list[str]()
        for rows, answered in stages:
            asked = [Command(verb, n, START_NS + 9 * SECOND, "li", "repair") for n in answered]
            state, result = step(state, rules, frame(*rows), asked, START_NS)
            told += [each.reason for each in result.transitions if each.event is Event.RAISE]
        return told

    one: list[tuple[list[Row], list[int]]] = [([(0, 5, 60.0)], [0]), ([(0, 10, 0.0)], [])]
    late: list[tuple[list[Row], list[int]]] = [([(2, 6, 60.0)], [2]), ([(2, 7, 0.0)], [])]
    first = "first out of K-101"
    assert reasons(*one, ([(1, 8, 60.0)], [])) == [first, ""]
    assert reasons(*one, ([(1, 11, 60.0)], [])) == [first, first]
    assert reasons(*one, *late, ([(1, 8, 60.0)], [])) == [first, "", ""]
    # At the very moment of its rest the next trip begins: what follows is not its first.
    assert reasons(*one[:1], ([(0, 10, 0.0), (1, 10, 60.0), (2, 11, 60.0)], [])) == [first, first, ""]
    # That something is raised and hidden brings no group to rest, nor that what is out of service returns.
    out = reasons(([(0, 5, 60.0)], [0]), ([(0, 20, 0.0)], []), ([(1, 15, 60.0)], []), verb=Verb.OUT_OF_SERVICE)
    assert out == [first, first]
    assert reasons(([(3, 0, 0.0), (4, 20, 60.0)], []), ([(1, 15, 60.0)], [])) == ["", first]


@pytest.mark.parametrize("seed", range(20))
def test_trips_tell_their_first_however_many_lie_in_one_step(seed: int) -> None:
    """In steps of one reading or one command each there is nothing to keep account of within a step."""
    rules, life = trips(Random(seed))  # noqa: S311 -- a story
    whole, apart = initial(rules, START_NS), initial(rules, START_NS)
    for rows, asked in life:
        commands = [Command(verb, n, START_NS + second * SECOND, "li", "repair") for verb, n, second in asked]
        whole, result = step(whole, rules, frame(*rows), commands, START_NS)
        told = list[Transition]()
        for row in rows:
            apart, one = step(apart, rules, frame(row), [], START_NS)
            told += one.transitions
        for command in commands:
            apart, one = step(apart, rules, Frame.empty(), [command], START_NS)
            told += one.transitions
        assert result.transitions == told


@pytest.mark.parametrize("kind", [AlarmKind.CUSUM, AlarmKind.EWMA])
def test_a_chart_without_a_calibration_is_no_rule(kind: AlarmKind) -> None:
    """The plant file's checks refuse it first; nothing is made up in its place."""
    with pytest.raises(ValueError, match=r"P0/.* has no calibration"):
        compile_rules(plant_of([[definition("P0", kind)]]))


def test_nobody_reads_a_computed_point() -> None:
    """A reading that claims to be of a computed point changes nothing; what is computed stays what the members say."""
    plant = computing(plant_of([[], []]), Median(rule="median", of=("P0", "P1")), [definition("C", AlarmKind.H, 50.0)])
    rules = compile_rules(plant)
    _, transitions, computed = play(rules, (2, 0, 90.0), (0, 0, 10.0), (2, 0.5, 90.0), (1, 1, 10.0))
    assert (transitions, computed.value.tolist()) == ([], [10.0, 10.0])


def test_an_alarm_that_nothing_suppresses_any_more_comes_out() -> None:
    """Suppressed when the engine stopped; the plant file no longer says so when it starts again."""
    by = Suppressor("P1", low=-0.5, high=0.5, on_delay_s=0.0, off_delay_s=0.0, longest_s=60.0)
    low = definition("P0", AlarmKind.L, 10.0)
    before = compile_rules(plant_of([[replace(low, suppressed_by=by)], []]))
    state, _, _ = play(before, (1, 0, 0.0), (0, 1, 50.0))
    after = compile_rules(plant_of([[low], []]))
    state = restore(snapshot(state, before), after)
    _, result = step(state, after, frame((0, 2, 5.0)), [], START_NS)
    assert [(each.event, each.suppressed) for each in result.transitions] == [(Event.RAISE, False)]


@pytest.mark.parametrize(
    ("before", "after", "hours"),
    [
        (Priority.LOW, Priority.CRITICAL, 1),
        (Priority.LOW, Priority.HIGH, 8),
        (Priority.LOW, Priority.LOW, 24),
        (Priority.CRITICAL, Priority.LOW, 1),
    ],
)
def test_a_shelf_lasts_no_longer_than_the_new_plant_file_allows(before: Priority, after: Priority, hours: int) -> None:
    """Shelved for as long as its priority allowed; then it is another's: what is critical now is hidden for an hour."""
    high = definition("P0", AlarmKind.H, 50.0)
    was, now = (compile_rules(plant_of([[replace(high, priority=each)]])) for each in (before, after))
    longest_s = MAX_SHELVE_S[before.rank]
    shelve = Command(Verb.SHELVE, 0, START_NS, "li", "repair", until_ns=START_NS + longest_s * SECOND)
    state, _ = step(initial(was, START_NS), was, frame((0, 0, 1.0)), [shelve], START_NS)
    state = restore(snapshot(state, was), now)
    over_ns = START_NS + hours * 3600 * SECOND
    state, result = step(state, now, Frame.empty(), [], over_ns - 1)
    assert result.transitions == []
    _, result = step(state, now, Frame.empty(), [], over_ns)
    assert [each.event for each in result.transitions] == [Event.UNSHELVE]


def test_first_out_goes_on_when_the_plant_has_grown() -> None:
    """A point more in front of the others changes every number, and not who was first."""
    group: dict[str, tuple[str, ...]] = {"K-101": ("P1/H", "P2/H")}
    one = plant_of([[definition(f"P{i}", AlarmKind.H, 50.0)] for i in range(3)])
    small = replace(one, points=tuple(replace(p, index=i) for i, p in enumerate(one.points[1:])), first_out=group)
    before, after = compile_rules(small), compile_rules(replace(one, first_out=group))
    state, _ = step(initial(before, START_NS), before, frame((1, 5, 60.0)), [], START_NS)
    state = restore(snapshot(state, before), after)
    _, result = step(state, after, frame((1, 5, 60.0)), [], START_NS)
    assert [each.reason for each in result.transitions] == ["first out of K-101"]
