"""Which Modbus requests read a set of addresses at the least cost: what a line costs, and what a device refuses."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Final, Self

from tocsin_core.registers.profile import ADDRESSES, BIT_FUNCTIONS, Profile

BITS_PER_REGISTER: Final = 16
BITS_PER_BYTE: Final = 8
# What a request costs besides its data, in registers: 8 + 5 bytes of frames, two silences and a turn-round of some
# 20 ms at 9600 baud come to about 20 registers' time on RS-485.
REQUEST_COST: Final = 20

# MODBUS over Serial Line 1.02, 2.5.1: address, function, address and count (4), CRC (2); of the answer all but data.
_QUESTION_CHARACTERS: Final = 8
_ANSWER_CHARACTERS: Final = 5
# 2.5.1.1: 3.5 characters between frames, 1.75 ms above 19200 baud.
_SILENCE_CHARACTERS: Final = 3.5
_SHORTEST_SILENCE_MS: Final = 1.75
_SILENCE_FIXED_ABOVE: Final = 19_200
_MS: Final = 1000.0

# Modbus Application Protocol 1.1b3, section 7: illegal data address, illegal data value.
ILLEGAL_ADDRESS: Final = 2
ILLEGAL_VALUE: Final = 3

Span = tuple[int, int]
"""First wire address and the one after the last."""


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """One Modbus request: function 1-4, first wire address, number of registers or bits."""

    function: int
    address: int
    count: int

    @property
    def data_bytes(self) -> int:
        """How many bytes of data its answer brings."""
        return -(-self.count // BITS_PER_BYTE) if self.function in BIT_FUNCTIONS else 2 * self.count

    def told_apart(self, other: "ReadRequest") -> bool:
        """Whether no answer with data to the one can pass for an answer to the other."""
        return (self.function, self.data_bytes) != (other.function, other.data_bytes)

    @property
    def variants(self) -> tuple["ReadRequest", ...]:
        """Questions to the same address whose answers have another length: a shorter one, if there is one, first."""
        step = BITS_PER_BYTE if self.function in BIT_FUNCTIONS else 1
        longer = replace(self, count=self.count + step)
        return (replace(self, count=self.count - step), longer) if self.count > step else (longer,)


@dataclass(frozen=True, slots=True)
class Line:
    """What reading costs on a line, in ms of its time: for each request, and for each register that it brings."""

    request_ms: float
    register_ms: float

    @classmethod
    def serial(cls, baud: int, bits_per_character: int = 11, turnaround_ms: float = 20.0) -> Self:
        """Modbus RTU: `bits_per_character` is 11, or 10 for 8N1; `turnaround_ms` until the device begins to answer."""
        character = bits_per_character * _MS / baud
        silence = _SHORTEST_SILENCE_MS if baud > _SILENCE_FIXED_ABOVE else _SILENCE_CHARACTERS * character
        frames = (_QUESTION_CHARACTERS + _ANSWER_CHARACTERS) * character
        return cls(frames + 2 * silence + turnaround_ms, 2 * character)

    def cost_ms(self, request: ReadRequest) -> float:
        """How long the line is busy with `request` and its answer."""
        per_unit = BITS_PER_REGISTER if request.function in BIT_FUNCTIONS else 1
        return self.request_ms + request.count / per_unit * self.register_ms


# The bytes cost next to nothing, the device's own scan some 10 ms; a register has its price all the same, because
# behind many an address stands a converter to a serial line of which nothing else is known.
TCP: Final = Line(10.0, 10.0 / REQUEST_COST)


@dataclass(frozen=True, slots=True, order=True)
class Hole:
    """What a device's refusals taught: no request of `function` may read both addresses, `before` and `after`.

    What lies between them, if anything, is what the device is thought not to have. `proven` says that the request over
    the hole was refused again when its parts were not, so that a device which was only starting taught nothing.
    """

    function: int
    before: int
    after: int
    proven: bool = False

    @property
    def place(self) -> tuple[int, int, int]:
        """Where it is, proven or not."""
        return (self.function, self.before, self.after)

    def as_row(self) -> tuple[int, int, int, bool]:
        """What is to be stored; `holes_of` reads it."""
        return (*self.place, self.proven)

    def within(self, request: ReadRequest) -> bool:
        """Whether `request` reads both sides."""
        last = request.address + request.count - 1
        return self.function == request.function and request.address <= self.before and self.after <= last


def holes_of(rows: Iterable[Sequence[object]]) -> tuple[Hole, ...]:
    """The holes of stored rows `(function, before, after, proven)`, in order.

    Raises:
        ValueError: a row that is no hole.
    """
    found = set()
    for row in rows:
        match row:
            case [1 | 2 | 3 | 4 as function, int(before), int(after), bool(proven)] if 0 <= before < after < ADDRESSES:
                found.add(Hole(function, before, after, proven))
            case _:
                raise ValueError(f"no hole: {row}")
    return tuple(sorted(found))


def arrange(
    profile: Profile, function: int, spans: Sequence[Span], line: Line, holes: Sequence[Hole]
) -> list[ReadRequest]:
    """Cut the sorted, distinct spans into requests of least total cost (dynamic programming over the last cut).

    A span is never split; a request passes no limit, touches no illegal range, and spans no hole.
    """
    gap_limit = float("inf") if profile.limits.gap is None else profile.limits.gap
    furthest = reach_of(spans)
    best: list[tuple[float, int]] = [(0.0, 0)]
    for end in range(1, len(spans) + 1):
        choices = []
        reach = 0
        for start in range(end - 1, -1, -1):
            reach = max(reach, spans[start][1])
            request = ReadRequest(function, spans[start][0], reach - spans[start][0])
            # One that reads a single value is all that is left to be tried.
            alone = start == end - 1
            if not alone and not is_legal(profile, request, holes):
                break
            choices.append((best[start][0] + line.cost_ms(request) + profile.limits.pause_ms, start))
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


def reach_of(spans: Sequence[Span]) -> list[int]:
    """The end of the furthest of the first 1, 2, … n sorted spans."""
    return list(accumulate((stop for _, stop in spans), max))


def hole_in(function: int, spans: Sequence[Span], exception: int) -> Hole | None:
    """Where to split a refused request that reads these sorted spans; None if they all overlap.

    Exception 2 says that some address is not there, most likely one that nobody wanted: the widest gap is taken, the
    nearest to the middle among equals. Exception 3 says that it was too much: the gap nearest to the middle.
    """
    furthest = reach_of(spans)
    middle = (spans[0][0] + furthest[-1]) / 2
    gaps = [(stop, spans[index][0]) for index, stop in enumerate(furthest[:-1], 1) if stop <= spans[index][0]]
    if not gaps:
        return None
    off_middle = {gap: abs(sum(gap) / 2 - middle) for gap in gaps}
    if exception == ILLEGAL_VALUE:
        stop, first = min(gaps, key=off_middle.__getitem__)
    else:
        stop, first = min(gaps, key=lambda gap: (gap[0] - gap[1], off_middle[gap]))
    return Hole(function, stop - 1, first)


def is_legal(profile: Profile, request: ReadRequest, holes: Sequence[Hole]) -> bool:
    """Whether `request` keeps within the device's limits, touches no illegal range, and spans no hole."""
    last = request.address + request.count - 1
    return (
        last < ADDRESSES
        and request.count <= (profile.limits.bits if request.function in BIT_FUNCTIONS else profile.limits.registers)
        and not any(
            bad.function == request.function and request.address <= bad.last and bad.first <= last
            for bad in profile.illegal
        )
        and not any(hole.within(request) for hole in holes)
    )
