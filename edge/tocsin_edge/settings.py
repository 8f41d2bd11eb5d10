"""What one gateway needs to know of its plant, compiled once from the plant file before anything is opened."""

from dataclasses import dataclass, field
from pathlib import Path

from tocsin_core.owned import alone, fingerprints, follows, packed
from tocsin_core.plant import AlarmKind, Plant, PlantPoint, Priority
from tocsin_core.plant.connection import Modbus
from tocsin_core.plant.model import Gateway, Server, UplinkBroker
from tocsin_core.plant.mqtt import Mqtt
from tocsin_core.plant.slice import hash_of, slice_of
from tocsin_core.plant.standards import GAS_KINDS, defaults_of
from tocsin_core.ranges import Ranges
from tocsin_core.readings import Bool
from tocsin_core.registers import TCP, Line, Profile, ReadPlan, compile_plan
from tocsin_core.rules import Rules, compile_rules
from tocsin_core.sensors import Exceptions, Rule
from tocsin_core.sparkplug import EdgeDevice, EdgeMetric


@dataclass(frozen=True, slots=True)
class Part:
    """Points of a device (positions among them, in the order of the plan's values) that are read together.

    `safety`: their period is kept when the line cannot do everything.
    """

    points: tuple[int, ...]
    plan: ReadPlan
    safety: bool = False


@dataclass(frozen=True, slots=True)
class ModbusDevice:
    """A device that is polled: where, and by which plans; its profile is what a plan is made of anew when it learns."""

    address: Modbus
    profile: Profile
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class SensorDevice:
    """A device that publishes: its topic, and where each point's value lies (a path in JSON, or a Sparkplug metric)."""

    source: Mqtt
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DeviceSettings:
    """One device: its points in Sparkplug order with their measuring ranges, how often it is read, and how.

    `report`: which of its readings are kept and sent; None where all are. Two devices are equal if what they were
    compiled from is (`made_of`).
    """

    sparkplug: EdgeDevice = field(compare=False)
    ranges: Ranges = field(compare=False)
    period_ns: int = field(compare=False)
    input: ModbusDevice | SensorDevice = field(compare=False)
    report: Exceptions | None = field(default=None, compare=False)
    made_of: tuple[object, ...] = field(default=(), repr=False)

    @property
    def id(self) -> str:
        """The device's id, also its Sparkplug name."""
        return self.sparkplug.id


@dataclass(frozen=True, slots=True, eq=False)
class AlarmSettings:
    """The alarms that the gateway decides by itself, D of them.

    `points` gives the engine's number by device and metric, of those that an alarm looks at; `follows` by output of the
    gateway which alarms it follows, bool[D]; `prints` tell the cloud side which of them it judges alike
    (`tocsin_core.owned.packed`).
    """

    rules: Rules
    points: dict[tuple[str, str], int]
    follows: tuple[Bool, ...]
    prints: bytes


@dataclass(frozen=True, slots=True)
class EdgeSettings:
    """One gateway of one site, whole; `spool` is the file of the store-and-forward queue.

    `gateway` is what the plant file says of it beside its devices. Nothing else of the plant stays in memory: `content`
    is the hash of the slice of it, `data` the folder of all gateways' files, `uplink` the broker's addresses if given.
    """

    site: str
    gateway: Gateway
    devices: tuple[DeviceSettings, ...]
    alarms: AlarmSettings
    content: str
    spool: Path
    data: Path
    uplink: str | None


def folder_of(data: Path, gateway_id: str) -> Path:
    """The folder of one gateway's files under the folder `data` of all gateways'."""
    return data / "gateways" / gateway_id


def compile_settings(plant: Plant, gateway_id: str, data: Path, uplink: str | None = None) -> EdgeSettings:
    """Compile what gateway `gateway_id` of `plant` has to do, its files under `data`, its broker at `uplink` if given.

    Raises:
        ValueError: there is no such gateway, it is somebody else's, or `uplink` is not HOST:PORT,HOST:PORT…
    """
    try:
        gateway = plant.gateway(gateway_id)
    except KeyError as error:
        raise ValueError(error.args[0]) from error
    if gateway.external:
        raise ValueError(f"gateway {gateway_id!r} is external: it is not run by tocsin")
    if uplink is not None:
        gateway = gateway.model_copy(update={"uplink": _elsewhere(gateway.uplink, uplink)})
    grouped: dict[str, list[PlantPoint]] = {}
    for point in plant.points:
        if point.gateway.id == gateway_id:
            grouped.setdefault(point.device.id, []).append(point)
    devices = tuple(_device(plant, points) for points in grouped.values())
    spool = folder_of(data, gateway_id) / "spool.sqlite"
    alarms, content = _alarms(plant, gateway), hash_of(slice_of(plant, gateway_id))
    beside = gateway.model_copy(update={"devices": ()})
    return EdgeSettings(plant.site.id, beside, devices, alarms, content, spool, data, uplink)


def _elsewhere(broker: UplinkBroker, addresses: str) -> UplinkBroker:
    """The broker as it is known there, at these addresses."""
    servers = []
    for address in addresses.split(","):
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or not 1 <= int(port) <= 65535:  # noqa: PLR2004 -- the last TCP port
            raise ValueError(f"{address!r} is not HOST:PORT")
        servers.append(Server.model_construct(host=host, port=int(port)))
    first, *others = servers
    return broker.model_copy(update={"host": first.host, "port": first.port, "others": tuple(others)})


def _alarms(plant: Plant, gateway: Gateway) -> AlarmSettings:
    part = alone(plant, gateway.id)
    rules = compile_rules(part)
    return AlarmSettings(
        rules,
        {(point.device.id, point.metric): point.index for point in part.points if point.compute is None},
        tuple(follows(output, part, rules) for output in gateway.outputs),
        packed(fingerprints(plant, gateway.id).values()),
    )


def _device(plant: Plant, points: list[PlantPoint]) -> DeviceSettings:
    device = points[0].device
    metrics = tuple(EdgeMetric(point.metric, point.unit, point.low, point.high) for point in points)
    how: ModbusDevice | SensorDevice
    if device.modbus is not None and device.profile is not None:
        profile = plant.profiles[device.profile]
        how = ModbusDevice(device.modbus, profile, _parts(device.modbus, profile, points))
    elif device.mqtt is not None:
        how = SensorDevice(device.mqtt, tuple(point.config.field or "" for point in points))
    else:
        raise ValueError(f"device {device.id!r} has neither modbus nor mqtt")
    ranges = [_range(point) for point in points]
    rules = [_rule(point) for point in points]
    addresses = [(point.config.register_, point.config.field, for_safety(point)) for point in points]
    way_in = (device.modbus, device.mqtt, plant.profiles.get(device.profile or ""))
    return DeviceSettings(
        EdgeDevice(device.id, metrics),
        Ranges.of(ranges),
        device.period_ms * 1_000_000,
        how,
        None if all(rule is None for rule in rules) else Exceptions.of(rules),
        (device.id, device.period_ms, *way_in, metrics, ranges, rules, addresses),
    )


def _rule(point: PlantPoint) -> Rule | None:
    report = point.config.report
    if report is None:
        return None
    settle_s = max((each.on_delay_s + each.off_delay_s for each in point.definitions), default=0.0)
    return Rule(report.deadband, report.longest_s, settle_s)


def _parts(address: Modbus, profile: Profile, points: list[PlantPoint]) -> tuple[Part, ...]:
    """Split a device into what is for safety and the rest, where that takes no more requests than the whole does."""
    serial = address.serial
    line = TCP if serial is None else Line.serial(serial.baud, serial.bits_per_character)
    registers = [point.config.register_ or point.id for point in points]

    def part(wanted: list[int], *, safety: bool) -> Part:
        return Part(tuple(wanted), compile_plan(profile, [registers[at] for at in wanted], line), safety)

    every = list(range(len(points)))
    first = [at for at in every if for_safety(points[at])]
    rest = [at for at in every if at not in first]
    whole = part(every, safety=bool(first))
    if not first or not rest:
        return (whole,)
    split = (part(first, safety=True), part(rest, safety=False))
    return split if sum(len(each.plan.requests) for each in split) <= len(whole.plan.requests) else (whole,)


def for_safety(point: PlantPoint) -> bool:
    """Whether the point's period goes before others': it measures gas, or has an HH or a critical alarm."""
    alarms = point.definitions
    grave = any(alarm.kind is AlarmKind.HH or alarm.priority is Priority.CRITICAL for alarm in alarms)
    return grave or point.kind in GAS_KINDS


def _range(point: PlantPoint) -> tuple[float, float] | None:
    """Give the plant file's own range, or the kind's where the point is in the kind's unit; otherwise there is none."""
    unit = defaults_of(point.config).unit
    own = point.config.range is not None or (unit and unit == point.unit)
    return (point.low, point.high) if own else None
