"""What a replay plays, whatever it came from: readings of the plant's points, labels, and how both were found."""

from dataclasses import dataclass

import numpy as np

from tocsin_core.readings import EARLIEST_NS, I64, LATEST_NS, Frame
from tocsin_core.replay import Spans


class RecordingError(Exception):
    """A recording that cannot be played; the text says why, with file and line where there is one."""


@dataclass(frozen=True, slots=True)
class Recording:
    """Readings ascending in time, labelled stretches (None where nothing is labelled), and remarks for the user."""

    frame: Frame
    labels: Spans | None
    remarks: tuple[str, ...]


def in_order(frame: Frame) -> Frame:
    """`frame` ascending in time; readings of one moment keep their order."""
    steps = np.diff(frame.time_ns)
    return frame if (steps >= 0).all() else frame.take(np.argsort(frame.time_ns, kind="stable"))


def outside(time_ns: I64) -> I64:
    """The places of times that no plant was running at."""
    return np.flatnonzero((time_ns < EARLIEST_NS) | (time_ns > LATEST_NS))
