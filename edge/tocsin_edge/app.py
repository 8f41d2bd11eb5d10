"""One gateway, wired in a straight line and taken down in reverse."""

import asyncio
import signal
from contextlib import AsyncExitStack
from typing import Final, NamedTuple

import structlog

from tocsin_core.clock import Clock
from tocsin_edge.adapters.alarm_state import read_alarm_state
from tocsin_edge.adapters.clock_sync import clock_sync
from tocsin_edge.adapters.folder_lock import held
from tocsin_edge.adapters.memory import keep
from tocsin_edge.adapters.service_manager import ServiceManager
from tocsin_edge.adapters.spool import Spool
from tocsin_edge.adapters.steady_clock import SteadyClock
from tocsin_edge.adapters.uplink_settings import UplinkSettings, read_uplink_settings
from tocsin_edge.api import answering
from tocsin_edge.loops.alarm_restore import last_stamp_ns, resume
from tocsin_edge.loops.board import Board
from tocsin_edge.loops.by_exception import Reporter
from tocsin_edge.loops.clock_watch import ClockWatch
from tocsin_edge.loops.inputs import Inputs, with_known_devices
from tocsin_edge.loops.journal_feed import JournalFeed
from tocsin_edge.loops.keep import Keeper
from tocsin_edge.loops.local_alarms import LocalAlarms
from tocsin_edge.loops.managed import TRIAL_S, Managed
from tocsin_edge.loops.self_report import SelfReport
from tocsin_edge.loops.send import Sender
from tocsin_edge.loops.spool_thread import SpoolThread
from tocsin_edge.loops.spool_watch import SpoolWatch
from tocsin_edge.loops.tally import Tally
from tocsin_edge.loops.trial import Before
from tocsin_edge.loops.watchdog import Progress, Watchdog, witnesses_of
from tocsin_edge.settings import EdgeSettings

NS_PER_MS: Final = 1_000_000

log = structlog.get_logger()


async def run(
    settings: EdgeSettings,
    clock: Clock,
    stop: asyncio.Event,
    manager: ServiceManager | None = None,
    metrics_at: str | None = None,
    trial_s: float = TRIAL_S,
) -> dict[str, int]:
    """Run the gateway until `stop`: then the polls end first, what they read is kept and sent, and the node dies.

    `manager` is told how it goes; `metrics_at`: where on the network its figures can be had, beside the socket in its
    folder; `trial_s`: how long a version that comes from the cloud side may take to show that it works. Returns the
    spool's counters as they are then.

    Raises:
        OSError, sqlite3.Error: the spool cannot be opened, another gateway holds it, or `metrics_at` cannot be had.
        ValueError: `metrics_at` is no address.
        UplinkSettingsError: `uplink.yaml` beside the spool cannot be obeyed.
        TrustError: the cloud side's key beside the spool is none.
    """
    name, folder = settings.gateway.id, settings.spool.parent
    async with AsyncExitStack() as stack:
        stack.enter_context(held(folder))
        uplink = read_uplink_settings(folder)
        managed = Managed.of(settings, clock, trial_s)
        settings = settings if managed is None else managed.settings
        steady = SteadyClock(clock)
        spool = _spool(settings, steady)
        steady.go_on_from(last_stamp_ns(settings, spool))
        thread = SpoolThread(spool, steady)
        stack.callback(thread.close)
        parts = _wire(settings, uplink, managed, thread, steady, clock)
        stack.callback(parts.inputs.close)
        manager = manager or ServiceManager()
        watchdog = Watchdog(manager, parts.progress, parts.report.line)
        await stack.enter_async_context(answering(parts.report, parts.alarms, folder, metrics_at))
        before = spool.counters()
        log.info("gateway starts", gateway=name, devices=len(settings.devices), **before)
        # Those of the next version are not to come on top of these.
        del settings
        keep()
        async with asyncio.TaskGroup() as outward:
            outward.create_task(parts.sender.run(), name="send")
            keeping = outward.create_task(parts.keeper.run(), name="keep")
            async with asyncio.TaskGroup() as inward:
                tasks = _start_inward(inward, parts, watchdog, managed, trial_s)
                manager.ready()
                await stop.wait()
                manager.stopping()
                for task in tasks:
                    task.cancel()
                parts.inputs.cancel()
            parts.alarms.end()
            parts.keeper.close()
            await keeping
            await parts.alarms.save()
            parts.sender.close()
        counters = await thread.attempt(before, spool.counters)
        log.info("gateway ends", gateway=name, **counters)
        return counters


def _spool(settings: EdgeSettings, clock: Clock) -> Spool:
    keep = settings.gateway.spool
    return Spool.open(settings.spool, keep.max_mb, keep.keep_after_commit_s, clock.now_ns() // NS_PER_MS)


def stop_on_signals(stop: asyncio.Event) -> None:
    """Let SIGTERM and SIGINT set `stop`."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


class _Parts(NamedTuple):
    """What a gateway is made of; most of it knows the settings, and goes on when they change."""

    clock: Clock
    thread: SpoolThread
    board: Board
    alarms: LocalAlarms
    sender: Sender
    keeper: Keeper
    watch: ClockWatch
    tally: Tally
    reporter: Reporter
    inputs: Inputs
    progress: Progress
    report: SelfReport
    changing: asyncio.Lock

    async def adopt(self, changed: EdgeSettings) -> None:
        """Go on under other settings; returns when everything reads and sends under them."""
        async with self.changing:
            await self._adopt(changed)

    async def let_go(self) -> None:
        """Go on without the outputs that have left."""
        async with self.changing:
            await self._read_on(self.inputs.settings)

    async def _adopt(self, changed: EdgeSettings) -> None:
        keep = changed.gateway.spool
        await self.thread.attempt(None, self.thread.spool.resize, keep.max_mb, keep.keep_after_commit_s)
        settings = with_known_devices(self.inputs.settings, changed)
        await self.alarms.leaving.expect(settings.gateway.outputs)
        # Nothing waits from here until all know the same devices.
        self.alarms.adopt(settings)
        devices = [device.sparkplug for device in settings.devices]
        self.board.adopt(devices, self.clock.now_ns() // NS_PER_MS)
        self.tally.adopt(settings.devices)
        self.reporter.adopt(settings.devices)
        self.sender.adopt(settings)
        await self._read_on(settings)

    async def _read_on(self, settings: EdgeSettings) -> None:
        await self.inputs.adopt(settings, self.alarms.chores)
        self.progress.adopt(witnesses_of(settings, self.inputs.pollers, self.tally))


def _wire(
    settings: EdgeSettings,
    uplink: UplinkSettings,
    managed: Managed | None,
    thread: SpoolThread,
    clock: SteadyClock,
    machine: Clock,
) -> _Parts:
    board = Board(tuple(device.sparkplug for device in settings.devices), clock.now_ns() // NS_PER_MS)
    # The alarms, as they were when the gateway ended: before anybody counts on from the spool's numbers.
    resumed = resume(settings.alarms, read_alarm_state(settings.spool.parent), thread.spool, clock.now_ns())
    journal = JournalFeed(thread)
    alarms = LocalAlarms(settings, resumed, clock, journal)
    on_slice = _ignored if managed is None else managed.take
    sender = Sender(settings, uplink, journal, board, clock, on_slice, alarms.order, alarms.name)
    watch = ClockWatch(machine, board, clock_sync, sender.on_clock)
    tally = Tally(settings.devices, clock)
    on_kept = tally.before_kept(sender.on_kept)
    keeper = Keeper(journal, board, clock, alarms.take, alarms.known, on_kept, sender.on_lost, sender.on_back)
    alarms.wake = keeper.wake
    reporter = Reporter(settings.devices, tally.before_keeping(keeper.put))
    inputs = Inputs(settings, clock, tally.before(alarms.before(reporter.put)), alarms.chores)
    spool_watch = SpoolWatch(settings.spool, thread, keeper, clock)
    progress = Progress(witnesses_of(settings, inputs.pollers, tally), clock)
    report = SelfReport(inputs, clock, board, tally, spool_watch, progress, alarms, managed)
    return _Parts(
        clock,
        thread,
        board,
        alarms,
        sender,
        keeper,
        watch,
        tally,
        reporter,
        inputs,
        progress,
        report,
        asyncio.Lock(),
    )


def _start_inward(
    inward: asyncio.TaskGroup, parts: _Parts, watchdog: Watchdog, managed: Managed | None, trial_s: float
) -> list[asyncio.Task[None]]:
    """Start what reads and decides; returns what is to be cancelled beside the inputs."""
    parts.inputs.start(inward)
    looking = (parts.alarms, parts.watch, parts.report.spool, watchdog)
    tasks = [inward.create_task(looks.run(), name=type(looks).__name__) for looks in looking]
    tasks.append(inward.create_task(parts.alarms.leaving.run(parts.let_go), name="outputs leaving"))
    if managed is not None:
        parts.sender.tell_standing(managed.standing.to_text())
        tasks.append(inward.create_task(_manage(managed, parts, trial_s), name="manage"))
    return tasks


async def _manage(managed: Managed, parts: _Parts, trial_s: float) -> None:
    def watch(after: EdgeSettings) -> Before:
        return Before(parts.report, after, lambda: parts.sender.connected_to, trial_s)

    await managed.run(parts.adopt, watch, parts.alarms.settle, parts.sender.tell_standing)


def _ignored(_: bytes) -> None:
    """Take no slice: the gateway trusts nobody who could send one."""
