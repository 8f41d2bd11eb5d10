"""Warning alone: the engine over the gateway's own points, the journal of what it decides, and what that switches."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import numpy as np
import structlog

from tocsin_core.clock import Clock
from tocsin_core.engine import Command, Refusal, occurrence_id, overtaken, restore, set_back, snapshot, step
from tocsin_core.journal import (
    OBEYED,
    OVERTAKEN,
    Entry,
    Naming,
    Order,
    decode_naming,
    decode_order,
    encode,
    moved,
    not_carried_out,
    refused,
)
from tocsin_core.lifecycle import UNANSWERED, Phase, Verb
from tocsin_core.readings import AHEAD_NS, I32, Bool, Frame
from tocsin_core.rules import Rules
from tocsin_edge.adapters.alarm_state import AlarmState, Answered, write_alarm_state
from tocsin_edge.adapters.memory import give_back
from tocsin_edge.adapters.spool import ALL
from tocsin_edge.loops.alarm_restore import Resumed, engine_numbers, heard, with_lacking
from tocsin_edge.loops.chores import Chore, PushButton, Switch
from tocsin_edge.loops.journal_feed import JournalFeed
from tocsin_edge.loops.keep import Sample, Verdict
from tocsin_edge.loops.leaving import Leaving
from tocsin_edge.settings import DeviceSettings, EdgeSettings

NS_PER_S: Final = 1_000_000_000
NS_PER_MS: Final = 1_000_000
TICK_S: Final = 1.0
SNAPSHOT_EVERY_S: Final = 60.0
# A disk that has not answered for so long holds the siren up no longer.
DISK_PATIENCE_S: Final = 2.0
# An order that was answered is known for so long, should it come again.
OBEYED_FOR_NS: Final = 7 * 24 * 3600 * NS_PER_S
RECENT: Final = 500
# The cloud side's clock and this one may differ by so much, as those of instruments may.
ORDER_AHEAD_NS: Final = 60 * NS_PER_S
AHEAD: Final = "its time is ahead of the gateway's clock"
NOT_HERE: Final = "no such alarm is decided here"

_SOUNDS: Final = np.isin(np.arange(len(Phase)), UNANSWERED)
_STANDS: Final = ~np.isin(np.arange(len(Phase)), (Phase.NORMAL, Phase.RETURNED_UNACKNOWLEDGED))
_NO_READINGS: Final = Frame.empty()

Place = tuple[str, int, bool, int]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody at the gateway asks of `alarms` (None: of all that wait for an answer and are not hidden)."""

    verb: Verb
    alarms: tuple[str, ...] | None
    who: str
    reason: str = ""
    duration_s: float = 0.0
    once: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a wish for one alarm; `refusal` is empty where it was carried out."""

    alarm: str
    refusal: str


@dataclass(frozen=True, slots=True)
class _Asked:
    """A wish, the occurrences that it is about (alarm, onset; 0: whichever there is), and who waits for the outcome."""

    wish: Wish
    about: tuple[tuple[str, int], ...]
    answer: asyncio.Future[list[Outcome]] | None = None


@dataclass(frozen=True, slots=True)
class _Shown:
    """What people at the gateway are told by its outputs: which are on, and which occurrences wait for an answer."""

    outputs: tuple[bool, ...]
    waiting: tuple[tuple[str, int], ...]


@dataclass
class _Judged:
    """What was decided since the keep loop last asked."""

    told: list[Entry] = field(default_factory=list)
    answers: list[tuple[asyncio.Future[list[Outcome]], list[Outcome]]] = field(default_factory=list)


class LocalAlarms:
    """Decides the alarms of this gateway's points, whether anybody above hears of it or not.

    Samples come by `before`, with nothing left out of them; the keep loop asks (`take`) for the journal entries that
    they led to, puts both on disk at once, and says so (`kept`). Only then are outputs switched and people answered. An
    error in here ends the gateway: its service manager starts it anew, and nobody believes that silence is safety.
    `recent` are the newest journal entries with their numbers; `trouble` is why the engine's state is not on disk;
    `leaving` are outputs that another plant file had.
    """

    wake: Callable[[], None]

    def __init__(self, settings: EdgeSettings, resumed: Resumed, clock: Clock, journal: JournalFeed) -> None:
        """`wake`, once it is set, lets the keep loop ask soon; `journal` is told what is decided here."""
        self.journal = journal
        journal.decides = settings.alarms.prints
        self._folder = settings.spool.parent
        self._alarms = settings.alarms
        self._clock = clock
        self.wake = _nothing
        self.state = resumed.state
        self._obeyed = resumed.obeyed
        self.recent: deque[tuple[int, Entry]] = deque(resumed.recent, maxlen=RECENT)
        self._fresh: list[Sample] = []
        self._orders: deque[Order] = deque()
        self._known: dict[str, Naming] = {}
        self._wishes: deque[_Asked] = deque()
        self._judged = _Judged()
        self._entry = resumed.entry
        self._numbers: dict[str, tuple[DeviceSettings, I32]] = {}
        self._taken_s, self._ahead = clock.monotonic(), False
        self._saved_s = clock.monotonic() - SNAPSHOT_EVERY_S
        self._unsaved: AlarmState | None = None
        self._on_disk = resumed.known
        # While a version is on trial: the engine before it, and the places of outputs that stay on for what it lacks.
        self._before: bytes | None = None
        self._sounding: frozenset[Place] = frozenset()
        self._saving: asyncio.Task[None] | None = None
        self.trouble = ""
        self.leaving = Leaving(self._folder, settings.gateway.outputs, clock)
        self.switches = tuple(Switch(output) for output in settings.gateway.outputs)
        self.buttons = tuple(PushButton(each, clock, self.press) for each in settings.gateway.acknowledge)
        self._shown = self._outputs()
        self._switch(self._shown)

    @property
    def in_force(self) -> list[Chore]:
        """The outputs and push-buttons of the plant file."""
        return [*self.switches, *self.buttons]

    @property
    def chores(self) -> list[Chore]:
        """What the lines have to do for the alarms."""
        return [*self.in_force, *self.leaving.switches]

    @property
    def rules(self) -> Rules:
        """The alarms that are decided here."""
        return self._alarms.rules

    @property
    def decides(self) -> bool:
        """Whether there is any alarm to decide."""
        return bool(self.rules.definitions)

    def adopt(self, settings: EdgeSettings) -> None:
        """Go on under another plant file: what is in both stands as it stood, and is switched as it was.

        It is on trial until `settle`. Until then outputs that it lacks do not leave, outputs that are on for an alarm
        that it lacks, or that they follow no more, stay on, and no snapshot is kept: a restart on the plant file before
        goes on from the one before, and the journal. What it lacks stands under that plant file again as it stood.
        """
        self._judge()
        judged, rules = self.rules, settings.alarms.rules
        engine = snapshot(self.state, judged)
        state = restore(engine, rules)
        if self._before is None:
            self._before, self._sounding = engine, self._on_for_left(settings)
        else:
            state, self._sounding = with_lacking(state, restore(self._before, rules), rules, judged), frozenset()
        self.state = state
        self._alarms = settings.alarms
        self.journal.decides = settings.alarms.prints
        self._numbers.clear()
        switches = {switch.output: switch for switch in (*self.switches, *self.leaving.held)}
        buttons = {each.button: each for each in self.buttons}
        self.leaving.adopt(self.switches, settings.gateway.outputs)
        self.switches = tuple(switches.get(output) or Switch(output) for output in settings.gateway.outputs)
        self.buttons = tuple(
            buttons.get(each) or PushButton(each, self._clock, self.press) for each in settings.gateway.acknowledge
        )
        self._ahead = True
        self._switch(self._outputs())

    def settle(self) -> None:
        """Let what is in force now stay so: nothing is held any more for what was before."""
        self._before, self._sounding = None, frozenset()
        self.leaving.settle()
        self.end()
        self.wake()

    def before(self, put: Callable[[Sample], None]) -> Callable[[Sample], None]:
        """Give a function that takes a sample and hands it to `put`."""

        def taken(sample: Sample) -> None:
            self._fresh.append(sample)
            put(sample)

        return taken

    def order(self, body: bytes) -> None:
        """Take an order of the cloud side; never waits."""
        try:
            self._orders.append(decode_order(body))
        except ValueError as error:
            log.warning("order not understood", reason=str(error), bytes=len(body))
            return
        self.wake()

    def name(self, body: bytes) -> None:
        """Take the cloud side's word as what an occurrence that was raised here is known there."""
        try:
            known = decode_naming(body)
        except ValueError as error:
            log.warning("name not understood", reason=str(error), bytes=len(body))
            return
        if known.alarm in self.rules.index:
            self._known[known.alarm] = known

    def occurrence(self, number: int) -> str | None:
        """The id of the present occurrence of definition `number`, the one that the cloud side has told it by."""
        alarm, onset_ns = self.rules.definitions[number].id, int(self.state.onset_ns[number])
        known = self._known.get(alarm)
        if known is not None and known.onset_ns == onset_ns:
            onset_ns = known.known_ns
        return occurrence_id(alarm, onset_ns) if onset_ns else None

    def press(self, button: str) -> None:
        """Acknowledge, in the name of a push-button, all alarms that wait for it now."""
        self._wishes.append(_Asked(Wish(Verb.ACKNOWLEDGE, None, button), self._shown.waiting))
        self.wake()

    async def wish(self, wish: Wish) -> list[Outcome]:
        """Do what somebody asks, and tell what became of it once it is on disk."""
        answer: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()
        # What is raised while this waits for its turn is not what was seen when it was asked.
        about = self._shown.waiting if wish.alarms is None else tuple((alarm, 0) for alarm in wish.alarms)
        self._wishes.append(_Asked(wish, about, answer))
        self.wake()
        return await answer

    def take(self) -> Verdict:
        """Judge everything that came, and hand over what is to be written down of it."""
        self._taken_s, self._ahead = self._clock.monotonic(), False
        self._judge()
        judged, self._judged = self._judged, _Judged()
        entries = [(entry.time_ns // NS_PER_MS, encode(entry)) for entry in judged.told]
        return Verdict(entries, partial(self._kept, judged, self._outputs(), self._snapshot()))

    def _kept(
        self,
        judged: _Judged,
        outputs: _Shown,
        kept_state: tuple[bytes, dict[str, Answered]] | None,
        numbers: Sequence[int],
        batch: int,
        *,
        on_disk: bool,
    ) -> None:
        """Act on what is written down now, or was refused by the disk."""
        if numbers:
            self._entry = numbers[-1]
        self.recent.extend(zip(numbers, judged.told, strict=True))
        answered = {
            entry.command: Answered(self._clock.now_ns(), number, entry.refusal)
            for number, entry in zip(numbers, judged.told, strict=True)
            if entry.command
        }
        self._obeyed |= answered
        # While the disk hung, outputs may have gone ahead of it.
        self._switch(self._outputs() if self._ahead else outputs)
        for answer, outcomes in judged.answers:
            if not answer.done():
                answer.set_result(outcomes)
        if kept_state is not None and on_disk:
            engine, obeyed = kept_state
            self._unsaved = AlarmState(engine, batch, self._entry, obeyed | answered)

    async def run(self) -> None:
        """Let time pass for the engine each second, and keep its snapshots, for ever."""
        while True:
            await asyncio.sleep(TICK_S)
            self.wake()
            if self._clock.monotonic() - self._taken_s > DISK_PATIENCE_S:
                self._go_ahead()
            if self._saving is not None and self._saving.done():
                self._saving.result()
                self._saving = None
            # Nothing in this loop waits for a disk: it is what outputs are switched by while one hangs.
            if self._unsaved is not None and self._saving is None:
                self._saving = asyncio.create_task(self._write(), name="save alarms")

    def _go_ahead(self) -> None:
        """Judge and switch although the keep loop does not come back from the disk; the journal follows later."""
        if not self._ahead:
            log.critical("the disk hangs: outputs do not wait for it")
        self._ahead = True
        self._judge()
        self._switch(self._outputs())

    async def save(self) -> None:
        """Put the newest snapshot on disk, if there is one that is not, after the one that is being written."""
        if self._saving is not None:
            await self._saving
        await self._write()

    async def _write(self) -> None:
        state, self._unsaved = self._unsaved, None
        if state is None:
            return
        try:
            await asyncio.to_thread(write_alarm_state, self._folder, state)
            self._on_disk = state.batch, state.entry
            give_back()
        except OSError as error:
            if str(error) != self.trouble:
                log.critical("the alarms' state is not kept", reason=str(error))
            self.trouble = str(error)
        else:
            self.trouble = ""

    def known(self) -> tuple[int, int]:
        """Up to which batch and journal entry a start would need none: the snapshot on disk knows what they led to."""
        return self._on_disk if self.decides or self._before is not None else ALL

    def end(self) -> None:
        """Let the next verdict have a snapshot."""
        self._saved_s = self._clock.monotonic() - SNAPSHOT_EVERY_S

    def _snapshot(self) -> tuple[bytes, dict[str, Answered]] | None:
        """What the engine remembers and which orders were answered, where it is time to keep it."""
        now_s = self._clock.monotonic()
        if not self.decides or self._before is not None or now_s - self._saved_s < SNAPSHOT_EVERY_S:
            return None
        self._saved_s = now_s
        return snapshot(self.state, self.rules), dict(self._obeyed)

    def _judge(self) -> None:
        """Take all readings, then what was ordered and asked, into the engine."""
        if not self.decides:
            self._fresh.clear()
        now_ns = self._clock.now_ns()
        if now_ns < self.state.now_ns - AHEAD_NS:
            log.warning("windows and delays begin anew", ahead_s=(self.state.now_ns - now_ns) / NS_PER_S)
            self.state = set_back(self.state, self.rules, now_ns)
        if self.decides:
            self._step(self._frame().not_ahead(now_ns), [], now_ns)
        while self._orders:
            self._obey(self._orders.popleft())
        while self._wishes:
            asked = self._wishes.popleft()
            outcomes = self._fulfil(asked.wish, asked.about)
            if asked.answer is not None:
                self._judged.answers.append((asked.answer, outcomes))

    def _frame(self) -> Frame:
        """The readings that came, in the order in which they did."""
        fresh, self._fresh = self._fresh, []
        if not fresh:
            return _NO_READINGS
        frames = [heard(self.rules, sample.columns, self._numbers_of(sample.device)) for sample in fresh]
        return frames[0] if len(frames) == 1 else Frame.concat(frames)

    def _numbers_of(self, device: DeviceSettings) -> I32:
        """The engine's numbers of the device's metrics."""
        known = self._numbers.get(device.id)
        # The plant may change while samples of the old one are on the way.
        if known is None or known[0] is not device:
            names = (metric.name for metric in device.sparkplug.metrics)
            known = self._numbers[device.id] = (device, engine_numbers(self._alarms, device.id, names))
        return known[1]

    def _step(self, frame: Frame, commands: list[Command], now_ns: int, command: str = "") -> list[Refusal]:
        rules = self.rules
        self.state, result = step(self.state, rules, frame, [*commands], now_ns)
        for each in result.transitions:
            alarm = rules.definitions[each.definition].id
            log.warning("alarm", alarm=alarm, step=each.event.text, phase=each.phase_to.text, who=each.who)
            self._judged.told.append(moved(alarm, each, self.state, command))
        return result.refusals

    def _obey(self, order: Order) -> None:
        """Carry out an order once, unless somebody here has spoken later; either way the journal tells."""
        known = self._obeyed.get(order.id)
        if known is not None and (known.entry is None or known.entry > self.journal.committed):
            # Its answer is on its way.
            return
        self._remember(order.id)
        before = len(self._judged.told)
        number = self.rules.index.get(order.alarm)
        if number is None:
            log.warning("order for an alarm that is not decided here", alarm=order.alarm, order=order.id)
            entry = Entry(order.alarm, None, order.at_ns, Phase.NORMAL, command=order.id, refusal=NOT_HERE)
            self._judged.told.append(entry)
        elif known is None:
            self._carry_out(order, number)
        else:
            log.warning("order came again, its answer was lost", alarm=order.alarm, order=order.id)
            refusal = known.refusal or OBEYED
            told_again = not_carried_out(order.alarm, number, order.at_ns, self.state, order.id, refusal)
            self._judged.told.append(told_again)
        # The other end knows its order by the time that it gave it, whatever time it counts as here.
        told = self._judged.told
        told[before:] = [replace(each, time_ns=order.at_ns) for each in told[before:]]

    def _carry_out(self, order: Order, number: int) -> None:
        # What was carried out at a time to come would overtake all that is asked until then.
        ahead_ns = max(0, order.at_ns - self._clock.now_ns())
        at_ns, until_ns = order.at_ns - ahead_ns, max(0, order.until_ns - ahead_ns)
        command = Command(order.verb, number, at_ns, order.who, order.reason, order.onset_ns, until_ns, order.once)
        refusal = AHEAD if ahead_ns > ORDER_AHEAD_NS else OVERTAKEN if overtaken(self.state, command) else ""
        if refusal:
            log.warning("order not carried out", alarm=order.alarm, order=order.id, reason=refusal)
            self._judged.told.append(not_carried_out(order.alarm, number, at_ns, self.state, order.id, refusal))
            return
        for each in self._step(_NO_READINGS, [command], self.state.now_ns, order.id):
            self._judged.told.append(refused(order.alarm, each, self.state, order.id))

    def _remember(self, order: str) -> None:
        now_ns = self._clock.now_ns()
        self._obeyed[order] = Answered(now_ns, None, "")
        if len(self._obeyed) > RECENT:
            self._obeyed = {each: known for each, known in self._obeyed.items() if now_ns - known.at_ns < OBEYED_FOR_NS}

    def _fulfil(self, wish: Wish, about: Iterable[tuple[str, int]]) -> list[Outcome]:
        outcomes = []
        for alarm, onset_ns in about:
            number = self.rules.index.get(alarm)
            refusals = [NOT_HERE]
            if number is not None:
                # The gateway is the judge of what came first: what is asked here is later than all before it.
                at_ns = max(self._clock.now_ns(), int(self.state.commanded_ns[number].max()) + 1)
                until_ns = at_ns + round(wish.duration_s * NS_PER_S) if wish.duration_s else 0
                command = Command(wish.verb, number, at_ns, wish.who, wish.reason, onset_ns, until_ns, wish.once)
                told = self._step(_NO_READINGS, [command], self.state.now_ns)
                refusals = [str(each.reason) for each in told]
            outcomes.append(Outcome(alarm, "; ".join(refusals)))
        return outcomes

    def _on_for_left(self, after: EdgeSettings) -> frozenset[Place]:
        """The places of outputs that are on for an alarm that they do not follow under `after`, or that it lacks."""
        alarms, loud = after.alarms, self._loud()
        names = [each.id for each in self.rules.definitions]
        followed = {
            output.place: {alarms.rules.definitions[number].id for number in np.flatnonzero(follows).tolist()}
            for output, follows in zip(after.gateway.outputs, alarms.follows, strict=True)
        }
        on = set()
        for switch, follows in zip(self.switches, self._alarms.follows, strict=True):
            place = switch.output.place
            left = np.asarray([name not in followed.get(place, ()) for name in names], np.bool_)
            if (follows & left & loud[switch.output.kind == "siren"]).any():
                on.add(place)
        return frozenset(on)

    def _loud(self) -> tuple[Bool, Bool]:
        """Which alarms stand, and which sound a siren."""
        state = self.state
        shown = ~((state.shelved_until_ns > 0) | state.suppressed | state.out_of_service)
        return _STANDS[state.phase] & shown, _SOUNDS[state.phase] & shown

    def _outputs(self) -> _Shown:
        """Which outputs should be on, and what of the alarms waits for an answer."""
        loud = self._loud()
        outputs = tuple(
            switch.output.place in self._sounding or bool((follows & loud[switch.output.kind == "siren"]).any())
            for switch, follows in zip(self.switches, self._alarms.follows, strict=True)
        )
        onsets_ns = self.state.onset_ns
        waiting = ((self.rules.definitions[at].id, int(onsets_ns[at])) for at in np.flatnonzero(loud[True]).tolist())
        return _Shown(outputs, tuple(waiting))

    def _switch(self, shown: _Shown) -> None:
        self._shown = shown
        for switch, on in zip(self.switches, shown.outputs, strict=True):
            switch.want(on=on)


def _nothing() -> None:
    """Wake nobody, before there is a keep loop."""
