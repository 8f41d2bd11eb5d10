"""Device profiles: the strict model of a register map."""

from enum import StrEnum
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from tocsin_core import readings

# Modbus Application Protocol 1.1b3, 6.1-6.4: the most that one answer can hold.
MAX_REGISTERS: Final = 125
MAX_BITS: Final = 2000
ADDRESSES: Final = 65536
BIT_FUNCTIONS: Final = frozenset({1, 2})

ValueName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*(\{n\})?$")]
Address = Annotated[int, Field(ge=0, lt=ADDRESSES)]
Function = Literal[1, 2, 3, 4]
WordOrder = Literal["ABCD", "CDAB", "DCBA", "BADC", "AB", "BA"]
NumberType = Literal[
    "bool",
    "u16",
    "s16",
    "u32",
    "s32",
    "u64",
    "s64",
    "f32",
    "f64",
    "bcd16",
    "bcd32",
    "bcd48",
    "bcd64",
    "whole-tenths",
    "string",
]

WORDS: Final[dict[str, int]] = {
    "bool": 1,
    "u16": 1,
    "s16": 1,
    "u32": 2,
    "s32": 2,
    "u64": 4,
    "s64": 4,
    "f32": 2,
    "f64": 4,
    "bcd16": 1,
    "bcd32": 2,
    "bcd48": 3,
    "bcd64": 4,
    "whole-tenths": 1,
}
INTEGERS: Final = frozenset({"u16", "s16", "u32", "s32", "u64", "s64"})
FLOATS: Final = frozenset({"f32", "f64"})
BCD: Final = frozenset({"bcd16", "bcd32", "bcd48", "bcd64"})
SHORT_ORDERS: Final = frozenset({"AB", "BA"})
REGISTER_BITS: Final = 16


class Trust(StrEnum):
    """How well a register map is known.

    `reported`: somebody else's account of the device, not its maker's; `documented`: the maker's document;
    `interop-verified`: read from a server that is not ours; `hardware-verified`: read from the device itself.
    """

    REPORTED = "reported"
    DOCUMENTED = "documented"
    INTEROP_VERIFIED = "interop-verified"
    HARDWARE_VERIFIED = "hardware-verified"


class StatusQuality(StrEnum):
    """What a status bit can say of a value, in the words of OPC Data Access 3.00, 6.8.

    `above-range` and `below-range` leave the value good: a gas detector is over its range when the gas is at its worst,
    and only good values raise alarms. `range-exceeded`, which does not say at which end, makes it uncertain.
    """

    BAD = "bad"
    CONFIGURATION = "configuration"
    NOT_CONNECTED = "not-connected"
    DEVICE_FAILURE = "device-failure"
    SENSOR_FAILURE = "sensor-failure"
    COMM_FAILURE = "comm-failure"
    OUT_OF_SERVICE = "out-of-service"
    UNCERTAIN = "uncertain"
    LAST_USABLE = "last-usable"
    NOT_ACCURATE = "not-accurate"
    RANGE_EXCEEDED = "range-exceeded"
    ABOVE_RANGE = "above-range"
    BELOW_RANGE = "below-range"

    @property
    def byte(self) -> int:
        """The OPC quality byte."""
        return _QUALITY_BYTE[self]


_QUALITY_BYTE: Final[dict[StatusQuality, int]] = {
    StatusQuality.BAD: readings.BAD,
    StatusQuality.CONFIGURATION: readings.BAD_CONFIGURATION,
    StatusQuality.NOT_CONNECTED: readings.BAD_NOT_CONNECTED,
    StatusQuality.DEVICE_FAILURE: readings.BAD_DEVICE_FAILURE,
    StatusQuality.SENSOR_FAILURE: readings.BAD_SENSOR_FAILURE,
    StatusQuality.COMM_FAILURE: readings.BAD_COMM_FAILURE,
    StatusQuality.OUT_OF_SERVICE: readings.BAD_OUT_OF_SERVICE,
    StatusQuality.UNCERTAIN: readings.UNCERTAIN,
    StatusQuality.LAST_USABLE: readings.UNCERTAIN_LAST_USABLE,
    StatusQuality.NOT_ACCURATE: readings.UNCERTAIN_SENSOR_NOT_ACCURATE,
    StatusQuality.RANGE_EXCEEDED: readings.UNCERTAIN_RANGE_EXCEEDED,
    StatusQuality.ABOVE_RANGE: readings.GOOD | readings.LIMITED_HIGH,
    StatusQuality.BELOW_RANGE: readings.GOOD | readings.LIMITED_LOW,
}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, defer_build=True)


def _tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _several(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value if value is None else (value,)


class Invalid(_Strict):
    """Raw numbers by which a device says that it has no value."""

    raw: Annotated[tuple[int | Annotated[float, Field(allow_inf_nan=False)], ...], BeforeValidator(_tuple)] = Field(
        min_length=1, description="Before scale and offset; of an f32, the number nearest to the one given."
    )
    quality: Annotated[StatusQuality, Field(strict=False)] = StatusQuality.SENSOR_FAILURE


class Repeat(_Strict):
    """The same value for several channels: `{n}` in the name counts from 1."""

    count: Annotated[int, Field(ge=1, le=2000)]
    step: Annotated[int, Field(ge=1, le=1000)] = Field(1, description="Addresses from one channel to the next.")


class RegisterValue(_Strict):
    """One value in a device's registers: engineering value = raw * scale + offset.

    64-bit numbers are carried as f64, exact up to 2**53. NaN is a failed sensor; +Inf and -Inf are one out of range.
    `bcdNN` holds NN / 4 decimal digits, the first to travel the highest. `whole-tenths` holds the whole number in the
    high byte and the tenths in the low one (0x1409 is 20.9).
    """

    function: Function = 3
    address: Address = Field(description="Wire address, from 0 (printed 40003 is 2).")
    type: NumberType
    word_order: WordOrder | None = Field(
        None, description="Of 32 bits and more; the profile's if left out. Of 16 bits and strings: AB, or BA swapped."
    )
    bit: Annotated[int, Field(ge=0, le=15)] | None = Field(
        None, description="`bool` in a register (function 3, 4): which bit."
    )
    bits: Annotated[tuple[Annotated[int, Field(ge=0)], int], BeforeValidator(_tuple)] | None = Field(
        None, description="The number is these bits of an integer type only, [lowest, highest]: [8, 15] is a high byte."
    )
    characters: Annotated[int, Field(ge=1, le=2 * MAX_REGISTERS)] | None = Field(
        None, description="`string`: how many, two to a register."
    )
    scale: Annotated[float, Field(allow_inf_nan=False)] = 1.0
    offset: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    decimals_from: ValueName | None = Field(
        None, description="Value that holds the number of decimals: raw / 10**decimals."
    )
    unit: str = ""
    decimals: Annotated[int, Field(ge=0, le=6)] | None = Field(None, description="Digits worth showing.")
    invalid: Annotated[tuple[Invalid, ...], BeforeValidator(_several)] | None = None
    repeat: Repeat | None = None
    description: str = ""

    @property
    def words(self) -> int:
        """Addresses it takes: registers, or one bit."""
        return WORDS[self.type] if self.characters is None else (self.characters + 1) // 2

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        in_bits = self.function in BIT_FUNCTIONS
        for message, found in (
            ("functions 1 and 2 read bits: type must be bool", in_bits and self.type != "bool"),
            (
                "a bool in a register names its bit; one read by function 1 or 2 has none",
                (self.bit is not None) != (self.type == "bool" and not in_bits),
            ),
            (
                "a string names its characters; nothing else has any",
                (self.characters is None) == (self.type == "string"),
            ),
            ("scale must not be 0", self.scale == 0),
        ):
            if found:
                raise ValueError(message)
        self._check_order(in_bits=in_bits)
        self._check_parts()
        if self.address + self.words > ADDRESSES:
            raise ValueError(f"address + size passes {ADDRESSES - 1}")
        return self

    def _check_order(self, *, in_bits: bool) -> None:
        if self.word_order is None:
            return
        short = self.words == 1 or self.type == "string"
        if in_bits or short != (self.word_order in SHORT_ORDERS):
            raise ValueError("word_order is for 32 bits and more; of 16 bits and of a string it is AB or BA")

    def _check_parts(self) -> None:
        if self.bits is not None:
            low, high = self.bits
            size = self.words * REGISTER_BITS
            if self.type not in INTEGERS or not low <= high < size or (low, high) == (0, size - 1):
                raise ValueError("bits are [lowest, highest] of an integer type, not all of it")
        if self.type == "string" and (self.scale, self.offset, self.decimals_from, self.invalid) != (1, 0, None, None):
            raise ValueError("a string has no scale, offset, decimals_from or invalid")
        codes = [raw for invalid in self.invalid or () for raw in invalid.raw]
        if codes and self.type == "bool":
            raise ValueError("invalid is not for bool")
        if self.type not in FLOATS and any(isinstance(raw, float) for raw in codes):
            raise ValueError("invalid.raw of an integer type are whole numbers")


class StatusRule(_Strict):
    """When a status value has this bit or code, these values have that quality."""

    value: ValueName = Field(description="The status value that is looked at.")
    bit: Annotated[int, Field(ge=0, le=63)] | None = Field(None, description="Holds when this bit is 1.")
    mask: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Bits that is_in / is_not_in look at; all if left out."
    )
    is_in: Annotated[tuple[int, ...], BeforeValidator(_tuple)] = ()
    is_not_in: Annotated[tuple[int, ...], BeforeValidator(_tuple)] = ()
    quality: Annotated[StatusQuality, Field(strict=False)]
    affects: Annotated[tuple[ValueName, ...], BeforeValidator(_tuple)] = Field(min_length=1)
    description: str = ""

    @model_validator(mode="after")
    def _one_test(self) -> Self:
        if (self.bit is not None) + bool(self.is_in) + bool(self.is_not_in) != 1:
            raise ValueError("give exactly one of bit, is_in, is_not_in")
        if self.bit is not None and self.mask is not None:
            raise ValueError("mask goes with is_in or is_not_in")
        return self

    @property
    def codes(self) -> tuple[int, ...]:
        """The unscaled numbers that are looked for among the status value's bits in `looked_at`."""
        return (1 << self.bit,) if self.bit is not None else self.is_in or self.is_not_in

    @property
    def looked_at(self) -> int:
        """Mask of the bits that count."""
        return 1 << self.bit if self.bit is not None else -1 if self.mask is None else self.mask


class Limits(_Strict):
    """What the device can bear in one request."""

    registers: Annotated[int, Field(ge=1, le=MAX_REGISTERS)] = MAX_REGISTERS
    bits: Annotated[int, Field(ge=1, le=MAX_BITS)] = MAX_BITS
    gap: Annotated[int, Field(ge=0, le=MAX_BITS)] | None = Field(
        None, description="Unwanted addresses that may be read along in a row; what is cheapest if left out."
    )
    pause_ms: Annotated[int, Field(ge=0, le=60_000)] = Field(
        0, description="Least time from one answer of this device to the next question to it."
    )


class IllegalRange(_Strict):
    """Addresses that the device answers with an exception, or must not be asked for."""

    function: Function
    first: Address
    last: Address

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.last < self.first:
            raise ValueError("last is before first")
        return self


class Profile(_Strict):
    """The register map of one device model."""

    vendor: str = Field(min_length=1)
    model: str = Field(min_length=1)
    trust: Annotated[Trust, Field(strict=False)]
    source: str = Field(min_length=1, description="Where the map is from.")
    caveats: Annotated[tuple[str, ...], BeforeValidator(_tuple)] = Field(
        (), description="What is not known, contradicts itself or has to be looked at on the device."
    )
    word_order: Literal["ABCD", "CDAB", "DCBA", "BADC"] = "ABCD"
    limits: Limits = Limits.model_construct()
    illegal: Annotated[tuple[IllegalRange, ...], BeforeValidator(_tuple)] = ()
    values: dict[ValueName, RegisterValue] = Field(min_length=1)
    status: Annotated[tuple[StatusRule, ...], BeforeValidator(_tuple)] = ()

    def order_of(self, name: str) -> WordOrder:
        """Name the order in which the bytes of value `name` travel: AB or BA if it is of 16 bits or a string."""
        value = self.values[name]
        short = value.words == 1 or value.type == "string"
        return value.word_order or ("AB" if short else self.word_order)
