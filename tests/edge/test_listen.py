"""The sensors' broker for real: wildcards, wills, networks, a flood of nonsense, a cut, and a broker of its own."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiomqtt
import numpy as np
import pytest

from tests.support.nats import Broker, mosquitto_broker, nats_broker
from tests.support.need import need_program
from tests.support.ports import free_port
from tests.support.wait import eventually_async
from tocsin_core.clock import SystemClock
from tocsin_core.plant.model import SensorBroker
from tocsin_core.plant.mqtt import Mqtt, Offline
from tocsin_core.ranges import Ranges
from tocsin_core.readings import BAD_NOT_CONNECTED, GOOD
from tocsin_core.sparkplug import EdgeDevice, EdgeMetric, EdgeSession, parse_command
from tocsin_core.sparkplug.edge import unknown_columns
from tocsin_edge.adapters import local_broker
from tocsin_edge.loops import listen
from tocsin_edge.loops.keep import Sample
from tocsin_edge.loops.listen import Listener
from tocsin_edge.loops.sensor import Sensor
from tocsin_edge.settings import DeviceSettings, SensorDevice

CLOCK = SystemClock()
PERIOD_S = 0.4


@pytest.fixture(params=["nats", "mosquitto"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Broker]:
    """Give a running broker of each make."""
    if request.param == "nats":
        with nats_broker(tmp_path) as running:
            yield running
    else:
        with mosquitto_broker(need_program("mosquitto"), tmp_path) as running:
            yield running


class Plant:
    """Some sensors, the listener, and what they put."""

    samples: list[Sample]

    def __init__(self, at: SensorBroker, sources: dict[str, Mqtt], field: str = "v", period_ms: int = 400) -> None:
        """Make a sensor of one point for each source."""
        self.samples = []
        sensors = []
        for name, source in sources.items():
            how = SensorDevice(source, (field,))
            device = DeviceSettings(
                EdgeDevice(name, (EdgeMetric(name),)), Ranges.of([None]), period_ms * 1_000_000, how
            )
            sensors.append(Sensor(device, how, CLOCK, self.samples.append))
        self.listener = Listener(at, sensors, CLOCK)

    def of(self, device: str) -> list[tuple[float, int]]:
        """Value and quality of what came of a device."""
        return [
            (float(each.columns.value[0]), int(each.columns.quality[0]))
            for each in self.samples
            if each.device.id == device
        ]

    @asynccontextmanager
    async def heard(self, folder: Path) -> AsyncIterator["Plant"]:
        """Listen until left, and be connected before that begins."""
        tasks = [asyncio.create_task(job.run(), name=job.name) for job in self.listener.jobs(folder).values()]
        try:
            await eventually_async(lambda: self.listener.up)
            yield self
        finally:
            # Python 3.11 swallows a cancellation that meets a wait_for just done: it is repeated until heeded.
            while not all(task.done() for task in tasks):
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks, timeout=0.5)
            await asyncio.gather(*tasks, return_exceptions=True)


def at(port: int) -> SensorBroker:
    """Say where the broker is."""
    return SensorBroker(port=port)


def test_wildcards_name_their_sensors_and_strangers_are_counted(broker: Broker, tmp_path: Path) -> None:
    """Each message goes to the sensor of its name, once though two filters take it; others are counted by the topic."""

    async def story() -> None:
        sources = {
            "A": Mqtt(topic="site/+/gas"),
            "B": Mqtt(topic="site/+/gas", name="7"),
            "C": Mqtt(topic="site/C/gas"),
            "D": Mqtt(topic="+/D/#", name="site/gas"),
        }
        async with (
            Plant(at(broker.mqtt), sources).heard(tmp_path) as plant,
            aiomqtt.Client("127.0.0.1", broker.mqtt) as sensor,
        ):
            for name, value in (("A", 1), ("7", 2), ("C", 3), ("D", 4), ("E", 5)):
                await sensor.publish(f"site/{name}/gas", f'{{"v": {value}}}', qos=1)
            await eventually_async(lambda: plant.listener.counts["unknown"])
            assert [plant.of(name)[:1] for name in "ABCD"] == [[(float(n), GOOD)] for n in (1, 2, 3, 4)]
            assert {each.name: each.counts["readings"] for each in plant.listener.figures()} == dict.fromkeys("ABCD", 1)

    asyncio.run(story())


def test_a_will_is_bad_at_once_and_a_retained_value_is_not_back(broker: Broker, tmp_path: Path) -> None:
    """A sensor that breaks off: its will; what the broker had kept of it is not taken for new when we come back."""

    async def story() -> None:
        source = Mqtt(topic="site/+/gas", offline=Offline(topic="site/+/status"))
        plant = Plant(at(broker.mqtt), {"A": source}, period_ms=60_000)
        will = aiomqtt.Will("site/A/status", "offline", qos=1, retain=True)
        async with plant.heard(tmp_path):
            sensor = aiomqtt.Client("127.0.0.1", broker.mqtt, will=will)
            async with sensor:
                await sensor.publish("site/A/status", "online", qos=1, retain=True)
                await sensor.publish("site/A/gas", '{"v": 1}', qos=1, retain=True)
                await eventually_async(lambda: plant.of("A"))
                # Without a goodbye the broker sends the will.
                sensor._client._sock_close()  # noqa: SLF001 - paho has no public way to break off
                await eventually_async(lambda: plant.of("A")[-1][1] == BAD_NOT_CONNECTED)
        assert [quality for _, quality in plant.of("A")] == [GOOD, BAD_NOT_CONNECTED]
        again = Plant(at(broker.mqtt), {"A": source}, period_ms=60_000)
        async with again.heard(tmp_path):
            await eventually_async(lambda: again.of("A") and again.listener.figures()[0].counts.get("retained"))
            assert [quality for _, quality in again.of("A")] == [BAD_NOT_CONNECTED]

    asyncio.run(story())


def test_a_sparkplug_network_is_asked_for_its_births_and_its_will_is_known(broker: Broker, tmp_path: Path) -> None:
    """The gateway comes after the births: it asks, reads by alias; the node breaks off, the points are bad."""

    async def story() -> None:
        device = EdgeDevice("H2S-7", (EdgeMetric("ppm"),))
        node = EdgeSession("net", "node", [device])
        now_ms = CLOCK.now_ns() // 1_000_000
        death = node.will(3, now_ms)
        will = aiomqtt.Will(str(death.topic), death.payload, qos=1)
        plant = Plant(at(broker.mqtt), {"G": Mqtt(topic="spBv1.0/net/+/node/H2S-7")}, field="ppm", period_ms=60_000)
        async with aiomqtt.Client("127.0.0.1", broker.mqtt, will=will) as client, AsyncExitStack() as stack:
            await client.subscribe(node.command_topic, qos=1)
            await stack.enter_async_context(plant.heard(tmp_path))
            command = await anext(aiter(client.messages))
            assert parse_command(bytes(command.payload)).rebirth
            unknown = unknown_columns(device, now_ms, 0)
            for message in (node.nbirth(0, 1, now_ms), node.dbirth("H2S-7", unknown, 1, now_ms)):
                await client.publish(message.topic, message.payload)
            now_ms = CLOCK.now_ns() // 1_000_000
            known = type(unknown)(unknown.metric, np.array([now_ms]), np.array([4.5]), np.array([GOOD], dtype=np.uint8))
            data = node.ddata("H2S-7", known, 2, now_ms, historical=False)
            await client.publish(data.topic, data.payload)
            await eventually_async(lambda: plant.of("G") and plant.of("G")[-1] == (4.5, GOOD))
            client._client._sock_close()  # noqa: SLF001 - paho has no public way to break off
            await eventually_async(lambda: plant.of("G")[-1][1] == BAD_NOT_CONNECTED)
        assert plant.listener.figures()[0].reason == "its edge node is gone"
        assert plant.listener.events()["rebirths"] == 1

    asyncio.run(story())


def test_a_flood_of_nonsense_costs_the_others_nothing(broker: Broker, tmp_path: Path) -> None:
    """Hundreds of unreadable messages of one sensor: counted, none fatal, the other is read beside it."""

    async def story() -> None:
        async with (
            Plant(at(broker.mqtt), {"A": Mqtt(topic="a"), "B": Mqtt(topic="b")}).heard(tmp_path) as plant,
            aiomqtt.Client("127.0.0.1", broker.mqtt) as sensor,
        ):
            nonsense = [b"[" * 60_000, b"\xff\xfe", b'{"v": NaN}', b'{"v": "x"}', b"x" * 70_000]
            for number in range(500):
                await sensor.publish("a", nonsense[number % 5])
                if number % 50 == 0:
                    await sensor.publish("b", f'{{"v": {number}}}', qos=1)
            await sensor.publish("a", '{"v": 1}', qos=1)
            await eventually_async(lambda: plant.of("A")[-1:] == [(1.0, GOOD)])
            await eventually_async(lambda: (450.0, GOOD) in plant.of("B"))
            counts = plant.listener.figures()[0].counts
            assert {kind: n for kind, n in counts.items() if kind not in ("messages", "readings", "silent")}.keys() <= {
                "not-json",
                "not-utf8",
                "not-finite",
                "not-a-number",
                "too-large",
                "repeated",
            }
            assert counts["too-large"] + counts.get("repeated", 0) >= 100

    asyncio.run(story())


def test_a_broker_that_is_cut_off_is_silence_and_it_comes_back(broker: Broker, tmp_path: Path) -> None:
    """Two periods after the cut the points are bad; the gateway is back by itself when the broker is."""

    async def story() -> None:
        async with Plant(at(broker.mqtt), {"A": Mqtt(topic="a")}).heard(tmp_path) as plant:
            async with aiomqtt.Client("127.0.0.1", broker.mqtt) as sensor:
                await sensor.publish("a", '{"v": 1}', qos=1)
                await eventually_async(lambda: plant.of("A"))
            broker.stop()
            begun = CLOCK.monotonic()
            await eventually_async(lambda: plant.of("A")[-1][1] == BAD_NOT_CONNECTED)
            assert CLOCK.monotonic() - begun < 2 * PERIOD_S + 5.0
            await asyncio.to_thread(broker.start)
            await eventually_async(lambda: plant.listener.up)
            async with aiomqtt.Client("127.0.0.1", broker.mqtt) as sensor:
                await sensor.publish("a", '{"v": 2}', qos=1)
                await eventually_async(lambda: (2.0, GOOD) in plant.of("A"))
            assert plant.listener.counts["connects"] == 2

    asyncio.run(story())


def pid_of(folder: Path) -> int | None:
    """Find the nats-server that runs with its files in `folder`."""
    wanted = str(folder / "server.conf").encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if wanted in words and b"nats-server" in words[0]:
            return int(process.name)
    return None


def test_the_gateway_runs_the_broker_itself_and_starts_it_again(tmp_path: Path) -> None:
    """With a password; killed, it comes back; ended with the gateway."""
    folder = tmp_path / "broker"

    async def story() -> None:
        local = SensorBroker(port=free_port(), username="gas", password="s\"e'cret", host_local=True)
        plant = Plant(local, {"A": Mqtt(topic="a")}, period_ms=60_000)
        async with plant.heard(folder):
            stranger = aiomqtt.Client("127.0.0.1", local.port, username="gas", password="wrong")
            with pytest.raises(aiomqtt.MqttError):
                await stranger.__aenter__()

            async def said(value: float) -> bool:
                # One that meets the end of the server would wait ten seconds for its answer.
                known = aiomqtt.Client("127.0.0.1", local.port, username="gas", password=local.password, timeout=1)
                try:
                    async with known as sensor:
                        await sensor.publish("a", f'{{"v": {value}}}', qos=1)
                except aiomqtt.MqttError:
                    return False
                return (value, GOOD) in plant.of("A")

            await eventually_async(lambda: said(1.0), interval_s=0.1)
            first = pid_of(folder)
            assert first is not None
            os.kill(first, signal.SIGKILL)
            await eventually_async(lambda: said(2.0), interval_s=0.1)
            assert pid_of(folder) not in (None, first)
        assert pid_of(folder) is None
        assert (folder / "server.conf").stat().st_mode & 0o077 == 0

    asyncio.run(story())


def test_a_gateway_without_the_brokers_program_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what is missing, and the sensors are bad; nothing falls."""

    def no_program() -> str:
        raise local_broker.LocalBrokerError("no program nats-server")

    monkeypatch.setattr(local_broker, "program", no_program)

    async def story() -> None:
        local = SensorBroker(port=free_port(), host_local=True)
        plant = Plant(local, {"A": Mqtt(topic="a")})
        tasks = [asyncio.create_task(job.run()) for job in plant.listener.jobs(tmp_path).values()]
        await eventually_async(lambda: plant.of("A") and plant.samples[-1].dead)
        assert not any(task.done() for task in tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(story())


def test_a_subscription_that_the_broker_refuses_is_told_and_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that grants one topic only: the other sensor is counted as refused and bad until it may be heard."""
    monkeypatch.setattr(listen, "ASK_AGAIN_S", 0.1)
    mqtt, client = free_port(), free_port()
    config = tmp_path / "nats.conf"

    def deny(*topics: str) -> None:
        config.write_text(
            f"server_name: test\nlisten: 127.0.0.1:{client}\njetstream {{ store_dir: {str(tmp_path)!r} }}\n"
            f"mqtt {{ listen: 127.0.0.1:{mqtt} }}\n"
            'authorization { users: [{ user: gw, password: pw, permissions: { publish: [">"],'
            f" subscribe: {{ deny: {[*topics]} }} }} }}] }}\n",
            encoding="utf-8",
        )

    deny("secret")
    broker = Broker([local_broker.program(), "-c", str(config)], mqtt)
    broker.start()

    async def story() -> None:
        local = SensorBroker(port=mqtt, username="gw", password="pw")
        plant = Plant(local, {"A": Mqtt(topic="open"), "B": Mqtt(topic="secret")})
        async with plant.heard(tmp_path), aiomqtt.Client("127.0.0.1", mqtt, username="gw", password="pw") as sensor:
            await eventually_async(lambda: plant.listener.counts["refused"] == 1)
            await sensor.publish("open", '{"v": 1}', qos=1)
            await eventually_async(lambda: (1.0, GOOD) in plant.of("A"))
            await eventually_async(lambda: plant.of("B") and plant.of("B")[-1][1] == BAD_NOT_CONNECTED)
            deny()
            broker.reload()

            async def heard() -> bool:
                await sensor.publish("secret", '{"v": 2}', qos=1)
                return (2.0, GOOD) in plant.of("B")

            await eventually_async(heard)
            assert plant.listener.counts["connects"] == 1

    try:
        asyncio.run(story())
    finally:
        broker.stop()
