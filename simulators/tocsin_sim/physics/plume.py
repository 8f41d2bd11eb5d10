"""The cloud of a small continuous leak in the open: a Gaussian plume with the dispersion of rural, neutral air."""

from math import cos, exp, hypot, pi, radians, sin, sqrt
from typing import Final

# Below this the plume model has no direction to blow in; the calm is met with the lowest speed it holds for.
LEAST_WIND_M_S: Final = 0.5

# Briggs 1973, open country, stability class D, distances up to 10 km.
BRIGGS_Y: Final = 0.08
BRIGGS_Z: Final = 0.06
BRIGGS_Y_BEND: Final = 0.0001
BRIGGS_Z_BEND: Final = 0.0015

Place = tuple[float, float, float]


def downwind(source: Place, receptor: Place, from_deg: float) -> tuple[float, float]:
    """Return how far the receptor is along and across the wind, m; `from_deg` is where it blows from, north is y."""
    east, north = receptor[0] - source[0], receptor[1] - source[1]
    towards = radians(from_deg + 180.0)
    return east * sin(towards) + north * cos(towards), east * cos(towards) - north * sin(towards)


def concentration(
    rate_kg_s: float, source: Place, receptor: Place, wind_m_s: float, from_deg: float, width_m: float
) -> float:
    """Return the steady concentration at the receptor, kg/m3, the ground reflecting.

    `width_m` is the cloud's own size at the source, a jet that has spent itself; it joins Briggs' sigmas in quadrature.
    """
    along, across = downwind(source, receptor, from_deg)
    if along <= 0.0 or rate_kg_s <= 0.0:
        return 0.0
    sigma_y = hypot(width_m, BRIGGS_Y * along / sqrt(1.0 + BRIGGS_Y_BEND * along))
    sigma_z = hypot(width_m, BRIGGS_Z * along / sqrt(1.0 + BRIGGS_Z_BEND * along))
    sideways = exp(-0.5 * (across / sigma_y) ** 2)
    height, release = receptor[2], source[2]
    upright = exp(-0.5 * ((height - release) / sigma_z) ** 2) + exp(-0.5 * ((height + release) / sigma_z) ** 2)
    return rate_kg_s * sideways * upright / (2.0 * pi * max(wind_m_s, LEAST_WIND_M_S) * sigma_y * sigma_z)


def travel_time_s(source: Place, receptor: Place, wind_m_s: float) -> float:
    """Return how long the wind takes from the source to the receptor, s."""
    return hypot(receptor[0] - source[0], receptor[1] - source[1]) / max(wind_m_s, LEAST_WIND_M_S)
