"""A rule test as a small picture in plain characters: the readings, what was expected of each alarm, what was seen."""

from typing import Final

import numpy as np

from tocsin_core.lifecycle import Phase
from tocsin_core.readings import is_good
from tocsin_core.rule_tests.document import START_NS, Case
from tocsin_core.rule_tests.notation import seconds_text
from tocsin_core.rule_tests.running import Outcome
from tocsin_core.rules import NS

WIDEST: Final = 60
MARGIN: Final = 30
LETTER: Final = {
    Phase.NORMAL: ".",
    Phase.UNACKNOWLEDGED: "#",
    Phase.ACKNOWLEDGED: "=",
    Phase.RETURNED_UNACKNOWLEDGED: "~",
    Phase.LATCHED_UNACKNOWLEDGED: "L",
    Phase.LATCHED_ACKNOWLEDGED: "l",
}
LEGEND: Final = "readings 0-9 of their span, ! not good; expected ^ raised, v returned, * active; " + ", ".join(
    f"{letter} {phase.text}" for phase, letter in LETTER.items()
)


def draw(outcome: Outcome) -> list[str]:
    """Lines of at most 100 columns: a scale, and for each alarm that failed its readings, expected over seen."""
    case = outcome.case
    alarms = sorted({alarm for failure in outcome.failures for alarm in failure.alarms})
    points = {case.rules.definitions[case.rules.index[alarm]].point for alarm in alarms} & case.points
    end = seconds_text(case.end_ns)
    lines = [f"{'':<{MARGIN + 9}}0s{end:>{max(_width(case) - 2, len(end) + 1)}}"]
    lines += [f"{point:<{MARGIN}.{MARGIN}}readings {_readings(case, point)}" for point in sorted(points)]
    for alarm in alarms:
        lines.append(f"{alarm:<{MARGIN}.{MARGIN}}expected {_expected(case, alarm)}".rstrip())
        lines.append(f"{'':<{MARGIN}}seen     {_seen(outcome, alarm)}")
    return lines


def _width(case: Case) -> int:
    """One column a second, as long as there is room."""
    return min(WIDEST, case.end_ns // NS + 1)


def _column(time_ns: int, case: Case) -> int:
    return time_ns * _width(case) // (case.end_ns + 1)


def _readings(case: Case, point: str) -> str:
    frame = case.frame.take(case.frame.point == case.plant.point_index[point])
    good = is_good(frame.quality)
    row = ["_"] * _width(case)
    if good.any():
        low, high = float(frame.value[good].min()), float(frame.value[good].max())
        digits = np.zeros(len(frame)) if high == low else (frame.value - low) / (high - low) * 9
    else:
        digits = np.zeros(len(frame))
    for time_ns, digit, is_usable in zip(frame.time_ns.tolist(), digits.tolist(), good.tolist(), strict=True):
        row[_column(time_ns - START_NS, case)] = str(round(digit)) if is_usable else "!"
    return "".join(row)


def _expected(case: Case, alarm: str) -> str:
    row = [" "] * _width(case)
    for _, check in case.checks:
        listed = [s for s in (*(check.expect or ()), *(check.exactly or ())) if s.alarm == alarm]
        if check.exactly is not None and not listed:
            row[_column(check.at, case)] = LETTER[Phase.NORMAL]
        for standing in listed:
            row[_column(check.at, case)] = "*" if standing.phase is None else LETTER[standing.phase]
    for _, name, turns in case.turns:
        for sign, wanted in (("^", turns.raised), ("v", turns.returned)):
            for window in wanted or () if name == alarm else ():
                for column in range(_column(window.first_ns, case), _column(window.last_ns, case) + 1):
                    row[column] = sign
    return "".join(row)


def _seen(outcome: Outcome, alarm: str) -> str:
    case = outcome.case
    number = case.rules.index[alarm]
    row = [LETTER[Phase.NORMAL]] * _width(case)
    for each in outcome.transitions:
        if each.definition == number:
            column = _column(each.time_ns - START_NS, case)
            row[column:] = [LETTER[each.phase_to]] * (len(row) - column)
    return "".join(row)
