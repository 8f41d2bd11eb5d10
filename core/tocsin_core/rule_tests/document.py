"""A file of rule tests: its strict models, and its reading as a whole with every problem named by file and line."""

import json
import zipfile
from collections.abc import Callable, Container
from dataclasses import dataclass
from io import BytesIO
from typing import Annotated, Final, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from tocsin_core.lifecycle import Phase, RefusalReason, Verb
from tocsin_core.plant import AlarmKind, Plant, PlantError, Problem, load_plant
from tocsin_core.plant.source import Path, Source, path_text
from tocsin_core.plant.yaml_text import read_yaml
from tocsin_core.readings import Frame
from tocsin_core.rule_tests.notation import NotationError, Series, Window, duration_ns, series, windows
from tocsin_core.rules import NS, Rules, compile_rules

START_NS: Final = 1_767_225_600 * NS
"""Every test begins at 2026-01-01T00:00:00Z."""

PHASES: Final = {phase.text: phase for phase in Phase}


def _timed(value: object) -> object:
    return duration_ns(value)


def _windowed(value: object) -> object:
    return windows(value)


def _phased(value: object) -> object:
    if not isinstance(value, str) or value not in PHASES:
        raise ValueError(f"should be one of {', '.join(PHASES)}")
    return PHASES[value]


def _listed(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


Duration = Annotated[int, BeforeValidator(_timed)]
Windows = Annotated[tuple[Window, ...], BeforeValidator(_windowed)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)


class Standing(_Strict):
    """What one alarm is to be: active in whichever phase, or in this one; shelved, suppressed by design, or not."""

    alarm: str
    phase: Annotated[Phase, BeforeValidator(_phased)] | None = None
    shelved: bool | None = None
    suppressed: bool | None = None
    out_of_service: bool | None = None


class Check(_Strict):
    """What is to be seen at one moment: at least these alarms, or exactly these and no other."""

    at: Duration
    expect: Annotated[tuple[Standing, ...], BeforeValidator(_listed)] | None = None
    exactly: Annotated[tuple[Standing, ...], BeforeValidator(_listed)] | None = None


class Turns(_Strict):
    """When one alarm is to be raised and to return: one window each time, and no other time.

    `reason` is to stand in what each raising says of why; an empty one: it says nothing.
    """

    raised: Windows | None = None
    returned: Windows | None = None
    reason: str | None = None


class Asked(_Strict):
    """What a person asks of an alarm, and with which words it is to be refused, if it is."""

    at: Duration
    do: Annotated[Verb, Field(strict=False)]
    alarm: str
    who: str = "tester"
    reason: str = ""
    for_: Annotated[Duration | None, Field(alias="for")] = None
    once: bool = False
    refused: Annotated[RefusalReason, Field(strict=False)] | None = None


class CaseText(_Strict):
    """One test as it stands in the file."""

    name: str = Field(min_length=1)
    interval: Duration | None = None
    series: dict[str, str] = Field(min_length=1)
    commands: Annotated[tuple[Asked, ...], BeforeValidator(_listed)] = ()
    checks: Annotated[tuple[Check, ...], BeforeValidator(_listed)] = ()
    alarms: dict[str, Turns] = Field(default_factory=dict)


class SuiteText(_Strict):
    """A file of rule tests as it stands; the points are a plant's or its own."""

    rule_tests: Literal[1]
    plant: str | None = None
    points: list[dict[str, object]] | None = None
    computed: list[dict[str, object]] | None = None
    first_out: list[dict[str, object]] | None = None
    period: Duration = NS
    interval: Duration = NS
    tests: Annotated[tuple[CaseText, ...], BeforeValidator(_listed)] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Line:
    """Where something stands."""

    file: str
    number: int

    def __str__(self) -> str:
        """`gas.yaml:12`."""
        return f"{self.file}:{self.number}"


@dataclass(frozen=True, slots=True)
class Case:
    """One test, ready to run: `frame` in order of time, each command and check with its line."""

    name: str
    line: Line
    plant: Plant
    rules: Rules
    points: frozenset[str]
    frame: Frame
    commands: tuple[tuple[Line, Asked], ...]
    checks: tuple[tuple[Line, Check], ...]
    turns: tuple[tuple[Line, str, Turns], ...]
    end_ns: int


class RuleTestError(Exception):
    """A file of rule tests that does not hold; `problems` has every reason."""

    def __init__(self, problems: list[Problem]) -> None:
        """Keep `problems` (at least one)."""
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def parse(text: str, file: str, open_plant: Callable[[str], Plant]) -> tuple[Case, ...]:
    """The tests of one file; `open_plant` loads the plant folder that the file names.

    Raises:
        RuleTestError: with every problem of the file, each with its line.
    """
    source = read_yaml(text, file)
    suite = None
    if not source.problems:
        try:
            suite = SuiteText.model_validate(source.data)
        except ValidationError as error:
            _note(error, source)
    if suite is None or source.problems:
        raise RuleTestError(source.problems)
    plant = _plant(suite, source, open_plant)
    if plant is None:
        raise RuleTestError(source.problems)
    rules = compile_rules(plant)
    _unique(suite, source)
    cases = tuple(_case(suite, number, plant, rules, source) for number in range(len(suite.tests)))
    if source.problems:
        raise RuleTestError(sorted(source.problems, key=lambda problem: problem.line))
    return cases


_PLAIN: Final = {
    "extra_forbidden": "unknown key",
    "missing": "is missing",
    "model_type": "should be a mapping",
    "dict_type": "should be a mapping",
    "tuple_type": "should be a list",
    "list_type": "should be a list",
    "too_short": "is empty",
}


def _note(error: ValidationError, source: Source) -> None:
    for item in error.errors():
        # Items that failed are not counted: a list that is not empty is not too short, its items are wrong.
        if item["type"] == "too_short" and item["input"]:
            continue
        path: Path = ()
        for step in item["loc"]:
            # An error's location has steps of the models' own; a key that is missing or unknown comes last.
            if (*path, step) in source.places or item["type"] in ("missing", "extra_forbidden"):
                path = (*path, step)
        message = _PLAIN.get(item["type"]) or item["msg"].removeprefix("Value error, ").replace("Input ", "")
        if item["type"] == "string_type" and "series" in item["loc"]:
            message = "put the series in quotes: YAML takes this one for a number"
        source.problem(path, message)


def _plant(suite: SuiteText, source: Source, open_plant: Callable[[str], Plant]) -> Plant | None:
    if (suite.plant is None) == (suite.points is None):
        source.problem((), "give either plant (a folder) or points (a list as in plant.yaml)")
        return None
    for key in ("computed", "first_out"):
        if suite.plant is not None and getattr(suite, key) is not None:
            source.problem((key,), "stands in the plant's own file")
    try:
        return open_plant(suite.plant) if suite.plant is not None else _own_plant(suite)
    except PlantError as error:
        own = suite.plant is None
        source.problems += [
            _at_home(problem, source) if own else _abroad(problem, source) for problem in error.problems
        ]
        return None


_OWN: Final = "gateways[0].devices[0]."


def _own_plant(suite: SuiteText) -> Plant:
    """The plant that consists of the file's own points, on one device that is read each `period`."""
    device = {"id": "device", "period_ms": suite.period // 1_000_000, "points": suite.points}
    whole = {
        "tocsin": 1,
        "site": {"id": "test", "name": "test"},
        "gateways": [{"id": "gateway", "external": True, "devices": [device]}],
        "computed": suite.computed or [],
        "first_out": suite.first_out or [],
    }
    # JSON is YAML; a folder in memory is what the loader takes as well as one on a disk.
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("plant.yaml", json.dumps(whole))
    archive = zipfile.ZipFile(buffer)
    archive.filename = "test"
    return load_plant(zipfile.Path(archive))


def _at_home(problem: Problem, source: Source) -> Problem:
    """A problem of the plant made of the file's own points, moved to where it stands in the file."""
    path = problem.path.removeprefix(_OWN)
    lines = {path_text(there): line for there, (_, line) in source.places.items()}
    around = path
    while around and around not in lines:
        around = around[: max(around.rfind("."), around.rfind("["), 0)]
    file, line = source.place(())
    return Problem(file, lines.get(around, line), path, problem.message)


def _abroad(problem: Problem, source: Source) -> Problem:
    file, line = source.place(("plant",))
    return Problem(file, line, "plant", str(problem))


def _unique(suite: SuiteText, source: Source) -> None:
    first: dict[str, int] = {}
    for number, case in enumerate(suite.tests):
        if case.name in first:
            line = source.place(("tests", first[case.name]))[1]
            source.problem(("tests", number, "name"), f"a test of this name stands in line {line}")
        first.setdefault(case.name, number)


def _case(suite: SuiteText, number: int, plant: Plant, rules: Rules, source: Source) -> Case:
    text, here = suite.tests[number], ("tests", number)
    interval_ns = suite.interval if text.interval is None else text.interval
    if interval_ns <= 0:
        source.problem((*here, "interval"), "is not above 0")
        interval_ns = NS
    found = {
        point: made
        for point, words in text.series.items()
        if (made := _series(words, point, interval_ns, plant, f"{text.name}/{point}", source, here)) is not None
    }
    _check_names(text, rules, source, here)
    _check_commands(text, source, here)
    lengths = [(each.length - 1) * interval_ns for each in found.values()]
    asked = [command.at for command in text.commands] + [check.at for check in text.checks]
    turns = [window.last_ns for each in text.alarms.values() for window in (each.raised or ()) + (each.returned or ())]
    return Case(
        text.name,
        _line(source, here),
        plant,
        rules,
        frozenset(found),
        _frame(found, interval_ns, plant),
        tuple((_line(source, (*here, "commands", i)), command) for i, command in enumerate(text.commands)),
        tuple((_line(source, (*here, "checks", i)), check) for i, check in enumerate(text.checks)),
        tuple((_line(source, (*here, "alarms", alarm)), alarm, each) for alarm, each in text.alarms.items()),
        max([*lengths, *asked, *turns, 0]),
    )


def _line(source: Source, path: Path) -> Line:
    return Line(*source.place(path))


def _series(
    words: str, point: str, interval_ns: int, plant: Plant, seed: str, source: Source, here: Path
) -> Series | None:
    path = (*here, "series", point)
    index = plant.point_index.get(point)
    if index is not None and plant.points[index].compute is not None:
        source.problem(path, f"{point} is computed: give series of its members")
        return None
    if index is None:
        source.problem(path, f"no point {point!r}; there are: {_some(plant.point_index)}")
        return None
    stale = next((d.after_s for d in plant.points[index].definitions if d.kind is AlarmKind.STALE), None)
    try:
        return series(words, interval_ns / NS, stale, seed)
    except NotationError as error:
        source.problem(path, str(error))
        return None


MOST_NAMED: Final = 12


def _some(names: dict[str, int]) -> str:
    shown = list(names)[:MOST_NAMED]
    return ", ".join(shown) + (f" and {len(names) - len(shown)} more" if len(names) > len(shown) else "")


def known_of(rules: Rules, point: str, series: Container[str]) -> bool:
    """Whether anything is known of `point`: it has a series, or is computed from one that has."""
    members = rules.special.inputs.get(rules.points.index(point), ())
    return point in series or any(rules.points[member] in series for member in members)


def _check_names(text: CaseText, rules: Rules, source: Source, here: Path) -> None:
    named: list[tuple[Path, str]] = [((*here, "alarms", alarm), alarm) for alarm in text.alarms]
    named += [((*here, "commands", i, "alarm"), command.alarm) for i, command in enumerate(text.commands)]
    for i, check in enumerate(text.checks):
        if (check.expect is None) == (check.exactly is None):
            source.problem((*here, "checks", i), "give either expect (at least these) or exactly (no other)")
        for key in ("expect", "exactly"):
            standings = getattr(check, key) or ()
            named += [((*here, "checks", i, key, j, "alarm"), standing.alarm) for j, standing in enumerate(standings)]
    for path, alarm in named:
        if alarm not in rules.index:
            point = alarm.rpartition("/")[0]
            of_point = {each: 0 for each in rules.index if each.rpartition("/")[0] == point}
            source.problem(path, f"no alarm {alarm!r}; there are: {_some(of_point or rules.index)}")
        elif not known_of(rules, rules.definitions[rules.index[alarm]].point, text.series):
            point = rules.definitions[rules.index[alarm]].point
            source.problem(path, f"the test has no series of {point}, so nothing is known of {alarm}")
    if not text.checks and not text.alarms and not any(command.refused for command in text.commands):
        source.problem(here, "it expects nothing: give checks or alarms")


def _check_commands(text: CaseText, source: Source, here: Path) -> None:
    for i, command in enumerate(text.commands):
        if (command.for_ is not None) != (command.do is Verb.SHELVE):
            source.problem((*here, "commands", i), "shelve says for how long (for: 1h), and no other command does")
        if command.once and command.do is not Verb.SHELVE:
            source.problem((*here, "commands", i, "once"), "only shelve is for once")


def _frame(found: dict[str, Series], interval_ns: int, plant: Plant) -> Frame:
    rows = [(plant.point_index[point], sample) for point, each in found.items() for sample in each.samples]
    frame = Frame.of(
        [index for index, _ in rows],
        [START_NS + sample.place * interval_ns for _, sample in rows],
        [sample.value for _, sample in rows],
        [sample.quality for _, sample in rows],
    )
    return frame.take(np.argsort(frame.time_ns, kind="stable"))
