"""The edge node's side of Sparkplug: births, data and deaths as bytes, with bdSeq, seq and aliases kept right."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from typing import NamedTuple, Self

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
    names: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Note the metrics' names: they are asked for with each batch."""
        object.__setattr__(self, "names", tuple(metric.name for metric in self.metrics))


@dataclass(frozen=True, slots=True)
class ClockState:
    """What a node knows of its clock: whether somebody sets it, and since when, by itself (ms since 1970).

    `error_ms`: by how much it may be wrong at most; `step_s`: by how much it was set when it was set last, forward if
    positive. Both None where they are not known.
    """

    synchronised: bool
    since_ms: int
    error_ms: float | None = None
    step_s: float | None = None


@dataclass(frozen=True, slots=True)
class Columns:
    """Readings of one device in columns of one length: metric (position in the device), time_ms, value, quality.

    `unsynchronised_ms`: since when nobody had set the clock by which they were taken; None where it was synchronised.
    """

    metric: I64
    time_ms: I64
    value: F64
    quality: U8
    unsynchronised_ms: int | None = None

    def __len__(self) -> int:
        """Count the readings."""
        return len(self.metric)


class JournalNumbers(NamedTuple):
    """The last journal number given out, and the lowest still to be committed: none below it will come any more.

    `rules` tells which alarms the node decides, and by what (`tocsin_core.owned.packed`).
    """

    newest: int
    oldest: int
    rules: bytes


class EdgeSession:
    """One edge node. `will`, then `nbirth`, start a session; every later message carries the next seq (0 to 255)."""

    def __init__(self, group: str, node: str, devices: Sequence[EdgeDevice], bd_seq: int = 0, seq: int = 0) -> None:
        """Aliases are unique over the node and all its devices (tck-id-payloads-alias-uniqueness)."""
        self._group, self._node = group, node
        numbers = count(1)
        self._devices = {device.id: device for device in devices}
        self._positions = {
            device.id: {metric.name: place for place, metric in enumerate(device.metrics)} for device in devices
        }
        self._alias = {device.id: [next(numbers) for _ in device.metrics] for device in devices}
        self._told_unsynchronised: set[str] = set()
        self._topics: dict[tuple[str, str | None], str] = {}
        self._seq = seq
        self._bd_seq = bd_seq

    def with_devices(self, devices: Sequence[EdgeDevice]) -> Self:
        """The same node in the same session with other devices; a birth must follow."""
        return type(self)(self._group, self._node, devices, self._bd_seq, self._seq)

    @property
    def devices(self) -> tuple[str, ...]:
        """The node's devices, in the order of their aliases."""
        return tuple(self._devices)

    def device(self, device: str) -> EdgeDevice | None:
        """The device called so, None where the node has none."""
        return self._devices.get(device)

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

    def nbirth(
        self,
        newest: int,
        oldest: int,
        now_ms: int,
        clock: ClockState | None = None,
        journal: JournalNumbers | None = None,
        standing: str | None = None,
    ) -> Message:
        """Make the node's birth, seq 0; `newest` is the last batch number given out.

        `oldest` is the lowest that is still to be committed: what is below was committed or is gone for good. Without
        `clock` the node will never tell of one. A node that decides its own alarms says so with `journal`, one that
        is managed with `standing`.
        """
        self._seq = 0
        payload = Payload(timestamp=now_ms)
        self._put_bd_seq(payload, now_ms)
        control = payload.metrics.add(name=codec.REBIRTH, timestamp=now_ms, datatype=DataType.BOOLEAN)
        control.boolean_value = False
        codec.put_number(payload, codec.BATCH, newest, now_ms)
        codec.put_number(payload, codec.OLDEST, oldest, now_ms)
        if clock is not None:
            _put_clock(payload, clock, now_ms)
        if journal is not None:
            codec.put_number(payload, codec.JOURNAL, journal.newest, now_ms)
            codec.put_number(payload, codec.JOURNAL_OLDEST, journal.oldest, now_ms)
            codec.put_bytes(payload, codec.JOURNAL_RULES, journal.rules, now_ms)
            # A birth names every metric that will ever come (tck-id-topics-nbirth-metrics).
            for name, datatype in ((codec.JOURNAL_FIRST, DataType.UINT64), (codec.JOURNAL_ENTRY, DataType.BYTES)):
                payload.metrics.add(name=name, timestamp=now_ms, datatype=datatype, is_null=True)
        if standing is not None:
            _put_standing(payload, standing, now_ms)
        _declare_commands(payload, now_ms, decides=journal is not None, managed=standing is not None)
        return self._numbered("NBIRTH", payload)

    def ndata(self, oldest: int, now_ms: int) -> Message:
        """Tell anew which batch is the oldest that can still come, after older ones were given up."""
        payload = Payload(timestamp=now_ms)
        codec.put_number(payload, codec.OLDEST, oldest, now_ms)
        return self._numbered("NDATA", payload)

    def clock(self, clock: ClockState, now_ms: int) -> Message:
        """Tell the state of the clock anew, as NDATA."""
        payload = Payload(timestamp=now_ms)
        _put_clock(payload, clock, now_ms)
        return self._numbered("NDATA", payload)

    def standing(self, standing: str, now_ms: int) -> Message:
        """Tell anew which slice of the plant is in force (`managed.Standing`), as NDATA."""
        payload = Payload(timestamp=now_ms)
        _put_standing(payload, standing, now_ms)
        return self._numbered("NDATA", payload)

    def journal(self, first: int, bodies: Sequence[bytes], oldest: int | None, now_ms: int) -> Message:
        """Tell journal entries, numbered from `first` without a gap; `oldest` as in `JournalNumbers`, None: untold."""
        payload = Payload(timestamp=now_ms)
        if oldest is not None:
            codec.put_number(payload, codec.JOURNAL_OLDEST, oldest, now_ms)
        codec.put_number(payload, codec.JOURNAL_FIRST, first, now_ms)
        for body in bodies:
            codec.put_bytes(payload, codec.JOURNAL_ENTRY, body, now_ms)
        return self._numbered("NDATA", payload)

    def dbirth(self, device: str, last: Columns, batch: int, now_ms: int) -> Message:
        """Make a device's birth with every metric: `last` holds one reading of each, in the metrics' order.

        What a message of a device says is in the order of time, as Sparkplug asks: its batch's number has the time of
        the oldest of its readings, what is said of their clock that of the newest.
        """
        payload = Payload(timestamp=now_ms)
        first_ms, last_ms = _span(last, now_ms)
        codec.put_number(payload, codec.BATCH, batch, first_ms)
        described_by = self._devices[device].metrics
        for position in np.argsort(last.time_ms, kind="stable").tolist():
            described = described_by[position]
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
        self._told_unsynchronised.discard(device)
        self._put_unsynchronised(payload, device, last, last_ms, always=True)
        return self._numbered("DBIRTH", payload, device)

    def ddata(self, device: str, columns: Columns, batch: int, now_ms: int, *, historical: bool) -> Message:
        """Make data of a device under the batch number that the host will acknowledge."""
        payload = Payload(timestamp=now_ms)
        columns = _in_order(columns)
        first_ms, last_ms = _span(columns, now_ms)
        codec.put_number(payload, codec.BATCH, batch, first_ms)
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
        self._put_unsynchronised(payload, device, columns, last_ms, always=False)
        return self._numbered("DDATA", payload, device)

    def ddeath(self, device: str, now_ms: int) -> Message:
        """Make a device's death: its metrics are stale from now on."""
        return self._numbered("DDEATH", Payload(timestamp=now_ms), device)

    def _put_unsynchronised(
        self, payload: Payload, device: str, columns: Columns, now_ms: int, *, always: bool
    ) -> None:
        """Mark data of a clock that nobody had set, each by itself, and the first after them that need no mark."""
        since_ms = columns.unsynchronised_ms
        if not always and since_ms is None and device not in self._told_unsynchronised:
            return
        metric = payload.metrics.add(name=codec.UNSYNCHRONISED, timestamp=now_ms, datatype=DataType.UINT64)
        if since_ms is None:
            metric.is_null = True
            self._told_unsynchronised.discard(device)
        else:
            metric.long_value = since_ms
            self._told_unsynchronised.add(device)

    def _put_bd_seq(self, payload: Payload, now_ms: int) -> None:
        metric = payload.metrics.add(name=codec.BD_SEQ, timestamp=now_ms, datatype=DataType.INT64)
        metric.long_value = self._bd_seq

    def _numbered(self, kind: str, payload: Payload, device: str | None = None) -> Message:
        payload.seq = self._seq
        self._seq = (self._seq + 1) % SEQ_MODULUS
        return self._message(kind, payload, device)

    def _message(self, kind: str, payload: Payload, device: str | None = None) -> Message:
        topic = self._topics.get((kind, device))
        if topic is None:
            topic = self._topics[kind, device] = str(Topic(self._group, kind, self._node, device))
        return Message(topic, payload.SerializeToString())


def _put_clock(payload: Payload, clock: ClockState, now_ms: int) -> None:
    add = partial(payload.metrics.add, timestamp=now_ms)
    add(name=codec.CLOCK_SYNCHRONISED, datatype=DataType.BOOLEAN, boolean_value=clock.synchronised)
    add(name=codec.CLOCK_SINCE, datatype=DataType.UINT64, long_value=clock.since_ms)
    for name, value, unit in ((codec.CLOCK_ERROR, clock.error_ms, "ms"), (codec.CLOCK_STEP, clock.step_s, "s")):
        metric = add(name=name, datatype=DataType.DOUBLE)
        codec.put_property(metric, "engUnit", unit)
        if value is None:
            metric.is_null = True
        else:
            metric.double_value = value


def _declare_commands(payload: Payload, now_ms: int, *, decides: bool, managed: bool) -> None:
    """Declare what our host may write to the node (tck-id-operational-behavior-data-commands-ncmd-metric-name).

    Without aliases, as Sparkplug has it of its own command: a host that forgot the birth can give them too.
    """
    commands = [(codec.COMMITTED, DataType.UINT64)]
    if decides:
        commands += [(codec.JOURNAL_COMMITTED, DataType.UINT64), (codec.KNOWN_AS, DataType.BYTES)]
        commands += [(codec.ORDER, DataType.BYTES)]
    if managed:
        commands += [(codec.SLICE_PART, DataType.BYTES)]
    for name, datatype in commands:
        payload.metrics.add(name=name, timestamp=now_ms, datatype=datatype, is_null=True)


def _in_order(columns: Columns) -> Columns:
    """The same readings in the order of time, those of one time as they stood."""
    if (columns.time_ms[1:] >= columns.time_ms[:-1]).all():
        return columns
    order = np.argsort(columns.time_ms, kind="stable")
    by_row = columns.metric[order], columns.time_ms[order], columns.value[order], columns.quality[order]
    return Columns(*by_row, columns.unsynchronised_ms)


def _span(columns: Columns, now_ms: int) -> tuple[int, int]:
    """The times that go before and behind those of `columns`: now, where none of them is older, or newer."""
    return int(columns.time_ms.min(initial=now_ms)), int(columns.time_ms.max(initial=now_ms))


def renamed(columns: Columns, names: Sequence[str], positions: Mapping[str, int]) -> Columns:
    """Columns that count in `names` as they count by `positions`, without the readings of what has no place there."""
    place = np.array([positions.get(name, -1) for name in names], dtype=np.int64)[columns.metric]
    known = place >= 0
    if known.all():
        return replace(columns, metric=place)
    return Columns(
        place[known],
        columns.time_ms[known],
        columns.value[known],
        columns.quality[known],
        columns.unsynchronised_ms,
    )


def _put_standing(payload: Payload, standing: str, now_ms: int) -> None:
    payload.metrics.add(name=codec.SLICE, timestamp=now_ms, datatype=DataType.STRING, string_value=standing)


def unknown_columns(device: EdgeDevice, now_ms: int, quality: int) -> Columns:
    """One reading of `quality` without a value for each metric of `device`: what a birth says before the first poll."""
    n = len(device.metrics)
    return Columns(
        np.arange(n, dtype=np.int64),
        np.full(n, now_ms, dtype=np.int64),
        np.full(n, np.nan),
        np.full(n, quality, dtype=np.uint8),
    )
