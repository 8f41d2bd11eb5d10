"""Which alarms a gateway decides by itself, the part of the plant on which it does, and which its outputs follow."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from hashlib import blake2b
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tocsin_core.normal import model_to_bytes
from tocsin_core.plant import AlarmDefinition, AlarmKind, Plant, PlantPoint, Priority
from tocsin_core.plant.computed import Grade, Normal, points_of
from tocsin_core.plant.outputs import Output
from tocsin_core.readings import Bool
from tocsin_core.rules import Rules, compile_rules

# Bytes of a fingerprint: of 10,000 alarms one that differs is taken for the same once in 10^15 times.
PRINT: Final = 8


def fingerprints(plant: Plant, gateway_id: str) -> dict[str, bytes]:
    """By id of each alarm that the gateway `gateway_id` decides, `PRINT` bytes that tell by what.

    It decides those whose every input it reads: the point or the members it is computed from, the status words of their
    instruments, and what suppresses it. Not `stale`: the silence of the whole way only the other end hears. Of somebody
    else's gateway there are none.

    Two ends at which an alarm has the same decide it alike, whatever else differs. It tells the definition, the point
    and every other point that it goes by: what suppresses it, status words, members, and the model of normal running
    with all that it has learned. Not how a reading is made of registers: both ends judge the same reading.

    Raises:
        KeyError: there is no such gateway.
    """
    part = alone(plant, gateway_id)
    places = {point.id: point for point in part.points}

    @cache
    def told(name: str) -> bytes:
        point = places[name]
        said = (point.id, point.unit, point.low, point.high, point.decimals, point.longest_s, point.compute)
        members = [told(member) for member in _members(part, point)]
        status = None if point.mode_source is None else (point.mode_source, told(point.mode_source.point))
        # A grade is made of its members' alarms.
        alarms = [places[member].definitions for member in _members(part, point) if isinstance(point.compute, Grade)]
        learned = part.models.get(point.compute.model) if isinstance(point.compute, Normal) else None
        model = None if learned is None else blake2b(model_to_bytes(learned), digest_size=PRINT).digest()
        return _print((said, members, status, alarms, model))

    return {
        definition.id: _print(
            (definition, told(point.id), definition.suppressed_by and told(definition.suppressed_by.point))
        )
        for point in part.points
        for definition in point.definitions
    }


def packed(prints: Iterable[bytes]) -> bytes:
    """Fingerprints as a gateway's birth bears them, in an order of their own; empty where there are none."""
    return b"".join(sorted(prints))


def unpacked(told: bytes) -> NDArray[np.uint64]:
    """The fingerprints that `packed` put together, as numbers; what is left at the end is none."""
    return np.frombuffer(told[: len(told) - len(told) % PRINT], "<u8")


def among(ours: NDArray[np.uint64], theirs: NDArray[np.uint64]) -> Bool:
    """Which of the fingerprints `ours` are among `theirs`: bool[n]."""
    if not len(theirs):
        return np.zeros(len(ours), np.bool_)
    # Not by numpy's isin: it loads masked arrays, 10 MB and a sixth of a second.
    known = np.sort(theirs)
    found: Bool = known[np.minimum(np.searchsorted(known, ours), len(known) - 1)] == ours
    return found


def _print(said: object) -> bytes:
    return blake2b(repr(said).encode(), digest_size=PRINT).digest()


def alone(plant: Plant, gateway_id: str) -> Plant:
    """The part of `plant` on which the gateway `gateway_id` decides its alarms, with no others and in the same order.

    Of all first-out groups it has none: who sees only some of a group cannot tell which came first.

    Raises:
        KeyError: there is no such gateway.
    """
    own: dict[str, list[AlarmDefinition]] = {}
    wanted: set[str] = set()
    for point, definition in _decided(plant, gateway_id):
        own.setdefault(point.id, []).append(definition)
        wanted.add(point.id)
        if definition.suppressed_by is not None:
            wanted.add(definition.suppressed_by.point)
    # Never through all points: this is asked for each gateway of a plant.
    at = plant.point_index
    for name in own:
        wanted.update(_members(plant, plant.points[at[name]]))
    wanted |= {mode.point for mode in (plant.points[at[name]].mode_source for name in wanted) if mode}
    points = tuple(
        replace(point, index=index, definitions=tuple(own.get(point.id, ())))
        for index, point in enumerate(plant.points[place] for place in sorted(at[name] for name in wanted))
    )
    return replace(plant, points=points, first_out={})


def follows(output: Output, part: Plant, rules: Rules) -> Bool:
    """Which of `rules`, those of the `part` of the plant on which its gateway decides `alone`, it follows: bool[D]."""
    sources, points = set(output.sources), set(output.points)
    chosen = [
        not (sources or points) or point.source in sources or point.id in points
        for point in (part.points[number] for number in rules.point.tolist())
    ]
    return np.asarray(chosen, np.bool_) & (rules.priority >= Priority(output.min_priority).rank)


def idle_outputs(plant: Plant) -> list[tuple[str, Output]]:
    """The outputs that follow no alarm that their gateway decides, each with the gateway's id."""
    found = []
    for gateway in plant.file.gateways:
        if gateway.outputs:
            part = alone(plant, gateway.id)
            rules = compile_rules(part)
            found += [(gateway.id, output) for output in gateway.outputs if not follows(output, part, rules).any()]
    return found


def _decided(plant: Plant, gateway_id: str) -> Iterator[tuple[PlantPoint, AlarmDefinition]]:
    """The definitions that the gateway decides, in engine order, each with its point."""
    if plant.gateway(gateway_id).external:
        return
    own = plant.measured_by.get(gateway_id, ())
    read = {point.id for point in own}
    points = [point for point in own if point.mode_source is None or point.mode_source.point in read]
    whole = {point.id for point in points}
    points += [point for point in plant.computed if whole.issuperset(_members(plant, point))]
    whole = {point.id for point in points}
    for point in sorted(points, key=lambda point: point.index):
        for definition in point.definitions:
            by = definition.suppressed_by
            if definition.kind is not AlarmKind.STALE and (by is None or by.point in whole):
                yield point, definition


def _members(plant: Plant, point: PlantPoint) -> tuple[str, ...]:
    """The points that `point` is computed from; of a measured one none."""
    if point.compute is None:
        return ()
    return points_of(point.compute, {name: model.names for name, model in plant.models.items()})
