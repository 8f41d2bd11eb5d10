"""A point's alarm definitions: the kind's defaults with what the plant file says laid over them."""

from dataclasses import dataclass, fields, replace
from math import inf, nan, nextafter
from operator import attrgetter
from typing import Any, Final

from tocsin_core.detectors.change import Calibration
from tocsin_core.plant import brought
from tocsin_core.plant.brought import CHARTS, EXPOSURES, GRADES, HIGH_LIMITS, LEAST_WINDOW_PERIODS, About, Made, merged
from tocsin_core.plant.fields import Text
from tocsin_core.plant.model import AlarmKind, AlarmSetting, Device, Point, PointKind, Priority, SuppressedBy
from tocsin_core.plant.standards import (
    PROCESS_DELAY_S,
    ZERO_BAND,
    clause_of_early,
    deadband_of,
    defaults_of,
    early_of,
    priority_of,
    zero_of,
)

# Which limit an early warning is of, where nothing says: the first that the point has.
FORESEEN: Final = (AlarmKind.H, AlarmKind.HH, AlarmKind.L, AlarmKind.LL, *GRADES)


@dataclass(frozen=True, slots=True)
class Suppressor:
    """What suppresses an alarm by design (ISA-18.2): `point` reading a value from `low` to `high`, bounds included.

    It takes effect `on_delay_s` after the point says so and ends `off_delay_s` after it says otherwise. A point not
    read for more than `longest_s`, or whose reading is not good, suppresses nothing.
    """

    point: str
    low: float
    high: float
    on_delay_s: float
    off_delay_s: float
    longest_s: float


@dataclass(frozen=True, slots=True)
class AlarmDefinition:
    """One rule on one point; setpoint and deadband in the point's unit (`rate`: unit a minute), times in seconds.

    `side` is +1 where high values are bad, -1 where low ones are. `floor`: least standard deviation of a reading in
    the point's unit (`stuck`: below it nothing moves; `spike`). `zero` and `zero_band` (`stuck`): the reading that may
    stand still, NaN where there is none. `low` and `high` (`loop`): what 4 and 20 mA stand for. `hold_s` (`stel`,
    `twa`): how long a reading holds at most. `charts` (`cusum`, `ewma`): calibrated by recorded normal running.
    """

    id: str
    point: str
    kind: AlarmKind
    priority: Priority
    setpoint: float
    deadband: float
    on_delay_s: float
    off_delay_s: float
    latching: bool
    clause: Text | None
    window_s: float = 0.0
    horizon_s: float = 0.0
    confidence: float = 0.0
    limit: AlarmKind | None = None
    after_s: float = 0.0
    realarm_s: float = 0.0
    side: int = 1
    floor: float = 0.0
    zero: float = nan
    zero_band: float = 0.0
    low: float = 0.0
    high: float = 0.0
    hold_s: float = 0.0
    charts: Calibration | None = None
    suppressed_by: Suppressor | None = None


def side_of(kind: AlarmKind) -> int:
    """+1 where high values are bad, -1 where low ones are; the other alarms count as high."""
    return -1 if kind in (AlarmKind.L, AlarmKind.LL) else 1


def _suppressor(given: SuppressedBy | None, about: About) -> Suppressor | None:
    if given is None:
        return None
    low = -inf if given.above is None else nextafter(given.above, inf)
    high = inf if given.below is None else nextafter(given.below, -inf)
    if given.equals is not None:
        low = high = given.equals
    longest_s = about.longest_s.get(given.point, brought.STALE_LEAST_S)
    return Suppressor(given.point, low, high, given.on_delay_s, given.off_delay_s, longest_s)


def _definition(point: Point, kind: AlarmKind, made: Made, span: tuple[float, float], about: About) -> AlarmDefinition:
    setting, clause = made
    delay = PROCESS_DELAY_S.get(point.kind, 0.0)
    return AlarmDefinition(
        id=f"{point.id}/{kind}",
        point=point.id,
        kind=kind,
        priority=setting.priority or priority_of(point.kind, kind),
        setpoint=nan if setting.setpoint is None else setting.setpoint,
        deadband=deadband_of(point.kind, *span) if setting.deadband is None else setting.deadband,
        on_delay_s=setting.on_delay_s or 0.0,
        off_delay_s=delay if setting.off_delay_s is None else setting.off_delay_s,
        latching=bool(setting.latching),
        clause=clause,
        window_s=setting.window_s or 0.0,
        horizon_s=setting.horizon_s or 0.0,
        confidence=setting.confidence or 0.0,
        limit=None if setting.limit is None else AlarmKind(setting.limit),
        after_s=setting.after_s or 0.0,
        realarm_s=setting.realarm_s or 0.0,
        side=side_of(kind),
        floor=setting.floor or 0.0,
        suppressed_by=_suppressor(setting.suppressed_by, about),
    )


_Found = dict[AlarmKind, AlarmDefinition]


def _time_to_limit(
    point: Point, given: AlarmSetting | None, found: _Found, about: About, period_s: float
) -> Made | None:
    by_kind = AlarmKind.TIME_TO_LIMIT in brought.alarms_brought(point, about.compute)
    overfill = point.kind is PointKind.TANK_LEVEL and not found.keys().isdisjoint(HIGH_LIMITS)
    if given is None and not by_kind and (not overfill or about.compute is not None):
        return None
    setting = merged(given, early_of(point.kind))
    wanted = FORESEEN if setting.limit is None else (AlarmKind(setting.limit),)
    foreseen = next((found[limit] for limit in wanted if limit in found), None)
    if foreseen is None:
        return None
    of_limit = point.alarms.get(foreseen.kind)
    update = {
        "limit": foreseen.kind.value,
        "setpoint": foreseen.setpoint,
        "deadband": foreseen.deadband,
        # A state of the plant in which the limit means nothing makes its warning mean nothing either.
        "suppressed_by": setting.suppressed_by or (of_limit.suppressed_by if of_limit else None),
    }
    made = brought.widened(setting.model_copy(update=update), LEAST_WINDOW_PERIODS * period_s)
    return made, clause_of_early(point.kind, setting.horizon_s) if foreseen.kind in HIGH_LIMITS else None


def _grades_side(point: Point, about: About) -> int:
    """+1 where high values are bad, -1 where low ones are: as somebody says, else as the set points run."""
    made = [_limit(point, kind, about) for kind in GRADES]
    setpoints = [each[0].setpoint for each in made if each is not None and each[0].setpoint is not None]
    return brought.said_side(point, about.compute) or brought.order_of(setpoints) or 1


def _limit(point: Point, kind: AlarmKind, about: About) -> Made | None:
    given = point.alarms.get(kind)
    return None if given is False else brought.limit(point, kind, given, about)


def _made(
    point: Point, kind: AlarmKind, given: AlarmSetting | None, found: _Found, about: About, period_s: float
) -> Made | None:
    match kind:
        case AlarmKind.RATE:
            made = brought.rate(given, period_s)
        case AlarmKind.TIME_TO_LIMIT:
            made = _time_to_limit(point, given, found, about, period_s)
        case AlarmKind.STEL | AlarmKind.TWA | AlarmKind.PEAKS:
            made = brought.exposure(point, kind, given, about)
        case AlarmKind.CUSUM | AlarmKind.EWMA:
            made = brought.plain(given)
        case AlarmKind.ABNORMAL:
            made = brought.abnormal(given, about.compute)
        case AlarmKind.LOOP | AlarmKind.STUCK | AlarmKind.SPIKE:
            made = brought.instrument(kind, given, period_s, about.decimals)
        case AlarmKind.BAD:
            made = brought.bad(given, period_s, about.compute)
        case AlarmKind.STALE:
            made = brought.stale(point, given, period_s, about.compute)
        case _:
            made = _limit(point, kind, about)
    return made


def _particulars(
    found: _Found, point: Point, about: About, span: tuple[float, float], period_s: float
) -> tuple[AlarmDefinition, ...]:
    """The definitions with what only their kinds have."""
    grades_side = _grades_side(point, about)
    zero = zero_of(point.kind)
    complete = []
    for kind, definition in found.items():
        each = definition
        of = kind if each.limit is None else each.limit
        if of in GRADES:
            each = replace(each, side=grades_side)
        elif of is not kind:
            each = replace(each, side=side_of(of))
        if kind in EXPOSURES and kind is not AlarmKind.PEAKS:
            each = replace(each, hold_s=brought.stale_after_s(point, period_s))
        elif kind in CHARTS:
            each = replace(each, charts=about.calibrations.get(point.id))
        elif kind is AlarmKind.LOOP:
            each = replace(each, low=span[0], high=span[1])
        elif kind is AlarmKind.STUCK and zero is not None:
            each = replace(each, zero=zero, zero_band=ZERO_BAND * (span[1] - span[0]))
        complete.append(each)
    return tuple(complete)


def definitions_of(
    point: Point, device: Device, span: tuple[float, float], about: About | None = None
) -> tuple[AlarmDefinition, ...]:
    """Every alarm definition of `point`, in the order of `AlarmKind`; `span` is its range in its unit.

    A limit exists where the standard, the rule that computes the point or the plant file gives a set point; a gas's
    `stel`, `twa` and `peaks` where GBZ 2.1 sets them; `time-to-limit` where its limit exists and the kind or the plant
    file asks for it; `abnormal` on the score of a normal-operation model; `bad` and `stale` on every measured point,
    `bad` on votes and medians too; any other where the plant file asks for it. The plant file takes any of them away
    with `false`.
    """
    defaults = defaults_of(point)
    about = about or About(point.unit or defaults.unit, defaults.decimals if point.decimals is None else point.decimals)
    found: _Found = {}
    period_s = device.period_ms / 1000.0
    for kind in AlarmKind:
        given = point.alarms.get(kind)
        if given is False:
            continue
        made = _made(point, kind, given, found, about, period_s)
        if made is not None:
            found[kind] = _definition(point, kind, made, span, about)
    return _particulars(found, point, about, span, period_s)


# What no alarm of a measured point depends on: who it is, where it is read, how it is told.
_ITS_OWN: Final = frozenset({"id", "name", "register_", "field", "metric", "source", "status", "report", "alarms"})
_ALIKE: Final = tuple(name for name in Point.model_fields if name not in _ITS_OWN)
_of_point: Final = attrgetter(*_ALIKE)
# All of a definition but its id and its point, which come first.
_of_definition: Final = attrgetter(*(each.name for each in fields(AlarmDefinition)[2:]))


class Definitions:
    """The definitions of the measured points of one plant: those of points that say the same are made once.

    A large plant has many points of few sorts, and to look through all kinds of alarms for each takes most of its load.
    """

    def __init__(self) -> None:
        """Have made none."""
        self._made: dict[tuple[Any, ...], tuple[tuple[Any, ...], ...]] = {}

    def of(self, point: Point, device: Device, span: tuple[float, float], about: About) -> tuple[AlarmDefinition, ...]:
        """As `definitions_of`; `about` differs between calls in unit and decimals alone."""
        if point.id in about.calibrations:
            return definitions_of(point, device, span, about)
        said = (_of_point(point), *point.alarms.items(), device.period_ms, span, about.unit, about.decimals)
        made = self._made.get(said)
        if made is None:
            made = self._made[said] = tuple(map(_of_definition, definitions_of(point, device, span, about)))
        return tuple(AlarmDefinition(f"{point.id}/{each[0]}", point.id, *each) for each in made)
