"""Holds the bookkeeping of roll-ups to a plain model of it: an hour counts as rolled up only if it is."""

import random
from typing import Final

import pytest

from tocsin_cloud.adapters.history import HOUR
from tocsin_cloud.adapters.history_rolled import RolledHours, Row
from tocsin_core.readings import GOOD, Frame

POINTS: Final = 3
HOURS: Final = 20
Hour = tuple[int, int]


def touched(hours: RolledHours, found: set[Hour]) -> None:
    """Tell of readings of these hours."""
    keys, times = [key for key, _ in found], [hour * HOUR + 1 for _, hour in found]
    hours.touch(Frame.of(keys, times, [1.0] * len(found), [GOOD] * len(found)))


class Run:
    """The bookkeeping beside a plain model of what is stored and rolled up, hour by hour."""

    def __init__(self, seed: int) -> None:
        """Nothing is stored."""
        self.chance = random.Random(seed)  # noqa: S311 -- no secret is made
        self.hours = RolledHours(0, [])
        self.kept: dict[int, tuple[int, int, int]] = {}
        self.stored: set[Hour] = set()
        self.rolled: set[Hour] = set()
        self.taken: set[Hour] = set()

    def store(self) -> None:
        """What is rolled up of an hour, and what is just being, is no longer right when readings of it come."""
        key, hour = self.chance.randrange(POINTS), self.chance.randrange(HOURS)
        found = {(key, hour), (key, min(HOURS - 1, hour + self.chance.randrange(3)))}
        touched(self.hours, found)
        self.keep()
        self.stored |= found
        self.rolled -= found
        self.taken -= found

    def close(self) -> None:
        """Time goes on, or the clock back."""
        self.hours.close(self.chance.randrange(HOURS))
        self.keep()

    def make(self) -> None:
        """Take work, and end it as it comes, with readings in between."""
        work = self.hours.take(self.chance.randrange(1, 9))
        self.taken = {(key, hour) for key, since, until in work for hour in range(since, until)}
        while self.chance.random() < 0.5:
            self.chance.choice([self.store, self.close])()
            self.check()
        if self.chance.random() < 0.7:
            self.hours.done()
            self.rolled |= self.taken
            self.keep()
        else:
            self.hours.back()

    def kill(self) -> None:
        """Lose all that was not kept, also in the midst of work."""
        self.hours.take(self.chance.randrange(1, 9))
        self.hours = RolledHours(self.hours.closed, ((key, Row(str(key), *row)) for key, row in self.kept.items()))

    def keep(self) -> None:
        """Keep what changed."""
        self.kept |= {key: (first, since, until) for key, first, since, until in self.hours.unsaved()}

    def check(self) -> None:
        """No hour with readings is claimed that is not rolled up, and each hour is in one stretch."""
        for key in range(POINTS):
            stretches = list(self.hours.stretches(key, 0, HOURS))
            assert sum(high - low for low, high, _ in stretches) == HOURS
            claimed = {(key, hour) for low, high, rolled in stretches if rolled for hour in range(low, high)}
            assert claimed & self.stored <= self.rolled


@pytest.mark.parametrize("seed", range(20))
def test_an_hour_counts_as_rolled_up_only_if_it_is(seed: int) -> None:
    """Whatever comes whenever, and however often all but what was kept is lost; and in the end all is rolled up."""
    run = Run(seed)
    for _ in range(200):
        run.chance.choice([run.store, run.close, run.make, run.kill])()
        run.check()
    run.hours.close(HOURS)
    while run.hours.take(7):
        run.hours.done()
    for key, (first, _, _) in run.kept.items():
        assert list(run.hours.stretches(key, 0, HOURS))[-1][1:] == (HOURS, True)
        assert all(rolled for _, _, rolled in run.hours.stretches(key, first, HOURS))


def test_a_point_without_a_reading_has_no_roll_up() -> None:
    """Nothing is ever due of it, and nothing is claimed."""
    hours = RolledHours(9, [])
    touched(hours, {(2, 3)})
    assert hours.unsaved() == [(2, 3, 3, 9)]
    assert hours.take(100) == [(2, 3, 9)]
    hours.close(12)
    assert [row[0] for row in hours.unsaved()] == [2]
    assert list(hours.stretches(0, 0, 5)) == [(0, 5, False)]
    assert list(hours.stretches(7, 0, 5)) == [(0, 5, False)]
