"""A scenario at a moment: inputs moved, values stuck or false, devices silent, links cut."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tocsin_sim.simulation import Effect, Fault, LinkCut, Scenario, SetInput, Silent, Stuck


@dataclass(frozen=True, slots=True)
class Moment:
    """What a scenario does at one moment; values are named (device, value)."""

    inputs: Mapping[str, float] = field(default_factory=dict)
    stuck: frozenset[tuple[str, str]] = frozenset()
    false: Mapping[tuple[str, str], float] = field(default_factory=dict)
    silent: frozenset[str] = frozenset()
    cut: frozenset[str] = frozenset()


def active(effect: Effect, time_s: float) -> bool:
    """Tell whether the effect is on at `time_s`; the fall of an input after its end is still part of it."""
    fall = effect.fall_s if isinstance(effect, SetInput) else 0.0
    return effect.start_s <= time_s < effect.start_s + effect.duration_s + fall


def moment(scenario: Scenario, inputs: Mapping[str, float], time_s: float) -> Moment:
    """Return what the scenario does at `time_s`; `inputs` are the sources' inputs when nothing happens."""
    now = [effect for effect in scenario.effects if active(effect, time_s)]
    return Moment(
        inputs=dict(_moved(effect, inputs, time_s) for effect in now if isinstance(effect, SetInput)),
        stuck=frozenset((effect.device, effect.value) for effect in now if isinstance(effect, Stuck)),
        false={(effect.device, effect.value): effect.to for effect in now if isinstance(effect, Fault)},
        silent=frozenset(effect.device for effect in now if isinstance(effect, Silent)),
        cut=frozenset(effect.gateway for effect in now if isinstance(effect, LinkCut)),
    )


def turns(scenario: Scenario, after_s: float, until_s: float) -> Iterator[tuple[Effect, bool]]:
    """Yield the effects that begin (True) or end (False) in (after_s, until_s]."""
    for effect in scenario.effects:
        if after_s < effect.start_s <= until_s:
            yield effect, True
        if after_s < effect.start_s + effect.duration_s <= until_s:
            yield effect, False


def _moved(effect: SetInput, inputs: Mapping[str, float], time_s: float) -> tuple[str, float]:
    since = time_s - effect.start_s
    risen = 1.0 if effect.rise_s <= 0 else min(since / effect.rise_s, 1.0)
    after_end = since - effect.duration_s
    left = 1.0 if after_end <= 0 else max(1.0 - after_end / effect.fall_s, 0.0)
    base = inputs[effect.input]
    return effect.input, base + min(risen, left) * (effect.to - base)
