"""Orders to gateways that decide: written with the command they come of, sent until the gateway's journal answers."""

import asyncio
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from tocsin_cloud.adapters.gateways import send_orders
from tocsin_cloud.adapters.lease import Lease
from tocsin_cloud.adapters.metrics import Metrics
from tocsin_cloud.adapters.sql import models as sql
from tocsin_cloud.adapters.sql.away import DatabaseAwayError
from tocsin_cloud.adapters.sql.bulk import put
from tocsin_cloud.adapters.sql.engine import Database
from tocsin_cloud.loops.delegation import GatewayOrder
from tocsin_cloud.loops.live import LiveView
from tocsin_core.clock import Clock
from tocsin_core.journal import OBEYED, encode_order

log = structlog.get_logger(__name__)

WAITING: Final = "waiting"
DONE: Final = "done"
REFUSED: Final = "refused"
DECIDED_HERE: Final = "the gateway decides no longer"

RESEND_S: Final = 3.0
# Of one gateway at a time: what is beyond goes out next.
MOST: Final = 100

_Waiting = tuple[int, str, bytes]
"""An order as it waits: `at_ns`, id, body."""


async def put_orders(session: AsyncSession, orders: Iterable[GatewayOrder]) -> None:
    """Put orders into the outbox."""
    rows = [
        {
            "id": each.order.id,
            "gateway": each.gateway,
            "alarm": each.order.alarm,
            "body": encode_order(each.order),
            "at_ns": each.order.at_ns,
            "state": WAITING,
            "answer": "",
        }
        for each in orders
    ]
    await put(session, sql.GatewayOrder, rows)


async def note_answers(session: AsyncSession, gateway: str, answers: Mapping[str, str]) -> None:
    """Note what a gateway answered to orders, by id: why they were refused, "" for those that were carried out."""
    for identity, answer in answers.items():
        refusal = "" if answer == OBEYED else answer
        await session.execute(
            update(sql.GatewayOrder)
            .where(sql.GatewayOrder.id == identity, sql.GatewayOrder.gateway == gateway)
            .values(state=REFUSED if refusal else DONE, answer=refusal)
        )


async def withdraw(session: AsyncSession, gateway: str) -> None:
    """Give up the orders to a gateway that decides no longer."""
    await session.execute(
        update(sql.GatewayOrder)
        .where(sql.GatewayOrder.state == WAITING, sql.GatewayOrder.gateway == gateway)
        .values(state=REFUSED, answer=DECIDED_HERE)
    )


@dataclass(frozen=True, slots=True)
class OrderParts:
    """What the loop works with; `wake` is set when something may have to go out at once, who orders holds `lease`."""

    client: Client
    database: Database
    live: LiveView
    metrics: Metrics
    clock: Clock
    wake: asyncio.Event
    lease: Lease


async def keep_ordering(parts: OrderParts) -> None:
    """Send what waits to the gateways that are there, again and again, oldest first; runs until cancelled.

    All that waits goes in one message, so that no order overtakes another; the gateway obeys each once. Where more wait
    than go into one, all have their turn: those whose answers were lost hold up no others.
    """
    sent: dict[str, _Waiting] = {}
    while True:
        try:
            await _send_waiting(parts, sent)
        except DatabaseAwayError as error:
            log.error("orders cannot be read", reason=error.reason)  # noqa: TRY400 -- the message is the reason
        except (NatsError, OSError) as error:
            log.warning("orders not sent", reason=str(error) or repr(error))
        try:
            async with asyncio.timeout(RESEND_S):
                await parts.wake.wait()
        except TimeoutError:
            continue
        parts.wake.clear()


async def _send_waiting(parts: OrderParts, sent: dict[str, _Waiting]) -> None:
    columns = (sql.GatewayOrder.gateway, sql.GatewayOrder.at_ns, sql.GatewayOrder.id, sql.GatewayOrder.body)
    query = select(*columns).where(sql.GatewayOrder.state == WAITING).order_by(sql.GatewayOrder.gateway)
    async with parts.database.read() as session:
        rows = (await session.execute(query.order_by(sql.GatewayOrder.at_ns, sql.GatewayOrder.id))).all()
    parts.metrics.orders_waiting.set(len(rows))
    site = parts.live.table.site
    for gateway, theirs in groupby(rows, key=lambda row: str(row.gateway)):
        known = parts.live.gateways.get((site, gateway))
        # A former holder may have read what has been answered or withdrawn since.
        if known is not None and known.state == "online" and parts.lease.trusted:
            turn = _turn([(row.at_ns, row.id, row.body) for row in theirs], sent.get(gateway))
            sent[gateway] = turn[-1]
            await send_orders(parts.client, site, gateway, [body for _, _, body in turn], parts.clock.now_ns())


def _turn(waiting: Sequence[_Waiting], last: _Waiting | None) -> Sequence[_Waiting]:
    """What goes out now of what waits, oldest first, where `last` went out last."""
    after = 0 if last is None or len(waiting) <= MOST else bisect_right(waiting, last)
    return waiting[after : after + MOST] or waiting[:MOST]
