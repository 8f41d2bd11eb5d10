"""The poll loop of one Modbus line: asks whose turn it is, and makes samples of what was answered or was not."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from random import SystemRandom
from typing import Final

import numpy as np
import structlog

from tocsin_core.clock import Clock
from tocsin_core.plant.connection import Modbus
from tocsin_core.plant.outputs import Output
from tocsin_core.polling import Bus, Job, JobFigures, Moment, Next, Outcome, Turn, WriteRequest, different
from tocsin_core.readings import BAD_COMM_FAILURE, I64
from tocsin_core.registers import Hole, Profile, ReadPlan, ReadRequest, Reply, compile_plan
from tocsin_core.schedule import Grid
from tocsin_edge.adapters.modbus import BUSY, Answer, Apart, ModbusLine
from tocsin_edge.adapters.modbus_holes import read_holes, write_holes
from tocsin_edge.loops.chores import AGAIN_FIRST_S, Chore
from tocsin_edge.loops.health import Complaints
from tocsin_edge.loops.keep import Sample
from tocsin_edge.loops.measured import measured
from tocsin_edge.settings import DeviceSettings, EdgeSettings, ModbusDevice, Part

NS_PER_MS: Final = 1_000_000
MS_PER_S: Final = 1000
# Over which the line's utilisation is taken, and how often it is looked at.
WINDOW_S: Final = 10.0
LONGEST_SLEEP_S: Final = 1.0
# A line that is to end and is never idle ends after so long all the same.
END_S: Final = 10.0
# Cycles that follow each other at once are apart by less than this, also where a clock hesitates; a cycle that was
# stamped before the clock was set back is farther ahead.
SAME_MS: Final = 1000
# A question about a split that nobody answered is asked again after so long.
DOUBT_AGAIN_S: Final = 600.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class LineFigures:
    """How a line fares: whether it is up, the share of time it is busy, the jobs whose period is not kept.

    `troubles` says by device what is wrong with it now; `counts` is what the line has counted.
    """

    name: str
    up: bool
    utilisation: float
    stretched: tuple[str, ...]
    jobs: tuple[JobFigures, ...]
    troubles: Mapping[str, str]
    counts: Mapping[str, int]


class Holes:
    """What was learned of all devices of the gateway, kept in its folder by `run`."""

    def __init__(self, folder: Path) -> None:
        """Read what was learned before."""
        self._folder = folder
        self._holes = read_holes(folder)
        self._news = asyncio.Event()

    def of(self, where: str) -> tuple[Hole, ...]:
        """Get what the device there refused."""
        return self._holes.get(where, ())

    def learn(self, where: str, holes: tuple[Hole, ...]) -> None:
        """Know what the device there refused; never waits."""
        self._holes[where] = holes
        self._news.set()

    async def run(self) -> None:
        """Put on disk for ever what is learned, if it takes it: no line waits for that."""
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                await asyncio.to_thread(write_holes, self._folder, dict(self._holes))
            except OSError as error:
                log.warning("learned refusals not kept", reason=str(error))


@dataclass
class _Reading:
    """One part of a device, its plan as it is by now, and what its cycle has brought."""

    device: DeviceSettings
    how: ModbusDevice
    part: Part
    plan: ReadPlan
    homes: I64
    complaints: Complaints
    replies: dict[ReadRequest, Reply] = field(default_factory=dict)
    middle_ms: dict[ReadRequest, int] = field(default_factory=dict)
    in_vain_ms: dict[ReadRequest, int] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)
    learned: bool = False
    doubt_after_s: float = 0.0
    newest_ms: int = 0

    @property
    def where(self) -> str:
        """Which device it is, for what is learned of it: another one at its place has other holes."""
        part = f" part {self.how.parts.index(self.part) + 1}" if len(self.how.parts) > 1 else ""
        return f"{self.device.id} {self.how.address.line} {self.how.address.unit} {self.how.profile.model}{part}"

    def follow(self, plan: ReadPlan) -> None:
        """Go on with another plan."""
        self.plan, self.homes = plan, _homes(self.how.profile, plan)

    def request(self, now_s: float) -> ReadRequest | None:
        """The next question of the cycle, if there is one; the last may be to find out whether a split was needed."""
        left = next((request for request in self.plan.requests if request not in self.replies), None)
        if left is not None or self.learned or now_s < self.doubt_after_s:
            return left
        return self.plan.doubt([self.replies[request] for request in self.plan.requests])

    def note_in_vain(self, request: ReadRequest, answer: Answer) -> None:
        """Remember when `request`, which is asked again, was first asked."""
        self.in_vain_ms.setdefault(request, _middle_ms(answer))

    def note(self, request: ReadRequest, answer: Answer) -> None:
        """Take in the answer to `request`, at the middle of its exchange.

        One that never came is of the first try: where the stamps of a unit that dies depended on how long it was tried,
        those of its bad readings could lie too close for the instrument alarm's delay, and no more of them come.
        """
        self.replies[request] = answer.reply
        middle_ms = _middle_ms(answer)
        self.middle_ms[request] = self.in_vain_ms.get(request, middle_ms) if answer.silent else middle_ms
        if answer.reason and answer.reason not in self.reasons:
            self.reasons.append(answer.reason)

    def unheard(self, why: str, now_ns: int) -> tuple[Sample, str] | None:
        """Make a bad sample of what the cycle, begun or not, has not brought by now; None: it has all.

        The cycle, where it goes on, begins with nothing.
        """
        left = next((request for request in self.plan.requests if request not in self.replies), None)
        if left is None:
            return None
        self.note(left, Answer(BAD_COMM_FAILURE, why, begun_ns=now_ns, ended_ns=now_ns))
        return self.close()

    def close(self) -> tuple[Sample, str]:
        """Make a sample of the cycle, and say what is wrong with it; the next begins with nothing."""
        later_ms = self._later_ms()
        self.middle_ms = {request: middle_ms + later_ms for request, middle_ms in self.middle_ms.items()}
        latest = self.newest_ms = max(self.middle_ms.values())
        decoded = self.plan.decode([self.replies.get(request, BAD_COMM_FAILURE) for request in self.plan.requests])
        times = np.array([self.middle_ms.get(request, latest) for request in self.plan.requests])[self.homes]
        found = measured(self.device, decoded.value, decoded.quality, times, self.part.points)
        reason = "; ".join(filter(None, (*self.reasons, found.reason)))
        self.replies, self.middle_ms, self.in_vain_ms, self.reasons, self.learned = {}, {}, {}, [], False
        return Sample(self.device, found.columns), reason

    def _later_ms(self) -> int:
        """How much later than read the cycle is stamped: of two readings of one stamp a history keeps one.

        A question may go out long after its cycle began, for a connection, a retry or a busy machine; the next cycle,
        already due by then, begins within the same ms.
        """
        behind_ms = self.newest_ms - min(self.middle_ms.values())
        return behind_ms + 1 if 0 <= behind_ms <= SAME_MS else 0


class Poller:
    """Polls the devices of one line for ever.

    A unit that does not answer gives bad readings with each period until it counts as dead; from then on it is probed
    with a single question, seconds apart, in the gaps between the others, and only its return is told. One that was
    never reached gives none at all while it may still be starting. Outputs and push-buttons (`chores`) of the line take
    their turns like devices for safety.
    """

    def __init__(
        self,
        devices: Sequence[DeviceSettings],
        line: ModbusLine,
        holes: Holes,
        clock: Clock,
        put: Callable[[Sample], None],
        draw: Callable[[], float],
        chores: Sequence[Chore] = (),
        grid: Grid | None = None,
    ) -> None:
        """Wire only; `run` does the work. `draw` gives random numbers [0, 1), `grid` the moments of the ticks."""
        self.line = line
        self._holes = holes
        self._clock = clock
        self._put = put
        self._readings = [
            _reading(device, device.input, part, Complaints(device.id), holes)
            for device in devices
            if isinstance(device.input, ModbusDevice)
            for part in device.input.parts
        ]
        self._of_unit = {reading.how.address.unit: reading for reading in self._readings}
        self._chores = tuple(chores)
        self._news = asyncio.Event()
        jobs = [*(_job(reading) for reading in self._readings), *(chore.job for chore in chores)]
        self._bus = Bus(jobs, self._now(), draw, grid)
        for at, chore in enumerate(chores, start=len(self._readings)):
            chore.hurry = partial(self._hurry, at)
            chore.hurry()
        self._end_by_s: float | None = None
        self._down = False
        self._overloaded = False
        self._window = (clock.monotonic(), 0.0)
        self._utilisation = 0.0

    @property
    def name(self) -> str:
        """The line's name."""
        return self.line.name

    def begin(self) -> None:
        """Ask every device for the first time now, not at its tick: nobody knows yet how anything stands."""
        for at in range(len(self._readings)):
            self._bus.hurry(at, self._now())

    def close(self) -> None:
        """Close the line."""
        self.line.close()

    def end(self) -> None:
        """Let `run` return between two ticks, so that whoever goes on with the line's devices misses none."""
        if self._end_by_s is None:
            self._end_by_s = self._clock.monotonic() + END_S

    async def run(self) -> None:
        """Poll until cancelled, or until `end` allows to stop."""
        while not self._may_end(turn := self._bus.next(now := self._now())):
            if not isinstance(turn, Turn):
                await self._sleep(min(turn, LONGEST_SLEEP_S))
            elif turn.job < len(self._readings):
                await self._take(turn, now)
            else:
                await self._do(turn, self._chores[turn.job - len(self._readings)], now)
            self._tell_unheard()
            self._watch()

    def figures(self) -> LineFigures:
        """How the line fares."""
        return LineFigures(
            self.name,
            self.line.up,
            self._utilisation,
            self._bus.stretched,
            self._bus.figures(),
            {each.device.id: each.complaints.reason for each in self._readings if each.complaints.reason},
            dict(self.line.counts),
        )

    def _may_end(self, turn: Turn | float) -> bool:
        """Whether this is to end, and nothing is due but a probe."""
        if self._end_by_s is None:
            return False
        if self._clock.monotonic() >= self._end_by_s:
            return True
        return self._bus.idle and (not isinstance(turn, Turn) or turn.probe)

    def _now(self) -> Moment:
        return Moment(self._clock.now_ns(), self._clock.monotonic())

    def _hurry(self, at: int) -> None:
        self._bus.hurry(at, self._now())
        self._news.set()

    async def _sleep(self, seconds: float) -> None:
        """Wait so long, or until a chore is in a hurry."""
        if not self._chores:
            await asyncio.sleep(seconds)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
        self._news.clear()

    async def _do(self, turn: Turn, chore: Chore, now: Moment) -> None:
        """Ask one question of a chore, and end its cycle if it was the last."""
        request = chore.request()
        if request is not None:
            answer, step, now = await self._ask(turn, chore.modbus.unit, request, now)
            if step is Next.AGAIN:
                self._bus.hurry(turn.job, now, AGAIN_FIRST_S)
                return
            chore.note(request, answer)
            if step is not Next.GIVEN_UP and chore.request() is not None:
                return
        self._bus.finish(turn, now)
        chore.finish()
        self._bus.hurry(turn.job, now, chore.again_s)

    async def _ask(
        self, turn: Turn, unit: int, request: ReadRequest | WriteRequest, now: Moment
    ) -> tuple[Answer, Next, Moment]:
        """Ask one question; tell what came back, how the cycle goes on, and what time it is then."""
        self._bus.begin(turn, now)
        answer = await self.line.ask(unit, request, turn.patience_s, self._apart(unit))
        if self._down and not self.line.unreachable:
            self._bus.line_back()
        self._down = self.line.unreachable
        now = self._now()
        step = self._bus.end(turn, _outcome(answer), answer.busy_s, now, answer.rest_s)
        if answer.again and step is Next.GIVEN_UP:
            # What was answered, if anything, was another question.
            reason = answer.reason or "never told apart from a late answer"
            answer = replace(answer, reply=BAD_COMM_FAILURE, reason=reason, exception=0, again=False)
        return answer, step, now

    def _apart(self, unit: int) -> Apart:
        """What tells a late answer of the unit apart: within its profile, if it has one."""
        reading = self._of_unit.get(unit)
        return different if reading is None else reading.plan.apart_from

    async def _take(self, turn: Turn, now: Moment) -> None:
        """Ask one question, and end the cycle if it was the last."""
        reading = self._readings[turn.job]
        request = reading.request(now.s)
        if request is None:
            # The doubt for which the cycle was left open has had its time.
            self._finish(turn, reading, now)
            return
        answer, step, now = await self._ask(turn, reading.how.address.unit, request, now)
        if answer.again:
            return
        if request not in reading.plan.requests:
            self._settle_doubt(turn, reading, request, answer, now)
            return
        if step is Next.AGAIN:
            reading.note_in_vain(request, answer)
            return
        plan = reading.plan.refused(request, answer.exception)
        if plan is reading.plan:
            reading.note(request, answer)
        else:
            reading.learned = True
            self._learn(reading, plan, request, answer)
        if step is Next.GIVEN_UP or reading.request(now.s) is None:
            self._finish(turn, reading, now)

    def _settle_doubt(self, turn: Turn, reading: _Reading, request: ReadRequest, answer: Answer, now: Moment) -> None:
        """End the cycle, and learn from the answer to a question that was asked besides the plan's own."""
        self._finish(turn, reading, now)
        plan = reading.plan.refused(request, answer.exception)
        if not answer.exception and not isinstance(answer.reply, int):
            plan = reading.plan.answered(request)
        if plan is reading.plan:
            # Nobody answered, or not to the point: it is not worth a time-out in every period.
            reading.doubt_after_s = now.s + DOUBT_AGAIN_S
        else:
            self._learn(reading, plan, request, answer)

    def _learn(self, reading: _Reading, plan: ReadPlan, request: ReadRequest, answer: Answer) -> None:
        log.info("plan learned", device=reading.device.id, asked=str(request), answer=answer.reason or "data")
        reading.follow(plan)
        self._holes.learn(reading.where, plan.holes)

    def _finish(self, turn: Turn, reading: _Reading, now: Moment) -> None:
        told = self._bus.finish(turn, now)
        sample, reason = reading.close()
        dead = self._bus.health[reading.how.address.unit].dead
        if told:
            reading.complaints.complain(reason)
            reading.complaints.note(dead=dead)
            self._put(Sample(sample.device, sample.columns, dead) if dead else sample)

    def _tell_unheard(self) -> None:
        """Tell that nothing is known of the devices that a silent line keeps from being asked, or asked again."""
        now = self._now()
        for at, why in self._bus.unheard(now).items():
            found = self._readings[at].unheard(why, now.ns) if at < len(self._readings) else None
            if found is not None:
                sample, reason = found
                self._readings[at].complaints.complain(reason)
                self._put(sample)

    def _watch(self) -> None:
        """Take the line's utilisation, and log when it cannot keep all periods, and when it can again."""
        now_s, (since_s, busy_s) = self._clock.monotonic(), self._window
        if now_s - since_s >= WINDOW_S:
            self._utilisation = (self._bus.busy_s - busy_s) / (now_s - since_s)
            self._window = (now_s, self._bus.busy_s)
        stretched = self._bus.stretched
        if stretched and not self._overloaded:
            log.warning("line overloaded", line=self.name, stretched=stretched, utilisation=round(self._utilisation, 2))
        if self._overloaded and not stretched:
            log.info("line keeps all periods again", line=self.name)
        self._overloaded = bool(stretched)


@dataclass
class OnLine:
    """What is on one line, and how the line is reached; chores are equal if they are the same."""

    address: Modbus
    devices: list[DeviceSettings] = field(default_factory=list)
    chores: list[Chore] = field(default_factory=list)

    @property
    def writes(self) -> list[tuple[int, Output]]:
        """All that may be written on the line."""
        return [write for chore in self.chores for write in chore.writes]

    def reached_like(self, other: "OnLine") -> bool:
        """Whether one link serves for both: the same way there."""
        one, two = self.address, other.address
        return (one.line, one.serial, one.framing) == (two.line, two.serial, two.framing)


def lines_of(settings: EdgeSettings, chores: Sequence[Chore] = ()) -> dict[str, OnLine]:
    """Tell by line what is on it: what is on the same port, or behind the same address, shares it."""
    lines: dict[str, OnLine] = {}
    for device in settings.devices:
        if isinstance(device.input, ModbusDevice):
            address = device.input.address
            lines.setdefault(address.line, OnLine(address)).devices.append(device)
    for chore in chores:
        lines.setdefault(chore.modbus.line, OnLine(chore.modbus)).chores.append(chore)
    return lines


def grid_of(settings: EdgeSettings) -> Grid:
    """The moments at which the gateway asks its devices."""
    return Grid.of(settings.gateway.id, len(settings.devices))


def poller_of(
    on: OnLine, holes: Holes, clock: Clock, put: Callable[[Sample], None], grid: Grid, line: ModbusLine | None = None
) -> Poller:
    """Make the poller of a line; it goes on with `line` where that is given."""
    draw = SystemRandom().random
    line = line or ModbusLine(on.address, clock, draw)
    line.allow(on.writes)
    return Poller(on.devices, line, holes, clock, put, draw, on.chores, grid)


def pollers_of(
    settings: EdgeSettings, clock: Clock, put: Callable[[Sample], None], chores: Sequence[Chore] = ()
) -> list[Poller]:
    """Make one poller for each line."""
    holes, grid = Holes(settings.spool.parent), grid_of(settings)
    return [poller_of(on, holes, clock, put, grid) for on in lines_of(settings, chores).values()]


def _reading(device: DeviceSettings, how: ModbusDevice, part: Part, complaints: Complaints, holes: Holes) -> _Reading:
    reading = _Reading(device, how, part, part.plan, _homes(how.profile, part.plan), complaints)
    known = holes.of(reading.where)
    if known:
        reading.follow(compile_plan(how.profile, part.plan.names, part.plan.line, known))
    return reading


def _job(reading: _Reading) -> Job:
    address = reading.how.address
    return Job(
        reading.device.id,
        address.unit,
        reading.device.period_ns,
        address.timeout_ms / MS_PER_S,
        address.retries,
        reading.plan.pause_ms / MS_PER_S,
        reading.part.safety,
        direct=address.serial is not None,
    )


def _middle_ms(answer: Answer) -> int:
    return (answer.begun_ns + answer.ended_ns) // 2 // NS_PER_MS


def _outcome(answer: Answer) -> Outcome:
    if answer.again:
        return Outcome.UNASKED
    if answer.exception in BUSY:
        return Outcome.BUSY
    return Outcome.SILENT if answer.silent else Outcome.ANSWERED


def _homes(profile: Profile, plan: ReadPlan) -> I64:
    """Which request of the plan (position) reads each of its values, i64[n]."""
    found = []
    for name in plan.names:
        spec = profile.values[name]
        stop = spec.address + spec.words
        found.append(
            next(
                at
                for at, request in enumerate(plan.requests)
                if request.function == spec.function
                if request.address <= spec.address and stop <= request.address + request.count
            )
        )
    return np.array(found, dtype=np.int64)
