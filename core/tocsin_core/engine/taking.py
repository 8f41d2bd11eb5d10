"""One round of readings into the state, and the alarms of those that may change something."""

from dataclasses import dataclass, field

import numpy as np

from tocsin_core import detect
from tocsin_core.detect import FALSE, HOLD, I8, TRUE
from tocsin_core.engine.gating import Suppressing
from tocsin_core.engine.rest import recognise
from tocsin_core.engine.shelves import end_shelves
from tocsin_core.engine.state import NEVER, PORTION, Move, State
from tocsin_core.engine.turning import turn
from tocsin_core.readings import F64, I32, I64, Frame, is_bad, is_good
from tocsin_core.rules import NS, Rules, members
from tocsin_core.special import Family

# As numpy's own numbers: a comparison with an enum costs several times one with these.
_LIMIT, _RATE, _TIME_TO_LIMIT = np.uint8(Family.LIMIT), np.uint8(Family.RATE), np.uint8(Family.TIME_TO_LIMIT)
_ABNORMAL, _BAD, _STALE = np.uint8(Family.ABNORMAL), np.uint8(Family.BAD), np.uint8(Family.STALE)


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
        late, awake = 0, [np.zeros(0, np.int64)]
        for start in range(0, len(frame), PORTION):
            part = frame.take(slice(start, start + PORTION))
            rows = _rows(part.point)
            fresh = part.time_ns > self.state.time_ns[rows]
            if fresh.all():
                self._follow(part, key[start : start + PORTION])
                awake.append(start + _take(self.state, self.rules, part, rows))
                continue
            kept = np.flatnonzero(fresh)
            late += len(part) - len(kept)
            if len(kept):
                part = part.take(kept)
                self._follow(part, key[start + kept])
                awake.append(start + kept[_take(self.state, self.rules, part, _rows(part.point))])
        which = np.concatenate(awake)
        for start in range(0, len(which), PORTION):
            part_of = which[start : start + PORTION]
            judging = _Judging(frame.take(part_of), key[part_of], None if said is None else said[part_of])
            _judge_all(self.state, self.rules, judging, self.moves)
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


@dataclass(frozen=True, slots=True)
class _Judging:
    """Readings whose points are judged in full."""

    frame: Frame
    key: I64
    said: I8 | None


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
    quiet = good & (frame.value >= state.quiet_low[rows]) & (frame.value <= state.quiet_high[rows])
    if good.all():
        quiet[_advance_trends(state, rules, frame, rows)] = False
    elif good.any():
        seen = np.flatnonzero(good)
        heard = frame.take(seen)
        quiet[seen[_advance_trends(state, rules, heard, _rows(heard.point))]] = False
    return np.flatnonzero(~quiet)


def _advance_trends(state: State, rules: Rules, frame: Frame, rows: slice | I64) -> I64:
    """Good readings into the trends of their points; returns the readings after which a trend's alarm may speak."""
    row, source = members(rules.trend_first, rows)
    time_ns, value = frame.time_ns[source], frame.value[source]
    before_ns = state.trend_ns[row]
    dt_s = (time_ns - before_ns) / NS
    du = value - state.trend_value[row]
    first = before_ns == NEVER
    if first.any():
        # The first reading of a trend sets its origin; any positive step does, for its sums are still zero.
        dt_s[first], du[first] = 1.0, 0.0
    trend = detect.advance(state.trend.rows(row), dt_s, du, rules.trend_tau_s[row])
    state.trend.put(row, trend)
    state.trend_ns[row] = time_ns
    state.trend_value[row] = value
    may_speak = detect.may_speak(
        trend,
        value,
        rules.trend_rate[row],
        rules.trend_sign[row],
        rules.trend_limit[row],
        rules.trend_horizon_s[row],
    )
    state.speaks[row] = may_speak
    return np.arange(len(frame))[source][may_speak]


def _judge_all(state: State, rules: Rules, judging: _Judging, moves: list[Move]) -> None:
    """Every definition of the points judged, whose readings are in the state and in the trends."""
    frame = judging.frame
    point = frame.point.astype(np.int64)
    definition, source = members(rules.first, point)
    answer = _judge(state, rules, definition, source, judging)
    judged = is_good(frame.quality)[source] | (rules.family[definition] >= _BAD)
    # A return waiting for its off-delay must not be carried through by a stretch of bad readings.
    broken = definition[~judged & state.active[definition]]
    state.since_ns[broken] = NEVER
    _settle(state, rules, definition[judged], answer[judged], source[judged], judging, moves)
    recognise(state, rules, point)


def _judge(state: State, rules: Rules, definition: I64, source: I64, judging: _Judging) -> I8:
    """The detectors' answer for each definition and the reading `source` of its point.

    Where the reading is not good, a family that wants good ones is not judged and the answer means nothing.
    """
    frame = judging.frame
    answer = np.full(len(definition), HOLD, np.int8)
    family = rules.family[definition]
    good = is_good(frame.quality)[source]
    here = np.flatnonzero((family == _LIMIT) & good)
    rows = definition[here]
    answer[here] = detect.limit(frame.value[source[here]], rules.sign[rows], rules.setpoint[rows], rules.deadband[rows])
    here = np.flatnonzero(family == _BAD)
    answer[here] = detect.bad(is_bad(frame.quality[source[here]]))
    answer[family == _STALE] = FALSE
    here = np.flatnonzero(((family == _RATE) | (family == _TIME_TO_LIMIT)) & good)
    # An alarm that is not there and cannot come now has nothing to be told: HOLD does as well.
    here = here[state.active[definition[here]] | state.speaks[rules.trend[definition[here]]]]
    if len(here):
        answer[here] = _judge_trends(state, rules, definition[here], frame.value[source[here]])
    if judging.said is not None:
        here = np.flatnonzero(family == _ABNORMAL)
        answer[here] = judging.said[source[here]]
    if rules.special.watches:
        here = np.flatnonzero((family > _TIME_TO_LIMIT) & (family < _BAD) & good)
        for watch in rules.special.watches:
            mine, told = watch.judge(state.tables[watch.table_name], definition[here], family[here])
            answer[here[mine]] = told
    return answer


def _judge_trends(state: State, rules: Rules, rows: I64, value: F64) -> I8:
    trend = rules.trend[rows]
    slope = detect.fit(state.trend.rows(trend.astype(np.int64)), rules.trend_floor[trend])
    foreseen = detect.time_to_limit(
        slope, value, rules.sign[rows], rules.setpoint[rows], rules.deadband[rows], rules.horizon_s[rows], rules.z[rows]
    )
    return np.where(
        rules.family[rows] == _RATE, detect.rate(slope, rules.setpoint[rows], rules.deadband[rows]), foreseen
    )


def _settle(
    state: State,
    rules: Rules,
    definition: I64,
    answer: I8,
    source: I64,
    judging: _Judging,
    moves: list[Move],
) -> None:
    """Run the delays: raise what has been TRUE for its on-delay, return what has been FALSE for its off-delay."""
    frame, key = judging.frame, judging.key
    active = state.active[definition]
    turning = answer == np.where(active, FALSE, TRUE)
    time_ns = frame.time_ns[source]
    waiting = state.since_ns[definition]
    started = np.where(waiting == NEVER, time_ns, waiting)
    delay = np.where(active, rules.off_ns[definition], rules.on_ns[definition])
    due = turning & (time_ns - started >= delay)
    state.since_ns[definition] = np.where(turning & ~due, started, NEVER)
    turned = np.flatnonzero(due)
    if len(turned):
        reading = source[turned]
        transitions = turn(state, rules, definition[turned], time_ns[turned], frame.value[reading])
        moves.extend(zip(key[reading].tolist(), transitions, strict=True))
        shelved = set(rules.point[definition[state.shelved_until_ns[definition] > 0]].tolist())
        if shelved:
            place = dict(zip(rules.point[definition[turned]].tolist(), key[reading].tolist(), strict=True))
            near = [each for each in transitions if int(rules.point[each.definition]) in shelved]
            ended = end_shelves(state, rules, near)
            moves.extend((place[int(rules.point[each.definition])], each) for each in ended)
