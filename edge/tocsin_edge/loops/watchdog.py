"""Whether the gateway's work goes on: the service manager's watchdog is fed only while it does."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from tocsin_core.clock import Clock
from tocsin_edge.adapters.service_manager import ServiceManager
from tocsin_edge.loops.poll import Poller
from tocsin_edge.loops.tally import Tally
from tocsin_edge.settings import EdgeSettings, ModbusDevice

NS_PER_S: Final = 1_000_000_000
# A line always has a turn to take: a live unit's every period, a dead one's probe after 30 s at the latest. A cycle may
# take two periods.
LINE_PATIENCE_S: Final = 60.0
LINE_PATIENCE_PERIODS: Final = 3
# A disk that hangs is no reason to start anew, which needs it: nobody waits for it.
KEEPING_PATIENCE_S: Final = 300.0
# Three times within the manager's patience, so that one lost word does no harm; the words to people no more often.
FEEDS: Final = 3
TELL_EVERY_S: Final = 5.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Witness:
    """Something whose `count` must become another within `patience_s`; None: there is nothing for it to do."""

    name: str
    count: Callable[[], int | None]
    patience_s: float


class Progress:
    """Which of the witnesses have stood still too long."""

    def __init__(self, witnesses: Sequence[Witness], clock: Clock) -> None:
        """Start as if all had just moved."""
        self._witnesses = tuple(witnesses)
        self._clock = clock
        self._seen = {each.name: (each.count(), clock.monotonic()) for each in self._witnesses}

    def adopt(self, witnesses: Sequence[Witness]) -> None:
        """Go on with other witnesses; what is known of those that go on stays."""
        now = self._clock.monotonic()
        self._witnesses = tuple(witnesses)
        self._seen = {each.name: self._seen.get(each.name, (each.count(), now)) for each in self._witnesses}

    def idle_s(self) -> dict[str, float]:
        """Tell for how long each witness has stood still, in s."""
        now = self._clock.monotonic()
        for each in self._witnesses:
            count = each.count()
            if count is None or count != self._seen[each.name][0]:
                self._seen[each.name] = (count, now)
        return {name: now - since for name, (_, since) in self._seen.items()}

    def stalled(self) -> tuple[str, ...]:
        """Name those that have stood still for longer than they may."""
        idle = self.idle_s()
        return tuple(each.name for each in self._witnesses if idle[each.name] > each.patience_s)


def witnesses_of(settings: EdgeSettings, pollers: Sequence[Poller], tally: Tally) -> tuple[Witness, ...]:
    """Give the witnesses of a gateway: each line's finished cycles, and samples becoming kept ones.

    Sensors that publish by themselves are none: that they are silent says nothing of the gateway.
    """
    periods: dict[str, int] = {}
    for device in settings.devices:
        if isinstance(device.input, ModbusDevice):
            line = device.input.address.line
            periods[line] = min(device.period_ns, periods.get(line, device.period_ns))
    lines = (
        Witness(
            f"line {poller.name}",
            _cycles_of(poller),
            LINE_PATIENCE_S + LINE_PATIENCE_PERIODS * periods.get(poller.name, 0) / NS_PER_S,
        )
        for poller in pollers
    )
    return (
        *lines,
        Witness("keeping", lambda: None if tally.kept >= tally.taken else tally.kept, KEEPING_PATIENCE_S),
    )


def _cycles_of(poller: Poller) -> Callable[[], int]:
    return lambda: sum(job.cycles + job.failed for job in poller.figures().jobs)


class Watchdog:
    """Feeds the service manager while no witness stands still, and tells it in one line how things are."""

    def __init__(self, manager: ServiceManager, progress: Progress, status: Callable[[], str]) -> None:
        """Wire only; `status` gives the line."""
        self._manager = manager
        self._progress = progress
        self._status = status
        self._stalled: tuple[str, ...] = ()

    async def run(self) -> None:
        """Look and feed for ever."""
        pause_s = min(TELL_EVERY_S, (self._manager.watchdog_s or TELL_EVERY_S) / FEEDS)
        while True:
            self.look()
            await asyncio.sleep(pause_s)

    def look(self) -> None:
        """Feed once if the work goes on, and log when it stands still and when it goes on again."""
        stalled = self._progress.stalled()
        if stalled:
            if stalled != self._stalled:
                log.critical("standing still: the watchdog is not fed", what=stalled)
            self._manager.status(f"standing still: {', '.join(stalled)}")
        else:
            if self._stalled:
                log.warning("goes on again", what=self._stalled)
            self._manager.feed()
            if self._manager.listens:
                self._manager.status(self._status())
        self._stalled = stalled
