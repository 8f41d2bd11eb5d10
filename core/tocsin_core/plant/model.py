"""The plant file's strict models: what one plant consists of, field by field."""

from enum import StrEnum
from functools import cached_property
from typing import Annotated, Final, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from tocsin_core.detectors.health import LARGEST_CODE
from tocsin_core.plant.computed import Compute
from tocsin_core.plant.connection import Modbus
from tocsin_core.plant.fields import (
    ALARM,
    CAS,
    CHANNEL,
    TIME_OF_DAY,
    Finite,
    Host,
    Identifier,
    Listed,
    Name,
    Port,
    Range,
    Seconds,
    Strict,
)
from tocsin_core.plant.mqtt import Mqtt
from tocsin_core.plant.outputs import Button, Output
from tocsin_core.plant.report import Report


class AlarmKind(StrEnum):
    """The kinds of alarm definition that a point can have."""

    HH = "HH"
    H = "H"
    L = "L"
    LL = "LL"
    RED = "red"
    ORANGE = "orange"
    YELLOW = "yellow"
    BLUE = "blue"
    RATE = "rate"
    TIME_TO_LIMIT = "time-to-limit"
    STEL = "stel"
    TWA = "twa"
    PEAKS = "peaks"
    CUSUM = "cusum"
    EWMA = "ewma"
    ABNORMAL = "abnormal"
    LOOP = "loop"
    STUCK = "stuck"
    SPIKE = "spike"
    BAD = "bad"
    STALE = "stale"


class Priority(StrEnum):
    """Alarm priorities, lowest first (ISA-18.2: three, and a rarely used highest)."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @cached_property
    def rank(self) -> int:
        """1 (low) to 4 (critical)."""
        return list(Priority).index(self) + 1


class PointKind(StrEnum):
    """What a point measures; brings the set points, deadbands and delays of the standard it cites."""

    TOXIC_GAS = "toxic-gas"
    COMBUSTIBLE_GAS = "combustible-gas"
    OXYGEN = "oxygen"
    MINE_METHANE = "mine-methane"
    MINE_CO = "mine-co"
    MINE_WIND = "mine-wind"
    TANK_LEVEL = "tank-level"
    PRESSURE = "pressure"
    TEMPERATURE = "temperature"
    FLOW = "flow"
    POND_LEVEL = "pond-level"
    BEACH_LENGTH = "beach-length"
    FREEBOARD = "freeboard"
    PHREATIC_LINE = "phreatic-line"
    DISPLACEMENT = "displacement"
    GENERIC = "generic"
    STATUS = "status"


class MinePlace(StrEnum):
    """Where in a coal mine a methane sensor hangs (AQ 1029; 煤矿安全规程 Art. 498)."""

    RETURN_CORNER = "return-corner"
    FACE = "face"
    FACE_RETURN = "face-return"
    INTAKE = "intake"
    MIDDLE_RETURN = "middle-return"
    HEADING = "heading"
    HEADING_RETURN = "heading-return"
    DISTRICT_RETURN = "district-return"
    TOTAL_RETURN = "total-return"


# Readings are doubles: beyond bit 52 of a word they are no longer exact. Codes are kept as the bits of a 64-bit set.
Bit = Annotated[int, Field(ge=0, le=52)]
Code = Annotated[int, Field(ge=0, le=LARGEST_CODE)]
WHOLE_WORD: Final = 2**63 - 1


class SuppressedBy(Strict):
    """By which state of another point an alarm is suppressed by design: a stopped pump suppresses its low flow."""

    point: Identifier = Field(description="The point whose value says so; it must be good and not stale.")
    above: Finite | None = Field(None, description="Suppressed while it reads more than this.")
    below: Finite | None = Field(None, description="Suppressed while it reads less than this.")
    equals: Finite | None = Field(None, description="Suppressed while it reads exactly this.")
    on_delay_s: Seconds = Field(
        0.0, description="It must have said so for this long; not longer than the on-delay of the alarm, which is told."
    )
    off_delay_s: Seconds = Field(0.0, description="Suppressed for this long after it says otherwise.")

    @model_validator(mode="after")
    def _one_state(self) -> Self:
        if sum(each is not None for each in (self.above, self.below, self.equals)) != 1:
            msg = "give exactly one of above, below and equals"
            raise ValueError(msg)
        return self


class AlarmSetting(Strict):
    """One alarm definition of a point; what is left out comes from the kind's standard."""

    setpoint: Finite | None = Field(None, description="Limit in the point's unit; for `rate`: units per minute.")
    deadband: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(
        None, description="In the point's unit; the alarm clears only this far inside the limit."
    )
    on_delay_s: Seconds | None = Field(
        None, description="The condition must hold this long before the alarm is raised."
    )
    off_delay_s: Seconds | None = Field(
        None, description="The condition must be gone this long before the alarm returns."
    )
    priority: Annotated[Priority, Field(strict=False)] | None = Field(
        None, description="low, medium, high or critical."
    )
    latching: bool | None = Field(None, description="Stays latched after its return until somebody resets it.")
    realarm_s: Annotated[float, Field(ge=60, le=86400)] | None = Field(
        None, description="Acknowledged and still active after this long, it has to be acknowledged again."
    )
    window_s: Annotated[float, Field(ge=5, le=86400)] | None = Field(
        None,
        description="`rate` and `time-to-limit`: how much of the past the slope is taken from; `stuck`: how long"
        " nothing may move.",
    )
    side: Literal["high", "low"] | None = Field(
        None, description="Grades: whether high or low values are bad; known from the kind or the set points mostly."
    )
    floor: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(
        None,
        description="`stuck`, `spike`: least standard deviation of a reading, in the point's unit; that of its last"
        " digit if left out. 0 for `stuck`: only identical readings count.",
    )
    suppressed_by: SuppressedBy | None = Field(None, description="State of another point that suppresses it by design.")
    limit: Literal["HH", "H", "L", "LL", "red", "orange", "yellow", "blue"] | None = Field(
        None, description="`time-to-limit`: which of the point's limits is foreseen."
    )
    horizon_s: Annotated[float, Field(ge=10, le=86400)] | None = Field(
        None, description="`time-to-limit`: warn when the limit is reached within this time."
    )
    confidence: Annotated[float, Field(gt=0.5, lt=1)] | None = Field(
        None, description="`time-to-limit`: one-sided confidence at which the limit must be reached within the horizon."
    )
    after_s: Annotated[float, Field(gt=0, le=86400)] | None = Field(
        None,
        description="`stale`: no reading for this long, by the wall clock; `bad`: no good reading for this long, though"
        " none that is bad.",
    )


class Codes(Strict):
    """Which codes of a status word tell what the instrument is doing."""

    warm_up: Annotated[tuple[Code, ...], Listed] = Field((), description="Codes that say: warming up.")
    calibration: Annotated[tuple[Code, ...], Listed] = Field((), description="Codes that say: being calibrated.")


class Flags(Strict):
    """Which bits of a status word, counted from 0, tell what the instrument is doing."""

    warm_up: Annotated[tuple[Bit, ...], Listed] = Field((), description="Bits that say: warming up.")
    calibration: Annotated[tuple[Bit, ...], Listed] = Field((), description="Bits that say: being calibrated.")


class Status(Strict):
    """Where the instrument says that it is warming up or being calibrated: nothing read meanwhile raises an alarm."""

    point: Identifier = Field(description="The point that reads its status word.")
    codes: Codes | None = Field(None, description="Where the word, or the part of it under the mask, is one code.")
    flags: Flags | None = Field(None, description="Where each bit of the word has a meaning of its own.")
    mask: Annotated[int, Field(ge=1, le=2**32 - 1)] | None = Field(
        None, description="`codes`: the bits of the word that hold the code, not shifted; all if left out."
    )
    settle_s: Seconds | None = Field(
        None, description="What was left counts for this much longer; 60 for gas, else 0, if left out."
    )

    @model_validator(mode="after")
    def _one_reading(self) -> Self:
        if (self.codes is None) == (self.flags is None):
            msg = "give either codes or flags"
            raise ValueError(msg)
        if self.mask is not None and self.codes is None:
            msg = "only codes have a mask"
            raise ValueError(msg)
        said = self.codes or self.flags
        if said is not None and not said.warm_up and not said.calibration:
            msg = "names no state: give warm_up, calibration or both"
            raise ValueError(msg)
        if said is not None and not set(said.warm_up).isdisjoint(said.calibration):
            msg = "the same stands for warm_up and for calibration"
            raise ValueError(msg)
        return self


class Point(Strict):
    """One measured value (测点)."""

    id: Identifier = Field(description="Unique in the plant; also the Sparkplug metric name.")
    name: Name = Field(description="What people call it.")
    kind: Annotated[PointKind, Field(strict=False)] = Field(description="Brings the standard's set points and delays.")
    register_: str | None = Field(
        None, alias="register", description="Modbus: the value's name in the device's profile."
    )
    field: str | None = Field(
        None,
        description="MQTT sensor: path of the value in the JSON payload, like `a.b[0]`; empty for a bare value;"
        " Sparkplug sensor: the metric's name.",
    )
    metric: str | None = Field(
        None, description="External gateway: the Sparkplug metric's name; the point's id if left out."
    )
    unit: str | None = Field(None, description="Engineering unit; the kind's or the profile's if left out.")
    range: Range | None = Field(None, description="Measuring range [low, high] in the unit.")
    decimals: Annotated[int, Field(ge=0, le=6)] | None = Field(
        None, description="Digits shown after the point, and known of a trend; a tank's level in m has 3 if left out."
    )
    source: Identifier | None = Field(None, description="Hazard source it belongs to; the device's if left out.")
    cas: Annotated[str, StringConstraints(pattern=CAS)] | None = Field(
        None, description="CAS number of the gas: chooses the exposure limits."
    )
    place: Annotated[MinePlace, Field(strict=False)] | None = Field(
        None, description="mine-methane: where the sensor hangs."
    )
    status: Status | None = Field(None, description="Where it says that it is warming up or being calibrated.")
    report: Report | None = Field(
        None, description="Report by exception; only for points whose values no alarm and no computed point looks at."
    )
    alarms: dict[Annotated[AlarmKind, Field(strict=False)], AlarmSetting | Literal[False]] = Field(
        default_factory=dict, description="Overrides by alarm kind; `false` takes a definition away."
    )


class Device(Strict):
    """A Modbus unit, an MQTT sensor, or a device of an external gateway."""

    id: Identifier = Field(description="Unique in its gateway; the Sparkplug device.")
    name: Name | None = Field(None, description="What people call it.")
    profile: Identifier | None = Field(
        None, description="Modbus: file name in firmware-configs/devices, without .yaml."
    )
    modbus: Modbus | None = Field(None, description="How it is read: as a Modbus device.")
    mqtt: Mqtt | None = Field(None, description="How it is read: as an MQTT sensor.")
    period_ms: Annotated[int, Field(ge=100, le=3_600_000)] = Field(
        1000, description="How often it is read, or (MQTT) should publish."
    )
    source: Identifier | None = Field(None, description="Hazard source that its points belong to.")
    points: Annotated[tuple[Point, ...], Listed] = Field((), description="What it measures.")

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        if self.modbus is not None and self.mqtt is not None:
            msg = "give either modbus or mqtt, not both"
            raise ValueError(msg)
        if self.modbus is not None and self.profile is None:
            msg = "a modbus device names its profile"
            raise ValueError(msg)
        return self


class Broker(Strict):
    """An MQTT broker."""

    host: Host = Field("127.0.0.1", description="Host name or address.")
    port: Port = Field(1883, description="TCP port.")
    username: str | None = Field(None, description="User name, where the broker asks for one.")
    password: str | None = Field(None, description="Its password.")


class Server(Strict):
    """Another address at which the same broker is reached."""

    host: Host = Field(description="Host name or address.")
    port: Port = Field(1883, description="TCP port.")


class UplinkBroker(Broker):
    """The cloud side's broker, at one address or, of a cluster, at several."""

    others: Annotated[tuple[Server, ...], Listed] = Field(
        (), description="The other servers of a cluster, tried in turn where the one before does not do its work."
    )

    @property
    def servers(self) -> tuple[Broker, ...]:
        """Every address, in the order in which they are tried."""
        addresses = ((self.host, self.port), *((each.host, each.port) for each in self.others))
        return tuple(
            Broker.model_construct(host=host, port=port, username=self.username, password=self.password)
            for host, port in addresses
        )


LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


class SensorBroker(Broker):
    """The MQTT broker on which a gateway's sensors publish."""

    host_local: bool = Field(
        default=False,
        description="The gateway runs this broker itself, listening on `host` and `port` (needs `nats-server`).",
    )

    @model_validator(mode="after")
    def _not_for_everybody(self) -> Self:
        if self.host_local and self.host not in LOOPBACK and not (self.username and self.password):
            msg = "a broker that others can reach asks for a username and a password"
            raise ValueError(msg)
        return self


class Spool(Strict):
    """How much a gateway keeps."""

    max_mb: Annotated[int, Field(ge=8, le=100_000)] = Field(512, description="Bound of the store-and-forward file.")
    keep_after_commit_s: Seconds = Field(
        600.0, description="Kept this long after the cloud's commit, for a cloud restored from an older state."
    )


class Gateway(Strict):
    """A gateway (网关): a Sparkplug edge node of ours, or somebody else's (`external`)."""

    id: Identifier = Field(description="Unique in the plant; the Sparkplug edge node.")
    name: Name | None = Field(None, description="What people call it.")
    external: bool = Field(
        default=False, description="Not ours: any Sparkplug B edge node; its points are declared by metric name."
    )
    uplink: UplinkBroker = Field(
        UplinkBroker.model_construct(), description="The cloud side's MQTT listener, as this gateway reaches it."
    )
    sensors: SensorBroker = Field(
        SensorBroker.model_construct(), description="The broker on which its MQTT sensors publish."
    )
    spool: Spool = Field(Spool.model_construct(), description="What it keeps while the link is down.")
    outputs: Annotated[tuple[Output, ...], Listed] = Field(
        (), description="Sirens, beacons and relays that it switches by itself: nothing else is ever written."
    )
    acknowledge: Annotated[tuple[Button, ...], Listed] = Field(
        (), description="Push-buttons that acknowledge its alarms."
    )
    devices: Annotated[tuple[Device, ...], Listed] = Field((), description="What it reads.")

    @model_validator(mode="after")
    def _two_brokers(self) -> Self:
        local = self.sensors
        if local.host_local and (local.host, local.port) in {(each.host, each.port) for each in self.uplink.servers}:
            msg = "the broker that it runs for its sensors cannot be the cloud side's: give one of them another port"
            raise ValueError(msg)
        return self


class Computed(Strict):
    """A value worked out of the readings of other points, then shown and alarmed on like any point."""

    id: Identifier = Field(description="Unique among all points.")
    name: Name = Field(description="What people call it.")
    kind: Annotated[PointKind, Field(strict=False)] = Field(
        PointKind.GENERIC,
        description="A vote or a median of it gets the kind's set points and delays, by its members' gas or place.",
    )
    unit: str | None = Field(None, description="Engineering unit; the members' or the rule's if left out.")
    range: Range | None = Field(None, description="Range [low, high]; the members' or the rule's if left out.")
    decimals: Annotated[int, Field(ge=0, le=6)] | None = Field(
        None, description="Digits shown after the point; the members' or the rule's if left out."
    )
    source: Identifier | None = Field(None, description="Hazard source it belongs to.")
    from_: Compute = Field(alias="from", description="The rule, and what it is computed from.")
    alarms: dict[Annotated[AlarmKind, Field(strict=False)], AlarmSetting | Literal[False]] = Field(
        default_factory=dict, description="Overrides by alarm kind; `false` takes a definition away."
    )


class FirstOut(Strict):
    """Alarms that often come together: of which it is told which came first."""

    id: Identifier = Field(description="Unique among the groups.")
    name: Name = Field(description="What people call it.")
    alarms: Annotated[tuple[Annotated[str, StringConstraints(pattern=ALARM)], ...], Listed] = Field(
        min_length=2, description="The alarms, each POINT/KIND."
    )


class Site(Strict):
    """The plant's place (厂区); `id` is the Sparkplug group."""

    id: Identifier = Field(description="The Sparkplug group.")
    name: Name = Field(description="What people call it.")
    timezone: str = Field("Asia/Shanghai", description="IANA time zone of rosters, tickets and messages.")


class HazardSource(Strict):
    """A major hazard source (重大危险源) and its grade by GB 18218-2018 table 6 (1 is the gravest)."""

    id: Identifier = Field(description="Unique in the plant.")
    name: Name = Field(description="What people call it.")
    level: Annotated[int, Field(ge=1, le=4)] | None = Field(None, description="Grade, 1 (gravest) to 4.")


class Person(Strict):
    """Somebody who can be told, and the channels that reach them, as Apprise addresses, best first."""

    id: Identifier = Field(description="Unique among people and rosters.")
    name: Name = Field(description="What people call them.")
    channels: Annotated[tuple[Annotated[str, StringConstraints(pattern=CHANNEL)], ...], Listed] = Field(
        min_length=1, description="How they are reached; a message goes over all of them."
    )


ClockTime = Annotated[str, StringConstraints(pattern=TIME_OF_DAY)]


class Shift(Strict):
    """Who is on duty from one time of day to another, in the site's time zone; may pass midnight."""

    from_: ClockTime = Field(alias="from", description="First minute of the shift.")
    to: ClockTime = Field(description="End of the shift; the same as `from` means the whole day.")
    people: Annotated[tuple[Identifier, ...], Listed] = Field(min_length=1, description="Ids of the people on duty.")

    def covers(self, time: str) -> bool:
        """Whether `time` of day (HH:MM) lies in the shift; one that ends when it begins lasts the whole day."""
        if self.from_ >= self.to:
            return time >= self.from_ or time < self.to
        return self.from_ <= time < self.to


class Roster(Strict):
    """A duty roster (值班表): shifts that repeat every day."""

    id: Identifier = Field(description="Unique among people and rosters.")
    name: Name = Field(description="What people call it.")
    shifts: Annotated[tuple[Shift, ...], Listed] = Field(
        min_length=1, description="Who is there when; shifts may overlap."
    )


class EscalationStep(Strict):
    """Who is told when nobody has answered for so long."""

    after_s: Seconds = Field(description="Time since the alarm; never less than that of the step above.")
    to: Annotated[tuple[Identifier, ...], Listed] = Field(min_length=1, description="Roster or person ids.")


class Notify(Strict):
    """When people are told, whom, and how it escalates (升级) until somebody acknowledges."""

    min_priority: Annotated[Priority, Field(strict=False)] = Field(
        Priority.HIGH, description="Alarms from this priority on are told."
    )
    steps: Annotated[tuple[EscalationStep, ...], Listed] = Field(
        (), description="Whom, in order; each step must reach somebody at every time of day."
    )
    repeat_s: Annotated[float, Field(ge=30, le=86400)] = Field(
        300.0, description="The last step is repeated this often until acknowledged."
    )


class Tickets(Strict):
    """When hazard tickets (隐患) open by themselves, and their deadlines."""

    min_priority: Annotated[Priority, Field(strict=False)] = Field(
        Priority.HIGH, description="Process alarms from this priority on open a ticket."
    )
    deadline_h: Annotated[float, Field(gt=0, le=8760)] = Field(
        72.0, description="Hours until the hazard must be put right."
    )
    liable: Identifier | None = Field(None, description="Person answerable for putting it right (整改责任人).")


class PlantFile(Strict):
    """plant.yaml: one plant, whole."""

    tocsin: Literal[1] = Field(description="Version of this format.")
    site: Site = Field(description="The plant's place.")
    hazard_sources: Annotated[tuple[HazardSource, ...], Listed] = Field(
        (), description="Major hazard sources; points belong to them."
    )
    gateways: Annotated[tuple[Gateway, ...], Listed] = Field(
        min_length=1, description="Gateways, with their devices and points."
    )
    computed: Annotated[tuple[Computed, ...], Listed] = Field((), description="Values worked out of other points.")
    first_out: Annotated[tuple[FirstOut, ...], Listed] = Field(
        (), description="Groups of alarms of which it is told which came first."
    )
    people: Annotated[tuple[Person, ...], Listed] = Field((), description="Who can be told.")
    rosters: Annotated[tuple[Roster, ...], Listed] = Field((), description="Who is on duty when.")
    notify: Notify = Field(
        Notify.model_construct(), description="Who is told of an alarm, and who next if nobody answers."
    )
    tickets: Tickets = Field(Tickets.model_construct(), description="When hazard tickets open by themselves.")
