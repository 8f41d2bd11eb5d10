"""What was sent and is not yet acknowledged, and what a host's word means: decisions only, no input or output."""

from bisect import bisect_right
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from enum import Enum


class Word(Enum):
    """What `Tocsin/Committed` with some number comes to."""

    COMMITS = "everything up to the number is in the database"
    KNOWN = "nothing new"
    WENT_BACK = "the host was restored from an older state and wants what came after the number"
    IMPOSSIBLE = "the number was never given out"


@dataclass(slots=True)
class Numbers:
    """Numbers as runs of consecutive ones: those of a week without a host take no more room than those of a second."""

    runs: list[range] = field(default_factory=list)

    def __len__(self) -> int:
        """Count them."""
        return sum(map(len, self.runs))

    def __iter__(self) -> Iterator[int]:
        """Give them, rising."""
        for run in self.runs:
            yield from run

    def __contains__(self, number: int) -> bool:
        """Tell whether `number` is one of them."""
        place = self._behind(number)
        return place > 0 and number in self.runs[place - 1]

    def _behind(self, number: int) -> int:
        return bisect_right(self.runs, number, key=lambda run: run.start)

    @property
    def ends(self) -> tuple[int, ...]:
        """The lowest and the highest, nothing where there are none."""
        return (self.runs[0].start, self.runs[-1].stop - 1) if self.runs else ()

    def add(self, number: int) -> None:
        """Take `number` in."""
        place = self._behind(number)
        before = self.runs[place - 1] if place else range(0)
        if number in before:
            return
        if place and before.stop == number:
            self.runs[place - 1] = range(before.start, number + 1)
        else:
            self.runs.insert(place, range(number, number + 1))

    def without(self, numbers: Container[int]) -> "Numbers":
        """Give those that are not among `numbers`."""
        left = Numbers()
        for number in self:
            if number not in numbers:
                left.add(number)
        return left

    def drop_upto(self, number: int) -> None:
        """Leave only what is higher than `number`."""
        self.runs = [range(max(run.start, number + 1), run.stop) for run in self.runs if run.stop - 1 > number]


@dataclass(slots=True)
class Outstanding:
    """The batches of one connection that wait for the host's word; `floor`: all up to here were settled before."""

    floor: int
    _live: Numbers = field(default_factory=Numbers)
    _old: Numbers = field(default_factory=Numbers)
    _heeded: int | None = None

    def __len__(self) -> int:
        """Count what waits."""
        return len(self._live) + len(self._old)

    def __contains__(self, number: int) -> bool:
        """Tell whether `number` was sent and waits."""
        return number in self._live or number in self._old

    @property
    def old(self) -> int:
        """How many history batches wait."""
        return len(self._old)

    @property
    def oldest(self) -> int:
        """The lowest number that waits; there must be one."""
        return min((*self._live.ends, *self._old.ends))

    @property
    def newest(self) -> int:
        """The highest number that waits; there must be one."""
        return max((*self._live.ends, *self._old.ends))

    def sent(self, number: int, *, historical: bool) -> None:
        """Note that a batch went out; one that waits already goes on waiting as what it was."""
        if number not in self:
            (self._old if historical else self._live).add(number)

    def hear(self, number: int, newest: int) -> Word:
        """Take the host's word, cumulative: it has everything up to `number`; `newest` is the last number given out.

        A host that went back is heeded once at the same number: what can be sent again has then been sent again.
        """
        if number > newest:
            return Word.IMPOSSIBLE
        if number > self.floor:
            self.floor = number
            self._live.drop_upto(number)
            self._old.drop_upto(number)
            return Word.COMMITS
        if number in {self.floor, self._heeded}:
            return Word.KNOWN
        self._heeded = self.floor = number
        return Word.WENT_BACK

    def all(self) -> frozenset[int]:
        """Give everything that waits."""
        return frozenset((*self._live, *self._old))

    def settle(self, numbers: frozenset[int]) -> None:
        """Note that these are done without a host's word."""
        self._live, self._old = self._live.without(numbers), self._old.without(numbers)

    def reborn(self) -> None:
        """Heed any number anew: a host that asked for births may be another than before."""
        self._heeded = None

    def clear(self) -> None:
        """Forget what was sent: all of it goes out again."""
        self._live, self._old = Numbers(), Numbers()
