"""The outbox's rows: what waits for an answer, planned messages put in once, and callings that end."""

from collections.abc import Iterable, Sequence
from typing import Final

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from tocsin_cloud.adapters.sql.models import Message, Occurrence, TicketOccurrence
from tocsin_core.lifecycle import UNANSWERED
from tocsin_core.plant import Priority
from tocsin_core.plant.model import Notify
from tocsin_core.routing import PlannedMessage, awaits_answer

CHUNK: Final = 500  # SQLite bounds the number of variables in one statement
PENDING: Final = "pending"
SENDING: Final = "sending"
DELIVERED: Final = "delivered"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"

_UNANSWERED: Final = tuple(phase.text for phase in UNANSWERED)
_PLACE: Final = func.coalesce(Occurrence.source, Occurrence.point)

Waiting = dict[str, dict[str, Priority]]
"""By place and alarm, what people are told of and nobody has answered."""


async def waiting(session: AsyncSession, places: Iterable[str], notify: Notify) -> Waiting:
    """What waits for an answer in `places`; one in which nothing does is missing."""
    found: Waiting = {}
    columns = (_PLACE, Occurrence.alarm, Occurrence.priority, Occurrence.suppressed)
    for chunk in _chunks(places):
        rows = await session.execute(
            select(*columns).where(Occurrence.phase.in_(_UNANSWERED), _PLACE.in_(chunk)).order_by(Occurrence.id)
        )
        for place, alarm, told, suppressed in rows:
            priority = Priority(told)
            if awaits_answer(priority, notify, unanswered=True, suppressed=suppressed):
                found.setdefault(place, {})[alarm] = priority
    return found


async def put_in(session: AsyncSession, planned: Sequence[PlannedMessage]) -> list[str]:
    """Put the planned messages that are not there yet into the outbox; returns their ids."""
    added: list[str] = []
    tickets: dict[str, str | None] = {}
    for message in planned:
        if await session.get(Message, message.id) is not None:
            continue
        if message.occurrence not in tickets:
            of = TicketOccurrence.occurrence == message.occurrence
            tickets[message.occurrence] = await session.scalar(select(TicketOccurrence.ticket).where(of).limit(1))
        session.add(_row(message, tickets[message.occurrence]))
        added.append(message.id)
    return added


async def end_calls(session: AsyncSession, places: Iterable[str]) -> list[str]:
    """Cancel what still waits in `places`; what is on its way may arrive, but nothing follows from it.

    Returns the ids of what was cancelled.
    """
    cancelled: list[str] = []
    for chunk in _chunks(places):
        theirs = Message.occurrence.in_(select(Occurrence.id).where(_PLACE.in_(chunk)))
        await session.execute(
            update(Message)
            .where(Message.state == SENDING, theirs)
            .values(answered=True)
            .execution_options(synchronize_session=False)
        )
        rows = await session.scalars(
            update(Message)
            .where(Message.state == PENDING, theirs)
            .values(state=CANCELLED)
            .returning(Message.id)
            .execution_options(synchronize_session=False)
        )
        cancelled += rows
    return cancelled


def _chunks(places: Iterable[str]) -> list[list[str]]:
    wanted = sorted(set(places))
    return [wanted[first : first + CHUNK] for first in range(0, len(wanted), CHUNK)]


def _row(message: PlannedMessage, ticket: str | None) -> Message:
    return Message(
        id=message.id,
        occurrence=message.occurrence,
        ticket=ticket,
        to_person=message.to,
        channel=message.channel,
        subject=message.subject,
        body=message.body,
        state=PENDING,
        due_ns=message.due_ns,
        sent_ns=None,
        attempts=0,
        error=None,
        reason=str(message.reason),
        round_ns=message.round_ns,
        step=message.step,
        repeat=message.repeat,
    )
