"""Readings that decide how others are taken: qualities by an instrument's mode, suppression by design."""

from dataclasses import dataclass
from typing import cast

import numpy as np

from tocsin_core.detectors import health, structure
from tocsin_core.engine.state import HERE, Move, State
from tocsin_core.engine.turning import move
from tocsin_core.lifecycle import Event
from tocsin_core.readings import BAD_SENSOR_FAILURE, I64, Frame, is_bad
from tocsin_core.rules import Rules
from tocsin_core.special.gates import MODES, SUPPRESSIONS, Course, SuppressionGates, heard_by
from tocsin_core.special.watches import LoopDetector


def as_measured(state: State, rules: Rules, frame: Frame, key: I64) -> Frame:
    """`frame` with the qualities that failed current loops and the modes of the instruments leave to their readings.

    A broken wire reads as the low end of everything: it must neither raise nor clear a process alarm.
    """
    quality = frame.quality
    for watch in rules.special.watches:
        if isinstance(watch.detector, LoopDetector):
            here, row = watch.hears(frame)
            broken = here[watch.detector.failed(row, frame.value[here]) & ~is_bad(quality[here])]
            quality = quality.copy()
            quality[broken] = BAD_SENSOR_FAILURE
    if quality is not frame.quality:
        frame = Frame(frame.point, frame.time_ns, frame.value, quality)
    modes = rules.special.modes
    if modes is None:
        return frame
    course = modes.run(cast("health.Modes", state.tables[MODES]), frame, key, state.time_ns)
    return Frame(frame.point, frame.time_ns, frame.value, modes.quality(course, frame, key))


def words_first(rules: Rules, frame: Frame) -> Frame:
    """`frame`, of one message say, with what tells how others are taken before all else that was read at that moment.

    An instrument's status word may stand behind its gas: the first it reads as it warms up would be the plant's gas.
    """
    gates = rules.special.modes, rules.special.suppressions
    words = np.zeros(len(frame), np.bool_)
    for gate in gates:
        if gate is not None:
            words |= heard_by(gate.trigger, frame.point)
    if not words.any():
        return frame
    moment = np.cumsum(np.diff(frame.time_ns, prepend=frame.time_ns[0]) != 0)
    return frame.take(np.lexsort((~words, moment)))


@dataclass(frozen=True, slots=True)
class Suppressing:
    """The suppressions of a step, as they went through its readings."""

    gates: SuppressionGates
    course: Course[structure.Suppression]

    def apply(self, state: State, frame: Frame, key: I64, moves: list[Move]) -> None:
        """Begin and end suppressions by design at the readings of `frame` (no point twice, none late)."""
        definition, source, wanted = self.gates.suppressed(self.course, frame, key)
        ours = state.elsewhere[definition] == HERE
        for each in np.flatnonzero(ours & (wanted != state.suppressed[definition])).tolist():
            number, reading = int(definition[each]), int(source[each])
            state.suppressed[number] = wanted[each]
            state.unseen[number] = False
            event = Event.SUPPRESS if wanted[each] else Event.UNSUPPRESS
            told = move(state, number, event, int(frame.time_ns[reading]), float(frame.value[reading]))
            moves.append((int(key[reading]), told))


def suppressing(state: State, rules: Rules, frame: Frame, key: I64) -> Suppressing | None:
    """The suppressions through the readings of `frame`; None where the plant has none."""
    gates = rules.special.suppressions
    if gates is None:
        return None
    table = cast("structure.Suppression", state.tables[SUPPRESSIONS])
    return Suppressing(gates, gates.run(table, frame, key, state.time_ns))
