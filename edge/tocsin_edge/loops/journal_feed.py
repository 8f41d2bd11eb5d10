"""The alarm journal on its way up: what waits in the spool, and in memory what the disk did not take."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from tocsin_edge.adapters.spool import NUMBERS_LEFT_OUT
from tocsin_edge.adapters.spool_journal import Entry
from tocsin_edge.loops.spool_thread import SpoolThread

CHUNK: Final = 200


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
        self._held: deque[Entry] = deque()
        self.on_news = _nothing

    def kept(self, numbers: Sequence[int]) -> None:
        """Take note of entries that are on disk."""
        self.newest = max([self.newest, *numbers])
        if numbers:
            self.on_news()

    def leave_out(self) -> None:
        """Go on far ahead: the disk may hold more than it shows, and a restart would go on from what it shows."""
        self.newest += NUMBERS_LEFT_OUT

    def hold(self, entries: Sequence[tuple[int, bytes]]) -> list[int]:
        """Number entries (time_ms, body) that the disk did not take, and keep them in memory."""
        numbers = list(range(self.newest + 1, self.newest + 1 + len(entries)))
        self._held.extend(Entry(number, *entry) for number, entry in zip(numbers, entries, strict=True))
        self.kept(numbers)
        return numbers

    @property
    def held(self) -> int:
        """How many entries are in memory alone."""
        return len(self._held)

    async def put_back(self) -> None:
        """Let the disk take what is held.

        Raises:
            sqlite3.Error: it takes nothing; what is held is held still.
        """
        while self._held:
            some = [self._held[at] for at in range(min(CHUNK, len(self._held)))]
            entries, numbers = [(entry.time_ms, entry.body) for entry in some], [entry.number for entry in some]
            await self.thread.call(self.thread.spool.journal.append, entries, numbers)
            for _ in some:
                self._held.popleft()

    async def waiting(self, after: int) -> list[Entry] | None:
        """Read some of the entries above number `after` that wait to be committed, oldest first.

        Gives None where the disk cannot be read and nothing newer is in memory.
        """
        unreadable: list[Entry] | None = None
        found = await self.thread.attempt(unreadable, self.thread.spool.journal.waiting, after, CHUNK)
        if found is not None and len(found) == CHUNK:
            return found
        held = [entry for entry in self._held if entry.number > max(after, self.committed)]
        return held or None if found is None else found + held

    async def oldest(self) -> int:
        """Tell the lowest number that is still to be committed: none below it will come any more."""
        unreadable: list[Entry] | None = None
        # What is given out from now on is not in what is read.
        newest = self.newest
        first = await self.thread.attempt(unreadable, self.thread.spool.journal.waiting, self.committed, 1)
        if first is None:
            return self.committed + 1
        waits = [*first, *(entry for entry in self._held if entry.number > self.committed)]
        return waits[0].number if waits else newest + 1

    async def commit(self, number: int, now_ms: int) -> int:
        """Note that everything up to `number` is safe uphill; give the number up to which nothing waits."""
        self.committed = number
        await self.thread.attempt(number, self.thread.spool.journal.commit_upto, number, now_ms)
        self.committed = await self.oldest() - 1
        return self.committed

    async def reopen(self, number: int) -> int:
        """Take back all commits above `number`, as far as the entries are still kept; give how many."""
        found = await self.thread.attempt(0, self.thread.spool.journal.reopen, number)
        if found:
            self.committed = number
        return found


def _nothing() -> None:
    """Tell nobody, before there is an uplink."""
