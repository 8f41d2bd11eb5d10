"""The simulated plant as a whole: sources and instruments stepped through scenario time, seeded, without a clock."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import nan
from typing import Final

from tocsin_core.plant import Plant
from tocsin_core.plant.model import Device
from tocsin_core.registers import Profile, encode
from tocsin_core.sensors import PathError, sparkplug_source
from tocsin_sim.payloads import FormError, content, said, topic_of, with_time
from tocsin_sim.physics.instruments import Shown
from tocsin_sim.physics.sources import Row, source_of
from tocsin_sim.physics.streams import stream
from tocsin_sim.scenario import Moment, moment
from tocsin_sim.simulation import Signal, Simulation, SimulationError, inputs_of

STEP_S: Final = 0.1

Registers = Mapping[tuple[int, int], int]


class World:
    """A plant in a scenario; the same seed and scenario give the same registers at the same scenario time."""

    def __init__(
        self, plant: Plant, simulation: Simulation, scenario: str, seed: int, table: Sequence[Row] = ()
    ) -> None:
        """Set up at scenario time 0.

        Raises:
            SimulationError: a scenario, device or value is not there, or a record is to be played and none is given.
        """
        self._devices = {device.id: device for gateway in plant.file.gateways for device in gateway.devices}
        problems = list(_problems(plant, simulation, self._devices, scenario, table))
        if problems:
            raise SimulationError("\n".join(problems))
        self.scenario = simulation.scenarios[scenario]
        self.time_s = 0.0
        self._steps = 0
        self._profiles = plant.profiles
        self._inputs = {
            f"{name}.{key}": value
            for name, config in simulation.sources.items()
            for key, value in inputs_of(config).items()
        }
        self._sources = {
            name: (source_of(config, stream(seed, name), table), tuple(inputs_of(config)))
            for name, config in simulation.sources.items()
        }
        self._constants = {
            device: {name: signal for name, signal in values.items() if not isinstance(signal, Signal)}
            for device, values in simulation.instruments.items()
        }
        self._blank = {
            device: dict(_blank(plant.profiles[profile]))
            for device in simulation.instruments
            if (profile := self._devices[device].profile) is not None
        }
        self._signals = {
            device: {
                name: Shown(signal, stream(seed, f"{device}.{name}"))
                for name, signal in values.items()
                if isinstance(signal, Signal)
            }
            for device, values in simulation.instruments.items()
        }
        self._shown: dict[str, dict[str, float]] = {device: {} for device in simulation.instruments}
        self.moment = Moment()
        self._step()

    def advance(self, time_s: float) -> None:
        """Step on until scenario time reaches `time_s`."""
        while (self._steps + 1) * STEP_S <= time_s + STEP_S / 2:
            self._steps += 1
            self._step()

    def shown(self, device: str) -> Mapping[str, float]:
        """Return what the values of a device show, by name: register values, or paths in a JSON payload."""
        return self._shown[device]

    def registers(self, device: str) -> Registers:
        """Return the registers of a Modbus device: {(function, wire address): content}.

        Every address between a function's first and last is there but the profile's illegal ones; floats that are not
        simulated are NaN, so that nothing takes them for a measurement.
        """
        profile = self._profiles[self._devices[device].profile or ""]
        image = dict(self._blank[device])
        for name, value in self._shown[device].items():
            function = profile.values[name].function
            image.update({(function, address): word for address, word in encode(profile, name, value).items()})
        return image

    def payload(self, device: str) -> object:
        """Return what an MQTT sensor publishes, as decoded JSON, without its time."""
        mqtt = self._devices[device].mqtt
        if mqtt is None:
            raise ValueError(f"{device} is not an MQTT sensor")
        return content(said(mqtt, self._shown[device]))

    def _step(self) -> None:
        self.time_s = self._steps * STEP_S
        self.moment = moment(self.scenario, self._inputs, self.time_s)
        inputs = {**self._inputs, **self.moment.inputs}
        seen: dict[str, float] = {}
        for name, (source, keys) in self._sources.items():
            own = {key: inputs[f"{name}.{key}"] for key in keys}
            outputs = source.step(self.time_s, STEP_S, own, seen)
            seen.update({f"{name}.{key}": value for key, value in outputs.items()})
        for device, signals in self._signals.items():
            self._show(device, signals, seen)

    def _show(self, device: str, signals: Mapping[str, Shown], seen: Mapping[str, float]) -> None:
        before, now = self._shown[device], dict(self._constants[device])
        for name, signal in signals.items():
            value = signal.step(self.time_s, STEP_S, seen, now)
            now[name] = before[name] if (device, name) in self.moment.stuck and name in before else value
        now.update({name: value for (owner, name), value in self.moment.false.items() if owner == device})
        self._shown[device] = now


def _unsayable(device: Device, paths: Iterable[str]) -> Iterator[str]:
    """Say why an MQTT sensor cannot speak as the plant file says."""
    mqtt = device.mqtt
    if mqtt is None or sparkplug_source(mqtt.topic) is not None:
        return
    try:
        topic_of(mqtt, device.id)
        if mqtt.offline is not None:
            topic_of(mqtt, device.id, mqtt.offline.topic)
        content(with_time(mqtt, dict.fromkeys(paths, 0.0), 0))
    except (FormError, PathError) as error:
        yield str(error)


def _blank(profile: Profile) -> Iterator[tuple[tuple[int, int], int]]:
    for function in sorted({value.function for value in profile.values.values()}):
        own = [value for value in profile.values.values() if value.function == function]
        first, stop = min(value.address for value in own), max(value.address + value.words for value in own)
        illegal = [(bad.first, bad.last) for bad in profile.illegal if bad.function == function]
        for address in range(first, stop):
            if not any(low <= address <= high for low, high in illegal):
                yield (function, address), 0
    for name, value in profile.values.items():
        if value.type in {"f32", "f64"}:
            yield from (((value.function, address), word) for address, word in encode(profile, name, nan).items())


def _problems(
    plant: Plant, simulation: Simulation, devices: Mapping[str, Device], scenario: str, table: Sequence[Row]
) -> Iterator[str]:
    if scenario not in simulation.scenarios:
        yield f"no scenario {scenario!r}; there are: {', '.join(simulation.scenarios)}"
    if simulation.record is not None and not table:
        yield f"plant {plant.name} plays a recorded table: give one with --play FILE.csv"
    if simulation.record is None and table:
        yield f"plant {plant.name} has no registers for a recorded table: it cannot --play one"
    for device_id, values in simulation.instruments.items():
        device = devices.get(device_id)
        if device is None:
            yield f"simulation.yaml: instruments.{device_id}: no such device in plant.yaml"
        elif device.mqtt is not None:
            yield from (
                f"simulation.yaml: instruments.{device_id}: {problem}" for problem in _unsayable(device, values)
            )
        elif device.profile is not None:
            known = plant.profiles[device.profile].values
            missing = [name for name in values if name not in known]
            yield from (
                f"simulation.yaml: instruments.{device_id}.{name}: not in profile {device.profile}" for name in missing
            )
    known_gateways = {gateway.id for gateway in plant.file.gateways}
    for link in simulation.links:
        if link.gateway not in known_gateways:
            yield f"simulation.yaml: links: no gateway {link.gateway!r} in plant.yaml"
