"""The time-series store on VictoriaMetrics: written as InfluxDB lines, read by its export and MetricsQL."""

import asyncio
import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import structlog

from tocsin_cloud.adapters.history import HOUR, Trend, Wanted, one_by_one
from tocsin_cloud.adapters.history_lines import MILLISECOND, Names, tag, trend_of_hours
from tocsin_cloud.adapters.history_rolled import PART
from tocsin_cloud.adapters.history_state import StateFile
from tocsin_cloud.adapters.history_victoria_hours import VictoriaHours
from tocsin_cloud.adapters.history_victoria_reads import HOUR_MS, VictoriaReads, windows_of
from tocsin_cloud.adapters.history_victoria_server import DURABLE_AFTER_S, AwayError, Look, VictoriaServer
from tocsin_cloud.settings import HistoryAddress
from tocsin_core.clock import Clock
from tocsin_core.readings import Frame

log = structlog.get_logger()

RETENTION_FLAG: Final = "retentionPeriod"
RETENTION_HOURS: Final = {"h": 1.0, "d": 24.0, "w": 7 * 24.0, "y": 365 * 24.0, "": 31 * 24.0}
RETAINED: Final = "retained_from_ms"


@dataclass(slots=True)
class _Pending:
    """A commit that is not durable yet: written at `at`, to the server that `seen` was heard of before."""

    frame: Frame
    state: Mapping[str, bytes]
    seen: Look
    at: float


class VictoriaHistory:
    """The History port on a VictoriaMetrics server, or on a cluster of them.

    The historian's state lies in a file in the data folder, and is replaced only when the readings that belong to it
    are durable. Commits that are not are kept: a server that went away with them gets them again.
    """

    def __init__(self, server: VictoriaServer, state: StateFile, clock: Clock) -> None:
        """Talk to nobody yet."""
        self._server = server
        self._reads = VictoriaReads(self._server)
        self._clock = clock
        self._file = state
        self._state = state.load()
        self._retained_ms = int(self._state.pop(RETAINED, b"0"))
        self._names = Names()
        self._hours = VictoriaHours(self._server, state, self._state.pop(PART, None), self._names, clock)
        # Hours are not taken to be rolled up between a commit's being noted with them and its being counted.
        self._committing = asyncio.Lock()
        self._pending: deque[_Pending] = deque()
        self._durable = 0

    @classmethod
    async def open(cls, address: HistoryAddress, folder: Path, clock: Clock) -> Self:
        """Take the state file in `folder`; a server that is away is waited for by the commits.

        Raises:
            HistoryError: another process works on the folder, or the server's flags do not do.
        """
        file, server = StateFile.open(folder), VictoriaServer(address)
        # Aside: of a large plant there is much to read.
        reading = asyncio.create_task(asyncio.to_thread(cls, server, file, clock))
        try:
            history = await asyncio.shield(reading)
            try:
                await server.look()
            except AwayError as error:
                log.warning("history is away", reason=str(error))
        except BaseException:
            await asyncio.wait([reading])
            file.close()
            await server.close()
            raise
        return history

    @property
    def state(self) -> Mapping[str, bytes]:
        """The state that the commits left."""
        return self._state

    @property
    def dropped(self) -> int:
        """What the server ignored: older than its retention, or too far ahead of its clock."""
        return self._server.dropped

    def key(self, point_id: str) -> int:
        """The key of `point_id`, a new one if it is new."""
        return self._names.key(point_id)

    async def commit(self, frame: Frame, state: Mapping[str, bytes]) -> None:
        """Write the readings, and keep them and `state` until they are durable.

        Raises:
            HistoryError: the server is away, refuses, or has flags that do not do.
        """
        # What is heard of the server before the write: if it is another one afterwards, the write may be lost.
        seen = self._server.seen or await self._server.look()
        async with self._committing:
            await self._hours.touch(frame)
            await self._write(frame)
            self._pending.append(_Pending(frame, dict(state), seen, self._clock.monotonic()))
        self._state.update(state)

    async def durable(self) -> int:
        """How many commits the server has had for long enough without a restart; others are written to it again.

        Raises:
            HistoryError: the server is away, or has flags that do not do.
        """
        if self._pending and self._clock.monotonic() - self._pending[0].at >= DURABLE_AFTER_S:
            await self._settle()
        return self._durable

    async def read(self, point_id: str, start_ns: int, end_ns: int, step_ns: int | None, limit: int) -> Trend:
        """Rows of one point, as the port says.

        Raises:
            HistoryError: the server is away, or refuses.
        """
        start, end = -(-start_ns // MILLISECOND), -(-end_ns // MILLISECOND)
        point, since = tag(point_id), self._retained_ms
        if step_ns is None:
            return await self._reads.samples(point, max(start, since), end, limit)
        step = step_ns // MILLISECOND
        if start_ns % HOUR == step_ns % HOUR == 0:
            hours = await self._hours.read(point_id, max(start, since), end, limit * step // HOUR_MS)
            return trend_of_hours(hours, start, step, limit)
        return await self._reads.steps(point, windows_of(start, end, step, since), limit)

    async def read_each(self, wanted: Sequence[Wanted]) -> list[Trend]:
        """As the port says.

        Raises:
            HistoryError: the server is away or refuses.
        """
        return await one_by_one(self, wanted)

    def overtaken(self) -> None:
        """Have all hours rolled up anew: the other's readings may be of any of them."""
        self._hours.overtaken()

    async def tend(self) -> int:
        """Roll up hours that are closed, a piece at a time.

        Raises:
            HistoryError: the server is away or refuses, or the state file does.
        """
        if not self._hours.busy:
            async with self._committing:
                self._hours.take(self._durable + len(self._pending))
        else:
            await self._hours.go_on(self._durable, self._retained_ms)
        return self._hours.due

    async def retain(self, before_ns: int) -> None:
        """Read nothing older any more; the server frees the room by its own flag, which has to be long enough.

        Raises:
            HistoryError: the server is away, or the state file does not take it.
        """
        before_ms = before_ns // MILLISECOND // HOUR_MS * HOUR_MS
        kept = (await self._server.look()).flags.get(RETENTION_FLAG, "")
        wanted_hours = (self._clock.now_ns() // MILLISECOND - before_ms) / HOUR_MS - 1
        number = re.fullmatch(r"([0-9.]+)([hdwy]?)", kept)
        if number is None or float(number[1]) * RETENTION_HOURS[number[2]] < wanted_hours:
            log.error("VictoriaMetrics may forget too early", flag=f"-{RETENTION_FLAG}={kept}", wanted_h=wanted_hours)
        if before_ms > self._retained_ms:
            await asyncio.to_thread(self._file.save, {RETAINED: str(before_ms).encode()})
            self._retained_ms = before_ms

    async def copy(self, folder: Path) -> None:
        """Write the state file; the readings are on the server.

        Raises:
            HistoryError: the file could not be written.
        """
        await asyncio.to_thread(self._file.copy, folder)

    async def close(self) -> None:
        """Let go of the server and the state file."""
        self._file.close()
        await self._server.close()

    async def _write(self, frame: Frame) -> None:
        if len(frame):
            await self._server.write(await asyncio.to_thread(self._names.lines, frame, by_magnitude=True))

    async def _settle(self) -> None:
        seen = await self._server.look()
        for pending in self._pending:
            if not seen.goes_on_from(pending.seen):
                await self._write(pending.frame)
                pending.seen, pending.at = seen, self._clock.monotonic()
        now, number = self._clock.monotonic(), 0
        state: dict[str, bytes] = {}
        for pending in self._pending:
            if now - pending.at < DURABLE_AFTER_S:
                break
            state.update(pending.state)
            number += 1
        await asyncio.to_thread(self._file.save, state)
        for _ in range(number):
            self._pending.popleft()
        self._durable += number
