"""The port to the time-series store: what the historian and the trends need of it, whichever database it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from tocsin_core.readings import F64, I64, U8, Frame

# Steps of whole ones of these, begun at one, may be answered from what is kept for long trends.
MINUTE: Final = 60_000_000_000
HOUR: Final = 60 * MINUTE


@dataclass(frozen=True, slots=True)
class Trend:
    """Readings of one point in columns of one length n, oldest first; one row a sample, or one row a step.

    time_ns i64; mean, low, high f64 in the point's unit, NaN where no reading was usable; quality u8, the worst.
    """

    time_ns: I64
    mean: F64
    low: F64
    high: F64
    quality: U8


class Wanted(NamedTuple):
    """A short trend, of a point in [start_ns, end_ns) by steps."""

    point_id: str
    start_ns: int
    end_ns: int
    step_ns: int

    @property
    def most(self) -> int:
        """Steps there are."""
        return -(-(self.end_ns - self.start_ns) // self.step_ns)


class StoredReadings(Protocol):
    """The reading side of a time-series store."""

    async def read(self, point_id: str, start_ns: int, end_ns: int, step_ns: int | None, limit: int) -> Trend:
        """At most `limit` rows of a point in [start_ns, end_ns), oldest first; none for an unknown id.

        With `step_ns` (whole milliseconds) one row for each step that has readings, stamped with the step's begin:
        mean, least and greatest of the values that are not bad, and the worst quality. Without it the readings
        themselves. Steps of whole hours or minutes, begun at one, may be answered from what is kept for long trends.

        Raises:
            HistoryError: the store does not answer.
        """

    async def read_each(self, wanted: Sequence[Wanted]) -> list[Trend]:
        """All rows of each of `wanted`, at least one, as `read` gives them; a store may look for all at once.

        Raises:
            HistoryError: the store does not answer.
        """


class History(StoredReadings, Protocol):
    """A time-series store for one writing historian and any number of readers.

    Points are named by `key`, a number that belongs to a point's id for as long as the store is open. Times are kept
    at least to the millisecond; of a point's readings in one millisecond a store may keep one.
    """

    @property
    def state(self) -> Mapping[str, bytes]:
        """What the commits left as the historian's own state, by name; empty before the first."""

    @property
    def dropped(self) -> int:
        """How many values the store has told since this opening that it took and dropped, whoever wrote them."""

    def key(self, point_id: str) -> int:
        """The key of a point id; a new id gets a new one."""

    async def commit(self, frame: Frame, state: Mapping[str, bytes]) -> None:
        """Store the readings of `frame`, whose `point` holds keys, and parts of the state by name.

        The state that a later opening finds is never ahead of the readings. A reading that is stored already (same
        key, same time) is stored once; of two that differ one is kept, whole. A value that is NaN is stored as absent.
        What is committed can be read within seconds.

        Raises:
            HistoryError: it is not stored, or only in part; storing it once more is safe.
        """

    async def durable(self) -> int:
        """How many of this opening's commits outlive the store's being killed now; an acknowledgement waits for it.

        Raises:
            HistoryError: the store does not tell.
        """

    def overtaken(self) -> None:
        """Take note that another historian, with a state of its own, has stored readings since this one's state."""

    async def tend(self) -> int:
        """Do a piece of what makes long trends quick, if the store has such work; called again and again.

        Returns how many hours of points are still to be done. A trend is right whatever of it is done.

        Raises:
            HistoryError: the piece is not done, and is tried again later.
        """

    async def retain(self, before_ns: int) -> None:
        """Show no reading any more that is older than the whole hour before `before_ns`, and free its room in time.

        Raises:
            HistoryError: nothing was forgotten.
        """

    async def copy(self, folder: Path) -> None:
        """Write what the store keeps on this machine, as it is at one moment, into a file in `folder`.

        It has the file's own name and can be opened in its place. Commits and reads go on meanwhile.

        Raises:
            HistoryError: it could not be written whole.
        """

    async def close(self) -> None:
        """Let go of the store; what is committed and not yet durable is waited for or will be committed again.

        Raises:
            HistoryError: the store did not end in order; what is durable is safe.
        """


async def one_by_one(history: StoredReadings, wanted: Sequence[Wanted]) -> list[Trend]:
    """What `StoredReadings.read_each` gives, by `read`.

    Raises:
        HistoryError: the store does not answer.
    """
    return [await history.read(*each, each.most) for each in wanted]


class HistoryError(RuntimeError):
    """The time-series store refused or did not answer."""


class HistoryBusyError(HistoryError):
    """Another process has the store's files."""
