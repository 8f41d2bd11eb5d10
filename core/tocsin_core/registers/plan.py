"""The read plan of a device: wanted values compiled into few legal requests, which learns from what is refused."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tocsin_core.readings import BAD_COMM_FAILURE, GOOD, U8
from tocsin_core.registers.codec import U16
from tocsin_core.registers.decode import Decoded, Decoder
from tocsin_core.registers.profile import BIT_FUNCTIONS, Profile, RegisterValue
from tocsin_core.registers.requests import (
    ILLEGAL_ADDRESS,
    ILLEGAL_VALUE,
    TCP,
    Hole,
    Line,
    ReadRequest,
    Span,
    arrange,
    hole_in,
    is_legal,
)

Reply = NDArray[np.uint16] | NDArray[np.bool_] | Sequence[bool] | int


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """The requests for a set of values of one device, and how to read their answers.

    `names` are the wanted values, `line` is what the requests were priced on, `holes` what the device's refusals
    taught.
    """

    requests: tuple[ReadRequest, ...]
    names: tuple[str, ...]
    line: Line
    holes: tuple[Hole, ...]
    _profile: Profile
    _decoder: Decoder
    # Places of holes that turned out to be none.
    _closed: frozenset[tuple[int, int, int]] = frozenset()

    @property
    def pause_ms(self) -> int:
        """Least time from one answer of the device to the next question to it."""
        return self._profile.limits.pause_ms

    @property
    def cost_ms(self) -> float:
        """How long one pass over the plan keeps the line busy; the pauses leave it free for other units."""
        return sum(self.line.cost_ms(request) for request in self.requests)

    def wanted_of(self, request: ReadRequest) -> int:
        """How many of the addresses that `request` reads hold something that is wanted or needed for it."""
        spans = self._spans_in(request)
        return len({address for first, stop in spans for address in range(first, stop)})

    def refused(self, request: ReadRequest, exception: int) -> Self:
        """The plan to go on with after the device answered `request` with this exception.

        Exception 2 (illegal data address) or 3 (illegal data value): the request is split at one place and not asked
        again; `holes` of the new plan holds what was learned, to be stored (`Hole.as_row`, `holes_of`) and given to
        `compile_plan` after a restart. Each half may be refused in its turn: a bad register in the middle of n is
        alone after about log2(n) passes. A refused `doubt` proves its hole.
        A request for a single value is never given up: it goes on being asked, alone, because a device that refuses
        while it starts would otherwise stay blind for ever. For it, and for all other exceptions, the plan stays as it
        is (the same object).
        """
        if exception not in (ILLEGAL_ADDRESS, ILLEGAL_VALUE):
            return self
        spans = self._spans_in(request)
        if not spans:
            return self
        for hole in self.holes:
            if not hole.proven and self._over(hole) == request:
                return self._with([replace(hole, proven=True), *(other for other in self.holes if other != hole)])
        hole_ = hole_in(request.function, spans, exception)
        if hole_ is None or hole_.place in {hole.place for hole in self.holes}:
            return self
        # Once only may a place be closed and open again, so that learning comes to an end with any device.
        return self._with([*self.holes, replace(hole_, proven=hole_.place in self._closed)])

    def doubt(self, replies: Sequence[Reply]) -> ReadRequest | None:
        """A request to be asked besides the plan's own, once, to find out whether a split was needed; None: no doubt.

        `replies` are this pass's answers, as for `decode`. Ask it after a pass from which nothing was learned, and give
        the outcome to `answered` or `refused`; its data is not needed. It joins two requests of the plan of which one
        brought data, so that what a device refuses while it starts is not taken for its nature.
        """
        live = {request for request, reply in zip(self.requests, replies, strict=True) if not isinstance(reply, int)}
        for hole in self.holes:
            over = None if hole.proven else self._over(hole)
            if over is not None and live.intersection(self._sides(hole)):
                return over
        return None

    def answered(self, request: ReadRequest) -> Self:
        """The plan to go on with after the device answered this `doubt` with data: what it spans is no hole."""
        closed = [hole for hole in self.holes if hole.within(request)]
        if not closed:
            return self
        kept = [hole for hole in self.holes if hole not in closed]
        return replace(self._with(kept), _closed=self._closed.union(hole.place for hole in closed))

    def apart_from(self, request: ReadRequest) -> ReadRequest | None:
        """A question that the device may be asked and whose answer no late answer to `request` can pass for, if any.

        `request` need not be one of the plan's. Its data is not needed.
        """
        candidates = (*request.variants[:-1], *self.requests, request.variants[-1])
        legal = (each for each in candidates if is_legal(self._profile, each, self.holes))
        return next((each for each in legal if each.told_apart(request)), None)

    def _sides(self, hole: Hole) -> list[ReadRequest]:
        """The requests that read the two sides of a hole; fewer if the wanted values are not those of its day."""
        sides = {
            request
            for address in (hole.before, hole.after)
            for request in self.requests
            if request.function == hole.function and request.address <= address < request.address + request.count
        }
        return sorted(sides, key=lambda request: request.address)

    def _over(self, hole: Hole) -> ReadRequest | None:
        """The one request that would read what two do because of the hole, if it is legal but for that."""
        sides = self._sides(hole)
        if len(sides) != 2:  # noqa: PLR2004 - a hole has two sides
            return None
        left, right = sides
        joined = ReadRequest(hole.function, left.address, right.address + right.count - left.address)
        others = [other for other in self.holes if other != hole]
        return joined if is_legal(self._profile, joined, others) else None

    def _with(self, holes: Sequence[Hole]) -> Self:
        return replace(self.of(self._profile, self.names, self.line, holes), _closed=self._closed)

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
        return self._decoder.decode(*self._join(replies))

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

    def _spans_in(self, request: ReadRequest) -> list[Span]:
        specs = [self._profile.values[name] for name in self._decoder.names]
        stop = request.address + request.count
        return [span for span in _spans(specs, request.function) if request.address <= span[0] and span[1] <= stop]

    @classmethod
    def of(cls, profile: Profile, wanted: Sequence[str], line: Line = TCP, holes: Sequence[Hole] = ()) -> Self:
        """Compile the plan that reads `wanted` and the status values they depend on.

        Raises:
            KeyError: the profile has no value of that name.
        """
        names = (*wanted, *_needed(profile, wanted))
        specs = [profile.values[name] for name in names]
        # Of two accounts of one place, as stores merge them, the proven one sorts last and counts.
        known = tuple({hole.place: hole for hole in sorted(holes)}.values())
        requests = tuple(
            request
            for function in sorted({spec.function for spec in specs})
            for request in arrange(profile, function, _spans(specs, function), line, known)
        )
        starts = [sum(request.count for request in requests[:index]) for index in range(len(requests))]
        home = [_home(requests, spec) for spec in specs]
        word = [starts[at] + spec.address - requests[at].address for at, spec in zip(home, specs, strict=True)]
        return cls(
            requests=requests,
            names=tuple(wanted),
            line=line,
            holes=known,
            _profile=profile,
            _decoder=Decoder.of(profile, names, len(wanted), home, word),
        )


def compile_plan(profile: Profile, wanted: Sequence[str], line: Line = TCP, holes: Sequence[Hole] = ()) -> ReadPlan:
    """Compile the cheapest legal requests that read `wanted`, and the status it depends on, from such a device.

    A value is never split over two requests; a request never passes the profile's limits, touches an illegal range or
    spans one of the `holes` learned by an earlier plan. `line` is what they cost: `TCP`, or `Line.serial(…)`.

    Raises:
        KeyError: the profile has no value of that name.
    """
    return ReadPlan.of(profile, wanted, line, holes)


def _needed(profile: Profile, wanted: Sequence[str]) -> list[str]:
    """Values that are not wanted themselves but decide the quality or the scale of some that are."""
    have = set(wanted)
    # What is said of the decimals is said of what they scale.
    judged = have.union(source for name in wanted if (source := profile.values[name].decimals_from) is not None)
    needed = [rule.value for rule in profile.status if judged.intersection(rule.affects)]
    needed += [source for name in (*wanted, *needed) if (source := profile.values[name].decimals_from) is not None]
    return [name for name in dict.fromkeys(needed) if name not in have]


def _spans(specs: Sequence[RegisterValue], function: int) -> list[Span]:
    return sorted({(spec.address, spec.address + spec.words) for spec in specs if spec.function == function})


def _home(requests: Sequence[ReadRequest], spec: RegisterValue) -> int:
    """Find the request that reads the whole of the value."""
    return next(
        at
        for at, request in enumerate(requests)
        if request.function == spec.function
        and request.address <= spec.address
        and spec.address + spec.words <= request.address + request.count
    )
