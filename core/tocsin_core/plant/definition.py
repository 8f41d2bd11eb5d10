"""A point's alarm definitions: the kind's defaults with what the plant file says laid over them."""

from dataclasses import dataclass
from typing import Final

from tocsin_core.plant.fields import Text
from tocsin_core.plant.model import AlarmKind, AlarmSetting, Device, Point, PointKind, Priority
from tocsin_core.plant.standards import PROCESS_DELAY_S, deadband_of, defaults_of, early_of, priority_of

LIMITS: Final = (AlarmKind.HH, AlarmKind.H, AlarmKind.L, AlarmKind.LL)
HIGH_LIMITS: Final = (AlarmKind.HH, AlarmKind.H)
# Which limit an early warning is of, where nothing says: the first that the point has.
FORESEEN: Final = (AlarmKind.H, AlarmKind.HH, AlarmKind.L, AlarmKind.LL)

STALE_PERIODS: Final = 5  # a point is stale after this many missed periods, but not before STALE_LEAST_S
STALE_LEAST_S: Final = 10.0
BAD_PERIODS: Final = 2.0  # an instrument that answers badly once may be answering well by the next period
BAD_OFF_DELAY_S: Final = 5.0
RATE_WINDOW_S: Final = 60.0
RATE_OFF_DELAY_S: Final = 30.0
RATE_DEADBAND: Final = 0.2  # of the set point
LEAST_WINDOW_PERIODS: Final = 15  # a slope wants this many readings in its window (see detect.LEAST_READINGS)

_COMMON: Final = frozenset({"on_delay_s", "off_delay_s", "priority", "latching", "realarm_s"})
_LIMIT_USES: Final = _COMMON | {"setpoint", "deadband"}
USES: Final[dict[AlarmKind, frozenset[str]]] = {
    **dict.fromkeys(LIMITS, _LIMIT_USES),
    AlarmKind.RATE: _LIMIT_USES | {"window_s"},
    AlarmKind.TIME_TO_LIMIT: _COMMON | {"limit", "horizon_s", "window_s", "confidence"},
    AlarmKind.BAD: _COMMON,
    AlarmKind.STALE: (_COMMON - {"on_delay_s"}) | {"after_s"},
}
"""The settings that mean something to each kind; any other is a mistake of the plant file."""


@dataclass(frozen=True, slots=True)
class AlarmDefinition:
    """One rule on one point; setpoint and deadband in the point's unit (`rate`: unit a minute), times in seconds."""

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


def _merged(over: AlarmSetting | None, under: AlarmSetting) -> AlarmSetting:
    if over is None:
        return under
    given = over.model_dump(exclude_none=True)
    return under.model_copy(update={key: getattr(over, key) for key in given})


def _definition(
    point: Point, kind: AlarmKind, setting: AlarmSetting, clause: Text | None, span: tuple[float, float]
) -> AlarmDefinition:
    delay = PROCESS_DELAY_S.get(point.kind, 0.0)
    return AlarmDefinition(
        id=f"{point.id}/{kind}",
        point=point.id,
        kind=kind,
        priority=setting.priority or priority_of(point.kind, kind),
        setpoint=float("nan") if setting.setpoint is None else setting.setpoint,
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
    )


_Found = dict[AlarmKind, AlarmDefinition]
_Made = tuple[AlarmSetting, Text | None] | None


def _limit(point: Point, kind: AlarmKind, given: AlarmSetting | None) -> _Made:
    default, clause = defaults_of(point).alarms.get(kind, (None, None))
    if default is None:
        return None if given is None else (given, None)
    own = given is not None and given.setpoint is not None
    return _merged(given, default), None if own else clause


def _rate(given: AlarmSetting | None, least_window_s: float) -> _Made:
    if given is None:
        return None
    under = AlarmSetting(
        window_s=RATE_WINDOW_S, deadband=RATE_DEADBAND * abs(given.setpoint or 0.0), off_delay_s=RATE_OFF_DELAY_S
    )
    merged = _merged(given, under)
    return merged.model_copy(update={"window_s": max(merged.window_s or 0.0, least_window_s)}), None


def _time_to_limit(point: Point, given: AlarmSetting | None, found: _Found, least_window_s: float) -> _Made:
    by_kind = AlarmKind.TIME_TO_LIMIT in defaults_of(point).alarms
    overfill = point.kind is PointKind.TANK_LEVEL and not found.keys().isdisjoint(HIGH_LIMITS)
    if given is None and not by_kind and not overfill:
        return None
    under, clause = early_of(point.kind)
    merged = _merged(given, under)
    wanted = FORESEEN if merged.limit is None else (AlarmKind(merged.limit),)
    foreseen = next((found[limit] for limit in wanted if limit in found), None)
    if foreseen is None:
        return None
    update = {
        "limit": foreseen.kind.value,
        "setpoint": foreseen.setpoint,
        "deadband": foreseen.deadband,
        "window_s": max(merged.window_s or 0.0, least_window_s),
    }
    return merged.model_copy(update=update), clause


def _bad(given: AlarmSetting | None, period_s: float) -> _Made:
    under = AlarmSetting(on_delay_s=BAD_PERIODS * period_s, off_delay_s=BAD_OFF_DELAY_S, deadband=0.0)
    return _merged(given, under), None


def _stale(given: AlarmSetting | None, period_s: float) -> _Made:
    after_s = max(STALE_LEAST_S, STALE_PERIODS * period_s)
    return _merged(given, AlarmSetting(after_s=after_s, off_delay_s=0.0, deadband=0.0)), None


def definitions_of(point: Point, device: Device, span: tuple[float, float]) -> tuple[AlarmDefinition, ...]:
    """Every alarm definition of `point`, in the order of `AlarmKind`; `span` is its range in its unit.

    A limit exists where the standard or the plant file gives a set point; `rate` where the plant file asks for it;
    `time-to-limit` where its limit exists and the kind or the plant file asks for it; `bad` and `stale` always. The
    plant file takes any of them away with `false`.
    """
    found: _Found = {}
    period_s = device.period_ms / 1000.0
    least_window_s = LEAST_WINDOW_PERIODS * period_s
    for kind in AlarmKind:
        given = point.alarms.get(kind)
        if given is False:
            continue
        match kind:
            case AlarmKind.RATE:
                made = _rate(given, least_window_s)
            case AlarmKind.TIME_TO_LIMIT:
                made = _time_to_limit(point, given, found, least_window_s)
            case AlarmKind.BAD:
                made = _bad(given, period_s)
            case AlarmKind.STALE:
                made = _stale(given, period_s)
            case _:
                made = _limit(point, kind, given)
        if made is not None:
            found[kind] = _definition(point, kind, *made, span)
    return tuple(found.values())
