"""What must hold of computed points and of groups of alarms beyond the types of their fields."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final

from tocsin_core.detectors.balance import kg_s_of, metres_of
from tocsin_core.plant.brought import GRADES, LIMITS, is_of
from tocsin_core.plant.computed import Balance, Compute, Grade, Median, Normal, Spread, Vote
from tocsin_core.plant.model import AlarmKind, FirstOut, PointKind
from tocsin_core.plant.parts import Parts
from tocsin_core.plant.point import PlantPoint
from tocsin_core.plant.source import Path, Source
from tocsin_core.plant.standards import EXPOSURE

TEMPERATURE_UNIT: Final = "°C"
MOST_NAMED: Final = 6


def _places(rule: Compute) -> Iterator[tuple[Path, str]]:
    """Every point that the file names in `rule`, and where in it."""
    match rule:
        case Balance():
            yield ("level",), rule.level
            if rule.temperature is not None:
                yield ("temperature",), rule.temperature
            for key, names in (("inflow", rule.inflow), ("outflow", rule.outflow)):
                yield from (((key, number), name) for number, name in enumerate(names))
        case Grade():
            for item, names in enumerate(rule.items):
                yield from ((("items", item, number), name) for number, name in enumerate(names))
        case Normal():
            return
        case _:
            yield from ((("of", number), name) for number, name in enumerate(rule.of))


def check_computed(
    point: PlantPoint,
    by_id: Mapping[str, PlantPoint],
    path: Path,
    parts: Parts,
    modelled: Mapping[str, tuple[str, ...]],
    source: Source,
) -> None:
    """Note in `source` whatever is wrong with the computed `point`, which stands at `path`.

    `by_id` are the measured points, `modelled` those of each normal-operation model.
    """
    rule = point.compute
    if rule is None:
        return
    here: Path = (*path, "from")
    if not point.low < point.high:
        source.problem((*path, "range"), f"{point.low:g} is not below {point.high:g}")
    seen: set[str] = set()
    for place, name in _places(rule):
        if name in parts.computed_ids:
            source.problem((*here, *place), f"{name!r} is a computed point: give measured ones")
        elif name in seen:
            source.problem((*here, *place), f"point {name!r} is there twice")
        seen.add(name)
    match rule:
        case Vote() | Median() | Spread():
            _check_alike(point, rule, by_id, path, source)
        case Balance():
            _check_balance(rule, by_id, here, source)
        case Grade():
            _check_items(rule, by_id, here, source)
        case Normal():
            _check_model(rule, parts, modelled, here, source)


def _check_alike(
    point: PlantPoint, rule: Vote | Median | Spread, by_id: Mapping[str, PlantPoint], path: Path, source: Source
) -> None:
    here: Path = (*path, "from")
    known = [(number, by_id[name]) for number, name in enumerate(rule.of) if name in by_id]
    for number, each in known:
        if each.unit != known[0][1].unit:
            first = known[0][1]
            source.problem((*here, "of", number), f"{each.id} is in {each.unit!r}, {first.id} in {first.unit!r}")
    if isinstance(rule, Vote):
        if rule.need > len(rule.of):
            source.problem((*here, "need"), f"{rule.need} of {len(rule.of)} can never agree")
        _check_vote_side(point, rule, path, source)
    alike = len({each.unit for _, each in known}) == 1 and len(known) == len(rule.of)
    if isinstance(rule, Spread) or not alike:
        return
    config = point.config
    if point.kind is PointKind.TOXIC_GAS and config.cas not in EXPOSURE and not config.alarms.get(AlarmKind.H):
        source.problem((*path, "kind"), "its points have no gas in common whose limit is known: give alarms.H")
    if point.kind is PointKind.MINE_METHANE and config.place is None:
        source.problem((*path, "kind"), "its points have no place in common: make it generic and give its alarms")


def _check_vote_side(point: PlantPoint, rule: Vote, path: Path, source: Source) -> None:
    side = 1 if rule.side == "high" else -1
    for definition in point.definitions:
        wrong = not is_of(definition.kind, rule.side) if definition.kind in LIMITS else definition.side != side
        if wrong and definition.kind in (*LIMITS, *GRADES):
            kinds = f"{definition.kind} is no {rule.side} alarm, and this is a vote of {rule.side} values"
            source.problem((*path, "alarms", definition.kind.value), f"{kinds}: give it a vote of its own")


def _check_unit(what: str, unit: str, rule: Balance) -> None:
    """Raise a ValueError where a balance does not understand the unit of its level, temperature or flows."""
    if what == "level":
        metres_of(unit, rule.table[-1][0])
    elif what != "temperature":
        kg_s_of(unit, rule.density)
    elif unit != TEMPERATURE_UNIT:
        raise ValueError(f"{unit!r} is not {TEMPERATURE_UNIT}")


def _check_balance(rule: Balance, by_id: Mapping[str, PlantPoint], here: Path, source: Source) -> None:
    # Of a point that is named twice, which is a mistake told already, the first place counts.
    for name, place in {name: place for place, name in reversed(list(_places(rule)))}.items():
        if name in by_id:
            try:
                _check_unit(str(place[0]), by_id[name].unit, rule)
            except ValueError as error:
                source.problem((*here, *place), f"unit of {name}: {error}")
    for number, (one, other) in enumerate(pairwise(rule.table), start=1):
        for before, after, what in zip(one, other, ("level", "volume"), strict=True):
            if after <= before:
                source.problem((*here, "table", number), f"{what} {after:g} is not above {before:g} of the row before")


def _check_items(rule: Grade, by_id: Mapping[str, PlantPoint], here: Path, source: Source) -> None:
    for number, names in enumerate(rule.items):
        if not names:
            source.problem((*here, "items", number), "is empty")
    for place, name in _places(rule):
        kinds = {definition.kind for definition in by_id[name].definitions} if name in by_id else set(GRADES)
        if kinds.isdisjoint(GRADES):
            source.problem((*here, *place), f"{name} has none of the alarms {', '.join(GRADES)}")


def _named(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _check_model(
    rule: Normal, parts: Parts, modelled: Mapping[str, tuple[str, ...]], here: Path, source: Source
) -> None:
    names = modelled.get(rule.model, ())
    missing = [name for name in names if parts.names["points"].lack(name)]
    computed = [name for name in names if name in parts.computed_ids]
    if missing:
        source.problem(
            (*here, "model"), f"model {rule.model!r} was learned of points not in this plant: {_named(missing)}"
        )
    if computed:
        source.problem((*here, "model"), f"model {rule.model!r} was learned of computed points: {_named(computed)}")


def check_first_out(group: FirstOut, path: Path, by_id: Mapping[str, PlantPoint], source: Source) -> None:
    """Note in `source` whatever is wrong with the alarms of `group`, which stands at `path`."""
    seen: set[str] = set()
    for number, alarm in enumerate(group.alarms):
        here: Path = (*path, "alarms", number)
        point, _, kind = alarm.rpartition("/")
        if alarm in seen:
            source.problem(here, f"alarm {alarm!r} is there twice")
        seen.add(alarm)
        there = [definition.kind.value for definition in by_id[point].definitions] if point in by_id else [kind]
        if kind not in there:
            source.problem(here, f"no alarm {alarm!r}; {point} has: {', '.join(there)}")
