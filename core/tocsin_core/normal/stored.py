"""Models and states as bytes: a JSON head, the arrays, a checksum; nothing in them is ever executed."""

import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tocsin_core.normal.model import Basis, Limits, NormalModel, NormalModelError, Settings
from tocsin_core.normal.tracking import NormalState

MAGIC: Final = b"TOCSINNM"
VERSION: Final = 1
HEAD: Final = struct.Struct("<8sHI")  # magic, version, bytes of JSON
CHECKSUM: Final = struct.Struct("<I")
TYPES: Final = {"f": "<f8", "b": "|b1"}

Array = NDArray[np.float64] | NDArray[np.bool_]


def _pack(kind: str, head: Mapping[str, object], arrays: Mapping[str, Array]) -> bytes:
    directory = {name: ["b" if array.dtype == np.bool_ else "f", *array.shape] for name, array in arrays.items()}
    text = json.dumps({"kind": kind, **head, "arrays": directory}, ensure_ascii=False).encode()
    body = b"".join(
        np.ascontiguousarray(array, dtype=TYPES[str(directory[name][0])]).tobytes() for name, array in arrays.items()
    )
    packed = HEAD.pack(MAGIC, VERSION, len(text)) + text + body
    return packed + CHECKSUM.pack(zlib.crc32(packed))


def _unpack(kind: str, data: bytes) -> tuple[dict[str, object], dict[str, Array]]:
    if len(data) < HEAD.size + CHECKSUM.size or not data.startswith(MAGIC):
        raise NormalModelError("these bytes are no normal-operation model")
    _, version, length = HEAD.unpack_from(data)
    if version != VERSION:
        raise NormalModelError(f"stored in version {version}; this program reads version {VERSION}")
    if zlib.crc32(data[: -CHECKSUM.size]) != CHECKSUM.unpack(data[-CHECKSUM.size :])[0]:
        raise NormalModelError("the stored bytes are damaged: their checksum does not match")
    head = json.loads(data[HEAD.size : HEAD.size + length])
    if head.get("kind") != kind:
        raise NormalModelError(f"a {head.get('kind')} is stored here, not a {kind}")
    arrays: dict[str, Array] = {}
    offset = HEAD.size + length
    for name, (code, *shape) in head.pop("arrays").items():
        array = np.frombuffer(data, dtype=TYPES[code], count=int(np.prod(shape)), offset=offset).reshape(shape).copy()
        arrays[name] = array
        offset += array.nbytes
    return head, arrays


def _arrays(of: object) -> dict[str, Array]:
    return {
        field.name: value
        for field in fields(of)  # type: ignore[arg-type]
        if isinstance(value := getattr(of, field.name), np.ndarray)
    }


def model_to_bytes(model: NormalModel) -> bytes:
    """The model as bytes that `model_from_bytes` turns back into the same model, bit for bit."""
    head = {
        "names": list(model.names),
        "period_s": model.period_s,
        "settings": asdict(model.settings),
        "rows": model.rows,
        "held_raises": model.held_raises,
        "held_alarm_share": model.held_alarm_share,
        "components": model.basis.components,
    }
    return _pack("model", head, {"used": model.used, **_arrays(model.basis), **_arrays(model.limits)})


def model_from_bytes(data: bytes) -> NormalModel:
    """The model in `data`; raises NormalModelError for bytes that are damaged, of another version, or none."""
    head, arrays = _unpack("model", data)
    try:
        settings = dict(head.pop("settings"))  # type: ignore[call-overload]
        settings["point_smoothing"] = tuple(settings["point_smoothing"])
        components = head.pop("components")
        names: tuple[str, ...] = tuple(head.pop("names"))  # type: ignore[arg-type]
        head.pop("kind")
        used = arrays.pop("used")
        basis = {name: arrays.pop(name) for name in [f.name for f in fields(Basis)] if name in arrays}
        return NormalModel(
            names=names,
            settings=Settings(**settings),
            used=used.astype(np.bool_),
            basis=Basis(**basis, components=components),  # type: ignore[arg-type]
            limits=Limits(**arrays),  # type: ignore[arg-type]
            **head,  # type: ignore[arg-type]
        )
    except (KeyError, TypeError) as error:
        raise NormalModelError(f"the stored model lacks or has too much: {error}") from error


def state_to_bytes(state: NormalState) -> bytes:
    """The state as bytes that `state_from_bytes` turns back into the same state, bit for bit."""
    arrays = _arrays(state)
    head = {field.name: getattr(state, field.name) for field in fields(state) if field.name not in arrays}
    return _pack("state", head, arrays)


def state_from_bytes(data: bytes) -> NormalState:
    """The state in `data`; raises NormalModelError for bytes that are damaged, of another version, or none."""
    head, arrays = _unpack("state", data)
    head.pop("kind")
    try:
        return NormalState(**arrays, **head)  # type: ignore[arg-type]
    except TypeError as error:
        raise NormalModelError(f"the stored state lacks or has too much: {error}") from error
