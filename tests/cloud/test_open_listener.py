"""The MQTT listener without certificates, on the real nats-server: anybody sends data, nobody gives orders."""

import asyncio
import secrets
from pathlib import Path
from typing import Final

import aiomqtt
import nats
import pytest
from nats.aio.msg import Msg

from tests.cloud.rig import broker
from tests.support.wait import eventually_async
from tocsin_cloud.adapters.broker_log import BrokerLog
from tocsin_cloud.adapters.permissions import ANYBODY, CLOUD
from tocsin_cloud.adapters.permissions import HOST as HOST_USER
from tocsin_cloud.adapters.stream import ensure_stream, publish_command, stream_figures, to_subject
from tocsin_cloud.settings import Address, StreamSettings

# A dot is in the site's id on purpose: NATS parts its subjects with them.
SITE: Final = "s.1"
COMMANDS: Final = f"spBv1.0/{SITE}/NCMD/gw"
DATA: Final = (f"spBv1.0/{SITE}/NDATA/gw", f"spBv1.0/{SITE}/DDATA/gw/d", "sensors/hall/t-1")
FORBIDDEN: Final = (
    COMMANDS,
    f"spBv1.0/{SITE}/DCMD/gw/d",
    "spBv1.0/STATE/tocsin",
    f"tocsin/command/{SITE}",
    f"tocsin/tick/{SITE}",
    f"tocsin/computed/{SITE}",
    "tocsin/event/transition",
    "tocsin//command/x",
    "$JS/API/STREAM/PURGE/READINGS",
    "$MQTT/msgs/x",
    "$O/alarms/C/x",
    "_INBOX/x",
)


async def told(client: aiomqtt.Client, heard: list[tuple[str, bytes]]) -> None:
    """Note what a client is sent until its connection ends."""
    async for message in client.messages:
        assert isinstance(message.payload, bytes)
        heard.append((str(message.topic), message.payload))


def test_anybody_sends_data_and_nobody_commands(tmp_path: Path) -> None:
    """At no QoS, retained or not, as a message or as a last will; what is the cloud side's is not overheard either."""

    async def story() -> None:
        async with broker(tmp_path) as (_, settings):
            log = BrokerLog(tmp_path / "server.log")
            cloud = await nats.connect(f"nats://{settings.nats}")
            await ensure_stream(cloud, StreamSettings())
            subjects: list[str] = []

            async def note(message: Msg) -> None:
                subjects.append(message.subject)

            for subject in ("spBv1//0.>", "sensors.>", "tocsin.>"):
                await cloud.subscribe(subject, cb=note)
            async with aiomqtt.Client(*settings.mqtt) as anybody:
                for qos in (0, 1, 2):
                    for topic in FORBIDDEN:
                        await anybody.publish(topic, b"forged", qos=qos, retain=qos > 0)
            for topic in (COMMANDS, f"tocsin/command/{SITE}", "spBv1.0/STATE/tocsin"):
                will = aiomqtt.Will(topic, b"forged", qos=1, retain=True)
                dying = aiomqtt.Client(*settings.mqtt, will=will)
                await dying.__aenter__()
                dying._client._sock_close()  # noqa: SLF001 -- a connection that breaks says no goodbye
            async with aiomqtt.Client(*settings.mqtt) as anybody:
                for topic in DATA:
                    await anybody.publish(topic, b"x", qos=1)
            refused = 3 * len(FORBIDDEN) + 3

            async def counted() -> bool:
                nonlocal refused
                refused -= log.refused()["publish"]
                return refused == 0

            await eventually_async(counted)
            await cloud.flush()
            assert subjects == [to_subject(topic) for topic in DATA]
            await publish_command(cloud, SITE, {"id": secrets.token_hex(4)})
            assert (await stream_figures(cloud)).messages == 3
            heard: list[tuple[str, bytes]] = []
            async with aiomqtt.Client(*settings.mqtt) as gateway:
                listening = asyncio.create_task(told(gateway, heard))
                granted = await gateway.subscribe([(COMMANDS, 1), ("spBv1.0/STATE/+", 1), ("#", 1)])
                refusals = await gateway.subscribe([("tocsin/#", 0), ("_INBOX/#", 0), ("$JS/#", 0), ("$O/#", 0)])
                assert [str(code) for code in (*granted, *refusals)] == ["Granted QoS 1"] * 3 + [
                    "Unspecified error"
                ] * 4
                await publish_command(cloud, SITE, {"id": secrets.token_hex(4)})
                await cloud.publish(to_subject(COMMANDS), b"ours")
                await eventually_async(lambda: len(heard) >= 2)
                listening.cancel()
            # By both of its subscriptions, nothing that was forged and retained, and nothing of the cloud side's.
            assert heard == [(COMMANDS, b"ours")] * 2
            await cloud.close()

    asyncio.run(story())


@pytest.mark.parametrize("user", [CLOUD, HOST_USER, "somebody"])
def test_no_name_makes_anybody_more_than_that(tmp_path: Path, user: str) -> None:
    """Over MQTT nobody is the cloud side or the host by the name alone; over NATS nobody needs to be what he is not."""

    async def let_in(mqtt: Address, **more: str) -> bool:
        try:
            async with aiomqtt.Client(*mqtt, **more):  # type: ignore[arg-type]  # names of its own arguments
                return True
        except aiomqtt.MqttError:
            return False

    async def story() -> None:
        async with broker(tmp_path) as (_, settings):
            log = BrokerLog(tmp_path / "server.log")
            assert not await let_in(settings.mqtt, username=user)
            assert not await let_in(settings.mqtt, username=user, password="guessed")
            assert await let_in(settings.mqtt, username=ANYBODY, password=ANYBODY)
            await eventually_async(lambda: log.refused()["user"] > 0)

    asyncio.run(story())
