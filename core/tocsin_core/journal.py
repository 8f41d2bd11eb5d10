"""What gateway and cloud write each other about alarms: journal entries upward, people's orders downward, as JSON."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from math import isfinite, nan
from typing import Any, Final

from tocsin_core.engine import Refusal, State, Told, Transition
from tocsin_core.foreign import is_writable, parsed
from tocsin_core.lifecycle import Event, Phase, Verb
from tocsin_core.readings import EARLIEST_NS, LATEST_NS

OVERTAKEN: Final = "overtaken"
"""The refusal of an order that is older than the gateway's last command on the same side of the alarm."""

OBEYED: Final = "carried out before"
"""The refusal of an order that came again after it was carried out and answered: its answer was lost."""

SHOWN: Final = 80
# Characters, of which plant files have at most 129. PostgreSQL puts no more than 2,704 bytes into an index.
LONGEST_ALARM: Final = 200


@dataclass(frozen=True, slots=True)
class Entry:
    """One step of the alarm `alarm` (its definition's id) at the gateway, and how it stands there after it; ns UTC.

    Whoever reads it moves the alarm there. With a `refusal` it has no event: an order was not carried out. The number
    of an entry is given by the spool that keeps it, and travels beside the body.

    `onset_ns` is the onset of its occurrence (0: it never was raised), `superseded_ns` that of the one it replaced (0:
    none); `until_ns` the end of its shelf (0: not shelved), `once` whether its return ends that; `suppressed` by
    design. `command` is the id of the command that led to it ("": none).
    """

    alarm: str
    event: Event | None
    time_ns: int
    phase: Phase
    onset_ns: int = 0
    superseded_ns: int = 0
    value: float | None = None
    until_ns: int = 0
    once: bool = False
    out_of_service: bool = False
    suppressed: bool = False
    who: str = ""
    reason: str = ""
    command: str = ""
    refusal: str = ""

    def __post_init__(self) -> None:
        """Refuse what could not be read back.

        Raises:
            ValueError: an event and a refusal exclude each other, and one of them is needed; or `value` is not finite.
        """
        if (self.event is None) is not bool(self.refusal):
            raise ValueError("refusal: an entry tells either a step or a refusal")
        if self.value is not None and not isfinite(self.value):
            raise ValueError(f"value: {self.value}")


@dataclass(frozen=True, slots=True)
class Order:
    """What a person asked of the alarm `alarm` at `at_ns`; as `engine.Command`, with an `id` that is obeyed once.

    `onset_ns` is the occurrence it is about (0: whichever there is). The gateway is the judge of what came first (see
    `engine.overtaken`). It answers with an entry whose `command` is the id and whose `time_ns` is `at_ns`, and again
    where the order comes again although the other end has that entry.
    """

    id: str
    verb: Verb
    alarm: str
    at_ns: int
    who: str
    reason: str = ""
    onset_ns: int = 0
    until_ns: int = 0
    once: bool = False


@dataclass(frozen=True, slots=True)
class Naming:
    """Under which onset the cloud side knows the occurrence of `alarm` that the gateway has raised at `onset_ns`.

    While both ends judge an alarm, by different plant files, either may raise it first. From then on it is one
    occurrence, whose id is the one that people were told: that of the cloud side.
    """

    alarm: str
    onset_ns: int
    known_ns: int


def moved(alarm: str, transition: Transition, state: State, command: str = "") -> Entry:
    """The entry for a transition of `alarm` in a step after which the engine is in `state`."""
    number = transition.definition
    return Entry(
        alarm=alarm,
        event=transition.event,
        time_ns=transition.time_ns,
        phase=transition.phase_to,
        onset_ns=transition.onset_ns,
        superseded_ns=transition.superseded_ns,
        value=transition.value if isfinite(transition.value) else None,
        until_ns=int(state.shelved_until_ns[number]),
        once=bool(state.shelved_once[number]),
        out_of_service=bool(state.out_of_service[number]),
        suppressed=bool(state.suppressed[number]),
        who=transition.who,
        reason=transition.reason,
        command=command,
    )


def refused(alarm: str, refusal: Refusal, state: State, command: str) -> Entry:
    """The entry for an order that the engine refused in a step after which it is in `state`."""
    return not_carried_out(alarm, refusal.command.definition, refusal.command.at_ns, state, command, refusal.reason)


def not_carried_out(alarm: str, number: int, at_ns: int, state: State, command: str, refusal: str) -> Entry:
    """The entry for an order of `at_ns` on `alarm`, definition `number`, that was refused for the reason `refusal`."""
    return Entry(
        alarm=alarm,
        event=None,
        time_ns=at_ns,
        phase=Phase(int(state.phase[number])),
        onset_ns=int(state.onset_ns[number]),
        until_ns=int(state.shelved_until_ns[number]),
        once=bool(state.shelved_once[number]),
        out_of_service=bool(state.out_of_service[number]),
        suppressed=bool(state.suppressed[number]),
        command=command,
        refusal=str(refusal),
    )


def word_of(entry: Entry, number: int, *, answers: bool) -> Told:
    """What `entry` says to the engine of the other end, where its alarm is definition `number`.

    `answers`: the entry's `command` is an order of that end.
    """
    return Told(
        definition=number,
        event=entry.event,
        time_ns=entry.time_ns,
        value=nan if entry.value is None else entry.value,
        phase=entry.phase,
        onset_ns=entry.onset_ns,
        until_ns=entry.until_ns,
        once=entry.once,
        out_of_service=entry.out_of_service,
        suppressed=entry.suppressed,
        who=entry.who,
        reason=entry.reason,
        answers=answers,
    )


def encode(entry: Entry) -> bytes:
    """The body of `entry`."""
    return _written(entry)


def decode(body: bytes) -> Entry:
    """The entry in `body`.

    Raises:
        ValueError: it is none; the message names the key.
    """
    return Entry(**_read(body, _ENTRY))


def encode_order(order: Order) -> bytes:
    """The body of `order`."""
    return _written(order)


def decode_order(body: bytes) -> Order:
    """The order in `body`.

    Raises:
        ValueError: it is none; the message names the key.
    """
    return Order(**_read(body, _ORDER))


def encode_naming(naming: Naming) -> bytes:
    """The body of `naming`."""
    return _written(naming)


def decode_naming(body: bytes) -> Naming:
    """What is known, in `body`.

    Raises:
        ValueError: it is none; the message names the key.
    """
    return Naming(**_read(body, _NAMING))


def _written(told: Entry | Order | Naming) -> bytes:
    values = {field.name: _plain(getattr(told, field.name)) for field in fields(told)}
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _plain(value: object) -> object:
    return value.text if isinstance(value, Event | Phase) else value


def _read(body: bytes, wanted: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
    told = parsed(body)
    if not isinstance(told, dict):
        raise ValueError("no JSON object")  # noqa: TRY004 -- one kind of error for bytes that are not ours
    for key in told.keys() ^ wanted.keys():
        raise ValueError(f"{_shown(key)[1:-1]}: {'missing' if key in wanted else 'nobody knows it'}")
    found = {}
    for key, read in wanted.items():
        try:
            found[key] = read(told[key])
        except (ValueError, LookupError, OverflowError) as error:
            raise ValueError(f"{key}: {_shown(told[key])}") from error
    return found


def _shown(value: object) -> str:
    # A log is no place for whatever a stranger sends, and what is nested may be too deep to be shown at all.
    return type(value).__name__ if isinstance(value, list | dict) else ascii(value)[:SHOWN]


def _text(value: object) -> str:
    if not isinstance(value, str) or not is_writable(value):
        raise ValueError
    return value


def _alarm(value: object) -> str:
    alarm = _text(value)
    if len(alarm) > LONGEST_ALARM:
        raise ValueError
    return alarm


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError  # noqa: TRY004
    return value


def _time(value: object) -> int:
    # Not bounded below: a gateway whose clock nobody has set yet reads its own journal again after a power cut.
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < LATEST_NS:
        raise ValueError
    return value


def _asked_at(value: object) -> int:
    time_ns = _time(value)
    if time_ns < EARLIEST_NS:
        raise ValueError
    return time_ns


def _number(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ValueError
    return float(value)


_EVENTS: Final = {event.text: event for event in Event}
_PHASES: Final = {phase.text: phase for phase in Phase}


def _event(value: object) -> Event | None:
    return None if value is None else _EVENTS[_text(value)]


def _phase(value: object) -> Phase:
    return _PHASES[_text(value)]


def _verb(value: object) -> Verb:
    return Verb(_text(value))


_ENTRY: Final[dict[str, Callable[[Any], Any]]] = {
    "alarm": _alarm,
    "event": _event,
    "time_ns": _time,
    "phase": _phase,
    "onset_ns": _time,
    "superseded_ns": _time,
    "value": _number,
    "until_ns": _time,
    "once": _flag,
    "out_of_service": _flag,
    "suppressed": _flag,
    "who": _text,
    "reason": _text,
    "command": _text,
    "refusal": _text,
}
_ORDER: Final[dict[str, Callable[[Any], Any]]] = {
    "id": _text,
    "verb": _verb,
    "alarm": _text,
    "at_ns": _asked_at,
    "who": _text,
    "reason": _text,
    "onset_ns": _time,
    "until_ns": _time,
    "once": _flag,
}
_NAMING: Final[dict[str, Callable[[Any], Any]]] = {"alarm": _text, "onset_ns": _time, "known_ns": _time}
