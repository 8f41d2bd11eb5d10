"""Who does the work of a role: a row in SQL that its holder renews, and that another takes when it stands still."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import inf
from typing import Final

import structlog
from sqlalchemy import Update, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from tocsin_cloud.adapters.sql import models as sql
from tocsin_cloud.adapters.sql.away import DatabaseAwayError
from tocsin_cloud.adapters.sql.engine import Database
from tocsin_core.clock import Clock

log = structlog.get_logger()

LOOK_S: Final = 0.25
BEAT_S: Final = 0.5
# A row that has not moved for so long by the candidate's own clock may be taken.
PATIENCE_S: Final = 2.0
# So much of that is left once a database answers that was away: its holder, too, could not renew the row meanwhile.
GRACE_S: Final = 2 * BEAT_S
# For so long after a renewal began, its holder knows that nobody can have taken the row yet.
TRUST_S: Final = 1.5
RENEWALS: Final = 3
# Who cannot do the work renews so seldom that a candidate who can takes the row in between.
OFFER_S: Final = 2 * PATIENCE_S + 1.0
# For so long it leaves the row alone, and once it can do it again its holder has as long to find that it can, too.
RELUCTANCE_S: Final = 2 * OFFER_S


class LeaseLostError(RuntimeError):
    """Another process does this work now: whoever did it has to stop at once."""


@dataclass(frozen=True, slots=True)
class Row:
    """What stands in the table; nobody holds the lease where `holder` is empty."""

    holder: str
    epoch: int
    beat: int


NOBODY: Final = Row("", 0, 0)


class Watch:
    """A candidate's patience: decides when a row has stood still for long enough. No machine's clocks are compared."""

    def __init__(self) -> None:
        """Have seen nothing yet."""
        self._seen: Row | None = None
        self._since_s = 0.0
        self._asked_s: float | None = None
        self._graced = False
        self._unable_s = -inf

    def ask(self, now_s: float) -> None:
        """Note that the row is asked for; the database may not answer, or after long."""
        self._asked_s = now_s if self._asked_s is None else self._asked_s

    def may_take(self, row: Row, now_s: float, *, unable: bool = False) -> bool:
        """Whether the lease may be taken, having just read `row`; `now_s` is the own monotonic clock.

        Who is `unable` to do the work takes it only where nobody renews it any more, not even as another such does. It
        may be wrong in that, and leaves it to anybody who would take it.
        """
        asked_s, self._asked_s = self._asked_s, None
        if row != self._seen:
            self._seen, self._since_s, self._graced = row, now_s, False
        latest_s = now_s - (PATIENCE_S - GRACE_S)
        if asked_s is not None and now_s - asked_s > BEAT_S and self._since_s < latest_s and not self._graced:
            # Once for a row: a database that is slow each time keeps nobody from taking over.
            self._since_s, self._graced = latest_s, True
        if unable:
            self._unable_s = now_s
        stood_s = now_s - self._since_s
        if now_s - self._unable_s < RELUCTANCE_S:
            return stood_s >= RELUCTANCE_S
        return not row.holder or stood_s >= PATIENCE_S


class Lease:
    """One process's part in the lease `name`: candidate first, then holder until it lets go or loses it."""

    def __init__(
        self,
        database: Database,
        name: str,
        holder: str,
        clock: Clock,
        unable: Callable[[], bool] = lambda: False,
    ) -> None:
        """Be a candidate; `holder` names this process and no other one, ever.

        While it is `unable` to do the work it leaves the lease to any other one who would, and takes it from nobody who
        renews it.
        """
        self._database = database
        self._unable = unable
        self._clock = clock
        self._watch = Watch()
        self._renewed_s: float | None = None
        self._released = False
        # Whether it has been a candidate: what is done before the first look is no waiting yet.
        self.stands_by = False
        self.name = name
        self.holder = holder
        self.epoch = 0

    @property
    def trusted(self) -> bool:
        """Whether nobody can have taken the lease yet: asked before anything is done that no transaction guards."""
        return self._renewed_s is not None and self._clock.monotonic() - self._renewed_s < TRUST_S

    async def take(self) -> bool:
        """Look at the row, and take the lease if nobody has it or its holder has stood still.

        Raises:
            DatabaseAwayError: the database does not answer.
        """
        self._watch.ask(self._clock.monotonic())
        async with self._database.read() as session:
            row = await _row(session, self.name)
        self.stands_by, began_s = True, self._clock.monotonic()
        if not self._watch.may_take(row, began_s, unable=self._unable()):
            return False
        async with self._database.write() as session:
            taken = await _take(session, self.name, self.holder, row)
        if taken:
            self.epoch, self._renewed_s, self._released = row.epoch + 1, began_s, False
            log.info("lease taken", lease=self.name, holder=self.holder, epoch=self.epoch, before=row.holder or None)
        return taken

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """A writing transaction that only the holder can commit; it renews the lease as well.

        Raises:
            LeaseLostError: the lease is another's; nothing is written.
        """
        began_s = self._clock.monotonic()
        async with self._database.write() as session:
            # The lock on the row is held until the commit: nobody can take the lease in between.
            beat = self._beat().returning(sql.Lease.beat).execution_options(synchronize_session=False)
            self._see_that_it_is_ours(await session.scalar(beat) is not None)
            yield session
        self._note_renewed(began_s)

    async def _renew(self) -> None:
        """Renew the lease and write nothing else.

        Raises:
            LeaseLostError: the lease is another's.
            DatabaseAwayError: the database does not answer.
        """
        began_s = self._clock.monotonic()
        # Twice a second by each holder, however much its event loop has to do: alarms must not wait for that.
        self._see_that_it_is_ours(await self._database.change(self._beat()) > 0)
        self._note_renewed(began_s)

    def _beat(self) -> Update:
        ours = (sql.Lease.name == self.name, sql.Lease.epoch == self.epoch, sql.Lease.holder == self.holder)
        return update(sql.Lease).where(*ours).values(beat=sql.Lease.beat + 1)

    def _see_that_it_is_ours(self, it_is: bool) -> None:  # noqa: FBT001 -- the one thing that it is told
        if not it_is:
            self._renewed_s = None
            raise LeaseLostError(f"another process has taken over: {self.name} (epoch {self.epoch} is over)")

    def _note_renewed(self, began_s: float) -> None:
        if self._renewed_s is None or began_s > self._renewed_s:
            self._renewed_s = began_s

    async def sure(self) -> bool:
        """Whether the lease is trusted, having renewed it where it was not; False where the database is too slow.

        Raises:
            LeaseLostError: another process has taken over.
            DatabaseAwayError: the database does not answer.
        """
        for _ in range(RENEWALS):
            if self.trusted:
                return True
            await self._renew()
        return self.trusted

    async def keep(self) -> None:
        """Renew until cancelled, or until the lease is released.

        Raises:
            LeaseLostError: another process has taken over.
        """
        while not self._released:
            renewed_s = self._renewed_s
            beat_s = OFFER_S if self._unable() else BEAT_S
            left_s = 0.0 if renewed_s is None else renewed_s + beat_s - self._clock.monotonic()
            if left_s > 0:
                await asyncio.sleep(min(left_s, BEAT_S))
                continue
            try:
                await self._renew()
            except LeaseLostError:
                # Released while this waited for its turn to write.
                if not self._released:
                    raise
            except DatabaseAwayError as error:
                log.error("lease not renewed", lease=self.name, reason=error.reason)  # noqa: TRY400 -- the message is the reason
                await asyncio.sleep(BEAT_S)

    async def release(self) -> None:
        """Let go of the lease, if it is still held: a candidate takes it without waiting."""
        if self._renewed_s is None:
            return
        self._renewed_s, self._released = None, True
        ours = (sql.Lease.name == self.name, sql.Lease.epoch == self.epoch, sql.Lease.holder == self.holder)
        try:
            async with self._database.write() as session:
                await session.execute(update(sql.Lease).where(*ours).values(holder=""))
        except DatabaseAwayError as error:
            # Whoever waits for it takes it a little later.
            log.warning("lease not released", lease=self.name, reason=error.reason)


async def hold(
    lease: Lease,
    work: Callable[[], Awaitable[None]],
    meanwhile: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Wait for the lease, spending each look's pause (s) in `meanwhile`; then `work` until cancelled, and release it.

    `meanwhile` is called once before the first look, for what is better done before others wait for this process.

    Raises:
        LeaseLostError: another process has taken over; `work` was cancelled.
    """
    await meanwhile(0.0)
    stands_by = False
    while not await _taken(lease):
        if not stands_by:
            log.info("standing by", lease=lease.name, holder=lease.holder)
        stands_by = True
        await meanwhile(LOOK_S)
    try:
        async with asyncio.TaskGroup() as tasks:
            keeping = tasks.create_task(lease.keep(), name=f"lease {lease.name}")
            await work()
            keeping.cancel()
    except BaseExceptionGroup as group:
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from None
        raise
    finally:
        await lease.release()


async def _taken(lease: Lease) -> bool:
    try:
        return await lease.take()
    except DatabaseAwayError as error:
        log.warning("lease cannot be looked at", lease=lease.name, reason=error.reason)
        return False


async def _row(session: AsyncSession, name: str) -> Row:
    found = await session.get(sql.Lease, name)
    return NOBODY if found is None else Row(found.holder, found.epoch, found.beat)


async def _take(session: AsyncSession, name: str, holder: str, seen: Row) -> bool:
    """Take the lease if it still stands as `seen`; several may try, and one of them has it."""
    if seen is NOBODY:
        try:
            async with session.begin_nested():
                session.add(sql.Lease(name=name, holder=holder, epoch=1, beat=0))
        except IntegrityError:
            return False
        return True
    found = await session.scalar(
        update(sql.Lease)
        .where(sql.Lease.name == name, sql.Lease.epoch == seen.epoch, sql.Lease.beat == seen.beat)
        .values(holder=holder, epoch=seen.epoch + 1, beat=seen.beat + 1)
        .returning(sql.Lease.epoch)
        .execution_options(synchronize_session=False)
    )
    return found is not None
