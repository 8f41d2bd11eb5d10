"""A gateway's figures as text for Prometheus (exposition format 0.0.4)."""

from typing import Final

from tocsin_edge.adapters.metrics_process import process_figures
from tocsin_edge.adapters.metrics_text import Family, Sample, exposed
from tocsin_edge.loops import alarm_report
from tocsin_edge.loops.poll_metrics import line_families
from tocsin_edge.loops.self_report import SelfReport

MS_PER_S: Final = 1000.0


def metrics(report: SelfReport) -> str:
    """Every figure of the gateway, one sample a line; times in s, sizes in bytes."""
    lines = line_families(report.lines(), report.board.clock)
    alarms = alarm_report.families(report.alarms)
    own = (*_spool(report), *_state(report), *_slices(report), *_process(report))
    return exposed((*lines, *_devices(report), *alarms, *own))


def _devices(report: SelfReport) -> tuple[Family, ...]:
    devices = [({"device": device.id}, device) for device in report.devices()]
    return (
        (
            "tocsin_edge_readings_total",
            "counter",
            "Readings taken since the start, by quality.",
            [({**of, "quality": words}, n) for of, device in devices for words, n in device.readings.items()],
        ),
        (
            "tocsin_edge_device_watched",
            "gauge",
            "Whether all points of the device are read and none is bad.",
            [(of, float(device.watched)) for of, device in devices],
        ),
        (
            "tocsin_edge_device_points",
            "gauge",
            "Points of the device by what they are now.",
            [
                ({**of, "state": state}, n)
                for of, device in devices
                for state, n in (
                    ("good", device.good),
                    ("uncertain", device.points - device.good - device.bad),
                    ("bad", device.bad),
                )
            ],
        ),
        (
            "tocsin_edge_device_last_good_timestamp_seconds",
            "gauge",
            "Time of the newest good reading of the device since the start.",
            [(of, d.last_good_ms / MS_PER_S) for of, d in devices if d.last_good_ms is not None],
        ),
        (
            "tocsin_edge_sensors_events_total",
            "counter",
            "What was counted of the sensors' broker, and not of one sensor.",
            [({"event": event}, number) for event, number in report.sensor_events().items()],
        ),
        (
            "tocsin_edge_sensor_events_total",
            "counter",
            "What was wrong with messages of a sensor that publishes by itself, and what else was counted of it.",
            [
                ({"device": sensor.name, "event": event}, number)
                for sensor in report.sensors()
                for event, number in sensor.counts.items()
            ],
        ),
    )


def _spool(report: SelfReport) -> tuple[Family, ...]:
    figures, counters = report.spool.figures, report.spool.counters
    oldest = None if figures is None else figures.oldest_unsent_ms
    waits_s = [] if figures is None else [0.0 if oldest is None else (report.now_ms() - oldest) / MS_PER_S]
    bound = report.settings.gateway.spool.max_mb * 1_000_000
    return (
        ("tocsin_edge_spool_bytes", "gauge", "What the file uses.", [({}, figures.bytes)] if figures else []),
        ("tocsin_edge_spool_bound_bytes", "gauge", "What the file may use.", [({}, bound)]),
        (
            "tocsin_edge_spool_room_bytes",
            "gauge",
            "What the file can come to: its bound, or less where the disk has no room for that.",
            [] if report.spool.room is None else [({}, report.spool.room)],
        ),
        *_lanes(report),
        (
            "tocsin_edge_spool_oldest_unsent_seconds",
            "gauge",
            "Age of the oldest reading that the database does not have, 0 if it has all.",
            [({}, seconds) for seconds in waits_s],
        ),
        (
            "tocsin_edge_spool_dropped_total",
            "counter",
            "Readings that were lost, by class, since the spool was made.",
            [({"class": name}, n) for name, n in report.dropped().items()],
        ),
        (
            "tocsin_edge_spool_readings_total",
            "counter",
            "Readings taken in, and of these committed to the database, since the spool was made.",
            [({"what": what}, counters[f"readings_{what}"]) for what in ("polled", "committed")],
        ),
        (
            "tocsin_edge_spool_journal_damaged_total",
            "counter",
            "Alarm journal entries that were found damaged.",
            [({}, counters["journal_damaged"])],
        ),
        (
            "tocsin_edge_spool_files_set_aside_total",
            "counter",
            "Damaged files that were set aside.",
            [({}, counters["files_set_aside"])],
        ),
        (
            "tocsin_edge_spool_batches_in_memory",
            "gauge",
            "Batches of readings that the disk did not take.",
            [({}, report.spool.held)],
        ),
        ("tocsin_edge_spool_up", "gauge", "Whether the disk takes what is read.", [({}, not report.spool.trouble)]),
    )


def _lanes(report: SelfReport) -> tuple[Family, ...]:
    figures = report.spool.figures
    lanes = [] if figures is None else [({"lane": name}, lane) for name, lane in figures.lanes.items()]
    return (
        (
            "tocsin_edge_spool_lane_rows",
            "gauge",
            "Batches, or journal entries, in the lane.",
            [(of, lane.rows) for of, lane in lanes],
        ),
        (
            "tocsin_edge_spool_lane_bytes",
            "gauge",
            "Bytes of data in the lane.",
            [(of, lane.bytes) for of, lane in lanes],
        ),
    )


def _state(report: SelfReport) -> tuple[Family, ...]:
    committed = report.spool.committed_ms
    return (
        ("tocsin_edge_uplink_connected", "gauge", "Whether the uplink stands.", [({}, float(report.connected()))]),
        (
            "tocsin_edge_uplink_committed_timestamp_seconds",
            "gauge",
            "When the database last said that it has more, since the start.",
            [] if committed is None else [({}, committed / MS_PER_S)],
        ),
        (
            "tocsin_edge_idle_seconds",
            "gauge",
            "For how long a part of the gateway has stood still that never should for long.",
            [({"part": name}, seconds) for name, seconds in report.progress.idle_s().items()],
        ),
        (
            "tocsin_edge_info",
            "gauge",
            "Which gateway this is.",
            [({"site": report.settings.site, "gateway": report.settings.gateway.id}, 1.0)],
        ),
    )


def _slices(report: SelfReport) -> tuple[Family, ...]:
    managed = report.managed
    if managed is None:
        return ()
    return (
        (
            "tocsin_edge_slice_version",
            "gauge",
            "Version of the slice of the plant that is in force; 0: the gateway's own plant file.",
            [({}, managed.standing.version)],
        ),
        (
            "tocsin_edge_slices_total",
            "counter",
            "Slices that came from the cloud side, by what became of them.",
            [({"outcome": outcome}, number) for outcome, number in managed.counts.items()],
        ),
    )


def _process(report: SelfReport) -> tuple[Family, ...]:
    found = process_figures()
    resident: list[Sample] = [] if found.resident_bytes is None else [({}, found.resident_bytes)]
    return (
        ("process_cpu_seconds_total", "counter", "Processor time of all threads.", [({}, found.cpu_s)]),
        ("process_resident_memory_bytes", "gauge", "Memory that is resident.", resident),
        ("process_start_time_seconds", "gauge", "When the gateway started.", [({}, report.started_ms / MS_PER_S)]),
    )
