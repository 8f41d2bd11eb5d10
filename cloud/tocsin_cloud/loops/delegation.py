"""What gateways that decide their own alarms say: who decides, and their journals, each entry once and in order."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import structlog

from tocsin_cloud.loops.hearing import is_birth
from tocsin_core import journal
from tocsin_core.engine import ELSEWHERE, HERE, Aspect, Command, Decider, Input, State
from tocsin_core.journal import Entry, Order
from tocsin_core.lifecycle import UNANSWERED, Event, Phase, Verb
from tocsin_core.owned import fingerprint, owned
from tocsin_core.plant import Plant
from tocsin_core.rules import NS, Rules
from tocsin_core.sparkplug.host import Fed, JournalPart

log = structlog.get_logger(__name__)

# What an entry tells is news when it is no older than this; what was kept during a cut is old by nature.
NEWS_NS: Final = 10 * NS
# So much longer than an alarm's delay may the gateway's word on what the readings say take to arrive.
PATIENCE_NS: Final = 10 * NS

FROM_BEFORE: Final = "from before the gateway decided"
_ANSWERS: Final = (Verb.ACKNOWLEDGE, Verb.UNACKNOWLEDGE, Verb.RESET)


@dataclass(frozen=True, slots=True)
class GatewayOrder:
    """A person's command on its way to the gateway that decides the alarm."""

    gateway: str
    order: Order


@dataclass(slots=True)
class Words:
    """What one message of a gateway came to.

    `inputs` are the engine's. `position` is the last journal number taken in (0: none), `lost` counts gaps that nothing
    fills and entries that cannot be read. `aside` are the steps that move no alarm here, because this plant file does
    not have it for this gateway, or knows of a later occurrence: they are history alone. `answers` maps
    ids of orders to why they were refused ("": they were carried out). `decides` is what a birth says, None for any
    other message. `news`: the entries tell of what just happened.
    """

    gateway: str
    inputs: list[Input] = field(default_factory=list)
    position: int = 0
    lost: int = 0
    aside: list[Entry] = field(default_factory=list)
    repeated: int = 0
    gap: bool = False
    answers: dict[str, str] = field(default_factory=dict)
    decides: bool | None = None
    news: bool = True


class Delegation:
    """How far the journal of each gateway is taken in; moves with the engine's state, and is kept with it."""

    def __init__(self, plant: Plant, rules: Rules) -> None:
        """Know which definitions each gateway of ours may decide."""
        self._rules = rules
        self._site = plant.site.id
        self._own: dict[str, tuple[int, ...]] = {
            gateway.id: tuple(np.flatnonzero(owned(plant, rules, gateway.id)).tolist())
            for gateway in plant.file.gateways
            if not gateway.external
        }
        self._rules_of = {gateway: fingerprint(plant, gateway) for gateway in self._own}
        self._owner = {number: gateway for gateway, numbers in self._own.items() for number in numbers}
        self._disagreed: dict[str, int] = {}
        # Gateways that judge by another plant file, and so not alone.
        self.apart: set[str] = set()
        # Gateways whose last word moved no alarm: so much is said once of each.
        self._set_aside: set[str] = set()
        # The occurrences that journals told of.
        self._onsets: dict[int, int] = {}
        self.positions: dict[str, int] = {}

    def adopt(self, positions: Mapping[str, int]) -> None:
        """Go on from positions that are committed where they are further than what is known."""
        for gateway, position in positions.items():
            self.positions[gateway] = max(position, self.positions.get(gateway, 0))

    def disown(self, state: State) -> None:
        """Take back what no gateway may decide any more, because the plant has changed."""
        nobodys = np.ones(len(state.elsewhere), np.bool_)
        nobodys[list(self._owner)] = False
        state.elsewhere[nobodys] = HERE

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

        A gateway that judges by another plant file is told of acknowledgements all the same: its siren may be on.
        """
        number = command.definition
        onset_ns = int(state.onset_ns[number])
        if state.elsewhere[number] == HERE:
            if command.verb is not Verb.ACKNOWLEDGE or self._owner.get(number) not in self.apart:
                return None
            onset_ns = self._onsets.get(number) or onset_ns
        told = Order(
            id=identity,
            verb=command.verb,
            alarm=self._rules.definitions[number].id,
            at_ns=command.at_ns,
            who=command.who,
            reason=command.reason,
            onset_ns=onset_ns if command.verb in _ANSWERS else 0,
            until_ns=command.until_ns,
            once=command.once,
        )
        return GatewayOrder(self._owner[number], told)

    def orders_from_before(self, gateway: str, state: State, at_ns: int) -> Iterator[GatewayOrder]:
        """Orders to hide at the gateway what was hidden here when, at `at_ns`, it began to decide."""
        for number in self._own[gateway]:
            shelved, out = (state.commanded_ns[number, [Aspect.SHELF, Aspect.SERVICE]] == at_ns).tolist()
            asked = [(Verb.SHELVE, int(state.shelved_until_ns[number]))] * shelved + [(Verb.OUT_OF_SERVICE, 0)] * out
            for verb, until_ns in asked:
                once = bool(until_ns and state.shelved_once[number])
                command = Command(verb, number, at_ns, "tocsin", FROM_BEFORE, 0, until_ns, once)
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
        theirs = np.flatnonzero(state.elsewhere == ELSEWHERE)
        open_ = theirs[state.since_ns[theirs] >= 0]
        delay_ns = self._rules.delay_ns[open_, state.active[open_].astype(np.int64)]
        lasted_ns = state.time_ns[self._rules.point[open_]] - state.since_ns[open_]
        for number in open_[lasted_ns > delay_ns + PATIENCE_NS].tolist():
            found[self._owner[number]] += 1
        return found

    def _born(self, gateway: str, part: JournalPart | None, state: State, now_ns: int) -> Words | None:
        told = part is not None and part.newest is not None
        decides = part is not None and told and part.rules == self._rules_of[gateway]
        if told and not decides:
            # Until it has today's plant it may not know of an alarm, or judge it by another limit: both ends judge.
            log.warning("a gateway decides by another plant file; its alarms are decided here too", gateway=gateway)
        words = Words(gateway, decides=decides)
        numbers = self._own[gateway]
        was_apart = gateway in self.apart
        (self.apart.add if told and not decides else self.apart.discard)(gateway)
        position = self.positions.get(gateway, 0)
        if part is not None and part.newest is not None and part.newest < position:
            # Another spool: its numbers will come again with others, and what it has written so far is still to come.
            log.warning("a gateway's journal went back", gateway=gateway, newest=part.newest, known=position)
            position = self.positions[gateway] = (part.oldest or part.newest + 1) - 1
        if ((state.elsewhere[list(numbers)] == HERE) == decides).any():
            log.info("who decides has changed", gateway=gateway, here=not decides, alarms=len(numbers))
            words.inputs.append(Decider(numbers, decides, now_ns))
        elif not (decides or (was_apart and not told)):
            return None
        words.position = position
        return words

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
        if part.entries and first > position + 1:
            words.gap = True
        else:
            words.repeated = min(len(part.entries), max(0, position + 1 - first))
            fresh = part.entries[words.repeated :]
            entries = list(_read(words, fresh, first + words.repeated))
            position += len(fresh)
            standing = _left_standing(entries)
            for entry in entries:
                self._take(words, entry, standing, state, now_ns)
        self.positions[gateway] = words.position = position
        return words

    def _take(self, words: Words, entry: Entry, standing: Mapping[str, int], state: State, now_ns: int) -> None:
        if entry.command:
            # What answers an order was recorded here when it was given.
            words.answers[entry.command] = entry.refusal
        definition = self._rules.index.get(entry.alarm)
        if definition is None or self._owner.get(definition) != words.gateway:
            self._put_aside(words, entry)
            return
        self._onsets[definition] = entry.onset_ns
        if _is_past(entry, definition, state) and not _takes_over(entry, definition, standing, state):
            self._put_aside(words, entry)
            return
        self._set_aside.discard(words.gateway)
        words.news &= _is_news(entry, now_ns)
        words.inputs.append(journal.word_of(entry, definition, answers=bool(entry.command)))

    def _put_aside(self, words: Words, entry: Entry) -> None:
        """Let an entry be history alone: it is acknowledged, and will not come again."""
        if entry.event is None:
            return
        words.aside.append(entry)
        if words.gateway not in self._set_aside:
            self._set_aside.add(words.gateway)
            log.warning("a gateway's journal moves no alarm here", gateway=words.gateway, alarm=entry.alarm)


def _read(words: Words, bodies: Sequence[bytes], first: int) -> Iterator[Entry]:
    for number, body in enumerate(bodies, first):
        try:
            yield journal.decode(body)
        except ValueError as error:
            words.lost += 1
            log.error("journal entry cannot be read", gateway=words.gateway, number=number, reason=str(error))  # noqa: TRY400 -- the message is the reason


def _left_standing(entries: Sequence[Entry]) -> dict[str, int]:
    """The onset of each alarm that `entries` raise and do not return."""
    left: dict[str, int] = {}
    for entry in entries:
        if entry.event is Event.RAISE:
            left[entry.alarm] = entry.onset_ns
        elif entry.phase not in (Phase.UNACKNOWLEDGED, Phase.ACKNOWLEDGED):
            left.pop(entry.alarm, None)
    return left


def _is_past(entry: Entry, definition: int, state: State) -> bool:
    """Whether an entry is of an occurrence before the one that this end, which decides the alarm, has found itself."""
    return bool(state.elsewhere[definition] == HERE and 0 < entry.onset_ns < state.onset_ns[definition])


def _takes_over(entry: Entry, definition: int, standing: Mapping[str, int], state: State) -> bool:
    """Whether an earlier occurrence is that of today all the same: it stands there, and nobody has answered ours.

    This end found the alarm by a later reading, before the gateway's word came: both speak of one occurrence.
    """
    return standing.get(entry.alarm) == entry.onset_ns and state.phase[definition] in UNANSWERED


def _is_news(entry: Entry, now_ns: int) -> bool:
    return now_ns - entry.time_ns < NEWS_NS
