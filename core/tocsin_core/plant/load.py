"""A plant folder loaded and validated as a whole: all of its problems at once, or a plant that holds together."""

import struct
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final, Protocol

import numpy as np
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tocsin_core.detectors.change import Calibration
from tocsin_core.garbage import left_alone
from tocsin_core.normal import NormalModel, NormalModelError, model_from_bytes
from tocsin_core.plant.calibrations import CALIBRATIONS_FILE, CalibrationsError, calibrations_from_json
from tocsin_core.plant.checks import Found, check
from tocsin_core.plant.computed import RULES
from tocsin_core.plant.messages import message_of
from tocsin_core.plant.model import Gateway, PlantFile, Site
from tocsin_core.plant.parts import Parts, parts_of
from tocsin_core.plant.point import PlantPoint
from tocsin_core.plant.source import Path, Problem, Source, add_points_csv, path_text
from tocsin_core.readings import I64
from tocsin_core.registers import Profile, ProfileError, parse_profile

PLANT_FILE: Final = "plant.yaml"
POINTS_FILE: Final = "points.csv"
MODELS_FOLDER: Final = "models"
PROFILES_FOLDER: Final = "profiles"


class Folder(Protocol):
    """A folder, or a file in it: a path, a package's resource, a member of an archive."""

    @property
    def name(self) -> str:
        """What it is called."""

    def joinpath(self, name: str, /) -> "Folder":
        """What is called so in it, there or not."""

    def is_file(self) -> bool:
        """Whether it is a file that is there."""

    def read_bytes(self) -> bytes:
        """The content of the file."""

    def read_text(self, encoding: str) -> str:
        """The content of the file, its lines ended by line feeds."""


class PlantError(Exception):
    """A plant that does not pass; `problems` holds every reason, in the order of the file."""

    def __init__(self, problems: list[Problem]) -> None:
        """Keep `problems` (at least one)."""
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems

    @property
    def line(self) -> str:
        """What is wrong in one line, for whoever wanted to use the plant and not to check it."""
        more = len(self.problems) - 1
        return f"{self.problems[0]}" + (f" (and {more} more: `tocsin check PLANT` lists them)" if more else "")


@dataclass(frozen=True)
class Plant:
    """A plant that passed: the file's models, its points in engine order, and the device profiles it uses.

    Computed points come last. `models` are the normal-operation models that they use, by name; `first_out` the alarm
    ids of each group of which it is told which came first; `maps` the texts that the profiles were read from.
    """

    name: str
    file: PlantFile
    points: tuple[PlantPoint, ...]
    profiles: dict[str, Profile]
    models: dict[str, NormalModel] = field(default_factory=dict)
    first_out: dict[str, tuple[str, ...]] = field(default_factory=dict)
    maps: dict[str, str] = field(default_factory=dict)

    @property
    def site(self) -> Site:
        """The plant's place; its id is the Sparkplug group."""
        return self.file.site

    @cached_property
    def measured(self) -> tuple[PlantPoint, ...]:
        """The points that some instrument measures; the others are computed from them."""
        return tuple(point for point in self.points if point.compute is None)

    @cached_property
    def computed(self) -> tuple[PlantPoint, ...]:
        """The points that are computed from others."""
        return tuple(point for point in self.points if point.compute is not None)

    @cached_property
    def measured_by(self) -> dict[str, tuple[PlantPoint, ...]]:
        """Those of `measured` that each gateway reads, by its id; of one that reads none there is nothing."""
        found: dict[str, list[PlantPoint]] = {}
        for point in self.measured:
            found.setdefault(point.gateway.id, []).append(point)
        return {gateway: tuple(points) for gateway, points in found.items()}

    @cached_property
    def point_index(self) -> dict[str, int]:
        """Engine index by point id."""
        return {point.id: point.index for point in self.points}

    @cached_property
    def devices(self) -> tuple[tuple[tuple[str, str], ...], I64]:
        """The devices that measure something, by gateway and own id, and which of them each of `measured` is of."""
        numbers: dict[tuple[str, str], int] = {}
        of = [numbers.setdefault((each.gateway.id, each.device.id), len(numbers)) for each in self.measured]
        return tuple(numbers), np.asarray(of, np.int64)

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


def _place(error: ErrorDetails) -> Path:
    """Where it is wrong, as the file has it: without what only the models know."""
    path = [step for step in error["loc"] if step not in ("AlarmSetting", "literal[False]", "[key]")]
    for number in range(1, len(path)):
        # A union of rules puts the one it chose between their key and their fields.
        if path[0] == "computed" and path[number - 1] == "from" and path[number] in RULES:
            del path[number]
            break
    return (*path, "rule") if error["type"].startswith("union_tag") else tuple(path)


def _schema_problems(error: ValidationError, source: Source) -> None:
    seen: set[tuple[Path, str]] = set()
    unread = {problem.path for problem in source.problems}
    for item in error.errors():
        path = _place(item)
        message = message_of(item)
        # A union reports each of its branches; that `false` was not given helps nobody who gave a mapping.
        if item["type"] == "literal_error" and "literal[False]" in item["loc"]:
            continue
        # What could not be read is told already; that nothing is in its place is no second problem.
        if item["input"] is None and path_text(path) in unread:
            continue
        # Items that failed are not counted: a list that is long enough is not too short, its items are wrong.
        if item["type"] == "too_short" and len(item["input"]) >= item["ctx"]["min_length"]:
            continue
        if (path, message) not in seen:
            seen.add((path, message))
            source.problem(path, message)


def _read_maps(parts: Parts, folders: tuple[Folder, ...], source: Source) -> dict[str, str]:
    """The texts of the device profiles by name, each from the first of `folders` that has it."""
    maps: dict[str, str] = {}
    wanted: dict[str, Path] = {}
    for path, name in parts.profiles:
        wanted.setdefault(name, path)
    for name, path in wanted.items():
        place = next((entry for folder in folders if (entry := folder.joinpath(f"{name}.yaml")).is_file()), None)
        if place is None:
            looked = f"looked for profiles/{name}.yaml in the plant and among the shipped ones"
            source.problem(path, f"no profile {name!r} ({looked})")
            continue
        try:
            maps[name] = place.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            source.problem(path, f"{name}.yaml is {_not_utf8(error)}")
    return maps


def _parse_maps(parts: Parts, maps: dict[str, str], source: Source) -> dict[str, Profile]:
    profiles: dict[str, Profile] = {}
    for name, text in maps.items():
        try:
            profiles[name] = parse_profile(text, f"{name}.yaml")
        except ProfileError as error:
            path = next(path for path, wanted in parts.profiles if wanted == name)
            for line in str(error).splitlines():
                source.problem(path, line)
    return profiles


# What reading bytes that are no model, or a model made by another's hand, may raise.
_DAMAGED: Final = (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError, struct.error)


def _read_models(parts: Parts, folder: Folder, source: Source) -> dict[str, NormalModel]:
    models: dict[str, NormalModel] = {}
    damaged: set[str] = set()
    for path, name in parts.models:
        if name in models or name in damaged:
            continue
        entry = folder.joinpath(f"{name}.normal")
        if not entry.is_file():
            source.problem(path, f"no models/{name}.normal in the plant: `tocsin learn` makes it from normal running")
            continue
        try:
            model = model_from_bytes(entry.read_bytes())
            if not model.names or len(set(model.names)) < len(model.names):
                raise NormalModelError("it names no point, or one twice")
            models[name] = model
        except _DAMAGED as error:
            damaged.add(name)
            source.problem(path, f"models/{name}.normal: {' '.join(str(error).split())}")
    return models


def _read_calibrations(folder: Folder, source: Source) -> dict[str, Calibration] | None:
    """The charts of points; none where there is no file, None where it cannot be read."""
    entry = folder.joinpath(CALIBRATIONS_FILE)
    if not entry.is_file():
        return {}
    try:
        return calibrations_from_json(entry.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        message = _not_utf8(error)
    except CalibrationsError as error:
        message = str(error)
    source.problems.append(Problem(CALIBRATIONS_FILE, 1, "", message))
    return None


def _not_utf8(error: UnicodeDecodeError) -> str:
    return f"not UTF-8: {error.reason} at byte {error.start}"


def _read(folder: Folder) -> Source:
    """The data of the plant file with the instrument list in it.

    Raises:
        PlantError: there is no plant file, or a file cannot be read at all.
    """
    from tocsin_core.plant.yaml_text import read_yaml  # noqa: PLC0415 -- who has the plant otherwise does without

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


@left_alone()
def load_plant(folder: Folder, library: Folder | None = None) -> Plant:
    """The plant in `folder`; device profiles come from its own `profiles/`, then from `library` (the shipped ones).

    Raises:
        PlantError: with every problem of the plant, each with file, line and path.
    """
    return plant_of(_read(folder), folder, library or shipped_profiles(), folder.name)


def plant_of(source: Source, folder: Folder, library: Folder, name: str) -> Plant:
    """The plant called `name` whose file was read into `source`, with what it uses in `folder` and `library`.

    Raises:
        PlantError: as for `load_plant`.
    """
    unread = list(source.problems)
    file = None
    try:
        file = PlantFile.model_validate(source.data)
    except ValidationError as error:
        _schema_problems(error, source)
    parts = parts_of(source, file, unread)
    maps = _read_maps(parts, (folder.joinpath(PROFILES_FOLDER), library), source)
    profiles = _parse_maps(parts, maps, source)
    models = _read_models(parts, folder.joinpath(MODELS_FOLDER), source)
    points = check(parts, Found(profiles, models, _read_calibrations(folder, source)), source)
    if file is None or source.problems:
        raise PlantError(_in_order(source.problems))
    first_out = {group.id: group.alarms for group in file.first_out}
    return Plant(name, file, points, profiles, models, first_out, maps)
