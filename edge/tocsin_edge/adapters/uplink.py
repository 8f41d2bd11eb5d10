"""The MQTT connection to the cloud side: the will, publishing, and the commands that come back."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Final, Self

import aiomqtt
import structlog

from tocsin_core.plant.model import Broker
from tocsin_core.sparkplug import Command, HostState, Message, PayloadError, parse_command, parse_state
from tocsin_core.sparkplug.topics import state_topic
from tocsin_edge.adapters.suback import refused
from tocsin_edge.adapters.uplink_client import UplinkClient
from tocsin_edge.adapters.uplink_settings import UplinkSettings

KEEPALIVE_S: Final = 10
# A broker that is there answers a connect within a second even over a mobile network; a link that swallows it is
# tried anew the sooner.
CONNECT_TIMEOUT_S: Final = 2.0
TIMEOUT_S: Final = 5.0
# A server of a cluster that elects a leader answers when it has one, within 10 s. Who leaves it earlier is soon at
# another one, and what it had not read yet comes into the stream behind what is said there.
PATIENT_S: Final = 12.0
ABANDON_S: Final = 0.1
MOST_IN_A_ROW: Final = 4
# Half a second of a 64 kbit/s link.
MOST_UNSENT_BYTES: Final = 4096
# Half of such a link. As the kernel takes no more ahead, a large message is out when the link has carried it. That a
# link is dead shows by the ping, too.
LEAST_BYTES_PER_S: Final = 4000
# The name under which the cloud side tells whether it is there: the only host that acknowledges.
OUR_HOST: Final = "tocsin"
PLAIN: Final = UplinkSettings()

UplinkError = aiomqtt.MqttError

log = structlog.get_logger()

# What the library logs by itself it also raises.
_quiet = logging.getLogger("tocsin_edge.uplink")
_quiet.setLevel(logging.CRITICAL + 1)


class NotReachedError(UplinkError):
    """Nobody took the TCP connection, so that no CONNECT was sent and no broker holds its will."""


async def _abandon(client: aiomqtt.Client) -> None:
    """Close the socket of a CONNECT that was not answered: the library leaves it open, and would take a late answer."""
    client.timeout = ABANDON_S
    # It then waits for a disconnection of which it does not hear; what it says of that is not news.
    with suppress(UplinkError):
        await client.__aexit__(None, None, None)


class OurHost:
    """That the broker has a STATE of our cloud side, online or not: a host that acknowledges what it has stored."""


class Uplink:
    """One connection that stands; made by `connect`. `refused`: the topics that the broker does not let it hear."""

    def __init__(self, client: aiomqtt.Client, command_topic: str, state_of: str, *, encrypted: bool) -> None:
        """Use `connect`."""
        self._client = client
        self._in_a_row = 0
        self._command_topic = command_topic
        self._state_topic = state_topic(state_of)
        self._states = tuple(dict.fromkeys((self._state_topic, state_topic(OUR_HOST))))
        self.refused = (command_topic, *self._states)
        self.encrypted = encrypted

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        broker: Broker,
        gateway: tuple[str, str],
        will: Message,
        command_topic: str,
        settings: UplinkSettings = PLAIN,
    ) -> AsyncIterator[Self]:
        """Connect a `gateway` (site, id) with `will` (QoS 1) and subscribe to its commands and to hosts' STATE.

        A clean disconnect at the end.

        Raises:
            NotReachedError: there is no connection, so that the will was not given to anybody.
            UplinkError: the broker refuses or does not answer; also later, from any method, when it is gone.
        """
        try:
            encryption = None if settings.tls is None else settings.tls.context()
            identifier = settings.client_id(*gateway)
        except OSError as error:
            raise NotReachedError(f"a certificate or key cannot be used: {error}") from error
        client = UplinkClient(
            broker.host,
            broker.port,
            username=broker.username,
            password=broker.password,
            identifier=identifier,
            logger=_quiet,
            clean_session=True,
            will=aiomqtt.Will(will.topic, will.payload, qos=1),
            timeout=CONNECT_TIMEOUT_S,
            keepalive=KEEPALIVE_S,
            tls_context=encryption,
            socket_options=[
                # A live batch must not wait for the TCP acknowledgement of the one before,
                (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
                # nor for megabytes of history that the kernel took and that a link which became narrow does not carry.
                (socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, MOST_UNSENT_BYTES),
            ],
        )
        state_of = settings.primary_host or OUR_HOST
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(client)
            except UnicodeError as error:
                raise NotReachedError(f"no host name: {broker.host}") from error
            except UplinkError as error:
                # The library tells a connection that the network refused from any other failure by this alone.
                if isinstance(error.__context__, OSError) and error.__context__.errno is not None:
                    raise NotReachedError(str(error)) from error
                await _abandon(client)
                raise
            client.timeout = TIMEOUT_S
            uplink = cls(client, command_topic, state_of, encrypted=encryption is not None)
            await uplink.ask()
            yield uplink

    async def ask(self) -> None:
        """Subscribe to what is `refused`, which is all at first; what the broker refuses now stays so."""
        granted = await self._client.subscribe([(topic, 1) for topic in self.refused])
        self.refused = refused(self.refused, granted)

    async def ask_states(self) -> None:
        """Let the broker tell anew what it keeps of hosts' STATE.

        To who subscribes just as one is published nats-server tells neither that nor what it keeps.
        """
        await self._client.subscribe([(topic, 1) for topic in self._states])

    async def publish(self, message: Message) -> None:
        """Publish with QoS 0, as Sparkplug asks of births and data; a second QoS beside it would break their order."""
        patience_s = max(self._client.timeout, len(message.payload) / LEAST_BYTES_PER_S)
        await self._client.publish(message.topic, message.payload, qos=0, timeout=patience_s)
        self._in_a_row = (self._in_a_row + 1) % MOST_IN_A_ROW
        if not self._in_a_row:
            # Where the network takes everything at once others must have their turn all the same.
            await asyncio.sleep(0)

    async def broker_has_all(self) -> None:
        """Return when the broker has taken everything published before: it answers in order, and so to this too."""
        await self._client.unsubscribe(f"{self._command_topic}/none", timeout=PATIENT_S)

    async def keeps(self) -> bool:
        """Whether the broker still does what takes more than itself: of a cluster, a server that is not cut off.

        It is asked to forget our host's STATE and to tell it anew, which a cluster has to write down. What it answers
        to a ping, or to `broker_has_all`, it knows by itself.
        """
        topic = state_topic(OUR_HOST)
        try:
            await self._client.unsubscribe(topic)
            granted = await self._client.subscribe(topic, qos=1)
        except UplinkError:
            # It answers no farewell either.
            self._client.timeout = ABANDON_S
            return False
        # What it never let the gateway hear tells nothing of what it can keep.
        return topic in self.refused or not refused((topic,), granted)

    async def heard(self) -> AsyncIterator[Command | HostState | OurHost]:
        """Yield what hosts ask of this gateway, how the primary host is and that ours is, until the connection ends.

        A payload that is neither is logged.
        """
        ours = state_topic(OUR_HOST)
        async for message in self._client.messages:
            topic = str(message.topic)
            if topic == ours:
                yield OurHost()
                if topic != self._state_topic:
                    continue
            parse = parse_state if topic == self._state_topic else parse_command
            try:
                yield parse(message.payload)
            except PayloadError as error:
                log.warning("not understood", topic=topic, reason=str(error), bytes=len(message.payload))
