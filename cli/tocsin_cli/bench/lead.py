"""How early the early warnings come, and how rarely wrongly, over seeded hours of the shipped simulated plants."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from math import ceil
from typing import Final

import numpy as np
from rich.console import Console
from rich.progress import Progress

from tocsin_cli.bench import lead_ammonia, lead_mine
from tocsin_cli.bench.lead_course import SECONDS_PER_HOUR, Course
from tocsin_cli.bench.lead_figures import Raised, Stretch, Tally, report, tally, together
from tocsin_cli.bench.lead_readings import Readings, read
from tocsin_core import engine
from tocsin_core.plant import Plant, load_plant
from tocsin_core.replay.playing import occurrences
from tocsin_core.rules import NS, Rules, compile_rules
from tocsin_sim.simulation import Simulation, Vessel, load_simulation

HOURS: Final = 100.0
SEED: Final = 1
AMMONIA: Final = "ammonia-refrigeration"
MINE: Final = "coal-mine-face"
RECORDED: Final = "skab-pump-loop"

# Each stretch is a plant that has just been started, at another hour of the day.
STRETCH_H: Final = 5.0
START_NS: Final = 1_767_225_600 * NS  # 2026-01-01T00:00:00Z
FIRST_ONSET_S: Final = 300
LAST_ONSET_S: Final = 600
INCIDENT_EVERY_S: Final = SECONDS_PER_HOUR

Say = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Recorded:
    """A plant's stretches as they were drawn, with what a gateway read in them."""

    plant: Plant
    hours: float
    courses: Sequence[Course]
    readings: Sequence[Readings]


def draw(plant: Plant, simulation: Simulation, seconds: int, number: int, seed: int) -> tuple[Course, Simulation]:
    """Stretch `number` of a plant: the even ones without incidents, the odd ones with one an hour.

    The simulation comes back with the tanks as full as they are at its start.
    """
    random = np.random.default_rng([seed, number, 1])
    start_hour = float(random.uniform(0.0, 24.0))
    course = Course(seconds, start_hour, random)
    if plant.name == AMMONIA:
        full = {"T-201": course.between(45.0, 68.0), "T-202": course.between(55.0, 72.0)}
        sources = dict(simulation.sources)
        for tank, pct in full.items():
            vessel = sources[tank]
            if isinstance(vessel, Vessel):
                sources[tank] = vessel.model_copy(update={"volume_pct": pct})
        simulation = simulation.model_copy(update={"sources": sources})
        levels = lead_ammonia.normal(course, full)
        for onset in _onsets(course, number):
            lead_ammonia.incident(course, onset, levels)
    else:
        lead_mine.normal(course)
        for onset in _onsets(course, number):
            lead_mine.incident(course, onset)
    return course, simulation


def _onsets(course: Course, number: int) -> list[int]:
    """One incident in each whole hour of an odd stretch, from 5 to 10 minutes into it."""
    if number % 2 == 0:
        return []
    hours = range(course.seconds // INCIDENT_EVERY_S)
    return [hour * INCIDENT_EVERY_S + round(course.between(FIRST_ONSET_S, LAST_ONSET_S)) for hour in hours]


def record(plant: Plant, simulation: Simulation, hours: float, seed: int, progress: Say) -> Recorded:
    """Simulate `hours` of a plant, half of them with incidents, in stretches of at most five hours."""
    pairs = ceil(hours / 2.0 / STRETCH_H)
    seconds = round(hours / 2.0 / pairs * SECONDS_PER_HOUR)
    courses, readings = [], []
    for number in range(2 * pairs):
        progress(f"{plant.name}: simulating", number / (2 * pairs))
        course, begun = draw(plant, simulation, seconds, number, seed)
        readings.append(read(plant, begun, course, seed * 1000 + number))
        courses.append(course)
    return Recorded(plant, 2 * pairs * seconds / SECONDS_PER_HOUR, courses, readings)


def judge(recorded: Recorded, rules: Rules, seed: int, progress: Say) -> Tally:
    """Run `rules` of the plant over every stretch, second by second, and count what came of it."""
    plant = recorded.plant
    stretches = []
    for number, (course, readings) in enumerate(zip(recorded.courses, recorded.readings, strict=True)):
        progress(f"{plant.name}: judging", number / len(recorded.courses))
        raised = _raised(readings, rules, seed * 1000 + number)
        stretches.append(Stretch(course, readings.value, readings.quality, raised))
    names = [(point.id, point.decimals) for point in plant.measured]
    return tally(recorded.hours, names, rules.definitions, stretches)


def _raised(readings: Readings, rules: Rules, seed: int) -> list[Raised]:
    """What the engine raises in a stretch, in order; not at computed points, which repeat what their members say."""
    state = engine.initial(rules, START_NS)
    transitions = []
    for frame, now_ns in readings.frames(START_NS, seed):
        state, told = engine.step(state, rules, frame, [], now_ns)
        transitions += told.transitions
    return [
        Raised(
            rules.definitions[each.definition],
            (each.raised_ns - START_NS) / NS,
            np.inf if each.returned_ns is None else (each.returned_ns - START_NS) / NS,
        )
        for each in occurrences(transitions)
        if int(rules.point[each.definition]) not in rules.special.inputs
    ]


def shipped(name: str) -> tuple[Plant, Simulation]:
    """A plant that comes with the simulator, and its simulation."""
    with as_file(files("tocsin_sim").joinpath("plants", name)) as folder:
        return load_plant(folder), load_simulation(folder)


def plant_scores(hours: float, seed: int, progress: Say) -> dict[str, dict[str, object]]:
    """The figures of every shipped plant that is simulated, and of all together.

    The pump loop plays a recording: nothing in it can be drawn anew, and its hours are 0.
    """
    found: dict[str, dict[str, object]] = {}
    tallies = []
    for name in (AMMONIA, MINE):
        plant, simulation = shipped(name)
        recorded = record(plant, simulation, hours, seed, progress)
        counted = judge(recorded, compile_rules(plant), seed, progress)
        tallies.append(counted)
        found[name] = report(counted)
    loop, _ = shipped(RECORDED)
    rules = compile_rules(loop).definitions
    found[RECORDED] = report(tally(0.0, [(point.id, point.decimals) for point in loop.points], rules, []))
    found["total"] = report(together(tallies))
    return found


def measure_plants(hours: float, seed: int, console: Console) -> dict[str, dict[str, object]]:
    """`plant_scores` with a bar that shows how far it is."""
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("", total=1.0)

        def progress(what: str, share: float) -> None:
            bar.update(task, description=what, completed=share)

        return plant_scores(hours, seed, progress)
