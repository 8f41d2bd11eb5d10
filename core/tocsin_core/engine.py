"""The alarm engine: `step` takes readings and commands, advances every alarm they concern, and returns the transitions.

Event time decides delays and slopes; `now_ns` decides only staleness and the end of shelving, and it is the stamp of the last tick, so
that the same log replayed in other portions gives the same transitions to the bit.
"""

from dataclasses import dataclass, fields
from hashlib import blake2b
from io import BytesIO
from typing import Final, NamedTuple
from zipfile import BadZipFile

import numpy as np

from tocsin_core import detect
from tocsin_core.detect import FALSE, HOLD, TRUE, I8, Slope, Trend
from tocsin_core.lifecycle import NEXT, UNANSWERED, Event, Phase, RefusalReason, Verb
from tocsin_core.readings import BAD_WAITING, F64, I64, U8, Bool, Frame, is_bad, is_good
from tocsin_core.rules import MAX_SHELVE_S, NS, Family, Rules

NEVER: Final = np.int64(-1)


class Transition(NamedTuple):
    """One step of one alarm: `definition` is its number in the rules, `time_ns` event time (for a command: when it was given),
    `onset_ns` the event time at which its occurrence was raised, `superseded_ns` the onset of the occurrence it replaced (0: none),
    `suppressed` whether it is shelved or out of service and so must neither be told nor ticketed."""

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
    """What a person asks of one alarm at `at_ns`; `onset_ns` is the occurrence they saw (0: whichever there is), `until_ns` for SHELVE."""

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
    """What one step led to; `late` readings were not newer than their point's last, `clock_steps_back` counts a `now_ns` that went back."""

    transitions: list[Transition]
    refusals: list[Refusal]
    late: int
    clock_steps_back: int


@dataclass(slots=True)
class State:
    """Everything the engine remembers. D definitions, P points, T trends as in `Rules`.

    `phase` u8[D]; `active` bool[D] the condition after its delays; `since_ns` i64[D] since when the condition has differed from it
    (-1: it does not); `onset_ns` i64[D] of the present occurrence (0: none yet); `shelved_until_ns` i64[D] (0: not shelved);
    `out_of_service` bool[D]; `time_ns` i64[P] of the last reading (-1: none), `value` f64[P], `quality` u8[P], `seen_ns` i64[P] the tick
    after which it came; `trend_ns`, `trend_value` [T] the last good reading; `trend` its sums; `now_ns` the last tick.
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

    Readings are taken in the order of the frame; one that is not newer than its point's last is late: counted, and of no effect. So
    `step` of two frames one after the other equals `step` of both joined. Points beyond those of the rules are nobody's business here.
    A bad reading leaves process alarms as they are, except that a return that was waiting for its off-delay starts to wait anew.
    """
    steps_back = int(now_ns < state.now_ns)
    ticked = now_ns > state.now_ns
    state.now_ns = max(now_ns, state.now_ns)
    transitions: list[Transition] = []
    late = 0
    for portion in _rounds(frame, len(rules.points)):
        late += _take(state, rules, portion, transitions)
    refusals = [
        refusal for command in commands if (refusal := _command(state, rules, command, transitions)) is not None
    ]
    if ticked:
        _clock(state, rules, transitions)
    return state, StepResult(transitions, refusals, late, steps_back)


def _rounds(frame: Frame, points: int) -> list[Frame]:
    """`frame` in portions in which no point stands twice, each point's readings in their order."""
    if len(frame) and (frame.point.max() >= points or frame.point.min() < 0):
        frame = frame.take((frame.point >= 0) & (frame.point < points))
    if not len(frame):
        return []
    order = np.argsort(frame.point, kind="stable")
    point = frame.point[order]
    starts = np.flatnonzero(np.r_[True, point[1:] != point[:-1]])
    if len(starts) == len(point):
        return [frame]
    rank = np.arange(len(point)) - np.repeat(starts, np.diff(np.r_[starts, len(point)]))
    by_rank = np.argsort(rank, kind="stable")
    cuts = np.flatnonzero(np.diff(rank[by_rank])) + 1
    return [frame.take(order[part]) for part in np.split(by_rank, cuts)]


def _members(first: I64, owners: I64) -> tuple[I64, I64]:
    """Rows `first[o] : first[o + 1]` of each owner o, joined, and for each of them which of `owners` it came from."""
    counts = first[owners + 1] - first[owners]
    source = np.repeat(np.arange(len(owners)), counts)
    offsets = np.arange(len(source)) - np.repeat(np.cumsum(counts) - counts, counts)
    return first[owners][source] + offsets, source


def _take(state: State, rules: Rules, frame: Frame, transitions: list[Transition]) -> int:
    """One portion (each point at most once) into the state; returns how many readings were late."""
    point = frame.point.astype(np.int64)
    fresh = frame.time_ns > state.time_ns[point]
    late = len(frame) - int(fresh.sum())
    if late:
        frame, point = frame.take(fresh), point[fresh]
    state.time_ns[point] = frame.time_ns
    state.value[point] = frame.value
    state.quality[point] = frame.quality
    state.seen_ns[point] = state.now_ns
    good = is_good(frame.quality)
    _advance_trends(state, rules, frame.take(good), point[good])
    definition, source = _members(rules.first, point)
    answer = _judge(state, rules, definition, frame.take(source), good[source])
    judged = good[source] | (rules.family[definition] >= Family.BAD)
    # A return waiting for its off-delay must not be carried through by a stretch of bad readings.
    broken = definition[~judged & state.active[definition]]
    state.since_ns[broken] = NEVER
    _settle(
        state,
        rules,
        definition[judged],
        answer[judged],
        frame.time_ns[source][judged],
        frame.value[source][judged],
        transitions,
    )
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


def _judge(state: State, rules: Rules, definition: I64, frame: Frame, good: Bool) -> I8:
    """The detectors' answer for each (definition, reading) pair; HOLD where the reading is not good and the family wants good ones."""
    answer = np.full(len(definition), HOLD, np.int8)
    family = rules.family[definition]
    here = np.flatnonzero((family == Family.LIMIT) & good)
    rows = definition[here]
    answer[here] = detect.limit(frame.value[here], rules.sign[rows], rules.setpoint[rows], rules.deadband[rows])
    here = np.flatnonzero(family == Family.BAD)
    answer[here] = detect.bad(is_bad(frame.quality[here]))
    answer[family == Family.STALE] = FALSE
    here = np.flatnonzero(((family == Family.RATE) | (family == Family.TIME_TO_LIMIT)) & good)
    if len(here):
        answer[here] = _judge_trends(state, rules, definition[here], frame.value[here])
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
    state: State, rules: Rules, definition: I64, answer: I8, time_ns: I64, value: F64, transitions: list[Transition]
) -> None:
    """Run the delays: raise what has been TRUE for its on-delay, return what has been FALSE for its off-delay."""
    active = state.active[definition]
    turning = np.where(active, answer == FALSE, answer == TRUE)
    waiting = state.since_ns[definition]
    started = np.where(waiting == NEVER, time_ns, waiting)
    delay = np.where(active, rules.off_ns[definition], rules.on_ns[definition])
    due = turning & (time_ns - started >= delay)
    state.since_ns[definition] = np.where(turning & ~due, started, NEVER)
    for i in np.flatnonzero(due).tolist():
        number = int(definition[i])
        if active[i]:
            _return(state, rules, number, int(time_ns[i]), float(value[i]), transitions)
        else:
            _raise(state, number, int(time_ns[i]), float(value[i]), transitions)


def _suppressed(state: State, number: int) -> bool:
    return bool(state.shelved_until_ns[number] or state.out_of_service[number])


def _move(
    state: State,
    number: int,
    event: Event,
    time_ns: int,
    value: float,
    transitions: list[Transition],
    *,
    superseded_ns: int = 0,
    who: str = "",
    reason: str = "",
) -> None:
    before = Phase(int(state.phase[number]))
    after = Phase(int(NEXT[before, event]))
    state.phase[number] = after
    transitions.append(
        Transition(
            number,
            event,
            before,
            after,
            time_ns,
            value,
            int(state.onset_ns[number]),
            superseded_ns,
            _suppressed(state, number),
            who,
            reason,
        )
    )


def _raise(state: State, number: int, time_ns: int, value: float, transitions: list[Transition]) -> None:
    superseded = int(state.onset_ns[number]) if state.phase[number] != Phase.NORMAL else 0
    state.active[number] = True
    state.onset_ns[number] = time_ns
    _move(state, number, Event.RAISE, time_ns, value, transitions, superseded_ns=superseded)


def _return(state: State, rules: Rules, number: int, time_ns: int, value: float, transitions: list[Transition]) -> None:
    state.active[number] = False
    _move(state, number, Event.RETURN_LATCHED if rules.latching[number] else Event.RETURN, time_ns, value, transitions)


def _refused(state: State, rules: Rules, command: Command) -> RefusalReason | None:
    """Why `command` cannot be carried out now, or None; a ladder of early answers."""
    number, phase = command.definition, Phase(int(state.phase[command.definition]))
    if command.onset_ns and command.onset_ns != state.onset_ns[number]:
        return RefusalReason.ANOTHER_OCCURRENCE
    match command.verb:
        case Verb.ACKNOWLEDGE:
            if phase is Phase.NORMAL:
                return RefusalReason.NOT_ACTIVE
            return None if phase in UNANSWERED else RefusalReason.ALREADY_ACKNOWLEDGED
        case Verb.RESET:
            if phase is Phase.LATCHED_UNACKNOWLEDGED:
                return RefusalReason.ACKNOWLEDGE_FIRST
            return None if phase is Phase.LATCHED_ACKNOWLEDGED else RefusalReason.NOT_LATCHED
        case Verb.SHELVE:
            if not command.reason:
                return RefusalReason.REASON_MISSING
            longest = MAX_SHELVE_S[int(rules.priority[number])] * NS
            return RefusalReason.TOO_LONG if command.until_ns - command.at_ns > longest else None
        case Verb.UNSHELVE:
            return None if state.shelved_until_ns[number] else RefusalReason.NOT_SHELVED
        case Verb.OUT_OF_SERVICE:
            if not command.reason:
                return RefusalReason.REASON_MISSING
            return RefusalReason.ALREADY_OUT_OF_SERVICE if state.out_of_service[number] else None
        case Verb.IN_SERVICE:
            return None if state.out_of_service[number] else RefusalReason.NOT_OUT_OF_SERVICE


_EVENT: Final = {
    Verb.ACKNOWLEDGE: Event.ACKNOWLEDGE,
    Verb.RESET: Event.RESET,
    Verb.SHELVE: Event.SHELVE,
    Verb.UNSHELVE: Event.UNSHELVE,
    Verb.OUT_OF_SERVICE: Event.OUT_OF_SERVICE,
    Verb.IN_SERVICE: Event.IN_SERVICE,
}


def _command(state: State, rules: Rules, command: Command, transitions: list[Transition]) -> Refusal | None:
    refused = _refused(state, rules, command)
    if refused is not None:
        return Refusal(command, refused)
    number = command.definition
    match command.verb:
        case Verb.SHELVE:
            state.shelved_until_ns[number] = command.until_ns
        case Verb.UNSHELVE:
            state.shelved_until_ns[number] = 0
        case Verb.OUT_OF_SERVICE:
            state.out_of_service[number] = True
        case Verb.IN_SERVICE:
            state.out_of_service[number] = False
        case _:
            pass
    value = float(state.value[rules.point[number]])
    _move(
        state, number, _EVENT[command.verb], command.at_ns, value, transitions, who=command.who, reason=command.reason
    )
    return None


def _clock(state: State, rules: Rules, transitions: list[Transition]) -> None:
    """What only the passing of time brings: points gone stale, and shelves whose time is up."""
    over = np.flatnonzero((state.shelved_until_ns > 0) & (state.shelved_until_ns <= state.now_ns))
    for number in over.tolist():
        ended = int(state.shelved_until_ns[number])
        state.shelved_until_ns[number] = 0
        value = float(state.value[rules.point[number]])
        _move(state, number, Event.UNSHELVE, ended, value, transitions, reason="time is up")
    stale = rules.stale[~state.active[rules.stale]]
    point = rules.point[stale].astype(np.int64)
    # A point known to be bad has told so already: silence after that is no second fault.
    silent = (state.now_ns - state.seen_ns[point] >= rules.after_ns[stale]) & ~(
        is_bad(state.quality[point]) & (state.time_ns[point] != NEVER)
    )
    for number, place in zip(stale[silent].tolist(), point[silent].tolist(), strict=True):
        _raise(state, number, int(state.seen_ns[place] + rules.after_ns[number]), float("nan"), transitions)


@dataclass(frozen=True, slots=True)
class Projection:
    """Where a point is heading: `level` (its unit) at `time_ns`, `slope` and its confidence bounds a second, and in how many seconds
    the limit of `definition` is reached at that slope (NaN: it is not)."""

    definition: int
    time_ns: int
    level: float
    slope: float
    slope_low: float
    slope_high: float
    reaches_s: float


def projections(state: State, rules: Rules) -> list[Projection]:
    """Of every definition that foresees a limit: where its point is heading, for those that head for the limit within thrice its horizon."""
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
_TREND: Final = tuple(field.name for field in fields(Trend))


def _trend_keys(rules: Rules) -> list[str]:
    return [
        f"{rules.points[point]}@{tau:g}"
        for point, tau in zip(rules.trend_point.tolist(), rules.trend_tau_s.tolist(), strict=True)
    ]


def snapshot(state: State, rules: Rules) -> bytes:
    """The whole state, by name, so that it can be restored under rules that have changed since."""
    columns: dict[str, np.ndarray] = {name: getattr(state, name) for name in (*_BY_DEFINITION, *_BY_POINT, *_BY_TREND)}
    columns |= {f"trend.{name}": getattr(state.trend, name) for name in _TREND}
    columns["now_ns"] = np.asarray(state.now_ns, np.int64)
    columns["definitions"] = np.asarray([definition.id for definition in rules.definitions], np.str_)
    columns["points"] = np.asarray(rules.points, np.str_)
    columns["trends"] = np.asarray(_trend_keys(rules), np.str_)
    buffer = BytesIO()
    np.savez(buffer, **columns)  # type: ignore[arg-type]
    return buffer.getvalue()


def _shared(before: list[str], after: list[str]) -> tuple[I64, I64]:
    place = {name: number for number, name in enumerate(before)}
    pairs = [(place[name], number) for number, name in enumerate(after) if name in place]
    return np.asarray([pair[0] for pair in pairs], np.int64), np.asarray([pair[1] for pair in pairs], np.int64)


def restore(data: bytes, rules: Rules) -> State:
    """The state that `snapshot` kept, laid onto `rules`: alarms, points and trends that are new start fresh.

    Raises:
        SnapshotError: `data` is no snapshot.
    """
    try:
        with np.load(BytesIO(data), allow_pickle=False) as columns:
            kept = {name: columns[name] for name in columns.files}
        state = initial(rules, int(kept["now_ns"]))
        names = [definition.id for definition in rules.definitions]
        groups = (
            ("definitions", names, _BY_DEFINITION),
            ("points", list(rules.points), _BY_POINT),
            ("trends", _trend_keys(rules), _BY_TREND),
        )
        for key, after, group in groups:
            old, new = _shared(kept[key].tolist(), after)
            for name in group:
                getattr(state, name)[new] = kept[name][old]
            if key == "trends":
                for name in _TREND:
                    getattr(state.trend, name)[new] = kept[f"trend.{name}"][old]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        msg = f"not a snapshot of the engine: {error}"
        raise SnapshotError(msg) from error
    return state
