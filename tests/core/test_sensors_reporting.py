"""Report by exception: what is told, what is not, and that no alarm changes by it."""

from operator import itemgetter
from typing import Final

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.plants import SECOND, START_NS
from tocsin_core import engine
from tocsin_core.plant import Plant, load_plant
from tocsin_core.readings import BAD, BAD_NOT_CONNECTED, GOOD, UNCERTAIN, Frame
from tocsin_core.rules import compile_rules
from tocsin_core.sensors import Exceptions, Reporting, Rule

Told = list[bool]


def told(reporting: Reporting, *readings: tuple[float, float, int]) -> Told:
    """Which of these readings (second, value, quality) of the first point are told."""
    return [
        bool(
            reporting.tell(
                np.array([0]), np.array([round(1000 * at)]), np.array([value]), np.array([quality], dtype=np.uint8)
            )[0]
        )
        for at, value, quality in readings
    ]


def one(deadband: float, longest_s: float, settle_s: float = 0.0) -> Reporting:
    """Make the reporting of one point."""
    return Reporting(Exceptions.of([Rule(deadband, longest_s, settle_s)]))


def test_what_moves_no_further_than_the_deadband_is_not_told() -> None:
    """Measured from what was told last, so that a creep is told in the end; the deadband itself is no exception."""
    readings = [(1, 10.0, GOOD), (2, 10.5, GOOD), (3, 9.5, GOOD), (4, 10.75, GOOD), (5, 10.5, GOOD), (6, 10.0, GOOD)]
    assert told(one(0.5, 60), *readings) == [True, False, False, True, False, True]


def test_the_longest_silence_is_kept() -> None:
    """A value that stands still is told again as soon as the silence has lasted so long."""
    assert told(one(1.0, 3.0), *((at, 5.0, GOOD) for at in range(7))) == [True, False, False, True, False, False, True]


def test_what_is_not_good_is_always_told() -> None:
    """Bad and uncertain, each time, and the first good one after it."""
    story = [(1, 5.0, GOOD), (2, 5.0, BAD), (3, 5.0, BAD), (4, 5.0, GOOD), (5, 5.0, GOOD), (6, 5.0, UNCERTAIN)]
    assert told(one(1.0, 60), *story) == [True, True, True, True, False, True]


def test_after_a_change_all_is_told_until_alarms_have_settled() -> None:
    """A return that waits three seconds is stamped by the reading at which they are over: that one is told too."""
    story = [(0, 5.0, GOOD), (1, np.nan, BAD), *((at, 5.0, GOOD) for at in range(2, 9))]
    assert told(one(1.0, 60, settle_s=3.0), *story[1:]) == [True, True, True, True, True, False, False, False]


def test_after_a_silence_all_is_told_until_alarms_have_settled() -> None:
    """A stale alarm that waits before it returns goes by the readings after the silence."""
    story = [(at, 5.0, GOOD) for at in (0, 1, 2, 10, 11, 12, 13)]
    assert told(one(1.0, 4.0, settle_s=2.0), *story) == [True, True, True, True, True, True, False]


def test_late_readings_are_told_and_change_nothing() -> None:
    """History of before goes its own way."""
    reporting = one(1.0, 60)
    assert told(reporting, (10, 5.0, GOOD), (4, 50.0, GOOD), (11, 5.5, GOOD)) == [True, True, False]


def test_a_point_without_a_rule_is_told_whole() -> None:
    """Beside one that has one, in the same device."""
    reporting = Reporting(Exceptions.of([Rule(1.0, 60.0, 0.0), None]))
    columns = (np.array([0, 1]), np.array([1000, 1000]), np.array([1.0, 1.0]), np.array([GOOD, GOOD], dtype=np.uint8))
    assert reporting.tell(*columns).tolist() == [True, True]
    later = (columns[0], columns[1] + 1000, columns[2], columns[3])
    assert reporting.tell(*later).tolist() == [False, True]


PLANT: Final = """\
tocsin: 1
site: {id: site, name: site}
gateways:
  - id: gw
    devices:
      - id: S
        mqtt: {topic: t}
        points:
          - id: P
            name: P
            kind: generic
            range: [0, 100]
            field: p
            report: {deadband: 1.0, longest_s: 5}
            alarms: {bad: {on_delay_s: 2, off_delay_s: 3}, stale: {after_s: 10}}
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Plant:
    """Load the plant of one point that is reported by exception."""
    folder = tmp_path_factory.mktemp("plant")
    (folder / "plant.yaml").write_text(PLANT, encoding="utf-8")
    return load_plant(folder)


def transitions(loaded: Plant, readings: list[tuple[int, float, int]]) -> list[tuple[str, int, int, int]]:
    """Play readings (ms, value, quality), with a tick each second, to the engine; give what its alarms did."""
    rules = compile_rules(loaded)
    state = engine.initial(rules, START_NS)
    done = []
    events: list[tuple[int, tuple[float, int] | None]] = [(at, (value, quality)) for at, value, quality in readings]
    events += [(at, None) for at in range(0, readings[-1][0] + 20_000, 1000)]
    for at, reading in sorted(events, key=itemgetter(0)):
        now = START_NS + at * SECOND // 1000
        frame = Frame.empty() if reading is None else Frame.of([0], [now], [reading[0]], [reading[1]])
        state, result = engine.step(state, rules, frame, [], now)
        done += [(each.event.text, each.definition, each.time_ns, each.onset_ns) for each in result.transitions]
    return done


# Runs of one quality: how many readings a second apart, their values, and a silence that begins with bad readings.
_RUNS = st.lists(
    st.tuples(
        st.sampled_from([GOOD, GOOD, GOOD, UNCERTAIN, BAD_NOT_CONNECTED]),
        st.lists(st.sampled_from([10.0, 10.4, 11.0, 30.0]), min_size=1, max_size=12),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(_RUNS)
def test_no_alarm_changes_by_what_is_not_told(loaded: Plant, runs: list[tuple[int, list[float]]]) -> None:
    """The bad and the stale alarm do the same, at the same times, by all readings and by those that are told.

    The last reading is bad, as those are that a gateway gives for a device that is silent.
    """
    readings = [(value, quality) for quality, values in runs for value in values]
    every = [
        (1000 * at + 137, np.nan if quality == BAD_NOT_CONNECTED else value, quality)
        for at, (value, quality) in enumerate([*readings, (0.0, BAD_NOT_CONNECTED)])
    ]
    reporting = one(1.0, 5.0, settle_s=5.0)
    some = [each for each in every if told(reporting, (each[0] / 1000, each[1], each[2]))[0]]
    assert transitions(loaded, some) == transitions(loaded, every)
