"""Column batches of readings (`Frame`), the OPC quality byte, and the invariants both keep."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]
Bool = NDArray[np.bool_]

# The OPC DA quality byte (QQSSSSLL): OPC Data Access 3.00, 6.8.
GOOD: Final = 0xC0
UNCERTAIN: Final = 0x40
UNCERTAIN_LAST_USABLE: Final = 0x44
UNCERTAIN_SENSOR_NOT_ACCURATE: Final = 0x50
UNCERTAIN_RANGE_EXCEEDED: Final = 0x54
BAD: Final = 0x00
BAD_CONFIGURATION: Final = 0x04
BAD_NOT_CONNECTED: Final = 0x08
BAD_DEVICE_FAILURE: Final = 0x0C
BAD_SENSOR_FAILURE: Final = 0x10
BAD_COMM_FAILURE: Final = 0x18
BAD_OUT_OF_SERVICE: Final = 0x1C
BAD_WAITING: Final = 0x20

QUALITY_MASK: Final = 0xC0

# As an array: a comparison with a number costs twice one with this.
_GOOD: Final = np.asarray(GOOD, np.uint8)

# The two lowest bits say at which end a value has left its range.
LIMIT_MASK: Final = 0x03
LIMITED_LOW: Final = 0x01
LIMITED_HIGH: Final = 0x02
LIMIT_TEXT: Final[dict[int, str]] = {LIMITED_LOW: "good: below range", LIMITED_HIGH: "good: above range"}

QUALITY_TEXT: Final[dict[int, str]] = {
    GOOD: "good",
    UNCERTAIN: "uncertain",
    UNCERTAIN_LAST_USABLE: "uncertain: last usable value",
    UNCERTAIN_SENSOR_NOT_ACCURATE: "uncertain: sensor not accurate",
    UNCERTAIN_RANGE_EXCEEDED: "uncertain: range exceeded",
    BAD: "bad",
    BAD_CONFIGURATION: "bad: configuration",
    BAD_NOT_CONNECTED: "bad: not connected",
    BAD_DEVICE_FAILURE: "bad: device failure",
    BAD_SENSOR_FAILURE: "bad: sensor failure",
    BAD_COMM_FAILURE: "bad: comm failure",
    BAD_OUT_OF_SERVICE: "bad: out of service",
    BAD_WAITING: "bad: waiting for the first value",
}

# Sampling times outside this span are a broken clock or a broken payload, not plant data.
EARLIEST_NS: Final = 946_684_800_000_000_000  # 2000-01-01T00:00:00Z
LATEST_NS: Final = 4_102_444_800_000_000_000  # 2100-01-01T00:00:00Z
AHEAD_NS: Final = 5_000_000_000  # clocks that somebody sets agree far better


def quality_text(quality: int) -> str:
    """Words for a quality byte; of the two limit bits those of a plain good value only."""
    if quality & ~LIMIT_MASK == GOOD and quality & LIMIT_MASK in LIMIT_TEXT:
        return LIMIT_TEXT[quality & LIMIT_MASK]
    known = QUALITY_TEXT.get(quality & ~LIMIT_MASK)
    if known is not None:
        return known
    top = quality & QUALITY_MASK
    return QUALITY_TEXT[top if top in (GOOD, UNCERTAIN) else BAD]


def is_good(quality: U8) -> Bool:
    """Which of `quality` (u8[n]) are good: only these readings may raise or clear a process alarm."""
    good: Bool = quality >= _GOOD  # the two highest bits are set
    return good


def is_bad(quality: U8) -> Bool:
    """Which of `quality` (u8[n]) are bad; 0x80 is reserved by OPC and counts as bad."""
    top = quality & QUALITY_MASK
    bad: Bool = (top != GOOD) & (top != UNCERTAIN)
    return bad


class FrameError(ValueError):
    """Columns that are not a frame: lengths differ, or a bad value poses as good."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Readings in columns of one length n: point i32, time_ns i64 (UTC), value f64 (NaN where unknown), quality u8."""

    point: I32
    time_ns: I64
    value: F64
    quality: U8

    def __post_init__(self) -> None:
        """Refuse columns that are no frame.

        Raises:
            FrameError: the columns are not of one length, or a value that is not finite is not marked bad.
        """
        if not len(self.point) == len(self.time_ns) == len(self.value) == len(self.quality):
            lengths = [len(self.point), len(self.time_ns), len(self.value), len(self.quality)]
            raise FrameError(f"columns of different lengths: point, time_ns, value, quality = {lengths}")
        finite = np.isfinite(self.value)
        if not finite.all() and not is_bad(self.quality[~finite]).all():
            raise FrameError("a value that is not finite has a quality that is not bad")

    def __len__(self) -> int:
        """Number of readings."""
        return len(self.point)

    @classmethod
    def of(
        cls,
        point: Sequence[int] | I32,
        time_ns: Sequence[int] | I64,
        value: Sequence[float] | F64,
        quality: Sequence[int] | U8,
    ) -> Self:
        """A frame from any four sequences of one length, converted to the column types.

        A good reading whose value is not finite becomes bad (sensor failure): nothing is ever made up for it.
        """
        values = np.asarray(value, dtype=np.float64)
        qualities = np.asarray(quality, dtype=np.uint8)
        broken = ~np.isfinite(values) & ~is_bad(qualities)
        if broken.any():
            qualities = np.where(broken, np.uint8(BAD_SENSOR_FAILURE), qualities)
        return cls(np.asarray(point, dtype=np.int32), np.asarray(time_ns, dtype=np.int64), values, qualities)

    def not_ahead(self, now_ns: int, most_ns: int = AHEAD_NS) -> Self:
        """The same, with none more than `most_ns` ahead of `now_ns`, when they came: what is, is taken to be of then.

        A clock that is ahead is set back some day. Whoever believed its stamps would hold all readings after that for
        late ones, and be deaf to them until it has caught up.
        """
        ahead = self.time_ns > now_ns + most_ns
        return replace(self, time_ns=np.where(ahead, now_ns, self.time_ns)) if ahead.any() else self

    @classmethod
    def empty(cls) -> Self:
        """A frame of no readings."""
        return cls.of([], [], [], [])

    @classmethod
    def concat(cls, frames: Iterable["Frame"]) -> Self:
        """The readings of `frames` one after the other."""
        parts = [frame for frame in frames if len(frame)]
        if not parts:
            return cls.empty()
        return cls(
            np.concatenate([frame.point for frame in parts]),
            np.concatenate([frame.time_ns for frame in parts]),
            np.concatenate([frame.value for frame in parts]),
            np.concatenate([frame.quality for frame in parts]),
        )

    def take(self, index: I64 | Bool | slice) -> "Frame":
        """The readings at `index` (positions, a mask, or a slice, which shares the columns)."""
        return Frame(self.point[index], self.time_ns[index], self.value[index], self.quality[index])
