"""What a replay comes to: how often each rule spoke, how early the warnings were, and how often wrongly."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from tocsin_core.plant import AlarmDefinition, AlarmKind, Priority
from tocsin_core.readings import F64, I64, Bool, Frame
from tocsin_core.replay.playing import Occurrence
from tocsin_core.rules import NS, Rules

# ISA-18.2 and EEMUA 191 count alarms in windows of 10 minutes; more than 10 in one are a flood.
WINDOW_NS: Final = 600 * NS
FLOOD: Final = 10
DAY_S: Final = 86400.0

# What speaks of the instrument says nothing of the process, so no label makes it right or wrong.
INSTRUMENT: Final = (AlarmKind.LOOP, AlarmKind.STUCK, AlarmKind.SPIKE, AlarmKind.BAD, AlarmKind.STALE)


@dataclass(frozen=True, slots=True)
class Spans:
    """Stretches of time from `start_ns[i]` to `end_ns[i]`, both included, ascending and apart. i64[n] each."""

    start_ns: I64
    end_ns: I64

    def __len__(self) -> int:
        """How many."""
        return len(self.start_ns)

    def near(self, time_ns: I64, tolerance_ns: int) -> Bool:
        """Which of the times lie in a stretch or at most `tolerance_ns` beside one."""
        if not len(self):
            return np.zeros(len(time_ns), np.bool_)
        after = np.searchsorted(self.start_ns, time_ns + tolerance_ns, side="right") - 1
        inside: Bool = (after >= 0) & (time_ns - tolerance_ns <= self.end_ns[after])
        return inside


def spans_of(time_ns: I64, label: F64) -> Spans:
    """The stretches in which `label` (f64[n] at ascending times) is not 0, from their first row to their last."""
    on = np.r_[False, label != 0.0, False]
    edges = np.flatnonzero(on[1:] != on[:-1])
    return Spans(time_ns[edges[::2]], time_ns[edges[1::2] - 1])


@dataclass(frozen=True, slots=True)
class RuleReport:
    """One rule: how often it was raised, in all and a day, for how long it stood, and how often wrongly.

    `false_alarms` is None where nothing is labelled, or where the rule is an instrument's.
    """

    alarm: str
    priority: Priority
    occurrences: int
    per_day: float
    standing_s: float
    standing_at_end: bool
    false_alarms: int | None


@dataclass(frozen=True, slots=True)
class EarlyReport:
    """One early warning against the limit it foresees.

    Of `limits` occurrences of the limit `foreseen` came while the warning stood. The lead is the time from a warning to
    the first limit that came while it stood; `lead_p10_s` is exceeded by nine in ten. `unfulfilled` warnings ended
    (or stood to the end) without their limit: it was averted, or they were wrong.
    """

    alarm: str
    limit: str
    warnings: int
    limits: int
    foreseen: int
    unfulfilled: int
    lead_median_s: float | None
    lead_p10_s: float | None


@dataclass(frozen=True, slots=True)
class LabelReport:
    """All process alarms against the labelled stretches, `tolerance_s` on either side allowed.

    `detected` stretches had at least one process alarm raised in them; `false_alarms` were raised outside of all.
    """

    stretches: int
    detected: int
    false_alarms: int
    false_alarms_per_day: float
    tolerance_s: float


@dataclass(frozen=True, slots=True)
class Report:
    """The whole. Times in ns; `worst_10_min` is the most raisings in any 10 minutes, from `worst_at_ns` on."""

    start_ns: int
    end_ns: int
    readings: int
    points: int
    late: int
    rules: tuple[RuleReport, ...]
    early: tuple[EarlyReport, ...]
    by_priority: dict[Priority, int]
    worst_10_min: int
    worst_at_ns: int | None
    labels: LabelReport | None
    not_judged: tuple[str, ...]

    @property
    def occurrences(self) -> int:
        """All raisings."""
        return sum(rule.occurrences for rule in self.rules)

    @property
    def flood(self) -> bool:
        """Whether there was an alarm flood."""
        return self.worst_10_min > FLOOD


def report(
    rules: Rules,
    frame: Frame,
    found: Sequence[Occurrence],
    is_judged: Bool,
    late: int,
    labels: Spans | None,
    tolerance_s: float,
) -> Report:
    """What `found` (occurrences of judged definitions, in order of raising) comes to.

    `frame` (at least one reading, ascending in time) is what was played, `late` how many of its readings were late.
    """
    start_ns, end_ns = int(frame.time_ns[0]), int(frame.time_ns[-1])
    # One reading has no length; a second keeps what is counted a day finite.
    days = max(end_ns - start_ns, NS) / NS / DAY_S
    by_rule: dict[int, list[Occurrence]] = {int(number): [] for number in np.flatnonzero(is_judged)}
    for each in found:
        by_rule[each.definition].append(each)
    process = [each for each in found if rules.definitions[each.definition].kind not in INSTRUMENT]
    worst, worst_at_ns = _worst(found)
    return Report(
        start_ns,
        end_ns,
        len(frame),
        len(np.unique(frame.point)),
        late,
        tuple(
            _rule(rules.definitions[number], mine, days, end_ns, labels, tolerance_s)
            for number, mine in by_rule.items()
        ),
        tuple(_earlies(rules, by_rule)),
        {p: sum(rules.definitions[each.definition].priority is p for each in found) for p in reversed(Priority)},
        worst,
        worst_at_ns,
        None if labels is None else _labels(process, labels, tolerance_s, days),
        tuple(rules.definitions[int(number)].id for number in np.flatnonzero(~is_judged)),
    )


def _raised(found: Sequence[Occurrence]) -> I64:
    return np.asarray([each.raised_ns for each in found], dtype=np.int64)


def _rule(
    definition: AlarmDefinition,
    mine: Sequence[Occurrence],
    days: float,
    end_ns: int,
    labels: Spans | None,
    tolerance_s: float,
) -> RuleReport:
    false = None
    if labels is not None and definition.kind not in INSTRUMENT:
        false = int(np.count_nonzero(~labels.near(_raised(mine), round(tolerance_s * NS))))
    return RuleReport(
        definition.id,
        definition.priority,
        len(mine),
        len(mine) / days,
        sum((end_ns if each.returned_ns is None else each.returned_ns) - each.raised_ns for each in mine) / NS,
        any(each.returned_ns is None for each in mine),
        false,
    )


def _earlies(rules: Rules, by_rule: dict[int, list[Occurrence]]) -> list[EarlyReport]:
    found = []
    for number, warnings in by_rule.items():
        definition = rules.definitions[number]
        if definition.limit is None:
            continue
        limit = f"{definition.point}/{definition.limit}"
        limits = by_rule.get(rules.index.get(limit, -1), [])
        if warnings or limits:
            found.append(_early(definition.id, limit, warnings, limits))
    return found


def _early(alarm: str, limit: str, warnings: Sequence[Occurrence], limits: Sequence[Occurrence]) -> EarlyReport:
    came = _raised(limits)
    foreseen = np.zeros(len(limits), np.bool_)
    leads = []
    for warning in warnings:
        until = np.iinfo(np.int64).max if warning.returned_ns is None else warning.returned_ns
        inside = (came >= warning.raised_ns) & (came <= until)
        foreseen |= inside
        if inside.any():
            leads.append((int(came[inside][0]) - warning.raised_ns) / NS)
    return EarlyReport(
        alarm,
        limit,
        len(warnings),
        len(limits),
        int(np.count_nonzero(foreseen)),
        len(warnings) - len(leads),
        float(np.median(leads)) if leads else None,
        float(np.percentile(leads, 10)) if leads else None,
    )


def _worst(found: Sequence[Occurrence]) -> tuple[int, int | None]:
    if not found:
        return 0, None
    raised = _raised(found)
    counts = np.searchsorted(raised, raised + WINDOW_NS) - np.arange(len(raised))
    worst = int(counts.argmax())
    return int(counts[worst]), int(raised[worst])


def _labels(process: Sequence[Occurrence], labels: Spans, tolerance_s: float, days: float) -> LabelReport:
    tolerance_ns, raised = round(tolerance_s * NS), _raised(process)
    false = int(np.count_nonzero(~labels.near(raised, tolerance_ns)))
    detected = np.searchsorted(raised, labels.end_ns + tolerance_ns, side="right") > np.searchsorted(
        raised, labels.start_ns - tolerance_ns
    )
    return LabelReport(len(labels), int(np.count_nonzero(detected)), false, false / days, tolerance_s)
