"""The values of a device of any kind, judged by their points' ranges and made the columns of a sample."""

from dataclasses import dataclass

import numpy as np

from tocsin_core.readings import F64, U8
from tocsin_core.sparkplug.edge import Columns
from tocsin_edge.settings import DeviceSettings


@dataclass(frozen=True, slots=True)
class Measured:
    """Columns of one reading for each of a device's points, and what is wrong with them, empty if nothing."""

    columns: Columns
    reason: str


def measured(device: DeviceSettings, value: F64, quality: U8, time_ms: int) -> Measured:
    """Make columns of value f64[n] and quality u8[n], one of each point of `device`, read at `time_ms`."""
    n = len(value)
    far = device.ranges.impossible(value, quality)
    names = [metric.name for metric, found in zip(device.sparkplug.metrics, far, strict=True) if found]
    judged, marked = device.ranges.judge(value, quality)
    columns = Columns(np.arange(n, dtype=np.int64), np.full(n, time_ms, dtype=np.int64), judged, marked)
    # Without the number, which is another each time: a reason is logged when it changes.
    reason = f"{', '.join(names)}: no possible measurement; look at register, type and word order" if names else ""
    return Measured(columns, reason)
