"""A simulated Sparkplug B edge node: the instruments of a sensor network that is not Tocsin's own."""

import asyncio
from collections.abc import Sequence
from itertools import count
from typing import Final

import aiomqtt
import structlog

from tocsin_core.clock import Clock
from tocsin_core.plant.model import Device
from tocsin_core.readings import GOOD
from tocsin_core.sensors import SparkplugSource
from tocsin_core.sparkplug import PayloadError, Topic, parse_command
from tocsin_core.sparkplug import payload as codec
from tocsin_core.sparkplug.payload import DataType
from tocsin_core.sparkplug.sparkplug_b_pb2 import Payload
from tocsin_sim.adapters.turns import turns_of
from tocsin_sim.world import World

MODULUS: Final = 256
NS_PER_MS: Final = 1_000_000

log = structlog.get_logger()


class SparkplugNode:
    """One edge node with its devices; metrics of a source without a device are the node's own.

    Each metric is a Double with an alias; there are no other types in a simulated world.
    """

    def __init__(self, world: World, sources: Sequence[tuple[SparkplugSource, Device]], clock: Clock) -> None:
        """Wire only; all `sources` are of one node."""
        self._world = world
        self._sources = tuple(sources)
        self._group, self._node = sources[0][0].group, sources[0][0].node
        self._clock = clock
        numbers = count(1)
        self._alias = {
            (source.device, name): next(numbers) for source, device in sources for name in world.shown(device.id)
        }
        self._bd_seq = -1
        self._seq = 0
        self._born: set[str] = set()
        # A birth's messages stand together, and every message carries the next number.
        self._turn = asyncio.Lock()

    def will(self) -> aiomqtt.Will:
        """Give the death of the next session; its bdSeq is one up from the last."""
        self._bd_seq = (self._bd_seq + 1) % MODULUS
        payload = Payload(timestamp=self._now_ms())
        self._put_bd_seq(payload)
        return aiomqtt.Will(self._topic("NDEATH"), payload.SerializeToString(), qos=1)

    async def speak(self, client: aiomqtt.Client) -> None:
        """Be born, publish for each device at its period, and be born anew when a host asks."""
        await client.subscribe(self._topic("NCMD"), qos=1)
        await self._births(client)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._obey(client), name=f"node {self._node}")
            for source, device in self._sources:
                group.create_task(self._publish(client, source, device), name=f"sensor {device.id}")

    async def _obey(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            try:
                asked = parse_command(bytes(message.payload)).rebirth
            except PayloadError as error:
                log.warning("not understood", node=self._node, reason=str(error))
                continue
            if asked:
                await self._births(client)

    async def _births(self, client: aiomqtt.Client) -> None:
        async with self._turn:
            self._seq = 0
            payload = Payload(timestamp=self._now_ms())
            self._put_bd_seq(payload)
            control = payload.metrics.add(name=codec.REBIRTH, timestamp=self._now_ms(), datatype=DataType.BOOLEAN)
            control.boolean_value = False
            for source, device in self._sources:
                if source.device is None:
                    self._put(payload, source, device, birth=True)
            await self._say(client, "NBIRTH", payload)
            self._born.clear()
            for source, device in self._sources:
                if source.device is not None and device.id not in self._world.moment.silent:
                    await self._birth(client, source, device)

    async def _birth(self, client: aiomqtt.Client, source: SparkplugSource, device: Device) -> None:
        payload = Payload(timestamp=self._now_ms())
        self._put(payload, source, device, birth=True)
        self._born.add(device.id)
        await self._say(client, "DBIRTH", payload, source.device)

    async def _publish(self, client: aiomqtt.Client, source: SparkplugSource, device: Device) -> None:
        async for silent in turns_of(self._world, device, self._clock):
            async with self._turn:
                if source.device is None:
                    if not silent:
                        await self._data(client, source, device)
                elif silent and device.id in self._born:
                    self._born.discard(device.id)
                    await self._say(client, "DDEATH", Payload(timestamp=self._now_ms()), source.device)
                elif not silent and device.id not in self._born:
                    await self._birth(client, source, device)
                elif not silent:
                    await self._data(client, source, device)

    async def _data(self, client: aiomqtt.Client, source: SparkplugSource, device: Device) -> None:
        payload = Payload(timestamp=self._now_ms())
        self._put(payload, source, device, birth=False)
        await self._say(client, "NDATA" if source.device is None else "DDATA", payload, source.device)

    def _put(self, payload: Payload, source: SparkplugSource, device: Device, *, birth: bool) -> None:
        for name, value in self._world.shown(device.id).items():
            metric = payload.metrics.add(
                alias=self._alias[source.device, name], timestamp=self._now_ms(), datatype=DataType.DOUBLE
            )
            if birth:
                metric.name = name
            codec.put_reading(metric, value, GOOD)

    def _put_bd_seq(self, payload: Payload) -> None:
        metric = payload.metrics.add(name=codec.BD_SEQ, timestamp=self._now_ms(), datatype=DataType.INT64)
        metric.long_value = self._bd_seq

    async def _say(self, client: aiomqtt.Client, kind: str, payload: Payload, device: str | None = None) -> None:
        payload.seq, self._seq = self._seq, (self._seq + 1) % MODULUS
        await client.publish(self._topic(kind, device), payload.SerializeToString(), qos=0)

    def _topic(self, kind: str, device: str | None = None) -> str:
        return str(Topic(self._group, kind, self._node, device))

    def _now_ms(self) -> int:
        return self._clock.now_ns() // NS_PER_MS
