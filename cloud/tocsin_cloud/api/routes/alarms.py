"""Routes of the alarms: the list, and what a person may do with one."""

import asyncio
import uuid
from http import HTTPStatus
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Depends, Query, Response
from pydantic import AwareDatetime
from sqlalchemy import select

from tocsin_cloud.adapters.accounts import Account
from tocsin_cloud.adapters.audit_chain import Deed, Outcome
from tocsin_cloud.adapters.roles import Permission
from tocsin_cloud.adapters.sql.models import GatewayOrder, Occurrence, Transition
from tocsin_cloud.api import model, rows
from tocsin_cloud.api.context import Api, Context
from tocsin_cloud.api.listed import ALARMS, joined
from tocsin_cloud.api.ports import CommandError, OperatorCommand, Verb
from tocsin_cloud.api.problem import documented, refusal
from tocsin_cloud.api.security import Needs, Reader
from tocsin_cloud.api.sorting import alarm_order
from tocsin_core.lifecycle import Phase

router = APIRouter(tags=["alarms"])

ANSWER_TIMEOUT_S: Final = 5.0
UNANSWERED: Final = "The alarms worker has not answered in time; the command may still be carried out."
NOT_HANDED: Final = "The command could not be handed to the alarms worker."
MOST_ALARMS: Final = 100_000
PORTION: Final = 500

Operator = Annotated[Account, Depends(Needs(Permission.ANSWER))]
Leader = Annotated[Account, Depends(Needs(Permission.TAKE_OUT))]
REFUSALS: Final = documented(
    HTTPStatus.FORBIDDEN,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.CONFLICT,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
)


@router.get("/alarms", response_model=list[model.Alarm])
async def alarms(
    _account: Reader,
    api: Context,
    state: Literal["active", "all"] = "active",
    limit: Annotated[int, Query(ge=1, le=MOST_ALARMS)] = 200,
    before: Annotated[AwareDatetime | None, Query(description="Only alarms raised before this.")] = None,
    since: Annotated[AwareDatetime | None, Query(description="Only alarms raised at this time or after it.")] = None,
) -> Response:
    """List alarms: not yet answered first, then priority from high to low, then the newest.

    `active`: the first `limit` of that order. `all`: the newest `limit`, in that order; the earliest `raised_at` of a
    page is the next page's `before`, and a page takes in a whole millisecond, so that none falls between two pages.
    """
    query = select(Occurrence)
    if before is not None:
        query = query.where(Occurrence.raised_ns < model.nanoseconds(before))
    if since is not None:
        query = query.where(Occurrence.raised_ns >= model.nanoseconds(since))
    async with api.ports.database.read() as session:
        if state == "active":
            query = query.where(Occurrence.phase != Phase.NORMAL.text).limit(limit)
        else:
            newest = query.with_only_columns(Occurrence.raised_ns).order_by(Occurrence.raised_ns.desc())
            last = await session.scalar(newest.offset(limit - 1).limit(1))
            if last is not None:
                query = query.where(Occurrence.raised_ns >= last - last % 1_000_000)
        found = await session.stream_scalars(query.order_by(*alarm_order()).execution_options(yield_per=PORTION))
        return joined([ALARMS.dump_json([rows.alarm(row) for row in part]) async for part in found.partitions()])


@router.get("/alarms/{occurrence}/steps", responses=documented(HTTPStatus.NOT_FOUND))
async def steps(occurrence: str, _account: Reader, api: Context) -> list[model.Step]:
    """List what happened to the alarm, the earliest first: who did what, when and why."""
    query = select(Transition).where(Transition.occurrence == occurrence).order_by(Transition.seq)
    async with api.ports.database.read() as session:
        found = [rows.step(row) for row in await session.scalars(query)]
    if not found:
        raise refusal(HTTPStatus.NOT_FOUND, f"There is no alarm {occurrence!r}.")
    return found


@router.post("/alarms/{occurrence}/ack", responses=REFUSALS)
async def acknowledge(
    occurrence: str, account: Operator, api: Context, body: model.Comment | None = None
) -> model.CommandedAlarm:
    """Acknowledge: a person has seen it; its messages stop."""
    return await _ask(api, account, "ack", occurrence, "" if body is None else body.comment)


@router.post("/alarms/{occurrence}/unacknowledge", responses=REFUSALS)
async def unacknowledge(
    occurrence: str, account: Operator, api: Context, body: model.Comment | None = None
) -> model.CommandedAlarm:
    """Take the acknowledgement back: the alarm asks again, and people are called as at its raising."""
    return await _ask(api, account, "unacknowledge", occurrence, "" if body is None else body.comment)


@router.post("/alarms/{occurrence}/shelve", responses=REFUSALS)
async def shelve(occurrence: str, body: model.Shelving, account: Operator, api: Context) -> model.CommandedAlarm:
    """Put the alarm away for a while, or at most until it returns, with a reason."""
    return await _ask(api, account, "shelve", occurrence, body.reason, body.duration_s, once=body.once)


@router.post("/alarms/{occurrence}/unshelve", responses=REFUSALS)
async def unshelve(
    occurrence: str, account: Operator, api: Context, _body: model.Nothing | None = None
) -> model.CommandedAlarm:
    """Take the alarm off the shelf."""
    return await _ask(api, account, "unshelve", occurrence)


@router.post("/alarms/{occurrence}/out-of-service", responses=REFUSALS)
async def out_of_service(occurrence: str, body: model.Reason, account: Leader, api: Context) -> model.CommandedAlarm:
    """Take the alarm out of service, with a reason, until somebody puts it back."""
    return await _ask(api, account, "out-of-service", occurrence, body.reason)


@router.post("/alarms/{occurrence}/in-service", responses=REFUSALS)
async def in_service(
    occurrence: str, account: Leader, api: Context, _body: model.Nothing | None = None
) -> model.CommandedAlarm:
    """Put the alarm back into service."""
    return await _ask(api, account, "in-service", occurrence)


@router.post("/alarms/{occurrence}/reset", responses=REFUSALS)
async def reset(
    occurrence: str, account: Operator, api: Context, _body: model.Nothing | None = None
) -> model.CommandedAlarm:
    """Reset a latched alarm."""
    return await _ask(api, account, "reset", occurrence)


async def _ask(
    api: Api,
    account: Account,
    verb: Verb,
    occurrence: str,
    reason: str = "",
    duration_s: float | None = None,
    *,
    once: bool = False,
) -> model.CommandedAlarm:
    async with api.ports.database.read() as session:
        row = await session.get(Occurrence, occurrence)
    if row is None:
        raise refusal(HTTPStatus.NOT_FOUND, f"There is no alarm {occurrence!r}.")
    command = OperatorCommand(uuid.uuid4().hex, verb, occurrence, row.alarm, account.name, reason, duration_s, once)
    await _command(api, account, command)
    async with api.ports.database.read() as session:
        order = await session.get(GatewayOrder, command.id)
        return rows.commanded(await session.get_one(Occurrence, occurrence), order)


async def _command(api: Api, account: Account, command: OperatorCommand) -> None:
    """Send `command` and wait for its answer; the audit log has it before it goes out, and then what became of it."""
    detail = {"command": command.id, "alarm": command.alarm, "reason": command.reason}
    if command.duration_s is not None:
        detail |= {"duration_s": f"{command.duration_s:g}", "once": str(command.once).lower()}

    async def record(outcome: Outcome, why: str = "") -> None:
        told = {**detail, "why": why} if why else detail
        await api.recorder.record(account.actor, Deed(f"alarm.{command.verb}", command.occurrence, outcome, told))

    await record(Outcome.ASKED)
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S) as wait:
            api.waits.add(wait)
            try:
                answer = await api.ports.commands.send(command)
            finally:
                api.waits.discard(wait)
    except TimeoutError as error:
        await record(Outcome.UNANSWERED)
        raise refusal(HTTPStatus.GATEWAY_TIMEOUT, UNANSWERED) from error
    except CommandError as error:
        await record(Outcome.REFUSED, NOT_HANDED)
        raise refusal(HTTPStatus.SERVICE_UNAVAILABLE, NOT_HANDED) from error
    if not answer.accepted:
        await record(Outcome.REFUSED, answer.reason)
        raise refusal(HTTPStatus.CONFLICT, answer.reason)
    await record(Outcome.DONE)
