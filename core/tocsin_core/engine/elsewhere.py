"""Alarms that a gateway decides: who decides, and each alarm moved to where the gateway says that it is."""

from collections import deque
from collections.abc import Iterator
from typing import Final

import numpy as np

from tocsin_core.engine.commands import ASPECT, Aspect, note_acknowledgement, put_on_shelf
from tocsin_core.engine.rest import forget
from tocsin_core.engine.shelves import end_shelves
from tocsin_core.engine.state import ELSEWHERE, HERE, NEVER, OURS_UNTIL_TOLD, Decider, State, Told, Transition
from tocsin_core.engine.turning import answered, move
from tocsin_core.lifecycle import ACTIVE, NEXT, NONE, TURNS, Event, Phase, after
from tocsin_core.readings import AHEAD_NS
from tocsin_core.rules import Rules
from tocsin_core.special import Family

_STEPS: Final = (*TURNS, Event.ACKNOWLEDGE, Event.RESET, Event.UNACKNOWLEDGE, Event.RAISE)


def _path(start: Phase, end: Phase) -> tuple[Event, ...]:
    """The shortest way through the standard's diagram."""
    waiting: deque[tuple[Phase, tuple[Event, ...]]] = deque([(start, ())])
    while True:
        phase, events = waiting.popleft()
        if phase is end:
            return events
        reached = ((int(NEXT[phase, event]), event) for event in _STEPS)
        waiting += ((Phase(to), (*events, event)) for to, event in reached if to != NONE)


_PATHS: Final = {(start, end): _path(start, end) for start in Phase for end in Phase}
# The ways on which an occurrence comes nearer to its end.
_FORWARD: Final = {way for way, path in _PATHS.items() if not {Event.RAISE, Event.UNACKNOWLEDGE} & set(path)}


def decide(state: State, rules: Rules, decider: Decider) -> None:
    """Let the other end decide alarms from now on, or this end again, which goes on from where they are.

    What stands when the other end begins, or waits for its on-delay, stays with this end until the other end speaks of
    it, or begins anew while nothing does. Of what it has decided before, a word that is missing is waited for anew:
    what happened meanwhile is on its way; and what stands may have returned by a word that is lost, so that the
    readings here, too, may end it until the other end speaks of it.

    That somebody has acknowledged what stands, and what hides it, then counts as ordered (`commanded_ns`), each at a
    time of its own: it holds until the other end has answered.
    """
    number = np.asarray(decider.definitions, np.int64)
    if not decider.elsewhere:
        state.elsewhere[number] = HERE
        return
    known = state.elsewhere[number] != HERE
    standing = known & state.active[number]
    state.elsewhere[number[standing]] = OURS_UNTIL_TOLD
    resting = number[known & ~standing]
    over = resting[state.elsewhere[resting] == ELSEWHERE]
    state.since_ns[over] = NEVER
    forget(state, rules.point[over])
    state.elsewhere[resting[state.since_ns[resting] == NEVER]] = ELSEWHERE
    number = number[~known]
    waiting = state.active[number] | (state.since_ns[number] != NEVER)
    state.elsewhere[number] = np.where(waiting, OURS_UNTIL_TOLD, ELSEWHERE)
    for each in number.tolist():
        state.told_ns.pop(each, None)
    state.commanded_ns[number] = 0
    answered = (state.phase == Phase.ACKNOWLEDGED, state.shelved_until_ns > 0, state.out_of_service)
    for aspect, so in zip(Aspect, answered, strict=True):
        state.commanded_ns[number[so[number]], aspect] = decider.at_ns + aspect


def hear(state: State, rules: Rules, told: Told, transitions: list[Transition]) -> None:
    """Move an alarm to where the other end says that it is; what it has reached already makes no transition.

    What hides it follows every word, the phase those that are not of an older occurrence. A command of this end that
    the other has not answered yet (`commanded_ns`) stands against words that are older: it is on its way, and the other
    end is the judge of it. Where words were lost, the alarm goes to where it is by the shortest way through the
    standard's diagram.

    Of an alarm that this end decides a word is a fact all the same, but later readings than it tells of are judged
    here, and a word that comes after them brings the occurrence that they found no further back; what hides it follows
    only what somebody asked there.
    """
    number = told.definition
    if rules.family[number] == Family.STALE:
        # Silence is each end's own business.
        return
    if told.answers:
        row = state.commanded_ns[number]
        row[row == told.time_ns] = 0
    if told.event is Event.RAISE or told.onset_ns >= max(1, state.onset_ns[number]):
        if state.elsewhere[number] != HERE:
            state.elsewhere[number] = ELSEWHERE
        made = _follow(state, rules, told)
        if made and state.elsewhere[number] == HERE and told.event in (Event.RAISE, *TURNS):
            # No clock that is ahead may keep this end from judging for long.
            until_ns = min(told.time_ns, state.now_ns + AHEAD_NS)
            state.told_ns[number] = max(until_ns, int(state.time_ns[rules.point[number]]))
        if made and made[-1].event in TURNS and state.unseen[number] and state.elsewhere[number] == HERE:
            # Of what this end decides the other end's answer by itself is none here.
            made += answered(state, made[-1])
        transitions += made
        transitions += end_shelves(state, rules, [each for each in made if each.event in (Event.RAISE, *TURNS)])
    for event in _hide(state, rules, told):
        transitions.append(move(state, number, event, told.time_ns, told.value, who=told.who, reason=told.reason))


def _stands(state: State, told: Told, aspect: Aspect) -> bool:
    """Whether what this end has on `aspect` is kept against what is told: it has not been answered, or decides.

    That a shelf ended for which nobody asked is no command, and overtakes none.
    """
    commanded_ns = int(state.commanded_ns[told.definition, aspect])
    if told.event is not None and ASPECT.get(told.event) is aspect:
        return commanded_ns > (told.time_ns if told.who or told.answers else 0)
    return commanded_ns > 0 or (aspect is not Aspect.ANSWER and state.elsewhere[told.definition] == HERE)


def _follow(state: State, rules: Rules, told: Told) -> list[Transition]:
    """Bring the alarm into the phase and the occurrence that were told."""
    number, target = told.definition, told.phase
    phase = Phase(int(state.phase[number]))
    events: tuple[Event, ...] = ()
    if told.onset_ns != state.onset_ns[number]:
        state.commanded_ns[number, Aspect.ANSWER] = 0
        # What stands is over before another can be raised.
        over = (TURNS[int(rules.latching[number])],) if state.active[number] else ()
        events, phase = (*over, Event.RAISE), Phase.UNACKNOWLEDGED
    elif _stands(state, told, Aspect.ANSWER):
        target = after(phase, told.event if told.event in TURNS else None)
    elif state.elsewhere[number] == HERE and ((phase, target) not in _FORWARD or not told.who):
        # The readings came first: that it was raised is known, and how far it has come since. And what nobody has seen
        # there, as it was suppressed by design by another plant file, nobody has answered here.
        known = told.event is Event.RAISE or (told.event in (Event.ACKNOWLEDGE, Event.RESET) and not told.who)
        target = after(phase, None if known else told.event)
    if told.event is not None and phase is not target and NEXT[phase, told.event] == target:
        events = (*events, told.event)
    else:
        events = (*events, *_PATHS[phase, target])
    made = [_step(state, rules, told, event) for event in events]
    if events:
        state.active[number] = target in ACTIVE
        state.since_ns[number] = NEVER
        forget(state, rules.point[number])
    return made


def _step(state: State, rules: Rules, told: Told, event: Event) -> Transition:
    number = told.definition
    own = event is told.event
    value = told.value if own else float("nan")
    said = {"who": told.who, "reason": told.reason} if own else {}
    if event is Event.RAISE:
        before_ns = int(state.onset_ns[number])
        superseded_ns = before_ns if state.phase[number] != Phase.NORMAL and before_ns != told.onset_ns else 0
        state.onset_ns[number] = told.onset_ns
        state.unseen[number] = state.suppressed[number]
        time_ns = max(told.time_ns, told.onset_ns) if own else told.onset_ns
        return move(state, number, event, time_ns, value, **said)._replace(superseded_ns=superseded_ns)
    if event is Event.ACKNOWLEDGE:
        note_acknowledgement(state, rules, number, told.time_ns)
    # What is replaced by an earlier occurrence does not end before it began.
    time_ns = told.time_ns if own else max(told.time_ns, int(state.onset_ns[number]))
    return move(state, number, event, time_ns, value, **said)


def _hide(state: State, rules: Rules, told: Told) -> Iterator[Event]:
    """Take over what hides the alarm, one thing after the other.

    A shelf whose time is up is begun by the word that tells of its beginning alone, and not by one that answers an
    order of this end, also where that is not known any more: here it was begun when it was ordered, and whoever is
    called since it ended is to be called on. By design that is only what can be suppressed here: of the rest nobody
    would end it when this end decides again.
    """
    number = told.definition
    if not _stands(state, told, Aspect.SHELF):
        until_ns = int(state.shelved_until_ns[number])
        begins = told.event is Event.SHELVE and not (told.answers and not until_ns)
        wanted_ns = told.until_ns if begins or told.until_ns > state.now_ns else 0
        if wanted_ns and (wanted_ns, told.once) != (until_ns, state.shelved_once[number]):
            put_on_shelf(state, number, wanted_ns, once=told.once)
            yield Event.SHELVE
        elif until_ns and not wanted_ns:
            state.shelved_until_ns[number] = 0
            yield Event.UNSHELVE
    if not _stands(state, told, Aspect.SERVICE) and told.out_of_service != state.out_of_service[number]:
        state.out_of_service[number] = told.out_of_service
        yield Event.OUT_OF_SERVICE if told.out_of_service else Event.IN_SERVICE
    gates = rules.special.suppressions
    designed = gates is not None and number in gates.definition
    if designed and state.elsewhere[number] != HERE and told.suppressed != state.suppressed[number]:
        state.suppressed[number] = told.suppressed
        state.unseen[number] = False
        yield Event.SUPPRESS if told.suppressed else Event.UNSUPPRESS
