"""Points whose readings decide how others are taken: modes of instruments, and suppression by design."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property, partial
from typing import Final, Generic, TypeVar

import numpy as np

from tocsin_core.detect import FALSE, I8, TRUE
from tocsin_core.detectors import health, structure
from tocsin_core.detectors.columns import NS, Columns
from tocsin_core.plant import Plant
from tocsin_core.readings import F64, I32, I64, QUALITY_MASK, U8, Bool, Frame, is_bad, is_good
from tocsin_core.special.tables import Table
from tocsin_core.special.watches import Numbered

S = TypeVar("S", bound=Columns)

MODES: Final = "modes"
SUPPRESSIONS: Final = "suppressions"

BEFORE: Final = np.int64(-1)
LARGEST_WORD: Final = 2.0**63


def ranks(owner: I64) -> list[I64]:
    """The places of `owner` in rounds: in each no owner stands twice, and an owner's places keep their order."""
    order = np.argsort(owner, kind="stable")
    starts = np.flatnonzero(np.r_[True, owner[order][1:] != owner[order][:-1]]) if len(order) else order
    rank = np.empty(len(owner), np.int64)
    rank[order] = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
    by_rank = np.argsort(rank, kind="stable")
    return np.split(by_rank, np.flatnonzero(np.diff(rank[by_rank])) + 1) if len(order) else []


@dataclass(frozen=True, eq=False)
class Course(Generic[S]):
    """How the rows of a `table` went through a step: as they were before it, and after each reading of their triggers.

    The k records are of `row` after the reading of `key`, both i64[k], sorted by row and key; key -1 is before the
    step. A row without any is as it stands in the table.
    """

    table: S
    row: I64
    key: I64
    after: S

    def at(self, row: I64, key: I64) -> S:
        """The rows as they were right before the readings with these keys."""
        found = self.table.rows(row)
        asked = len(row)
        # A record of the reading that asks comes after the question.
        order = np.lexsort((np.r_[key, self.key], np.r_[row, self.row]))
        last = np.maximum.accumulate(np.where(order >= asked, np.arange(len(order)), -1))
        record = np.full(asked, -1, np.int64)
        question = order < asked
        told = last[question]
        record[order[question]] = np.where(told >= 0, order[told] - asked, -1)
        known = np.flatnonzero(record >= 0)
        known = known[self.row[record[known]] == row[known]]
        found.put(known, self.after.rows(record[known]))
        return found


def run(
    table: S, trigger: I64, frame: Frame, key: I64, last_ns: I64, advance: Callable[[S, I64, Frame], S]
) -> Course[S]:
    """`table`, whose row i follows point `trigger[i]` (i64, ascending), taken through the readings of `frame`.

    It is changed, and how it went is returned. `key` (i64, ascending) are the places of the readings, `last_ns` (i64 by
    point) the times of the last readings before them; late ones are left out, as everywhere. `advance` takes rows,
    their numbers and a reading for each.
    """
    heard = np.flatnonzero(heard_by(trigger, frame.point))
    point = np.unique(frame.point[heard]).astype(np.int64)
    latest = last_ns[point]
    row, _ = _places(trigger, point)
    rows, keys, after = [row], [np.full(len(row), BEFORE)], [table.rows(row)]
    for part in ranks(frame.point[heard].astype(np.int64)):
        here = heard[part]
        of = np.searchsorted(point, frame.point[here])
        fresh = frame.time_ns[here] > latest[of]
        here, of = here[fresh], of[fresh]
        latest[of] = frame.time_ns[here]
        row, source = _places(trigger, point[of])
        rows.append(row)
        keys.append(key[here[source]])
        table.put(row, advance(table.rows(row), row, frame.take(here[source])))
        after.append(table.rows(row))
    row, joined = np.concatenate(rows), np.concatenate(keys)
    order = np.lexsort((joined, row))
    return Course(table, row[order], joined[order], _joined(after).rows(order))


def heard_by(trigger: I64, point: I32) -> Bool:
    """Which of `point` (i32[n]) are among `trigger` (i64, ascending, at least one); shape (n,)."""
    heard: Bool = trigger[np.minimum(np.searchsorted(trigger, point), len(trigger) - 1)] == point
    return heard


def _places(ascending: I64, wanted: I64 | I32) -> tuple[I64, I64]:
    """The places of each of `wanted` in `ascending`, joined, and for each of them which of `wanted` it is."""
    low = np.searchsorted(ascending, wanted, "left")
    count = np.searchsorted(ascending, wanted, "right") - low
    source = np.repeat(np.arange(len(wanted)), count)
    return low[source] + np.arange(len(source)) - np.repeat(np.cumsum(count) - count, count), source


def _joined(parts: Sequence[S]) -> S:
    first = parts[0]
    columns = (np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(first))
    return type(first)(*columns)


@dataclass(frozen=True, eq=False)
class ModeGates:
    """n instruments whose mode a status word tells: `trigger` (ascending) reads it, of the point `target`, i64[n].

    The other columns, i64[n], are as for `detectors.health.mode_of` and `mode_at`.
    """

    trigger: I64
    target: I64
    code_mask: I64
    warm_up: I64
    calibration: I64
    settle_ns: I64
    table: Table

    def run(self, table: health.Modes, frame: Frame, key: I64, last_ns: I64) -> Course[health.Modes]:
        """The modes through the readings of `frame`."""

        def advance(rows: health.Modes, row: I64, heard: Frame) -> health.Modes:
            # What no word can hold says nothing: processors do not agree on what integer it becomes.
            good = is_good(heard.quality) & (np.abs(heard.value) < LARGEST_WORD)
            word = np.where(good, heard.value, 0.0).astype(np.int64)
            mode = health.mode_of(word, self.code_mask[row], self.warm_up[row], self.calibration[row])
            return health.advance_modes(rows, heard.time_ns, mode, good)

        return run(table, self.trigger, frame, key, last_ns, advance)

    def quality(self, course: Course[health.Modes], frame: Frame, key: I64) -> U8:
        """The qualities of `frame` with the modes in which its readings were taken.

        What a mode says of a reading counts where it is worse than what its quality says itself.
        """
        place = np.minimum(np.searchsorted(self._targets, frame.point), len(self._targets) - 1)
        here = np.flatnonzero(self._targets[place] == frame.point)
        row = self._by_target[place[here]]
        mode = health.mode_at(course.at(row, key[here]), frame.time_ns[here], self.settle_ns[row])
        own, said = frame.quality[here], health.mode_quality(mode)
        worse = (said & QUALITY_MASK) < (own & QUALITY_MASK)
        quality = frame.quality.copy()
        quality[here] = np.where(worse & ~is_bad(own), said, own)
        return quality

    @cached_property
    def _by_target(self) -> I64:
        return np.argsort(self.target, kind="stable")

    @cached_property
    def _targets(self) -> I64:
        return self.target[self._by_target]


@dataclass(frozen=True, eq=False)
class SuppressionGates:
    """n suppressions by design: `trigger` (ascending) reading `low` to `high` suppresses definition `definition`.

    `target` is the definition's point; delays and `longest_ns` as for `detectors.structure.judge_suppression`.
    """

    trigger: I64
    definition: I64
    target: I64
    low: F64
    high: F64
    on_ns: I64
    off_ns: I64
    longest_ns: I64
    table: Table

    def run(self, table: structure.Suppression, frame: Frame, key: I64, last_ns: I64) -> Course[structure.Suppression]:
        """The suppressions through the readings of `frame`."""

        def advance(rows: structure.Suppression, row: I64, heard: Frame) -> structure.Suppression:
            with np.errstate(invalid="ignore"):
                says = (heard.value >= self.low[row]) & (heard.value <= self.high[row])
            said: I8 = np.where(says, TRUE, FALSE)
            good = is_good(heard.quality)
            return structure.advance_suppression(rows, heard.time_ns, said, good, self.on_ns[row], self.off_ns[row])

        return run(table, self.trigger, frame, key, last_ns, advance)

    def suppressed(self, course: Course[structure.Suppression], frame: Frame, key: I64) -> tuple[I64, I64, Bool]:
        """Definitions of the points of `frame` that can be suppressed, the reading of each, and whether they are."""
        row, source = _places(self._targets, frame.point)
        row = self._by_target[row]
        state = course.at(row, key[source])
        said = structure.judge_suppression(
            state, frame.time_ns[source], self.on_ns[row], self.off_ns[row], self.longest_ns[row]
        )
        return self.definition[row], source, said == TRUE

    @cached_property
    def _by_target(self) -> I64:
        return np.lexsort((self.definition, self.target))

    @cached_property
    def _targets(self) -> I64:
        return self.target[self._by_target]


def _integers(values: Sequence[int]) -> I64:
    return np.asarray(values, np.int64)


def compile_modes(plant: Plant) -> ModeGates | None:
    """The mode gates of `plant`, None where no point has one."""
    pairs = [(plant.point_index[p.mode_source.point], p, p.mode_source) for p in plant.points if p.mode_source]
    if not pairs:
        return None
    pairs.sort(key=lambda pair: (pair[0], pair[1].index))
    sources = [source for _, _, source in pairs]
    return ModeGates(
        trigger=_integers([trigger for trigger, _, _ in pairs]),
        target=_integers([point.index for _, point, _ in pairs]),
        code_mask=_integers([source.code_mask for source in sources]),
        warm_up=_integers([source.warm_up for source in sources]),
        calibration=_integers([source.calibration for source in sources]),
        settle_ns=_integers([round(source.settle_s * NS) for source in sources]),
        table=Table(
            tuple(f"{point.id}<{source.point}" for _, point, source in pairs), partial(health.Modes.empty, len(pairs))
        ),
    )


def compile_suppressions(plant: Plant, definitions: Sequence[Numbered]) -> SuppressionGates | None:
    """The suppressions by design among `definitions`, None where there is none."""
    found = [
        (plant.point_index[by.point], number, point, by, definition.id)
        for number, point, definition in definitions
        if (by := definition.suppressed_by) is not None
    ]
    if not found:
        return None
    found.sort(key=lambda row: row[:2])
    suppressors = [by for _, _, _, by, _ in found]
    keys = tuple(f"{name}<{by.point}@{by.low!r}:{by.high!r}" for _, _, _, by, name in found)
    return SuppressionGates(
        trigger=_integers([trigger for trigger, _, _, _, _ in found]),
        definition=_integers([number for _, number, _, _, _ in found]),
        target=_integers([point for _, _, point, _, _ in found]),
        low=np.asarray([by.low for by in suppressors]),
        high=np.asarray([by.high for by in suppressors]),
        on_ns=_integers([round(by.on_delay_s * NS) for by in suppressors]),
        off_ns=_integers([round(by.off_delay_s * NS) for by in suppressors]),
        longest_ns=_integers([round(by.longest_s * NS) for by in suppressors]),
        table=Table(keys, partial(structure.Suppression.empty, len(found))),
    )
