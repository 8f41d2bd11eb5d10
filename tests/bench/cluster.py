"""A NATS cluster of three on this machine: messages a second with three copies, and how long a leader's loss is felt.

`python -m tests.bench.cluster` prints one JSON object; docs/scaling.md has what it told.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from nats.aio.client import Client
from nats.js.api import StreamConfig

from tests.support.nats_cluster import NatsCluster, nats_cluster
from tests.support.wait import eventually_async
from tocsin_cloud.adapters.stream import START, Feed, connect, ensure_stream, publish_command
from tocsin_cloud.settings import StreamSettings
from tocsin_core.clock import SystemClock

MESSAGES: Final = 20_000
BODY: Final = bytes(230)
ROUNDS: Final = 3
LONG_S: Final = 60


async def throughput(client: Client, subject: str) -> float:
    """Messages a second that one connection has acknowledged, 4,000 of them under way at a time."""
    stream = client.jetstream(publish_async_max_pending=4000)
    began = time.monotonic()
    await asyncio.gather(*[await stream.publish_async(subject, BODY) for _ in range(MESSAGES)])
    return MESSAGES / (time.monotonic() - began)


async def loss(cluster: NatsCluster, end: Callable[[int], None], back: Callable[[int], None]) -> dict[str, float]:
    """Seconds from the loss of the stream's leader to a command that is kept, and until a worker has read it."""
    client = await connect(cluster.url, "bench")
    feed = Feed(client, START, SystemClock())
    read: list[str] = []

    async def follow() -> None:
        while True:
            read.extend(message.topic for message in await feed.take(10_000, 0.25))

    following = asyncio.create_task(follow())
    await eventually_async(lambda: feed.idle, LONG_S)
    read.clear()
    leader = await cluster.leader()
    began = time.monotonic()
    end(leader)
    kept_s = None
    while kept_s is None:
        try:
            await publish_command(client, "bench", {"id": f"{began}"})
        except TimeoutError:
            continue
        kept_s = time.monotonic() - began
    await eventually_async(lambda: "tocsin/command/bench" in read, LONG_S)
    read_s = time.monotonic() - began
    following.cancel()
    await feed.close()
    await client.close()
    back(leader)
    return {"kept_s": round(kept_s, 1), "read_s": round(read_s, 1)}


async def measure(folder: Path) -> dict[str, Any]:
    """Start the cluster and measure."""
    with nats_cluster(folder) as cluster:
        client = await connect(cluster.url, "bench")
        await ensure_stream(client, StreamSettings(max_bytes=1 << 30))
        await client.jsm().add_stream(StreamConfig(name="ONE", subjects=["one"], num_replicas=1))
        rates = {
            "one_copy": [round(await throughput(client, "one")) for _ in range(ROUNDS)],
            "three_copies": [round(await throughput(client, "spBv1//0.bench.DDATA.gw.d")) for _ in range(ROUNDS)],
        }
        await client.close()
        killed, held = [], []
        for _ in range(ROUNDS):
            killed.append(await loss(cluster, cluster.kill, cluster.start))
            await asyncio.sleep(5)
            held.append(await loss(cluster, cluster.hold, cluster.release))
            await asyncio.sleep(5)
    return {"messages_per_second": rates, "leader_killed": killed, "leader_held": held}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        sys.stdout.write(json.dumps(asyncio.run(measure(Path(place) / "nats"))) + "\n")
