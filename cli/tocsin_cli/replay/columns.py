"""Which column of a recorded table is which point: by a map the user gives, by name, or by the plant's simulation."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Final, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from tocsin_cli.replay.recording import RecordingError
from tocsin_core.plant import Plant
from tocsin_core.plant.yaml_text import read_yaml

TIME_NAMES: Final = ("time", "datetime", "timestamp", "date", "ts")
SIMULATION_FILE: Final = "simulation.yaml"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Target(_Strict):
    """The point that a column holds, and how its numbers become the point's unit."""

    point: str
    gain: float = Field(1.0, allow_inf_nan=False)
    offset: float = Field(0.0, allow_inf_nan=False)


class ColumnMap(_Strict):
    """A map file: the column of time, and the point of each column."""

    time: str | None = None
    columns: dict[str, Annotated[Target, BeforeValidator(lambda v: {"point": v} if isinstance(v, str) else v)]] = Field(
        min_length=1
    )


class Columns(NamedTuple):
    """The column of time, by column what it holds, and the columns of computed points: they are computed anew."""

    time: str
    targets: dict[str, Target]
    how: str
    computed: tuple[str, ...] = ()


def read_map(path: Path) -> ColumnMap:
    """The map in a YAML file.

    Raises:
        RecordingError: it does not hold; every problem with its line.
    """
    source = read_yaml(path.read_text(encoding="utf-8"), path.name)
    if not source.problems:
        try:
            return ColumnMap.model_validate(source.data)
        except ValidationError as error:
            for item in error.errors():
                source.problem(item["loc"], item["msg"].removeprefix("Value error, ").replace("Input ", ""))
    raise RecordingError("; ".join(map(str, source.problems)))


def choose(header: Sequence[str], plant: Plant, folder: Path, given: ColumnMap | None) -> Columns:
    """What each column of `header` holds.

    A map says it; else the columns called as points are those points; else the plant's simulation.yaml says which
    column its recorded table has behind each value. What was recorded of a computed point is no reading of anything.

    Raises:
        RecordingError: no column is a measured point's, or one that was named is not there.
    """
    found = _found(header, plant, folder, given)
    computed = {
        column
        for column, target in found.targets.items()
        if plant.points[plant.point_index[target.point]].compute is not None
    }
    measured = {column: target for column, target in found.targets.items() if column not in computed}
    if not measured:
        raise RecordingError(f"no column is of a measured point; computed are: {', '.join(found.targets)}")
    return found._replace(targets=measured, computed=tuple(column for column in found.targets if column in computed))


def _found(header: Sequence[str], plant: Plant, folder: Path, given: ColumnMap | None) -> Columns:
    if given is not None:
        _known(given, header, plant)
        return Columns(given.time or _time(header), dict(given.columns), "by the map")
    named = {column: Target(point=column) for column in header if column in plant.point_index}
    if named:
        return Columns(_time(header), named, "by name")
    simulated = _simulated(header, plant, folder)
    if simulated is None:
        columns, points = ", ".join(header), ", ".join(list(plant.point_index)[:12])
        raise RecordingError(
            f"no column is called like a point of the plant: give --map (columns: {columns}; points: {points})"
        )
    return simulated


def _known(given: ColumnMap, header: Sequence[str], plant: Plant) -> None:
    missing = [name for name in (*given.columns, *((given.time,) if given.time else ())) if name not in header]
    if missing:
        raise RecordingError(f"no column {', '.join(missing)} in the table; there are: {', '.join(header)}")
    strange = [target.point for target in given.columns.values() if target.point not in plant.point_index]
    if strange:
        raise RecordingError(f"no point {', '.join(strange)} in the plant")


def _time(header: Sequence[str]) -> str:
    """The column that is called like a time, or the first."""
    return next((column for column in header if column.strip().lower() in TIME_NAMES), header[0])


def _simulated(header: Sequence[str], plant: Plant, folder: Path) -> Columns | None:
    """The columns as the simulator plays them: quantity, device and value of simulation.yaml, register of the point."""
    if find_spec("tocsin_sim") is None or not (folder / SIMULATION_FILE).is_file():
        return None
    from tocsin_sim.simulation import Signal, SimulationError, load_simulation  # noqa: PLC0415 -- an extra

    try:
        simulation = load_simulation(folder)
    except SimulationError as error:
        raise RecordingError(str(error)) from error
    if simulation.record is None:
        return None
    name, record = simulation.record
    by_register = {(point.device.id, point.config.register_): point.id for point in plant.points}
    targets = {}
    for device, values in simulation.instruments.items():
        for value, signal in values.items():
            point = by_register.get((device, value))
            if isinstance(signal, Signal) and len(signal.quantity) == 1 and point is not None:
                column = signal.quantity[0].removeprefix(f"{name}.")
                if column in header:
                    targets[column] = Target(point=point, gain=signal.gain, offset=signal.offset)
    if record.time not in header or not targets:
        return None
    return Columns(record.time, targets, f"by the plant's {SIMULATION_FILE}")
