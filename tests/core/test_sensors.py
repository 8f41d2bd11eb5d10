"""What MQTT sensors publish: paths into JSON, payloads, time stamps and topics."""

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin_core.readings import BAD_CONFIGURATION, BAD_DEVICE_FAILURE, BAD_SENSOR_FAILURE, GOOD
from tocsin_core.sensors import (
    WORDS,
    Kind,
    PathError,
    Reading,
    Window,
    captured,
    fewest,
    filter_problem,
    parse,
    parse_path,
    sparkplug_source,
)
from tocsin_core.sensors.stamps import stamp_ms

NOW = 1_790_000_000_000


def reading(*fields: str, time: str | None = None) -> Reading:
    """Make the way of reading fields and a time."""
    return Reading(tuple(map(parse_path, fields)), fields, None if time is None else parse_path(time), time or "")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", ()),
        ("a", ("a",)),
        ("a.b.c", ("a", "b", "c")),
        ("a[0].b[-1]", ("a", 0, "b", -1)),
        ("[2]", (2,)),
        ('a["b.c"].d', ("a", "b.c", "d")),
        ("['x y'][1]", ("x y", 1)),
        (r'["say \"[hi]\" \\"]', ('say "[hi]" \\',)),
        ("气体.浓度 ppm", ("气体", "浓度 ppm")),
        ("a.0", ("a", "0")),
    ],
)
def test_a_path_is_keys_places_and_quoted_keys(text: str, path: tuple[str | int, ...]) -> None:
    """The whole of the small syntax."""
    assert parse_path(text) == path


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (".a", "sign 1"),
        ("a..b", "sign 3"),
        ("a.", "sign 3"),
        ("a[", "sign 2"),
        ("a[x]", "sign 2"),
        ("a[1.5]", "sign 2"),
        ("a[0]b", "sign 5"),
        ('a"b', "sign 2"),
        ('["a]', "sign 1"),
        ("a]", "sign 2"),
        (".".join("a" * 33), "32 steps"),
    ],
)
def test_what_is_no_path_says_where_it_goes_wrong(text: str, where: str) -> None:
    """The message names the sign at which it cannot go on."""
    with pytest.raises(PathError, match=where):
        parse_path(text)


@given(st.text(max_size=40))
def test_any_key_can_be_named_in_quotes(key: str) -> None:
    """Whatever a key is, there is a path to it, and to nothing else."""
    quoted = '["' + key.replace("\\", "\\\\").replace('"', '\\"') + '"]'
    payload = json.dumps({key: 7, key + "x": 8}).encode()
    assert parse(payload, reading(quoted), NOW).value == (7.0,)


@pytest.mark.parametrize(
    ("payload", "path", "value", "quality", "kind"),
    [
        ("12.5", "", 12.5, GOOD, None),
        (" 12.5\r\n", "", 12.5, GOOD, None),
        ("+12.5", "", 12.5, GOOD, None),
        ('"12.5"', "", 12.5, GOOD, None),
        ("ON", "", 1.0, GOOD, None),
        ("off", "", 0.0, GOOD, None),
        ('{"a": {"b": [1, 2.5]}}', "a.b.1", 2.5, GOOD, None),
        ('{"a": {"b": [1, 2.5]}}', "a.b[-1]", 2.5, GOOD, None),
        ('{"a.b": {"1": 3}}', '["a.b"].1', 3.0, GOOD, None),
        ('{"on": true}', "on", 1.0, GOOD, None),
        ('{"a": 0}', "a", 0.0, GOOD, None),
        ('{"a": "-1.5e2"}', "a", -150.0, GOOD, None),
        ('{"a": "Alarm"}', "a", 2.0, GOOD, None),
        ('{"a": null}', "a", math.nan, BAD_SENSOR_FAILURE, Kind.NULL),
        ('{"a": NaN}', "a", math.nan, BAD_SENSOR_FAILURE, Kind.NOT_FINITE),
        ('{"a": "nan"}', "a", math.nan, BAD_SENSOR_FAILURE, Kind.NOT_FINITE),
        ('{"a": -Infinity}', "a", math.nan, BAD_SENSOR_FAILURE, Kind.NOT_FINITE),
        ('{"a": 1e999}', "a", math.nan, BAD_SENSOR_FAILURE, Kind.NOT_FINITE),
        ('{"a": 1' + "0" * 400 + "}", "a", math.nan, BAD_SENSOR_FAILURE, Kind.NOT_FINITE),
        ('{"a": "12 ppm"}', "a", math.nan, BAD_CONFIGURATION, Kind.NOT_A_NUMBER),
        ('{"a": "1_000"}', "a", math.nan, BAD_CONFIGURATION, Kind.NOT_A_NUMBER),
        ('{"a": "٣"}', "a", math.nan, BAD_CONFIGURATION, Kind.NOT_A_NUMBER),
        ('{"a": "' + "1" * 500 + '"}', "a", math.nan, BAD_CONFIGURATION, Kind.NOT_A_NUMBER),
        ('{"a": ""}', "a", math.nan, BAD_CONFIGURATION, Kind.NOT_A_NUMBER),
        ('{"a": [1]}', "a", math.nan, BAD_CONFIGURATION, Kind.NOT_A_NUMBER),
        ('{"a": 1}', "b", math.nan, BAD_CONFIGURATION, Kind.MISSING),
        ('{"a": 1}', "[0]", math.nan, BAD_CONFIGURATION, Kind.MISSING),
        ('{"a": [1]}', "a.1", math.nan, BAD_CONFIGURATION, Kind.MISSING),
        ('{"a": [1]}', "a[-2]", math.nan, BAD_CONFIGURATION, Kind.MISSING),
        ("half past nine", "", math.nan, BAD_CONFIGURATION, Kind.NOT_A_NUMBER),
        ("not json", "a", math.nan, BAD_DEVICE_FAILURE, Kind.NOT_JSON),
        ("9" * 5000, "a", math.nan, BAD_DEVICE_FAILURE, Kind.NOT_JSON),
        ("[" * 60_000, "a", math.nan, BAD_DEVICE_FAILURE, Kind.NOT_JSON),
        ('"' + "x" * 70_000 + '"', "", math.nan, BAD_DEVICE_FAILURE, Kind.TOO_LARGE),
    ],
)
def test_what_is_no_number_is_bad_with_a_reason(
    payload: str, path: str, value: float, quality: int, kind: Kind | None
) -> None:
    """Numbers, booleans, quoted numbers and words are good; anything else is bad, never 0, and says of which kind."""
    parsed = parse(payload.encode(), replace(reading(path), words={**WORDS, "alarm": 2.0}), NOW)
    assert parsed.value == pytest.approx((value,), nan_ok=True)
    assert parsed.quality == (quality,)
    assert [reason.kind for reason in parsed.reasons] == ([] if kind is None else [kind])


def test_bytes_that_are_no_text_are_bad() -> None:
    """Invalid UTF-8 is told as such."""
    parsed = parse(b'{"a": \xff}', reading("a", "b"), NOW)
    assert parsed.quality == (BAD_DEVICE_FAILURE, BAD_DEVICE_FAILURE)
    assert [reason.kind for reason in parsed.reasons] == [Kind.NOT_TEXT]


@pytest.mark.parametrize(
    ("time", "time_ms"),
    [
        ("2026-09-21T13:33:20Z", 1_789_997_600_000),
        ("2026-09-21t13:33:20z", 1_789_997_600_000),
        ("2026-09-21T21:33:20.250+08:00", 1_789_997_600_250),
        ("2026-09-21 13:33:20+00:00", 1_789_997_600_000),
        (1_789_997_600, 1_789_997_600_000),
        ("1789997600", 1_789_997_600_000),
        (1_789_997_600.25, 1_789_997_600_250),
        (1_789_997_600_250, 1_789_997_600_250),
        (1_789_997_600_250_999, 1_789_997_600_250),
        (1_789_997_600_250_999_999, 1_789_997_600_250),
        ("2026-09-21T13:33:20", None),
        ("yesterday", None),
        ("", None),
        ("nan", None),
        (math.nan, None),
        (10**40, None),
        (True, None),
        (None, None),
        ([1], None),
    ],
)
def test_what_a_time_stamp_may_be(time: object, time_ms: int | None) -> None:
    """RFC 3339 with a zone, counts of s, ms, us and ns told apart by their size; nothing else."""
    assert stamp_ms(time) == time_ms


@pytest.mark.parametrize(
    ("ahead_ms", "kind"), [(0, None), (60_000, None), (60_001, Kind.ABSURD_TIME), (-86_400_000, None)]
)
def test_a_time_out_of_its_window_leaves_the_arrival(ahead_ms: int, kind: Kind | None) -> None:
    """A day behind and a minute ahead may be; else the value is good all the same, and the arrival is its time."""
    parsed = parse(json.dumps({"v": 1, "t": NOW + ahead_ms}).encode(), reading("v", time="t"), NOW)
    assert parsed.time_ms == (NOW + ahead_ms if kind is None else None)
    assert [reason.kind for reason in parsed.reasons] == ([] if kind is None else [kind])
    assert parsed.quality == (GOOD,)


def test_a_clock_that_begins_anew_is_out_of_the_window() -> None:
    """1970, 2000 and what lies a day and more behind are the times of clocks without a battery."""
    window = Window(86_400_000, 60_000)
    assert not any(window.holds(time, NOW) for time in (0, 946_684_800_000, NOW - 86_400_001))
    assert not Window(10**15, 60_000).holds(946_684_799_999, NOW)


def test_a_payload_without_its_time_says_so() -> None:
    """Where a time is expected and none of use is there, the arrival counts and the reason is told."""
    assert [each.kind for each in parse(b'{"v": 1}', reading("v", time="t"), NOW).reasons] == [Kind.NO_TIME]


@given(st.binary(max_size=300), st.lists(st.sampled_from(["", "a", "a[0]", "a.b", '["."]']), max_size=4))
def test_no_payload_makes_it_raise(payload: bytes, fields: list[str]) -> None:
    """Any bytes with any paths give one value and one quality each; what is good is a number."""
    parsed = parse(payload, reading(*fields, time="t"), NOW)
    assert len(parsed.value) == len(parsed.quality) == len(fields)
    assert all(math.isfinite(v) or q != GOOD for v, q in zip(parsed.value, parsed.quality, strict=True))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abt"), inner, max_size=3),
    max_leaves=8,
)


@given(_JSON)
def test_no_json_makes_it_raise(content: object) -> None:
    """Any JSON gives a value and a quality, and a time only within the window."""
    parsed = parse(json.dumps(content).encode(), reading("", "a", "a.b[0]", time="t"), NOW)
    assert all(math.isfinite(v) or q != GOOD for v, q in zip(parsed.value, parsed.quality, strict=True))
    assert parsed.time_ms is None or NOW - 86_400_000 <= parsed.time_ms <= NOW + 60_000


@pytest.mark.parametrize(
    ("topic_filter", "topic", "name"),
    [
        ("a/b", "a/b", ""),
        ("a/b", "a/c", None),
        ("site/+/gas", "site/H2S-7/gas", "H2S-7"),
        ("site/+/gas", "site/H2S-7/gas/x", None),
        ("site/+/gas", "site/gas", None),
        ("+/gas/+", "hall/gas/7", "hall/7"),
        ("site/#", "site/hall/7", "hall/7"),
        ("site/#", "site", ""),
        ("#", "$SYS/uptime", None),
        ("+/uptime", "$SYS/uptime", None),
        ("$SYS/#", "$SYS/uptime", "uptime"),
        ("a/+", "a/", ""),
    ],
)
def test_what_the_wildcards_of_a_filter_stand_for(topic_filter: str, topic: str, name: str | None) -> None:
    """MQTT 3.1.1, 4.7: the levels that + and # took, joined."""
    assert captured(topic_filter, topic) == name


@pytest.mark.parametrize(
    ("topic", "wrong"),
    [
        ("a/+/b/#", False),
        ("spBv1.0/net/+/node/H2S-7", False),
        ("spBv1.0/net/+/node", False),
        ("", True),
        ("a/#/b", True),
        ("a/b#", True),
        ("a/b+/c", True),
        ("x" * 201, True),
        ("spBv1.0/net/DDATA/node/H2S-7", True),
        ("spBv1.0/net/+/+/H2S-7", True),
        ("spBv1.0/net/#", True),
    ],
)
def test_what_is_no_topic_is_told(topic: str, wrong: bool) -> None:  # noqa: FBT001 - a column of the table
    """Wildcards stand alone in their level, # last; Sparkplug topics leave the kind of message open, and only that."""
    assert (filter_problem(topic) is not None) == wrong


def test_a_sparkplug_sensor_is_named_by_its_topic() -> None:
    """Group, node and device; its node's filter takes the node's own messages too."""
    source = sparkplug_source("spBv1.0/net/+/node/H2S-7")
    assert source is not None
    assert (source.group, source.node, source.device) == ("net", "node", "H2S-7")
    assert captured(source.filter, "spBv1.0/net/NDEATH/node") == "NDEATH"
    assert sparkplug_source("a/net/+/node") is None


def test_filters_that_others_cover_are_not_subscribed_to() -> None:
    """Else a broker may send one message once for each; what only overlaps stays."""
    assert fewest(["a/b", "a/+", "a/b", "a/#", "b/+/c", "b/x/+"]) == ("a/#", "b/+/c", "b/x/+")
    assert fewest(["#", "$SYS/x"]) == ("#", "$SYS/x")


_LEVELS = st.lists(st.sampled_from(["a", "b", "+"]), min_size=1, max_size=3).map("/".join)
_FILTERS = st.lists(_LEVELS | _LEVELS.map(lambda levels: levels + "/#"), max_size=5)


@given(_FILTERS, st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=4).map("/".join))
def test_the_fewest_filters_take_all_that_the_others_took(filters: list[str], topic: str) -> None:
    """No message is lost by leaving some out."""
    before = any(captured(each, topic) is not None for each in filters)
    assert any(captured(each, topic) is not None for each in fewest(filters)) == before
