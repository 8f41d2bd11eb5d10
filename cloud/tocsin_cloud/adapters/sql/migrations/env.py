"""Alembic's way in: runs the steps on the database whose address `migrate` gives."""

import asyncio

from alembic import context
from sqlalchemy.engine import Connection

from tocsin_cloud.adapters.sql.engine import create_engine
from tocsin_cloud.adapters.sql.models import Base


def _run(connection: Connection) -> None:
    # SQLite cannot alter a column in place: batch mode copies the table instead.
    context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()


async def _main() -> None:
    engine = create_engine(context.config.attributes["url"], writing=True)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(_run)
    finally:
        await engine.dispose()


asyncio.run(_main())
