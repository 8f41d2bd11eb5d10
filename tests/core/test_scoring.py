"""The benchmarks' scores, against values worked out by hand from their definitions."""

import math

import numpy as np
import pytest

from tocsin_core.readings import Bool
from tocsin_core.scoring import (
    Changes,
    change_scores,
    fault_scores,
    median_delay,
    row_scores,
    third_in_a_row,
)


def rows(text: str) -> Bool:
    """A row of flags from a string of 0 and 1."""
    return np.array([letter == "1" for letter in text])


def changes(length: int, true: list[int], told: list[int]) -> Changes:
    """A recording at one row a second with change points and detections at these rows."""
    flags = np.zeros((2, length), dtype=np.bool_)
    flags[0, true] = True
    flags[1, told] = True
    return Changes(np.arange(length, dtype=np.int64) + 1_583_000_000, flags[0], flags[1])


def curve(part: float) -> float:
    """SKAB's score of a detection after so much of its window: a hyperbolic tangent from 1 down to -0.11."""
    x = -math.pi / 2 + int(part * 1000) * math.pi / 999
    return 0.555 - 0.11 - 0.555 * math.tanh(x) / math.tanh(math.pi / 2)


def test_row_scores_are_pooled_over_recordings() -> None:
    """3 hits, 1 false, 2 missed, 4 quiet in two recordings: F1 = 3 / (3 + 3/2), rates in percent."""
    scores = row_scores([(rows("001111"), rows("010111")), (rows("0001"), rows("0000"))])
    assert scores.f1 == pytest.approx(3 / 4.5)
    assert scores.far == pytest.approx(20.0)
    assert scores.mar == pytest.approx(40.0)


def test_rows_without_anomaly_or_alarm_score_nothing() -> None:
    """No anomaly and no alarm is no division by zero."""
    assert row_scores([(rows("000"), rows("000"))]) == (0.0, 0.0, 0.0)


def test_saying_nothing_is_0_and_saying_all_at_once_is_100() -> None:
    """The scale's two ends: every window missed, and every change told in its first second."""
    assert change_scores([changes(500, [100, 300], [])]) == (0.0, 2, 0)
    told = change_scores([changes(500, [100, 300], [100, 300])])
    assert told.nab_standard == pytest.approx(100.0)
    assert told[1:] == (0, 0)


@pytest.mark.parametrize(("delay", "part"), [(0, 0.0), (15, 0.25), (30, 0.5), (45, 0.75), (59, 59 / 60)])
def test_a_late_detection_scores_less(delay: int, part: float) -> None:
    """One change point told after so many seconds: (its score + 1) of 2."""
    told = change_scores([changes(500, [100], [100 + delay])])
    assert told.nab_standard == pytest.approx(100.0 * (curve(part) + 1.0) / 2.0)


def test_the_last_second_of_the_window_scores_as_a_false_one() -> None:
    """At 60 s the detection is still in the window and scores -0.11, after it the window counts as missed as well."""
    assert change_scores([changes(500, [100], [160])]).nab_standard == pytest.approx(100.0 * 0.89 / 2.0)
    outside = change_scores([changes(500, [100], [161])])
    assert outside.nab_standard == pytest.approx(100.0 * -0.11 / 2.0)
    assert outside[1:] == (1, 1)


def test_only_the_first_detection_in_a_window_counts() -> None:
    """Further detections in the same window neither add nor cost; those before it and after it cost 0.11 each."""
    told = change_scores([changes(500, [100], [50, 99, 110, 120, 130, 400])])
    assert told.nab_standard == pytest.approx(100.0 * (curve(10 / 60) - 0.33 + 1.0) / 2.0)
    assert told[1:] == (0, 3)


def test_windows_that_overlap_are_cut_on_the_right() -> None:
    """A second change 20 s after the first has its window begin where the first one's ends."""
    told = change_scores([changes(500, [100, 120], [125])])
    assert told.missed == 1
    late = change_scores([changes(500, [100, 120], [100, 170])])
    assert late.nab_standard == pytest.approx(100.0 * (1.0 + curve(0.5) + 2.0) / 4.0)
    assert late[1:] == (0, 0)


def test_scores_are_summed_over_recordings() -> None:
    """One recording told at once and one missed make half of the perfect score."""
    both = [changes(200, [50], [50]), changes(200, [50], [])]
    assert change_scores(both).nab_standard == pytest.approx(50.0)


@pytest.mark.parametrize(
    ("alarm", "row"), [("000", None), ("11", None), ("111", 2), ("1101011100", 7), ("0110110", None), ("00111", 4)]
)
def test_the_third_alarm_in_a_row(alarm: str, row: int | None) -> None:
    """Lone alarms and pairs are none."""
    assert third_in_a_row(rows(alarm)) == row


def test_a_fault_is_scored_from_its_first_row() -> None:
    """Alarms before the fault are neither detection nor the beginning of a row of three."""
    scores = fault_scores(rows("1111" + "10110111"), 4, 3.0)
    assert scores.detection_rate == pytest.approx(6 / 8)
    assert scores.delay_min == 21.0
    assert fault_scores(rows("0001100"), 2, 3.0).delay_min is None


def test_a_fault_that_is_never_found_counts_with_its_whole_length() -> None:
    """The median over faults is not better for a miss."""
    assert median_delay([6.0, None, 30.0], [1440.0, 1440.0, 1440.0]) == 30.0
    assert median_delay([None, None, 30.0], [1440.0, 900.0, 1440.0]) == 900.0
