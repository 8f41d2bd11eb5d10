"""Runs a rule test on the engine with a clock of its own, and compares what was seen with what was expected."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from tocsin_core import engine
from tocsin_core.engine import Command, Refusal, Transition
from tocsin_core.lifecycle import Event, Phase
from tocsin_core.readings import Frame
from tocsin_core.rule_tests.document import START_NS, Asked, Case, Check, Line, Standing, known_of
from tocsin_core.rule_tests.notation import Window, seconds_text
from tocsin_core.rules import NS

TICK_NS: Final = NS
FINEST_NS: Final = 1000
_RETURNS: Final = (Event.RETURN, Event.RETURN_LATCHED)


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that is not as expected: where it stands in the file, of which alarms, what was seen instead."""

    line: Line
    alarms: tuple[str, ...]
    message: str

    def __str__(self) -> str:
        """`gas.yaml:12: NH3-1/H at 40s: …`."""
        return f"{self.line}: {self.message}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a test: its failures, and every transition of its points' alarms."""

    case: Case
    failures: tuple[Failure, ...]
    transitions: tuple[Transition, ...]

    @property
    def passed(self) -> bool:
        """Whether all was as expected."""
        return not self.failures


@dataclass(slots=True)
class _Seen:
    """What has been told of the alarms so far, by definition number."""

    phase: dict[int, Phase] = field(default_factory=lambda: defaultdict(lambda: Phase.NORMAL))
    shelved: dict[int, bool] = field(default_factory=lambda: defaultdict(bool))
    suppressed: dict[int, bool] = field(default_factory=lambda: defaultdict(bool))
    out_of_service: dict[int, bool] = field(default_factory=lambda: defaultdict(bool))
    log: list[Transition] = field(default_factory=list)

    def take(self, transition: Transition) -> None:
        number = transition.definition
        self.log.append(transition)
        self.phase[number] = transition.phase_to
        if transition.event in (Event.SHELVE, Event.UNSHELVE):
            self.shelved[number] = transition.event is Event.SHELVE
        if transition.event in (Event.SUPPRESS, Event.UNSUPPRESS):
            self.suppressed[number] = transition.event is Event.SUPPRESS
        if transition.event in (Event.OUT_OF_SERVICE, Event.IN_SERVICE):
            self.out_of_service[number] = transition.event is Event.OUT_OF_SERVICE


def run(case: Case) -> Outcome:
    """Run `case` from its start to the end of its last series, command, check and window, with a tick each second.

    At one moment the clock ticks first, then come the readings, then the commands, and then the checks look.
    """
    rules, frame = case.rules, engine.words_first(case.rules, case.frame)
    # A point without a series is not in the test: that it is silent is nobody's finding.
    known = {point for point in rules.points if known_of(rules, point, case.points)}
    mine = {n for n, d in enumerate(rules.definitions) if d.point in known}
    seen, failures = _Seen(), list[Failure]()
    state = engine.initial(rules, START_NS)
    for now in _moments(case):
        commands = [(line, asked) for line, asked in case.commands if START_NS + asked.at == now]
        if (now - START_NS) % TICK_NS == 0:
            state, result = engine.step(state, rules, Frame.empty(), [], now)
            _record(result.transitions, mine, seen)
        begin, end = np.searchsorted(frame.time_ns, [now, now + 1])
        if end > begin:
            state, result = engine.step(state, rules, frame.take(slice(int(begin), int(end))), [], state.now_ns)
            _record(result.transitions, mine, seen)
        for line, asked in commands:
            given = _command(asked, rules.index[asked.alarm], now)
            state, result = engine.step(state, rules, Frame.empty(), [given], now)
            _record(result.transitions, mine, seen)
            failures += _refusals(line, asked, result.refusals)
        for line, check in case.checks:
            if START_NS + check.at == now:
                failures += _look(line, check, case, seen)
    for line, alarm, turns in case.turns:
        log = [each for each in seen.log if each.definition == rules.index[alarm]]
        raised = [_seen_at(each) for each in log if each.event is Event.RAISE]
        returned = [_seen_at(each) for each in log if each.event in _RETURNS]
        failures += _compare(line, alarm, "is raised", turns.raised, raised)
        failures += _compare(line, alarm, "returns", turns.returned, returned)
        failures += _reasons(line, alarm, turns.reason, [each for each in log if each.event is Event.RAISE])
    return Outcome(case, tuple(sorted(failures, key=lambda failure: failure.line.number)), tuple(seen.log))


def _seen_at(transition: Transition) -> int:
    """When it was, without the nanosecond by which a computed reading comes after the one before at the same moment."""
    return (transition.time_ns - START_NS) // FINEST_NS * FINEST_NS


def _moments(case: Case) -> list[int]:
    """Every tick, reading, command and check, in order."""
    last = START_NS + case.end_ns
    ticks = range(START_NS, last + TICK_NS, TICK_NS)
    asked = {START_NS + command.at for _, command in case.commands}
    looks = {START_NS + check.at for _, check in case.checks}
    return sorted({*ticks, *case.frame.time_ns.tolist(), *asked, *looks})


def _record(transitions: list[Transition], mine: set[int], seen: _Seen) -> None:
    for transition in transitions:
        if transition.definition in mine:
            seen.take(transition)


def _command(asked: Asked, definition: int, now: int) -> Command:
    return Command(
        verb=asked.do,
        definition=definition,
        at_ns=now,
        who=asked.who,
        reason=asked.reason,
        until_ns=0 if asked.for_ is None else now + asked.for_,
        once=asked.once,
    )


def _refusals(line: Line, asked: Asked, refusals: list[Refusal]) -> list[Failure]:
    refused = refusals[0].reason if refusals else None
    if refused == asked.refused:
        return []
    what = f"{asked.do} of {asked.alarm} at {seconds_text(asked.at)}"
    said = f"was refused: {refused}" if refused is not None else "was carried out"
    wanted = f"expected refusal: {asked.refused}" if asked.refused is not None else "expected to be carried out"
    return [Failure(line, (asked.alarm,), f"{what} {said}; {wanted}")]


def _look(line: Line, check: Check, case: Case, seen: _Seen) -> list[Failure]:
    when = seconds_text(check.at)
    failures = []
    wanted = check.exactly if check.exactly is not None else check.expect or ()
    for standing in wanted:
        number = case.rules.index[standing.alarm]
        texts = _differs(standing, number, seen)
        failures += [Failure(line, (standing.alarm,), f"{standing.alarm} at {when}: {text}") for text in texts]
    if check.exactly is not None:
        named = {case.rules.index[standing.alarm] for standing in wanted}
        others = sorted(n for n, phase in seen.phase.items() if phase is not Phase.NORMAL and n not in named)
        if others:
            alarms = tuple(case.rules.definitions[n].id for n in others)
            listed = ", ".join(f"{alarm} ({seen.phase[n].text})" for alarm, n in zip(alarms, others, strict=True))
            failures.append(Failure(line, alarms, f"at {when} also active: {listed}"))
    return failures


def _differs(standing: Standing, number: int, seen: _Seen) -> list[str]:
    is_now = seen.phase[number]
    texts = []
    if standing.phase is None:
        if is_now is Phase.NORMAL:
            texts.append("expected active, is normal")
    elif standing.phase is not is_now:
        texts.append(f"expected {standing.phase.text}, is {is_now.text}")
    for word, wanted, is_so in (
        ("shelved", standing.shelved, seen.shelved[number]),
        ("suppressed", standing.suppressed, seen.suppressed[number]),
        ("out of service", standing.out_of_service, seen.out_of_service[number]),
    ):
        if wanted is not None and wanted is not is_so:
            texts.append(f"expected {'' if wanted else 'not '}{word}, is {'' if is_so else 'not '}{word}")
    return texts


def _reasons(line: Line, alarm: str, wanted: str | None, raised: list[Transition]) -> list[Failure]:
    return [
        Failure(
            line,
            (alarm,),
            f"{alarm} is raised at {seconds_text(_seen_at(each))}: expected reason {wanted!r}, seen {each.reason!r}",
        )
        for each in raised
        if wanted is not None and (wanted not in each.reason or (each.reason and not wanted))
    ]


def _compare(line: Line, alarm: str, does: str, wanted: tuple[Window, ...] | None, times: list[int]) -> list[Failure]:
    if wanted is None or (
        len(wanted) == len(times) and all(w.first_ns <= t <= w.last_ns for w, t in zip(wanted, times, strict=True))
    ):
        return []
    seen = ", ".join(map(seconds_text, times)) or "never"
    expected = ", ".join(map(str, wanted)) or "never"
    return [Failure(line, (alarm,), f"{alarm} {does}: expected {expected}, seen {seen}")]
