"""The charts of points, calibrated from recorded normal running: the file calibrations.json of a plant."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationError

from tocsin_core.detectors.change import Calibration
from tocsin_core.plant.fields import Identifier, Strict
from tocsin_core.plant.messages import message_of

CALIBRATIONS_FILE: Final = "calibrations.json"
VERSION: Final = 1

_Number = Annotated[float, Field(allow_inf_nan=False)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Share = Annotated[float, Field(gt=-1, lt=1, allow_inf_nan=False)]


class CalibrationsError(ValueError):
    """A text that holds no calibrations; the message names the place."""


class _Charts(Strict):
    """A `Calibration`, field by field."""

    mean: _Number
    sigma: _Positive
    rho: _Share
    left: _Number
    step_s: Annotated[float, Field(ge=0.001, le=7 * 86400)]
    k: _NotNegative
    h: _Positive
    cusum_per_week: _NotNegative
    weight: Annotated[float, Field(gt=0, le=1)]
    width: _Positive
    ewma_per_week: _NotNegative


class _File(Strict):
    tocsin: Literal[1]
    points: dict[Identifier, _Charts]


def _pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise CalibrationsError(f"{key} stands there twice")
        found[key] = value
    return found


def _parsed(text: str) -> object:
    try:
        return json.loads(text.removeprefix("\ufeff"), object_pairs_hook=_pairs)
    except CalibrationsError:
        raise
    except json.JSONDecodeError as error:
        raise CalibrationsError(f"not JSON: {error.msg} in line {error.lineno}") from error
    except RecursionError as error:
        raise CalibrationsError("not JSON of calibrations: nested too deeply") from error
    except ValueError as error:  # a whole number of thousands of digits
        raise CalibrationsError(f"not JSON of calibrations: {' '.join(str(error).split())}") from error


def calibrations_from_json(text: str) -> dict[str, Calibration]:
    """The charts in `text` by point.

    `{"tocsin": 1, "points": {POINT: {field of Calibration: number, …}, …}}`; each field must be there.

    Raises:
        CalibrationsError: the text is something else; the message names the first place that is wrong.
    """
    try:
        file = _File.model_validate(_parsed(text))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"] if step != "[key]") or "the file"
        raise CalibrationsError(f"{place}: {message_of(first)}") from error
    return {point: Calibration(**charts.model_dump()) for point, charts in file.points.items()}


def calibrations_to_json(calibrations: Mapping[str, Calibration]) -> str:
    """`calibrations` as `calibrations_from_json` reads them, bit for bit; points in order of their names."""
    points = {point: asdict(calibrations[point]) for point in sorted(calibrations)}
    return json.dumps({"tocsin": VERSION, "points": points}, indent=1) + "\n"
