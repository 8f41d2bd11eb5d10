"""What of a gateway worked before its settings changed, and whether it works again."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tocsin_core.plant.model import UplinkBroker
from tocsin_core.readings import is_bad
from tocsin_edge.loops.self_report import SelfReport
from tocsin_edge.settings import DeviceSettings, EdgeSettings, ModbusDevice

NS_PER_S: Final = 1_000_000_000
# A device that is read more rarely cannot show within the trial that it works.
LEAST_READINGS: Final = 3
# The reason goes up in one message, and is read by people.
MOST_NAMES: Final = 5
# The database took something so recently: it has to take something again.
RECENT_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class _Sound:
    """Points of a device that were not bad, with the time (ms) after which each has to be read again."""

    device: DeviceSettings
    read_after_ms: dict[str, int]


class Before:
    """How things were when it was made; once they have `changed`, `missing` tells what was well then and is not now.

    Every point that was not bad, and still is in the plant, has to be read anew and not be bad; nothing may stand
    still; each output and push-button that did as it should has to do so; where there was a connection, or the broker
    is another one, there has to be one to the broker that is set now, and where the database took readings it has to
    take them again.
    """

    def __init__(
        self, report: SelfReport, after: EdgeSettings, connected_to: Callable[[], UplinkBroker | None], trial_s: float
    ) -> None:
        """Look at everything."""
        self._report = report
        self._connected_to = connected_to
        self._broker = after.gateway.uplink
        self._changed_ms = report.now_ms()
        # Whatever came from above came over a link: that this broke since says nothing for another broker.
        self._needs_broker = connected_to() is not None or self._broker != report.settings.gateway.uplink
        self._was_committing = self._changed_ms - (report.spool.committed_ms or 0) < RECENT_MS
        self._took = not report.spool.trouble
        enough_ns = trial_s * NS_PER_S / LEAST_READINGS
        self._obedient = {
            chore.name for chore in report.alarms.in_force if not chore.reason and chore.job.period_ns <= enough_ns
        }
        # A point is what it was under another device as well.
        sound = {name: time for device in report.settings.devices for name, time in self._times(device).items()}
        self._sound = [
            _Sound(device, {each.name: sound[each.name] for each in device.sparkplug.metrics if each.name in sound})
            for device in after.devices
            if device.period_ns <= enough_ns
        ]

    def changed(self) -> None:
        """Note that from now on everything works under the settings `after`."""
        self._changed_ms = now_ms = self._report.now_ms()
        for sound in self._sound:
            # A sensor's own clock may be behind; what is bad now has been read anew once it no longer is.
            polled = isinstance(sound.device.input, ModbusDevice)
            known = {} if polled else self._times(sound.device)
            for name in sound.read_after_ms:
                sound.read_after_ms[name] = known.get(name, now_ms if polled else 0)

    def missing(self) -> tuple[str, ...]:
        """What does not work of what did, one line each."""
        report = self._report
        lacks = [f"{what} stands still" for what in report.progress.stalled()]
        if self._took and report.spool.trouble:
            lacks.append(f"the disk takes nothing: {report.spool.trouble}")
        if self._needs_broker and self._connected_to() != self._broker:
            lacks.append(f"no connection to {self._broker.host}:{self._broker.port}")
        elif self._was_committing and (report.spool.committed_ms or 0) <= self._changed_ms:
            lacks.append("the database takes nothing")
        chores = [chore for chore in report.alarms.in_force if chore.name in self._obedient]
        lacks += [f"{chore.name}: {chore.reason}" for chore in chores if chore.reason]
        lacks += [f"{each.device.id}: {reason}" for each in self._sound if (reason := self._lacks(each))]
        if len(lacks) > MOST_NAMES:
            lacks[MOST_NAMES:] = [f"and {len(lacks) - MOST_NAMES} more"]
        return tuple(lacks)

    def _times(self, device: DeviceSettings) -> dict[str, int]:
        """The points of the device that are not bad, with the time of what is known of them."""
        last = self._report.board.last(device.id)
        bad = is_bad(last.quality).tolist()
        names = [metric.name for metric in device.sparkplug.metrics]
        return {name: time for name, time, wrong in zip(names, last.time_ms.tolist(), bad, strict=True) if not wrong}

    def _lacks(self, sound: _Sound) -> str:
        device = sound.device
        last = self._report.board.last(device.id)
        silent, wrong = 0, []
        for place, metric in enumerate(device.sparkplug.metrics):
            after_ms = sound.read_after_ms.get(metric.name)
            if after_ms is None:
                continue
            if bool(is_bad(last.quality[place])):
                wrong.append(metric.name)
            elif device.report is None and int(last.time_ms[place]) <= after_ms:
                silent += 1
        if wrong:
            more = f" and {len(wrong) - MOST_NAMES} more" if len(wrong) > MOST_NAMES else ""
            return f"{', '.join(wrong[:MOST_NAMES])}{more} bad, and was not before"
        return f"{silent} points not read anew" if silent else ""
