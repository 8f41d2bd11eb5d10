"""The MQTT connection to the cloud side: the will, publishing, and the commands that come back."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Self

import aiomqtt
import structlog

from tocsin_core.plant.model import Broker
from tocsin_core.sparkplug import Command, Message, PayloadError, parse_command
from tocsin_core.sparkplug.topics import state_topic

KEEPALIVE_S: Final = 10
TIMEOUT_S: Final = 5.0
PRIMARY_HOST: Final = "tocsin"

UplinkError = aiomqtt.MqttError

log = structlog.get_logger()


class Uplink:
    """One connection that stands; made by `connect`."""

    def __init__(self, client: aiomqtt.Client, command_topic: str) -> None:
        """Use `connect`."""
        self._client = client
        self._command_topic = command_topic

    @classmethod
    @asynccontextmanager
    async def connect(cls, broker: Broker, identifier: str, will: Message, command_topic: str) -> AsyncIterator[Self]:
        """Connect with `will` (QoS 1) and subscribe to the commands; a clean disconnect at the end.

        Raises:
            UplinkError: the broker cannot be reached or refuses; also later, from any method, when it is gone.
        """
        client = aiomqtt.Client(
            broker.host,
            broker.port,
            username=broker.username,
            password=broker.password,
            identifier=identifier,
            clean_session=True,
            will=aiomqtt.Will(will.topic, will.payload, qos=1),
            timeout=TIMEOUT_S,
            keepalive=KEEPALIVE_S,
            # A live batch must not wait for the TCP acknowledgement of the one before.
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        )
        async with client:
            await client.subscribe([(command_topic, 1), (state_topic(PRIMARY_HOST), 1)])
            yield cls(client, command_topic)

    async def publish(self, message: Message) -> None:
        """Publish with QoS 0, as Sparkplug asks of births and data; a second QoS beside it would break their order."""
        await self._client.publish(message.topic, message.payload, qos=0)

    async def broker_has_all(self) -> None:
        """Return when the broker has taken everything published before: it answers in order, and so to this too."""
        await self._client.unsubscribe(f"{self._command_topic}/none")

    async def commands(self) -> AsyncIterator[Command]:
        """Yield what hosts ask of this gateway until the connection ends; a payload that is none is logged."""
        async for message in self._client.messages:
            if str(message.topic) != self._command_topic:
                # The host's acknowledgements decide what is kept; its STATE is told and not obeyed.
                log.info("primary host", state=message.payload[:200].decode(errors="replace"))
                continue
            try:
                yield parse_command(message.payload)
            except PayloadError as error:
                log.warning("command not understood", reason=str(error), bytes=len(message.payload))
