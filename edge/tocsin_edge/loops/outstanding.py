"""What was sent and is not yet acknowledged, and what a host's word means: decisions only, no input or output."""

from dataclasses import dataclass, field
from enum import Enum


class Word(Enum):
    """What `Tocsin/Committed` with some number comes to."""

    COMMITS = "everything up to the number is in the database"
    KNOWN = "nothing new"
    WENT_BACK = "the host was restored from an older state and wants what came after the number"
    IMPOSSIBLE = "the number was never given out"


@dataclass(slots=True)
class Outstanding:
    """The batches of one connection that wait for the host's word; `floor`: all up to here were settled before."""

    floor: int
    _live: set[int] = field(default_factory=set)
    _old: set[int] = field(default_factory=set)
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

    def sent(self, number: int, *, historical: bool) -> None:
        """Note that a batch went out."""
        (self._old if historical else self._live).add(number)

    def hear(self, number: int, newest: int) -> Word:
        """Take the host's word, cumulative: it has everything up to `number`; `newest` is the last number given out.

        A host that went back is heeded once at the same number: what can be sent again has then been sent again.
        """
        if number > newest:
            return Word.IMPOSSIBLE
        if number > self.floor:
            self.floor = number
            self._live = {held for held in self._live if held > number}
            self._old = {held for held in self._old if held > number}
            return Word.COMMITS
        if number in {self.floor, self._heeded}:
            return Word.KNOWN
        self._heeded = self.floor = number
        return Word.WENT_BACK

    def all(self) -> frozenset[int]:
        """Give everything that waits."""
        return frozenset(self._live | self._old)

    def settle(self, numbers: frozenset[int]) -> None:
        """Note that these are done without a host's word."""
        self._live -= numbers
        self._old -= numbers

    def reborn(self) -> None:
        """Heed any number anew: a host that asked for births may be another than before."""
        self._heeded = None

    def clear(self) -> None:
        """Forget what was sent: all of it goes out again."""
        self._live.clear()
        self._old.clear()
