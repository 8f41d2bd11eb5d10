"""What must hold between the parts of a plant file, and within each beyond the types of its fields."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tocsin_core.detectors.change import Calibration
from tocsin_core.normal import NormalModel
from tocsin_core.plant.check_alarms import check_alarms, check_charts, check_status
from tocsin_core.plant.check_computed import check_computed, check_first_out
from tocsin_core.plant.check_reports import check_reports
from tocsin_core.plant.computed import points_of
from tocsin_core.plant.computing import NOWHERE, resolve_computed
from tocsin_core.plant.connection import check_connections
from tocsin_core.plant.model import AlarmKind, Device, Gateway, Point, PointKind
from tocsin_core.plant.mqtt import check_field, check_sensors
from tocsin_core.plant.outputs import check_outputs
from tocsin_core.plant.parts import Parts
from tocsin_core.plant.point import Learned, PlantPoint, longest_of, resolve
from tocsin_core.plant.source import Path, Source
from tocsin_core.plant.standards import EXPOSURE
from tocsin_core.registers import Profile

MOST_NAMES: Final = 12  # a profile may have thousands of values
LONGEST_COMPARED: Final = 64
LEAST_LIKENESS: Final = 0.4  # difflib's ratio: `temp` is that near to `temperature`

# Stand in for a gateway or device that does not hold by itself; a plant that has one never leaves `load_plant`. Made
# without what would check them, which takes its time whenever this is imported.
_SOME_GATEWAY: Final = Gateway.model_construct(id="unknown")
_SOME_DEVICE: Final = Device.model_construct(id="unknown")


def _duplicates(names: Iterable[tuple[Path, str]], what: str, source: Source) -> None:
    first: dict[str, Path] = {}
    for path, name in names:
        if name in first:
            file, line = source.place(first[name])
            source.problem((*path, "id"), f"{what} {name!r} is already there ({file}:{line})")
        first.setdefault(name, path)


def _check_names(parts: Parts, source: Source) -> None:
    for names in (*parts.names.values(), *parts.device_names, *parts.output_names):
        _duplicates(names.found, names.what, source)
    for path, name in parts.names["rosters"].found:
        if name in parts.names["people"].ids:
            source.problem((*path, "id"), f"{name!r} is also a person")


def _check_references(parts: Parts, source: Source) -> None:
    for path, name, keys in parts.references:
        lists = [parts.names[key] for key in keys]
        if all(names.lack(name) for names in lists):
            source.problem(path, f"no {' or '.join(names.what for names in lists)} {name!r}")


def _check_timezones(parts: Parts, source: Source) -> None:
    for path, zone in parts.timezones:
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            source.problem(path, f"{zone!r} is not an IANA time zone")


def _uncovered(parts: Parts, names: tuple[str, ...]) -> str | None:
    """The first time of day at which none of the people and rosters in `names` is there, or None."""
    if any(name not in parts.duties for name in names):
        return None
    shifts = [shift for name in names for shift in parts.duties[name]]
    # Whether somebody is there can only change where a shift ends.
    for time in sorted({"00:00", *(shift.to for shift in shifts)}):
        if not any(shift.covers(time) for shift in shifts):
            return time
    return None


def _check_steps(parts: Parts, source: Source) -> None:
    before = 0.0
    for path, step in parts.steps:
        if step.after_s < before:
            source.problem((*path, "after_s"), "comes before the step above it")
        before = step.after_s
        time = _uncovered(parts, step.to)
        if time is not None:
            source.problem((*path, "to"), f"reaches nobody at {time}")


def _check_devices(parts: Parts, source: Source) -> None:
    for path, gateway, device in parts.devices:
        if gateway is not None:
            if gateway.external and (device.modbus or device.mqtt):
                source.problem(path, "an external gateway reads its own devices: no modbus or mqtt here")
            if not gateway.external and not (device.modbus or device.mqtt):
                source.problem(path, "neither modbus nor mqtt: say how it is read")
    reached = [
        (path, g.id if g else "", f"device {d.id!r}", d.modbus) for path, g, d in parts.devices if d.modbus is not None
    ]
    beside = [(path, g.id, f"output {each.id!r}", each.modbus) for path, g, each in parts.outputs]
    beside += [(path, g.id, f"button {each.id!r}", each.modbus) for path, g, each in parts.buttons]
    check_connections(reached, beside, source)
    sensors = ((path, g.id if g else "", d.mqtt) for path, g, d in parts.devices if d.mqtt is not None)
    check_sensors(sensors, source)


def _check_outputs(parts: Parts, source: Source) -> None:
    for path, gateway, _ in (*parts.outputs, *parts.buttons):
        if gateway.external:
            source.problem(path, "an external gateway switches and acknowledges nothing for us")
    of = {point.id: gateway.id for _, gateway, _, point in parts.points if gateway is not None}
    check_outputs(((path, gateway.id, output) for path, gateway, output in parts.outputs), of, source)


def _closest(name: str, names: list[str]) -> str:
    """At most MOST_NAMES of `names`, those most like `name` first, and how many more there are."""
    close = get_close_matches(name[:LONGEST_COMPARED].lower(), names, MOST_NAMES, LEAST_LIKENESS)
    shown = list(dict.fromkeys([*close, *names]))[:MOST_NAMES]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _check_address(device: Device, point: Point, profiles: dict[str, Profile], path: Path, source: Source) -> None:
    if device.modbus is not None:
        if point.register_ is None:
            source.problem(path, "a point of a modbus device names its register")
            return
        profile = profiles.get(device.profile or "")
        if profile is not None and point.register_ not in profile.values:
            there = f"there are: {_closest(point.register_, list(profile.values))}"
            source.problem((*path, "register"), f"no {point.register_!r} in profile {device.profile!r}; {there}")
    elif point.register_ is not None:
        source.problem((*path, "register"), "only points of modbus devices have a register")
    if device.mqtt is not None and point.field is None:
        source.problem(path, "a point of an MQTT sensor names its field")
    elif device.mqtt is not None and point.field is not None:
        check_field(device.mqtt, point.field, (*path, "field"), source)
    if device.mqtt is None and point.field is not None:
        source.problem((*path, "field"), "only points of MQTT sensors have a field")


def _check_point(point: PlantPoint, path: Path, source: Source) -> None:
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


def _check_metric(point: PlantPoint, first: dict[tuple[Path, str], str], path: Path, source: Source) -> None:
    key = (path[: path.index("points")], point.metric)
    if first.setdefault(key, point.id) != point.id:
        source.problem(path, f"point {first[key]!r} of this device has the metric {point.metric!r} too")


@dataclass(frozen=True, slots=True)
class Found:
    """What a plant's folder holds beside the plant file: device profiles, models and charts of normal running."""

    profiles: dict[str, Profile]
    models: dict[str, NormalModel]
    calibrations: dict[str, Calibration] | None
    """None where the file is there and could not be read."""


def _check_nowhere(parts: Parts, source: Source) -> None:
    for names in (parts.names["gateways"], *parts.device_names):
        for path, name in names.found:
            if name == NOWHERE:
                source.problem((*path, "id"), f"{name!r} is kept for computed points")


def check(parts: Parts, found: Found, source: Source) -> tuple[PlantPoint, ...]:
    """Note in `source` whatever is wrong with `parts`; the points in engine order, of use if nothing was wrong."""
    _check_timezones(parts, source)
    _check_names(parts, source)
    _check_nowhere(parts, source)
    _check_references(parts, source)
    _check_steps(parts, source)
    _check_devices(parts, source)
    _check_outputs(parts, source)
    longest_s = {config.id: longest_of(config, device or _SOME_DEVICE) for _, _, device, config in parts.points}
    learned = Learned(found.calibrations or {}, longest_s)
    placed = _measured(parts, found, learned, source)
    placed += _computed(parts, found, learned, {point.id: point for _, point in placed}, source)
    for path, point in placed:
        check_alarms(point, path, parts.computed_ids, source)
        if found.calibrations is not None:
            check_charts(point, path, source)
    check_reports(placed, {name: model.names for name, model in found.models.items()}, source)
    # Of points with one name, which is a mistake told already, the first.
    by_id = {point.id: point for _, point in reversed(placed)}
    for path, group in parts.first_out:
        check_first_out(group, path, by_id, source)
    return tuple(point for _, point in placed)


_Placed = list[tuple[Path, PlantPoint]]


def _measured(parts: Parts, found: Found, learned: Learned, source: Source) -> _Placed:
    placed: _Placed = []
    metrics: dict[tuple[Path, str], str] = {}
    for index, (path, gateway, device, config) in enumerate(parts.points):
        if device is not None:
            _check_address(device, config, found.profiles, path, source)
        point = resolve(index, gateway or _SOME_GATEWAY, device or _SOME_DEVICE, config, found.profiles, learned)
        _check_point(point, path, source)
        check_status(point, path, parts.computed_ids, source)
        _check_metric(point, metrics, path, source)
        placed.append((path, point))
    return placed


def _computed(parts: Parts, found: Found, learned: Learned, measured: dict[str, PlantPoint], source: Source) -> _Placed:
    modelled = {name: model.names for name, model in found.models.items()}
    placed: _Placed = []
    for index, (path, computed) in enumerate(parts.computed, start=len(parts.points)):
        members = [measured[name] for name in points_of(computed.from_, modelled) if name in measured]
        point = resolve_computed(index, computed, members, learned)
        check_computed(point, measured, path, parts, modelled, source)
        placed.append((path, point))
    return placed
