"""Plays recorded readings through the engine: ticks from the data's own time, everything between two in one step."""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np

from tocsin_core import engine
from tocsin_core.engine import FIRST_WORD_NS, LONGEST_TICK_NS, Command, Transition
from tocsin_core.lifecycle import Event, Verb
from tocsin_core.plant import AlarmKind
from tocsin_core.readings import I64, Bool, Frame
from tocsin_core.rules import NS, Rules

TICK_NS: Final = NS

# Where nobody is silent a tick changes nothing, and the longest that the engine takes for regular ones will do.
REST_NS: Final = LONGEST_TICK_NS

# How much longer than a stale alarm's time its point is watched: the tick before its last reading, the one that finds
# it silent, and one to spare.
SLACK_NS: Final = 3 * TICK_NS

FOREVER: Final = np.iinfo(np.int64).max // 4

_RETURNS: Final = (Event.RETURN, Event.RETURN_LATCHED)

PORTION: Final = 20_000  # readings from one sign of life to the next


class Played(NamedTuple):
    """A portion of the recording: how many readings, of them late ones, what the alarms did, and what was computed."""

    readings: int
    late: int
    transitions: list[Transition]
    computed: Frame


class Occurrence(NamedTuple):
    """One raising of an alarm, at `value`; `returned_ns` is None where it stood to the end.

    `reason` says what lies behind it where there is something to say: the points that contribute most to a unit's
    score, the vote that was left, which alarm of a group came first.
    """

    definition: int
    raised_ns: int
    returned_ns: int | None
    value: float
    reason: str = ""


def judged(rules: Rules, frame: Frame) -> Bool:
    """bool[D]: the definitions that the recording has something to say on.

    Not those of points without readings (a computed one has them where a member has), and no `stale` of a point that
    was recorded (in the median) more seldom than the alarm waits: that silence is the recording's, not an instrument's.
    """
    usual = _usual_interval_ns(frame, len(rules.points))
    for computed, members in rules.special.inputs.items():
        usual[computed] = min((each for each in usual[list(members)].tolist() if each >= 0), default=-1)
    place = {point: index for index, point in enumerate(rules.points)}
    answer = np.ones(len(rules.definitions), np.bool_)
    for number, definition in enumerate(rules.definitions):
        index = place.get(definition.point)
        if index is not None and usual[index] < 0:
            answer[number] = False
        elif index is not None and definition.kind is AlarmKind.STALE:
            answer[number] = usual[index] < definition.after_s * NS
    return answer


def _usual_interval_ns(frame: Frame, points: int) -> I64:
    """The median time between two readings of each point; 0 where there is one reading, -1 where there is none."""
    order = np.lexsort((frame.time_ns, frame.point))
    point, time_ns = frame.point[order], frame.time_ns[order]
    usual = np.full(points, -1, np.int64)
    usual[point] = 0
    inside = np.flatnonzero(point[1:] == point[:-1])
    owner, gap = point[inside], np.diff(time_ns)[inside]
    ranked = np.lexsort((gap, owner))
    owner, gap = owner[ranked], gap[ranked]
    first = np.flatnonzero(np.r_[True, owner[1:] != owner[:-1]]) if len(owner) else np.zeros(0, np.int64)
    count = np.diff(np.r_[first, len(owner)])
    usual[owner[first]] = gap[first + count // 2]
    return usual


def play(rules: Rules, frame: Frame) -> Iterator[Played]:
    """Play `frame` (ascending in time) through `engine.step`, portion by portion.

    The clock is the data's: it ticks each second while some point is silent for nearly as long as its stale alarm
    waits, or as it counts in a computed point, and where there are first-out groups, so that what has returned is
    answered before the next trip; each five seconds otherwise, for then a tick changes nothing.
    Readings from one tick to the next go into the engine in one step under the stamp of the first, as those that
    arrive live do; but what has returned is answered before the next that may trip a first-out group.
    """
    if not len(frame):
        return
    frame = engine.words_first(rules, frame)
    ticks = _ticks(rules, frame)
    edges: I64 = np.r_[ticks, frame.time_ns[-1] + 1]
    cuts = np.searchsorted(frame.time_ns, edges)
    state = engine.initial(rules, int(ticks[0]))
    pauses = _pauses(rules, frame)
    done, late = 0, 0
    transitions: list[Transition] = []
    computed: list[Frame] = []
    for now, begin, end in zip(ticks.tolist(), cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
        state, told = engine.step(state, rules, Frame.empty(), [], now)
        transitions += told.transitions
        for first, last in _pieces(begin, end, pauses):
            state, told = engine.step(state, rules, frame.take(slice(first, last)), [], now)
            transitions += told.transitions
            computed.append(told.computed)
            late += told.late
            if answers := _answers(told.transitions):
                state, _ = engine.step(state, rules, Frame.empty(), answers, now)
        if end - done >= PORTION:
            yield Played(end - done, late, transitions, Frame.concat(computed))
            done, late, transitions, computed = end, 0, [], []
    yield Played(len(frame) - done, late, transitions, Frame.concat(computed))


def _pauses(rules: Rules, frame: Frame) -> I64:
    """The places in `frame` of the first reading of each moment at which alarms of first-out groups may be raised."""
    groups = rules.special.first_out
    if groups is None:
        return np.zeros(0, np.int64)
    concerns = np.zeros(len(rules.points), np.bool_)
    for point in rules.point[groups.every].tolist():
        concerns[[point, *rules.special.inputs.get(point, ())]] = True
    here = frame.time_ns[concerns[frame.point]]
    return np.unique(np.searchsorted(frame.time_ns, here))


def _pieces(begin: int, end: int, pauses: I64) -> Iterator[tuple[int, int]]:
    """`begin` to `end`, if that is not empty, cut at the `pauses` (ascending) in between."""
    inside = pauses[np.searchsorted(pauses, begin, "right") : np.searchsorted(pauses, end)].tolist()
    edges = [begin, *inside, end]
    return pairwise(edges) if end > begin else iter(())


def _answers(transitions: Iterable[Transition]) -> list[Command]:
    """What somebody says to alarms that have returned: what nobody answers stays, and holds its first-out group."""
    return [
        Command(verb, each.definition, each.time_ns, "replay", onset_ns=each.onset_ns)
        for each in transitions
        if each.event in _RETURNS
        for verb in (Verb.ACKNOWLEDGE, Verb.RESET)
    ]


def _ticks(rules: Rules, frame: Frame) -> I64:
    """The whole seconds at which the clock ticks, ascending; the first is not after the first reading."""
    begin, end = frame.time_ns[[0, -1]] // TICK_NS * TICK_NS
    often = REST_NS if rules.special.first_out is None else TICK_NS
    rest = np.maximum(np.unique(frame.time_ns // often) * often, begin)
    return np.unique(np.concatenate([rest, *_silences(rules, frame), [end]]))


def _silences(rules: Rules, frame: Frame) -> list[I64]:
    """The ticks around silences that may tell, from the last reading until all that they tell is told or it is over.

    One raises a stale alarm; of a computed point's member it ends what its last reading counts for.
    """
    shortest, longest = _waits(rules, frame)
    known = np.flatnonzero(_usual_interval_ns(frame, len(rules.points)) >= 0)
    # A point is listened to until the last reading of the whole, whoever's it is.
    first_ns = np.full(len(rules.points), frame.time_ns[0] + FIRST_WORD_NS)
    np.minimum.at(first_ns, frame.point, frame.time_ns)
    point = np.concatenate([known, frame.point, known])
    time_ns = np.concatenate([first_ns[known], frame.time_ns, np.full(len(known), frame.time_ns[-1])])
    order = np.lexsort((time_ns, point))
    point, time_ns = point[order], time_ns[order]
    silent = np.flatnonzero((point[1:] == point[:-1]) & (np.diff(time_ns) >= shortest[point[1:]] - SLACK_NS))
    begin, until = time_ns[silent], time_ns[silent] + longest[point[silent]] + SLACK_NS
    first = begin // TICK_NS
    last = np.minimum(until, time_ns[silent + 1]) // TICK_NS
    return [np.arange(a, b + 1) * TICK_NS for a, b in _joined(first, last)]


def _waits(rules: Rules, frame: Frame) -> tuple[I64, I64]:
    """The shortest and the longest silence of each point that tells something; the shortest is FOREVER where none."""
    shortest, longest = np.full(len(rules.points), FOREVER), np.zeros(len(rules.points), np.int64)
    usual = _usual_interval_ns(frame, len(rules.points))
    for definition, point in zip(rules.definitions, rules.point.tolist(), strict=True):
        wait = round(definition.after_s * NS)
        if definition.kind is AlarmKind.STALE and usual[point] < wait:
            shortest[point], longest[point] = min(shortest[point], wait), max(longest[point], wait)
    for computed, members in rules.special.inputs.items():
        wait, each = rules.special.longest_ns[computed], list(members)
        shortest[each], longest[each] = np.minimum(shortest[each], wait), np.maximum(longest[each], wait)
    return shortest, longest


def _joined(first: I64, last: I64) -> list[tuple[int, int]]:
    """Spans that overlap made one."""
    order = np.argsort(first, kind="stable")
    first, last = first[order], np.maximum.accumulate(last[order])
    if not len(first):
        return []
    starts = np.flatnonzero(np.r_[True, first[1:] > last[:-1]])
    ends = np.r_[starts[1:] - 1, len(first) - 1]
    return list(zip(first[starts].tolist(), last[ends].tolist(), strict=True))


def occurrences(transitions: Iterable[Transition]) -> list[Occurrence]:
    """Every raising that people would have been told of with its return, in order of raising.

    What is suppressed by design counts from the end of that on, if it stands then.
    """
    found: list[Occurrence] = []
    standing: dict[int, int] = {}
    hidden: dict[int, Transition] = {}
    for each in transitions:
        if each.event is Event.RAISE and each.suppressed:
            hidden[each.definition] = each
        elif each.event is Event.RAISE or (each.event is Event.UNSUPPRESS and each.definition in hidden):
            reason = hidden.pop(each.definition, each).reason
            standing[each.definition] = len(found)
            found.append(Occurrence(each.definition, each.time_ns, None, each.value, reason))
        elif each.event in _RETURNS:
            hidden.pop(each.definition, None)
            if each.definition in standing:
                place = standing.pop(each.definition)
                found[place] = found[place]._replace(returned_ns=each.time_ns)
    return sorted(found, key=lambda occurrence: occurrence.raised_ns)
