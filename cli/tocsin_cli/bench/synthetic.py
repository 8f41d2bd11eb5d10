"""A synthetic plant of any size: its rules, and readings of points most of which are quiet and some in trouble."""

from dataclasses import dataclass, fields
from typing import Final, Self

import numpy as np

from tocsin_core.plant import AlarmKind, Plant, PlantPoint
from tocsin_core.plant.definition import definitions_of
from tocsin_core.plant.fields import name_of
from tocsin_core.plant.model import AlarmSetting, Device, Gateway, PlantFile, Point, PointKind, Site
from tocsin_core.readings import F64, GOOD, Frame
from tocsin_core.rules import NS, Rules, compile_rules

START_NS: Final = 1_800_000_000 * NS
BLOCK: Final = 1000  # points compiled one by one; a larger plant repeats their rules
SPAN: Final = (0.0, 100.0)
HIGH: Final = 80.0  # the set point of H

# One point in a hundred swings beyond its limits and back, as in a plant on a bad day (EEMUA 191 calls 1 % standing
# alarms a lot); the rest are noisy and quiet.
TROUBLED: Final = 100
SWING: Final = 45.0
SWING_S: Final = 240.0
NOISE: Final = 0.3

_SETTINGS: Final = {
    AlarmKind.HH: AlarmSetting(setpoint=90.0),
    AlarmKind.H: AlarmSetting(setpoint=HIGH),
    AlarmKind.L: AlarmSetting(setpoint=20.0),
    AlarmKind.LL: AlarmSetting(setpoint=10.0),
    AlarmKind.RATE: AlarmSetting(setpoint=30.0),
    AlarmKind.TIME_TO_LIMIT: AlarmSetting(limit="H"),
}


def block(points: int) -> Plant:
    """A plant of pressures, each with HH, H, L, LL, rate, time to limit and stale as the plant file's defaults say."""
    device = Device(id="device")
    gateway = Gateway(id="gateway", devices=(device,))
    places = []
    for index in range(points):
        name = name_of(f"压力{index}", f"pressure {index}")
        point = Point(id=f"P{index}", name=name, kind=PointKind.PRESSURE, alarms={**_SETTINGS, AlarmKind.BAD: False})
        found = definitions_of(point, device, SPAN)
        places.append(PlantPoint(index, point, gateway, device, "kPa", *SPAN, 1, None, found))
    file = PlantFile(tocsin=1, site=Site(id="site", name=name_of("厂", "site")), gateways=(gateway,))
    return Plant("synthetic", file, tuple(places), {})


def repeated(rules: Rules, times: int) -> Rules:
    """`rules` of a plant that holds its points `times` times over (under the same names)."""
    points, definitions, trends = len(rules.points), len(rules.definitions), len(rules.trend_point)
    number = {
        "point": points,
        "trend_point": points,
        "trend": trends,
        "first": definitions,
        "realarm": definitions,
        "trend_first": trends,
        "trend_foresees": definitions,
    }
    columns: dict[str, object] = {}
    for field in fields(Rules):
        column = getattr(rules, field.name)
        if field.name == "special":  # pressures have nothing of it
            columns[field.name] = column
            continue
        if not isinstance(column, np.ndarray):
            columns[field.name] = column * times
            continue
        if field.name in number:
            offset = (number[field.name] * np.arange(times)).astype(column.dtype)[:, None]
            shifted = np.where(column < 0, column, column + offset)
            last = shifted[-1, -1:]
            ends = field.name.endswith("first")
            columns[field.name] = np.concatenate([shifted[:, :-1].ravel(), last]) if ends else shifted.ravel()
        else:
            columns[field.name] = np.concatenate([column] * times)
    return Rules(**columns)  # type: ignore[arg-type]


def rules_of(points: int) -> Rules:
    """The rules of a plant of `points`, at most `BLOCK` or a multiple of it."""
    return repeated(compile_rules(block(min(points, BLOCK))), max(1, points // BLOCK))


@dataclass(frozen=True, slots=True)
class Weather:
    """What the points of a plant read, second by second: means and phases f64[points], and noise to draw from."""

    mean: F64
    phase: F64
    noise: F64

    @classmethod
    def of(cls, points: int) -> Self:
        """The same for the same number of points."""
        dice = np.random.default_rng(points)
        noise = NOISE * dice.standard_normal(points)
        return cls(dice.uniform(45.0, 55.0, points), dice.uniform(0.0, 2.0 * np.pi, points), noise)

    def values(self, second: int) -> F64:
        """Of every point, with one decimal."""
        value = self.mean + np.roll(self.noise, 7919 * second)
        value[::TROUBLED] += SWING * np.sin(2.0 * np.pi * second / SWING_S + self.phase[::TROUBLED])
        return np.round(value, 1)

    def frame(self, second: int) -> Frame:
        """One good reading of every point, taken `second` seconds after the start."""
        points = len(self.mean)
        point = np.arange(points, dtype=np.int32)
        quality = np.full(points, GOOD, np.uint8)
        return Frame(point, np.full(points, START_NS + second * NS), self.values(second), quality)
