"""Mass balance of a tank: what flowed in and out against what the level says, with the uncertainty of both."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from tocsin_core.detectors.columns import NEVER, NS, Columns
from tocsin_core.readings import F64, I64, Bool

# The windows, and how finely each is kept: 1 h in 5 min, 24 h in 1 h.
HOUR: Final = (300 * NS, 12)
DAY: Final = (3600 * NS, 24)

# The share of a window that must have been measured before it is judged (our choice).
LEAST_SHARE: Final = 0.9

# Cubical expansion, 1/K: of a liquid as of petrol near 15 degC, to be replaced by the product's own; of a carbon steel
# shell's cross-section, twice its linear 11.2e-6.
LIQUID_EXPANSION: Final = 0.00095
SHELL_EXPANSION: Final = 22.4e-6


# What one of each unit is in kg/s; of a volume flow, at 1 kg/m3.
_MASS_FLOW: Final = {"kg/s": 1.0, "kg/h": 1.0 / 3600.0, "t/h": 1000.0 / 3600.0}
_VOLUME_FLOW: Final = {"m3/h": 1.0 / 3600.0, "m³/h": 1.0 / 3600.0, "L/min": 0.001 / 60.0}
# What the conversion of units may add to a level, of the table's top.
EDGE: Final = 1e-9
_LENGTH: Final = {"m": 1.0, "cm": 0.01, "mm": 0.001}


def kg_s_of(unit: str, density: float) -> float:
    """What one `unit` of flow of a liquid of `density` (kg/m3) is in kg/s.

    Raises:
        ValueError: the unit is no flow that is known.
    """
    if unit in _MASS_FLOW:
        return _MASS_FLOW[unit]
    if unit in _VOLUME_FLOW:
        return _VOLUME_FLOW[unit] * density
    raise ValueError(f"{unit!r} is none of {', '.join((*_MASS_FLOW, *_VOLUME_FLOW))}")


def metres_of(unit: str, top: float) -> float:
    """What one `unit` of level is in m; `top` (m) is the level at 100 %.

    Raises:
        ValueError: the unit is no level that is known.
    """
    if unit == "%":
        return top / 100.0
    if unit in _LENGTH:
        return _LENGTH[unit]
    raise ValueError(f"{unit!r} is none of %, {', '.join(_LENGTH)}")


@dataclass(frozen=True, eq=False)
class Tanks:
    """N tanks; the strapping table of tank i is rows `first[i] : first[i + 1]` of `level` (m, rising), `volume` (m3).

    Of length N: `density` (kg/m3) at `reference` (degC), expansion `beta` of the liquid and `gamma` of the shell (1/K),
    standard uncertainties of the gauges `level_u` (m) and `temperature_u` (K), and relative ones: `in_u`, `out_u` of
    the metered flow, `table_u` of the table.
    """

    first: I64
    level: F64
    volume: F64
    density: F64
    reference: F64
    beta: F64
    gamma: F64
    level_u: F64
    temperature_u: F64
    in_u: F64
    out_u: F64
    table_u: F64


@dataclass(frozen=True, slots=True)
class TankData:
    """One tank, in the units of `Tanks`; `table` are pairs of level and volume."""

    table: Sequence[tuple[float, float]]
    density: float
    reference: float = 15.0
    beta: float = LIQUID_EXPANSION
    gamma: float = SHELL_EXPANSION
    level_u: float = 0.002
    temperature_u: float = 0.5
    in_u: float = 0.005
    out_u: float = 0.005
    table_u: float = 0.002


def tanks_of(tanks: Sequence[TankData]) -> Tanks:
    """These tanks in columns.

    Raises:
        ValueError: a table has fewer than two rows, or its levels or volumes do not rise.
    """
    for number, tank in enumerate(tanks):
        columns = np.asarray(tank.table, np.float64).reshape(-1, 2)
        if len(columns) <= 1 or not (np.diff(columns[:, 0]) > 0).all() or not (np.diff(columns[:, 1]) >= 0).all():
            raise ValueError(f"tank {number}: the table needs two rows or more, with rising levels and volumes")

    def column(name: str) -> F64:
        return np.asarray([getattr(tank, name) for tank in tanks], np.float64)

    return Tanks(
        first=np.cumsum([0, *(len(tank.table) for tank in tanks)], dtype=np.int64),
        level=np.asarray([level for tank in tanks for level, _ in tank.table], np.float64),
        volume=np.asarray([volume for tank in tanks for _, volume in tank.table], np.float64),
        density=column("density"),
        reference=column("reference"),
        beta=column("beta"),
        gamma=column("gamma"),
        level_u=column("level_u"),
        temperature_u=column("temperature_u"),
        in_u=column("in_u"),
        out_u=column("out_u"),
        table_u=column("table_u"),
    )


@dataclass(frozen=True, slots=True)
class Inventory:
    """What tanks hold, f64[k]: `mass` (kg, NaN off the table) and its standard `uncertainty` (kg)."""

    mass: F64
    uncertainty: F64


def inventory(tanks: Tanks, tank: I64, level: F64, temperature: F64) -> Inventory:
    """What `tank` (i64[k]) holds at `level` (m) and `temperature` (degC).

    M = rho * V, V by the table between its rows, times 1 + gamma * (T - T_ref) for the shell, and
    rho = density * (1 - beta * (T - T_ref)). u(M)^2 = (rho * dV/dL * u(L))^2 + (density * V * beta * u(T))^2. Outside
    the table the mass is not known.
    """
    low, high = tanks.first[tank], tanks.first[tank + 1] - 1
    # A full tank stays on its table however its unit was converted.
    slack = EDGE * tanks.level[high]
    on_table = (level >= tanks.level[low] - slack) & (level <= tanks.level[high] + slack)
    # Off the table nothing is told, and nothing may overflow on the way to that.
    level = np.where(on_table, level, tanks.level[low])
    while (high - low > 1).any():
        middle = (low + high) // 2
        above = tanks.level[middle] <= level
        low, high = np.where(above, middle, low), np.where(above, high, np.maximum(middle, low + 1))
    area = (tanks.volume[high] - tanks.volume[low]) / (tanks.level[high] - tanks.level[low])
    volume = tanks.volume[low] + area * (level - tanks.level[low])
    warmer = temperature - tanks.reference[tank]
    volume = volume * (1.0 + tanks.gamma[tank] * warmer)
    rho = tanks.density[tank] * (1.0 - tanks.beta[tank] * warmer)
    by_level = rho * area * tanks.level_u[tank]
    by_temperature = tanks.density[tank] * volume * tanks.beta[tank] * tanks.temperature_u[tank]
    return Inventory(np.where(on_table, rho * volume, np.nan), np.sqrt(by_level**2 + by_temperature**2))


@dataclass(slots=True)
class Balance(Columns):
    """Sums of n tanks over a rolling window of S slots and the one it is in, in rings of S + 1.

    By slot, [n, S + 1]: `loss` f64 (kg in less out less gained), `inflow`, `outflow` f64 (kg), `covered_ns` i64,
    `starts` i64 (how often measuring began anew). `head` i64 the number of the newest slot; of the last reading
    `time_ns` i64, `in_rate`, `out_rate` f64 (kg/s) and `mass` f64 (kg; NaN: it was not good).
    """

    loss: F64
    inflow: F64
    outflow: F64
    covered_ns: I64
    starts: I64
    head: I64
    time_ns: I64
    in_rate: F64
    out_rate: F64
    mass: F64

    @classmethod
    def empty(cls, size: int, window: tuple[int, int]) -> "Balance":
        """`size` tanks that nothing has been read from; `window` is slot length and number of slots."""
        ring = (size, window[1] + 1)
        return cls(
            loss=np.zeros(ring),
            inflow=np.zeros(ring),
            outflow=np.zeros(ring),
            covered_ns=np.zeros(ring, np.int64),
            starts=np.zeros(ring, np.int64),
            head=np.full(size, NEVER, np.int64),
            time_ns=np.full(size, NEVER, np.int64),
            in_rate=np.zeros(size),
            out_rate=np.zeros(size),
            mass=np.full(size, np.nan),
        )


@dataclass(frozen=True, slots=True)
class Measured:
    """One reading of each of n tanks: `time_ns` i64, `in_rate`, `out_rate` (kg/s), `mass` (kg), and which are good."""

    time_ns: I64
    in_rate: F64
    out_rate: F64
    mass: F64
    good: Bool


def advance(state: Balance, window: tuple[int, int], measured: Measured, longest_ns: I64) -> Balance:
    """`state` (it is consumed) with one reading more of each tank, later than its last.

    From one good reading to the next, if they are no further apart than `longest_ns`: mass in and out by the trapezoid
    of the rates, and loss = in - out - (M - M_last). A gap or a reading that is not good leaves its time out on both
    sides of the balance, so nothing is made up; the sums over the window stay exact.
    """
    slot_ns, slots = window
    ring = slots + 1
    head = measured.time_ns // slot_ns
    turning = np.flatnonzero(head > state.head)
    back = (head[turning][:, None] - np.arange(ring)) % ring
    reused = head[turning][:, None] - back > state.head[turning][:, None]
    for each in (state.loss, state.inflow, state.outflow, state.covered_ns, state.starts):
        each[turning] = np.where(reused, 0, each[turning])
    good = measured.good & np.isfinite(measured.mass)
    length_ns = measured.time_ns - state.time_ns
    linked = good & ~np.isnan(state.mass) & (length_ns <= longest_ns)
    row = np.flatnonzero(linked)
    column, half_s = head[row] % ring, length_ns[row] / NS * 0.5
    with np.errstate(over="ignore", invalid="ignore"):
        inflow = (state.in_rate + measured.in_rate)[row] * half_s
        outflow = (state.out_rate + measured.out_rate)[row] * half_s
        state.loss[row, column] += inflow - outflow - (measured.mass - state.mass)[row]
        state.inflow[row, column] += inflow
        state.outflow[row, column] += outflow
    state.covered_ns[row, column] += length_ns[row]
    row = np.flatnonzero(good & ~linked)
    state.starts[row, head[row] % ring] += 1
    state.head, state.time_ns = head, measured.time_ns.copy()
    state.in_rate, state.out_rate = measured.in_rate.copy(), measured.out_rate.copy()
    state.mass = np.where(good, measured.mass, np.nan)
    return state


@dataclass(frozen=True, slots=True)
class Closure:
    """How the balance of n tanks closes, f64[n].

    `loss` (kg; positive: more went than is accounted for), its standard `uncertainty` (kg), `share` of the window
    measured.
    """

    loss: F64
    uncertainty: F64
    share: F64


def close(state: Balance, window: tuple[int, int], tanks: Tanks, tank: I64, mass_u: F64) -> Closure:
    """The balance over the window: loss = sum(in) - sum(out) - d(rho V), between S and S + 1 slots long.

    u^2 = (in_u * in)^2 + (out_u * out)^2 + (table_u * gained)^2 + 2 * pieces * u(M)^2: errors of meters and table grow
    with what they measured, those of gauging enter at both ends of each uninterrupted piece. `mass_u` is u(M) now.
    """
    slot_ns, slots = window
    size = len(state.head)
    loss, inflow, outflow = np.zeros(size), np.zeros(size), np.zeros(size)
    row = np.arange(size)
    for back in range(slots, -1, -1):  # from old to new, so that the order of adding is always the same
        column = (state.head - back) % (slots + 1)
        with np.errstate(over="ignore", invalid="ignore"):
            loss = loss + state.loss[row, column]
            inflow = inflow + state.inflow[row, column]
            outflow = outflow + state.outflow[row, column]
    pieces = state.starts.sum(axis=1) + 1
    with np.errstate(over="ignore", invalid="ignore"):
        gained = inflow - outflow - loss
        variance = (
            (tanks.in_u[tank] * inflow) ** 2
            + (tanks.out_u[tank] * outflow) ** 2
            + (tanks.table_u[tank] * gained) ** 2
            + 2.0 * pieces * mass_u**2
        )
    share = np.minimum(state.covered_ns.sum(axis=1) / (slot_ns * slots), 1.0)
    return Closure(loss, np.sqrt(variance), share)
