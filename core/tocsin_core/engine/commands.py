"""What people ask of alarms: carried out, or refused with a reason."""

from collections.abc import Callable
from enum import IntEnum
from typing import Final

import numpy as np

from tocsin_core.engine.state import Command, Refusal, State, Transition
from tocsin_core.engine.turning import move
from tocsin_core.lifecycle import UNANSWERED, Event, Phase, RefusalReason, Verb
from tocsin_core.rules import MAX_SHELVE_S, NS, Rules


def _no_acknowledge(state: State, _rules: Rules, command: Command) -> RefusalReason | None:
    phase = Phase(int(state.phase[command.definition]))
    if phase is Phase.NORMAL:
        return RefusalReason.NOT_ACTIVE
    return None if phase in UNANSWERED else RefusalReason.ALREADY_ACKNOWLEDGED


def _no_reset(state: State, _rules: Rules, command: Command) -> RefusalReason | None:
    phase = Phase(int(state.phase[command.definition]))
    if phase is Phase.LATCHED_UNACKNOWLEDGED:
        return RefusalReason.ACKNOWLEDGE_FIRST
    return None if phase is Phase.LATCHED_ACKNOWLEDGED else RefusalReason.NOT_LATCHED


def _no_unacknowledge(state: State, _rules: Rules, command: Command) -> RefusalReason | None:
    acknowledged = state.phase[command.definition] in (Phase.ACKNOWLEDGED, Phase.LATCHED_ACKNOWLEDGED)
    return None if acknowledged else RefusalReason.NOT_ACKNOWLEDGED


def _no_shelve(state: State, rules: Rules, command: Command) -> RefusalReason | None:
    if not command.reason:
        return RefusalReason.REASON_MISSING
    if command.until_ns <= command.at_ns:
        return RefusalReason.NO_TIME
    if command.once and not state.active[command.definition]:
        return RefusalReason.NOT_ACTIVE
    longest = MAX_SHELVE_S[int(rules.priority[command.definition])] * NS
    return RefusalReason.TOO_LONG if command.until_ns - command.at_ns > longest else None


def _no_unshelve(state: State, _rules: Rules, command: Command) -> RefusalReason | None:
    return None if state.shelved_until_ns[command.definition] else RefusalReason.NOT_SHELVED


def _no_out_of_service(state: State, _rules: Rules, command: Command) -> RefusalReason | None:
    if not command.reason:
        return RefusalReason.REASON_MISSING
    return RefusalReason.ALREADY_OUT_OF_SERVICE if state.out_of_service[command.definition] else None


def _no_in_service(state: State, _rules: Rules, command: Command) -> RefusalReason | None:
    return None if state.out_of_service[command.definition] else RefusalReason.NOT_OUT_OF_SERVICE


_VERBS: Final[dict[Verb, tuple[Event, Callable[[State, Rules, Command], RefusalReason | None]]]] = {
    Verb.ACKNOWLEDGE: (Event.ACKNOWLEDGE, _no_acknowledge),
    Verb.RESET: (Event.RESET, _no_reset),
    Verb.UNACKNOWLEDGE: (Event.UNACKNOWLEDGE, _no_unacknowledge),
    Verb.SHELVE: (Event.SHELVE, _no_shelve),
    Verb.UNSHELVE: (Event.UNSHELVE, _no_unshelve),
    Verb.OUT_OF_SERVICE: (Event.OUT_OF_SERVICE, _no_out_of_service),
    Verb.IN_SERVICE: (Event.IN_SERVICE, _no_in_service),
}


class Aspect(IntEnum):
    """What a command is about; of two on the same, given at two ends, the later one stands."""

    ANSWER = 0
    SHELF = 1
    SERVICE = 2


ASPECT: Final = {
    Event.ACKNOWLEDGE: Aspect.ANSWER,
    Event.RESET: Aspect.ANSWER,
    Event.UNACKNOWLEDGE: Aspect.ANSWER,
    Event.SHELVE: Aspect.SHELF,
    Event.UNSHELVE: Aspect.SHELF,
    Event.OUT_OF_SERVICE: Aspect.SERVICE,
    Event.IN_SERVICE: Aspect.SERVICE,
}


def overtaken(state: State, command: Command) -> bool:
    """Whether a command that was underway is not later than the last one that was carried out on the same aspect.

    An answer to an earlier occurrence does not count.
    """
    aspect = ASPECT[_VERBS[command.verb][0]]
    last_ns = int(state.commanded_ns[command.definition, aspect])
    past = aspect is Aspect.ANSWER and last_ns < state.onset_ns[command.definition]
    return bool(command.at_ns <= last_ns and not past)


def note_acknowledgement(state: State, rules: Rules, number: int, at_ns: int) -> None:
    """Let an alarm that is to re-alarm do so its time after `at_ns`."""
    row = int(np.searchsorted(rules.realarm, number))
    if row < len(rules.realarm) and rules.realarm[row] == number:
        state.acknowledged_ns[row] = at_ns
        state.realarm_due_ns = min(state.realarm_due_ns, at_ns + int(rules.realarm_ns[row]))


def put_on_shelf(state: State, number: int, until_ns: int, *, once: bool) -> None:
    """Shelve an alarm until `until_ns`, `once` at most until it returns."""
    state.shelved_until_ns[number] = until_ns
    state.shelved_once[number] = once
    state.shelf_due_ns = min(state.shelf_due_ns, until_ns)


def obey(state: State, rules: Rules, command: Command, transitions: list[Transition]) -> Refusal | None:
    """Carry `command` out and tell of it in `transitions`, or say why not."""
    number = command.definition
    if command.onset_ns and command.onset_ns != state.onset_ns[number]:
        return Refusal(command, RefusalReason.ANOTHER_OCCURRENCE)
    event, refusal = _VERBS[command.verb]
    refused = refusal(state, rules, command)
    if refused is not None:
        return Refusal(command, refused)
    match command.verb:
        case Verb.SHELVE:
            put_on_shelf(state, number, command.until_ns, once=command.once)
        case Verb.ACKNOWLEDGE:
            note_acknowledgement(state, rules, number, command.at_ns)
        case Verb.UNSHELVE:
            state.shelved_until_ns[number] = 0
        case Verb.OUT_OF_SERVICE | Verb.IN_SERVICE:
            state.out_of_service[number] = command.verb is Verb.OUT_OF_SERVICE
        case _:
            pass
    state.commanded_ns[number, ASPECT[event]] = command.at_ns
    value = float(state.value[rules.point[number]])
    transitions.append(move(state, number, event, command.at_ns, value, who=command.who, reason=command.reason))
    return None
