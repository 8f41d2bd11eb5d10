"""Health of instruments: current loop and range, stuck values, spikes, warm-up and calibration."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np

from tocsin_core.detect import FALSE, HOLD, I8, TRUE
from tocsin_core.detectors.columns import NEVER, Columns
from tocsin_core.readings import (
    BAD_OUT_OF_SERVICE,
    F64,
    GOOD,
    I64,
    U8,
    UNCERTAIN_SENSOR_NOT_ACCURATE,
    Bool,
)

# NAMUR NE 43, mA: a failure is signalled by a current that leaves the outer band; the inner one holds measured values.
FAULT_LOW_MA: Final = 3.6
FAULT_HIGH_MA: Final = 21.0
VALID_LOW_MA: Final = 3.8
VALID_HIGH_MA: Final = 20.5
# By so much may what lies exactly at one of these be off it: a register of 32 bits and scaling round.
ROUNDED_MA: Final = 0.001

# A live zero: 4 mA is the low end of the range, 20 mA the high end (IEC 60381-1).
ZERO_MA: Final = 4.0
SPAN_MA: Final = 16.0


def current_of(value: F64, low: F64, high: F64) -> F64:
    """The loop current in mA behind `value` of a transmitter with the range `low` to `high` (the point's unit)."""
    return ZERO_MA + SPAN_MA * (value - low) / (high - low)


def loop(current_ma: F64) -> I8:
    """NE 43: beyond at 3.6 mA or less and at 21.0 mA or more, inside from 3.8 to 20.5 mA, saturated (neither) between.

    A transmitter may be set to exactly 3.6 or 21.0 mA as its failure signal, so these two count as failures, also where
    the value that they were read as was rounded (`ROUNDED_MA`).
    """
    beyond = (current_ma <= FAULT_LOW_MA + ROUNDED_MA) | (current_ma >= FAULT_HIGH_MA - ROUNDED_MA)
    inside = (current_ma >= VALID_LOW_MA - ROUNDED_MA) & (current_ma <= VALID_HIGH_MA + ROUNDED_MA)
    return np.where(beyond, TRUE, np.where(inside, FALSE, HOLD))


# A reading this many noise floors off the mean of its block has moved (our choice: normal noise does so once in 5e8).
MOVED: Final = 6.0


@dataclass(slots=True)
class Stuck(Columns):
    """What n points have lately read.

    `value` f64 of the last good reading, read `count` i64 times in a row from `since_ns` to `time_ns` i64. Of the block
    since `block_ns` i64: `readings` i64, `mean` f64, `squares` f64 (sum of squares about the mean). `quiet` i8: whether
    the last whole block varied less than the noise floor.
    """

    value: F64
    count: I64
    since_ns: I64
    time_ns: I64
    block_ns: I64
    readings: I64
    mean: F64
    squares: F64
    quiet: I8

    @classmethod
    def empty(cls, size: int) -> "Stuck":
        """`size` points that nothing has been read from."""
        never, none = np.full(size, NEVER, np.int64), np.zeros(size, np.int64)
        return cls(
            value=np.full(size, np.nan),
            count=none,
            since_ns=never,
            time_ns=never.copy(),
            block_ns=never.copy(),
            readings=none.copy(),
            mean=np.zeros(size),
            squares=np.zeros(size),
            quiet=np.full(size, HOLD, np.int8),
        )


def advance_stuck(state: Stuck, time_ns: I64, value: F64, good: Bool, window_ns: I64, floor: F64, least: I64) -> Stuck:
    """`state` with one reading more of each point; one that is not good changes nothing.

    A block is the readings of `window_ns` from its first on. The reading that comes later closes it: it was quiet if
    its variance sum((x - mean)^2) / (n - 1) is below `floor`^2, and says nothing if n < `least`. A reading more than 6
    floors off the mean of its block ends the quiet at once.
    """
    same = state.value == value
    closing = (state.readings > 0) & (time_ns - state.block_ns >= window_ns)
    with np.errstate(over="ignore", invalid="ignore"):
        still = state.squares < floor * floor * (state.readings - 1)
        spoken = np.where(state.readings < least, HOLD, np.where(still, TRUE, FALSE))
        opening = closing | (state.readings == 0)
        readings = np.where(opening, 0, state.readings) + 1
        before = np.where(opening, value, state.mean)
        off = value - before
        mean = before + off / readings
        squares = np.where(opening, 0.0, state.squares) + off * (value - mean)
        moved = np.abs(value - state.mean) > MOVED * floor
    quiet = np.where(closing, spoken, state.quiet)
    after = Stuck(
        value=value.copy(),
        count=np.where(same, state.count, 0) + 1,
        since_ns=np.where(same, state.since_ns, time_ns),
        time_ns=time_ns.copy(),
        block_ns=np.where(opening, time_ns, state.block_ns),
        readings=readings,
        mean=mean,
        squares=squares,
        quiet=np.where(moved & (state.readings > 0), FALSE, quiet),
    )
    skipped = np.flatnonzero(~good)
    after.put(skipped, state.rows(skipped))
    return after


def judge_stuck(state: Stuck, window_ns: I64, least: I64, zero: F64, zero_band: F64) -> I8:
    """Beyond where one value was read `least` times over `window_ns`, or the last block was quiet; else inside.

    Not so within `zero_band` of `zero` (NaN: the point has none): a gas sensor in clean air reads its zero for months,
    and whether it still lives is a question for a bump test. Neither, before a first block is whole.
    """
    at_zero = np.abs(state.value - zero) <= zero_band
    identical = (state.count >= least) & (state.time_ns - state.since_ns >= window_ns)
    beyond = ~at_zero & (identical | (state.quiet == TRUE))
    inside = at_zero | (~identical & (state.quiet == FALSE))
    return np.where(beyond, TRUE, np.where(inside, FALSE, HOLD))


# How many readings a reading is compared with, and what makes their median absolute deviation a standard deviation of
# normal noise: 1 / Phi^-1(3/4).
NEIGHBOURS: Final = 31
MIDDLE: Final = NEIGHBOURS // 2
MAD_TO_SIGMA: Final = 1.4826


@dataclass(slots=True)
class Spikes(Columns):
    """The neighbourhoods of n points.

    `past` f64[n, 31], the last good readings that were no spike, oldest first (NaN: not yet); `suspect` f64 the one
    reading that may be a spike (NaN: none) and `suspect_ns` i64 its time; `found_ns` i64 the time of the spike that the
    last reading proved (-1: none); `said` i8.
    """

    past: F64
    suspect: F64
    suspect_ns: I64
    found_ns: I64
    said: I8

    @classmethod
    def empty(cls, size: int) -> "Spikes":
        """`size` points that nothing has been read from."""
        return cls(
            past=np.full((size, NEIGHBOURS), np.nan),
            suspect=np.full(size, np.nan),
            suspect_ns=np.full(size, NEVER, np.int64),
            found_ns=np.full(size, NEVER, np.int64),
            said=np.full(size, HOLD, np.int8),
        )


def advance_spikes(state: Spikes, time_ns: I64, value: F64, good: Bool, floor: F64, times: F64) -> Spikes:
    """`state` with one reading more of each point; one that is not good leaves the neighbourhood as it is.

    A reading is suspect if it is off the median of the last 31 by more than `times` their robust standard deviation
    1.4826 * MAD, which is at least `floor` (the point's unit). The next one decides: if that is back, the suspect was a
    spike; if not, the process has moved, and both join the neighbourhood, as do all that follow until one is back.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        median = np.sort(state.past, axis=1)[:, MIDDLE]
        spread = np.sort(np.abs(state.past - median[:, None]), axis=1)[:, MIDDLE]
        most = times * np.maximum(MAD_TO_SIGMA * spread, floor)
        off = np.abs(value - median) > most
        moved = np.abs(state.past[:, -1] - median) > most
    full = ~np.isnan(state.past[:, 0])
    off &= full
    waiting = ~np.isnan(state.suspect)
    past = state.past
    past = np.where((good & waiting & off)[:, None], _joined(past, state.suspect), past)
    past = np.where((good & (waiting | moved | ~off))[:, None], _joined(past, value), past)
    new = good & off & ~waiting & ~moved
    spike = good & waiting & ~off
    answer = np.where(spike, TRUE, np.where(good & full & ~off & ~waiting, FALSE, HOLD))
    return Spikes(
        past=past,
        suspect=np.where(new, value, np.where(good, np.nan, state.suspect)),
        suspect_ns=np.where(new, time_ns, np.where(good, NEVER, state.suspect_ns)),
        found_ns=np.where(spike, state.suspect_ns, NEVER),
        said=answer,
    )


def _joined(past: F64, value: F64) -> F64:
    return np.column_stack((past[:, 1:], value))


def judge_spikes(state: Spikes) -> I8:
    """Beyond where the last reading proved that the one at `found_ns` was a spike, inside where there is no suspect.

    The spike's own reading is then known to be uncertain. No alarm waits for this: limits judge every reading at once.
    """
    return state.said


class Mode(IntEnum):
    """What an instrument is doing; the larger number wins where two are said at once."""

    NORMAL = 0
    WARM_UP = 1
    CALIBRATION = 2


LARGEST_CODE: Final = 62


def mode_of(status: I64, code_mask: I64, warm_up: I64, calibration: I64) -> U8:
    """The mode that a status word tells.

    Where `code_mask` is 0 the word is a set of flags, and `warm_up` and `calibration` the flags that tell these modes.
    Else `status & code_mask` is a code from 0 to 62, and the two are sets of codes (code c is bit c).
    """
    code = status & code_mask
    one = np.where(code <= LARGEST_CODE, np.int64(1) << np.minimum(code, LARGEST_CODE), 0)
    bits = np.where(code_mask == 0, status, one)
    warming = np.where(bits & warm_up, Mode.WARM_UP, Mode.NORMAL)
    return np.where(bits & calibration, Mode.CALIBRATION, warming).astype(np.uint8)


@dataclass(slots=True)
class Modes(Columns):
    """What n instruments are doing: `mode` u8, and `left` u8 the mode last left at `left_ns` i64 (-1: none was)."""

    mode: U8
    left: U8
    left_ns: I64

    @classmethod
    def empty(cls, size: int) -> "Modes":
        """`size` instruments in normal operation."""
        return cls(np.zeros(size, np.uint8), np.zeros(size, np.uint8), np.full(size, NEVER, np.int64))


def advance_modes(state: Modes, time_ns: I64, mode: U8, good: Bool) -> Modes:
    """`state` with one reading more of each instrument's status (`mode_of`); one that is not good changes nothing."""
    leaving = good & (mode == Mode.NORMAL) & (state.mode != Mode.NORMAL)
    return Modes(
        mode=np.where(good, mode, state.mode),
        left=np.where(leaving, state.mode, state.left),
        left_ns=np.where(leaving, time_ns, state.left_ns),
    )


def mode_at(state: Modes, time_ns: I64, settle_ns: I64) -> U8:
    """The mode in which a reading at `time_ns` was taken: what was left counts for `settle_ns` longer."""
    settling = (state.mode == Mode.NORMAL) & (state.left_ns != NEVER) & (time_ns - state.left_ns < settle_ns)
    return np.where(settling, state.left, state.mode)


def mode_quality(mode: U8) -> U8:
    """The OPC quality a mode (`mode_at`) gives to the readings taken in it: none of them raises a process alarm.

    In warm-up the sensor is not accurate; in calibration the gas is not the plant's and the point is out of service.
    """
    qualities = np.asarray([GOOD, UNCERTAIN_SENSOR_NOT_ACCURATE, BAD_OUT_OF_SERVICE], np.uint8)
    return qualities[mode]
