"""A point of a plant with everything that it inherits filled in."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tocsin_core.detectors.change import Calibration
from tocsin_core.plant.brought import About, stale_after_s
from tocsin_core.plant.computed import Compute
from tocsin_core.plant.definition import AlarmDefinition, Definitions
from tocsin_core.plant.model import WHOLE_WORD, Device, Gateway, Point, PointKind
from tocsin_core.plant.standards import GAS_KINDS, GAS_SETTLE_S, defaults_of
from tocsin_core.registers import Profile


@dataclass(frozen=True, slots=True)
class ModeSource:
    """Where an instrument says that it is warming up or being calibrated: in the status word that `point` reads.

    As for `detectors.health.mode_of`: with `code_mask` 0, `warm_up` and `calibration` are flags of the word; else they
    are sets of the codes `word & code_mask` (code c is bit c). What was left counts for `settle_s` longer.
    """

    point: str
    code_mask: int
    warm_up: int
    calibration: int
    settle_s: float


@dataclass(frozen=True, slots=True)
class PlantPoint:
    """A point with everything that was inherited filled in; `index` is its number in the engine.

    `longest_s`: a reading older than this is not used to compute anything. A computed point has `compute`, and a
    gateway and device that stand for none.
    """

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
    longest_s: float = 10.0
    mode_source: ModeSource | None = None
    compute: Compute | None = None

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


@dataclass(frozen=True, slots=True)
class Learned:
    """What is known of all points: charts of those calibrated, when each is stale (s), and the definitions made."""

    calibrations: Mapping[str, Calibration] = field(default_factory=dict)
    longest_s: Mapping[str, float] = field(default_factory=dict)
    definitions: Definitions = field(default_factory=Definitions)


def _mode_source(point: Point) -> ModeSource | None:
    given = point.status
    if given is None:
        return None
    said = given.codes or given.flags
    warm_up, calibration = (said.warm_up, said.calibration) if said is not None else ((), ())
    settle_s = given.settle_s
    if settle_s is None:
        settle_s = GAS_SETTLE_S if point.kind in GAS_KINDS else 0.0
    mask = 0 if given.codes is None else given.mask or WHOLE_WORD
    return ModeSource(given.point, mask, _bits(warm_up), _bits(calibration), settle_s)


def _bits(numbers: Iterable[int]) -> int:
    return sum(1 << number for number in set(numbers))


def longest_of(point: Point, device: Device) -> float:
    """Seconds after which a reading of a measured point is too old to compute anything of: when it is stale."""
    return stale_after_s(point, device.period_ms / 1000.0)


def resolve(
    index: int, gateway: Gateway, device: Device, point: Point, profiles: dict[str, Profile], learned: Learned
) -> PlantPoint:
    """`point` with what it inherits from its kind, its device and its register's profile; `index` in the engine."""
    profile = profiles.get(device.profile or "")
    value = profile.values.get(point.register_) if profile is not None and point.register_ is not None else None
    # A limit of mg/m3 is another number than that of ppm, whoever says which it is.
    named = point if point.unit or value is None or not value.unit else point.model_copy(update={"unit": value.unit})
    defaults = defaults_of(named)
    unit = named.unit or defaults.unit
    low, high = point.range or defaults.range
    decimals = defaults.decimals if point.decimals is None else point.decimals
    told = About(unit, decimals, learned.calibrations, learned.longest_s)
    return PlantPoint(
        index,
        point,
        gateway,
        device,
        unit,
        low,
        high,
        decimals,
        point.source or device.source,
        learned.definitions.of(named, device, (low, high), told),
        longest_s=longest_of(point, device),
        mode_source=_mode_source(point),
    )
