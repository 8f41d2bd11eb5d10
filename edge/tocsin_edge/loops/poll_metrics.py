"""The lines' figures for Prometheus, and as data for a status page."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from tocsin_core.sparkplug import ClockState
from tocsin_edge.adapters.metrics_text import Family, Sample
from tocsin_edge.loops.poll import LineFigures

MS_PER_S: Final = 1000.0


def line_families(lines: Sequence[LineFigures], clock: ClockState) -> tuple[Family, ...]:
    """Every figure of the lines and the clock."""
    # A device that is read in two parts has two jobs, of which one is for safety.
    jobs = [
        ({"line": line.name, "device": job.name, "safety": str(job.safety).lower()}, job)
        for line in lines
        for job in line.jobs
    ]
    per_line = [({"line": line.name}, line) for line in lines]
    families: list[Family] = [
        ("line_up", "gauge", "Whether the line is open.", [(of, float(line.up)) for of, line in per_line]),
        (
            "line_utilisation",
            "gauge",
            "Share of time for which the line is busy.",
            [(of, line.utilisation) for of, line in per_line],
        ),
        (
            "line_events_total",
            "counter",
            "What the line has counted: connects, late answers, wrong answers and so on.",
            [({**of, "event": name}, float(number)) for of, line in per_line for name, number in line.counts.items()],
        ),
        (
            "poll_stretch",
            "gauge",
            "Periods from one reading of the device to the next, 1 where its period is kept.",
            [(of, job.stretch) for of, job in jobs],
        ),
        ("polls_total", "counter", "Answered polls.", [(of, float(job.cycles)) for of, job in jobs]),
        ("polls_failed_total", "counter", "Polls that nobody answered.", [(of, float(job.failed)) for of, job in jobs]),
        (
            "polls_missed_total",
            "counter",
            "Ticks left out on a busy line.",
            [(of, job.missed) for of, job in jobs],
        ),
        ("device_dead", "gauge", "Whether the device counts as dead.", [(of, float(job.dead)) for of, job in jobs]),
        ("clock_synchronised", "gauge", "Whether somebody sets the clock.", [({}, float(clock.synchronised))]),
        ("clock_since_timestamp_seconds", "gauge", "Since when that is so.", [({}, clock.since_ms / MS_PER_S)]),
    ]
    if clock.error_ms is not None:
        error: list[Sample] = [({}, clock.error_ms / MS_PER_S)]
        families.append(("clock_error_seconds", "gauge", "By how much the clock may be wrong at most.", error))
    if clock.step_s is not None:
        step: list[Sample] = [({}, clock.step_s)]
        families.append(("clock_step_seconds", "gauge", "By how much the clock was set when it was set last.", step))
    return tuple((f"tocsin_edge_{name}", kind, text, samples) for name, kind, text, samples in families)


def status(lines: Sequence[LineFigures], clock: ClockState, reason: str) -> dict[str, object]:
    """The same as data, ready for JSON, with the reasons of what is wrong with each device, and with the clock."""
    return {"clock": asdict(clock) | {"reason": reason}, "lines": [asdict(line) for line in lines]}
