"""Tells edge nodes whether the primary host is there: the retained STATE message and its will (Sparkplug 3.0, 5.14)."""

import asyncio
import json
import secrets
from collections.abc import Sequence
from contextlib import suppress
from itertools import cycle
from ssl import SSLContext
from typing import Final

import aiomqtt
import structlog

from tocsin_cloud.adapters.host_password import VARIABLE
from tocsin_cloud.adapters.permissions import HOST as HOST_USER
from tocsin_cloud.settings import Address
from tocsin_core.clock import Clock
from tocsin_core.foreign import parsed
from tocsin_core.sparkplug import PayloadError
from tocsin_core.sparkplug.payload import NS_PER_MS
from tocsin_core.sparkplug.state import parse_state
from tocsin_core.sparkplug.topics import state_topic

log = structlog.get_logger()

HOST: Final = "tocsin"
RETRY_FIRST_S: Final = 0.5
RETRY_MOST_S: Final = 10.0
KEEP_ALIVE_S: Final = 10
HEARD_S: Final = 10.0
# In a cluster the word of who ends, at another server, may pass one that has subscribed just now.
ASK_AGAIN_S: Final = 10.0
# For so long whoever ends waits for the broker's word that it took the farewell.
FAREWELL_S: Final = 4.0


def _payload(*, online: bool, now_ns: int) -> bytes:
    return json.dumps({"online": online, "timestamp": now_ns // NS_PER_MS}).encode()


async def announce(
    servers: Sequence[Address], clock: Clock, tls: SSLContext | None = None, password: str | None = None
) -> None:
    """Be online until cancelled, then say that we are not; comes back whenever the connection is lost.

    Of several servers, which are one cluster, each is tried in turn.

    A broker that knows us by no certificate wants the `password`.

    Several processes may be the host together: where one says that it ends, or its will does, the others answer that
    the host is there.
    """
    topic = state_topic(HOST)
    # A name that nobody can guess: whoever connects under it ends this connection, and our will says that we died.
    identifier = f"{HOST}-host-{secrets.token_hex(8)}"
    pause, task = RETRY_FIRST_S, asyncio.current_task()
    for mqtt in cycle(servers):
        now_ns = clock.now_ns()
        newest_ns = born_ns = now_ns - now_ns % NS_PER_MS
        # The will carries the birth's time stamp (tck-id-host-topic-phid-death-payload-timestamp-connect).
        will = aiomqtt.Will(topic, _payload(online=False, now_ns=now_ns), qos=1, retain=True)
        try:
            async with aiomqtt.Client(
                *mqtt, identifier=identifier, will=will, keepalive=KEEP_ALIVE_S, tls_context=tls,
                username=None if password is None else HOST_USER, password=password,
            ) as client:  # fmt: skip
                # A broker acknowledges what it refuses too, but what it took it also tells us.
                unheard = asyncio.get_running_loop().call_later(HEARD_S, _say_refused, mqtt)
                asking = asyncio.create_task(_ask_again(client, topic), name="state kept")
                try:
                    # An old death, or our own will delivered late, must not stand: whoever says offline is answered.
                    await client.subscribe(topic, qos=1)
                    await client.publish(topic, _payload(online=True, now_ns=now_ns), qos=1, retain=True)
                    pause = RETRY_FIRST_S
                    async for message in client.messages:
                        if not message.retain:
                            unheard.cancel()
                        newest_ns = max(newest_ns, _said_ns(message.payload))
                        if says_offline(message.payload):
                            # The CONNECT's time (tck-id-message-flow-hid-sparkplug-state-message-delivered), but where
                            # others of us, or one that ended, said something younger: that would stand against it.
                            time_ns = now_ns if newest_ns == born_ns else max(newest_ns, clock.now_ns())
                            await client.publish(topic, _payload(online=True, now_ns=time_ns), qos=1, retain=True)
                except asyncio.CancelledError:
                    # Also where the broker's answer to the birth is still awaited: what it may have taken would stand.
                    # Where the clock was set back since, nobody would heed an earlier time, nor what the next of us
                    # says: that goes by what it finds here.
                    farewell = _payload(online=False, now_ns=max(newest_ns, clock.now_ns()))
                    await client.publish(topic, farewell, qos=1, retain=True, timeout=FAREWELL_S)
                    raise
                finally:
                    unheard.cancel()
                    asking.cancel()
        except aiomqtt.MqttError as error:
            if task is not None and task.cancelling():
                # It took no farewell, and our will tells what that would have: nobody waits for its coming back.
                log.warning("the host's end not announced", broker=str(mqtt), reason=str(error))
                raise asyncio.CancelledError from error
            log.warning("host state not announced", broker=str(mqtt), reason=str(error), again_in_s=pause)
        await asyncio.sleep(pause)
        pause = min(2 * pause, RETRY_MOST_S)


async def _ask_again(client: aiomqtt.Client, topic: str) -> None:
    """Let the broker tell again what it keeps: newcomers are told that, and it must not be offline."""
    while True:
        await asyncio.sleep(ASK_AGAIN_S)
        # That it does not answer is found by who publishes, or hears.
        with suppress(aiomqtt.MqttError):
            await client.subscribe(topic, qos=1)


def _said_ns(payload: object) -> int:
    try:
        return parse_state(payload).time_ms * NS_PER_MS if isinstance(payload, bytes) else 0
    except PayloadError:
        return 0


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
