"""The keep loop: readings of all devices into the spool at once, and, once that is synced, to the sender."""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, Protocol

import structlog

from tocsin_core.clock import Clock
from tocsin_core.sparkplug.edge import Columns
from tocsin_edge.adapters.spool import far_ahead
from tocsin_edge.adapters.spool_file import code_of
from tocsin_edge.loops.board import Board
from tocsin_edge.loops.journal_feed import JournalFeed
from tocsin_edge.settings import DeviceSettings

# A card bears only so many synced writes: what is written before this has passed since the last is synced when it has.
SYNC_EVERY_S: Final = 0.05
# A judgement and a write of their own for each sample would be most of what a gateway of hundreds of devices does.
WRITES_PER_S: Final = 50
AT_ONCE: Final = 10
RETRY_FIRST_S: Final = 1.0
RETRY_MOST_S: Final = 30.0
TOLD_EVERY_S: Final = 60.0
TRIM_EVERY_S: Final = 5.0
# While the disk takes nothing, this many device readings wait in memory; then the oldest are lost and counted.
MOST_WAITING: Final = 20_000
CHUNK: Final = 500
NS_PER_MS: Final = 1_000_000

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Sample:
    """Readings of one device from one poll or message; `dead`: the device counts as dead from now on."""

    device: DeviceSettings
    columns: Columns
    dead: bool = False


@dataclass(frozen=True, slots=True)
class Kept:
    """A sample under its batch number; not `on_disk` while the disk takes nothing: a restart would lose it."""

    number: int
    sample: Sample
    on_disk: bool = True


class OnKept(Protocol):
    """What is called when journal entries have these numbers, after all batches up to `batch`."""

    def __call__(self, numbers: Sequence[int], batch: int, *, on_disk: bool) -> None:
        """`on_disk`: they are; else the disk refused them, and they are in memory."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The journal entries (time_ms, body) that all samples put until now have led to."""

    entries: Sequence[tuple[int, bytes]]
    kept: OnKept


class Keeper:
    """Takes samples from the polls (`put`) and hands them on (`on_kept`) once they are on disk, synced.

    Each is written as soon as the one before is, so that kill -9 takes nothing of it: ten in a row, and then 50 times a
    second all that came. It is synced beside that, at once after a quiet moment, and else with all others of 50 ms.
    What they lead to is asked (`judge`) each time, and kept with them in one transaction, which is synced. `known`
    tells up to which batch and journal entry a start would need nothing of the spool.

    While the disk takes nothing they are handed on all the same, under numbers far ahead of any that are on disk, and
    wait in memory; once it takes them again, `on_back` is called. `on_lost` is called when the spool, over its bound,
    gave up batches that nobody has.
    """

    def __init__(
        self,
        journal: JournalFeed,
        board: Board,
        clock: Clock,
        judge: Callable[[], Verdict],
        known: Callable[[], tuple[int, int]],
        on_kept: Callable[[list[Kept]], None],
        on_lost: Callable[[], None],
        on_back: Callable[[], None],
    ) -> None:
        """Wire only; `run` does the work."""
        self._journal = journal
        self._thread = journal.thread
        self._board = board
        self._clock = clock
        self._judge = judge
        self._known = known
        self._on_kept = on_kept
        self._on_lost = on_lost
        self._on_back = on_back
        self._waiting: deque[Sample] = deque()
        self._held: deque[Kept] = deque()
        self._last = self._on_disk = journal.thread.spool.counters()["batch_last"]
        # A disk that may only be read may show less at the start than is on it.
        self._all_seen = journal.thread.spool.writable
        self._some = asyncio.Event()
        self._woken = self._closing = False
        self._unsynced: list[Kept] = []
        self._syncing: asyncio.Task[None] | None = None
        self._times_handed_on = 0
        self._sync_at = self._write_at = 0.0
        self._retry_at = self._told_at = self._trim_at = 0.0
        self._retry_s = RETRY_FIRST_S
        self._left = MOST_WAITING
        self.trouble = ""
        self.lost = 0

    @property
    def held(self) -> int:
        """How many batches are in memory alone, as the disk did not take them."""
        return len(self._held)

    def put(self, sample: Sample) -> None:
        """Take a sample, read by the clock as it is now; never waits."""
        since_ms = self._board.unsynchronised_ms
        if since_ms is not None:
            read = sample.columns
            columns = Columns(read.metric, read.time_ms, read.value, read.quality, since_ms)
            sample = Sample(sample.device, columns, sample.dead)
        self._waiting.append(sample)
        self._some.set()

    def wake(self) -> None:
        """Ask soon what was decided, though no sample came."""
        self._woken = True
        self._some.set()

    def close(self) -> None:
        """Let `run` return once everything that was put is kept, or cannot be."""
        self._closing = True
        self._some.set()

    async def run(self) -> None:
        """Keep samples until `close`."""
        self._trim_at = self._clock.monotonic() + TRIM_EVERY_S
        while not (self._closing and not self._waiting):
            await self._some.wait()
            if self._waiting or self._woken:
                await self._turn()
            self._some.clear()
            await self._flush()
            if self._clock.monotonic() >= self._trim_at:
                self._trim_at = self._clock.monotonic() + TRIM_EVERY_S
                await self._trim()
        # The last verdict has the alarms' snapshot in it.
        await self._flush()
        if self._syncing is not None:
            await self._syncing
        if self.trouble:
            await self._retry()
        if self._held or self._journal.held:
            lost = sum(len(kept.sample.columns) for kept in self._held)
            log.error("not kept at the end", readings=lost, journal_entries=self._journal.held)

    async def _turn(self) -> None:
        """Wait where more was written than may be for long."""
        now = self._clock.monotonic()
        if self._write_at > now and not self._closing:
            await asyncio.sleep(self._write_at - now)
        self._write_at = max(self._write_at, now - (AT_ONCE - 1) / WRITES_PER_S) + 1 / WRITES_PER_S

    async def _flush(self) -> None:
        if not (self._waiting or self._woken or self._closing):
            return
        self._woken = False
        # Without a wait between the two, so that what is kept and what it led to are kept together.
        verdict = self._judge()
        samples, self._waiting = self._waiting, deque()
        synced = self._closing or bool(verdict.entries)
        given = None if self.trouble else await self._keep(samples, verdict, synced=synced)
        on_disk = given is not None
        numbers, entries = given or (range(self._last + 1, self._last + 1 + len(samples)), ())
        if on_disk:
            self._journal.kept(entries, verdict.entries)
        else:
            entries = self._journal.hold(verdict.entries)
        kept = [Kept(number, sample, on_disk) for number, sample in zip(numbers, samples, strict=True)]
        self._last = max([self._last, *numbers])
        verdict.kept(entries, self._last, on_disk=on_disk)
        self._unsynced += kept
        if synced or not on_disk:
            self._hand_on()
        self._sync_soon()
        if not on_disk:
            self._hold(kept)
            if self._clock.monotonic() >= self._retry_at:
                await self._retry()

    def _hand_on(self, most: int | None = None) -> None:
        """Hand on what was written first, all of it or `most`: it is synced, or the disk does not do it."""
        self._times_handed_on += 1
        kept, self._unsynced = self._unsynced[:most], [] if most is None else self._unsynced[most:]
        for each in kept:
            sample = each.sample
            self._board.update(sample.device.sparkplug, sample.columns, dead=sample.dead)
        if kept:
            self._on_kept(kept)

    def _sync_soon(self) -> None:
        if self._syncing is not None and self._syncing.done():
            # It has failed: it would be none by now.
            self._syncing.result()
        if self._unsynced and self._syncing is None:
            self._syncing = asyncio.create_task(self._sync(), name="sync")

    async def _sync(self) -> None:
        """Sync what was written, as soon as a sync may be; meanwhile more is written: kill -9 waits for nothing."""
        await asyncio.sleep(self._sync_at - self._clock.monotonic())
        written, before = len(self._unsynced), self._times_handed_on
        if written:
            self._sync_at = self._clock.monotonic() + SYNC_EVERY_S
            try:
                await self._thread.sync()
            except sqlite3.Error as error:
                if not self.trouble:
                    self._begin_trouble(error)
        if self._times_handed_on == before:
            self._hand_on(written)
        self._syncing = None
        self._sync_soon()

    async def _keep(
        self, samples: deque[Sample], verdict: Verdict, *, synced: bool
    ) -> tuple[Sequence[int], Sequence[int]] | None:
        """Put all into the spool and give the numbers of both; None, from now on, where it takes nothing."""
        spool = self._thread.spool
        try:
            # Others may have found it out.
            self._thread.refuse_while_it_hangs()
            if samples or verdict.entries:
                parts = [_part(sample) for sample in samples]
                given = await self._thread.call(spool.keep, parts, verdict.entries, synced=synced)
                self._on_disk = max([self._on_disk, *given[0]])
                return given
            if synced and self._unsynced:
                await self._thread.call(spool.sync)
        except sqlite3.Error as error:
            self._begin_trouble(error)
            return None
        return (), ()

    def _begin_trouble(self, error: sqlite3.Error) -> None:
        log.critical("spool takes nothing: live data goes up all the same, and waits in memory", reason=str(error))
        self.trouble = str(error)
        # The disk may hold more than it shows, and a restart would go on from what it shows.
        now_ms = self._clock.now_ns() // NS_PER_MS
        self._last = far_ahead(self._last, now_ms)
        self._journal.leave_out(now_ms)
        now = self._clock.monotonic()
        self._told_at, self._retry_s, self._left = now, RETRY_FIRST_S, MOST_WAITING
        self._retry_at = now + self._retry_s
        # A full disk may have room as soon as the oldest has gone.
        self._trim_at = now

    def _hold(self, kept: list[Kept]) -> None:
        self._held.extend(kept)
        while len(self._held) > MOST_WAITING:
            self.lost += len(self._held.popleft().sample.columns)
        now = self._clock.monotonic()
        if now - self._told_at > TOLD_EVERY_S:
            self._told_at = now
            log.critical("spool still takes nothing", reason=self.trouble, waiting=len(self._held), lost=self.lost)

    async def _retry(self) -> None:
        """Keep under their numbers the samples that went out; little by little, as the disk may be almost full."""
        spool = self._thread.spool
        if self._thread.stuck:
            return
        self._thread.go_on()
        if not spool.writable:
            await self._thread.recover()
        if not spool.writable:
            self._retry_later()
            return
        try:
            if not self._all_seen:
                self._on_disk, self._journal.on_disk = await self._thread.call(spool.highest)
                self._all_seen = True
            # Before anybody reads it: what was given up or failed, and is there all the same, is held here too.
            await self._thread.call(spool.take_back, self._on_disk, self._journal.on_disk)
            await self._thread.call(spool.mend)
            await self._journal.put_back()
            if not await self._put_back():
                self._retry_at = self._clock.monotonic()
                return
            # What was left out may have been told: it is given out to nothing else.
            await self._thread.call(spool.go_on_above, self._last, self._journal.newest)
            if self.lost:
                await self._thread.call(spool.note_lost, self.lost)
        except sqlite3.Error as error:
            self.trouble = str(error)
            if not (self._thread.hangs or code_of(error) == sqlite3.SQLITE_FULL):
                await self._thread.recover()
            self._retry_later()
            return
        log.warning("spool takes readings again", lost_meanwhile=self.lost)
        self.trouble, self.lost = "", 0
        self._on_back()

    async def _put_back(self) -> bool:
        """Let the disk take what is held; False where it has a part, and something else has come.

        That goes up before the rest is kept, which may take a slow card long; where more comes than a card takes in
        small parts, nothing is let in between.
        """
        while self._held:
            some = list(islice(self._held, CHUNK))
            numbers = [kept.number for kept in some]
            await self._thread.call(self._thread.spool.append, [_part(kept.sample) for kept in some], numbers)
            self._on_disk = numbers[-1]
            for _ in some:
                self._held.popleft()
            left = len(self._held)
            if self._waiting and not self._closing and 0 < left < self._left:
                self._left = left
                return False
        return True

    def _retry_later(self) -> None:
        self._retry_at = self._clock.monotonic() + self._retry_s
        self._retry_s = min(2 * self._retry_s, RETRY_MOST_S)

    async def _trim(self) -> None:
        now_ms, known, spool = self._clock.now_ns() // NS_PER_MS, self._known(), self._thread.spool
        nothing = False
        # After a long outage of the host this is as much as was committed at once: a slow card is not to seem to hang.
        while await self._thread.attempt(nothing, spool.forget_some, now_ms, known):
            if self._waiting:
                # That goes before the rest of it.
                self._trim_at = self._clock.monotonic()
                return
        if await self._thread.attempt(0, spool.trim, now_ms, known):
            self._on_lost()
            # There is room now for what waits in memory.
            self._retry_at = self._clock.monotonic()


def _part(sample: Sample) -> tuple[str, tuple[str, ...], Columns]:
    device = sample.device
    return device.id, device.sparkplug.names, sample.columns
