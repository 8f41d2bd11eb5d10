"""A point of a plant with everything that it inherits filled in."""

from dataclasses import dataclass

from tocsin_core.plant.definition import AlarmDefinition, definitions_of
from tocsin_core.plant.model import Device, Gateway, Point, PointKind
from tocsin_core.plant.standards import defaults_of
from tocsin_core.registers import Profile


@dataclass(frozen=True, slots=True)
class PlantPoint:
    """A point with everything that was inherited filled in; `index` is its number in the engine."""

    index: int
    config: Point
    gateway: Gateway
    device: Device
    unit: str
    low: float
    high: float
    decimals: int
    source: str | None
    definitions: tuple[AlarmDefinition, ...]

    @property
    def id(self) -> str:
        """Unique in the plant."""
        return self.config.id

    @property
    def kind(self) -> PointKind:
        """What it measures."""
        return self.config.kind

    @property
    def metric(self) -> str:
        """Its Sparkplug metric name."""
        return self.config.metric or self.config.id


def resolve(index: int, gateway: Gateway, device: Device, point: Point, profiles: dict[str, Profile]) -> PlantPoint:
    """`point` with what it inherits from its kind, its device and its register's profile; `index` in the engine."""
    defaults = defaults_of(point)
    profile = profiles.get(device.profile or "")
    value = profile.values.get(point.register_) if profile is not None and point.register_ is not None else None
    unit = point.unit or (value.unit if value is not None and value.unit else defaults.unit)
    low, high = point.range or defaults.range
    decimals = defaults.decimals if point.decimals is None else point.decimals
    source = point.source or device.source
    return PlantPoint(
        index, point, gateway, device, unit, low, high, decimals, source, definitions_of(point, device, (low, high))
    )
