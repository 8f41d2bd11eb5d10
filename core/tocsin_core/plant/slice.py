"""A gateway's slice: what of a plant one gateway needs and nothing more, as bytes that are always the same."""

import json
import zipfile
from collections.abc import Iterable, Iterator
from hashlib import sha256
from io import BytesIO
from typing import Any, Final

from pydantic import BaseModel

from tocsin_core.normal import model_to_bytes
from tocsin_core.plant.calibrations import CALIBRATIONS_FILE, calibrations_to_json
from tocsin_core.plant.computed import Normal, points_of
from tocsin_core.plant.load import MODELS_FOLDER, PROFILES_FOLDER, Plant, plant_of
from tocsin_core.plant.model import Device, Gateway, Point, PointKind
from tocsin_core.plant.point import PlantPoint
from tocsin_core.plant.source import Source

SLICE_FILE: Final = "plant.json"


class SliceError(ValueError):
    """Bytes that are no slice at all; one whose content does not hold is a PlantError."""


def slice_of(plant: Plant, gateway_id: str) -> bytes:
    """What the gateway `gateway_id` needs of `plant`, the same bytes for the same content: a ZIP of a plant folder.

    The plant file in JSON, with its points, and the computed ones that are made of its points alone; the register maps,
    charts and models that they use. Points of other gateways that its own alarms or status words name are in it as
    points of somebody else's. People, rosters, messages, tickets and first-out groups are not.

    Raises:
        KeyError: there is no such gateway.
    """
    gateway = plant.gateway(gateway_id)
    modelled = {name: model.names for name, model in plant.models.items()}
    read = {point.id for point in plant.measured if point.gateway.id == gateway_id}
    computed = [each for each in plant.file.computed if read.issuperset(points_of(each.from_, modelled))]
    inside = read | {each.id for each in computed}
    own = [point for point in plant.points if point.id in inside]
    abroad = {name for point in own for name in _named(point)} - inside
    gateways = [gateway if each is gateway else _stand_in(plant, each, abroad) for each in plant.file.gateways]
    whole = {
        "tocsin": plant.file.tocsin,
        "site": _plain(plant.site),
        "hazard_sources": [_plain(each) for each in plant.file.hazard_sources],
        "gateways": [_plain(each) for each in gateways if each.devices or each is gateway],
        "computed": [_plain(each) for each in computed],
    }
    files = {SLICE_FILE: _json(whole)}
    for name in dict.fromkeys(device.profile for device in gateway.devices if device.profile is not None):
        files[f"{PROFILES_FOLDER}/{name}.yaml"] = plant.maps[name].encode()
    charts = {point.id: each.charts for point in own for each in point.definitions if each.charts is not None}
    if charts:
        files[CALIBRATIONS_FILE] = calibrations_to_json(charts).encode()
    for rule in (each.from_ for each in computed):
        if isinstance(rule, Normal):
            files[f"{MODELS_FOLDER}/{rule.model}.normal"] = model_to_bytes(plant.models[rule.model])
    return _packed(files.items())


def load_slice(data: bytes) -> Plant:
    """The plant in a slice, held to everything that `load_plant` holds a plant folder to.

    Raises:
        SliceError: the bytes are no slice.
        PlantError: with every problem of the plant in it.
    """
    try:
        archive = zipfile.ZipFile(BytesIO(data))
        # Without a name of its own its members' cannot be told.
        archive.filename = "slice"
        folder = zipfile.Path(archive)
        content = json.loads(folder.joinpath(SLICE_FILE).read_bytes())
    except (zipfile.BadZipFile, KeyError, ValueError, OSError, NotImplementedError, RecursionError) as error:
        raise SliceError(f"no slice of a plant: {error}") from error
    source = Source(content, {(): (SLICE_FILE, 1)})
    return plant_of(source, folder, folder.joinpath(PROFILES_FOLDER), "slice")


def hash_of(data: bytes) -> str:
    """The content's hash (SHA-256, hexadecimal) by which two slices are told apart."""
    return sha256(data).hexdigest()


def _named(point: PlantPoint) -> Iterator[str]:
    """The points whose state the alarms of `point` depend on beside its own value."""
    if point.mode_source is not None:
        yield point.mode_source.point
    for definition in point.definitions:
        if definition.suppressed_by is not None:
            yield definition.suppressed_by.point


def _stand_in(plant: Plant, gateway: Gateway, wanted: set[str]) -> Gateway:
    """Another gateway as somebody else's, with those of its points that are `wanted` and without their alarms."""
    devices: dict[str, list[PlantPoint]] = {}
    for point in plant.measured:
        if point.gateway.id == gateway.id and point.id in wanted:
            devices.setdefault(point.device.id, []).append(point)
    return Gateway(
        id=gateway.id,
        external=True,
        devices=tuple(
            Device(id=name, period_ms=points[0].device.period_ms, points=tuple(_bare(point) for point in points))
            for name, points in devices.items()
        ),
    )


def _bare(point: PlantPoint) -> Point:
    return Point(
        id=point.id,
        name=point.config.name,
        kind=PointKind.GENERIC,
        metric=point.config.metric,
        unit=point.unit,
        range=(point.low, point.high),
    )


def _plain(model: BaseModel) -> dict[str, Any]:
    """What the file said, and not what it left out: some checks tell the two apart."""
    return model.model_dump(mode="json", by_alias=True, exclude_unset=True)


def _json(content: object) -> bytes:
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _packed(files: Iterable[tuple[str, bytes]]) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files:
            # A ZipInfo by itself has a fixed date.
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()
