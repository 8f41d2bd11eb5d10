"""Computed points told slowly: what one reading of a member makes of votes, medians, spreads, balances and grades."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf, isfinite, nan, sqrt
from typing import Final, NamedTuple, Protocol

import numpy as np

from tests.core.oracle_lines import SECOND
from tests.core.oracle_structure import is_good
from tocsin_core.normal import NormalModel, judge, start
from tocsin_core.plant import PlantPoint
from tocsin_core.plant.computed import Balance, Grade, Median, Normal, Spread, Vote

GOOD: Final = 0xC0
UNCERTAIN: Final = 0x40
BAD: Final = 0x00


class Computed(NamedTuple):
    """A reading that was worked out: `why` is told where it raises an alarm."""

    value: float
    quality: int
    why: str = ""


class Last(NamedTuple):
    """The last reading of a point, and the tick after which it was heard."""

    time_ns: int
    value: float
    quality: int
    heard_ns: int

    def usable(self, now_ns: int, longest_s: float) -> bool:
        """Whether it may be used to compute something after the tick `now_ns`."""
        return is_good(self.quality) and now_ns - self.heard_ns <= round(longest_s * SECOND)


Lasts = Mapping[str, Last]
GradeOf = Callable[[str], int]


class Rule(Protocol):
    """What a computed point is worked out by."""

    members: tuple[str, ...]

    def after(self, member: str, lasts: Lasts) -> Computed | None:
        """What a reading of `member`, the last in `lasts`, makes of it."""


def middle_of(values: list[float]) -> float:
    """The median: of an even number the mean of the two in the middle, halved first so that nothing overflows."""
    ordered = sorted(values)
    return ordered[(len(ordered) - 1) // 2] * 0.5 + ordered[len(ordered) // 2] * 0.5


class Voted:
    """M out of N."""

    def __init__(self, point: PlantPoint, rule: Vote) -> None:
        """Nothing has been read."""
        self.rule, self.members, self.longest_s = rule, rule.of, point.longest_s

    def after(self, member: str, lasts: Lasts) -> Computed | None:
        """The value that as many as are needed have reached."""
        rule, now_ns = self.rule, lasts[member].heard_ns
        values = [lasts[m].value for m in rule.of if m in lasts and lasts[m].usable(now_ns, self.longest_s)]
        lost = len(rule.of) - len(values)
        need = max(1, rule.need - lost if rule.lost == "safe" else min(rule.need, len(values)))
        why = f"{need}oo{len(values)}" if lost else ""
        if not values:
            return Computed(nan, BAD, why)
        ordered = sorted(values, reverse=rule.side == "high")
        return Computed(ordered[need - 1], GOOD, why)


class Middle:
    """The median of the usable members."""

    def __init__(self, point: PlantPoint, rule: Median) -> None:
        """Nothing has been read."""
        self.members, self.longest_s = rule.of, point.longest_s

    def after(self, member: str, lasts: Lasts) -> Computed | None:
        """The middle one, or the mean of two."""
        now_ns = lasts[member].heard_ns
        values = [lasts[m].value for m in self.members if m in lasts and lasts[m].usable(now_ns, self.longest_s)]
        return Computed(middle_of(values), GOOD) if values else Computed(nan, BAD)


class Apart:
    """How far neighbours are apart."""

    def __init__(self, point: PlantPoint, rule: Spread) -> None:
        """Nothing has been read."""
        self.members, self.longest_s = rule.of, point.longest_s

    def after(self, member: str, lasts: Lasts) -> Computed | None:
        """The largest less the smallest; of three or more the one furthest from their median is named."""
        now_ns = lasts[member].heard_ns
        usable = [m for m in self.members if m in lasts and lasts[m].usable(now_ns, self.longest_s)]
        values = [lasts[m].value for m in usable]
        if len(values) <= 1:
            return Computed(nan, BAD)  # no number at all can be no better than bad
        middle = middle_of(values)
        furthest = max(usable, key=lambda m: abs(lasts[m].value - middle))
        apart = max(values) - min(values)
        if not isfinite(apart):
            return Computed(nan, BAD)
        return Computed(apart, GOOD, furthest if len(usable) >= 3 else "")


@dataclass(frozen=True)
class Gauged:
    """One reading of a tank: rates in kg/s, mass in kg (None: it is not good)."""

    time_ns: int
    inflow: float
    outflow: float
    mass: float | None


WINDOWS: Final = {1: (300 * SECOND, 12), 24: (3600 * SECOND, 24)}


class Balanced:
    """What is missing in a tank."""

    def __init__(self, point: PlantPoint, rule: Balance, units: Mapping[str, str]) -> None:
        """Nothing has been read."""
        self.rule, self.longest_s, self.units = rule, point.longest_s, units
        others = (*rule.inflow, *rule.outflow, *(() if rule.temperature is None else (rule.temperature,)))
        self.members = (rule.level, *others)
        self.past: list[Gauged] = []

    def after(self, member: str, lasts: Lasts) -> Computed | None:
        """A reading of the level closes the balance of all the readings in the window."""
        rule = self.rule
        if member != rule.level:
            return None
        at_ns, now_ns = lasts[member].time_ns, lasts[member].heard_ns
        good = all(m in lasts and lasts[m].usable(now_ns, self.longest_s) for m in self.members)
        mass, mass_u = self._mass(lasts) if good else (None, 0.0)
        inflow = sum(self._rate(m, lasts) for m in rule.inflow) if good else 0.0
        outflow = sum(self._rate(m, lasts) for m in rule.outflow) if good else 0.0
        self.past.append(Gauged(at_ns, inflow, outflow, mass))
        if mass is None:
            return Computed(nan, BAD)
        loss, variance, covered_ns = self._close(mass_u)
        slot_ns, slots = WINDOWS[rule.window_h]
        enough = min(covered_ns / (slot_ns * slots), 1.0) >= 0.9
        value = loss / sqrt(variance)
        if not isfinite(value):
            return Computed(nan, BAD)
        return Computed(value, GOOD if enough else UNCERTAIN)

    def _rate(self, member: str, lasts: Lasts) -> float:
        value, density = lasts[member].value, self.rule.density
        kg_s = {
            "kg/s": value,
            "kg/h": value / 3600,
            "t/h": value * 1000 / 3600,
            "m3/h": value * density / 3600,
            "L/min": value / 1000 * density / 60,
        }
        return kg_s[self.units[member]]

    def _mass(self, lasts: Lasts) -> tuple[float | None, float]:
        """What the tank holds and its standard uncertainty; None off the table."""
        rule = self.rule
        read, unit = lasts[rule.level].value, self.units[rule.level]
        level = {"m": read, "mm": read / 1000, "%": read / 100 * rule.table[-1][0]}[unit]
        slack = 1e-9 * rule.table[-1][0]
        if not rule.table[0][0] - slack <= level <= rule.table[-1][0] + slack:
            return None, 0.0
        rows = list(zip(rule.table, rule.table[1:], strict=False))
        (level_0, volume_0), (level_1, volume_1) = next((row for row in reversed(rows) if row[0][0] <= level), rows[0])
        area = (volume_1 - volume_0) / (level_1 - level_0)
        warmer = 0.0 if rule.temperature is None else lasts[rule.temperature].value - rule.reference
        volume = (volume_0 + area * (level - level_0)) * (1 + rule.gamma * warmer)
        density = rule.density * (1 - rule.beta * warmer)
        by_level = density * area * rule.level_u
        by_temperature = rule.density * volume * rule.beta * rule.temperature_u
        return density * volume, sqrt(by_level**2 + by_temperature**2)

    def _close(self, mass_u: float) -> tuple[float, float, int]:
        """Loss, its variance and the time measured, of the whole slots before and the one the window is in."""
        slot_ns, slots = WINDOWS[self.rule.window_h]
        begin = (self.past[-1].time_ns // slot_ns - slots) * slot_ns
        while len(self.past) > 1 and self.past[1].time_ns < begin:
            del self.past[0]
        inflow = outflow = gained = 0.0
        covered_ns, pieces = 0, 1
        before: Gauged | None = None
        for now in self.past:
            if now.mass is not None and now.time_ns >= begin:
                apart_ns = None if before is None else now.time_ns - before.time_ns
                if (
                    before is None
                    or before.mass is None
                    or apart_ns is None
                    or apart_ns > round(self.longest_s * SECOND)
                ):
                    pieces += 1
                else:
                    inflow += (before.inflow + now.inflow) / 2 * apart_ns / SECOND
                    outflow += (before.outflow + now.outflow) / 2 * apart_ns / SECOND
                    gained += now.mass - before.mass
                    covered_ns += apart_ns
            before = now
        rule = self.rule
        metered = (rule.in_u * inflow) ** 2 + (rule.out_u * outflow) ** 2 + (rule.table_u * gained) ** 2
        return inflow - outflow - gained, metered + 2 * pieces * mass_u**2, covered_ns


# GB 39496-2020 5.5.4: so many of blue, yellow, orange make one of the next.
MAKE_ONE: Final = ((1, 4), (2, 3), (3, 2))


class Graded:
    """The grade of a tailings pond."""

    def __init__(self, rule: Grade, grade_of: GradeOf) -> None:
        """`grade_of` tells the grade of a point as it stands."""
        self.rule, self.grade_of = rule, grade_of
        self.members = tuple(dict.fromkeys(point for item in rule.items for point in item))

    def after(self, _member: str, _lasts: Lasts) -> Computed | None:
        """The highest grade that there is one of, when lower ones have been counted together."""
        items = [self._item([self.grade_of(point) for point in item]) for item in self.rule.items]
        counts = {grade: items.count(grade) for grade in range(1, 5)}
        for grade, many in MAKE_ONE:
            counts[grade + 1] += counts[grade] // many
        return Computed(float(max((grade for grade in counts if counts[grade]), default=0)), GOOD)

    @staticmethod
    def _item(grades: list[int]) -> int:
        made = [grade + 1 for grade, many in MAKE_ONE if grades.count(grade) >= many]
        return max(*grades, *made, 0)


class Unit:
    """How far a unit is from its normal running, a row a period."""

    def __init__(self, point: PlantPoint, rule: Normal, model: NormalModel) -> None:
        """The unit is at its reference."""
        self.longest_s, self.show, self.model = point.longest_s, rule.show, model
        self.members = model.names
        self.period_ns = round(model.period_s * SECOND)
        self.state = start(model)
        self.newest_ns: int | None = None
        self.before: dict[str, Last] = {}
        self.alarm = False

    def after(self, member: str, lasts: Lasts) -> Computed | None:
        """The first reading of a newer slot closes the one before: its row is what all had read till then."""
        at_ns, now_ns = lasts[member].time_ns, lasts[member].heard_ns
        row = dict(self.before)
        self.before = {name: lasts[name] for name in self.members if name in lasts}
        newest_ns, self.newest_ns = self.newest_ns, max(self.newest_ns or at_ns, at_ns)
        if newest_ns is None or at_ns // self.period_ns <= newest_ns // self.period_ns:
            return None
        values = [
            row[name].value if name in row and row[name].usable(now_ns, self.longest_s) else nan
            for name in self.members
        ]
        self.state, judged = judge(self.model, self.state, np.array([values]))
        self.alarm = bool(judged.alarm[0])
        value = float(getattr(judged, self.show)[0])
        if not judged.judged[0]:
            return Computed(nan, BAD)
        shares = sorted(zip(-judged.contributions[0], self.members, strict=True))
        total = -sum(share for share, _ in shares) or inf
        named = [f"{name} {round(-100 * share / total)} %" for share, name in shares if share < 0]
        return Computed(value, GOOD, ", ".join(named[:3]))


def rule_of(
    point: PlantPoint, units: Mapping[str, str], models: Mapping[str, NormalModel], grade_of: GradeOf
) -> Rule | None:
    """What `point` is worked out by; None where it is read."""
    made: Rule | None = None
    match point.compute:
        case Vote():
            made = Voted(point, point.compute)
        case Median():
            made = Middle(point, point.compute)
        case Spread():
            made = Apart(point, point.compute)
        case Balance():
            made = Balanced(point, point.compute, units)
        case Grade():
            made = Graded(point.compute, grade_of)
        case Normal():
            made = Unit(point, point.compute, models[point.compute.model])
    return made
