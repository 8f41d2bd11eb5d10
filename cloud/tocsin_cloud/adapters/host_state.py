"""Tells edge nodes whether the primary host is there: the retained STATE message and its will (Sparkplug 3.0, 5.14)."""

import asyncio
import json
import secrets
from ssl import SSLContext
from typing import Final

import aiomqtt
import structlog

from tocsin_cloud.adapters.host_password import VARIABLE
from tocsin_cloud.adapters.permissions import HOST as HOST_USER
from tocsin_cloud.settings import Address
from tocsin_core.clock import Clock
from tocsin_core.foreign import parsed
from tocsin_core.sparkplug.topics import state_topic

log = structlog.get_logger()

HOST: Final = "tocsin"
RETRY_FIRST_S: Final = 0.5
RETRY_MOST_S: Final = 10.0
KEEP_ALIVE_S: Final = 10
HEARD_S: Final = 10.0


def _payload(*, online: bool, now_ns: int) -> bytes:
    return json.dumps({"online": online, "timestamp": now_ns // 1_000_000}).encode()


async def announce(mqtt: Address, clock: Clock, tls: SSLContext | None = None, password: str | None = None) -> None:
    """Be online until cancelled, then say that we are not; comes back whenever the connection is lost.

    A broker that knows us by no certificate wants the `password`.

    Several processes may be the host together: where one says that it ends, or its will does, the others answer that
    the host is there.
    """
    topic = state_topic(HOST)
    # A name that nobody can guess: whoever connects under it ends this connection, and our will says that we died.
    identifier = f"{HOST}-host-{secrets.token_hex(8)}"
    pause = RETRY_FIRST_S
    while True:
        now_ns = clock.now_ns()
        # The will carries the birth's time stamp (tck-id-host-topic-phid-death-payload-timestamp-connect).
        will = aiomqtt.Will(topic, _payload(online=False, now_ns=now_ns), qos=1, retain=True)
        try:
            async with aiomqtt.Client(
                *mqtt, identifier=identifier, will=will, keepalive=KEEP_ALIVE_S, tls_context=tls,
                username=None if password is None else HOST_USER, password=password,
            ) as client:  # fmt: skip
                # An old death, or our own will delivered late, must not stand: whoever says offline is answered.
                await client.subscribe(topic, qos=1)
                await client.publish(topic, _payload(online=True, now_ns=now_ns), qos=1, retain=True)
                pause = RETRY_FIRST_S
                # A broker acknowledges what it refuses too, but what it took it also tells us.
                unheard = asyncio.get_running_loop().call_later(HEARD_S, _say_refused, mqtt)
                try:
                    async for message in client.messages:
                        if not message.retain:
                            unheard.cancel()
                        if says_offline(message.payload):
                            await client.publish(
                                topic, _payload(online=True, now_ns=clock.now_ns()), qos=1, retain=True
                            )
                except asyncio.CancelledError:
                    await client.publish(topic, _payload(online=False, now_ns=clock.now_ns()), qos=1, retain=True)
                    raise
                finally:
                    unheard.cancel()
        except aiomqtt.MqttError as error:
            log.warning("host state not announced", broker=str(mqtt), reason=str(error), again_in_s=pause)
        await asyncio.sleep(pause)
        pause = min(2 * pause, RETRY_MOST_S)


def _say_refused(mqtt: Address) -> None:
    log.error("the broker takes no host state from us: it has another password", broker=str(mqtt), cure=VARIABLE)


def says_offline(payload: object) -> bool:
    """Whether a STATE message, or what stands for one, says anything else than that the host is online."""
    if not isinstance(payload, bytes):
        return False
    try:
        told = parsed(payload)
    except ValueError:
        return True
    return not (isinstance(told, dict) and told.get("online") is True)
