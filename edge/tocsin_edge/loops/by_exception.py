"""Report by exception: of the samples on their way to the spool, only the readings that tell something go on."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from tocsin_core.sensors import Reporting
from tocsin_core.sparkplug.edge import Columns
from tocsin_edge.loops.keep import Sample
from tocsin_edge.settings import DeviceSettings


class Reporter:
    """Stands before the spool, behind everything in the gateway that judges readings: alarms see them all."""

    def __init__(self, devices: Sequence[DeviceSettings], put: Callable[[Sample], None]) -> None:
        """`put` takes what goes on."""
        self._put = put
        self._reporting: dict[str, tuple[DeviceSettings, Reporting]] = {}
        self.adopt(devices)

    def adopt(self, devices: Sequence[DeviceSettings]) -> None:
        """Go on with other devices; of one that is the same it stays known what was told last."""
        before = self._reporting
        self._reporting = {
            each.id: before[each.id]
            if each.id in before and before[each.id][0] is each
            else (each, Reporting(each.report))
            for each in devices
            if each.report is not None
        }

    def put(self, sample: Sample) -> None:
        """Hand on what has to be told of a sample; never waits."""
        device, reporting = self._reporting.get(sample.device.id, (None, None))
        if reporting is None or device is not sample.device:
            self._put(sample)
            return
        columns = sample.columns
        told = reporting.tell(columns.metric, columns.time_ms, columns.value, columns.quality)
        if told.all():
            self._put(sample)
        elif told.any():
            kept = Columns(columns.metric[told], columns.time_ms[told], columns.value[told], columns.quality[told])
            self._put(replace(sample, columns=kept))
