"""The ISA-18.2 / IEC 62682 alarm states, the events between them, and `NEXT`, the table that joins the two."""

from enum import IntEnum, StrEnum
from functools import cached_property
from typing import Final

import numpy as np

from tocsin_core.readings import U8


class Phase(IntEnum):
    """Where an alarm is in its life; the letter is the state's in ISA-18.2 figure 3."""

    NORMAL = 0  # A
    UNACKNOWLEDGED = 1  # B
    ACKNOWLEDGED = 2  # C
    RETURNED_UNACKNOWLEDGED = 3  # D
    LATCHED_UNACKNOWLEDGED = 4  # E
    LATCHED_ACKNOWLEDGED = 5  # F

    @cached_property
    def text(self) -> str:
        """As the API says it: `returned-unacknowledged`."""
        return self.name.lower().replace("_", "-")


ACTIVE: Final = (Phase.UNACKNOWLEDGED, Phase.ACKNOWLEDGED)
UNANSWERED: Final = (Phase.UNACKNOWLEDGED, Phase.RETURNED_UNACKNOWLEDGED, Phase.LATCHED_UNACKNOWLEDGED)


class Event(IntEnum):
    """What moves an alarm from one phase to another, and (from SHELVE on) what hides it without moving it."""

    RAISE = 0
    RETURN = 1
    RETURN_LATCHED = 2
    ACKNOWLEDGE = 3
    RESET = 4
    UNACKNOWLEDGE = 5
    REALARM = 6
    SHELVE = 7
    UNSHELVE = 8
    OUT_OF_SERVICE = 9
    IN_SERVICE = 10
    SUPPRESS = 11
    UNSUPPRESS = 12

    @cached_property
    def text(self) -> str:
        """As the journal says it: `out-of-service`."""
        return self.name.lower().replace("_", "-")


TURNS: Final = (Event.RETURN, Event.RETURN_LATCHED)
HIDING: Final = tuple(event for event in Event if event >= Event.SHELVE)


class Verb(StrEnum):
    """What a person can ask of an alarm."""

    ACKNOWLEDGE = "ack"
    RESET = "reset"
    UNACKNOWLEDGE = "unacknowledge"
    SHELVE = "shelve"
    UNSHELVE = "unshelve"
    OUT_OF_SERVICE = "out-of-service"
    IN_SERVICE = "in-service"


class RefusalReason(StrEnum):
    """Why a command was not carried out."""

    NOT_ACTIVE = "the alarm is not active"
    ALREADY_ACKNOWLEDGED = "the alarm is already acknowledged"
    NOT_ACKNOWLEDGED = "the alarm is not acknowledged"
    ANOTHER_OCCURRENCE = "the alarm was raised again since; look at the new one"
    NOT_LATCHED = "the alarm is not latched"
    ACKNOWLEDGE_FIRST = "acknowledge the alarm before resetting it"
    REASON_MISSING = "a reason is needed"
    NO_TIME = "shelving must end after it begins"
    TOO_LONG = "longer than this priority may be shelved"
    NOT_SHELVED = "the alarm is not shelved"
    ALREADY_OUT_OF_SERVICE = "the alarm is already out of service"
    NOT_OUT_OF_SERVICE = "the alarm is not out of service"


NONE: Final = 255  # no such step in the standard's diagram

_STEPS: Final[dict[tuple[Phase, Event], Phase]] = {
    (Phase.NORMAL, Event.RAISE): Phase.UNACKNOWLEDGED,
    (Phase.UNACKNOWLEDGED, Event.RETURN): Phase.RETURNED_UNACKNOWLEDGED,
    (Phase.UNACKNOWLEDGED, Event.RETURN_LATCHED): Phase.LATCHED_UNACKNOWLEDGED,
    (Phase.UNACKNOWLEDGED, Event.ACKNOWLEDGE): Phase.ACKNOWLEDGED,
    (Phase.ACKNOWLEDGED, Event.RETURN): Phase.NORMAL,
    (Phase.ACKNOWLEDGED, Event.RETURN_LATCHED): Phase.LATCHED_ACKNOWLEDGED,
    (Phase.ACKNOWLEDGED, Event.UNACKNOWLEDGE): Phase.UNACKNOWLEDGED,
    (Phase.ACKNOWLEDGED, Event.REALARM): Phase.UNACKNOWLEDGED,
    (Phase.RETURNED_UNACKNOWLEDGED, Event.RAISE): Phase.UNACKNOWLEDGED,
    (Phase.RETURNED_UNACKNOWLEDGED, Event.ACKNOWLEDGE): Phase.NORMAL,
    (Phase.LATCHED_UNACKNOWLEDGED, Event.RAISE): Phase.UNACKNOWLEDGED,
    (Phase.LATCHED_UNACKNOWLEDGED, Event.ACKNOWLEDGE): Phase.LATCHED_ACKNOWLEDGED,
    (Phase.LATCHED_ACKNOWLEDGED, Event.RAISE): Phase.UNACKNOWLEDGED,
    (Phase.LATCHED_ACKNOWLEDGED, Event.RESET): Phase.NORMAL,
    (Phase.LATCHED_ACKNOWLEDGED, Event.UNACKNOWLEDGE): Phase.LATCHED_UNACKNOWLEDGED,
}


def _table() -> U8:
    table = np.full((len(Phase), len(Event)), NONE, dtype=np.uint8)
    for (phase, event), after in _STEPS.items():
        table[phase, event] = after
    # Hiding an alarm leaves its phase alone: suppression is a column of its own.
    for event in HIDING:
        table[:, event] = np.arange(len(Phase))
    table.flags.writeable = False
    return table


NEXT: Final[U8] = _table()
"""u8[phase, event]: the phase after the event, or `NONE` where the standard's diagram has no such step."""


def diagram() -> str:
    """`NEXT` as lines of text, one a step: `unacknowledged --acknowledge--> acknowledged`."""
    return "\n".join(f"{phase.text} --{event.text}--> {after.text}" for (phase, event), after in _STEPS.items())


def after(phase: Phase, event: Event | None) -> Phase:
    """Where the event leads to; where the standard's diagram has no such step it leads nowhere."""
    to = NONE if event is None else int(NEXT[phase, event])
    return phase if to == NONE else Phase(to)
