"""A test's story told on a database that is opened for it."""

import asyncio
from collections.abc import Awaitable, Callable

from sqlalchemy.engine import URL

from tocsin_cloud.adapters.sql.engine import Database

Story = Callable[[Database], Awaitable[None]]


def tell(url: URL, story: Story) -> None:
    """Run a story on the database at `url`."""

    async def run() -> None:
        database = await Database.open(url)
        try:
            await story(database)
        finally:
            await database.close()

    asyncio.run(run())
