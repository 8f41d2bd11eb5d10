"""The send loop: connects again and again, each time with the next bdSeq, and hands over what was kept."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from itertools import chain, repeat
from random import SystemRandom
from typing import Final

import structlog

from tocsin_core.clock import Clock
from tocsin_core.plant.model import UplinkBroker
from tocsin_core.sparkplug import EdgeSession, Message
from tocsin_edge.adapters.uplink import NotReachedError, Uplink, UplinkError
from tocsin_edge.adapters.uplink_settings import UplinkSettings
from tocsin_edge.loops.board import Board
from tocsin_edge.loops.journal_feed import JournalFeed
from tocsin_edge.loops.keep import Kept
from tocsin_edge.loops.primary import PrimaryHost
from tocsin_edge.loops.reconnect import Reconnect
from tocsin_edge.loops.send_connection import Connection
from tocsin_edge.settings import EdgeSettings

NS_PER_MS: Final = 1_000_000
# A connection that stood for so long was a good one: after its end the first wait is short again.
STOOD_S: Final = 10.0
BD_SEQ_MODULUS: Final = 256
# A server of a cluster may refuse what it can grant as soon as it has a leader again.
ASK_AGAIN_S: Final = 10.0
# A server that did not tell a host's STATE, as it changed just then, knows it a moment later; or the network was slow.
ASK_STATES_S: Final = (1.0, 2.0, 5.0)

log = structlog.get_logger()
_random = SystemRandom()


class Sender:
    """Everything between the spool and the broker; `run` connects again and again until `close`."""

    def __init__(
        self,
        settings: EdgeSettings,
        uplink: UplinkSettings,
        journal: JournalFeed,
        board: Board,
        clock: Clock,
        on_slice: Callable[[bytes], None],
        on_order: Callable[[bytes], None],
        on_known: Callable[[bytes], None],
    ) -> None:
        """Wire only; what the cloud side sends goes to those that `Connection.hear` tells of."""
        self._hearing = on_slice, on_order, on_known
        self._settings = settings
        self._uplink = uplink
        self._journal = journal
        self._thread = journal.thread
        self._board = board
        self._clock = clock
        devices = tuple(device.sparkplug for device in settings.devices)
        self._session = EdgeSession(settings.site, settings.gateway.id, devices)
        self._primary = PrimaryHost(required=uplink.primary_host is not None)
        self._counters = journal.thread.spool.counters()
        self._wake = asyncio.Event()
        journal.on_news = self._wake.set
        self._stopping = asyncio.Event()
        self._leaving = asyncio.Event()
        self._connection: Connection | None = None
        self._broker: UplinkBroker | None = None
        # How many servers were tried since the broker is this one: it tells which one is next.
        self._tried = 0
        self._spare_bd_seq: int | None = None

    def on_kept(self, kept: list[Kept]) -> None:
        """Take batches that have just been kept; without a connection they wait in the spool."""
        self._counters["batch_last"] = kept[-1].number
        if self._connection is not None:
            self._connection.fresh(kept)

    def on_lost(self) -> None:
        """Take note that the spool gave up batches that were not committed: the host must not wait for them."""
        if self._connection is not None:
            self._connection.gave_up()

    def on_back(self) -> None:
        """Take note that batches which went out unkept are in the spool now: they go the way of history."""
        if self._connection is not None:
            self._connection.send_again()

    @property
    def connected_to(self) -> UplinkBroker | None:
        """The broker to which the connection stands, None where there is no connection."""
        return self._broker

    def adopt(self, settings: EdgeSettings) -> None:
        """Go on under other settings: born anew at the same broker, or connected to another."""
        moved = settings.gateway.uplink != self._settings.gateway.uplink
        self._settings = settings
        self._session = self._session.with_devices([device.sparkplug for device in settings.devices])
        if self._connection is not None:
            self._connection.adopt(self._session)
        if moved:
            self._leaving.set()
            self._wake.set()

    def tell_standing(self, standing: str) -> None:
        """Tell the host, now and in every birth, which slice of the plant is in force (`managed.Standing`)."""
        self._board.standing = standing
        if self._connection is not None:
            self._connection.standing_changed()

    def on_clock(self) -> None:
        """Take note that the state of the clock is another."""
        if self._connection is not None:
            self._connection.clock_changed()

    def close(self) -> None:
        """Flush what the broker takes within 2 s, die properly, and let `run` return."""
        self._stopping.set()
        self._leaving.set()
        self._wake.set()

    async def run(self) -> None:
        """Keep a connection up until `close`."""
        reconnect = Reconnect(self._clock.monotonic())
        while not self._stopping.is_set():
            self._leaving.clear()
            started, broker = self._clock.monotonic(), self._settings.gateway.uplink
            try:
                await self._connected()
            except* UplinkError as group:
                self._board.certificate = ended = self._uplink.ended(self._clock.now_ns())
                reasons = [*sorted({str(e) for e in _leaves(group)}), *([ended] if ended else [])]
                log.warning("uplink lost", reason="; ".join(reasons))
            finally:
                self._connection = self._broker = self._board.broker = None
                self._board.unheard = ()
            # Whatever ended it, the next server of a cluster may do better.
            self._tried = self._tried + 1 if self._settings.gateway.uplink == broker else 0
            now = self._clock.monotonic()
            if now - started > STOOD_S:
                reconnect.was_good(now)
            with suppress(TimeoutError):
                async with asyncio.timeout(reconnect.wait_s(now, _random.random)):
                    await self._leaving.wait()

    async def _connected(self) -> None:
        """Connect with the next bdSeq, and send until the end.

        Sparkplug 3.0 counts CONNECT packets. An attempt that sent none gives its number back. One that was not answered
        does not: a broker may have taken it, and publish its will when a later session has long been born.
        """
        bd_seq, self._spare_bd_seq = self._spare_bd_seq, None
        if bd_seq is None:
            in_memory = (self._counters["bd_seq"] + 1) % BD_SEQ_MODULUS
            bd_seq = await self._thread.attempt(in_memory, self._thread.spool.next_bd_seq)
            self._counters["bd_seq"] = bd_seq
        try:
            await self._send_until_the_end(self._session.will(bd_seq, self._now_ms()))
        except NotReachedError:
            self._spare_bd_seq = bd_seq
            raise

    async def _send_until_the_end(self, will: Message) -> None:
        gateway = self._settings.gateway
        servers = gateway.uplink.servers
        server = servers[self._tried % len(servers)]
        named, topic = (self._settings.site, gateway.id), self._session.command_topic
        async with Uplink.connect(server, named, will, topic, self._uplink) as uplink:
            log.info("uplink connected", host=server.host, port=server.port, tls=uplink.encrypted)
            counters = await self._thread.attempt(self._counters, self._thread.spool.counters)
            # What is written and not synced yet is still to come; and numbers may be given out that no disk took.
            self._counters = counters | {"batch_last": self._counters["batch_last"]}
            address = f"{server.host}:{server.port}"
            self._primary.connected(address)
            self._board.host_trouble = self._primary.trouble
            connection = Connection(
                uplink,
                self._session,
                self._journal,
                self._board,
                self._clock,
                self._primary,
                self._wake,
                self._counters,
            )
            connection.walks = len(servers) > 1
            self._connection, self._broker, self._board.broker = connection, gateway.uplink, address
            async with asyncio.TaskGroup() as tasks:
                hearing = tasks.create_task(connection.hear(*self._hearing), name="commands")
                asking = tasks.create_task(self._insist(uplink), name="subscriptions")
                states = tasks.create_task(self._ask_states(uplink), name="states")
                await connection.run(self._leaving, tasks)
                for task in (hearing, asking, states):
                    task.cancel()

    async def _insist(self, uplink: Uplink) -> None:
        """Ask again for what the broker refuses to tell until it does; all is sent meanwhile, and nobody is heard."""
        while uplink.refused:
            if uplink.refused != self._board.unheard:
                log.critical("the broker does not let the gateway hear", topics=uplink.refused)
            self._board.unheard = uplink.refused
            await asyncio.sleep(ASK_AGAIN_S)
            # Behind a large message on a narrow link the answer comes too late; that nobody answers shows elsewhere.
            with suppress(UplinkError):
                await uplink.ask()
        self._board.unheard = ()

    async def _ask_states(self, uplink: Uplink) -> None:
        """Ask again how the hosts are: once in any case, and as long as the primary host is missing."""
        for pause_s in chain(ASK_STATES_S, repeat(ASK_AGAIN_S)):
            await asyncio.sleep(pause_s)
            with suppress(UplinkError):
                await uplink.ask_states()
            if not self._primary.is_missing():
                return

    def _now_ms(self) -> int:
        return self._clock.now_ns() // NS_PER_MS


def _leaves(group: BaseExceptionGroup[UplinkError]) -> list[BaseException]:
    return [
        leaf
        for error in group.exceptions
        for leaf in (_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]
