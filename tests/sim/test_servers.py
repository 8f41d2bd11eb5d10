"""The simulator's sockets, spoken to by real clients: Modbus reads, refusals, silence, MQTT, the cut link."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiomqtt
import numpy as np
import pytest
from pymodbus.client import AsyncModbusTcpClient

from tests.support.modbus_reads import read
from tests.support.nats import listens, nats_broker
from tests.support.plants import copy_plant
from tests.support.ports import free_port
from tests.support.wait import PATIENCE_S, eventually_async
from tocsin_core.clock import SystemClock
from tocsin_core.plant import Plant, load_plant
from tocsin_core.plant.model import Broker, Device
from tocsin_core.readings import BAD_COMM_FAILURE, GOOD
from tocsin_sim.adapters.link_proxy import LinkProxy
from tocsin_sim.adapters.modbus_server import ModbusDevices, by_address
from tocsin_sim.adapters.mqtt_publisher import publish
from tocsin_sim.app import links_of, load_world, run
from tocsin_sim.settings import Settings
from tocsin_sim.simulation import Link, SimulationError, load_simulation
from tocsin_sim.world import World


@pytest.fixture
def ammonia(tmp_path: Path) -> Path:
    """Return a copy of the ammonia plant on free ports."""
    return copy_plant("ammonia-refrigeration", tmp_path)


def world_of(folder: Path, scenario: str) -> tuple[Plant, World]:
    """Return a plant and its world at scenario time 0."""
    plant = load_plant(folder)
    return plant, World(plant, load_simulation(folder), scenario, seed=1)


def modbus_devices(plant: Plant) -> list[Device]:
    """Return the plant's Modbus devices."""
    return [d for gateway in plant.file.gateways for d in gateway.devices if d.modbus is not None]


@contextlib.asynccontextmanager
async def serving(plant: Plant, world: World) -> AsyncIterator[None]:
    """Serve all of a plant's Modbus devices; the world stands still unless the test moves it."""
    async with contextlib.AsyncExitStack() as stack:
        for address, units in by_address(modbus_devices(plant)).items():
            await stack.enter_async_context(ModbusDevices(world, address, units))
        yield


def address_of(device: Device) -> tuple[int, int]:
    """Return a Modbus device's port and unit."""
    assert device.modbus is not None
    return device.modbus.port, device.modbus.unit


def test_a_real_client_reads_what_every_device_shows(ammonia: Path) -> None:
    """Each point, through its own profile, word order and unit, is what the physics put there."""
    plant, world = world_of(ammonia, "leak")
    world.advance(40)

    async def story() -> None:
        async with serving(plant, world):
            for device in modbus_devices(plant):
                names = [point.register_ or "" for point in device.points]
                decoded = await read(plant.profiles[device.profile or ""], names, *address_of(device))
                assert decoded.quality.tolist() == [GOOD] * len(names), device.id
                expected = [world.shown(device.id)[name] for name in names]
                np.testing.assert_allclose(decoded.value, expected, rtol=1e-6, atol=1e-3, err_msg=device.id)

    asyncio.run(story())


def test_what_is_not_there_is_refused(ammonia: Path) -> None:
    """Unknown addresses, units, functions and writes get their Modbus exceptions, never a number."""
    plant, world = world_of(ammonia, "calm")
    port, unit = address_of(next(d for d in modbus_devices(plant) if d.id == "NH3-101"))

    async def story() -> list[int]:
        async with serving(plant, world), AsyncModbusTcpClient("127.0.0.1", port=port, retries=0) as client:
            answers: list[Any] = [
                await client.read_holding_registers(400, count=2, device_id=unit),
                await client.read_input_registers(2, count=2, device_id=unit),
                await client.read_coils(0, count=1, device_id=unit),
                await client.write_register(2, 0, device_id=unit),
                await client.read_holding_registers(2, count=2, device_id=99),
            ]
            return [answer.exception_code for answer in answers]

    assert asyncio.run(story()) == [2, 2, 1, 1, 11]


def test_a_silent_unit_does_not_answer_and_its_neighbour_on_the_line_does(ammonia: Path) -> None:
    """The connection is taken, the request is not answered; the other unit of the same port answers; then both do."""
    plant, world = world_of(ammonia, "device-silent")
    silent, neighbour = (next(d for d in modbus_devices(plant) if d.id == name) for name in ("PT-202", "PT-201"))
    profile = plant.profiles["keller-33x"]

    async def story() -> None:
        async with serving(plant, world):
            world.advance(30)
            muted = await read(profile, ["pressure"], *address_of(silent), timeout_s=0.3)
            assert muted.quality.tolist() == [BAD_COMM_FAILURE]
            assert np.isnan(muted.value[0])
            assert (await read(profile, ["pressure"], *address_of(neighbour))).quality.tolist() == [GOOD]
            world.advance(90)
            assert (await read(profile, ["pressure"], *address_of(silent))).quality.tolist() == [GOOD]

    asyncio.run(story())


def test_a_taken_address_is_said_plainly(ammonia: Path) -> None:
    """Two simulators on one port: the second says which."""
    plant, world = world_of(ammonia, "calm")

    async def story() -> None:
        async with serving(plant, world):
            address, units = next(iter(by_address(modbus_devices(plant)).items()))
            with pytest.raises(RuntimeError, match=f"{address[1]} cannot be listened on"):
                await ModbusDevices(world, address, units).__aenter__()

    asyncio.run(story())


def test_sensors_publish_what_they_show_and_survive_their_broker(ammonia: Path, tmp_path: Path) -> None:
    """A subscriber gets the JSON with its time; a silent sensor is missing; a restarted broker is found again."""
    plant, world = world_of(ammonia, "device-silent")
    world.advance(30)
    sensors = [
        d.model_copy(update={"period_ms": 100}) for gateway in plant.file.gateways for d in gateway.devices if d.mqtt
    ]

    async def heard(port: int, topics: int) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        async with aiomqtt.Client("127.0.0.1", port) as client, asyncio.timeout(PATIENCE_S):
            await client.subscribe("binjiang/#")
            async for message in client.messages:
                found[str(message.topic)] = json.loads(bytes(message.payload))
                if len(found) == topics:
                    return found
        return found

    async def story(port: int, restart: Callable[[], None]) -> None:
        task = asyncio.create_task(publish(world, Broker(port=port), sensors, SystemClock()))
        found = await heard(port, 2)
        assert set(found) == {"binjiang/weather/ws-220", "binjiang/machine-room/vt-301"}
        weather = found["binjiang/weather/ws-220"]
        assert weather["wind"]["speed"] == pytest.approx(world.shown("WS-220")["wind.speed"])
        assert weather["air"]["humidity"] == pytest.approx(world.shown("WS-220")["air.humidity"])
        assert weather["ts"].endswith("+00:00")
        await asyncio.to_thread(restart)
        assert len(await heard(port, 2)) == 2
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with nats_broker(tmp_path) as broker:

        def restart() -> None:
            broker.stop()
            broker.start()

        asyncio.run(story(broker.mqtt, restart))


def test_the_links_of_a_scenario_are_known_without_starting_it(ammonia: Path) -> None:
    """A scenario that cuts nothing has no link; one that does names gateway, port and where it leads."""
    assert links_of(ammonia, None) == links_of(ammonia, "leak") == []
    behind = load_plant(ammonia).file.gateways[1].uplink.port
    found = [(link.gateway, link.to.port) for link in links_of(ammonia, "link-cut")]
    assert found == [("gw-compressor", behind)]
    with pytest.raises(SimulationError, match="no scenario 'flood'; there are: calm, leak"):
        links_of(ammonia, "flood")


@pytest.mark.parametrize(("scenario", "opened"), [("calm", False), ("link-cut", True)])
def test_a_links_port_is_taken_only_where_it_is_cut(ammonia: Path, scenario: str, opened: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """The simulator leaves the port of a link alone that its scenario does not cut."""
    settings = Settings(plant=ammonia, scenario=scenario)
    plant, simulation, world = load_world(settings)
    modbus = modbus_devices(plant)[0].modbus
    assert modbus is not None

    async def story() -> bool:
        simulator = asyncio.create_task(run(plant, simulation, world, settings, SystemClock()))
        await eventually_async(lambda: listens(modbus.port))
        # The links are opened before the first step of the world.
        await eventually_async(lambda: world.time_s > 0)
        found = listens(simulation.links[0].port)
        simulator.cancel()
        with pytest.raises(asyncio.CancelledError):
            await simulator
        return found

    assert asyncio.run(story()) == opened


def test_a_cut_link_drops_its_connections_and_heals(ammonia: Path) -> None:
    """Bytes pass; when the wire is cut, connections break and new ones are closed at once; then bytes pass again."""
    _, world = world_of(ammonia, "link-cut")

    async def closed(writer: asyncio.StreamWriter) -> None:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(100):
                writer.write(data)
        await closed(writer)

    async def passes(port: int) -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(b"ping")
            return await reader.read(100) == b"ping"
        except ConnectionError:
            return False
        finally:
            await closed(writer)

    async def story() -> None:
        async with await asyncio.start_server(echo, "127.0.0.1", 0) as upstream:
            behind = Broker(port=upstream.sockets[0].getsockname()[1])
            link = Link(gateway="gw-compressor", port=free_port(), to=behind)
            async with LinkProxy(world, link) as proxy:
                watch = asyncio.create_task(proxy.watch())
                assert await passes(link.port)
                reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
                writer.write(b"x")
                assert await reader.read(1) == b"x"
                world.advance(25)
                with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                    await asyncio.wait_for(reader.readexactly(1), 5)
                assert not await passes(link.port)
                world.advance(85)
                await eventually_async(lambda: passes(link.port))
                await closed(writer)
                watch.cancel()

    asyncio.run(story())
