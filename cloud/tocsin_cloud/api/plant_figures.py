"""The plant as figures for Prometheus: what stands on each hazard source, and the limits of each point."""

from collections.abc import Iterable, Sequence
from math import isfinite
from typing import Final

import numpy as np
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from tocsin_cloud.api.ports import Latest
from tocsin_cloud.api.present import SIDED
from tocsin_cloud.api.standing import Pending
from tocsin_cloud.loops.silence import dark
from tocsin_core.plant import Plant, PlantPoint, Priority
from tocsin_core.readings import I64
from tocsin_core.tickets import TicketState

OPEN_TICKETS: Final = (TicketState.RECTIFYING, TicketState.AWAITING_ACCEPTANCE)
TicketCounts = dict[tuple[str | None, str], int]
"""Tickets by source and state."""


class _Given(Collector):
    """Families that are made already."""

    def __init__(self, families: Iterable[GaugeMetricFamily]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[GaugeMetricFamily]:
        return self._families


def text_of(families: Iterable[GaugeMetricFamily]) -> bytes:
    """Return `families` in the Prometheus text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Given(families))
    return generate_latest(registry)


def source_figures(plant: Plant, pending: Sequence[Pending], tickets: TicketCounts) -> list[GaugeMetricFamily]:
    """What stands on each hazard source; what belongs to none stands under the source ""."""
    info = GaugeMetricFamily(
        "tocsin_source_info",
        "A hazard source; level: its grade by GB 18218-2018, 1 the highest.",
        labels=("source", "name_zh", "name_en", "level"),
    )
    worst = GaugeMetricFamily(
        "tocsin_source_worst",
        "The highest priority that stands or waits for an answer: 4 critical, 3 high, 2 medium, 1 low, 0 none.",
        labels=("source",),
    )
    early = GaugeMetricFamily("tocsin_source_early_warning", "1 while an early warning stands.", labels=("source",))
    active = GaugeMetricFamily("tocsin_alarms_active", "Alarms whose condition is true.", labels=("source", "priority"))
    waiting = GaugeMetricFamily(
        "tocsin_alarms_unacknowledged", "Alarms that nobody has acknowledged.", labels=("source", "priority")
    )
    open_ = GaugeMetricFamily("tocsin_tickets_open", "Tickets not accepted yet, by state.", labels=("source", "state"))
    names = {
        source.id: (source.name.zh, source.name.en, str(source.level or "")) for source in plant.file.hazard_sources
    }
    for source in (*names, ""):
        if source:
            info.add_metric((source, *names[source]), 1)
        theirs = [row for row in pending if (row.source or "") == source]
        worst.add_metric((source,), max((Priority(row.priority).rank for row in theirs), default=0))
        early.add_metric((source,), any(row.early and row.standing for row in theirs))
        for priority in Priority:
            rows = [row for row in theirs if row.priority == priority]
            active.add_metric((source, priority), sum(row.alarms for row in rows if row.standing))
            waiting.add_metric((source, priority), sum(row.alarms for row in rows if row.unanswered))
        for state in OPEN_TICKETS:
            open_.add_metric((source, state), tickets.get((source or None, state), 0))
    return [info, worst, early, active, waiting, open_]


def point_counts(plant: Plant, latest: Latest, allowed_ns: I64, now_ns: int) -> list[GaugeMetricFamily]:
    """How many points each hazard source has, and how many of them nobody can judge now."""
    declared = len(plant.points)
    unlit = dark(latest.time_ns[:declared], latest.quality[:declared], allowed_ns, now_ns)
    sources = np.asarray([point.source or "" for point in plant.points])
    points = GaugeMetricFamily("tocsin_source_points", "Points of a hazard source.", labels=("source",))
    lost = GaugeMetricFamily(
        "tocsin_source_points_dark",
        "Points of a hazard source that are bad, silent, or were never read.",
        labels=("source",),
    )
    for source in sorted({*sources.tolist(), *(source.id for source in plant.file.hazard_sources)}):
        theirs = sources == source
        points.add_metric((source,), int(np.count_nonzero(theirs)))
        lost.add_metric((source,), int(np.count_nonzero(theirs & unlit)))
    return [points, lost]


def limit_figures(points: Sequence[PlantPoint]) -> list[GaugeMetricFamily]:
    """The names, units and limits of `points`, which change only with the plant file."""
    info = GaugeMetricFamily(
        "tocsin_point_info", "A point.", labels=("point", "source", "unit", "kind", "name_zh", "name_en")
    )
    limit = GaugeMetricFamily(
        "tocsin_point_limit",
        "A limit of a point, in the point's unit.",
        labels=("point", "source", "kind", "side", "priority"),
    )
    for point in points:
        source, called = point.source or "", point.config.name
        info.add_metric((point.id, source, point.unit, str(point.kind), called.zh, called.en), 1)
        for definition in point.definitions:
            if definition.kind in SIDED and isfinite(definition.setpoint):
                side = "high" if definition.side > 0 else "low"
                labels = (point.id, source, str(definition.kind), side, str(definition.priority))
                limit.add_metric(labels, definition.setpoint)
    return [info, limit]
