"""What produces the quantities of a plant: each source steps through time from its inputs and what it has seen."""

from collections.abc import Mapping, Sequence
from math import exp, sqrt
from typing import Protocol

import numpy as np

from tocsin_sim.physics import ammonia, plume
from tocsin_sim.simulation import Airway, Record, Release, Room, SourceConfig, Vessel, Wander

SECONDS_PER_HOUR = 3600.0
AMMONIA_LEL_PCT = 15.0  # %VOL, IEC 60079-20-1

Quantities = Mapping[str, float]


class Source(Protocol):
    """One source at one moment."""

    def step(self, time_s: float, dt_s: float, inputs: Quantities, seen: Quantities) -> Quantities:
        """Advance by `dt_s` to `time_s` and return the outputs by name; `seen` holds those of the sources before it."""


def source_of(config: SourceConfig, rng: np.random.Generator, table: Sequence["Row"]) -> Source:
    """Make the source that `config` describes; `table` is the recorded table that is played, empty without one."""
    match config:
        case Wander():
            return _Wandering(config, rng)
        case Vessel():
            return _AmmoniaVessel(config)
        case Release():
            return _Leak(config)
        case Room():
            return _MixedRoom(config)
        case Airway():
            return _CoalFace(config)
        case Record():
            return _Played(table)


Row = tuple[float, Quantities]


def relax(value: float, target: float, dt_s: float, tau_s: float) -> float:
    """Let a first-order lag go on for `dt_s` (exact for a target that stays)."""
    return target if tau_s <= 0.0 else target + (value - target) * exp(-dt_s / tau_s)


class _Wandering:
    """Ornstein-Uhlenbeck noise about means that scenarios may move."""

    def __init__(self, config: Wander, rng: np.random.Generator) -> None:
        self._config = config
        self._rng = rng
        self._away = {
            name: value.sigma * float(draw)
            for (name, value), draw in zip(config.values.items(), rng.standard_normal(len(config.values)), strict=True)
        }

    def step(self, time_s: float, dt_s: float, inputs: Quantities, seen: Quantities) -> Quantities:
        del time_s, seen
        draws = self._rng.standard_normal(len(self._away))
        for (name, value), draw in zip(self._config.values.items(), draws, strict=True):
            keep = exp(-dt_s / value.tau_s)
            self._away[name] = self._away[name] * keep + value.sigma * sqrt(1.0 - keep * keep) * float(draw)
        return {name: inputs[name] + away for name, away in self._away.items()}


class _AmmoniaVessel:
    """Mass and heat balance of saturated liquid; the little that is vapour is left out of both."""

    def __init__(self, config: Vessel) -> None:
        self._config = config
        self._height, self._volume = ammonia.filling_table()
        self._temperature = config.temperature_c
        self._mass = config.volume_pct / 100.0 * config.volume_m3 * ammonia.liquid_density_kg_m3(config.temperature_c)
        self._level = self._level_m()

    def _share(self) -> float:
        liquid_m3 = self._mass / ammonia.liquid_density_kg_m3(self._temperature)
        return min(liquid_m3 / self._config.volume_m3, 1.0)

    def _level_m(self) -> float:
        return float(np.interp(self._share(), self._volume, self._height)) * self._config.diameter_m

    def step(self, time_s: float, dt_s: float, inputs: Quantities, seen: Quantities) -> Quantities:
        del time_s
        config = self._config
        inflow, outflow = inputs["inflow_kg_s"], inputs["outflow_kg_s"]
        heat = config.ambient_w_per_k * (seen[config.ambient] - self._temperature)
        heat += inflow * ammonia.LIQUID_HEAT_J_KG_K * (config.inflow_temperature_c - self._temperature)
        self._temperature += heat * dt_s / (max(self._mass, 1.0) * ammonia.LIQUID_HEAT_J_KG_K)
        self._mass = max(self._mass + (inflow - outflow) * dt_s, 0.0)
        before, self._level = self._level, self._level_m()
        return {
            "level_m": self._level,
            "volume_pct": 100.0 * self._share(),
            "level_rate_m_h": (self._level - before) / dt_s * SECONDS_PER_HOUR,
            "pressure_bar": ammonia.saturation_pressure_bar(self._temperature) - ammonia.ATMOSPHERE_BAR,
            "temperature_c": self._temperature,
            "mass_kg": self._mass,
        }


class _Leak:
    """A plume whose concentration at each receptor follows the wind and the rate, late by the way between them."""

    def __init__(self, config: Release) -> None:
        self._config = config
        self._ppm = dict.fromkeys(config.receptors, 0.0)

    def step(self, time_s: float, dt_s: float, inputs: Quantities, seen: Quantities) -> Quantities:
        del time_s
        config = self._config
        wind, blows_from = seen[config.wind_speed], seen[config.wind_from]
        for name, place in config.receptors.items():
            steady = plume.concentration(inputs["rate_kg_s"], config.place, place, wind, blows_from, config.width_m)
            travel = plume.travel_time_s(config.place, place, wind)
            self._ppm[name] = relax(self._ppm[name], ammonia.ppm_of(steady), dt_s, travel)
        return dict(self._ppm)


class _MixedRoom:
    """dc/dt = rate / volume - air changes * c."""

    def __init__(self, config: Room) -> None:
        self._config = config
        self._kg_m3 = 0.0

    def step(self, time_s: float, dt_s: float, inputs: Quantities, seen: Quantities) -> Quantities:
        del time_s, seen
        changes_s = max(inputs["air_changes_h"], 0.01) / SECONDS_PER_HOUR
        steady = inputs["rate_kg_s"] / (self._config.volume_m3 * changes_s)
        self._kg_m3 = relax(self._kg_m3, steady, dt_s, 1.0 / changes_s)
        ppm = ammonia.ppm_of(self._kg_m3)
        return {"ppm": ppm, "lel_pct": ppm / 1e4 / AMMONIA_LEL_PCT * 100.0}


class _CoalFace:
    """Gas given off into the face's air: concentration is emission over airflow, late by the way along the face."""

    def __init__(self, config: Airway) -> None:
        self._config = config
        self._methane_pct = config.methane_m3_min / (config.airflow_m3_s * 60.0) * 100.0
        self._co_ppm = config.co_l_min / 1000.0 / (config.airflow_m3_s * 60.0) * 1e6

    def step(self, time_s: float, dt_s: float, inputs: Quantities, seen: Quantities) -> Quantities:
        del time_s, seen
        air_m3_min = max(inputs["airflow_m3_s"], 0.1) * 60.0
        mixing = self._config.mixing_s
        self._methane_pct = relax(self._methane_pct, inputs["methane_m3_min"] / air_m3_min * 100.0, dt_s, mixing)
        self._co_ppm = relax(self._co_ppm, inputs["co_l_min"] / 1000.0 / air_m3_min * 1e6, dt_s, mixing)
        wind = inputs["airflow_m3_s"] / self._config.area_m2
        return {"methane_pct": self._methane_pct, "co_ppm": self._co_ppm, "wind_m_s": wind}


class _Played:
    """A recorded table, row by row at its own times, from the top again when it is over."""

    def __init__(self, table: Sequence[Row]) -> None:
        self._times = np.array([time for time, _ in table])
        self._rows = [row for _, row in table]
        # One more typical interval, so that the last row is shown as long as the others.
        self._length = float(self._times[-1] + np.median(np.diff(self._times))) if len(table) > 1 else 1.0

    def step(self, time_s: float, dt_s: float, inputs: Quantities, seen: Quantities) -> Quantities:
        del dt_s, inputs, seen
        at = int(np.searchsorted(self._times, time_s % self._length, side="right")) - 1
        return self._rows[max(at, 0)]
