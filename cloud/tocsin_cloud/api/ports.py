"""What the HTTP interface needs from the rest of the cloud side: narrow protocols and the values between."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import numpy as np
from prometheus_client import CollectorRegistry

from tocsin_cloud.adapters.history import StoredReadings
from tocsin_cloud.adapters.sql.engine import Database
from tocsin_cloud.loops.live import Outlook
from tocsin_core.clock import Clock
from tocsin_core.kpi import Flood
from tocsin_core.plant import Plant
from tocsin_core.readings import BAD_WAITING, F64, I64, U8

Online = Literal["online", "offline", "unknown"]
Verb = Literal["ack", "unacknowledge", "shelve", "unshelve", "out-of-service", "in-service", "reset"]


@dataclass(frozen=True, slots=True)
class Undeclared:
    """A metric that a gateway sends and the plant file does not know; `index` goes on after the plant's points."""

    index: int
    id: str
    unit: str
    gateway: str
    device: str


@dataclass(frozen=True, slots=True)
class Latest:
    """The latest reading of each point, by point index; time 0 where there is none yet. The caller may keep it.

    `undeclared`: what the indices after the plant's points mean here.
    """

    time_ns: I64
    value: F64
    quality: U8
    undeclared: Sequence[Undeclared] = ()

    @classmethod
    def unknown(cls, points: int) -> Self:
        """No reading of any of so many points."""
        return cls(np.zeros(points, np.int64), np.full(points, np.nan), np.full(points, BAD_WAITING, np.uint8))


class ReadingsUnknownError(RuntimeError):
    """The latest readings are not known, nor any that could pass for them."""


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """Whether a device is there, by its births and deaths."""

    id: str
    state: Online


@dataclass(frozen=True, slots=True)
class ClockStatus:
    """What a gateway said of its clock: whether somebody sets it, since when, how wrong it may be, its last step."""

    synchronised: bool
    since_ns: int
    error_ms: float | None
    step_s: float | None


@dataclass(frozen=True, slots=True)
class SliceStatus:
    """On which version of its slice of the plant a managed gateway runs (0: its own plant file).

    `current`: whether that is what the plant file here has for it, None until somebody looked. The other fields are
    what became of the version that it was sent last, None where it was sent none.
    """

    version: int
    current: bool | None
    sent: int | None = None
    outcome: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class GatewayStatus:
    """Whether a gateway is there, since when, and how far its readings have come.

    `slice`: None where it is not managed; `clock`: what it said of it, None where it says nothing; `unsynchronised`:
    first and last time (ns) of each stretch of readings that were stamped by a clock that nobody had set; `skew_s`: by
    how much its clock is ahead of ours, None where nothing told; `certificate_ends_ns`: None where it has none.
    """

    id: str
    state: Online
    since_ns: int | None = None
    last_seen_ns: int | None = None
    readings: int = 0
    batch: int = 0
    committed: int = 0
    devices: tuple[DeviceStatus, ...] = ()
    clock: ClockStatus | None = None
    unsynchronised: tuple[tuple[int, int], ...] = ()
    slice: SliceStatus | None = None
    skew_s: float | None = None
    certificate_ends_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """Counters of the process that no table holds."""

    readings_stored: int = 0
    readings_per_second: float = 0.0
    late_readings: int = 0
    clock_steps_back: int = 0
    quarantined: Mapping[str, int] = field(default_factory=dict)


class Live(Protocol):
    """The present state of the plant as the cloud side knows it; every answer but the readings is immediate."""

    async def latest(self) -> Latest:
        """Return the latest readings: the plant's points, then the undeclared ones, then perhaps room.

        Raises:
            ReadingsUnknownError: who knows them does not answer.
        """

    def undeclared(self) -> Sequence[Undeclared]:
        """Return the metrics that arrived without being in the plant file."""

    def projections(self) -> Mapping[str, Outlook]:
        """Return by point id where the points that have a trend are heading."""

    def flood(self) -> Flood | None:
        """Return the alarm flood that goes on, or None."""

    def gateways(self) -> Sequence[GatewayStatus]:
        """Return one for each gateway heard of; one of the plant file that is missing is unknown."""

    def figures(self) -> Figures:
        """Return the process's counters."""


@dataclass(frozen=True, slots=True)
class OperatorCommand:
    """What a person asks of an occurrence; `id` makes a repeated delivery harmless.

    `duration_s` and `once` (the shelf ends sooner, with the alarm's return) are for shelving alone.
    """

    id: str
    verb: Verb
    occurrence: str
    alarm: str
    who: str
    reason: str
    duration_s: float | None = None
    once: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What the alarms worker decided, after its commit; `reason` says why not when it refused."""

    accepted: bool
    reason: str


class CommandError(RuntimeError):
    """The stream did not take a command."""


class Commands(Protocol):
    """The way to the alarms worker."""

    async def send(self, command: OperatorCommand) -> Answer:
        """Put `command` on the stream and wait for the worker's answer. The caller bounds the wait and cancels.

        Raises:
            CommandError: the stream did not take it.
        """


@dataclass(frozen=True, slots=True)
class Event:
    """Something changed and is committed; `data["id"]` names the occurrence, ticket or message."""

    kind: str
    data: Mapping[str, Any]


class Events(Protocol):
    """The cloud side's events, which reach whoever listens at the moment and nobody else."""

    def subscribe(self) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Listen from now on. The iterator ends or raises when events may have been missed."""

    async def publish(self, event: Event) -> None:
        """Tell whoever listens."""


class Ready(Protocol):
    """Whether the process can do its work."""

    def __call__(self) -> str | None:
        """Say what is missing; None when nothing is."""


@dataclass(frozen=True, slots=True)
class ApiPorts:
    """Everything the HTTP interface works on; `console` is the folder of the built page, which may be missing."""

    plant: Plant
    database: Database
    history: StoredReadings
    live: Live
    commands: Commands
    events: Events
    clock: Clock
    metrics: CollectorRegistry
    ready: Ready
    console: Path | None = None
