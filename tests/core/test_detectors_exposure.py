"""Exposure: the rolling means against sums taken from all the readings, and stories with the limits of GBZ 2.1-2019."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from math import isnan, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.detectors import SECOND, START_NS, YES, Rounds, alone_and_together, f64, flags, i64
from tocsin_core.detect import FALSE, HOLD, TRUE
from tocsin_core.detectors import exposure
from tocsin_core.detectors.exposure import STEL, TWA, Exposure, Peaks, Span, advance, average, judge
from tocsin_core.plant.standards import ExposureLimits, limits_of

MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
LONGEST = 120 * SECOND
Reading = tuple[int, float, bool]


def told_slowly(past: Sequence[Reading], span: Span, longest_ns: int) -> tuple[float, float, float]:
    """Mean, least mean and share of the window, from every reading there ever was."""
    end = past[-1][0]
    begin = end - span.width_ns
    amount = covered = Fraction(0)
    for (time, value, good), (following, _, _) in pairwise(past):
        stop = min(following, time + longest_ns)
        at = time
        while good and at < stop:
            slot_end = (at // span.slot_ns + 1) * span.slot_ns
            piece = min(stop, slot_end) - at
            if slot_end > begin:
                share = Fraction(min(span.slot_ns, slot_end - begin), span.slot_ns)
                amount += Fraction(value) * piece * share
                covered += piece * share
            at += piece
    width = span.width_ns
    return float(amount / covered) if covered else nan, float(amount / width), float(covered / width)


def run(readings: Sequence[Reading], span: Span = STEL, longest_ns: int = LONGEST) -> Exposure:
    """One point that read these."""
    state = Exposure.empty(1, span)
    for time, value, good in readings:
        state = advance(state, span, i64(time), f64(value), flags(good), i64(longest_ns))
    return state


def every(seconds: int, count: int, value: float, start: int = START_NS) -> list[Reading]:
    """Good readings of one value, one every `seconds`."""
    return [(start + i * seconds * SECOND, value, True) for i in range(count)]


def answer(state: Exposure, setpoint: float, span: Span = STEL, least_share: float = 0.75) -> int:
    """What is said of the one point."""
    return int(judge(average(state, span), f64(setpoint), f64(setpoint * 0.05), f64(least_share))[0])


steps = st.sampled_from([1, 7, 47_500, 1_000, 60_000, 90_000, 119_999, 121_000, 400_000, 2_000_000])
values = st.integers(-8, 400).map(lambda n: n / 8)
lives = st.lists(st.tuples(steps, values, st.sampled_from([True] * 6 + [False])), min_size=1, max_size=60)


@given(lives, st.integers(0, 10**12), st.sampled_from([Span(60 * SECOND, 15), Span(300 * SECOND, 4)]))
def test_the_ring_says_what_all_the_readings_say(life: list[tuple[int, float, bool]], offset: int, span: Span) -> None:
    """The sums by slot give the same mean and coverage as the whole past does."""
    time, past = START_NS + offset, list[Reading]()
    state = Exposure.empty(1, span)
    for milliseconds, value, good in life:
        time += milliseconds * 1_000_000
        past.append((time, value, good))
        state = advance(state, span, i64(time), f64(value), flags(good), i64(LONGEST))
        mean, least, share = told_slowly(past, span, LONGEST)
        told = average(state, span)
        assert told.share[0] == pytest.approx(share, abs=1e-12)
        assert told.least[0] == pytest.approx(least, abs=1e-9)
        if isnan(mean):
            assert isnan(told.mean[0])
        elif share > 1e-6:
            assert told.mean[0] == pytest.approx(mean, abs=1e-9)


@given(st.lists(st.lists(st.tuples(st.integers(0, 4), steps, values, st.booleans()), max_size=5), max_size=20))
def test_the_same_readings_in_other_portions_give_the_same_state(
    life: list[list[tuple[int, int, float, bool]]],
) -> None:
    """Nothing depends on which points are taken together."""
    clock = dict.fromkeys(range(5), START_NS)
    rounds: Rounds = []
    for part in life:
        by_row = {row: (step, value, good) for row, step, value, good in part}
        for row, (step, _, _) in by_row.items():
            clock[row] += step * 1_000_000
        rows = i64(*by_row)
        columns = (i64(*(clock[r] for r in by_row)), f64(*(v for _, v, _ in by_row.values())))
        rounds.append((rows, (*columns, flags(*(g for _, _, g in by_row.values())))))
    alone_and_together(
        lambda size: Exposure.empty(size, STEL),
        lambda state, _rows, c: advance(state, STEL, c[0], c[1], c[2], np.full(len(c[0]), LONGEST)),
        rounds,
    )


def test_ammonia_above_its_stel_for_fifteen_minutes() -> None:
    """GBZ 2.1-2019: 30 mg/m3 of NH3 over 15 min; 35 mg/m3 reaches that mean when 6/7 of the window has it."""
    limits = limits_of("7664-41-7", "mg/m3")
    assert limits is not None
    assert limits.stel == 30.0
    clean = every(1, 1800, 0.0)
    said = [answer(run(clean + every(1, n, 35.0, START_NS + 1800 * SECOND)), 30.0) for n in (700, 760, 790)]
    assert said == [FALSE, HOLD, TRUE]


def test_a_short_burst_is_below_the_stel() -> None:
    """Three minutes at 100 mg/m3 are a mean of 20 over 15 min: an alarm of the limits, not of the exposure."""
    state = run(every(1, 1800, 0.0) + every(1, 180, 100.0, START_NS + 1800 * SECOND))
    assert average(state, STEL).mean[0] == pytest.approx(100 * 179 / 900)
    assert answer(state, 30.0) == FALSE


def test_a_whole_shift_of_carbon_monoxide() -> None:
    """Sum(C_i * t_i) / 8: 4 h at 30 and 4 h at 10 mg/m3 are exactly the PC-TWA of 20, and reaching it is enough."""
    first = every(60, 240, 30.0)
    second = every(60, 241, 10.0, START_NS + 4 * HOUR)
    state = run(first + second, TWA)
    assert average(state, TWA).mean[0] == 20.0
    assert average(state, TWA).share[0] == 1.0
    assert answer(state, 20.0, TWA) == TRUE


def test_nothing_is_said_before_the_window_is_known() -> None:
    """After 10 min of 15 the mean is not judged; after 12 min it is."""
    assert answer(run(every(1, 601, 20.0)), 30.0) == HOLD
    assert answer(run(every(1, 721, 20.0)), 30.0) == FALSE


def test_a_certainty_needs_no_full_window() -> None:
    """Five minutes at 100 mg/m3 are 33 over 15 min whatever the other ten were: there is nothing to wait for."""
    assert answer(run(every(1, 301, 100.0)), 30.0) == TRUE


def test_a_gap_and_bad_readings_are_not_made_up() -> None:
    """Of a silence only the longest hold counts, of a bad reading nothing; the window stays short and is not judged."""
    silent = [*every(1, 301, 20.0), (START_NS + 900 * SECOND, 20.0, True)]
    assert average(run(silent), STEL).share[0] == pytest.approx((300 + 120) / 900)
    assert answer(run(silent), 15.0) == HOLD
    broken = every(1, 301, 20.0) + [(START_NS + s * SECOND, 0.0, False) for s in range(301, 901)]
    told = average(run(broken), STEL)
    assert told.share[0] == pytest.approx(301 / 900)
    assert told.mean[0] == pytest.approx(20.0)


def test_limits_in_ppm() -> None:
    """Limits are mg/m3 * 24.06 / M at 20 degC; a substance with a MAC has neither PC-TWA nor PC-STEL."""
    carbon_monoxide = limits_of("630-08-0", "ppm")
    assert carbon_monoxide == ExposureLimits(17.0, 26.0)
    assert limits_of("7783-06-4", "ppm") is None
    assert limits_of("0-00-0", "ppm") is None


def test_memory_of_a_point() -> None:
    """What the documentation says a point costs."""
    assert Exposure.empty(3, STEL).bytes_per_row() == 296
    assert Exposure.empty(3, TWA).bytes_per_row() == 568
    assert Peaks.empty(3).bytes_per_row() == 42


def test_a_value_out_of_all_bounds_leaves_with_its_slot() -> None:
    """An overflow raises no warning and spoils nothing for longer than it stays in the window."""
    wild = [(START_NS, 1.7e308, True), (START_NS + 60 * SECOND, 5.0, True)]
    calm = every(60, 40, 5.0, START_NS + 120 * SECOND)
    assert average(run(wild + calm), STEL).mean[0] == 5.0


def peaks_slowly(past: Sequence[Reading], twa: float) -> int:
    """The rule of peaks read out over all good readings."""
    peaks: list[list[int]] = []  # onset, end (0: still going on), whether it broke the rule
    for time, value, good in past:
        if not good:
            continue
        if value <= 3 * twa:
            if peaks and not peaks[-1][1]:
                peaks[-1][1] = time
            continue
        if not peaks or peaks[-1][1]:
            soon = bool(peaks) and time - peaks[-1][1] < HOUR
            same_day = [onset for onset, _, _ in peaks if time - onset < 24 * HOUR]
            peaks.append([time, 0, int(soon or len(same_day) >= 4)])
        if value > 5 * twa or time - peaks[-1][0] > 15 * MINUTE:
            peaks[-1][2] = 1
    if not peaks or peaks[-1][1]:
        return int(FALSE)
    return int(TRUE if peaks[-1][2] else HOLD)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([1, 5, 10, 50, 60, 61, 300, 600]),
            st.sampled_from([0.0, 30.0, 30.125, 40.0, 50.0, 50.125]),
            st.sampled_from([True] * 8 + [False]),
        ),
        max_size=60,
    )
)
def test_the_rule_of_peaks_is_that_of_the_whole_past(life: list[tuple[int, float, bool]]) -> None:
    """Four onsets and one end are enough to know it."""
    time, past = START_NS, list[Reading]()
    state = Peaks.empty(1)
    for minutes, value, good in life:
        time += minutes * MINUTE
        past.append((time, value, good))
        state = exposure.advance_peaks(state, i64(time), f64(value), flags(good), f64(10.0))
        assert exposure.judge_peaks(state)[0] == peaks_slowly(past, 10.0)


def test_four_peaks_a_day_an_hour_apart_are_allowed_and_a_fifth_is_not() -> None:
    """GBZ 2.1-2019: above 3 PC-TWA for at most 15 min, at most 4 times, at least 1 h apart."""
    state = Peaks.empty(1)
    said = []
    for number in range(5):
        onset = START_NS + number * 2 * HOUR
        state = exposure.advance_peaks(state, i64(onset), f64(35.0), YES, f64(10.0))
        said.append(int(exposure.judge_peaks(state)[0]))
        state = exposure.advance_peaks(state, i64(onset + 10 * MINUTE), f64(5.0), YES, f64(10.0))
        assert exposure.judge_peaks(state)[0] == FALSE
    assert said == [HOLD] * 4 + [TRUE]


def test_a_peak_leaves_the_count_after_a_day() -> None:
    """The fifth peak is one too many 23 h after the first, and allowed after 24 h."""
    for hours, said in ((23, TRUE), (24, HOLD)):
        state = Peaks.empty(1)
        for onset in (0, 2, 4, 6):
            at = START_NS + onset * HOUR
            state = exposure.advance_peaks(state, i64(at), f64(35.0), YES, f64(10.0))
            state = exposure.advance_peaks(state, i64(at + MINUTE), f64(0.0), YES, f64(10.0))
        state = exposure.advance_peaks(state, i64(START_NS + hours * HOUR), f64(35.0), YES, f64(10.0))
        assert exposure.judge_peaks(state)[0] == said
