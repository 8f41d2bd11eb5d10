"""Computed points: what the readings of their members come to, reading by reading."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import Final, NamedTuple, cast

import numpy as np

from tocsin_core import normal
from tocsin_core.detect import FALSE, HOLD, I8, TRUE
from tocsin_core.detectors import balance, structure, voting
from tocsin_core.detectors.columns import NEVER, NS, Columns, members
from tocsin_core.normal import NormalModel, NormalState
from tocsin_core.plant import AlarmKind, Plant, PlantPoint
from tocsin_core.plant.computed import Balance, Grade, Median, Normal, Spread, Vote, points_of
from tocsin_core.readings import BAD, F64, GOOD, I64, U8, UNCERTAIN, Bool, Frame, is_good
from tocsin_core.special.gates import ranks
from tocsin_core.special.tables import Table
from tocsin_core.special.watches import Numbered

# So many seats are looked at in one go.
MOST_SEATS: Final = 1_000_000

MOST_NAMED: Final = 3
LEAST_NAMED: Final = 0.01


class Computed(NamedTuple):
    """Readings of computed points in the order of what brought them.

    `source` i64: the place of that reading among those heard; `said` i8: what the computation itself answers an
    `abnormal` alarm. `why(i)` says in words what lies behind reading i.
    """

    frame: Frame
    source: I64
    said: I8
    why: Callable[[int], str]


class Turned(NamedTuple):
    """An alarm that was raised or returned right after the reading at `place` among those heard."""

    place: int
    definition: int
    active: bool


class Heard(NamedTuple):
    """What a step brought: readings of members (in arrival order, none late), and what became of their alarms.

    `active` bool by definition, as it is after all of them; `now_ns` is the stamp of the last tick, after which they
    came.
    """

    frame: Frame
    now_ns: int
    turned: Sequence[Turned]
    active: Bool


def _frame(point: I64, time_ns: I64, value: F64, quality: U8) -> Frame:
    known = np.isfinite(value)
    return Frame(
        point.astype(np.int32), time_ns, np.where(known, value, np.nan), np.where(known, quality, np.uint8(BAD))
    )


def _nothing(_: int) -> str:
    return ""


class Computer(ABC):
    """All computed points of one rule: `point` i64[G] are their numbers, `members` i64 those that they hear.

    `tables` are its part of the engine's state, `models` the normal-operation models by computed point and digest: the
    state of one model means nothing to another.
    """

    name: str
    point: I64
    members: I64
    tables: Mapping[str, Table]
    models: Mapping[str, NormalModel]

    @abstractmethod
    def compute(self, tables: dict[str, Columns], units: dict[str, NormalState], heard: Heard) -> Computed:
        """What `heard` leads to; `tables` (those of this computer by name) and `units` are brought up to date."""


@dataclass(frozen=True, eq=False)
class _Seats:
    """G groups of members, whose last readings are kept; a member not heard for `longest_ns` i64[G] is not usable.

    How long ago is told by the ticks between, not by the members' own clocks: one that is ahead would count as alive
    long after its death, and make all the others too old.
    """

    name: str
    groups: voting.Groups
    longest_ns: I64
    table: Table

    def hear(self, tables: dict[str, Columns], heard: Heard) -> tuple[voting.Seen, I64, I64]:
        """Each group after each reading of a member: how it stood, which reading, and by which seat."""
        frame = heard.frame
        seat, source = self.groups.seats_of(frame.point.astype(np.int64))
        state = cast("voting.Members", tables[self.name])
        now_ns = np.full(len(seat), heard.now_ns)
        tables[self.name], seen = voting.advance(
            state, self.groups, seat, now_ns, frame.value[source], frame.quality[source]
        )
        return seen, source, seat


def _seats(name: str, places: Sequence[PlantPoint], members: Sequence[Sequence[str]], plant: Plant) -> _Seats:
    groups = voting.Groups.of([[plant.point_index[member] for member in each] for each in members])
    keys = tuple(
        f"{place.id}:{member}" for place, each in zip(places, members, strict=True) for member in dict.fromkeys(each)
    )
    longest_ns = np.asarray([round(place.longest_s * NS) for place in places], np.int64)
    return _Seats(name, groups, longest_ns, Table(keys, partial(voting.Members.empty, len(keys))))


def _numbers(places: Sequence[PlantPoint]) -> I64:
    return np.asarray([place.index for place in places], np.int64)


class _Redundant(Computer):
    """Votes, medians and spreads: one number of the usable members of a group."""

    def __init__(self, name: str, places: Sequence[PlantPoint], plant: Plant) -> None:
        how = [cast("Vote | Median | Spread", place.compute) for place in places]
        self.name, self.point = name, _numbers(places)
        self._seats = _seats(name, places, [each.of for each in how], plant)
        self._names = [member for each in how for member in each.of]
        self.members = np.unique(self._seats.groups.member)
        self.tables, self.models = {name: self._seats.table}, {}
        votes = [each for each in how if isinstance(each, Vote)]
        self._need = np.asarray([vote.need for vote in votes], np.int64)
        self._safe = np.asarray([vote.lost == "safe" for vote in votes], np.bool_)
        self._high = np.asarray([vote.side == "high" for vote in votes], np.bool_)

    def compute(self, tables: dict[str, Columns], units: dict[str, NormalState], heard: Heard) -> Computed:  # noqa: ARG002
        seen, source, _ = self._seats.hear(tables, heard)
        usable = seen.usable(self._seats.longest_ns[seen.group])
        why: Callable[[int], str] = _nothing
        match self.name:
            case "vote":
                value, why = self._vote(seen, usable)
            case "spread":
                apart = voting.deviation(seen.value, usable, seen.first)
                value = apart.spread

                def why(row: int) -> str:
                    return self._names[int(seen.seat[apart.worst[row]])] if apart.worst[row] >= 0 else ""

            case _:
                value = voting.median(seen.value, usable, seen.first)
        quality = np.full(len(value), GOOD, np.uint8)
        frame = _frame(self.point[seen.group], heard.frame.time_ns[source], value, quality)
        return Computed(frame, source, np.full(len(value), HOLD, np.int8), why)

    def _vote(self, seen: voting.Seen, usable: Bool) -> tuple[F64, Callable[[int], str]]:
        group = seen.group
        need, size = self._need[group], self._seats.groups.size[group]
        told = voting.vote(seen.value, usable, seen.first, need, self._safe[group], self._high[group])

        def why(row: int) -> str:
            return f"{told.need[row]}oo{told.of[row]}" if told.of[row] < size[row] else ""

        return told.value, why


class _Tanks(Computer):
    """Mass balances over one window: each reading of the level closes the balance anew."""

    def __init__(self, name: str, places: Sequence[PlantPoint], plant: Plant) -> None:
        how = [cast("Balance", place.compute) for place in places]
        self.name, self.point = name, _numbers(places)
        self._window = balance.HOUR if how[0].window_h == 1 else balance.DAY
        gauges = [(each.level, *((each.temperature,) if each.temperature else ())) for each in how]
        members = [(*gauge, *each.inflow, *each.outflow) for gauge, each in zip(gauges, how, strict=True)]
        self._seats = _seats(f"{name}.seats", places, members, plant)
        self.members = np.unique(self._seats.groups.member)
        unit = [plant.points[plant.point_index[member]].unit for each in members for member in each]
        owner = self._seats.groups.group.tolist()
        place = np.arange(len(unit)) - self._seats.groups.first[self._seats.groups.group]
        self._in, self._out = np.zeros(len(unit)), np.zeros(len(unit))
        for seat, (text, tank) in enumerate(zip(unit, owner, strict=True)):
            flow = int(place[seat]) - len(gauges[tank])
            if flow >= 0:
                rates = self._in if flow < len(how[tank].inflow) else self._out
                rates[seat] = balance.kg_s_of(text, how[tank].density)
        first = self._seats.groups.first[:-1]
        self._metres = np.asarray(
            [balance.metres_of(unit[seat], how[tank].table[-1][0]) for tank, seat in enumerate(first.tolist())]
        )
        self._measured = np.asarray([each.temperature is not None for each in how])
        self._tanks = balance.tanks_of([balance.TankData(each.table, **each.model_dump(include=_TANK)) for each in how])
        keys = tuple(place.id for place in places)
        empty = partial(balance.Balance.empty, len(places), self._window)
        self.tables = {self._seats.name: self._seats.table, name: Table(keys, empty)}
        self.models = {}

    def compute(self, tables: dict[str, Columns], units: dict[str, NormalState], heard: Heard) -> Computed:  # noqa: ARG002
        seen, source, seat = self._seats.hear(tables, heard)
        group, first = seen.group, seen.first[:-1]
        closing = np.flatnonzero(seat == self._seats.groups.first[group])
        whole = np.logical_and.reduceat(seen.usable(self._seats.longest_ns[group]), first) if len(first) else first > 0
        tank = group[closing]
        rates = [self._rate(factor, seen)[closing] for factor in (self._in, self._out)]
        level = seen.value[first[closing]] * self._metres[tank]
        beside = seen.value[np.minimum(first[closing] + 1, max(len(seen.value) - 1, 0))]
        temperature = np.where(self._measured[tank], beside, self._tanks.reference[tank])
        held = balance.inventory(self._tanks, tank, level, temperature)
        measured = balance.Measured(heard.frame.time_ns[source[closing]], rates[0], rates[1], held.mass, whole[closing])
        value, known = self._close(cast("balance.Balance", tables[self.name]), tank, measured, held.uncertainty)
        quality = np.where(known, np.uint8(GOOD), np.uint8(UNCERTAIN))
        good = measured.good & np.isfinite(held.mass)
        frame = _frame(self.point[tank], measured.time_ns, np.where(good, value, np.nan), quality)
        return Computed(frame, source[closing], np.full(len(tank), HOLD, np.int8), _nothing)

    @staticmethod
    def _rate(factor: F64, seen: voting.Seen) -> F64:
        share = factor[seen.seat]
        flows = np.where(share > 0.0, np.nan_to_num(seen.value, nan=0.0) * share, 0.0)
        return np.add.reduceat(flows, seen.first[:-1]) if len(seen.group) else flows

    def _close(self, state: balance.Balance, tank: I64, measured: balance.Measured, mass_u: F64) -> tuple[F64, Bool]:
        """The loss in its uncertainties after each reading, and whether enough of the window was measured."""
        value, known = np.full(len(tank), np.nan), np.zeros(len(tank), np.bool_)
        for part in ranks(tank):
            rows = tank[part]
            one = balance.Measured(*(getattr(measured, name)[part] for name in balance.Measured.__slots__))
            after = balance.advance(state.rows(rows), self._window, one, self._seats.longest_ns[rows])
            state.put(rows, after)
            closure = balance.close(after, self._window, self._tanks, rows, mass_u[part])
            with np.errstate(divide="ignore", invalid="ignore"):
                value[part] = closure.loss / closure.uncertainty
            known[part] = closure.share >= balance.LEAST_SHARE
        return value, known


_TANK: Final = {"density", "reference", "beta", "gamma", "level_u", "temperature_u", "in_u", "out_u", "table_u"}

_GRADES: Final = {
    AlarmKind.BLUE: structure.Grade.BLUE,
    AlarmKind.YELLOW: structure.Grade.YELLOW,
    AlarmKind.ORANGE: structure.Grade.ORANGE,
    AlarmKind.RED: structure.Grade.RED,
}


class _Ponds(Computer):
    """Grades of tailings ponds from the standing alarms of their points; nothing of its own is remembered."""

    def __init__(self, name: str, places: Sequence[PlantPoint], plant: Plant, definitions: Sequence[Numbered]) -> None:
        self.name, self.point = name, _numbers(places)
        self.tables, self.models = {}, {}
        how = [cast("Grade", place.compute) for place in places]
        items = [[plant.point_index[member] for member in item] for each in how for item in each.items]
        self._items = voting.Groups.of(items)
        self._pond_first = np.cumsum([0, *(len(each.items) for each in how)], dtype=np.int64)
        self._seat_first = self._items.first[self._pond_first]
        self._pond_of = np.repeat(np.arange(len(how)), np.diff(self._pond_first))[self._items.group]
        self.members = np.unique(self._items.member)
        of_members = set(self.members.tolist())
        graded = [(point, number, _GRADES[d.kind]) for number, point, d in definitions if d.kind in _GRADES]
        graded = [each for each in graded if each[0] in of_members]
        self._point_of = {number: point for point, number, _ in graded}
        self._graded: dict[int, dict[int, int]] = {}
        for point, number, grade in graded:
            self._graded.setdefault(point, {})[number] = int(grade)
        self._definition = np.asarray([number for _, number, _ in graded], np.int64)
        self._grade = np.asarray([grade for _, _, grade in graded], np.uint8)
        owner = np.asarray([point for point, _, _ in graded], np.int64)
        self._first = np.searchsorted(owner, np.append(self.members, len(plant.points))).astype(np.int64)

    def compute(self, tables: dict[str, Columns], units: dict[str, NormalState], heard: Heard) -> Computed:  # noqa: ARG002
        seat, source = self._items.seats_of(heard.frame.point.astype(np.int64))
        places = len(heard.frame) + 1
        asked = np.unique((source + 1) + places * self._pond_of[seat])
        changes = self._changes(heard, places)
        # How each pond stood before all of it, and after each reading that changed it.
        changed = changes.key % places + places * self._pond_of[changes.key // places]
        stood = np.unique(np.concatenate((asked // places * places, changed)))
        value = self._grades(stood, places, heard.active, changes)[np.searchsorted(stood, asked, "right") - 1]
        pond, source = asked // places, asked % places - 1
        frame = _frame(self.point[pond], heard.frame.time_ns[source], value, np.full(len(pond), GOOD, np.uint8))
        return Computed(frame, source, np.full(len(pond), HOLD, np.int8), _nothing)

    def _changes(self, heard: Heard, places: int) -> "_Regraded":
        """What became of the points whose grades turned, each first as it was before."""
        turned = [each for each in heard.turned if each.definition in self._point_of]
        points = dict.fromkeys(self._point_of[each.definition] for each in turned)
        standing = {number: bool(heard.active[number]) for point in points for number in self._graded[point]}
        for each in reversed(turned):
            standing[each.definition] = not each.active
        rows = [(point, 0, self._highest(point, standing)) for point in points]
        for each in turned:
            standing[each.definition] = each.active
            point = self._point_of[each.definition]
            rows.append((point, each.place + 1, self._highest(point, standing)))
        columns = np.asarray(rows, np.int64).reshape(-1, 3)
        seat, of = self._items.seats_of(columns[:, 0])
        key = seat * places + columns[of, 1]
        order = np.argsort(key, kind="stable")
        return _Regraded(key[order], columns[of[order], 2].astype(np.uint8))

    def _highest(self, point: int, standing: dict[int, bool]) -> int:
        return max((grade for number, grade in self._graded[point].items() if standing[number]), default=0)

    def _grades(self, stood: I64, places: int, active: Bool, changes: "_Regraded") -> F64:
        """The grades of ponds after readings, both in `stood`: pond * `places` + place from 1, 0 before all."""
        found = np.zeros(len(stood))
        size = np.diff(self._seat_first)[stood // places]
        for rows in np.split(np.arange(len(stood)), np.flatnonzero(np.diff(np.cumsum(size) // MOST_SEATS)) + 1):
            pond = stood[rows] // places
            seat, row = members(self._seat_first, pond)
            item, of = members(self._pond_first, pond)
            first = np.r_[0, np.cumsum(self._items.size[item])]
            grade = self._standing(self._items.member[seat], active)
            if len(changes.key):
                last = np.searchsorted(changes.key, seat * places + (stood[rows] % places)[row], "right") - 1
                known = (last >= 0) & (changes.key[last] // places == seat)
                grade[known] = changes.grade[last[known]]
            grade = structure.item_grade(grade, first)
            found[rows] = structure.pond_grade(grade, np.searchsorted(of, np.arange(len(rows) + 1)))
        return found

    def _standing(self, point: I64, active: Bool) -> U8:
        """The highest grade that stands at each point."""
        place = np.searchsorted(self.members, point)
        which, of = members(self._first, place)
        grade = np.zeros(len(point), np.uint8)
        np.maximum.at(grade, of, self._grade[which] * active[self._definition[which]])
        return grade


class _Regraded(NamedTuple):
    """Grades of seats after readings: `key` i64 seat * places + place, ascending, and of two alike the later stands."""

    key: I64
    grade: U8


@dataclass(slots=True)
class Slots(Columns):
    """The period that each unit's newest reading lies in, i64[n] (-1: nothing read)."""

    slot: I64

    @classmethod
    def empty(cls, size: int) -> "Slots":
        """`size` units of which nothing has been read."""
        return cls(np.full(size, NEVER, np.int64))


class _Units(Computer):
    """Units judged by their normal-operation models: a period's row is judged when the next period begins."""

    def __init__(self, name: str, places: Sequence[PlantPoint], plant: Plant) -> None:
        self.name, self.point = name, _numbers(places)
        self._how = [cast("Normal", place.compute) for place in places]
        self._ids = [place.id for place in places]
        self._models = [plant.models[each.model] for each in self._how]
        self._seats = _seats(f"{name}.seats", places, [model.names for model in self._models], plant)
        self._period_ns = [round(model.period_s * NS) for model in self._models]
        self.members = np.unique(self._seats.groups.member)
        keys = tuple(f"{place}@{period}" for place, period in zip(self._ids, self._period_ns, strict=True))
        self.tables = {self._seats.name: self._seats.table, name: Table(keys, partial(Slots.empty, len(keys)))}
        digests = [blake2b(normal.model_to_bytes(model), digest_size=8).hexdigest() for model in self._models]
        self._units = [f"{place}@{digest}" for place, digest in zip(self._ids, digests, strict=True)]
        self.models = dict(zip(self._units, self._models, strict=True))

    def compute(self, tables: dict[str, Columns], units: dict[str, NormalState], heard: Heard) -> Computed:
        before = cast("voting.Members", tables[self._seats.name])
        before = before.rows(np.arange(len(before.time_ns)))
        seen, source, _ = self._seats.hear(tables, heard)
        slots = cast("Slots", tables[self.name])
        time_ns = heard.frame.time_ns[source]
        if not len(source):
            return Computed(Frame.empty(), source, np.zeros(0, np.int8), _nothing)
        parts = [
            self._judge(unit, np.flatnonzero(seen.group == unit), time_ns, seen, before, slots, units)
            for unit in np.unique(seen.group).tolist()
        ]
        closing = np.concatenate([part.closing for part in parts])
        order = np.argsort(closing, kind="stable")
        closing = closing[order]
        value, good, alarm = (
            np.concatenate([getattr(part, name) for part in parts])[order] for name in ("value", "good", "alarm")
        )
        shares = [share for part in parts for share in part.shares]
        frame = _frame(
            self.point[seen.group[closing]],
            time_ns[closing],
            np.where(good, value, np.nan),
            np.full(len(closing), GOOD, np.uint8),
        )

        def why(row: int) -> str:
            return _named(self._models[int(seen.group[closing[row]])].names, shares[int(order[row])])

        return Computed(frame, source[closing], np.where(alarm, TRUE, FALSE), why)

    def _judge(
        self,
        unit: int,
        events: I64,
        time_ns: I64,
        seen: voting.Seen,
        before: voting.Members,
        slots: Slots,
        units: dict[str, NormalState],
    ) -> "_Judged":
        model = self._models[unit]
        slot = time_ns[events] // self._period_ns[unit]
        newest = np.maximum.accumulate(np.r_[slots.slot[unit], slot])
        closing = np.flatnonzero((slot > newest[:-1]) & (newest[:-1] != NEVER))
        slots.slot[unit] = newest[-1]
        rows = np.empty((len(closing), len(model.names)))
        seats = np.arange(self._seats.groups.first[unit], self._seats.groups.first[unit + 1])
        for number, event in enumerate(closing.tolist()):
            now_ns = seen.at_ns[events[event]]
            if event:
                earlier = events[event - 1]
                members = slice(int(seen.first[earlier]), int(seen.first[earlier + 1]))
                heard_ns, value, quality = seen.time_ns[members], seen.value[members], seen.quality[members]
            else:
                heard_ns, value, quality = before.time_ns[seats], before.value[seats], before.quality[seats]
            usable = is_good(quality) & (now_ns - heard_ns <= self._seats.longest_ns[unit])
            rows[number] = np.where(usable, value, np.nan)
        name = self._units[unit]
        units[name], told = normal.judge(model, units[name], rows)
        value = getattr(told, self._how[unit].show)
        return _Judged(events[closing], value, told.judged, told.alarm, list(told.contributions))


class _Judged(NamedTuple):
    closing: I64
    value: F64
    good: Bool
    alarm: Bool
    shares: list[F64]


def _named(names: Sequence[str], contributions: F64) -> str:
    """The points that contribute most, with their shares of all contributions: `TT-1 60 %, PT-2 25 %`."""
    whole = float(np.nansum(contributions))
    if not whole > 0.0:
        return ""
    order = np.argsort(-np.nan_to_num(contributions), kind="stable")[:MOST_NAMED]
    shares = [(names[i], float(contributions[i]) / whole) for i in order.tolist()]
    return ", ".join(f"{name} {share:.0%}".replace("%", " %") for name, share in shares if share >= LEAST_NAMED)


def inputs_of(plant: Plant) -> dict[int, tuple[int, ...]]:
    """The numbers of the members of each computed point of `plant`, by its own."""
    modelled = {name: model.names for name, model in plant.models.items()}
    return {
        place.index: tuple(plant.point_index[member] for member in points_of(place.compute, modelled))
        for place in plant.points
        if place.compute is not None
    }


def compile_computed(plant: Plant, definitions: Sequence[Numbered]) -> tuple[Computer, ...]:
    """The computers of the computed points of `plant`."""
    by_rule: dict[str, list[PlantPoint]] = {}
    for place in plant.points:
        if place.compute is not None:
            hours = f"-{place.compute.window_h}h" if isinstance(place.compute, Balance) else ""
            by_rule.setdefault(f"{place.compute.rule}{hours}", []).append(place)
    computers: list[Computer] = []
    for name, places in by_rule.items():
        match places[0].compute:
            case Balance():
                computers.append(_Tanks(name, places, plant))
            case Grade():
                computers.append(_Ponds(name, places, plant, definitions))
            case Normal():
                computers.append(_Units(name, places, plant))
            case _:
                computers.append(_Redundant(name, places, plant))
    return tuple(computers)
