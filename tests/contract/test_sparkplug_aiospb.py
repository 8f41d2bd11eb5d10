"""Sparkplug with aiospb, both ways over mosquitto, because it speaks MQTT 5 alone and nats-server does not."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import aiomqtt
import pytest
from aiospb import bootstrap, hosts, messages, nodes, shared
from aiospb.infra import encoding, inmem

from tests.edge.rig import Gateway, Host, Slave, modbus_device, plant
from tests.support.nats import Broker, mosquitto_broker
from tests.support.need import need_program
from tests.support.wait import eventually_async
from tocsin_cloud.adapters.host_state import announce
from tocsin_cloud.settings import Address
from tocsin_core.clock import SystemClock
from tocsin_core.readings import BAD_NOT_CONNECTED, GOOD

MS: Final = 1_790_000_000_000


class Tank(nodes.MetricsNetwork):  # type: ignore[misc]  # it is not typed
    """The metrics of one device of an edge node of theirs, and of the node itself."""

    def __init__(self) -> None:
        """Begin with values of both signs."""
        self.values: dict[str, bool | int] = {"depth": -7, "pump": True, "uptime": 2**40}

    def get_device_keys(self) -> list[Any]:
        """Name none: what the library makes of this is no device of the node."""
        return []

    async def get_info(self, key: Any) -> list[Any]:  # noqa: ANN401 - their type
        """Describe the metrics of the device, or of the node."""
        types = shared.DataType
        of_device = [("depth", types.Int64, 1), ("pump", types.Boolean, 2)]
        wanted = of_device if key.device_name else [("uptime", types.UInt64, 3)]
        return [nodes.MetricInfo(name, datatype, shared.PropertySet(), alias) for name, datatype, alias in wanted]

    async def read(self, _key: Any, alias: int = 0, name: str = "") -> bool | int:  # noqa: ANN401 - their type
        """Read a value."""
        return self.values[name or {1: "depth", 2: "pump", 3: "uptime"}[alias]]

    async def write(self, *_: object, **__: object) -> int:
        """Write nothing: nobody asks."""
        raise NotImplementedError

    async def connect_device(self, _key: object) -> None:
        """Do nothing."""

    async def disconnect_device(self, _key: object) -> None:
        """Do nothing."""


class Raw:
    """Keeps the bytes of every Sparkplug message of the site, by kind."""

    def __init__(self, port: int) -> None:
        """Hear nothing yet."""
        self._port = port
        self._heard: list[tuple[str, bytes]] = []

    @asynccontextmanager
    async def listen(self) -> AsyncIterator["Raw"]:
        """Hear until left."""
        async with aiomqtt.Client("127.0.0.1", self._port) as client:
            await client.subscribe("spBv1.0/site/#")
            hearing = asyncio.create_task(self._hear(client))
            try:
                yield self
            finally:
                hearing.cancel()
                with suppress(asyncio.CancelledError):
                    await hearing

    async def _hear(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            self._heard.append((str(message.topic).split("/")[2], bytes(message.payload)))

    def of(self, kind: str) -> list[bytes]:
        """Give the payloads of one kind."""
        return [payload for heard, payload in self._heard if heard == kind]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """Run mosquitto."""
    with mosquitto_broker(need_program("mosquitto"), tmp_path) as running:
        yield running


@asynccontextmanager
async def our_state(port: int) -> AsyncIterator[None]:
    """Be the host `tocsin` that is online, as the cloud side says it."""
    saying = asyncio.create_task(announce([Address("127.0.0.1", port)], SystemClock()))
    try:
        yield
    finally:
        saying.cancel()
        with suppress(asyncio.CancelledError):
            await saying


def said(host: Host, metric: str) -> list[tuple[float, int]]:
    """Give what the host heard of a metric, in order: value and quality."""
    wanted = host.points.get(metric)
    frames = [fed.frame for fed in host.fed]
    return [
        (value, quality)
        for frame in frames
        for point, value, quality in zip(frame.point, frame.value.tolist(), frame.quality.tolist(), strict=True)
        if point == wanted
    ]


def test_an_edge_node_of_aiospb_reads_right_in_our_host(broker: Broker) -> None:
    """It waits for our STATE; its births, its changes and its end come out as readings of the right type and sign."""
    tank = Tank()

    async def story() -> None:
        options = shared.NodeOptions(scan_rate=100, primary="tocsin")
        config = bootstrap.MQTTConfig("127.0.0.1", broker.mqtt)
        node = bootstrap.new_edge_of_node("site/theirs", config, options, tank)
        key = shared.DeviceKey("site/theirs/tank")
        node.add_device(nodes.NodeDevice(key, tank, inmem.InMemReadingStore()))
        async with Host(broker.mqtt, node="theirs").listen() as host:
            await node.establish_session()
            async with our_state(broker.mqtt):
                await eventually_async(lambda: "DBIRTH" in host.kinds())
                tank.values |= {"depth": -8, "pump": False}
                await eventually_async(lambda: len(said(host, "pump")) > 1)
                await node.terminate_session()
                await eventually_async(lambda: "NDEATH" in host.kinds())
        assert host.kinds().index("NBIRTH") < host.kinds().index("DBIRTH")
        assert said(host, "uptime")[0] == (2**40, GOOD)
        assert [value for value, quality in said(host, "depth") if quality == GOOD] == [-7, -8]
        assert [value for value, quality in said(host, "pump") if quality == GOOD] == [1, 0]
        assert said(host, "depth")[-1][1] == said(host, "pump")[-1][1] == BAD_NOT_CONNECTED
        assert not [fault for fed in host.fed if fed.kind for fault in fed.faults]

    asyncio.run(story())


def test_our_gateway_reads_right_in_a_host_of_aiospb(broker: Broker, tmp_path: Path) -> None:
    """Its host hears our birth and death, and is obeyed when it asks for a rebirth; its codec reads all the rest."""
    heard: list[Any] = []
    gateway = Gateway(tmp_path / "plant", tmp_path / "data")

    async def hear(message: Any) -> None:  # noqa: ANN401 - their type
        heard.append(message)

    def births() -> list[Any]:
        return [message for message in heard if message.event == messages.Event.NODE_IS_BORN]

    async def story() -> None:
        host = bootstrap.new_host(
            "scada", bootstrap.MQTTConfig("127.0.0.1", broker.mqtt), shared.HostOptions(group="site", reorder_time=5.0)
        )
        host.add_observer("test", hear)
        await host.establish_session()
        try:
            async with Slave({1: 1.5}).serve() as slave, Raw(broker.mqtt).listen() as raw:
                plant(tmp_path / "plant", broker.mqtt, {"A": modbus_device("A", slave.port)})
                gateway.start()
                await eventually_async(births)
                key = shared.DeviceKey("site/gw")
                request = hosts.CommandRequest(key, [hosts.WriteRequest(True, "Node Control/Rebirth")])  # noqa: FBT003
                asked = await host.execute_command(request)
                assert [each.name for each in asked.resolutions] == ["GoodWriting"]
                await eventually_async(lambda: len(births()) > 1)
                await eventually_async(lambda: len(raw.of("DDATA")) > 3)
                await asyncio.to_thread(gateway.stop)
                await eventually_async(lambda: heard[-1].event == messages.Event.NODE_HAS_DIED)
        finally:
            gateway.stop()
            await host.terminate_session()
        names = {metric.name: metric.value for metric in births()[0].metrics}
        assert names["Node Control/Rebirth"] is False
        assert names["Tocsin/Clock/Since"] > MS
        codec = encoding.ProtobufPayloadEncoder()
        (birth, *_) = (codec.decode(payload) for payload in raw.of("DBIRTH"))
        point = next(metric for metric in birth.metrics if metric.name == "A")
        assert (point.value, dict(point.properties)["engUnit"].value) == (1.5, "bar")
        for payload in raw.of("DDATA"):
            batch, reading = codec.decode(payload).metrics[:2]
            assert (batch.name, reading.alias, reading.value) == ("Tocsin/Batch", point.alias, 1.5)

    asyncio.run(story())
