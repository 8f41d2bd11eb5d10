"""The listen loop: messages of the sensors' broker are handed to the sensors that they are from."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Hashable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import SystemRandom
from typing import Any, Final, NamedTuple, Self

import aiomqtt
import structlog

from tocsin_core.clock import Clock
from tocsin_core.plant.model import SensorBroker
from tocsin_core.sensors import captured, fewest
from tocsin_edge.adapters.sensors import Arrival, SensorLink, connected
from tocsin_edge.loops.host_broker import host_broker
from tocsin_edge.loops.keep import Sample
from tocsin_edge.loops.network import Networks
from tocsin_edge.loops.reconnect import Reconnect
from tocsin_edge.loops.sensor import Sensor, SensorFigures
from tocsin_edge.settings import EdgeSettings, SensorDevice

# Of so many sensors that nobody declared the log tells; more are only counted.
MOST_UNKNOWN: Final = 100
# Who let the gateway hear a topic at last does not think of starting it, or the broker, anew.
ASK_AGAIN_S: Final = 10.0

log = structlog.get_logger()
_random = SystemRandom()


class Job(NamedTuple):
    """Something that runs for ever, and its name."""

    name: str
    run: Callable[[], Coroutine[Any, Any, None]]


class _Routes:
    """Which sensors a topic belongs to: by the topic itself, or by the name that a filter's wildcards stand for."""

    def __init__(self) -> None:
        self._exact: dict[str, list[Sensor]] = {}
        self._wild: dict[str, dict[str, list[Sensor]]] = {}

    def add(self, topic: str, sensor: Sensor) -> None:
        if "+" in topic or "#" in topic:
            self._wild.setdefault(topic, {}).setdefault(sensor.name, []).append(sensor)
        else:
            self._exact.setdefault(topic, []).append(sensor)

    @property
    def filters(self) -> tuple[str, ...]:
        return (*self._exact, *self._wild)

    def of(self, topic: str) -> Iterator[Sensor]:
        yield from self._exact.get(topic, ())
        for topic_filter, by_name in self._wild.items():
            name = captured(topic_filter, topic)
            if name is not None:
                yield from by_name.get(name, ())


class Listener:
    """Hears the sensors' broker for all sensors of the gateway."""

    def __init__(self, broker: SensorBroker, sensors: Sequence[Sensor], clock: Clock) -> None:
        """Wire only; `run` does the work."""
        self.broker = broker
        self.sensors = tuple(sensors)
        self._said, self._wills = _Routes(), _Routes()
        for sensor in sensors:
            if sensor.network is None:
                self._said.add(sensor.source.topic, sensor)
            if sensor.source.offline is not None:
                self._wills.add(sensor.source.offline.topic, sensor)
        self._networks = Networks(sensors, clock)
        self._clock = clock
        self._filters = fewest((*self._said.filters, *self._wills.filters, *self._networks.filters))
        self._unknown: set[str] = set()
        self.counts: Counter[str] = Counter()
        self._standing = asyncio.Event()

    @classmethod
    def of(
        cls, settings: EdgeSettings, clock: Clock, put: Callable[[Sample], None], before: Self | None = None
    ) -> Self:
        """Make the listener of a gateway's sensors; `put` takes their samples.

        A sensor that `before` has just so is the same one; another in its place knows what was heard. So may both
        listen for a moment: of a message that both hear one reading is taken.
        """
        known = {} if before is None else {sensor.device.id: sensor for sensor in before.sensors}
        sensors = []
        for device in settings.devices:
            if isinstance(device.input, SensorDevice):
                old = known.get(device.id)
                if old is None or old.device != device:
                    old = Sensor(device, device.input, clock, put, None if old is None else old.memory)
                sensors.append(old)
        return cls(settings.gateway.sensors, sensors, clock)

    @property
    def up(self) -> bool:
        """Whether it hears its broker."""
        return self._standing.is_set()

    async def stands(self) -> None:
        """Return once it hears its broker."""
        await self._standing.wait()

    def jobs(self, folder: Path) -> dict[Hashable, Job]:
        """What has to run, by what it is for; the files of a broker of its own are in `folder`."""
        jobs: dict[Hashable, Job] = {each: Job(f"watch {each.device.id}", each.watch) for each in self.sensors}
        if self.sensors:
            jobs[self] = Job("listen", self.run)
        if self.broker.host_local:
            jobs[self.broker] = Job("sensors' broker", partial(host_broker, self.broker, folder, self._clock))
        return jobs

    def events(self) -> dict[str, int]:
        """Count what is of the broker, and not of one sensor."""
        return dict(self.counts + self._networks.counts)

    def figures(self) -> tuple[SensorFigures, ...]:
        """What each sensor came to."""
        return tuple(sensor.figures() for sensor in self.sensors)

    async def run(self) -> None:
        """Listen for ever; reconnects with full jitter."""
        reconnect = Reconnect(self._clock.monotonic())
        while True:
            try:
                async with connected(self.broker, self._filters, self._lost) as link:
                    try:
                        await self._hear(link)
                    finally:
                        reconnect.was_good(self._clock.monotonic())
            except aiomqtt.MqttError as error:
                reason = str(error)
                log.warning("sensors' broker not reached", host=self.broker.host, port=self.broker.port, reason=reason)
            finally:
                self._standing.clear()
            await asyncio.sleep(reconnect.wait_s(self._clock.monotonic(), _random.random))

    async def _hear(self, link: SensorLink) -> None:
        self.counts["connects"] += 1
        self._standing.set()
        for refused in link.refused:
            self.counts["refused"] += 1
            log.error("sensors' broker refuses a subscription", topic=refused)
        asking = asyncio.create_task(self._insist(link), name="subscriptions")
        try:
            for command in self._networks.restart():
                await link.tell(*command)
            async for arrival in link.arrivals():
                for command in self.take(arrival):
                    await link.tell(*command)
        finally:
            asking.cancel()

    @staticmethod
    async def _insist(link: SensorLink) -> None:
        """Ask again for what the broker refuses until it does not; all else is heard meanwhile."""
        while refused := link.refused:
            await asyncio.sleep(ASK_AGAIN_S)
            # That the connection ended is found by who hears it.
            with suppress(aiomqtt.MqttError):
                await link.ask()
            for granted in sorted({*refused} - {*link.refused}):
                log.warning("sensors' broker grants what it had refused", topic=granted)

    def take(self, arrival: Arrival) -> list[tuple[str, bytes]]:
        """Hand one message to the sensors it is from; gives the commands (topic, payload) to send."""
        self.counts["messages"] += 1
        commands = self._networks.take(arrival)
        known = commands is not None
        gone = set()
        for sensor in self._wills.of(arrival.topic):
            known = True
            will = sensor.source.offline
            if will is not None and arrival.payload == will.payload.encode():
                gone.add(sensor)
                sensor.gone("its will says that it is gone")
        for sensor in self._said.of(arrival.topic):
            known = True
            if sensor not in gone:
                sensor.take(arrival)
        if not known:
            self._stranger(arrival.topic)
        return commands or []

    def _lost(self) -> None:
        self.counts["lost"] += 1

    def _stranger(self, topic: str) -> None:
        self.counts["unknown"] += 1
        if topic not in self._unknown and len(self._unknown) < MOST_UNKNOWN:
            self._unknown.add(topic)
            log.warning("a sensor that is not in the plant file", topic=topic)
