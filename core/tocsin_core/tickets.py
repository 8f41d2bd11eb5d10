"""When a hazard ticket (隐患) opens by itself, what joins an open one, and which steps close it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final
from zoneinfo import ZoneInfo

from tocsin_core.lifecycle import Event
from tocsin_core.plant import AlarmKind, Priority, Text
from tocsin_core.plant.brought import EXPOSURES, GRADES, LIMITS
from tocsin_core.rules import NS
from tocsin_core.wording import ticket_title


@dataclass(frozen=True, slots=True)
class AlarmEvent:
    """A transition with the names that tickets and messages need.

    `source` is None for a point that belongs to no hazard source; `unanswered` says whether the alarm waits for an
    acknowledgement after this transition (`phase_to in lifecycle.UNANSWERED`), `again` whether an occurrence that was
    raised before is raised.
    """

    occurrence: str
    alarm: str
    point: str
    source: str | None
    source_name: Text | None
    kind: AlarmKind
    priority: Priority
    event: Event
    time_ns: int
    suppressed: bool
    message: Text
    unanswered: bool = True
    again: bool = False

    @property
    def place(self) -> str:
        """What tickets and call chains are kept by: the hazard source, or the point where there is none."""
        return self.source or self.point


class TicketState(StrEnum):
    """The closed loop; the codes of the regulator's exchange format V1.3 are 0 整改中, 1 待验收, 9 已验收."""

    RECTIFYING = "rectifying"
    AWAITING_ACCEPTANCE = "awaiting-acceptance"
    ACCEPTED = "accepted"


class TicketAction(StrEnum):
    """What becomes of an alarm in the tickets."""

    OPEN = "open"
    MERGE = "merge"


class TicketReason(StrEnum):
    """Why."""

    ALARM_RAISED = "an alarm of the ticketed priority was raised and no ticket of its place was open"
    SAME_PLACE = "a ticket of the same place is already open"


@dataclass(frozen=True, slots=True)
class TicketPolicy:
    """From which priority tickets open, how long there is to put it right, who answers for it, the site's time zone."""

    min_priority: Priority
    deadline_s: float
    liable: str | None
    timezone: str


@dataclass(frozen=True, slots=True)
class TicketDecision:
    """Open ticket `ticket` or merge into it: the occurrence it takes in, and for a new one its title and deadline."""

    action: TicketAction
    reason: TicketReason
    ticket: str
    place: str
    event: AlarmEvent
    title: Text
    deadline_ns: int


# Instrument faults are work orders for the instrument shop; an early warning, or a change that somebody has to look
# into, is not yet a hazard found.
_PROCESS: Final = (*LIMITS, *GRADES, AlarmKind.RATE, *EXPOSURES)


def ticket_id(event: AlarmEvent, timezone: str) -> str:
    """`HD-20261122-1F3A9C04B2D7`: the local day of the raising and digits of its occurrence, the same on every call.

    With six of them, three pairs of the tickets of a flood of 10,000 alarms would have had the same id.
    """
    day = datetime.fromtimestamp(event.time_ns / NS, tz=UTC).astimezone(ZoneInfo(timezone))
    return f"HD-{day:%Y%m%d}-{event.occurrence[:12].upper()}"


def decide(events: Sequence[AlarmEvent], open_tickets: Mapping[str, str], policy: TicketPolicy) -> list[TicketDecision]:
    """What `events` (in order) do to the tickets; `open_tickets` maps a place to its open ticket's id.

    One incident is one ticket: while a ticket of a hazard source is open, further alarms there join it.
    """
    known = dict(open_tickets)
    decisions: list[TicketDecision] = []
    for event in events:
        if event.event is not Event.RAISE or event.suppressed:
            continue
        if event.kind not in _PROCESS or event.priority.rank < policy.min_priority.rank:
            continue
        title = ticket_title(event.source_name, event.message)
        deadline = event.time_ns + round(policy.deadline_s * NS)
        if event.place in known:
            decision = TicketDecision(
                TicketAction.MERGE, TicketReason.SAME_PLACE, known[event.place], event.place, event, title, deadline
            )
        else:
            known[event.place] = ticket_id(event, policy.timezone)
            decision = TicketDecision(
                TicketAction.OPEN, TicketReason.ALARM_RAISED, known[event.place], event.place, event, title, deadline
            )
        decisions.append(decision)
    return decisions


class TicketVerb(StrEnum):
    """What a person does to a ticket."""

    SUBMIT = "submit"
    ACCEPT = "accept"
    REJECT = "reject"


class TicketRefusal(StrEnum):
    """Why a person's step was refused."""

    NOT_RECTIFYING = "only a ticket under rectification can be submitted"
    NOT_SUBMITTED = "only a submitted ticket can be accepted or rejected"
    OWN_WORK = "who submitted the work must not accept it"
    ALARM_ACTIVE = "an alarm of this ticket is still active"
    TEXT_MISSING = "say what was done, or why not"


@dataclass(frozen=True, slots=True)
class TicketStep:
    """The state after a person's step, or why there is none."""

    state: TicketState | None = None
    refusal: TicketRefusal | None = None


@dataclass(frozen=True, slots=True)
class TicketView:
    """What `advance` needs to know of a ticket."""

    state: TicketState
    submitted_by: str | None
    active_alarms: int


def _accept_refusal(ticket: TicketView, who: str) -> TicketRefusal | None:
    if ticket.state is not TicketState.AWAITING_ACCEPTANCE:
        return TicketRefusal.NOT_SUBMITTED
    if ticket.submitted_by == who:
        return TicketRefusal.OWN_WORK
    return TicketRefusal.ALARM_ACTIVE if ticket.active_alarms else None


def _refusal(ticket: TicketView, verb: TicketVerb, who: str, text: str) -> TicketRefusal | None:
    if not text.strip():
        return TicketRefusal.TEXT_MISSING
    match verb:
        case TicketVerb.SUBMIT:
            return None if ticket.state is TicketState.RECTIFYING else TicketRefusal.NOT_RECTIFYING
        case TicketVerb.REJECT:
            return None if ticket.state is TicketState.AWAITING_ACCEPTANCE else TicketRefusal.NOT_SUBMITTED
        case TicketVerb.ACCEPT:
            return _accept_refusal(ticket, who)


_AFTER: Final = {
    TicketVerb.SUBMIT: TicketState.AWAITING_ACCEPTANCE,
    TicketVerb.REJECT: TicketState.RECTIFYING,
    TicketVerb.ACCEPT: TicketState.ACCEPTED,
}


def advance(ticket: TicketView, verb: TicketVerb, who: str, text: str) -> TicketStep:
    """Take one step of the closed loop 整改 → 验收 → 销号, or say why not.

    Work is submitted, then accepted or rejected by somebody else; never accepted while an alarm of it is active.
    """
    refusal = _refusal(ticket, verb, who, text)
    return TicketStep(refusal=refusal) if refusal is not None else TicketStep(_AFTER[verb])
