"""The shapes of the HTTP interface, version 1: every response and request body, as pydantic models."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema

from tocsin_core.kpi import Load
from tocsin_core.plant import AlarmKind, Priority

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def rfc3339(time_ns: int) -> str:
    """Write `time_ns` (since the epoch, UTC) as RFC 3339 with milliseconds, rounded down, and Z."""
    at = EPOCH + timedelta(milliseconds=time_ns // 1_000_000)
    return at.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def nanoseconds(at: AwareDatetime) -> int:
    """Return `at` as nanoseconds since the epoch, exact to the microsecond that a datetime holds."""
    return (at - EPOCH) // timedelta(microseconds=1) * 1000


def number(value: float | None) -> float | None:
    """Return `value`, or None where it is unknown: JSON has no NaN and no infinity."""
    return None if value is None or not math.isfinite(value) else value


Instant = Annotated[
    int,
    PlainSerializer(rfc3339, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
UNSYNCHRONISED: Final = "Stretches whose times may be wrong: nobody had set the clock that stamped them."
Limit = Literal["HH", "H", "L", "LL", "red", "orange", "yellow", "blue"]
Rule = Literal["vote", "median", "spread", "balance", "grade", "normal"]
Phase = Literal[
    "unacknowledged",
    "acknowledged",
    "returned-unacknowledged",
    "latched-unacknowledged",
    "latched-acknowledged",
    "normal",
]
Online = Literal["online", "offline", "unknown"]
TicketState = Literal["rectifying", "awaiting-acceptance", "accepted"]
MessageState = Literal["pending", "sending", "delivered", "failed", "cancelled"]


class Shape(BaseModel):
    """Base of the shapes that are answered."""

    model_config = ConfigDict(frozen=True)


class Asked(BaseModel):
    """Base of the shapes that are sent to us: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Name(Shape):
    """A text in Chinese and English."""

    zh: str
    en: str


class Site(Shape):
    """The plant's place."""

    id: str
    name: Name
    timezone: str


class HazardSource(Shape):
    """A major hazard source with what is active on it; shelved and out-of-service alarms do not count."""

    id: str
    name: Name
    level: int | None = Field(description="Grade by GB 18218-2018, 1 is the gravest.")
    worst: Priority | None = Field(description="The highest priority among those active or not acknowledged.")
    active: int = Field(description="How many have a condition that still holds.")
    unacknowledged: int = Field(description="How many nobody has answered, active or returned.")
    early_warning: bool = Field(description="Whether one of the active is an early warning.")


class Named(Shape):
    """An id with its name."""

    id: str
    name: Name


class Flood(Shape):
    """More alarms than an operator can take in: it begins with more than 10 in 10 min and ends below 5 (ISA-18.2)."""

    since: Instant
    until: Instant | None = Field(description="null while it goes on.")
    alarms: int = Field(description="Those raised while it lasts and in the ten minutes before it began.")
    first: str = Field(description="The alarm that came first of these.")


class Plant(Shape):
    """The plant as a whole."""

    site: Site
    hazard_sources: list[HazardSource]
    gateways: list[Named]
    first_out: list[Named] = Field(description="Groups of alarms of which it is told which came first.")
    flood: Flood | None = Field(description="The alarm flood that goes on.")
    started_at: Instant
    version: str


# Not a Shape: of a large plant there are millions, and one of those takes ten times the memory.
@dataclass(frozen=True, slots=True)
class AlarmLimit:
    """One alarm definition of a point; a number that the kind does not have is null."""

    alarm: str
    kind: AlarmKind
    side: Annotated[
        Literal["high", "low"] | None, Field(description="Which values are beyond it; null where it is no limit.")
    ]
    setpoint: float | None
    deadband: float | None
    on_delay_s: float | None
    off_delay_s: float | None
    priority: Priority
    clause: Name | None


class Computed(Shape):
    """How a point is computed, and of which points."""

    rule: Rule
    told: Name = Field(description="The rule in words.")
    members: list[str] = Field(description="The points that it is computed from, each once.")


class Point(Shape):
    """A point with its latest reading; one that is computed comes from no gateway and no device."""

    id: str
    name: Name
    kind: str
    cas: str | None
    unit: str
    low: float | None
    high: float | None
    decimals: int
    source: str | None
    gateway: str | None
    device: str | None
    declared: bool
    computed: Computed | None = Field(description="null for a point that some instrument measures.")
    limits: list[AlarmLimit]
    time: Instant | None
    value: float | None
    quality: int = Field(ge=0, le=255, description="OPC DA quality byte.")
    quality_text: str


class Projection(Shape):
    """Where a point is heading against one of its limits."""

    time: Instant
    level: float
    slope_per_s: float
    slope_low_per_s: float
    slope_high_per_s: float
    limit: float
    limit_kind: Limit
    horizon_s: float
    reaches_in_s: float | None


class PointInFull(Point):
    """A point with its latest reading and its projection."""

    projection: Projection | None


class Stretch(Shape):
    """A stretch of readings, by the times that they bear."""

    first: Instant
    last: Instant


class Readings(Shape):
    """Stored readings of a point in columns of one length."""

    point: str
    unit: str
    start: Instant
    end: Instant
    step_s: float | None
    time: list[Instant]
    value: list[float | None]
    min: list[float | None]
    max: list[float | None]
    quality: list[int]
    unsynchronised: list[Stretch] = Field(description=UNSYNCHRONISED)


class Contribution(Shape):
    """A point that brought a computed one over its limit."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    point: str
    percent: int | None = Field(description="Of all contributions; null where only the farthest off is named.")


class Because(Shape):
    """What lay behind a raising."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    first_out: list[str] = Field(description="Ids of the groups in which it came first.")
    vote: str | None = Field(description="What a vote had come down to by members not usable, such as 1oo2.")
    contributions: list[Contribution] = Field(description="The greatest first.")


class Alarm(Shape):
    """One raising of an alarm as it stands."""

    id: str
    alarm: str
    point: str
    source: str | None
    kind: AlarmKind
    priority: Priority
    phase: Phase
    shelved_until: Instant | None
    shelved_once: bool = Field(description="Whether the shelf ends sooner, with the alarm's return.")
    out_of_service: bool
    suppressed: bool = Field(
        description="Whether it is hidden from the operator: shelved, out of service, or else suppressed by design."
    )
    raised_at: Instant
    committed_at: Instant
    acknowledged_at: Instant | None
    acknowledged_by: str | None
    returned_at: Instant | None
    value: float | None
    setpoint: float | None
    unit: str
    message: Name
    clause: Name | None
    because: Because | None


class CommandedAlarm(Alarm):
    """An alarm after a command that was carried out here."""

    gateway: str | None = Field(
        description="Whether the gateway that decides the alarm has carried the command out as well: `waiting` (it is"
        " asked until it answers), `done`, or `refused: ` and why, and then the alarm stands as it does there. Null"
        " where no gateway decides it."
    )


class Step(Shape):
    """One step of an alarm's life as the journal holds it; `reason` is a person's or the engine's."""

    at: Instant
    event: str
    phase_from: Phase
    phase_to: Phase
    value: float | None
    who: str | None
    reason: str | None
    because: Because | None = Field(description="What the reason of a raising says.")


class Comment(Asked):
    """A remark that may be left out."""

    comment: str = Field("", max_length=2000)


class Reason(Asked):
    """A reason that has to be given."""

    reason: str = Field(min_length=1, max_length=2000)


class Shelving(Reason):
    """For how long to shelve, and why; no shelf is for ever (ISA-18.2-2016, 11.7)."""

    duration_s: float = Field(ge=1, le=7 * 86400, allow_inf_nan=False)
    once: bool = Field(default=False, description="End the shelf as soon as the alarm, which must be active, returns.")


class Nothing(Asked):
    """An empty body."""


class LogEntry(Shape):
    """One thing that happened to a ticket."""

    at: Instant
    who: str
    what: Name | str


class EvidenceLimit(Shape):
    """A limit drawn into the evidence."""

    kind: AlarmKind
    setpoint: float


class Evidence(Shape):
    """The trend that opened a ticket."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    point: str
    unit: str
    from_: Instant = Field(alias="from")
    to: Instant
    time: list[Instant]
    value: list[float | None]
    limits: list[EvidenceLimit]
    raised_at: Instant


class Ticket(Shape):
    """A hazard ticket (隐患)."""

    id: str
    title: Name
    source: str | None
    level: Literal["general", "major"]
    state: TicketState
    opened_at: Instant
    deadline: Instant
    reason: str
    alarms: list[str] = Field(description="Occurrence ids.")
    alarm: str
    liable: str | None
    log: list[LogEntry]


class TicketInFull(Ticket):
    """A hazard ticket with its evidence."""

    evidence: Evidence | None


class Measures(Asked):
    """What was done to put it right."""

    measures: str = Field(min_length=1, max_length=4000)


class Remark(Asked):
    """Why the work is accepted or sent back."""

    comment: str = Field(min_length=1, max_length=4000)


class Notification(Shape):
    """One message to one person; `channel` is the kind of channel, never the address."""

    id: str
    occurrence: str
    to: str
    channel: str
    subject: str
    body: str
    state: MessageState
    due_at: Instant
    sent_at: Instant | None
    attempts: int
    error: str | None
    reason: str


class Device(Shape):
    """A device of a gateway."""

    id: str
    state: Online
    points: int
    bad: int


class GatewayClock(Shape):
    """What a gateway said last of its clock: whether somebody sets it, and since when, by itself."""

    synchronised: bool
    since: Instant
    error_ms: float | None = Field(description="By how much it may be wrong at most; null where nobody knows.")
    step_s: float | None = Field(description="By how much it was set when it was set last; null where it never was.")


class GatewaySlice(Shape):
    """On which version of its slice of the plant a managed gateway runs, and what became of the last it was sent."""

    version: int = Field(description="0: the plant file that lies on the gateway itself.")
    current: bool | None = Field(description="Whether it is what the plant file here has for it; null until compared.")
    sent: int | None = Field(description="The version that it was sent last.")
    outcome: Literal["on trial", "applied", "refused", "rolled back"] | None
    reason: str | None = Field(description="Why it was refused or rolled back.")


class Gateway(Shape):
    """A gateway, whether it is there, and how far its readings have come."""

    id: str
    name: Name
    state: Online
    since: Instant | None
    last_seen: Instant | None
    readings: int
    batch: int
    committed: int
    devices: list[Device]
    clock: GatewayClock | None = Field(description="null where the gateway does not tell.")
    unsynchronised: list[Stretch] = Field(description=UNSYNCHRONISED)
    slice: GatewaySlice | None = Field(description="null where the gateway is not managed.")
    skew_s: float | None = Field(description="By how much its clock was ahead of ours when it was heard last.")
    skewed: bool = Field(description="Whether that is more than 30 s: the clock is wrong.")
    certificate_ends: Instant | None = Field(description="When its last certificate ends; null where it has none.")


class Quarantined(Shape):
    """A payload, or a part of one, that was refused."""

    at: Instant
    topic: str
    reason: str
    detail: str
    size: int


class Latency(Shape):
    """From a reading's time stamp to the commit of its transition, milliseconds, over the last `n` transitions."""

    p50: float | None
    p99: float | None
    n: int


class Counted(Shape):
    """An alarm definition and how often."""

    alarm: str
    count: int


class Band(Shape):
    """Up to how many alarms an hour EEMUA 191 calls a load by this name."""

    load: Load
    per_hour: float


class AlarmSystem(Shape):
    """How the alarm system does in a span, for one operator: what ISA-18.2 and EEMUA 191 measure; shares are of 1."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    from_: Instant = Field(alias="from")
    to: Instant
    alarms: int = Field(description="Raised and told to the operator: neither shelved, out of service nor suppressed.")
    by_hour: list[float] = Field(description="Alarms of each hour from `from` on; the last one may have begun only.")
    per_day: float = Field(description="At most 144 very likely acceptable, 288 manageable.")
    per_hour: float
    per_ten_minutes: float
    load: Load
    bands: list[Band]
    most_in_ten_minutes: float = Field(description="At most 10.")
    ten_minutes_over: float = Field(description="Share of ten-minute windows with more than 10; below 0.01.")
    hours_over: float = Field(description="Share of hours with more than 30; below 0.01.")
    floods: list[Flood]
    in_flood: float = Field(description="Share of the time; below 0.01.")
    top: list[Counted] = Field(description="The ten most frequent alarms.")
    top_share: float = Field(description="Their share of all; below 0.05.")
    priorities: dict[Priority, float] = Field(description="About 0.80 low, 0.15 medium, 0.05 high, 0.01 critical.")
    chattering: list[Counted] = Field(description="Raised three times or more within a minute, and most so; none.")
    fleeting: list[Counted] = Field(description="Gone again within ten seconds, and how often; none.")
    standing: list[str] = Field(description="Active for longer than 24 h, called stale by the standard; fewer than 5.")


class Kpi(Shape):
    """The system's figures."""

    points: int
    gateways_online: int
    readings_stored: int
    readings_per_second: float
    quarantined: dict[str, int]
    alarms_raised: int
    alarms_active: int = Field(description="How many have a condition that still holds.")
    alarms_unacknowledged: int
    early_warnings: int
    tickets_opened: int
    tickets_open: int
    messages_delivered: int
    latency_ms: Latency
    late_readings: int
    clock_steps_back: int
    alarm_system: AlarmSystem


class FloodNow(Shape):
    """Whether an alarm flood goes on."""

    flood: Flood | None


class Hello(Shape):
    """The first event of a stream."""

    server_time: Instant
    version: str


class Reset(Shape):
    """The event in the place of others that the reader was not sent: everything is to be read anew."""

    reason: str


class Ping(Shape):
    """The event that shows that the stream is alive."""

    server_time: Instant


class Values(Shape):
    """Readings that changed, in columns of one length."""

    point: list[str]
    time: list[Instant]
    value: list[float | None]
    quality: list[int]


class Health(Shape):
    """How the process is; `reason` says what is missing when it is not ready."""

    status: Literal["ok", "not ready"]
    reason: str | None = None
