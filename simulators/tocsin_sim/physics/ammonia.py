"""Ammonia at saturation, and the geometry of the lying cylinders it is kept in."""

from typing import Final

import numpy as np

from tocsin_core.readings import F64

ATMOSPHERE_BAR: Final = 1.01325
KELVIN: Final = 273.15
MOLAR_MASS: Final = 17.031  # g/mol
LITRES_PER_MOLE_20C: Final = 24.06  # at 20 degC and 101.3 kPa, as in the ppm figures of the exposure limits
LIQUID_HEAT_J_KG_K: Final = 4750.0  # saturated liquid at 20 degC (NIST Chemistry WebBook, fluid properties)

# Antoine equation log10(p/bar) = A - B / (T/K + C), 239.6-371.5 K: Stull 1947, as given by the NIST Chemistry WebBook.
ANTOINE_A: Final = 4.86886
ANTOINE_B: Final = 1113.928
ANTOINE_C: Final = -10.409

# Density of the saturated liquid, kg/m3, by temperature in degC (NIST Chemistry WebBook, fluid properties).
_DENSITY_C: Final = np.array([-33.3, -20.0, 0.0, 20.0, 30.0, 40.0, 50.0])
_DENSITY: Final = np.array([682.0, 665.1, 638.6, 610.2, 595.2, 579.4, 562.9])

_TABLE_STEPS: Final = 400


def saturation_pressure_bar(temperature_c: float) -> float:
    """Return the vapour pressure of ammonia, bar absolute, within 2 % between -33 and 50 degC."""
    return float(10.0 ** (ANTOINE_A - ANTOINE_B / (temperature_c + KELVIN + ANTOINE_C)))


def liquid_density_kg_m3(temperature_c: float) -> float:
    """Return the density of saturated liquid ammonia, kg/m3."""
    return float(np.interp(temperature_c, _DENSITY_C, _DENSITY))


def ppm_of(concentration_kg_m3: float) -> float:
    """Return a concentration in air as ppm by volume at 20 degC."""
    return concentration_kg_m3 * 1e6 * LITRES_PER_MOLE_20C / MOLAR_MASS


def filling_table() -> tuple[F64, F64]:
    """Return (share of the height, share of the volume) of a lying cylinder with flat ends, both 0 to 1, rising."""
    height = np.linspace(0.0, 1.0, _TABLE_STEPS + 1)
    up = 1.0 - 2.0 * height
    volume = (np.arccos(up) - up * np.sqrt(1.0 - up**2)) / np.pi
    return height, volume
