"""The primary host's STATE: retained online while it runs, offline afterwards, never left offline by an old death."""

import asyncio
import json
from contextlib import suppress
from pathlib import Path

import aiomqtt

from tests.cloud.rig import broker
from tests.support.wait import eventually_async
from tocsin_cloud.adapters.host_state import announce
from tocsin_cloud.settings import Address
from tocsin_core.clock import SystemClock

TOPIC = "spBv1.0/STATE/tocsin"


async def retained(mqtt: Address) -> object:
    """What a newcomer is told about the host; None if nothing."""
    async with aiomqtt.Client(*mqtt) as client:
        await client.subscribe(TOPIC, qos=1)
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                async for message in client.messages:
                    assert isinstance(message.payload, bytes)
                    return json.loads(message.payload)["online"]
    return None


def test_the_host_is_online_until_it_ends(tmp_path: Path) -> None:
    """A newcomer reads online; somebody else's offline is answered; after the end it reads offline."""

    async def story() -> None:
        async with broker(tmp_path) as (_, settings):
            host = asyncio.create_task(announce(settings.mqtt, SystemClock()))

            async def online() -> bool:
                return await retained(settings.mqtt) is True

            async def offline() -> bool:
                return await retained(settings.mqtt) is False

            await eventually_async(online)
            async with aiomqtt.Client(*settings.mqtt) as rogue:
                death = json.dumps({"online": False, "timestamp": 1})
                await rogue.publish(TOPIC, death, qos=1, retain=True)
            await eventually_async(online)
            host.cancel()
            with suppress(asyncio.CancelledError):
                await host
            await eventually_async(offline)

    asyncio.run(story())
