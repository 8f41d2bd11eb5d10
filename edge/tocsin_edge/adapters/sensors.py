"""The gateway's connection to the broker on which its MQTT sensors publish."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aiomqtt

from tocsin_core.plant.model import SensorBroker
from tocsin_edge.adapters.suback import refused

CONNECT_TIMEOUT_S: Final = 2.0
KEEPALIVE_S: Final = 15
# Messages that wait to be read while the gateway has no time; beyond it the oldest are lost, and counted.
MOST_WAITING: Final = 5000


@dataclass(frozen=True, slots=True)
class Arrival:
    """One message of a sensor; `retained` ones are old, nobody knows how old."""

    topic: str
    payload: bytes
    retained: bool


class SensorLink:
    """A connection to the broker; `refused` are the filters that it does not let the gateway hear."""

    def __init__(self, client: aiomqtt.Client, filters: Sequence[str]) -> None:
        """Take over a connected client, which hears none of `filters` yet."""
        self._client = client
        self.refused = tuple(filters)

    async def ask(self) -> None:
        """Subscribe to what is `refused`, which is all at first; what the broker refuses now stays so.

        Raises:
            aiomqtt.MqttError: it does not answer, or the connection ended.
        """
        self.refused = tuple(
            [each for each in self.refused if refused((each,), await self._client.subscribe(each, qos=1))]
        )

    async def arrivals(self) -> AsyncIterator[Arrival]:
        """Yield the messages until the connection ends.

        Raises:
            aiomqtt.MqttError: it ended.
        """
        async for message in self._client.messages:
            yield Arrival(str(message.topic), message.payload, retained=message.retain)

    async def tell(self, topic: str, payload: bytes) -> None:
        """Publish once, as Sparkplug's commands are: QoS 0, not retained.

        Raises:
            aiomqtt.MqttError: the connection ended.
        """
        await self._client.publish(topic, payload)


def _newest(lost: Callable[[], None]) -> type[asyncio.Queue[aiomqtt.Message]]:
    class Newest(asyncio.Queue[aiomqtt.Message]):
        """Gives up its oldest item where another comes and it is full."""

        def put_nowait(self, item: aiomqtt.Message) -> None:
            if self.full():
                self.get_nowait()
                lost()
            super().put_nowait(item)

    return Newest


@asynccontextmanager
async def connected(
    broker: SensorBroker, filters: Sequence[str], lost: Callable[[], None]
) -> AsyncIterator[SensorLink]:
    """Connect and subscribe to `filters`; `lost` is called for each message that is given up unread.

    The session is a new one each time: what a broker had kept meanwhile would come with a wrong time of arrival.

    Raises:
        aiomqtt.MqttError: the broker cannot be reached, or is gone.
    """
    client = aiomqtt.Client(
        broker.host,
        broker.port,
        username=broker.username,
        password=broker.password,
        timeout=CONNECT_TIMEOUT_S,
        keepalive=KEEPALIVE_S,
        queue_type=_newest(lost),
        max_queued_incoming_messages=MOST_WAITING,
    )
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(client)
        except UnicodeError as error:
            raise aiomqtt.MqttError(f"no host name: {broker.host}") from error
        link = SensorLink(client, filters)
        await link.ask()
        yield link
