"""Points in a unit that their set points or their registers are not in: 24 ppm of CO is 0.0024 %, 1 MPa is 10 bar."""

from collections.abc import Iterator
from typing import Final
from unicodedata import normalize

from tocsin_core.plant.load import Plant
from tocsin_core.plant.model import PointKind
from tocsin_core.plant.standards import MILLIGRAMS, OPEN_PATH, PARTS, defaults_of, written

# As people write them (`written`); where one stands for another, the numbers are alike.
UNITS: Final[dict[PointKind, frozenset[str]]] = {
    PointKind.TOXIC_GAS: PARTS | MILLIGRAMS,
    PointKind.COMBUSTIBLE_GAS: OPEN_PATH | {"%lel", "lel%", "lel"},
    PointKind.OXYGEN: frozenset({"%", "%vol", "vol%", "vol.%", "%v/v", "%(v/v)", "%o2", "%(vol)"}),
    PointKind.MINE_METHANE: frozenset({"%", "%ch4", "%vol", "vol%", "vol.%", "%v/v", "%(v/v)", "%(vol)"}),
    PointKind.MINE_CO: PARTS,
}


def of_another_unit(plant: Plant) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    """Points of gases with set points by a standard (`clause`) that are not in the point's unit.

    Gives the point, its unit, that of its kind, and the alarms whose set points these are.
    """
    for point in plant.points:
        known = UNITS.get(point.kind)
        if known is None or written(point.unit) in known:
            continue
        alarms = tuple(f"{each.kind} {each.setpoint:g}" for each in point.definitions if each.clause is not None)
        if alarms:
            yield point.id, point.unit, defaults_of(point.config.model_copy(update={"unit": None})).unit, alarms


def of_another_register(plant: Plant) -> Iterator[tuple[str, str, str, str]]:
    """Points that name another unit than the profile gives their register: point, its unit, register, its unit."""
    for point in plant.measured:
        profile, register = plant.profiles.get(point.device.profile or ""), point.config.register_
        unit = point.config.unit
        known = "" if profile is None or register is None else profile.values[register].unit
        if unit and known and _same_digits(unit) != _same_digits(known):
            yield point.id, unit, register or "", known


def _same_digits(unit: str) -> str:
    """A unit in which m³ is m3."""
    return normalize("NFKC", written(unit))
