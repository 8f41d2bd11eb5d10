"""The newest kept reading of every point, which devices are dead, and the clock's state: what births are made of."""

import numpy as np

from tocsin_core.readings import BAD_WAITING, I64
from tocsin_core.sparkplug.edge import Columns, EdgeDevice, unknown_columns
from tocsin_edge.adapters.clock_sync import ClockSync


class Board:
    """State of all devices of the gateway, written by the keep loop alone, and of its clock, by the clock watch."""

    def __init__(self, devices: tuple[EdgeDevice, ...], now_ms: int) -> None:
        """Start with every point waiting for its first reading."""
        self._last = {device.id: unknown_columns(device, now_ms, BAD_WAITING) for device in devices}
        self.heard: set[str] = set()
        self.dead: set[str] = set()
        self.clock = ClockSync(synchronised=False, reason="not asked yet")

    def last(self, device: str) -> Columns:
        """Get the newest reading of each of the device's metrics, in their order."""
        return self._last[device]

    def update(self, device: str, columns: Columns, *, dead: bool) -> None:
        """Take in readings that were kept; older ones than those on the board are left out."""
        last = self._last[device]
        at: I64 = columns.metric
        newer = columns.time_ms >= last.time_ms[at]
        if device not in self.heard:
            newer = np.ones(len(at), dtype=np.bool_)
        for mine, theirs in (
            (last.time_ms, columns.time_ms),
            (last.value, columns.value),
            (last.quality, columns.quality),
        ):
            mine[at[newer]] = theirs[newer]
        self.heard.add(device)
        if dead:
            self.dead.add(device)
        else:
            self.dead.discard(device)
