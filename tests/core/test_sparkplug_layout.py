"""Data messages read by a learned layout: always what the general reading says, and really read so."""

import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tocsin_core.readings import BAD_COMM_FAILURE, F64, GOOD, I64, UNCERTAIN, Frame
from tocsin_core.sparkplug import EdgeDevice, EdgeMetric, EdgeSession
from tocsin_core.sparkplug import payload as codec
from tocsin_core.sparkplug.edge import Columns, unknown_columns
from tocsin_core.sparkplug.host import Fed, HostSession
from tocsin_core.sparkplug.layout import Layout
from tocsin_core.sparkplug.payload import DataType
from tocsin_core.sparkplug.sparkplug_b_pb2 import Payload

MS = 1_800_000_000_000
NOW = MS * 1_000_000
# Aliases up to 127 take one byte, then two; the metric called so is wanted by nobody.
DEVICE = EdgeDevice("dev", tuple(EdgeMetric("unwanted" if n == 1 else f"m{n}") for n in range(140)))
SIZE = len(DEVICE.metrics)
VALUES = np.linspace(-5.0, 5.0, SIZE)


def resolve(_group: str, _node: str, _device: str | None, metric: str) -> int | None:
    """The number of a metric."""
    return int(metric[1:]) if metric[1:].isdecimal() else None


def columns(values: F64 = VALUES, ms: int | I64 = MS, quality: int = GOOD, begin: int = 0) -> Columns:
    """Readings of the metrics from `begin` on."""
    n = len(values)
    return Columns(
        np.arange(begin, begin + n), np.broadcast_to(ms, n), np.asarray(values), np.broadcast_to(np.uint8(quality), n)
    )


def born() -> tuple[HostSession, EdgeSession]:
    """A host that has heard the births of an edge node."""
    host, edge = HostSession(resolve), EdgeSession("g", "n", [DEVICE])
    for message in (edge.nbirth(0, 1, MS), edge.dbirth("dev", unknown_columns(DEVICE, MS, GOOD), 0, MS)):
        host.feed(message.topic, message.payload, NOW)
    return host, edge


def agree(host: HostSession, topic: str, payload: bytes) -> Fed:
    """What `host` makes of a message is what one makes of it that knows the births but has seen no message."""
    reference = HostSession.restore(host.snapshot(), resolve)
    found, expected = host.feed(topic, payload, NOW), reference.feed(topic, payload, NOW)
    for frame, other in ((found.frame, expected.frame), (found.ahead, expected.ahead)):
        for column in ("point", "time_ns", "value", "quality") if frame is not None else ():
            ours, theirs = getattr(frame, column), getattr(other, column)
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)
    assert replace(found, frame=expected.frame, ahead=expected.ahead) == expected
    assert host.snapshot() == reference.snapshot()
    return found


def no_parse(_: bytes) -> Payload:
    """Fail where a message is read metric by metric."""
    pytest.fail("the message was read metric by metric")


def test_the_second_message_is_read_by_the_layout_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other values, times, batch and seq: not parsed, and all of it right."""
    host, edge = born()
    for number in (1, 2):
        message = edge.ddata("dev", columns(), number, MS, historical=False)
        agree(host, message.topic, message.payload)
    monkeypatch.setattr(codec, "parse", no_parse)
    message = edge.ddata("dev", columns(VALUES + 0.5, MS + np.arange(SIZE)), 99, MS, historical=False)
    fed = host.feed(message.topic, message.payload, NOW)
    assert (fed.batch, fed.faults, fed.historical) == (99, (), False)
    np.testing.assert_array_equal(fed.frame.value, np.delete(VALUES + 0.5, 1))
    np.testing.assert_array_equal(fed.frame.time_ns, np.delete((MS + np.arange(SIZE)) * 1_000_000, 1))


def test_longer_numbers_are_read_by_the_layout_of_shorter_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seq goes twice round, batch from one byte to three: only the first message of all is read metric by metric."""
    host, edge = born()
    message = edge.ddata("dev", columns(), 1, MS, historical=False)
    agree(host, message.topic, message.payload)
    monkeypatch.setattr(codec, "parse", no_parse)
    for number in (*range(2, 260), *range(16_300, 16_560), 7, 2**40):
        message = edge.ddata("dev", columns(VALUES + number), number, MS, historical=False)
        fed = host.feed(message.topic, message.payload, NOW)
        assert (fed.batch, fed.faults) == (number, ())
        np.testing.assert_array_equal(fed.frame.value, np.delete(VALUES + number, 1))


@pytest.mark.parametrize("place", range(4))
def test_the_number_of_a_batch_may_stand_anywhere(place: int) -> None:
    """Before, among and behind readings that stand at even distances; longer or shorter, both ways agree."""
    host, edge = born()
    topic = edge.ddata("dev", columns(), 1, MS, historical=False).topic
    for seq, batch in ((2, 3), (3, 127), (4, 128), (5, 2**21), (6, 9), (200, 9), (201, 128), (0, 3), (128, 2**61)):
        payload = Payload(timestamp=MS, seq=seq)
        for alias in range(2, 6):
            if alias == place + 2:
                put("Tocsin/Batch", batch)(payload)
            payload.metrics.add(alias=alias, timestamp=MS, datatype=DataType.DOUBLE, double_value=batch + alias)
        assert agree(host, topic, payload.SerializeToString()).batch == batch


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_no_number_is_looked_at_closely(value: float) -> None:
    """It fits into the layout, and is told as a fault all the same."""
    host, edge = born()
    message = edge.ddata("dev", columns(), 1, MS, historical=False)
    agree(host, message.topic, message.payload)
    raw = edge.ddata("dev", columns(), 2, MS, historical=False)
    place = raw.payload.index(struct.pack("<d", VALUES[7]))
    fed = agree(host, raw.topic, raw.payload[:place] + struct.pack("<d", value) + raw.payload[place + 8 :])
    assert [fault.reason for fault in fed.faults] == ["not-finite"]


@pytest.mark.parametrize("ms", [MS + 86_400_000, MS + 86_400_001, 946_684_800_000, 946_684_799_999, 2**42 - 1, 2**36])
def test_a_time_that_cannot_be_is_looked_at_closely(ms: int) -> None:
    """The bounds of a time are the same in both ways of reading."""
    host, edge = born()
    for number, at in ((1, MS), (2, ms)):
        message = edge.ddata("dev", columns(ms=at), number, MS, historical=False)
        agree(host, message.topic, message.payload)


def test_a_birth_ends_what_was_learned() -> None:
    """The same bytes mean other points when the aliases are given anew."""
    host, edge = born()
    message = edge.ddata("dev", columns(), 1, MS, historical=False)
    agree(host, message.topic, message.payload)
    turned = EdgeDevice("dev", DEVICE.metrics[::-1])
    edge = EdgeSession("g", "n", [turned])
    for birth in (edge.nbirth(0, 1, MS), edge.dbirth("dev", unknown_columns(turned, MS, GOOD), 0, MS)):
        host.feed(birth.topic, birth.payload, NOW)
    message = edge.ddata("dev", columns(), 1, MS, historical=False)
    assert agree(host, message.topic, message.payload).frame.point[0] == SIZE - 1


class Shape(NamedTuple):
    """What a message is like."""

    values: F64
    ms: int
    spread: bool
    quality: int
    begin: int
    batch: int
    historical: bool
    skip: bool
    unset: bool


SHAPES = st.builds(
    Shape,
    st.sampled_from([VALUES, VALUES * 3, VALUES[:130], VALUES[100:], VALUES[:0]]),
    st.sampled_from([MS, MS + 999, MS - 3_600_000, 5]),
    st.booleans(),
    st.sampled_from([GOOD, UNCERTAIN, BAD_COMM_FAILURE]),
    st.integers(0, 5),
    st.sampled_from([1, 2, 127, 128, 2**21, 2**62]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_both_ways_of_reading_agree_on_anything(data: st.DataObject) -> None:
    """Messages of many shapes, some damaged by a byte or cut, one after the other: never another answer."""
    host, edge = born()
    for _ in range(data.draw(st.sampled_from([0, 123, 251]))):
        edge.ddata("dev", columns(VALUES[:0]), 0, MS, historical=False)
    for _ in range(data.draw(st.integers(2, 6))):
        shape = data.draw(SHAPES)
        times = shape.ms + np.arange(len(shape.values)) * shape.spread
        drawn = columns(shape.values, times, shape.quality, min(shape.begin, SIZE - len(shape.values)))
        drawn = replace(drawn, unsynchronised_ms=MS if shape.unset else None)
        if shape.skip:
            edge.ddata("dev", drawn, 0, MS, historical=False)
        message = edge.ddata("dev", drawn, shape.batch, MS, historical=shape.historical)
        agree(host, message.topic, message.payload)
        again = bytearray(edge.ddata("dev", drawn, shape.batch, MS, historical=shape.historical).payload)
        for _ in range(data.draw(st.integers(0, 3))):
            again[data.draw(st.integers(0, len(again) - 1))] ^= data.draw(st.integers(1, 255))
        agree(host, message.topic, bytes(again))


def plain() -> Payload:
    """A data message that can be learned."""
    payload = Payload(timestamp=MS, seq=2)
    for alias in (1, 3):
        payload.metrics.add(alias=alias, timestamp=MS, datatype=DataType.DOUBLE, double_value=1.5)
    return payload


def put(name: str, number: int) -> Callable[[Payload], object]:
    """Make something that adds a named number."""
    return lambda payload: payload.metrics.add(name=name, timestamp=MS, datatype=DataType.UINT64, long_value=number)


def first(**fields: Any) -> Callable[[Payload], object]:  # noqa: ANN401 -- any field of a metric
    """Make something that sets fields of the first metric; None clears one."""

    def change(payload: Payload) -> None:
        for name, value in fields.items():
            payload.metrics[0].ClearField(name) if value is None else setattr(payload.metrics[0], name, value)

    return change


def one(number: int, **flags: Any) -> Callable[[Payload], object]:  # noqa: ANN401 -- any flag of a metric
    """Make something that sets flags in metric `number`, and their opposites in the other: both stay as long."""

    def change(payload: Payload) -> None:
        for name, value in flags.items():
            for place, metric in enumerate(payload.metrics):
                setattr(metric, name, value is (place == number))

    return change


ODD: dict[str, Callable[[Payload], object]] = {
    "nothing": lambda _: None,
    "null": first(double_value=None, is_null=True),
    "null and a value": first(is_null=True),
    "the second null": one(1, is_null=True),
    "the first historical": one(0, is_historical=True),
    "the second historical": one(1, is_historical=True),
    "no value": first(double_value=None),
    "float": first(float_value=2.5),
    "integer": first(long_value=7),
    "no time": first(timestamp=None),
    "early time": first(timestamp=5),
    "by name": first(alias=None, name="m3"),
    "batch of another type": lambda payload: payload.metrics.add(name="Tocsin/Batch", timestamp=MS, string_value="x"),
    "two batches": lambda payload: [put("Tocsin/Batch", number)(payload) for number in (3, 4)],
    "a journal": put("Tocsin/Journal/Oldest", 7),
    "unknown alias": first(alias=999),
    "twice the same": lambda payload: payload.metrics.add().CopyFrom(payload.metrics[0]),
    "body": lambda payload: setattr(payload, "body", b"x"),
    "no seq": lambda payload: payload.ClearField("seq"),
    "seq out of range": lambda payload: setattr(payload, "seq", 300),
}
SEQ = Payload(seq=2).SerializeToString()
RAW = {
    "seq twice": plain().SerializeToString() + SEQ,
    "seq first": SEQ + plain().SerializeToString().removesuffix(SEQ),
    "unknown field": plain().SerializeToString() + b"\x78\x01",
}


def odd(change: str) -> bytes:
    """A plain message with something in it that is not."""
    payload = plain()
    ODD[change](payload)
    return payload.SerializeToString()


@pytest.mark.parametrize("message", [*map(odd, ODD), *RAW.values()], ids=[*ODD, *RAW])
def test_what_is_not_plain_is_never_read_otherwise(message: bytes) -> None:
    """Twice the odd message, then a plain one, then the odd one: both ways agree each time."""
    host, edge = born()
    topic = edge.ddata("dev", columns(), 1, MS, historical=False).topic
    for payload in (message, message, plain().SerializeToString(), message):
        agree(host, topic, payload)


def test_messages_that_never_look_alike_are_not_learned_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a few in vain only a few are learned; one that looks alike again is read by its layout."""
    host, edge = born()
    learned: list[int] = []
    learn = Layout.learn

    def counted(payload: bytes, points: Mapping[int, int | None], frame: Frame) -> Layout | None:
        learned.append(len(payload))
        return learn(payload, points, frame)

    monkeypatch.setattr(Layout, "learn", counted)
    for number in range(1, 100):
        message = edge.ddata("dev", columns(VALUES[: number % 90 + 1]), 200, MS, historical=False)
        host.feed(message.topic, message.payload, NOW)
    assert 8 <= len(learned) <= 12
