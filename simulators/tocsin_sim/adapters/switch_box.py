"""A simulated relay box: the outputs of a plant file that can be switched, and push-buttons that nobody presses."""

from collections import defaultdict
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

import structlog
from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from tocsin_core.plant.model import Gateway
from tocsin_core.plant.outputs import Button, Output

SERVED: Final = 64
"""Addresses of each kind that a box has; beyond them there is nothing."""

Address = tuple[str, int]
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


class SwitchBox:
    """The server of one address: it takes writes to what the plant file wires there, and to nothing else."""

    def __init__(self, address: Address, wired: Sequence[Wired]) -> None:
        self._address = address
        self._units: dict[int, list[Wired]] = defaultdict(list)
        for each in wired:
            self._units[each.modbus.unit].append(each)
        self._state: dict[str, int] = {}
        self._server: ModbusTcpServer | None = None

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            RuntimeError: the address is taken.
        """
        units = [self._unit(unit, wired) for unit, wired in self._units.items()]
        self._server = ModbusTcpServer(units, address=self._address, ignore_missing_devices=True)
        try:
            await self._server.serve_forever(background=True)
        except RuntimeError as error:
            raise RuntimeError(f"Modbus {self._address[0]}:{self._address[1]} cannot be listened on") from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening and drop every connection."""
        if self._server is not None:
            await self._server.shutdown()  # type: ignore[no-untyped-call]

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
