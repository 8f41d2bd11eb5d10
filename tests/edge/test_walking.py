"""A gateway that knows several servers of a broker: which it leaves, when, and that nothing is lost by it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.edge.rig import Gateway, Host, Slave, modbus_device, plant
from tests.edge.test_send_primary import say, sparkplug
from tests.edge.test_send_silence import Bench
from tests.support.nats import Broker, nats_broker
from tests.support.wait import eventually_async
from tocsin_core.plant import load_plant
from tocsin_core.sparkplug import HostState
from tocsin_edge.loops.doubt import FIRST_S, MOST_S
from tocsin_edge.loops.primary import PrimaryHost
from tocsin_edge.settings import compile_settings


def nothing(_: bytes) -> None:
    """Take what nobody says here."""


@asynccontextmanager
async def connected(bench: Bench, *, walks: bool) -> AsyncIterator[asyncio.Task[None]]:
    """The bench's connection with three batches on their way, until it ends or is told to."""
    bench.connection.walks = walks
    stopping = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(bench.connection.run(stopping, tasks))
        hearing = tasks.create_task(bench.connection.hear(nothing, nothing, nothing))
        bench.reads(3)
        await bench.sent(3)
        yield running
        stopping.set()
        bench.wake.set()
        await running
        hearing.cancel()


def test_a_broker_that_keeps_nothing_is_left(tmp_path: Path) -> None:
    """Ten seconds after the last word from the cloud side it is asked, and left with the node's death."""

    async def story() -> None:
        async with connected(bench, walks=True) as running:
            bench.passes(FIRST_S - 1)
            await bench.hears(1)
            bench.ear.well = False
            bench.passes(FIRST_S - 1)
            await bench.sent(3)
            assert not bench.ear.asked_s
            bench.passes(2)
            await running
            assert bench.ear.asked_s == [2 * FIRST_S]
            assert bench.ear.kinds[-1] == "NDEATH"

    bench = Bench(tmp_path)
    try:
        asyncio.run(story())
    finally:
        bench.thread.close()


@pytest.mark.parametrize("walks", [True, False])
def test_a_broker_that_is_well_stays_while_the_host_is_away(tmp_path: Path, *, walks: bool) -> None:
    """It is asked ever more rarely, and not at all where there is no other server; nothing is sent anew by that."""

    async def story() -> None:
        async with connected(bench, walks=walks) as running:
            for gap in (10, 20, 40, 80, MOST_S, MOST_S):
                asked = len(bench.ear.asked_s)
                bench.passes(gap - 0.5)
                await eventually_async(lambda: not bench.wake.is_set())
                assert len(bench.ear.asked_s) == asked
                bench.passes(1)
                if walks:
                    await eventually_async(lambda: len(bench.ear.asked_s) == asked + 1)  # noqa: B023 -- at once
            assert walks or not bench.ear.asked_s
            assert not running.done()
            assert bench.ear.kinds.count("NBIRTH") == 1

    bench = Bench(tmp_path)
    try:
        asyncio.run(story())
    finally:
        bench.thread.close()


def test_each_server_has_its_own_last_word_of_the_host() -> None:
    """One that is older than another server's is not out of date; one that is older than this server's is."""
    primary = PrimaryHost(required=True)
    primary.connected("one")
    assert not primary.is_elsewhere()
    assert primary.hear(HostState(online=False, time_ms=2000))
    assert primary.is_elsewhere()
    primary.connected("two")
    assert not primary.is_elsewhere()
    assert primary.hear(HostState(online=True, time_ms=1000))
    assert not primary.is_missing()
    primary.connected("one")
    assert not primary.hear(HostState(online=True, time_ms=1999))
    assert primary.is_missing()


def servers_of(folder: Path, addresses: str | None) -> list[tuple[str, int]]:
    """The servers that the gateway of a plant folder tries."""
    settings = compile_settings(load_plant(folder), "gw", folder / "data", addresses)
    return [(server.host, server.port) for server in settings.gateway.uplink.servers]


def test_servers_are_named_by_the_plant_file_or_on_the_command_line(tmp_path: Path) -> None:
    """The line's take the place of all of the plant file's, whose user they keep; a wrong one is told by itself."""
    folder = plant(tmp_path, 1883, {"A": modbus_device("A", 502)})
    text = (folder / "plant.yaml").read_text(encoding="utf-8")
    others = "uplink: {host: a, port: 1884, username: me, others: [{host: b}, {host: c, port: 1885}]}"
    (folder / "plant.yaml").write_text(text.replace("uplink: {host: 127.0.0.1, port: 1883}", others), encoding="utf-8")
    assert servers_of(folder, None) == [("a", 1884), ("b", 1883), ("c", 1885)]
    assert servers_of(folder, "x:1,y:2") == [("x", 1), ("y", 2)]
    settings = compile_settings(load_plant(folder), "gw", folder / "data", "x:1,y:2")
    assert {server.username for server in settings.gateway.uplink.servers} == {"me"}
    for wrong in ("x:1,y", "x:1,", "x:1,y:70000"):
        with pytest.raises(ValueError, match=rf"^'{wrong.partition(',')[2]}' is not HOST:PORT$"):
            servers_of(folder, wrong)


def test_the_gateway_walks_to_where_its_primary_host_is(tmp_path: Path) -> None:
    """From a server that never heard of the host to one where it is; from there, at its end, on; nothing is lost.

    A server that is gone is left too, also without a word.
    """
    gateway = Gateway(tmp_path / "plant", tmp_path / "data")
    (tmp_path / "data" / "gateways" / "gw").mkdir(parents=True)
    (tmp_path / "data" / "gateways" / "gw" / "uplink.yaml").write_text("primary_host: scada\n", encoding="utf-8")

    async def story(first: Broker, second: Broker) -> None:
        async with Slave({1: 1.5}).serve() as slave, Host(second.mqtt).listen() as there:
            folder = plant(tmp_path / "plant", first.mqtt, {"A": modbus_device("A", slave.port)})
            text = (folder / "plant.yaml").read_text(encoding="utf-8")
            others = f"    uplink: {{port: {first.mqtt}, others: [{{host: 127.0.0.1, port: {second.mqtt}}}]}}"
            given = f"    uplink: {{host: 127.0.0.1, port: {first.mqtt}}}"
            (folder / "plant.yaml").write_text(text.replace(given, others), encoding="utf-8")
            await say(second.mqtt, "scada", online=True, time_ms=1000)
            gateway.start()
            await eventually_async(lambda: len(there.batches) > 3)
            async with Host(first.mqtt).listen() as here:
                assert sparkplug(here) == []
                # What it acknowledged at the other server is known to be stored.
                here.floor = there.floor
                await say(first.mqtt, "scada", online=True, time_ms=500)
                await say(second.mqtt, "scada", online=False, time_ms=1000)
                await eventually_async(lambda: sparkplug(there)[-1] == "NDEATH")
                await eventually_async(lambda: len(here.batches) > 3)
                assert sparkplug(here)[:2] == ["NBIRTH", "DBIRTH"]
            await say(second.mqtt, "scada", online=True, time_ms=2000)
            first.stop()
            births = there.kinds().count("NBIRTH")
            await eventually_async(lambda: there.kinds().count("NBIRTH") > births)

    try:
        (tmp_path / "one").mkdir()
        (tmp_path / "two").mkdir()
        with nats_broker(tmp_path / "one") as first, nats_broker(tmp_path / "two") as second:
            asyncio.run(story(first, second))
    finally:
        gateway.stop()
