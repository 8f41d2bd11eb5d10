"""What was to arrive in the cloud side's fault benchmark, and what is missing or too often in its files: counting."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

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


class Delivery(NamedTuple):
    """A request that the web hook took: the key that it came with, and the occurrence that it is about."""

    key: str
    occurrence: str


@dataclass(frozen=True, slots=True)
class Messages:
    """What came of the messages: `delivered` counts every request that was taken.

    `known_again`: those of the doubled ones that a receiver may drop, as it has taken their key before.
    """

    count: Count
    delivered: int
    known_again: int


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


def messages(told: set[str], delivered: Sequence[Delivery]) -> Messages:
    """Count messages by the occurrence that each is about: people must be told once of those in `told`, of no other."""
    found = Counter(delivery.occurrence for delivery in delivered)
    lost = len(told - found.keys())
    known_again = len(delivered) - len({delivery.key for delivery in delivered})
    return Messages(Count(len(told), lost, found.total() - (len(told) - lost)), len(delivered), known_again)


def stored_readings(history: Path) -> dict[Reading, int]:
    """How often each reading is in the history, without what a gateway's death marks: that is our own word."""
    with duckdb.connect(str(history), read_only=True) as store:
        rows = store.execute(
            "SELECT id, time_ns // 1000000, count(*) FROM readings JOIN points ON points.key = readings.point "
            "WHERE quality <> ? GROUP BY ALL",
            [BAD_NOT_CONNECTED],
        ).fetchall()
    return {(point, time_ms): count for point, time_ms, count in rows}


async def decided_alarms(tables: Tables) -> Alarms:
    """What the tables have of alarms."""
    steps = await tables.rows("SELECT event, occurrence, count(*) FROM transition GROUP BY event, occurrence")
    reasons = await tables.rows("SELECT DISTINCT occurrence, reason FROM transition")
    ends = await tables.rows("SELECT id, returned_ns FROM occurrence")
    return Alarms(
        {one: returned is not None for one, returned in ends},
        {one: count for event, one, count in steps if event == "raise"},
        {one: count for event, one, count in steps if event == "return"},
        frozenset(one for one, reason in reasons if reason == NO_LONGER_WATCHED),
    )


async def delivered_messages(tables: Tables, keys: Iterable[str]) -> list[Delivery]:
    """What each of the requests with these keys was about."""
    about = dict(await tables.rows("SELECT id, occurrence FROM message"))
    return [Delivery(key, about.get(key, "")) for key in keys]
