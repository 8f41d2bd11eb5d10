"""The send loop: births, live batches first, then history, and what becomes of them when the host answers."""

import asyncio
from collections import deque
from random import SystemRandom
from typing import Final

import numpy as np
import structlog

from tocsin_core.clock import Clock
from tocsin_core.sparkplug import Command, EdgeSession, Message
from tocsin_core.sparkplug.edge import Columns
from tocsin_edge.adapters.spool import Batch
from tocsin_edge.adapters.uplink import NotReachedError, Uplink, UplinkError
from tocsin_edge.loops.board import Board
from tocsin_edge.loops.keep import Kept, SpoolThread
from tocsin_edge.loops.outstanding import Outstanding, Word
from tocsin_edge.settings import EdgeSettings

NS_PER_MS: Final = 1_000_000
RECONNECT_FIRST_S: Final = 0.25
RECONNECT_MOST_S: Final = 3.0
# A connection that stood for so long was a good one: after its end the first wait is short again.
STOOD_S: Final = 10.0
# So many history batches are on their way at once: the host's pace sets ours. A host that commits once a second
# then drains 2,000 batches a second.
HISTORY_WINDOW: Final = 2000
HISTORY_CHUNK: Final = 16
# Nothing acknowledged for so long: what was sent is sent again, ever more rarely.
RESEND_FIRST_S: Final = 60.0
RESEND_MOST_S: Final = 600.0
# A host that has not acknowledged by then is not one of ours, and the broker's answer has to do.
HOST_PATIENCE_S: Final = 30.0
LIVE_QUEUE: Final = 10_000
TICK_S: Final = 1.0
FLUSH_S: Final = 2.0

log = structlog.get_logger()
_random = SystemRandom()


class Sender:
    """Everything between the spool and the broker; `run` connects again and again until `close`."""

    def __init__(self, settings: EdgeSettings, thread: SpoolThread, board: Board, clock: Clock) -> None:
        """Wire only."""
        self._settings = settings
        self._thread = thread
        self._board = board
        self._clock = clock
        devices = tuple(device.sparkplug for device in settings.devices)
        self._session = EdgeSession(settings.site, settings.gateway.id, devices)
        self._position = {
            device.id: {metric.name: place for place, metric in enumerate(device.metrics)} for device in devices
        }
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._connection: _Connection | None = None
        self._spare_bd_seq: int | None = None

    def on_kept(self, kept: list[Kept]) -> None:
        """Take batches that have just been kept; without a connection they wait in the spool."""
        if self._connection is not None:
            self._connection.fresh(kept)

    def on_lost(self) -> None:
        """Take note that the spool gave up batches that were not committed: the host must not wait for them."""
        if self._connection is not None:
            self._connection.gave_up()

    def close(self) -> None:
        """Flush what the broker takes within 2 s, die properly, and let `run` return."""
        self._stopping.set()
        self._wake.set()

    async def run(self) -> None:
        """Keep a connection up until `close`."""
        longest = RECONNECT_FIRST_S
        while not self._stopping.is_set():
            started = self._clock.monotonic()
            try:
                await self._connected()
            except* UplinkError as group:
                log.warning("uplink lost", reason="; ".join(sorted({str(e) for e in _leaves(group)})))
            finally:
                self._connection = None
            longest = RECONNECT_FIRST_S if self._clock.monotonic() - started > STOOD_S else longest
            try:
                async with asyncio.timeout(_random.uniform(0.0, longest)):
                    await self._stopping.wait()
            except TimeoutError:
                longest = min(2 * longest, RECONNECT_MOST_S)

    async def _connected(self) -> None:
        """Connect with the next bdSeq, and send until the end.

        Sparkplug 3.0 counts CONNECT packets. An attempt that sent none gives its number back. One that was not answered
        does not: a broker may have taken it, and publish its will when a later session has long been born.
        """
        bd_seq, self._spare_bd_seq = self._spare_bd_seq, None
        if bd_seq is None:
            bd_seq = await self._thread.call(self._thread.spool.next_bd_seq)
        try:
            await self._send_until_the_end(self._session.will(bd_seq, self._now_ms()))
        except NotReachedError:
            self._spare_bd_seq = bd_seq
            raise

    async def _send_until_the_end(self, will: Message) -> None:
        gateway = self._settings.gateway
        identifier = f"{self._settings.site}-{gateway.id}"
        async with Uplink.connect(gateway.uplink, identifier, will, self._session.command_topic) as uplink:
            log.info("uplink connected", host=gateway.uplink.host, port=gateway.uplink.port)
            counters = await self._thread.call(self._thread.spool.counters)
            connection = _Connection(
                uplink, self._session, self._thread, self._board, self._clock, self._position, self._wake, counters
            )
            self._connection = connection
            async with asyncio.TaskGroup() as tasks:
                hearing = tasks.create_task(connection.hear(), name="commands")
                await connection.run(self._stopping)
                hearing.cancel()

    def _now_ms(self) -> int:
        return self._clock.now_ns() // NS_PER_MS


class _Connection:
    """One connection that stands: what of it is born, sent and acknowledged."""

    def __init__(
        self,
        uplink: Uplink,
        session: EdgeSession,
        thread: SpoolThread,
        board: Board,
        clock: Clock,
        position: dict[str, dict[str, int]],
        wake: asyncio.Event,
        counters: dict[str, int],
    ) -> None:
        self._uplink = uplink
        self._session = session
        self._thread = thread
        self._spool = thread.spool
        self._board = board
        self._clock = clock
        self._position = position
        self._wake = wake
        self._acknowledging = bool(counters["host_acknowledges"])
        self._newest = counters["batch_last"]
        self._outstanding = Outstanding(counters["batch_committed"])
        self._live: deque[Kept] = deque()
        self._history_after = counters["batch_committed"]
        self._history_upto = counters["batch_last"]
        self._born: set[str] = set()
        self._commands: deque[Command] = deque()
        self._rebirth = False
        self._tell_oldest = False
        self._since = self._settled = self._progress = clock.monotonic()
        self._resend_s = RESEND_FIRST_S

    def fresh(self, kept: list[Kept]) -> None:
        """Take batches that were kept just now."""
        self._newest = kept[-1].number
        self._live.extend(kept)
        if len(self._live) > LIVE_QUEUE:
            # The broker is slower than the plant: the queue goes the way of history.
            self._live.clear()
            self._history_upto = self._newest
        self._wake.set()

    def gave_up(self) -> None:
        """Tell the host anew which batch is the oldest."""
        self._tell_oldest = True
        self._wake.set()

    async def hear(self) -> None:
        """Take the hosts' commands; they are obeyed between two messages, by the task that sends."""
        async for command in self._uplink.commands():
            self._commands.append(command)
            self._wake.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Send until `stopping`, then what is unsent or unacknowledged as far as it goes in 2 s, and the death."""
        await self._births()
        while not stopping.is_set():
            await self._work()
            try:
                async with asyncio.timeout(TICK_S):
                    await self._wake.wait()
            except TimeoutError:
                self._after_silence()
            self._wake.clear()
        await self._flush()
        await self._uplink.publish(self._session.ndeath(self._now_ms()))

    async def _flush(self) -> None:
        try:
            async with asyncio.timeout(FLUSH_S):
                await self._work()
                while self._live or self._outstanding or self._history_after < self._history_upto:
                    await self._wake.wait()
                    self._wake.clear()
                    await self._work()
        except TimeoutError:
            log.warning("left for the next start", unsent=len(self._live), unacknowledged=len(self._outstanding))

    async def _work(self) -> None:
        """Send all that is live, and history while the window has room; live again before each piece of history."""
        while True:
            await self._obey()
            if self._rebirth:
                await self._births()
            if self._tell_oldest:
                self._tell_oldest = False
                await self._uplink.publish(self._session.ndata(await self._oldest(), self._now_ms()))
            while self._live:
                kept = self._live.popleft()
                device = kept.sample.device.id
                await self._send(device, kept.sample.columns, kept.number, historical=False)
            await self._settle_with_broker()
            if self._history_after >= self._history_upto or self._outstanding.old >= HISTORY_WINDOW:
                break
            await self._send_history()
        if self._history_after >= self._history_upto:
            await self._bury()

    async def _send_history(self) -> None:
        # The queue of live batches may be moved to history while this waits.
        upto = self._history_upto
        batches = await self._thread.call(self._spool.uncommitted, self._history_after, upto, HISTORY_CHUNK)
        for batch in batches:
            self._history_after = batch.number
            if batch.number not in self._outstanding:
                await self._send_old(batch)
        if len(batches) < HISTORY_CHUNK:
            self._history_after = upto

    async def _send_old(self, batch: Batch) -> None:
        """Send a batch of the spool under today's plant: what is no longer in it is counted and left out."""
        positions = self._position.get(batch.device, {})
        place = np.array([positions.get(name, -1) for name in batch.metrics], dtype=np.int64)[batch.columns.metric]
        known = place >= 0
        if not known.all():
            log.warning(
                "readings of points that are no longer in the plant are left out",
                device=batch.device,
                batch=batch.number,
                readings=int((~known).sum()),
            )
        if not known.any():
            await self._thread.call(self._spool.commit, [batch.number], self._now_ms())
            return
        old = batch.columns
        columns = Columns(place[known], old.time_ms[known], old.value[known], old.quality[known])
        await self._send(batch.device, columns, batch.number, historical=True)

    async def _send(self, device: str, columns: Columns, number: int, *, historical: bool) -> None:
        if device not in self._born:
            await self._birth(device)
        message = self._session.ddata(device, columns, number, self._now_ms(), historical=historical)
        self._outstanding.sent(number, historical=historical)
        await self._uplink.publish(message)

    async def _settle_with_broker(self) -> None:
        """Let the broker's word count where it is clear that no host of ours listens."""
        now = self._clock.monotonic()
        if self._acknowledging or now - self._since < HOST_PATIENCE_S or now - self._settled < TICK_S:
            return
        self._settled = now
        sent = self._outstanding.all()
        if sent:
            await self._uplink.broker_has_all()
            self._outstanding.settle(sent)
            await self._thread.call(self._spool.commit, sent, self._now_ms())
            self._progressed()

    async def _obey(self) -> None:
        """Take what hosts asked since last time; of several acknowledgements the last one says it all."""
        committed: int | None = None
        while self._commands:
            command = self._commands.popleft()
            self._rebirth |= command.rebirth
            committed = committed if command.committed is None else command.committed
        if committed is not None:
            await self._heed(committed)

    async def _heed(self, committed: int) -> None:
        if not self._acknowledging:
            self._acknowledging = True
            await self._thread.call(self._spool.note_acknowledging_host)
        match self._outstanding.hear(committed, self._newest):
            case Word.COMMITS:
                await self._thread.call(self._spool.commit_upto, committed, self._now_ms())
                self._progressed()
            case Word.WENT_BACK:
                again = await self._thread.call(self._spool.reopen, committed)
                log.warning("host went back", to_batch=committed, newest=self._newest, sent_again=again)
                self._tell_oldest = True
                if again:
                    self._send_all_again()
            case Word.IMPOSSIBLE:
                log.warning("host commits what was never sent", batch=committed, newest=self._newest)
            case Word.KNOWN:
                pass

    def _progressed(self) -> None:
        self._progress = self._clock.monotonic()
        self._resend_s = RESEND_FIRST_S

    async def _oldest(self) -> int:
        counters = await self._thread.call(self._spool.counters)
        return counters["batch_committed"] + 1

    def _after_silence(self) -> None:
        if not self._outstanding:
            self._progress = self._clock.monotonic()
        elif self._clock.monotonic() - self._progress > self._resend_s:
            log.warning("nothing acknowledged, sending again", after_s=self._resend_s, batches=len(self._outstanding))
            self._progress = self._clock.monotonic()
            self._resend_s = min(2 * self._resend_s, RESEND_MOST_S)
            self._tell_oldest = True
            self._send_all_again()

    def _send_all_again(self) -> None:
        self._outstanding.clear()
        self._live.clear()
        self._history_after, self._history_upto = 0, self._newest

    async def _births(self) -> None:
        """Be born anew. A host that asks for this may have dropped what it could not read: all of it goes out again."""
        self._rebirth = False
        self._outstanding.reborn()
        if self._born or self._outstanding:
            self._send_all_again()
        self._born.clear()
        await self._uplink.publish(self._session.nbirth(self._newest, await self._oldest(), self._now_ms()))
        for device in self._position:
            if device in self._board.heard:
                await self._birth(device)

    async def _birth(self, device: str) -> None:
        self._born.add(device)
        message = self._session.dbirth(device, self._board.last(device), self._newest, self._now_ms())
        await self._uplink.publish(message)

    async def _bury(self) -> None:
        """Tell the death of devices that are dead, once all that they had to say is sent."""
        for device in sorted(self._board.dead & self._born):
            self._born.discard(device)
            await self._uplink.publish(self._session.ddeath(device, self._now_ms()))

    def _now_ms(self) -> int:
        return self._clock.now_ns() // NS_PER_MS


def _leaves(group: BaseExceptionGroup[UplinkError]) -> list[BaseException]:
    return [
        leaf
        for error in group.exceptions
        for leaf in (_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]
