"""Holds the bookkeeping of roll-ups to a plain model of it: an hour counts as rolled up only if it is."""

import asyncio
import random
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from tests.cloud.api.stand_ins import HandClock
from tocsin_cloud.adapters.history import HOUR
from tocsin_cloud.adapters.history_lines import Names
from tocsin_cloud.adapters.history_rolled import PART, RolledHours, Rows
from tocsin_cloud.adapters.history_state import StateFile
from tocsin_cloud.adapters.history_victoria_hours import REST_S, VictoriaHours
from tocsin_cloud.adapters.history_victoria_server import AwayError, VictoriaServer
from tocsin_cloud.settings import HistoryAddress
from tocsin_core.readings import GOOD, Frame
from tocsin_core.rules import NS

POINTS: Final = 3
HOURS: Final = 20
# An hour is closed when it has ended for so long.
CLOSED_AFTER_S: Final = 600.0
Hour = tuple[int, int]


def touched(hours: RolledHours, found: set[Hour]) -> None:
    """Tell of readings of these hours."""
    keys, times = [key for key, _ in found], [hour * HOUR + 1 for _, hour in found]
    hours.touch(Frame.of(keys, times, [1.0] * len(found), [GOOD] * len(found)))


def listed(rows: tuple[np.ndarray[tuple[int], np.dtype[np.int64]], ...]) -> list[list[int]]:
    """Columns as rows."""
    return [list(row) for row in zip(*(column.tolist() for column in rows), strict=True)]


class Run:
    """The bookkeeping beside a plain model of what is stored and rolled up, hour by hour."""

    def __init__(self, seed: int) -> None:
        """Nothing is stored."""
        self.chance = random.Random(seed)  # noqa: S311 -- no secret is made
        self.hours = RolledHours(0)
        self.kept: dict[int, list[int]] = {}
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
        self.taken = {(key, hour) for key, since, until in listed(work) for hour in range(since, until)}
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
        self.hours = RolledHours(self.hours.closed, Rows(*np.array([*self.kept.values()], np.int64).reshape(-1, 5).T))

    def keep(self) -> None:
        """Keep what changed."""
        self.kept |= {row[0]: row for row in listed(self.hours.unsaved())}

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
    while run.hours.take(7).hours:
        run.hours.done()
    assert run.hours.due == 0
    for key, first, *_ in run.kept.values():
        assert list(run.hours.stretches(key, 0, HOURS))[-1][1:] == (HOURS, True)
        assert all(rolled for _, _, rolled in run.hours.stretches(key, first, HOURS))


def test_a_point_without_a_reading_has_no_roll_up() -> None:
    """Nothing is ever due of it, and nothing is claimed."""
    hours = RolledHours(9)
    touched(hours, {(2, 3)})
    assert listed(hours.unsaved()) == [[2, 3, 3, 9, 9]]
    assert listed(hours.take(100)) == [[2, 3, 9]]
    assert hours.due == 6
    assert list(hours.stretches(0, 0, 5)) == [(0, 5, False)]
    assert list(hours.stretches(7, 0, 5)) == [(0, 5, False)]


def test_what_somebody_reads_is_taken_first_and_from_its_first_reading_on() -> None:
    """Once: when it was taken, the others have their turn. What was known already makes nothing due."""
    hours = RolledHours(9)
    touched(hours, {(0, 3), (1, 5), (2, 7)})
    assert not hours.want(2, 8)
    assert hours.want(1, 2)
    assert not hours.want(1, 2)
    assert list(hours.stretches(1, 0, 9)) == [(0, 2, False), (2, 9, False)]
    assert listed(hours.unsaved()) == [[0, 3, 3, 9, 9], [1, 2, 2, 9, 9], [2, 7, 7, 9, 9]]
    assert listed(hours.take(8)) == [[1, 2, 9], [2, 7, 8]]
    hours.done()
    assert listed(hours.take(8)) == [[0, 3, 9], [2, 8, 9]]
    hours.done()
    assert hours.due == 0
    assert list(hours.stretches(1, 0, 9)) == [(0, 2, False), (2, 9, True)]


def test_what_somebody_reads_of_an_hour_that_goes_on_is_due_when_it_is_closed() -> None:
    """So it is with all hours before the first are closed, which a new state file begins with."""
    for closed, hour in ((9, 9), (0, 4)):
        hours = RolledHours(closed)
        assert hours.want(0, hour)
        assert (hours.changed, hours.due) == (True, 0)
        hours.close(10)
        assert hours.due == 10 - hour


class ToldNames(Names):
    """Names that tell which threads asked for an id, each time."""

    def __init__(self) -> None:
        """Nobody has asked."""
        super().__init__()
        self.asked: list[int] = []

    def id(self, key: int) -> str:
        """The id of the point with that key."""
        self.asked.append(threading.get_ident())
        return super().id(key)


def test_a_closed_hour_is_kept_as_one_number_and_rows_are_put_together_aside(tmp_path: Path) -> None:
    """Of a large plant either would hold up all else each hour; what is due is the same after a new start."""
    clock, names, number = HandClock(), ToldNames(), 4
    keys = [names.key(f"P-{place}") for place in range(number)]
    hour = clock.now_ns() // HOUR

    def readings(some: Sequence[int], at: int) -> Frame:
        return Frame.of(some, [at * HOUR] * len(some), [1.0] * len(some), [GOOD] * len(some))

    async def story() -> None:
        server = VictoriaServer(HistoryAddress.parse("victoriametrics://127.0.0.1:1"))
        with closing(StateFile.open(tmp_path)) as file:
            hours = VictoriaHours(server, file, None, names, clock)
            await hours.touch(readings(keys, hour))
            assert len(names.asked) == number
            assert threading.get_ident() not in names.asked
            clock.move(2 * HOUR / NS + CLOSED_AFTER_S)
            hours.take(0)
            assert (hours.busy, hours.due) == (True, 2 * number)
            await hours.touch(readings(keys, hour + 2))
            assert len(names.asked) == number, "an hour's end is no point's row"
            await hours.touch(readings(keys[:1], hour - 1))
            assert len(names.asked) == number + 1
            assert hours.due == 2 * number + 1
            again = VictoriaHours(server, file, file.load()[PART], Names(), clock)
            assert again.due == 2 * number + 1
            busy = []
            for passed_s in (0, 0, REST_S):
                clock.move(passed_s)
                again.take(0)
                busy.append(again.busy)
                if again.busy:
                    with pytest.raises(AwayError):
                        await again.go_on(0, 0)
            assert busy == [True, False, True], "it rests"
            assert again.due == 2 * number + 1
        await server.close()

    asyncio.run(story())
