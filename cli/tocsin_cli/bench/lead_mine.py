"""The coal face's normal running and its incidents, drawn at random for `tocsin bench detection`."""

from typing import Final

import numpy as np

from tocsin_cli.bench.lead_course import SECONDS_PER_HOUR, Course

METHANE: Final = ("T0", "T1", "T2", "T3", "O2-0")  # methane thins the oxygen
CO: Final = ("CO-0", "CO-2")
AIR: Final = ("V-1", "V-2", "DP-2")
HEAT: Final = ("TE-1", "TE-2")

SHIFT_H: Final = 8.0
HANDOVER_H: Final = 0.75
AIRFLOW_M3_S: Final = 20.0
DOORS_PA: Final = 610.0


def normal(course: Course) -> None:
    """Let the face work as it does: cuts, falls of coal, shifts, doors, exhaust of engines, the day's air pressure."""
    gas = 4.8 * (1.0 - 0.03 * np.sin(2.0 * course.day)) + course.wander(0.12, 90.0)
    hour = course.start_hour + np.arange(course.seconds) / SECONDS_PER_HOUR
    working = (hour % SHIFT_H) > HANDOVER_H
    begin = round(course.between(0.0, 1200.0))
    while begin < course.seconds:
        length = round(course.between(1500.0, 3300.0))
        rise = course.between(40.0, 150.0)
        if working[begin]:
            gas += course.between(0.5, 1.2) * course.trapezoid(begin, rise, length, rise)
            course.disturb("cutting begins", begin, rise + 60.0, METHANE)
        begin += length + round(course.between(600.0, 1500.0))
    for start in course.times(12.0, 120.0):
        stay = course.between(10.0, 60.0)
        gas += course.between(0.3, 1.0) * course.trapezoid(start, 3.0, stay, 20.0)
        course.disturb("fall of coal", start, stay + 60.0, METHANE)
    course.inputs["face.methane_m3_min"] = np.maximum(gas, 0.0)
    _air(course)
    co = 2.4 + course.wander(0.2, 300.0)
    for start in course.times(8.0, 500.0):
        stay = course.between(60.0, 360.0)
        co += course.between(3.0, 11.0) * course.trapezoid(start, 20.0, stay, 30.0)
        course.disturb("engine exhaust", start, stay + 90.0, CO)
    course.inputs["face.co_l_min"] = np.maximum(co, 0.0)
    warm = np.where(working, 23.9, 23.5) + 0.3 * course.warmth
    course.inputs["air.temperature"] = warm + course.wander(0.2, 1800.0)
    course.inputs["air.dust"] = np.where(working, 65.0, 25.0)


def _air(course: Course) -> None:
    flow = np.full(course.seconds, AIRFLOW_M3_S) + course.wander(0.3, 600.0)
    doors = np.full(course.seconds, DOORS_PA)
    for start in course.times(15.0, 90.0):
        open_s = course.between(15.0, 60.0)
        shape = course.trapezoid(start, 3.0, open_s, 3.0)
        flow -= course.between(1.0, 2.0) * shape
        doors -= course.between(150.0, 350.0) * shape
        course.disturb("door open", start, open_s + 60.0, (*METHANE, *CO, *AIR))
    course.inputs["face.airflow_m3_s"], course.inputs["air.doors_pa"] = flow, doors


def incident(course: Course, onset: int) -> None:
    """One incident of a kind drawn at random, its cause there from `onset`, all over within 50 minutes."""
    kinds = (_surge, _fan, _heating, _hot_air)
    kinds[int(course.random.integers(len(kinds)))](course, onset)


def _surge(course: Course, onset: int) -> None:
    rise, stay = course.spread(2.0, 900.0), course.between(60.0, 600.0)
    course.move("face.methane_m3_min", course.between(8.0, 20.0), course.trapezoid(onset, rise, stay, 30.0))
    course.happen("gas surge", onset, rise + stay + 180.0, METHANE)


def _fan(course: Course, onset: int) -> None:
    fall, stay = course.spread(10.0, 600.0), course.between(120.0, 600.0)
    shape = course.trapezoid(onset, fall, stay, 60.0)
    course.move("face.airflow_m3_s", course.between(1.8, 10.0), shape)
    course.move("air.doors_pa", course.between(20.0, 150.0), shape)
    course.happen("fan fails", onset, fall + stay + 300.0, (*METHANE, *CO, *AIR))


def _heating(course: Course, onset: int) -> None:
    rise, stay = course.spread(120.0, 1500.0), course.between(120.0, 400.0)
    course.move("face.co_l_min", course.between(24.0, 80.0), course.trapezoid(onset, rise, stay, 60.0))
    course.happen("heating", onset, rise + stay + 240.0, CO)


def _hot_air(course: Course, onset: int) -> None:
    rise, stay = course.spread(200.0, 1500.0), course.between(120.0, 400.0)
    course.move("air.temperature", course.between(26.8, 31.0), course.trapezoid(onset, rise, stay, 240.0))
    course.happen("hot air", onset, rise + stay + 300.0, HEAT)
