"""One simulated Modbus TCP address: its server, from listening to the last connection dropped."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import SimDevice

Address = tuple[str, int]


class ModbusAddress:
    """The server of one host and port, with all the units that live there."""

    def __init__(self, address: Address, units: Sequence[SimDevice]) -> None:
        """Prepare; it listens while entered."""
        self._address = address
        self._units = list(units)
        self._server: ModbusTcpServer | None = None

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            RuntimeError: the address is taken.
        """
        self._server = ModbusTcpServer(self._units, address=self._address, ignore_missing_devices=True)
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
