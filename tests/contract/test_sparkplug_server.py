"""What Sparkplug asks of an MQTT server, shown of nats-server, which the cloud side starts and the gateway can host."""

import asyncio
from pathlib import Path

import aiomqtt

from tests.support.nats import nats_broker

WILL, KEPT, SAID = "spBv1.0/site/NDEATH/gw", "spBv1.0/STATE/other", "spBv1.0/site/DDATA/gw/A"
PATIENCE_S = 30


def test_nats_server_has_what_sparkplug_asks_of_a_server(tmp_path: Path) -> None:
    """QoS 0 and 1 both ways, messages that are kept, replaced and taken back, and wills, kept or not."""

    async def story(port: int) -> None:
        async with asyncio.timeout(PATIENCE_S), aiomqtt.Client("127.0.0.1", port) as hearing:
            await hearing.subscribe([("spBv1.0/site/#", 1), ("spBv1.0/STATE/#", 1)])
            arrived = aiter(hearing.messages)

            async def heard() -> tuple[str, object, int, bool]:
                message = await anext(arrived)
                return str(message.topic), message.payload, message.qos, message.retain

            async with aiomqtt.Client("127.0.0.1", port) as saying:
                for qos in (0, 1):
                    await saying.publish(SAID, b"x", qos=qos)
                    assert await heard() == (SAID, b"x", qos, False)
                for word in (b"first", b"second"):
                    await saying.publish(KEPT, word, qos=1, retain=True)
                    # Who hears it as it is said does not hear that it is kept.
                    assert await heard() == (KEPT, word, 1, False)
            assert await newcomer(port) == (b"second", True)
            for retain in (False, True):
                await broken_off(port, aiomqtt.Will(WILL, b"dead", qos=1, retain=retain))
                assert await heard() == (WILL, b"dead", 1, False)
                assert (await newcomer(port, WILL) == (b"dead", True)) is retain
            async with aiomqtt.Client("127.0.0.1", port, will=aiomqtt.Will(WILL, b"never", qos=1)) as leaving:
                await leaving.publish(KEPT, b"", qos=1, retain=True)
                assert await heard() == (KEPT, b"", 1, False)
            # What is kept is gone, and who leaves with a DISCONNECT has no will.
            assert await newcomer(port) is None
            async with aiomqtt.Client("127.0.0.1", port) as last:
                await last.publish(SAID, b"last", qos=1)
            assert await heard() == (SAID, b"last", 1, False)

    with nats_broker(tmp_path) as broker:
        asyncio.run(story(broker.mqtt))


async def newcomer(port: int, topic: str = KEPT) -> tuple[object, bool] | None:
    """What a new client hears on a topic before what it says itself."""
    async with aiomqtt.Client("127.0.0.1", port) as client:
        await client.subscribe([(topic, 1), ("end", 1)])
        await client.publish("end", b"", qos=1)
        message = await anext(aiter(client.messages))
        return None if str(message.topic) == "end" else (message.payload, message.retain)


async def broken_off(port: int, will: aiomqtt.Will) -> None:
    """Connect with a will and go without a DISCONNECT."""
    try:
        async with aiomqtt.Client("127.0.0.1", port, will=will) as client:
            client._client._sock_close()  # noqa: SLF001 - paho has no public way to break off
    except aiomqtt.MqttError:
        pass
