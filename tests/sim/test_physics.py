"""The simulator's physics against published numbers and conservation."""

from itertools import pairwise
from math import isclose

import numpy as np
import pytest

from tocsin_sim.physics import ammonia, plume
from tocsin_sim.physics.instruments import Shown
from tocsin_sim.physics.sources import source_of
from tocsin_sim.simulation import Airway, Release, Room, Signal, Vessel

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("temperature_c", "bar"), [(-33.33, 1.013), (-20, 1.901), (0, 4.294), (20, 8.575), (30, 11.67), (40, 15.55)]
)
def test_ammonia_boils_where_the_tables_say(temperature_c: float, bar: float) -> None:
    """The saturation curve meets the published vapour pressures within 2 %."""
    assert ammonia.saturation_pressure_bar(temperature_c) == pytest.approx(bar, rel=0.02)


def test_the_exposure_limit_is_28_ppm() -> None:
    """20 mg/m3 of ammonia are 28 ppm at 20 degC, as the alarm levels have it."""
    assert ammonia.ppm_of(20e-6) == pytest.approx(28.3, abs=0.1)


def test_a_lying_cylinder_is_half_full_at_half_its_height() -> None:
    """The filling table rises from empty to full and is symmetric."""
    height, volume = ammonia.filling_table()
    assert volume[0] == 0
    assert volume[-1] == pytest.approx(1)
    assert np.all(np.diff(volume) > 0)
    assert np.interp(0.5, height, volume) == pytest.approx(0.5)
    assert volume == pytest.approx(1 - volume[::-1])


@pytest.mark.parametrize("distance_m", [3.0, 10.0, 40.0])
def test_the_plume_carries_what_leaks(distance_m: float) -> None:
    """Concentration times wind over a plane across the plume is the leak's rate."""
    rate, wind, step = 0.01, 2.0, 0.05
    across = np.arange(-20, 20, step)
    up = np.arange(step / 2, 20, step)
    centre = plume.concentration(rate, (0, 0, 0.8), (distance_m, 0, 0.8), wind, 270, 0.5)
    line = np.array([plume.concentration(rate, (0, 0, 0.8), (distance_m, y, 0.8), wind, 270, 0.5) for y in across])
    column = np.array([plume.concentration(rate, (0, 0, 0.8), (distance_m, 0, z), wind, 270, 0.5) for z in up])
    # The profile is a product of one across and one upwards, so two lines through the centre give the plane.
    assert line.sum() * column.sum() / centre * step * step * wind == pytest.approx(rate, rel=0.01)


def test_the_plume_thins_downwind_and_leaves_upwind_alone() -> None:
    """Farther is less, and nothing arrives against the wind."""
    found = [plume.concentration(1e-3, (0, 0, 1), (x, 0, 1), 2, 270, 0.5) for x in (2, 5, 10, 30)]
    assert all(near > far > 0 for near, far in pairwise(found))
    assert plume.concentration(1e-3, (0, 0, 1), (-2, 0, 1), 2, 270, 0.5) == 0
    assert plume.concentration(1e-3, (0, 0, 1), (0, -5, 1), 2, 0, 0.5) > 0


def test_a_detector_shows_90_percent_of_a_step_after_its_t90() -> None:
    """T90 is what the data sheets mean by it."""
    shown = Shown(Signal(quantity=("gas",), t90_s=20.0), RNG)
    shown.step(0.0, 0.1, {"gas": 0.0}, {})
    values = [shown.step(0.1 * n, 0.1, {"gas": 100.0}, {}) for n in range(1, 401)]
    assert values[199] == pytest.approx(90, abs=0.1)
    assert values[-1] == pytest.approx(99, abs=0.1)


def test_an_instrument_clips_quantises_and_sets_its_flags() -> None:
    """A reading stays in range on whole steps, and the alarm bits follow it."""
    shown = Shown(Signal(quantity=("gas",), resolution=0.5, low=0.0, high=100.0), RNG)
    assert shown.step(0, 0.1, {"gas": 28.3}, {}) == 28.5
    assert shown.step(0, 0.1, {"gas": 400.0}, {}) == 100.0
    flags = Signal.model_validate(
        {"offset": 1, "flags": [{"bit": 6, "of": "gas", "at": 28}, {"bit": 11, "every_s": 2}]}
    )
    state = Shown(flags, RNG)
    assert state.step(0.0, 0.1, {}, {"gas": 27.9}) == 1
    assert state.step(1.0, 0.1, {}, {"gas": 28.0}) == 1 + 64
    assert state.step(2.0, 0.1, {}, {"gas": 0.0}) == 1 + 2048


def test_a_vessel_keeps_its_mass_balance_and_follows_the_saturation_curve() -> None:
    """What comes in stays in; pressure is the vapour pressure at the liquid's temperature."""
    vessel = Vessel(
        type="ammonia-vessel",
        volume_m3=50,
        diameter_m=2.6,
        volume_pct=50,
        temperature_c=20,
        inflow_temperature_c=30,
        ambient="air",
        ambient_w_per_k=0,
    )
    source = source_of(vessel, RNG, ())
    still = source.step(0, 0.1, {"inflow_kg_s": 0, "outflow_kg_s": 0}, {"air": 20.0})
    filled = [source.step(0, 0.1, {"inflow_kg_s": 10, "outflow_kg_s": 2}, {"air": 20.0}) for _ in range(6000)][-1]
    assert filled["mass_kg"] - still["mass_kg"] == pytest.approx(8 * 600)
    assert filled["level_m"] > still["level_m"] == pytest.approx(1.3, abs=0.001)
    assert 20 < filled["temperature_c"] < 30
    expected = ammonia.saturation_pressure_bar(filled["temperature_c"]) - ammonia.ATMOSPHERE_BAR
    assert filled["pressure_bar"] == pytest.approx(expected)


def test_a_room_settles_where_leak_and_ventilation_balance() -> None:
    """In the end concentration is rate over air flow."""
    source = source_of(Room(type="room", volume_m3=900, air_changes_h=12), RNG, ())
    shown = [source.step(0, 0.1, {"rate_kg_s": 1e-4, "air_changes_h": 12}, {}) for _ in range(30000)][-1]
    assert shown["ppm"] == pytest.approx(ammonia.ppm_of(1e-4 / (900 * 12 / 3600)), rel=0.001)


def test_a_coal_face_thins_its_gas_by_its_air() -> None:
    """4.8 m3/min into 1200 m3/min are 0.4 %, and half the air makes it 0.8 %."""
    face = Airway(type="airway", area_m2=12, mixing_s=8, methane_m3_min=4.8, co_l_min=2.4, airflow_m3_s=20)
    source = source_of(face, RNG, ())
    inputs = {"methane_m3_min": 4.8, "co_l_min": 2.4, "airflow_m3_s": 20.0}
    assert isclose(source.step(0, 0.1, inputs, {})["methane_pct"], 0.4)
    shown = [source.step(0, 0.1, {**inputs, "airflow_m3_s": 10.0}, {}) for _ in range(1000)][-1]
    assert shown["methane_pct"] == pytest.approx(0.8, rel=0.001)
    assert shown["wind_m_s"] == pytest.approx(10 / 12)


def test_a_leak_arrives_later_where_it_is_farther() -> None:
    """The nearer receptor reaches half of its final value first."""
    release = Release(
        type="release",
        place=(0, 0, 1),
        width_m=0.5,
        wind_speed="wind",
        wind_from="from",
        receptors={"near": (4, 0, 1), "far": (24, 0, 1)},
    )
    source = source_of(release, RNG, ())
    seen = {"wind": 2.0, "from": 270.0}
    history = [dict(source.step(0, 0.1, {"rate_kg_s": 1e-4}, seen)) for _ in range(1500)]
    half = {name: next(i for i, s in enumerate(history) if s[name] > history[-1][name] / 2) for name in ("near", "far")}
    assert half["near"] < half["far"]
    assert history[-1]["near"] > history[-1]["far"] > 0
