"""Which batches of a gateway are stored, as intervals, and up to which number there is no hole."""

from bisect import bisect_right
from typing import Self

# A gateway that holds old batches sends them, oldest first, from its birth on; silence about them that long means it has none.
NOTHING_OLD_NS = 60_000_000_000


class Ledger:
    """The stored batches of one gateway.

    Everything up to `committed` is stored, or was trimmed before we first heard of the gateway; None while that is not
    known yet, because a gateway that we have never heard of may still hold batches older than the first we see.
    """

    def __init__(self) -> None:
        """Know nothing."""
        self._low: list[int] = []
        self._high: list[int] = []
        self._base: int | None = None
        self._born_with: int | None = None
        self._born_ns = 0
        self.readings = 0

    @property
    def newest(self) -> int:
        """The highest batch number stored; 0 if none."""
        return self._high[-1] if self._high else 0

    @property
    def committed(self) -> int | None:
        """The number to acknowledge."""
        if self._base is None:
            return None
        place = bisect_right(self._low, self._base + 1) - 1
        return max(self._base, self._high[place]) if place >= 0 else self._base

    def born(self, newest: int, now_ns: int) -> None:
        """The gateway's birth says that `newest` is the last batch it holds.

        Numbers above it that we have stored were lost there (a torn spool, a new one): they will come again with other
        readings, and must not be taken for repeats.
        """
        while self._low and self._low[-1] > newest:
            self._low.pop()
            self._high.pop()
        if self._high and self._high[-1] > newest:
            self._high[-1] = newest
        if newest == 0:
            self._base = 0
        elif self._base is not None:
            self._base = min(self._base, newest)
        elif self._born_with is None:
            self._born_with, self._born_ns = newest, now_ns

    def add(self, batch: int, now_ns: int) -> bool:
        """Note a batch as stored; False if it was already."""
        if self._base is None:
            self._find_base(batch, now_ns)
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

    def _find_base(self, batch: int, now_ns: int) -> None:
        if self._born_with is None:
            return
        if batch <= self._born_with:
            self._base = batch - 1
        elif now_ns - self._born_ns > NOTHING_OLD_NS:
            self._base = self._born_with

    def to_json(self) -> dict[str, object]:
        """As plain values for `from_json`."""
        return {
            "low": self._low,
            "high": self._high,
            "base": self._base,
            "born_with": self._born_with,
            "born_ns": self._born_ns,
            "readings": self.readings,
        }

    @classmethod
    def from_json(cls, held: dict[str, object]) -> Self:
        """The ledger that `to_json` gave."""
        ledger = cls()
        ledger._low, ledger._high = list(held["low"]), list(held["high"])  # type: ignore[call-overload]  # our own JSON
        ledger._base, ledger._born_with = held["base"], held["born_with"]  # type: ignore[assignment]  # our own JSON
        ledger._born_ns, ledger.readings = held["born_ns"], held["readings"]  # type: ignore[assignment]  # our own JSON
        return ledger
