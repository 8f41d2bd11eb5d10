"""An alarm that both ends judge, by different plant files, is one occurrence: a gateway's engine, and a worker."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import pytest

from tests.cloud.ears import Ears
from tests.cloud.rig import DEVICE, GATEWAY, PLANT, SITE, columns
from tests.support.hostile import NOW_NS
from tocsin_cloud.adapters import snapshot as snapshots
from tocsin_cloud.adapters.stream import Message
from tocsin_cloud.loops.delegation import MOST_UNKNOWN, Beside, GatewayOrder
from tocsin_cloud.loops.journal import Batch
from tocsin_core import engine
from tocsin_core.engine import Command, Input, State
from tocsin_core.journal import Entry, decode, encode, moved, refused
from tocsin_core.lifecycle import ACTIVE, Event, Phase, Verb
from tocsin_core.owned import alone, fingerprints, packed
from tocsin_core.plant import Plant, load_plant
from tocsin_core.readings import GOOD, Frame
from tocsin_core.rules import NS, compile_rules
from tocsin_core.sparkplug import EdgeDevice, EdgeMetric, EdgeSession, JournalNumbers
from tocsin_core.sparkplug import Message as Said

MS: Final = 1_000_000
STRICT, LAX = 50, 80
HIGH: Final = "P1/H"
ANOTHER: Final = "gw-2"
LOW: Final = ", L: {setpoint: 5, deadband: 1, on_delay_s: 0, off_delay_s: 0, priority: high}, bad: false"


@cache
def plant(limit: int, low: str = LOW, gateway: str = GATEWAY) -> Plant:
    """The small plant with this high limit, and a low one (not if it is empty), its points read by this gateway."""
    text = PLANT.replace("setpoint: 50, deadband: 5,", f"setpoint: {limit}, deadband: 5, on_delay_s: 0,")
    if gateway != GATEWAY:
        text = text.replace(f"  - id: {GATEWAY}\n", f"  - id: {GATEWAY}\n    devices: []\n  - id: {gateway}\n", 1)
    with TemporaryDirectory() as folder:
        (Path(folder) / "plant.yaml").write_text(
            text.replace(", bad: false", low or ", bad: false", 1), encoding="utf-8"
        )
        return load_plant(Path(folder))


class Worker:
    """The cloud side's worker, and all that came of what it heard."""

    def __init__(self, limit: int = STRICT, snapshot: Path = Path(), low: str = LOW, gateway: str = GATEWAY) -> None:
        """Know these limits, and have heard nothing."""
        known = plant(limit, low, gateway)
        self.ears, self.rules = Ears(of=known, snapshot=snapshot), compile_rules(known)
        self.steps: list[tuple[str, Event, int, int, str]] = []
        self.beside: list[Beside] = []
        self.aside: list[tuple[str, Event | None, int]] = []
        self.orders: list[GatewayOrder] = []
        self.forgotten = 0

    @property
    def state(self) -> State:
        """The engine's."""
        state = self.ears.alarms._state  # noqa: SLF001 -- shown nowhere else
        assert state is not None
        return state

    def hear(self, messages: Sequence[Message]) -> Batch:
        """Take messages in."""
        batch = self.ears.alarms._advance(list(messages))  # noqa: SLF001 -- what `_work` does between two waits
        told = [step.transition for step in batch.steps]
        self.steps += [(self.rules.definitions[t.definition].id, t.event, t.time_ns, t.onset_ns, t.who) for t in told]
        self.beside += [each for words in batch.words for each in words.beside]
        self.aside += [(each.alarm, each.event, each.time_ns) for words in batch.words for each in words.aside]
        self.orders += batch.orders
        self.forgotten += sum(words.forgotten for words in batch.words)
        return batch

    def raised(self, alarm: str = HIGH) -> list[int]:
        """The seconds of its raisings."""
        return [second(onset) for name, event, _, onset, _ in self.steps if (name, event) == (alarm, Event.RAISE)]

    def phase(self, alarm: str = HIGH) -> Phase:
        """How the alarm stands."""
        return Phase(int(self.state.phase[self.rules.index[alarm]]))

    def came_to(self) -> tuple[object, ...]:
        """All of it, and where the engine is."""
        names = ("phase", "active", "onset_ns", "since_ns", "elsewhere", "shelved_until_ns", "commanded_ns")
        state = {name: np.asarray(getattr(self.state, name)).tolist() for name in names}
        return self.steps, self.beside, self.aside, self.orders, state

    def restarted(self, folder: Path, limit: int = STRICT, gateway: str = GATEWAY) -> "Worker":
        """One that goes on from its snapshot, with this limit; what came of the stream so far is the same."""

        async def kept() -> "Worker":
            worker = self.ears.alarms
            worker._keep_snapshot()  # noqa: SLF001 -- what `_work` does now and then
            assert worker._saving is not None  # noqa: SLF001 -- the same
            await worker._saving  # noqa: SLF001 -- the same
            other = Worker(limit, folder / "snapshot", gateway=gateway)
            await other.ears.alarms._load(worker._read)  # noqa: SLF001 -- how `run` begins
            return other

        other = asyncio.run(kept())
        other.steps, other.beside, other.aside, other.orders = self.steps, self.beside, self.aside, self.orders
        return other


@dataclass
class Box:
    """A gateway, its link to the worker, and the stream that the worker has read."""

    worker: Worker
    limit: int = LAX
    gateway: str = GATEWAY
    cut: bool = False
    now_ns: int = NOW_NS
    value: float = 10.0
    stream: list[Message] = field(default_factory=list)
    entries: list[bytes] = field(default_factory=list)
    committed: int = 0
    waiting: list[GatewayOrder] = field(default_factory=list)
    # As what the cloud side knows what was raised here; and whether its word on that is lost on the way.
    names: dict[int, int] = field(default_factory=dict)
    missed: Callable[[], bool] = lambda: False

    def __post_init__(self) -> None:
        """Be born."""
        self.session = EdgeSession(SITE, self.gateway, [EdgeDevice(DEVICE, (EdgeMetric("P1"), EdgeMetric("P2")))])
        self.part = alone(plant(self.limit, LOW, self.gateway), self.gateway)
        self.rules = compile_rules(self.part)
        self.state = engine.initial(self.rules, self.now_ns)
        self.say(self.session.will(1, self.now_ns // MS))
        self.be_born()

    @property
    def phase(self) -> Phase:
        """How the high alarm stands."""
        return Phase(int(self.state.phase[self.rules.index[HIGH]]))

    @property
    def onset_ns(self) -> int:
        """Its present occurrence."""
        return int(self.state.onset_ns[self.rules.index[HIGH]])

    def have(self, limit: int) -> None:
        """Go on under a plant file with this limit, as it does with a version from above, and be born anew."""
        kept = engine.snapshot(self.state, self.rules)
        self.limit, self.part = limit, alone(plant(limit, LOW, self.gateway), self.gateway)
        self.rules = compile_rules(self.part)
        self.state = engine.restore(kept, self.rules)
        self.be_born()

    def forget(self) -> None:
        """Be killed and started anew: what the journal told is known, and as what it is known above is not."""
        self.names.clear()
        self.be_born()

    def read(self, value: float) -> None:
        """A second later P1 is read: judged, the journal sent first."""
        self.now_ns += NS
        self.value = value
        self.judge(Frame.of([self.rules.points.index("P1")], [self.now_ns], [value], [GOOD]), [])
        self.tell()
        self.say(
            self.session.ddata(DEVICE, columns({0: value}, self.now_ns // MS), 1, self.now_ns // MS, historical=False)
        )

    def judge(self, frame: Frame, inputs: list[Input], order: str = "") -> None:
        """One step of its engine into its journal."""
        self.state, result = engine.step(self.state, self.rules, frame, inputs, self.now_ns)
        for each in result.transitions:
            name = self.rules.definitions[each.definition].id
            self.entries.append(encode(moved(name, each, self.state, order if each.who else "")))
        for refusal in result.refusals:
            name = self.rules.definitions[refusal.command.definition].id
            self.entries.append(encode(refused(name, refusal, self.state, order)))

    def press(self, verb: Verb, until_ns: int = 0) -> None:
        """Somebody at the box asks something of the high alarm."""
        self.now_ns += MS
        self.judge(Frame.empty(), [Command(verb, self.rules.index[HIGH], self.now_ns, "wang", "there", 0, until_ns)])
        self.tell()

    def ask(self, verb: Verb, duration_s: int = 0) -> None:
        """Somebody at the cloud side asks it."""
        self.now_ns += MS
        more = f', "duration_s": {duration_s}, "reason": "here"' if duration_s else ""
        order = f'{{"id": "{self.now_ns}", "verb": "{verb}", "alarm": "{HIGH}", "who": "li"{more}}}'
        self.into_the_stream("tocsin/command/site", order.encode())

    def tell(self, most: int = 100) -> None:
        """Send what is not committed of the journal, at most so many entries."""
        bodies = self.entries[self.committed : self.committed + most]
        if bodies and not self.cut:
            self.say(self.session.journal(self.committed + 1, bodies, self.committed + 1, self.now_ns // MS))

    def be_born(self, most: int = 100) -> None:
        """Its birth, that of its device with the last reading, and the journal."""
        prints = packed(fingerprints(self.part, self.gateway).values())
        numbers = JournalNumbers(len(self.entries), self.committed + 1, prints)
        self.say(self.session.nbirth(0, 1, self.now_ns // MS, journal=numbers))
        self.say(
            self.session.dbirth(DEVICE, columns({0: self.value, 1: 10.0}, self.now_ns // MS), 0, self.now_ns // MS)
        )
        self.tell(most)

    def lose(self) -> None:
        """What waits of the journal never comes: its disk is gone, or the stream's."""
        self.committed = len(self.entries)

    def mend(self, most: int = 100) -> None:
        """Let what was cut off come through: births, the journal so many entries at a time, and the orders."""
        self.cut = False
        self.be_born(most)
        while self.committed < len(self.entries):
            self.tell(most)
        self.obey()

    def say(self, said: Said) -> None:
        """What is said now comes into the stream, if anything comes through."""
        if not self.cut:
            self.into_the_stream(said.topic, said.payload)

    def into_the_stream(self, topic: str, payload: bytes) -> None:
        """One more message; what is ordered comes down."""
        number = len(self.stream) + 1
        self.stream.append(Message(number, self.now_ns + number, topic, payload))
        batch = self.worker.hear(self.stream[-1:])
        self.committed = max([self.committed, *(words.position for words in batch.words)])
        self.waiting += batch.orders
        if not self.cut and not self.missed():
            told = self.worker.ears.alarms._known_after(batch)  # noqa: SLF001 -- what it sends after the commit
            known = [known for names in told.values() for known in names if known.alarm == HIGH]
            self.names |= {each.onset_ns: each.known_ns for each in known}
        self.obey()

    def obey(self) -> None:
        """Do what was ordered, each once."""
        while self.waiting and not self.cut:
            told = self.waiting.pop(0).order
            number = self.rules.index[told.alarm]
            order = Command(
                told.verb, number, told.at_ns, told.who, told.reason, told.onset_ns, told.until_ns, told.once
            )
            self.judge(Frame.empty(), [order], told.id)
            self.tell()


def second(time_ns: int) -> int:
    """Seconds since the beginning."""
    return (time_ns - NOW_NS) // NS


def alike(box: Box) -> bool:
    """Whether both ends have the high alarm in the same phase, and of the same occurrence."""
    onset_ns = int(box.worker.state.onset_ns[box.worker.rules.index[HIGH]])
    return box.worker.phase() is box.phase and onset_ns == box.names.get(box.onset_ns, box.onset_ns)


def assert_one_at_a_time(box: Box) -> None:
    """What stands is replaced only by what the gateway has raised anew since, after a return."""
    told = [entry for entry in map(decode, box.entries) if entry.alarm == HIGH]
    over = [entry.time_ns for entry in told if entry.event is Event.RETURN]
    steps = [(event, time_ns, onset_ns) for alarm, event, time_ns, onset_ns, _ in box.worker.steps if alarm == HIGH]
    raised = [step for step in steps if step[0] is Event.RAISE]
    assert len(raised) > 10
    for (event, ended_ns, began_ns), after in pairwise(steps):
        if event is Event.RETURN and after[0] is Event.RAISE and after[2] == ended_ns:
            assert any(began_ns < time_ns <= ended_ns for time_ns in over)


def test_an_alarm_that_differs_is_judged_at_both_ends_and_no_other() -> None:
    """One limit was changed: the other alarms stay with the gateway, and come back to it together with that one."""
    box = Box(Worker(), LAX)
    ours = [
        name for name, number in box.worker.rules.index.items() if box.worker.state.elsewhere[number] == engine.HERE
    ]
    assert HIGH in ours
    assert "P1/L" not in ours
    box.have(STRICT)
    assert (box.worker.state.elsewhere[[box.worker.rules.index[name] for name in box.rules.index]] != 0).all()


@pytest.mark.parametrize("answered", ["here", "there", "before"])
def test_a_stricter_limit_here_and_the_gateways_later_raising_are_one_occurrence(answered: str) -> None:
    """It keeps its id and its acknowledgement, and is over by the readings here; either end's answer is both ends'."""
    box = Box(Worker(), LAX)
    box.read(60.0)
    if answered == "before":
        box.ask(Verb.ACKNOWLEDGE)
    box.read(90.0)
    if answered == "here":
        box.ask(Verb.ACKNOWLEDGE)
    elif answered == "there":
        box.press(Verb.ACKNOWLEDGE)
    assert (box.worker.phase(), box.phase) == (Phase.ACKNOWLEDGED, Phase.ACKNOWLEDGED)
    assert alike(box)
    box.read(60.0)
    assert (box.worker.phase(), box.phase) == (Phase.ACKNOWLEDGED, Phase.NORMAL)
    box.read(10.0)
    assert (box.worker.raised(), box.worker.phase()) == ([1], Phase.NORMAL)
    assert [(each.entry.event, second(each.entry.time_ns), second(each.onset_ns)) for each in box.worker.beside] == [
        (Event.RAISE, 2, 1),
        (Event.RETURN, 3, 1),
    ]
    assert box.worker.aside == []


def test_what_the_gateway_raises_again_after_a_return_is_a_new_one() -> None:
    """It was acknowledged, and stood here all the time: its siren is on again, and people are called again."""
    box = Box(Worker(), LAX)
    for value in (60.0, 90.0):
        box.read(value)
    box.ask(Verb.ACKNOWLEDGE)
    for value in (60.0, 90.0):
        box.read(value)
    assert (box.worker.raised(), box.worker.phase(), box.phase) == ([1, 4], Phase.UNACKNOWLEDGED, Phase.UNACKNOWLEDGED)
    assert alike(box)


def test_the_gateway_calls_what_it_has_raised_as_the_cloud_side_does_from_its_next_word_on() -> None:
    """It is told when it raises what stands here; when it is raised anew here; and once more when it is born anew."""
    box = Box(Worker(LAX), STRICT)
    box.read(60.0)
    assert [second(known) for known in box.names.values()] == [1]
    box.read(60.0)
    box.read(90.0)
    assert {second(onset): second(known) for onset, known in box.names.items()} == {1: 3}
    box.forget()
    assert {second(onset): second(known) for onset, known in box.names.items()} == {1: 3}


def test_who_answers_what_was_raised_anew_here_answers_what_still_waits_at_the_gateway() -> None:
    """There it had returned before this end found it again: its siren would sound on, with nobody left to ask."""
    box = Box(Worker(), LAX)
    for value in (90.0, 10.0, 60.0):
        box.read(value)
    assert (box.worker.raised(), box.phase) == ([1, 3], Phase.RETURNED_UNACKNOWLEDGED)
    box.ask(Verb.ACKNOWLEDGE)
    assert (box.worker.phase(), box.phase) == (Phase.ACKNOWLEDGED, Phase.NORMAL)


@pytest.mark.parametrize("told", ["in its birth", "with an entry"])
def test_what_has_returned_by_a_word_that_never_comes_returns_by_the_readings(told: str) -> None:
    """That words are missing is known; else it would stand here until the gateway has something else to say of it."""
    box = Box(Worker(STRICT), STRICT)
    box.read(90.0)
    box.cut = True
    box.read(10.0)
    box.lose()
    box.cut = False
    if told == "in its birth":
        box.be_born()
    else:
        number = box.rules.index["P1/L"]
        box.judge(Frame.empty(), [Command(Verb.OUT_OF_SERVICE, number, box.now_ns, "wang", "there")])
        box.tell()
    box.read(10.0)
    assert (box.worker.phase(), box.phase) == (Phase.RETURNED_UNACKNOWLEDGED, Phase.RETURNED_UNACKNOWLEDGED)
    box.read(90.0)
    assert (box.worker.raised(), alike(box)) == ([1, 4], True)


@pytest.mark.parametrize("lost", [False, True])
def test_what_is_taken_over_though_it_has_returned_there_is_over_by_the_next_reading(*, lost: bool) -> None:
    """The gateway's return of it was lost; what it does hold up, between limit and deadband, stands on."""
    box = Box(Worker(LAX), STRICT)
    # The second of them is over by the limit here.
    for _ in range(2):
        box.read(60.0)
    box.cut = True
    box.read(10.0 if lost else 78.0)
    box.lose()
    box.cut = False
    box.have(LAX)
    box.read(10.0 if lost else 78.0)
    expected = Phase.RETURNED_UNACKNOWLEDGED if lost else Phase.UNACKNOWLEDGED
    assert (box.worker.phase(), box.phase) == (expected, expected)


def test_what_this_end_found_because_the_gateways_raising_was_lost_is_the_gateways_all_the_same() -> None:
    """Raised here once the word was missing for long: who presses the button there has answered it here."""
    box = Box(Worker(STRICT), STRICT)
    box.read(10.0)
    box.cut = True
    box.read(90.0)
    box.lose()
    box.cut = False
    for _ in range(13):
        box.read(90.0)
    assert (len(box.worker.raised()), box.worker.phase(), box.phase) == (1, *[Phase.UNACKNOWLEDGED] * 2)
    box.press(Verb.ACKNOWLEDGE)
    assert (box.worker.phase(), box.phase, alike(box)) == (*[Phase.ACKNOWLEDGED] * 2, True)
    box.read(10.0)
    assert (box.worker.phase(), box.phase, alike(box)) == (*[Phase.NORMAL] * 2, True)


def test_what_the_readings_here_hold_up_a_return_at_the_gateway_does_not_end() -> None:
    """Both raised it by the same reading; it fell below the gateway's limit alone, and is not raised a second time."""
    box = Box(Worker(), LAX)
    for value in (90.0, 90.0, 60.0, 60.0):
        box.read(value)
    assert (box.worker.raised(), box.worker.phase(), box.phase) == (
        [1],
        Phase.UNACKNOWLEDGED,
        Phase.RETURNED_UNACKNOWLEDGED,
    )
    box.press(Verb.ACKNOWLEDGE)
    assert (box.worker.phase(), box.phase) == (Phase.ACKNOWLEDGED, Phase.NORMAL)


def test_a_stricter_limit_at_the_gateway_is_a_fact_and_over_by_the_limit_here() -> None:
    """It is raised here too, and returns by the readings; raised by them as well it is acknowledged at both ends."""
    box = Box(Worker(LAX), STRICT)
    for value in (60.0, 60.0):
        box.read(value)
    assert (box.worker.raised(), box.worker.phase(), box.phase) == (
        [1],
        Phase.RETURNED_UNACKNOWLEDGED,
        Phase.UNACKNOWLEDGED,
    )
    box.read(90.0)
    assert box.worker.raised() == [1, 3]
    box.ask(Verb.ACKNOWLEDGE)
    assert (box.worker.phase(), box.phase) == (Phase.ACKNOWLEDGED, Phase.ACKNOWLEDGED)


@pytest.mark.parametrize("most", [1, 2, 100])
def test_a_late_journal_raises_nothing_once_more_wherever_it_is_split(most: int) -> None:
    """Over, and raised again during a cut; the birth tells the last reading first: that is the one occurrence."""
    box = Box(Worker(), LAX)
    box.cut = True
    for value in (90.0, 10.0, 90.0, 90.0):
        box.read(value)
    box.mend(most)
    box.read(90.0)
    assert (box.worker.raised(), box.worker.phase()) == ([4], Phase.UNACKNOWLEDGED)
    assert alike(box)
    box.ask(Verb.ACKNOWLEDGE)
    assert (box.worker.phase(), box.phase) == (Phase.ACKNOWLEDGED, Phase.ACKNOWLEDGED)
    box.read(10.0)
    assert (box.worker.raised(), box.worker.phase(), box.phase) == ([4], Phase.NORMAL, Phase.NORMAL)


@pytest.mark.parametrize("most", [1, 100])
def test_what_was_over_when_its_journal_came_is_over(most: int) -> None:
    """Raised and returned during a cut, and the last reading says so: no further reading is needed for it."""
    box = Box(Worker(), LAX)
    box.cut = True
    for value in (90.0, 10.0, 10.0):
        box.read(value)
    box.mend(most)
    assert (box.worker.raised(), box.worker.phase()) == ([1], Phase.RETURNED_UNACKNOWLEDGED)
    assert box.worker.beside == []


def test_what_the_gateway_raised_anew_during_a_cut_is_not_over_by_its_word_where_the_readings_hold_it_up() -> None:
    """Above the limit here all the time: the gateway's second raising is the second here, and there is no third."""
    box = Box(Worker(), LAX)
    box.read(90.0)
    box.cut = True
    for value in (60.0, 90.0, 60.0, 60.0):
        box.read(value)
    box.mend()
    box.read(60.0)
    assert (box.worker.raised(), box.worker.phase()) == ([1, 3], Phase.UNACKNOWLEDGED)


def test_a_stricter_limit_that_reaches_the_gateway_makes_no_second_occurrence(tmp_path: Path) -> None:
    """Acknowledged here first; the version comes down, it is raised there, and silenced. All of it over restarts."""
    box = Box(Worker(STRICT, tmp_path / "snapshot"), LAX)
    box.read(60.0)
    box.ask(Verb.ACKNOWLEDGE)
    box.worker = box.worker.restarted(tmp_path)
    box.have(STRICT)
    box.worker = box.worker.restarted(tmp_path)
    box.read(60.0)
    assert (box.phase, box.worker.phase()) == (Phase.ACKNOWLEDGED, Phase.ACKNOWLEDGED)
    assert alike(box)
    box.worker = box.worker.restarted(tmp_path)
    box.read(10.0)
    assert (box.phase, box.worker.phase(), box.worker.raised()) == (Phase.NORMAL, Phase.NORMAL, [1])
    # Nobody was told meanwhile that it is not.
    events = [event for alarm, event, *_ in box.worker.steps if alarm == HIGH]
    assert events == [Event.RAISE, Event.ACKNOWLEDGE, Event.RETURN]
    box.read(60.0)
    assert box.worker.raised() == [1, 4]
    assert alike(box)


def test_an_alarm_that_goes_to_the_cloud_side_and_back_keeps_its_occurrence(tmp_path: Path) -> None:
    """The cloud side is started anew on another plant file, and on the first again: one id, and acknowledged."""
    box = Box(Worker(LAX, tmp_path / "snapshot"), LAX)
    box.read(90.0)
    box.ask(Verb.ACKNOWLEDGE)
    for limit in (STRICT, LAX):
        box.worker = box.worker.restarted(tmp_path, limit)
        number = box.worker.rules.index[HIGH]
        # By what the snapshot knows of the gateway, before any birth.
        assert box.worker.state.elsewhere[number] == engine.HERE
        box.be_born()
        box.read(90.0)
        assert (box.phase, box.worker.phase()) == (Phase.ACKNOWLEDGED, Phase.ACKNOWLEDGED)
    box.read(10.0)
    assert (box.phase, box.worker.phase(), box.worker.raised()) == (Phase.NORMAL, Phase.NORMAL, [1])
    assert alike(box)


def test_a_point_that_moves_to_another_gateway_is_not_that_ones_before_it_has_it(tmp_path: Path) -> None:
    """The file of the cloud side is changed first. The alarm is the same there, acknowledged and shelved as it was."""
    box = Box(Worker(LAX, tmp_path / "snapshot"), LAX)
    box.read(90.0)
    box.ask(Verb.ACKNOWLEDGE)
    box.ask(Verb.SHELVE, 600)
    # Started anew on what it then keeps itself, too.
    for _ in range(2):
        box.worker = box.worker.restarted(tmp_path, LAX, ANOTHER)
        assert box.worker.state.elsewhere[box.worker.rules.index[HIGH]] == engine.HERE
    other = Box(box.worker, LAX, ANOTHER, now_ns=box.now_ns, value=90.0, stream=box.stream)
    other.worker = other.worker.restarted(tmp_path, LAX, ANOTHER)
    assert other.worker.state.elsewhere[other.worker.rules.index[HIGH]] != engine.HERE
    other.read(90.0)
    assert (other.phase, other.worker.phase(), other.worker.raised()) == (*[Phase.ACKNOWLEDGED] * 2, [1])
    until_ns = [int(state.shelved_until_ns[rules.index[HIGH]]) for state, rules in
                ((other.state, other.rules), (other.worker.state, other.worker.rules))]  # fmt: skip
    assert until_ns[0] == until_ns[1] > other.now_ns
    assert alike(other)


def test_who_decides_is_known_from_a_snapshot_of_an_earlier_version(tmp_path: Path) -> None:
    """Which did not tell by which gateway the fingerprints are the same."""
    box = Box(Worker(LAX, tmp_path / "snapshot"), LAX)
    box.read(90.0)
    box.worker = box.worker.restarted(tmp_path, LAX)
    held, prints = snapshots.load(tmp_path / "snapshot"), fingerprints(plant(LAX), GATEWAY)
    assert held is not None
    snapshots.save(tmp_path / "snapshot", replace(held, alike=packed(prints.values())))
    upgraded = Worker(LAX, tmp_path / "snapshot")
    asyncio.run(upgraded.ears.alarms._load(held.position))  # noqa: SLF001 -- how `run` begins
    assert upgraded.state.elsewhere.tolist() == box.worker.state.elsewhere.tolist()
    assert upgraded.state.elsewhere[upgraded.rules.index[HIGH]] == engine.ELSEWHERE


def test_what_was_put_aside_of_an_alarm_that_this_end_has_later_stands_here_then(tmp_path: Path) -> None:
    """A new alarm comes to the gateway first, and is raised there; the cloud side has never had a word of it since."""
    worker = Worker(STRICT, tmp_path / "snapshot", low="")
    box = Box(worker, STRICT)
    box.read(2.0)
    raised_ns = box.now_ns
    assert worker.aside == [("P1/L", Event.RAISE, raised_ns)]
    box.worker = worker.restarted(tmp_path)
    box.be_born()
    assert (box.worker.phase("P1/L"), box.worker.raised("P1/L")) == (Phase.UNACKNOWLEDGED, [1])
    assert box.worker.steps[-1][2] > raised_ns


def test_of_alarms_that_are_unknown_here_the_latest_of_those_that_wait_are_remembered(tmp_path: Path) -> None:
    """More of them than any version of a plant file brings would have a snapshot grow without end; it is counted."""
    box = Box(Worker(STRICT, tmp_path / "snapshot"))
    raised = Entry("", Event.RAISE, NOW_NS, Phase.UNACKNOWLEDGED, NOW_NS)
    box.entries += [encode(replace(raised, alarm=f"T/{each}")) for each in range(MOST_UNKNOWN)]
    box.entries += [encode(replace(raised, alarm=name)) for name in ("T/0", HIGH, "T/new")]
    box.tell(2000)
    worker = box.worker.restarted(tmp_path)
    for each in (box.worker, worker):
        known = each.ears.alarms._delegation.kept().theirs[GATEWAY]  # noqa: SLF001 -- shown nowhere else
        assert len(known) == MOST_UNKNOWN + 1
        assert {"T/0", "T/2", "T/new", HIGH} <= known.keys()
        assert "T/1" not in known
    assert box.worker.forgotten == 1


@pytest.mark.parametrize("limit", [STRICT, LAX])
def test_a_snapshot_of_an_earlier_version_is_gone_on_from(limit: int, tmp_path: Path) -> None:
    """It did not tell by what the gateway judges: until its next birth this end judges too, by its own limit.

    The engine's columns were a file within the file then.
    """
    box = Box(Worker(limit, tmp_path / "snapshot"), LAX)
    if limit == STRICT:
        box.read(90.0)
    worker = box.worker.restarted(tmp_path)
    with np.load(tmp_path / "snapshot") as file:
        held = {name: file[name] for name in file.files if name != "alike"}
    inside = BytesIO()
    np.savez(inside, **{name.removeprefix("engine/"): held.pop(name) for name in [*held] if name.startswith("engine/")})
    held["engine"] = np.frombuffer(inside.getvalue(), np.uint8)
    head = json.loads(held["head"].tobytes())
    head["format"] = 1
    head.pop("columns")
    head["apart"] = head.pop("deciding")
    head.pop("at_gateways")
    held["head"] = np.frombuffer(json.dumps(head).encode(), np.uint8)
    with (tmp_path / "snapshot").open("wb") as file:
        np.savez(file, **held)
    box.worker = Worker(STRICT, tmp_path / "snapshot")
    asyncio.run(box.worker.ears.alarms._load(worker.ears.alarms._read))  # noqa: SLF001 -- how `run` begins
    if limit == LAX:
        box.read(60.0)
        assert (box.worker.phase(), box.phase) == (Phase.UNACKNOWLEDGED, Phase.NORMAL)
        box.read(90.0)
    box.ask(Verb.ACKNOWLEDGE)
    assert (box.worker.phase(), box.phase) == (Phase.ACKNOWLEDGED, Phase.ACKNOWLEDGED)


def lived(seed: int, folder: Path, loses: float = 0.0) -> Box:
    """A gateway after a life in which both files change and the cloud side, started anew, reads on before it is heard.

    All may be cut, and what waits then of the journal lost with this chance; at the end both have the same file.
    """
    dice = Random(seed)  # noqa: S311 -- a life to be lived again, no secret
    box = Box(Worker(STRICT, folder / "snapshot"), LAX)
    lost = Random(seed + 1000)  # noqa: S311 -- the same
    box.missed = lambda: lost.random() < 0.2
    box.read(10.0)

    def start(limit: int) -> None:
        box.worker = box.worker.restarted(folder, limit)
        for _ in range(dice.choice([0, 0, 1, 2])):
            box.read(dice.choice([10.0, 60.0, 90.0]))
        if not box.cut:
            box.be_born()

    chances: list[tuple[float, Callable[[], None]]] = [
        (0.06, lambda: setattr(box, "cut", True)),
        (0.20, lambda: box.mend(dice.choice([1, 2, 100]))),
        (0.06, lambda: box.have(dice.choice([STRICT, LAX]))),
        (0.10, lambda: box.press(Verb.ACKNOWLEDGE)),
        (0.10, lambda: box.ask(Verb.ACKNOWLEDGE)),
        (0.06, lambda: start(dice.choice([STRICT, LAX]))),
        (0.05, box.forget),
        (loses, lambda: box.lose() if box.cut else None),
    ]
    for _ in range(120):
        box.read(dice.choice([10.0, 60.0, 60.0, 60.0, 90.0]))
        for chance, happens in chances:
            if dice.random() < chance:
                happens()
    box.missed = lambda: False
    box.mend()
    box.have(STRICT)
    start(STRICT)
    box.mend()
    return box


@pytest.mark.parametrize("seed", [2, 25, 35, 43, 49, 66, 85])
def test_nothing_that_stands_at_the_gateway_is_unknown_here_whoever_is_started_on_which_file(
    seed: int, tmp_path: Path
) -> None:
    """What stands there stands here, too, under one id."""
    box = lived(seed, tmp_path)
    for _ in range(2):
        box.read(60.0)
        assert alike(box)
    for value in (10.0, 60.0):
        box.read(value)
    assert alike(box)


@pytest.mark.parametrize("seed", range(4))
def test_where_words_are_lost_nothing_is_silent_nothing_is_held_and_the_next_raising_is_one(
    seed: int, tmp_path: Path
) -> None:
    """What the readings hold up is raised when the gateway's word on it has been missing for long."""
    box = lived(seed, tmp_path, 0.08)
    for _ in range(14):
        box.read(60.0)
    assert box.worker.phase() in ACTIVE
    box.read(10.0)
    assert box.worker.phase() not in ACTIVE
    box.read(60.0)
    assert alike(box)


@pytest.mark.parametrize("seed", range(8))
def test_both_ends_agree_once_their_files_do_and_a_replay_comes_to_the_same(seed: int, tmp_path: Path) -> None:
    """Whatever was read, cut off, asked at either end and changed in the files; in any portions, and over restarts."""
    dice = Random(seed)  # noqa: S311 -- a life to be lived again, no secret
    box = Box(Worker(), LAX)
    lost = Random(seed + 1000)  # noqa: S311 -- the same
    box.missed = lambda: lost.random() < 0.2
    box.read(10.0)
    chances: list[tuple[float, Callable[[], None]]] = [
        (0.08, lambda: setattr(box, "cut", True)),
        (0.15, lambda: box.mend(dice.choice([1, 2, 100]))),
        (0.10, lambda: box.have(dice.choice([STRICT, LAX]))),
        (0.15, lambda: box.press(Verb.ACKNOWLEDGE)),
        (0.15, lambda: box.ask(Verb.ACKNOWLEDGE)),
        (0.04, lambda: box.press(Verb.SHELVE, box.now_ns + 20 * NS)),
        (0.04, lambda: box.ask(Verb.SHELVE, 20)),
        (0.05, box.forget),
    ]
    for _ in range(150):
        box.read(dice.choice([10.0, 60.0, 60.0, 90.0, 90.0]))
        for chance, happens in chances:
            if dice.random() < chance:
                happens()
    box.missed = lambda: False
    box.mend()
    box.have(STRICT)
    for value in (60.0, 10.0, 60.0):
        box.read(value)
    assert alike(box)
    assert_one_at_a_time(box)
    came_to = box.worker.came_to()
    at_once = Worker()
    at_once.hear(box.stream)
    assert at_once.came_to() == came_to
    worker = Worker(STRICT, tmp_path / "snapshot")
    for first in range(0, len(box.stream), 23):
        worker.hear(box.stream[first : first + 23])
        worker = worker.restarted(tmp_path)
    assert worker.came_to() == came_to
