"""The list of gateways' certificates in a cluster: told by who issues and revokes, and heard by each of its servers."""

import asyncio
import base64
import json
import zlib
from pathlib import Path
from typing import Final

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import StorageType, StreamConfig

from tocsin_cloud.adapters.permissions import LIST_REQUEST, LIST_STREAM, LIST_SUBJECT
from tocsin_cloud.adapters.stream import ensure
from tocsin_cloud.adapters.whole_file import write_whole

log = structlog.get_logger()

LOOK_S: Final = 1.0
# A server that did not hear of a change finds it within this.
AGAIN_S: Final = 5.0
ANSWER_S: Final = 2.0
COPIES: Final = 3
NOT_FOUND: Final = 404


async def keep_telling(client: Client, path: Path) -> None:
    """Tell a cluster what the list in `path` says, and again whenever that changes; until cancelled."""
    told = b""
    while True:
        try:
            said = await asyncio.to_thread(_said, path)
            # Without a list, as where a backup is being laid back, what was told counts: an empty one lets nobody in.
            if said and said != told:
                config = StreamConfig(LIST_STREAM, subjects=[LIST_SUBJECT], max_msgs=1, storage=StorageType.FILE)
                await ensure(client, config, COPIES)
                await client.jetstream().publish(LIST_SUBJECT, zlib.compress(said), timeout=ANSWER_S)
                told = said
                log.info("the cluster is told whose certificates count")
        except (NatsError, TimeoutError, OSError) as error:
            log.error("the cluster is not told whose certificates count", reason=str(error) or repr(error))  # noqa: TRY400 -- the message is the reason
        await asyncio.sleep(LOOK_S)


def _said(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


async def keep_hearing(client: Client, path: Path) -> None:
    """Have in `path` the list that the cluster was told last, until cancelled.

    Where it cannot be asked for, in a cluster that is electing, it stays as it is.
    """
    changed = asyncio.Event()

    async def on_told(_: Msg) -> None:
        changed.set()

    await client.subscribe(LIST_SUBJECT, cb=on_told)
    known = None
    while True:
        changed.clear()
        try:
            said = await _told(client)
            if said is not None and said != known:
                await asyncio.to_thread(write_whole, path, said)
                known = said
                log.info("heard whose certificates count")
        except (NatsError, TimeoutError, OSError, ValueError, zlib.error) as error:
            log.warning("whose certificates count cannot be asked for", reason=str(error) or repr(error))
        try:
            async with asyncio.timeout(LOOK_S if known is None else AGAIN_S):
                await changed.wait()
        except TimeoutError:
            continue


async def _told(client: Client) -> bytes | None:
    """What was told last; None where nobody has yet. The stream's leader answers: another server may be behind.

    Raises:
        NatsError: nobody answers.
        ValueError: the answer is none.
    """
    body = json.dumps({"last_by_subj": LIST_SUBJECT}).encode()
    answer = json.loads((await client.request(LIST_REQUEST, body, timeout=ANSWER_S)).data)
    if "message" in answer:
        return zlib.decompress(base64.b64decode(answer["message"]["data"]))
    if answer.get("error", {}).get("code") == NOT_FOUND:
        return None
    raise ValueError(str(answer.get("error")))
