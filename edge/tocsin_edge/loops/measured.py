"""The values of a device of any kind, judged by their points' ranges and made the columns of a sample."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tocsin_core.readings import BAD, F64, I64, U8
from tocsin_core.sparkplug.edge import Columns
from tocsin_edge.settings import DeviceSettings


@dataclass(frozen=True, slots=True)
class Measured:
    """Columns of one reading for each of a device's points, and what is wrong with them, empty if nothing."""

    columns: Columns
    reason: str


def measured(
    device: DeviceSettings, value: F64, quality: U8, time_ms: int | I64, points: Sequence[int] | None = None
) -> Measured:
    """Make columns of value f64[n] and quality u8[n], read at `time_ms` (one for all, or i64[n]).

    They are of each point of `device`, or of those at the positions `points`.
    """
    names = device.sparkplug.names
    at = np.arange(len(names)) if points is None else np.array(points, dtype=np.int64)
    whole, marks = np.full(len(names), np.nan), np.full(len(names), BAD, np.uint8)
    whole[at], marks[at] = value, quality
    judged, marked = device.ranges.judge(whole, marks)
    far = [] if judged is whole else np.flatnonzero(device.ranges.impossible(whole, marks)).tolist()
    times = time_ms if isinstance(time_ms, np.ndarray) else np.full(len(at), time_ms, np.int64)
    columns = Columns(at, times, judged[at], marked[at])
    # Without the number, which is another each time: a reason is logged when it changes.
    wrong = ", ".join(names[position] for position in far)
    reason = f"{wrong}: no possible measurement; look at register, type and word order" if wrong else ""
    return Measured(columns, reason)
