"""Whether the gateway's outputs are as its alarms want them, all through the fault benchmark: siren and beacons."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, Self

from tocsin_cli.bench.faults_bed import Gateway, shown
from tocsin_cli.bench.faults_devices import Coils, Stalls
from tocsin_cli.bench.faults_diary import Diary
from tocsin_core.clock import Clock

LOOK_S: Final = 0.1
# An output is written at once, and after a failure again within a second.
SETTLED_S: Final = 2.0


@dataclass
class _Stretch:
    """Since when an output has been wanted as it is, and since when it has not been so, if it is not."""

    wanted: bool
    since_s: float
    wrong_s: float | None = None
    judged: bool = False
    counted: bool = False


@dataclass
class OutputWatch:
    """Looks at the gateway's alarms and at the coils, again and again.

    An output is `judged` once in each stretch of at least `SETTLED_S` in which the gateway's alarms wanted it to be the
    same, the gateway answered, and the outputs' unit was well; it is `wrong` each time that it was not so for as long
    within such a stretch, at its beginning or later.
    """

    gateway: Gateway
    coils: Coils
    instruments: int
    clock: Clock
    stalls: Stalls
    diary: Diary
    judged: int = 0
    wrong: int = 0
    _stretches: dict[int, _Stretch] = field(default_factory=dict)
    _troubled_s: float | None = None

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[Self]:
        """Look until left."""
        looking = asyncio.create_task(self._look_on(), name="outputs")
        try:
            yield self
        finally:
            looking.cancel()
            with suppress(asyncio.CancelledError):
                await looking

    async def _look_on(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            self.look(await asyncio.to_thread(self.gateway.alarms), self.clock.monotonic())

    def look(self, page: dict[str, Any], now_s: float) -> None:
        """Take in what the gateway says of its alarms at `now_s`; nothing, where it does not answer."""
        if not page or not self._well(now_s):
            self._stretches.clear()
            return
        alarms = [(each["alarm"].rpartition("/")[0], each["phase"]) for each in page["alarms"]]
        for coil, wanted in shown(alarms, self.instruments).items():
            self._judge(coil, now_s, wanted=wanted)

    def _well(self, now_s: float) -> bool:
        """Whether the unit answers, and this process has not stood still."""
        if self.coils.trouble is not None:
            self._troubled_s = now_s
        elif self._troubled_s is not None and self.coils.answered_s > self._troubled_s:
            self._troubled_s = None
        stood_still = bool(self.stalls.ended_s) and self.stalls.ended_s[-1] > now_s - SETTLED_S
        return self._troubled_s is None and not stood_still

    def _judge(self, coil: int, now_s: float, *, wanted: bool) -> None:
        stretch = self._stretches.get(coil)
        if stretch is None or stretch.wanted is not wanted:
            stretch = self._stretches[coil] = _Stretch(wanted, now_s)
        if not stretch.judged and now_s - stretch.since_s >= SETTLED_S:
            stretch.judged = True
            self.judged += 1
        if self.coils.on.get(coil) is wanted:
            stretch.wrong_s, stretch.counted = None, False
            return
        if stretch.wrong_s is None:
            stretch.wrong_s = now_s
        if not stretch.counted and now_s - stretch.wrong_s >= SETTLED_S:
            stretch.counted = True
            self.wrong += 1
            self.diary.note(f"output {coil} has not been {'on' if wanted else 'off'} for {SETTLED_S:g} s")
