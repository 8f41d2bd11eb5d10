"""The headless demo's one JSON object, from what the cloud side and the gateways' spools say."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Row = dict[str, Any]

EARLY_WARNING = "time-to-limit"
LEVEL_1 = ("H", "L")


@dataclass(frozen=True, slots=True)
class SpoolCount:
    """A gateway's counts over its life: readings taken in, and those of them that only its spool has yet."""

    polled: int
    waiting: int


def seconds_between(first: str, second: str) -> float:
    """Seconds from one RFC 3339 time to another."""
    return (datetime.fromisoformat(second) - datetime.fromisoformat(first)).total_seconds()


def early_warning_lead_s(alarms: Sequence[Row]) -> float | None:
    """Seconds from the first early warning to the level-1 alarm of the same point; None where either is missing."""
    ordered = sorted(alarms, key=lambda alarm: str(alarm["raised_at"]))
    for warning in ordered:
        if warning["kind"] != EARLY_WARNING:
            continue
        for alarm in ordered:
            if (
                alarm["point"] == warning["point"]
                and alarm["kind"] in LEVEL_1
                and alarm["raised_at"] >= warning["raised_at"]
            ):
                return round(seconds_between(warning["raised_at"], alarm["raised_at"]), 3)
    return None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the report is made of: API rows, the spools before and after the run, and what the historian stored."""

    started_at: str
    points: int
    gateways: int
    before: Sequence[SpoolCount]
    after: Sequence[SpoolCount]
    stored_before: int
    stored_after: int
    alarms: Sequence[Row]
    tickets: Sequence[Row]
    notifications: Sequence[Row]
    latency_ms: Row
    restarts: int


def build(evidence: Evidence) -> Row:
    """The report.

    `readings_lost` is what the gateways took in, over the whole life of the data folder, and is neither stored by the
    historian nor waiting in a spool for it; what waits is not lost and is counted apart.
    """
    polled = sum(count.polled for count in evidence.after)
    waiting = sum(count.waiting for count in evidence.after)
    raised = [alarm for alarm in evidence.alarms if alarm["raised_at"] >= evidence.started_at]
    alarms = sorted(raised, key=lambda alarm: str(alarm["raised_at"]))
    return {
        "points": evidence.points,
        "gateways": evidence.gateways,
        "readings_polled": polled - sum(count.polled for count in evidence.before),
        # What an earlier run left waiting and this one stored is no reading of this run.
        "readings_stored": evidence.stored_after - evidence.stored_before - sum(c.waiting for c in evidence.before),
        "readings_waiting": waiting,
        "readings_lost": polled - waiting - evidence.stored_after,
        "alarms": [
            {key: alarm[key] for key in ("alarm", "point", "kind", "priority", "raised_at")} for alarm in alarms
        ],
        "early_warning_lead_s": early_warning_lead_s(alarms),
        "tickets_opened": sum(ticket["opened_at"] >= evidence.started_at for ticket in evidence.tickets),
        "messages_delivered": sum(
            row["state"] == "delivered" and row["sent_at"] >= evidence.started_at for row in evidence.notifications
        ),
        "latency_ms": {"p50": evidence.latency_ms["p50"], "p99": evidence.latency_ms["p99"]},
        "restarts": evidence.restarts,
    }
