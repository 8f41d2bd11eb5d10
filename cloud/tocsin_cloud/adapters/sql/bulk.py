"""Many new rows of one table in one go."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import ARRAY, Insert, String, bindparam, func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from tocsin_cloud.adapters.sql.models import Base

PLACE: Final = "place in the list"


async def put(session: AsyncSession, model: type[Base], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert `rows`, which all name the same columns, in this order; none are none.

    As rows of the table and not as objects: in a flood the ORM's share of the time would be the larger one. A server
    takes all of them in one statement, a list for each column: row by row, it and we would work on them twice as long.
    """
    if not rows:
        return
    table = Base.metadata.tables[model.__tablename__]
    if session.get_bind().dialect.name == "sqlite":
        await session.execute(insert(table), [dict(row) for row in rows])
    else:
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        await session.execute(_of_lists(table.name, tuple(columns)), columns)


@cache
def _of_lists(table_name: str, names: tuple[str, ...]) -> Insert:
    """The statement that inserts rows into a table, whose columns of these names are given as a list each."""
    table = Base.metadata.tables[table_name]
    types = {name: table.c[name].type for name in names}
    # Cast to a type with a length, what is too long would be cut off in silence.
    items = {name: String() if isinstance(of, String) else of for name, of in types.items()}
    lists = [bindparam(name, type_=ARRAY(of, dimensions=1)) for name, of in items.items()]
    rows = func.unnest(*lists).table_valued(*names, with_ordinality=PLACE).render_derived()
    ordered = select(*(rows.c[name] for name in names)).order_by(rows.c[PLACE])
    return insert(table).from_select(names, ordered)
