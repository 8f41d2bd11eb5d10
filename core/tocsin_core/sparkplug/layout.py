"""Data messages that look as one before them did, but for times, values and numbers: read in columns, not by metric."""

# A device sends the same metrics in the same order from second to second: all tags, lengths, aliases, types and
# qualities stand in the same places. What was learned of one such message reads the next ones with a few array
# operations. Whatever differs by one byte beyond what may differ is not read here.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from tocsin_core.readings import EARLIEST_NS, F64, I32, I64, LATEST_NS, U8, Frame
from tocsin_core.sparkplug.payload import BATCH, NS_PER_MS

# Further ahead of the host is a wrong clock, not a fast one; such a reading would stand as the newest for ever. Whose
# clock is wrong, the sender's or the host's own, is the caller's to find out.
FUTURE_NS: Final = 86_400_000_000_000

# Protobuf tags, field number * 8 + wire type, of what a layout may hold (sparkplug_b.proto); all of one byte.
_TIMESTAMP, _METRIC, _SEQ = 0x08, 0x12, 0x18
_NAME, _ALIAS, _TIME, _TYPE, _HISTORICAL, _NULL, _PROPERTIES = 0x0A, 0x10, 0x18, 0x20, 0x28, 0x38, 0x4A
_LONG, _DOUBLE = 0x58, 0x69
_READING: Final = frozenset({_ALIAS, _TIME, _TYPE, _HISTORICAL, _NULL, _PROPERTIES, _DOUBLE})
_VARINT, _FIXED64, _BYTES = 0, 1, 2
_WORD: Final = 8
_MORE: Final = 0x80
# A varint of so many bytes fits into an i64.
_LONGEST: Final = 8
# Of a seq, which is below 256.
_LONGEST_SEQ: Final = 2
# Of ms since 1970 from 2000 to 2100; read as a word of 8 bytes, of which these bits count.
_TIME_BYTES: Final = 6
_TIME_BITS: Final = np.uint64(0x7F7F_7F7F_7F7F)
_SEVEN: Final = 0x7F
# Readings that stand at even distances are read at once. With more such runs nothing would be gained.
_MOST_RUNS: Final = 32
_EARLIEST_MS: Final = EARLIEST_NS // NS_PER_MS
_LATEST_MS: Final = LATEST_NS // NS_PER_MS

_W = TypeVar("_W", int, NDArray[np.uint64])


class _OtherError(Exception):
    """The message is not of the plain shape that can be learned."""


class _Field(NamedTuple):
    """One protobuf field: its tag, and where its content begins and ends."""

    tag: int
    begin: int
    end: int

    @property
    def size(self) -> int:
        """How many bytes the content takes."""
        return self.end - self.begin

    def moved(self, by: int) -> "_Field":
        """The same, so much later."""
        return _Field(self.tag, self.begin + by, self.end + by)


class _Run(NamedTuple):
    """Words of 8 bytes in a message: where the first stands, how far it is to the next, and how many there are."""

    begin: int
    stride: int
    size: int

    def moved(self, by: int) -> "_Run":
        """The same, so much later."""
        return self._replace(begin=self.begin + by)


class _Shape(NamedTuple):
    """Metrics of one reading that look alike: of their bytes as one number the bits of `mask` are `alike`.

    Where in them their alias, their time and their value (None: they have none) stand, and whether they are `late`.
    """

    mask: int
    alike: int
    alias: _Field
    time: int
    value: int | None
    late: bool


class Read(NamedTuple):
    """What a message of a known layout says; `late` of its readings are marked as historical."""

    frame: Frame
    seq: int
    batch: int | None
    late: int


@dataclass(slots=True)
class _Found:
    """The places in a message where something other may stand in the next one."""

    varints: list[_Field] = field(default_factory=list)
    stamps: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    values: list[int] = field(default_factory=list)
    unwanted: list[int] = field(default_factory=list)
    points: list[int] = field(default_factory=list)
    valued: list[int] = field(default_factory=list)
    seq: _Field | None = None
    batch: _Field | None = None
    batch_metric: int = 0
    late: int = 0
    # By their length.
    shapes: dict[int, _Shape] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """One shape of a device's data messages.

    `fixed` and `expected`, u8 a byte of the message: the bits that must be as expected; of a varint whose number may be
    another they are those that tell its length. `times` are the places of the times of all n readings, `values` those
    of the values of those, at `valued`, that have one; `batch_metric` is where the content of the metric of `batch`
    begins.
    """

    fixed: U8
    expected: U8
    times: tuple[_Run, ...]
    values: tuple[_Run, ...]
    valued: I64
    point: I32
    quality: U8
    seq: _Field
    batch: _Field | None
    batch_metric: int
    late: int

    @classmethod
    def learn(cls, payload: bytes, points: Mapping[int, int | None], frame: Frame) -> Self | None:
        """The layout of `payload`, a data message that came to `frame` without a fault; None where it is not plain.

        `points` tells by alias which point a metric is; None where nobody wants its readings. Plain is: seq; each
        metric by alias, with its time, a Double or null; of what our gateways say beside, their batch's number alone.
        """
        found = _Found()
        try:
            for part in _fields(payload, 0, len(payload)):
                _learn_part(payload, part, points, found)
        except _OtherError:
            return None
        if found.seq is None or found.points != frame.point.tolist():
            return None
        times, values = _runs(found.times), _runs(found.values)
        if len(times) + len(values) > _MOST_RUNS or (found.times and found.times[-1] + _WORD > len(payload)):
            return None
        fixed = np.full(len(payload), 0xFF, np.uint8)
        for varint in found.varints:
            fixed[varint.begin : varint.end] = _MORE
        fixed[_places(found.stamps, _TIME_BYTES)] = _MORE
        fixed[_places(found.values + found.unwanted, _WORD)] = 0
        return cls(
            fixed, np.frombuffer(payload, np.uint8) & fixed, times, values, np.asarray(found.valued, np.int64),
            frame.point, frame.quality, found.seq, found.batch, found.batch_metric, found.late,
        )  # fmt: skip

    def resized(self, payload: bytes) -> "Layout | None":
        """The layout of messages like this one's, but for how many bytes the numbers of batch and seq take.

        Gateways that begin together count to 128 together: if each were learned anew, all would wait. Whether
        `payload`, whose numbers are of that size, is really so is found by `read`. None where it cannot be.
        """
        by_batch = 0
        if self.batch is not None:
            try:
                by_batch = _varint_end(payload, self.batch.begin, len(payload)) - self.batch.end
            except _OtherError:
                return None
        by_seq = len(payload) - len(self.fixed) - by_batch
        if not (by_batch or by_seq) or not 0 < self.seq.size + by_seq <= _LONGEST_SEQ:
            return None
        found: Layout | None = self
        if self.batch is not None and by_batch:
            found = self.stretched(self.batch, by_batch)
        return found.stretched(found.seq, by_seq) if found is not None and by_seq else found

    def stretched(self, varint: _Field, by: int) -> "Layout | None":
        """With so many bytes more, or less, for the number at `varint`, of seq or batch; None where that cannot be."""
        begin, end = varint.begin, varint.end
        runs = (*self.times, *self.values)
        if any(run.begin < begin < run.begin + run.stride * (run.size - 1) for run in runs):
            return None
        number = np.full(varint.size + by, _MORE, np.uint8)
        fixed = np.concatenate([self.fixed[:begin], number, self.fixed[end:]])
        number[-1] = 0
        expected = np.concatenate([self.expected[:begin], number, self.expected[end:]])
        if varint is self.batch:
            size = int(expected[self.batch_metric - 1]) + by
            if not 0 < size < _MORE:
                return None
            expected[self.batch_metric - 1] = size
        longer = varint._replace(end=end + by)
        batch = self.batch
        if batch is not None:
            batch = longer if batch is varint else batch.moved(by if batch.begin > begin else 0)
        return replace(
            self,
            fixed=fixed,
            expected=expected,
            times=tuple(run.moved(by if run.begin > begin else 0) for run in self.times),
            values=tuple(run.moved(by if run.begin > begin else 0) for run in self.values),
            seq=longer if self.seq is varint else self.seq.moved(by if self.seq.begin > begin else 0),
            batch=batch,
            batch_metric=self.batch_metric + (by if self.batch_metric > begin else 0),
        )

    def read(self, payload: bytes, now_ns: int) -> Read | None:
        """What `payload`, which arrived at `now_ns`, says; None where it is of another layout or needs a closer look.

        That is where a value is not finite, or a time cannot be one.
        """
        data = np.frombuffer(payload, np.uint8)
        if len(data) != len(self.fixed) or not np.array_equal(data & self.fixed, self.expected):
            return None
        n = len(self.point)
        time_ns = _times_ns(_words(payload, self.times, n, np.dtype("<u8")), now_ns)
        if time_ns is None:
            return None
        own: F64 = _words(payload, self.values, len(self.valued), np.dtype("<f8"))
        if not np.isfinite(own).all():
            return None
        value = own
        if len(own) < n:
            value = np.full(n, np.nan)
            value[self.valued] = own
        frame = Frame(self.point, time_ns, value, self.quality)
        batch = None if self.batch is None else _number(payload, self.batch)
        return Read(frame, _number(payload, self.seq), batch, self.late)


def _places(begins: Sequence[int], size: int) -> I64:
    """The places of the `size` bytes from each of `begins` on."""
    return np.add.outer(np.asarray(begins, np.int64), np.arange(size))


def _runs(begins: Sequence[int]) -> tuple[_Run, ...]:
    runs: list[_Run] = []
    for begin in begins:
        if runs:
            last = runs[-1]
            ahead = begin - last.begin
            if last.size == 1 or ahead == last.stride * last.size:
                runs[-1] = _Run(last.begin, ahead if last.size == 1 else last.stride, last.size + 1)
                continue
        runs.append(_Run(begin, _WORD, 1))
    return tuple(runs)


def _words(payload: bytes, runs: Sequence[_Run], n: int, kind: np.dtype[Any]) -> NDArray[Any]:
    """The n words of `runs`, as native numbers of the `kind` that they are little-endian ones of."""
    words = np.empty(n, kind.newbyteorder("="))
    done = 0
    for run in runs:
        words[done : done + run.size] = np.ndarray(run.size, kind, payload, run.begin, (run.stride,))
        done += run.size
    return words


def _times_ns(words: NDArray[np.uint64], now_ns: int) -> I64 | None:
    """The times in ns, where `words` begin with them as varints of 6 bytes in ms; None if one cannot be a time."""
    words &= _TIME_BITS
    # Mostly a device was read at once: one number is quicker worked out without arrays.
    if len(words) and (words == words[0]).all():
        time_ms = _time_ms(int(words[0]))
        return np.full(len(words), time_ms * NS_PER_MS) if _EARLIEST_MS <= time_ms <= _last_ms(now_ns) else None
    times_ms: I64 = _time_ms(words).astype(np.int64)
    if len(words) and (times_ms.min() < _EARLIEST_MS or times_ms.max() > _last_ms(now_ns)):
        return None
    return times_ms * NS_PER_MS


def _time_ms(word: _W) -> _W:
    """The number that the lowest `_TIME_BYTES` bytes of `word` are as a varint, their highest bits taken away."""
    number = word & _SEVEN
    for place in range(1, _TIME_BYTES):
        # Each byte gives seven bits: its place moves by one bit a byte.
        number |= (word >> place) & (_SEVEN << 7 * place)
    return number  # type: ignore[return-value]  # beside a plain int, u64 stays u64 (NEP 50)


def _last_ms(now_ns: int) -> int:
    return min(_LATEST_MS - 1, (now_ns + FUTURE_NS) // NS_PER_MS)


def _varint_end(payload: bytes, at: int, end: int) -> int:
    for place in range(at, min(end, at + _LONGEST)):
        if payload[place] < _MORE:
            return place + 1
    raise _OtherError


def _number(payload: bytes, varint: _Field) -> int:
    number = 0
    for place in range(varint.end - 1, varint.begin - 1, -1):
        number = number << 7 | payload[place] & ~_MORE
    return number


def _fields(payload: bytes, at: int, end: int) -> list[_Field]:
    """The fields between two places, all of tags of one byte."""
    found: list[_Field] = []
    while at < end:
        tag = payload[at]
        at += 1
        if tag >= _MORE:
            raise _OtherError
        begin, wire = at, tag & 7
        if wire == _VARINT:
            at = _varint_end(payload, at, end)
        elif wire == _FIXED64:
            at += _WORD
        elif wire == _BYTES:
            begin = _varint_end(payload, at, end)
            at = begin + _number(payload, _Field(tag, at, begin))
        else:
            raise _OtherError
        if at > end:
            raise _OtherError
        found.append(_Field(tag, begin, at))
    return found


def _learn_part(payload: bytes, part: _Field, points: Mapping[int, int | None], found: _Found) -> None:
    if part.tag == _METRIC:
        _learn_metric(payload, part, points, found)
    elif part.tag == _TIMESTAMP:
        found.varints.append(part)
    elif part.tag == _SEQ and found.seq is None:
        found.seq = part
        found.varints.append(part)
    else:
        raise _OtherError


def _learn_metric(payload: bytes, part: _Field, points: Mapping[int, int | None], found: _Found) -> None:
    body = payload[part.begin : part.end]
    shape = found.shapes.get(len(body))
    if shape is None or int.from_bytes(body, "little") & shape.mask != shape.alike:
        fields = _fields(body, 0, len(body))
        by_tag = {each.tag: each for each in fields}
        if len(by_tag) < len(fields):
            raise _OtherError
        if _NAME in by_tag:
            _learn_batch(body, part.begin, by_tag, found)
            return
        shape = found.shapes[len(body)] = _shape(body, by_tag)
    _learn_reading(body, part.begin, shape, points, found)


def _learn_batch(body: bytes, begin: int, by_tag: dict[int, _Field], found: _Found) -> None:
    name = by_tag[_NAME]
    if by_tag.keys() != {_NAME, _TIME, _TYPE, _LONG} or found.batch is not None:
        raise _OtherError
    if body[name.begin : name.end] != BATCH.encode():
        raise _OtherError
    found.batch, found.batch_metric = by_tag[_LONG].moved(begin), begin
    found.varints += [by_tag[_TIME].moved(begin), found.batch]


def _shape(body: bytes, by_tag: dict[int, _Field]) -> _Shape:
    if not {_ALIAS, _TIME} <= by_tag.keys() <= _READING:
        raise _OtherError
    alias, time, value = by_tag[_ALIAS], by_tag[_TIME], by_tag.get(_DOUBLE)
    null = _NULL in by_tag and _number(body, by_tag[_NULL]) != 0
    if time.end - time.begin != _TIME_BYTES or null is not (value is None):
        raise _OtherError
    fixed = bytearray(b"\xff" * len(body))
    for varint in (alias, time):
        fixed[varint.begin : varint.end] = bytes([_MORE]) * (varint.end - varint.begin)
    for each in (value, by_tag.get(_PROPERTIES)):
        if each is not None:
            fixed[each.begin : each.end] = bytes(each.end - each.begin)
    mask = int.from_bytes(fixed, "little")
    late = _HISTORICAL in by_tag and _number(body, by_tag[_HISTORICAL]) != 0
    alike = int.from_bytes(body, "little") & mask
    return _Shape(mask, alike, alias, time.begin, None if value is None else value.begin, late)


def _learn_reading(body: bytes, begin: int, shape: _Shape, points: Mapping[int, int | None], found: _Found) -> None:
    """Learn of the metric that stands in `body`, and from `begin` on in the message."""
    alias = _number(body, shape.alias)
    if alias not in points:
        raise _OtherError
    found.stamps.append(begin + shape.time)
    point = points[alias]
    if point is None:
        found.unwanted += [] if shape.value is None else [begin + shape.value]
        return
    found.times.append(begin + shape.time)
    if shape.value is not None:
        found.valued.append(len(found.points))
        found.values.append(begin + shape.value)
    found.points.append(point)
    found.late += shape.late
