"""The only Modbus writes there are: an output of the plant file, on or off."""

import struct
from dataclasses import dataclass
from typing import Final

from tocsin_core.plant.outputs import Output
from tocsin_core.registers import ReadRequest

WRITE_COIL: Final = 5
WRITE_REGISTER: Final = 6
WRITE_COILS: Final = 15
COIL_ON: Final = 0xFF00
"""MODBUS Application Protocol 1.1b3, 6.5: what function 5 writes for 1; 0 stands for 0."""


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """Switch `output` on or off. There is no way to say anything else, and nothing else is made into bytes."""

    output: Output
    on: bool

    @property
    def function(self) -> int:
        """5 or 15 for a coil, 6 or 16 for a holding register."""
        return self.output.function

    @property
    def value(self) -> int:
        """What the coil or register is set to."""
        return self.output.on if self.on else self.output.off

    @property
    def pdu(self) -> bytes:
        """Function, address and value (MODBUS Application Protocol 1.1b3, 6.5, 6.6, 6.11 and 6.12)."""
        address, value = self.output.address, self.value
        match self.function:
            case 5:
                return struct.pack(">BHH", WRITE_COIL, address, COIL_ON if value else 0)
            case 6:
                return struct.pack(">BHH", WRITE_REGISTER, address, value)
            case 15:
                return struct.pack(">BHHBB", WRITE_COILS, address, 1, 1, value)
            case other:
                return struct.pack(">BHHBH", other, address, 1, 2, value)

    @property
    def echo(self) -> bytes:
        """What a unit answers that has taken it: all of it for one coil or register, its beginning for several."""
        return self.pdu[:5]

    @property
    def back(self) -> ReadRequest:
        """The question that reads back what was written."""
        return ReadRequest(1 if self.output.coil else 3, self.output.address, 1)
