"""Which batches of a gateway are stored, as intervals, and up to which number there is no hole."""

from bisect import bisect_right
from collections.abc import Mapping
from typing import Any, Final, Self

# A gateway of ours sends 10,000 batches of history ahead of the answer at most; each second one may be lost.
MOST_RUNS: Final = 20_000


class Ledger:
    """The stored batches of one gateway.

    Numbers up to `base` will not come any more, stored or not: the gateway said so after hearing what we have.
    """

    def __init__(self) -> None:
        """Have nothing."""
        self._low: list[int] = []
        self._high: list[int] = []
        self._base = 0

    @property
    def newest(self) -> int:
        """The highest batch number stored; 0 if none."""
        return self._high[-1] if self._high else 0

    @property
    def committed(self) -> int:
        """The number to acknowledge: everything up to it is stored or will never come."""
        place = bisect_right(self._low, self._base + 1) - 1
        return max(self._base, self._high[place]) if place >= 0 else self._base

    def born(self, newest: int, oldest: int) -> bool:
        """Take in a birth's word that `newest` is the last number given out, and `oldest` the first not committed.

        Where we know of a higher number, those from `oldest` on are a new spool's (made while the clock was behind), or
        a torn one's, given out again: they come with other readings, and must not be taken for repeats. The ledger then
        begins anew at `oldest`, and the answer is True.
        """
        if max(self.newest, self._base) <= newest:
            return False
        self._low, self._high, self._base = [], [], oldest - 1
        return True

    def oldest(self, number: int) -> None:
        """Take in the gateway's word that no batch below `number` will come any more."""
        self._base = max(self._base, number - 1)

    def has_room(self, batch: int) -> bool:
        """Whether `batch` can be noted: what leaves ever more holes is not remembered without end."""
        place = bisect_right(self._low, batch)
        joins = (place > 0 and self._high[place - 1] >= batch - 1) or self._low[place : place + 1] == [batch + 1]
        return joins or len(self._low) < MOST_RUNS

    def add(self, batch: int) -> bool:
        """Note a batch as stored; False if it was already."""
        place = bisect_right(self._low, batch)
        if place and self._high[place - 1] >= batch:
            return False
        joins_left = place > 0 and self._high[place - 1] == batch - 1
        joins_right = place < len(self._low) and self._low[place] == batch + 1
        if joins_left and joins_right:
            self._high[place - 1] = self._high[place]
            del self._low[place], self._high[place]
        elif joins_left:
            self._high[place - 1] = batch
        elif joins_right:
            self._low[place] = batch
        else:
            self._low.insert(place, batch)
            self._high.insert(place, batch)
        return True

    def to_json(self) -> dict[str, Any]:
        """Give plain values for `from_json`."""
        return {"low": self._low, "high": self._high, "base": self._base}

    @classmethod
    def from_json(cls, held: Mapping[str, Any]) -> Self:
        """Make the ledger that `to_json` wrote down."""
        ledger = cls()
        ledger._low, ledger._high = list(held["low"]), list(held["high"])
        ledger._base = int(held["base"])
        return ledger
