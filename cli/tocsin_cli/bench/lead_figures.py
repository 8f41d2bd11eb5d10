"""Early warnings held against what came of them: leads, misses with their reasons, and false ones with their causes."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from tocsin_cli.bench.lead_course import Course, Disturbance, Incident
from tocsin_cli.bench.lead_readings import NOT_READ
from tocsin_core.plant import AlarmDefinition, AlarmKind
from tocsin_core.readings import F64, U8, is_good

LIMITS: Final = frozenset({AlarmKind.HH, AlarmKind.H, AlarmKind.L, AlarmKind.LL})
FOLLOWED: Final = 1.5  # horizons within which a warning must be followed by its limit, or it was false
SETTLING_S: Final = 120  # for how long what an incident did may still show after it is over

BASELINE_S: Final = 120
VISIBLE_SIGMAS: Final = 4.0
LEAST_READINGS_S: Final = 3.0  # two readings make any line; the third is the first to confirm it

NO_DEFINITION: Final = "the points that alarmed have no early warning"
NOTHING_TO_SEE: Final = "at level 1 within three readings and the on-delay of first showing"
NOT_SURE: Final = "not sure enough in time"


@dataclass(frozen=True, slots=True)
class Raised:
    """An alarm that was raised in one stretch at `time_s` and stood until `until_s` (infinite: to the end)."""

    definition: AlarmDefinition
    time_s: float
    until_s: float

    @property
    def early(self) -> bool:
        """Whether it foresees a limit."""
        return self.definition.kind is AlarmKind.TIME_TO_LIMIT

    @property
    def limit(self) -> bool:
        """Whether it is a limit itself."""
        return self.definition.kind in LIMITS


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an incident; times in seconds.

    `possible_s` from the onset of its cause to level 1, NaN where that was never reached; `visible_s` from the first
    reading that showed it; `lead_s` from the first early warning, NaN without one; `reason` why there was none.
    """

    kind: str
    possible_s: float
    visible_s: float
    lead_s: float
    reason: str

    @property
    def reached(self) -> bool:
        """Whether level 1 was reached."""
        return not np.isnan(self.possible_s)

    @property
    def warned(self) -> bool:
        """Whether an early warning came before that."""
        return not np.isnan(self.lead_s)


@dataclass(frozen=True, slots=True)
class Stretch:
    """One stretch of hours with what was read in it and what was raised."""

    course: Course
    value: F64
    quality: U8
    raised: Sequence[Raised]


def outcome(incident: Incident, stretch: Stretch, column: dict[str, int], decimals: dict[str, int]) -> Outcome:
    """What became of `incident`; `column` and `decimals` by point."""
    here = [
        each
        for each in stretch.raised
        if each.definition.point in incident.points and incident.onset_s <= each.time_s <= incident.over_s + SETTLING_S
    ]
    level_1 = min((each for each in here if each.limit), key=lambda each: each.time_s, default=None)
    if level_1 is None:
        return Outcome(incident.kind, np.nan, np.nan, np.nan, "")
    point = level_1.definition.point
    at = level_1.time_s
    own = column[point]
    digit = 10.0 ** -decimals[point]
    visible = at - first_shown(stretch.value[:, own], stretch.quality[:, own], incident.onset_s, at, digit)
    warned = min((each.time_s for each in here if each.early and each.time_s < at), default=np.nan)
    return Outcome(incident.kind, at - incident.onset_s, visible, at - warned, "")


def first_shown(value: F64, quality: U8, onset_s: int, level_1_s: float, digit: float) -> float:
    """The second from which every reading of a point, up to level 1, was off what it had been before the onset.

    Off: by more than four standard deviations of the two minutes before, at least one last digit.
    """
    read = np.flatnonzero(is_good(quality) & (quality != NOT_READ))
    before = value[read[(read >= onset_s - BASELINE_S) & (read < onset_s)]]
    during = read[(read >= onset_s) & (read <= level_1_s)]
    off = np.abs(value[during] - before.mean()) > max(VISIBLE_SIGMAS * float(before.std()), digit)
    usual = np.flatnonzero(~off)
    if not len(usual):
        return float(onset_s)
    return float(during[usual[-1] + 1]) if usual[-1] + 1 < len(during) else level_1_s


def why_missed(found: Outcome, rules: Sequence[AlarmDefinition]) -> str:
    """The reason for which there was no early warning; `rules` are those of the points that reached a limit."""
    if not rules:
        return NO_DEFINITION
    least_s = min(rule.on_delay_s for rule in rules) + LEAST_READINGS_S
    return NOTHING_TO_SEE if found.visible_s <= least_s else NOT_SURE


def is_false(warning: Raised, raised: Iterable[Raised]) -> bool:
    """Whether the limit that `warning` foresaw neither stood then nor was raised within 1.5 horizons."""
    until = warning.time_s + FOLLOWED * warning.definition.horizon_s
    return not any(
        each.definition.point == warning.definition.point
        and each.definition.kind is warning.definition.limit
        and each.time_s <= until
        and each.until_s > warning.time_s
        for each in raised
    )


def cause_of(warning: Raised, course: Course) -> str:
    """What was going on when an alarm was raised: an incident, or what began last of all that is normal."""
    for incident in course.incidents:
        if _concerns(incident, warning, incident.onset_s, incident.over_s + SETTLING_S):
            return f"incident: {incident.kind}"
    there = [each for each in course.disturbances if _concerns(each, warning, each.start_s, each.end_s)]
    return max(there, key=lambda each: each.start_s).cause if there else "noise and drift alone"


def _concerns(event: Incident | Disturbance, warning: Raised, begin: float, end: float) -> bool:
    return warning.definition.point in event.points and begin <= warning.time_s <= end


@dataclass(frozen=True, slots=True)
class Tally:
    """Everything counted of one plant, or of several together."""

    hours: float
    points: int
    early_warnings: int
    point_days: float
    outcomes: list[Outcome]
    false: Counter[str]
    false_alarms: Counter[str]


def tally(
    hours: float, points: Sequence[tuple[str, int]], rules: Sequence[AlarmDefinition], stretches: Iterable[Stretch]
) -> Tally:
    """Count what came of `stretches` of a plant with `points` (id, decimals) under `rules`."""
    column = {point: index for index, (point, _) in enumerate(points)}
    decimals = dict(points)
    early = {rule.point: rule for rule in rules if rule.kind is AlarmKind.TIME_TO_LIMIT}
    outcomes: list[Outcome] = []
    false: Counter[str] = Counter()
    alarms: Counter[str] = Counter()
    for stretch in stretches:
        for incident in stretch.course.incidents:
            found = outcome(incident, stretch, column, decimals)
            if found.reached and not found.warned:
                about = [early[point] for point in _alarmed(incident, stretch) if point in early]
                found = replace(found, reason=why_missed(found, about))
            outcomes.append(found)
        for each in stretch.raised:
            if each.early and is_false(each, stretch.raised):
                false[cause_of(each, stretch.course)] += 1
            elif each.limit:
                cause = cause_of(each, stretch.course)
                if not cause.startswith("incident"):
                    alarms[cause] += 1
    days = hours / 24.0
    return Tally(hours, len(points), len(early), len(points) * days, outcomes, false, alarms)


def _alarmed(incident: Incident, stretch: Stretch) -> set[str]:
    return {
        each.definition.point
        for each in stretch.raised
        if each.limit
        and each.definition.point in incident.points
        and incident.onset_s <= each.time_s <= incident.over_s + SETTLING_S
    }


def together(tallies: Sequence[Tally]) -> Tally:
    """Several plants as one."""
    return Tally(
        sum(each.hours for each in tallies),
        sum(each.points for each in tallies),
        sum(each.early_warnings for each in tallies),
        sum(each.point_days for each in tallies),
        [found for each in tallies for found in each.outcomes],
        sum((each.false for each in tallies), Counter()),
        sum((each.false_alarms for each in tallies), Counter()),
    )


def _summary(values: Sequence[float]) -> dict[str, float | None]:
    if not values:
        return {"median": None, "p10": None}
    return {"median": round(float(np.median(values)), 1), "p10": round(float(np.percentile(values, 10)), 1)}


def _incidents(outcomes: Sequence[Outcome]) -> dict[str, object]:
    reached = [each for each in outcomes if each.reached]
    warned = [each for each in reached if each.warned]
    share = [each.lead_s / each.possible_s for each in warned]
    visible = [each.lead_s / each.visible_s for each in warned if each.visible_s > 0.0]
    return {
        "incidents": len(reached),
        "stayed_below_level_1": len(outcomes) - len(reached),
        "warned_before_level_1": len(warned),
        "missed": len(reached) - len(warned),
        "missed_because": dict(Counter(each.reason for each in reached if not each.warned)),
        "lead_s": _summary([each.lead_s for each in warned]),
        "lead_s_missed_as_0": _summary([each.lead_s if each.warned else 0.0 for each in reached]),
        "onset_to_level_1_s": _summary([each.possible_s for each in reached]),
        "shown_to_level_1_s": _summary([each.visible_s for each in reached]),
        "lead_share_of_onset_to_level_1": round(float(np.median(share)), 3) if share else None,
        "lead_share_of_shown_to_level_1": round(float(np.median(visible)), 3) if visible else None,
    }


def report(counted: Tally) -> dict[str, object]:
    """The figures of a tally as they are printed."""
    days = counted.hours / 24.0
    false, alarms = counted.false.total(), counted.false_alarms.total()
    by_kind: defaultdict[str, list[Outcome]] = defaultdict(list)
    for each in counted.outcomes:
        by_kind[each.kind].append(each)
    in_incidents = sum(count for cause, count in counted.false.items() if cause.startswith("incident"))
    return {
        "hours": counted.hours,
        "points": counted.points,
        "early_warnings_defined": counted.early_warnings,
        **_incidents(counted.outcomes),
        "false_early_warnings": false,
        "false_early_warnings_in_normal_running": false - in_incidents,
        "false_early_warnings_per_day": round(false / days, 2) if days else None,
        "false_early_warnings_per_day_per_100_points": round(100.0 * false / counted.point_days, 2) if days else None,
        "false_early_warnings_by_cause": dict(counted.false.most_common()),
        "false_alarms_per_day": round(alarms / days, 2) if days else None,
        "false_alarms_by_cause": dict(counted.false_alarms.most_common()),
        "by_kind": {kind: _incidents(found) for kind, found in sorted(by_kind.items())},
    }
