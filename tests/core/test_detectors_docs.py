"""The page on detectors: the memory, limits and defaults that it states are those of the code."""

import re
from typing import Final

from tests.support.need import ROOT
from tocsin_core.detectors import balance, change, exposure, health, structure, voting
from tocsin_core.plant.brought import BALANCE_SIGMAS
from tocsin_core.plant.standards import EXPOSURE, STEL_MG_M3, ExposureLimits, limits_of
from tocsin_core.special.first_out import FirstOut

PAGE: Final = (ROOT / "docs/detectors.md").read_text(encoding="utf-8")


def test_the_memory_stated_is_the_memory_used() -> None:
    """What a point, a group or a tank costs."""
    states = {
        "STEL (15 slots of 1 min)": exposure.Exposure.empty(1, exposure.STEL),
        "TWA (32 slots of 15 min)": exposure.Exposure.empty(1, exposure.TWA),
        "rule of peaks": exposure.Peaks.empty(1),
        "stuck": health.Stuck.empty(1),
        "spike": health.Spikes.empty(1),
        "warm-up and calibration": health.Modes.empty(1),
        "EWMA and CUSUM together": change.Change.empty(1),
        "voting, deviation, median": voting.Members.empty(1),
        "first-out": FirstOut.empty(1),
        "suppression by design": structure.Suppression.empty(1),
        "mass balance over 1 h": balance.Balance.empty(1, balance.HOUR),
        "mass balance over 24 h": balance.Balance.empty(1, balance.DAY),
    }
    stated = dict(re.findall(r"^\| ([^|]+) \| (\d+)(?:, and 64 of charts)? \| \w+", PAGE, re.MULTILINE))
    assert {name: int(size) for name, size in stated.items() if name in states} == {
        name: state.bytes_per_row() for name, state in states.items()
    }
    charts = change.charts_of([change.Calibration(0, 1, 0, 0, 1, 0.5, 5, 1, 0.1, 2.8, 1)])
    assert f"and {charts.bytes_per_row()} of charts" in PAGE


def test_the_exposure_limits_stated_are_those_judged() -> None:
    """By CAS number; the substances with a MAC are not among them."""
    rows = re.findall(r"^\| ([\d-]+) \| [^|]+ \| (\d+) \| (\d+) \|", PAGE, re.MULTILINE)
    with_a_mean = {cas for cas, substance in EXPOSURE.items() if substance.twa is not None}
    assert {cas for cas, _, _ in rows} == set(STEL_MG_M3) == with_a_mean
    for cas, twa, stel in rows:
        assert limits_of(cas, "mg/m3") == ExposureLimits(float(twa), float(stel))


def test_the_defaults_stated_are_those_of_the_code() -> None:
    """Shares, sigmas and chart settings."""
    assert f"| least share | {exposure.LEAST_SHARE} |" in PAGE
    assert f"| least share | {balance.LEAST_SHARE} |" in PAGE
    assert f"| k | {change.CUSUM_K}:" in PAGE
    assert f"| λ | {change.EWMA_LAMBDA} |" in PAGE
    assert f"| `per_week` | {change.PER_WEEK} |" in PAGE
    assert f"| k, deadband | {BALANCE_SIGMAS:.0f}, 1 |" in PAGE
    tank = balance.TankData(table=[], density=0.0)
    assert f"| u_in, u_out, u_table | {tank.in_u:.1%}".replace("%", " %") in PAGE
    assert f"| u(L), u(T) | {tank.level_u * 1000:.0f} mm, {tank.temperature_u} K |" in PAGE
    assert f"≤ {health.FAULT_LOW_MA} mA or ≥ {health.FAULT_HIGH_MA} mA" in PAGE
    assert f"{health.VALID_LOW_MA} to {health.VALID_HIGH_MA} mA" in PAGE
