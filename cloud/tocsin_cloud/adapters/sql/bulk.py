"""Many new rows of one table in one go."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession

from tocsin_cloud.adapters.sql.models import Base


async def put(session: AsyncSession, model: type[Base], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert `rows`, which all name the same columns; none are none.

    As rows of the table and not as objects: in a flood the ORM's share of the time would be the larger one.
    """
    if rows:
        await session.execute(insert(Base.metadata.tables[model.__tablename__]), [dict(row) for row in rows])
