"""What a gateway says of itself: whether it watches its plant and what it does not, as data and in one line."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Final

from tocsin_core.clock import Clock
from tocsin_core.readings import BAD_WAITING, is_bad, is_good, quality_text
from tocsin_edge.adapters.metrics_process import process_figures
from tocsin_edge.loops import alarm_report
from tocsin_edge.loops.board import Board
from tocsin_edge.loops.inputs import Inputs
from tocsin_edge.loops.local_alarms import LocalAlarms
from tocsin_edge.loops.managed import Managed
from tocsin_edge.loops.poll import LineFigures
from tocsin_edge.loops.poll_metrics import status as lines_status
from tocsin_edge.loops.sensor import SensorFigures
from tocsin_edge.loops.spool_watch import SpoolWatch
from tocsin_edge.loops.tally import Tally
from tocsin_edge.loops.watchdog import Progress
from tocsin_edge.settings import DeviceSettings, EdgeSettings, ModbusDevice

NS_PER_S: Final = 1_000_000_000
NS_PER_MS: Final = 1_000_000
BYTES_PER_MB: Final = 1_000_000
# As TocsinEdgeSpoolFills has it.
NEARLY_FULL: Final = 0.8
# A device that has not been heard for so many of its periods, and this, is watched no more.
SILENT_PERIODS: Final = 3
SILENT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class DeviceReport:
    """One device: how many points it has and how many of them are good and bad now, and why it is not `watched`.

    `last_good_ms` is the time of its newest good reading since the start; `readings` counts by quality since then.
    """

    id: str
    where: str
    points: int
    good: int
    bad: int
    dead: bool
    watched: bool
    reason: str
    last_good_ms: int | None
    readings: dict[str, int]


class SelfReport:
    """Puts together what the loops of one gateway know; asking costs no more than that."""

    def __init__(
        self,
        inputs: Inputs,
        clock: Clock,
        board: Board,
        tally: Tally,
        spool: SpoolWatch,
        progress: Progress,
        alarms: LocalAlarms,
        managed: Managed | None = None,
    ) -> None:
        """Note when the gateway started."""
        self.inputs = inputs
        self.alarms = alarms
        self.managed = managed
        self.board = board
        self.spool = spool
        self.progress = progress
        self._clock = clock
        self._tally = tally
        self.started_ms = self.now_ms()

    @property
    def settings(self) -> EdgeSettings:
        """What the gateway has to do, as it is now."""
        return self.inputs.settings

    def now_ms(self) -> int:
        """The time, ms since 1970."""
        return self._clock.now_ns() // NS_PER_MS

    def lines(self) -> tuple[LineFigures, ...]:
        """How the lines fare."""
        return tuple(poller.figures() for poller in self.inputs.pollers)

    def sensor_events(self) -> dict[str, int]:
        """Count what is of the sensors' broker, and not of one sensor."""
        return self.inputs.listener.events()

    def sensors(self) -> tuple[SensorFigures, ...]:
        """How the sensors that publish by themselves fare."""
        return self.inputs.listener.figures()

    def connected(self) -> bool:
        """Whether the uplink stands."""
        return self.board.broker is not None

    def uplink(self) -> str:
        """Which server the uplink stands to, or all that are tried, as HOST:PORT."""
        servers = self.settings.gateway.uplink.servers
        return self.board.broker or " or ".join(f"{each.host}:{each.port}" for each in servers)

    def devices(self) -> tuple[DeviceReport, ...]:
        """How the devices are, in the order of the plant file."""
        lines = self.lines()
        troubles = {name: reason for line in lines for name, reason in line.troubles.items()}
        troubles |= {sensor.name: sensor.reason for sensor in self.sensors() if sensor.reason}
        stretch: dict[str, float] = {}
        for job in (job for line in lines for job in line.jobs):
            stretch[job.name] = max(1.0, job.stretch, stretch.get(job.name, 1.0))
        return tuple(
            self._device(device, troubles.get(device.id, ""), stretch.get(device.id, 1.0))
            for device in self.settings.devices
        )

    def faults(self) -> tuple[str, ...]:
        """What keeps the plant from being watched, beside its devices: one line each."""
        found = [f"{what} stands still" for what in self.progress.stalled()]
        found += alarm_report.faults(self.alarms)
        if not self.connected():
            lost = f"no connection to {self.uplink()}: nothing that is read goes up"
            found.append("; ".join(filter(None, (lost, self.board.certificate))))
        elif self.board.host_trouble:
            found.append(f"{self.board.host_trouble}: nothing that is read goes up")
        return tuple(found)

    def warnings(self) -> tuple[str, ...]:
        """What does not keep the plant from being watched and should be looked at all the same: one line each."""
        found = []
        if not self.board.clock.synchronised:
            found.append(f"clock not synchronised: {self.board.clock_reason}")
        if self.board.unheard:
            found.append(f"the broker does not let the gateway hear {', '.join(self.board.unheard)}")
        if self.sensors() and not self.inputs.listener.up:
            broker = self.settings.gateway.sensors
            found.append(f"no connection to the sensors' broker {broker.host}:{broker.port}")
        if self.spool.trouble:
            found.append(f"the disk takes nothing, readings wait in memory: {self.spool.trouble}")
        bound = self.settings.gateway.spool.max_mb * BYTES_PER_MB
        if self.spool.room is not None and self.spool.room < bound:
            room_mb, bound_mb = self.spool.room // BYTES_PER_MB, bound // BYTES_PER_MB
            found.append(f"the disk has room for {room_mb} MB of the spool's {bound_mb}")
        figures = self.spool.figures
        found += [] if figures is None else nearly_full(figures.bytes, bound)
        found += [
            f"line {line.name} cannot keep the periods of {', '.join(line.stretched)}"
            for line in self.lines()
            if line.stretched
        ]
        found += alarm_report.warnings(self.alarms)
        if self.managed is not None:
            found += self.managed.warnings()
        dropped = {name: number for name, number in self.dropped().items() if number}
        if dropped:
            found.append(f"readings lost: {', '.join(f'{number} {name}' for name, number in dropped.items())}")
        return tuple(found)

    def dropped(self) -> dict[str, int]:
        """Count readings that were lost, by class, since the spool was made."""
        counters = self.spool.counters
        return {
            "history": counters["readings_dropped_history"],
            "live": counters["readings_dropped_live"] + self.spool.lost,
            "damaged": counters["readings_damaged"],
        }

    def line(self) -> str:
        """Say in one line how things are."""
        devices, warnings = self.devices(), self.warnings()
        watched = sum(device.watched for device in devices)
        link = "up" if self.connected() else "down"
        return "; ".join((f"{watched} of {len(devices)} devices watched", f"link {link}", *warnings))

    def status(self) -> dict[str, object]:
        """Give everything as data, ready for JSON; times in ms since 1970."""
        devices, faults = self.devices(), self.faults()
        gateway, figures = self.settings.gateway, self.spool.figures
        return {
            "site": self.settings.site,
            "gateway": gateway.id,
            "running": True,
            "watching": not faults and all(device.watched for device in devices),
            "now_ms": self.now_ms(),
            "started_ms": self.started_ms,
            "faults": list(faults),
            "warnings": list(self.warnings()),
            "devices": [asdict(device) for device in devices],
            **lines_status(self.lines(), self.board.clock, self.board.clock_reason),
            "sensors": [asdict(sensor) for sensor in self.sensors()],
            "spool": {
                "bytes": None if figures is None else figures.bytes,
                "max_bytes": gateway.spool.max_mb * BYTES_PER_MB,
                "room_bytes": self.spool.room,
                "lanes": {} if figures is None else {name: asdict(lane) for name, lane in figures.lanes.items()},
                "oldest_unsent_ms": None if figures is None else figures.oldest_unsent_ms,
                "dropped": self.dropped(),
                "trouble": self.spool.trouble,
            },
            "link": {
                "connected": self.connected(),
                "to": self.uplink(),
                "committed_ms": self.spool.committed_ms,
            },
            "warning_alone": alarm_report.status(self.alarms),
            "slice": None if self.managed is None else self.managed.status(),
            "process": asdict(process_figures()),
        }

    def _device(self, device: DeviceSettings, trouble: str, stretch: float) -> DeviceReport:
        quality = self.board.last(device.id).quality
        bad = is_bad(quality)
        reason = self._reason(device, quality[bad].tolist(), trouble, stretch)
        how = device.input
        return DeviceReport(
            device.id,
            how.address.line if isinstance(how, ModbusDevice) else how.source.topic,
            len(quality),
            int(is_good(quality).sum()),
            int(bad.sum()),
            device.id in self.board.dead,
            not reason,
            reason,
            self._tally.last_good_ms(device.id),
            self._tally.readings(device.id),
        )

    def _reason(self, device: DeviceSettings, bad: list[int], trouble: str, stretch: float) -> str:
        """Say why the device is not watched, empty if it is; `bad` are the qualities of its bad points."""
        if bad:
            worst = Counter(bad).most_common(1)[0][0]
            # Of a device that was not heard yet the board knows nothing, its line may.
            said = "" if worst == BAD_WAITING and trouble else quality_text(worst)
            return ": ".join(filter(None, (said, trouble)))
        silent_s = self._tally.silent_s(device.id)
        if silent_s > SILENT_PERIODS * stretch * device.period_ns / NS_PER_S + SILENT_S:
            return f"nothing new for {silent_s:.0f} s"
        return ""


def nearly_full(used: int, bound: int) -> list[str]:
    """What there is to say of a spool that uses so many of the bytes that it may."""
    share = used / bound
    return [f"the spool is {share:.0%} full: beyond its bound the oldest readings go"] if share > NEARLY_FULL else []
