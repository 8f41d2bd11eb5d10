"""An uplink that is away and comes back: how soon it is taken, and which bdSeq it costs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiomqtt
import pytest

from tests.edge.rig import Gateway, Host, Link, Slave, modbus_device, plant
from tests.edge.send_rig import SlowLink
from tests.support.nats import nats_broker
from tests.support.ports import free_port
from tests.support.wait import PATIENCE_S, eventually_async
from tocsin_core.clock import SystemClock
from tocsin_core.plant.model import Broker, SensorBroker
from tocsin_core.sparkplug import Message
from tocsin_edge.adapters import uplink as uplinks
from tocsin_edge.adapters.sensors import connected
from tocsin_edge.adapters.uplink import NotReachedError, Uplink, UplinkError

CLOCK = SystemClock()


@asynccontextmanager
async def mute(port: int = 0) -> AsyncIterator[int]:
    """Take CONNECTs and never answer; at the end every connection has been closed by its client within 2 s."""
    talks: list[asyncio.Task[None] | None] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.append(asyncio.current_task())
        with suppress(ConnectionError):
            await reader.read()
            writer.close()
            await writer.wait_closed()

    async with await asyncio.start_server(listen, "127.0.0.1", port) as server:
        yield server.sockets[0].getsockname()[1]
        server.close()
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*filter(None, talks))


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take an uplink's CONNECT with the will `leaves`, and its subscription."""
    # The will: its topic, and how long nothing is.
    await reader.readuntil(b"leaves\x00\x00")
    writer.write(b"\x20\x02\x00\x00")
    subscribe = await reader.readuntil(b"STATE/tocsin\x01")
    # MQTT 3.1.1, 3.8 and 3.9: a subscription's number is behind its two bytes of header.
    writer.write(b"\x90\x04" + subscribe[2:4] + b"\x01\x01")


async def connect(port: int) -> None:
    """Connect an uplink to `port` of this machine and leave it."""
    async with Uplink.connect(Broker(port=port), ("site", "gw"), Message("will", b""), "command"):
        pass


def test_a_broker_that_does_not_answer_is_given_up_within_two_seconds() -> None:
    """A link that swallows the CONNECT is no connection, not one that was never made, and is closed."""

    async def story() -> None:
        async with mute() as port:
            begun = CLOCK.monotonic()
            with pytest.raises(UplinkError) as caught:
                await connect(port)
            # Two seconds, and what a busy machine adds; the client's own patience would be ten.
            assert CLOCK.monotonic() - begun < 7
            assert not isinstance(caught.value, NotReachedError)
        with pytest.raises(NotReachedError):
            await connect(free_port())

    asyncio.run(story())


def test_a_host_that_is_no_name_is_a_broker_that_is_not_reached() -> None:
    """A slip of the hand in an address ends no gateway: its instruments are read, its sirens sound."""

    async def story() -> None:
        with pytest.raises(NotReachedError, match="no host name"):
            async with Uplink.connect(Broker(host="10.0.0..5"), ("site", "gw"), Message("will", b""), "command"):
                pass
        with pytest.raises(aiomqtt.MqttError, match="no host name"):
            async with connected(SensorBroker(host="10.0.0..5"), ["a"], lambda: None):
                pass

    asyncio.run(story())


def test_a_number_is_used_by_a_connect_and_by_nothing_else(tmp_path: Path) -> None:
    """While nobody listens bdSeq stands still; CONNECTs without an answer count, for a broker may hold their wills."""

    async def story() -> None:
        port = free_port()
        async with Slave({1: 1.5}).serve() as slave:
            plant(tmp_path / "plant", port, {"A": modbus_device("A", slave.port)})
            gateway.start()
            await eventually_async(lambda: gateway.log.read_text(encoding="utf-8").count("uplink lost") >= 4)
            assert gateway.counters()["bd_seq"] == 0
            async with mute(port):
                await eventually_async(lambda: gateway.counters()["bd_seq"] == 1)
                gateway.stop()

    gateway = Gateway(tmp_path / "plant", tmp_path / "data")
    try:
        asyncio.run(story())
    finally:
        gateway.stop()


def test_a_link_that_is_back_is_taken_within_seconds(tmp_path: Path) -> None:
    """After a cut of ten seconds, whose connects are taken and dropped, the gateway is back within seconds."""

    async def story() -> None:
        with nats_broker(tmp_path) as broker:
            async with (
                Slave({1: 1.5}).serve() as slave,
                Link(broker.mqtt).open() as link,
                Host(broker.mqtt).listen() as host,
            ):
                plant(tmp_path / "plant", link.port, {"A": modbus_device("A", slave.port)})
                gateway.start()
                await eventually_async(lambda: len(host.of("A")) > 2)
                await link.cut()
                cut = CLOCK.monotonic()
                await eventually_async(lambda: CLOCK.monotonic() - cut > 10, timeout_s=12)
                births = host.kinds().count("NBIRTH")
                link.whole = True
                await eventually_async(lambda: host.kinds().count("NBIRTH") > births, timeout_s=20)
                gateway.stop()

    gateway = Gateway(tmp_path / "plant", tmp_path / "data")
    try:
        asyncio.run(story())
    finally:
        gateway.stop()


def test_a_message_that_the_network_does_not_take_at_once_arrives_whole() -> None:
    """What fits into the socket is written where it is published; the rest when there is room."""
    payload = bytes(range(256)) * 65_536
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    reads, over = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet(reader, writer)
        await reads.wait()
        await reader.readuntil(b"data")
        await heard.put(await reader.readexactly(len(payload)))
        await reader.read()
        writer.close()
        await writer.wait_closed()
        over.set()

    async def story() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", 0, limit=2 * len(payload)) as server:
            port = server.sockets[0].getsockname()[1]
            async with Uplink.connect(Broker(port=port), ("site", "gw"), Message("leaves", b""), "command") as uplink:
                publishing = asyncio.create_task(uplink.publish(Message("data", payload)))
                await asyncio.sleep(0)
                reads.set()
                await publishing
                assert await heard.get() == payload
            await over.wait()

    asyncio.run(story())


@pytest.mark.parametrize(("bytes_per_s", "size"), [(8_000, 96_000), (2_500, 25_000)])
def test_a_large_message_has_the_time_that_a_narrow_link_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bytes_per_s: int, size: int
) -> None:
    """Longer than a broker has for an answer, and than a ping has that waits behind it: 12 s for a birth at 64 kbit/s.

    Or 10 s for less at 20 kbit/s. The connection outlives it, and what is asked behind it is answered.
    """
    monkeypatch.setattr(uplinks, "KEEPALIVE_S", 4)
    monkeypatch.setattr(uplinks, "PATIENT_S", 4)
    payload = bytes(size)

    async def story(port: int) -> None:
        async with SlowLink(port, bytes_per_s).open() as link, aiomqtt.Client("127.0.0.1", port) as there:
            await there.subscribe("data/#")
            broker, gateway = Broker(port=link.port), ("site", "gw")
            async with asyncio.timeout(60), Uplink.connect(broker, gateway, Message("will", b""), "command") as uplink:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(uplink.publish(Message("data/large", payload)))
                    tasks.create_task(uplink.broker_has_all())
                await uplink.publish(Message("data/small", b"1"))
                heard = [await anext(aiter(there.messages)) for _ in range(2)]
            assert [each.payload for each in heard] == [payload, b"1"]

    with nats_broker(tmp_path) as running:
        asyncio.run(story(running.mqtt))


@pytest.mark.parametrize("bytes_per_s", [8_000, 1_000_000])
def test_a_link_that_is_dead_is_found_by_the_ping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bytes_per_s: int
) -> None:
    """Within twice its time, behind a large message or none; what the other end's kernel took before is no sign."""
    monkeypatch.setattr(uplinks, "KEEPALIVE_S", 2)

    async def story(port: int) -> None:
        async with SlowLink(port, bytes_per_s).open() as link:
            broker, gateway = Broker(port=link.port), ("site", "gw")
            async with asyncio.timeout(60), Uplink.connect(broker, gateway, Message("will", b""), "command") as uplink:
                begun = CLOCK.monotonic()
                publishing = asyncio.create_task(uplink.publish(Message("data", bytes(300_000))))
                await eventually_async(lambda: CLOCK.monotonic() - begun > 5)
                assert publishing.done() == (bytes_per_s > 8_000)
                link.bytes_per_s, dead = 1, CLOCK.monotonic()
                with pytest.raises(UplinkError):
                    await anext(uplink.heard())
                # Twice two seconds, two looks of one, and what a busy machine adds; the message has 75 s.
                assert CLOCK.monotonic() - dead < 15
                publishing.cancel()

    with nats_broker(tmp_path) as running:
        asyncio.run(story(running.mqtt))


def test_a_broker_that_stands_still_is_found_by_the_ping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its kernel takes whatever comes behind the ping, for as long as it has room."""
    monkeypatch.setattr(uplinks, "KEEPALIVE_S", 2)
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet(reader, writer)
        with suppress(ConnectionError):
            while await reader.read(4096):
                pass
        writer.close()
        over.set()

    async def chatter(uplink: Uplink) -> None:
        with suppress(UplinkError):
            while True:
                await uplink.publish(Message("data", bytes(100)))
                await asyncio.sleep(0.1)

    async def story() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            broker, gateway = Broker(port=server.sockets[0].getsockname()[1]), ("site", "gw")
            async with (
                asyncio.timeout(60),
                Uplink.connect(broker, gateway, Message("leaves", b""), "command") as uplink,
            ):
                chattering, begun = asyncio.create_task(chatter(uplink)), CLOCK.monotonic()
                with pytest.raises(UplinkError):
                    await anext(uplink.heard())
                assert CLOCK.monotonic() - begun < 15
                await chattering
            await over.wait()

    asyncio.run(story())
