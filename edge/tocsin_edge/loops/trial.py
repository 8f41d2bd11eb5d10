"""What of a gateway worked before its settings changed, and whether it works again."""

from collections.abc import Callable
from typing import Final

from tocsin_core.plant.model import Broker
from tocsin_core.readings import is_bad
from tocsin_edge.loops.self_report import SelfReport
from tocsin_edge.settings import DeviceSettings, EdgeSettings

# A device that is read more rarely cannot show within the trial that it works.
LEAST_READINGS: Final = 3
# The database took something so recently: it has to take something again.
RECENT_MS: Final = 60_000


class Before:
    """How things were when it was made; `missing` tells what was well then and is not now, under the settings `after`.

    Every point that was not bad, and still is in the plant, has to be read anew and not be bad; nothing may stand
    still; where there was a connection there has to be one to the broker that is set now, and where the database took
    readings it has to take them again.
    """

    def __init__(
        self, report: SelfReport, after: EdgeSettings, connected_to: Callable[[], Broker | None], trial_s: float
    ) -> None:
        """Look at everything."""
        self._report = report
        self._connected_to = connected_to
        self._broker = after.gateway.uplink
        self._began_ms = report.now_ms()
        self._was_connected = connected_to() is not None
        self._was_committing = self._began_ms - (report.spool.committed_ms or 0) < RECENT_MS
        self._took = not report.spool.trouble
        before = {device.id: device for device in report.settings.devices}
        self._devices = [
            (device, self._sound(before[device.id]))
            for device in after.devices
            if device.id in before and LEAST_READINGS * device.period_ns <= trial_s * 1e9
        ]

    def missing(self) -> tuple[str, ...]:
        """What does not work of what did, one line each."""
        report = self._report
        lacks = [f"{what} stands still" for what in report.progress.stalled()]
        if self._took and report.spool.trouble:
            lacks.append(f"the disk takes nothing: {report.spool.trouble}")
        if self._was_connected and self._connected_to() != self._broker:
            lacks.append(f"no connection to {self._broker.host}:{self._broker.port}")
        elif self._was_committing and (report.spool.committed_ms or 0) <= self._began_ms:
            lacks.append("the database takes nothing")
        lacks += [f"{device.id}: {reason}" for device, sound in self._devices if (reason := self._lacks(device, sound))]
        return tuple(lacks)

    def _sound(self, device: DeviceSettings) -> dict[str, int]:
        """The points of the device that are not bad, with the time of what is known of them."""
        last = self._report.board.last(device.id)
        bad = is_bad(last.quality).tolist()
        names = [metric.name for metric in device.sparkplug.metrics]
        return {name: time for name, time, wrong in zip(names, last.time_ms.tolist(), bad, strict=True) if not wrong}

    def _lacks(self, device: DeviceSettings, sound: dict[str, int]) -> str:
        last = self._report.board.last(device.id)
        silent, wrong = 0, []
        for place, metric in enumerate(device.sparkplug.metrics):
            if metric.name not in sound:
                continue
            if bool(is_bad(last.quality[place])):
                wrong.append(metric.name)
            elif device.report is None and int(last.time_ms[place]) <= sound[metric.name]:
                silent += 1
        if wrong:
            return f"{', '.join(wrong)} bad, and was not before"
        return f"{silent} points not read anew" if silent else ""
