"""Simulated devices on Modbus TCP: one server for each host and port, with all the units that live there."""

from collections.abc import Sequence
from typing import Final

from pymodbus.constants import ExcCodes
from pymodbus.exceptions import NoSuchIdException
from pymodbus.simulator import DataType, SimData, SimDevice

from tocsin_core.plant.model import Device
from tocsin_sim.adapters.modbus_address import Address, ModbusAddress
from tocsin_sim.world import World

REGISTER_FUNCTIONS: Final = frozenset({3, 4})
ADDRESSES: Final = 65536
ANY_OTHER_UNIT: Final = 0


def by_address(devices: Sequence[Device]) -> dict[Address, list[Device]]:
    """Group the Modbus devices by the host and port that they share; those on a serial line have neither."""
    groups: dict[Address, list[Device]] = {}
    for device in devices:
        if device.modbus is not None and device.modbus.serial is None:
            groups.setdefault((device.modbus.host, device.modbus.port), []).append(device)
    return groups


class ModbusDevices(ModbusAddress):
    """The server of one address; read-only, and silent for a unit while the scenario says so."""

    def __init__(self, world: World, address: Address, devices: Sequence[Device]) -> None:
        self._world = world
        present = {device.modbus.unit: device.id for device in devices if device.modbus is not None}
        units = [self._unit(unit, device) for unit, device in present.items()]
        if ANY_OTHER_UNIT not in present:
            units.append(_sim_device(ANY_OTHER_UNIT, _nobody_there))
        super().__init__(address, units)

    def _unit(self, unit: int, device: str) -> SimDevice:
        async def answer(
            function: int,
            start: int,
            address: int,
            count: int,
            block: list[int],
            written: list[int] | list[bool] | None,
        ) -> ExcCodes | None:
            if device in self._world.moment.silent:
                # This is how the server is made to say nothing at all.
                raise NoSuchIdException(f"{device} is silent in this scenario")
            if function not in REGISTER_FUNCTIONS or written is not None:
                return ExcCodes.ILLEGAL_FUNCTION
            registers = self._world.registers(device)
            wanted = [registers.get((function, at)) for at in range(address, address + count)]
            words = [word for word in wanted if word is not None]
            if len(words) != count:
                return ExcCodes.ILLEGAL_ADDRESS
            block[address - start : address - start + count] = words
            return None

        return _sim_device(unit, answer)


async def _nobody_there(
    function: int, start: int, address: int, count: int, block: list[int], written: list[int] | list[bool] | None
) -> ExcCodes | None:
    """Answer for every unit that is not on this line, as an RS-485 gateway does."""
    del function, start, address, count, block, written
    return ExcCodes.GATEWAY_NO_RESPONSE


def _sim_device(unit: int, action: object) -> SimDevice:
    """All addresses in one block: which of them exist, and what they hold, is decided at each request by `action`."""
    block = SimData(0, values=0, count=ADDRESSES, datatype=DataType.REGISTERS)
    return SimDevice(unit, simdata=[block], action=action)  # type: ignore[arg-type]
