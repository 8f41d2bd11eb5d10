"""One uplink connection: births, live batches first, then history, and what becomes of them when the host answers."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import structlog

from tocsin_core.clock import Clock
from tocsin_core.sparkplug import Command, EdgeSession, HostState, Message
from tocsin_core.sparkplug.edge import Columns, renamed
from tocsin_edge.adapters.spool import Batch
from tocsin_edge.adapters.uplink import OurHost, Uplink
from tocsin_edge.loops.board import Board
from tocsin_edge.loops.doubt import Doubt
from tocsin_edge.loops.journal_feed import JournalFeed
from tocsin_edge.loops.keep import MOST_WAITING, Kept
from tocsin_edge.loops.outstanding import Outstanding, Word
from tocsin_edge.loops.primary import PrimaryHost
from tocsin_edge.loops.send_journal import JournalSender
from tocsin_edge.loops.send_pace import Pace
from tocsin_edge.loops.silence import Silence

NS_PER_MS: Final = 1_000_000
# So many history batches wait for the host's word at once: its pace sets ours. A host that commits once a second then
# drains 10,000 batches a second; what the link carries is Pace's affair.
HISTORY_WINDOW: Final = 10_000
HISTORY_CHUNK: Final = 16
# Where nothing of ours was heard by then the host is not one of ours, and the broker's answer has to do.
HOST_PATIENCE_S: Final = 30.0
# A server tells at once what it has kept of a host's STATE; one that never heard of the host has nothing to tell.
STATE_PATIENCE_S: Final = 5.0
LIVE_QUEUE: Final = 10_000
TICK_S: Final = 1.0
FLUSH_S: Final = 2.0

log = structlog.get_logger()


class Connection:
    """One connection that stands: what of it is born, sent and acknowledged.

    `journal` is that of the spool; `counters` are the spool's, with the highest batch number that was given out; where
    it `walks` there is another server to go to when this one is no good.
    """

    def __init__(
        self,
        uplink: Uplink,
        session: EdgeSession,
        journal: JournalFeed,
        board: Board,
        clock: Clock,
        primary: PrimaryHost,
        wake: asyncio.Event,
        counters: dict[str, int],
    ) -> None:
        """Wire only; `hear` and `run` do the work."""
        self._uplink = uplink
        self._session = session
        self._journal = JournalSender(uplink, journal, clock)
        self._thread = journal.thread
        self._spool = journal.thread.spool
        self._board = board
        self._clock = clock
        self._primary = primary
        self._wake = wake
        self._counters = counters
        self._acknowledging = bool(counters["host_acknowledges"])
        self._newest = counters["batch_last"]
        self._outstanding = Outstanding(counters["batch_committed"])
        self._pace = Pace()
        self._probe: asyncio.Task[None] | None = None
        self.walks = False
        self._asking: asyncio.Task[None] | None = None
        self._left = False
        # What no disk takes and no host is there for is kept by the keep loop, so much of it.
        self._live: deque[Kept] = deque(maxlen=MOST_WAITING)
        self._history_after = counters["batch_committed"]
        self._history_upto = counters["batch_last"]
        self._history_rests_until = 0.0
        # What goes again after a silence, at history's pace: after < number <= upto.
        self._few_after = self._few_upto = 0
        self._born: set[str] = set()
        self._commands: deque[Command] = deque()
        self._ours = False
        self._rebirth = False
        self._again = False
        self._owed: int | None = None
        self._gone_back: int | None = None
        self._tell_oldest = False
        self._tell_clock = False
        self._tell_standing = False
        self._since = self._settled = clock.monotonic()
        self._silence = Silence(self._since)
        self._doubt = Doubt(self._since)

    def fresh(self, kept: list[Kept]) -> None:
        """Take batches that were kept just now."""
        self._newest = kept[-1].number
        self._live.extend(kept)
        if len(self._live) > LIVE_QUEUE:
            # The broker is slower than the plant: the queue goes the way of history.
            self._live_becomes_history()
        self._wake.set()

    def gave_up(self) -> None:
        """Tell the host anew which batch is the oldest."""
        self._tell_oldest = True
        self._wake.set()

    def adopt(self, session: EdgeSession) -> None:
        """Go on with the node's other devices, and be born anew with them before any more data."""
        self._session = session
        self._rebirth = self._again = True
        self._wake.set()

    def standing_changed(self) -> None:
        """Tell the host anew which slice of the plant is in force."""
        self._tell_standing = True
        self._wake.set()

    def clock_changed(self) -> None:
        """Tell the host of the clock anew."""
        self._tell_clock = True
        self._wake.set()

    def send_again(self) -> None:
        """Send all that waits in the spool, and tell the host which batch is the oldest of it."""
        self._again = True
        self.gave_up()

    async def hear(
        self, on_slice: Callable[[bytes], None], on_order: Callable[[bytes], None], on_known: Callable[[bytes], None]
    ) -> None:
        """Take what hosts say; it is obeyed between two messages, by the task that sends.

        `on_slice` takes parts of slices of the plant, `on_order` people's orders for its alarms, `on_known` as what
        these are known.
        """
        told: HostState | None = None
        async for said in self._uplink.heard():
            if isinstance(said, OurHost):
                self._ours = True
            elif isinstance(said, HostState):
                counts = self._primary.hear(said)
                self._board.host_trouble = self._primary.trouble
                # A server that is asked again mostly knows nothing new.
                if said != told:
                    log.info("primary host", online=said.online, time_ms=said.time_ms, counts=counts)
                told = said
            else:
                self._commands.append(said)
                for part in said.slice_parts:
                    on_slice(part)
                for order in said.orders:
                    on_order(order)
                for known in said.known_as:
                    on_known(known)
            self._wake.set()

    async def run(self, stopping: asyncio.Event, tasks: asyncio.TaskGroup) -> None:
        """Send until `stopping`, then what is unsent or unacknowledged as far as it goes in 2 s, and the death.

        Where a primary host is required, the births wait for it, and the session ends with it. It also ends where the
        broker keeps nothing any more and there is another server to go to.
        """
        # Before the births, which would be in its way; they and what is live do not wait for it.
        self._probe = tasks.create_task(self._learn_the_way(), name="probe")
        await self._until_the_primary_host_is_there(stopping)
        if not self._primary.is_missing():
            await self._births()
        ticking = tasks.create_task(self._tick(), name="tick")
        try:
            while not (stopping.is_set() or self._over):
                await self._work(tasks)
                await self._rest(tasks)
        finally:
            ticking.cancel()
        if not self._over:
            await self._flush(tasks)
        for asked in (self._probe, self._asking):
            if asked is not None:
                asked.cancel()
        await self._uplink.publish(self._session.ndeath(self._now_ms()))

    @property
    def _over(self) -> bool:
        """Whether nothing more is to be said on this connection."""
        return self._left or self._primary.is_missing()

    async def _until_the_primary_host_is_there(self, stopping: asyncio.Event) -> None:
        waited = False
        with suppress(TimeoutError):
            async with asyncio.timeout(STATE_PATIENCE_S if self.walks else None):
                while self._primary.is_missing() and not stopping.is_set():
                    waited = True
                    if self.walks and self._primary.is_elsewhere():
                        break
                    await self._wake.wait()
                    self._wake.clear()
        if waited:
            self._live_becomes_history()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._wake.set()

    async def _rest(self, tasks: asyncio.TaskGroup) -> None:
        await self._wake.wait()
        # Of a gateway that reads all the time there is no second without a wake.
        self._after_silence()
        self._doubt_the_broker(tasks)
        self._wake.clear()

    def _doubt_the_broker(self, tasks: asyncio.TaskGroup) -> None:
        """Where nobody answers ask the broker whether it is the reason: the host may as well be away."""
        now = self._clock.monotonic()
        if not (self._outstanding or self._journal.unsettled):
            self._doubt.rest(now)
        elif self.walks and self._acknowledging and self._asking is None and self._doubt.due(now):
            self._asking = tasks.create_task(self._ask_the_broker(), name="doubt")

    async def _ask_the_broker(self) -> None:
        if not await self._uplink.keeps():
            log.warning("the broker keeps nothing that it is sent: trying the next server")
            self._left = True
        self._asking = None
        self._wake.set()

    @property
    def _unsent(self) -> bool:
        return bool(self._live) or self._history_after < self._history_upto

    async def _flush(self, tasks: asyncio.TaskGroup) -> None:
        try:
            async with asyncio.timeout(FLUSH_S):
                await self._work(tasks)
                while self._unsent or self._outstanding or self._journal.unsettled:
                    await self._wake.wait()
                    self._wake.clear()
                    await self._work(tasks)
        except TimeoutError:
            log.warning("left for the next start", unsent=len(self._live), unacknowledged=len(self._outstanding))

    async def _work(self, tasks: asyncio.TaskGroup) -> None:
        """Send all that is live, and history while there is room; live again before each piece of history."""
        while not self._over:
            await self._obey()
            if self._rebirth:
                await self._births()
            if self._again:
                self._again = False
                await self._go_back()
                await self._pay()
                self._send_all_again()
            await self._tell()
            await self._journal.send(self._session)
            while self._live and not self._rebirth:
                await self._send_live(self._live.popleft())
            await self._settle_with_broker()
            if not self._history_may_go(tasks):
                break
            if self._few_after < self._few_upto:
                await self._send_few()
            else:
                await self._send_history()
        if self._history_after >= self._history_upto:
            await self._bury()

    async def _tell(self) -> None:
        """Tell anew what changed of the node itself."""
        if self._tell_clock:
            # Before the data that are stamped by it.
            self._tell_clock = False
            await self._uplink.publish(self._session.clock(self._board.clock, self._now_ms()))
        if self._tell_standing and self._board.standing is not None:
            self._tell_standing = False
            await self._uplink.publish(self._session.standing(self._board.standing, self._now_ms()))
        if self._tell_oldest:
            self._tell_oldest = False
            await self._uplink.publish(self._session.ndata(await self._oldest(), self._now_ms()))

    def _history_may_go(self, tasks: asyncio.TaskGroup) -> bool:
        """Tell whether more history may be sent; where the link has to prove itself first, let it."""
        full = self._history_after >= self._history_upto or self._outstanding.old >= HISTORY_WINDOW
        if full and self._few_after >= self._few_upto:
            return False
        if self._clock.monotonic() < self._history_rests_until:
            return False
        if self._link_is_full() and self._probe is None:
            self._probe = tasks.create_task(self._prove(), name="probe")
        return self._probe is None

    def _link_is_full(self) -> bool:
        return self._pace.full(self._clock.monotonic())

    async def _learn_the_way(self) -> None:
        self._pace.idle(await self._answer_s())
        self._probe = None
        self._wake.set()

    async def _prove(self) -> None:
        self._pace.proven(await self._answer_s())
        self._probe = None
        self._wake.set()

    async def _answer_s(self) -> float:
        begun = self._clock.monotonic()
        await self._uplink.broker_has_all()
        return self._clock.monotonic() - begun

    async def _of_spool(self, after: int, upto: int) -> list[Batch] | None:
        """Read the next batches of the spool; None: it cannot be read now."""
        unreadable: list[Batch] | None = None
        read, damaged = self._spool.uncommitted, self._spool.damaged
        batches = await self._thread.attempt(unreadable, read, after, upto, HISTORY_CHUNK)
        if batches is None:
            self._history_rests_until = self._clock.monotonic() + TICK_S
        # A host that has all before a damaged one would wait for it.
        self._tell_oldest |= self._spool.damaged > damaged
        return batches

    async def _send_few(self) -> None:
        upto = self._few_upto
        batches = await self._of_spool(self._few_after, upto)
        if batches is None:
            return
        for batch in batches:
            self._few_after = batch.number
            await self._send_old(batch)
            if self._link_is_full():
                return
        if not batches:
            self._few_after = upto

    async def _send_history(self) -> None:
        # The queue of live batches may be moved to history while this waits.
        upto = self._history_upto
        batches = await self._of_spool(self._history_after, upto)
        if batches is None:
            return
        for batch in batches:
            self._history_after = batch.number
            if batch.number not in self._outstanding:
                await self._send_old(batch)
            if self._link_is_full():
                return
        if not batches:
            self._history_after = upto

    async def _send_old(self, batch: Batch) -> None:
        """Send a batch of the spool under today's plant: what is no longer in it is counted and left out."""
        await self._birth_once(batch.device)
        if self._rebirth:
            # It comes again after the births: until then the host may take its aliases for others.
            return
        columns = self._under_todays_plant(batch)
        if columns is None:
            await self._leave_out(batch.number)
            return
        message = self._session.ddata(batch.device, columns, batch.number, self._now_ms(), historical=True)
        self._outstanding.sent(batch.number, historical=True)
        self._pace.sent(len(message.payload), self._clock.monotonic())
        await self._uplink.publish(message)

    def _under_todays_plant(self, batch: Batch) -> Columns | None:
        columns = renamed(batch.columns, batch.metrics, self._session.positions(batch.device))
        left_out = len(batch.columns) - len(columns)
        if left_out:
            log.warning(
                "readings of points that are no longer in the plant are left out",
                device=batch.device,
                batch=batch.number,
                readings=left_out,
            )
        return columns if len(columns) else None

    async def _send_live(self, kept: Kept) -> None:
        sample = kept.sample
        device = sample.device.id
        await self._birth_once(device)
        if self._rebirth:
            # Where the queue has filled up meanwhile the oldest gives way, as ever: here it would push the newest out.
            if len(self._live) < MOST_WAITING:
                self._live.appendleft(kept)
            return
        columns: Columns | None = sample.columns
        if self._session.device(device) is not sample.device.sparkplug:
            names = tuple(metric.name for metric in sample.device.sparkplug.metrics)
            columns = self._under_todays_plant(Batch(kept.number, device, names, sample.columns))
        if columns is None:
            await self._leave_out(kept.number)
            return
        message = self._session.ddata(device, columns, kept.number, self._now_ms(), historical=False)
        if kept.on_disk:
            self._outstanding.sent(kept.number, historical=False)
        await self._uplink.publish(message)

    async def _leave_out(self, number: int) -> None:
        floor = await self._thread.attempt(0, self._spool.commit, [number], self._now_ms())
        # A host that has all before it would wait for it.
        self._tell_oldest |= floor >= number

    async def _birth_once(self, device: str) -> None:
        if device not in self._born:
            await self._birth(device)

    async def _settle_with_broker(self) -> None:
        """Let the broker's word count where it is clear that no host of ours listens."""
        now = self._clock.monotonic()
        if self._acknowledging or now - self._since < HOST_PATIENCE_S or now - self._settled < TICK_S:
            return
        self._settled = now
        sent = self._outstanding.all()
        if sent or self._journal.unsettled:
            await self._uplink.broker_has_all()
            await self._journal.settle()
            self._outstanding.settle(sent)
            await self._thread.attempt(0, self._spool.commit, sent, self._now_ms())
            self._silence.rest(now)

    async def _obey(self) -> None:
        """Take what hosts asked since last time; of several acknowledgements the last one says it all."""
        await self._note_our_host()
        if self._commands:
            self._doubt.rest(self._clock.monotonic())
        committed: int | None = None
        of_journal: int | None = None
        while self._commands:
            command = self._commands.popleft()
            self._rebirth |= command.rebirth
            committed = committed if command.committed is None else command.committed
            of_journal = of_journal if command.journal_committed is None else command.journal_committed
        if committed is not None:
            await self._heed(committed)
        if of_journal is not None:
            await self._journal.heed(of_journal)

    async def _note_our_host(self) -> None:
        """Remember that the host is one of ours: while it, or its historian, is away, nobody's word stands for its."""
        ours = self._ours or any(self._is_ours(command) for command in self._commands)
        if ours and not self._acknowledging:
            self._acknowledging = True
            await self._thread.attempt(None, self._spool.note_acknowledging_host)

    @staticmethod
    def _is_ours(command: Command) -> bool:
        told = command.committed, command.journal_committed
        return any(each is not None for each in told) or bool(command.slice_parts or command.orders or command.known_as)

    async def _heed(self, committed: int) -> None:
        match self._outstanding.hear(committed, self._newest):
            case Word.COMMITS:
                self._owed = committed
                await self._pay()
                self._silence.heard(committed, self._clock.monotonic())
            case Word.WENT_BACK:
                # What it had said before holds no more.
                self._owed, self._gone_back = None, committed
                await self._go_back()
            case Word.IMPOSSIBLE:
                log.warning("host commits what was never sent", batch=committed, newest=self._newest)
            case Word.KNOWN:
                pass

    async def _go_back(self) -> None:
        """Let what the host has no more wait for it again; where the disk refuses that now, once it takes it."""
        refused = -1
        if self._gone_back is None:
            return
        again = await self._thread.attempt(refused, self._spool.reopen, self._gone_back)
        if again == refused:
            return
        log.warning("host went back", to_batch=self._gone_back, newest=self._newest, sent_again=again)
        self._gone_back = None
        self._tell_oldest = True
        if again:
            self._send_all_again()

    async def _pay(self) -> None:
        """Write down the host's word; what the disk does not take now it is owed until it takes it."""
        refused, nothing = -1, False
        if self._owed is None:
            return
        # After a long outage of the host it may be a day's batches: others use the disk, too, between parts of them.
        while await self._thread.attempt(nothing, self._spool.commit_some, self._owed, self._now_ms()):
            pass
        floor = await self._thread.attempt(refused, self._spool.commit_upto, self._owed, self._now_ms())
        if floor != refused:
            # Above it numbers were left out or given up: the host waits for them until it is told.
            self._tell_oldest |= floor > self._owed
            self._owed = None

    async def _oldest(self) -> int:
        self._counters = await self._thread.attempt(self._counters, self._spool.counters)
        return self._counters["batch_committed"] + 1

    def _after_silence(self) -> None:
        now, outstanding = self._clock.monotonic(), self._outstanding
        if not outstanding:
            self._silence.rest(now)
        elif many := self._silence.over(outstanding.newest, now):
            log.warning("nothing acknowledged, sending the oldest again", batches=many, waiting=len(outstanding))
            self._tell_oldest = True
            self._few_after = outstanding.oldest - 1
            self._few_upto = min(self._few_after + many, outstanding.newest)

    def _send_all_again(self) -> None:
        self._outstanding.clear()
        self._few_after = self._few_upto = self._history_after = 0
        self._live_becomes_history()

    def _live_becomes_history(self) -> None:
        # What is not on disk cannot be read from there: it stays live.
        self._live = deque((kept for kept in self._live if not kept.on_disk), MOST_WAITING)
        self._history_upto = self._newest

    async def _births(self) -> None:
        """Be born anew. A host that asks for this may have dropped what it could not read: all of it goes out again."""
        self._rebirth = False
        self._outstanding.reborn()
        if self._born or self._outstanding:
            self._send_all_again()
        self._born.clear()
        self._tell_clock = self._tell_standing = False
        oldest, board = await self._oldest(), self._board
        journal = await self._journal.reborn()
        await self._uplink.publish(
            self._session.nbirth(self._newest, oldest, self._now_ms(), board.clock, journal, board.standing)
        )
        for device in self._session.devices:
            if device in self._board.heard:
                await self._birth(device)

    async def _birth(self, device: str) -> None:
        if self._session.device(device) is None:
            # The plant had it when it was read.
            return
        self._born.add(device)
        await self._uplink.publish(self._birth_of(device))

    def _birth_of(self, device: str) -> Message:
        return self._session.dbirth(device, self._board.last(device), self._newest, self._now_ms())

    async def _bury(self) -> None:
        """Tell the death of devices that are dead, once all that they had to say is sent."""
        for device in sorted(self._board.dead & self._born):
            self._born.discard(device)
            await self._uplink.publish(self._session.ddeath(device, self._now_ms()))

    def _now_ms(self) -> int:
        return self._clock.now_ns() // NS_PER_MS
