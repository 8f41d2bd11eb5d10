"""The cold store's normal running and its incidents, drawn at random for `tocsin bench detection`."""

from typing import Final

import numpy as np

from tocsin_cli.bench.lead_course import SECONDS_PER_HOUR, Course
from tocsin_core.readings import F64

OUTDOORS: Final = ("NH3-101", "NH3-102", "NH3-103", "NH3-104", "NH3-105", "NH3-106")
INDOORS: Final = ("NH3-301", "NH3-302", "NH3-303", "NH3-304", "LEL-311", "LEL-312", "LEL-313", "LEL-314")
DISCHARGE: Final = ("PT-303", "TT-303", "VT-301", "VT-302")
TANKS: Final = {"T-201": "LT-201", "T-202": "LT-202"}

# One per cent of a tank of 50 m3 in kilograms, at 21 degC.
KG_PER_PCT: Final = 304.0
FULL_PCT: Final = 75.0  # where a normal filling ends: 5 % short of the high alarm
CIRCULATED_KG_S: Final = 0.8
PUMP_STARTS_M: Final = 1.2
PUMP_STOPS_M: Final = 0.3
RATED: Final = {
    "compressors.discharge_bar": 11.7,
    "compressors.suction_bar": 1.35,
    "compressors.discharge_c": 96.0,
    "compressors.vibration_1": 1.8,
    "compressors.vibration_2": 2.1,
}

Levels = dict[str, F64]


def normal(course: Course, volume_pct: dict[str, float]) -> Levels:
    """Let the store run as it does; `volume_pct` is each tank's filling at the start. Returns where the levels go."""
    _weather(course)
    _machines(course)
    _gas(course)
    _sump(course)
    levels = {}
    for tank in TANKS:
        for flow in ("inflow_kg_s", "outflow_kg_s"):
            course.inputs[f"{tank}.{flow}"] = np.full(course.seconds, CIRCULATED_KG_S)
        for start in course.times(2.0, SECONDS_PER_HOUR):
            _fill(course, tank, start, volume_pct[tank])
        levels[tank] = _level(course, tank, volume_pct[tank])
    course.inputs["V-301.inflow_kg_s"] = np.full(course.seconds, 0.5)
    course.inputs["V-301.outflow_kg_s"] = np.full(course.seconds, 0.5)
    for start in course.times(12.0, 1200.0):
        # A defrost draws the receiver down, and the charge comes back.
        rate, length = course.between(0.1, 0.5), course.between(180.0, 420.0)
        course.inputs["V-301.outflow_kg_s"] += rate * course.trapezoid(start, 10.0, length, 10.0)
        course.inputs["V-301.inflow_kg_s"] += rate * course.trapezoid(start + round(length) + 60, 10.0, length, 10.0)
        course.disturb("defrost", start, 2.0 * length + 100.0, ("LT-301",))
    return levels


def _weather(course: Course) -> None:
    warm = course.warmth
    speed = 2.2 + 1.0 * warm + course.wander(0.5, 1800.0) + course.wander(0.3, 20.0)
    course.inputs |= {
        "weather.temperature": 23.0 + 6.0 * warm + course.wander(0.3, 600.0),
        "weather.humidity": 61.0 - 18.0 * warm,
        "weather.pressure": 1012.4 + course.wander(2.0, 20000.0),
        "weather.speed": np.maximum(speed, 0.5),
        "weather.from": 270.0 + course.wander(25.0, 1800.0) + course.wander(6.0, 30.0),
        "hall.temperature": 27.0 + 2.0 * warm + course.wander(0.4, 900.0),
    }


def _machines(course: Course) -> None:
    """The compressors' load changes in steps; the condenser is warmer in the afternoon."""
    load, begin = np.zeros(course.seconds), 0
    kick = np.zeros(course.seconds)
    now = course.between(-1.0, 1.0)
    while begin < course.seconds:
        after = course.between(-1.0, 1.0)
        rise = course.between(30.0, 120.0)
        load[begin:] = now + (after - now) * np.clip(np.arange(course.seconds - begin) / rise, 0.0, 1.0)
        kick += course.trapezoid(begin, 2.0, 12.0, 6.0) * course.between(0.2, 1.0)
        if begin:
            course.disturb("load change", begin, rise + 60.0, DISCHARGE)
        begin, now = begin + round(course.between(600.0, 2400.0)), after
    for name, swing, by_day in (
        ("discharge_bar", 0.9, 0.8),
        ("suction_bar", -0.2, 0.0),
        ("discharge_c", 6.0, 4.0),
        ("vibration_1", 0.3, 0.0),
        ("vibration_2", 0.3, 0.0),
    ):
        full = f"compressors.{name}"
        starting = kick if name.startswith("vibration") else 0.0
        course.inputs[full] = RATED[full] + swing * load + by_day * course.warmth + starting


def _gas(course: Course) -> None:
    """Whiffs: hoses uncoupled and samples taken outdoors, oil drained in the machine room; doors that stand open."""
    course.inputs["flange.rate_kg_s"] = np.zeros(course.seconds)
    for start in course.times(4.0, 300.0):
        rate, rise, stay = course.spread(5e-6, 4e-5), course.between(3.0, 20.0), course.between(20.0, 150.0)
        course.inputs["flange.rate_kg_s"] += rate * course.trapezoid(start, rise, stay, 5.0)
        course.disturb("whiff outdoors", start, rise + stay + 60.0, OUTDOORS)
    course.inputs["room.rate_kg_s"] = np.zeros(course.seconds)
    for start in course.times(6.0, 900.0):
        rate, rise, stay = course.spread(8e-6, 3.5e-5), course.between(3.0, 60.0), course.between(60.0, 600.0)
        course.inputs["room.rate_kg_s"] += rate * course.trapezoid(start, rise, stay, 5.0)
        course.disturb("oil drained", start, rise + stay + 120.0, INDOORS)
    course.inputs["room.air_changes_h"] = np.full(course.seconds, 12.0)
    for start in course.times(20.0, 400.0):
        open_s = course.between(30.0, 300.0)
        course.inputs["room.air_changes_h"] += course.between(3.0, 20.0) * course.trapezoid(start, 3.0, open_s, 3.0)


def _sump(course: Course) -> None:
    """Water seeps in, faster in showers; the pump starts and stops by the level."""
    inflow = np.full(course.seconds, course.between(1e-5, 4e-5))
    for start in course.times(2.0, 1800.0):
        length = course.between(600.0, 1800.0)
        inflow += course.between(1e-4, 5e-4) * course.trapezoid(start, 120.0, length, 300.0)
        course.disturb("shower", start, length + 420.0, ("LT-210",))
    level, pumping = course.between(PUMP_STOPS_M, PUMP_STARTS_M), False
    found = []
    for water in inflow.tolist():
        pumping = level > PUMP_STARTS_M or (pumping and level > PUMP_STOPS_M)
        level += water - (2e-3 if pumping else 0.0)
        found.append(level)
    course.inputs["pump.sump_m"] = np.array(found)


def _level(course: Course, tank: str, start_pct: float) -> F64:
    net = course.inputs[f"{tank}.inflow_kg_s"] - course.inputs[f"{tank}.outflow_kg_s"]
    return start_pct + np.cumsum(net) / KG_PER_PCT


def _fill(course: Course, tank: str, start: int, start_pct: float) -> None:
    """A filling that ends where it should; what came is used up over two hours."""
    there = float(_level(course, tank, start_pct)[start:].max())
    more_kg = (course.between(FULL_PCT - 5.0, FULL_PCT) - there) * KG_PER_PCT
    if more_kg < 2.0 * KG_PER_PCT:
        return
    rate = course.between(2.0, 6.0)
    length = more_kg / rate
    course.inputs[f"{tank}.inflow_kg_s"] += rate * course.trapezoid(start, 20.0, length - 20.0, 20.0)
    used = course.trapezoid(start + round(length) + 900, 60.0, 2.0 * SECONDS_PER_HOUR, 60.0)
    course.inputs[f"{tank}.outflow_kg_s"] += more_kg / (2.0 * SECONDS_PER_HOUR) * used
    course.disturb("filling", start, length + 60.0, (TANKS[tank],))


def incident(course: Course, onset: int, levels: Levels) -> None:
    """One incident of a kind drawn at random, its cause there from `onset`, all over within 50 minutes."""
    kinds = (_flange_leak, _room_leak, _overfill, _sump_pump, _blocked_outlet, _vibration)
    kinds[int(course.random.integers(len(kinds)))](course, onset, levels)


def _flange_leak(course: Course, onset: int, levels: Levels) -> None:
    del levels
    rate, rise, stay = course.spread(1e-4, 2e-3), course.spread(2.0, 600.0), course.between(120.0, 600.0)
    course.move("flange.rate_kg_s", rate, course.trapezoid(onset, rise, stay, 5.0))
    course.happen("flange leak", onset, rise + stay + 300.0, OUTDOORS)


def _room_leak(course: Course, onset: int, levels: Levels) -> None:
    del levels
    rate, rise, stay = course.spread(1e-4, 3e-3), course.spread(2.0, 600.0), course.between(120.0, 600.0)
    course.move("room.rate_kg_s", rate, course.trapezoid(onset, rise, stay, 5.0))
    # The emergency exhaust is started two minutes after the leak is full.
    course.move("room.air_changes_h", 90.0, course.trapezoid(onset + round(rise) + 120, 5.0, stay + 300.0, 5.0))
    course.happen("room leak", onset, rise + stay + 600.0, INDOORS)


def _overfill(course: Course, onset: int, levels: Levels) -> None:
    """A tanker empties into a tank and nobody watches; later the tank is pumped down to where it was."""
    tank = ("T-201", "T-202")[int(course.random.integers(2))]
    hour = slice(onset, onset + 3000)
    more_kg = (course.between(82.0, 88.0) - float(levels[tank][hour].max())) * KG_PER_PCT
    rate = max(course.spread(4.0, 30.0), more_kg / 1200.0)
    length = more_kg / rate
    course.inputs[f"{tank}.inflow_kg_s"] += rate * course.trapezoid(onset, 5.0, length - 5.0, 5.0)
    away = course.trapezoid(onset + round(length) + 120, 5.0, more_kg / 15.0 - 5.0, 5.0)
    course.inputs[f"{tank}.outflow_kg_s"] += 15.0 * away
    course.happen("overfill", onset, length + 120.0 + more_kg / 15.0, (TANKS[tank],))


def _sump_pump(course: Course, onset: int, levels: Levels) -> None:
    """The pump does not start, and water comes in; afterwards it is pumped out to where it was."""
    del levels
    top = course.between(1.6, 1.9)
    need = top - float(course.inputs["pump.sump_m"][onset])
    rise = min(need / course.spread(3e-4, 3e-3), 2000.0)
    course.move("pump.sump_m", top, course.trapezoid(onset, rise, 120.0, 300.0))
    course.happen("sump pump fails", onset, rise + 420.0, ("LT-210",))


def _blocked_outlet(course: Course, onset: int, levels: Levels) -> None:
    del levels
    rise, stay = course.spread(30.0, 900.0), course.between(120.0, 600.0)
    shape = course.trapezoid(onset, rise, stay, 60.0)
    course.move("compressors.discharge_bar", course.between(15.5, 17.5), shape)
    slower = course.trapezoid(onset, 2.0 * rise, stay, 120.0)
    course.move("compressors.discharge_c", course.between(112.0, 132.0), slower)
    course.move("compressors.vibration_1", course.between(2.0, 4.0), shape)
    course.happen("blocked outlet", onset, 2.0 * rise + stay + 300.0, DISCHARGE)


def _vibration(course: Course, onset: int, levels: Levels) -> None:
    del levels
    number = int(course.random.integers(1, 3))
    rise, stay = course.spread(60.0, 1500.0), course.between(60.0, 600.0)
    course.move(f"compressors.vibration_{number}", course.between(5.0, 9.0), course.trapezoid(onset, rise, stay, 30.0))
    course.happen("bearing wear", onset, rise + stay + 120.0, (f"VT-30{number}",))
