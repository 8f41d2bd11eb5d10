"""The alarm journal on one uplink connection: what of it was sent, and what becomes of it when the host answers."""

from collections.abc import Iterator, Sequence
from typing import Final

import structlog

from tocsin_core.clock import Clock
from tocsin_core.sparkplug import EdgeSession
from tocsin_core.sparkplug.edge import JournalNumbers
from tocsin_edge.adapters.spool_journal import Entry
from tocsin_edge.adapters.uplink import Uplink
from tocsin_edge.loops.journal_feed import JournalFeed

NS_PER_MS: Final = 1_000_000
# Where for so long no more was acknowledged a message was lost on the way: all that waits is sent again, then ever more
# rarely. A host that takes its time is given twice what it took last.
RESEND_FIRST_S: Final = 3.0
RESEND_MOST_S: Final = 15.0
PATIENCE: Final = 2.0
# Of bodies in one message: 4 s of a 64 kbit/s link, and far from the largest message that a broker takes.
MOST_BYTES: Final = 32_768

log = structlog.get_logger()


class JournalSender:
    """Sends every entry that waits, in order; the host has them by its word, or, where it gives none, the broker's."""

    def __init__(self, uplink: Uplink, feed: JournalFeed, clock: Clock) -> None:
        """Start with nothing sent."""
        self._uplink = uplink
        self._feed = feed
        self._clock = clock
        self._after = feed.committed
        self._moved_s = clock.monotonic()
        self._resend_s = RESEND_FIRST_S
        self._sent_again = False
        # A host that was restored has less than was committed: before it has said what it has, nothing is told that
        # would have it give up entries which it only has to ask for.
        self._host_said = False

    @property
    def unsettled(self) -> bool:
        """Whether entries wait to be sent or committed."""
        return max(self._after, self._feed.newest) > self._feed.committed

    async def reborn(self) -> JournalNumbers | None:
        """Send all that waits again after a birth; give the numbers that it tells, None where nothing is decided."""
        self._after = self._feed.committed
        self._host_said = False
        if not self._feed.decides:
            return None
        return JournalNumbers(self._feed.newest, await self._feed.oldest(), self._feed.decides)

    async def send(self, session: EdgeSession) -> None:
        """Send what was not sent yet on this connection, and again what nobody has acknowledged for long."""
        self._after_silence()
        first = self._after <= self._feed.committed
        while (newest := self._feed.newest) > self._after:
            entries = await self._feed.waiting(self._after)
            if entries is None:
                return
            if not entries:
                # Numbers were left out: none of them will ever wait.
                if self._after <= self._feed.committed:
                    self._feed.committed = newest
                self._after = newest
                continue
            oldest = await self._feed.oldest() if self._host_said else None
            for part in _messages(entries):
                bodies = [entry.body for entry in part]
                await self._uplink.publish(session.journal(part[0].number, bodies, oldest, self._now_ms()))
            self._after = entries[-1].number
            if first:
                self._moved_s = self._clock.monotonic()

    async def heed(self, number: int) -> None:
        """Take the host's word, cumulative: it has what came of everything up to `number`."""
        feed = self._feed
        if number > feed.newest:
            log.warning("host commits what was never sent of the journal", entry=number, newest=feed.newest)
            return
        first_word, self._host_said = not self._host_said, True
        if number > feed.committed:
            self._progressed()
            floor = await feed.commit(number, self._now_ms())
            if floor > number:
                # Above it numbers were left out: the host waits for them until it is told that none will come.
                self._after = min(self._after, floor)
            return
        again = await feed.reopen(number) if number < feed.committed else 0
        if again:
            self._after = number
            log.warning("host went back in the journal", to_entry=number, newest=feed.newest, sent_again=again)
        elif first_word and await feed.oldest() > number + 1:
            # What was sent so far did not tell that what is in between will never come.
            self._after = min(self._after, feed.committed)

    async def settle(self) -> None:
        """Take the broker's word for all that was sent."""
        await self._feed.commit(self._after, self._now_ms())

    def _after_silence(self) -> None:
        now_s = self._clock.monotonic()
        if self._after <= self._feed.committed:
            self._moved_s = now_s
        elif now_s - self._moved_s > self._resend_s:
            log.warning("nothing of the journal acknowledged, sending again", after_s=self._resend_s)
            self._after, self._moved_s = self._feed.committed, now_s
            self._resend_s, self._sent_again = min(2 * self._resend_s, RESEND_MOST_S), True

    def _progressed(self) -> None:
        """Learn how long the host takes; what was sent twice does not tell which of them it answers."""
        now_s = self._clock.monotonic()
        if not self._sent_again:
            took_s = now_s - self._moved_s
            self._resend_s = min(max(PATIENCE * took_s, RESEND_FIRST_S), RESEND_MOST_S)
        self._moved_s, self._sent_again = now_s, False

    def _now_ms(self) -> int:
        return self._clock.now_ns() // NS_PER_MS


def _messages(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """Part entries into messages: numbers without a gap, and no more than MOST_BYTES unless it is one entry."""
    begin = size = 0
    for at, entry in enumerate(entries):
        size += len(entry.body)
        if at > begin and (size > MOST_BYTES or entry.number != entries[at - 1].number + 1):
            yield entries[begin:at]
            begin, size = at, len(entry.body)
    yield entries[begin:]
