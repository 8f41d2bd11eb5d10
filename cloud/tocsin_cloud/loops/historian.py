"""The historian: from the stream into the time-series store, and the acknowledgements to the gateways."""

import asyncio
import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError

from tocsin_cloud.adapters.gateways import send_committed
from tocsin_cloud.adapters.history import History, HistoryError
from tocsin_cloud.adapters.history_state import RESTORED
from tocsin_cloud.adapters.lease import Lease
from tocsin_cloud.adapters.metrics import Metrics
from tocsin_cloud.adapters.quarantine import Quarantine
from tocsin_cloud.adapters.stream import START, Feed, Message, Position, is_data
from tocsin_cloud.loops.births import Births
from tocsin_cloud.loops.clocks import GatewayClock
from tocsin_cloud.loops.computed import COMPUTED, decode
from tocsin_cloud.loops.hearing import NOT_HEARD, Hearing
from tocsin_cloud.loops.ledger import Ledger
from tocsin_cloud.loops.live import LiveView, Stored
from tocsin_cloud.loops.points import PointTable
from tocsin_cloud.loops.repeats import Repeats
from tocsin_cloud.loops.server_clock import LISTEN_S, ServerClock
from tocsin_cloud.loops.shared_state import SharedState
from tocsin_cloud.settings import HistorianSettings, LimitSettings
from tocsin_core.clock import Clock
from tocsin_core.readings import I32, Frame
from tocsin_core.sparkplug.host import DAY_AHEAD, Fault, Fed
from tocsin_core.sparkplug.payload import sent_ms

log = structlog.get_logger()

ROLE = "historian"
TAKE = 1000
GATHER_S = 0.1
DAY_NS = 86_400_000_000_000
# Old messages that are read again after a stop do not tell what a gateway needs now.
RECENT_NS = 60_000_000_000
RETRY_S = 1.0
# What is remembered of 440,000 points is 25 MB; what has come since it was kept last is read once more at a start.
SNAPSHOT_S = 30.0
TEND_S = 10.0
DEATHS = ("NDEATH", "DDEATH")
SERVER_BEHIND = "server-behind"
RATE_HALF_LIFE_S = 5.0
FLOOD_TOLD_S = 10.0
KEYS_AT_ONCE = 10_000

Address = tuple[str, str]

NO_BATCHES = Ledger()
NO_CLOCK = GatewayClock()


@dataclass(frozen=True, slots=True)
class HistorianParts:
    """What the historian works with."""

    client: Client
    history: History
    lease: Lease
    table: PointTable
    live: LiveView
    quarantine: Quarantine
    metrics: Metrics
    clock: Clock
    settings: HistorianSettings
    # The subjects of the stream that are the plant's; all of them where none are given.
    subjects: Sequence[str] = ()
    # Where other machines find the state, if anywhere.
    shared: SharedState | None = None
    # The alarms worker's are the same: else one would hear what the other does not.
    limits: LimitSettings = field(default_factory=LimitSettings)


class Historian:
    """Reads the stream by itself and commits in groups; its place in the stream commits with the readings."""

    def __init__(self, parts: HistorianParts, state: Mapping[str, bytes] | None = None) -> None:
        """Go on where `state` says, or the history's own."""
        self._parts = parts
        self._rows: list[Frame] = []
        self._waiting = 0
        self._counted = 0
        self._touched: set[Address] = set()
        self._births = Births(parts.client, parts.metrics, parts.clock, parts.settings.rebirth_interval_s)
        self._floods: dict[str, float] = {}
        self.server_clock = ServerClock(parts.clock)
        # Whose batches were left at the gateways until it is known whose clock is wrong.
        self._left_there: set[Address] = set()
        self._commits = 0
        self._due: deque[tuple[int, dict[Address, int]]] = deque()
        self._ask_store_at = 0.0
        self._keys: I32 = np.empty(0, dtype=np.int32)
        self._load(parts.history.state if state is None else state)
        dropped = parts.metrics.unread_dropped.labels(ROLE)
        start, known = self._session_position, self._position
        self._feed = Feed(parts.client, start, parts.clock, parts.subjects, dropped.inc, known)

    @property
    def position(self) -> Position:
        """The last message that is committed."""
        return self._position

    async def run(self) -> None:
        """Work until cancelled."""
        parts = self._parts
        committed_at = parts.clock.monotonic()
        try:
            while True:
                left = committed_at + parts.settings.commit_interval_s - parts.clock.monotonic()
                messages = await self._feed.take(TAKE, max(0.0, left), gather_s=GATHER_S)
                for message in messages:
                    self._take(message)
                await self._ask_for_births()
                # The loop is shared with the API: let it breathe also when the stream is never empty.
                await asyncio.sleep(0)
                parts.metrics.lag.labels(ROLE).set(self._feed.pending)
                now = parts.clock.monotonic()
                if (
                    now - committed_at >= parts.settings.commit_interval_s
                    or self._waiting >= parts.settings.commit_rows
                ):
                    await self._commit(now - committed_at)
                    committed_at = now
                await self._acknowledge()
                parts.metrics.not_durable.set(len(self._due))
        finally:
            await self._feed.close()

    def _load(self, state: Mapping[str, bytes]) -> None:
        held = json.loads(state.get("position", b"{}"))
        # Goes on with the state, wherever that is.
        self._restored = {RESTORED: state[RESTORED]} if RESTORED in state else {}
        self._position = Position(*held["position"]) if held else START
        self._stored = int(held["stored"]) if held else 0
        self._ledgers: dict[Address, Ledger] = {
            (group, node): Ledger.from_json(ledger) for group, node, ledger in held.get("ledgers", [])
        }
        # Earlier versions counted with the batches, and so only the gateways that have them.
        counted = held.get("readings") or [(*row[:2], row[2].get("readings", 0)) for row in held.get("ledgers", [])]
        self._readings: dict[Address, int] = {(group, node): int(number) for group, node, number in counted}
        self._clocks = {
            (group, node): GatewayClock.from_json(clock)
            for group, node, clock in json.loads(state.get("clocks", b"[]"))
        }
        self._clocks_changed = False
        self._session = Hearing(self._parts.table, self._parts.limits)
        self._session_position = START
        self._repeats = Repeats(self._parts.table, {})
        self._last = self._position
        self._snapshot_at = self._parts.clock.monotonic()
        if "session" in state:
            head, _, session = state["session"].partition(b"\n")
            kept = json.loads(head)
            # Earlier versions wrote the session into the head.
            session = session or kept["session"].encode()
            self._session = Hearing.restore(session, self._parts.table, self._parts.limits)
            self._session_position = Position(*kept["position"])
            self._repeats = Repeats(self._parts.table, kept.get("newest", {}))
        self._show(0.0)

    def _take(self, message: Message) -> None:
        replayed = self._feed.repeats(message)
        if not replayed:
            self._last = Position(message.sequence, message.time_ns)
        if message.topic.startswith(COMPUTED):
            self._take_computed(message, replayed=replayed)
            return
        if not is_data(message.topic):
            return
        fed = self._session.hear(message)
        if replayed:
            if (fed.group, fed.gateway) not in self._ledgers:
                self._unrepeated(fed)
            return
        fed = self._without_what_is_a_day_ahead(message, fed)
        self._note_faults(message, fed)
        if fed.group is None or fed.gateway is None:
            return
        address = (fed.group, fed.gateway)
        ledger = self._ledgers.get(address)
        if fed.batch is not None and ledger is not None and not ledger.has_room(fed.batch):
            detail = f"batch {fed.batch} leaves one more hole, and there are too many; it is not acknowledged"
            self._parts.quarantine.add(message.topic, message.payload, "too-many-holes", detail, message.time_ns)
            return
        if fed.rebirth and self._parts.clock.now_ns() - message.time_ns < RECENT_NS:
            self._births.want(address)
        self._keep(address, fed)

    def _without_what_is_a_day_ahead(self, message: Message, fed: Fed) -> Fed:
        """Leave a batch that cannot be stored for its stamps at its gateway, if the server's clock may be the cause."""
        address = (fed.group or "", fed.gateway or "")
        # When a will was written says nothing of now.
        if not fed.kind or fed.kind in DEATHS or not self._parts.table.knows((*address, "")):
            return fed
        sent = sent_ms(message.payload)
        if sent is not None:
            self.server_clock.hear(address, sent, message.time_ns)
        ahead = fed.batch is not None and any(fault.reason == DAY_AHEAD for fault in fed.faults)
        if not ahead or not self.server_clock.may_be_behind:
            return fed
        self._left_there.add(address)
        detail = f"{address[1]}: stamped a day ahead of the server, whose clock may be behind: not acknowledged"
        others = (fault for fault in fed.faults if fault.reason != DAY_AHEAD)
        return replace(fed, frame=Frame.empty(), batch=None, faults=(*others, Fault(SERVER_BEHIND, detail)))

    def _note_faults(self, message: Message, fed: Fed) -> None:
        for fault in fed.faults:
            if fault.reason in (*NOT_HEARD, SERVER_BEHIND):
                self._note_flood(message, fault)
            else:
                self._parts.quarantine.add(
                    message.topic, message.payload, fault.reason, fault.detail, message.time_ns, fault.count
                )

    def _note_flood(self, message: Message, fault: Fault) -> None:
        """Count what was not heard, and now and then show it: a flood must not wash out all else that was refused."""
        quarantine, now = self._parts.quarantine, self._parts.clock.monotonic()
        if now < self._floods.get(fault.detail, now):
            quarantine.count(fault.reason)
            return
        self._floods[fault.detail] = now + FLOOD_TOLD_S
        log.warning("not heard, and not acknowledged", topic=message.topic, reason=fault.detail)
        quarantine.add(message.topic, message.payload, fault.reason, fault.detail, message.time_ns)

    def _take_computed(self, message: Message, *, replayed: bool) -> None:
        try:
            frame = self._repeats.later(decode(message.payload, self._parts.table.computed))
        except ValueError as error:
            if not replayed:
                self._parts.quarantine.add(message.topic, message.payload, "undecodable", str(error), message.time_ns)
            return
        if not replayed and len(frame):
            # Worked out here and sent by no gateway: they count as nobody's readings.
            self._rows.append(frame)
            self._waiting += len(frame)

    def _keep(self, address: Address, fed: Fed) -> None:
        if not self._parts.table.knows((*address, "")):
            # Nobody was born under this name: its readings may be right, its numbers and its clock mean nothing yet.
            self._store(address, fed)
            return
        if fed.clock is not None or fed.unsynchronised_ms is not None or address in self._clocks:
            self._clocks_changed |= self._clocks.setdefault(address, GatewayClock()).hear(fed)
        if fed.newest_batch is not None:
            # Answered with what we have, also if that is nothing: a gateway that knows of more then sends again what it
            # still keeps, and tells the oldest number that can come.
            self._be_born(address, fed.newest_batch, fed.oldest_batch or 1)
        elif fed.oldest_batch is not None:
            self._ledgers.setdefault(address, Ledger()).oldest(fed.oldest_batch)
            self._touched.add(address)
        ledger = self._ledgers.get(address)
        if fed.batch is not None:
            ledger = self._ledgers.setdefault(address, Ledger())
            self._touched.add(address)
            if address in self._left_there and not self.server_clock.may_be_behind:
                # It sends all that waits for our word again after a birth.
                self._left_there.discard(address)
                self._births.want(address)
            if not ledger.add(fed.batch):
                self._parts.metrics.repeated.inc(len(fed.frame))
                return
        elif ledger is not None and fed.kind not in DEATHS:
            # What a birth of our own gateway shows, or a batch that could not be read whole, comes in a batch again.
            return
        self._store(address, fed)

    def _store(self, address: Address, fed: Fed) -> None:
        frame = self._unrepeated(fed)
        if not len(frame):
            return
        self._rows.append(frame)
        self._waiting += len(frame)
        if fed.kind not in DEATHS:
            # What a death marks is our word, not a reading of the gateway's.
            self._counted += len(frame)
            self._readings[address] = self._readings.get(address, 0) + len(frame)

    def _be_born(self, address: Address, newest: int, oldest: int) -> None:
        ledger = self._ledgers.setdefault(address, Ledger())
        known = ledger.newest
        if ledger.born(newest, oldest):
            self._parts.metrics.spools_anew.inc()
            log.warning("a new spool, or a torn one", gateway=address[1], known=known, newest=newest, from_batch=oldest)
        self._touched.add(address)

    def _unrepeated(self, fed: Fed) -> Frame:
        if fed.batch is not None or fed.kind in DEATHS or not len(fed.frame):
            return fed.frame
        frame = self._repeats.fresh(fed.frame)
        self._parts.metrics.repeated.inc(len(fed.frame) - len(frame))
        return frame

    async def _commit(self, elapsed_s: float) -> None:
        parts = self._parts
        if self._last == self._position and self._session_position != START:
            self._show(elapsed_s)
            return
        frame = Frame.concat(self._rows)
        frame = Frame(await self._keys_of(frame), frame.time_ns, frame.value, frame.quality)
        state = {"position": self._position_state(), **self._restored}
        if self._clocks_changed:
            state["clocks"] = self._clocks_state()
        now = parts.clock.monotonic()
        if now - self._snapshot_at >= SNAPSHOT_S or self._session_position == START:
            state["session"] = self._session_state()
            self._session_position = self._last
            self._snapshot_at = now
        while True:
            try:
                with parts.metrics.commit_seconds.labels(ROLE).time():
                    await parts.history.commit(frame, state)
                break
            except HistoryError as error:
                # What is not stored stays in the stream and at the gateways: nothing is given up, nothing acknowledged.
                parts.metrics.commit_failures.labels(ROLE).inc()
                log.error("history refuses", reason=str(error), again_in_s=RETRY_S)  # noqa: TRY400 -- the message is the reason
                await asyncio.sleep(RETRY_S)
        self._position = self._last
        self._stored += self._counted
        parts.metrics.commits.labels(ROLE).inc()
        parts.metrics.stored.inc(self._counted)
        parts.metrics.position.labels(ROLE).set(self._position.sequence)
        parts.metrics.position_time.labels(ROLE).set(self._position.time_ns / 1e9)
        said = {address: self._ledgers[address].committed for address in self._touched}
        self._commits += 1
        self._due.append((self._commits, said))
        if parts.shared is not None and "session" in state:
            parts.shared.note(self._commits, state | {"clocks": self._clocks_state()})
        self._show(elapsed_s)
        self._rows, self._waiting, self._counted = [], 0, 0
        self._touched = set()
        self._clocks_changed = False

    def _clocks_state(self) -> bytes:
        before_ns = self._parts.clock.now_ns() - int(self._parts.settings.retain_days * DAY_NS)
        for clock in self._clocks.values():
            clock.forget(before_ns)
        return json.dumps([[group, node, clock.to_json()] for (group, node), clock in self._clocks.items()]).encode()

    def _position_state(self) -> bytes:
        ledgers = [[group, node, ledger.to_json()] for (group, node), ledger in self._ledgers.items()]
        return json.dumps(
            {
                "position": [self._last.sequence, self._last.time_ns],
                "stored": self._stored + self._counted,
                "ledgers": ledgers,
                "readings": [[group, node, number] for (group, node), number in self._readings.items()],
            }
        ).encode()

    def _session_state(self) -> bytes:
        head = {"position": [self._last.sequence, self._last.time_ns], "newest": self._repeats.to_json()}
        return json.dumps(head).encode() + b"\n" + self._session.snapshot()

    async def _keys_of(self, frame: Frame) -> I32:
        ids, known = self._parts.table.ids, len(self._keys)
        fresh = [self._keys]
        for first in range(known, len(ids), KEYS_AT_ONCE):
            keys = [self._parts.history.key(point) for point in ids[first : first + KEYS_AT_ONCE]]
            fresh.append(np.asarray(keys, dtype=np.int32))
            # Of a large plant all of them take a second.
            await asyncio.sleep(0)
        if len(fresh) > 1:
            self._keys = np.concatenate(fresh)
        return self._keys[frame.point]

    def _show(self, elapsed_s: float) -> None:
        live = self._parts.live
        live.readings_stored = self._stored
        if elapsed_s > 0:
            keep = 0.5 ** (elapsed_s / RATE_HALF_LIFE_S)
            live.readings_per_second = keep * live.readings_per_second + (1 - keep) * self._counted / elapsed_s
        for address in self._readings | self._ledgers:
            ledger = self._ledgers.get(address, NO_BATCHES)
            clock = self._clocks.get(address, NO_CLOCK)
            live.stored[address] = Stored(
                self._readings.get(address, 0), ledger.newest, ledger.committed, clock.state, clock.stretches
            )
            if clock.state is not None:
                gauge = self._parts.metrics.gateway_clock.labels(self._parts.table.gateway_id(*address))
                gauge.set(clock.state.synchronised)

    async def _acknowledge(self) -> None:
        parts = self._parts
        if not self._due or parts.clock.monotonic() < self._ask_store_at or not parts.lease.trusted:
            return
        try:
            durable = await parts.history.durable()
        except HistoryError as error:
            log.error("history does not tell what is durable", reason=str(error), again_in_s=RETRY_S)  # noqa: TRY400 -- the message is the reason
            self._ask_store_at = parts.clock.monotonic() + RETRY_S
            return
        if parts.shared is not None:
            parts.shared.durable(durable)
        while self._due and self._due[0][0] <= durable:
            _, said = self._due.popleft()
            for (group, node), number in said.items():
                try:
                    await send_committed(parts.client, group, node, number, parts.clock.now_ns())
                    parts.metrics.acknowledgements.inc()
                except (NatsError, OSError) as error:
                    # The next batch brings the next acknowledgement, which is cumulative.
                    log.warning("acknowledgement not sent", gateway=node, reason=str(error) or repr(error))

    async def _ask_for_births(self) -> None:
        for node in self._session.overdue(self._parts.clock.now_ns()):
            self._births.want(node)
        await self._births.ask()


async def retain(history: History, settings: HistorianSettings, clock: Clock, server_clock: ServerClock) -> None:
    """Forget what is older than the retention, now and then; runs until cancelled."""
    while True:
        forgets = await forget_old(history, settings, clock, server_clock)
        await asyncio.sleep(settings.retain_interval_s if forgets else LISTEN_S)


async def forget_old(history: History, settings: HistorianSettings, clock: Clock, server_clock: ServerClock) -> bool:
    """Forget what is older than the retention; nothing, and False, where the server's clock may be ahead."""
    if server_clock.may_be_ahead:
        return False
    try:
        await history.retain(clock.now_ns() - int(settings.retain_days * DAY_NS))
        log.info("history retention", days=settings.retain_days)
    except HistoryError as error:
        log.error("history retention failed", reason=str(error))  # noqa: TRY400 -- the message is the reason
    return True


async def tend(history: History, metrics: Metrics) -> None:
    """Have the store do what makes long trends quick, and count what it drops; runs until cancelled."""
    dropped = 0
    while True:
        try:
            metrics.hours_due.set(await history.tend())
        except HistoryError as error:
            log.error("history not rolled up", reason=str(error), again_in_s=TEND_S)  # noqa: TRY400 -- the message is the reason
        before, dropped = dropped, history.dropped
        metrics.history_dropped.inc(dropped - before)
        await asyncio.sleep(TEND_S)
