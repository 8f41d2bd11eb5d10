"""What reads the plant's instruments, and goes from one version of the settings to the next without losing a period."""

import asyncio
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Final

import structlog

from tocsin_core.clock import Clock
from tocsin_core.plant.model import SensorBroker
from tocsin_edge.loops.chores import Chore
from tocsin_edge.loops.keep import Sample
from tocsin_edge.loops.listen import Job, Listener
from tocsin_edge.loops.poll import Holes, OnLine, Poller, grid_of, lines_of, poller_of
from tocsin_edge.settings import EdgeSettings

# A broker that does not answer within this time gives no reason to listen to the former one any longer.
HANDOVER_S: Final = 5.0

log = structlog.get_logger()


def with_known_devices(before: EdgeSettings, after: EdgeSettings) -> EdgeSettings:
    """The settings `after` with the very devices of `before` where they are equal: readings tell theirs by identity."""
    known = {device.id: device for device in before.devices}
    return replace(
        after,
        devices=tuple(known[each.id] if known.get(each.id) == each else each for each in after.devices),
    )


class Inputs:
    """A poller for each line, and the listener; `settings` are those under which they read."""

    def __init__(
        self, settings: EdgeSettings, clock: Clock, put: Callable[[Sample], None], chores: Sequence[Chore] = ()
    ) -> None:
        """Wire only; `put` takes the samples."""
        self.settings = settings
        self._clock = clock
        self._put = put
        self._holes = Holes(settings.spool.parent)
        self._lines = lines_of(settings, chores)
        self._pollers = {
            name: poller_of(on, self._holes, clock, put, grid_of(settings)) for name, on in self._lines.items()
        }
        self.listener = Listener.of(settings, clock, put)
        self._group: asyncio.TaskGroup | None = None
        self._tasks: dict[Hashable, asyncio.Task[None]] = {}

    @property
    def pollers(self) -> tuple[Poller, ...]:
        """The pollers, in the order of the lines in the plant file."""
        return tuple(self._pollers.values())

    def start(self, group: asyncio.TaskGroup) -> None:
        """Begin to read, in tasks of `group`."""
        self._group = group
        for poller in self.pollers:
            poller.begin()
            self._start(poller, _polling(poller))
        for key, job in self._jobs(self.listener).items():
            self._start(key, job)
        self._start(self._holes, Job("learned refusals", self._holes.run))

    def cancel(self) -> None:
        """Read no more."""
        for task in self._tasks.values():
            task.cancel()

    def close(self) -> None:
        """Close all lines."""
        for poller in self.pollers:
            poller.close()

    async def adopt(self, settings: EdgeSettings, chores: Sequence[Chore] = ()) -> None:
        """Go on under `settings`: what is the same reads on as if nothing was, each other line changes between ticks.

        Returns when all have changed.
        """
        lines, before = lines_of(settings, chores), self._lines
        self.settings, self._lines = settings, lines
        changed = [name for name in {**before, **lines} if before.get(name) != lines.get(name)]
        log.info("lines change", lines=changed)
        readers = {device.id: name for name in before.keys() & changed for device in before[name].devices}
        sources = {
            name: {readers.get(device.id, name) for device in lines[name].devices} - {name}
            for name in lines.keys() & changed
        }
        # What gives an instrument away ends at once; what only takes some reads on until those are free.
        for name in set().union(*sources.values()):
            self._pollers[name].end()
        ending = {name: self._tasks[self._pollers[name]] for name in before.keys() & changed}
        async with asyncio.TaskGroup() as changes:
            for name in changed:
                awaited = [ending[source] for source in sources.get(name, ())]
                changes.create_task(self._change(name, before.get(name), lines.get(name), awaited))
            changes.create_task(self._listen_anew(settings))
        self._pollers = {name: self._pollers[name] for name in lines}

    async def _change(
        self, name: str, before: OnLine | None, after: OnLine | None, awaited: Sequence[asyncio.Task[None]]
    ) -> None:
        """Change a line, once the tasks `awaited` have ended, which read instruments that it is to read.

        An instrument is never polled on two lines at once: at one tick both readings would bear one stamp.
        """
        if awaited:
            await asyncio.wait(awaited)
        line = None
        if before is not None:
            poller = self._pollers[name]
            poller.end()
            await asyncio.wait([self._tasks[poller]])
            del self._tasks[poller]
            if after is not None and before.reached_like(after):
                line = poller.line
            else:
                poller.close()
        if after is None:
            del self._pollers[name]
            return
        poller = self._pollers[name] = poller_of(
            after, self._holes, self._clock, self._put, grid_of(self.settings), line
        )
        self._start(poller, _polling(poller))

    async def _listen_anew(self, settings: EdgeSettings) -> None:
        """Listen for other sensors, or at another broker: the former listener stops when the new one hears."""
        before, after = self.listener, Listener.of(settings, self._clock, self._put, self.listener)
        if (before.broker, before.sensors) == (after.broker, after.sensors):
            return
        self.listener = after
        jobs = self._jobs(after)
        gone = self._jobs(before).keys() - jobs.keys()
        # A broker of our own leaves its port before another takes it.
        await self._stop({key for key in gone if isinstance(key, SensorBroker)})
        for key in jobs.keys() - self._tasks.keys():
            self._start(key, jobs[key])
        if before.sensors and after.sensors:
            try:
                async with asyncio.timeout(HANDOVER_S):
                    await after.stands()
            except TimeoutError:
                log.warning("sensors' broker not reached", host=after.broker.host, port=after.broker.port)
        await self._stop(gone & self._tasks.keys())

    def _jobs(self, listener: Listener) -> dict[Hashable, Job]:
        return listener.jobs(self.settings.spool.parent / "broker")

    def _start(self, key: Hashable, job: Job) -> None:
        if self._group is None:
            raise RuntimeError("not started")
        self._tasks[key] = self._group.create_task(job.run(), name=job.name)

    async def _stop(self, keys: set[Hashable]) -> None:
        """Cancel tasks until they heed it: Python 3.11 swallows a cancellation that meets a `wait_for` just done."""
        tasks = [self._tasks.pop(key) for key in keys]
        while not all(task.done() for task in tasks):
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=0.5)


def _polling(poller: Poller) -> Job:
    return Job(f"poll {poller.name}", poller.run)
