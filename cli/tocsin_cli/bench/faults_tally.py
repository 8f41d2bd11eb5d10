"""What was to arrive in the fault benchmark, what did, and what is missing or too many: counting only."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tocsin_cli.bench.faults_devices import HIGH, PERIOD_S, TIMEOUT_S, Answer, Walk
from tocsin_cli.bench.faults_diary import utc

# What a gateway was told so long before a kill is on its disk: it gathers for 0.05 s and syncs. What it was told later
# may be in the batch that was being written, and counts as expected only where its file has it.
ON_DISK_S: Final = 1.0
# A question is waited for over two periods at most; an answer that took no longer than this was in time for certain.
IN_TIME_S: Final = 0.35
# After three such cycles the gateway asks with little patience: the first answer after such a silence may be too late.
SILENCE_S: Final = 2 * PERIOD_S


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of the bench's monotonic clock, in s, in which what an instrument said need not be kept."""

    begin_s: float
    end_s: float

    def meets(self, answer: Answer) -> bool:
        """Tell whether the answer was asked for, or given, within it."""
        return answer.given_s - answer.took_s <= self.end_s and answer.given_s >= self.begin_s


@dataclass(frozen=True, slots=True)
class Told:
    """What one instrument told, by its own record; `kept`: numbers found in the gateway's file after its kills."""

    walk: Walk
    answers: Sequence[Answer]
    windows: Sequence[Window]
    kept: Collection[int]

    def expected(self) -> set[int]:
        """The answers that must be stored."""
        sure = set(self.kept)
        heard_s = -math.inf
        for answer in self.answers:
            if answer.took_s > IN_TIME_S:
                continue
            silent = answer.given_s - answer.took_s - heard_s > SILENCE_S
            heard_s = answer.given_s
            if not silent and not any(window.meets(answer) for window in self.windows):
                sure.add(answer.number)
        return sure

    def allowed(self) -> set[int]:
        """The answers that may be stored: those for which nobody waited any more may not."""
        return {answer.number for answer in self.answers if answer.took_s < TIMEOUT_S}


@dataclass(frozen=True, slots=True)
class Raised:
    """One occurrence of an instrument's alarm as the cloud side tells it, in ms since 1970."""

    raised_ms: int
    returned_ms: int | None
    id: str = ""

    def __str__(self) -> str:
        """Say so."""
        returned = "never" if self.returned_ms is None else f"at {utc(self.returned_ms)}"
        return f"raised at {utc(self.raised_ms)}, returned {returned}"


@dataclass(frozen=True, slots=True)
class Stored:
    """What the cloud side has of one instrument: values of both points by time in ms since 1970, and occurrences.

    `beside`: when the gateway raised, by its own word, what stood here already. While the plant files differ both ends
    judge; during a cut the cloud side does not see an alarm go and come again that it has, and it is one occurrence.
    """

    numbers: Mapping[int, float]
    levels: Mapping[int, float]
    raised: Sequence[Raised]
    beside: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Count:
    """What was expected, is missing, and is there too often."""

    expected: int = 0
    lost: int = 0
    doubled: int = 0

    def __add__(self, other: "Count") -> "Count":
        """Count two instruments together."""
        return Count(self.expected + other.expected, self.lost + other.lost, self.doubled + other.doubled)


@dataclass(frozen=True, slots=True)
class Wrong:
    """Something that is lost or doubled, in words, and when it was given or began, as far as the bench knows."""

    said: str
    lost: int = 0
    doubled: int = 0
    given_s: float | None = None


def readings(told: Told, stored: Stored) -> Count:
    """Count one instrument's readings: each answer is two, its number and, of the same time, its level.

    What was never told, or only when nobody waited any more, is doubled: it is stored once more than it was read.
    """
    return _counted(2 * len(told.expected()), wrong_readings(told, stored))


def wrong_readings(told: Told, stored: Stored) -> list[Wrong]:
    """Which of one instrument's readings are lost or doubled."""
    times: dict[int, list[int]] = {}
    for time_ms, value in stored.numbers.items():
        times.setdefault(int(value), []).append(time_ms)
    given = {answer.number: answer for answer in told.answers}
    expected, allowed = told.expected(), told.allowed()
    wrong = []
    for number in sorted(expected | times.keys()):
        found = times.get(number, [])
        answer = given.get(number)
        told_s = "never told" if answer is None else f"answered in {answer.took_s:.3f} s"
        said = f"{number} ({told_s}) stored at {', '.join(map(utc, found)) or 'no time'}"
        right = [time_ms for time_ms in found if stored.levels.get(time_ms) == told.walk.level(number)]
        lost = 0 if number not in expected or right else 1 if found else 2
        doubled = max(0, len(found) - (number in allowed))
        if lost or doubled:
            wrong.append(Wrong(said, lost, doubled, None if answer is None else answer.given_s))
    return wrong


def _counted(expected: int, wrong: Sequence[Wrong]) -> Count:
    return Count(expected, sum(each.lost for each in wrong), sum(each.doubled for each in wrong))


@dataclass(slots=True)
class _Run:
    """Answers in a row above the limit: where the stored ones begin, and what of it is expected to be told."""

    begin_ms: int
    raise_expected: bool = False
    return_expected: bool = False


def journal(told: Told, stored: Stored) -> Count:
    """Count one instrument's raisings and returns: one of each for every run of levels above the limit.

    A raising is expected where an expected answer is in the run, its return where one is in the run below that follows.
    """
    expected = sum(run.raise_expected + run.return_expected for run in _runs(told, stored))
    return _counted(expected, wrong_journal(told, stored))


def wrong_journal(told: Told, stored: Stored) -> list[Wrong]:
    """Which of one instrument's raisings and returns are lost or doubled."""
    runs = _runs(told, stored)
    found: dict[int, list[Raised]] = {n: [] for n in range(len(runs))}
    wrong = []
    for occurrence in stored.raised:
        place = _place(runs, occurrence.raised_ms)
        if place is None:
            wrong.append(Wrong(f"raised at {utc(occurrence.raised_ms)}, before any run", doubled=1))
            continue
        found[place].append(occurrence)
    beside = {_place(runs, at_ms) for at_ms in stored.beside}
    for n, run in enumerate(runs):
        if not found[n] and n in beside:
            continue
        said = ", ".join(map(str, sorted(found[n], key=lambda each: each.raised_ms))) or "never raised"
        returned = any(each.returned_ms is not None for each in found[n])
        lost = (run.raise_expected and not found[n]) + (run.return_expected and not returned)
        if lost or len(found[n]) > 1:
            wrong.append(Wrong(f"run from {utc(run.begin_ms)}: {said}", lost, max(0, len(found[n]) - 1)))
    return wrong


def _place(runs: Sequence[_Run], at_ms: int) -> int | None:
    """Which run a time is of: the last that had begun; None before any."""
    return max((n for n, run in enumerate(runs) if run.begin_ms <= at_ms), default=None)


def _runs(told: Told, stored: Stored) -> list[_Run]:
    expected = told.expected()
    runs: list[_Run] = []
    high = False
    for time_ms, value in sorted(stored.numbers.items()):
        number = int(value)
        was_high, high = high, told.walk.level(number) == HIGH
        if high and not was_high:
            runs.append(_Run(time_ms))
        if runs and number in expected:
            runs[-1].raise_expected |= high
            runs[-1].return_expected |= not high
    return runs
