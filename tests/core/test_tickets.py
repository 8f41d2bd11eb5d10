"""When hazard tickets open and merge, and which steps their closed loop allows."""

from dataclasses import replace
from typing import Final

import pytest

from tests.core.plants import SECOND, START_NS
from tocsin_core.lifecycle import Event
from tocsin_core.plant import AlarmKind, Priority
from tocsin_core.plant.fields import name_of
from tocsin_core.tickets import (
    AlarmEvent,
    TicketAction,
    TicketPolicy,
    TicketReason,
    TicketRefusal,
    TicketState,
    TicketVerb,
    TicketView,
    advance,
    decide,
    ticket_id,
)

RAISED: Final = AlarmEvent(
    occurrence="1f3a9c0011223344",
    alarm="NH3-101/H",
    point="NH3-101",
    source="tank-farm",
    source_name=name_of("罐区", "Tank farm"),
    kind=AlarmKind.H,
    priority=Priority.HIGH,
    event=Event.RAISE,
    time_ns=START_NS,
    suppressed=False,
    message=name_of("氨 高报", "Ammonia: high"),
)
POLICY: Final = TicketPolicy(Priority.HIGH, 72 * 3600.0, "li", "Asia/Shanghai")


def test_a_raised_alarm_opens_a_ticket() -> None:
    """With a title that says where and what, and the deadline of the policy counted from the event."""
    (opened,) = decide([RAISED], {}, POLICY)
    assert (opened.action, opened.reason) == (TicketAction.OPEN, TicketReason.ALARM_RAISED)
    assert (opened.ticket, opened.place) == ("HD-20270115-1F3A9C001122", "tank-farm")
    assert opened.title == name_of("罐区：氨 高报", "Tank farm: Ammonia: high")
    assert opened.deadline_ns == START_NS + 72 * 3600 * SECOND


def test_one_incident_is_one_ticket() -> None:
    """Further alarms of the same hazard source join the open ticket, of this batch or of before; others do not."""
    second = replace(RAISED, occurrence="2" * 16, alarm="NH3-101/HH", kind=AlarmKind.HH)
    elsewhere = replace(RAISED, occurrence="3" * 16, source=None, source_name=None, point="X")
    decisions = decide([RAISED, second, elsewhere], {}, POLICY)
    assert [(each.action.value, each.ticket) for each in decisions] == [
        ("open", "HD-20270115-1F3A9C001122"),
        ("merge", "HD-20270115-1F3A9C001122"),
        ("open", "HD-20270115-333333333333"),
    ]
    assert decisions[2].title == RAISED.message
    (merged,) = decide([second], {"tank-farm": "HD-1"}, POLICY)
    assert (merged.action, merged.reason, merged.ticket) == (TicketAction.MERGE, TicketReason.SAME_PLACE, "HD-1")


@pytest.mark.parametrize(
    "event",
    [
        replace(RAISED, priority=Priority.MEDIUM),
        replace(RAISED, suppressed=True),
        replace(RAISED, event=Event.RETURN),
        replace(RAISED, event=Event.UNSHELVE),
        replace(RAISED, kind=AlarmKind.BAD, priority=Priority.CRITICAL),
        replace(RAISED, kind=AlarmKind.STALE, priority=Priority.CRITICAL),
        *(
            replace(RAISED, kind=AlarmKind(kind), priority=Priority.CRITICAL)
            for kind in ("time-to-limit", "loop", "stuck", "spike", "cusum", "ewma", "abnormal")
        ),
    ],
    ids=lambda event: f"{event.event.value}-{event.kind.value}-{event.priority.value}-{event.suppressed}",
)
def test_what_is_no_hazard_found_opens_nothing(event: AlarmEvent) -> None:
    """Instrument faults are work orders, an early warning is not yet a hazard, and hidden alarms stay hidden."""
    assert decide([event], {}, POLICY) == []


@pytest.mark.parametrize("kind", ["red", "orange", "yellow", "blue", "stel", "twa", "peaks", "rate", "L"])
def test_grades_and_exposures_are_hazards_found(kind: str) -> None:
    """They open tickets as limits do."""
    assert len(decide([replace(RAISED, kind=AlarmKind(kind))], {}, POLICY)) == 1


def test_deciding_again_decides_the_same() -> None:
    """After a crash the same events give the same ticket, so that none is doubled."""
    assert decide([RAISED], {}, POLICY) == decide([RAISED], {}, POLICY)


@pytest.mark.parametrize(("timezone", "day"), [("Asia/Shanghai", "20270116"), ("UTC", "20270115")])
def test_a_ticket_bears_the_day_of_its_site(timezone: str, day: str) -> None:
    """At 20:00 UTC it is already tomorrow in Shanghai."""
    assert ticket_id(replace(RAISED, time_ns=START_NS + 12 * 3600 * SECOND), timezone) == f"HD-{day}-1F3A9C001122"


RECTIFYING, AWAITING, ACCEPTED = TicketState
SUBMIT, ACCEPT, REJECT = TicketVerb
LOOP: Final[dict[tuple[TicketState, TicketVerb], TicketState | TicketRefusal]] = {
    (RECTIFYING, SUBMIT): AWAITING,
    (RECTIFYING, ACCEPT): TicketRefusal.NOT_SUBMITTED,
    (RECTIFYING, REJECT): TicketRefusal.NOT_SUBMITTED,
    (AWAITING, SUBMIT): TicketRefusal.NOT_RECTIFYING,
    (AWAITING, ACCEPT): ACCEPTED,
    (AWAITING, REJECT): RECTIFYING,
    (ACCEPTED, SUBMIT): TicketRefusal.NOT_RECTIFYING,
    (ACCEPTED, ACCEPT): TicketRefusal.NOT_SUBMITTED,
    (ACCEPTED, REJECT): TicketRefusal.NOT_SUBMITTED,
}


@pytest.mark.parametrize(("state", "verb"), LOOP)
def test_the_closed_loop_has_no_other_steps(state: TicketState, verb: TicketVerb) -> None:
    """整改 → 验收 → 销号: each state and verb leads to one state, or is refused with its reason."""
    step = advance(TicketView(state, "li", 0), verb, "wu", "done")
    expected = LOOP[state, verb]
    assert (step.state, step.refusal) == ((expected, None) if isinstance(expected, TicketState) else (None, expected))


def test_nobody_accepts_their_own_work() -> None:
    """Whoever submitted it must find another to accept it; rejecting one's own is allowed."""
    ticket = TicketView(AWAITING, "li", 0)
    assert advance(ticket, ACCEPT, "li", "fine").refusal is TicketRefusal.OWN_WORK
    assert advance(ticket, REJECT, "li", "not yet").state is RECTIFYING


def test_nothing_is_accepted_while_an_alarm_of_it_stands() -> None:
    """The loop closes on a plant that is well again."""
    assert advance(TicketView(AWAITING, "li", 1), ACCEPT, "wu", "fine").refusal is TicketRefusal.ALARM_ACTIVE


@pytest.mark.parametrize("verb", list(TicketVerb))
def test_every_step_needs_words(verb: TicketVerb) -> None:
    """A blank is no word."""
    assert advance(TicketView(AWAITING, "li", 0), verb, "wu", " \n").refusal is TicketRefusal.TEXT_MISSING
