"""Who is at a NATS server that is cut off from its cluster goes to another one, and stays where there is a leader."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest
from nats.aio.client import Client

from tests.cloud.api.stand_ins import HandClock
from tests.cloud.rig import broker
from tests.support.nats import listens
from tests.support.nats_cluster import NatsCluster
from tests.support.wait import eventually_async
from tocsin_cloud.adapters import cut_off
from tocsin_cloud.adapters.cut_off import leave_the_cut_off
from tocsin_cloud.adapters.stream import connect


def at(client: Client) -> str | None:
    """HOST:PORT of the server that a client is connected to."""
    return None if client.connected_url is None else str(client.connected_url.netloc)


def test_a_server_without_a_leader_is_left_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of three, of which the others never came, answers pings alone; not sooner than an election may take."""
    monkeypatch.setattr(cut_off, "ASK_S", 0.05)
    # In the order given.
    monkeypatch.setattr("random.SystemRandom.shuffle", lambda _random, _servers: None)

    async def story() -> None:
        cluster = NatsCluster(tmp_path / "cluster")
        alone = cluster.servers[0]
        async with broker(tmp_path / "whole") as (_, whole):
            cluster.start(0)
            try:
                await eventually_async(lambda: listens(alone.nats.port))
                await eventually_async(lambda: cluster.alone(0))
                client, clock = await connect(f"nats://{alone.nats},nats://{whole.nats}", "test"), HandClock()
                leaving = asyncio.create_task(leave_the_cut_off(client, clock))
                await asked_again(client)
                assert (at(client), client.stats["reconnects"]) == (str(alone.nats), 0)
                clock.move(cut_off.PATIENCE_S + 1)
                await eventually_async(lambda: at(client) == str(whole.nats))
                for _ in range(2):
                    await asked_again(client)
                    clock.move(cut_off.PATIENCE_S + 1)
                assert (at(client), client.stats["reconnects"]) == (str(whole.nats), 1)
                leaving.cancel()
                with suppress(asyncio.CancelledError):
                    await leaving
                await client.close()
            finally:
                cluster.end()

    asyncio.run(story())


async def asked_again(client: Client) -> None:
    """Wait until the client has asked its server twice more, and so has at least one answer."""
    before = client.stats["out_msgs"]
    await eventually_async(lambda: client.stats["out_msgs"] >= before + 2)
