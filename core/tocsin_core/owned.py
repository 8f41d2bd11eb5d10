"""Which alarms a gateway decides by itself, the part of the plant on which it does, and which its outputs follow."""

from collections.abc import Iterator
from dataclasses import replace
from hashlib import blake2b

import numpy as np

from tocsin_core.plant import AlarmDefinition, AlarmKind, Plant, PlantPoint, Priority
from tocsin_core.plant.computed import points_of
from tocsin_core.plant.outputs import Output
from tocsin_core.readings import Bool
from tocsin_core.rules import Rules, compile_rules


def owned(plant: Plant, rules: Rules, gateway_id: str) -> Bool:
    """Which definitions of `rules` (those of `plant`) the gateway `gateway_id` decides: bool[D].

    They are those whose every input the gateway reads: the point or the members it is computed from, the status words
    of their instruments, and what suppresses it. Not `stale`: the silence of the whole way only the other end hears.
    Of somebody else's gateway there are none.

    Raises:
        KeyError: there is no such gateway.
    """
    names = {definition.id for _, definition in _decided(plant, gateway_id)}
    return np.asarray([definition.id in names for definition in rules.definitions], np.bool_)


def fingerprint(plant: Plant, gateway_id: str) -> str:
    """What the gateway `gateway_id` decides, and by what, in 16 hex digits; empty where that is nothing.

    Two ends whose plants have the same decide alike. (A model of normal running is told by its name alone.)

    Raises:
        KeyError: there is no such gateway.
    """
    told = [
        (point.id, point.unit, point.low, point.high, point.definitions, point.compute, point.mode_source)
        for point in alone(plant, gateway_id).points
    ]
    return blake2b(repr(told).encode(), digest_size=8).hexdigest() if told else ""


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
    for point in plant.points:
        if point.id in own:
            wanted.update(_members(plant, point))
    wanted |= {point.mode_source.point for point in plant.points if point.id in wanted and point.mode_source}
    points = tuple(
        replace(point, index=index, definitions=tuple(own.get(point.id, ())))
        for index, point in enumerate(point for point in plant.points if point.id in wanted)
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
    read = {point.id for point in plant.measured if point.gateway.id == gateway_id}
    whole = {
        point.id
        for point in plant.measured
        if point.id in read and (point.mode_source is None or point.mode_source.point in read)
    }
    whole |= {
        point.id for point in plant.points if point.compute is not None and whole.issuperset(_members(plant, point))
    }
    for point in plant.points:
        if point.id in whole:
            for definition in point.definitions:
                by = definition.suppressed_by
                if definition.kind is not AlarmKind.STALE and (by is None or by.point in whole):
                    yield point, definition


def _members(plant: Plant, point: PlantPoint) -> tuple[str, ...]:
    """The points that `point` is computed from; of a measured one none."""
    if point.compute is None:
        return ()
    return points_of(point.compute, {name: model.names for name, model in plant.models.items()})
