"""One round of readings into the state, and the alarms of those that may change something."""

from dataclasses import dataclass, field
from typing import Final, NamedTuple, Self

import numpy as np

from tocsin_core import detect
from tocsin_core.detect import FALSE, HOLD, I8, TRUE, Expectation, Surprise, Trend
from tocsin_core.engine.gating import Suppressing
from tocsin_core.engine.rest import recognise
from tocsin_core.engine.shelves import end_shelves
from tocsin_core.engine.state import HERE, NEVER, OURS_UNTIL_RETURN, PORTION, Move, State
from tocsin_core.engine.turning import turn
from tocsin_core.readings import F64, I32, I64, U8, Bool, Frame, is_bad, is_good
from tocsin_core.rules import NS, Rules, members
from tocsin_core.special import Family

# As numpy's own numbers: a comparison with an enum costs several times one with these.
_LIMIT, _RATE, _TIME_TO_LIMIT = np.uint8(Family.LIMIT), np.uint8(Family.RATE), np.uint8(Family.TIME_TO_LIMIT)
_ABNORMAL, _LOOP = np.uint8(Family.ABNORMAL), np.uint8(Family.LOOP)
_BAD, _STALE = np.uint8(Family.BAD), np.uint8(Family.STALE)


_NONE: Final = np.zeros(0, np.int64)
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
        late, awake = 0, [_NONE]
        for start in range(0, len(frame), PORTION):
            part = frame if len(frame) <= PORTION else frame.take(slice(start, start + PORTION))
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
            judging = _Judging.of(frame, key, said, part_of)
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


class _Judging(NamedTuple):
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
    quiet = (frame.value >= state.quiet_low[rows]) & (frame.value <= state.quiet_high[rows])
    if good.all():
        quiet[_advance_trends(state, rules, frame, rows)] = False
    else:
        quiet &= good
        seen = np.flatnonzero(good)
        if len(seen):
            heard = frame.take(seen)
            quiet[seen[_advance_trends(state, rules, heard, _rows(heard.point))]] = False
    return (~quiet).nonzero()[0]


def _advance_trends(state: State, rules: Rules, frame: Frame, rows: slice | I64) -> I64:
    """Good readings into the trends of their points; returns the readings after which a trend is near its limit."""
    row, source = _trends(rules, rows)
    time_ns, value = frame.time_ns[source], frame.value[source]
    before_ns = state.trend_ns[row]
    dt_s = (time_ns - before_ns).astype(np.float64) / NS
    origin = state.trend_value[row]
    du = value - origin
    first = (before_ns == NEVER).nonzero()[0]
    if len(first):
        # The first reading of a trend sets its origin; any positive step does, for its sums are still zero.
        dt_s[first], du[first] = 1.0, 0.0
    sums, tau_s = state.sums[:, row], rules.trend_tau_s[row]
    trend, expected, earlier = Trend(*sums), Expectation(*state.expected[:, row]), Surprise(*state.surprise[:, row])
    with np.errstate(all="ignore"):
        foreseen = expected.after(dt_s)
        surprise = du - foreseen
        wild = (surprise * surprise > expected.bound).nonzero()[0]
        if len(wild):
            lately = Surprise(earlier.last[wild], earlier.before[wild])
            believed = detect.believed(surprise[wild], lately, expected.bound[wild], dt_s[wild], tau_s[wild])
            cut = believed != surprise[wild]
            wild = wild[cut]
            du[wild] = foreseen[wild] + believed[cut]
            value[wild] = origin[wild] + du[wild]
        lost = detect.advance(trend, dt_s, du, tau_s)
        if len(lost):
            surprise[lost], value[lost] = 0.0, frame.value[source[lost]]
        through = detect.line(trend)
        near = detect.nears(
            through,
            value,
            rules.trend_rate[row],
            rules.trend_sign[row],
            rules.trend_limit[row],
            rules.trend_reach_s[row],
        )
        state.expected[:, row] = detect.expect(trend, through, rules.trend_floor[row])
    if not isinstance(row, slice):
        state.sums[:, row] = sums
    state.surprise[1, row] = earlier.last
    state.surprise[0, row] = surprise
    state.trend_ns[row] = time_ns
    state.trend_value[row] = value
    state.nears[row] = near
    return source[near]


def _trends(rules: Rules, rows: slice | I64) -> tuple[slice | I64, I64]:
    """Rows of the trends of the points `rows`, and for each which of the points it is of."""
    if not isinstance(rows, slice):
        return members(rules.trend_first, rows)
    row = slice(int(rules.trend_first[rows.start]), int(rules.trend_first[rows.stop]))
    return row, rules.trend_point[row] - rows.start


def _judge_all(state: State, rules: Rules, judging: _Judging, moves: list[Move]) -> None:
    """Every definition of the points judged, whose readings are in the state and in the trends."""
    definition, source = concerned = members(rules.first, judging.point)
    good = is_good(judging.quality)[source]
    asked = _Asked(definition, source, rules.family[definition], state.active[definition], good)
    answer = _judge(state, rules, asked, judging)
    judged = good | (asked.family >= _LOOP)
    if not judged.all():
        # A return waiting for its off-delay must not be carried through by a stretch of bad readings.
        state.since_ns[definition[~judged & asked.active]] = NEVER
        asked, answer = asked.those(judged), answer[judged]
    _settle(state, rules, asked, answer, judging, moves)
    recognise(state, rules, judging.point, *concerned)


class _Asked(NamedTuple):
    """Definitions of the points judged; `source` is the reading of its point, `good` whether that is."""

    definition: I64
    source: I64
    family: U8
    active: Bool
    good: Bool

    def those(self, which: Bool) -> "_Asked":
        """Those at `which`."""
        definition, source, family, active, good = self
        return _Asked(definition[which], source[which], family[which], active[which], good[which])


def _judge(state: State, rules: Rules, asked: _Asked, judging: _Judging) -> I8:
    """The detectors' answer for each definition.

    Where the reading is not good, a family that wants good ones is not judged and the answer means nothing.
    """
    definition, source, family, active, good = asked
    value = judging.value[source]
    answer = detect.limit(value, rules.sign[definition], rules.setpoint[definition], rules.deadband[definition])
    answer[family != _LIMIT] = HOLD
    np.copyto(answer, detect.bad(good), where=family == _BAD)
    answer[family == _STALE] = FALSE
    if len(state.nears):
        trend = rules.trend[definition]
        # An alarm that is not there and cannot come now has nothing to be told: HOLD does as well.
        here = ((trend >= 0) & good & (active | state.nears.take(trend))).nonzero()[0]
        if len(here):
            answer[here] = _judge_trends(state, rules, definition[here], trend[here], value[here])
    if judging.said is not None:
        np.copyto(answer, judging.said[source], where=family == _ABNORMAL)
    if rules.special.watches:
        here = np.flatnonzero((family > _TIME_TO_LIMIT) & (family < _BAD) & (good | (family == _LOOP)))
        for watch in rules.special.watches:
            mine, told = watch.judge(state.tables[watch.table_name], definition[here], family[here])
            answer[here[mine]] = told
        # A reading that is not good may show a failed loop; that the loop is well again only a good one shows.
        answer[(family == _LOOP) & ~good & (answer == FALSE)] = HOLD
    return answer


def _judge_trends(state: State, rules: Rules, rows: I64, trend: I32, value: F64) -> I8:
    setpoint, deadband = rules.setpoint[rows], rules.deadband[rows]
    horizon_s, z = rules.horizon_s[rows], rules.z[rows]
    with np.errstate(all="ignore"):
        slope = detect.fit(Trend(*state.sums.take(trend, axis=1)), rules.trend_floor.take(trend))
        changing = detect.rate(slope, setpoint, deadband)
        origin = state.trend_value.take(trend)
        foreseen = detect.time_to_limit(slope, origin, value, rules.sign[rows], setpoint, deadband, horizon_s, z)
    return np.where(rules.family[rows] == _RATE, changing, foreseen)


def _decides(state: State, definition: I64, active: Bool) -> Bool:
    """Which of the definitions this end turns; `active` are those that are."""
    decider = state.elsewhere[definition]
    decides: Bool = (decider == HERE) | (active & (decider == OURS_UNTIL_RETURN))
    return decides


def _settle(state: State, rules: Rules, asked: _Asked, answer: I8, judging: _Judging, moves: list[Move]) -> None:
    """Run the delays: raise what has been TRUE for its on-delay, return what has been FALSE for its off-delay."""
    definition, source, family, active, good = asked
    turning = answer == _TURNS.take(active)
    time_ns = judging.time_ns[source]
    since_ns = state.since_ns[definition]
    np.copyto(since_ns, time_ns, where=since_ns == NEVER)
    delay = np.where(active, rules.off_ns[definition], rules.on_ns[definition])
    unsure = ((family == _BAD) & ~good & ~active).nonzero()[0]
    if len(unsure):
        unsure = unsure[~is_bad(judging.quality[source[unsure]])]
        delay[unsure] = rules.after_ns[definition[unsure]]
    due = turning & (time_ns - since_ns >= delay) & _decides(state, definition, active)
    since_ns[due | ~turning] = NEVER
    state.since_ns[definition] = since_ns
    turned = due.nonzero()[0]
    if len(turned):
        reading = source[turned]
        transitions = turn(state, rules, definition[turned], time_ns[turned], judging.value[reading])
        key = judging.key[reading].tolist()
        moves.extend(zip(key, transitions, strict=True))
        shelved = set(rules.point[definition[state.shelved_until_ns[definition] > 0]].tolist())
        if shelved:
            place = dict(zip(rules.point[definition[turned]].tolist(), key, strict=True))
            near = [each for each in transitions if int(rules.point[each.definition]) in shelved]
            ended = end_shelves(state, rules, near)
            moves.extend((place[int(rules.point[each.definition])], each) for each in ended)
