"""How a Modbus device is reached: TCP, a serial line, or RTU frames over TCP, and which devices share one line."""

from collections.abc import Iterable
from typing import Annotated, Final, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from tocsin_core.plant.fields import PORT_FILE, Host, Port, Strict
from tocsin_core.plant.source import Path, Source

# MODBUS over Serial Line 1.02, 2.2: 0 is for broadcasts, which nobody answers; 248 to 255 are reserved.
SERIAL_UNITS: Final = range(1, 248)


class Serial(Strict):
    """A serial line (RS-485 or RS-232) of the gateway; the devices on it agree on how it is set."""

    port: Annotated[str, StringConstraints(pattern=PORT_FILE)] = Field(
        description="Device file of the port; best a name that stays, from /dev/serial/by-id."
    )
    baud: Literal[1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200] = Field(9600, description="Bits per second.")
    parity: Literal["none", "even", "odd"] = Field("none", description="Parity bit.")
    stop_bits: Literal[1, 2] = Field(1, description="Stop bits; the standard wants 2 where there is no parity.")

    @property
    def bits_per_character(self) -> int:
        """Start, 8 data, parity and stop bits: how long one byte holds the line, in bits."""
        return 1 + 8 + (self.parity != "none") + self.stop_bits


class Modbus(Strict):
    """Where a Modbus device is and how patient to be with it: at `host`, or on a `serial` line of the gateway."""

    host: Host = Field("127.0.0.1", description="Host name or address of the device, or of its serial converter.")
    port: Port = Field(502, description="TCP port.")
    framing: Literal["tcp", "rtu"] = Field(
        "tcp", description="`rtu`: the converter at `host` passes bytes on as they are, without Modbus TCP's header."
    )
    serial: Serial | None = Field(None, description="Serial line on which it is, instead of `host` and `port`.")
    unit: Annotated[int, Field(ge=0, le=255)] = Field(1, description="Unit identifier (slave address).")
    timeout_ms: Annotated[int, Field(ge=50, le=30000)] = Field(500, description="How long one answer may take.")
    retries: Annotated[int, Field(ge=0, le=5)] = Field(1, description="How often a question is asked again.")

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.serial is not None and self.model_fields_set & {"host", "port", "framing"}:
            msg = "give either a serial line, or host, port and framing"
            raise ValueError(msg)
        if self.rtu and self.unit not in SERIAL_UNITS:
            msg = f"on a serial line units are {SERIAL_UNITS[0]} to {SERIAL_UNITS[-1]}"
            raise ValueError(msg)
        return self

    @property
    def rtu(self) -> bool:
        """Whether the frames are RTU's: checksum and silence instead of a header with a transaction number."""
        return self.serial is not None or self.framing == "rtu"

    @property
    def line(self) -> str:
        """The name of the line; devices of one gateway that have the same share it."""
        return self.serial.port if self.serial is not None else f"{self.host}:{self.port}"


Reached = tuple[Path, str, str, Modbus]
"""Something on a line: its path, its gateway's id, what it is called (like "device 'D1'"), and how it is reached."""


def check_connections(devices: Iterable[Reached], beside: Iterable[Reached], source: Source) -> None:
    """Note in `source` where two cannot both be reached; what is `beside` the devices may share their units."""
    taken: dict[tuple[str, str, int], str] = {}
    lines: dict[tuple[str, str], tuple[str, Modbus]] = {}
    for reached in devices:
        path, gateway, name, modbus = reached
        key = (*_place(gateway, modbus), modbus.unit)
        if key in taken:
            source.problem((*path, "modbus"), f"the same address as {taken[key]}")
        taken[key] = name
        _agree(reached, lines, source)
    for reached in beside:
        _agree(reached, lines, source)


def _place(gateway: str, modbus: Modbus) -> tuple[str, str]:
    # A port file belongs to its gateway's own machine; a host and port is the same place for everybody.
    return gateway if modbus.serial is not None else "", modbus.line


def _agree(reached: Reached, lines: dict[tuple[str, str], tuple[str, Modbus]], source: Source) -> None:
    """Those on one line set it alike."""
    path, gateway, name, modbus = reached
    other, first = lines.setdefault(_place(gateway, modbus), (name, modbus))
    if (modbus.serial, modbus.framing) != (first.serial, first.framing):
        source.problem((*path, "modbus"), f"on the line of {other}, which sets it otherwise")
