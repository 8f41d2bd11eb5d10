"""A role's state on a shared broker, for a machine that has none or an older one: an object in JetStream, packed."""

import asyncio
import zlib
from io import BytesIO
from typing import Final

import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.api import ObjectMeta, ObjectStoreConfig
from nats.js.errors import BucketNotFoundError, ObjectNotFoundError
from nats.js.object_store import ObjectStore

from tocsin_cloud.adapters.stream import STREAM

BUCKET: Final = "tocsin-snapshots"
PATIENCE_S: Final = 120.0
LOOK_S: Final = 0.25
FASTEST: Final = 1  # zlib's level: most of the arrays' gain at the least of its cost

log = structlog.get_logger()


class SnapshotStore:
    """One object, replaced whole: a reader finds the old one or the new one."""

    def __init__(self, client: Client, name: str) -> None:
        """Keep the object `name`."""
        self._client = client
        self._name = name

    async def put(self, body: bytes, time_ns: int) -> bool:
        """Replace the object by a snapshot after the message of `time_ns`; returns whether that was done."""
        try:
            packed = await asyncio.to_thread(zlib.compress, body, FASTEST)
            async with asyncio.timeout(PATIENCE_S):
                store = await self._bucket()
                await store.put(self._name, packed, ObjectMeta(description=str(time_ns)))
        except (NatsError, TimeoutError, OSError) as error:
            log.warning("snapshot not shared", reason=str(error) or repr(error))
            return False
        return True

    async def later_than(self, time_ns: int) -> bytes | None:
        """The snapshot, if there is one of later than `time_ns`; numbers would begin anew with a rebuilt stream."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                packed = await self._packed(time_ns)
            return None if packed is None else await asyncio.to_thread(zlib.decompress, packed)
        except (BucketNotFoundError, ObjectNotFoundError):
            return None
        except (NatsError, TimeoutError, OSError, ValueError, zlib.error) as error:
            log.warning("shared snapshot not read", reason=str(error) or repr(error))
            return None

    async def _packed(self, time_ns: int) -> memoryview | None:
        """As `later_than`, packed; from the beginning once more whenever the connection was lost.

        Nobody answers what was asked before that, and whoever waits here does not look at its lease.
        """
        while True:
            reconnects = self._client.stats["reconnects"]
            reading = asyncio.create_task(self._read(time_ns), name="shared snapshot")
            try:
                while self._client.stats["reconnects"] == reconnects:
                    if (await asyncio.wait([reading], timeout=LOOK_S))[0]:
                        return await reading
            finally:
                reading.cancel()

    async def _read(self, time_ns: int) -> memoryview | None:
        packed = BytesIO()
        store = await self._client.jetstream().object_store(BUCKET)
        info = await store.get_info(self._name)
        if int(info.description or 0) <= time_ns:
            return None
        await store.get(self._name, writeinto=packed)
        return packed.getbuffer()

    async def _bucket(self) -> ObjectStore:
        stream = self._client.jetstream()
        try:
            return await stream.object_store(BUCKET)
        except BucketNotFoundError:
            # In as many copies as the stream, without which it would be of no use.
            copies = (await stream.stream_info(STREAM)).config.num_replicas or 1
            return await stream.create_object_store(BUCKET, ObjectStoreConfig(replicas=copies))
