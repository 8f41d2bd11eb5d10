"""Exposure of people to a toxic gas: the 15 min and 8 h means, and the rule of peaks, against GBZ 2.1-2019."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from tocsin_core.detect import FALSE, HOLD, I8, TRUE
from tocsin_core.detectors.columns import NEVER, NS, Columns
from tocsin_core.readings import F64, I64, Bool

# 峰接触 of GBZ 2.1-2019, for a substance with a PC-TWA and no PC-STEL: above 3 times the PC-TWA for at most 15 min, at
# most 4 times a working day, at least 1 h apart, and never above 5 times.
PEAK_TIMES: Final = 3.0
NEVER_ABOVE_TIMES: Final = 5.0
PEAKS_A_DAY: Final = 4
PEAK_NS: Final = 15 * 60 * NS
APART_NS: Final = 3600 * NS
DAY_NS: Final = 24 * 3600 * NS

# The share of a window that must have been measured before its mean is judged (our choice).
LEAST_SHARE: Final = 0.75


@dataclass(frozen=True, slots=True)
class Span:
    """A rolling window of `slots` slots of `slot_ns` each; its sums are kept by slot, not by reading."""

    slot_ns: int
    slots: int

    @property
    def width_ns(self) -> int:
        """Length of the window."""
        return self.slot_ns * self.slots


STEL: Final = Span(60 * NS, 15)
TWA: Final = Span(900 * NS, 32)


@dataclass(slots=True)
class Exposure(Columns):
    """Sums of n points over a rolling window of S slots, in a ring of S + 1: the oldest slot counts by what is left.

    `amount` f64[n, S + 1] (unit * s) and `covered_ns` i64[n, S + 1] by slot; `inner`, `inner_ns` their sums over the
    S - 1 slots that lie wholly in the window; `head` i64 the number of the newest slot; `time_ns` i64 of the last
    reading and `value` f64 of it (NaN: none, or it was not good).
    """

    amount: F64
    covered_ns: I64
    inner: F64
    inner_ns: I64
    head: I64
    time_ns: I64
    value: F64

    @classmethod
    def empty(cls, size: int, span: Span) -> "Exposure":
        """`size` points that nothing has been read from."""
        ring = (size, span.slots + 1)
        return cls(
            amount=np.zeros(ring),
            covered_ns=np.zeros(ring, np.int64),
            inner=np.zeros(size),
            inner_ns=np.zeros(size, np.int64),
            head=np.full(size, NEVER, np.int64),
            time_ns=np.full(size, NEVER, np.int64),
            value=np.full(size, np.nan),
        )


def advance(state: Exposure, span: Span, time_ns: I64, value: F64, good: Bool, longest_ns: I64) -> Exposure:
    """`state` (it is consumed) with one reading more of each point, at `time_ns` later than its last.

    A good value holds until the next reading, but for `longest_ns` at most; what comes after that, and what follows a
    reading that is not good, is time not covered: it stands in no sum.
    """
    head = time_ns // span.slot_ns
    until = np.where(np.isnan(state.value), state.time_ns, np.minimum(time_ns, state.time_ns + longest_ns))
    turning = np.flatnonzero(head > state.head)
    _forget(state, span, turning, head[turning])
    state.head = head
    _spread(state, span, until)
    _sum_inner(state, span, turning)
    state.time_ns = time_ns.copy()
    state.value = np.where(good, value, np.nan)
    return state


def _forget(state: Exposure, span: Span, row: I64, head: I64) -> None:
    """Empty the slots that the ring takes into use when `head` becomes the newest of `row`."""
    if not len(row):
        return
    ring = span.slots + 1
    back = (head[:, None] - np.arange(ring)) % ring
    reused = head[:, None] - back > state.head[row][:, None]
    state.amount[row] = np.where(reused, 0.0, state.amount[row])
    state.covered_ns[row] = np.where(reused, 0, state.covered_ns[row])


def _spread(state: Exposure, span: Span, until: I64) -> None:
    """Add what was held from the last reading `until` then to the slots it lies in."""
    row = np.flatnonzero(until > state.time_ns)
    start, end, oldest = state.time_ns[row], until[row], state.head[row] - span.slots
    while len(row):
        slot = start // span.slot_ns
        stop = np.minimum(end, (slot + 1) * span.slot_ns)
        kept = slot >= oldest
        here, column = row[kept], slot[kept] % (span.slots + 1)
        length = (stop - start)[kept]
        with np.errstate(over="ignore", invalid="ignore"):
            state.amount[here, column] += state.value[here] * (length / NS)
        state.covered_ns[here, column] += length
        more = end > stop
        row, start, end, oldest = row[more], stop[more], end[more], oldest[more]


def _sum_inner(state: Exposure, span: Span, row: I64) -> None:
    """Sum the slots wholly in the window anew, always from old to new: nothing is subtracted, so nothing drifts."""
    if not len(row):
        return
    inner, inner_ns = np.zeros(len(row)), np.zeros(len(row), np.int64)
    for back in range(span.slots - 1, 0, -1):
        column = (state.head[row] - back) % (span.slots + 1)
        with np.errstate(over="ignore", invalid="ignore"):
            inner = inner + state.amount[row, column]
        inner_ns = inner_ns + state.covered_ns[row, column]
    state.inner[row] = inner
    state.inner_ns[row] = inner_ns


@dataclass(frozen=True, slots=True)
class Average:
    """The window that ends at each point's last reading, f64[n].

    `mean` over the time covered (NaN: none was), `least` the mean if there was no gas in the time not covered, `share`
    of the window that was covered.
    """

    mean: F64
    least: F64
    share: F64


def average(state: Exposure, span: Span) -> Average:
    """Time-weighted mean sum(C_i * t_i) / sum(t_i) over the window; the oldest slot counts by the part still in it."""
    ring, row = span.slots + 1, np.arange(len(state.head))
    old, new = (state.head - span.slots) % ring, state.head % ring
    left = 1.0 - (state.time_ns % span.slot_ns) / span.slot_ns
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        amount = state.amount[row, old] * left + state.inner + state.amount[row, new]
        covered_ns = state.covered_ns[row, old] * left + (state.inner_ns + state.covered_ns[row, new])
        return Average(amount / (covered_ns / NS), amount / (span.width_ns / NS), covered_ns / span.width_ns)


def judge(average: Average, setpoint: F64, deadband: F64, least_share: F64) -> I8:
    """STEL or TWA: beyond where the mean reaches `setpoint`, inside where it is below setpoint - deadband.

    The mean speaks once `least_share` of the window is covered. Before that only a certainty does: where the gas
    measured so far reaches the set point even if there was none in the rest of the window.
    """
    known = average.share >= least_share
    beyond = (known & (average.mean >= setpoint)) | (average.least >= setpoint)
    inside = known & (average.mean < setpoint - deadband)
    return np.where(beyond, TRUE, np.where(inside, FALSE, HOLD))


@dataclass(slots=True)
class Peaks(Columns):
    """Peaks of n points.

    `onset_ns` i64[n, 4] of the last four, oldest first (-1: none); `end_ns` i64 of the last (-1: none); `above` whether
    one is going on; `breach` whether that one breaks the rule.
    """

    onset_ns: I64
    end_ns: I64
    above: Bool
    breach: Bool

    @classmethod
    def empty(cls, size: int) -> "Peaks":
        """`size` points that nothing has been read from."""
        return cls(
            onset_ns=np.full((size, PEAKS_A_DAY), NEVER, np.int64),
            end_ns=np.full(size, NEVER, np.int64),
            above=np.zeros(size, np.bool_),
            breach=np.zeros(size, np.bool_),
        )


def advance_peaks(state: Peaks, time_ns: I64, value: F64, good: Bool, twa: F64) -> Peaks:
    """`state` (it is consumed) with one reading more of each point; one that is not good changes nothing.

    The day of the rule is taken as any 24 h, the distance between two peaks as that from end to onset.
    """
    with np.errstate(invalid="ignore"):
        over = good & (value > PEAK_TIMES * twa)
        ending = good & ~over & state.above
        too_high = value > NEVER_ABOVE_TIMES * twa
    starting = over & ~state.above
    fifth = (state.onset_ns[:, 0] != NEVER) & (time_ns - state.onset_ns[:, 0] < DAY_NS)
    too_soon = (state.end_ns != NEVER) & (time_ns - state.end_ns < APART_NS)
    shifted = np.column_stack((state.onset_ns[:, 1:], time_ns))
    state.onset_ns = np.where(starting[:, None], shifted, state.onset_ns)
    too_long = time_ns - state.onset_ns[:, -1] > PEAK_NS
    state.breach = ~ending & (state.breach | (starting & (fifth | too_soon)) | (over & (too_long | too_high)))
    state.above = over | (state.above & ~ending)
    state.end_ns = np.where(ending, time_ns, state.end_ns)
    return state


def judge_peaks(state: Peaks) -> I8:
    """Beyond while a peak breaks the rule, inside while there is none; a peak within the rule is neither."""
    return np.where(state.breach, TRUE, np.where(state.above, HOLD, FALSE))
