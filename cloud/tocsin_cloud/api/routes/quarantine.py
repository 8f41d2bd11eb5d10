"""Route of the quarantine: payloads that were refused."""

from typing import Annotated

from fastapi import APIRouter, Query
from sqlalchemy import select

from tocsin_cloud.adapters.sql.models import Quarantine
from tocsin_cloud.api import model, rows
from tocsin_cloud.api.context import Context
from tocsin_cloud.api.security import Reader

router = APIRouter(tags=["quarantine"])


@router.get("/quarantine")
async def quarantine(
    _account: Reader, api: Context, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> list[model.Quarantined]:
    """Refused payloads with the reason, the newest first."""
    query = select(Quarantine).order_by(Quarantine.id.desc()).limit(limit)
    async with api.ports.database.read() as session:
        return [rows.quarantined(row) for row in await session.scalars(query)]
