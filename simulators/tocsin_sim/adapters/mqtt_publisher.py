"""Simulated MQTT sensors: each publishes its JSON at its own period and comes back by itself when the broker does."""

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import aiomqtt
import structlog

from tocsin_core.clock import Clock
from tocsin_core.plant.model import Broker, Device
from tocsin_sim.world import World

log = structlog.get_logger()

BACK_AFTER_S: Final = 1.0


async def publish(world: World, broker: Broker, devices: Sequence[Device], clock: Clock) -> None:
    """Publish for all `devices` of one broker until cancelled."""
    reachable = True
    while True:
        try:
            async with aiomqtt.Client(
                broker.host, broker.port, username=broker.username, password=broker.password
            ) as client:
                log.info("sensor broker connected", host=broker.host, port=broker.port)
                reachable = True
                async with asyncio.TaskGroup() as group:
                    for device in devices:
                        group.create_task(_sensor(world, client, device, clock), name=f"sensor {device.id}")
        except* aiomqtt.MqttError as errors:
            if reachable:
                log.warning("sensor broker lost", host=broker.host, port=broker.port, reason=str(errors.exceptions[0]))
            reachable = False
        await asyncio.sleep(BACK_AFTER_S)


async def _sensor(world: World, client: aiomqtt.Client, device: Device, clock: Clock) -> None:
    if device.mqtt is None:
        raise ValueError(f"{device.id} is not an MQTT sensor")
    period_s = device.period_ms / 1000.0
    due = clock.monotonic()
    while True:
        if device.id not in world.moment.silent:
            await client.publish(device.mqtt.topic, json.dumps(message(world, device, clock.now_ns())))
        due = max(due + period_s, clock.monotonic())
        await asyncio.sleep(due - clock.monotonic())


def message(world: World, device: Device, now_ns: int) -> dict[str, object]:
    """Return what the sensor says at `now_ns`, with its time stamp where the plant file looks for one."""
    payload = world.payload(device.id)
    if device.mqtt is not None and device.mqtt.time is not None:
        *levels, last = device.mqtt.time.split(".")
        at = payload
        for level in levels:
            inner = at.setdefault(level, {})
            if not isinstance(inner, dict):
                raise TypeError(f"{device.id}: {device.mqtt.time} lies inside a value")
            at = inner
        at[last] = datetime.fromtimestamp(now_ns / 1e9, UTC).isoformat(timespec="milliseconds")
    return payload
