"""Stand-ins for what lies behind the ports of the HTTP interface, moved by hand by its tests."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from tocsin_cloud.adapters.history import HistoryError, Trend, Wanted, one_by_one
from tocsin_cloud.adapters.sql import models as sql
from tocsin_cloud.adapters.sql.engine import Database
from tocsin_cloud.api.ports import (
    Answer,
    CommandError,
    Event,
    Figures,
    GatewayStatus,
    Latest,
    OperatorCommand,
    ReadingsUnknownError,
    Undeclared,
)
from tocsin_cloud.loops.live import Outlook
from tocsin_core.kpi import Flood
from tocsin_core.readings import BAD_WAITING, GOOD

START_NS: Final = 1_795_000_000_000_000_000

PLANT: Final = """\
tocsin: 1
site: {id: north, name: {zh: 北厂, en: North works}}
hazard_sources:
  - {id: tanks, name: {zh: 储罐区, en: Tank farm}, level: 3}
  - {id: hall, name: {zh: 车间, en: Hall}}
gateways:
  - id: gw-1
    name: {zh: 一号网关, en: Gateway 1}
    external: true
    devices:
      - id: gas
        source: tanks
        points:
          - {id: NH3-101, name: {zh: 氨浓度, en: Ammonia}, kind: toxic-gas,
             cas: "7664-41-7", unit: ppm, range: [0, 100]}
          - {id: PT-201, name: {zh: 压力, en: Pressure}, kind: pressure, unit: bar, range: [0, 25], decimals: 2}
people:
  - {id: wang, name: {zh: 王, en: Wang}, channels: ["outbox://"]}
  - {id: li, name: {zh: 李, en: Li}, channels: ["outbox://"]}
notify:
  steps:
    - {after_s: 0, to: [wang]}
    - {after_s: 60, to: [li]}
  repeat_s: 300
"""


class HandClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        """Start at `START_NS`."""
        self.ns = START_NS
        self._back_ns = 0

    def now_ns(self) -> int:
        """Return the wall clock."""
        return self.ns

    def monotonic(self) -> float:
        """Return seconds since the start of the test."""
        return (self.ns + self._back_ns - START_NS) / 1e9

    def move(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self.ns += round(seconds * 1e9)

    def set_back(self, seconds: float) -> None:
        """Set the wall clock back, while no time passes."""
        self.ns -= round(seconds * 1e9)
        self._back_ns += round(seconds * 1e9)


@dataclass
class LiveTable:
    """Live readings that the test writes."""

    time_ns: list[int] = field(default_factory=lambda: [0, 0])
    value: list[float] = field(default_factory=lambda: [float("nan")] * 2)
    quality: list[int] = field(default_factory=lambda: [BAD_WAITING] * 2)
    heading: dict[str, Outlook] = field(default_factory=dict)
    strangers: list[Undeclared] = field(default_factory=list)
    known: list[GatewayStatus] = field(default_factory=list)
    counters: Figures = field(default_factory=Figures)
    flooded: Flood | None = None
    unknown: bool = False

    def read(self, index: int, time_ns: int, value: float, quality: int = GOOD) -> None:
        """Write a reading."""
        self.time_ns[index], self.value[index], self.quality[index] = time_ns, value, quality

    async def latest(self) -> Latest:
        """Return copies."""
        if self.unknown:
            raise ReadingsUnknownError("nobody tells")
        quality = np.asarray(self.quality, dtype=np.uint8)
        times = np.asarray(self.time_ns, dtype=np.int64)
        return Latest(times, np.asarray(self.value, dtype=np.float64), quality, self.strangers)

    def undeclared(self) -> Sequence[Undeclared]:
        """Return the undeclared metrics."""
        return self.strangers

    def projections(self) -> Mapping[str, Outlook]:
        """Return the projections."""
        return self.heading

    def flood(self) -> Flood | None:
        """Return the alarm flood."""
        return self.flooded

    def gateways(self) -> Sequence[GatewayStatus]:
        """Return the gateways heard of."""
        return self.known

    def figures(self) -> Figures:
        """Return the counters."""
        return self.counters


class StoredTrend:
    """A history of one point at one reading a second from START_NS on."""

    def __init__(self, rows: int) -> None:
        """Hold `rows` readings."""
        self.rows = rows
        self.broken = False

    async def read(self, point_id: str, start_ns: int, end_ns: int, step_ns: int | None, limit: int) -> Trend:
        """Return the rows in the range; with a step, every reading is its own step."""
        del point_id, step_ns
        if self.broken:
            raise HistoryError("the disk is on fire")
        times = START_NS + np.arange(self.rows, dtype=np.int64) * 1_000_000_000
        times = times[(times >= start_ns) & (times < end_ns)][:limit]
        value = (times - START_NS) / 1e9
        value[1:2] = np.nan
        return Trend(times, value, value - 1, value + 1, np.full(len(times), GOOD, dtype=np.uint8))

    async def read_each(self, wanted: Sequence[Wanted]) -> list[Trend]:
        """Return each as `read` does."""
        return await one_by_one(self, wanted)


class AlarmsWorker:
    """Answers commands as the alarms worker would, through the tables."""

    def __init__(self, database: Database, clock: HandClock) -> None:
        """Commit into `database`."""
        self._database = database
        self._clock = clock
        self.commands: list[OperatorCommand] = []
        self.silent = False
        self.unreachable = False
        self.refuses: str | None = None

    async def send(self, command: OperatorCommand) -> Answer:
        """Carry out an acknowledgement or a shelving."""
        self.commands.append(command)
        if self.unreachable:
            raise CommandError("no stream")
        if self.silent:
            await asyncio.Event().wait()
        if self.refuses is not None:
            return Answer(accepted=False, reason=self.refuses)
        async with self._database.write() as session:
            row = await session.get_one(sql.Occurrence, command.occurrence)
            if command.verb == "ack":
                row.phase, row.acknowledged_by = "acknowledged", command.who
                row.acknowledged_ns = self._clock.now_ns()
            elif command.verb == "unacknowledge":
                row.phase, row.acknowledged_by, row.acknowledged_ns = "unacknowledged", None, None
            elif command.verb == "shelve":
                row.shelved_once = command.once
                row.shelved_until_ns = self._clock.now_ns() + round((command.duration_s or 0) * 1e9)
            session.add(transition(row))
        return Answer(accepted=True, reason="")


class Bus:
    """Events handed straight from publisher to subscribers."""

    def __init__(self) -> None:
        """Start with nobody listening."""
        self.published: list[Event] = []
        self._queues: set[asyncio.Queue[Event | None]] = set()

    async def publish(self, event: Event) -> None:
        """Give `event` to whoever listens."""
        self.published.append(event)
        for queue in self._queues:
            queue.put_nowait(event)

    def break_off(self) -> None:
        """End every subscription, as a lost connection does."""
        for queue in self._queues:
            queue.put_nowait(None)

    @property
    def listeners(self) -> int:
        """How many listen."""
        return len(self._queues)

    @asynccontextmanager
    async def subscribe(self) -> AsyncIterator[AsyncIterator[Event]]:
        """Listen from now on."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self._queues.add(queue)

        async def events() -> AsyncIterator[Event]:
            while (event := await queue.get()) is not None:
                yield event

        try:
            yield events()
        finally:
            self._queues.discard(queue)


def occurrence(number: int, **changes: Any) -> sql.Occurrence:  # noqa: ANN401 -- any column of the row
    """Return raising `number` of NH3-101/H, `number` seconds after the start, unacknowledged unless changed."""
    columns: dict[str, Any] = {
        "id": f"{number:016x}",
        "alarm": "NH3-101/H",
        "point": "NH3-101",
        "source": "tanks",
        "kind": "H",
        "priority": "high",
        "phase": "unacknowledged",
        "raised_ns": START_NS + number * 1_000_000_000,
        "reading_ns": START_NS + number * 1_000_000_000,
        "committed_ns": START_NS + number * 1_000_000_000 + 40_000_000,
        "acknowledged_ns": None,
        "acknowledged_by": None,
        "returned_ns": None,
        "shelved_until_ns": None,
        "out_of_service": False,
        "value": 31.5,
        "setpoint": 25.0,
        "unit": "ppm",
        "message": {"zh": "氨浓度 高报", "en": "Ammonia high"},
        "clause": None,
    }
    return sql.Occurrence(**(columns | changes))


def transition(row: sql.Occurrence, latency_ns: int | None = None) -> sql.Transition:
    """Return a transition that led to the present state of `row`."""
    return sql.Transition(
        occurrence=row.id,
        alarm=row.alarm,
        event="raise",
        phase_from="normal",
        phase_to=row.phase,
        time_ns=row.raised_ns,
        now_ns=row.raised_ns,
        value=row.value,
        who=None,
        reason=None,
        position=1,
        committed_ns=row.committed_ns,
        latency_ns=latency_ns,
    )


def ticket(number: int, **changes: Any) -> sql.Ticket:  # noqa: ANN401 -- any column of the row
    """Return ticket HD-`number` on the tank farm, being put right unless changed."""
    columns: dict[str, Any] = {
        "id": f"HD-{number}",
        "title": {"zh": "储罐区氨泄漏", "en": "Ammonia leak, tank farm"},
        "source": "tanks",
        "level": "general",
        "state": "rectifying",
        "opened_ns": START_NS + number,
        "deadline_ns": START_NS + 72 * 3600 * 1_000_000_000,
        "reason": "alarm raised",
        "alarm": "NH3-101/H",
        "liable": "wang",
        "evidence": None,
        "submitted_by": None,
    }
    return sql.Ticket(**(columns | changes))


def message(number: int, of: sql.Occurrence, **changes: Any) -> sql.Message:  # noqa: ANN401 -- any column of the row
    """Return a pending message about `of`, due at the start unless changed."""
    columns: dict[str, Any] = {
        "id": f"{number:016x}",
        "occurrence": of.id,
        "ticket": None,
        "to_person": "wang",
        "channel": "outbox://",
        "subject": "北厂：氨浓度 高报",
        "body": "氨浓度 31.5 ppm\nAmmonia 31.5 ppm",
        "state": "pending",
        "due_ns": START_NS,
        "sent_ns": None,
        "attempts": 0,
        "error": None,
        "reason": "first alarm of its place",
        "step": 0,
        "repeat": 0,
    }
    return sql.Message(**(columns | changes))
