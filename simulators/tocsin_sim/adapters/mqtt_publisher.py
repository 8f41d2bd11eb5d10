"""Simulated MQTT sensors: each publishes at its own period and comes back by itself when the broker does."""

import asyncio
import json
from collections.abc import Sequence
from typing import Final, Protocol

import aiomqtt
import structlog

from tocsin_core.clock import Clock
from tocsin_core.plant.model import Broker, Device
from tocsin_core.plant.mqtt import Mqtt
from tocsin_core.sensors import SparkplugSource, sparkplug_source
from tocsin_sim.adapters.sparkplug_node import SparkplugNode
from tocsin_sim.adapters.turns import turns_of
from tocsin_sim.payloads import content, said, topic_of, with_time
from tocsin_sim.world import World

log = structlog.get_logger()

BACK_AFTER_S: Final = 1.0


class Speaker(Protocol):
    """Who has a connection of its own."""

    def will(self) -> aiomqtt.Will | None:
        """Give the last will of the next connection."""

    async def speak(self, client: aiomqtt.Client) -> None:
        """Speak until cancelled."""


async def publish(world: World, broker: Broker, devices: Sequence[Device], clock: Clock) -> None:
    """Publish for all `devices` of one broker until cancelled.

    Sensors with a will and Sparkplug nodes have connections of their own, as each connection has one will.
    """
    plain: list[Device] = []
    speakers: list[Speaker] = []
    nodes: dict[tuple[str, str], list[tuple[SparkplugSource, Device]]] = {}
    for device in devices:
        if device.mqtt is None:
            raise ValueError(f"{device.id} is not an MQTT sensor")
        source = sparkplug_source(device.mqtt.topic)
        if source is not None:
            nodes.setdefault((source.group, source.node), []).append((source, device))
        elif device.mqtt.offline is not None:
            speakers.append(Sensors(world, [device], clock))
        else:
            plain.append(device)
    speakers += [SparkplugNode(world, sources, clock) for sources in nodes.values()]
    if plain:
        speakers.append(Sensors(world, plain, clock))
    async with asyncio.TaskGroup() as group:
        for speaker in speakers:
            group.create_task(_again(broker, speaker), name="sensors' connection")


async def _again(broker: Broker, speaker: Speaker) -> None:
    reachable = True
    while True:
        try:
            async with aiomqtt.Client(
                broker.host, broker.port, username=broker.username, password=broker.password, will=speaker.will()
            ) as client:
                log.info("sensor broker connected", host=broker.host, port=broker.port)
                reachable = True
                await speaker.speak(client)
        except* aiomqtt.MqttError as errors:
            if reachable:
                log.warning("sensor broker lost", host=broker.host, port=broker.port, reason=str(errors.exceptions[0]))
            reachable = False
        await asyncio.sleep(BACK_AFTER_S)


class Sensors:
    """Sensors that publish payloads of their own over one connection; its will is that of the only one that has any."""

    def __init__(self, world: World, devices: Sequence[Device], clock: Clock) -> None:
        """Wire only."""
        self._world = world
        self._devices = [(device, mqtt) for device in devices if (mqtt := device.mqtt) is not None]
        self._clock = clock

    def will(self) -> aiomqtt.Will | None:
        """Give the will of the sensor that has one."""
        for device, mqtt in self._devices:
            if mqtt.offline is not None:
                topic = topic_of(mqtt, device.id, mqtt.offline.topic)
                return aiomqtt.Will(topic, mqtt.offline.payload, qos=1, retain=True)
        return None

    async def speak(self, client: aiomqtt.Client) -> None:
        """Publish for each at its period."""
        async with asyncio.TaskGroup() as group:
            for device, mqtt in self._devices:
                group.create_task(self._sensor(client, device, mqtt), name=f"sensor {device.id}")

    async def _sensor(self, client: aiomqtt.Client, device: Device, mqtt: Mqtt) -> None:
        topic, gone = topic_of(mqtt, device.id), False
        async for silent in turns_of(self._world, device, self._clock):
            if not silent:
                await client.publish(topic, message(self._world, device.id, mqtt, self._clock.now_ns()))
            elif not gone and mqtt.offline is not None:
                # What the broker says of one that broke off.
                will = topic_of(mqtt, device.id, mqtt.offline.topic)
                await client.publish(will, mqtt.offline.payload, qos=1, retain=True)
            gone = silent


def message(world: World, device: str, mqtt: Mqtt, now_ns: int) -> str:
    """Write what the sensor says at `now_ns`: JSON with its time stamp where one is looked for, or a plain value."""
    found = content(with_time(mqtt, said(mqtt, world.shown(device)), now_ns))
    return found if isinstance(found, str) else json.dumps(found)
