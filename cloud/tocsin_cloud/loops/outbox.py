"""The outbox's rows: what waits for an answer, planned messages put in once, and callings that end."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from tocsin_cloud.adapters.sql.bulk import put
from tocsin_cloud.adapters.sql.models import Message, Occurrence, TicketOccurrence
from tocsin_core.lifecycle import UNANSWERED
from tocsin_core.plant import Priority
from tocsin_core.plant.fields import name_of
from tocsin_core.plant.model import Notify
from tocsin_core.routing import Asking, PlannedMessage, awaits_answer

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


async def uncalled(session: AsyncSession, notify: Notify) -> list[str]:
    """The places where people should be called of something, and no message waits to go out or is on its way.

    Each calling leaves one until somebody answers, but for one that began by another plant file.
    """
    told = [str(priority) for priority in Priority if priority.rank >= notify.min_priority.rank]
    asks = select(_PLACE).where(
        Occurrence.phase.in_(_UNANSWERED), Occurrence.priority.in_(told), Occurrence.suppressed.is_(False)
    )
    goes_on = Message.state.in_((PENDING, SENDING)) & Message.answered.is_(False)
    called = select(_PLACE).join(Message, Message.occurrence == Occurrence.id).where(goes_on)
    return list(await session.scalars(asks.except_(called)))


async def asking(session: AsyncSession, places: Iterable[str], notify: Notify) -> dict[str, list[Asking]]:
    """By place, all that waits for an answer in `places`."""
    found: dict[str, list[Asking]] = {}
    for chunk in _chunks(places):
        rows = await session.scalars(
            select(Occurrence).where(Occurrence.phase.in_(_UNANSWERED), _PLACE.in_(chunk)).order_by(Occurrence.id)
        )
        for row in rows:
            priority = Priority(row.priority)
            if awaits_answer(priority, notify, unanswered=True, suppressed=row.suppressed):
                asks = Asking(row.id, priority, row.raised_ns, name_of(row.message["zh"], row.message["en"]))
                found.setdefault(row.source or row.point, []).append(asks)
    return found


async def put_in(session: AsyncSession, planned: Sequence[PlannedMessage]) -> list[str]:
    """Put the planned messages that are not there yet into the outbox; returns their ids."""
    there: set[str] = set()
    for chunk in _chunks(message.id for message in planned):
        there.update(await session.scalars(select(Message.id).where(Message.id.in_(chunk))))
    fresh = {message.id: message for message in planned if message.id not in there}
    tickets: dict[str, str] = {}
    of = TicketOccurrence
    for chunk in _chunks(message.occurrence for message in fresh.values()):
        covered = select(of.occurrence, func.min(of.ticket)).where(of.occurrence.in_(chunk)).group_by(of.occurrence)
        tickets.update((occurrence, ticket) for occurrence, ticket in await session.execute(covered))
    await put(session, Message, [_row(message, tickets.get(message.occurrence)) for message in fresh.values()])
    return list(fresh)


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


def _row(message: PlannedMessage, ticket: str | None) -> dict[str, Any]:
    return {
        "id": message.id,
        "occurrence": message.occurrence,
        "ticket": ticket,
        "to_person": message.to,
        "channel": message.channel,
        "subject": message.subject,
        "body": message.body,
        "state": PENDING,
        "due_ns": message.due_ns,
        "sent_ns": None,
        "attempts": 0,
        "error": None,
        "reason": str(message.reason),
        "round_ns": message.round_ns,
        "step": message.step,
        "repeat": message.repeat,
    }
