"""All rows of one database into another of the same tables, from SQLite to PostgreSQL or back."""

from typing import Final

from sqlalchemy import column, delete, func, insert, select, table
from sqlalchemy.ext.asyncio import AsyncSession

from tocsin_cloud.adapters.sql import models as sql

CHUNK: Final = 1000


async def copy_rows(source: AsyncSession, target: AsyncSession) -> None:
    """Put all rows that `source` sees in its transaction into `target`, which is new, in that one's transaction.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: a database refused; nothing is in `target` then, once it is rolled back.
    """
    # The one row that a new database has: where its audit log begins.
    await target.execute(delete(sql.AuditHead))
    for each in sql.Base.metadata.sorted_tables:
        rows = await source.stream(select(each))
        async for chunk in rows.mappings().partitions(CHUNK):
            await target.execute(insert(each), [dict(row) for row in chunk])
    if target.get_bind().dialect.name != "sqlite":
        await _number_on(target)


async def revision_of(session: AsyncSession) -> str:
    """The revision of the tables."""
    return str(await session.scalar(select(column("version_num")).select_from(table("alembic_version"))))


async def decided_since(session: AsyncSession, time_ns: int) -> bool:
    """Whether something in the tables came of a message that the stream took after `time_ns`."""
    later = (
        select(1).where(sql.Transition.now_ns > time_ns).limit(1),
        select(1).where(sql.Command.at_ns > time_ns).limit(1),
    )
    return any([await session.scalar(look) is not None for look in later])


async def is_untouched(session: AsyncSession) -> bool:
    """Whether nobody has worked with the database yet: there are neither users nor any entry of the audit log."""
    return not await session.scalar(select(sql.User.name).limit(1)) and not await session.scalar(
        select(sql.Audit.seq).limit(1)
    )


async def _number_on(session: AsyncSession) -> None:
    """Have PostgreSQL number new rows from behind the last one: it did not number those that were put in."""
    for each in sql.Base.metadata.sorted_tables:
        for numbered in each.columns:
            if numbered.autoincrement is True:
                sequence, last = func.pg_get_serial_sequence(f'"{each.name}"', numbered.name), func.max(numbered)
                await session.execute(select(func.setval(sequence, last)).having(last.is_not(None)))
