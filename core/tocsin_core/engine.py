"""The alarm engine: `step` takes readings and commands and returns what every alarm they concern did."""

import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from hashlib import blake2b
from io import BytesIO
from operator import itemgetter
from typing import Final, NamedTuple
from zipfile import BadZipFile

import numpy as np

from tocsin_core import detect
from tocsin_core.detect import FALSE, HOLD, I8, TRUE, Slope, Trend
from tocsin_core.lifecycle import NEXT, UNANSWERED, Event, Phase, RefusalReason, Verb
from tocsin_core.readings import BAD_WAITING, F64, I64, U8, Bool, Frame, is_bad, is_good
from tocsin_core.rules import MAX_SHELVE_S, NS, Family, Rules

NEVER: Final = np.int64(-1)
_EVENTS: Final = tuple(Event)
_PHASES: Final = tuple(Phase)

# Readings taken in one go: their definitions' columns then stay in the processor's cache.
PORTION: Final = 2048

# Ticks come every second. When none has come for this long nobody was listening (a worker was restarted, a log stood
# still), and readings that waited meanwhile bear the stamp of the tick before: that time is nobody's silence.
LONGEST_TICK_NS: Final = 5 * NS


class Transition(NamedTuple):
    """One step of one alarm.

    `definition` is its number in the rules, `time_ns` event time (for a command: when it was given), `onset_ns` the
    event time at which its occurrence was raised (0: it never was), `superseded_ns` the onset of the occurrence it
    replaced (0: none), `suppressed` whether it is shelved or out of service and so must neither be told nor ticketed.
    """

    definition: int
    event: Event
    phase_from: Phase
    phase_to: Phase
    time_ns: int
    value: float
    onset_ns: int
    superseded_ns: int
    suppressed: bool
    who: str
    reason: str


class Command(NamedTuple):
    """What a person asks of one alarm at `at_ns`.

    `onset_ns` is the occurrence they saw (0: whichever there is), `until_ns` the end of the shelving (SHELVE alone).
    """

    verb: Verb
    definition: int
    at_ns: int
    who: str
    reason: str = ""
    onset_ns: int = 0
    until_ns: int = 0


class Refusal(NamedTuple):
    """A command that changed nothing, and why."""

    command: Command
    reason: RefusalReason


class StepResult(NamedTuple):
    """What one step led to.

    `late` readings were not newer than their point's last; `clock_steps_back` counts a `now_ns` that went back.
    """

    transitions: list[Transition]
    refusals: list[Refusal]
    late: int
    clock_steps_back: int


@dataclass(slots=True)
class State:
    """Everything the engine remembers. D definitions, P points, T trends as in `Rules`.

    Of length D: `phase` u8; `active` bool, the condition after its delays; `since_ns` i64, since when the condition has
    differed from it (-1: it does not); `onset_ns` i64 of the present occurrence (0: none yet); `shelved_until_ns` i64
    (0: not shelved); `out_of_service` bool.

    Of length P: `time_ns` i64 of the last reading (-1: none), its `value` f64 and `quality` u8, `seen_ns` i64 the tick
    after which it came. Of length T: `trend_ns` i64 and `trend_value` f64 of the last good reading, `trend` the sums.
    `now_ns` is the last tick.
    """

    phase: U8
    active: Bool
    since_ns: I64
    onset_ns: I64
    shelved_until_ns: I64
    out_of_service: Bool
    time_ns: I64
    value: F64
    quality: U8
    seen_ns: I64
    trend_ns: I64
    trend_value: F64
    trend: Trend
    now_ns: int


def occurrence_id(alarm: str, onset_ns: int) -> str:
    """The id of one raising of `alarm`: 16 hex digits that gateway and cloud both arrive at."""
    return blake2b(f"{alarm}@{onset_ns}".encode(), digest_size=8).hexdigest()


def initial(rules: Rules, now_ns: int) -> State:
    """The state in which nothing has been seen; staleness counts from `now_ns`."""
    d, p, t = len(rules.definitions), len(rules.points), len(rules.trend_point)
    return State(
        phase=np.zeros(d, np.uint8),
        active=np.zeros(d, np.bool_),
        since_ns=np.full(d, NEVER),
        onset_ns=np.zeros(d, np.int64),
        shelved_until_ns=np.zeros(d, np.int64),
        out_of_service=np.zeros(d, np.bool_),
        time_ns=np.full(p, NEVER),
        value=np.full(p, np.nan),
        quality=np.full(p, BAD_WAITING, np.uint8),
        seen_ns=np.full(p, now_ns, np.int64),
        trend_ns=np.full(t, NEVER),
        trend_value=np.full(t, np.nan),
        trend=Trend.empty(t),
        now_ns=now_ns,
    )


def step(state: State, rules: Rules, frame: Frame, commands: list[Command], now_ns: int) -> tuple[State, StepResult]:
    """Advance `state` (it is consumed: go on with the one returned) by `frame`, then by `commands`, then by the clock.

    Event time decides delays and slopes. `now_ns`, the stamp of the last tick, decides only staleness and the end of
    shelving. Readings are taken in the order of the frame; one that is not newer than its point's last is late:
    counted, and of no effect. So `step` of two frames one after the other equals `step` of both joined, to the bit and
    in the order of the transitions. Points beyond those of the rules are nobody's business here. A bad reading leaves
    process alarms as they are, except that a return that was waiting for its off-delay starts to wait anew.
    """
    elapsed_ns = now_ns - state.now_ns
    state.now_ns = max(now_ns, state.now_ns)
    moves: list[_Move] = []
    late = sum(_take(state, rules, portion, arrival, moves) for portion, arrival in _rounds(frame, len(rules.points)))
    moves.sort(key=_arrival)
    transitions = [transition for _, transition in moves]
    refusals = [
        refusal for command in commands if (refusal := _command(state, rules, command, transitions)) is not None
    ]
    if elapsed_ns > 0:
        _clock(state, rules, elapsed_ns, transitions)
    return state, StepResult(transitions, refusals, late, int(elapsed_ns < 0))


_Move = tuple[int, Transition]
_arrival = itemgetter(0)


def _rounds(frame: Frame, points: int) -> list[tuple[Frame, I64]]:
    """`frame` in portions in which no point stands twice, each point's readings in their order.

    With each portion goes the place of its readings in `frame`.
    """
    place = np.arange(len(frame))
    if len(frame) and (frame.point.max() >= points or frame.point.min() < 0):
        place = np.flatnonzero((frame.point >= 0) & (frame.point < points))
        frame = frame.take(place)
    if not len(frame):
        return []
    order = np.argsort(frame.point, kind="stable")
    point = frame.point[order]
    starts = np.flatnonzero(np.r_[True, point[1:] != point[:-1]])
    if len(starts) == len(point):
        return _slices(frame, place)
    rank = np.arange(len(point)) - np.repeat(starts, np.diff(np.r_[starts, len(point)]))
    by_rank = np.argsort(rank, kind="stable")
    cuts = np.flatnonzero(np.diff(rank[by_rank])) + 1
    return [piece for part in np.split(by_rank, cuts) for piece in _slices(frame.take(order[part]), place[order[part]])]


def _slices(frame: Frame, place: I64) -> list[tuple[Frame, I64]]:
    if len(frame) <= PORTION:
        return [(frame, place)]
    return [
        (frame.take(slice(start, start + PORTION)), place[start : start + PORTION])
        for start in range(0, len(frame), PORTION)
    ]


def _members(first: I64, owners: I64) -> tuple[I64, I64]:
    """Rows `first[o] : first[o + 1]` of each owner o, joined, and for each of them which of `owners` it came from."""
    counts = first[owners + 1] - first[owners]
    source = np.repeat(np.arange(len(owners)), counts)
    offsets = np.arange(len(source)) - np.repeat(np.cumsum(counts) - counts, counts)
    return first[owners][source] + offsets, source


def _take(state: State, rules: Rules, frame: Frame, arrival: I64, moves: list[_Move]) -> int:
    """One portion (each point at most once) into the state; returns how many readings were late."""
    point = frame.point.astype(np.int64)
    fresh = frame.time_ns > state.time_ns[point]
    late = len(frame) - int(np.count_nonzero(fresh))
    if late:
        frame, point, arrival = frame.take(fresh), point[fresh], arrival[fresh]
    state.time_ns[point] = frame.time_ns
    state.value[point] = frame.value
    state.quality[point] = frame.quality
    state.seen_ns[point] = state.now_ns
    good = is_good(frame.quality)
    _advance_trends(state, rules, frame.take(good), point[good])
    definition, source = _members(rules.first, point)
    answer = _judge(state, rules, definition, source, frame)
    judged = good[source] | (rules.family[definition] >= Family.BAD)
    # A return waiting for its off-delay must not be carried through by a stretch of bad readings.
    broken = definition[~judged & state.active[definition]]
    state.since_ns[broken] = NEVER
    _settle(state, rules, definition[judged], answer[judged], source[judged], frame, arrival, moves)
    return late


def _advance_trends(state: State, rules: Rules, frame: Frame, point: I64) -> None:
    row, source = _members(rules.trend_first, point)
    if not len(row):
        return
    time_ns, value = frame.time_ns[source], frame.value[source]
    first = state.trend_ns[row] == NEVER
    # The first reading of a trend sets its origin; any positive step does, for its sums are still zero.
    dt_s = np.where(first, 1.0, (time_ns - state.trend_ns[row]) / NS)
    du = np.where(first, 0.0, value - state.trend_value[row])
    state.trend.put(row, detect.advance(state.trend.rows(row), dt_s, du, rules.trend_tau_s[row]))
    state.trend_ns[row] = time_ns
    state.trend_value[row] = value


def _judge(state: State, rules: Rules, definition: I64, source: I64, frame: Frame) -> I8:
    """The detectors' answer for each definition and the reading `frame[source]` of its point.

    Where the reading is not good, a family that wants good ones is not judged and the answer means nothing.
    """
    answer = np.full(len(definition), HOLD, np.int8)
    family = rules.family[definition]
    good = is_good(frame.quality)[source]
    here = np.flatnonzero((family == Family.LIMIT) & good)
    rows = definition[here]
    answer[here] = detect.limit(frame.value[source[here]], rules.sign[rows], rules.setpoint[rows], rules.deadband[rows])
    here = np.flatnonzero(family == Family.BAD)
    answer[here] = detect.bad(is_bad(frame.quality[source[here]]))
    answer[family == Family.STALE] = FALSE
    here = np.flatnonzero(((family == Family.RATE) | (family == Family.TIME_TO_LIMIT)) & good)
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
        rules.family[rows] == Family.RATE, detect.rate(slope, rules.setpoint[rows], rules.deadband[rows]), foreseen
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
        transitions = _turn(state, rules, definition[turned], time_ns[turned], frame.value[reading])
        moves.extend(zip(arrival[reading].tolist(), transitions, strict=True))


def _turn(state: State, rules: Rules, number: I64, time_ns: I64, value: F64) -> list[Transition]:
    """Turn the conditions of the alarms `number` (each once): raise those not active, return those that are."""
    raising = ~state.active[number]
    before, earlier = state.phase[number], state.onset_ns[number]
    event = np.where(raising, Event.RAISE, np.where(rules.latching[number], Event.RETURN_LATCHED, Event.RETURN))
    after = NEXT[before, event]
    onset = np.where(raising, time_ns, earlier)
    superseded = np.where(raising & (before != Phase.NORMAL), earlier, 0)
    suppressed = (state.shelved_until_ns[number] > 0) | state.out_of_service[number]
    state.active[number] = raising
    state.phase[number] = after
    state.onset_ns[number] = onset
    columns = (number, event, before, after, time_ns, value, onset, superseded, suppressed)
    return [
        Transition(which, _EVENTS[e], _PHASES[b], _PHASES[a], when, at, began, ended, hidden, "", "")
        for which, e, b, a, when, at, began, ended, hidden in zip(*(c.tolist() for c in columns), strict=True)
    ]


def _move(
    state: State, number: int, event: Event, time_ns: int, value: float, *, who: str = "", reason: str = ""
) -> Transition:
    """Move one alarm by an event that leaves its condition alone."""
    before = Phase(int(state.phase[number]))
    after = Phase(int(NEXT[before, event]))
    state.phase[number] = after
    suppressed = bool(state.shelved_until_ns[number] or state.out_of_service[number])
    return Transition(
        number, event, before, after, time_ns, value, int(state.onset_ns[number]), 0, suppressed, who, reason
    )


def _no_acknowledge(state: State, _rules: Rules, command: Command) -> RefusalReason | None:
    phase = Phase(int(state.phase[command.definition]))
    if phase is Phase.NORMAL:
        return RefusalReason.NOT_ACTIVE
    return None if phase in UNANSWERED else RefusalReason.ALREADY_ACKNOWLEDGED


def _no_reset(state: State, _rules: Rules, command: Command) -> RefusalReason | None:
    phase = Phase(int(state.phase[command.definition]))
    if phase is Phase.LATCHED_UNACKNOWLEDGED:
        return RefusalReason.ACKNOWLEDGE_FIRST
    return None if phase is Phase.LATCHED_ACKNOWLEDGED else RefusalReason.NOT_LATCHED


def _no_shelve(_state: State, rules: Rules, command: Command) -> RefusalReason | None:
    if not command.reason:
        return RefusalReason.REASON_MISSING
    if command.until_ns <= command.at_ns:
        return RefusalReason.NO_TIME
    longest = MAX_SHELVE_S[int(rules.priority[command.definition])] * NS
    return RefusalReason.TOO_LONG if command.until_ns - command.at_ns > longest else None


def _no_unshelve(state: State, _rules: Rules, command: Command) -> RefusalReason | None:
    return None if state.shelved_until_ns[command.definition] else RefusalReason.NOT_SHELVED


def _no_out_of_service(state: State, _rules: Rules, command: Command) -> RefusalReason | None:
    if not command.reason:
        return RefusalReason.REASON_MISSING
    return RefusalReason.ALREADY_OUT_OF_SERVICE if state.out_of_service[command.definition] else None


def _no_in_service(state: State, _rules: Rules, command: Command) -> RefusalReason | None:
    return None if state.out_of_service[command.definition] else RefusalReason.NOT_OUT_OF_SERVICE


_VERBS: Final[dict[Verb, tuple[Event, Callable[[State, Rules, Command], RefusalReason | None]]]] = {
    Verb.ACKNOWLEDGE: (Event.ACKNOWLEDGE, _no_acknowledge),
    Verb.RESET: (Event.RESET, _no_reset),
    Verb.SHELVE: (Event.SHELVE, _no_shelve),
    Verb.UNSHELVE: (Event.UNSHELVE, _no_unshelve),
    Verb.OUT_OF_SERVICE: (Event.OUT_OF_SERVICE, _no_out_of_service),
    Verb.IN_SERVICE: (Event.IN_SERVICE, _no_in_service),
}


def _command(state: State, rules: Rules, command: Command, transitions: list[Transition]) -> Refusal | None:
    number = command.definition
    if command.onset_ns and command.onset_ns != state.onset_ns[number]:
        return Refusal(command, RefusalReason.ANOTHER_OCCURRENCE)
    event, refusal = _VERBS[command.verb]
    refused = refusal(state, rules, command)
    if refused is not None:
        return Refusal(command, refused)
    match command.verb:
        case Verb.SHELVE:
            state.shelved_until_ns[number] = command.until_ns
        case Verb.UNSHELVE:
            state.shelved_until_ns[number] = 0
        case Verb.OUT_OF_SERVICE | Verb.IN_SERVICE:
            state.out_of_service[number] = command.verb is Verb.OUT_OF_SERVICE
        case _:
            pass
    value = float(state.value[rules.point[number]])
    transitions.append(_move(state, number, event, command.at_ns, value, who=command.who, reason=command.reason))
    return None


def _clock(state: State, rules: Rules, elapsed_ns: int, transitions: list[Transition]) -> None:
    """What only the passing of time brings: shelves whose time is up, and points gone stale."""
    over = np.flatnonzero((state.shelved_until_ns > 0) & (state.shelved_until_ns <= state.now_ns))
    for each in over.tolist():
        ended = int(state.shelved_until_ns[each])
        state.shelved_until_ns[each] = 0
        value = float(state.value[rules.point[each]])
        transitions.append(_move(state, each, Event.UNSHELVE, ended, value, reason="time is up"))
    if elapsed_ns > LONGEST_TICK_NS:
        state.seen_ns += elapsed_ns
    stale = rules.stale[~state.active[rules.stale]]
    point = rules.point[stale].astype(np.int64)
    # A point known to be bad has told so already: silence after that is no second fault.
    known_bad = is_bad(state.quality[point]) & (state.time_ns[point] != NEVER)
    silent = (state.now_ns - state.seen_ns[point] >= rules.after_ns[stale]) & ~known_bad
    number = stale[silent]
    onset = state.seen_ns[point[silent]] + rules.after_ns[number]
    transitions += _turn(state, rules, number, onset, np.full(len(number), np.nan))


@dataclass(frozen=True, slots=True)
class Projection:
    """Where a point is heading.

    `level` (its unit) at `time_ns`, `slope` and its confidence bounds (unit a second), and in how many seconds the
    limit of `definition` is reached at that slope (NaN: it is not).
    """

    definition: int
    time_ns: int
    level: float
    slope: float
    slope_low: float
    slope_high: float
    reaches_s: float


def projections(state: State, rules: Rules) -> list[Projection]:
    """Where points are heading: of each definition that foresees a limit and is active or nears it.

    Near is a slope that is surely not 0 and reaches the limit within three times the definition's horizon.
    """
    rows = np.flatnonzero(rules.family == Family.TIME_TO_LIMIT)
    rows = rows[state.trend_ns[rules.trend[rows]] != NEVER]
    if not len(rows):
        return []
    trend = rules.trend[rows].astype(np.int64)
    slope = detect.fit(state.trend.rows(trend), rules.trend_floor[trend])
    level = state.trend_value[trend] + slope.level
    reaches = _reaches(slope, level, rules.setpoint[rows])
    margin = slope.student(rules.z[rows]) * slope.slope_se
    shown = slope.known & (
        (reaches <= 3.0 * rules.horizon_s[rows]) & (np.abs(slope.slope) > margin) | state.active[rows]
    )
    return [
        Projection(
            int(rows[i]),
            int(state.trend_ns[trend[i]]),
            float(level[i]),
            float(slope.slope[i]),
            float(slope.slope[i] - margin[i]),
            float(slope.slope[i] + margin[i]),
            float(reaches[i]),
        )
        for i in np.flatnonzero(shown).tolist()
    ]


def _reaches(slope: Slope, level: F64, setpoint: F64) -> F64:
    with np.errstate(divide="ignore", invalid="ignore"):
        seconds = (setpoint - level) / slope.slope
    return np.where(seconds >= 0.0, seconds, np.nan)


class SnapshotError(ValueError):
    """Bytes that are no snapshot of the engine."""


_BY_DEFINITION: Final = ("phase", "active", "since_ns", "onset_ns", "shelved_until_ns", "out_of_service")
_BY_POINT: Final = ("time_ns", "value", "quality", "seen_ns")
_BY_TREND: Final = ("trend_ns", "trend_value")
_SUMS: Final = tuple(field.name for field in fields(Trend))

# What numpy's reader of a torn or altered file is known to raise.
_UNREADABLE: Final = (OSError, EOFError, ValueError, LookupError, TypeError, RuntimeError, SyntaxError, MemoryError)


def _trend_keys(rules: Rules) -> list[str]:
    return [
        f"{rules.points[point]}@{tau!r}"
        for point, tau in zip(rules.trend_point.tolist(), rules.trend_tau_s.tolist(), strict=True)
    ]


def snapshot(state: State, rules: Rules) -> bytes:
    """The whole state, by name, so that it can be restored under rules that have changed since."""
    columns: dict[str, np.ndarray] = {name: getattr(state, name) for name in (*_BY_DEFINITION, *_BY_POINT, *_BY_TREND)}
    columns |= {f"trend.{name}": getattr(state.trend, name) for name in _SUMS}
    columns["now_ns"] = np.asarray(state.now_ns, np.int64)
    columns["definitions"] = np.asarray([definition.id for definition in rules.definitions], np.str_)
    columns["points"] = np.asarray(rules.points, np.str_)
    columns["trends"] = np.asarray(_trend_keys(rules), np.str_)
    buffer = BytesIO()
    np.savez(buffer, **columns)  # type: ignore[arg-type]
    return buffer.getvalue()


def _lay(columns: dict[str, np.ndarray], key: str, names: Sequence[str], targets: dict[str, np.ndarray]) -> None:
    """Copy each column of `targets` for the `names` that `columns[key]` shares with them."""
    before = columns[key].tolist()
    place = {name: number for number, name in enumerate(before)}
    new = np.asarray([number for number, name in enumerate(names) if name in place], np.int64)
    old = np.asarray([place[names[number]] for number in new.tolist()], np.int64)
    for name, target in targets.items():
        column = columns[name]
        if column.shape != (len(before),) or column.dtype != target.dtype:
            raise ValueError(f"column {name} is {column.dtype}{list(column.shape)}")
        target[new] = column[old]


def restore(data: bytes, rules: Rules) -> State:
    """The state that `snapshot` kept, laid onto `rules`: alarms, points and trends that are new start fresh.

    Raises:
        SnapshotError: `data` is no snapshot.
    """
    try:
        with np.load(BytesIO(data), allow_pickle=False) as file:
            columns = {name: file[name] for name in file.files}
        state = initial(rules, int(columns["now_ns"]))
        alarms = [definition.id for definition in rules.definitions]
        sums = {f"trend.{name}": getattr(state.trend, name) for name in _SUMS}
        _lay(columns, "definitions", alarms, {name: getattr(state, name) for name in _BY_DEFINITION})
        _lay(columns, "points", rules.points, {name: getattr(state, name) for name in _BY_POINT})
        _lay(columns, "trends", _trend_keys(rules), sums | {name: getattr(state, name) for name in _BY_TREND})
        if len(rules.definitions) and state.phase.max() >= len(Phase):
            raise ValueError("a phase that does not exist")
    except (*_UNREADABLE, BadZipFile, zlib.error, struct.error) as error:
        raise SnapshotError(f"not a snapshot of the engine: {error}") from error
    return state
