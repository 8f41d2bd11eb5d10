"""Small plants made in the tests themselves: points with exactly the alarm definitions that a test is about."""

from collections.abc import Sequence
from math import nan
from typing import Final

from tocsin_core.plant import AlarmDefinition, AlarmKind, Plant, PlantPoint, Priority
from tocsin_core.plant.definition import side_of
from tocsin_core.plant.fields import name_of
from tocsin_core.plant.model import Device, Gateway, PlantFile, Point, PointKind, Site
from tocsin_core.rules import Rules, compile_rules

SECOND: Final = 1_000_000_000
START_NS: Final = 1_800_000_000 * SECOND  # 2027-01-15T08:00:00Z

_DEVICE: Final = Device(id="device")
_GATEWAY: Final = Gateway(id="gateway", devices=(_DEVICE,))


def definition(point: str, kind: AlarmKind, setpoint: float = nan) -> AlarmDefinition:
    """An alarm definition without delays or deadband, of middling priority; `dataclasses.replace` gives it more."""
    return AlarmDefinition(
        id=f"{point}/{kind}",
        point=point,
        kind=kind,
        priority=Priority.MEDIUM,
        setpoint=setpoint,
        deadband=0.0,
        on_delay_s=0.0,
        off_delay_s=0.0,
        latching=False,
        clause=None,
        side=side_of(kind),
    )


def plant_of(points: Sequence[Sequence[AlarmDefinition]], decimals: int = 1) -> Plant:
    """A plant whose point number i is called `P<i>` and has the definitions `points[i]`."""
    places = tuple(
        PlantPoint(
            index=index,
            config=Point(id=f"P{index}", name=name_of(f"测点{index}", f"point {index}"), kind=PointKind.GENERIC),
            gateway=_GATEWAY,
            device=_DEVICE,
            unit="ppm",
            low=0.0,
            high=100.0,
            decimals=decimals,
            source=None,
            definitions=tuple(definitions),
        )
        for index, definitions in enumerate(points)
    )
    file = PlantFile(tocsin=1, site=Site(id="site", name=name_of("厂", "site")), gateways=(_GATEWAY,))
    return Plant("plant", file, places, {})


def rules_of(*definitions: AlarmDefinition, decimals: int = 1) -> Rules:
    """The rules of a plant whose only point, `P0`, has these definitions."""
    return compile_rules(plant_of([definitions], decimals))
