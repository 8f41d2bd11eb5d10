"""The durable stream READINGS: its set-up, ordered reading from a given position, and what Tocsin publishes into it."""

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum, auto
from random import SystemRandom
from ssl import SSLContext
from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
    SubjectTransform,
)
from nats.js.errors import APIError, NotFoundError

from tocsin_cloud.settings import StreamSettings
from tocsin_core.clock import Clock

if TYPE_CHECKING:
    from nats.aio.subscription import Subscription

log = structlog.get_logger()
T = TypeVar("T")

STREAM: Final = "READINGS"
# The MQTT listener writes a dot inside a topic level as "//" (nats-server, MQTT topic mapping).
SPARKPLUG: Final = "spBv1//0"
HEARTBEAT_S: Final = 1.0
SILENT_S: Final = 3.5
TRUST_S: Final = 2 * HEARTBEAT_S
# A cluster that lost a leader has another one after 4 to 5 s (measured); one that starts takes longer.
PATIENCE_S: Final = 20.0
COMMAND_PATIENCE_S: Final = 8.0
AGAIN_S: Final = 0.5
CATCH_UP_S: Final = 5.0
API_TIMEOUT_S: Final = 2.0
# How often numbers that were left out are compared with what the stream still holds.
LOOK_S: Final = 5.0
# For a farewell to a server that may be hung.
LEAVE_S: Final = 1.0
# What nats-server answers: no leader at the moment, too few servers for the copies, not a cluster at all.
UNAVAILABLE: Final = 503
TOO_FEW_SERVERS: Final = 10005
NO_CLUSTER: Final = 10074
PENDING_MESSAGES: Final = 2_000_000
PENDING_BYTES: Final = 128 << 20
# Whoever takes works on all of it before anything else in the process goes on: births of so many bytes take 0.4 s.
TAKE_BYTES: Final = 4 << 20


def to_subject(topic: str) -> str:
    """The NATS subject of an MQTT topic that has no empty level."""
    return ".".join(level.replace(".", "//") for level in topic.split("/"))


def to_topic(subject: str) -> str:
    """The MQTT topic under which a message was published that the stream keeps under `subject`.

    `readings.<partition>.<group>.…` becomes `spBv1.0/<group>/…`; Tocsin's own subjects come back with slashes.
    """
    levels = subject.split(".")
    if levels[0] == "readings":
        levels[0:2] = [SPARKPLUG]
    return "/".join("" if level == "/" else level.replace("//", ".") for level in levels)


def subjects_of(site: str) -> tuple[str, ...]:
    """The stream's subjects that are `site`'s, where several sites share it."""
    return (f"readings.*.{to_subject(site)}.>", f"tocsin.*.{site}")


def is_data(topic: str) -> bool:
    """Whether a message of the stream is an edge node's: no host's state, no command, nothing of Tocsin's own."""
    match topic.split("/", 3):
        case ["tocsin", *_] | [_, "STATE", *_] | [_, _, "NCMD" | "DCMD", *_]:
            return False
    return True


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the stream: a message's sequence number, and its time stamp, which tells a rebuilt stream apart."""

    sequence: int
    time_ns: int


START: Final = Position(0, 0)


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the stream; `time_ns` is when the stream took it."""

    sequence: int
    time_ns: int
    topic: str
    payload: bytes


async def connect(url: str, name: str, tls: SSLContext | None = None, inbox: str = "_INBOX") -> Client:
    """Connect to the nats-server at `url`; the connection comes back by itself for as long as the process lives.

    `url` may name every server of a cluster, by commas: whichever answers will do. `tls` is for a `tls://` address.
    Answers come to subjects under `inbox`. Where nothing answers, this waits until something does.
    """

    async def on_error(error: Exception) -> None:
        log.warning("nats", client=name, error=str(error) or repr(error))

    async def on_disconnected() -> None:
        if not client.is_closed:
            log.warning("nats connection lost", client=name)

    async def on_reconnected() -> None:
        log.info("nats connection back", client=name)

    client = Client()
    servers = url.split(",")
    SystemRandom().shuffle(servers)
    try:
        await client.connect(
            servers,
            # Shuffled once: what a connection is lost to, or left for, is tried last, and never the same one at once.
            dont_randomize=True,
            name=name,
            error_cb=on_error,
            disconnected_cb=on_disconnected,
            reconnected_cb=on_reconnected,
            reconnect_time_wait=1,
            max_reconnect_attempts=-1,
            # A server that stands still is left for another one of the cluster after the third unanswered ping.
            ping_interval=2,
            tls=tls,
            inbox_prefix=inbox,
        )
    except asyncio.CancelledError:
        # The library leaves open what it has of a connection that is given up while it is made.
        with suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_S):
                await client.close()
        raise
    return client


async def ensure_stream(client: Client, settings: StreamSettings) -> None:
    """Create the stream, or bring an existing one's limits and copies up to date.

    A cluster that is electing, or whose servers have not all come yet, is waited for.

    Raises:
        nats.js.errors.APIError: the server refuses it (no room for `max_bytes`, other subjects, too few servers).
        nats.errors.Error: no server answers.
    """
    config = StreamConfig(
        name=STREAM,
        subjects=[f"{SPARKPLUG}.>", "tocsin.command.>", "tocsin.tick.>", "tocsin.computed.>"],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        max_age=settings.max_age_s,
        max_bytes=settings.max_bytes,
        subject_transform=SubjectTransform(
            src=f"{SPARKPLUG}.*.>", dest=f"readings.{{{{partition({settings.partitions},1)}}}}.{{{{wildcard(1)}}}}.>"
        ),
    )
    await ensure(client, config, settings.copies)


async def ensure(client: Client, config: StreamConfig, copies: int) -> None:
    """Create a stream in so many copies, of which a single server keeps one, or bring an existing one up to date.

    Raises:
        nats.errors.Error: as `ensure_stream`.
    """
    await _patiently(lambda: _ensure(client, replace(config, num_replicas=copies)), PATIENCE_S)


async def _ensure(client: Client, config: StreamConfig) -> None:
    manager = client.jsm(timeout=API_TIMEOUT_S)
    try:
        try:
            await manager.stream_info(str(config.name))
        except NotFoundError:
            await manager.add_stream(config)
        else:
            await manager.update_stream(config)
    except APIError as error:
        if error.err_code != NO_CLUSTER:
            raise
        await _ensure(client, replace(config, num_replicas=1))


async def _patiently(attempt: Callable[[], Awaitable[T]], patience_s: float) -> T:
    """Make the attempt again and again for `patience_s`, as long as what fails is a matter of time."""
    failed: Exception = NatsTimeoutError()
    try:
        async with asyncio.timeout(patience_s):
            while True:
                try:
                    return await attempt()
                except (NatsError, TimeoutError) as error:
                    if isinstance(error, APIError) and error.code != UNAVAILABLE and error.err_code != TOO_FEW_SERVERS:
                        raise
                    failed = error
                await asyncio.sleep(AGAIN_S)
    except TimeoutError:
        raise failed from None


@dataclass(frozen=True, slots=True)
class StreamFigures:
    """What the stream holds, how many bytes it may (0: no bound), and its last message's number."""

    messages: int
    bytes: int
    most_bytes: int
    last: int


async def stream_figures(client: Client) -> StreamFigures:
    """Ask the server what the stream holds.

    Raises:
        nats.errors.Error: it does not answer, or has no such stream.
    """
    found = await client.jsm().stream_info(STREAM)
    state = found.state
    return StreamFigures(state.messages, state.bytes, max(0, found.config.max_bytes or 0), state.last_seq)


class Kept(Enum):
    """What a stream has where a message was: that message, nothing any more, or another one (it was rebuilt)."""

    HELD = auto()
    TRIMMED = auto()
    ANOTHER = auto()


class Feed:
    """The stream's messages in order, each exactly once, from behind a given position.

    Bounded: the server sends no more than its flow-control window until what came before was taken. A lost
    connection, a restarted server or a missing message all end in a new consumer from the last message taken.
    """

    def __init__(
        self,
        client: Client,
        start: Position,
        clock: Clock,
        subjects: Sequence[str] = (),
        on_dropped: Callable[[int], object] = lambda _: None,
        known: Position = START,
    ) -> None:
        """Read behind `start`, only messages under `subjects` if any are given; nothing happens before `take`.

        What comes up to `known` was read before, by an earlier feed (`repeats`).

        `on_dropped` is told how many messages the stream dropped before they were taken. Under `subjects` that is at
        most: numbers are left out there at any time, and those that the stream no longer holds a few seconds later
        may have been others'.
        """
        self._client = client
        self._on_dropped = on_dropped
        self._clock = clock
        self._subjects = list(subjects)
        self._last = start
        self._known = known
        self._waiting: deque[Msg] = deque()
        self._arrived = asyncio.Event()
        self._subscription: Subscription | None = None
        # How often the client had come back to a server when the consumer was made.
        self._reconnects = 0
        self._consumer_sequence = 0
        # Whether the next message taken has the number after the last one's, where nothing was dropped.
        self._numbered_on = False
        # The stream's first message when last asked, and up to which one nothing is to come or to be told any more.
        self._first = self._settled = 0
        # Under subjects: the numbers left out since the stream was last asked, as those before and the last of them.
        self._left_out: list[tuple[int, int]] = []
        self._ask_at = 0.0
        self._heard = 0.0
        self._taken_at = 0.0
        self._caught_up = False
        self._reached = False
        # What the stream was seen to hold, and so everything before it by its numbers alone.
        self._held: Position | None = None
        self._behind_since: float | None = None
        self.pending = 0  # messages in the stream behind the last one taken
        self.restarts = 0

    @property
    def position(self) -> Position:
        """The last message taken."""
        return self._last

    @property
    def idle(self) -> bool:
        """Whether there is nothing more to take: the stream's end as far as the server told, or the last `until`.

        What a server told that has fallen silent since is not believed: it may have died, and the stream gone on.
        """
        fresh = self._clock.monotonic() - self._heard < TRUST_S
        told = self._caught_up and fresh and not self._waiting
        return self._subscription is not None and (self._reached or told)

    async def take(
        self, most: int, timeout_s: float, until: Position | None = None, gather_s: float = 0.0
    ) -> list[Message]:
        """The next messages, at most `most` and none behind `until`.

        An empty list when none came within `timeout_s`. Those that come within `gather_s` after the last were taken are
        taken together: what is done once for all of them costs more than a message.
        """
        deadline = self._clock.monotonic() + timeout_s
        self._reached = False
        while True:
            if self._subscription is None and not await self._restarted():
                await asyncio.sleep(min(0.2, timeout_s))
            if 0 < len(self._waiting) < most:
                await asyncio.sleep(min(self._taken_at + gather_s, deadline) - self._clock.monotonic())
            taken = await self._drain(most, until)
            if self._left_out:
                await self._ask_for_left_out()
            now = self._clock.monotonic()
            if taken:
                self._taken_at = now
            left = deadline - now
            if taken or left <= 0 or (until is not None and self.idle):
                return taken
            if self._subscription is not None and (lost := self._lost()) is not None:
                await self._drop(lost)
                continue
            self._arrived.clear()
            if not self._waiting:
                try:
                    async with asyncio.timeout(min(left, HEARTBEAT_S)):
                        await self._arrived.wait()
                except TimeoutError:
                    continue

    def _lost(self) -> str | None:
        """Why nothing more is expected of the consumer; None where something is."""
        if self._client.stats["reconnects"] != self._reconnects:
            # It is in the memory of one server, which may have died: to find out by its silence takes seconds.
            return "reconnected"
        return "silent" if self._clock.monotonic() - self._heard > SILENT_S else None

    def repeats(self, message: Message) -> bool:
        """Whether a message that was taken had been read before this feed began."""
        return not self._is_behind(message.sequence, message.time_ns, self._known)

    async def skip_to(self, position: Position) -> None:
        """Read on behind `position`; what was told to be dropped is not told again."""
        await self._drop(None)
        self._last = position

    async def close(self) -> None:
        """Stop reading."""
        await self._drop(None)

    async def _on_message(self, message: Msg) -> None:
        self._waiting.append(message)
        self._heard = self._clock.monotonic()
        self._arrived.set()

    async def _drain(self, most: int, until: Position | None) -> list[Message]:
        taken: list[Message] = []
        size, waiting = 0, self._waiting
        while waiting and len(taken) < most and size < TAKE_BYTES:
            message = waiting[0]
            if not message.reply.startswith("$JS.ACK."):
                waiting.popleft()
                await self._control(message)
                continue
            # $JS.ACK.<stream>.<consumer>.<delivered>.<sequence>.<consumer sequence>.<time>.<pending>
            fields = message.reply.split(".")[-5:]
            if until is not None and self._is_behind(int(fields[1]), int(fields[3]), until):
                self._reached = True
                break
            waiting.popleft()
            if int(fields[2]) != self._consumer_sequence + 1:
                await self._drop("gap")
                break
            self._consumer_sequence += 1
            self.pending = int(fields[4])
            self._caught_up = self.pending == 0
            sequence, time_ns = int(fields[1]), int(fields[3])
            if self._subjects:
                self._leave_out(sequence - 1)
                self._settled = sequence
            elif self._numbered_on:
                self._missed(sequence)
            self._numbered_on = True
            self._last = Position(sequence, time_ns)
            taken.append(Message(sequence, time_ns, to_topic(message.subject), message.data))
            size += len(message.data)
        return taken

    def _is_behind(self, sequence: int, time_ns: int, until: Position) -> bool:
        """Whether a message comes after `until`: by its number, or by its time where `until` may be of another stream.

        In one stream times may go back: the server's clock was set back, or another server leads.
        """
        return sequence > until.sequence or (time_ns > until.time_ns and until != self._held)

    async def _control(self, message: Msg) -> None:
        # A flow-control request is answered only when everything sent before it was taken: that is the back-pressure.
        stalled = (message.headers or {}).get("Nats-Consumer-Stalled")
        for reply in (message.reply, stalled):
            if reply:
                await self._client.publish(reply)
        expected = (message.headers or {}).get("Nats-Last-Consumer")
        if expected is None:
            return
        if int(expected) != self._consumer_sequence:
            await self._drop("gap")
        elif stalled is None:
            # The server has nothing more to send, or it would not be idle.
            self._caught_up = True
            if self._subjects:
                self._leave_out(int((message.headers or {}).get("Nats-Last-Stream", 0)))

    async def _drop(self, reason: str | None) -> None:
        subscription, self._subscription = self._subscription, None
        self._waiting.clear()
        if reason is not None:
            log.warning("stream consumer is made anew", reason=reason, position=self._last.sequence)
        if subscription is not None and not self._client.is_closed:
            await subscription.unsubscribe()

    async def _restarted(self) -> bool:
        if not self._client.is_connected:
            return False
        inbox, self._reconnects = self._client.new_inbox(), self._client.stats["reconnects"]
        try:
            config = await self._behind_last()
            config.deliver_subject = inbox
            subscription = await self._client.subscribe(
                inbox, cb=self._on_message, pending_msgs_limit=PENDING_MESSAGES, pending_bytes_limit=PENDING_BYTES
            )
            self._waiting.clear()
            self._consumer_sequence = 0
            self._caught_up = False
            self._heard = self._clock.monotonic()
            self._subscription = subscription
            await self._client.jsm(timeout=API_TIMEOUT_S).add_consumer(STREAM, config)
        except (NatsError, TimeoutError, OSError) as error:
            await self._drop(f"cannot start: {error!r}")
            return False
        self.restarts += 1
        return True

    async def _behind_last(self) -> ConsumerConfig:
        config = ConsumerConfig(
            ack_policy=AckPolicy.NONE,
            flow_control=True,
            idle_heartbeat=HEARTBEAT_S,
            inactive_threshold=30.0,
            mem_storage=True,
            num_replicas=1,
            max_deliver=1,
            filter_subjects=self._subjects or None,
        )
        if self._last.sequence < self._known.sequence and await self._kept(self._known, patient=False) is Kept.HELD:
            self._held = self._known
        if self._last.sequence == 0:
            config.deliver_policy = DeliverPolicy.ALL
        elif await self._kept(self._last) is Kept.ANOTHER:
            # Numbers of a lost or rebuilt stream mean nothing any more; its time stamps still do.
            log.error("the stream was rebuilt: reading on by time", position=self._last.sequence)
            self._numbered_on, self._settled, self._held = False, 0, None
            self._left_out.clear()
            config.deliver_policy = DeliverPolicy.BY_START_TIME
            config.opt_start_time = datetime.fromtimestamp((self._last.time_ns // 1000 + 1) / 1e6, tz=UTC)
        else:
            self._missed(self._first)
            self._numbered_on = True
            config.deliver_policy = DeliverPolicy.BY_START_SEQUENCE
            config.opt_start_seq = self._last.sequence + 1
        return config

    def _missed(self, reached: int) -> None:
        """Tell of what the stream dropped between the last message taken and number `reached`."""
        dropped = reached - 1 - max(self._last.sequence, self._settled)
        if dropped > 0:
            self._settled = reached - 1
            self._tell_dropped(dropped)

    def _tell_dropped(self, messages: int) -> None:
        at, at_most = self._last.sequence, bool(self._subjects)
        log.error("the stream dropped messages before they were read", after=at, messages=messages, at_most=at_most)
        self._on_dropped(messages)

    def _leave_out(self, upto: int) -> None:
        """Note that the server has looked at all up to number `upto`, and had nothing to send since it last told."""
        if upto > self._settled:
            if self._numbered_on:
                self._left_out.append((self._settled, upto))
            self._settled = upto

    async def _ask_for_left_out(self) -> None:
        """Now and then tell of what was left out that the stream does not hold: it was dropped, or others' and was.

        Whoever reads what came a moment ago is not told of others' messages, unless the stream holds no more than that.
        """
        now = self._clock.monotonic()
        if now < self._ask_at:
            return
        self._ask_at = now + LOOK_S
        try:
            first = (await self._client.jsm(timeout=API_TIMEOUT_S).stream_info(STREAM)).state.first_seq
        except (NatsError, TimeoutError, OSError) as error:
            log.warning("the stream does not say what it holds", position=self._last.sequence, error=repr(error))
            return
        left_out, self._left_out = self._left_out, []
        dropped = sum(max(0, min(upto, first - 1) - before) for before, upto in left_out)
        if dropped:
            self._tell_dropped(dropped)

    async def holds(self, position: Position) -> bool:
        """Whether the stream holds the message at `position`, or will not say now; then this feed is not `idle`.

        A server of a cluster that is itself behind sends all it has, and tells that this was all: its leader knows.
        """
        try:
            held = await self._kept(position) is Kept.HELD
            self._held = position if held else None
        except (NatsError, TimeoutError, OSError) as error:
            log.warning("the stream does not say what it holds", position=position.sequence, error=repr(error))
            held = True
        if held:
            self._caught_up = False
        return held

    async def _kept(self, position: Position, *, patient: bool = True) -> Kept:
        """What the stream's leader has at `position`, a message's; who is not `patient` is told how it looks just now.

        Raises:
            nats.errors.Error: it does not answer, or it is too early to tell.
        """
        manager = self._client.jsm(timeout=API_TIMEOUT_S)
        found = await manager.stream_info(STREAM)
        state = found.state
        self._first = state.first_seq
        if state.last_seq < position.sequence:
            if patient and (found.config.num_replicas or 1) > 1:
                self._give_time(position)
            return Kept.ANOTHER
        self._behind_since = None
        if state.first_seq > position.sequence:
            return Kept.TRIMMED
        try:
            kept = await manager.get_msg(STREAM, seq=position.sequence)
        except NotFoundError:
            return Kept.TRIMMED
        # The client rounds to 1 µs.
        same = kept.time is None or abs(kept.time.timestamp() - position.time_ns / 1e9) <= 1e-3  # noqa: PLR2004
        return Kept.HELD if same else Kept.ANOTHER

    def _give_time(self, position: Position) -> None:
        """Wait until a cluster's stream is sure to end before `position`: a new leader may not show yet all it holds.

        Raises:
            nats.errors.Error: it is too early to tell.
        """
        now = self._clock.monotonic()
        self._behind_since = self._behind_since or now
        if now - self._behind_since < CATCH_UP_S:
            raise NatsError(f"the stream's new leader is still behind message {position.sequence}")
        self._behind_since = None


async def publish_tick(client: Client, site: str) -> None:
    """Put a tick of `site` into the stream; without an id: one of before the clock was set back would count.

    Raises:
        nats.errors.Error: the stream did not take it.
    """
    await client.jetstream().publish(f"tocsin.tick.{site}", b"", timeout=2.0)


async def publish_computed(client: Client, site: str, body: bytes) -> None:
    """Put readings of computed points of `site` into the stream.

    Raises:
        nats.errors.Error: the stream did not take them.
    """
    await client.jetstream().publish(f"tocsin.computed.{site}", body, timeout=2.0)


async def publish_command(client: Client, site: str, command: Mapping[str, Any]) -> int:
    """Put a person's command into the stream; returns its sequence number. Sent twice (same `id`), it is kept once.

    While a cluster has no leader it is sent again and again.

    Raises:
        nats.errors.Error: the stream did not take it.
    """
    body = json.dumps(command, ensure_ascii=False).encode()
    headers = {"Nats-Msg-Id": str(command["id"])}
    subject = f"tocsin.command.{site}"
    ack = await _patiently(
        lambda: client.jetstream().publish(subject, body, headers=headers, timeout=2.0), COMMAND_PATIENCE_S
    )
    return ack.seq


async def publish_event(client: Client, kind: str, body: object) -> None:
    """Tell listeners (the API) of something that is already committed; not stored, lost where nobody listens."""
    await client.publish(f"tocsin.event.{kind}", json.dumps(body, ensure_ascii=False, allow_nan=False).encode())
