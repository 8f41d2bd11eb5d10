"""Set points, deadbands and delays that each kind of point gets from the standard it cites."""

from dataclasses import dataclass, field, replace
from typing import Final, Literal

from tocsin_core.plant.fields import Text, name_of
from tocsin_core.plant.model import AlarmKind, AlarmSetting, MinePlace, Point, PointKind, Priority

# Deadband as a share of the range: EEMUA 191, as reprinted by exida: flow 5 %, level 2 %, pressure 2 %, temperature and
# composition 1 %. A status is a number without a range, so any distance from its limit counts.
EEMUA_DEADBAND: Final = {
    PointKind.FLOW: 0.05,
    PointKind.TANK_LEVEL: 0.02,
    PointKind.PRESSURE: 0.02,
    PointKind.TEMPERATURE: 0.01,
    PointKind.TOXIC_GAS: 0.01,
    PointKind.COMBUSTIBLE_GAS: 0.01,
    PointKind.OXYGEN: 0.01,
    PointKind.MINE_CO: 0.01,
    PointKind.STATUS: 0.0,
}
OTHER_DEADBAND: Final = 0.02

# Ours: what a tailings pond is watched by moves by millimetres a day, and its grades may lie centimetres apart.
POND_DEADBAND: Final = 0.005
POND_KINDS: Final = frozenset(
    {
        PointKind.POND_LEVEL,
        PointKind.BEACH_LENGTH,
        PointKind.FREEBOARD,
        PointKind.PHREATIC_LINE,
        PointKind.DISPLACEMENT,
    }
)

# Starting points for the off-delay of process alarms, seconds: EEMUA 191 / ISA-TR18.2.4 practice (flow 15, level 60,
# pressure 15, temperature 60).
PROCESS_DELAY_S: Final = {
    PointKind.FLOW: 15.0,
    PointKind.TANK_LEVEL: 60.0,
    PointKind.PRESSURE: 15.0,
    PointKind.TEMPERATURE: 60.0,
}

# Ours. Methane needs it most: AQ 1029 gives it no deadband, so an alarm would come and go with the last digit.
GAS_OFF_DELAY_S: Final = 5.0
MOLAR_VOLUME_20C: Final = 24.06  # litres a mole at 20 degC and 101.3 kPa: mg/m3 -> ppm is * 24.06 / molar mass

# As people write them (`written`). What a detector shows over an open path is another quantity than at a point.
MILLIGRAMS: Final = frozenset({"mg/m3", "mg/m³"})
PARTS: Final = frozenset({"ppm", "ppmv", "umol/mol", "μmol/mol", "ml/m3", "ml/m³", "cm3/m3", "cm³/m³"})
OPEN_PATH: Final = frozenset({"lel·m", "lel.m", "lel*m", "lelm"})


def written(unit: str | None) -> str:
    """A unit in small letters and without spaces; empty where there is none."""
    return "" if unit is None else unit.casefold().replace(" ", "")


@dataclass(frozen=True, slots=True)
class Exposure:
    """Occupational exposure limits of GBZ 2.1-2019 in mg/m3, and the molar mass in g/mol."""

    name: Text
    molar_mass: float
    mac: float | None = None
    twa: float | None = None

    @property
    def limit_mg_m3(self) -> float:
        """The limit that GB/T 50493-2019 5.5.2 grades by: the MAC where there is one, else the PC-TWA."""
        limit = self.mac if self.mac is not None else self.twa
        if limit is None:
            msg = f"{self.name.en}: neither MAC nor PC-TWA"
            raise ValueError(msg)
        return limit

    @property
    def limit_ppm(self) -> float:
        """The same limit in ppm at 20 degC, rounded to two significant digits as the standard's tables print it."""
        return float(f"{self.limit_mg_m3 * MOLAR_VOLUME_20C / self.molar_mass:.2g}")


# GBZ 2.1-2019 table 1, keyed by CAS number.
EXPOSURE: Final[dict[str, Exposure]] = {
    "7783-06-4": Exposure(name_of("硫化氢", "hydrogen sulfide"), 34.08, mac=10),
    "7664-41-7": Exposure(name_of("氨", "ammonia"), 17.03, twa=20),
    "7782-50-5": Exposure(name_of("氯", "chlorine"), 70.90, mac=1),
    "630-08-0": Exposure(name_of("一氧化碳", "carbon monoxide"), 28.01, twa=20),
    "7446-09-5": Exposure(name_of("二氧化硫", "sulfur dioxide"), 64.06, twa=5),
    "7647-01-0": Exposure(name_of("氯化氢", "hydrogen chloride"), 36.46, mac=7.5),
    "71-43-2": Exposure(name_of("苯", "benzene"), 78.11, twa=6),
    "67-56-1": Exposure(name_of("甲醇", "methanol"), 32.04, twa=25),
    "74-90-8": Exposure(name_of("氰化氢", "hydrogen cyanide"), 27.03, mac=1),
    "10102-44-0": Exposure(name_of("二氧化氮", "nitrogen dioxide"), 46.01, twa=5),
    "75-44-5": Exposure(name_of("光气", "phosgene"), 98.92, mac=0.5),
    "7664-39-3": Exposure(name_of("氟化氢", "hydrogen fluoride"), 20.01, mac=2),
    "108-88-3": Exposure(name_of("甲苯", "toluene"), 92.14, twa=50),
}

# PC-STEL of GBZ 2.1-2019 table 1 in mg/m3, keyed by CAS number: the ceiling of the mean over any 15 min. Substances
# that have a MAC have neither a PC-TWA nor a PC-STEL.
STEL_MG_M3: Final[dict[str, float]] = {
    "7664-41-7": 30.0,
    "630-08-0": 30.0,
    "7446-09-5": 10.0,
    "71-43-2": 10.0,
    "67-56-1": 50.0,
    "10102-44-0": 10.0,
    "108-88-3": 100.0,
}


@dataclass(frozen=True, slots=True)
class ExposureLimits:
    """What people may be exposed to, in one unit: mean over 8 h, mean over 15 min (None: no PC-STEL is set)."""

    twa: float
    stel: float | None


def limits_of(cas: str, unit: Literal["ppm", "mg/m3"]) -> ExposureLimits | None:
    """The PC-TWA and PC-STEL of GBZ 2.1-2019 for the substance `cas` in `unit`; None where it has no PC-TWA.

    ppm = mg/m3 * 24.06 / molar mass (20 degC, 101.3 kPa), to two significant digits as for the alarm levels.
    """
    substance = EXPOSURE.get(cas)
    if substance is None or substance.twa is None:
        return None
    stel = STEL_MG_M3.get(cas)
    if unit == "mg/m3":
        return ExposureLimits(substance.twa, stel)
    factor = MOLAR_VOLUME_20C / substance.molar_mass
    twa_ppm, stel_ppm = (None if limit is None else float(f"{limit * factor:.2g}") for limit in (substance.twa, stel))
    return None if twa_ppm is None else ExposureLimits(twa_ppm, stel_ppm)


# AQ 1029 and 煤矿安全规程 Art. 498: (alarm, cut-off, reset) in %CH4; no cut-off for the total return.
MINE_METHANE: Final[dict[MinePlace, tuple[float, float | None, float]]] = {
    MinePlace.RETURN_CORNER: (1.0, 1.5, 1.0),
    MinePlace.FACE: (1.0, 1.5, 1.0),
    MinePlace.FACE_RETURN: (1.0, 1.0, 1.0),
    MinePlace.INTAKE: (0.5, 0.5, 0.5),
    MinePlace.MIDDLE_RETURN: (1.0, 1.0, 1.0),
    MinePlace.HEADING: (1.0, 1.5, 1.0),
    MinePlace.HEADING_RETURN: (1.0, 1.0, 1.0),
    MinePlace.DISTRICT_RETURN: (1.0, 1.0, 1.0),
    MinePlace.TOTAL_RETURN: (0.75, None, 0.75),
}


@dataclass(frozen=True, slots=True)
class KindDefaults:
    """What a kind brings: unit, range, digits shown, and alarm settings with the clause each is taken from."""

    unit: str
    range: tuple[float, float]
    decimals: int
    alarms: dict[AlarmKind, tuple[AlarmSetting, Text | None]] = field(default_factory=dict)


CLAUSE_TOXIC_1: Final = name_of(
    "GB/T 50493-2019 5.5.2：一级报警 ≤100%OEL", "GB/T 50493-2019 5.5.2: level 1 at most 100 % OEL"
)
CLAUSE_TOXIC_2: Final = name_of(
    "GB/T 50493-2019 5.5.2：二级报警 ≤200%OEL", "GB/T 50493-2019 5.5.2: level 2 at most 200 % OEL"
)
CLAUSE_LEL_1: Final = name_of(
    "GB/T 50493-2019 5.5.2：一级报警 ≤25%LEL", "GB/T 50493-2019 5.5.2: level 1 at most 25 % LEL"
)
CLAUSE_LEL_2: Final = name_of(
    "GB/T 50493-2019 5.5.2：二级报警 ≤50%LEL", "GB/T 50493-2019 5.5.2: level 2 at most 50 % LEL"
)
CLAUSE_PATH_1: Final = name_of(
    "GB/T 50493-2019 5.5.2：线型，一级报警 1 LEL·m", "GB/T 50493-2019 5.5.2: open path, level 1 at 1 LEL·m"
)
CLAUSE_PATH_2: Final = name_of(
    "GB/T 50493-2019 5.5.2：线型，二级报警 2 LEL·m", "GB/T 50493-2019 5.5.2: open path, level 2 at 2 LEL·m"
)
CLAUSE_O2_HIGH: Final = name_of("GB/T 50493-2019 5.5.2：过氧 23.5%VOL", "GB/T 50493-2019 5.5.2: enrichment 23.5 %VOL")
CLAUSE_O2_LOW: Final = name_of("GB/T 50493-2019 5.5.2：欠氧 19.5%VOL", "GB/T 50493-2019 5.5.2: deficiency 19.5 %VOL")
CLAUSE_METHANE_ALARM: Final = name_of(
    "AQ 1029；煤矿安全规程 第498条：报警浓度", "AQ 1029; Coal Mine Safety Regulation Art. 498: alarm"
)
CLAUSE_METHANE_CUT: Final = name_of(
    "AQ 1029；煤矿安全规程 第498条：断电浓度", "AQ 1029; Coal Mine Safety Regulation Art. 498: power cut-off"
)
CLAUSE_MINE_CO: Final = name_of("煤矿安全规程：CO 0.0024%", "Coal Mine Safety Regulation: CO 0.0024 %")
CLAUSE_WIND: Final = name_of(
    "煤矿安全规程 第136条：采煤工作面 0.25~4 m/s", "Coal Mine Safety Regulation Art. 136: coal face 0.25-4 m/s"
)
# By the time to respond, in s: an operator at the tank, a control room that is staffed in part, and one that always is.
CLAUSE_API_2350: Final[dict[float, Text]] = {
    60.0 * minutes: name_of(
        f"API 2350 第4版：{category}类罐响应时间 {minutes} min",
        f"API 2350 4th ed.: category {category} response time {minutes} min",
    )
    for category, minutes in ((1, 45), (2, 30), (3, 15))
}
CLAUSE_STEL: Final = name_of(
    "GBZ 2.1-2019：15 min 加权平均不超过 PC-STEL", "GBZ 2.1-2019: mean over 15 min at most the PC-STEL"
)
CLAUSE_TWA: Final = name_of("GBZ 2.1-2019：8 h 加权平均不超过 PC-TWA", "GBZ 2.1-2019: mean over 8 h at most the PC-TWA")
CLAUSE_PEAKS: Final = name_of(
    "GBZ 2.1-2019：峰接触不超过 3 倍 PC-TWA", "GBZ 2.1-2019: peaks at most 3 times the PC-TWA"
)
CLAUSE_POND: Final = name_of(
    "GB 39496-2020 5.5.4：蓝、黄、橙、红四级预警", "GB 39496-2020 5.5.4: grades blue, yellow, orange, red"
)


def _limit(
    setpoint: float, priority: Priority, *, on: float = 0.0, off: float = 0.0, deadband: float | None = None
) -> AlarmSetting:
    # Not checked: what is would cost every start of a gateway the making of a checker. GBZ 2.1 has whole numbers too.
    return AlarmSetting.model_construct(
        setpoint=float(setpoint), priority=priority, on_delay_s=on, off_delay_s=off, deadband=deadband
    )


# Early warnings, one-sided 99.9 %. How far ahead and over which window was measured over 200 simulated hours, seed by
# seed: docs/benchmarks.md. Gas: within 5 minutes (practice: 5 to 30), a slow leak wanting half a minute to show in the
# noise; methane at a coal face, where nothing climbs for so long in normal running, within half of that and sooner.
GAS_EARLY: Final = AlarmSetting.model_construct(
    limit="H",
    horizon_s=300.0,
    window_s=30.0,
    confidence=0.999,
    on_delay_s=2.0,
    off_delay_s=30.0,
    priority=Priority.MEDIUM,
)
METHANE_EARLY: Final = GAS_EARLY.model_copy(update={"horizon_s": 150.0, "window_s": 15.0})


def _early(horizon_s: float, window_s: float, on_delay_s: float = 5.0) -> AlarmSetting:
    return AlarmSetting.model_construct(
        horizon_s=horizon_s,
        window_s=window_s,
        confidence=0.999,
        on_delay_s=on_delay_s,
        off_delay_s=60.0,
        priority=Priority.MEDIUM,
    )


# API 2350 4th ed.: 15 min to respond for a category 3 tank.
TANK_EARLY: Final = _early(900.0, 60.0, 10.0)
PRESSURE_EARLY: Final = _early(180.0, 60.0)
CO_EARLY: Final = _early(180.0, 60.0)
TEMPERATURE_EARLY: Final = _early(300.0, 120.0)
PROCESS_EARLY: Final = _early(300.0, 60.0)


def _toxic(point: Point) -> KindDefaults:
    exposure = EXPOSURE.get(point.cas or "")
    if exposure is None:
        return KindDefaults("ppm", (0.0, 100.0), 1, {})
    in_mg = written(point.unit) in MILLIGRAMS
    limit = exposure.limit_mg_m3 if in_mg else exposure.limit_ppm
    # GB/T 50493-2019 5.5.1: the range of a toxic gas detector is 0-300 % OEL.
    return KindDefaults(
        point.unit if point.unit and in_mg else "ppm",
        (0.0, 3.0 * limit),
        1 if limit >= 1 else 2,
        {
            AlarmKind.H: (_limit(limit, Priority.HIGH, off=GAS_OFF_DELAY_S), CLAUSE_TOXIC_1),
            AlarmKind.HH: (_limit(2.0 * limit, Priority.CRITICAL, off=GAS_OFF_DELAY_S), CLAUSE_TOXIC_2),
            AlarmKind.TIME_TO_LIMIT: (GAS_EARLY, None),
        },
    )


def _methane(point: Point) -> KindDefaults:
    alarm, cut, reset = MINE_METHANE[point.place or MinePlace.FACE]
    alarms: dict[AlarmKind, tuple[AlarmSetting, Text | None]] = {
        AlarmKind.H: (_limit(alarm, Priority.HIGH, off=GAS_OFF_DELAY_S, deadband=0.0), CLAUSE_METHANE_ALARM),
        AlarmKind.TIME_TO_LIMIT: (METHANE_EARLY, None),
    }
    if cut is not None:
        cut_off = _limit(cut, Priority.CRITICAL, off=GAS_OFF_DELAY_S, deadband=cut - reset)
        alarms[AlarmKind.HH] = (cut_off, CLAUSE_METHANE_CUT)
    return KindDefaults("%CH4", (0.0, 4.0), 2, alarms)


# A tank's gauge tells millimetres. With the one digit of a level in % its last one would be 0.1 m, and no trend is
# known better than the last digit: the overfill of a tank of 16 m would be foreseen nine minutes late.
PERCENT_DECIMALS: Final = 1
METRE_DECIMALS: Final = 3

# GB/T 50493-2019 5.5.1: the range of an open-path detector is 0-5 LEL·m.
OVER_PATH: Final = KindDefaults(
    "LEL·m",
    (0.0, 5.0),
    2,
    {
        AlarmKind.H: (_limit(1.0, Priority.HIGH, off=GAS_OFF_DELAY_S), CLAUSE_PATH_1),
        AlarmKind.HH: (_limit(2.0, Priority.CRITICAL, off=GAS_OFF_DELAY_S), CLAUSE_PATH_2),
        AlarmKind.TIME_TO_LIMIT: (GAS_EARLY, None),
    },
)

_FIXED: Final[dict[PointKind, KindDefaults]] = {
    PointKind.COMBUSTIBLE_GAS: KindDefaults(
        "%LEL",
        (0.0, 100.0),
        1,
        {
            AlarmKind.H: (_limit(25.0, Priority.HIGH, off=GAS_OFF_DELAY_S), CLAUSE_LEL_1),
            AlarmKind.HH: (_limit(50.0, Priority.CRITICAL, off=GAS_OFF_DELAY_S), CLAUSE_LEL_2),
            AlarmKind.TIME_TO_LIMIT: (GAS_EARLY, None),
        },
    ),
    PointKind.OXYGEN: KindDefaults(
        "%VOL",
        (0.0, 25.0),
        1,
        {
            AlarmKind.H: (_limit(23.5, Priority.HIGH, off=GAS_OFF_DELAY_S), CLAUSE_O2_HIGH),
            AlarmKind.L: (_limit(19.5, Priority.HIGH, off=GAS_OFF_DELAY_S), CLAUSE_O2_LOW),
        },
    ),
    PointKind.MINE_CO: KindDefaults(
        "ppm",
        (0.0, 500.0),
        1,
        {
            AlarmKind.H: (_limit(24.0, Priority.HIGH, off=GAS_OFF_DELAY_S), CLAUSE_MINE_CO),
            AlarmKind.TIME_TO_LIMIT: (CO_EARLY, None),
        },
    ),
    PointKind.MINE_WIND: KindDefaults(
        "m/s",
        (0.0, 15.0),
        2,
        {
            AlarmKind.H: (_limit(4.0, Priority.MEDIUM, on=15.0, off=15.0), CLAUSE_WIND),
            AlarmKind.L: (_limit(0.25, Priority.HIGH, on=15.0, off=15.0), CLAUSE_WIND),
        },
    ),
    PointKind.TANK_LEVEL: KindDefaults("%", (0.0, 100.0), PERCENT_DECIMALS),
    PointKind.PRESSURE: KindDefaults("MPa", (0.0, 2.5), 3, {AlarmKind.TIME_TO_LIMIT: (PRESSURE_EARLY, None)}),
    PointKind.TEMPERATURE: KindDefaults("°C", (-50.0, 150.0), 1, {AlarmKind.TIME_TO_LIMIT: (TEMPERATURE_EARLY, None)}),
    PointKind.FLOW: KindDefaults("m3/h", (0.0, 100.0), 1),
    # GB 39496-2020 5.5.4: the designer of the pond gives the values of the grades, so none come with the kind. The
    # ranges are only a start, for the deadband: an instrument has its own.
    PointKind.POND_LEVEL: KindDefaults("m", (0.0, 20.0), 2),
    PointKind.BEACH_LENGTH: KindDefaults("m", (0.0, 500.0), 1),
    PointKind.FREEBOARD: KindDefaults("m", (0.0, 10.0), 2),
    PointKind.PHREATIC_LINE: KindDefaults("m", (0.0, 30.0), 2),
    PointKind.DISPLACEMENT: KindDefaults("mm", (0.0, 500.0), 1),
    PointKind.GENERIC: KindDefaults("", (0.0, 100.0), 2),
    PointKind.STATUS: KindDefaults("", (0.0, 65535.0), 0),
}

# Which values of a kind are bad, where all grades are on one side. The phreatic line is measured as a depth below the
# surface: shallow is bad (GB 51108 8.3).
SIDE: Final[dict[PointKind, int]] = {
    PointKind.TOXIC_GAS: 1,
    PointKind.COMBUSTIBLE_GAS: 1,
    PointKind.MINE_METHANE: 1,
    PointKind.MINE_CO: 1,
    PointKind.POND_LEVEL: 1,
    PointKind.BEACH_LENGTH: -1,
    PointKind.FREEBOARD: -1,
    PointKind.PHREATIC_LINE: -1,
    PointKind.DISPLACEMENT: 1,
}

# What a definition gets when neither the plant file nor the kind says: priority and, for limits, the process delays.
PRIORITY: Final[dict[AlarmKind, Priority]] = {
    AlarmKind.HH: Priority.CRITICAL,
    AlarmKind.H: Priority.HIGH,
    AlarmKind.L: Priority.HIGH,
    AlarmKind.LL: Priority.CRITICAL,
    AlarmKind.RED: Priority.CRITICAL,
    AlarmKind.ORANGE: Priority.HIGH,
    AlarmKind.YELLOW: Priority.MEDIUM,
    AlarmKind.BLUE: Priority.LOW,
    AlarmKind.RATE: Priority.MEDIUM,
    AlarmKind.TIME_TO_LIMIT: Priority.MEDIUM,
    AlarmKind.STEL: Priority.MEDIUM,
    AlarmKind.TWA: Priority.MEDIUM,
    AlarmKind.PEAKS: Priority.MEDIUM,
    AlarmKind.CUSUM: Priority.MEDIUM,
    AlarmKind.EWMA: Priority.MEDIUM,
    AlarmKind.ABNORMAL: Priority.MEDIUM,
    AlarmKind.LOOP: Priority.LOW,
    AlarmKind.STUCK: Priority.LOW,
    AlarmKind.SPIKE: Priority.LOW,
    AlarmKind.BAD: Priority.LOW,
    AlarmKind.STALE: Priority.LOW,
}

# Ours, from no standard: a gas detector that is blind must not be the least of alarms.
GAS_KINDS: Final = frozenset(
    {
        PointKind.TOXIC_GAS,
        PointKind.COMBUSTIBLE_GAS,
        PointKind.OXYGEN,
        PointKind.MINE_METHANE,
        PointKind.MINE_CO,
    }
)
BLIND_GAS_PRIORITY: Final = Priority.MEDIUM
BLIND: Final = frozenset({AlarmKind.BAD, AlarmKind.STALE, AlarmKind.LOOP, AlarmKind.STUCK})

# Ours: how long test gas still tells after a gas detector says that calibration is over.
GAS_SETTLE_S: Final = 60.0

# What a healthy gas sensor may read for months, and within which share of its range of it: clean air has 20.9 % oxygen
# and nothing of the others (the share is ours).
OXYGEN_IN_AIR: Final = 20.9
ZERO_BAND: Final = 0.01

EARLY: Final[dict[PointKind, AlarmSetting]] = {
    PointKind.TANK_LEVEL: TANK_EARLY,
    PointKind.TOXIC_GAS: GAS_EARLY,
    PointKind.COMBUSTIBLE_GAS: GAS_EARLY,
    PointKind.MINE_METHANE: METHANE_EARLY,
    PointKind.MINE_CO: CO_EARLY,
    PointKind.PRESSURE: PRESSURE_EARLY,
    PointKind.TEMPERATURE: TEMPERATURE_EARLY,
}


def defaults_of(point: Point) -> KindDefaults:
    """What the kind of `point` brings.

    A toxic gas goes by its CAS number and its unit, a combustible one and a tank's level by their units, methane by its
    place.
    """
    if point.kind is PointKind.TOXIC_GAS:
        return _toxic(point)
    if point.kind is PointKind.MINE_METHANE:
        return _methane(point)
    if point.kind is PointKind.COMBUSTIBLE_GAS and written(point.unit) in OPEN_PATH:
        return replace(OVER_PATH, unit=point.unit or OVER_PATH.unit)
    if point.kind is PointKind.TANK_LEVEL and written(point.unit) == "m":
        return replace(_FIXED[point.kind], decimals=METRE_DECIMALS)
    return _FIXED[point.kind]


def priority_of(kind: PointKind, alarm: AlarmKind) -> Priority:
    """Priority of the definition `alarm` of a point of `kind` where neither the plant file nor the kind gives one."""
    if kind in GAS_KINDS and alarm in BLIND:
        return BLIND_GAS_PRIORITY
    return PRIORITY[alarm]


def zero_of(kind: PointKind) -> float | None:
    """What an instrument of `kind` may read without moving; None where standing still is always a fault."""
    if kind is PointKind.OXYGEN:
        return OXYGEN_IN_AIR
    return 0.0 if kind in GAS_KINDS else None


def early_of(kind: PointKind) -> AlarmSetting:
    """How far ahead, over which window and how surely the time to a limit is foreseen for `kind`."""
    return EARLY.get(kind, PROCESS_EARLY)


def clause_of_early(kind: PointKind, horizon_s: float | None) -> Text | None:
    """The clause that gives so much time to respond to a high limit of `kind`; it holds for no other limit."""
    return CLAUSE_API_2350.get(horizon_s or 0.0) if kind is PointKind.TANK_LEVEL else None


def deadband_of(kind: PointKind, low: float, high: float) -> float:
    """Deadband of a limit in the point's unit: the EEMUA 191 share of the range, or ours for tailings ponds."""
    share = POND_DEADBAND if kind in POND_KINDS else EEMUA_DEADBAND.get(kind, OTHER_DEADBAND)
    return share * (high - low)
