"""The shapes of the health report: whether the plant is watched, and what is not."""

from typing import Literal

from pydantic import Field

from tocsin_cloud.api.model import Instant, Name, Shape

Severity = Literal["fault", "warning"]
TroubleKind = Literal[
    "not-ready",
    "role",
    "alarms-rebuilt",
    "broker",
    "gateway-away",
    "gateway-silent",
    "points-dark",
    "messages-overdue",
    "messages-failed",
    "messages-failing",
    "way-dead",
    "history-behind",
    "orders-waiting",
    "disagreement",
    "clock",
    "certificate",
    "plant-file",
    "disk",
    "stream",
    "tickets-overdue",
    "alarms-late",
    "broker-refuses",
    "commits-refused",
    "computed-waiting",
    "history-drops",
    "journal-lost",
    "journal-unheeded",
    "looks-fail",
    "quarantine",
    "spool-anew",
    "too-fast",
]


class Trouble(Shape):
    """Something that is not as it should be: a fault where something is not watched or nobody is told."""

    severity: Severity
    kind: TroubleKind
    subject: str = Field(description="The role, gateway or device; empty for the whole.")
    since: Instant | None = Field(description="null where nobody knows.")
    text: Name


class RoleHealth(Shape):
    """One part of the work, and how far it is behind."""

    role: str
    works: bool
    behind_s: float | None = Field(description="Age of the last message that it has committed; null: none yet.")
    waiting: int = Field(description="Messages of the stream that it has not taken.")


class SourceHealth(Shape):
    """A hazard source, and how many of its points nobody can judge now."""

    id: str
    name: Name
    points: int
    dark: int


class Messages(Shape):
    """Messages to people."""

    waiting: int
    overdue_s: float
    failed_last_hour: int


class HealthReport(Shape):
    """Whether the plant is being watched, and what is not; faults come before warnings."""

    watching: bool = Field(description="Whether there is no fault.")
    at: Instant
    started_at: Instant
    troubles: list[Trouble]
    roles: list[RoleHealth]
    gateways: int
    gateways_online: int
    points: int
    points_dark: int
    sources: list[SourceHealth]
    messages: Messages
    readings_per_second: float
