"""What was to arrive in the cloud side's fault benchmark, and what is missing or too often in its files: counting."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb

from tocsin_cli.bench.faults_cloud_bed import Tables
from tocsin_cli.bench.faults_tally import Count
from tocsin_cloud.loops.journal import NO_LONGER_WATCHED
from tocsin_core.readings import BAD_NOT_CONNECTED

Reading = tuple[str, int]
"""Point, and time in ms since 1970."""


@dataclass(frozen=True, slots=True)
class Alarms:
    """What the tables have: whether each occurrence has returned, and how often each step was written down.

    `given_up`: those that were closed because the engine did not know them any more.
    """

    returned: Mapping[str, bool]
    raises: Mapping[str, int]
    returns: Mapping[str, int]
    given_up: frozenset[str]


def readings(sent: set[Reading], stored: Mapping[Reading, int]) -> Count:
    """Count readings: one that is stored twice is doubled, and so is one that was never sent."""
    lost = sum(1 for reading in sent if reading not in stored)
    return Count(len(sent), lost, sum(stored.values()) - (len(sent) - lost))


def alarms(raised: Mapping[str, bool], found: Alarms) -> Count:
    """Count occurrences: doubled is one too many, or a step twice.

    Lost is one that is not there, that has not returned, or that was given up, even if it was raised again.
    `raised`: those that there must be, each with whether it has to have returned.
    """
    there = found.returned
    lost = sum(one not in there or one in found.given_up or (gone and not there[one]) for one, gone in raised.items())
    strays = len(there.keys() - raised.keys())
    again = sum(count - 1 for steps in (found.raises, found.returns) for count in steps.values())
    return Count(len(raised), lost, strays + again)


def messages(told: set[str], delivered: Iterable[str]) -> Count:
    """Count messages by the occurrence that each is about: people must be told once of those in `told`, of no other."""
    found = Counter(delivered)
    lost = len(told - found.keys())
    return Count(len(told), lost, found.total() - (len(told) - lost))


def stored_readings(history: Path) -> dict[Reading, int]:
    """How often each reading is in the history, without what a gateway's death marks: that is our own word."""
    with duckdb.connect(str(history), read_only=True) as store:
        rows = store.execute(
            "SELECT id, time_ns // 1000000, count(*) FROM readings JOIN points ON points.key = readings.point "
            "WHERE quality <> ? GROUP BY ALL",
            [BAD_NOT_CONNECTED],
        ).fetchall()
    return {(point, time_ms): count for point, time_ms, count in rows}


def decided_alarms(tables: Tables) -> Alarms:
    """What the tables have of alarms."""
    steps = tables.rows("SELECT event, occurrence, count(*) FROM transition GROUP BY event, occurrence")
    reasons = tables.rows("SELECT DISTINCT occurrence, reason FROM transition")
    return Alarms(
        {one: returned is not None for one, returned in tables.rows("SELECT id, returned_ns FROM occurrence")},
        {one: count for event, one, count in steps if event == "raise"},
        {one: count for event, one, count in steps if event == "return"},
        frozenset(one for one, reason in reasons if reason == NO_LONGER_WATCHED),
    )


def delivered_messages(tables: Tables, outbox: Path) -> list[str]:
    """The occurrence of each message that was delivered, as often as it was."""
    about = dict(tables.rows("SELECT id, occurrence FROM message"))
    lines = outbox.read_text(encoding="utf-8").splitlines() if outbox.exists() else []
    return [about.get(json.loads(line)["id"], "") for line in lines]
