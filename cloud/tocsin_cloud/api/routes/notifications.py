"""Route of the messages to people."""

from typing import Annotated

from fastapi import APIRouter, Query
from sqlalchemy import select

from tocsin_cloud.adapters.sql.models import Message
from tocsin_cloud.api import model, rows
from tocsin_cloud.api.context import Context
from tocsin_cloud.api.security import Reader

router = APIRouter(tags=["notifications"])


@router.get("/notifications")
async def notifications(
    _account: Reader, api: Context, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> list[model.Notification]:
    """Messages sent and waiting, the latest due first."""
    query = select(Message).order_by(Message.due_ns.desc(), Message.id).limit(limit)
    async with api.ports.database.read() as session:
        return [rows.notification(row) for row in await session.scalars(query)]
