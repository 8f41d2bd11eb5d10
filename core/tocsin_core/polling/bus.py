"""Whose turn it is on a line: one question at a time, safety first, dead units in the gaps, nobody starved."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from math import inf
from typing import Final

from tocsin_core.polling.health import FAILURES_UNTIL_DEAD, PROBE_FIRST_S, Health, grace_s
from tocsin_core.schedule import Grid, first_due

NS_PER_S: Final = 1_000_000_000
# A cycle that is not through after so many periods ends as it is, and what it lacks is bad.
BUDGET_PERIODS: Final = 2
# A probe may disturb the others when its unit has saved up the time for it out of its own slot, or after so long.
PROBE_ANYWAY_S: Final = 30.0
# A line on which so many units, one after the other, do not answer, and none does, is taken for silent.
SILENT_UNITS: Final = 2
# What is not for safety waits on an overloaded line, but no longer than this; then it has one turn.
STARVED_PERIODS: Final = 10
STARVED_LEAST_S: Final = 10.0
# A busy device (exceptions 5 and 6) is asked again after this part of its period.
BUSY_PART: Final = 0.25
# Telling late answers apart takes a turn or three; after so many in a row a question counts as not answered.
MOST_UNASKED: Final = 10
# Readings are stamped in whole ms, at the middle of the exchange: two cycles that begin no sooner than this after each
# other bear two stamps, unless the first one's question went out late.
APART_S: Final = 0.002
# Weight of the newest cycle in what is usual.
USUAL_WEIGHT: Final = 0.2
# On average so much longer than its period: no longer kept, or kept again.
STRETCHED: Final = 1.2
KEPT: Final = 1.05
# One cycle that stumbles, as the machine stood still, is no overload, nor are two; one that nobody answered is none.
LONG_ONES: Final = 3


@dataclass(frozen=True, slots=True)
class Moment:
    """A time by both clocks: UTC ns since 1970, and s that never step back."""

    ns: int
    s: float


@dataclass(frozen=True, slots=True)
class Job:
    """What is read from a unit again and again; `safety`: its period is kept when the line cannot do everything.

    `key` decides the phase of its ticks; `pause_s` is the device's least time between an answer and a question;
    `direct`: nobody between here and the unit goes on waiting for an answer that was given up.
    """

    name: str
    unit: int
    period_ns: int
    timeout_s: float
    retries: int = 1
    pause_s: float = 0.0
    safety: bool = False
    direct: bool = False

    @property
    def period_s(self) -> float:
        """The period in s."""
        return self.period_ns / NS_PER_S


class Outcome(Enum):
    """What became of a question."""

    ANSWERED = "answered"
    BUSY = "busy"
    SILENT = "silent"
    UNASKED = "unasked"
    """The turn went to telling its answer apart from a late one: it is still to be asked."""


class Next(Enum):
    """What becomes of the cycle after a question."""

    ON = "on"
    """The next request of the plan, when it is its turn again."""
    AGAIN = "again"
    """The same request once more."""
    GIVEN_UP = "given up"
    """The cycle ends without an answer to this request."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Ask this job's next question now, and wait so long for the answer; `probe`: the unit counts as dead.

    `hasty`: it is not waited for as long as it may take; unanswered, it counts as no try.
    """

    job: int
    patience_s: float
    probe: bool
    hasty: bool = False


@dataclass(frozen=True, slots=True)
class JobFigures:
    """How a job fares: how many periods lie between its cycles on average (1 is kept), ticks left out, failures."""

    name: str
    safety: bool
    stretch: float
    cycles: int
    missed: int
    failed: int
    dead: bool


@dataclass
class _Run:
    """Where a job is: its tick, whether its cycle has begun, and when it may ask next (monotonic s)."""

    due_s: float
    due_ns: int
    ready_s: float
    usual_interval_s: float
    long_ones: int = 0
    rest_until_s: float = -inf
    begun: bool = False
    told_dead: bool = False
    read_s: float = inf
    told_bad: int = 0
    told_bad_s: float = -inf
    silence_s: float = 0.0
    tries: int = 0
    unasked: int = 0
    answers: int = 0
    busy_s: float = 0.0
    usual_busy_s: float = 0.0
    last_begun_s: float = -inf
    last_probe_s: float = -inf
    times_set_back: int = 0
    counts: Counter[str] = field(default_factory=Counter)


class Bus:
    """The units of one line and whose turn it is. Every method takes the time; `draw` gives random numbers [0, 1).

    A turn is one question, so that a long plan does not hold up a short one. Among the jobs whose tick has come,
    safety goes first, then whoever has waited longest; a question that failed is asked again after the others that
    wait. Of units that do not answer no two are waited for in a row while others wait. A tick that passed while the
    line was busy is made up for at once, but only the latest. Ticks are at moments of `grid`, where there is one.
    """

    def __init__(self, jobs: Sequence[Job], now: Moment, draw: Callable[[], float], grid: Grid | None = None) -> None:
        """Start with every unit thought to be starting."""
        self._grid = grid
        self.jobs = tuple(jobs)
        self._draw = draw
        self._runs = [self._start(job, now) for job in self.jobs]
        longest: dict[int, float] = {}
        self._pause_s: dict[int, float] = {}
        for job in self.jobs:
            longest[job.unit] = max(longest.get(job.unit, 0.0), job.period_s)
            self._pause_s[job.unit] = max(self._pause_s.get(job.unit, 0.0), job.pause_s)
        self.health = {unit: Health(now.s + grace_s(period)) for unit, period in longest.items()}
        self._pause_until = dict.fromkeys(self.health, 0.0)
        self._stretched: set[int] = set()
        # For how long questions were waited for since anybody answered, and by whom.
        self._silent_s = 0.0
        self._silent_units: set[int] = set()
        # Live units that did not answer their last question; for how long all such were waited for, and until when.
        self._doubted: set[int] = set()
        self._silence_s = 0.0
        self._silent_until_s = -inf
        self.busy_s = 0.0

    def _start(self, job: Job, now: Moment) -> _Run:
        due_ns = first_due(job.period_ns, job.name, now.ns, self._grid)
        # Its units may have been read until now by another bus.
        due_s = now.s + max((due_ns - now.ns) / NS_PER_S, APART_S)
        return _Run(due_s, due_ns, due_s, job.period_s)

    def next(self, now: Moment) -> Turn | float:
        """Tell the turn to take now, or how many s there is nothing to do."""
        ready = [at for at in range(len(self.jobs)) if self._ready_s(at) <= now.s]
        live = [(self._rank(at, now), at) for at in ready if not self._dead(at)]
        probes = sorted((self._runs[at].last_probe_s, at) for at in ready if self._dead(at))
        # No two silent units are waited for in a row, but by those who have waited for the first already.
        waited = any(rank[-1] <= self._silent_until_s for rank, _ in live)
        for _, at in probes:
            # On an overloaded line somebody always has: but nobody is starved.
            if waited and now.s - self._runs[at].last_begun_s < PROBE_ANYWAY_S + STARVED_LEAST_S:
                continue
            # What it has saved up is its own slot, and like any slot it comes after those of safety.
            if self._may_disturb(at, now) and not (live and min(live) < (self._rank(at, now), at)):
                return self._turn(at, now)
        if live:
            return self._turn(min(live)[1], now)
        upcoming = min((self._ready_s(at) for at in range(len(self.jobs)) if not self._dead(at)), default=inf)
        for _, at in probes:
            turn = self._turn(at, now)
            if now.s + turn.patience_s <= upcoming:
                return turn
        waits = [self._ready_s(at) for at in range(len(self.jobs)) if self._ready_s(at) > now.s]
        # A probe that waits for a gap is looked at again when the next live unit has had its turn.
        return min([*waits, upcoming, now.s + 1.0]) - now.s

    def _dead(self, at: int) -> bool:
        return self.health[self.jobs[at].unit].dead

    def _ready_s(self, at: int) -> float:
        job, run = self.jobs[at], self._runs[at]
        health = self.health[job.unit]
        rested_s = max(run.rest_until_s, self._pause_until[job.unit])
        if not health.dead:
            return max(run.ready_s, rested_s)
        spaced_s = run.last_probe_s + min(job.period_s, PROBE_FIRST_S)
        return max(health.probes.not_before_s, spaced_s, rested_s)

    def _rank(self, at: int, now: Moment) -> tuple[bool, float, bool, float]:
        """What goes first: safety and what is starved, then the longest due, and what is in doubt after it."""
        job, run = self.jobs[at], self._runs[at]
        if self._dead(at):
            overdue = now.s - run.last_probe_s >= PROBE_ANYWAY_S
            return (not (job.safety or overdue), run.last_probe_s, False, run.last_probe_s)
        starved = now.s - run.due_s > max(STARVED_PERIODS * job.period_s, STARVED_LEAST_S)
        since_s = max(run.due_s, run.ready_s)
        if job.unit not in self._doubted:
            return (not (job.safety or starved), since_s, False, since_s)
        # Where many fell silent at once the others have as much time after each wait, also beside those for safety.
        waited = since_s <= self._silent_until_s and now.s < self._silent_until_s + job.timeout_s
        yields = waited and len(self._doubted) >= SILENT_UNITS
        in_vain = run.tries > 0 or self.health[job.unit].failing
        return (yields or not (job.safety or starved), max(since_s, self._silent_until_s), in_vain, since_s)

    def _may_disturb(self, at: int, now: Moment) -> bool:
        """Whether a dead unit's probe may delay the others: out of what its own slot has saved up since the last."""
        run, job = self._runs[at], self.jobs[at]
        since = now.s - run.last_probe_s
        patience = self.health[job.unit].patience_s(job.timeout_s)
        return since >= PROBE_ANYWAY_S or since * run.usual_busy_s / job.period_s >= patience

    def _turn(self, at: int, now: Moment) -> Turn:
        job, run = self.jobs[at], self._runs[at]
        health = self.health[job.unit]
        patience = health.patience_s(job.timeout_s)
        # A device slower than its own budget is bad with the reason, rather than silently old.
        left = BUDGET_PERIODS * job.period_s - (now.s - run.last_begun_s if run.begun else 0.0)
        hasty_s = health.usual_patience_s(job.timeout_s)
        # Where several units have just fallen silent, those next to them on the line may have, too: to wait a whole
        # time-out for each would cost the others periods.
        unsure = len(self._doubted) >= SILENT_UNITS and job.unit not in self._doubted
        if job.direct and unsure and not health.dead and 2.0 * hasty_s <= patience <= left - hasty_s:
            return Turn(at, hasty_s, probe=False, hasty=True)
        return Turn(at, max(min(patience, left), min(patience, job.period_s)), health.dead)

    def begin(self, turn: Turn, now: Moment) -> None:
        """Note that the question of `turn` goes out."""
        run = self._runs[turn.job]
        if turn.probe:
            run.last_probe_s = now.s
        if not run.begun:
            if run.last_begun_s > -inf and not turn.probe:
                self._note_interval(turn.job, now.s - run.last_begun_s)
            run.begun, run.tries, run.answers, run.busy_s = True, 0, 0, 0.0
            run.last_begun_s = now.s

    def end(self, turn: Turn, outcome: Outcome, took_s: float, now: Moment, rest_s: float = 0.0) -> Next:
        """Note what became of the question of `turn`; tell how its cycle goes on.

        The line was busy for `took_s`; the unit is asked nothing for its pause, an unasked question again in `rest_s`.
        After `MOST_UNASKED` turns in a row that went to something else a question counts as not answered.
        """
        job, run = self.jobs[turn.job], self._runs[turn.job]
        run.busy_s += took_s
        self.busy_s += took_s
        self._note_silence(turn, outcome, took_s, now)
        self._pause_until[job.unit] = now.s + self._pause_s[job.unit]
        if outcome is Outcome.UNASKED:
            run.unasked += 1
            if run.unasked < MOST_UNASKED:
                # A dead unit's probe goes on as soon as it may: its place on the line was found already.
                run.ready_s, run.last_probe_s = now.s, -inf
                run.rest_until_s = now.s + rest_s
                return Next.AGAIN
        run.unasked = 0
        if turn.hasty and outcome is Outcome.SILENT:
            run.ready_s = now.s
            return Next.AGAIN
        run.tries += 1
        if outcome in (Outcome.ANSWERED, Outcome.BUSY):
            self.health[job.unit] = self.health[job.unit].answered(took_s)
            run.answers += 1
        if outcome is Outcome.ANSWERED:
            run.tries = 0
            return Next.ON
        tries = 1 if self.health[job.unit].failing else 1 + job.retries
        late = now.s - run.last_begun_s >= BUDGET_PERIODS * job.period_s - job.timeout_s
        if run.tries < tries and not late:
            # Behind whoever waits already, not in front of them.
            run.ready_s = now.s + (BUSY_PART * job.period_s if outcome is Outcome.BUSY else 0.0)
            return Next.AGAIN
        run.tries = 0
        return Next.GIVEN_UP

    def _note_silence(self, turn: Turn, outcome: Outcome, took_s: float, now: Moment) -> None:
        unit = self.jobs[turn.job].unit
        if outcome is not Outcome.SILENT:
            self._silent_s = 0.0
            self._silent_units.clear()
            if outcome is not Outcome.UNASKED:
                self._doubted.discard(unit)
            return
        # Where this process stood still, it took no longer than it was given.
        waited_s = min(took_s, turn.patience_s)
        self._silent_s += waited_s
        self._silent_units.add(unit)
        self._silent_until_s = now.s
        if not turn.probe:
            self._doubted.add(unit)
            self._silence_s += waited_s

    def unheard(self, now: Moment) -> dict[int, str]:
        """Tell which jobs have had no answer for two periods because the line is silent, and why.

        Each again two periods later, but no more often than a unit that dies: a single one raises no alarm.

        All units of a cable that is cut are silent, and it takes a time-out each to find that out, and one for a retry.
        Those of a part of it, while the others answer, are told once they were asked and it is two periods ago that
        they should have been read.
        """
        if max(len(self._silent_units), len(self._doubted)) < SILENT_UNITS:
            return {}
        found = {}
        for at, run in enumerate(self._runs):
            enough = run.told_bad >= FAILURES_UNTIL_DEAD or self._dead(at)
            reason = "" if enough else self._unheard(at, now)
            if reason:
                run.told_bad, run.told_bad_s = run.told_bad + 1, now.s
                found[at] = reason
        return found

    def _unheard(self, at: int, now: Moment) -> str:
        job, run = self.jobs[at], self._runs[at]
        least_s = BUDGET_PERIODS * job.period_s
        if now.s - run.read_s < job.period_s + least_s or now.s - run.told_bad_s < least_s:
            return ""
        if len(self._silent_units) >= SILENT_UNITS and self._silent_s >= least_s:
            return "nobody on the line answers"
        return "no answer" if job.unit in self._doubted and self._silence_s - run.silence_s >= least_s else ""

    def finish(self, turn: Turn, now: Moment) -> bool:
        """End the cycle and set the next tick; tells whether its readings are to be told.

        A cycle that nobody answered counts as the unit's failure. Bad readings are told until the unit is dead, each
        job's first after that included, whichever job it died of; of a unit that may still be starting nothing is told.
        """
        job, run = self.jobs[turn.job], self._runs[turn.job]
        run.begun = False
        tells = True
        if run.answers:
            run.told_dead, run.told_bad, run.told_bad_s = False, 0, -inf
            run.read_s, run.silence_s = run.last_begun_s, self._silence_s
            run.counts["cycles"] += 1
            run.usual_busy_s += (USUAL_WEIGHT if run.usual_busy_s else 1.0) * (run.busy_s - run.usual_busy_s)
        else:
            run.counts["failed"] += 1
            before = self.health[job.unit]
            self.health[job.unit] = before.failed(now.s, self._draw())
            dead = self.health[job.unit].dead
            tells = self.health[job.unit] != before and not run.told_dead
            tells = tells and (dead or run.told_bad < FAILURES_UNTIL_DEAD)
            run.told_dead = dead
            if tells:
                run.told_bad, run.told_bad_s = run.told_bad + 1, now.s
            if dead:
                self._doubted.discard(job.unit)
        self._set_due(turn.job, now, late=run.answers > 0 and not turn.probe)
        return tells

    def _set_due(self, at: int, now: Moment, *, late: bool) -> None:
        """Set the next tick; `late`: one that passed is made up for at once. A silent unit has no claim to that."""
        job, run = self.jobs[at], self._runs[at]
        # A tick is never more than a period away, unless the clock was set back. From then on the ticks have another
        # shift, anywhere in the period: by the same one readings would bear the stamps that others have borne already.
        run.times_set_back += run.due_ns - now.ns > job.period_ns
        key, grid = (f"{job.name} {run.times_set_back}", None) if run.times_set_back else (job.name, self._grid)
        latest = first_due(job.period_ns, key, now.ns + 1, grid) - job.period_ns
        # A clock that was set back does not hold the ticks up: the next is never more than a period away.
        following = latest if late and run.due_ns < latest else latest + job.period_ns
        if late:
            run.counts["missed"] += max(0, int((now.s - run.due_s) / job.period_s) - 1)
        run.due_ns = following
        run.due_s = run.ready_s = max(now.s + (following - now.ns) / NS_PER_S, run.last_begun_s + APART_S)

    def _note_interval(self, at: int, interval_s: float) -> None:
        run = self._runs[at]
        run.usual_interval_s += USUAL_WEIGHT * (interval_s - run.usual_interval_s)
        period_s = self.jobs[at].period_s
        stretch = run.usual_interval_s / period_s
        long_one = interval_s > STRETCHED * period_s and run.answers > 0
        run.long_ones = run.long_ones + long_one if stretch > KEPT else 0
        if stretch > STRETCHED and run.long_ones >= LONG_ONES:
            self._stretched.add(at)
        elif stretch < KEPT:
            self._stretched.discard(at)

    def hurry(self, at: int, now: Moment, after_s: float = 0.0) -> None:
        """Let the job's next question be asked `after_s` from now at the latest; a dead unit is probed as it would."""
        run = self._runs[at]
        run.ready_s = min(run.ready_s, now.s + after_s)
        run.rest_until_s = min(run.rest_until_s, now.s + after_s)
        if not run.begun:
            run.due_s = run.ready_s

    def line_back(self) -> None:
        """Note that the line itself is there again: what seemed dead with it is asked at once."""
        self.health = {unit: health.ready() for unit, health in self.health.items()}
        for run in self._runs:
            run.last_probe_s = -inf

    @property
    def idle(self) -> bool:
        """Whether no cycle is open."""
        return not any(run.begun for run in self._runs)

    @property
    def stretched(self) -> tuple[str, ...]:
        """The jobs of live units whose period is not kept."""
        return tuple(self.jobs[at].name for at in sorted(self._stretched) if not self._dead(at))

    def figures(self) -> tuple[JobFigures, ...]:
        """How each job fares."""
        return tuple(
            JobFigures(
                job.name,
                job.safety,
                run.usual_interval_s / job.period_s,
                run.counts["cycles"],
                run.counts["missed"],
                run.counts["failed"],
                self.health[job.unit].dead,
            )
            for job, run in zip(self.jobs, self._runs, strict=True)
        )
