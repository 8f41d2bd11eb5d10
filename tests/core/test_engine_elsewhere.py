"""Two engines, one of which decides: a gateway's, and one that has the same readings and hears its journal, late."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from random import Random

import numpy as np
import pytest

from tests.core.oracle_busy import process_plant, process_rounds, whole_plant, whole_rounds
from tests.core.oracle_lives import Clocks, Due, Round, frame_of
from tests.core.plants import SECOND, START_NS, definition, plant_of
from tocsin_core import engine
from tocsin_core.engine import Aspect, Command, Decider, Input, State, Transition, taking
from tocsin_core.engine.state import FAR, OURS_UNTIL_TOLD
from tocsin_core.journal import OVERTAKEN, Entry, decode, encode, moved, not_carried_out, refused, word_of
from tocsin_core.lifecycle import Event, Phase, Verb
from tocsin_core.plant import AlarmDefinition, AlarmKind, Plant
from tocsin_core.plant.definition import Suppressor
from tocsin_core.readings import GOOD, Frame
from tocsin_core.rules import Rules, compile_rules

HIGH = plant_of([[definition("P0", AlarmKind.H, 50.0)]])


@dataclass
class Pair:
    """A gateway's engine that decides, the other end's that hears it, and the link between them, cut or not."""

    rules: Rules
    gateway: State
    cloud: State
    now_ns: int = START_NS
    up: deque[bytes] = field(default_factory=deque)
    down: deque[Command] = field(default_factory=deque)
    ordered: set[int] = field(default_factory=set)
    at_gateway: list[Transition] = field(default_factory=list)
    at_cloud: list[Transition] = field(default_factory=list)

    @classmethod
    def of(cls, plant: Plant) -> "Pair":
        """Both at the start, the gateway deciding everything but silence."""
        rules = compile_rules(plant)
        silences = set(rules.stale.tolist())
        own = tuple(number for number in range(len(rules.definitions)) if number not in silences)
        pair = cls(rules, engine.initial(rules, START_NS), engine.initial(rules, START_NS))
        pair.hand_over(own, elsewhere=True)
        return pair

    def hand_over(self, numbers: Sequence[int], *, elsewhere: bool) -> None:
        """Let the gateway decide, or the other end."""
        self.at_the_cloud(Frame.empty(), [Decider(tuple(numbers), elsewhere, self.now_ns)])

    def name(self, number: int) -> str:
        """The id of a definition."""
        return self.rules.definitions[number].id

    def read(self, frame: Frame) -> None:
        """Readings at the gateway; the other end has them as well, before or after the journal."""
        self.at_the_gateway(frame, [])
        self.at_the_cloud(frame, [])

    def tick(self, now_ns: int) -> None:
        """The clock at both ends."""
        self.now_ns = now_ns
        self.at_the_gateway(Frame.empty(), [])
        self.at_the_cloud(Frame.empty(), [])

    def press(self, command: Command) -> None:
        """Somebody asks at the gateway."""
        self.at_the_gateway(Frame.empty(), [command])

    def ask(self, command: Command) -> None:
        """Somebody asks at the other end: obeyed there at once, and ordered."""
        if self.at_the_cloud(Frame.empty(), [command]):
            return
        self.ordered.add(command.at_ns)
        self.down.append(command)

    def arrive_down(self) -> None:
        """The next order arrives at the gateway."""
        order = self.down.popleft()
        if engine.overtaken(self.gateway, order):
            name = self.name(order.definition)
            self._tell(not_carried_out(name, order.definition, order.at_ns, self.gateway, "order", OVERTAKEN))
        else:
            self.at_the_gateway(Frame.empty(), [order], command="order")

    def arrive_up(self) -> None:
        """The next journal entry arrives."""
        entry = decode(self.up.popleft())
        answers = bool(entry.command) and entry.time_ns in self.ordered
        self.at_the_cloud(Frame.empty(), [word_of(entry, self.rules.index[entry.alarm], answers=answers)])

    def heal(self) -> None:
        """Everything arrives."""
        while self.up or self.down:
            while self.up:
                self.arrive_up()
            while self.down:
                self.arrive_down()

    def assert_alike(self) -> None:
        """Both ends know the same of every alarm that the gateway decides."""
        mine = self.cloud.elsewhere == engine.ELSEWHERE
        for column in ("phase", "active", "onset_ns", "shelved_until_ns", "out_of_service", "suppressed"):
            ours, theirs = getattr(self.cloud, column)[mine], getattr(self.gateway, column)[mine]
            assert ours.tolist() == theirs.tolist(), column

    def at_the_gateway(self, frame: Frame, inputs: list[Input], command: str = "") -> None:
        """One step of the gateway, told in its journal; `command` is the id of the order that it carries out."""
        self.gateway, result = engine.step(self.gateway, self.rules, frame, inputs, self.now_ns)
        for each in result.transitions:
            if self.rules.definitions[each.definition].kind is not AlarmKind.STALE:
                self.at_gateway.append(each)
                self._tell(moved(self.name(each.definition), each, self.gateway, command if each.who else ""))
        for refusal in result.refusals:
            if command:
                self._tell(refused(self.name(refusal.command.definition), refusal, self.gateway, command))

    def _tell(self, entry: Entry) -> None:
        self.up.append(encode(entry))

    def at_the_cloud(self, frame: Frame, inputs: list[Input]) -> bool:
        """One step of the other end; whether it refused a command."""
        self.cloud, result = engine.step(self.cloud, self.rules, frame, inputs, self.now_ns)
        self.at_cloud += [t for t in result.transitions if self.rules.definitions[t.definition].kind != AlarmKind.STALE]
        return bool(result.refusals)


def life(seed: int, plant_of_dice: Callable[[Random], Plant], rounds: Callable[..., list[Due]], steps: int) -> Pair:
    """A life in which commands are given at both ends and the link is now and then cut, one way or both."""
    dice = Random(seed)  # noqa: S311 - a life to be lived again, no secret
    plant = plant_of_dice(dice)
    pair, clocks = Pair.of(plant), Clocks.of(plant)
    values = [dice.uniform(10.0, 90.0) for _ in range(3 if len(plant.points) == 3 else 4)]
    stale = set(pair.rules.stale.tolist())
    for _ in range(steps):
        pair.read(frame_of(clocks.stamp(Round(tuple(rounds(dice, values)), (), dice.choice([0.0, 1.0, 3.0])))))
        pair.tick(clocks.now_ns)
        busy = [n for n in range(len(pair.rules.definitions)) if pair.gateway.phase[n] and n not in stale]
        for _ in range(dice.randint(0, 4) if busy else 0):
            pair.now_ns += 1
            verb = dice.choices(list(Verb), [6, 6, 1, 3, 1, 1, 1])[0]
            number = dice.choice(busy)
            until_ns = pair.now_ns + dice.choice([3, 600]) * SECOND if verb is Verb.SHELVE else 0
            command = Command(verb, number, pair.now_ns, "li", "repair", 0, until_ns, dice.random() < 0.3)
            if dice.random() < 0.5:
                pair.press(command)
            else:
                seen = int(pair.cloud.onset_ns[number]) if verb in (Verb.ACKNOWLEDGE, Verb.RESET) else 0
                pair.ask(command._replace(onset_ns=seen))
        clocks.now_ns = pair.now_ns
        link = dice.choice(["up", "down", "both", "none", "none"])
        for waiting, arrive, ways in (
            (pair.up, pair.arrive_up, ("up", "both")),
            (pair.down, pair.arrive_down, ("down", "both")),
        ):
            while waiting and link in ways:
                arrive()
    pair.heal()
    # A shelf whose time was up when its order arrived ends with the next tick there.
    pair.tick(pair.now_ns + 1)
    pair.heal()
    return pair


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(20))
def test_both_ends_stand_alike_when_everything_has_arrived(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was decided and commanded at both ends while nothing came through, in whichever order it arrived.

    Readings come through all the time here, for hours before the words: these are waited for without end.
    """
    monkeypatch.setattr(taking, "PATIENCE_NS", FAR)
    plants = (process_plant, process_rounds) if seed % 2 else (whole_plant, whole_rounds)
    pair = life(seed, *plants, 25)
    pair.assert_alike()
    assert len(pair.at_gateway) > 20
    raised = [(t.definition, t.onset_ns) for t in pair.at_gateway if t.event is Event.RAISE]
    known = [(t.definition, t.onset_ns) for t in pair.at_cloud if t.event is Event.RAISE]
    assert sorted(known) == sorted(raised)
    assert len(set(known)) == len(known)


def at(second: float, value: float) -> Frame:
    """One good reading."""
    return Frame.of([0], [START_NS + round(second * SECOND)], [value], [GOOD])


def events(transitions: Sequence[Transition]) -> list[tuple[str, int, int]]:
    """What happened: event, second of its onset, second of the onset that it replaced."""
    return [
        (t.event.text, (t.onset_ns - START_NS) // SECOND, max(0, t.superseded_ns - START_NS) // SECOND)
        for t in transitions
    ]


def apart(plant: Plant) -> Pair:
    """A pair in which the other end still decides."""
    pair = Pair.of(plant)
    pair.hand_over([0], elsewhere=False)
    return pair


def test_what_stood_when_the_gateway_began_returns_by_itself() -> None:
    """The gateway knows nothing of it and will never tell; born anew it decides, and a word of it is waited for."""
    pair = apart(HIGH)
    pair.at_the_cloud(at(1, 60.0), [])
    pair.hand_over([0], elsewhere=True)
    pair.at_the_cloud(at(2, 40.0), [])
    pair.hand_over([0], elsewhere=True)
    pair.at_the_cloud(at(3, 60.0), [])
    assert events(pair.at_cloud) == [("raise", 1, 0), ("return", 1, 0)]


def test_what_the_gateway_never_tells_of_is_raised_here() -> None:
    """After the delay and 10 s, counted anew from a birth; its word, when it comes, is about the same occurrence."""
    pair = Pair.of(HIGH)
    for second in (1, 9):
        pair.at_the_cloud(at(second, 60.0), [])
    pair.hand_over([0], elsewhere=True)
    for second in (10, 20):
        pair.at_the_cloud(at(second, 60.0), [])
    assert pair.at_cloud == []
    pair.at_the_cloud(at(21, 60.0), [])
    assert (events(pair.at_cloud), pair.cloud.elsewhere[0]) == ([("raise", 21, 0)], OURS_UNTIL_TOLD)
    pair.at_the_cloud(at(22, 40.0), [])
    assert events(pair.at_cloud)[1:] == [("return", 21, 0)]


def test_an_on_delay_that_runs_at_a_hand_over_runs_on() -> None:
    """The gateway begins its own with today's limit; whichever comes first raises it."""
    pair = apart(plant_of([[replace(definition("P0", AlarmKind.H, 50.0), on_delay_s=30.0)]]))
    for second in range(1, 33):
        pair.at_the_cloud(at(second, 60.0), [])
        if second in (25, 27):
            pair.hand_over([0], elsewhere=True)
    assert events(pair.at_cloud) == [("raise", 31, 0)]


def test_a_raise_at_the_gateway_ends_what_stood_here() -> None:
    """The earlier occurrence is returned and replaced, never left open; then the gateway alone returns."""
    pair = apart(HIGH)
    pair.at_the_cloud(at(1, 60.0), [])
    pair.hand_over([0], elsewhere=True)
    pair.read(at(2, 60.0))
    pair.heal()
    pair.at_the_cloud(at(3, 40.0), [])
    assert events(pair.at_cloud) == [("raise", 1, 0), ("return", 1, 0), ("raise", 2, 1)]
    assert pair.cloud.active[0]


def test_this_end_goes_on_from_where_it_is() -> None:
    """When the gateway decides no longer, what it had raised returns here."""
    pair = Pair.of(HIGH)
    pair.read(at(1, 60.0))
    pair.heal()
    pair.hand_over([0], elsewhere=False)
    pair.at_the_cloud(at(2, 40.0), [])
    assert events(pair.at_cloud) == [("raise", 1, 0), ("return", 1, 0)]


@pytest.mark.parametrize("seed", range(5))
def test_while_both_judge_each_occurrence_is_the_same_at_both_ends_and_known_once(seed: int) -> None:
    """The journal comes before the readings it is about; what was read during a cut never comes at all."""
    dice = Random(seed)  # noqa: S311 - a life to be lived again, no secret
    pair, cut = apart(HIGH), False
    for second in range(1, 400):
        cut = dice.random() < (0.8 if cut else 0.1)
        frame = at(second, dice.choice([40.0, 60.0]))
        pair.at_the_gateway(frame, [])
        if dice.random() < 0.1:
            pair.press(Command(Verb.ACKNOWLEDGE, 0, START_NS + second * SECOND + 1, "wang"))
        if not cut:
            pair.heal()
            pair.at_the_cloud(frame, [])
    pair.heal()
    assert [t[:5] for t in pair.at_cloud] == [t[:5] for t in pair.at_gateway]
    assert sum(t.event is Event.RAISE for t in pair.at_cloud) > 50
    assert pair.cloud.elsewhere[0] == engine.HERE


def test_readings_that_words_have_overtaken_turn_nothing() -> None:
    """The journal goes before the readings: what was over when it told of it is not raised once more by them."""
    pair = apart(HIGH)
    course = [at(1, 60.0), at(2, 60.0), at(3, 40.0), at(4, 40.0), at(5, 60.0), at(6, 60.0)]
    for frame in course:
        pair.at_the_gateway(frame, [])
    pair.heal()
    for frame in course:
        pair.at_the_cloud(frame, [])
    assert events(pair.at_cloud) == [("raise", 1, 0), ("return", 1, 0), ("raise", 5, 1)]
    pair.at_the_cloud(at(7, 40.0), [])
    assert events(pair.at_cloud)[3:] == [("return", 5, 0)]


@pytest.mark.parametrize("answered_here", [False, True])
def test_a_word_that_comes_after_the_readings_takes_the_alarm_no_further_back(answered_here: bool) -> None:  # noqa: FBT001
    """What they raised and returned is not raised and returned once more; what was answered there is answered here."""
    pair = apart(HIGH)
    course = [at(1, 60.0), at(2, 40.0)]
    for frame in course:
        pair.at_the_cloud(frame, [])
    if answered_here:
        pair.at_the_cloud(Frame.empty(), [Command(Verb.ACKNOWLEDGE, 0, START_NS + 2 * SECOND, "li")])
    pair.at_the_gateway(course[0], [])
    pair.press(Command(Verb.ACKNOWLEDGE, 0, START_NS + SECOND, "wang"))
    pair.at_the_gateway(course[1], [])
    pair.heal()
    assert events(pair.at_cloud) == [("raise", 1, 0), ("return", 1, 0), ("acknowledge", 1, 0)]
    assert (pair.at_cloud[-1].who, pair.cloud.phase[0]) == ("li" if answered_here else "wang", Phase.NORMAL)


def test_an_earlier_occurrence_that_takes_the_place_of_one_does_not_end_it_before_it_began() -> None:
    """This end found the alarm by a later reading than the gateway did; the gateway's occurrence is the one."""
    pair = apart(HIGH)
    pair.at_the_gateway(at(1, 60.0), [])
    pair.at_the_cloud(at(2, 60.0), [])
    pair.heal()
    assert events(pair.at_cloud) == [("raise", 2, 0), ("return", 2, 0), ("raise", 1, 2)]
    assert pair.at_cloud[1].time_ns == START_NS + 2 * SECOND
    pair.at_the_cloud(at(3, 40.0), [])
    assert events(pair.at_cloud)[3:] == [("return", 1, 0)]


def test_of_what_is_decided_here_a_word_hides_only_what_somebody_asked_for_there() -> None:
    """A shelf of this end, of which the gateway does not know, stands against all its words; one asked there counts."""
    pair = apart(HIGH)
    pair.at_the_cloud(Frame.empty(), [Command(Verb.SHELVE, 0, START_NS, "li", "repair", 0, START_NS + 600 * SECOND)])
    pair.read(at(1, 60.0))
    pair.heal()
    assert (pair.cloud.phase[0], pair.cloud.shelved_until_ns[0] > 0) == (Phase.UNACKNOWLEDGED, True)
    asked = Command(Verb.SHELVE, 0, START_NS + 2 * SECOND, "wang", "there", 0, START_NS + 60 * SECOND)
    pair.press(asked)
    pair.heal()
    assert pair.cloud.shelved_until_ns[0] == asked.until_ns
    pair.press(Command(Verb.UNSHELVE, 0, START_NS + 3 * SECOND, "wang"))
    pair.heal()
    assert pair.cloud.shelved_until_ns[0] == 0


def test_a_shelf_from_before_holds_until_the_gateway_answers() -> None:
    """Both ends are told to shelve it; the gateway's word on other things does not end it here."""
    pair = apart(HIGH)
    shelve = Command(Verb.SHELVE, 0, START_NS, "li", "repair", 0, START_NS + 600 * SECOND)
    pair.at_the_cloud(Frame.empty(), [shelve])
    pair.now_ns += SECOND
    pair.hand_over([0], elsewhere=True)
    assert pair.cloud.commanded_ns[0].tolist() == [0, pair.now_ns + Aspect.SHELF, 0]
    refusal = Entry("P0/H", None, START_NS + 5, Phase.NORMAL, refusal="the alarm is not active")
    pair.at_the_cloud(Frame.empty(), [word_of(refusal, 0, answers=True)])
    assert pair.cloud.shelved_until_ns[0] == shelve.until_ns
    pair.at_the_cloud(Frame.empty(), [word_of(replace(refusal, time_ns=pair.now_ns + Aspect.SHELF), 0, answers=True)])
    assert pair.cloud.shelved_until_ns[0] == 0


def test_an_acknowledgement_from_before_holds_until_the_gateway_answers() -> None:
    """Nobody has acknowledged it at the gateway yet: what that says of a shelf takes nothing back."""
    pair = apart(HIGH)
    pair.read(at(1, 60.0))
    pair.heal()
    pair.at_the_cloud(Frame.empty(), [Command(Verb.ACKNOWLEDGE, 0, START_NS + SECOND, "li")])
    pair.now_ns = START_NS + 2 * SECOND
    pair.hand_over([0], elsewhere=True)
    assert pair.cloud.commanded_ns[0].tolist() == [pair.now_ns + Aspect.ANSWER, 0, 0]
    pair.press(Command(Verb.SHELVE, 0, pair.now_ns + 1, "wang", "there", 0, pair.now_ns + 60 * SECOND))
    pair.heal()
    assert (pair.cloud.phase[0], pair.cloud.shelved_until_ns[0] > 0) == (Phase.ACKNOWLEDGED, True)


def test_a_gateway_that_lost_its_state_hides_nothing_and_so_does_this_end() -> None:
    """Its first word on the alarm ends the shelf here: what sounds at the plant must not be hidden from people."""
    pair = Pair.of(HIGH)
    pair.press(Command(Verb.SHELVE, 0, START_NS, "li", "repair", 0, START_NS + 600 * SECOND))
    pair.heal()
    pair.gateway = engine.initial(pair.rules, START_NS)
    pair.read(at(1, 60.0))
    pair.heal()
    pair.assert_alike()
    assert [(t.event.text, t.suppressed) for t in pair.at_cloud] == [
        ("shelve", True),
        ("raise", True),
        ("unshelve", False),
    ]


def test_a_shelf_that_is_over_is_not_begun_again_by_an_older_word() -> None:
    """It ended here by the clock; the journal, which comes late, still has it in what it tells of other things."""
    pair = Pair.of(HIGH)
    pair.press(Command(Verb.SHELVE, 0, START_NS, "li", "repair", 0, START_NS + 3 * SECOND))
    pair.arrive_up()
    pair.read(at(1, 60.0))
    for second in range(1, 6):
        pair.tick(START_NS + second * SECOND)
    pair.heal()
    pair.assert_alike()
    assert [t.event.text for t in pair.at_cloud] == ["shelve", "unshelve", "raise"]


def test_a_shelf_of_this_end_that_is_over_is_not_begun_again_by_the_answer() -> None:
    """Ordered during a cut it ended here in time, and people are being called: the gateway carries it out later."""
    pair = Pair.of(HIGH)
    pair.read(at(0, 60.0))
    pair.heal()
    pair.ask(Command(Verb.SHELVE, 0, START_NS + SECOND, "li", "repair", 0, START_NS + 4 * SECOND))
    pair.tick(START_NS + 5 * SECOND)
    pair.heal()
    pair.tick(START_NS + 6 * SECOND)
    pair.heal()
    pair.assert_alike()
    assert [t.event.text for t in pair.at_gateway] == ["raise", "shelve", "unshelve"]
    assert [(t.event.text, t.time_ns) for t in pair.at_cloud] == [(t.event.text, t.time_ns) for t in pair.at_gateway]


def test_a_shelf_that_is_over_is_not_begun_again_by_the_answer_to_an_order_that_is_forgotten() -> None:
    """This end has lost its state since, and goes on from the tables: they tell how alarms stand, and not why."""
    pair = Pair.of(HIGH)
    pair.read(at(0, 60.0))
    pair.heal()
    pair.ask(Command(Verb.SHELVE, 0, START_NS + SECOND, "li", "repair", 0, START_NS + 4 * SECOND))
    pair.tick(START_NS + 5 * SECOND)
    pair.cloud.commanded_ns[:] = 0
    pair.heal()
    pair.tick(START_NS + 6 * SECOND)
    pair.heal()
    pair.assert_alike()
    assert [t.event.text for t in pair.at_gateway] == ["raise", "shelve", "unshelve"]
    assert [t.event.text for t in pair.at_cloud] == ["raise", "shelve", "unshelve"]


def test_a_shelf_of_the_gateway_that_ends_takes_none_off_that_was_ordered_since() -> None:
    """Nobody asked for its end: the order that is on its way counts, and nobody is called meanwhile."""
    pair = Pair.of(HIGH)
    pair.read(at(0, 60.0))
    pair.heal()
    pair.press(Command(Verb.SHELVE, 0, START_NS + SECOND, "wang", "there", 0, START_NS + 4 * SECOND))
    ordered = Command(Verb.SHELVE, 0, START_NS + 2 * SECOND, "li", "repair", 0, START_NS + 600 * SECOND)
    pair.ask(ordered)
    pair.tick(START_NS + 5 * SECOND)
    pair.heal()
    pair.assert_alike()
    assert pair.cloud.shelved_until_ns[0] == ordered.until_ns
    assert [t.event.text for t in pair.at_gateway] == ["raise", "shelve", "unshelve", "shelve"]
    assert [t.event.text for t in pair.at_cloud] == ["raise", "shelve"]


def test_a_shelf_that_ends_as_it_is_answered_ends_by_the_clock() -> None:
    """The answer is taken in before the clock: it is no unshelving by who shelved it."""
    pair = Pair.of(HIGH)
    pair.read(at(0, 60.0))
    pair.heal()
    pair.ask(Command(Verb.SHELVE, 0, START_NS + SECOND, "li", "repair", 0, START_NS + 4 * SECOND))
    pair.arrive_down()
    pair.now_ns = START_NS + 5 * SECOND
    pair.arrive_up()
    assert [(t.event.text, t.time_ns, t.who) for t in pair.at_cloud[1:]] == [
        ("shelve", START_NS + SECOND, "li"),
        ("unshelve", START_NS + 4 * SECOND, ""),
    ]


def heard_of(here: AlarmDefinition, there: AlarmDefinition, missed: Event | None) -> list[Transition]:
    """What an alarm does at this end, which judges it by another plant file than the gateway, and hears its words.

    P1 suppresses it at the gateway while it is raised and returns.
    """
    rules, theirs = (compile_rules(plant_of([[each], []])) for each in (here, there))
    cloud, gateway = engine.initial(rules, START_NS), engine.initial(theirs, START_NS)
    said, told = list[Event](), list[Transition]()
    for point, second, value in ((1, 0, 0.0), (0, 1, 60.0), (0, 2, 10.0), (1, 3, 1.0), (0, 9, 10.0)):
        now_ns = START_NS + second * SECOND
        rows = Frame.of([point], [now_ns], [value], [GOOD])
        gateway, made = engine.step(gateway, theirs, rows, [], now_ns)
        said += [each.event for each in made.transitions]
        entries = [moved("P0/H", each, gateway) for each in made.transitions if each.event is not missed]
        cloud, made = engine.step(cloud, rules, rows, [word_of(each, 0, answers=False) for each in entries], now_ns)
        told += made.transitions
    assert said == [Event.SUPPRESS, Event.RAISE, Event.RETURN, Event.ACKNOWLEDGE, Event.UNSUPPRESS]
    return told


@pytest.mark.parametrize("missed", [None, Event.ACKNOWLEDGE])
def test_what_nobody_saw_at_the_gateway_is_not_answered_where_this_end_judges_it_too(missed: Event | None) -> None:
    """There it is suppressed by design, by another plant file; here people are called of it, and called on."""
    by = Suppressor("P1", low=-0.5, high=0.5, on_delay_s=0.0, off_delay_s=5.0, longest_s=60.0)
    (high,) = HIGH.points[0].definitions
    told = heard_of(high, replace(high, suppressed_by=by), missed)
    assert [each.event for each in told] == [Event.RAISE, Event.RETURN]
    assert told[-1].phase_to is Phase.RETURNED_UNACKNOWLEDGED


@pytest.mark.parametrize("missed", [None, Event.ACKNOWLEDGE])
def test_what_nobody_saw_at_either_end_asks_for_no_answer_where_both_judge(missed: Event | None) -> None:
    """Suppressed by design at both; as the off-delay is longer here, it returns by the gateway's word."""
    by = Suppressor("P1", low=-0.5, high=0.5, on_delay_s=0.0, off_delay_s=5.0, longest_s=60.0)
    there = replace(HIGH.points[0].definitions[0], suppressed_by=by)
    told = heard_of(replace(there, off_delay_s=30.0), there, missed)
    assert [each.event for each in told] == [
        Event.SUPPRESS,
        Event.RAISE,
        Event.RETURN,
        Event.ACKNOWLEDGE,
        Event.UNSUPPRESS,
    ]
    assert told[-1].phase_to is Phase.NORMAL


@pytest.mark.parametrize("shown", [False, True])
def test_what_the_gateway_hid_all_the_while_is_answered_here_where_this_end_decides_again(shown: bool) -> None:  # noqa: FBT001
    """Not what it has shown in between, though it is hidden once more."""
    by = Suppressor("P1", low=-0.5, high=0.5, on_delay_s=0.0, off_delay_s=0.0, longest_s=600.0)
    pair = Pair.of(plant_of([[replace(HIGH.points[0].definitions[0], suppressed_by=by)], []]))
    course = [(1, 1, 0.0), (0, 2, 60.0), *([(1, 3, 1.0), (0, 4, 60.0), (1, 5, 0.0), (0, 6, 60.0)] if shown else [])]
    for point, second, value in course:
        pair.read(Frame.of([point], [START_NS + second * SECOND], [value], [GOOD]))
        pair.heal()
    pair.hand_over([0], elsewhere=False)
    pair.at_the_cloud(at(7, 40.0), [])
    assert [t.event for t in pair.at_cloud][-1] is (Event.RETURN if shown else Event.ACKNOWLEDGE)
    assert pair.cloud.phase[0] == (Phase.RETURNED_UNACKNOWLEDGED if shown else Phase.NORMAL)


def test_what_was_hidden_at_the_gateway_is_not_reset_where_this_end_judges_it_too() -> None:
    """Somebody acknowledged it there, so it is here; here it stays latched until somebody resets it."""
    by = Suppressor("P1", low=-0.5, high=0.5, on_delay_s=0.0, off_delay_s=5.0, longest_s=60.0)
    high = replace(HIGH.points[0].definitions[0], latching=True)
    here, there = (compile_rules(plant_of([[each], []])) for each in (high, replace(high, suppressed_by=by)))
    cloud, gateway = engine.initial(here, START_NS), engine.initial(there, START_NS)
    said = list[Event]()
    for point, second, value in ((1, 0, 0.0), (0, 1, 60.0), (0, 2, 10.0), (1, 3, 1.0), (0, 9, 10.0)):
        now_ns = START_NS + second * SECOND
        rows = Frame.of([point], [now_ns], [value], [GOOD])
        asked = [Command(Verb.ACKNOWLEDGE, 0, now_ns, "li")] if second == 1 else []
        gateway, made = engine.step(gateway, there, rows, asked, now_ns)
        said += [each.event for each in made.transitions]
        words = [word_of(moved("P0/H", each, gateway), 0, answers=False) for each in made.transitions]
        cloud, _ = engine.step(cloud, here, rows, words, now_ns)
    reset = [Event.ACKNOWLEDGE, Event.RETURN_LATCHED, Event.RESET]
    assert said == [Event.SUPPRESS, Event.RAISE, *reset, Event.UNSUPPRESS]
    assert cloud.phase[0] == Phase.LATCHED_ACKNOWLEDGED


def test_entries_that_are_missing_are_made_up_for_by_the_next() -> None:
    """The alarm goes through the standard's diagram to where it is, each occurrence once."""
    pair = Pair.of(HIGH)
    for second, value in enumerate((60.0, 40.0, 60.0, 40.0), 1):
        pair.at_the_gateway(at(second, value), [])
    pair.up = deque([pair.up[0], pair.up[3]])
    pair.heal()
    pair.assert_alike()
    assert events(pair.at_cloud) == [("raise", 1, 0), ("return", 1, 0), ("raise", 3, 1), ("return", 3, 0)]


def test_a_state_of_an_earlier_version_decides_everything_itself() -> None:
    """Its snapshots know nothing of another end, keep alarms at rest too, and texts as numpy's."""
    pair = Pair.of(HIGH)
    pair.at_the_gateway(at(1, 60.0), [])
    state, rules = pair.gateway, pair.rules
    with np.load(BytesIO(engine.snapshot(state, rules))) as file:
        columns = {name: file[name] for name in file.files}
    for name in ("trend_point", "trend_tau_s", "elsewhere", "commanded_ns"):
        del columns[name]
    for name in ("phase", "active", "since_ns", "onset_ns", "shelved_until_ns", "shelved_once", "suppressed"):
        columns[name] = getattr(state, name)
    columns["out_of_service"] = state.out_of_service
    columns["definitions"] = np.asarray([definition.id for definition in rules.definitions], np.str_)
    columns["points"] = np.asarray(rules.points, np.str_)
    columns["trends"] = np.asarray([], np.str_)
    older = BytesIO()
    np.savez(older, **columns)
    restored = engine.restore(older.getvalue(), rules)
    assert (restored.elsewhere.tolist(), restored.commanded_ns.tolist()) == ([engine.HERE], [[0, 0, 0]])
    assert restored.onset_ns.tolist() == state.onset_ns.tolist() != [0]
    assert restored.value.tolist() == [60.0]


def test_a_clock_set_back_at_this_end_leaves_shelves_and_orders_to_the_gateway() -> None:
    """Its own clock ends the shelf, and its answer the waiting for it: here both stand as they were given."""
    pair = Pair.of(HIGH)
    until_ns = START_NS + 600 * SECOND
    pair.press(Command(Verb.SHELVE, 0, START_NS, "wang", "repair", 0, until_ns))
    pair.heal()
    pair.ask(Command(Verb.OUT_OF_SERVICE, 0, START_NS + SECOND, "li", "repair"))
    pair.cloud = engine.set_back(pair.cloud, pair.rules, START_NS - 3600 * SECOND)
    assert pair.cloud.shelved_until_ns[0] == until_ns
    assert pair.cloud.commanded_ns[0, Aspect.SERVICE] == START_NS + SECOND
    pair.heal()
    assert pair.cloud.commanded_ns[0, Aspect.SERVICE] == 0
    pair.assert_alike()
