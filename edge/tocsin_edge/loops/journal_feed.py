"""The alarm journal on its way up: what waits in the spool, and in memory what the disk did not take."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from tocsin_edge.adapters.spool import far_ahead
from tocsin_edge.adapters.spool_journal import Entry
from tocsin_edge.loops.spool_thread import SpoolThread

CHUNK: Final = 200
# So many entries that wait to be committed are in memory although they are on disk, which may hang when it is asked.
MOST_HERE: Final = 2000


class JournalFeed:
    """Written by the keep loop, read by the uplink. `newest` is the last number given out.

    `committed`: what came of all entries up to this number is safe uphill, as far as is known. `decides`: which
    alarms the gateway decides, and by what (`tocsin_core.owned.packed`), empty where there are none. `on_news` is
    called when there are new entries.
    """

    on_news: Callable[[], None]
    decides: bytes = b""

    def __init__(self, thread: SpoolThread) -> None:
        """Go on where the spool is."""
        self.thread = thread
        counters = thread.spool.counters()
        self.newest, self.committed = counters["journal_last"], counters["journal_committed"]
        self.on_disk = self._let_go = self.newest
        self._here: deque[Entry] = deque()
        self.on_news = _nothing

    def kept(self, numbers: Sequence[int], entries: Sequence[tuple[int, bytes]]) -> None:
        """Take note of entries (time_ms, body) that are on disk."""
        self.on_disk = max([self.on_disk, *numbers])
        self._take(numbers, entries)

    def _take(self, numbers: Sequence[int], entries: Sequence[tuple[int, bytes]]) -> None:
        self._here.extend(Entry(number, *entry) for number, entry in zip(numbers, entries, strict=True))
        self.newest = max([self.newest, *numbers])
        self._forget()
        if numbers:
            self.on_news()

    def _forget(self) -> None:
        """Let go of what the disk has, once it is committed or too much of it is here."""
        here = self._here
        while here and here[0].number <= self.on_disk and (here[0].number <= self.committed or len(here) > MOST_HERE):
            self._let_go = here.popleft().number

    def leave_out(self, now_ms: int) -> None:
        """Go on far ahead: the disk may hold more than it shows, and a restart would go on from what it shows."""
        self.newest = far_ahead(self.newest, now_ms)

    def hold(self, entries: Sequence[tuple[int, bytes]]) -> list[int]:
        """Number entries (time_ms, body) that the disk did not take, and keep them in memory."""
        numbers = list(range(self.newest + 1, self.newest + 1 + len(entries)))
        self._take(numbers, entries)
        return numbers

    @property
    def held(self) -> int:
        """How many entries are in memory alone."""
        return len(self._above(self.on_disk))

    def _above(self, number: int) -> list[Entry]:
        return [entry for entry in self._here if entry.number > number]

    async def put_back(self) -> None:
        """Let the disk take what is held.

        Raises:
            sqlite3.Error: it takes nothing; what is held is held still.
        """
        while some := self._above(self.on_disk)[:CHUNK]:
            entries, numbers = [(entry.time_ms, entry.body) for entry in some], [entry.number for entry in some]
            await self.thread.call(self.thread.spool.journal.append, entries, numbers)
            self.on_disk = numbers[-1]
        self._forget()

    async def waiting(self, after: int) -> list[Entry] | None:
        """Read some of the entries above number `after` that wait to be committed, oldest first.

        Gives None where the disk cannot be read and nothing newer is in memory.
        """
        unreadable: list[Entry] | None = None
        here, held = self._above(max(after, self.committed)), self._above(max(after, self.committed, self.on_disk))
        found = await self.thread.attempt(unreadable, self.thread.spool.journal.waiting, after, CHUNK)
        if found is None:
            return (here if self._all_here else held) or None
        found = self._told(found)
        if len(found) == CHUNK:
            return found
        # Some may have been put back meanwhile.
        last = found[-1].number if found else after
        return found + [entry for entry in held if entry.number > last]

    def _told(self, found: list[Entry]) -> list[Entry]:
        """Leave out what was written after it was given up: it is held, too, under another number."""
        return [entry for entry in found if entry.number <= self.on_disk]

    @property
    def _all_here(self) -> bool:
        """Whether all that waits to be committed is in memory."""
        return self._let_go <= self.committed

    async def oldest(self) -> int:
        """Tell the lowest number that is still to be committed: none below it will come any more."""
        unreadable: list[Entry] | None = None
        # What is given out from now on is not in what is read.
        newest, held = self.newest, self._above(max(self.committed, self.on_disk))
        first = await self.thread.attempt(unreadable, self.thread.spool.journal.waiting, self.committed, 1)
        if first is None:
            # Where nothing is here, something may be on its way to the disk.
            here = self._above(self.committed) if self._all_here else []
            return here[0].number if here else self.committed + 1
        waits = self._told(first) or held
        return waits[0].number if waits else newest + 1

    async def commit(self, number: int, now_ms: int) -> int:
        """Note that everything up to `number` is safe uphill; give the number up to which nothing waits."""
        self.committed = number
        await self.thread.attempt(number, self.thread.spool.journal.commit_upto, number, now_ms)
        self.committed = await self.oldest() - 1
        self._forget()
        return self.committed

    async def reopen(self, number: int) -> int:
        """Take back all commits above `number`, as far as the entries are still kept; give how many."""
        found = await self.thread.attempt(0, self.thread.spool.journal.reopen, number)
        if found:
            self.committed = number
        return found


def _nothing() -> None:
    """Tell nobody, before there is an uplink."""
