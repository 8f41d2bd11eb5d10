"""The course of a simulated plant over hours, as arrays and without sockets: its physics moved by changing inputs."""

from collections.abc import Mapping, Sequence
from math import exp

import numpy as np

from tocsin_core.readings import F64
from tocsin_core.registers import Profile
from tocsin_core.registers.codec import DTYPES
from tocsin_sim.physics.instruments import TAU_PER_T90
from tocsin_sim.physics.sources import source_of
from tocsin_sim.physics.streams import stream
from tocsin_sim.simulation import Signal, Simulation, inputs_of, outputs_of


def quantities_over(
    simulation: Simulation, seed: int, step_s: float, steps: int, inputs: Mapping[str, F64]
) -> dict[str, F64]:
    """Step the sources `steps` times by `step_s` and return each of their outputs by name, f64[steps].

    `inputs` holds, by name (source.input), the courses f64[steps] of those that do not stay at their usual value. The
    first value is that of scenario time 0, as in `World`.
    """
    courses = {name: course.tolist() for name, course in inputs.items()}
    sources = []
    found: dict[str, list[float]] = {}
    for name, config in simulation.sources.items():
        usual = inputs_of(config)
        moved = [(key, courses[f"{name}.{key}"]) for key in usual if f"{name}.{key}" in courses]
        source = source_of(config, stream(seed, name), ())
        outputs = [(key, f"{name}.{key}") for key in outputs_of(config)]
        found.update({full: [] for _, full in outputs})
        sources.append((source, usual, moved, outputs))
    seen: dict[str, float] = {}
    for step in range(steps):
        for source, now, moved, outputs in sources:
            for key, course in moved:
                now[key] = course[step]
            told = source.step(step * step_s, step_s, now, seen)
            for key, full in outputs:
                seen[full] = told[key]
                found[full].append(told[key])
    return {name: np.array(course) for name, course in found.items()}


def lagged(target: F64, step_s: float, t90_s: F64) -> F64:
    """First-order lags over f64[steps, signals], each with its time to 90 %; the first value is the target's own."""
    keep = np.array([exp(-step_s / (t90 * TAU_PER_T90)) if t90 > 0.0 else 0.0 for t90 in t90_s.tolist()])
    out = np.empty_like(target)
    value = target[0]
    for step in range(len(target)):
        value = target[step] + (value - target[step]) * keep
        out[step] = value
    return out


def shown_over(
    signals: Sequence[tuple[str, Signal]],
    quantities: Mapping[str, F64],
    seed: int,
    step_s: float,
    extra: Mapping[str, F64] | None = None,
) -> dict[str, F64]:
    """What instruments show, f64[steps] by the name given with each signal (device.value), flags left out.

    As `Shown` does it, with the same stream for the same name; `extra` is added before resolution and range: drift and
    disturbance of the instrument itself.
    """
    steps = len(next(iter(quantities.values())))
    target = np.empty((steps, len(signals)))
    for column, (_, signal) in enumerate(signals):
        total = np.zeros(steps)
        for name in signal.quantity:
            total += quantities[name]
        target[:, column] = total * signal.gain + signal.offset
    followed = lagged(target, step_s, np.array([signal.t90_s for _, signal in signals]))
    found = {}
    for column, (name, signal) in enumerate(signals):
        value = followed[:, column]
        if signal.noise:
            value = value + signal.noise * stream(seed, name).standard_normal(steps)
        if extra is not None and name in extra:
            value = value + extra[name]
        if signal.resolution:
            value = np.round(value / signal.resolution) * signal.resolution
        if signal.low is not None or signal.high is not None:
            value = np.clip(value, signal.low, signal.high)
        found[name] = value
    return found


def through_register(profile: Profile, name: str, value: F64) -> F64:
    """`value` as the register called `name` holds it: in its type, whole steps of its scale where it is an integer."""
    spec = profile.values[name]
    kind = DTYPES[spec.type]
    if kind.kind == "f":
        return value.astype(kind).astype(np.float64)
    step = spec.scale / (10.0 ** (spec.decimals or 0) if spec.decimals_from is not None else 1.0)
    return np.round((value - spec.offset) / step) * step + spec.offset
