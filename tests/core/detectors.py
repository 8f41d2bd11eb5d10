"""What the tests of all detectors share: times on a scale, and the same readings given together and one by one."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from tocsin_core.detectors.columns import Columns
from tocsin_core.readings import I64

SECOND: Final = 1_000_000_000
START_NS: Final = 1_800_000_000 * SECOND  # 2027-01-15T08:00:00Z: the beginning of a minute and of an hour

S = TypeVar("S", bound=Columns)
Round = tuple[NDArray[Any], ...]
Rounds = list[tuple[I64, Round]]
YES: Final = np.ones(1, np.bool_)
NO: Final = np.zeros(1, np.bool_)


def f64(*values: float) -> NDArray[np.float64]:
    """A column of numbers."""
    return np.asarray(values, np.float64)


def i64(*values: int) -> NDArray[np.int64]:
    """A column of times or counts."""
    return np.asarray(values, np.int64)


def flags(*values: bool) -> NDArray[np.bool_]:
    """A column of yes and no."""
    return np.asarray(values, np.bool_)


def assert_same(one: Columns, other: Columns) -> None:
    """The two states are the same to the bit."""
    for field in fields(one):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        assert mine.dtype == theirs.dtype, field.name
        assert mine.tobytes() == theirs.tobytes(), field.name


def alone_and_together(empty: Callable[[int], S], advance: Callable[[S, I64, Round], S], rounds: Rounds) -> S:
    """Give each round's readings together, and in another life one by one; the two end in the same state.

    A round is the rows that have a reading, and columns of these readings. Half way, the second life is cut: its state
    is taken out whole and put into a new one.
    """
    size = max((int(rows.max()) + 1 for rows, _ in rounds if len(rows)), default=1)
    together, alone = empty(size), empty(size)
    for number, (rows, columns) in enumerate(rounds):
        if len(rows):
            together.put(rows, advance(together.rows(rows), rows, columns))
        for place in reversed(range(len(rows))):
            one = rows[place : place + 1]
            alone.put(one, advance(alone.rows(one), one, tuple(column[place : place + 1] for column in columns)))
        if number == len(rounds) // 2:
            restored = empty(size)
            restored.put(np.arange(size), alone.rows(np.arange(size)))
            alone = restored
    assert_same(together, alone)
    return together
