"""The simulated relay box, asked by a client that is not ours: it takes what the plant file wires, and nothing else."""

import asyncio

from pymodbus.client import AsyncModbusTcpClient

from tests.support.plants import PLANTS
from tests.support.ports import free_port
from tocsin_core.plant import load_plant
from tocsin_core.plant.connection import Modbus
from tocsin_core.plant.outputs import Output
from tocsin_sim.adapters.switch_box import SwitchBox, wired_by_address


def output(port: int, function: int, address: int) -> Output:
    """An output on unit 1."""
    told = {
        "id": f"O{function}",
        "kind": "relay",
        "modbus": Modbus(port=port),
        "function": function,
        "address": address,
    }
    return Output.model_validate(told)


def test_what_is_wired_is_switched_and_read_back() -> None:
    """By each function at its own address; every other write is refused, and changes nothing."""

    async def story() -> None:
        port = free_port()
        wired = [output(port, function, address) for function, address in ((5, 0), (15, 1), (6, 2), (16, 3))]
        async with SwitchBox(("127.0.0.1", port), wired), AsyncModbusTcpClient("127.0.0.1", port=port) as client:
            assert not (await client.write_coil(0, value=True)).isError()
            assert not (await client.write_coils(1, [True])).isError()
            assert not (await client.write_register(2, 1)).isError()
            assert not (await client.write_registers(3, [1])).isError()
            assert (await client.write_coil(1, value=True)).isError()
            assert (await client.write_coil(4, value=True)).isError()
            assert (await client.write_registers(3, [1, 1])).isError()
            assert (await client.write_register(0, 1)).isError()
            assert (await client.read_coils(0, count=5)).bits[:5] == [True, True, False, False, False]
            assert (await client.read_holding_registers(0, count=5)).registers == [0, 0, 1, 1, 0]
            assert (await client.read_discrete_inputs(0, count=1)).bits[0] is False

    asyncio.run(story())


def test_the_plants_boxes_stand_apart_from_its_instruments() -> None:
    """Each gateway of the ammonia plant has a siren, a beacon and a push-button at an address of their own."""
    plant = load_plant(PLANTS / "ammonia-refrigeration")
    boxes = wired_by_address(plant.file.gateways)
    assert [len(wired) for wired in boxes.values()] == [3, 3]
    devices = {d.modbus.line for gateway in plant.file.gateways for d in gateway.devices if d.modbus is not None}
    assert devices.isdisjoint(f"{host}:{port}" for host, port in boxes)
