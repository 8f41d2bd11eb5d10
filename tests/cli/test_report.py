"""The headless demo's report: what counts as lost, and where the early warning's lead comes from."""

from typing import Any

import pytest

from tocsin_cli.demo.report import Evidence, SpoolCount, build, early_warning_lead_s


def alarm(point: str, kind: str, raised_at: str) -> dict[str, Any]:
    """An alarm as the API tells it."""
    return {"alarm": f"{point}/{kind}", "point": point, "kind": kind, "priority": "high", "raised_at": raised_at}


def evidence(**changes: object) -> Evidence:
    """What a run in which nothing was lost leaves, with changes."""
    given: dict[str, Any] = {
        "started_at": "2026-01-01T00:00:10.000Z",
        "points": 60,
        "gateways": 2,
        "before": [SpoolCount(100, 10)],
        "after": [SpoolCount(500, 20)],
        "stored_before": 90,
        "stored_after": 480,
        "alarms": [],
        "tickets": [],
        "notifications": [],
        "latency_ms": {"p50": 80.0, "p99": 300.0, "n": 5},
        "restarts": 0,
    }
    return Evidence(**(given | changes))


def test_lead_is_counted_at_the_same_point() -> None:
    """The lead runs from the first early warning to the level-1 alarm of that point, whatever others do."""
    alarms = [
        alarm("B", "H", "2026-01-01T00:00:22.000Z"),
        alarm("A", "time-to-limit", "2026-01-01T00:00:20.000Z"),
        alarm("A", "H", "2026-01-01T00:00:28.500Z"),
    ]
    assert early_warning_lead_s(alarms) == 8.5


@pytest.mark.parametrize("kinds", [["time-to-limit"], ["H"], []])
def test_no_lead_without_both(kinds: list[str]) -> None:
    """Where no warning came, or no level-1 alarm followed, there is no lead to tell."""
    assert early_warning_lead_s([alarm("A", kind, "2026-01-01T00:00:20.000Z") for kind in kinds]) is None


def test_what_waits_in_a_spool_is_not_lost() -> None:
    """Twenty readings that the cloud has not committed yet are waiting, and none is lost."""
    built = build(evidence())
    assert (built["readings_polled"], built["readings_stored"]) == (400, 380)
    assert (built["readings_waiting"], built["readings_lost"]) == (20, 0)


def test_what_is_neither_stored_nor_waiting_is_lost() -> None:
    """Of 500 readings 20 wait and the historian has 473: seven are lost."""
    assert build(evidence(stored_after=473))["readings_lost"] == 7


def test_a_reading_dropped_by_the_bound_is_lost() -> None:
    """What the spool's byte bound dropped never arrives, and the report says so."""
    assert build(evidence(after=[SpoolCount(500, 0)]))["readings_lost"] == 20


def test_only_this_run_is_reported() -> None:
    """Alarms, tickets and messages of an earlier run on the same data stay out of the report."""
    early, late = "2026-01-01T00:00:09.000Z", "2026-01-01T00:00:11.000Z"
    built = build(
        evidence(
            alarms=[alarm("A", "H", late), alarm("A", "H", early)],
            tickets=[{"opened_at": early}, {"opened_at": late}],
            notifications=[
                {"state": "delivered", "sent_at": late},
                {"state": "delivered", "sent_at": early},
                {"state": "pending", "sent_at": None},
            ],
        )
    )
    assert [row["raised_at"] for row in built["alarms"]] == [late]
    assert (built["tickets_opened"], built["messages_delivered"]) == (1, 1)
