"""simulation.yaml: the strict models of a plant's physics, instruments and scenarios, and their loading as a whole."""

from importlib.resources.abc import Traversable
from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from tocsin_core.plant.fields import Host, Port
from tocsin_core.plant.model import Broker
from tocsin_core.plant.source import Path, Source
from tocsin_core.plant.yaml_text import read_yaml

SIMULATION_FILE: Final = "simulation.yaml"

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def _tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


Place = Annotated[tuple[Finite, Finite, Finite], BeforeValidator(_tuple)]
Names = Annotated[tuple[str, ...], BeforeValidator(_tuple)]


class SimulationError(Exception):
    """A simulation.yaml that does not hold, one problem a line, each with file and line."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Wanderer(_Strict):
    """A quantity that wanders about its mean: first-order noise of this spread and memory."""

    mean: Finite
    sigma: NotNegative = 0.0
    tau_s: Positive = 60.0


class Wander(_Strict):
    """Quantities that no balance is drawn up for. Each is an input (its mean) and an output of the same name."""

    type: Literal["wander"]
    values: dict[str, Wanderer] = Field(min_length=1)


class Vessel(_Strict):
    """A lying vessel of saturated liquid ammonia. Inputs: inflow_kg_s, outflow_kg_s.

    Outputs: level_m, volume_pct, level_rate_m_h, pressure_bar (gauge), temperature_c, mass_kg.
    """

    type: Literal["ammonia-vessel"]
    volume_m3: Positive
    diameter_m: Positive
    volume_pct: Annotated[float, Field(gt=0, lt=100)]
    temperature_c: Annotated[float, Field(ge=-33, le=50)]
    inflow_kg_s: NotNegative = 0.0
    outflow_kg_s: NotNegative = 0.0
    inflow_temperature_c: Finite
    ambient: str = Field(description="Quantity: temperature around it, degC.")
    ambient_w_per_k: NotNegative = Field(description="Heat let in through the shell for each degree of difference.")


class Release(_Strict):
    """A leak in the open. Input: rate_kg_s. One output for each receptor: ppm."""

    type: Literal["release"]
    place: Place = Field(description="x east, y north, z up, m.")
    width_m: Positive = Field(description="Size of the cloud where the jet has spent itself.")
    wind_speed: str
    wind_from: str
    receptors: dict[str, Place] = Field(min_length=1)


class Room(_Strict):
    """A well-mixed, ventilated room. Inputs: rate_kg_s (ammonia), air_changes_h. Outputs: ppm, lel_pct."""

    type: Literal["room"]
    volume_m3: Positive
    air_changes_h: Positive


class Airway(_Strict):
    """A ventilated coal face.

    Inputs: methane_m3_min, co_l_min, airflow_m3_s. Outputs: methane_pct, co_ppm, wind_m_s.
    """

    type: Literal["airway"]
    area_m2: Positive
    mixing_s: Positive = Field(description="Time constant of the gas being carried along.")
    methane_m3_min: NotNegative
    co_l_min: NotNegative
    airflow_m3_s: Positive


class Record(_Strict):
    """A recorded table (semicolon CSV), given with --play: one output for each column."""

    type: Literal["record"]
    time: str = Field(description="Column of the time stamps, YYYY-MM-DD HH:MM:SS.")
    columns: Names = Field(min_length=1)


SourceConfig = Annotated[Wander | Vessel | Release | Room | Airway | Record, Field(discriminator="type")]


class Flag(_Strict):
    """A bit that an instrument sets itself: while another of its values is at or above `at`, or on and off by time."""

    bit: Annotated[int, Field(ge=0, le=15)]
    of: str | None = None
    at: Finite | None = None
    every_s: Positive | None = None


class Signal(_Strict):
    """What a value of an instrument shows: the sum of quantities * gain + offset; lagged, noisy, quantised, clipped."""

    quantity: Annotated[tuple[str, ...], BeforeValidator(lambda v: (v,) if isinstance(v, str) else _tuple(v))] = ()
    gain: Finite = 1.0
    offset: Finite = 0.0
    t90_s: NotNegative = Field(0.0, description="Time to 90 % of a step, the sensor being of first order.")
    noise: NotNegative = Field(0.0, description="Standard deviation.")
    resolution: NotNegative = 0.0
    low: Finite | None = None
    high: Finite | None = None
    flags: Annotated[tuple[Flag, ...], BeforeValidator(_tuple)] = ()


class _Timed(_Strict):
    start_s: NotNegative
    duration_s: Positive


class SetInput(_Timed):
    """A source's input goes to a value, rising and falling in a straight line: leaks, pumps, surges, blocked lines."""

    effect: Literal["set"]
    input: str = Field(description="source.input")
    to: Finite
    rise_s: NotNegative = 0.0
    fall_s: NotNegative = 0.0


class Stuck(_Timed):
    """A value of an instrument keeps what it showed."""

    effect: Literal["stuck"]
    device: str
    value: str


class Fault(_Timed):
    """A value of an instrument is another one: a status word that tells of a fault, or a nonsense reading."""

    effect: Literal["fault"]
    device: str
    value: str
    to: float


class Silent(_Timed):
    """A device takes connections and requests and never answers; an MQTT sensor publishes nothing."""

    effect: Literal["silent"]
    device: str


class LinkCut(_Timed):
    """The gateway's link is cut: its proxy drops every connection and takes none."""

    effect: Literal["link-cut"]
    gateway: str


Effect = Annotated[SetInput | Stuck | Fault | Silent | LinkCut, Field(discriminator="effect")]


class Scenario(_Strict):
    """What happens, as a list of effects."""

    description: str
    effects: Annotated[tuple[Effect, ...], BeforeValidator(_tuple)] = ()


class Link(_Strict):
    """A TCP proxy in front of a gateway's broker, for the gateway to be pointed at where its link is to be cut."""

    gateway: str
    host: Host = "127.0.0.1"
    port: Port
    to: Broker


class Simulation(_Strict):
    """simulation.yaml, whole."""

    tocsin_sim: Literal[1]
    default_scenario: str
    sources: dict[str, SourceConfig]
    instruments: dict[str, dict[str, Signal | Finite]]
    links: Annotated[tuple[Link, ...], BeforeValidator(_tuple)] = ()
    scenarios: dict[str, Scenario]

    @property
    def record(self) -> tuple[str, Record] | None:
        """The recorded table's name and description, where the simulation plays one."""
        return next(((name, source) for name, source in self.sources.items() if isinstance(source, Record)), None)


def load_simulation(folder: Traversable) -> Simulation:
    """Read and validate the simulation.yaml of a plant folder.

    Raises:
        SimulationError: it is missing, or does not hold; every problem with its line.
    """
    path = folder.joinpath(SIMULATION_FILE)
    if not path.is_file():
        raise SimulationError(f"{SIMULATION_FILE}: not in this plant's folder: there is nothing to simulate")
    source = read_yaml(path.read_text(encoding="utf-8"), SIMULATION_FILE)
    simulation = None
    if not source.problems:
        try:
            simulation = Simulation.model_validate(source.data)
        except ValidationError as error:
            for part in error.errors():
                source.problem(_path_in(source, part["loc"]), part["msg"].removeprefix("Value error, "))
        else:
            _check(simulation, source)
    if source.problems or simulation is None:
        raise SimulationError("\n".join(map(str, source.problems)))
    return simulation


def _path_in(source: Source, location: tuple[int | str, ...]) -> Path:
    """Keep the steps of an error's location that the file has: unions add steps of their own."""
    path: Path = ()
    for step in location:
        if (*path, step) in source.places:
            path = (*path, step)
    return path


def links_cut(simulation: Simulation, scenario: str) -> tuple[Link, ...]:
    """Return the links that an effect of the scenario cuts: those alone are opened, so that the other ports stay free.

    Raises:
        SimulationError: there is no such scenario.
    """
    if scenario not in simulation.scenarios:
        raise SimulationError(f"no scenario {scenario!r}; there are: {', '.join(simulation.scenarios)}")
    cut = {effect.gateway for effect in simulation.scenarios[scenario].effects if isinstance(effect, LinkCut)}
    return tuple(link for link in simulation.links if link.gateway in cut)


def outputs_of(source: SourceConfig) -> tuple[str, ...]:
    """Name the quantities a source gives."""
    match source:
        case Wander():
            return tuple(source.values)
        case Vessel():
            return ("level_m", "volume_pct", "level_rate_m_h", "pressure_bar", "temperature_c", "mass_kg")
        case Release():
            return tuple(source.receptors)
        case Room():
            return ("ppm", "lel_pct")
        case Airway():
            return ("methane_pct", "co_ppm", "wind_m_s")
        case Record():
            return source.columns


def inputs_of(source: SourceConfig) -> dict[str, float]:
    """Name the inputs that a scenario may set, with their values when nothing happens."""
    match source:
        case Wander():
            return {name: value.mean for name, value in source.values.items()}
        case Vessel():
            return {"inflow_kg_s": source.inflow_kg_s, "outflow_kg_s": source.outflow_kg_s}
        case Release():
            return {"rate_kg_s": 0.0}
        case Room():
            return {"rate_kg_s": 0.0, "air_changes_h": source.air_changes_h}
        case Airway():
            return {
                "methane_m3_min": source.methane_m3_min,
                "co_l_min": source.co_l_min,
                "airflow_m3_s": source.airflow_m3_s,
            }
        case Record():
            return {}


def _check(simulation: Simulation, source: Source) -> None:
    """Note every name that leads nowhere."""
    _check_quantities(simulation, source)
    if simulation.default_scenario not in simulation.scenarios:
        source.problem(("default_scenario",), f"no scenario {simulation.default_scenario!r}")
    for name, scenario in simulation.scenarios.items():
        for index, effect in enumerate(scenario.effects):
            _check_effect(simulation, effect, ("scenarios", name, "effects", index), source)


def _check_quantities(simulation: Simulation, source: Source) -> None:
    outputs: set[str] = set()
    for name, config in simulation.sources.items():
        for key in ("ambient", "wind_speed", "wind_from"):
            quantity = getattr(config, key, None)
            if quantity is not None and quantity not in outputs:
                source.problem(("sources", name, key), f"no quantity {quantity!r} above this source")
        outputs |= {f"{name}.{output}" for output in outputs_of(config)}
    for device, values in simulation.instruments.items():
        for value, signal in values.items():
            for quantity in signal.quantity if isinstance(signal, Signal) else ():
                if quantity not in outputs:
                    source.problem(("instruments", device, value, "quantity"), f"no quantity {quantity!r}")


def _check_effect(simulation: Simulation, effect: Effect, where: Path, source: Source) -> None:
    match effect:
        case SetInput():
            inputs = [f"{name}.{key}" for name, config in simulation.sources.items() for key in inputs_of(config)]
            if effect.input not in inputs:
                source.problem((*where, "input"), f"no input {effect.input!r}; there are: {', '.join(inputs)}")
        case Stuck() | Fault():
            if effect.value not in simulation.instruments.get(effect.device, {}):
                source.problem((*where, "value"), f"device {effect.device!r} has no simulated {effect.value!r}")
        case Silent():
            if effect.device not in simulation.instruments:
                source.problem((*where, "device"), f"no simulated device {effect.device!r}")
        case LinkCut():
            if effect.gateway not in {link.gateway for link in simulation.links}:
                source.problem((*where, "gateway"), f"no link of gateway {effect.gateway!r}")
