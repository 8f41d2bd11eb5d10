"""What all detectors' states have in common: columns of one length, of which rows are taken and put back."""

from dataclasses import dataclass, fields
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from tocsin_core.readings import I64

NS: Final = 1_000_000_000

# Stands for a time that never was.
NEVER: Final = -1


@dataclass(slots=True)
class Columns:
    """Arrays of one first length n, one row for each thing watched; row i of every array belongs to the same thing."""

    def _arrays(self) -> list[NDArray[Any]]:
        return [getattr(self, field.name) for field in fields(self)]

    def rows(self, index: I64) -> Self:
        """A copy of the rows at `index` (i64[k])."""
        return type(self)(*(array[index] for array in self._arrays()))

    def put(self, index: I64, rows: Self) -> None:
        """Write `rows` back at `index`, in which no row stands twice."""
        for mine, theirs in zip(self._arrays(), rows._arrays(), strict=True):
            mine[index] = theirs

    def bytes_per_row(self) -> int:
        """What one thing watched costs in memory."""
        return sum(array.itemsize * (array.size // max(len(array), 1)) for array in self._arrays())


def members(first: I64, owners: I64) -> tuple[I64, I64]:
    """Rows `first[o] : first[o + 1]` of each owner o, joined, and for each of them which of `owners` it came from."""
    starts = first[owners]
    counts = first[1:][owners] - starts
    source = np.arange(len(owners)).repeat(counts)
    starts += counts
    starts -= np.add.accumulate(counts)
    return np.arange(len(source)) + starts[source], source
