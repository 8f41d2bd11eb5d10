"""Holds the table of alarm states to the standard's diagram, every phase and every event."""

from typing import Final

import pytest

from tocsin_core.lifecycle import NEXT, NONE, UNANSWERED, Event, Phase, Verb, diagram

# ISA-18.2-2016 figure 3, by the letters of its states, with re-alarm and with the acknowledgement taken back: rows are
# states, columns events; "." where there is no arrow.
GOLDEN: Final = """
state raise return return-latched acknowledge reset unacknowledge realarm \
shelve unshelve out-of-service in-service suppress unsuppress
A B . . . . . . A A A A A A
B . D E C . . . B B B B B B
C . A F . . B B C C C C C C
D B . . A . . . D D D D D D
E B . . F . . . E E E E E E
F B . . . A E . F F F F F F
"""
LETTERS: Final = "ABCDEF"


def cells() -> list[tuple[Phase, Event, str]]:
    """Every cell of the golden table."""
    head, *lines = (line.split() for line in GOLDEN.strip().splitlines())
    events = {event.text: event for event in Event}
    phases = dict(zip(LETTERS, Phase, strict=True))
    assert head[1:] == list(events)
    assert [line[0] for line in lines] == list(LETTERS)
    return [
        (phases[line[0]], events[name], letter)
        for line in lines
        for name, letter in zip(head[1:], line[1:], strict=True)
    ]


@pytest.mark.parametrize(("phase", "event", "letter"), cells(), ids=lambda part: str(getattr(part, "text", part)))
def test_each_step_is_the_standards(phase: Phase, event: Event, letter: str) -> None:
    """Each phase and event leads where the figure leads, and nowhere where it has no arrow."""
    assert NEXT[phase, event] == (NONE if letter == "." else LETTERS.index(letter))


def test_the_table_cannot_be_written_to() -> None:
    """Nobody changes the standard at run time."""
    with pytest.raises(ValueError, match="read-only"):
        NEXT[0, 0] = 0


def test_three_phases_wait_for_an_answer() -> None:
    """Whatever has not been acknowledged waits, active or not, latched or not."""
    assert [phase.text for phase in UNANSWERED] == [
        "unacknowledged",
        "returned-unacknowledged",
        "latched-unacknowledged",
    ]


def test_the_diagram_reads_as_sentences() -> None:
    """Every step that moves an alarm is one line of the diagram that documents show."""
    lines = diagram().splitlines()
    assert len(lines) == sum(letter not in (".", LETTERS[phase]) for phase, _, letter in cells())
    assert lines[0] == "normal --raise--> unacknowledged"
    assert lines[-1] == "latched-acknowledged --unacknowledge--> latched-unacknowledged"


def test_every_verb_is_an_event() -> None:
    """What a person can ask bears the name of what then happens, but for the short `ack`."""
    events = {event.text for event in Event}
    assert {verb.value for verb in Verb} - events == {"ack"}
