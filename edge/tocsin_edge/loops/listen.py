"""The listen loops: what MQTT sensors publish becomes samples, and their silence becomes bad quality."""

import asyncio
from collections.abc import Callable, Sequence
from random import SystemRandom
from typing import Final

import aiomqtt
import numpy as np
import structlog

from tocsin_core.clock import Clock
from tocsin_core.plant.model import Broker
from tocsin_core.polling.health import GRACE_LEAST_S
from tocsin_core.readings import BAD_COMM_FAILURE
from tocsin_edge.adapters.sensors import Arrival, arrivals, parse
from tocsin_edge.loops.health import Health
from tocsin_edge.loops.keep import Sample
from tocsin_edge.loops.measured import measured
from tocsin_edge.settings import DeviceSettings, SensorDevice

NS_PER_S: Final = 1_000_000_000
NS_PER_MS: Final = 1_000_000
PATIENCE_PERIODS: Final = 2
RECONNECT_FIRST_S: Final = 0.25
RECONNECT_MOST_S: Final = 3.0

log = structlog.get_logger()
_random = SystemRandom()


class Sensor:
    """One sensor: takes its messages, and watches for their absence."""

    def __init__(self, device: DeviceSettings, how: SensorDevice, clock: Clock, put: Callable[[Sample], None]) -> None:
        """Wire only; `watch` does the watching."""
        self.topic = how.source.topic
        self._device = device
        self._how = how
        self._clock = clock
        self._put = put
        self._health = Health(device.id, clock, 0.0)
        self._heard = asyncio.Event()
        self._newest_ms = 0

    def take(self, arrival: Arrival) -> None:
        """Read one message; a retained one counts only if it brings its own time, newer than the last."""
        now_ms = self._clock.now_ns() // NS_PER_MS
        parsed = parse(arrival.payload, self._how.fields, self._how.source.time, now_ms)
        if arrival.retained and (parsed.time_ms is None or parsed.time_ms <= self._newest_ms):
            return
        self._heard.set()
        self._health.answer()
        self._newest_ms = parsed.time_ms or now_ms
        found = measured(self._device, parsed.value, parsed.quality, self._newest_ms)
        self._health.complain("; ".join(filter(None, (*parsed.reasons, found.reason))))
        self._put(Sample(self._device, found.columns))

    async def watch(self) -> None:
        """Turn the points bad when two periods pass without a message, and again each period until it is dead."""
        period_s = self._device.period_ns / NS_PER_S
        n = len(self._how.fields)
        while True:
            patience = None if self._health.dead else period_s * (1 if self._health.failing else PATIENCE_PERIODS)
            if patience is not None and not self._newest_ms and not self._health.failing:
                # It speaks at its own times, so that of a slow one not even ten seconds' silence would say a thing.
                patience = max(patience, GRACE_LEAST_S)
            try:
                async with asyncio.timeout(patience):
                    await self._heard.wait()
                self._heard.clear()
            except TimeoutError:
                self._health.fail(f"no message for {PATIENCE_PERIODS} periods")
                quality = np.full(n, BAD_COMM_FAILURE, dtype=np.uint8)
                now_ms = self._clock.now_ns() // NS_PER_MS
                found = measured(self._device, np.full(n, np.nan), quality, now_ms)
                self._put(Sample(self._device, found.columns, dead=self._health.dead))


async def listen(broker: Broker, sensors: Sequence[Sensor]) -> None:
    """Hand the messages of the sensors' broker to the sensors for ever; reconnects with full jitter."""
    by_topic: dict[str, list[Sensor]] = {}
    for sensor in sensors:
        by_topic.setdefault(sensor.topic, []).append(sensor)
    longest = RECONNECT_FIRST_S
    while True:
        try:
            async for arrival in arrivals(broker, tuple(by_topic)):
                longest = RECONNECT_FIRST_S
                for sensor in by_topic.get(arrival.topic, ()):
                    sensor.take(arrival)
        except aiomqtt.MqttError as error:
            log.warning("sensors' broker not reached", host=broker.host, port=broker.port, reason=str(error))
        await asyncio.sleep(_random.uniform(0.0, longest))
        longest = min(2 * longest, RECONNECT_MOST_S)
