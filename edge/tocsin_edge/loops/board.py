"""The newest kept reading of every point, which devices are dead, and the clock's state: what births are made of."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tocsin_core.readings import BAD_WAITING, I64, Bool
from tocsin_core.sparkplug.edge import ClockState, Columns, EdgeDevice, renamed, unknown_columns


class Board:
    """State of all devices of the gateway, written by the keep loop alone, and of its clock, by the clock watch.

    `clock_reason`: why the clock is not synchronised, empty if it is. `standing`: which slice of the plant is in force,
    as births tell it; None where the gateway is not managed. `broker`: which server the uplink stands to, as HOST:PORT;
    `unheard`: the topics that it does not let the gateway hear; `host_trouble`: why the session waits for its primary
    host, empty if it does not; `certificate`: that its own had ended at the end of the last connection or attempt.
    """

    def __init__(self, devices: tuple[EdgeDevice, ...], now_ms: int) -> None:
        """Start with every point waiting for its first reading."""
        self._devices = {device.id: device for device in devices}
        self._last = {device.id: unknown_columns(device, now_ms, BAD_WAITING) for device in devices}
        self.standing: str | None = None
        self.broker: str | None = None
        self.unheard: tuple[str, ...] = ()
        self.host_trouble = self.certificate = ""
        self.heard: set[str] = set()
        self.dead: set[str] = set()
        self.clock = ClockState(synchronised=False, since_ms=now_ms)
        self.clock_reason = "not asked yet"

    @property
    def unsynchronised_ms(self) -> int | None:
        """Since when nobody has set the clock (ms, by itself), or None while it is synchronised."""
        return None if self.clock.synchronised else self.clock.since_ms

    def last(self, device: str) -> Columns:
        """Get the newest reading of each of the device's metrics, in their order."""
        return self._last[device]

    def adopt(self, devices: Sequence[EdgeDevice], now_ms: int) -> None:
        """Go on with other devices; of points that are still there what is known of them stays."""
        before, last = self._devices, self._last
        self._devices = {device.id: device for device in devices}
        self._last = {device.id: unknown_columns(device, now_ms, BAD_WAITING) for device in devices}
        heard, dead = self.heard & self._last.keys(), self.dead
        self.heard, self.dead = set(), set()
        for device in heard:
            self.update(before[device], last[device], dead=device in dead)

    def set_back(self, now_ms: int) -> None:
        """Take note that the clock was set back to `now_ms`: what was read by it before is older than what comes."""
        for last in self._last.values():
            np.minimum(last.time_ms, now_ms, out=last.time_ms)

    def update(self, of: EdgeDevice, columns: Columns, *, dead: bool) -> None:
        """Take in readings that were kept; older ones than those on the board are left out.

        They may have been taken before other devices were adopted.
        """
        device = of.id
        today = self._devices.get(device)
        if today is None:
            return
        if today is not of:
            places = {metric.name: place for place, metric in enumerate(today.metrics)}
            columns = renamed(columns, [metric.name for metric in of.metrics], places)
        last = self._last[device]
        at: I64 = columns.metric
        newer = columns.time_ms >= last.time_ms[at]
        taken: Bool | slice = slice(None) if device not in self.heard or newer.all() else newer
        at = at[taken]
        last.time_ms[at] = columns.time_ms[taken]
        last.value[at] = columns.value[taken]
        last.quality[at] = columns.quality[taken]
        if last.unsynchronised_ms != columns.unsynchronised_ms:
            self._last[device] = replace(last, unsynchronised_ms=columns.unsynchronised_ms)
        self.heard.add(device)
        if dead:
            self.dead.add(device)
        else:
            self.dead.discard(device)
