"""A point's alarm definitions: the kind's defaults with what the plant file says laid over them."""

from dataclasses import dataclass

from tocsin_core.plant.model import AlarmKind, AlarmSetting, Device, Point, PointKind, Priority, Text
from tocsin_core.plant.standards import PRIORITY, PROCESS_DELAY_S, deadband_of, defaults_of, early_of

LIMITS = (AlarmKind.HH, AlarmKind.H, AlarmKind.L, AlarmKind.LL)
HIGH_LIMITS = (AlarmKind.HH, AlarmKind.H)
FORESEEN = (
    AlarmKind.H,
    AlarmKind.HH,
    AlarmKind.L,
    AlarmKind.LL,
)  # which limit an early warning is of, where nothing says

STALE_PERIODS = 5  # a point is stale after this many missed periods, but not before STALE_LEAST_S
STALE_LEAST_S = 10.0
DEFAULT_RATE_WINDOW_S = 60.0
LEAST_WINDOW_PERIODS = 15  # a slope wants this many readings in its window (see detect.LEAST_READINGS)


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
        priority=setting.priority or PRIORITY[kind],
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
    )


def definitions_of(point: Point, device: Device, span: tuple[float, float]) -> tuple[AlarmDefinition, ...]:
    """Every alarm definition of `point`, in the order of `AlarmKind`.

    `span` is its range in its unit. A limit exists where the standard or the plant file gives a set point;
    `time-to-limit` where its limit exists and either of the two asks for it; `bad` and `stale` always, unless taken away.
    """
    defaults = defaults_of(point).alarms
    found: dict[AlarmKind, AlarmDefinition] = {}
    least_window_s = LEAST_WINDOW_PERIODS * device.period_ms / 1000.0
    for kind in AlarmKind:
        over = point.alarms.get(kind)
        default, clause = defaults.get(kind, (None, None))
        if over is False:
            continue
        given = over if isinstance(over, AlarmSetting) else None
        if given is not None and given.setpoint is not None:
            clause = None
        match kind:
            case AlarmKind.TIME_TO_LIMIT:
                if (
                    given is None
                    and default is None
                    and not (point.kind is PointKind.TANK_LEVEL and found.keys() & set(HIGH_LIMITS))
                ):
                    continue
                under, clause = early_of(point.kind)
                merged = _merged(given, under)
                wanted = FORESEEN if merged.limit is None else (AlarmKind(merged.limit),)
                foreseen = next((found[limit] for limit in wanted if limit in found), None)
                if foreseen is None:
                    continue
                window = max(merged.window_s or 0.0, least_window_s)
                merged = merged.model_copy(
                    update={
                        "limit": foreseen.kind.value,
                        "setpoint": foreseen.setpoint,
                        "deadband": foreseen.deadband,
                        "window_s": window,
                    }
                )
                found[kind] = _definition(point, kind, merged, clause, span)
            case AlarmKind.RATE:
                if given is None:
                    continue
                under = AlarmSetting(
                    window_s=DEFAULT_RATE_WINDOW_S, deadband=0.2 * abs(given.setpoint or 0.0), off_delay_s=30.0
                )
                merged = _merged(given, under)
                merged = merged.model_copy(update={"window_s": max(merged.window_s or 0.0, least_window_s)})
                found[kind] = _definition(point, kind, merged, None, span)
            case AlarmKind.BAD:
                under = AlarmSetting(on_delay_s=2.0 * device.period_ms / 1000.0, off_delay_s=5.0, deadband=0.0)
                found[kind] = _definition(point, kind, _merged(given, under), None, span)
            case AlarmKind.STALE:
                after = max(STALE_LEAST_S, STALE_PERIODS * device.period_ms / 1000.0)
                found[kind] = _definition(
                    point, kind, _merged(given, AlarmSetting(after_s=after, off_delay_s=0.0, deadband=0.0)), None, span
                )
            case _:
                if default is not None:
                    found[kind] = _definition(point, kind, _merged(given, default), clause, span)
                elif given is not None:
                    found[kind] = _definition(point, kind, given, None, span)
    return tuple(found.values())
