"""One step: readings into the state, then what people ask, then what the clock brings."""

from operator import itemgetter

import numpy as np

from tocsin_core import detect
from tocsin_core.detect import FALSE, HOLD, I8, TRUE
from tocsin_core.engine.clock import advance_clock
from tocsin_core.engine.commands import obey
from tocsin_core.engine.rest import recognise
from tocsin_core.engine.shelves import end_shelves
from tocsin_core.engine.state import NEVER, PORTION, Command, State, StepResult, Transition
from tocsin_core.engine.turning import turn
from tocsin_core.readings import F64, I32, I64, Frame, is_bad, is_good
from tocsin_core.rules import NS, Family, Rules, members

# As numpy's own numbers: a comparison with an enum costs several times one with these.
_LIMIT, _RATE, _TIME_TO_LIMIT, _BAD, _STALE = (np.uint8(family) for family in Family)

_Move = tuple[int, Transition]
_arrival = itemgetter(0)


def step(state: State, rules: Rules, frame: Frame, commands: list[Command], now_ns: int) -> tuple[State, StepResult]:
    """Advance `state` (it is consumed: go on with the one returned) by `frame`, then by `commands`, then by the clock.

    Event time decides delays and slopes. `now_ns`, the stamp of the last tick, decides only staleness and the end of
    shelving. Readings are taken in the order of the frame; one that is not newer than its point's last is late:
    counted, and of no effect. So `step` of two frames one after the other equals `step` of both joined, to the bit and
    in the order of the transitions. Points beyond those of the rules are nobody's business here. A bad reading leaves
    process alarms as they are, except that a return that was waiting for its off-delay starts to wait anew.

    It costs what the readings cost, not the plant; most of them little (see `rest`).
    """
    elapsed_ns = now_ns - state.now_ns
    state.now_ns = max(now_ns, state.now_ns)
    moves: list[_Move] = []
    late = sum(_take_round(state, rules, each, arrival, moves) for each, arrival in _rounds(frame, len(rules.points)))
    moves.sort(key=_arrival)
    transitions = [transition for _, transition in moves]
    refusals = [refusal for command in commands if (refusal := obey(state, rules, command, transitions)) is not None]
    if elapsed_ns > 0:
        transitions += advance_clock(state, rules, elapsed_ns)
    return state, StepResult(transitions, refusals, late, int(elapsed_ns < 0))


def _rounds(frame: Frame, points: int) -> list[tuple[Frame, I64]]:
    """`frame` in rounds of ascending points, none twice; each point's readings keep their order.

    With each round goes the place of its readings in `frame`.
    """
    place = np.arange(len(frame))
    if len(frame) and (frame.point.max() >= points or frame.point.min() < 0):
        place = np.flatnonzero((frame.point >= 0) & (frame.point < points))
        frame = frame.take(place)
    if (frame.point[1:] > frame.point[:-1]).all():
        return [(frame, place)]
    order = _order(frame.point)
    frame, place = frame.take(order), place[order]
    starts = np.flatnonzero(np.r_[True, frame.point[1:] != frame.point[:-1]])
    if len(starts) == len(frame):
        return [(frame, place)]
    rank = np.arange(len(frame)) - np.repeat(starts, np.diff(np.r_[starts, len(frame)]))
    by_rank = np.argsort(rank, kind="stable")
    cuts = np.flatnonzero(np.diff(rank[by_rank])) + 1
    return [(frame.take(part), place[part]) for part in np.split(by_rank, cuts)]


def _order(point: I32) -> I64:
    """The stable order of `point`: one sort of plain numbers, several times faster than numpy's stable argsort."""
    key = (point.astype(np.int64) << 32) | np.arange(len(point))
    key.sort()
    return key & 0xFFFFFFFF


def _rows(point: I32) -> slice | I64:
    """Ascending points as rows of the state: a slice where none is left out, for columns then need no gathering."""
    start, size = int(point[0]), len(point)
    return slice(start, start + size) if int(point[-1]) - start == size - 1 else point.astype(np.int64)


def _take_round(state: State, rules: Rules, frame: Frame, arrival: I64, moves: list[_Move]) -> int:
    """One round into the state; returns how many readings were late."""
    late, awake = 0, [np.zeros(0, np.int64)]
    for start in range(0, len(frame), PORTION):
        fresh, loud = _take(state, rules, frame.take(slice(start, start + PORTION)))
        late += min(PORTION, len(frame) - start) - fresh
        if len(loud):
            awake.append(start + loud)
    which = np.concatenate(awake)
    for start in range(0, len(which), PORTION):
        part = which[start : start + PORTION]
        _judge_all(state, rules, frame.take(part), arrival[part], moves)
    return late


def _take(state: State, rules: Rules, frame: Frame) -> tuple[int, I64]:
    """One portion into the state: how many readings were not late, and which ones are to be judged in full."""
    rows = _rows(frame.point)
    fresh = frame.time_ns > state.time_ns[rows]
    if not fresh.all():
        kept = np.flatnonzero(fresh)
        return (len(kept), kept[_take(state, rules, frame.take(kept))[1]]) if len(kept) else (0, kept)
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
    return len(frame), np.flatnonzero(~quiet)


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
    return np.arange(len(frame))[source][may_speak]


def _judge_all(state: State, rules: Rules, frame: Frame, arrival: I64, moves: list[_Move]) -> None:
    """Every definition of the points of `frame`, whose readings are in the state and in the trends."""
    point = frame.point.astype(np.int64)
    definition, source = members(rules.first, point)
    answer = _judge(state, rules, definition, source, frame)
    judged = is_good(frame.quality)[source] | (rules.family[definition] >= _BAD)
    # A return waiting for its off-delay must not be carried through by a stretch of bad readings.
    broken = definition[~judged & state.active[definition]]
    state.since_ns[broken] = NEVER
    _settle(state, rules, definition[judged], answer[judged], source[judged], frame, arrival, moves)
    recognise(state, rules, point)


def _judge(state: State, rules: Rules, definition: I64, source: I64, frame: Frame) -> I8:
    """The detectors' answer for each definition and the reading `frame[source]` of its point.

    Where the reading is not good, a family that wants good ones is not judged and the answer means nothing.
    """
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
    if len(here):
        answer[here] = _judge_trends(state, rules, definition[here], frame.value[source[here]])
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
    frame: Frame,
    arrival: I64,
    moves: list[_Move],
) -> None:
    """Run the delays: raise what has been TRUE for its on-delay, return what has been FALSE for its off-delay."""
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
        moves.extend(zip(arrival[reading].tolist(), transitions, strict=True))
        shelved = set(rules.point[definition[state.shelved_until_ns[definition] > 0]].tolist())
        if shelved:
            place = dict(zip(rules.point[definition[turned]].tolist(), arrival[reading].tolist(), strict=True))
            near = [each for each in transitions if int(rules.point[each.definition]) in shelved]
            ended = end_shelves(state, rules, near)
            moves.extend((place[int(rules.point[each.definition])], each) for each in ended)
