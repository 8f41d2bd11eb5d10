"""Opens a plant that cannot pass yet because what it is to learn is not there: stand-ins take its place."""

import zipfile
from collections.abc import Iterator, Mapping
from functools import cache
from io import BytesIO
from pathlib import Path
from re import fullmatch
from typing import Final, NamedTuple

import numpy as np

from tocsin_core import normal
from tocsin_core.detectors.change import Calibration
from tocsin_core.normal import NormalModel, NormalModelError
from tocsin_core.plant import Plant, PlantError, Problem, load_plant
from tocsin_core.plant.calibrations import CALIBRATIONS_FILE, calibrations_to_json
from tocsin_core.plant.fields import IDENTIFIER
from tocsin_core.plant.load import MODELS_FOLDER, PLANT_FILE, POINTS_FILE
from tocsin_core.plant.source import add_points_csv
from tocsin_core.plant.yaml_text import read_yaml

ENDING: Final = ".normal"
LEAST_POINTS: Final = 2
STAND_IN_ROWS: Final = 300

_NO_CHARTS: Final = Calibration(
    mean=0.0, sigma=1.0, rho=0.0, left=0.0, step_s=1.0, k=0.5, h=5.0, cusum_per_week=0.0, weight=0.1, width=3.0,
    ewma_per_week=0.0,
)  # fmt: skip


class _Named(NamedTuple):
    """What a plant file names: its models, its measured points, and all of its points."""

    models: frozenset[str]
    measured: tuple[str, ...]
    points: tuple[str, ...]


def _mappings(value: object, key: str = "") -> Iterator[tuple[str, dict[str, object]]]:
    """Every mapping in `value`, with the key of the list, or of the mapping, that it stands in."""
    if isinstance(value, dict):
        yield key, value
        for name, inner in value.items():
            yield from _mappings(inner, str(name))
    elif isinstance(value, list):
        for inner in value:
            yield from _mappings(inner, key)


def _id(value: object) -> str | None:
    return value if isinstance(value, str) and fullmatch(IDENTIFIER, value) else None


def _named(folder: Path) -> _Named:
    """As far as the file can be read: what is wrong with it is found when it is loaded."""
    source = read_yaml((folder / PLANT_FILE).read_text(encoding="utf-8", errors="replace"), PLANT_FILE)
    instruments = folder / POINTS_FILE
    if instruments.is_file() and source.data is not None:
        add_points_csv(source, instruments.read_text(encoding="utf-8", errors="replace"), POINTS_FILE)
    found = list(_mappings(source.data))
    models = (_id(each.get("model")) for key, each in found if key == "from" and each.get("rule") == "normal")
    measured = tuple(name for key, each in found if key == "points" and (name := _id(each.get("id"))))
    computed = tuple(name for key, each in found if key == "computed" and (name := _id(each.get("id"))))
    return _Named(frozenset(filter(None, models)), measured, measured + computed)


@cache
def _stand_in(names: tuple[str, ...]) -> bytes:
    """A model of these points that was learned of nothing real."""
    rows = np.sin(np.outer(np.arange(STAND_IN_ROWS), 1.0 + 0.7 * np.arange(len(names))))
    return normal.model_to_bytes(normal.learn(rows, names, 1.0))


def open_plant(folder: Path, models: Mapping[str, NormalModel]) -> Plant:
    """The plant in `folder` with `models`; every other model and all charts are stand-ins that say nothing.

    Raises:
        PlantError: with every problem that learning does not solve.
    """
    if not (folder / PLANT_FILE).is_file():
        return load_plant(folder)
    named = _named(folder)
    if named.models and len(set(named.measured)) < LEAST_POINTS:
        raise PlantError([Problem(PLANT_FILE, 1, "", "the model of a unit wants two measured points")])
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in (folder / PLANT_FILE, folder / POINTS_FILE, *folder.glob("profiles/*.yaml")):
            if path.is_file():
                archive.writestr(path.relative_to(folder).as_posix(), path.read_bytes())
        for name in named.models:
            model = models.get(name)
            held = _stand_in(tuple(dict.fromkeys(named.measured))[:LEAST_POINTS])
            archive.writestr(f"{MODELS_FOLDER}/{name}{ENDING}", held if model is None else normal.model_to_bytes(model))
        archive.writestr(CALIBRATIONS_FILE, calibrations_to_json(dict.fromkeys(named.points, _NO_CHARTS)))
    # A folder in memory is what the loader takes as well as one on a disk.
    archive = zipfile.ZipFile(buffer)
    archive.filename = folder.resolve().name
    return load_plant(zipfile.Path(archive))


def model_in(folder: Path, name: str) -> NormalModel | None:
    """The model of this name that the plant's folder has, if it has one that can be read."""
    path = folder / MODELS_FOLDER / f"{name}{ENDING}"
    try:
        return normal.model_from_bytes(path.read_bytes()) if path.is_file() else None
    except NormalModelError:
        return None
