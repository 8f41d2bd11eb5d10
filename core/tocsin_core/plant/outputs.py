"""What a gateway switches and hears beside its devices: sirens, beacons, relays, and push-buttons that acknowledge."""

from collections.abc import Iterable
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from tocsin_core.plant.connection import Modbus
from tocsin_core.plant.fields import Identifier, Listed, Name, Strict
from tocsin_core.plant.source import Path, Source

COILS: Final = (5, 15)
"""Functions that write coils; the others write holding registers."""
REGISTERS_READ: Final = (3, 4)

Address = Annotated[int, Field(ge=0, le=65535)]
Word = Annotated[int, Field(ge=0, le=65535)]


class Output(Strict):
    """A siren, beacon or relay that the gateway switches by itself: one coil or holding register, and never another."""

    id: Identifier = Field(description="Unique among the outputs and push-buttons of its gateway.")
    name: Name | None = Field(None, description="What people call it.")
    kind: Literal["siren", "beacon", "relay"] = Field(
        description="A siren is on until all alarms it follows are acknowledged, a beacon or relay while one stands."
    )
    modbus: Modbus = Field(description="How the unit is reached that switches it; it may be one that is also read.")
    function: Literal[5, 6, 15, 16] = Field(
        5, description="How it is written: 5 or 15 a coil, 6 or 16 a holding register."
    )
    address: Address = Field(description="Of the coil or register on the wire, counted from 0.")
    on: Word = Field(1, description="What is written to switch it on; of a coil 0 or 1.")
    off: Word = Field(0, description="What is written to switch it off; of a coil 0 or 1.")
    read_back: bool = Field(
        default=True, description="Read after each write (function 1 or 3) whether it has taken it."
    )
    refresh_ms: Annotated[int, Field(ge=500, le=60_000)] = Field(
        5000, description="Written anew this often, for a unit that was restarted."
    )
    min_priority: Literal["low", "medium", "high", "critical"] = Field(
        "high", description="It follows alarms from this priority on."
    )
    sources: Annotated[tuple[Identifier, ...], Listed] = Field(
        (), description="It follows the alarms of these hazard sources, and of `points`; of all if both are left out."
    )
    points: Annotated[tuple[Identifier, ...], Listed] = Field((), description="It follows the alarms of these points.")

    @model_validator(mode="after")
    def _two_states(self) -> Self:
        if self.on == self.off:
            msg = "on and off are the same"
            raise ValueError(msg)
        if self.coil and max(self.on, self.off) > 1:
            msg = "a coil is 0 or 1"
            raise ValueError(msg)
        return self

    @property
    def coil(self) -> bool:
        """Whether it is a coil, and not a holding register."""
        return self.function in COILS

    @property
    def place(self) -> tuple[str, int, bool, int]:
        """What it switches, under whatever id: line, unit, whether a coil, address."""
        return self.modbus.line, self.modbus.unit, self.coil, self.address


class Button(Strict):
    """A push-button that acknowledges the alarms of its gateway: one input, coil, or bit of a register."""

    id: Identifier = Field(description="Unique among the outputs and push-buttons of its gateway.")
    name: Name | None = Field(None, description="What people call it.")
    modbus: Modbus = Field(description="How the unit is reached that has it; it may be one that is also read.")
    function: Literal[1, 2, 3, 4] = Field(
        2, description="How it is read: 1 a coil, 2 a discrete input, 3 a holding register, 4 an input register."
    )
    address: Address = Field(description="On the wire, counted from 0.")
    bit: Annotated[int, Field(ge=0, le=15)] | None = Field(
        None, description="Of a register: which bit, counted from 0 (the lowest)."
    )
    pressed: Annotated[int, Field(ge=0, le=1)] = Field(1, description="What it reads while it is pressed.")
    period_ms: Annotated[int, Field(ge=100, le=2000)] = Field(
        200, description="How often it is read; it must be held for two readings."
    )

    @model_validator(mode="after")
    def _one_bit(self) -> Self:
        if (self.bit is not None) is not (self.function in REGISTERS_READ):
            msg = "functions 3 and 4 name a bit, 1 and 2 do not"
            raise ValueError(msg)
        return self


def check_outputs(found: Iterable[tuple[Path, str, Output]], of: dict[str, str], source: Source) -> None:
    """Note in `source` what is wrong with outputs (path, gateway's id, itself); `of` is the gateway of each point."""
    taken: dict[tuple[str, tuple[str, int, bool, int]], str] = {}
    for path, gateway, output in found:
        modbus = output.modbus
        if modbus.unit == 0:
            source.problem((*path, "modbus", "unit"), "0 is every unit of the line: name the one that has the output")
        # A port file belongs to its gateway's own machine; a host and port is the same place for everybody.
        key = (gateway if modbus.serial is not None else "", output.place)
        if key in taken:
            source.problem((*path, "address"), f"the same as that of output {taken[key]!r}")
        taken[key] = output.id
        for number, point in enumerate(output.points):
            if of.get(point, gateway) != gateway:
                source.problem(
                    (*path, "points", number), f"{point!r} is a point of gateway {of[point]!r}, not of this one"
                )
