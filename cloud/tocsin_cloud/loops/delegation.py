"""What gateways that decide their own alarms say: who decides, and their journals, each entry once and in order."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Final, NamedTuple

import numpy as np
import structlog
from numpy.typing import NDArray

from tocsin_cloud.loops.hearing import is_birth
from tocsin_cloud.loops.judged import Judged
from tocsin_cloud.loops.taking_over import concerns, raised_there, taken_over
from tocsin_cloud.loops.theirs import NONE, Meant, Ours, Theirs, meant
from tocsin_core import journal
from tocsin_core.engine import ELSEWHERE, HERE, Aspect, Command, Decider, Input, State, Told
from tocsin_core.engine.state import NEVER, OURS_UNTIL_TOLD, PATIENCE_NS
from tocsin_core.journal import Entry, Naming, Order
from tocsin_core.lifecycle import ACTIVE, TURNS, UNANSWERED, Event, Phase, Verb, after
from tocsin_core.owned import PRINT, among, unpacked
from tocsin_core.rules import NS
from tocsin_core.sparkplug.host import Fed, JournalPart

log = structlog.get_logger(__name__)

# What an entry tells is news when it is no older than this; what was kept during a cut is old by nature.
NEWS_NS: Final = 10 * NS

# Of alarms that are not its own by this plant file: about as many as a version of the file may add.
MOST_UNKNOWN: Final = 1000

FROM_BEFORE: Final = "from before the gateway decided"
ANSWERED: Final = "acknowledged before the gateway raised it"
_TOLD_ALL_THE_SAME: Final = (Verb.ACKNOWLEDGE, Verb.UNSHELVE, Verb.IN_SERVICE)
_ANSWERS: Final = (Verb.ACKNOWLEDGE, Verb.UNACKNOWLEDGE, Verb.RESET)
_ASKED: Final = {
    Aspect.ANSWER: Verb.ACKNOWLEDGE,
    Aspect.SHELF: Verb.SHELVE,
    Aspect.SERVICE: Verb.OUT_OF_SERVICE,
}


@dataclass(frozen=True, slots=True)
class GatewayOrder:
    """A person's command on its way to the gateway that decides the alarm."""

    gateway: str
    order: Order


class Beside(NamedTuple):
    """A step at the gateway that belongs to the occurrence of `onset_ns` here, which is in `phase` and stays so."""

    entry: Entry
    onset_ns: int
    phase: Phase


@dataclass(frozen=True, slots=True)
class Kept:
    """What a snapshot keeps: how far each journal is taken in, gateways that decide, and `Theirs` of each alarm.

    `alike` are the fingerprints that are the same at both ends, each by which gateway; earlier versions did not tell by
    which, or knew of none.
    """

    journals: dict[str, int]
    deciding: list[str]
    alike: bytes
    theirs: dict[str, dict[str, list[int]]]


@dataclass(slots=True)
class Words:
    """What one message of a gateway came to.

    `inputs` are the engine's. `position` is the last journal number taken in (0: none), `lost` counts gaps that nothing
    fills and entries that cannot be read. `aside` are the steps that move no alarm here, because this plant file does
    not have it for this gateway, or knows of a later occurrence: they are history alone; `forgotten` counts such alarms
    of which no more is known. `beside` are the steps of those that stand here already. `answers` maps ids of orders to
    why they were refused ("": they were carried out). `commanded` are the steps that somebody
    asked for at the gateway. `orders` are to bring the gateway to what was answered here, by definition. `decides` is
    what a birth says, None for any other message. `news`: the entries tell of what just happened.
    """

    gateway: str
    inputs: list[Input] = field(default_factory=list)
    position: int = 0
    lost: int = 0
    aside: list[Entry] = field(default_factory=list)
    beside: list[Beside] = field(default_factory=list)
    repeated: int = 0
    forgotten: int = 0
    gap: bool = False
    answers: dict[str, str] = field(default_factory=dict)
    commanded: list[Entry] = field(default_factory=list)
    orders: dict[int, GatewayOrder] = field(default_factory=dict)
    decides: bool | None = None
    news: bool = True


class Delegation:
    """How far the journal of each gateway is taken in; moves with the engine's state, and is kept with it."""

    def __init__(self, site: str, judged: Judged) -> None:
        """Know which definitions each gateway of ours may decide, and by what."""
        self._rules, self._own, self._owner, self._prints = judged.rules, judged.own, judged.owner, judged.prints
        # A point may move to another gateway, whose plant file has it later.
        self._by_gateway = self._prints.copy()
        for gateway, numbers in self._own.items():
            self._by_gateway[list(numbers)] ^= unpacked(blake2b(gateway.encode(), digest_size=PRINT).digest())
        self._site = site
        self._disagreed: dict[str, int] = {}
        # Gateways that decide, and the alarms whose fingerprints are the same there: bool[D].
        self._deciding: set[str] = set()
        self._alike = np.zeros(len(judged.rules.definitions), np.bool_)
        # Gateways whose last word moved no alarm: so much is said once of each.
        self._set_aside: set[str] = set()
        # By gateway and alarm; of alarms that are not the gateway's by this plant file apart from the others.
        self._theirs: dict[str, dict[str, Theirs]] = {}
        self._unknown: dict[str, dict[str, Theirs]] = {}
        self.positions: dict[str, int] = {}

    def adopt(self, positions: Mapping[str, int]) -> None:
        """Go on from positions that are committed where they are further than what is known."""
        for gateway, position in positions.items():
            self.positions[gateway] = max(position, self.positions.get(gateway, 0))

    def kept(self) -> Kept:
        """What a snapshot keeps, as it is now."""
        theirs: dict[str, dict[str, list[int]]] = {}
        for gateway, known in (*self._theirs.items(), *self._unknown.items()):
            theirs.setdefault(gateway, {}).update((alarm, [*each]) for alarm, each in known.items())
        return Kept(dict(self.positions), sorted(self._deciding), self._by_gateway[self._alike].tobytes(), theirs)

    def restore(self, kept: Kept, state: State) -> None:
        """Go on from a snapshot; what its gateway does not decide, because the plant has changed, this end does."""
        self.adopt(kept.journals)
        self._deciding.update(kept.deciding)
        for gateway, known in kept.theirs.items():
            for alarm, each in known.items():
                place = self._unknown if self._number(gateway, alarm) is None else self._theirs
                place.setdefault(gateway, {})[alarm] = Theirs.of(each)
        self._alike[list(self._owner)] = True
        alike = unpacked(kept.alike)
        self._alike &= (state.elsewhere != HERE) & (among(self._by_gateway, alike) | among(self._prints, alike))
        state.elsewhere[~self._alike] = HERE

    def heard(self, fed: Fed, state: State, now_ns: int) -> Words | None:
        """Take in what a message that arrived at `now_ns` says of who decides and what; None if that is nothing."""
        gateway = fed.gateway
        if gateway is None or fed.group != self._site or gateway not in self._own:
            return None
        if fed.kind == "NBIRTH" and is_birth(fed):
            return self._born(gateway, fed.journal, state, now_ns)
        if fed.kind == "NDATA" and fed.journal is not None:
            return self._told(gateway, fed.journal, state, now_ns)
        return None

    def order(self, state: State, command: Command, identity: str) -> GatewayOrder | None:
        """The order that a command just carried out in `state` becomes; None if its alarm is decided here alone.

        A gateway that judges it by another plant file is told of acknowledgements all the same: its siren may be on;
        and that it is hidden no longer: there it may be, and what it says of that once the files are alike counts here.
        Whoever answers what is known here answers what waits there from before, too: nothing else here would.
        """
        number = command.definition
        if state.elsewhere[number] == HERE and (
            command.verb not in _TOLD_ALL_THE_SAME or self._owner.get(number) not in self._deciding
        ):
            return None
        onset_ns, theirs = int(state.onset_ns[number]), self._of(number)
        same = theirs.reaches(onset_ns) or theirs.phase in UNANSWERED
        return self._order(command, identity, theirs.onset_ns if same else onset_ns)

    def told(self) -> Iterator[int]:
        """The definitions of which gateways have told."""
        for known in self._theirs.values():
            yield from (self._rules.index[alarm] for alarm in known)

    def known_as(self, numbers: Iterable[int], state: State) -> dict[str, list[Naming]]:
        """By gateway, as what those of the definitions `numbers` are known here that stand or wait there.

        Where it raised what stood here already, that is the occurrence here. Of what only the gateway judges, and what
        has one onset at both ends, nothing needs to be said.
        """
        found: dict[str, list[Naming]] = {}
        for number in numbers:
            theirs = self._of(number)
            known_ns = theirs.known_ns(int(state.onset_ns[number]))
            told = state.elsewhere[number] == HERE or known_ns != theirs.onset_ns
            if told and theirs.phase is not Phase.NORMAL and self._owner[number] in self._deciding:
                alarm = self._rules.definitions[number].id
                found.setdefault(self._owner[number], []).append(Naming(alarm, theirs.onset_ns, known_ns))
        return found

    def touched(self, words: Words) -> Iterable[int]:
        """The definitions of which `words` may have changed as what they are known."""
        if words.decides:
            # It may have been started anew, and remembers none of it.
            return self._own[words.gateway]
        alarms = [entry.alarm for entry in (*words.aside, *(each.entry for each in words.beside))]
        told = [each.definition for each in words.inputs if isinstance(each, Told)]
        return [*told, *(self._rules.index[alarm] for alarm in alarms if alarm in self._rules.index)]

    def orders_from_before(self, gateway: str, state: State, at_ns: int) -> Iterator[GatewayOrder]:
        """Orders to acknowledge and hide at the gateway what was so here when, at `at_ns`, it began to decide."""
        own = np.asarray(self._own[gateway], np.int64)
        for row, about in np.argwhere(state.commanded_ns[own] == at_ns + np.asarray(Aspect)).tolist():
            number, aspect = int(own[row]), Aspect(about)
            until_ns = int(state.shelved_until_ns[number]) if aspect is Aspect.SHELF else 0
            once = bool(until_ns and state.shelved_once[number])
            verb = _ASKED[aspect]
            command = Command(verb, number, at_ns + aspect, "tocsin", FROM_BEFORE, 0, until_ns, once)
            order = self.order(state, command, f"{at_ns}-{verb}-{number}")
            if order is not None:
                yield order

    def disagreements(self, state: State) -> dict[str, int]:
        """Of each gateway, on how many alarms the detectors here have long said otherwise than its journal."""
        found = self._disagreements(state)
        for gateway, alarms in found.items():
            if alarms > self._disagreed.get(gateway, 0):
                log.warning("readings say otherwise than the gateway's journal", gateway=gateway, alarms=alarms)
        self._disagreed = found
        return found

    def _disagreements(self, state: State) -> dict[str, int]:
        found = dict.fromkeys(self._own, 0)
        gone = (state.elsewhere == ELSEWHERE) & state.active & (state.since_ns >= 0)
        came = (state.elsewhere == OURS_UNTIL_TOLD) & state.active
        for which, since_ns in ((gone, state.since_ns), (came, state.onset_ns)):
            number = np.flatnonzero(which)
            delay_ns = self._rules.delay_ns[number, 1 if which is gone else 0]
            lasted_ns = state.time_ns[self._rules.point[number]] - since_ns[number]
            for each in number[lasted_ns > delay_ns + PATIENCE_NS].tolist():
                found[self._owner[each]] += which is gone or not self._of(each).stands
        return found

    def _of(self, number: int) -> Theirs:
        """What is known of the alarm at the gateway that decides it."""
        return self._theirs.get(self._owner.get(number, ""), {}).get(self._rules.definitions[number].id, NONE)

    def _born(self, gateway: str, part: JournalPart | None, state: State, now_ns: int) -> Words | None:
        decides = part is not None and part.newest is not None
        words = Words(gateway, decides=decides)
        known = gateway in self._deciding
        (self._deciding.add if decides else self._deciding.discard)(gateway)
        position = self.positions.get(gateway, 0)
        if part is not None and part.newest is not None and part.newest < position:
            # Another spool: its numbers will come again with others, and what it has written so far is still to come.
            log.warning("a gateway's journal went back", gateway=gateway, newest=part.newest, known=position)
            position = self.positions[gateway] = (part.oldest or part.newest + 1) - 1
            self._theirs.pop(gateway, None)
            self._unknown.pop(gateway, None)
        self._agree(words, unpacked(part.rules if part is not None and decides else b""), state, now_ns)
        if part is not None and (part.oldest or 0) > position + 1:
            self._doubt(words, state, now_ns)
        if not (decides or known or words.inputs):
            return None
        words.position = position
        return words

    def _agree(self, words: Words, prints: NDArray[np.uint64], state: State, now_ns: int) -> None:
        """Leave to the gateway those of its alarms that it judges as this end would, by its fingerprints.

        Of the rest it may not know, or judge them by another limit: until it has today's plant file both ends judge.
        """
        numbers = np.asarray(self._own[words.gateway], np.int64)
        alike = self._alike[numbers] = among(self._prints[numbers], prints)
        if words.decides and not alike.all():
            apart = int((~alike).sum())
            log.warning("a gateway judges by another plant file; so does this end", gateway=words.gateway, alarms=apart)
        here = state.elsewhere[numbers] == HERE
        for theirs, changed in ((True, alike & here), (False, ~alike & ~here)):
            if changed.any():
                log.info("who decides has changed", gateway=words.gateway, here=not theirs, alarms=int(changed.sum()))
                words.inputs.append(Decider(tuple(numbers[changed].tolist()), theirs, now_ns))
        # What became of these while it was away it will tell after its birth.
        waited = (state.since_ns[numbers] != NEVER) | (state.elsewhere[numbers] == OURS_UNTIL_TOLD)
        anew = alike & ~here & ~state.active[numbers] & waited
        if anew.any():
            words.inputs.append(Decider(tuple(numbers[anew].tolist()), True, now_ns))  # noqa: FBT003 -- elsewhere
        begun = numbers[alike & here].tolist()
        for number in begun:
            self._take_over(words, number, state, now_ns)
        stands = tuple(number for number in begun if self._of(number).stands)
        if stands:
            # It may have gone before today's plant file was the gateway's: what it says of that may be lost.
            words.inputs.append(Decider(stands, True, now_ns))  # noqa: FBT003 -- elsewhere

    def _doubt(self, words: Words, state: State, now_ns: int) -> None:
        """Let what stands return by the readings here, where the gateway's word on that may be one that never comes."""
        own = np.asarray(self._own[words.gateway], np.int64)
        stands = own[(state.elsewhere[own] == ELSEWHERE) & state.active[own]]
        if len(stands):
            words.inputs.append(Decider(tuple(stands.tolist()), True, now_ns))  # noqa: FBT003 -- elsewhere

    def _take_over(self, words: Words, number: int, state: State, now_ns: int) -> None:
        """Let an alarm that its gateway decides from now on stand here as the gateway has told."""
        theirs = self._of(number)
        if not concerns(theirs, state, number):
            return
        raised = raised_there(self._rules.definitions[number].id, theirs, state, number)
        onset_ns = int(state.onset_ns[number])
        if state.active[number] and theirs.onset_ns != onset_ns:
            words.beside.append(Beside(raised, onset_ns, Phase(int(state.phase[number]))))
        for entry in taken_over(raised, theirs, state, number, now_ns):
            words.news = False
            words.inputs.append(journal.word_of(entry, number, answers=False))

    def _told(self, gateway: str, part: JournalPart, state: State, now_ns: int) -> Words:
        words = Words(gateway)
        first = part.first or 1
        # The first that is ever heard of a gateway need not be where its journal begins: a message may have been lost.
        position = self.positions.get(gateway, 0) or max(0, (part.oldest or first) - 1)
        if part.oldest is not None and part.oldest - 1 > position:
            # How many entries that were nobody knows: numbers are left out on purpose after a power cut, or a new disk.
            words.lost = 1
            log.error("journal entries never came", gateway=gateway, after=position, before=part.oldest)
            position = part.oldest - 1
            self._doubt(words, state, now_ns)
        if part.entries and first > position + 1:
            words.gap = True
        else:
            words.repeated = min(len(part.entries), max(0, position + 1 - first))
            fresh = part.entries[words.repeated :]
            entries = list(_read(words, fresh, first + words.repeated))
            position += len(fresh)
            over_ns = {(entry.alarm, entry.onset_ns): entry.time_ns for entry in entries if entry.event in TURNS}
            taken = _Taken(words, state, now_ns, over_ns)
            for entry in entries:
                self._take(taken, entry)
        self.positions[gateway] = words.position = position
        return words

    def _take(self, taken: "_Taken", entry: Entry) -> None:
        words = taken.words
        if entry.command:
            # What answers an order was recorded here when it was given.
            words.answers[entry.command] = entry.refusal
        elif entry.who:
            words.commanded.append(entry)
        over_ns = taken.over_ns.get((entry.alarm, entry.onset_ns), 0)
        number = self._number(words.gateway, entry.alarm)
        if number is None:
            words.forgotten += self._note_unknown(words.gateway, entry, over_ns)
            self._put_aside(words, self._as_its_own(words.gateway, entry))
            return
        known = self._theirs.setdefault(words.gateway, {})
        before = known.get(entry.alarm, NONE)
        known[entry.alarm] = now = before.after(entry, over_ns)
        ours = taken.ours(number)
        about = meant(entry, before, now, ours)
        if about is Meant.PAST:
            self._put_aside(words, entry)
            return
        self._set_aside.discard(words.gateway)
        told: Entry | None = entry
        if about is Meant.OURS and entry.onset_ns:
            told = self._of_ours(taken, number, entry, ours)
        if told is not None:
            taken.goes_on(number, told)
            words.news &= _is_news(entry, taken.now_ns)
            words.inputs.append(journal.word_of(told, number, answers=bool(entry.command)))

    def _number(self, gateway: str, alarm: str) -> int | None:
        """The definition of an alarm that is the gateway's by this plant file; None of any other."""
        number = self._rules.index.get(alarm)
        return None if number is None or self._owner.get(number) != gateway else number

    def _as_its_own(self, gateway: str, entry: Entry) -> Entry:
        """An entry about an alarm that is not the gateway's to decide, under a name that tells whose word it is.

        It may be of before the plant file was changed. But nobody tells what came of what another decides, or this end.
        """
        return replace(entry, alarm=f"{gateway}/{entry.alarm}") if entry.alarm in self._rules.index else entry

    def _note_unknown(self, gateway: str, entry: Entry, over_ns: int) -> int:
        """Keep what should be answered at the gateway, of the alarms it told of last; how many are forgotten for it."""
        known = self._unknown.setdefault(gateway, {})
        now = known.pop(entry.alarm, NONE).after(entry, over_ns)
        if now.phase is not Phase.NORMAL:
            known[entry.alarm] = now
        if len(known) <= MOST_UNKNOWN:
            return 0
        del known[next(iter(known))]
        return 1

    def _of_ours(self, taken: "_Taken", number: int, entry: Entry, ours: Ours) -> Entry | None:
        """What an entry about the occurrence here is to the engine; None where it moves nothing, and is recorded alone.

        What the readings here hold up returns by them; else the gateway's steps of it count, too. What was acknowledged
        here is acknowledged where it is raised later.
        """
        here = bool(taken.state.elsewhere[number] == HERE)
        another, turns = entry.onset_ns != ours.onset_ns, entry.event in TURNS
        raised = another and entry.event is Event.RAISE
        held = here and taken.holds(number, int(self._rules.point[number]))
        alone = here and (raised or (turns and (held or (another and ours.phase not in ACTIVE))))
        if raised or alone:
            taken.words.beside.append(Beside(entry, ours.onset_ns, ours.phase))
        if raised and ours.phase is Phase.ACKNOWLEDGED:
            at_ns = taken.now_ns
            taken.state.commanded_ns[number, Aspect.ANSWER] = at_ns
            command = Command(Verb.ACKNOWLEDGE, number, at_ns, "tocsin", ANSWERED)
            taken.words.orders[number] = self._order(command, f"{at_ns}-{command.verb}-{number}", entry.onset_ns)
        if alone:
            return None
        return replace(entry, onset_ns=ours.onset_ns, phase=after(ours.phase, entry.event) if held else entry.phase)

    def _order(self, command: Command, identity: str, onset_ns: int) -> GatewayOrder:
        told = Order(
            id=identity,
            verb=command.verb,
            alarm=self._rules.definitions[command.definition].id,
            at_ns=command.at_ns,
            who=command.who,
            reason=command.reason,
            onset_ns=onset_ns if command.verb in _ANSWERS else 0,
            until_ns=command.until_ns,
            once=command.once,
        )
        return GatewayOrder(self._owner[command.definition], told)

    def _put_aside(self, words: Words, entry: Entry) -> None:
        """Let an entry be history alone: it is acknowledged, and will not come again."""
        if entry.event is None:
            return
        words.aside.append(entry)
        if words.gateway not in self._set_aside:
            self._set_aside.add(words.gateway)
            log.warning("a gateway's journal moves no alarm here", gateway=words.gateway, alarm=entry.alarm)


@dataclass(slots=True)
class _Taken:
    """One message while it is taken in: `over_ns`, by alarm and onset, what returned in it; `begun` what it raised."""

    words: Words
    state: State
    now_ns: int
    over_ns: Mapping[tuple[str, int], int]
    begun: dict[int, Ours] = field(default_factory=dict)

    def ours(self, number: int) -> Ours:
        """The occurrence here, after what the engine will be told of the entries before."""
        state = self.state
        judged = bool(state.elsewhere[number] != ELSEWHERE)
        known = Ours(int(state.onset_ns[number]), Phase(int(state.phase[number])), judged)
        return self.begun.get(number, known)

    def goes_on(self, number: int, entry: Entry) -> None:
        """Note what `entry` makes of an occurrence that the message itself has raised."""
        if number in self.begun or entry.onset_ns > self.state.onset_ns[number] or entry.event is Event.RAISE:
            self.begun[number] = Ours(entry.onset_ns, entry.phase, bool(self.state.elsewhere[number] == HERE))

    def holds(self, number: int, point: int) -> bool:
        """Whether the readings here, later than the gateway's words, hold up the alarm."""
        state = self.state
        later = state.time_ns[point] > state.told_ns.get(number, NEVER)
        return bool(state.active[number] and state.since_ns[number] == NEVER and later)


def _read(words: Words, bodies: Sequence[bytes], first: int) -> Iterator[Entry]:
    for number, body in enumerate(bodies, first):
        try:
            yield journal.decode(body)
        except ValueError as error:
            words.lost += 1
            log.error("journal entry cannot be read", gateway=words.gateway, number=number, reason=str(error))  # noqa: TRY400 -- the message is the reason


def _is_news(entry: Entry, now_ns: int) -> bool:
    return now_ns - entry.time_ns < NEWS_NS
