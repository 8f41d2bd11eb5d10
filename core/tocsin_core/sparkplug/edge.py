"""The edge node's side of Sparkplug: births, data and deaths as bytes, with bdSeq, seq and aliases kept right."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np

from tocsin_core.readings import F64, I64, U8
from tocsin_core.sparkplug import payload as codec
from tocsin_core.sparkplug.payload import DataType
from tocsin_core.sparkplug.sparkplug_b_pb2 import Payload
from tocsin_core.sparkplug.topics import Topic

SEQ_MODULUS = 256


@dataclass(frozen=True, slots=True)
class Message:
    """One MQTT message to publish."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class EdgeMetric:
    """One metric of a device: always a Double, with its unit and range."""

    name: str
    unit: str = ""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class EdgeDevice:
    """One Sparkplug device of the node and its metrics, in the order in which columns name them."""

    id: str
    metrics: tuple[EdgeMetric, ...]


@dataclass(frozen=True, slots=True)
class Columns:
    """Readings of one device in columns of one length: metric (position in the device), time_ms, value, quality."""

    metric: I64
    time_ms: I64
    value: F64
    quality: U8

    def __len__(self) -> int:
        """Count the readings."""
        return len(self.metric)


class EdgeSession:
    """One edge node. `will`, then `nbirth`, start a session; every later message carries the next seq (0 to 255)."""

    def __init__(self, group: str, node: str, devices: Sequence[EdgeDevice]) -> None:
        """Aliases are unique over the node and all its devices (tck-id-payloads-alias-uniqueness)."""
        self._group, self._node = group, node
        numbers = count(1)
        self._devices = {device.id: device for device in devices}
        self._positions = {
            device.id: {metric.name: place for place, metric in enumerate(device.metrics)} for device in devices
        }
        self._alias = {device.id: [next(numbers) for _ in device.metrics] for device in devices}
        self._seq = 0
        self._bd_seq = 0

    @property
    def devices(self) -> tuple[str, ...]:
        """The node's devices, in the order of their aliases."""
        return tuple(self._devices)

    def positions(self, device: str) -> dict[str, int]:
        """Where columns name each metric of `device`; empty for a device that the node does not have."""
        return self._positions.get(device, {})

    @property
    def command_topic(self) -> str:
        """The topic on which hosts send this node commands."""
        return str(Topic(self._group, "NCMD", self._node))

    def will(self, bd_seq: int, now_ms: int) -> Message:
        """Make the NDEATH to register as MQTT will; `bd_seq` (0 to 255) goes up by one with every connection."""
        self._bd_seq = bd_seq
        return self.ndeath(now_ms)

    def ndeath(self, now_ms: int) -> Message:
        """Make the death of this session, for a node that leaves by itself; it carries no seq."""
        payload = Payload(timestamp=now_ms)
        self._put_bd_seq(payload, now_ms)
        return self._message("NDEATH", payload)

    def nbirth(self, newest: int, oldest: int, now_ms: int) -> Message:
        """Make the node's birth, seq 0; `newest` is the last batch number given out.

        `oldest` is the lowest that is still to be committed: what is below was committed or is gone for good.
        """
        self._seq = 0
        payload = Payload(timestamp=now_ms)
        self._put_bd_seq(payload, now_ms)
        control = payload.metrics.add(name=codec.REBIRTH, timestamp=now_ms, datatype=DataType.BOOLEAN)
        control.boolean_value = False
        _put_number(payload, codec.BATCH, newest, now_ms)
        _put_number(payload, codec.OLDEST, oldest, now_ms)
        return self._numbered("NBIRTH", payload)

    def ndata(self, oldest: int, now_ms: int) -> Message:
        """Tell anew which batch is the oldest that can still come, after older ones were given up."""
        payload = Payload(timestamp=now_ms)
        _put_number(payload, codec.OLDEST, oldest, now_ms)
        return self._numbered("NDATA", payload)

    def dbirth(self, device: str, last: Columns, batch: int, now_ms: int) -> Message:
        """Make a device's birth with every metric: `last` holds one reading of each, in the metrics' order."""
        payload = Payload(timestamp=now_ms)
        _put_number(payload, codec.BATCH, batch, now_ms)
        for position, described in enumerate(self._devices[device].metrics):
            metric = payload.metrics.add(
                name=described.name,
                alias=self._alias[device][position],
                timestamp=int(last.time_ms[position]),
                datatype=DataType.DOUBLE,
            )
            codec.put_reading(metric, float(last.value[position]), int(last.quality[position]))
            if described.unit:
                codec.put_property(metric, "engUnit", described.unit)
            if described.low is not None:
                codec.put_property(metric, "engLow", float(described.low))
            if described.high is not None:
                codec.put_property(metric, "engHigh", float(described.high))
        return self._numbered("DBIRTH", payload, device)

    def ddata(self, device: str, columns: Columns, batch: int, now_ms: int, *, historical: bool) -> Message:
        """Make data of a device under the batch number that the host will acknowledge."""
        payload = Payload(timestamp=now_ms)
        _put_number(payload, codec.BATCH, batch, now_ms)
        aliases = self._alias[device]
        rows = zip(
            columns.metric.tolist(),
            columns.time_ms.tolist(),
            columns.value.tolist(),
            columns.quality.tolist(),
            strict=True,
        )
        for position, time_ms, value, opc in rows:
            # The birth says the type as well, but there are hosts that decode each message by itself.
            metric = payload.metrics.add(alias=aliases[position], timestamp=time_ms, datatype=DataType.DOUBLE)
            if historical:
                metric.is_historical = True
            codec.put_reading(metric, value, opc)
        return self._numbered("DDATA", payload, device)

    def ddeath(self, device: str, now_ms: int) -> Message:
        """Make a device's death: its metrics are stale from now on."""
        return self._numbered("DDEATH", Payload(timestamp=now_ms), device)

    def _put_bd_seq(self, payload: Payload, now_ms: int) -> None:
        metric = payload.metrics.add(name=codec.BD_SEQ, timestamp=now_ms, datatype=DataType.INT64)
        metric.long_value = self._bd_seq

    def _numbered(self, kind: str, payload: Payload, device: str | None = None) -> Message:
        payload.seq = self._seq
        self._seq = (self._seq + 1) % SEQ_MODULUS
        return self._message(kind, payload, device)

    def _message(self, kind: str, payload: Payload, device: str | None = None) -> Message:
        return Message(str(Topic(self._group, kind, self._node, device)), payload.SerializeToString())


def _put_number(payload: Payload, name: str, number: int, now_ms: int) -> None:
    payload.metrics.add(name=name, timestamp=now_ms, datatype=DataType.UINT64, long_value=number)


def unknown_columns(device: EdgeDevice, now_ms: int, quality: int) -> Columns:
    """One reading of `quality` without a value for each metric of `device`: what a birth says before the first poll."""
    n = len(device.metrics)
    return Columns(
        np.arange(n, dtype=np.int64),
        np.full(n, now_ms, dtype=np.int64),
        np.full(n, np.nan),
        np.full(n, quality, dtype=np.uint8),
    )
