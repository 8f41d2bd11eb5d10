"""Computed points: their readings worked out from those of a step, and judged like any others."""

import numpy as np

from tocsin_core.engine.rounds import rounds
from tocsin_core.engine.state import Move
from tocsin_core.engine.taking import Round
from tocsin_core.lifecycle import Event
from tocsin_core.readings import I64, Frame
from tocsin_core.special.computed import Computed, Heard, Turned


def compute(work: Round) -> Frame:
    """The readings of computed points that the readings heard in `work` lead to; what they bring joins its moves.

    A computed reading is of the time of the reading that brought it, or just after the one before: members of one
    group are not read at one moment, and no two readings of a point may have one time.
    """
    if not work.heard:
        return Frame.empty()
    state, rules = work.state, work.rules
    frame, key = _in_order(work.heard)
    heard = Heard(frame, state.now_ns, _turned(work.moves, key), state.active)
    parts = [computer.compute(state.tables, state.units, heard) for computer in rules.special.computers]
    found = Frame.concat(part.frame for part in parts)
    source = np.concatenate([part.source for part in parts])
    said = np.concatenate([part.said for part in parts])
    keys = key[source] + found.point + 1
    order = np.argsort(keys, kind="stable")
    found, keys, said = found.take(order), keys[order], said[order]
    told = Round(state, rules, [], work.suppressing)
    times = np.empty(len(found), np.int64)
    for part, at in rounds(found):
        times[at] = np.maximum(part.time_ns, state.time_ns[part.point] + 1)
        told.take(Frame(part.point, times[at], part.value, part.quality), keys[at], said[at])
    work.moves.extend(_with_reasons(told, keys, order, parts))
    return Frame(found.point, times, found.value, found.quality)


def _in_order(heard: list[tuple[Frame, I64]]) -> tuple[Frame, I64]:
    """The readings heard, in arrival order, with their keys."""
    frame, key = Frame.concat(part for part, _ in heard), np.concatenate([part for _, part in heard])
    order = np.argsort(key)
    return frame.take(order), key[order]


def _turned(moves: list[Move], key: I64) -> list[Turned]:
    """What became of the alarms of the points heard, in order; `key` (ascending) is that of each reading heard."""
    found = []
    for each, told in sorted(moves, key=lambda moved: moved[0]):
        place = int(np.searchsorted(key, each))
        if place < len(key) and key[place] == each and told.event in (Event.RAISE, Event.RETURN, Event.RETURN_LATCHED):
            found.append(Turned(place, told.definition, told.event is Event.RAISE))
    return found


def _with_reasons(told: Round, keys: I64, order: I64, parts: list[Computed]) -> list[Move]:
    """What became of the alarms of computed points; a raising says what lies behind its reading.

    The reading of `keys[i]` (ascending) is number `order[i]` of all parts joined.
    """
    starts = np.cumsum([0, *(len(part.frame) for part in parts)])
    moves = []
    for key, each in told.moves:
        if each.event is Event.RAISE:
            number = int(order[np.searchsorted(keys, key)])
            part = int(np.searchsorted(starts, number, "right")) - 1
            moves.append((key, each._replace(reason=parts[part].why(number - int(starts[part])))))
        else:
            moves.append((key, each))
    return moves
