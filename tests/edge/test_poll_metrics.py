"""The lines' figures as Prometheus and a status page get them."""

import json

from prometheus_client.parser import text_string_to_metric_families

from tocsin_core.polling import JobFigures
from tocsin_core.sparkplug import ClockState
from tocsin_edge.adapters.metrics_text import exposed
from tocsin_edge.loops.poll import LineFigures
from tocsin_edge.loops.poll_metrics import line_families, status

LINE = LineFigures(
    '/dev/tty"\\1',
    up=True,
    utilisation=0.875,
    stretched=("d2",),
    jobs=(
        JobFigures("d1", safety=True, stretch=1.0, cycles=100, missed=0, failed=0, dead=False),
        JobFigures("d2", safety=False, stretch=3.25, cycles=30, missed=70, failed=2, dead=True),
    ),
    troubles={"d2": "no answer"},
    counts={"late answers": 4},
)
LABELS = ("line", "device", "safety", "event")
CLOCK = ClockState(synchronised=True, since_ms=1_800_000_000_500, error_ms=12.5, step_s=-3600.0)


def test_the_text_is_what_prometheus_reads() -> None:
    """Its own parser finds each figure, by line and device."""
    text = exposed(line_families([LINE], CLOCK))
    found = {
        (sample.name, *(sample.labels[key] for key in LABELS if key in sample.labels)): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    name = LINE.name
    assert found == {
        ("tocsin_edge_line_up", name): 1,
        ("tocsin_edge_line_utilisation", name): 0.875,
        ("tocsin_edge_line_events_total", name, "late answers"): 4,
        ("tocsin_edge_poll_stretch", name, "d1", "true"): 1,
        ("tocsin_edge_poll_stretch", name, "d2", "false"): 3.25,
        ("tocsin_edge_polls_total", name, "d1", "true"): 100,
        ("tocsin_edge_polls_total", name, "d2", "false"): 30,
        ("tocsin_edge_polls_failed_total", name, "d1", "true"): 0,
        ("tocsin_edge_polls_failed_total", name, "d2", "false"): 2,
        ("tocsin_edge_polls_missed_total", name, "d1", "true"): 0,
        ("tocsin_edge_polls_missed_total", name, "d2", "false"): 70,
        ("tocsin_edge_device_dead", name, "d1", "true"): 0,
        ("tocsin_edge_device_dead", name, "d2", "false"): 1,
        ("tocsin_edge_clock_synchronised",): 1,
        ("tocsin_edge_clock_since_timestamp_seconds",): 1_800_000_000.5,
        ("tocsin_edge_clock_error_seconds",): 0.0125,
        ("tocsin_edge_clock_step_seconds",): -3600.0,
    }
    unknown = exposed(line_families([], ClockState(synchronised=False, since_ms=0)))
    assert "clock_error" not in unknown
    assert "clock_step" not in unknown


def test_the_status_is_json_and_says_what_is_wrong() -> None:
    """With the reason by device, and who is stretched."""
    data = json.loads(json.dumps(status([LINE], CLOCK, "said")))
    assert data["lines"][0]["troubles"] == {"d2": "no answer"}
    assert data["lines"][0]["stretched"] == ["d2"]
    assert data["lines"][0]["jobs"][1]["stretch"] == 3.25
    assert data["clock"] == {
        "synchronised": True,
        "since_ms": 1_800_000_000_500,
        "error_ms": 12.5,
        "step_s": -3600.0,
        "reason": "said",
    }
