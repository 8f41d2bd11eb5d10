"""Readings that come again without a batch number: only point and time tell that they did."""

from collections.abc import Mapping

import numpy as np

from tocsin_cloud.loops.points import PointTable
from tocsin_core.readings import I64, Frame


class Repeats:
    """The newest time known of each point; a birth, or a message delivered twice, shows that reading again."""

    def __init__(self, table: PointTable, held: Mapping[str, int]) -> None:
        """Know the times (ns UTC, by point id) of `held`."""
        self._table = table
        self._newest: I64 = np.zeros(0, dtype=np.int64)
        self._held = dict(held)

    def fresh(self, frame: Frame) -> Frame:
        """The readings of `frame` that are not their point's newest one over again; each once."""
        self._fit()
        _, first = np.unique(np.stack([frame.point.astype(np.int64), frame.time_ns]), axis=1, return_index=True)
        once = frame.take(np.sort(first))
        new = once.take(once.time_ns != self._newest[once.point])
        np.maximum.at(self._newest, new.point, new.time_ns)
        return new

    def later(self, frame: Frame) -> Frame:
        """The readings of `frame` that are newer than all known of their points: for points whose times only rise."""
        self._fit()
        new = frame.take(frame.time_ns > self._newest[frame.point])
        np.maximum.at(self._newest, new.point, new.time_ns)
        return new

    def to_json(self) -> dict[str, int]:
        """Give the times for the next start."""
        self._fit()
        return {self._table.ids[index]: int(self._newest[index]) for index in np.flatnonzero(self._newest)}

    def _fit(self) -> None:
        known, ids = len(self._newest), self._table.ids
        if len(ids) > known:
            more = np.asarray([self._held.get(point, 0) for point in ids[known:]], dtype=np.int64)
            self._newest = np.concatenate([self._newest, more])
