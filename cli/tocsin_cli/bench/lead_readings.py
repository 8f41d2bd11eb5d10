"""What a gateway reads from a simulated plant's instruments: at their periods, with drift, spikes, jitter and gaps."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from tocsin_cli.bench.lead_course import Course
from tocsin_core.plant import Plant
from tocsin_core.plant.model import PointKind
from tocsin_core.plant.point import PlantPoint
from tocsin_core.readings import BAD_COMM_FAILURE, F64, GOOD, I64, U8, Frame
from tocsin_core.rules import NS
from tocsin_sim.course import quantities_over, shown_over, through_register
from tocsin_sim.simulation import Signal, Simulation

STEP_S: Final = 1.0
NOT_READ: Final = 0xFF

# What the simulator's instruments do not do by themselves. Spread of the zero's drift, shares of the range, memory 1 h.
DRIFT: Final = {
    PointKind.TOXIC_GAS: 0.006,
    PointKind.COMBUSTIBLE_GAS: 0.003,
    PointKind.MINE_METHANE: 0.005,
    PointKind.MINE_CO: 0.001,
    PointKind.OXYGEN: 0.002,
}
DRIFT_TAU_S: Final = 3600.0
WAVES: Final = 0.001  # spread of a level by the surface moving, share of the range
WAVES_TAU_S: Final = 5.0
SPIKES_PER_DAY: Final = 1.0  # one wild reading of a point, by 5 to 50 % of the range
BURSTS_PER_DAY: Final = 0.5  # radio near a device: 3 to 20 s with noise of 3 % of the range
GAPS_PER_DAY: Final = 2.0  # a device that does not answer for 3 to 60 s
LOST: Final = 0.001  # of the readings, one by one
JITTER_MS: Final = 12.0  # mean time by which a reading is later than its tick
ROUND_TRIP_MS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Readings:
    """Readings of a plant in one stretch: value f64 and quality u8 [seconds, points].

    `NOT_READ` in quality where a point was not read in that second. `device` i64[points] numbers the devices.
    """

    value: F64
    quality: U8
    device: I64

    def frames(self, start_ns: int, seed: int) -> Iterator[tuple[Frame, int]]:
        """Each second's readings, stamped as they come in (one stamp for a device), and the tick after them."""
        random = np.random.default_rng([seed, 3])
        count = int(self.device.max()) + 1
        for second in range(len(self.value)):
            late_ms = np.round(ROUND_TRIP_MS + random.exponential(JITTER_MS, count)).astype(np.int64)
            now_ns = start_ns + second * NS
            read = np.flatnonzero(self.quality[second] != NOT_READ)
            time_ns = now_ns + np.minimum(late_ms[self.device[read]], 900) * (NS // 1000)
            point = read.astype(np.int32)
            yield Frame(point, time_ns, self.value[second, read], self.quality[second, read]), now_ns + NS


def read(plant: Plant, simulation: Simulation, course: Course, seed: int) -> Readings:
    """What is read in one stretch: the real physics, seen by the real instruments."""
    quantities = quantities_over(simulation, seed, STEP_S, course.seconds, course.inputs)
    names = {point.index: _shown_name(point) for point in plant.measured}
    signals: list[tuple[str, Signal]] = []
    constants: dict[str, float] = {}
    extra: dict[str, F64] = {}
    for point in plant.measured:
        device, _, value = names[point.index].partition("/")
        signal = simulation.instruments[device][value]
        if isinstance(signal, Signal):
            signals.append((f"{device}.{value}", signal))
            extra[f"{device}.{value}"] = _own_ways(course, point)
        else:
            constants[f"{device}.{value}"] = signal
    shown = shown_over(signals, quantities, seed, STEP_S, extra)
    found = np.empty((course.seconds, len(plant.measured)))
    for point in plant.measured:
        name = names[point.index].replace("/", ".", 1)
        values = shown[name] if name in shown else np.full(course.seconds, constants[name])
        profile = plant.profiles.get(point.device.profile or "")
        register = point.config.register_
        if profile is not None and register is not None:
            values = through_register(profile, register, values)
        found[:, point.index] = values
    return _polled(plant, course, found)


def _shown_name(point: PlantPoint) -> str:
    return f"{point.device.id}/{point.config.register_ or point.config.field}"


def _own_ways(course: Course, point: PlantPoint) -> F64:
    """What the instrument adds to what it measures: drift of its zero, and wild readings."""
    span = point.high - point.low
    added = np.zeros(course.seconds)
    share = DRIFT.get(point.kind, 0.0)
    if share:
        added += course.wander(share * span, DRIFT_TAU_S)
    if point.kind is PointKind.TANK_LEVEL:
        added += course.wander(WAVES * span, WAVES_TAU_S)
    for at in course.times(SPIKES_PER_DAY, 1.0):
        added[at] += span * course.between(0.05, 0.5) * float(course.random.choice((-1.0, 1.0)))
        course.disturb("one wild reading", at, 2.0, (point.id,))
    for at in course.times(BURSTS_PER_DAY, 20.0):
        length = round(course.between(3.0, 20.0))
        added[at : at + length] += 0.03 * span * course.random.standard_normal(length)
        course.disturb("radio near the instrument", at, length + 30, (point.id,))
    return added


def _polled(plant: Plant, course: Course, value: F64) -> Readings:
    quality = np.full(value.shape, GOOD, np.uint8)
    columns: dict[tuple[str, str], list[PlantPoint]] = {}
    for point in plant.measured:
        columns.setdefault((point.gateway.id, point.device.id), []).append(point)
    device = np.zeros(len(plant.measured), np.int64)
    for number, points in enumerate(columns.values()):
        here = slice(points[0].index, points[-1].index + 1)
        device[here] = number
        for at in course.times(GAPS_PER_DAY, 60.0):
            gap = slice(at, at + round(course.between(3.0, 60.0)))
            quality[gap, here] = BAD_COMM_FAILURE
            value[gap, here] = np.nan
        lost = course.random.random(course.seconds) < LOST
        period_s = points[0].device.period_ms // 1000
        lost |= np.arange(course.seconds) % period_s != 0
        quality[lost, here] = NOT_READ
    return Readings(value, quality, device)
