"""The primary host's STATE: retained online while it runs, offline afterwards, never left offline by an old death."""

import asyncio
import json
import os
import signal
from contextlib import suppress
from pathlib import Path

import aiomqtt
import pytest
from structlog.testing import capture_logs

from tests.cloud.rig import broker
from tests.edge.send_rig import ForgetfulLink
from tests.support.ports import free_port
from tests.support.wait import PATIENCE_S, eventually_async
from tocsin_cloud.adapters import host_state
from tocsin_cloud.adapters.host_password import VARIABLE, given_or_kept
from tocsin_cloud.adapters.host_state import announce, says_offline
from tocsin_cloud.adapters.permissions import HOST
from tocsin_cloud.settings import Address
from tocsin_core.clock import SystemClock
from tocsin_core.sparkplug import HostState
from tocsin_core.sparkplug.payload import NS_PER_MS
from tocsin_core.sparkplug.state import parse_state
from tocsin_edge.loops.primary import PrimaryHost

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


async def online_at(mqtt: Address) -> bool:
    """Whether a newcomer is told that the host is there."""
    return await retained(mqtt) is True


async def offline_at(mqtt: Address) -> bool:
    """Whether a newcomer is told that the host is not there."""
    return await retained(mqtt) is False


def test_an_offline_that_passed_it_is_found_and_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The word of who ended, told to all but one that came just then, does not stand."""
    monkeypatch.setattr(host_state, "ASK_AGAIN_S", 0.5)

    async def story() -> None:
        async with broker(tmp_path) as (_, settings):
            password, link = given_or_kept(tmp_path), ForgetfulLink(settings.mqtt.port, bytes_per_s=10**9)
            link.word = b'"online": false'
            async with link.open():
                mqtt = Address("127.0.0.1", link.port)
                host = asyncio.create_task(announce([mqtt], SystemClock(), password=password))
                await eventually_async(lambda: online_at(settings.mqtt))
                async with aiomqtt.Client(*settings.mqtt, username=HOST, password=password) as another:
                    farewell = json.dumps({"online": False, "timestamp": SystemClock().now_ns() // NS_PER_MS})
                    # What is lost of another quality is sent again.
                    await another.publish(TOPIC, farewell, qos=0, retain=True)
                await eventually_async(lambda: link.lost)
                await eventually_async(lambda: online_at(settings.mqtt))
                host.cancel()
                with suppress(asyncio.CancelledError):
                    await host

    asyncio.run(story())


def test_the_host_is_online_until_it_ends(tmp_path: Path) -> None:
    """A newcomer reads online; another process's offline is answered, a stranger's not even heard; then offline."""

    async def story() -> None:
        async with broker(tmp_path) as (_, settings):
            password = given_or_kept(tmp_path)
            host = asyncio.create_task(announce([settings.mqtt], SystemClock(), password=password))

            await eventually_async(lambda: online_at(settings.mqtt))
            death = json.dumps({"online": False, "timestamp": 1})
            async with (
                aiomqtt.Client(*settings.mqtt) as rogue,
                aiomqtt.Client(*settings.mqtt, username=HOST, password=password) as another,
            ):
                await rogue.subscribe(TOPIC, qos=1)
                await rogue.publish(TOPIC, death, qos=1, retain=True)
                await another.publish(TOPIC, death, qos=1, retain=True)
                async with asyncio.timeout(PATIENCE_S):
                    said = [says_offline((await anext(rogue.messages)).payload) for _ in range(3)]
            # What was retained, the death that the other process told, and the host's answer to that.
            assert said == [False, True, False]
            # A newcomer of the very moment of the answer would be told nothing.
            await eventually_async(lambda: online_at(settings.mqtt))
            host.cancel()
            with suppress(asyncio.CancelledError):
                await host
            await eventually_async(lambda: offline_at(settings.mqtt))

    asyncio.run(story())


class Ahead(SystemClock):
    """A clock that is ahead until it is set right."""

    ahead_ns = 3600 * 10**9

    def now_ns(self) -> int:
        """Wall clock, ns."""
        return super().now_ns() + self.ahead_ns


def test_a_host_whose_clock_was_ahead_is_heard_when_it_comes_back(tmp_path: Path) -> None:
    """A gateway that has come anew meanwhile heeds no word that is older than the last: its alarms would not go up."""

    async def word(mqtt: Address) -> HostState:
        async with aiomqtt.Client(*mqtt) as client:
            await client.subscribe(TOPIC, qos=1)
            async with asyncio.timeout(PATIENCE_S):
                payload = (await anext(client.messages)).payload
        assert isinstance(payload, bytes)
        return parse_state(payload)

    async def story() -> None:
        primary, clock = PrimaryHost(required=True), Ahead()
        async with broker(tmp_path) as (_, settings):
            password = given_or_kept(tmp_path)

            async def is_there() -> bool:
                primary.connected("broker")
                primary.hear(await word(settings.mqtt))
                return not primary.is_missing()

            for ahead_ns in (clock.ahead_ns, 0):
                clock.ahead_ns = ahead_ns
                host = asyncio.create_task(announce([settings.mqtt], clock, password=password))
                await eventually_async(is_there)
                clock.ahead_ns = 0
                host.cancel()
                with suppress(asyncio.CancelledError):
                    await host
                await eventually_async(lambda: offline_at(settings.mqtt))

    asyncio.run(story())


def test_a_broker_that_takes_no_farewell_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever ends while the broker stands still ends all the same, and does not come back."""
    monkeypatch.setattr(host_state, "FAREWELL_S", 0.2)

    async def story() -> None:
        async with broker(tmp_path) as (server, settings):
            password = given_or_kept(tmp_path)
            host = asyncio.create_task(announce([settings.mqtt], SystemClock(), password=password))
            await eventually_async(lambda: online_at(settings.mqtt))
            assert server.pid is not None
            os.kill(server.pid, signal.SIGSTOP)
            try:
                host.cancel()
                await asyncio.wait([host], timeout=30)
                assert host.cancelled()
            finally:
                os.kill(server.pid, signal.SIGCONT)
                host.cancel()
                await asyncio.wait([host])

    asyncio.run(story())


def test_a_host_that_ends_while_its_birth_is_unanswered_takes_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker may have it by then, and there is no will after an orderly end."""
    publish = aiomqtt.Client.publish

    async def story() -> None:
        async with broker(tmp_path) as (_, settings):

            async def published(client: aiomqtt.Client, topic: str, payload: bytes, *, qos: int, retain: bool) -> None:
                await publish(client, topic, payload, qos=qos, retain=retain)
                monkeypatch.undo()
                host.cancel()
                await asyncio.sleep(0)

            monkeypatch.setattr(aiomqtt.Client, "publish", published)
            password = given_or_kept(tmp_path)
            host = asyncio.create_task(announce([settings.mqtt], SystemClock(), password=password))
            await asyncio.wait([host])
            assert host.cancelled()
            await eventually_async(lambda: offline_at(settings.mqtt))

    asyncio.run(story())


def test_the_next_server_is_told_where_one_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that nobody listens at is passed over; when the server that was told ends, the next one of the list is."""
    monkeypatch.setenv(VARIABLE, "letters")

    async def story() -> None:
        nobody = Address("127.0.0.1", free_port())
        async with broker(tmp_path / "second") as (_, second):
            async with broker(tmp_path / "first") as (_, first):
                servers = [nobody, first.mqtt, second.mqtt]
                host = asyncio.create_task(announce(servers, SystemClock(), password="letters"))
                await eventually_async(lambda: online_at(first.mqtt))
            await eventually_async(lambda: online_at(second.mqtt))
            host.cancel()
            with suppress(asyncio.CancelledError):
                await host
            assert await retained(second.mqtt) is False

    asyncio.run(story())
