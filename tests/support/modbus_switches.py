"""Modbus units with coils, inputs and registers that can be switched, and a record of every write."""

import struct
from dataclasses import dataclass, field

from tests.support.modbus_units import CODES, Fault, Unit


@dataclass
class SwitchUnit(Unit):
    """Coils and inputs by address beside the registers; what is written is noted, and taken unless `deaf`."""

    coils: dict[int, int] = field(default_factory=dict)
    inputs: dict[int, int] = field(default_factory=dict)
    written: list[tuple[int, int, int]] = field(default_factory=list)
    """Function, address and value of each write, whatever became of it."""
    deaf: bool = False
    """It answers writes as if it had taken them."""

    def answer(self, question: bytes) -> bytes:
        """Return the PDU of the answer to that of a question."""
        function = question[0]
        if function in (3, 4):
            return super().answer(question)
        if self.fault in CODES:
            return bytes([function | 0x80, CODES[self.fault]])
        address, word = struct.unpack_from(">HH", question, 1)
        if function in (1, 2):
            self.asked.append((function, address, word))
            bits = self.coils if function == 1 else self.inputs
            packed = sum(bits.get(address + at, 0) << at for at in range(word))
            size = -(-word // 8)
            return bytes([function, size]) + packed.to_bytes(size, "little")
        value = _written(question)
        self.written.append((function, address, value))
        if not self.deaf:
            (self.coils if function in (5, 15) else self.registers)[address] = value
        return question[:5]


def _written(question: bytes) -> int:
    function = question[0]
    assert len(question) == {5: 5, 6: 5, 15: 7, 16: 8}[function], question.hex()
    if function in (15, 16):
        assert question[3:6] == bytes([0, 1, 1 if function == 15 else 2]), question.hex()
        return int.from_bytes(question[6:], "big")
    word = int.from_bytes(question[3:5], "big")
    assert function == 6 or word in (0, 0xFF00), question.hex()
    return int(word > 0) if function == 5 else word


__all__ = ["Fault", "SwitchUnit"]
