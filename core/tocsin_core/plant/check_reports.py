"""For which points report by exception is refused: those whose readings an alarm or another point looks at."""

from collections.abc import Iterable, Mapping
from typing import Final

from tocsin_core.plant.computed import points_of
from tocsin_core.plant.model import AlarmKind
from tocsin_core.plant.point import PlantPoint
from tocsin_core.plant.source import Path, Source

# These two look at quality and age only; every reading that is not good is told, and those around it.
BLIND_TO_VALUES: Final = frozenset({AlarmKind.BAD, AlarmKind.STALE})
# Told so often in the time after which the point is stale, no reading that was not told can raise that alarm.
TOLD_UNTIL_STALE: Final = 2


def check_reports(
    placed: Iterable[tuple[Path, PlantPoint]], modelled: Mapping[str, tuple[str, ...]], source: Source
) -> None:
    """Note in `source` each `report` of `placed` that would change an alarm, a computed point or what suppresses one.

    `modelled`: the points of each normal-operation model.
    """
    points = tuple(placed)
    users = _users([point for _, point in points], modelled)
    for path, point in points:
        report = point.config.report
        if report is None:
            continue
        here: Path = (*path, "report")
        if point.gateway.external:
            source.problem(here, "an external gateway decides itself what it reports")
        looking = [each.kind.value for each in point.definitions if each.kind not in BLIND_TO_VALUES]
        if looking:
            source.problem(here, f"the point has alarms that look at its value ({', '.join(looking)}): all is reported")
        if point.id in users:
            source.problem(here, f"{users[point.id]} is worked out of the point: all is reported")
        stale = next((each for each in point.definitions if each.kind is AlarmKind.STALE), None)
        if stale is not None and report.longest_s * TOLD_UNTIL_STALE > stale.after_s:
            most = stale.after_s / TOLD_UNTIL_STALE
            source.problem((*here, "longest_s"), f"the point is stale after {stale.after_s:g} s: at most {most:g}")


def _users(points: list[PlantPoint], modelled: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Who looks at a point's readings, by its id."""
    users: dict[str, str] = {}
    for point in points:
        if point.compute is not None:
            for member in points_of(point.compute, modelled):
                users.setdefault(member, point.id)
        if point.mode_source is not None:
            users.setdefault(point.mode_source.point, f"the state of {point.id}")
        for definition in point.definitions:
            if definition.suppressed_by is not None:
                users.setdefault(definition.suppressed_by.point, f"what suppresses {definition.id}")
    return users
