"""What random lives ask and tell of alarms, as inputs of the engine and as the oracle takes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from hypothesis import strategies as st

from tests.core.oracle import Asked, Oracle, Word
from tests.core.plants import SECOND
from tocsin_core.engine import Command, Decider, Input, State, Told
from tocsin_core.lifecycle import Event, Phase, Verb
from tocsin_core.rules import Rules

LETTERS: Final = "ABCDEF"


@dataclass(frozen=True)
class Ask:
    """A command whose alarm, occurrence and end are found when it is given."""

    verb: Verb
    alarm: int
    onset: str
    reason: str
    shelf_s: float
    once: bool = False

    def given(self, rules: Rules, state: State, now_ns: int) -> Command:
        """The command: the occurrence that a person saw is the present one, whichever, or one long gone."""
        number = self.alarm % len(rules.definitions)
        onset = int(state.onset_ns[number])
        seen = {"any": 0, "right": onset, "wrong": onset - 1}[self.onset]
        until = now_ns + round(self.shelf_s * SECOND) if self.verb is Verb.SHELVE else 0
        once = self.once and self.verb is Verb.SHELVE
        return Command(self.verb, number, now_ns, "li", self.reason, seen, until, once)


@dataclass(frozen=True)
class Say:
    """The word of another end, sensible or not, whose occurrence and times are found when it is told."""

    event: Event | None
    alarm: int
    phase: Phase
    onset: str
    age_s: float
    shelf_s: float
    once: bool
    out_of_service: bool
    suppressed: bool
    who: str
    answers: bool

    def given(self, rules: Rules, state: State, now_ns: int) -> Told:
        """The word: of the present occurrence, a new or an older one, or of none."""
        number = self.alarm % len(rules.definitions)
        onset = int(state.onset_ns[number])
        told_ns = now_ns - round(self.age_s * SECOND)
        return Told(
            definition=number,
            event=self.event,
            time_ns=told_ns,
            value=41.5,
            phase=self.phase,
            onset_ns={"same": onset, "new": told_ns, "old": max(0, onset - 1), "never": 0}[self.onset],
            until_ns=0 if self.shelf_s == 0.0 else now_ns + round(self.shelf_s * SECOND),
            once=self.once,
            out_of_service=self.out_of_service,
            suppressed=self.suppressed,
            who=self.who,
            reason="told",
            answers=self.answers,
        )


@dataclass(frozen=True)
class Hand:
    """Every alarm whose number leaves `rest` when divided by `share` is decided elsewhere from now on, or here.

    Silence is every end's own business.
    """

    share: int
    rest: int
    elsewhere: bool

    def given(self, rules: Rules, _state: State, now_ns: int) -> Decider:
        """The input."""
        numbers = range(self.rest % self.share, len(rules.definitions), self.share)
        silences = set(rules.stale.tolist())
        return Decider(tuple(each for each in numbers if each not in silences), self.elsewhere, now_ns)


asks = st.builds(
    Ask,
    verb=st.sampled_from(list(Verb)),
    alarm=st.integers(0, 30),
    onset=st.sampled_from(["any", "any", "right", "wrong"]),
    reason=st.sampled_from(["", "being repaired", "being repaired"]),
    shelf_s=st.sampled_from([-1.0, 0.0, 3.0, 60.0, 3601.0, 30_000.0, 90_000.0]),
    once=st.booleans(),
)
says = st.builds(
    Say,
    event=st.none() | st.sampled_from(list(Event)),
    alarm=st.integers(0, 30),
    phase=st.sampled_from(list(Phase)),
    onset=st.sampled_from(["same", "same", "new", "old", "never"]),
    age_s=st.sampled_from([0.0, 0.0, 1.0, 40.0]),
    shelf_s=st.sampled_from([-1.0, 0.0, 3.0, 60.0]),
    once=st.booleans(),
    out_of_service=st.booleans(),
    suppressed=st.booleans(),
    who=st.sampled_from(["wang", "wang", ""]),
    answers=st.booleans(),
)
hands = st.builds(
    Hand, share=st.integers(1, 3), rest=st.integers(0, 2), elsewhere=st.sampled_from([True, True, True, False])
)


def tell_oracle(oracle: Oracle, given: Input, names: Sequence[str]) -> str | None:
    """Let the oracle take an input; why it refuses a command."""
    match given:
        case Command():
            return oracle.ask(Asked(str(given.verb), names[given.definition], *given[2:]))
        case Told():
            event = None if given.event is None else given.event.text
            told = given._asdict() | {"alarm": names[given.definition], "event": event, "state": LETTERS[given.phase]}
            oracle.hear(Word(**{name: told[name] for name in Word._fields}))
        case Decider():
            alarms = [names[number] for number in given.definitions]
            oracle.decide(alarms, elsewhere=given.elsewhere, at_ns=given.at_ns)
    return None
