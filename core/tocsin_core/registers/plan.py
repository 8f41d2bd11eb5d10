"""The read planner: wanted values compiled into few legal requests, and their answers decoded into columns."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from tocsin_core.readings import (
    BAD_COMM_FAILURE,
    BAD_CONFIGURATION,
    BAD_SENSOR_FAILURE,
    F64,
    GOOD,
    I64,
    LIMITED_HIGH,
    LIMITED_LOW,
    QUALITY_MASK,
    U8,
    UNCERTAIN,
    is_bad,
)
from tocsin_core.registers.codec import U16, as_f64, to_numbers
from tocsin_core.registers.profile import BIT_FUNCTIONS, Invalid, Profile, RegisterValue, StatusRule

# What a request costs besides its data, in registers: 8 + 5 bytes of frames and a turn-round of some 30 ms at 9600 baud
# come to about 20 registers' time on RS-485; over TCP the device's own scan makes it dearer still.
REQUEST_COST: Final = 20
BITS_PER_REGISTER: Final = 16

Reply = NDArray[np.uint16] | NDArray[np.bool_] | Sequence[bool] | int


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """One Modbus request: function 1-4, first wire address, number of registers or bits."""

    function: int
    address: int
    count: int


@dataclass(frozen=True, slots=True)
class Decoded:
    """Values f64[n] (NaN where bad) and OPC quality bytes u8[n], in the order in which they were wanted."""

    value: F64
    quality: U8


@dataclass(frozen=True, slots=True)
class _Group:
    """Values of one type and word order: where their words lie in the joined answers, and where the values go."""

    kind: str
    order: str
    column: I64
    words: I64


@dataclass(frozen=True, slots=True)
class _Rule:
    rule: StatusRule
    status: int
    columns: I64


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """The requests for a set of values of one device, and how to read their answers."""

    requests: tuple[ReadRequest, ...]
    names: tuple[str, ...]
    _specs: tuple[RegisterValue, ...]
    _groups: tuple[_Group, ...]
    _bits: tuple[tuple[int, int, int], ...]
    _request: I64
    _scale: F64
    _offset: F64
    _invalid: tuple[tuple[int, Invalid], ...]
    _decimals: tuple[tuple[int, int], ...]
    _rules: tuple[_Rule, ...]

    def decode(self, replies: Sequence[Reply]) -> Decoded:
        """Read the wanted values out of the answers to `requests`, one answer each.

        An answer is u16 registers, bits, or the quality byte of a request that failed; one of the wrong length is a
        comm failure.
        A value whose status could not be read is uncertain at best.

        Raises:
            ValueError: the number of answers is not that of the requests.
        """
        if len(replies) != len(self.requests):
            raise ValueError(f"{len(replies)} replies to {len(self.requests)} requests")
        flat, failed = self._join(replies)
        quality = failed[self._request].astype(np.uint8)
        raw = np.zeros(len(self._specs), dtype=object)
        value = np.full(len(self._specs), np.nan)
        for group in self._groups:
            numbers = to_numbers(flat[group.words], group.kind, group.order)
            raw[group.column] = numbers.tolist()
            value[group.column] = as_f64(numbers)
        for column, word, bit in self._bits:
            raw[column] = value[column] = int(flat[word]) >> bit & 1
        unread = quality != GOOD
        with np.errstate(over="ignore"):
            value = value * self._scale + self._offset
        self._mark_missing(raw, value, quality)
        self._scale_by_decimals(raw, value, quality)
        self._apply_status(raw, unread, quality)
        value[is_bad(quality)] = np.nan
        wanted = len(self.names)
        return Decoded(value[:wanted], quality[:wanted])

    def _join(self, replies: Sequence[Reply]) -> tuple[U16, U8]:
        """All answers end to end, zeros for the missing ones, and each request's own quality."""
        parts: list[U16] = []
        failed = np.full(len(self.requests), GOOD, dtype=np.uint8)
        for index, (request, reply) in enumerate(zip(self.requests, replies, strict=True)):
            if isinstance(reply, int):
                failed[index], content = reply, None
            else:
                content = np.asarray(reply).astype(np.uint16)
                # Bits arrive in whole bytes, so an answer to function 1 or 2 may have some to spare.
                if content.ndim == 1 and request.function in BIT_FUNCTIONS:
                    content = content[: request.count]
                if content.shape != (request.count,):
                    failed[index], content = BAD_COMM_FAILURE, None
            parts.append(np.zeros(request.count, dtype=np.uint16) if content is None else content)
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint16), failed

    def _mark_missing(self, raw: NDArray[np.object_], value: F64, quality: U8) -> None:
        for column, invalid in self._invalid:
            if raw[column] in invalid.raw and quality[column] == GOOD:
                quality[column] = invalid.quality.byte
        good = quality == GOOD
        quality[good & np.isnan(value)] = BAD_SENSOR_FAILURE
        quality[good & np.isposinf(value)] = BAD_SENSOR_FAILURE | LIMITED_HIGH
        quality[good & np.isneginf(value)] = BAD_SENSOR_FAILURE | LIMITED_LOW

    def _scale_by_decimals(self, raw: NDArray[np.object_], value: F64, quality: U8) -> None:
        for column, source in self._decimals:
            if is_bad(quality[source : source + 1])[0]:
                quality[column] = quality[source]
            elif not 0 <= raw[source] <= 9:  # noqa: PLR2004 - one decimal digit: no device shows more places
                quality[column] = BAD_CONFIGURATION
            else:
                value[column] /= 10.0 ** raw[source]

    def _apply_status(self, raw: NDArray[np.object_], unread: NDArray[np.bool_], quality: U8) -> None:
        """Bad outranks uncertain, which outranks good beyond an end; among equals the rule written first speaks."""
        for rule in self._rules:
            if unread[rule.status]:
                byte = UNCERTAIN
            elif rule.rule.holds(raw[rule.status]):
                byte = rule.rule.quality.byte
            else:
                continue
            current = quality[rule.columns]
            worse = (current == GOOD) | ((current & QUALITY_MASK) > (byte & QUALITY_MASK))
            quality[rule.columns] = np.where(worse, np.uint8(byte), current)

    @classmethod
    def of(cls, profile: Profile, wanted: Sequence[str]) -> Self:
        """Compile the plan that reads `wanted` and the status values they depend on.

        Raises:
            KeyError: the profile has no value of that name.
        """
        names = (*wanted, *_needed(profile, wanted))
        specs = tuple(profile.values[name] for name in names)
        requests = tuple(_requests(profile, specs))
        starts = np.concatenate([[0], np.cumsum([request.count for request in requests])]).astype(np.int64)
        home = [_home(requests, spec) for spec in specs]
        word = [int(starts[at]) + spec.address - requests[at].address for at, spec in zip(home, specs, strict=True)]
        last = {name: column for column, name in enumerate(names)}
        return cls(
            requests=requests,
            names=tuple(wanted),
            _specs=specs,
            _groups=tuple(_groups(profile, names, specs, word)),
            _bits=tuple((i, word[i], spec.bit or 0) for i, spec in enumerate(specs) if spec.type == "bool"),
            _request=np.array(home, dtype=np.int64),
            _scale=np.array([spec.scale for spec in specs]),
            _offset=np.array([spec.offset for spec in specs]),
            _invalid=tuple((i, spec.invalid) for i, spec in enumerate(specs) if spec.invalid is not None),
            _decimals=tuple(
                (i, last[spec.decimals_from]) for i, spec in enumerate(specs) if spec.decimals_from is not None
            ),
            _rules=tuple(_rules(profile, names, last)),
        )


def compile_plan(profile: Profile, wanted: Sequence[str]) -> ReadPlan:
    """Compile the cheapest legal requests that read `wanted`, and the status it depends on, from such a device.

    A value is never split over two requests; a request never passes the profile's limits or touches an illegal range.

    Raises:
        KeyError: the profile has no value of that name.
    """
    return ReadPlan.of(profile, wanted)


def _needed(profile: Profile, wanted: Sequence[str]) -> list[str]:
    """Values that are not wanted themselves but decide the quality or the scale of some that are."""
    have = set(wanted)
    needed = [rule.value for rule in profile.status if have.intersection(rule.affects)]
    needed += [source for name in (*wanted, *needed) if (source := profile.values[name].decimals_from) is not None]
    return [name for name in dict.fromkeys(needed) if name not in have]


def _groups(
    profile: Profile, names: Sequence[str], specs: Sequence[RegisterValue], word: Sequence[int]
) -> list[_Group]:
    members: dict[tuple[str, str, int], list[int]] = {}
    for column, (name, spec) in enumerate(zip(names, specs, strict=True)):
        if spec.type != "bool":
            members.setdefault((spec.type, profile.order_of(name), spec.words), []).append(column)
    return [
        _Group(
            kind,
            order,
            np.array(columns),
            np.array([[word[column] + step for step in range(size)] for column in columns]),
        )
        for (kind, order, size), columns in members.items()
    ]


def _rules(profile: Profile, names: Sequence[str], last: dict[str, int]) -> list[_Rule]:
    compiled = []
    for rule in profile.status:
        columns = [column for column, name in enumerate(names) if name in rule.affects]
        if columns:
            compiled.append(_Rule(rule, last[rule.value], np.array(columns)))
    return compiled


def _home(requests: Sequence[ReadRequest], spec: RegisterValue) -> int:
    """Find the request that reads the whole of the value."""
    return next(
        at
        for at, request in enumerate(requests)
        if request.function == spec.function
        and request.address <= spec.address
        and spec.address + spec.words <= request.address + request.count
    )


def _requests(profile: Profile, specs: Sequence[RegisterValue]) -> list[ReadRequest]:
    requests = []
    for function in sorted({spec.function for spec in specs}):
        spans = sorted({(spec.address, spec.address + spec.words) for spec in specs if spec.function == function})
        requests += _cheapest(profile, function, spans)
    return requests


def _cheapest(profile: Profile, function: int, spans: Sequence[tuple[int, int]]) -> list[ReadRequest]:
    """Cut the sorted spans into requests of least total cost (dynamic programming over the last cut)."""
    in_bits = function in BIT_FUNCTIONS
    limit = profile.limits.bits if in_bits else profile.limits.registers
    per_unit = BITS_PER_REGISTER if in_bits else 1
    furthest = list(accumulate((stop for _, stop in spans), max))
    gap_limit = float("inf") if profile.limits.gap is None else profile.limits.gap
    best: list[tuple[float, int]] = [(0.0, 0)]
    for end in range(1, len(spans) + 1):
        choices = []
        reach = 0
        for start in range(end - 1, -1, -1):
            reach = max(reach, spans[start][1])
            count = reach - spans[start][0]
            if count > limit or not _legal(profile, function, spans[start][0], reach):
                break
            choices.append((best[start][0] + REQUEST_COST + count / per_unit, start))
            if start and spans[start][0] - furthest[start - 1] > gap_limit:
                break
        best.append(min(choices))
    requests: list[ReadRequest] = []
    end = len(spans)
    while end:
        start = best[end][1]
        first = spans[start][0]
        requests.append(ReadRequest(function, first, max(stop for _, stop in spans[start:end]) - first))
        end = start
    return requests[::-1]


def _legal(profile: Profile, function: int, first: int, stop: int) -> bool:
    return not any(bad.function == function and first <= bad.last and bad.first < stop for bad in profile.illegal)
