"""The alarms worker: the stream through `engine.step`, and what comes of it into SQL, one transaction at a time."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from itertools import repeat
from math import inf, isfinite
from pathlib import Path
from typing import Any, Final

import numpy as np
import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError
from prometheus_client import Counter
from sqlalchemy.ext.asyncio import AsyncSession

from tocsin_cloud.adapters import snapshot as snapshots
from tocsin_cloud.adapters.gateways import send_journal_committed
from tocsin_cloud.adapters.lease import Lease, hold
from tocsin_cloud.adapters.metrics import Metrics
from tocsin_cloud.adapters.snapshot import Snapshot
from tocsin_cloud.adapters.snapshot_store import SnapshotStore
from tocsin_cloud.adapters.sql.away import DatabaseAwayError, when_back
from tocsin_cloud.adapters.sql.engine import Database
from tocsin_cloud.adapters.sql.models import Occurrence
from tocsin_cloud.adapters.stream import START, Feed, Message, Position, is_data, publish_event
from tocsin_cloud.loops.births import Births, Overlooked
from tocsin_cloud.loops.computed import Outlet
from tocsin_cloud.loops.delegation import Delegation, Kept
from tocsin_cloud.loops.disagreeing import Standing, orphans, untold
from tocsin_cloud.loops.floods import Floods
from tocsin_cloud.loops.hearing import NOT_HEARD, Hearing, as_of_arrival, is_birth
from tocsin_cloud.loops.held_back import HeldBack
from tocsin_cloud.loops.journal import (
    Answer,
    Batch,
    Committed,
    Journal,
    Progress,
    Step,
    answered_at,
    close_orphans,
    forget_hidden,
    journal_positions,
    progress_of,
    standing,
)
from tocsin_cloud.loops.judged import Judged
from tocsin_cloud.loops.live import Known, LiveView, Outlook
from tocsin_cloud.loops.rebuilding import Unconfirmed, as_recorded, note_kept, recorded
from tocsin_cloud.settings import AlarmSettings, LimitSettings
from tocsin_core import engine
from tocsin_core.clock import Clock
from tocsin_core.engine import SnapshotError, State, Transition
from tocsin_core.foreign import is_writable, parsed
from tocsin_core.garbage import left_alone
from tocsin_core.journal import Naming
from tocsin_core.lifecycle import Event, Verb
from tocsin_core.plant import Plant
from tocsin_core.readings import AHEAD_NS, LATEST_NS, Frame
from tocsin_core.rules import NS, Rules
from tocsin_core.sparkplug.host import Fed
from tocsin_core.sparkplug.payload import sent_ms

log = structlog.get_logger()

ROLE: Final = "alarms"
TAKE: Final = 1000
WAIT_S: Final = 0.25
# So much later an alarm may come: a step and a commit for each message of hundreds a second would cost a core.
GATHER_S: Final = 0.1
POSITION_S: Final = 1.0
RETRY_S: Final = 0.5
# Between two portions of what waits. Whoever finds SQLite writing looks again at least every 0.1 s.
REST_S: Final = 0.15
SNAPSHOT_REST: Final = 50
# So long a candidate waits for the first snapshot there is: a holder keeps and shares it ten seconds after its start.
FIRST_SNAPSHOT_S: Final = 60.0
TICK: Final = "tocsin/tick/"
COMMAND: Final = "tocsin/command/"
NOT_UNDERSTOOD: Final = "the command is not understood"
NO_SUCH_ALARM: Final = "there is no such alarm"
# A third of the time of the class's own way, as for the engine's transitions.
_step: Final = partial(tuple.__new__, Step)


@dataclass(frozen=True, slots=True)
class AlarmParts:
    """What the alarms worker works with; it sets `ordered` when orders may have to go out at once."""

    client: Client
    database: Database
    lease: Lease
    plant: Plant
    judged: Judged
    live: LiveView
    metrics: Metrics
    clock: Clock
    settings: AlarmSettings
    snapshot_file: Path
    outlet: Outlet
    ordered: asyncio.Event = field(default_factory=asyncio.Event)
    # The subjects of the stream that are the plant's; all of them where none are given.
    subjects: Sequence[str] = ()
    # Where other machines find the snapshot, if anywhere.
    shared: SnapshotStore | None = None
    # The historian's are the same: else one would hear what the other does not.
    limits: LimitSettings = field(default_factory=LimitSettings)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A command as it came; `order` is None when it makes no sense to the engine, for the reason in `refusal`."""

    id: str
    order: engine.Command | None
    refusal: str
    told: Mapping[str, Any]


class DatabaseSetBackError(RuntimeError):
    """What the database says is committed lies behind what it said before: whoever went on from that begins anew."""


class AlarmsWorker:
    """Works on one site: the engine's state, the Sparkplug session and the live view move only here.

    As a candidate for the lease it follows the holder through the stream, in silence and never further than what is
    committed. What the engine arrives at does not depend on how the stream is portioned, so it can go on from there.
    """

    def __init__(self, parts: AlarmParts) -> None:
        """Prepare; `run` does the rest."""
        self._parts = parts
        self._rules = parts.judged.rules
        self._journal = Journal(parts.plant, self._rules, parts.settings.partition)
        self._feed: Feed | None = None
        self._state: State | None = None
        self._session = Hearing(parts.live.table, parts.limits)
        self._frames: list[Frame] = []
        self._timely = False  # whether the readings in `_frames` came as fast as they could
        self._read = START  # everything up to here is in the engine
        self._committed = START
        self._holders = START  # what was committed when we looked last
        self._kept = START  # the snapshot in the file
        self._columns: Mapping[str, np.ndarray] | None = None  # the engine's in the snapshot before: to be written over
        self._keep_at = 0.0  # when the next snapshot is due (monotonic s)
        self._saving: asyncio.Task[None] | None = None
        self._share_at = 0.0  # when the next snapshot goes to other machines (monotonic s)
        self._begin_by = parts.clock.monotonic() + FIRST_SNAPSHOT_S
        self._caught_up = False
        self._clean = False  # nothing in the engine waits for its commit, or whoever goes on finds it
        self._held_back = HeldBack(self._rules)
        self._portion_at = 0.0  # when the next portion of it is due (monotonic s)
        # Not all that led to what is committed was heard, and how alarms stand is not taken from the tables yet.
        self._bare = False
        interval_s = parts.settings.rebirth_interval_s
        self._births = Births(parts.client, parts.metrics, parts.clock, interval_s)
        # The historian asks, within an interval; but alarms wait for no historian that is away, or has much to read.
        self._overlooked = Overlooked(2 * interval_s)
        self._unconfirmed = Unconfirmed()
        self._answered: dict[str, int] = {}
        self._floods = Floods(self._rules, parts.live, parts.metrics)
        self._delegation = Delegation(parts.plant.site.id, parts.judged)
        parts.metrics.begin(gateway.id for gateway in parts.plant.file.gateways)

    @property
    def position(self) -> Position:
        """The last message whose consequences are committed."""
        return self._committed

    @property
    def behind(self) -> int:
        """How many messages of the stream it lacks, as a candidate, of what the holder has committed."""
        return max(0, self._holders.sequence - self._read.sequence)

    @property
    def ready(self) -> bool:
        """Whether it has caught up with what was committed before it, and works on what is new."""
        return self._caught_up

    async def run(self) -> None:
        """Stand by until the lease is ours, then work until cancelled.

        Raises:
            LeaseLostError: another worker has taken over.
            DatabaseSetBackError: the database was put back to an older state while we stood by.
        """
        await hold(self._parts.lease, self.work, self.follow)

    async def follow(self, seconds: float) -> None:
        """Stand by for `seconds`: take in what the holder has committed, without consequences."""
        parts = self._parts
        deadline = parts.clock.monotonic() + seconds
        try:
            progress = await self._progress()
            self._holders = committed = progress.position
            if self._feed is None and (await self._load(committed) or not self._waits_for_a_snapshot(committed)):
                self._begin(committed)
            if self._feed is not None:
                feed = await self._opened(progress)
                await self._catch_up(feed, committed, deadline)
                parts.outlet.drop(progress.computed)
                if parts.outlet.first is None and self._snapshot_is_due():
                    self._keep_snapshot()
        except DatabaseAwayError as error:
            log.warning("standing by without the database", reason=error.reason)
        await asyncio.sleep(max(0.0, deadline - parts.clock.monotonic()))

    def _waits_for_a_snapshot(self, committed: Position) -> bool:
        """Whether a candidate that has none does not begin yet.

        It could not be sure to hear all that led to what is committed. At a takeover alarms would stand as the tables
        say, and these lack what the holder holds back.
        """
        return committed != START and self._parts.clock.monotonic() < self._begin_by

    async def work(self) -> None:
        """Take over from what is committed, and work until cancelled. The lease must be ours.

        Raises:
            LeaseLostError: another worker has taken over.
        """
        parts = self._parts
        try:
            feed = await self._take_over()
            await self._work(feed)
        except asyncio.CancelledError:
            # Consequences that are not committed must be found again: a snapshot behind them would lose them.
            if self._clean and self._read != self._kept and await self._left_off():
                # Whoever takes over need not wait for the file.
                await parts.lease.release()
                if self._saving is not None:
                    await self._saving
                self._keep_snapshot()
            if self._saving is not None:
                await self._saving
            raise
        finally:
            if self._feed is not None:
                await self._feed.close()

    async def _left_off(self) -> bool:
        """Commit how far the engine has read, and whether that was possible: whoever ends tries once."""
        parts = self._parts
        if not await parts.outlet.flush(parts.lease):
            return False
        try:
            async with parts.lease.write() as session:
                await self._journal.record(session, Batch(self._read), self._read.sequence, parts.clock.now_ns())
        except DatabaseAwayError as error:
            log.warning("ends without a snapshot: the next start reads more again", reason=error.reason)
            return False
        return True

    async def _progress(self) -> Progress:
        async with self._parts.database.read() as session:
            return await progress_of(session, self._parts.settings.partition)

    async def _opened(self, progress: Progress) -> Feed:
        """The stream behind what the engine knows: at first, that is what the snapshot holds."""
        if self._feed is None:
            await self._load(progress.position)
            return self._begin(progress.position)
        if progress.position.sequence < self._read.sequence and progress.position.time_ns < self._read.time_ns:
            raise DatabaseSetBackError(
                f"committed is message {progress.position.sequence}, after {self._read.sequence} was"
            )
        return self._feed

    def _begin(self, committed: Position) -> Feed:
        parts = self._parts
        self._bare = self._read == START != committed
        self._feed = Feed(parts.client, self._read, parts.clock, parts.subjects, self._note_dropped)
        return self._feed

    def _note_dropped(self, messages: int) -> None:
        self._parts.metrics.unread_dropped.labels(ROLE).inc(messages)
        if not self._caught_up:
            # The holder may have read them: what came of them is in the tables alone.
            self._bare = True

    async def _take_over(self) -> Feed:
        parts = self._parts
        progress = await when_back(self._progress, "takeover")
        feed = await self._opened(progress)
        started, before = parts.clock.monotonic(), self._read.sequence
        parts.outlet.drop(progress.computed)
        await self._catch_up(feed, progress.position, inf)
        parts.outlet.drop(progress.computed)
        if self._bare or self._lacks(progress.position):
            await self._rebuild(feed, progress.position)
        replayed = parts.clock.monotonic()
        self._committed, self._clean = self._read, True
        await when_back(self._reconcile, "takeover")
        reconciled = parts.clock.monotonic()
        await when_back(self._recall, "takeover")
        # What the last holder said of it may not have come.
        await self._tell_gateways({}, self._known_as(self._delegation.told()))
        self._caught_up = True
        log.info(
            "alarms worker ready",
            position=self._read.sequence,
            replayed=self._read.sequence - before,
            replayed_s=round(replayed - started, 3),
            reconciled_s=round(reconciled - replayed, 3),
            told_s=round(parts.clock.monotonic() - reconciled, 3),
        )
        return feed

    async def _work(self, feed: Feed) -> None:
        parts = self._parts
        # Whoever takes over says at once how far it has come.
        noted, shown = -inf, parts.clock.monotonic()
        while True:
            wait_s = REST_S if self._held_back.waiting else WAIT_S
            messages = await feed.take(TAKE, wait_s, gather_s=GATHER_S)
            await self._births.ask()
            parts.metrics.lag.labels(ROLE).set(feed.pending)
            if messages:
                await self._look_up(messages)
                batch = self._advance(messages)
                batch.steps = self._held_back.take(batch.steps)
                self._clean = not batch
                now = parts.clock.monotonic()
                if batch or now - noted >= POSITION_S:
                    await self._commit(batch)
                    noted = now
            await self._commit_portion()
            now = parts.clock.monotonic()
            if now - shown >= parts.settings.outlook_interval_s:
                self._show()
                parts.metrics.computed_waiting.set(parts.outlet.waiting)
                parts.metrics.held_back.set(self._held_back.waiting)
                shown = now
            # A snapshot ends the replay that computes again what is not in the stream yet.
            if self._snapshot_is_due() and await parts.outlet.flush(parts.lease):
                await self._commit(Batch(self._read))
                self._keep_snapshot()
            if parts.outlet.full:
                await parts.outlet.flush(parts.lease)
            await asyncio.sleep(0)

    def _show(self) -> None:
        if self._state is None:
            return
        self._parts.live.outlooks = _outlooks(self._state, self._rules)
        self._floods.show(self._state.now_ns)
        self._parts.metrics.unconfirmed.set(self._unconfirmed.count(self._state, self._rules))
        for gateway, alarms in self._delegation.disagreements(self._state).items():
            self._parts.metrics.disagreements.labels(gateway).set(alarms)

    async def _load(self, committed: Position) -> bool:
        """Start from the snapshot, or from nothing where there is none that can be used; whether there is any."""
        parts = self._parts
        self._keep_at = parts.clock.monotonic() + parts.settings.snapshot_interval_s
        try:
            held = await self._latest_snapshot(committed)
            if held is None:
                return False
            if _is_ahead(held, committed):
                # SQL was put back to an older state: what it lacks must be decided again.
                log.warning("snapshot is ahead of the database and is left aside", snapshot=held.position.sequence)
                return True
            state = await asyncio.to_thread(engine.laid, held.engine, self._rules)
            session = Hearing.restore(held.session, parts.live.table, parts.limits)
        except (ValueError, SnapshotError) as error:
            log.error("snapshot cannot be used: replaying the stream", reason=str(error))  # noqa: TRY400 -- the message is the reason
            return True
        self._state, self._session = state, session
        parts.live.restore(Known(held.gateways, held.ids, held.time_ns, held.value, held.quality))
        self._delegation.restore(Kept(held.journals, held.deciding, held.alike, held.theirs), state)
        self._read = self._kept = held.position
        return True

    async def _latest_snapshot(self, committed: Position) -> Snapshot | None:
        """The snapshot in the file, or a later one that another machine has shared, unless only that one is ahead.

        Raises:
            ValueError: the file is no snapshot, and none is shared.
        """
        parts, unreadable = self._parts, None
        try:
            held = await asyncio.to_thread(snapshots.load, parts.snapshot_file)
        except ValueError as error:
            held, unreadable = None, error
        if parts.shared is not None:
            usable = held is not None and not _is_ahead(held, committed)
            body = await parts.shared.later_than(held.position.time_ns if held is not None and usable else 0)
            if body is not None:
                try:
                    shared = await asyncio.to_thread(snapshots.unpack, BytesIO(body))
                except ValueError as error:
                    # Perhaps of a newer version, which this one takes the work over from again.
                    if not usable:
                        raise
                    log.error("shared snapshot cannot be used: going on from the own one", reason=str(error))  # noqa: TRY400 -- the message is the reason
                    return held
                if not usable or not _is_ahead(shared, committed):
                    return shared
        if unreadable is not None:
            raise unreadable
        return held

    async def _catch_up(self, feed: Feed, committed: Position, deadline: float) -> None:
        """Bring the engine to `committed` in silence, or as far as it gets until `deadline` (monotonic s).

        What came of these messages is in the database. Computed readings alone are kept: the stream may lack the last.
        """
        clock, outlet = self._parts.clock, self._parts.outlet
        while self._lacks(committed):
            left = deadline - clock.monotonic()
            if left <= 0:
                return
            messages = await feed.take(TAKE, min(WAIT_S, left), until=committed)
            if messages:
                await self._look_up(messages)
                self._advance(messages)
                if outlet.full:
                    await outlet.flush(self._parts.lease)
            elif feed.idle and not await feed.holds(committed):
                # The stream no longer holds what was committed (it was rebuilt or trimmed): nothing to catch up with.
                return

    def _lacks(self, committed: Position) -> bool:
        """Whether the engine has not come as far as `committed`."""
        return self._read.sequence < committed.sequence or self._read.time_ns < committed.time_ns

    async def _rebuild(self, feed: Feed, committed: Position) -> None:
        """Let alarms stand as the tables say, and go on behind `committed`.

        The engine began without a snapshot, or with one from which the stream does not lead there any more.
        """
        parts, replayed = self._parts, self._read
        if self._lacks(committed):
            await feed.skip_to(committed)
            self._read = committed
        kept = await when_back(self._as_recorded, "takeover")
        began_bare, self._bare = self._bare, False
        # A snapshot after which nothing was decided, as in a backup, is no loss.
        if not kept and (replayed == committed or not began_bare):
            return
        parts.metrics.rebuilt.set(parts.clock.now_ns() / NS)
        log.error(
            "the engine's state was lost: alarms stand as they were recorded, windows and delays begin anew",
            alarms=len(kept),
            replayed_from_the_stream=replayed.sequence,
        )
        # What was known of gateways is lost as well, and the historian may know all that it needs.
        self._overlooked = Overlooked(0.0)
        for node, known in parts.live.gateways.items():
            if known.state == "unknown":
                self._births.want(node)

    async def _as_recorded(self) -> list[Occurrence]:
        known = engine.initial(self._rules, self._read.time_ns) if self._state is None else self._state
        async with self._parts.lease.write() as session:
            # What has returned behind an old snapshot, however old, is over.
            since_ns = self._kept.time_ns or self._read.time_ns
            state, kept = as_recorded(known, self._rules, await recorded(session, since_ns))
            await note_kept(session, kept, self._read, self._parts.clock.now_ns())
        self._state = state
        self._unconfirmed.begin(state, self._rules, kept)
        return kept

    async def _reconcile(self) -> None:
        """Let the tables and the engine agree on what stands: they do not where the plant has changed.

        A worker that stood by under another plant file than the holder's has raised and returned alarms in silence. Nor
        do they where the holder had not yet committed all that it held back.
        """
        state = self._state
        if state is None:
            return
        async with self._parts.lease.write() as session:
            await forget_hidden(session, self._rules.index)
            stands = await standing(session)
        # Of a mass that takes seconds, and the lease must not stand still for so long.
        steps, over = await asyncio.to_thread(self._compare, state, stands)
        if over:
            async with self._parts.lease.write() as session:
                await close_orphans(session, over, self._parts.clock.now_ns())
            log.warning("occurrences closed that nothing watches any more", occurrences=sorted(over))
        if steps:
            log.warning("alarms that were raised or returned are told: nobody has been yet", alarms=len(steps))
            await self._commit(Batch(self._read, self._held_back.take(steps)))

    def _compare(self, state: State, stands: Mapping[str, Standing]) -> tuple[list[Step], set[str]]:
        """The steps that the tables lack of what the engine knows, and the occurrences there that it does not know."""
        missing = list(untold(state, self._rules, stands.values(), np.flatnonzero(state.onset_ns)))
        return _as_steps(state, missing, self._read, timely=False), orphans(state, self._rules, stands, missing)

    async def _recall(self) -> None:
        """Learn from the tables what floods there are, and how far gateways' journals are taken in."""
        async with self._parts.database.read() as session:
            await self._floods.load(session, self._parts.clock.now_ns())
            self._delegation.adopt(await journal_positions(session))

    async def _look_up(self, messages: list[Message]) -> None:
        """Find out which of the commands in `messages` were answered before: one that came twice is obeyed once."""
        ids = [_command_id(message) for message in messages if message.topic.startswith(COMMAND)]
        known = [one for one in ids if one]
        # What was taken from the stream is taken once: it waits here.
        self._answered = await when_back(partial(self._answers, known), "commands") if known else {}

    async def _answers(self, ids: list[str]) -> dict[str, int]:
        async with self._parts.database.read() as session:
            return await answered_at(session, ids)

    @left_alone()
    def _advance(self, messages: list[Message]) -> Batch:
        """Take `messages` into the engine; what came of them is the answer. Never waits."""
        batch = Batch(self._read)
        for message in messages:
            batch.position = self._read = Position(message.sequence, message.time_ns)
            if self._state is None:
                self._state = engine.initial(self._rules, message.time_ns)
            if message.time_ns < self._state.now_ns - AHEAD_NS:
                self._set_back(batch, message.time_ns)
            if is_data(message.topic):
                self._hear(batch, message)
            elif message.topic.startswith(TICK):
                # A silence begins at the tick before the reading, however the stream was portioned.
                self._take_in(batch)
                self._step(batch, [], message.time_ns)
            elif message.topic.startswith(COMMAND):
                self._obey(batch, message)
        self._take_in(batch)
        return batch

    def _set_back(self, batch: Batch, now_ns: int) -> None:
        """Follow the stream's clock: until it had caught up readings would be late, and no silence would be told."""
        self._take_in(batch)
        assert self._state is not None  # noqa: S101 -- `_advance` makes it before the first message
        log.warning("windows and delays begin anew", ahead_s=(self._state.now_ns - now_ns) / NS)
        self._state = engine.set_back(self._state, self._rules, now_ns)
        live = self._parts.live
        live.set_back(now_ns)
        live.clock_steps_back += 1
        self._count(self._parts.metrics.clock_steps_back, 1)

    def _hear(self, batch: Batch, message: Message) -> None:
        fed = self._session.hear(message)
        self._count(self._parts.metrics.unheard, sum(fault.reason in NOT_HEARD for fault in fed.faults))
        ahead = int(np.count_nonzero(fed.frame.time_ns > message.time_ns + AHEAD_NS))
        self._count(self._parts.metrics.ahead, ahead + (0 if fed.ahead is None else len(fed.ahead)))
        frame = as_of_arrival(fed, message)
        self._parts.live.hear(fed, message.time_ns, sent_ms(message.payload))
        self._follow(batch, fed, message.time_ns)
        if self._caught_up and fed.group is not None and fed.gateway is not None:
            node = fed.group, fed.gateway
            if fed.kind == "NBIRTH" and is_birth(fed):
                self._overlooked.born(node)
            elif fed.rebirth and self._overlooked.is_one(node, self._parts.clock.monotonic()):
                self._births.want(node)
        if not len(frame):
            return
        # What births repeat and what was kept during a cut is old by nature: its age is no latency of ours.
        timely = fed.kind in ("NDATA", "DDATA") and not fed.historical
        if timely is not self._timely:
            self._take_in(batch)
        self._frames.append(engine.words_first(self._rules, frame))
        self._timely = timely

    def _follow(self, batch: Batch, fed: Fed, now_ns: int) -> None:
        """Let a gateway that decides have its say."""
        if fed.journal is not None:
            # What is past is found by what was read before, however the stream was portioned.
            self._take_in(batch)
        assert self._state is not None  # noqa: S101 -- `_advance` makes it before the first message
        words = self._delegation.heard(fed, self._state, now_ns)
        if words is None:
            return
        self._take_in(batch)
        self._timely = words.news
        self._step(batch, words.inputs, self._state.now_ns)
        batch.words.append(words)
        batch.orders += words.orders.values()
        if words.decides:
            batch.orders += self._delegation.orders_from_before(words.gateway, self._state, now_ns)

    def _take_in(self, batch: Batch) -> None:
        """Take the readings that wait into the engine."""
        if self._frames and self._state is not None:
            self._step(batch, [], self._state.now_ns)

    def _step(self, batch: Batch, inputs: Sequence[engine.Input], now_ns: int) -> list[engine.Refusal]:
        frame, self._frames = Frame.concat(self._frames), []
        assert self._state is not None  # noqa: S101 -- `_advance` makes it before the first step
        self._state, result = engine.step(self._state, self._rules, frame, inputs, now_ns)
        live, metrics = self._parts.live, self._parts.metrics
        live.take(frame)
        live.take(result.computed)
        self._parts.outlet.put(result.computed, self._read.sequence)
        live.late += result.late
        live.clock_steps_back += result.clock_steps_back
        self._count(metrics.late, result.late)
        self._count(metrics.clock_steps_back, result.clock_steps_back)
        batch.steps += _as_steps(self._state, result.transitions, batch.position, timely=self._timely)
        return result.refusals

    def _obey(self, batch: Batch, message: Message) -> None:
        # Which occurrence a command is about is found by what was read before it, however the stream was portioned.
        self._take_in(batch)
        asked = self._understand(message)
        if asked is None or self._answered.get(asked.id, message.sequence) != message.sequence:
            return
        self._answered[asked.id] = message.sequence
        refusal = asked.refusal
        if asked.order is not None and self._state is not None:
            refused = self._step(batch, [asked.order], self._state.now_ns)
            refusal = str(refused[0].reason) if refused else ""
            order = None if refused else self._delegation.order(self._state, asked.order, asked.id)
            batch.orders += [] if order is None else [order]
        text = {
            name: None if asked.told.get(name) is None else str(asked.told[name])
            for name in ("occurrence", "alarm", "reason")
        }
        batch.answers.append(
            Answer(
                id=asked.id,
                position=message.sequence,
                verb=str(asked.told.get("verb")),
                who=str(asked.told.get("who")),
                accepted=not refusal,
                answer=refusal,
                at_ns=message.time_ns,
                **text,
            )
        )

    def _understand(self, message: Message) -> _Asked | None:
        told = _parsed(message)
        identity = _command_id(message)
        if told is None or identity is None:
            log.warning("command without an id, or not to be read", topic=message.topic, size=len(message.payload))
            self._parts.metrics.refused.inc()
            return None
        number = self._rules.index.get(str(told.get("alarm")))
        if number is None:
            return _Asked(identity, None, NO_SUCH_ALARM, told)
        try:
            order = self._order(told, number, message.time_ns)
        except (KeyError, TypeError, ValueError, OverflowError):
            return _Asked(identity, None, NOT_UNDERSTOOD, told)
        return _Asked(identity, order, "", told)

    def _order(self, told: Mapping[str, Any], number: int, at_ns: int) -> engine.Command:
        verb, once = Verb(told["verb"]), told.get("once", False)
        if not isinstance(once, bool):
            raise TypeError(once)
        until_ns = at_ns + round(float(told["duration_s"]) * NS) if verb is Verb.SHELVE else 0
        if until_ns >= LATEST_NS:
            raise ValueError(until_ns)
        onset_ns = 0
        if told.get("occurrence") and self._state is not None:
            present = int(self._state.onset_ns[number])
            seen = engine.occurrence_id(self._rules.definitions[number].id, present)
            # An id cannot be turned back into its onset; any other onset than the present one will be refused.
            onset_ns = present if seen == told["occurrence"] else -1
        return engine.Command(
            verb, number, at_ns, str(told["who"]), str(told.get("reason") or ""), onset_ns, until_ns, once
        )

    def _count(self, figure: Counter, number: int) -> None:
        """Count what is new; what is only repeated was counted by whoever committed it."""
        if self._caught_up:
            figure.inc(number)

    async def _commit(self, batch: Batch) -> None:
        parts = self._parts
        with parts.metrics.commit_seconds.labels(ROLE).time():
            done = await self._recorded(batch)
        self._committed, self._clean = batch.position, True
        self._floods.take(batch.steps)
        parts.metrics.commits.labels(ROLE).inc()
        parts.metrics.position.labels(ROLE).set(batch.position.sequence)
        parts.metrics.position_time.labels(ROLE).set(batch.position.time_ns / 1e9)
        for step in batch.steps:
            parts.metrics.transitions.labels(step.transition.event.text).inc()
        for latency_ns in done.latencies_ns:
            parts.metrics.latency.observe(latency_ns / 1e9)
        parts.metrics.refused.inc(sum(not answer.accepted for answer in batch.answers))
        await self._announce(done)
        await self._answer_gateways(batch)

    async def _commit_portion(self) -> None:
        """Commit a portion of what waits; before the next one others have their turn to write."""
        clock = self._parts.clock
        if self._held_back.waiting and clock.monotonic() >= self._portion_at:
            await self._commit(Batch(self._read, self._held_back.portion()))
            self._portion_at = clock.monotonic() + REST_S

    async def _recorded(self, batch: Batch) -> Committed:
        parts = self._parts
        done: Committed | None = None
        while True:
            first = parts.outlet.first
            computed = batch.position.sequence if first is None else first - 1
            try:
                async with parts.lease.write() as session:
                    # A commit whose answer was lost with the connection may have taken place all the same.
                    if done is None or not await self._took_place(session, batch):
                        done = await self._journal.record(session, batch, computed, parts.clock.now_ns())
            except DatabaseAwayError as error:
                parts.metrics.commit_failures.labels(ROLE).inc()
                # The engine has moved on already: these consequences are committed before anything else happens.
                log.error("database refuses", reason=error.reason, again_in_s=RETRY_S)  # noqa: TRY400 -- the message is the reason
            else:
                return done
            await asyncio.sleep(RETRY_S)

    async def _took_place(self, session: AsyncSession, batch: Batch) -> bool:
        """Whether `batch` is in the database: its position is, or, where it moves none, the tables lack none of it."""
        if batch.position != self._committed or self._state is None:
            return (await progress_of(session, self._parts.settings.partition)).position == batch.position
        numbers = np.asarray([step.transition.definition for step in batch.steps], np.int64)
        return not any(untold(self._state, self._rules, (await standing(session)).values(), numbers))

    async def _announce(self, done: Committed) -> None:
        kinds = (("transition", done.occurrences), ("ticket", done.tickets), ("notification", done.messages))
        try:
            for kind, ids in kinds:
                for one in filter(None, ids):
                    await publish_event(self._parts.client, kind, {"id": one})
        except (NatsError, OSError) as error:
            # Listeners look into the tables now and then; what is committed reaches them all the same.
            log.warning("events not published", reason=str(error) or repr(error))

    async def _answer_gateways(self, batch: Batch) -> None:
        """Tell gateways how far their journals are committed; what is repeated was not heard, and is told again."""
        parts = self._parts
        for words in batch.words:
            parts.metrics.journal_repeated.labels(words.gateway).inc(words.repeated)
            parts.metrics.journal_lost.labels(words.gateway).inc(words.lost)
            parts.metrics.journal_unheeded.labels(words.gateway).inc(len(words.aside))
            parts.metrics.journal_forgotten.labels(words.gateway).inc(words.forgotten)
            parts.metrics.journal_gaps.labels(words.gateway).inc(words.gap)
        said = {words.gateway: words.position for words in batch.words if words.decides is not False}
        await self._tell_gateways(said, self._known_after(batch))
        if batch.orders or any(words.decides for words in batch.words):
            parts.ordered.set()

    def _known_after(self, batch: Batch) -> dict[str, list[Naming]]:
        """By gateway, as what is known here now of which `batch` may have changed that."""
        raised = {each.transition.definition for each in batch.steps if each.transition.event is Event.RAISE}
        return self._known_as(raised.union(*(self._delegation.touched(words) for words in batch.words)))

    def _known_as(self, numbers: Iterable[int]) -> dict[str, list[Naming]]:
        return {} if self._state is None else self._delegation.known_as(numbers, self._state)

    async def _tell_gateways(self, positions: Mapping[str, int], known: Mapping[str, Sequence[Naming]]) -> None:
        """Tell gateways how far their journals are committed, and as what their occurrences are known here."""
        parts = self._parts
        said = {gateway: self._delegation.positions[gateway] for gateway in known} | {**positions}
        try:
            for gateway, position in said.items():
                site, now_ns, names = parts.plant.site.id, parts.clock.now_ns(), known.get(gateway, ())
                await send_journal_committed(parts.client, site, gateway, position, names, now_ns)
        except (NatsError, OSError) as error:
            # The gateway sends again what it was not answered.
            log.warning("journal not acknowledged", reason=str(error) or repr(error))

    def _snapshot_is_due(self) -> bool:
        free = not self._bare and (self._saving is None or self._saving.done())
        return free and self._read != self._kept and self._parts.clock.monotonic() >= self._keep_at

    def _keep_snapshot(self) -> None:
        """Begin to save a snapshot of this moment; the work goes on meanwhile."""
        if self._state is None:
            return
        read, session = self._read, self._session.snapshot()
        self._columns = columns = engine.kept(self._state, self._rules, self._columns)
        known, kept = self._parts.live.known(), self._delegation.kept()

        def held() -> Snapshot:
            return Snapshot(
                read, engine.labelled(columns, self._rules), session, known.gateways, kept.journals, kept.deciding,
                kept.alike, kept.theirs, known.ids, known.time_ns, known.value, known.quality,
            )  # fmt: skip

        def write() -> None:
            snapshots.save(self._parts.snapshot_file, held())

        self._saving = asyncio.create_task(self._save(write, partial(_packed, held), read), name="snapshot")

    async def _save(self, write: Callable[[], None], pack: Callable[[], bytes], read: Position) -> None:
        """Write the file in a thread; it may cost a fiftieth of the time, however large the plant is."""
        parts, clock = self._parts, self._parts.clock
        began, whole = clock.monotonic(), self._in_the_file
        try:
            await asyncio.to_thread(write)
        except OSError as error:
            log.error("snapshot not written", reason=str(error))  # noqa: TRY400 -- the message is the reason
            # Others' disks may have room: what the file holds grows older and older.
            whole = pack
        else:
            self._kept = read
            parts.metrics.snapshots.inc()
        took = clock.monotonic() - began
        if parts.shared is not None and parts.lease.trusted and clock.monotonic() >= self._share_at:
            await self._share(parts.shared, whole)
            self._share_at = clock.monotonic() + parts.settings.share_interval_s
        self._keep_at = clock.monotonic() + max(parts.settings.snapshot_interval_s, SNAPSHOT_REST * took)

    def _in_the_file(self) -> bytes:
        """It may be of another process that shares the folder."""
        return self._parts.snapshot_file.read_bytes()

    async def _share(self, shared: SnapshotStore, whole: Callable[[], bytes]) -> None:
        """Give a whole snapshot to other machines."""
        try:
            body = await asyncio.to_thread(whole)
            time_ns = snapshots.position_of(body).time_ns
        except (OSError, ValueError) as error:
            log.warning("snapshot not shared", reason=str(error))
            return
        await shared.put(body, time_ns)


def _packed(held: Callable[[], Snapshot]) -> bytes:
    packed = BytesIO()
    snapshots.pack(held(), packed)
    return packed.getvalue()


def _is_ahead(held: Snapshot, committed: Position) -> bool:
    """Whether it knows more than is committed; a higher number of an earlier time is of a stream that was lost.

    That one is gone on from: the new stream is read on by time.
    """
    return held.position.sequence > committed.sequence and held.position.time_ns > committed.time_ns


def _as_steps(state: State, transitions: Sequence[Transition], position: Position, *, timely: bool) -> list[Step]:
    """What has just come of the engine, as columns: one by one it takes five times as long, and there may be a mass.

    `timely` is whether the readings were that may have brought it.
    """
    if not transitions:
        return []
    number = np.fromiter((each.definition for each in transitions), np.int64, len(transitions))
    until_ns, out = state.shelved_until_ns[number], state.out_of_service[number]
    once = state.shelved_once[number] & (until_ns != 0)
    of_reading = (timely and each.event <= Event.RETURN_LATCHED and isfinite(each.value) for each in transitions)
    columns = of_reading, (each or None for each in until_ns.tolist()), once.tolist(), out.tolist()
    return list(map(_step, zip(transitions, repeat(position), *columns)))


def _parsed(message: Message) -> dict[str, Any] | None:
    try:
        told = parsed(message.payload)
    except ValueError:
        return None
    if not isinstance(told, dict) or any(isinstance(value, list | dict) for value in told.values()):
        return None
    if not all(is_writable(value) for value in told.values() if isinstance(value, str)):
        # SQL would not take it, and the answer would bear it too.
        return None
    return told


def _command_id(message: Message) -> str | None:
    told = _parsed(message)
    return str(told["id"])[:64] if told is not None and told.get("id") else None


def _outlooks(state: State, rules: Rules) -> dict[str, Outlook]:
    found: dict[str, Outlook] = {}
    for ahead in engine.projections(state, rules):
        definition = rules.definitions[ahead.definition]
        if definition.limit is None:
            continue
        found[definition.point] = Outlook(
            time_ns=ahead.time_ns,
            level=ahead.level,
            slope_per_s=ahead.slope,
            slope_low_per_s=ahead.slope_low,
            slope_high_per_s=ahead.slope_high,
            limit=definition.setpoint,
            limit_kind=definition.limit,
            horizon_s=definition.horizon_s,
            reaches_in_s=ahead.reaches_s if isfinite(ahead.reaches_s) else None,
        )
    return found
