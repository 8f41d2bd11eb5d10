"""The plant of the pipeline benchmark: its points on simulated gateways, what they read, and which alarms must come."""

from dataclasses import dataclass, replace
from functools import cache
from typing import Final

import numpy as np

from tocsin_cli.bench.synthetic import NOISE, block
from tocsin_core.engine import occurrence_id
from tocsin_core.plant import AlarmKind, Plant, PlantPoint
from tocsin_core.plant.fields import name_of
from tocsin_core.plant.model import Device, Gateway, HazardSource, PlantFile, Point, Site
from tocsin_core.readings import F64, I64

SITE: Final = "bench"
DEVICE: Final = "device"
GATEWAY_POINTS: Final = 1000
# One point in so many leaves its limits while the run is measured, and stays there.
TROUBLED: Final = 500
# Where a troubled point goes, and which of its limits (pipeline_plant.LIMITS) it passes; noise stays between limits.
_BEYOND: Final = ((85.0, ("H",)), (95.0, ("H", "HH")), (15.0, ("L",)), (5.0, ("L", "LL")))
LIMITS: Final = (AlarmKind.HH, AlarmKind.H, AlarmKind.L, AlarmKind.LL)


def gateway_id(number: int) -> str:
    """The name of a gateway."""
    return f"G{number:04d}"


def point_id(number: int) -> str:
    """The name of a point, also of its metric; 0 to 999 are the first gateway's."""
    return f"P{number:07d}"


@cache
def _rules() -> Plant:
    return block(1)


def plant(gateways: int) -> Plant:
    """A plant of so many gateways, each a hazard source of 1,000 points, with the alarms of `synthetic.block` on each.

    Made in memory: it holds what `load_plant` makes of a file that says the same, but for what points share.
    """
    device = Device(id=DEVICE)
    made = tuple(Gateway(id=gateway_id(number), devices=(device,)) for number in range(gateways))
    sources = tuple(HazardSource(id=each.id, name=name_of(each.id, each.id)) for each in made)
    model = _rules().points[0]
    points = []
    for index in range(gateways * GATEWAY_POINTS):
        name = point_id(index)
        config = Point.model_construct(model.config.model_fields_set, **{**model.config.__dict__, "id": name})
        own = tuple(replace(each, id=f"{name}/{each.kind}", point=name) for each in model.definitions)
        points.append(
            PlantPoint(
                index, config, made[index // GATEWAY_POINTS], device, model.unit, model.low, model.high,
                model.decimals, sources[index // GATEWAY_POINTS].id, own, model.longest_s,
            )
        )  # fmt: skip
    site = Site(id=SITE, name=name_of("厂", "site"))
    file = PlantFile(tocsin=1, site=site, hazard_sources=sources, gateways=made)
    return Plant(SITE, file, tuple(points), {})


@dataclass(frozen=True, slots=True)
class Course:
    """What the points read, second by second of which `warm_s` come before the measured ones; times in whole ms.

    Of a troubled point (`point`, in order) `begin` is the second from which it reads about `level`.
    """

    gateways: int
    warm_s: int
    seconds: int
    begin_ms: int
    mean: F64
    noise: F64
    point: I64
    begin: I64
    level: I64

    @classmethod
    def of(cls, gateways: int, warm_s: int, seconds: int, begin_ms: int, seed: int = 1) -> "Course":
        """The same for the same arguments."""
        points = gateways * GATEWAY_POINTS
        dice = np.random.default_rng(seed)
        mean, noise = dice.uniform(45.0, 55.0, points), NOISE * dice.standard_normal(points).clip(-5.0, 5.0)
        chosen = np.sort(dice.choice(points, max(1, points // TROUBLED), replace=False))
        begin = warm_s + dice.integers(0, seconds, len(chosen))
        return cls(
            gateways, warm_s, seconds, begin_ms, mean, noise, chosen, begin, dice.integers(0, len(_BEYOND), len(chosen))
        )

    def flooded(self) -> "Course":
        """The same, but that every point passes H, and no other limit, in the first measured second."""
        points = np.arange(len(self.mean))
        return replace(self, point=points, begin=np.full_like(points, self.warm_s), level=np.zeros_like(points))

    def due_ms(self, gateway: int, second: int) -> int:
        """When a gateway reads, and sends, in a second: they are spread over it."""
        return self.begin_ms + 1000 * second + 1000 * gateway // self.gateways

    def values(self, gateway: int, second: int) -> F64:
        """What the points of a gateway read, with one decimal."""
        own = slice(gateway * GATEWAY_POINTS, (gateway + 1) * GATEWAY_POINTS)
        turn = 7 * second % GATEWAY_POINTS
        value = self.mean[own] + np.roll(self.noise[own], turn)
        first, last = np.searchsorted(self.point, [own.start, own.stop])
        begun = np.arange(first, last)[self.begin[first:last] <= second]
        beyond = np.asarray([level for level, _ in _BEYOND])
        value[self.point[begun] - own.start] += beyond[self.level[begun]] - self.mean[self.point[begun]]
        return np.round(value, 1)

    def expected(self) -> dict[str, int]:
        """The occurrence ids of the limits that are passed, each with the time (ms) of the reading that passes it."""
        found: dict[str, int] = {}
        for point, begin, level in zip(self.point.tolist(), self.begin.tolist(), self.level.tolist(), strict=True):
            due_ms = self.due_ms(point // GATEWAY_POINTS, begin)
            for kind in _BEYOND[level][1]:
                found[occurrence_id(f"{point_id(point)}/{kind}", due_ms * 1_000_000)] = due_ms
        return found
