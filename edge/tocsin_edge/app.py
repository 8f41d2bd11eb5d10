"""One gateway, wired in a straight line and taken down in reverse."""

import asyncio
import gc
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import structlog

from tocsin_core.clock import Clock
from tocsin_edge.adapters.clock_sync import clock_sync
from tocsin_edge.adapters.folder_lock import held
from tocsin_edge.adapters.service_manager import ServiceManager
from tocsin_edge.adapters.spool import Spool
from tocsin_edge.adapters.uplink_settings import read_uplink_settings
from tocsin_edge.api import answering
from tocsin_edge.loops.board import Board
from tocsin_edge.loops.by_exception import Reporter
from tocsin_edge.loops.clock_watch import ClockWatch
from tocsin_edge.loops.keep import Keeper
from tocsin_edge.loops.listen import Listener
from tocsin_edge.loops.poll import Poller, pollers_of
from tocsin_edge.loops.self_report import SelfReport
from tocsin_edge.loops.send import Sender
from tocsin_edge.loops.spool_thread import SpoolThread
from tocsin_edge.loops.spool_watch import SpoolWatch
from tocsin_edge.loops.tally import Tally
from tocsin_edge.loops.watchdog import Progress, SpoolPulse, Watchdog, witnesses_of
from tocsin_edge.settings import EdgeSettings

NS_PER_MS: Final = 1_000_000

log = structlog.get_logger()


async def run(
    settings: EdgeSettings,
    clock: Clock,
    stop: asyncio.Event,
    manager: ServiceManager | None = None,
    metrics_at: str | None = None,
) -> dict[str, int]:
    """Run the gateway until `stop`: then the polls end first, what they read is kept and sent, and the node dies.

    `manager` is told how it goes; `metrics_at`: where on the network its figures can be had, beside the socket in its
    folder. Returns the spool's counters as they are then.

    Raises:
        OSError, sqlite3.Error: the spool cannot be opened, another gateway holds it, or `metrics_at` cannot be had.
        ValueError: `metrics_at` is no address.
        UplinkSettingsError: `uplink.yaml` beside the spool cannot be obeyed.
    """
    async with AsyncExitStack() as stack:
        now_ms = clock.now_ns() // NS_PER_MS
        stack.enter_context(held(settings.spool.parent))
        uplink = read_uplink_settings(settings.spool.parent)
        keep = settings.gateway.spool
        spool = Spool.open(settings.spool, keep.max_mb, keep.keep_after_commit_s, now_ms)
        thread = SpoolThread(spool, clock)
        stack.callback(thread.close)
        board = Board(tuple(device.sparkplug for device in settings.devices), now_ms)
        sender = Sender(settings, uplink, thread, board, clock)
        watch = ClockWatch(clock, board, clock_sync, sender.on_clock)
        tally = Tally(settings.devices, clock)
        keeper = Keeper(thread, board, clock, tally.before_kept(sender.on_kept), sender.on_lost, sender.on_back)
        put = tally.before(Reporter(settings.devices, tally.before_keeping(keeper.put)).put)
        pollers = pollers_of(settings, clock, put)
        listener = Listener.of(settings, clock, put)
        for poller in pollers:
            stack.callback(poller.close)
        pulse, spool_watch = SpoolPulse(thread), SpoolWatch(settings.spool, thread, keeper, clock)
        progress = Progress(witnesses_of(settings, pollers, tally, pulse), clock)
        report = SelfReport(settings, clock, board, tally, pollers, listener, spool_watch, progress)
        manager = manager or ServiceManager()
        watchdog = Watchdog(manager, progress, report.line)
        await stack.enter_async_context(answering(report, settings.spool.parent, metrics_at))
        before = spool.counters()
        log.info("gateway starts", gateway=settings.gateway.id, devices=len(settings.devices), **before)
        # What was loaded stays: no later collection need look through it.
        gc.collect()
        gc.freeze()
        async with asyncio.TaskGroup() as outward:
            outward.create_task(sender.run(), name="send")
            keeping = outward.create_task(keeper.run(), name="keep")
            async with asyncio.TaskGroup() as inward:
                tasks = _start_inputs(inward, pollers, listener, settings.spool.parent / "broker")
                for looks in (watch, pulse, spool_watch, watchdog):
                    tasks.append(inward.create_task(looks.run(), name=type(looks).__name__))
                manager.ready()
                await stop.wait()
                manager.stopping()
                for task in tasks:
                    task.cancel()
            keeper.close()
            await keeping
            sender.close()
        counters = await thread.attempt(before, spool.counters)
        log.info("gateway ends", gateway=settings.gateway.id, **counters)
        return counters


def stop_on_signals(stop: asyncio.Event) -> None:
    """Let SIGTERM and SIGINT set `stop`."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


def _start_inputs(
    group: asyncio.TaskGroup, pollers: list[Poller], listener: Listener, folder: Path
) -> list[asyncio.Task[None]]:
    tasks = [group.create_task(poller.run(), name=f"poll {poller.name}") for poller in pollers]
    return tasks + [group.create_task(job, name=name) for name, job in listener.jobs(folder)]
