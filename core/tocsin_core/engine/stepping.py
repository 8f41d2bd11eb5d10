"""One step: readings into the state, then what people ask and another end tells, then what the clock brings."""

from collections.abc import Sequence
from operator import itemgetter
from typing import Final

import numpy as np

from tocsin_core.engine.clock import advance_clock
from tocsin_core.engine.commands import obey
from tocsin_core.engine.computing import compute
from tocsin_core.engine.elsewhere import decide, hear
from tocsin_core.engine.first_out import hidden_members, mark_first_out
from tocsin_core.engine.gating import as_measured, suppressing
from tocsin_core.engine.rounds import rounds
from tocsin_core.engine.state import Command, Decider, Move, Refusal, State, StepResult, Told, Transition
from tocsin_core.engine.taking import Round
from tocsin_core.readings import Frame
from tocsin_core.rules import Rules

Input = Command | Told | Decider

_key = itemgetter(0)
_NO_READINGS: Final = Frame.empty()


def step(state: State, rules: Rules, frame: Frame, inputs: Sequence[Input], now_ns: int) -> tuple[State, StepResult]:
    """Advance `state` (it is consumed: go on with the one returned) by `frame`, then by `inputs`, then by the clock.

    Inputs are what people ask, and what another end that decides some of the alarms tells of them (see `elsewhere`).

    Event time decides delays and slopes. `now_ns`, the stamp of the last tick, decides only staleness and the end of
    shelving. Readings are taken in the order of the frame; one that is not newer than its point's last is late:
    counted, and of no effect. So `step` of two frames one after the other equals `step` of both joined, to the bit and
    in the order of the transitions. Readings of points beyond those of the rules, and of computed points, are nobody's
    business here. A bad reading leaves process alarms as they are, except that a return that was waiting for its
    off-delay starts to wait anew.

    It costs what the readings cost, not the plant; most of them little (see `rest`).
    """
    elapsed_ns = now_ns - state.now_ns
    state.now_ns = max(now_ns, state.now_ns)
    groups = rules.special.first_out
    hidden = None if groups is None else hidden_members(state, groups)
    moves: list[Move] = []
    late, computed = _take_frame(state, rules, frame, moves)
    moves.sort(key=_key)
    transitions = [transition for _, transition in moves]
    answers = [_take_input(state, rules, each, transitions) for each in inputs]
    refusals = [answer for answer in answers if answer is not None]
    if elapsed_ns > 0:
        transitions += advance_clock(state, rules, elapsed_ns)
    if groups is not None and hidden is not None:
        transitions = mark_first_out(state, groups, transitions, hidden)
    return state, StepResult(transitions, refusals, late, int(elapsed_ns < 0), computed)


def _take_input(state: State, rules: Rules, given: Input, transitions: list[Transition]) -> Refusal | None:
    match given:
        case Command():
            return obey(state, rules, given, transitions)
        case Told():
            hear(state, rules, given, transitions)
        case Decider():
            decide(state, rules, given)
    return None


def _take_frame(state: State, rules: Rules, frame: Frame, moves: list[Move]) -> tuple[int, Frame]:
    """The readings into the state; returns how many were late, and the readings of computed points they led to.

    What they do is ordered by key: place in the frame times (points + 1), plus the number from 1 of the computed point
    that it concerns. So what a reading does to its own point comes before what is computed from it.
    """
    points = len(rules.points)
    key = np.arange(0, len(frame) * (points + 1), points + 1)
    # Computed points come last, and nobody reads them. As unsigned numbers those below 0 are beyond all points too.
    measured = points - len(rules.special.inputs)
    number = frame.point.view(np.uint32)
    if len(frame) and number[number.argmax()] >= measured:
        ours = np.flatnonzero(number < measured)
        frame, key = frame.take(ours), key[ours]
    frame = as_measured(state, rules, frame, key)
    round_ = Round(state, rules, moves, suppressing(state, rules, frame, key))
    late = sum(round_.take(part, key[at]) for part, at in rounds(frame))
    return late, compute(round_) if rules.special.computers else _NO_READINGS
