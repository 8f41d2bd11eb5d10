"""JSON payloads of MQTT sensors: values, qualities, times and reasons."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin_core.readings import BAD_CONFIGURATION, BAD_DEVICE_FAILURE, BAD_SENSOR_FAILURE, GOOD
from tocsin_edge.adapters.sensors import parse

NOW = 1_790_000_000_000


@pytest.mark.parametrize(
    ("payload", "path", "value", "quality"),
    [
        ("12.5", "", 12.5, GOOD),
        ('{"a": {"b": [1, 2.5]}}', "a.b.1", 2.5, GOOD),
        ('{"on": true}', "on", 1.0, GOOD),
        ('{"a": 0}', "a", 0.0, GOOD),
        ('{"a": null}', "a", math.nan, BAD_SENSOR_FAILURE),
        ('{"a": NaN}', "a", math.nan, BAD_SENSOR_FAILURE),
        ('{"a": 1e999}', "a", math.nan, BAD_SENSOR_FAILURE),
        ('{"a": "12"}', "a", math.nan, BAD_CONFIGURATION),
        ('{"a": 1}', "b", math.nan, BAD_CONFIGURATION),
        ('{"a": [1]}', "a.1", math.nan, BAD_CONFIGURATION),
        ("not json", "a", math.nan, BAD_DEVICE_FAILURE),
        ("", "", math.nan, BAD_DEVICE_FAILURE),
        ("[" * 5000, "", math.nan, BAD_DEVICE_FAILURE),
        ('"' + "x" * 70_000 + '"', "", math.nan, BAD_DEVICE_FAILURE),
    ],
)
def test_what_is_no_number_is_bad_with_a_reason(payload: str, path: str, value: float, quality: int) -> None:
    """Numbers and booleans at a dotted path are good; anything else is bad, never 0, and says why."""
    parsed = parse(payload.encode(), [path], None, NOW)
    assert parsed.value.tolist() == pytest.approx([value], nan_ok=True)
    assert parsed.quality.tolist() == [quality]
    assert bool(parsed.reasons) == (quality != GOOD)


@pytest.mark.parametrize(
    ("time", "time_ms"),
    [
        ("2026-09-21T13:33:20Z", 1_789_997_600_000),
        ("2026-09-21T21:33:20.250+08:00", 1_789_997_600_250),
        (1_789_997_600, 1_789_997_600_000),
        (1_789_997_600.25, 1_789_997_600_250),
        (1_789_997_600_250, 1_789_997_600_250),
        ("2026-09-21T13:33:20", None),
        ("yesterday", None),
        (0, None),
        (NOW + 86_400_001, None),
        (True, None),
        (None, None),
    ],
)
def test_the_sensors_own_time(time: object, time_ms: int | None) -> None:
    """RFC 3339 with a zone, epoch s and ms are taken; anything else leaves the arrival, with a reason."""
    parsed = parse(json.dumps({"v": 1, "t": time}).encode(), ["v"], "t", NOW)
    assert parsed.time_ms == time_ms
    assert bool(parsed.reasons) == (time_ms is None)
    assert parsed.quality.tolist() == [GOOD]


@given(st.binary(max_size=300), st.lists(st.text(max_size=10), max_size=4))
def test_no_payload_makes_it_raise(payload: bytes, fields: list[str]) -> None:
    """Any bytes with any paths give one value and one quality each."""
    parsed = parse(payload, fields, "t", NOW)
    assert len(parsed.value) == len(parsed.quality) == len(fields)
    assert all(math.isfinite(v) or q != GOOD for v, q in zip(parsed.value, parsed.quality, strict=True))
