"""Routes of the hazard tickets: the list, one with its evidence, and the steps of its closed loop."""

from http import HTTPStatus
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Depends, Query, Response
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from tocsin_cloud.adapters.accounts import Account
from tocsin_cloud.adapters.audit import append
from tocsin_cloud.adapters.audit_chain import Deed, Outcome
from tocsin_cloud.adapters.roles import Permission
from tocsin_cloud.adapters.sql import models as sql
from tocsin_cloud.api import model, rows
from tocsin_cloud.api.context import Api, Context
from tocsin_cloud.api.listed import TICKETS, joined
from tocsin_cloud.api.ports import Event
from tocsin_cloud.api.problem import documented, refusal
from tocsin_cloud.api.security import Needs, Reader
from tocsin_core.lifecycle import Phase
from tocsin_core.tickets import TicketState, TicketVerb, TicketView, advance

router = APIRouter(tags=["tickets"])

MOST_TICKETS: Final = 100_000
PORTION: Final = 500
REFUSALS: Final = documented(HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)

Rectifier = Annotated[Account, Depends(Needs(Permission.RECTIFY))]
Inspector = Annotated[Account, Depends(Needs(Permission.ACCEPT))]


@router.get("/tickets", response_model=list[model.Ticket])
async def tickets(
    _account: Reader,
    api: Context,
    state: Annotated[Literal["open", "all"], Query(description="`open`: whatever is not accepted.")] = "open",
    limit: Annotated[int, Query(ge=1, le=MOST_TICKETS)] = 1000,
) -> Response:
    """Hazard tickets without their evidence, the newest first, at most `limit` of them."""
    query = rows.listed_tickets().order_by(sql.Ticket.opened_ns.desc(), sql.Ticket.id).limit(limit)
    if state == "open":
        query = query.where(sql.Ticket.state != str(TicketState.ACCEPTED))
    async with api.ports.database.read() as session:
        found = await session.stream_scalars(query.execution_options(yield_per=PORTION))
        return joined([TICKETS.dump_json(await rows.tickets(session, part)) async for part in found.partitions()])


@router.get("/tickets/{ticket}", responses=documented(HTTPStatus.NOT_FOUND))
async def ticket(ticket: str, _account: Reader, api: Context) -> model.TicketInFull:
    """One hazard ticket."""
    async with api.ports.database.read() as session:
        return await rows.ticket_in_full(session, await _get(session, ticket))


@router.post("/tickets/{ticket}/submit", responses=REFUSALS)
async def submit(ticket: str, body: model.Measures, account: Rectifier, api: Context) -> model.TicketInFull:
    """Report the hazard as put right (整改完成), for acceptance by somebody else."""
    return await _step(api, account, ticket, TicketVerb.SUBMIT, body.measures)


@router.post("/tickets/{ticket}/accept", responses=REFUSALS)
async def accept(ticket: str, body: model.Remark, account: Inspector, api: Context) -> model.TicketInFull:
    """Accept the work (验收): the ticket is closed. Not by the person who submitted it."""
    return await _step(api, account, ticket, TicketVerb.ACCEPT, body.comment)


@router.post("/tickets/{ticket}/reject", responses=REFUSALS)
async def reject(ticket: str, body: model.Remark, account: Inspector, api: Context) -> model.TicketInFull:
    """Send the work back."""
    return await _step(api, account, ticket, TicketVerb.REJECT, body.comment)


async def _get(session: AsyncSession, ticket: str) -> sql.Ticket:
    row = await session.get(sql.Ticket, ticket)
    if row is None:
        raise refusal(HTTPStatus.NOT_FOUND, f"There is no ticket {ticket!r}.")
    return row


async def _step(api: Api, account: Account, ticket: str, verb: TicketVerb, text: str) -> model.TicketInFull:
    # One writing transaction from reading to writing: two people cannot both take the same step.
    now_ns = api.ports.clock.now_ns()
    async with api.ports.database.write() as session:
        row = await _get(session, ticket)
        view = TicketView(TicketState(row.state), row.submitted_by, await _active_alarms(session, ticket))
        step = advance(view, verb, account.name, text)
        if step.state is not None:
            row.state = str(step.state)
            row.submitted_by = account.name if verb is TicketVerb.SUBMIT else row.submitted_by
            what = {"text": f"{verb}: {text}"}
            session.add(sql.TicketLog(ticket=ticket, at_ns=now_ns, who=account.name, what=what))
            await session.flush()
        shape = await rows.ticket_in_full(session, row)
        why = {"text": text} if step.state is not None else {"text": text, "why": str(step.refusal)}
        outcome = Outcome.REFUSED if step.state is None else Outcome.DONE
        await append(session, now_ns, account.actor, Deed(f"ticket.{verb}", ticket, outcome, why))
    if step.state is None:
        raise refusal(HTTPStatus.CONFLICT, str(step.refusal))
    await api.ports.events.publish(Event("ticket", {"id": ticket}))
    return shape


async def _active_alarms(session: AsyncSession, ticket: str) -> int:
    active = (
        select(func.count())
        .select_from(sql.TicketOccurrence)
        .join(sql.Occurrence, sql.Occurrence.id == sql.TicketOccurrence.occurrence)
        .where(sql.TicketOccurrence.ticket == ticket, sql.Occurrence.phase != Phase.NORMAL.text)
    )
    return await session.scalar(active) or 0
