"""The host's side of Sparkplug: what every kind of message, right or wrong, comes to."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin_core import readings
from tocsin_core.sparkplug import (
    ClockState,
    EdgeDevice,
    EdgeMetric,
    EdgeSession,
    Fed,
    HostSession,
    HostState,
    parse_command,
    parse_state,
)
from tocsin_core.sparkplug.edge import Columns, unknown_columns
from tocsin_core.sparkplug.payload import DataType, PayloadError, committed, parse, rebirth
from tocsin_core.sparkplug.sparkplug_b_pb2 import Payload

MS = 1_790_000_000_000
NOW = MS * 1_000_000
Metric = Callable[[Payload], None]


class Peer:
    """An edge node written by hand, message by message."""

    def __init__(self) -> None:
        """Know no point yet; the host numbers metrics as they come, and wants none called `unwanted`."""
        self.points: dict[str, int] = {}
        self.host = HostSession(self.resolve)
        self.seq = 0

    def resolve(self, _group: str, _node: str, _device: str | None, metric: str) -> int | None:
        """Number a metric."""
        return None if metric == "unwanted" else self.points.setdefault(metric, len(self.points))

    def say(
        self, kind: str, *metrics: Metric, device: str | None = None, seq: int | None = None, now_ns: int = NOW
    ) -> Fed:
        """Send one message with the next seq, or with the one given."""
        payload = Payload(timestamp=MS)
        if kind != "NDEATH":
            self.seq = 0 if kind == "NBIRTH" else self.seq
            payload.seq = self.seq if seq is None else seq
            self.seq = (payload.seq + 1) % 256
        for metric in metrics:
            metric(payload)
        topic = f"spBv1.0/g/{kind}/n" + (f"/{device}" if device else "")
        return self.host.feed(topic, payload.SerializeToString(), now_ns)

    def born(self, *metrics: Metric, bd_seq: int = 0) -> Fed:
        """Be born with a bdSeq."""
        return self.say("NBIRTH", put("bdSeq", DataType.INT64, long_value=bd_seq), *metrics)


def put(name: str | None, datatype: int | None = None, **fields: Any) -> Metric:  # noqa: ANN401 - any field of a metric
    """Make something that adds one metric to a payload."""

    def add(payload: Payload) -> None:
        metric = payload.metrics.add()
        if name is not None:
            metric.name = name
        if datatype is not None:
            metric.datatype = datatype
        for key, value in fields.items():
            setattr(metric, key, value)

    return add


def reasons(fed: Fed) -> set[str]:
    """Collect the reasons of a message's faults."""
    return {fault.reason for fault in fed.faults}


@pytest.mark.parametrize(
    ("datatype", "field", "raw", "value"),
    [
        (DataType.INT8, "int_value", 0xFF, -1.0),
        (DataType.INT8, "int_value", 0xFFFFFFFF, -1.0),
        (DataType.INT16, "int_value", 0x8000, -32768.0),
        (DataType.INT32, "int_value", 0xFFFFFFFE, -2.0),
        (DataType.INT64, "long_value", 0xFFFFFFFFFFFFFFFD, -3.0),
        (DataType.UINT8, "int_value", 200, 200.0),
        (DataType.UINT16, "int_value", 65535, 65535.0),
        (DataType.UINT32, "int_value", 4294967295, 4294967295.0),
        (DataType.UINT32, "long_value", 4294967295, 4294967295.0),
        (DataType.UINT64, "long_value", 2**63, float(2**63)),
        (DataType.FLOAT, "float_value", 1.5, 1.5),
        (DataType.DOUBLE, "double_value", 0.1, 0.1),
        (DataType.BOOLEAN, "boolean_value", True, 1.0),
    ],
)
def test_every_numeric_type_becomes_a_float(datatype: int, field: str, raw: float, value: float) -> None:
    """Integers of all widths with their sign, floats and booleans; in births as in data by alias."""
    peer = Peer()
    held: dict[str, Any] = {field: raw}
    birth = peer.born(put("m", datatype, alias=5, **held))
    data = peer.say("NDATA", put(None, alias=5, **held))
    for fed in (birth, data):
        assert fed.frame.value.tolist() == [value]
        assert fed.frame.quality.tolist() == [readings.GOOD]
        assert fed.frame.time_ns.tolist() == [NOW]
        assert not fed.faults


def test_births_declare_and_control_metrics_are_no_points() -> None:
    """Unit and range come from the properties; Node Control, bdSeq and Tocsin metrics are not resolved."""
    peer = Peer()

    def described(payload: Payload) -> None:
        put("level", DataType.FLOAT, alias=1, float_value=2.0)(payload)
        for key, field, value in (
            ("engUnit", "string_value", "m"),
            ("engLow", "double_value", 0.0),
            ("engHigh", "int_value", 12),
        ):
            payload.metrics[-1].properties.keys.append(key)
            setattr(payload.metrics[-1].properties.values.add(), field, value)

    fed = peer.born(
        put("Node Control/Rebirth", DataType.BOOLEAN, boolean_value=False),
        put("Tocsin/Batch", DataType.UINT64, long_value=41),
        put("Tocsin/Oldest", DataType.UINT64, long_value=7),
        put("unwanted", DataType.FLOAT, float_value=1.0),
        described,
    )
    assert peer.points == {"level": 0}
    assert (fed.newest_batch, fed.oldest_batch, fed.batch) == (41, 7, None)
    assert [(d.metric, d.point, d.unit, d.low, d.high) for d in fed.births] == [
        ("unwanted", None, None, None, None),
        ("level", 0, "m", 0.0, 12.0),
    ]


def test_a_gap_in_seq_keeps_the_data_and_asks_for_a_rebirth() -> None:
    """A lost message is told by the next one, whose readings are kept; after that the count goes on; 255 wraps to 0."""
    peer = Peer()
    peer.born(put("m", DataType.FLOAT, alias=1, float_value=0.0))
    value = put(None, alias=1, float_value=1.0)
    assert not peer.say("NDATA", value).faults
    gap = peer.say("NDATA", value, seq=9)
    assert reasons(gap) == {"sequence-gap"}
    assert gap.rebirth
    assert len(gap.frame) == 1
    assert [reasons(peer.say("NDATA", value)) for _ in range(300)] == [set()] * 300


def test_a_host_with_a_reorder_timeout_waits_for_what_others_came_before() -> None:
    """All come in time: no rebirth. One stays away: a rebirth, once, by the next message or by the clock alone."""
    peer, wait_ns = Peer(), 2_000_000_000
    peer.host = HostSession(peer.resolve, wait_ns)
    peer.born(put("m", DataType.FLOAT, alias=1, float_value=0.0))
    value = put(None, alias=1, float_value=1.0)
    # 255 and 0 come behind 1 and 2.
    assert [peer.say("NDATA", value).rebirth for _ in range(254)] == [False] * 254
    late = [peer.say("NDATA", value, seq=seq) for seq in (1, 2, 255)]
    assert [reasons(fed) for fed in late] == [{"sequence-gap"}, set(), set()]
    assert [fed.rebirth for fed in late] == [False] * 3
    assert [len(fed.frame) for fed in late] == [1] * 3
    restored = HostSession.restore_from(json.loads(peer.host.snapshot()), peer.resolve, wait_ns)
    assert restored.snapshot() == peer.host.snapshot()
    assert restored.overdue(NOW + wait_ns - 1) == []
    assert restored.overdue(NOW + wait_ns) == [("g", "n")]
    assert restored.overdue(NOW + wait_ns) == []
    assert not peer.say("NDATA", value, seq=0).rebirth
    assert peer.host.overdue(NOW + wait_ns) == []
    assert not peer.say("NDATA", value, seq=3).faults
    assert not peer.say("NDATA", value, seq=5).rebirth
    late_one = peer.say("NDATA", value, seq=6, now_ns=NOW + wait_ns)
    assert (late_one.rebirth, reasons(late_one)) == (True, set())
    assert peer.host.overdue(NOW + 2 * wait_ns) == []


def test_a_host_whose_clock_was_set_back_waits_no_longer() -> None:
    """Else no gap would ask for a rebirth until the clock has come to where it was."""
    peer, wait_ns = Peer(), 2_000_000_000
    peer.host = HostSession(peer.resolve, wait_ns)
    peer.born(put("m", DataType.FLOAT, alias=1, float_value=0.0))
    value = put(None, alias=1, float_value=1.0)
    assert not peer.say("NDATA", value, seq=9).rebirth
    assert not peer.say("NDATA", value, seq=10, now_ns=NOW - readings.AHEAD_NS).rebirth
    assert peer.say("NDATA", value, seq=11, now_ns=NOW - 3600 * wait_ns).rebirth
    assert not peer.say("NDATA", value, seq=12, now_ns=NOW - 3600 * wait_ns).rebirth


def test_who_looks_by_a_clock_that_is_behind_asks_for_no_birth_too_soon() -> None:
    """Arrivals are stamped by the server, and a host on another machine looks by its own clock."""
    peer, wait_ns = Peer(), 2_000_000_000
    peer.host = HostSession(peer.resolve, wait_ns)
    peer.born(put("m", DataType.FLOAT, alias=1, float_value=0.0))
    value = put(None, alias=1, float_value=1.0)
    assert not peer.say("NDATA", value, seq=9).rebirth
    assert peer.host.overdue(NOW - 10 * readings.AHEAD_NS) == []
    assert peer.host.overdue(NOW + wait_ns) == [("g", "n")]


def test_a_birth_that_a_server_held_up_does_not_count() -> None:
    """The birth of an earlier session after a later one's is told and ignored; one that comes again, newer, counts.

    So does one with a bdSeq that begins anew, or of a clock that was set back, as long as not both are so.
    """
    host = HostSession(lambda *_: 0)
    node = EdgeSession("g", "n", [EdgeDevice("d", (EdgeMetric("m"),))])

    def born(bd_seq: int, time_ms: int, newest: int) -> Fed:
        node.will(bd_seq, time_ms)
        birth = node.nbirth(newest, 1, time_ms)
        return host.feed(birth.topic, birth.payload, NOW)

    assert not born(255, MS, 7).faults
    assert not born(1, MS + 20, 9).faults
    restored = HostSession.restore_from(json.loads(host.snapshot()), lambda *_: 0)
    assert restored.snapshot() == host.snapshot()
    late = born(255, MS + 10, 8)
    assert (reasons(late), late.rebirth, late.batch, late.births) == ({"stale-birth"}, True, None, ())
    assert late.kind == ""
    death = node.will(1, MS)
    assert not host.feed(death.topic, death.payload, NOW).faults
    assert not born(1, MS + 20, 9).faults
    assert reasons(born(255, MS + 10, 8)) == {"stale-birth"}
    assert reasons(born(255, MS + 10, 8)) == {"stale-birth"}
    assert not born(255, MS + 11, 8).faults
    assert not born(0, MS + 5, 1).faults
    assert not born(7, MS + 30, 1).faults
    assert not born(0, MS + 31, 1).faults


def test_a_death_counts_only_with_the_bdseq_of_the_birth() -> None:
    """A will that comes late, after the new birth, is told and ignored; the right one turns all points bad."""
    peer = Peer()
    peer.born(bd_seq=1)
    peer.born(put("m", DataType.FLOAT, alias=1, float_value=0.0), bd_seq=2)
    peer.say("DBIRTH", put("d", DataType.FLOAT, alias=2, float_value=0.0), device="dev")
    stale = peer.say("NDEATH", put("bdSeq", DataType.INT64, long_value=1))
    assert reasons(stale) == {"stale-death"}
    assert len(stale.frame) == 0
    death = peer.say("NDEATH", put("bdSeq", DataType.INT64, long_value=2))
    assert sorted(death.frame.point.tolist()) == [0, 1]
    assert set(death.frame.quality.tolist()) == {readings.BAD_NOT_CONNECTED}
    assert np.isnan(death.frame.value).all()
    assert set(death.frame.time_ns.tolist()) == {NOW}
    after = peer.say("NDATA", put(None, alias=1, float_value=1.0))
    assert after.rebirth
    assert reasons(after) == {"not-born", "dropped-unborn"}


def test_a_device_death_marks_its_own_points_only() -> None:
    """DDEATH turns the device's points bad; data of the device is then unborn until the next DBIRTH."""
    peer = Peer()
    peer.born(put("m", DataType.FLOAT, alias=1, float_value=0.0))
    for alias, device in ((2, "a"), (3, "b")):
        peer.say("DBIRTH", put(device, DataType.FLOAT, alias=alias, float_value=0.0), device=device)
    death = peer.say("DDEATH", device="a")
    assert death.frame.point.tolist() == [peer.points["a"]]
    assert peer.say("DDATA", put(None, alias=2, float_value=1.0), device="a").rebirth
    assert not peer.say("DDATA", put(None, alias=3, float_value=1.0), device="b").faults


@pytest.mark.parametrize(
    ("said_ms", "taken_ns"),
    [(MS - 5000, (MS - 5000) * 1_000_000 + 500_000), (0, MS * 1_000_000), (MS + 86_400_001, MS * 1_000_000)],
)
def test_a_device_is_offline_from_the_time_its_node_says(said_ms: int, taken_ns: int) -> None:
    """DDEATH counts from its own time stamp, or from its arrival where that cannot be a time.

    Not from a time that a reading may bear: of two of one time a history keeps one.
    """
    peer = Peer()
    peer.born()
    peer.say("DBIRTH", put("a", DataType.FLOAT, alias=2, float_value=0.0), device="a")
    death = Payload(timestamp=said_ms, seq=2).SerializeToString()
    fed = peer.host.feed("spBv1.0/g/DDEATH/n/a", death, NOW)
    assert fed.frame.time_ns.tolist() == [taken_ns]
    assert fed.frame.quality.tolist() == [readings.BAD_NOT_CONNECTED]


def test_data_that_cannot_be_read_for_want_of_a_birth_has_no_batch() -> None:
    """A batch with an alias that nobody knows must not be acknowledged; one that is whole must."""
    peer = Peer()
    peer.born(put("m", DataType.FLOAT, alias=1, float_value=0.0))
    batch = put("Tocsin/Batch", long_value=5)
    assert peer.say("NDATA", batch, put(None, alias=1, float_value=1.0)).batch == 5
    lost = peer.say("NDATA", batch, put(None, alias=99, float_value=1.0), put(None, alias=1, float_value=2.0))
    assert lost.batch is None
    assert lost.rebirth
    assert reasons(lost) == {"unknown-alias"}
    assert lost.frame.value.tolist() == [2.0]


def test_named_data_before_the_birth_is_kept_where_its_type_shows() -> None:
    """A metric by name with a type, or with a float field, is kept; a bare integer is not guessed."""
    fed = Peer().say("NDATA", put("a", DataType.INT8, int_value=255), put("b", float_value=2.5), put("c", int_value=7))
    assert fed.rebirth
    assert fed.frame.value.tolist() == [-1.0, 2.5]
    assert reasons(fed) == {"not-born", "no-type"}


@pytest.mark.parametrize(
    ("time_ms", "reason"),
    [
        *((time_ms, "absurd-time") for time_ms in (0, 1, MS // 1000, 4_102_444_800_000, 2**63, 2**64 - 1)),
        *((time_ms, "day-ahead") for time_ms in (MS + 86_400_001, 4_102_444_799_999)),
    ],
)
def test_absurd_times_are_quarantined_by_themselves(time_ms: int, reason: str) -> None:
    """1970, seconds for milliseconds, tomorrow and the end of time are dropped; the metric beside them is kept."""
    peer = Peer()
    fed = peer.born(
        put("bad", DataType.FLOAT, float_value=1.0, timestamp=time_ms),
        put("good", DataType.FLOAT, float_value=2.0, timestamp=MS + 86_400_000),
    )
    assert reasons(fed) == {reason}
    assert fed.frame.value.tolist() == [2.0]
    # A birth repeats what was said before.
    assert fed.ahead is None


def test_what_was_just_read_a_day_ahead_is_told_beside_the_frame() -> None:
    """One of the two clocks is wrong, and the reading is none the less of now; one that comes late is not."""
    peer = Peer()
    peer.born(*(put(name, DataType.FLOAT, float_value=1.0) for name in ("a", "b", "c")))
    ahead = {"float_value": 2.0, "timestamp": MS + 86_400_001}
    fed = peer.say(
        "NDATA",
        put("a", DataType.FLOAT, **ahead),
        put("b", DataType.FLOAT, is_historical=True, **ahead),
        put("c", DataType.FLOAT, float_value=3.0),
    )
    assert fed.frame.value.tolist() == [3.0]
    assert fed.ahead is not None
    assert (fed.ahead.value.tolist(), fed.ahead.time_ns.tolist()) == ([2.0], [(MS + 86_400_001) * 1_000_000])
    assert {fault.reason: fault.count for fault in fed.faults} == {"day-ahead": 2}


@pytest.mark.parametrize("time_ms", [0, 1, MS // 1000, 4_102_444_800_000, 2**63, 2**64 - 1])
def test_what_was_just_read_at_a_time_that_cannot_be_is_told_as_of_its_arrival(time_ms: int) -> None:
    """A clock without a battery begins in 1970, and what is read is none the less of now; late data is not."""
    peer = Peer()
    peer.born(*(put(name, DataType.FLOAT, float_value=1.0) for name in ("a", "b")))
    fed = peer.say(
        "NDATA",
        put("a", DataType.FLOAT, float_value=2.0, timestamp=time_ms),
        put("b", DataType.FLOAT, is_historical=True, float_value=2.0, timestamp=time_ms),
    )
    assert (len(fed.frame), fed.historical) == (0, False)
    assert fed.ahead is not None
    assert (fed.ahead.value.tolist(), fed.ahead.time_ns.tolist()) == ([2.0], [NOW])
    assert {fault.reason: fault.count for fault in fed.faults} == {"absurd-time": 2}


def test_values_that_are_none_turn_bad_never_zero() -> None:
    """Null, NaN, infinity, the wrong field and no field: bad with NaN, and a fault where it is one."""
    peer = Peer()
    fed = peer.born(
        put("null", DataType.FLOAT, is_null=True),
        put("nan", DataType.DOUBLE, double_value=math.nan),
        put("inf", DataType.FLOAT, float_value=math.inf),
        put("text", DataType.FLOAT, string_value="1.0"),
        put("none", DataType.FLOAT),
    )
    assert np.isnan(fed.frame.value).all()
    assert fed.frame.quality.tolist() == [
        readings.BAD,
        readings.BAD_SENSOR_FAILURE,
        readings.BAD_SENSOR_FAILURE,
        readings.BAD_CONFIGURATION,
        readings.BAD_CONFIGURATION,
    ]
    assert {fault.reason: fault.count for fault in fed.faults} == {"not-finite": 2, "wrong-type": 2}


@pytest.mark.parametrize(
    ("properties", "quality"),
    [
        ({"Quality": 192}, readings.GOOD),
        ({"Quality": 0}, readings.BAD),
        ({"Quality": 500}, readings.UNCERTAIN_LAST_USABLE),
        ({"Quality": 24}, readings.BAD_COMM_FAILURE),
        ({"Quality": 777}, readings.BAD),
        ({"Quality": 500, "OpcQuality": 0x54}, readings.UNCERTAIN_RANGE_EXCEEDED),
        ({"other": 1}, readings.GOOD),
    ],
)
def test_quality_properties(properties: dict[str, int], quality: int) -> None:
    """Sparkplug's three codes, the OPC byte of ours, codes that others put there, and codes that mean nothing."""

    def add(payload: Payload) -> None:
        put("m", DataType.FLOAT, float_value=1.0)(payload)
        for key, value in properties.items():
            payload.metrics[-1].properties.keys.append(key)
            payload.metrics[-1].properties.values.add(type=3, int_value=value)

    assert Peer().born(add).frame.quality.tolist() == [quality]


def test_strings_are_told_once() -> None:
    """A metric that is no number gives no reading and one fault for its whole life."""
    peer = Peer()
    assert reasons(peer.born(put("name", DataType.STRING, alias=1, string_value="x"))) == {"not-numeric"}
    for _ in range(3):
        fed = peer.say("NDATA", put(None, alias=1, string_value="y"))
        assert not fed.faults
        assert len(fed.frame) == 0


def test_historical_is_said_only_of_messages_that_are_all_late() -> None:
    """One live reading in a message makes it live."""
    peer = Peer()
    peer.born(put("m", DataType.FLOAT, alias=1, float_value=0.0))
    late = put(None, alias=1, float_value=1.0, is_historical=True, timestamp=MS - 1)
    assert peer.say("NDATA", late, late).historical
    assert not peer.say("NDATA", late, put(None, alias=1, float_value=1.0)).historical


@pytest.mark.parametrize(
    "topic",
    ["", "x", "spBv1.0/g/NDATA", "spBv1.0/g/DDATA/n", "spBv1.0/g/NDATA/n/d", "spBv1.0/g/NOPE/n", "spBv1.0//NDATA/n"],
)
def test_topics_that_are_not_sparkplug(topic: str) -> None:
    """They are told by name, and nothing else happens."""
    fed = Peer().host.feed(topic, b"", NOW)
    assert reasons(fed) == {"not-sparkplug"}
    assert fed.kind == ""


def columns_of(n: int) -> st.SearchStrategy[Columns]:
    """Draw readings of a device with `n` metrics."""
    row = st.tuples(
        st.integers(0, n - 1),
        st.integers(MS - 10**9, MS),
        st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from(sorted(readings.QUALITY_TEXT)),
    )
    return st.lists(row, max_size=20).map(
        lambda rows: Columns(
            np.array([row[0] for row in rows], dtype=np.int64),
            np.array([row[1] for row in rows], dtype=np.int64),
            np.array([row[2] for row in rows], dtype=np.float64),
            np.array([row[3] for row in rows], dtype=np.uint8),
        )
    )


DEVICE = EdgeDevice("dev", (EdgeMetric("a", "bar", 0, 10), EdgeMetric("b"), EdgeMetric("c")))


@given(columns_of(3), st.booleans(), st.integers(1, 2**63 - 2))
def test_what_our_edge_says_our_host_hears(columns: Columns, historical: bool, batch: int) -> None:  # noqa: FBT001 - drawn
    """Readings go through in the order of time, bad values as NaN; a host restored from its snapshot hears the same."""
    edge = EdgeSession("site", "gw", [DEVICE])
    points = {"a": 4, "b": 2, "c": 9}
    host = HostSession(lambda _g, _n, _d, metric: points[metric])
    for message in (edge.nbirth(batch, 1, MS), edge.dbirth("dev", unknown_columns(DEVICE, MS, 0x20), batch, MS)):
        assert not host.feed(message.topic, message.payload, NOW).faults
    snapshot = host.snapshot()
    restored = HostSession.restore(snapshot, lambda _g, _n, _d, metric: points[metric])
    assert restored.snapshot() == snapshot
    data = edge.ddata("dev", columns, batch, MS, historical=historical)
    fed, again = (either.feed(data.topic, data.payload, NOW) for either in (host, restored))
    order = np.argsort(columns.time_ms, kind="stable")
    quality = columns.quality[order]
    assert fed.batch == batch
    assert not fed.faults
    assert fed.historical == (historical and len(columns) > 0)
    assert fed.frame.point.tolist() == [list(points.values())[at] for at in columns.metric[order].tolist()]
    assert fed.frame.time_ns.tolist() == (columns.time_ms[order] * 1_000_000).tolist()
    assert fed.frame.quality.tolist() == quality.tolist()
    np.testing.assert_array_equal(fed.frame.value, np.where(readings.is_bad(quality), np.nan, columns.value[order]))
    np.testing.assert_array_equal(fed.frame.value, again.frame.value)
    assert again.batch == batch


def since(now_ms: int) -> st.SearchStrategy[int]:
    """Draw the times that can be, in ms."""
    return st.integers(readings.EARLIEST_NS // 1_000_000, now_ms)


@given(st.booleans(), since(MS), st.none() | st.floats(0, 1e9), st.none() | st.floats(-1e9, 1e9))
def test_a_clocks_state_goes_through(
    synchronised: bool,  # noqa: FBT001 - drawn
    since_ms: int,
    error_ms: float | None,
    step_s: float | None,
) -> None:
    """In the birth and when it changes; a birth without it says nothing of a clock."""
    edge = EdgeSession("g", "n", [DEVICE])
    host = HostSession(lambda *_: None)
    told = ClockState(synchronised, since_ms, error_ms, step_s)
    for message in (edge.nbirth(1, 1, MS, told), edge.clock(told, MS)):
        fed = host.feed(message.topic, message.payload, NOW)
        assert (fed.clock, fed.faults, fed.batch) == (told, (), None)
    for silent in (edge.nbirth(1, 1, MS), edge.ndata(1, MS)):
        assert host.feed(silent.topic, silent.payload, NOW).clock is None


def test_data_of_a_clock_that_nobody_had_set_say_so_each_by_themselves() -> None:
    """Every such batch is marked; the first that is not takes the mark back, for hosts that keep values."""
    edge = EdgeSession("g", "n", [DEVICE])
    host = HostSession(lambda *_: 0)
    last = unknown_columns(DEVICE, MS, 0xC0)
    unset = replace(last, unsynchronised_ms=MS - 9000)

    def marks(columns: Columns, number: int) -> tuple[int | None, int]:
        message = edge.ddata("dev", columns, number, MS, historical=False)
        named = [metric for metric in parse(message.payload).metrics if metric.name == "Tocsin/Clock/Unsynchronised"]
        return host.feed(message.topic, message.payload, NOW).unsynchronised_ms, len(named)

    for message in (edge.nbirth(1, 1, MS), edge.dbirth("dev", unset, 1, MS)):
        assert host.feed(message.topic, message.payload, NOW).unsynchronised_ms is None
    assert [marks(columns, number) for number, columns in enumerate((unset, unset, last, last, unset), 1)] == [
        (MS - 9000, 1),
        (MS - 9000, 1),
        (None, 1),
        (None, 0),
        (MS - 9000, 1),
    ]


@pytest.mark.parametrize("absurd_ms", [0, 5, NOW // 1_000_000 + 86_400_001, 2**64 - 1])
def test_a_clock_that_cannot_be_is_unset_since_now(absurd_ms: int) -> None:
    """What a clock says of itself that nobody has set may be anything; it is not handed on."""
    edge = EdgeSession("g", "n", [DEVICE])
    host = HostSession(lambda *_: 0)
    birth = edge.nbirth(1, 1, MS, ClockState(synchronised=False, since_ms=absurd_ms))
    assert host.feed(birth.topic, birth.payload, NOW).clock == ClockState(synchronised=False, since_ms=NOW // 1_000_000)


KINDS = st.sampled_from(["NBIRTH", "NDATA", "NDEATH", "DBIRTH", "DDATA", "DDEATH", "NCMD", "DCMD"])


@settings(max_examples=400)
@given(st.lists(st.tuples(KINDS, st.binary(max_size=200)), max_size=6))
def test_no_bytes_make_the_host_raise(messages: list[tuple[str, bytes]]) -> None:
    """Whatever comes on whatever topic, the host answers, and its snapshot restores."""
    peer = Peer()
    for kind, body in messages:
        fed = peer.host.feed(f"spBv1.0/g/{kind}/n" + ("/d" if kind[0] == "D" else ""), body, NOW)
        assert len(fed.frame) >= 0
    snapshot = peer.host.snapshot()
    assert HostSession.restore(snapshot, peer.resolve).snapshot() == snapshot


@settings(max_examples=400)
@given(st.data())
def test_no_damage_to_a_message_makes_the_host_raise(data: st.DataObject) -> None:
    """Births and data cut short or with bytes changed: faults at most, and readings keep the frame's invariants."""
    peer = Peer()
    edge = EdgeSession("g", "n", [DEVICE])
    messages = [
        edge.nbirth(3, 1, MS),
        edge.dbirth("dev", unknown_columns(DEVICE, MS, 0xC0), 3, MS),
        edge.ddata("dev", data.draw(columns_of(3)), 4, MS, historical=False),
        edge.ndeath(MS),
    ]
    for message in messages:
        body = bytearray(message.payload)
        for _ in range(data.draw(st.integers(0, 4))):
            body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
        cut = data.draw(st.integers(0, len(body)))
        fed = peer.host.feed(message.topic, bytes(body[:cut] if data.draw(st.booleans()) else body), NOW)
        assert np.isfinite(fed.frame.value[~readings.is_bad(fed.frame.quality)]).all()
    assert HostSession.restore(peer.host.snapshot(), peer.resolve).snapshot() == peer.host.snapshot()


@given(st.integers(0, 2**64 - 1))
def test_commands_go_through(batch: int) -> None:
    """What the cloud says the gateway understands; bytes that are no payload are an error with a type."""
    assert parse_command(committed(batch, MS)).committed == batch
    assert parse_command(rebirth(MS)).rebirth
    with pytest.raises(PayloadError):
        parse_command(b"\x12\x05\x0a")


@pytest.mark.parametrize(
    "data",
    [b"", b"ONLINE", b"[]", b"{}", b'{"online": 1, "timestamp": 5}', b'{"online": true, "timestamp": true}', b"\xff"],
)
def test_a_state_that_is_none_is_refused(data: bytes) -> None:
    """Text of older versions, other JSON and wrong types are no STATE; what is one is read."""
    with pytest.raises(PayloadError):
        parse_state(data)
    assert parse_state(b'{"online": true, "timestamp": 5}') == HostState(online=True, time_ms=5)
