"""The lease: who may take it and when, by clocks moved by hand; no transaction of a former holder is committed."""

import asyncio
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import Engine, event
from sqlalchemy.engine import URL

from tests.cloud.api.stand_ins import HandClock
from tests.cloud.rig import depose
from tests.support.database import tell
from tests.support.postgres import on_both
from tests.support.wait import eventually_async
from tocsin_cloud.adapters.lease import (
    BEAT_S,
    GRACE_S,
    NOBODY,
    OFFER_S,
    PATIENCE_S,
    RELUCTANCE_S,
    TRUST_S,
    Lease,
    LeaseLostError,
    Row,
    Watch,
    hold,
)
from tocsin_cloud.adapters.sql.engine import Database, sqlite_url
from tocsin_core.clock import SystemClock


class Bearers(RuleBasedStateMachine):
    """Three processes, each with a clock of its own rate and origin; any of them stands still whenever it likes."""

    @initialize(rates=st.lists(st.floats(0.95, 1.05), min_size=3, max_size=3))
    def begin(self, rates: list[float]) -> None:
        """Nobody has the lease."""
        self.now, self.rates = 0.0, rates
        self.row = NOBODY
        self.watches = [Watch() for _ in rates]
        self.epochs = [-1] * len(rates)
        self.renewed: list[float | None] = [None] * len(rates)

    def clock(self, who: int) -> float:
        """The process's own monotonic clock."""
        return 1000.0 * who + self.now * self.rates[who]

    @rule(seconds=st.floats(0.0, 3.0))
    def pass_time(self, seconds: float) -> None:
        """Time passes while nobody does anything."""
        self.now += seconds

    @rule(who=st.integers(0, 2), seconds=st.floats(0.0, 1.0), still=st.floats(0.0, 1.0), unable=st.booleans())
    def look(self, who: int, seconds: float, still: float, unable: bool) -> None:  # noqa: FBT001 -- drawn by name
        """A candidate reads the row, may hesitate, decides, may hesitate again, and swaps what it has seen."""
        if self.renewed[who] is not None:
            return
        self.watches[who].ask(self.clock(who))
        seen = self.row
        self.now += seconds
        began = self.clock(who)
        if not self.watches[who].may_take(seen, began, unable=unable):
            return
        self.now += still
        if self.row == seen:
            self.row = Row(f"p{who}", seen.epoch + 1, seen.beat + 1)
            self.epochs[who], self.renewed[who] = self.row.epoch, began

    @rule(who=st.integers(0, 2), slow=st.floats(0.0, 5.0))
    def renew(self, who: int, slow: float) -> None:
        """A holder renews, as slowly as its database is; one that lost the lease hears it then."""
        if self.renewed[who] is None:
            return
        began = self.clock(who)
        self.now += slow
        if self.row.epoch == self.epochs[who] and self.row.holder == f"p{who}":
            self.row = Row(self.row.holder, self.row.epoch, self.row.beat + 1)
            self.renewed[who] = began
        else:
            self.renewed[who] = None

    @rule(who=st.integers(0, 2))
    def release(self, who: int) -> None:
        """A holder lets go."""
        if self.renewed[who] is not None:
            if self.row.epoch == self.epochs[who]:
                self.row = Row("", self.row.epoch, self.row.beat)
            self.renewed[who] = None

    @invariant()
    def at_most_one_is_trusted(self) -> None:
        """Whoever trusts its lease is the one who has it: two never send at the same time."""
        if not hasattr(self, "row"):
            return
        for who, renewed in enumerate(self.renewed):
            if renewed is not None and self.clock(who) - renewed < TRUST_S:
                assert (self.row.holder, self.row.epoch) == (f"p{who}", self.epochs[who])


TestBearers = Bearers.TestCase


@given(st.lists(st.floats(0.0, PATIENCE_S * 0.99), min_size=1, max_size=20))
def test_a_holder_that_renews_in_time_keeps_its_lease(pauses: list[float]) -> None:
    """However the looks fall between the renewals, and only a row that stands still for long enough is taken."""
    watch, now = Watch(), 50.0
    for beat, pause in enumerate(pauses):
        assert not watch.may_take(Row("p", 1, beat), now)
        assert not watch.may_take(Row("p", 1, beat), now + pause)
        now += pause
    # Sums of floats may fall short of it by their last digit.
    assert watch.may_take(Row("p", 1, len(pauses) - 1), now + 1.001 * PATIENCE_S)


def test_a_released_lease_is_taken_without_waiting() -> None:
    """Nobody's lease is anybody's, at once."""
    watch = Watch()
    assert watch.may_take(NOBODY, 0.0)
    assert not watch.may_take(Row("p", 1, 0), 1.0)
    assert watch.may_take(Row("", 1, 0), 1.0)


def test_looks_without_an_answer_do_not_show_that_a_holder_stands_still() -> None:
    """The first answer after them leaves the holder its moment."""
    watch, row = Watch(), Row("p", 1, 0)
    assert not watch.may_take(row, 0.0)
    for asked_s in (0.25, 0.5, PATIENCE_S):
        watch.ask(asked_s)
    assert not watch.may_take(row, PATIENCE_S)
    watch.ask(PATIENCE_S + 0.9 * GRACE_S)
    assert not watch.may_take(row, PATIENCE_S + 0.9 * GRACE_S)
    assert watch.may_take(row, PATIENCE_S + 1.001 * GRACE_S)


@on_both
def test_a_database_that_was_away_costs_nobody_its_lease(sql_url: URL) -> None:
    """Its holder could not renew it either: it has a moment for that, once. One that is gone has it for no longer."""
    away_s = PATIENCE_S

    async def story(database: Database) -> None:
        clock = HandClock()
        first, second = (Lease(database, "alarms", name, clock) for name in ("first", "second"))

        def stand_still(*_told: object) -> None:
            clock.move(away_s)

        async def look_late() -> bool:
            event.listen(Engine, "before_cursor_execute", stand_still, once=True)
            return await second.take()

        assert await first.take()
        assert not await second.take()
        assert not await look_late()
        clock.move(0.9 * GRACE_S)
        assert not await second.take()
        async with first.write():
            pass
        assert not await second.take()
        assert not await look_late()
        clock.move(0.5 * GRACE_S)
        assert await look_late()

    tell(sql_url, story)


@on_both
def test_a_transaction_of_a_former_holder_is_refused(sql_url: URL) -> None:
    """A holder that stood still trusts itself no more, and commits nothing once another has the lease."""

    async def story(database: Database) -> None:
        clock = HandClock()
        first, second = (Lease(database, "alarms", name, clock) for name in ("first", "second"))
        assert await first.take()
        assert not await second.take()
        clock.move(TRUST_S)
        trusted = [first.trusted]
        async with first.write():
            pass
        assert [*trusted, first.trusted] == [False, True]
        # The renewal began the candidate's wait anew.
        assert not await second.take()
        clock.move(PATIENCE_S)
        assert await second.take()
        assert (first.epoch, second.epoch, second.trusted) == (1, 2, True)
        with pytest.raises(LeaseLostError):
            async with first.write():
                pytest.fail("the transaction of a former holder began")
        assert not first.trusted
        await first.release()
        assert not await first.take()
        await second.release()
        assert await first.take()

    tell(sql_url, story)


@on_both
def test_who_releases_its_lease_may_take_its_time_to_end(sql_url: URL) -> None:
    """What is still to be done after the release is done: the lease that is gone is nobody's loss."""

    async def story(database: Database) -> None:
        lease, done = Lease(database, "alarms", "first", SystemClock()), asyncio.Event()

        async def work() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await lease.release()
                await asyncio.sleep(2 * BEAT_S)
                done.set()

        task = asyncio.create_task(hold(lease, work))
        await eventually_async(lambda: lease.trusted)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert done.is_set()

    tell(sql_url, story)


@on_both
def test_who_loses_its_lease_ends_and_who_is_cancelled_releases_it(sql_url: URL) -> None:
    """The work of a deposed holder is cancelled and the loss told; the next one has the lease until it ends."""

    async def story(database: Database) -> None:
        worked: list[str] = []

        async def work(name: str) -> None:
            worked.append(name)
            try:
                await asyncio.Event().wait()
            finally:
                worked.append(f"{name} ended")

        leases = [Lease(database, "alarms", name, SystemClock()) for name in ("first", "second")]
        first, second = (asyncio.create_task(hold(lease, partial(work, lease.holder))) for lease in leases)
        await eventually_async(lambda: len(worked) == 1)
        await asyncio.sleep(BEAT_S)
        assert len(worked) == 1
        await depose(database)
        tasks = {"first": first, "second": second}
        loser = tasks.pop(worked[0])
        with pytest.raises(LeaseLostError):
            await loser
        ((other, task),) = tasks.items()
        await eventually_async(lambda: other in worked)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await Lease(database, "alarms", "third", SystemClock()).take()

    tell(sql_url, story)


def test_a_holder_that_renews_holds_up_nobody_however_busy_it_is(tmp_path: Path) -> None:
    """Right after the statement, when the event loop has other work perhaps for seconds, another process may write."""
    file, written = tmp_path / "tocsin.sqlite", list[str]()

    def write_beside(*told: object) -> None:
        if str(told[2]).startswith("UPDATE lease"):
            with closing(sqlite3.connect(file, timeout=0)) as other, other:
                other.execute("BEGIN IMMEDIATE")
            written.append("beside")

    async def story(database: Database) -> None:
        lease = Lease(database, "historian", "a", SystemClock())
        assert await lease.take()
        event.listen(Engine, "after_cursor_execute", write_beside)
        keeping = asyncio.create_task(lease.keep())
        try:
            await eventually_async(lambda: len(written) > 1 or keeping.done())
        finally:
            event.remove(Engine, "after_cursor_execute", write_beside)
            keeping.cancel()
        assert [type(each) for each in await asyncio.gather(keeping, return_exceptions=True)] == [
            asyncio.CancelledError
        ]
        assert lease.trusted

    tell(sqlite_url(file), story)


@on_both
def test_who_renews_hears_of_its_loss(sql_url: URL) -> None:
    """Another one has taken the lease: the next beat says so, and changes nothing."""

    async def story(database: Database) -> None:
        lease = Lease(database, "alarms", "a", SystemClock())
        assert await lease.take()
        await depose(database, "alarms")
        with pytest.raises(LeaseLostError):
            await lease.keep()
        assert not lease.trusted

    tell(sql_url, story)


@given(st.lists(st.floats(0.0, OFFER_S), min_size=1, max_size=20))
def test_who_cannot_do_the_work_takes_it_from_nobody_who_renews(pauses: list[float]) -> None:
    """Nor for a while after: the holder that could not either finds by then that it can, and renews more often."""
    watch, now = Watch(), 50.0
    for beat, pause in enumerate(pauses):
        assert not watch.may_take(Row("p", 1, beat), now, unable=True)
        now += pause
        assert not watch.may_take(Row("p", 1, beat), now, unable=True)
    now += OFFER_S - pauses[-1]
    assert not watch.may_take(Row("p", 1, len(pauses) - 1), now)
    assert not watch.may_take(Row("p", 1, len(pauses)), now)
    assert not watch.may_take(Row("p", 1, len(pauses)), now + PATIENCE_S)
    now += RELUCTANCE_S
    assert not watch.may_take(Row("p", 1, len(pauses) + 1), now)
    assert watch.may_take(Row("p", 1, len(pauses) + 1), now + 1.001 * PATIENCE_S)


def test_where_nobody_is_left_who_cannot_do_the_work_takes_it_at_last() -> None:
    """It may be wrong in that, and leaves it to whoever knows that it can."""
    for row in (NOBODY, Row("p", 1, 0)):
        watch = Watch()
        assert not watch.may_take(row, 0.0, unable=True)
        assert not watch.may_take(row, 0.99 * RELUCTANCE_S, unable=True)
        assert watch.may_take(row, RELUCTANCE_S, unable=True)


@on_both
def test_who_cannot_do_the_work_leaves_it_to_another_who_can(sql_url: URL) -> None:
    """It goes on renewing, though seldom, and so hears of its loss."""

    async def story(database: Database) -> None:
        unable: set[str] = set()
        worked: list[str] = []

        async def work(name: str) -> None:
            worked.append(name)
            await asyncio.Event().wait()

        first, second = (
            Lease(database, "alarms", name, SystemClock(), partial(unable.__contains__, name))
            for name in ("first", "second")
        )
        working = asyncio.create_task(hold(first, partial(work, "first")))
        await eventually_async(lambda: worked)
        waiting = asyncio.create_task(hold(second, partial(work, "second")))
        unable.add("first")
        await eventually_async(lambda: worked == ["first", "second"])
        await eventually_async(working.done)
        with pytest.raises(LeaseLostError):
            await working
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    tell(sql_url, story)
