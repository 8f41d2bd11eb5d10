"""Named columns of the engine's state: what each row stands for, and how a table that has seen nothing looks."""

from collections.abc import Callable
from typing import NamedTuple

from tocsin_core.detectors.columns import Columns


class Table(NamedTuple):
    """`keys[i]` says what row i is about, whatever its number, so that a snapshot fits rules that have changed since.

    A key names everything that gives the row its meaning (its point, and parameters that the columns depend on).
    """

    keys: tuple[str, ...]
    empty: Callable[[], Columns]
