"""The whole gateway in this process: hosts that never answer, go back in time or want births, and silent sensors."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import aiomqtt
import pytest

from tests.edge.rig import Host, Slave, modbus_device, plant
from tests.support.nats import Broker, nats_broker
from tests.support.wait import eventually_async
from tocsin_cloud.adapters.host_state import announce
from tocsin_cloud.settings import Address
from tocsin_core.clock import SystemClock
from tocsin_core.plant import load_plant
from tocsin_core.readings import BAD_CONFIGURATION, BAD_NOT_CONNECTED, GOOD
from tocsin_core.sparkplug import committed, rebirth
from tocsin_edge.app import run
from tocsin_edge.loops.send_connection import HOST_PATIENCE_S, TICK_S
from tocsin_edge.settings import EdgeSettings, compile_settings


class Hurried(SystemClock):
    """A clock whose intervals pass 20 times as fast, so that half a minute of patience is over soon."""

    def monotonic(self) -> float:
        """Seconds, hurried."""
        return 20 * super().monotonic()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """Give a running nats-server."""
    with nats_broker(tmp_path) as running:
        yield running


@asynccontextmanager
async def running(folder: Path, data: Path) -> AsyncIterator[EdgeSettings]:
    """Run gateway `gw` of the plant in `folder`."""
    settings = compile_settings(load_plant(folder), "gw", data)
    stop = asyncio.Event()
    gateway = asyncio.create_task(run(settings, Hurried(), stop))
    try:
        yield settings
    finally:
        stop.set()
        await gateway


def counters(settings: EdgeSettings) -> dict[str, int]:
    """Read the spool's counters."""
    with closing(sqlite3.connect(f"file:{settings.spool}?mode=ro", uri=True)) as database:
        return dict(database.execute("SELECT name, value FROM counters"))


async def tell(broker: Broker, payload: bytes) -> None:
    """Send the gateway one command."""
    async with aiomqtt.Client("127.0.0.1", broker.mqtt) as client:
        await client.publish("spBv1.0/site/NCMD/gw", payload, qos=1)


def test_without_an_acknowledging_host_the_brokers_word_counts(broker: Broker, tmp_path: Path) -> None:
    """A third-party host never says Committed: after a while the gateway takes the broker's answer, and goes on."""

    async def story() -> None:
        async with Slave({1: 1.5}).serve() as slave, Host(broker.mqtt, commits=False).listen() as host:
            folder = plant(tmp_path / "plant", broker.mqtt, {"A": modbus_device("A", slave.port)})
            async with running(folder, tmp_path / "data") as settings:
                await eventually_async(lambda: len(host.batches) > 2)
                assert counters(settings)["batch_committed"] == host.first - 1
                await eventually_async(lambda: counters(settings)["batch_committed"] > host.first + 8)
                assert counters(settings)["host_acknowledges"] == 0
                assert not [fault for fed in host.fed for fault in fed.faults]

    asyncio.run(story())


def test_where_our_host_is_known_the_brokers_word_never_counts(broker: Broker, tmp_path: Path) -> None:
    """A gateway that nobody has acknowledged yet waits for our host's word, also while no part of that is there."""

    async def story() -> None:
        # The cloud side was there once, and is away: the broker remembers so much.
        async with aiomqtt.Client("127.0.0.1", broker.mqtt) as client:
            # To who subscribes just as it is published nats-server does not tell it.
            await client.subscribe("spBv1.0/STATE/tocsin", qos=1)
            announcing = asyncio.create_task(announce([Address("127.0.0.1", broker.mqtt)], SystemClock()))
            await anext(aiter(client.messages))
        announcing.cancel()
        await asyncio.gather(announcing, return_exceptions=True)
        async with Slave({1: 1.5}).serve() as slave, Host(broker.mqtt, commits=False).listen() as host:
            folder = plant(tmp_path / "plant", broker.mqtt, {"A": modbus_device("A", slave.port)})
            async with running(folder, tmp_path / "data") as settings:
                await eventually_async(lambda: len(host.batches) > 2)
                began_s, clock = Hurried().monotonic(), Hurried()
                await eventually_async(lambda: clock.monotonic() > began_s + HOST_PATIENCE_S + 3 * TICK_S)
                sent = len(host.batches)
                await eventually_async(lambda: len(host.batches) > sent + 5)
                assert counters(settings)["batch_committed"] == host.first - 1
                floor = host.floor
                await host.command(committed(floor, 0))
                await eventually_async(lambda: counters(settings)["batch_committed"] == floor)

    asyncio.run(story())


def test_a_host_that_went_back_gets_what_is_kept(broker: Broker, tmp_path: Path) -> None:
    """A cloud restored from an older state names an older number: what came after it is sent again, as history."""

    async def story() -> None:
        async with Slave({1: 1.5}).serve() as slave, Host(broker.mqtt).listen() as host:
            folder = plant(tmp_path / "plant", broker.mqtt, {"A": modbus_device("A", slave.port)})
            async with running(folder, tmp_path / "data") as settings:
                await eventually_async(lambda: len(host.batches) > 12)
                first = host.first
                last = first + 11
                await eventually_async(lambda: counters(settings)["batch_committed"] > last)
                host.floor, host.batches = first + 2, set(range(first, first + 3))
                heard = len(host.fed)
                await tell(broker, committed(host.floor, 0))
                await eventually_async(lambda: host.batches >= set(range(first, last + 1)))
                again = [fed for fed in host.fed[heard:] if fed.batch is not None and fed.batch <= last]
                assert all(fed.historical for fed in again)
                await eventually_async(lambda: counters(settings)["batch_committed"] > last + 2)

    asyncio.run(story())


def test_a_rebirth_brings_births_and_what_was_not_acknowledged(broker: Broker, tmp_path: Path) -> None:
    """Births come at once with the present values; batches that the host may have dropped come again."""

    async def story() -> None:
        async with Slave({1: 1.5}).serve() as slave, Host(broker.mqtt, commits=False).listen() as host:
            folder = plant(tmp_path / "plant", broker.mqtt, {"A": modbus_device("A", slave.port)})
            async with running(folder, tmp_path / "data"):
                await eventually_async(lambda: len(host.batches) > 3)
                heard = len(host.fed)
                await tell(broker, rebirth(0))
                await eventually_async(lambda: "DBIRTH" in host.kinds()[heard:])
                birth = heard + host.kinds()[heard:].index("DBIRTH")
                assert host.fed[birth].frame.value.tolist() == [1.5]
                await eventually_async(
                    lambda: {fed.batch for fed in host.fed[birth:]} >= set(range(host.first, host.first + 3))
                )
                assert not [fault for fed in host.fed for fault in fed.faults]

    asyncio.run(story())


def test_commands_that_are_none_do_no_harm(broker: Broker, tmp_path: Path) -> None:
    """Garbage and a number that was never given out change nothing."""

    async def story() -> None:
        async with Slave({1: 1.5}).serve() as slave, Host(broker.mqtt, commits=False).listen() as host:
            folder = plant(tmp_path / "plant", broker.mqtt, {"A": modbus_device("A", slave.port)})
            async with running(folder, tmp_path / "data") as settings:
                await eventually_async(lambda: len(host.batches) > 2)
                await tell(broker, b"\x12\x05\x0a")
                await tell(broker, committed(2**63, 0))
                seen = max(host.batches)
                await eventually_async(lambda: max(host.batches) > seen + 3)
                assert counters(settings)["batch_committed"] == host.first - 1

    asyncio.run(story())


def test_an_mqtt_sensor_speaks_errs_falls_silent_and_returns(broker: Broker, tmp_path: Path) -> None:
    """Values by path, a bad payload bad with its reason, silence bad within two periods and then dead, and back."""

    async def story() -> None:
        device = (
            "period_ms: 300\nmqtt: {topic: plant/s}\npoints:\n"
            "  - {id: T, name: T, kind: generic, field: t.v, range: [0, 100]}\n"
            "  - {id: U, name: U, kind: generic, field: u, range: [0, 100]}"
        )
        folder = plant(tmp_path / "plant", broker.mqtt, {"S": device})
        async with (
            Host(broker.mqtt).listen() as host,
            running(folder, tmp_path / "data"),
            aiomqtt.Client("127.0.0.1", broker.mqtt) as sensor,
        ):

            async def heard(metric: str, value: float) -> bool:
                await sensor.publish("plant/s", json.dumps({"t": {"v": value}}))
                return any(reading[1:] == (value, GOOD) for reading in host.of(metric))

            await eventually_async(lambda: heard("T", 20.5), interval_s=0.1)
            assert {quality for _, _, quality in host.of("U")} == {BAD_CONFIGURATION}
            await eventually_async(lambda: host.of("T")[-1][2] == BAD_NOT_CONNECTED)
            spoke, fell = (host.of("T")[-n][0] for n in (2, 1))
            assert (fell - spoke) / 1e6 < 2 * 300 + 150
            await eventually_async(lambda: host.kinds()[-1] == "DDEATH")
            await eventually_async(lambda: heard("T", 21.5), interval_s=0.1)
            assert host.kinds().count("DBIRTH") == 2

    asyncio.run(story())
