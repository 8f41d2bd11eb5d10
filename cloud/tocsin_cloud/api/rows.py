"""Rows of the SQL tables turned into the shapes of the interface."""

from collections.abc import Iterable, Sequence

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from tocsin_cloud.adapters.channels import kind_of
from tocsin_cloud.adapters.sql import models as sql
from tocsin_cloud.api import model
from tocsin_cloud.api.model import number
from tocsin_cloud.loops.reasons import because
from tocsin_core.lifecycle import Event


def alarm(row: sql.Occurrence) -> model.Alarm:
    """Return an occurrence."""
    return model.Alarm.model_validate(_alarm(row))


def commanded(row: sql.Occurrence, order: sql.GatewayOrder | None) -> model.CommandedAlarm:
    """Return an occurrence after a command, with what became of the order that it led to."""
    gateway = None if order is None else f"{order.state}: {order.answer}" if order.answer else order.state
    return model.CommandedAlarm.model_validate({**_alarm(row), "gateway": gateway})


def _alarm(row: sql.Occurrence) -> dict[str, object]:
    return {
        "id": row.id,
        "alarm": row.alarm,
        "point": row.point,
        "source": row.source,
        "kind": row.kind,
        "priority": row.priority,
        "phase": row.phase,
        "shelved_until": row.shelved_until_ns,
        "shelved_once": row.shelved_once,
        "out_of_service": row.out_of_service,
        "suppressed": row.suppressed,
        "raised_at": row.raised_ns,
        "committed_at": row.committed_ns,
        "acknowledged_at": row.acknowledged_ns,
        "acknowledged_by": row.acknowledged_by,
        "returned_at": row.returned_ns,
        "value": number(row.value),
        "setpoint": number(row.setpoint),
        "unit": row.unit,
        "message": row.message,
        "clause": row.clause,
        "because": because(row.reason),
    }


def step(row: sql.Transition) -> model.Step:
    """Return a step of an alarm's life."""
    return model.Step.model_validate(
        {
            "at": row.time_ns,
            "event": row.event,
            "phase_from": row.phase_from,
            "phase_to": row.phase_to,
            "value": number(row.value),
            "who": row.who,
            "reason": row.reason,
            "because": because(row.reason) if row.event == Event.RAISE.text else None,
        }
    )


def notification(row: sql.Message) -> model.Notification:
    """Return a message; its channel is told by kind only, because an address may hold a password."""
    return model.Notification.model_validate(
        {
            "id": row.id,
            "occurrence": row.occurrence,
            "to": row.to_person,
            "channel": kind_of(row.channel),
            "subject": row.subject,
            "body": row.body,
            "state": row.state,
            "due_at": row.due_ns,
            "sent_at": row.sent_ns,
            "attempts": row.attempts,
            "error": row.error,
            "reason": row.reason,
        }
    )


def quarantined(row: sql.Quarantine) -> model.Quarantined:
    """Return a refused payload, without its bytes."""
    return model.Quarantined(at=row.at_ns, topic=row.topic, reason=row.reason, detail=row.detail, size=row.size)


async def alarms(session: AsyncSession, occurrences: Iterable[str]) -> list[model.Alarm]:
    """Return the occurrences with these ids, oldest first."""
    rows = await session.scalars(
        select(sql.Occurrence).where(sql.Occurrence.id.in_(tuple(occurrences))).order_by(sql.Occurrence.raised_ns)
    )
    return [alarm(row) for row in rows]


async def notifications(session: AsyncSession, messages: Iterable[str]) -> list[model.Notification]:
    """Return the messages with these ids, the earliest due first."""
    rows = await session.scalars(
        select(sql.Message).where(sql.Message.id.in_(tuple(messages))).order_by(sql.Message.due_ns)
    )
    return [notification(row) for row in rows]


def listed_tickets() -> Select[sql.Ticket]:
    """Return the query of tickets for lists: evidence is large, and read for one ticket alone."""
    return select(sql.Ticket).options(defer(sql.Ticket.evidence, raiseload=True))


async def tickets(session: AsyncSession, rows: Sequence[sql.Ticket]) -> list[model.Ticket]:
    """Return these tickets with their logs and the alarms they cover, in the same order."""
    ids = [row.id for row in rows]
    covered: dict[str, list[str]] = {ticket: [] for ticket in ids}
    logs: dict[str, list[model.LogEntry]] = {ticket: [] for ticket in ids}
    links = (
        select(sql.TicketOccurrence)
        .where(sql.TicketOccurrence.ticket.in_(ids))
        .order_by(sql.TicketOccurrence.occurrence)
    )
    for link in await session.scalars(links):
        covered[link.ticket].append(link.occurrence)
    entries = select(sql.TicketLog).where(sql.TicketLog.ticket.in_(ids)).order_by(sql.TicketLog.id)
    for entry in await session.scalars(entries):
        what = entry.what.get("text", entry.what)
        logs[entry.ticket].append(model.LogEntry.model_validate({"at": entry.at_ns, "who": entry.who, "what": what}))
    return [_ticket(row, covered[row.id], logs[row.id]) for row in rows]


def _ticket(row: sql.Ticket, covered: list[str], log: list[model.LogEntry]) -> model.Ticket:
    return model.Ticket.model_validate(
        {
            "id": row.id,
            "title": row.title,
            "source": row.source,
            "level": row.level,
            "state": row.state,
            "opened_at": row.opened_ns,
            "deadline": row.deadline_ns,
            "reason": row.reason,
            "alarms": covered,
            "alarm": row.alarm,
            "liable": row.liable,
            "log": log,
        }
    )


async def ticket_in_full(session: AsyncSession, row: sql.Ticket) -> model.TicketInFull:
    """Return one ticket with its evidence."""
    (shape,) = await tickets(session, [row])
    return model.TicketInFull.model_validate({**dict(shape), "evidence": row.evidence})
