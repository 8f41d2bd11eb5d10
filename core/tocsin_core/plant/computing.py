"""A computed point with everything filled in that its rule and the points that it is computed from bring."""

from collections.abc import Sequence
from typing import Final, NamedTuple, TypeVar

from tocsin_core.plant.brought import STALE_LEAST_S, About
from tocsin_core.plant.computed import Balance, Compute, Grade, Median, Normal, Spread, Vote
from tocsin_core.plant.definition import definitions_of
from tocsin_core.plant.model import Computed, Device, Gateway, Point
from tocsin_core.plant.point import Learned, PlantPoint
from tocsin_core.plant.standards import defaults_of

_Value = TypeVar("_Value")

NOWHERE: Final = "computed"
# Without what would check it, which takes its time whenever this is imported.
GATEWAY: Final = Gateway.model_construct(id=NOWHERE)
"""Stands for the gateway of computed points, which have none; no real one may be called so."""
LEAST_PERIOD_MS: Final = 1000


class _Shown(NamedTuple):
    """How a computed point is shown, where its file does not say."""

    unit: str
    range: tuple[float, float]
    decimals: int


def _shown(rule: Compute, members: Sequence[PlantPoint], config: Point) -> _Shown:
    match rule:
        case Balance():
            return _Shown("σ", (-10.0, 10.0), 1)
        case Grade():
            return _Shown("", (0.0, 4.0), 0)
        case Normal():
            return _Shown("", (0.0, 10.0), 2)
        case Vote() | Median() | Spread() if members:
            low, high = min(each.low for each in members), max(each.high for each in members)
            span = (0.0, high - low) if isinstance(rule, Spread) else (low, high)
            return _Shown(members[0].unit, span, max(each.decimals for each in members))
        case _:
            defaults = defaults_of(config)
            return _Shown(defaults.unit, defaults.range, defaults.decimals)


def _only(values: Sequence[_Value | None]) -> _Value | None:
    """What all are, or None where they differ or there are none."""
    return values[0] if values and all(each == values[0] for each in values) else None


def _config(computed: Computed, members: Sequence[PlantPoint]) -> Point:
    """The point as one of the plant file; gas and place are those of its members, where they have one in common."""
    alike = isinstance(computed.from_, Vote | Median)
    return Point(
        id=computed.id,
        name=computed.name,
        kind=computed.kind,
        unit=computed.unit if computed.unit is not None or not members or not alike else members[0].unit,
        range=computed.range,
        decimals=computed.decimals,
        source=computed.source,
        cas=_only([each.config.cas for each in members]),
        place=_only([each.config.place for each in members]),
        alarms=computed.alarms,
    )


def resolve_computed(index: int, computed: Computed, members: Sequence[PlantPoint], learned: Learned) -> PlantPoint:
    """`computed` as point number `index`, computed from `members`.

    It has the period of its fastest member; what it is computed from may be as old as its slowest member allows.
    """
    rule, config = computed.from_, _config(computed, members)
    shown = _shown(rule, members, config)
    unit = shown.unit if computed.unit is None else computed.unit
    low, high = computed.range or shown.range
    decimals = shown.decimals if computed.decimals is None else computed.decimals
    period_ms = min((each.device.period_ms for each in members), default=LEAST_PERIOD_MS)
    device = Device(id=NOWHERE, period_ms=period_ms)
    slowest_s = max((each.device.period_ms for each in members), default=LEAST_PERIOD_MS) / 1000.0
    told = About(unit, decimals, learned.calibrations, learned.longest_s, rule, slowest_s)
    return PlantPoint(
        index,
        config,
        GATEWAY,
        device,
        unit,
        low,
        high,
        decimals,
        computed.source,
        definitions_of(config, device, (low, high), told),
        longest_s=max((each.longest_s for each in members), default=STALE_LEAST_S),
        compute=rule,
    )
