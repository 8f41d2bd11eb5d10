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
    at = np.arange(len(device.sparkplug.metrics)) if points is None else np.array(points, dtype=np.int64)
    whole, marks = np.full(len(device.sparkplug.metrics), np.nan), np.full(len(device.sparkplug.metrics), BAD, np.uint8)
    whole[at], marks[at] = value, quality
    far = device.ranges.impossible(whole, marks)
    names = [device.sparkplug.metrics[position].name for position in np.flatnonzero(far).tolist()]
    judged, marked = device.ranges.judge(whole, marks)
    times = np.broadcast_to(np.asarray(time_ms, dtype=np.int64), len(at)).copy()
    columns = Columns(at.astype(np.int64), times, judged[at], marked[at])
    # Without the number, which is another each time: a reason is logged when it changes.
    reason = f"{', '.join(names)}: no possible measurement; look at register, type and word order" if names else ""
    return Measured(columns, reason)
