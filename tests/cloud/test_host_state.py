"""The primary host's STATE: retained online while it runs, offline afterwards, never left offline by an old death."""

import asyncio
import json
from contextlib import suppress
from pathlib import Path

import aiomqtt
import pytest
from structlog.testing import capture_logs

from tests.cloud.rig import broker
from tests.support.wait import eventually_async
from tocsin_cloud.adapters import host_state
from tocsin_cloud.adapters.host_password import VARIABLE, given_or_kept
from tocsin_cloud.adapters.host_state import announce, says_offline
from tocsin_cloud.adapters.permissions import HOST
from tocsin_cloud.settings import Address
from tocsin_core.clock import SystemClock

TOPIC = "spBv1.0/STATE/tocsin"


def test_a_host_without_the_password_says_that_it_is_not_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker acknowledges what it refuses: only that nothing comes back tells the host."""
    monkeypatch.setattr(host_state, "HEARD_S", 0.2)

    async def story() -> None:
        async with broker(tmp_path) as (_, settings):
            with capture_logs() as logs:
                host = asyncio.create_task(announce([settings.mqtt], SystemClock()))
                await eventually_async(lambda: [line["cure"] for line in logs if "cure" in line] == [VARIABLE])
                host.cancel()
                with suppress(asyncio.CancelledError):
                    await host

    asyncio.run(story())


async def retained(mqtt: Address) -> object:
    """What a newcomer is told about the host; None if nothing."""
    async with aiomqtt.Client(*mqtt) as client:
        await client.subscribe(TOPIC, qos=1)
        with suppress(TimeoutError):
            async with asyncio.timeout(10):
                async for message in client.messages:
                    assert isinstance(message.payload, bytes)
                    return json.loads(message.payload)["online"]
    return None


def test_the_host_is_online_until_it_ends(tmp_path: Path) -> None:
    """A newcomer reads online; another process's offline is answered, a stranger's not even heard; then offline."""

    async def story() -> None:
        async with broker(tmp_path) as (_, settings):
            password = given_or_kept(tmp_path)
            host = asyncio.create_task(announce([settings.mqtt], SystemClock(), password=password))

            async def online() -> bool:
                return await retained(settings.mqtt) is True

            async def offline() -> bool:
                return await retained(settings.mqtt) is False

            await eventually_async(online)
            death = json.dumps({"online": False, "timestamp": 1})
            async with (
                aiomqtt.Client(*settings.mqtt) as rogue,
                aiomqtt.Client(*settings.mqtt, username=HOST, password=password) as another,
            ):
                await rogue.subscribe(TOPIC, qos=1)
                await rogue.publish(TOPIC, death, qos=1, retain=True)
                await another.publish(TOPIC, death, qos=1, retain=True)
                async with asyncio.timeout(10):
                    said = [says_offline((await anext(rogue.messages)).payload) for _ in range(3)]
            # What was retained, the death that the other process told, and the host's answer to that.
            assert said == [False, True, False]
            assert await online()
            host.cancel()
            with suppress(asyncio.CancelledError):
                await host
            await eventually_async(offline)

    asyncio.run(story())
