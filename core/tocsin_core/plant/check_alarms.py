"""What must hold of a point's alarms beyond the types of their settings."""

from itertools import pairwise
from math import isnan
from typing import Final

from tocsin_core.plant.brought import CHARTS, EXPOSURES, GRADES, HIGH_LIMITS, LIMITS, USES, order_of, said_side
from tocsin_core.plant.calibrations import CALIBRATIONS_FILE
from tocsin_core.plant.computed import Median, Normal, Vote
from tocsin_core.plant.definition import AlarmDefinition
from tocsin_core.plant.model import WHOLE_WORD, AlarmKind
from tocsin_core.plant.point import PlantPoint
from tocsin_core.plant.source import Path, Source

NEED_SETPOINT: Final = (*LIMITS, *GRADES, AlarmKind.RATE, *EXPOSURES)
SIZES: Final = (AlarmKind.RATE, *EXPOSURES)
OF_INSTRUMENTS: Final = (AlarmKind.LOOP, AlarmKind.STUCK, AlarmKind.SPIKE)

_ByKind = dict[AlarmKind, AlarmDefinition]


def check_alarms(point: PlantPoint, path: Path, computed_ids: frozenset[str], source: Source) -> None:
    """Note in `source` whatever is wrong with the alarms of `point`, which stands at `path`."""
    by_kind = {definition.kind: definition for definition in point.definitions}
    for kind, setting in point.config.alarms.items():
        here: Path = (*path, "alarms", kind.value)
        if setting is False:
            continue
        if kind not in by_kind:
            source.problem(here, "there is no limit that it could foresee")
        for name in sorted(setting.model_fields_set - USES[kind]):
            source.problem((*here, name), _useless(name, kind))
        _check_place(point, kind, here, source)
        if setting.suppressed_by is not None:
            _check_trigger(point, setting.suppressed_by.point, computed_ids, here, source)
    _check_setpoints(by_kind, path, source)
    _check_limits([by_kind[kind] for kind in LIMITS if kind in by_kind], path, source)
    _check_grades(point, [by_kind[kind] for kind in GRADES if kind in by_kind], path, source)
    for kind in (*LIMITS, *GRADES):
        if kind in by_kind and not isnan(by_kind[kind].setpoint):
            _check_room(point, by_kind[kind], path, source)


def _useless(name: str, kind: AlarmKind) -> str:
    if name == "suppressed_by":
        return f"{kind} is an instrument alarm: suppressed, it could stay hidden after its point falls silent"
    return f"means nothing to {kind}"


def _check_place(point: PlantPoint, kind: AlarmKind, here: Path, source: Source) -> None:
    """Whether an alarm of this kind can be on this point at all."""
    rule = point.compute
    scored = isinstance(rule, Normal) and rule.show == "score"
    if kind is AlarmKind.ABNORMAL and not scored:
        source.problem(here, "only the score of a normal-operation model is abnormal")
    if kind in OF_INSTRUMENTS and rule is not None:
        source.problem(here, f"{kind} is of instruments: a computed point is none")
    if kind in EXPOSURES and rule is not None and not isinstance(rule, Vote | Median):
        source.problem(here, f"nobody breathes what the rule {rule.rule} computes")


def _check_trigger(point: PlantPoint, name: str, computed_ids: frozenset[str], here: Path, source: Source) -> None:
    place: Path = (*here, "suppressed_by", "point")
    if name == point.id:
        source.problem(place, "is the point itself: an alarm is suppressed by another")
    elif name in computed_ids:
        source.problem(place, f"{name!r} is a computed point: only a measured one suppresses")


def _check_setpoints(by_kind: _ByKind, path: Path, source: Source) -> None:
    for kind in NEED_SETPOINT:
        if kind in by_kind and isnan(by_kind[kind].setpoint):
            source.problem((*path, "alarms", kind.value), "has no setpoint")
    for kind in SIZES:
        if kind in by_kind and by_kind[kind].setpoint <= 0.0:
            why = "it is a size, whichever the direction" if kind is AlarmKind.RATE else "clean air would reach it"
            source.problem((*path, "alarms", kind.value, "setpoint"), f"is not above 0: {why}")
    spike = by_kind.get(AlarmKind.SPIKE)
    if spike is not None and spike.floor <= 0.0:
        source.problem((*path, "alarms", "spike", "floor"), "is not above 0: every change would be a spike")


def check_charts(point: PlantPoint, path: Path, source: Source) -> None:
    """Note in `source` the charts of `point` for which nothing was learned."""
    for definition in point.definitions:
        if definition.kind in CHARTS and definition.charts is None:
            missing = f"{CALIBRATIONS_FILE} has no charts of {point.id!r}: `tocsin learn` makes them"
            source.problem((*path, "alarms", definition.kind.value), f"{missing} from recorded normal running")


def _check_limits(limits: list[AlarmDefinition], path: Path, source: Source) -> None:
    known = [definition for definition in limits if not isnan(definition.setpoint)]
    for upper, lower in pairwise(known):
        same_side = (upper.kind in HIGH_LIMITS) == (lower.kind in HIGH_LIMITS)
        if upper.setpoint < lower.setpoint or (upper.setpoint == lower.setpoint and not same_side):
            source.problem(
                (*path, "alarms", upper.kind.value),
                f"{upper.kind} {upper.setpoint:g} is not above {lower.kind} {lower.setpoint:g}",
            )


def _check_grades(point: PlantPoint, grades: list[AlarmDefinition], path: Path, source: Source) -> None:
    """Whether the grades, blue first, get worse one after the other, to the side that is said to be bad."""
    known = [definition for definition in grades if not isnan(definition.setpoint)]
    if not known:
        return
    here: Path = (*path, "alarms", known[0].kind.value)
    said = said_side(point.config, point.compute)
    for definition in known:
        setting = point.config.alarms.get(definition.kind)
        if setting and setting.side is not None and (1 if setting.side == "high" else -1) != said:
            source.problem((*path, "alarms", definition.kind.value, "side"), "is not that of the other grades")
            return
    order = order_of([definition.setpoint for definition in known])
    listed = ", ".join(f"{definition.kind} {definition.setpoint:g}" for definition in known)
    if order is None:
        source.problem(here, f"neither rise nor fall from grade to grade: {listed}")
    elif order == 0 and said == 0:
        source.problem(here, "give side: neither the kind nor other grades tell whether high or low values are bad")
    elif order * said < 0:
        way, bad = ("fall", "high") if said > 0 else ("rise", "low")
        source.problem(here, f"{listed} {way}, but {bad} values are bad")


def _check_room(point: PlantPoint, definition: AlarmDefinition, path: Path, source: Source) -> None:
    """Whether an alarm at a set point can be raised, and return, within the range."""
    here: Path = (*path, "alarms", definition.kind.value)
    span = f"the range {point.low:g} to {point.high:g}"
    if not point.low <= definition.setpoint <= point.high:
        source.problem(here, f"setpoint {definition.setpoint:g} lies outside {span}: it would never be seen")
        return
    room = definition.setpoint - point.low if definition.side > 0 else point.high - definition.setpoint
    if room <= definition.deadband:
        source.problem(here, f"the deadband {definition.deadband:g} leaves {span}: the alarm would never return")


def check_status(point: PlantPoint, path: Path, computed_ids: frozenset[str], source: Source) -> None:
    """Note in `source` whatever is wrong with where `point` says what its instrument is doing."""
    given = point.config.status
    if given is None:
        return
    if given.point == point.id:
        source.problem((*path, "status", "point"), "is the point itself: the status word is another")
    elif given.point in computed_ids:
        source.problem((*path, "status", "point"), f"{given.point!r} is a computed point: no instrument's status word")
    mask = given.mask or WHOLE_WORD
    for state in ("warm_up", "calibration") if given.codes is not None else ():
        for number, code in enumerate(getattr(given.codes, state)):
            if code & ~mask:
                where: Path = (*path, "status", "codes", state, number)
                source.problem(where, f"{code} has bits outside the mask {mask:#x}: it would never be seen")
