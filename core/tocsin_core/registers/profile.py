"""Device profiles: the strict model of a register map, and the parser that names file and line of every mistake."""

import re
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from tocsin_core import readings

# Modbus Application Protocol 1.1b3, 6.1-6.4: the most that one answer can hold.
MAX_REGISTERS: Final = 125
MAX_BITS: Final = 2000
ADDRESSES: Final = 65536
BIT_FUNCTIONS: Final = frozenset({1, 2})

ValueName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*(\{n\})?$")]
Address = Annotated[int, Field(ge=0, lt=ADDRESSES)]
Function = Literal[1, 2, 3, 4]
WordOrder = Literal["ABCD", "CDAB", "DCBA", "BADC"]
NumberType = Literal["u16", "s16", "u32", "s32", "f32", "f64", "u64", "s64", "bool"]

_Location = tuple[int | str, ...]

WORDS: Final[dict[str, int]] = {
    "bool": 1,
    "u16": 1,
    "s16": 1,
    "u32": 2,
    "s32": 2,
    "f32": 2,
    "u64": 4,
    "s64": 4,
    "f64": 4,
}


class ProfileError(ValueError):
    """A profile that does not hold: every problem on a line of its own, as file:line: path: message."""


class Trust(StrEnum):
    """How well a register map is known."""

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
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


class Invalid(_Strict):
    """Raw numbers by which a device says that it has no value."""

    raw: Annotated[tuple[int, ...], BeforeValidator(_tuple)] = Field(
        min_length=1, description="Before scale and offset."
    )
    quality: Annotated[StatusQuality, Field(strict=False)] = StatusQuality.SENSOR_FAILURE


class Repeat(_Strict):
    """The same value for several channels: `{n}` in the name counts from 1."""

    count: Annotated[int, Field(ge=1, le=2000)]
    step: Annotated[int, Field(ge=1, le=1000)] = Field(1, description="Addresses from one channel to the next.")


class RegisterValue(_Strict):
    """One value in a device's registers: engineering value = raw * scale + offset.

    64-bit integers are carried as f64, exact up to 2**53. NaN is a failed sensor; +Inf and -Inf are one out of range.
    """

    function: Function = 3
    address: Address = Field(description="Wire address, from 0 (printed 40003 is 2).")
    type: NumberType
    word_order: WordOrder | None = Field(None, description="Of 32- and 64-bit values; the profile's if left out.")
    bit: Annotated[int, Field(ge=0, le=15)] | None = Field(
        None, description="`bool` in a register (function 3, 4): which bit."
    )
    scale: Annotated[float, Field(allow_inf_nan=False)] = 1.0
    offset: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    decimals_from: ValueName | None = Field(
        None, description="Value that holds the number of decimals: raw / 10**decimals."
    )
    unit: str = ""
    decimals: Annotated[int, Field(ge=0, le=6)] | None = Field(None, description="Digits worth showing.")
    invalid: Invalid | None = None
    repeat: Repeat | None = None
    description: str = ""

    @property
    def words(self) -> int:
        """Addresses it takes: registers, or one bit."""
        return WORDS[self.type]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        in_bits = self.function in BIT_FUNCTIONS
        problems = {
            "functions 1 and 2 read bits: type must be bool": in_bits and self.type != "bool",
            "a bool in a register names its bit; one read by function 1 or 2 has none": (
                (self.bit is not None) != (self.type == "bool" and not in_bits)
            ),
            "word_order is for 32- and 64-bit types": self.word_order is not None and self.words == 1,
            "scale must not be 0": self.scale == 0,
            f"address + size passes {ADDRESSES - 1}": self.address + self.words > ADDRESSES,
            "invalid.raw is for integer types": self.invalid is not None and self.type in {"f32", "f64", "bool"},
        }
        for message, found in problems.items():
            if found:
                raise ValueError(message)
        return self


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

    def holds(self, raw: int) -> bool:
        """Whether the rule applies at the status value's unscaled number."""
        if self.bit is not None:
            return bool(raw >> self.bit & 1)
        masked = raw if self.mask is None else raw & self.mask
        return masked in self.is_in if self.is_in else masked not in self.is_not_in


class Limits(_Strict):
    """What the device can bear in one request."""

    registers: Annotated[int, Field(ge=4, le=MAX_REGISTERS)] = MAX_REGISTERS
    bits: Annotated[int, Field(ge=1, le=MAX_BITS)] = MAX_BITS
    gap: Annotated[int, Field(ge=0, le=MAX_BITS)] | None = Field(
        None, description="Unwanted addresses that may be read along in a row; what is cheapest if left out."
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
    word_order: WordOrder = "ABCD"
    limits: Limits = Limits()
    illegal: Annotated[tuple[IllegalRange, ...], BeforeValidator(_tuple)] = ()
    values: dict[ValueName, RegisterValue] = Field(min_length=1)
    status: Annotated[tuple[StatusRule, ...], BeforeValidator(_tuple)] = ()

    def order_of(self, name: str) -> WordOrder:
        """Name the word order in which value `name` is sent."""
        return self.values[name].word_order or self.word_order


def parse_profile(text: str, file: str) -> Profile:
    """Read a profile from YAML; repeated values are expanded into one per channel.

    Raises:
        ProfileError: not YAML, unknown keys, wrong types, or rules that name values that are not there.
    """
    try:
        tree = YAML(typ="rt", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        raise ProfileError(f"{file}:{mark.line + 1 if mark else 1}: {error.problem}") from error
    except YAMLError as error:
        raise ProfileError(f"{file}:1: {error}") from error
    try:
        profile = Profile.model_validate(_plain(tree))
    except ValidationError as error:
        found = [(tuple(part["loc"]), part["msg"].removeprefix("Value error, ")) for part in error.errors()]
        raise ProfileError(_report(file, tree, found)) from error
    problems = [*_repeat_problems(profile)]
    if not problems:
        profile = _expand(profile)
        problems = [*_reference_problems(profile), *_illegal_problems(profile)]
    if problems:
        raise ProfileError(_report(file, tree, problems))
    return profile


def _plain(node: object) -> object:
    """Rebuild the tree without the parser's own scalar classes, which strict models refuse."""
    if isinstance(node, Mapping):
        return {_plain(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(item) for item in node]
    for scalar in (bool, int, float, str):
        if isinstance(node, scalar):
            return scalar(node)
    return node


def _report(file: str, tree: object, problems: Sequence[tuple[_Location, str]]) -> str:
    lines = sorted((_line_of(tree, path), ".".join(map(str, path)) or "profile", message) for path, message in problems)
    return "\n".join(f"{file}:{line}: {path}: {message}" for line, path, message in lines)


def _line_of(tree: object, path: _Location) -> int:
    """Find the line (from 1) of the innermost part of `path` that exists in the tree."""
    line, node = 1, tree
    for part in path:
        if isinstance(node, CommentedMap) and part in node:
            line = node.lc.key(part)[0] + 1
        elif isinstance(node, CommentedSeq) and isinstance(part, int) and part < len(node):
            line = node.lc.item(part)[0] + 1
        else:
            break
        node = node[part]
    return line


def _repeat_problems(profile: Profile) -> Iterator[tuple[_Location, str]]:
    for name, value in profile.values.items():
        if ("{n}" in name) != (value.repeat is not None):
            yield ("values", name), "{n} in the name and repeat go together"
        elif (
            value.repeat is not None
            and value.address + (value.repeat.count - 1) * value.repeat.step + value.words > ADDRESSES
        ):
            yield ("values", name, "repeat"), f"the last channel passes address {ADDRESSES - 1}"


def _expand(profile: Profile) -> Profile:
    """Every repeated value, and every rule on one, written out for its channels."""
    if not any(value.repeat for value in profile.values.values()):
        return profile
    values: dict[str, RegisterValue] = {}
    counts: dict[str, int] = {}
    for name, value in profile.values.items():
        if value.repeat is None:
            values[name] = value
            continue
        counts[name] = value.repeat.count
        for channel in range(value.repeat.count):
            address = value.address + channel * value.repeat.step
            values[_numbered(name, channel + 1)] = value.model_copy(update={"address": address, "repeat": None})
    return profile.model_copy(update={"values": values, "status": tuple(_expand_rules(profile.status, counts))})


def _expand_rules(rules: Sequence[StatusRule], counts: Mapping[str, int]) -> Iterator[StatusRule]:
    for rule in rules:
        names = (rule.value, *rule.affects)
        channels = max((counts.get(name, 1) for name in names if "{n}" in name), default=0)
        if not channels:
            yield rule
        for channel in range(1, channels + 1):
            affects = tuple(_numbered(name, channel) for name in rule.affects)
            yield rule.model_copy(update={"value": _numbered(rule.value, channel), "affects": affects})


def _numbered(name: str, channel: int) -> str:
    return name.replace("{n}", str(channel))


def _reference_problems(profile: Profile) -> Iterator[tuple[_Location, str]]:
    for name, value in profile.values.items():
        source = None if value.decimals_from is None else profile.values.get(value.decimals_from)
        if value.decimals_from is not None and (source is None or source.type != "u16"):
            yield ("values", name, "decimals_from"), f"{value.decimals_from} is not a u16 value of this profile"
    for index, rule in enumerate(profile.status):
        status = profile.values.get(rule.value)
        if status is None or re.fullmatch(r"[us]\d+", status.type) is None:
            yield ("status", index, "value"), f"{rule.value} is not an integer value of this profile"
        for missing in (name for name in rule.affects if name not in profile.values):
            yield ("status", index, "affects"), f"{missing} is not a value of this profile"


def _illegal_problems(profile: Profile) -> Iterator[tuple[_Location, str]]:
    for name, value in profile.values.items():
        for illegal in profile.illegal:
            meets = value.address <= illegal.last and illegal.first < value.address + value.words
            if value.function == illegal.function and meets:
                yield ("values", name, "address"), f"lies in the illegal range {illegal.first}-{illegal.last}"
