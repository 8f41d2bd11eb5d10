"""What each kind of alarm brings where the plant file does not say, and which settings mean something to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import sqrt
from typing import Final, Literal

from tocsin_core.detectors.change import Calibration
from tocsin_core.plant.computed import Balance, Compute, Grade, Median, Normal, Spread, Vote
from tocsin_core.plant.fields import Text
from tocsin_core.plant.model import AlarmKind, AlarmSetting, Point, Priority
from tocsin_core.plant.standards import (
    CLAUSE_PEAKS,
    CLAUSE_POND,
    CLAUSE_STEL,
    CLAUSE_TWA,
    MILLIGRAMS,
    PARTS,
    SIDE,
    defaults_of,
    limits_of,
    written,
)

LIMITS: Final = (AlarmKind.HH, AlarmKind.H, AlarmKind.L, AlarmKind.LL)
HIGH_LIMITS: Final = (AlarmKind.HH, AlarmKind.H)
GRADES: Final = (AlarmKind.BLUE, AlarmKind.YELLOW, AlarmKind.ORANGE, AlarmKind.RED)
EXPOSURES: Final = (AlarmKind.STEL, AlarmKind.TWA, AlarmKind.PEAKS)
CHARTS: Final = (AlarmKind.CUSUM, AlarmKind.EWMA)

STALE_PERIODS: Final = 5  # a point is stale after this many missed periods, but not before STALE_LEAST_S
STALE_LEAST_S: Final = 10.0
# An instrument that answers badly once may be answering well by the next period. The third bad reading in a row is a
# fault, and of a device that is dead the last: cycles lie a few ms more or less than a period apart.
BAD_PERIODS: Final = 1.5
BAD_OFF_DELAY_S: Final = 5.0
# No limit is judged by an uncertain reading. Instruments warm up in about this time (our own choice); what is computed
# may want a day to be sure (a mass balance).
UNCERTAIN_S: Final = 600.0
UNCERTAIN_COMPUTED_S: Final = 86_400.0
RATE_WINDOW_S: Final = 60.0
RATE_OFF_DELAY_S: Final = 30.0
RATE_DEADBAND: Final = 0.2  # of the set point
LEAST_WINDOW_PERIODS: Final = 15  # a slope wants this many readings in its window (see detect.LEAST_READINGS)
EXPOSURE_DEADBAND: Final = 0.05  # of the set point: ours
LOOP_ON_DELAY_S: Final = 4.0  # explanations of NAMUR NE 43 ask for it before a failure is told (likely)
STUCK_WINDOW_S: Final = 600.0  # ours; at least STUCK_PERIODS, the fewest readings that tell
STUCK_PERIODS: Final = 10
SPIKE_OFF_DELAY_S: Final = 300.0  # ours: a loose contact is one alarm, not one for each spike

# Ours: a balance is judged at 3 standard uncertainties, returns within 2, and wants looking at, not running.
BALANCE_SIGMAS: Final = 3.0
BALANCE_DEADBAND: Final = 1.0
# A statistic of a normal-operation model counts from 1 on.
STATISTIC: Final = 1.0
STATISTIC_DEADBAND: Final = 0.1
# Ours: neighbours that differ for a moment, as a gas cloud passes, are no news.
SPREAD_DEADBAND: Final = 0.5  # of the set point
SPREAD_ON_DELAY_S: Final = 60.0

_COMMON: Final = frozenset({"on_delay_s", "off_delay_s", "priority", "latching", "realarm_s", "suppressed_by"})
_LIMIT_USES: Final = _COMMON | {"setpoint", "deadband"}
USES: Final[dict[AlarmKind, frozenset[str]]] = {
    **dict.fromkeys(LIMITS, _LIMIT_USES),
    **dict.fromkeys(GRADES, _LIMIT_USES | {"side"}),
    AlarmKind.RATE: _LIMIT_USES | {"window_s"},
    AlarmKind.TIME_TO_LIMIT: _COMMON | {"limit", "horizon_s", "window_s", "confidence"},
    AlarmKind.STEL: _LIMIT_USES,
    AlarmKind.TWA: _LIMIT_USES,
    AlarmKind.PEAKS: _COMMON | {"setpoint"},
    AlarmKind.CUSUM: _COMMON,
    AlarmKind.EWMA: _COMMON,
    AlarmKind.ABNORMAL: _COMMON,
    AlarmKind.LOOP: _COMMON,
    AlarmKind.STUCK: _COMMON | {"window_s", "floor"},
    AlarmKind.SPIKE: _COMMON | {"floor"},
    AlarmKind.BAD: (_COMMON - {"suppressed_by"}) | {"after_s"},
    AlarmKind.STALE: (_COMMON - {"on_delay_s", "suppressed_by"}) | {"after_s"},
}
"""The settings that mean something to each kind; any other is a mistake of the plant file."""

Made = tuple[AlarmSetting, Text | None]


@dataclass(frozen=True, slots=True)
class About:
    """What a point's alarms depend on besides its own settings.

    Its `unit` and `decimals`; for each point of the plant that is calibrated its charts, and for each after how long
    without a reading it is stale, seconds; how the point is computed, if it is, and the longest period, in seconds,
    of the devices of the points that it is computed of.
    """

    unit: str
    decimals: int
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)
    longest_s: Mapping[str, float] = field(default_factory=dict)
    compute: Compute | None = None
    slowest_s: float = 0.0


def merged(over: AlarmSetting | None, under: AlarmSetting) -> AlarmSetting:
    """`under` with what `over` says laid over it."""
    if over is None:
        return under
    given = over.model_dump(exclude_none=True)
    return under.model_copy(update={key: getattr(over, key) for key in given})


def stale_after_s(point: Point, period_s: float) -> float:
    """After how long without a reading the point is stale: as its alarm says, else five periods, at least 10 s."""
    own = point.alarms.get(AlarmKind.STALE)
    return own.after_s if own and own.after_s is not None else max(STALE_LEAST_S, STALE_PERIODS * period_s)


def _plain(setpoint: float | None = None, *, deadband: float = 0.0, on: float = 0.0, off: float = 0.0) -> AlarmSetting:
    return AlarmSetting(setpoint=setpoint, deadband=deadband, on_delay_s=on, off_delay_s=off)


def _limits_of_rule(rule: Compute) -> dict[AlarmKind, Made]:
    """The limits and grades that come with a rule whose value is no measurement of the point's kind."""
    if isinstance(rule, Grade):
        return {kind: (_plain(float(number)), CLAUSE_POND) for number, kind in enumerate(GRADES, start=1)}
    if isinstance(rule, Balance):
        both = {AlarmKind.H: BALANCE_SIGMAS, AlarmKind.L: -BALANCE_SIGMAS}
        return {
            kind: (_plain(at, deadband=BALANCE_DEADBAND).model_copy(update={"priority": Priority.MEDIUM}), None)
            for kind, at in both.items()
        }
    if isinstance(rule, Normal) and rule.show != "score":
        return {AlarmKind.H: (_plain(STATISTIC, deadband=STATISTIC_DEADBAND), None)}
    return {}


def is_of(kind: AlarmKind, side: Literal["high", "low"]) -> bool:
    """Whether a limit, or none, is on this side."""
    return kind not in LIMITS or (kind in HIGH_LIMITS) == (side == "high")


def alarms_brought(point: Point, rule: Compute | None) -> dict[AlarmKind, tuple[AlarmSetting, Text | None]]:
    """Limits and early warning that `point` has by its kind, or by the rule that computes it."""
    if rule is None or isinstance(rule, Median):
        return defaults_of(point).alarms
    if isinstance(rule, Vote):
        return {kind: made for kind, made in defaults_of(point).alarms.items() if is_of(kind, rule.side)}
    return _limits_of_rule(rule)


def limit(point: Point, kind: AlarmKind, given: AlarmSetting | None, about: About) -> Made | None:
    """HH to LL and the grades: where the standard, the rule or the plant file gives a set point.

    On a vote each waits for the slowest member: at a start they speak one after the other, and the first alone, with
    the others counted as tripped, would trip it.
    """
    default, clause = alarms_brought(point, about.compute).get(kind, (None, None))
    if default is None and given is None:
        return None
    under = default or AlarmSetting()
    if isinstance(about.compute, Vote):
        under = under.model_copy(update={"on_delay_s": max(under.on_delay_s or 0.0, about.slowest_s)})
    elif default is None and given is not None and isinstance(about.compute, Spread):
        under = _plain(deadband=SPREAD_DEADBAND * abs(given.setpoint or 0.0), on=SPREAD_ON_DELAY_S)
        under = under.model_copy(update={"priority": Priority.MEDIUM})
    own = given is not None and given.setpoint is not None
    return merged(given, under), None if own else clause


def rate(given: AlarmSetting | None, period_s: float) -> Made | None:
    """Where the plant file asks for it."""
    if given is None:
        return None
    under = AlarmSetting(
        window_s=RATE_WINDOW_S, deadband=RATE_DEADBAND * abs(given.setpoint or 0.0), off_delay_s=RATE_OFF_DELAY_S
    )
    return widened(merged(given, under), LEAST_WINDOW_PERIODS * period_s), None


def widened(setting: AlarmSetting, least_s: float) -> AlarmSetting:
    """`setting` with a window of at least `least_s`."""
    return setting.model_copy(update={"window_s": max(setting.window_s or 0.0, least_s)})


EXPOSURE_CLAUSES: Final = {AlarmKind.STEL: CLAUSE_STEL, AlarmKind.TWA: CLAUSE_TWA, AlarmKind.PEAKS: CLAUSE_PEAKS}


def exposure_limit(point: Point, kind: AlarmKind, unit: str) -> float | None:
    """Set point of `stel`, `twa` or `peaks` by GBZ 2.1-2019; None without PC-TWA, or in a unit that has none."""
    unit = written(unit)
    if point.cas is None or unit not in PARTS | MILLIGRAMS:
        return None
    limits = limits_of(point.cas, "mg/m3" if unit in MILLIGRAMS else "ppm")
    if limits is None:
        return None
    return limits.stel if kind is AlarmKind.STEL else limits.twa


def _has_exposure(point: Point, kind: AlarmKind, unit: str) -> bool:
    if exposure_limit(point, kind, unit) is None:
        return False
    return kind is not AlarmKind.PEAKS or exposure_limit(point, AlarmKind.STEL, unit) is None


def exposure(point: Point, kind: AlarmKind, given: AlarmSetting | None, about: About) -> Made | None:
    """By itself on measured toxic gas whose PC-TWA or PC-STEL is known in its unit; elsewhere where it is asked for."""
    if given is None and (about.compute is not None or not _has_exposure(point, kind, about.unit)):
        return None
    own = given is not None and given.setpoint is not None
    at = given.setpoint if given is not None and own else exposure_limit(point, kind, about.unit)
    deadband = 0.0 if kind is AlarmKind.PEAKS else EXPOSURE_DEADBAND * abs(at or 0.0)
    return merged(given, _plain(at, deadband=deadband)), None if own or at is None else EXPOSURE_CLAUSES[kind]


def last_digit(decimals: int) -> float:
    """Standard deviation of rounding to so many decimals: 10^-decimals / sqrt(12)."""
    return 10.0**-decimals / sqrt(12.0)


def instrument(kind: AlarmKind, given: AlarmSetting | None, period_s: float, decimals: int) -> Made | None:
    """`loop`, `stuck` and `spike`: where the plant file asks for them."""
    if given is None:
        return None
    if kind is AlarmKind.LOOP:
        return merged(given, _plain(on=LOOP_ON_DELAY_S, off=BAD_OFF_DELAY_S)), None
    floor = {"floor": last_digit(decimals)}
    if kind is AlarmKind.SPIKE:
        return merged(given, _plain(off=SPIKE_OFF_DELAY_S).model_copy(update=floor)), None
    under = _plain().model_copy(update=floor | {"window_s": STUCK_WINDOW_S})
    return widened(merged(given, under), STUCK_PERIODS * period_s), None


def plain(given: AlarmSetting | None) -> Made | None:
    """`cusum` and `ewma`: where the plant file asks for them; nothing waits."""
    return None if given is None else (merged(given, _plain()), None)


def abnormal(given: AlarmSetting | None, rule: Compute | None) -> Made | None:
    """By itself on the score of a normal-operation model, which has delays of its own."""
    by_itself = isinstance(rule, Normal) and rule.show == "score"
    return (merged(given, _plain()), None) if by_itself or given is not None else None


def bad(given: AlarmSetting | None, period_s: float, rule: Compute | None) -> Made | None:
    """On every measured point, and on a vote and a median: then no member is left to speak for them."""
    if given is None and rule is not None and not isinstance(rule, Vote | Median):
        return None
    usual = _plain(on=BAD_PERIODS * period_s, off=BAD_OFF_DELAY_S)
    after_s = UNCERTAIN_S if rule is None else UNCERTAIN_COMPUTED_S
    return merged(given, usual.model_copy(update={"after_s": after_s})), None


def stale(point: Point, given: AlarmSetting | None, period_s: float, rule: Compute | None) -> Made | None:
    """On every measured point."""
    if given is None and rule is not None:
        return None
    return merged(given, _plain().model_copy(update={"after_s": stale_after_s(point, period_s)})), None


def order_of(setpoints: Sequence[float]) -> int | None:
    """+1 where `setpoints` rise, -1 where they fall, 0 where there are too few to tell, None where they do neither."""
    if len(setpoints) <= 1:
        return 0
    if all(one < other for one, other in pairwise(setpoints)):
        return 1
    return -1 if all(one > other for one, other in pairwise(setpoints)) else None


def said_side(point: Point, rule: Compute | None) -> int:
    """Which values are bad by a grade's `side`, by the vote or by the kind: +1 high, -1 low, 0 where none says."""
    for kind in GRADES:
        given = point.alarms.get(kind)
        if given and given.side is not None:
            return 1 if given.side == "high" else -1
    if isinstance(rule, Vote):
        return 1 if rule.side == "high" else -1
    return 1 if isinstance(rule, Grade) else SIDE.get(point.kind, 0)
