"""A plant folder loaded and validated as a whole: all of its problems at once, or a plant that holds together."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from importlib.resources.abc import Traversable
from itertools import pairwise
from math import isnan
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tocsin_core.plant.definition import HIGH_LIMITS, LIMITS, USES, AlarmDefinition, definitions_of
from tocsin_core.plant.model import FORMS, AlarmKind, Device, Gateway, PlantFile, Point, PointKind, Site
from tocsin_core.plant.source import Path, Problem, Source, add_points_csv, read_yaml
from tocsin_core.plant.standards import EXPOSURE, defaults_of
from tocsin_core.registers import Profile, ProfileError, parse_profile

PLANT_FILE: Final = "plant.yaml"
POINTS_FILE: Final = "points.csv"


class PlantError(Exception):
    """A plant that does not pass; `problems` holds every reason, in the order of the file."""

    def __init__(self, problems: list[Problem]) -> None:
        """Keep `problems` (at least one)."""
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class PlantPoint:
    """A point with everything that was inherited filled in; `index` is its number in the engine."""

    index: int
    config: Point
    gateway: Gateway
    device: Device
    unit: str
    low: float
    high: float
    decimals: int
    source: str | None
    definitions: tuple[AlarmDefinition, ...]

    @property
    def id(self) -> str:
        """Unique in the plant."""
        return self.config.id

    @property
    def kind(self) -> PointKind:
        """What it measures."""
        return self.config.kind

    @property
    def metric(self) -> str:
        """Its Sparkplug metric name."""
        return self.config.metric or self.config.id


@dataclass(frozen=True)
class Plant:
    """A plant that passed: the file's models, its points in engine order, and the device profiles it uses."""

    name: str
    file: PlantFile
    points: tuple[PlantPoint, ...]
    profiles: dict[str, Profile]

    @property
    def site(self) -> Site:
        """The plant's place; its id is the Sparkplug group."""
        return self.file.site

    @cached_property
    def point_index(self) -> dict[str, int]:
        """Engine index by point id."""
        return {point.id: point.index for point in self.points}

    def gateway(self, gateway_id: str) -> Gateway:
        """The gateway called `gateway_id`.

        Raises:
            KeyError: there is none; the message names those there are.
        """
        for gateway in self.file.gateways:
            if gateway.id == gateway_id:
                return gateway
        known = ", ".join(gateway.id for gateway in self.file.gateways)
        msg = f"no gateway {gateway_id!r} in this plant; there are: {known}"
        raise KeyError(msg)


def shipped_profiles() -> Traversable:
    """The folder of device profiles that comes with Tocsin (firmware-configs/devices)."""
    return files("tocsin_core").joinpath("devices")


# pydantic's words are Python's; an integrator reads YAML.
_PLAIN_MESSAGE: Final = {
    "extra_forbidden": "unknown key",
    "missing": "is missing",
    "model_type": "should be a mapping",
    "model_attributes_type": "should be a mapping",
    "dict_type": "should be a mapping",
    "tuple_type": "should be a list",
    "too_short": "is empty",
    "too_long": "has too many items",
}


def _message(error: ErrorDetails) -> str:
    if error["type"] in _PLAIN_MESSAGE:
        return _PLAIN_MESSAGE[error["type"]]
    text = str(error["msg"]).removeprefix("Value error, ").replace("Input should be", "should be")
    if error["type"] == "string_pattern_mismatch":
        text = f"should be {FORMS[error['ctx']['pattern']]}"
    given = error["input"]
    return f"{text} (given: {given!r})" if isinstance(given, str | int | float | bool) else text


def _schema_problems(error: ValidationError, source: Source) -> None:
    seen: set[tuple[Path, str]] = set()
    for item in error.errors():
        path: Path = tuple(step for step in item["loc"] if step not in ("AlarmSetting", "literal[False]", "[key]"))
        message = _message(item)
        # A union reports each of its branches; that `false` was not given helps nobody who gave a mapping.
        if item["type"] == "literal_error" and "literal[False]" in item["loc"]:
            continue
        # Items that failed are not counted: a list that is not empty is not too short, its items are wrong.
        if item["type"] == "too_short" and item["input"]:
            continue
        if (path, message) not in seen:
            seen.add((path, message))
            source.problem(path, message)


def _walk_points(file: PlantFile) -> Iterator[tuple[Path, Gateway, Device, Point]]:
    for g, gateway in enumerate(file.gateways):
        for d, device in enumerate(gateway.devices):
            for p, point in enumerate(device.points):
                yield ("gateways", g, "devices", d, "points", p), gateway, device, point


def _duplicates(names: Iterable[tuple[Path, str]], what: str, source: Source) -> None:
    first: dict[str, Path] = {}
    for path, name in names:
        if name in first:
            file, line = source.place(first[name])
            source.problem((*path, "id"), f"{what} {name!r} is already there ({file}:{line})")
        first.setdefault(name, path)


def _check_names(file: PlantFile, source: Source) -> None:
    for key, what, ids in (
        ("hazard_sources", "hazard source", [item.id for item in file.hazard_sources]),
        ("gateways", "gateway", [item.id for item in file.gateways]),
        ("people", "person", [item.id for item in file.people]),
        ("rosters", "roster", [item.id for item in file.rosters]),
    ):
        _duplicates((((key, i), name) for i, name in enumerate(ids)), what, source)
    for g, gateway in enumerate(file.gateways):
        _duplicates(
            ((("gateways", g, "devices", d), device.id) for d, device in enumerate(gateway.devices)), "device", source
        )
    _duplicates(((path, point.id) for path, _, _, point in _walk_points(file)), "point", source)
    both = {person.id for person in file.people} & {roster.id for roster in file.rosters}
    for i, roster in enumerate(file.rosters):
        if roster.id in both:
            source.problem(("rosters", i, "id"), f"{roster.id!r} is also a person")


def _check_rosters(file: PlantFile, people: set[str], source: Source) -> None:
    for i, roster in enumerate(file.rosters):
        for j, shift in enumerate(roster.shifts):
            for k, person in enumerate(shift.people):
                if person not in people:
                    source.problem(("rosters", i, "shifts", j, "people", k), f"no person {person!r}")


def _uncovered(file: PlantFile, names: tuple[str, ...]) -> str | None:
    """The first time of day at which none of the people and rosters in `names` is there, or None."""
    rosters = {roster.id: roster for roster in file.rosters}
    if any(name not in rosters for name in names):
        return None
    shifts = [shift for name in names for shift in rosters[name].shifts]
    # Whether somebody is there can only change where a shift ends.
    for time in sorted({"00:00", *(shift.to for shift in shifts)}):
        if not any(shift.covers(time) for shift in shifts):
            return time
    return None


def _check_notify(file: PlantFile, people: set[str], source: Source) -> None:
    known = people | {roster.id for roster in file.rosters}
    before = 0.0
    for i, step in enumerate(file.notify.steps):
        path: Path = ("notify", "steps", i)
        for k, name in enumerate(step.to):
            if name not in known:
                source.problem((*path, "to", k), f"no person or roster {name!r}")
        if step.after_s < before:
            source.problem((*path, "after_s"), "comes before the step above it")
        before = step.after_s
        time = _uncovered(file, step.to)
        if time is not None:
            source.problem((*path, "to"), f"reaches nobody at {time}")


def _check_site(file: PlantFile, source: Source) -> None:
    try:
        ZoneInfo(file.site.timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        source.problem(("site", "timezone"), f"{file.site.timezone!r} is not an IANA time zone")


def _check_people(file: PlantFile, source: Source) -> None:
    people = {person.id for person in file.people}
    _check_rosters(file, people, source)
    _check_notify(file, people, source)
    if file.tickets.liable is not None and file.tickets.liable not in people:
        source.problem(("tickets", "liable"), f"no person {file.tickets.liable!r}")


def _check_devices(file: PlantFile, profiles: dict[str, Profile], source: Source) -> None:
    taken: dict[tuple[str, int, int], str] = {}
    sources = {hazard.id for hazard in file.hazard_sources}
    for g, gateway in enumerate(file.gateways):
        for d, device in enumerate(gateway.devices):
            path: Path = ("gateways", g, "devices", d)
            if device.source is not None and device.source not in sources:
                source.problem((*path, "source"), f"no hazard source {device.source!r}")
            if gateway.external and (device.modbus or device.mqtt):
                source.problem(path, "an external gateway reads its own devices: no modbus or mqtt here")
            if not gateway.external and not (device.modbus or device.mqtt):
                source.problem(path, "neither modbus nor mqtt: say how it is read")
            if device.modbus is not None:
                key = (device.modbus.host, device.modbus.port, device.modbus.unit)
                if key in taken:
                    source.problem((*path, "modbus"), f"the same address as device {taken[key]!r}")
                taken[key] = device.id
            for p, point in enumerate(device.points):
                _check_address(device, point, profiles, (*path, "points", p), source)


def _check_address(device: Device, point: Point, profiles: dict[str, Profile], path: Path, source: Source) -> None:
    if device.modbus is not None:
        if point.register_ is None:
            source.problem(path, "a point of a modbus device names its register")
            return
        profile = profiles.get(device.profile or "")
        if profile is not None and point.register_ not in profile.values:
            source.problem(
                (*path, "register"),
                f"no {point.register_!r} in profile {device.profile!r}; there are: {', '.join(profile.values)}",
            )
    elif point.register_ is not None:
        source.problem((*path, "register"), "only points of modbus devices have a register")
    if device.mqtt is not None and point.field is None:
        source.problem(path, "a point of an MQTT sensor names its field")
    if device.mqtt is None and point.field is not None:
        source.problem((*path, "field"), "only points of MQTT sensors have a field")


def _check_point(point: PlantPoint, sources: set[str], path: Path, source: Source) -> None:
    hazard = point.config.source
    if hazard is not None and hazard not in sources:
        source.problem((*path, "source"), f"no hazard source {hazard!r}")
    if not point.low < point.high:
        source.problem((*path, "range"), f"{point.low:g} is not below {point.high:g}")
    if point.kind is PointKind.TOXIC_GAS:
        cas = point.config.cas
        own = point.config.alarms.get(AlarmKind.H)
        if cas is None:
            source.problem(path, "a toxic gas names its cas number")
        elif cas not in EXPOSURE and not own:
            source.problem((*path, "cas"), f"no exposure limit known for {cas}: give alarms.H a setpoint")
    if point.kind is PointKind.MINE_METHANE and point.config.place is None:
        source.problem(path, "mine methane names its place")
    _check_alarms(point, path, source)


def _check_alarms(point: PlantPoint, path: Path, source: Source) -> None:
    by_kind = {definition.kind: definition for definition in point.definitions}
    for kind, setting in point.config.alarms.items():
        here: Path = (*path, "alarms", kind.value)
        if setting is False:
            continue
        if kind not in by_kind:
            source.problem(here, "there is no limit that it could foresee")
        for name in sorted(setting.model_fields_set - USES[kind]):
            source.problem((*here, name), f"means nothing to {kind}")
    for kind in (*LIMITS, AlarmKind.RATE):
        definition = by_kind.get(kind)
        if definition is not None and isnan(definition.setpoint):
            source.problem((*path, "alarms", kind.value), "has no setpoint")
    rate = by_kind.get(AlarmKind.RATE)
    if rate is not None and rate.setpoint <= 0.0:
        source.problem((*path, "alarms", "rate", "setpoint"), "is not above 0: it is a size, whichever the direction")
    _check_limits(point, [by_kind[kind] for kind in LIMITS if kind in by_kind], path, source)


def _check_limits(point: PlantPoint, limits: list[AlarmDefinition], path: Path, source: Source) -> None:
    known = [definition for definition in limits if not isnan(definition.setpoint)]
    for upper, lower in pairwise(known):
        same_side = (upper.kind in HIGH_LIMITS) == (lower.kind in HIGH_LIMITS)
        if upper.setpoint < lower.setpoint or (upper.setpoint == lower.setpoint and not same_side):
            source.problem(
                (*path, "alarms", upper.kind.value),
                f"{upper.kind} {upper.setpoint:g} is not above {lower.kind} {lower.setpoint:g}",
            )
    for definition in known:
        here: Path = (*path, "alarms", definition.kind.value)
        span = f"the range {point.low:g} to {point.high:g}"
        if not point.low <= definition.setpoint <= point.high:
            source.problem(here, f"setpoint {definition.setpoint:g} lies outside {span}: it would never be seen")
            continue
        high = definition.kind in HIGH_LIMITS
        room = definition.setpoint - point.low if high else point.high - definition.setpoint
        if room <= definition.deadband:
            source.problem(here, f"the deadband {definition.deadband:g} leaves {span}: the alarm would never return")


def _read_profiles(file: PlantFile, folders: tuple[Traversable, ...], source: Source) -> dict[str, Profile]:
    profiles: dict[str, Profile] = {}
    wanted: dict[str, Path] = {}
    for g, gateway in enumerate(file.gateways):
        for d, device in enumerate(gateway.devices):
            if device.profile is not None:
                wanted.setdefault(device.profile, ("gateways", g, "devices", d, "profile"))
    for name, path in wanted.items():
        place = next((entry for folder in folders if (entry := folder.joinpath(f"{name}.yaml")).is_file()), None)
        if place is None:
            looked = f"looked for profiles/{name}.yaml in the plant and among the shipped ones"
            source.problem(path, f"no profile {name!r} ({looked})")
            continue
        try:
            profiles[name] = parse_profile(place.read_text(encoding="utf-8"), f"{name}.yaml")
        except ProfileError as error:
            for line in str(error).splitlines():
                source.problem(path, line)
        except UnicodeDecodeError as error:
            source.problem(path, f"{name}.yaml is {_not_utf8(error)}")
    return profiles


def _not_utf8(error: UnicodeDecodeError) -> str:
    return f"not UTF-8: {error.reason} at byte {error.start}"


def _point(index: int, gateway: Gateway, device: Device, point: Point, profiles: dict[str, Profile]) -> PlantPoint:
    defaults = defaults_of(point)
    profile = profiles.get(device.profile or "")
    value = profile.values.get(point.register_) if profile is not None and point.register_ is not None else None
    unit = point.unit or (value.unit if value is not None and value.unit else defaults.unit)
    low, high = point.range or defaults.range
    decimals = defaults.decimals if point.decimals is None else point.decimals
    source = point.source or device.source
    return PlantPoint(
        index, point, gateway, device, unit, low, high, decimals, source, definitions_of(point, device, (low, high))
    )


def _check_metrics(points: list[PlantPoint], paths: list[Path], source: Source) -> None:
    first: dict[tuple[str, str, str], str] = {}
    for point, path in zip(points, paths, strict=True):
        key = (point.gateway.id, point.device.id, point.metric)
        if key in first and first[key] != point.id:
            source.problem(path, f"point {first[key]!r} of this device has the metric {point.metric!r} too")
        first.setdefault(key, point.id)


def _validate(file: PlantFile, profiles: dict[str, Profile], source: Source) -> tuple[PlantPoint, ...]:
    _check_site(file, source)
    _check_names(file, source)
    _check_people(file, source)
    _check_devices(file, profiles, source)
    points: list[PlantPoint] = []
    paths: list[Path] = []
    sources = {hazard.id for hazard in file.hazard_sources}
    for index, (path, gateway, device, config) in enumerate(_walk_points(file)):
        point = _point(index, gateway, device, config, profiles)
        _check_point(point, sources, path, source)
        points.append(point)
        paths.append(path)
    _check_metrics(points, paths, source)
    return tuple(points)


def _read(folder: Traversable) -> Source:
    """The data of the plant file with the instrument list in it.

    Raises:
        PlantError: there is no plant file, or a file cannot be read at all.
    """
    name = PLANT_FILE
    entry = folder.joinpath(name)
    if not entry.is_file():
        raise PlantError([Problem(name, 1, "", f"no {name} in {folder}")])
    try:
        source = read_yaml(entry.read_text(encoding="utf-8"), name)
        instruments = folder.joinpath(POINTS_FILE)
        if instruments.is_file() and source.data is not None:
            name = POINTS_FILE
            add_points_csv(source, instruments.read_text(encoding="utf-8"), name)
    except UnicodeDecodeError as error:
        raise PlantError([Problem(name, 1, "", _not_utf8(error))]) from error
    if source.data is None:
        raise PlantError(source.problems)
    return source


def _in_order(problems: list[Problem]) -> list[Problem]:
    return sorted(problems, key=lambda problem: (problem.file, problem.line))


def load_plant(folder: Traversable, library: Traversable | None = None) -> Plant:
    """The plant in `folder`; device profiles come from its own `profiles/`, then from `library` (the shipped ones).

    Raises:
        PlantError: with every problem of the plant, each with file, line and path.
    """
    source = _read(folder)
    try:
        file = PlantFile.model_validate(source.data)
    except ValidationError as error:
        _schema_problems(error, source)
        raise PlantError(_in_order(source.problems)) from error
    profiles = _read_profiles(file, (folder.joinpath("profiles"), library or shipped_profiles()), source)
    points = _validate(file, profiles, source)
    if source.problems:
        raise PlantError(_in_order(source.problems))
    return Plant(folder.name, file, points, profiles)
