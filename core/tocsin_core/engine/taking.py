"""One round of readings into the state, and the alarms of those that may change something."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Self

import numpy as np

from tocsin_core import detect
from tocsin_core.detect import FALSE, I8, NO_ROWS, TRUE, Expectation, Surprise, Trend
from tocsin_core.detectors.columns import members
from tocsin_core.engine.gating import Suppressing
from tocsin_core.engine.rest import OnTrends, forget, recognise
from tocsin_core.engine.shelves import end_shelves
from tocsin_core.engine.state import (
    ELSEWHERE,
    FAR,
    NEVER,
    OURS_UNTIL_TOLD,
    PATIENCE_NS,
    PORTION,
    Move,
    State,
    Transition,
)
from tocsin_core.engine.turning import answered, turn
from tocsin_core.readings import F64, I32, I64, U8, Bool, Frame, is_bad, is_good
from tocsin_core.rules import NS, Rules
from tocsin_core.special import Family

# As arrays: a comparison with an enum costs several times one with these, with a number twice.
_TIME_TO_LIMIT, _ABNORMAL, _LOOP, _BAD, _STALE = (
    np.asarray(family, np.uint8)
    for family in (Family.TIME_TO_LIMIT, Family.ABNORMAL, Family.LOOP, Family.BAD, Family.STALE)
)
_FIRST = np.asarray(0, np.int32)
_NS, _ZERO, _FAR_OFF, _NEVER = np.asarray(float(NS)), np.asarray(0.0), np.asarray(np.inf), np.asarray(NEVER)
_TWO, _FOUR = np.asarray(2), np.asarray(4)
# The answer that turns an alarm: one that is not active, one that is.
_TURNS: Final = np.asarray([TRUE, FALSE])


@dataclass
class Round:
    """What one step works on; `moves` and `heard` (readings of members of computed points, with keys) grow."""

    state: State
    rules: Rules
    moves: list[Move]
    suppressing: Suppressing | None
    heard: list[tuple[Frame, I64]] = field(default_factory=list)

    def take(self, frame: Frame, key: I64, said: I8 | None = None) -> int:
        """`frame` (ascending points, none twice) into the state; returns how many readings were late.

        `key` i64 orders what they bring; `said` i8 is what the computation of computed points answers `abnormal`.
        """
        late, awake = 0, list[I64]()
        for start in range(0, len(frame), PORTION):
            part = frame if len(frame) <= PORTION else frame.take(slice(start, start + PORTION))
            rows = _rows(part.point)
            fresh = part.time_ns > self.state.time_ns[rows]
            if np.count_nonzero(fresh) == len(fresh):
                self._follow(part, key[start : start + PORTION])
                awake.append(start + _take(self.state, self.rules, part, rows))
                continue
            kept = np.flatnonzero(fresh)
            late += len(part) - len(kept)
            if len(kept):
                part = part.take(kept)
                self._follow(part, key[start + kept])
                awake.append(start + kept[_take(self.state, self.rules, part, _rows(part.point))])
        which = awake[0] if len(awake) == 1 else np.concatenate([NO_ROWS, *awake])
        for start in range(0, len(which), PORTION):
            part_of = which[start : start + PORTION]
            judging = Judging.of(frame, key, said, part_of)
            judge(self.state, self.rules, judging, self.moves)
        return late

    def _follow(self, frame: Frame, key: I64) -> None:
        """What goes by every reading: suppressions by design, watches, members of computed points."""
        special = self.rules.special
        if self.suppressing is not None:
            self.suppressing.apply(self.state, frame, key, self.moves)
        for watch in special.watches:
            watch.take(self.state.tables[watch.table_name], frame)
        if special.computers:
            feeding = np.flatnonzero(special.feeds[frame.point])
            if len(feeding):
                self.heard.append((frame.take(feeding), key[feeding]))


class Judging(NamedTuple):
    """Readings whose points are judged in full, each point once."""

    point: I64
    time_ns: I64
    value: F64
    quality: U8
    key: I64
    said: I8 | None

    @classmethod
    def of(cls, frame: Frame, key: I64, said: I8 | None, which: I64) -> Self:
        """Those of `frame` at `which`."""
        told = None if said is None else said[which]
        point = frame.point[which].astype(np.int64)
        return cls(point, frame.time_ns[which], frame.value[which], frame.quality[which], key[which], told)


def _rows(point: I32) -> slice | I64:
    """Ascending points as rows of the state: a slice where none is left out, for columns then need no gathering."""
    start, size = int(point[0]), len(point)
    return slice(start, start + size) if int(point[-1]) - start == size - 1 else point.astype(np.int64)


def _take(state: State, rules: Rules, frame: Frame, rows: slice | I64) -> I64:
    """One portion, of which nothing is late, into the state; returns which readings are to be judged in full."""
    state.time_ns[rows] = frame.time_ns
    state.value[rows] = frame.value
    state.quality[rows] = frame.quality
    state.seen_ns[rows] = state.now_ns
    good = is_good(frame.quality)
    awake = frame.value <= state.quiet_low[rows]
    awake |= frame.value >= state.quiet_high[rows]
    awake |= frame.time_ns >= state.due_ns[rows]
    if np.count_nonzero(good) == len(good):
        awake[_advance_trends(state, rules, frame, rows)] = True
    else:
        awake |= ~good
        seen = np.flatnonzero(good)
        if len(seen):
            heard = frame.take(seen)
            awake[seen[_advance_trends(state, rules, heard, _rows(heard.point))]] = True
    return awake.nonzero()[0]


@np.errstate(all="ignore")
def _advance_trends(state: State, rules: Rules, frame: Frame, rows: slice | I64) -> I64:
    """Good readings into the trends of their points; returns those after which an alarm on a trend may turn."""
    row, source = _trends(rules, rows)
    time_ns, value = frame.time_ns.take(source), frame.value.take(source)
    dt_s = (time_ns - state.trend_ns[row]) / _NS
    origin, tau_s = state.trend_value[row], rules.trend_tau_s[row]
    sums, lately, expected = (_columns(table, row) for table in (state.sums, state.surprise, state.expected))
    trend, expectation = Trend(*sums), Expectation(*expected)
    du = value - origin
    foreseen = expectation.after(dt_s)
    surprise = du - foreseen
    bound = expectation.bound
    wild = (surprise * surprise > bound).nonzero()[0]
    if len(wild):
        found = surprise[wild]
        before = Surprise(*lately.take(wild, axis=1))
        reach_s = np.minimum(tau_s[wild], detect.spread(Trend(*sums.take(wild, axis=1))))
        believed = detect.believed(found, before, bound[wild], dt_s[wild], reach_s)
        cut = believed != found
        wild = wild[cut]
        du[wild] = foreseen[wild] + believed[cut]
        value[wild] = origin[wild] + du[wild]
    lost = detect.advance(trend, dt_s, du, tau_s)
    if len(lost):
        surprise[lost], value[lost] = 0.0, frame.value[source[lost]]
    unknown = detect.expect(trend, rules.trend_floor[row], expectation)
    limit, horizon_s = rules.trend_limit[row], rules.trend_horizon_s[row]
    side, bound = _columns(state.side, row), _columns(state.bound, row)
    stirs = detect.stirs(expectation, value, rules.trend_rate[row], limit, horizon_s, side, bound)
    if len(unknown):
        # Nothing stands on what is not known, and a return does not go on to wait.
        waits = state.waits[:, row]
        stirs[unknown] |= waits[0, unknown] | waits[1, unknown]
    lately[1] = lately[0]
    lately[0] = surprise
    if not isinstance(row, slice):
        state.sums[:, row], state.surprise[:, row], state.expected[:, row] = sums, lately, expected
    state.trend_ns[row] = time_ns
    state.trend_value[row] = value
    return source[stirs.nonzero()[0]]


def _columns(table: F64, row: slice | I64) -> F64:
    """The columns `row` of a table: where nothing is left out, themselves."""
    return table[:, row] if isinstance(row, slice) else table.take(row, axis=1)


def _trends(rules: Rules, rows: slice | I64) -> tuple[slice | I64, I64]:
    """Rows of the trends of the points `rows`, and for each which of the points it is of."""
    if not isinstance(rows, slice):
        return members(rules.trend_first, rows)
    row = slice(int(rules.trend_first[rows.start]), int(rules.trend_first[rows.stop]))
    return row, rules.trend_point[row] - rows.start


class _Asked(NamedTuple):
    """Definitions of the points judged.

    `source` is the reading of its point, `active` whether it is, and `good` whether its reading is (None: all are).
    """

    definition: I64
    source: I64
    active: Bool
    good: Bool | None


def judge(state: State, rules: Rules, judging: Judging, moves: list[Move]) -> None:
    """Every definition of the points judged, whose readings are in the state and in the trends."""
    definition, source = members(rules.first, judging.point)
    active = state.active[definition]
    row = _FOUR * definition
    row += active
    value = judging.value[source]
    turning = value <= rules.low.take(row)
    turning |= value >= rules.high.take(row)
    on_trends = _judge_trends(state, rules, definition, active, turning) if len(state.trend_ns) else None
    asked = _Asked(definition, source, active, None)
    good = is_good(judging.quality)
    sound = np.count_nonzero(good) == len(good)
    if not sound:
        asked, turning = _without_values(state, rules, asked, good[source], turning)
    if rules.special.watchful:
        _judge_special(state, rules, asked, judging, turning)
    _settle(state, rules, asked, judging, turning, moves)
    recognise(state, rules, judging.point, definition, source, on_trends)
    if not sound:
        forget(state, judging.point[~good])


def _without_values(state: State, rules: Rules, asked: _Asked, good: Bool, turning: Bool) -> tuple[_Asked, Bool]:
    """Where the readings are not all `good`, the definitions that are judged all the same, and which of them turn."""
    definition, source, active, _ = asked
    family = rules.family[definition]
    judged = good | (family >= _LOOP)
    # A return waiting for its off-delay must not be carried through by a stretch of bad readings.
    state.since_ns[definition[~judged & active]] = NEVER
    turning = np.where(good, turning, ((family == _BAD) & ~active) | ((family == _STALE) & active))
    asked = _Asked(definition[judged], source[judged], active[judged], good[judged])
    return asked, turning[judged]


@np.errstate(all="ignore")
def _judge_trends(state: State, rules: Rules, definition: I64, active: Bool, turning: Bool) -> OnTrends | None:
    """Which alarms on trends among `definition` turn, into `turning`; returns those alarms.

    One is raised where its line is beyond its set point, and surely so; it returns where the line is inside by more
    than the deadband. Where the value already is beyond the limit, which `turning` tells, there is nothing left to
    foresee: the limit's own alarm speaks, and a warning that stands is kept.
    """
    trends = rules.trend[definition]
    here = (trends >= _FIRST).nonzero()[0]
    if not len(here):
        return None
    number, trend, active, outside = definition[here], trends[here].astype(np.int64), active[here], turning[here]
    early = rules.family[number] == _TIME_TO_LIMIT
    alarms = OnTrends(here, trend, rules.sign[number], rules.setpoint[number], rules.deadband[number], early, outside)
    expected, horizon_s = Expectation(*state.expected.take(trend, axis=1)), rules.trend_horizon_s[trend]
    ahead = detect.time_to_limit(expected, state.trend_value[trend], alarms.sign, alarms.setpoint, horizon_s)
    beyond = detect.rate(expected, alarms.setpoint)
    np.copyto(beyond, ahead, where=early)
    turns = beyond >= _ZERO
    np.copyto(turns, beyond < -alarms.deadband, where=active)
    turns &= expected.noise < _FAR_OFF
    turns = turns > outside
    raising = (turns > active).nonzero()[0]
    if len(raising):
        turns[raising] = _is_sure(state, rules, trend[raising], alarms.sign[raising], beyond[raising], early[raising])
    turning[here] = turns
    return alarms


def _is_sure(state: State, rules: Rules, trend: I64, sign: F64, beyond: F64, early: Bool) -> Bool:
    """Which alarms on trends, `early` warnings or of rates, are `beyond` their set points for more than the errors."""
    slope = detect.errors(Trend(*state.sums.take(trend, axis=1)), Expectation(*state.expected.take(trend, axis=1)))
    sure = detect.is_sure_of_limit(slope, beyond, sign, rules.trend_horizon_s[trend], rules.trend_z[trend])
    if np.count_nonzero(early) < len(early):
        np.copyto(sure, detect.is_sure_of_rate(slope), where=~early)
    return sure


def _judge_special(state: State, rules: Rules, asked: _Asked, judging: Judging, turning: Bool) -> None:
    """Which alarms of the detectors that follow every reading, and of computations, turn, into `turning`."""
    definition, source, active, good = asked
    family, turns = rules.family[definition], _TURNS.take(active)
    if judging.said is not None:
        np.copyto(turning, judging.said[source] == turns, where=family == _ABNORMAL)
    here = np.flatnonzero((family > _TIME_TO_LIMIT) & (family < _BAD))
    for watch in rules.special.watches:
        mine, told = watch.judge(state.tables[watch.table_name], definition[here], family[here])
        at = here[mine]
        turning[at] = told == turns[at]
    if good is not None:
        # A reading that is not good may show a failed loop; that the loop is well again only a good one shows.
        turning[(family == _LOOP) & ~good & active] = False


def _settle(state: State, rules: Rules, asked: _Asked, judging: Judging, turning: Bool, moves: list[Move]) -> None:
    """Run the delays: turn what has been `turning` for its on-delay or its off-delay, and find when the next end."""
    definition, source, active, good = asked
    at = turning.nonzero()[0]
    number, reading = definition[at], source[at]
    since_ns = state.since_ns[number]
    state.since_ns[definition] = NEVER
    state.due_ns[judging.point] = FAR
    if not len(at):
        return
    time_ns, end_ns = judging.time_ns[reading], rules.delay_ns.take(_TWO * number + active[at])
    if good is not None:
        unsure = (rules.family[number] == _BAD) & ~active[at] & ~is_bad(judging.quality[reading])
        end_ns[unsure] = rules.after_ns[number[unsure]]
    np.copyto(since_ns, time_ns, where=since_ns == _NEVER)
    state.since_ns[number] = since_ns
    end_ns += since_ns
    due = (end_ns <= time_ns).nonzero()[0]
    if len(due):
        late_ns = time_ns[due] - end_ns[due]
        _turn(state, rules, _Due(number[due], reading[due], late_ns), judging, moves)
        end_ns[state.since_ns[number] == _NEVER] = FAR
    np.minimum.at(state.due_ns, judging.point[reading], end_ns)


class _Due(NamedTuple):
    """Definitions whose delay is over by their `reading`, and by how much."""

    number: I64
    reading: I64
    late_ns: I64


def _turn(state: State, rules: Rules, due: _Due, judging: Judging, moves: list[Move]) -> None:
    """Turn what is due and decided by this end, or has long been due without a word of the end that decides it.

    What has come up is not left to silence, whatever became of the word; what has gone is: that keeps nobody unwarned.
    """
    number, reading, late_ns = due
    decider = state.elsewhere[number]
    if np.count_nonzero(decider):
        silent = (decider == ELSEWHERE) & ~state.active[number] & (late_ns > PATIENCE_NS)
        state.elsewhere[number[silent]] = OURS_UNTIL_TOLD
        ours = (decider != ELSEWHERE) | silent
        number, reading = number[ours], reading[ours]
    if state.told_ns:
        told_ns = np.asarray([state.told_ns.get(each, NEVER) for each in number.tolist()], np.int64)
        later = judging.time_ns[reading] > told_ns
        number, reading = number[later], reading[later]
    state.since_ns[number] = NEVER
    transitions = turn(state, rules, number, judging.time_ns[reading], judging.value[reading])
    key = judging.key[reading].tolist()
    moves.extend(zip(key, transitions, strict=True))
    for each in np.flatnonzero(state.unseen[number] & ~state.active[number]).tolist():
        moves.extend((key[each], answer) for answer in answered(state, transitions[each]))
    if state.shelf_due_ns < FAR:
        moves.extend(_unshelved(state, rules, transitions, judging.point[reading], key))


def _unshelved(state: State, rules: Rules, turned: list[Transition], point: I64, key: list[int]) -> Iterator[Move]:
    """The shelves that the alarms `turned` end, each alarm of its `point` and by the reading of its `key`."""
    definition, source = members(rules.first, point)
    shelved = set(source[state.shelved_until_ns[definition] > 0].tolist())
    near = [each for number, each in enumerate(turned) if number in shelved]
    place = dict(zip(point.tolist(), key, strict=True))
    for each in end_shelves(state, rules, near):
        yield place[int(rules.point[each.definition])], each
