"""Which hours of which points have a roll-up on the server, and which have to be rolled up, first or anew."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np

from tocsin_cloud.adapters.history import HOUR
from tocsin_core.readings import I64, Frame

# The part of the historian's state without which no row counts.
PART: Final = "rolled"
# The first hour of a point that has no reading.
NEVER: Final = np.iinfo(np.int64).max


class Rows(NamedTuple):
    """What is kept of points, in columns: the hours [first, closed) have roll-ups, but those of [since, until) do not.

    Hours that were closed after a point's row was kept are to be rolled up: `closed` is the row's own.
    """

    key: I64
    first: I64
    since: I64
    until: I64
    closed: I64


class Work(NamedTuple):
    """Hours [since, until) of the points with the keys `key`, to be rolled up, in columns."""

    key: I64
    since: I64
    until: I64

    @property
    def hours(self) -> int:
        """The hours of all points together."""
        return int((self.until - self.since).sum())


class RolledHours:
    """Hours since the epoch, by the points' keys; an hour is rolled up when it is closed.

    What comes for a closed hour makes that point's hour due again, and all between it and others that are due: there
    is one stretch a point, so that all of it stays small however late a plant is. Work that is taken stays due for
    readers until it is done; what comes meanwhile is due again.
    """

    def __init__(self, closed: int, rows: Rows | None = None) -> None:
        """Hours before `closed` are closed; go on with the rows that were kept."""
        self.closed = closed
        self._first = np.empty(0, np.int64)
        self._due = np.empty((2, 0), np.int64)
        self._taken = np.empty((2, 0), np.int64)
        self._unsaved = np.empty(0, np.bool_)
        self._wanted: set[int] = set()
        if rows is not None and len(rows.key):
            self._room(int(rows.key.max()) + 1)
            self._first[rows.key] = rows.first
            self._due[:, rows.key] = rows.since, rows.until
            self._close(rows.key, rows.closed)
            self._unsaved[:] = False

    def touch(self, frame: Frame) -> None:
        """Take note of readings that are about to be stored."""
        if not len(frame):
            return
        self._room(int(frame.point.max()) + 1)
        hours = frame.time_ns // HOUR
        news = ((hours < self.closed) | (hours < self._first[frame.point])).nonzero()[0]
        if not len(news):
            return
        keys, place = np.unique(frame.point[news].astype(np.int64), return_inverse=True)
        lowest, highest = np.full(len(keys), NEVER), np.full(len(keys), -1)
        np.minimum.at(lowest, place, hours[news])
        np.maximum.at(highest, place, hours[news])
        first = self._first[keys]
        # Before the first reading that is known of here there may be others on the server: nothing was rolled up there.
        until = np.minimum(np.maximum(highest + 1, np.where(lowest < first, first, 0)), self.closed)
        self._first[keys] = np.minimum(first, lowest)
        self._unsaved[keys] |= lowest < first
        self._make_due(keys, lowest, until)

    def want(self, key: int, hour: int) -> bool:
        """Let a point be taken next, as somebody reads it from `hour` on; whether nobody had told of readings then."""
        self._room(key + 1)
        self._wanted.add(key)
        first = int(self._first[key])
        if hour >= first:
            return False
        self._first[key] = hour
        self._unsaved[key] = True
        self._make_due(np.array([key]), np.array([hour]), np.array([min(first, self.closed)]))
        return True

    def close(self, until: int) -> None:
        """Let the hours before `until` be closed: of every point that has readings they are due."""
        if until <= self.closed:
            return
        before, self.closed = self.closed, until
        # What follows from `closed` is not kept of each point.
        unsaved = self._unsaved.copy()
        self._close(np.arange(len(self._first)), before)
        self._unsaved = unsaved

    def close_anew(self) -> None:
        """Let all hours that are closed be due, of every point that has readings."""
        self._close(np.arange(len(self._first)), 0)

    def take(self, most: int) -> Work:
        """At most `most` hours of points that are due, wanted ones first, as work that `done` or `back` ends."""
        keys = (self._due[0] < self._due[1]).nonzero()[0]
        if self._wanted:
            keys = keys[np.argsort(~np.isin(keys, list(self._wanted)), kind="stable")]
        since, until = self._due[:, keys]
        before = np.cumsum(until - since) - (until - since)
        some = before < most
        keys, since = keys[some], since[some]
        self._wanted.difference_update(keys.tolist())
        until = np.minimum(until[some], since + most - before[some])
        self._taken[:, keys] = since, until
        self._due[0, keys] = until
        return Work(keys, since, until)

    def done(self) -> None:
        """What was taken has roll-ups."""
        self._unsaved |= self._taken[0] < self._taken[1]
        self._taken[:] = 0

    def back(self) -> None:
        """What was taken is due again."""
        keys = (self._taken[0] < self._taken[1]).nonzero()[0]
        self._make_due(keys, *self._taken[:, keys])
        self._taken[:] = 0

    @property
    def changed(self) -> bool:
        """Whether `unsaved` has anything to give."""
        return bool(self._unsaved.any())

    @property
    def due(self) -> int:
        """The hours of all points together that are to be rolled up, what is taken included."""
        return int((self._due[1] - self._due[0]).sum() + (self._taken[1] - self._taken[0]).sum())

    def unsaved(self) -> Rows:
        """The points of which other rows are to be kept than when this was last called, `closed` with them."""
        keys = self._unsaved.nonzero()[0]
        self._unsaved[:] = False
        since, until = self._not_rolled(keys)
        return Rows(keys, self._first[keys], since, until, np.full(len(keys), self.closed))

    def not_saved(self, rows: Rows) -> None:
        """These of `unsaved` could not be kept."""
        self._unsaved[rows.key] = True

    def stretches(self, key: int, begin: int, end: int) -> Iterator[tuple[int, int, bool]]:
        """The hours [begin, end) of a point in stretches, each with whether its hours have roll-ups."""
        first, since, until = self.closed, 0, 0
        if key < len(self._first):
            first = min(int(self._first[key]), self.closed)
            since, until = (int(hour) for hour in self._not_rolled(np.array([key]))[:, 0])
        if since >= until:
            since = until = first
        bounds = (begin, first, since, until, self.closed, end)
        for place, (low, high) in enumerate(pairwise(bounds)):
            # Between `first` and `since`, and between `until` and `closed`.
            low, high = max(low, begin), min(high, end)  # noqa: PLW2901 -- cut to what was asked for
            if low < high:
                yield low, high, place in (1, 3)

    def _close(self, keys: I64, before: I64 | int) -> None:
        """Make due what is closed by now of these points and was not when `before` was `closed`."""
        self._make_due(keys, np.maximum(self._first[keys], before), np.full(len(keys), self.closed))

    def _not_rolled(self, keys: I64) -> I64:
        due, taken = self._due[:, keys], self._taken[:, keys]
        no_due, no_taken = due[0] >= due[1], taken[0] >= taken[1]
        since = np.minimum(np.where(no_due, NEVER, due[0]), np.where(no_taken, NEVER, taken[0]))
        until = np.maximum(np.where(no_due, 0, due[1]), np.where(no_taken, 0, taken[1]))
        nothing = no_due & no_taken
        return np.stack([np.where(nothing, 0, since), until])

    def _make_due(self, keys: I64, since: I64, until: I64) -> None:
        wanted = since < until
        keys, since, until = keys[wanted], since[wanted], until[wanted]
        before = self._due[:, keys]
        nothing = before[0] >= before[1]
        due = np.stack(
            [
                np.where(nothing, since, np.minimum(before[0], since)),
                np.where(nothing, until, np.maximum(before[1], until)),
            ]
        )
        self._due[:, keys] = due
        self._unsaved[keys] |= (due != before).any(axis=0)

    def _room(self, number: int) -> None:
        more = number - len(self._first)
        if more > 0:
            self._first = np.concatenate([self._first, np.full(more, NEVER)])
            self._due = np.concatenate([self._due, np.zeros((2, more), np.int64)], axis=1)
            self._taken = np.concatenate([self._taken, np.zeros((2, more), np.int64)], axis=1)
            self._unsaved = np.concatenate([self._unsaved, np.zeros(more, np.bool_)])
