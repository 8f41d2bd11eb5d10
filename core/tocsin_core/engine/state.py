"""What the engine remembers, and the values that go into a step and come out of it."""

from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Final, NamedTuple

import numpy as np

from tocsin_core import normal
from tocsin_core.detect import Expectation, Surprise, Trend
from tocsin_core.detectors.columns import Columns
from tocsin_core.detectors.health import Modes
from tocsin_core.detectors.structure import Suppression
from tocsin_core.detectors.voting import Members
from tocsin_core.lifecycle import Event, Phase, RefusalReason, Verb
from tocsin_core.normal import NormalState
from tocsin_core.readings import AHEAD_NS, BAD_WAITING, F64, I64, U8, Bool, Frame
from tocsin_core.rules import NS, Rules

NEVER: Final = np.int64(-1)
FAR: Final = 1 << 62  # nanoseconds; later than any reading may be

# Who decides an alarm.
HERE: Final = np.uint8(0)
ELSEWHERE: Final = np.uint8(1)
OURS_UNTIL_TOLD: Final = np.uint8(2)

# So much longer than an alarm's delay may the other end's word on what the readings say take to arrive.
PATIENCE_NS: Final = 10 * NS

# How alarms stand, whatever the time.
_STANDING: Final = (
    "phase",
    "active",
    "onset_ns",
    "shelved_until_ns",
    "shelved_once",
    "suppressed",
    "unseen",
    "out_of_service",
    "elsewhere",
)

# At a start gateways come one after the other, and a plant of which nobody has heard yet is no flood of silences: the
# silence of a point that has said nothing yet begins so much later. Our own number.
FIRST_WORD_NS: Final = 50 * NS

ASPECTS: Final = 3  # of `commands.Aspect`

# Points looked at in one go: what is worked out for them (96 kB a column) then stays in the processor's cache, and many
# share the calls of numpy. With a third of them a reading costs a tenth to a third more, with more of them no less.
PORTION: Final = 12_288


class Transition(NamedTuple):
    """One step of one alarm.

    `definition` is its number in the rules, `time_ns` event time (for a command: when it was given), `onset_ns` the
    event time at which its occurrence was raised (0: it never was), `superseded_ns` the onset of the occurrence it
    replaced (0: none), `suppressed` whether it is shelved, out of service or suppressed by design and so must neither
    be told nor ticketed.
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


Move = tuple[int, Transition]
"""A transition with the key of the reading that brought it; see `stepping`."""


class Command(NamedTuple):
    """What a person asks of one alarm at `at_ns`.

    `onset_ns` is the occurrence they saw (0: whichever there is). For SHELVE alone: `until_ns` is the end of the
    shelving, and `once` ends it sooner, as soon as the alarm (which must be active) returns.
    """

    verb: Verb
    definition: int
    at_ns: int
    who: str
    reason: str = ""
    onset_ns: int = 0
    until_ns: int = 0
    once: bool = False


class Told(NamedTuple):
    """What the end that decides an alarm tells of it: a step, or the refusal of a command (`event` None).

    `phase`, `onset_ns` (0: never raised), `until_ns` (0: not shelved) with `once`, `out_of_service` and `suppressed`
    (by design) are how the alarm stands there after it. `answers`: it came of the command that this end gave at
    `time_ns`.
    """

    definition: int
    event: Event | None
    time_ns: int
    value: float
    phase: Phase
    onset_ns: int
    until_ns: int
    once: bool
    out_of_service: bool
    suppressed: bool
    who: str
    reason: str
    answers: bool


class Decider(NamedTuple):
    """That from `at_ns` on the other end decides these definitions (`elsewhere`), or that this one does again."""

    definitions: tuple[int, ...]
    elsewhere: bool
    at_ns: int


class Refusal(NamedTuple):
    """A command that changed nothing, and why."""

    command: Command
    reason: RefusalReason


class StepResult(NamedTuple):
    """What one step led to.

    `late` readings were not newer than their point's last; `clock_steps_back` counts a `now_ns` that went back.
    `computed` are the readings of computed points that the readings led to.
    """

    transitions: list[Transition]
    refusals: list[Refusal]
    late: int
    clock_steps_back: int
    computed: Frame


@dataclass(slots=True)
class State:
    """Everything the engine remembers. D definitions, P points, T trends, R that re-alarm as in `Rules`.

    Of length D: `phase` u8; `active` bool, the condition after its delays; `since_ns` i64, since when the condition has
    differed from it (-1: it does not); `onset_ns` i64 of the present occurrence (0: none yet); `shelved_until_ns` i64
    (0: not shelved), and `shelved_once` bool, whether its return ends that; `suppressed` bool, by design, and `unseen`
    bool, whether it has been so since the present occurrence was raised; `out_of_service` bool; `elsewhere` u8, who
    decides it: this end (HERE), another that tells (ELSEWHERE, and then the condition's `since_ns` goes on after its
    delay), or this end still, until another speaks of it (OURS_UNTIL_TOLD). `commanded_ns` i64[D, 3]: when the last
    command was given on each `commands.Aspect` (0: none, or, where another end decides, it has answered).

    Of length P: `time_ns` i64 of the last reading (-1: none), its `value` f64 and `quality` u8, `seen_ns` i64 the tick
    after which it came (while none has, when its silence begins). Of length T: `trend_ns` i64 of the last good reading
    and `trend_value` f64, what the trend took it for; `sums` f64[9, T], the columns of `trend`; `surprise` f64[2, T],
    those of `detect.Surprise`.
    Of length R: `acknowledged_ns` i64 of the last acknowledgement (0: none).
    `now_ns` is the last tick. `tables` are those of `Rules.special`, by name, `units` the states of normal-operation
    models, by computed point.

    `told_ns` by definition that this end decides: until when another end has told of it, or until when it was read here
    if that was later. What was read until then is on its way still, for words go first, and turns nothing.

    Worked out from these and the rules, and not part of a snapshot: of length P `quiet_low` and `quiet_high` f64 and
    `due_ns` i64 (see `rest`); of length T `side` and `bound` f64[2, T], those of its rate and of what it foresees (see
    `detect.stirs`), `waits` bool[2, T], whether these alarms wait for their delays, and `expected` f64[3, T], the
    columns of `detect.Expectation`; `shelf_due_ns`, `realarm_due_ns` and `stale_due_ns`, before which no shelf ends,
    nothing re-alarms and no point goes stale.
    """

    phase: U8
    active: Bool
    since_ns: I64
    onset_ns: I64
    shelved_until_ns: I64
    shelved_once: Bool
    suppressed: Bool
    unseen: Bool
    out_of_service: Bool
    elsewhere: U8
    commanded_ns: I64
    time_ns: I64
    value: F64
    quality: U8
    seen_ns: I64
    trend_ns: I64
    trend_value: F64
    sums: F64
    surprise: F64
    acknowledged_ns: I64
    now_ns: int
    tables: dict[str, Columns]
    units: dict[str, NormalState]
    quiet_low: F64
    quiet_high: F64
    due_ns: I64
    side: F64
    bound: F64
    waits: Bool
    expected: F64
    shelf_due_ns: int
    realarm_due_ns: int
    stale_due_ns: int
    told_ns: dict[int, int] = field(default_factory=dict)

    @property
    def trend(self) -> Trend:
        """The sums of all trends, as they are."""
        return Trend(*self.sums)


def occurrence_id(alarm: str, onset_ns: int) -> str:
    """The id of one raising of `alarm`: 16 hex digits that gateway and cloud both arrive at."""
    return blake2b(f"{alarm}@{onset_ns}".encode(), digest_size=8).hexdigest()


def set_back(state: State, rules: Rules, now_ns: int) -> State:
    """The state after the clock that stamps the readings was set back to `now_ns`.

    How alarms stand is kept, and shelves last as long as was asked. Readings, windows, sums and waiting delays begin
    anew: by their stamps they are of a time to come, and would make late ones of all readings until the clock has
    caught up. What was read before the last of a point stays late, but for what is of just now. Shelves and commands of
    what another end decides are by the clock of that end, or wait for its answer. What says how readings are to be
    taken is kept as well: until it was read again a vote would be one of those read first, what is suppressed by design
    would be told, and the gas of a calibration be the plant's.
    """
    fresh, by_ns = initial(rules, now_ns), state.now_ns - now_ns
    for name in _STANDING:
        getattr(fresh, name)[:] = getattr(state, name)
    here = fresh.elsewhere == HERE
    fresh.shelved_until_ns[here & (fresh.shelved_until_ns > 0)] -= by_ns
    fresh.seen_ns[state.time_ns != NEVER] = now_ns
    np.minimum(state.time_ns, now_ns - AHEAD_NS, out=fresh.time_ns)
    np.minimum(state.acknowledged_ns, now_ns, out=fresh.acknowledged_ns)
    np.copyto(fresh.commanded_ns, state.commanded_ns)
    fresh.commanded_ns[here] = np.minimum(state.commanded_ns[here], now_ns)
    for name, table in state.tables.items():
        fresh.tables[name] = _set_back(table, fresh.tables[name], by_ns, now_ns)
    return fresh


def _set_back(table: Columns, begun_anew: Columns, by_ns: int, now_ns: int) -> Columns:
    """`table` by a clock that is `by_ns` earlier; `begun_anew` where it keeps windows and delays of readings."""

    def earlier(times_ns: I64, above_ns: int = int(NEVER)) -> I64:
        return np.where(times_ns > above_ns, np.maximum(times_ns - by_ns, 0), times_ns)

    # Stamps of a time to come are of the clock that was set back, others perhaps of one that was right all the while.
    match table:
        case Members():
            # By the ticks, all of them: who was silent for too long before is so after it.
            return replace(table, time_ns=earlier(table.time_ns))
        case Suppression():
            # Nor may what has waited for its delay wait for it again.
            return replace(table, since_ns=earlier(table.since_ns), time_ns=earlier(table.time_ns, now_ns))
        case Modes():
            return replace(table, left_ns=earlier(table.left_ns, now_ns))
    return begun_anew


def initial(rules: Rules, now_ns: int) -> State:
    """The state in which nothing has been seen; silence counts from `FIRST_WORD_NS` after `now_ns`."""
    d, p, t = len(rules.definitions), len(rules.points), len(rules.trend_point)
    return State(
        phase=np.zeros(d, np.uint8),
        active=np.zeros(d, np.bool_),
        since_ns=np.full(d, NEVER),
        onset_ns=np.zeros(d, np.int64),
        shelved_until_ns=np.zeros(d, np.int64),
        shelved_once=np.zeros(d, np.bool_),
        suppressed=np.zeros(d, np.bool_),
        unseen=np.zeros(d, np.bool_),
        out_of_service=np.zeros(d, np.bool_),
        elsewhere=np.full(d, HERE),
        commanded_ns=np.zeros((d, ASPECTS), np.int64),
        time_ns=np.full(p, NEVER),
        value=np.full(p, np.nan),
        quality=np.full(p, BAD_WAITING, np.uint8),
        seen_ns=np.full(p, now_ns + FIRST_WORD_NS, np.int64),
        trend_ns=np.full(t, NEVER),
        trend_value=np.full(t, np.nan),
        sums=np.zeros((len(Trend._fields), t)),
        surprise=np.zeros((len(Surprise._fields), t)),
        acknowledged_ns=np.zeros(len(rules.realarm), np.int64),
        now_ns=now_ns,
        tables={name: table.empty() for name, table in rules.special.tables.items()},
        units={name: normal.start(model) for name, model in rules.special.models.items()},
        quiet_low=np.full(p, np.inf),
        quiet_high=np.full(p, -np.inf),
        due_ns=np.full(p, FAR),
        side=np.stack((np.ones(t), rules.trend_sign)),
        bound=np.stack((rules.trend_rate, np.zeros(t))),
        waits=np.zeros((2, t), np.bool_),
        expected=np.stack(Expectation(np.zeros(t), np.zeros(t), np.full(t, np.inf))),
        shelf_due_ns=now_ns,
        realarm_due_ns=now_ns,
        stale_due_ns=now_ns,
    )
