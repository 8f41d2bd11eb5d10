"""`tocsin bench engine`: how many readings a second the engine takes on one core, and what it keeps of a point."""

import gc
import json
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from statistics import median
from typing import Annotated, Final

import numpy as np
import typer
from rich.console import Console

from tocsin_cli.bench.objects import Change, Watched
from tocsin_cli.bench.synthetic import BLOCK, HIGH, START_NS, TROUBLED, Weather, rules_of
from tocsin_core import engine as alarms
from tocsin_core.clock import Clock, SystemClock
from tocsin_core.readings import GOOD, Frame
from tocsin_core.rules import NS

POINTS: Final = 1_000_000
# The window of the trends is 60 s: only then are they what they are in service.
WARM_S: Final = 70
# Each size takes this many readings, over frames enough for some looks at which points went stale.
READINGS: Final = 20_000_000
LEAST_FRAMES: Final = 20
MOST_FRAMES: Final = 2_000
SPARSE_READINGS: Final = 100
SPARSE_FRAMES: Final = 300
SPARSE_TICK_NS: Final = NS // 100
BURST: Final = 10_000
BURSTS: Final = 5
OBJECTS: Final = 5_000
ALTERNATIVE: Final = "one Python object a point, in the manner of Home Assistant's threshold and trend sensors"

Say = Callable[[str], None]


class Bed:
    """A plant under test: its rules, its engine's state, its weather, and the second it is at."""

    def __init__(self, points: int, clock: Clock) -> None:
        """Nothing has been read."""
        self.points, self.clock = points, clock
        self.rules = rules_of(points)
        self.weather = Weather.of(points)
        self.state = alarms.initial(self.rules, START_NS)
        self.second = 0
        self.transitions = 0

    def step(self, frame: Frame, now_ns: int) -> float:
        """One step; the seconds it took."""
        begun = self.clock.monotonic()
        self.state, result = alarms.step(self.state, self.rules, frame, [], now_ns)
        taken = self.clock.monotonic() - begun
        self.transitions = len(result.transitions)
        return taken

    def run(self, seconds: int) -> float:
        """So many seconds of a reading of every point and a tick each; the seconds that the engine took."""
        taken = 0.0
        for _ in range(seconds):
            self.second += 1
            frame = self.weather.frame(self.second)
            taken += self.step(frame, START_NS + self.second * NS)
        return taken


def _has_started() -> None:
    """What was made until now stays, as in a service that has started: garbage is looked for in what comes later.

    Without it every few hundred thousand alarms Python looks through all the plant's objects, 40 to 80 ms each time.
    """
    gc.collect()
    gc.freeze()


def _rate(bed: Bed) -> int:
    frames = min(MOST_FRAMES, max(LEAST_FRAMES, READINGS // bed.points))
    return round(frames * bed.points / bed.run(frames))


def _bytes(value: object) -> int:
    """What the columns of a state or of rules take, nested ones too."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if is_dataclass(value) and not isinstance(value, type):
        return sum(_bytes(getattr(value, field.name)) for field in fields(value))
    return 0


def _sparse(bed: Bed) -> float:
    """Microseconds (median) for a frame of 100 readings, each with a tick of the clock."""
    dice = np.random.default_rng(1)
    values, quality = bed.weather.values(bed.second), np.full(SPARSE_READINGS, GOOD, np.uint8)
    taken = []
    now_ns = START_NS + bed.second * NS
    for _ in range(SPARSE_FRAMES):
        now_ns += SPARSE_TICK_NS
        point = dice.choice(bed.points, SPARSE_READINGS, replace=False).astype(np.int32)
        frame = Frame(point, np.full(SPARSE_READINGS, now_ns), values[point], quality)
        taken.append(bed.step(frame, now_ns))
    bed.second += -(-SPARSE_FRAMES * SPARSE_TICK_NS // NS)
    return median(taken) * 1e6


def _burst(bed: Bed) -> dict[str, float]:
    """Frames in which 10,000 points that were quiet pass a limit at once."""
    size = min(BURST, bed.points // (2 * BURSTS))
    quiet = np.flatnonzero(np.arange(bed.points) % TROUBLED).astype(np.int32)
    quality, value = np.full(size, GOOD, np.uint8), np.full(size, HIGH)
    taken, least = [], size
    for number in range(BURSTS):
        bed.second += 1
        now_ns = START_NS + bed.second * NS
        frame = Frame(quiet[number * size : (number + 1) * size], np.full(size, now_ns), value, quality)
        taken.append(bed.step(frame, now_ns))
        least = min(least, bed.transitions)
    return {
        "readings": size,
        "transitions": least,
        "milliseconds": round(median(taken) * 1e3, 2),
        "slowest_milliseconds": round(max(taken) * 1e3, 2),
    }


def measured_objects(points: int, clock: Clock) -> tuple[int, list[Change]]:
    """Readings a second of the alternative on the same weather, and what it told."""
    rules, weather = rules_of(points), Weather.of(points)
    watched = [Watched(rules.definitions[rules.first[i] : rules.first[i + 1]]) for i in range(points)]
    changes: list[Change] = []
    taken = 0.0
    for second in range(1, WARM_S + LEAST_FRAMES + 1):
        values = weather.values(second).tolist()
        begun = clock.monotonic()
        for point, value in zip(watched, values, strict=True):
            point.read(float(second), value, changes)
        sum(point.is_stale(float(second)) for point in watched)
        taken += clock.monotonic() - begun if second > WARM_S else 0.0
    return round(LEAST_FRAMES * points / taken), changes


def measure(points: int, clock: Clock, say: Say) -> dict[str, object]:
    """Every figure of the benchmark for a plant of `points`; `say` is told what is going on."""
    say(f"the alternative: {OBJECTS} objects")
    objects, _ = measured_objects(min(OBJECTS, points), clock)
    scaling: list[dict[str, int]] = []
    small_us = 0.0
    size = BLOCK
    while True:
        say(f"{size} points: rules, and {WARM_S} s of running in")
        bed = Bed(size, clock)
        bed.run(WARM_S)
        _has_started()
        say(f"{size} points: measuring")
        scaling.append({"points": size, "readings_per_second": _rate(bed)})
        small_us = small_us or _sparse(bed)
        if size >= points:
            break
        size = min(10 * size, points)
    say(f"{size} points: small frames, and {BURST} transitions at once")
    sparse_us = _sparse(bed)
    burst = _burst(bed)
    gc.unfreeze()
    state, rules = (_bytes(columns) / size for columns in (bed.state, bed.rules))
    return {
        "points": size,
        "definitions": len(bed.rules.definitions),
        "readings_per_second": scaling[-1]["readings_per_second"],
        "bytes_per_point": round(state),
        "rules_bytes_per_point": round(rules),
        "scaling": scaling,
        "sparse": {
            "readings": SPARSE_READINGS,
            "microseconds": round(sparse_us, 1),
            "readings_per_second": round(SPARSE_READINGS / sparse_us * 1e6),
            "microseconds_of_1000_points": round(small_us, 1),
        },
        "burst": burst,
        "alternative": {"name": ALTERNATIVE, "points": min(OBJECTS, points), "readings_per_second": objects},
    }


def engine(
    *,
    points: Annotated[int, typer.Option(min=BLOCK, help="Points of the largest plant, a multiple of 1000.")] = POINTS,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on the last line.")] = False,
) -> None:
    """Measure the alarm engine on one core: readings a second, scaling, small frames, a burst, and an alternative."""
    if points % BLOCK:
        raise typer.BadParameter(f"{points} is no multiple of {BLOCK}")
    console = Console(stderr=True)
    with console.status("") as status:
        found = measure(points, SystemClock(), status.update)
    if as_json:
        typer.echo(json.dumps(found))
        return
    for key, value in found.items():
        typer.echo(f"{key.replace('_', ' ')}: {value}")
