"""An embedded broker on a disk that something else fills for a while: run as a module on a small disk."""

import asyncio
import json
import sys
from contextlib import suppress
from pathlib import Path

from nats.errors import Error as NatsError

from tests.cloud.rig import SITE, broker
from tests.edge.full_disk import fill
from tests.support.wait import eventually_async
from tocsin_cloud.adapters.stream import connect, ensure_stream, publish_tick, stream_figures
from tocsin_cloud.settings import StreamSettings

BEFORE = 10


async def main(folder: Path) -> None:
    """Publish until the disk is full, make room, and publish until that is taken again."""
    async with broker(folder / "nats") as (server, _):
        client = await connect(server.url, "test")
        await ensure_stream(client, StreamSettings(max_bytes=16 << 20))

        async def takes() -> bool:
            with suppress(NatsError, TimeoutError):
                await publish_tick(client, SITE)
                return True
            return False

        async def refuses() -> bool:
            return not await takes()

        for _ in range(BEFORE):
            assert await takes()
        fill(folder / "ballast")
        await eventually_async(refuses)
        restarts = server.restarts
        (folder / "ballast").unlink()
        await eventually_async(takes, timeout_s=60)
        kept = (await stream_figures(client)).messages
        print(json.dumps({"kept": kept > BEFORE, "before": restarts, "restarts": server.restarts}))  # noqa: T201 -- for who runs it
        await client.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
