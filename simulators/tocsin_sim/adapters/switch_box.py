"""A simulated relay box: the outputs of a plant file that can be switched, and push-buttons that nobody presses."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import structlog
from pymodbus.constants import ExcCodes
from pymodbus.simulator import DataType, SimData, SimDevice

from tocsin_core.plant.model import Gateway
from tocsin_core.plant.outputs import Button, Output
from tocsin_sim.adapters.modbus_address import Address, ModbusAddress

SERVED: Final = 64
"""Addresses of each kind that a box has; beyond them there is nothing."""

Wired = Output | Button

log = structlog.get_logger()


def wired_by_address(gateways: Sequence[Gateway]) -> dict[Address, list[Wired]]:
    """Group outputs and push-buttons by the host and port that they share; those on a serial line have neither."""
    groups: dict[Address, list[Wired]] = {}
    for gateway in gateways:
        wired: list[Wired] = [*gateway.outputs, *gateway.acknowledge]
        for each in wired:
            if each.modbus.serial is None:
                groups.setdefault((each.modbus.host, each.modbus.port), []).append(each)
    return groups


class SwitchBox(ModbusAddress):
    """The server of one address: it takes writes to what the plant file wires there, and to nothing else."""

    def __init__(self, address: Address, wired: Sequence[Wired]) -> None:
        units: dict[int, list[Wired]] = defaultdict(list)
        for each in wired:
            units[each.modbus.unit].append(each)
        self._state: dict[str, int] = {}
        super().__init__(address, [self._unit(unit, there) for unit, there in units.items()])

    def _unit(self, unit: int, wired: Sequence[Wired]) -> SimDevice:
        outputs: dict[tuple[int, int], Output] = {
            (each.function, each.address): each for each in wired if isinstance(each, Output)
        }

        async def answer(
            function: int,
            start: int,
            address: int,
            count: int,
            block: list[int],
            written: list[int] | list[bool] | None,
        ) -> ExcCodes | None:
            del start, block
            if written is None:
                return None
            output = outputs.get((function, address))
            if output is None or count != 1:
                return ExcCodes.ILLEGAL_ADDRESS
            self._switch(output, int(written[0]))
            return None

        bits = [SimData(0, values=False, count=SERVED, datatype=DataType.BITS)]
        words = [SimData(0, values=0, count=SERVED, datatype=DataType.REGISTERS)]
        return SimDevice(unit, simdata=(bits, bits, words, words), action=answer)

    def _switch(self, output: Output, value: int) -> None:
        if self._state.get(output.id, output.off) != value:
            log.warning("switched", output=output.id, kind=output.kind, on=value == output.on)
        self._state[output.id] = value
