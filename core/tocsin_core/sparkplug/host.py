"""The host's side of Sparkplug: messages of any edge node in; readings, faults and births out."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Self

from tocsin_core import readings
from tocsin_core.readings import Frame
from tocsin_core.sparkplug import payload as codec
from tocsin_core.sparkplug.edge import ClockState
from tocsin_core.sparkplug.layout import FUTURE_NS, Layout, Read
from tocsin_core.sparkplug.payload import NS_PER_MS, NUMERIC, DataType, PayloadError
from tocsin_core.sparkplug.sparkplug_b_pb2 import Payload
from tocsin_core.sparkplug.topics import Topic, parse_topic

Resolve = Callable[[str, str, str | None, str], int | None]

SEQ_MODULUS: Final = 256
# Of one device: the numbers in its messages have one byte or two.
MOST_LAYOUTS: Final = 4
# A device whose messages never look alike is not learned again and again.
PATIENCE: Final = 8
SELDOM: Final = 64
DATA: Final = ("NDATA", "DDATA")
SHOWN: Final = 80
DAY_AHEAD: Final = "day-ahead"
"""The reason of a fault: readings stamped more than a day ahead of the host are not in the frame."""
SNAPSHOT_VERSION: Final = 1
# What a stranger can make us remember is bounded in length, and in all in number where nobody wants the readings.
LONGEST_NAME: Final = 1000
LONGEST_UNIT: Final = 64
MOST_UNWANTED: Final = 100_000
# What our gateways count is kept in databases, as signed numbers of 64 bits, and counted on from.
MOST_COUNTED: Final = 2**63 - 1
JOURNAL: Final = frozenset({codec.JOURNAL, codec.JOURNAL_OLDEST, codec.JOURNAL_FIRST})
# The metrics of a clock's state, by their types.
CLOCK: Final = {
    codec.CLOCK_SYNCHRONISED: DataType.BOOLEAN,
    codec.CLOCK_SINCE: DataType.UINT64,
    codec.CLOCK_ERROR: DataType.DOUBLE,
    codec.CLOCK_STEP: DataType.DOUBLE,
    codec.UNSYNCHRONISED: DataType.UINT64,
}


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong with a message, and how often: `reason` is one of a fixed few, `detail` names the first case."""

    reason: str
    detail: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class Declared:
    """A metric as a birth declares it; `point` is None where nobody wants it."""

    device: str | None
    metric: str
    point: int | None
    datatype: int
    unit: str | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class JournalPart:
    """What a node's message says of its alarm journal; a number that it does not say is None.

    `newest` is the last number given out (a birth's word, and with it that the node decides alarms, those of which
    `rules` are the fingerprints, `tocsin_core.owned.packed`), below `oldest` none will come any more, `entries` are
    bodies for `tocsin_core.journal.decode`, numbered from `first`.
    """

    newest: int | None = None
    rules: bytes = b""
    oldest: int | None = None
    first: int | None = None
    entries: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Fed:
    """What one message came to.

    `kind` is the Sparkplug message type, or "" for a topic that is not one, and for a birth of an earlier session that
    came late: nothing that it says holds any more. `batch` is set on data of our gateways only, and not when a reading
    was lost for want of a birth: such a batch must not be acknowledged, the gateway sends it again after its rebirth;
    `newest_batch` on their NBIRTH: the last batch number they gave out; `oldest_batch` there and on NDATA: no batch
    below it will come any more, stored or not. `rebirth` asks for a Rebirth command; how often one is really sent is
    the caller's affair. `historical`: every reading is marked as late. `journal` is None where the message says nothing
    of one, and so is `standing` (for `managed.Standing`).
    `clock`: what an NBIRTH or NDATA tells of the node's clock. `unsynchronised_ms`, on data: since when, by itself,
    nobody had set the clock that stamped them; None where it was set, or nothing is said of it. `ahead`: readings of
    data that is not late, stamped more than a day ahead, or as of their arrival where they were stamped before 2000 or
    after 2099; these stamps cannot be right by the host's clock, so they are not in `frame`. None where there are none.
    """

    frame: Frame
    group: str | None = None
    gateway: str | None = None
    device: str | None = None
    kind: str = ""
    batch: int | None = None
    newest_batch: int | None = None
    oldest_batch: int | None = None
    faults: tuple[Fault, ...] = ()
    rebirth: bool = False
    historical: bool = False
    births: tuple[Declared, ...] = ()
    clock: ClockState | None = None
    unsynchronised_ms: int | None = None
    journal: JournalPart | None = None
    standing: str | None = None
    ahead: Frame | None = None


@dataclass(slots=True)
class _Metric:
    name: str
    datatype: int
    point: int | None
    told: bool = False


@dataclass(slots=True)
class _Device:
    metrics: dict[str, _Metric] = field(default_factory=dict)
    aliases: dict[int, str] = field(default_factory=dict)
    # By the length of the message. A birth makes another device, with none.
    layouts: dict[int, Layout] = field(default_factory=dict)
    # Of the metrics, how many nobody wants.
    unwanted: int = 0
    # Messages since the last that was read by a layout.
    unlike: int = 0
    # What a snapshot keeps of it, once it was asked for: a plant's births are much more than what changes.
    text: str | None = None

    def read(self, payload: bytes, now_ns: int) -> Read | None:
        """What `payload` says, if an earlier message looked as it does."""
        layout = self.layouts.get(len(payload))
        read = None if layout is None else layout.read(payload, now_ns)
        if read is None:
            read = self._read_resized(payload, now_ns)
        self.unlike = 0 if read is not None else self.unlike + 1
        return read

    def _read_resized(self, payload: bytes, now_ns: int) -> Read | None:
        """What `payload` says, if an earlier message looked as it does but for the size of its numbers."""
        for layout in self.layouts.values():
            resized = layout.resized(payload)
            read = None if resized is None else resized.read(payload, now_ns)
            if resized is not None and read is not None:
                self._keep(resized, len(payload))
                return read
        return None

    def _keep(self, layout: Layout, size: int) -> None:
        """Have `layout` for messages of `size` bytes."""
        self.layouts.pop(size, None)
        if len(self.layouts) >= MOST_LAYOUTS:
            del self.layouts[next(iter(self.layouts))]
        self.layouts[size] = layout

    def kept(self) -> str:
        """What a snapshot keeps, as JSON."""
        if self.text is None:
            metrics = {
                name: {"datatype": metric.datatype, "told": metric.told} for name, metric in self.metrics.items()
            }
            self.text = _json({"metrics": metrics, "aliases": self.aliases})
        return self.text

    def learn(self, payload: bytes, frame: Frame) -> None:
        """Read the next messages like `payload` faster, if it is of a plain shape."""
        if self.unlike > PATIENCE and self.unlike % SELDOM:
            return
        wanted = {
            alias: self.metrics[name].point if self.metrics[name].datatype in NUMERIC else None
            for alias, name in self.aliases.items()
        }
        layout = Layout.learn(payload, wanted, frame)
        if layout is not None:
            self._keep(layout, len(payload))


@dataclass(slots=True)
class _Node:
    bd_seq: int | None = None
    seq: int | None = None
    # Numbers that were passed over, for which the host waits until then.
    missing: set[int] = field(default_factory=set)
    overdue_ns: int = 0
    # The node's own metrics stand under "", which no device can be called.
    devices: dict[str, _Device] = field(default_factory=dict)
    # When it was born, by its own clock, and the birth of an earlier session that came after it: bdSeq and time (ms).
    born_ms: int = 0
    doubted: tuple[int | None, int] = (None, 0)

    def kept(self) -> str:
        """What a snapshot keeps, as JSON."""
        devices = ",".join(f"{_json(name)}:{device.kept()}" for name, device in self.devices.items())
        waiting = f'"missing":{_json(sorted(self.missing))},"overdue_ns":{self.overdue_ns},' if self.missing else ""
        born = f'"bd_seq":{_json(self.bd_seq)},"born_ms":{self.born_ms}'
        return f'{{{born},"seq":{_json(self.seq)},{waiting}"devices":{{{devices}}}}}'

    def is_overdue(self, now_ns: int, latest_ns: int) -> bool:
        """Whether messages waited for have not come, or are due after `latest_ns`; then it waits no longer."""
        if not self.missing or now_ns < self.overdue_ns <= latest_ns:
            return False
        self.missing.clear()
        return True


@dataclass(slots=True)
class _Rows:
    """The readings and faults of one message while it is read."""

    point: list[int] = field(default_factory=list)
    time_ns: list[int] = field(default_factory=list)
    value: list[float] = field(default_factory=list)
    quality: list[int] = field(default_factory=list)
    # Readings of now whose stamps cannot be right: point, time, value, quality.
    ahead: list[tuple[int, int, float, int]] = field(default_factory=list)
    late: int = 0
    # All of the readings, where a layout gave them.
    read: Frame | None = None
    batch: int | None = None
    oldest: int | None = None
    incomplete: bool = False
    rebirth: bool = False
    past: bool = False
    counts: dict[str, int] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)
    births: list[Declared] = field(default_factory=list)
    # What is said of the clock, by the names of its metrics; times in ms that can be.
    clock: dict[str, float] = field(default_factory=dict)
    journal: dict[str, int] = field(default_factory=dict)
    entries: list[bytes] = field(default_factory=list)
    rules: bytes = b""
    standing: str | None = None

    def fault(self, reason: str, detail: str) -> None:
        self.counts[reason] = self.counts.get(reason, 0) + 1
        self.details.setdefault(reason, detail)

    def add(self, point: int, time_ns: int, value: float, quality: int) -> None:
        self.point.append(point)
        self.time_ns.append(time_ns)
        self.value.append(value)
        self.quality.append(quality)

    def add_ahead(self, topic: Topic, metric: Payload.Metric, row: tuple[int, int, float, int]) -> None:
        # A birth repeats what was said before, and what is late says nothing of now either.
        if topic.kind in DATA and not metric.is_historical:
            self.ahead.append(row)

    def fed(self, topic: Topic) -> Fed:
        birth = topic.kind == "NBIRTH"
        frame = self.read
        if frame is None:
            frame = Frame.of(self.point, self.time_ns, self.value, self.quality)
        return Fed(
            frame=frame,
            group=topic.group,
            gateway=topic.node,
            device=topic.device,
            kind="" if self.past else topic.kind,
            batch=self.batch if topic.kind in DATA and not self.incomplete else None,
            newest_batch=self.batch if birth else None,
            oldest_batch=self.oldest,
            faults=tuple(Fault(reason, self.details[reason], n) for reason, n in self.counts.items()),
            rebirth=self.rebirth,
            historical=bool(len(frame)) and self.late == len(frame),
            births=tuple(self.births),
            clock=self._clock() if topic.device is None else None,
            unsynchronised_ms=self._since(codec.UNSYNCHRONISED) if topic.kind == "DDATA" else None,
            journal=self._journal() if topic.device is None else None,
            standing=self.standing if topic.device is None else None,
            ahead=Frame.of(*zip(*self.ahead, strict=True)) if self.ahead else None,
        )

    def _journal(self) -> JournalPart | None:
        if not self.journal and not self.entries:
            return None
        said = self.journal.get
        return JournalPart(
            said(codec.JOURNAL), self.rules, said(codec.JOURNAL_OLDEST), said(codec.JOURNAL_FIRST), tuple(self.entries)
        )

    def _clock(self) -> ClockState | None:
        synchronised, since_ms = self.clock.get(codec.CLOCK_SYNCHRONISED), self._since(codec.CLOCK_SINCE)
        if synchronised is None or since_ms is None:
            return None
        error_ms, step_s = self.clock.get(codec.CLOCK_ERROR), self.clock.get(codec.CLOCK_STEP)
        return ClockState(bool(synchronised), since_ms, error_ms, step_s)

    def _since(self, name: str) -> int | None:
        since_ms = self.clock.get(name)
        return None if since_ms is None else int(since_ms)


class HostSession:
    """The state of every edge node heard: who is born, which alias means which point, which number comes next."""

    def __init__(self, resolve: Resolve, reorder_ns: int = 0) -> None:
        """`resolve(group, node, device, metric)` gives the point index of a metric, or None if it is not wanted.

        A gap in a node's numbers asks for a rebirth when what is missing has not come within `reorder_ns` (Sparkplug's
        Reorder Timeout). What comes is taken at once, in whatever order.
        """
        self._resolve = resolve
        self._reorder_ns = reorder_ns
        self._nodes: dict[tuple[str, str], _Node] = {}

    def feed(self, topic: str, payload: bytes, now_ns: int) -> Fed:
        """Take one MQTT message that arrived at `now_ns`; never raises: what is wrong comes back as faults."""
        where = parse_topic(topic)
        if where is None:
            return Fed(Frame.empty(), faults=(Fault("not-sparkplug", topic[:200]),))
        rows = _Rows()
        node = self._nodes.get((where.group, where.node))
        device = None if node is None or where.kind not in DATA else node.devices.get(where.device or "")
        if node is not None and device is not None:
            read = device.read(payload, now_ns)
            if read is not None:
                self._check_seq(node, read.seq, rows, where, now_ns)
                rows.read, rows.batch, rows.late = read.frame, read.batch, read.late
                return rows.fed(where)
        try:
            message = codec.parse(payload)
        except PayloadError as error:
            rows.fault("undecodable", f"{where}: {error}")
            rows.rebirth = where.kind in (*DATA, "NBIRTH", "DBIRTH")
            return rows.fed(where)
        self._take(where, message, rows, now_ns)
        fed = rows.fed(where)
        if device is not None and not fed.faults:
            device.learn(payload, fed.frame)
        return fed

    def _take(self, where: Topic, message: Payload, rows: _Rows, now_ns: int) -> None:
        match where.kind:
            case "NBIRTH":
                self._node_birth(where, message, rows, now_ns)
            case "DBIRTH":
                self._device_birth(where, message, rows, now_ns)
            case "NDATA" | "DDATA":
                self._data(where, message, rows, now_ns)
            case "NDEATH":
                self._node_death(where, message, rows, now_ns)
            case "DDEATH":
                self._device_death(where, message, rows, now_ns)

    def _check_seq(self, node: _Node, seq: int | None, rows: _Rows, where: Topic, now_ns: int) -> None:
        """Compare a message's seq with the one that is due; after a gap the count goes on from here."""
        after = _due_after(seq, rows, where)
        if seq is None or after is None:
            return
        if seq in node.missing:
            node.missing.discard(seq)
        else:
            if node.seq is not None and seq != node.seq:
                rows.fault("sequence-gap", f"{where}: seq {seq} where {node.seq} was due")
                if not node.missing:
                    node.overdue_ns = now_ns + self._reorder_ns
                node.missing.update(n % SEQ_MODULUS for n in range(node.seq, seq + SEQ_MODULUS * (seq < node.seq)))
            node.seq = after
        # Nobody waits for much longer: where they are due later, the clock that stamps arrivals was set back.
        rows.rebirth |= node.is_overdue(now_ns, now_ns + self._reorder_ns + readings.AHEAD_NS)

    def overdue(self, now_ns: int) -> list[tuple[str, str]]:
        """The nodes (group, node) of which messages have been waited for in vain, each once: to ask for a rebirth.

        `now_ns` may be of another clock than arrivals: one that is behind waits for longer, and no sooner.
        """
        # Without a wait the message that shows a gap asks.
        nodes = self._nodes.items() if self._reorder_ns else ()
        return [address for address, node in nodes if node.is_overdue(now_ns, readings.LATEST_NS)]

    def snapshot(self) -> bytes:
        """Everything that is remembered, as bytes for `restore`."""
        nodes = ",".join(
            f"[{_json(group)},{_json(name)},{self._nodes[group, name].kept()}]" for group, name in sorted(self._nodes)
        )
        return f'{{"version":{SNAPSHOT_VERSION},"nodes":[{nodes}]}}'.encode()

    @classmethod
    def restore(cls, snapshot: bytes, resolve: Resolve) -> Self:
        """Rebuild the session of `snapshot`; points are resolved anew, as the plant may have changed since.

        Raises:
            ValueError: the bytes are not a snapshot of this version.
        """
        return cls.restore_from(json.loads(snapshot), resolve)

    @classmethod
    def restore_from(cls, held: Any, resolve: Resolve, reorder_ns: int = 0) -> Self:  # noqa: ANN401 -- any snapshot
        """As `restore`, from the snapshot as it was read.

        Raises:
            ValueError: it is not one of this version.
        """
        if held["version"] != SNAPSHOT_VERSION:
            raise ValueError(f"snapshot of version {held['version']}, not {SNAPSHOT_VERSION}")
        session = cls(resolve, reorder_ns)
        for group, node, state in held["nodes"]:
            devices = {
                device: _Device(
                    {
                        name: _Metric(
                            name, kept["datatype"], resolve(group, node, device or None, name), told=kept["told"]
                        )
                        for name, kept in held_device["metrics"].items()
                    },
                    {int(alias): name for alias, name in held_device["aliases"].items()},
                )
                for device, held_device in state["devices"].items()
            }
            for each in devices.values():
                each.unwanted = sum(metric.point is None for metric in each.metrics.values())
            missing, overdue_ns = set(state.get("missing", ())), state.get("overdue_ns", 0)
            session._nodes[group, node] = _Node(
                state["bd_seq"], state["seq"], missing, overdue_ns, devices, state.get("born_ms", 0)
            )
        return session

    def _node_birth(self, where: Topic, message: Payload, rows: _Rows, now_ns: int) -> None:
        bd_seq, before = _bd_seq(message), self._nodes.get((where.group, where.node))
        if before is not None and _is_of_the_past(bd_seq, message.timestamp, before):
            # One that is alive all the same, with a clock that was set back, is born again when it is asked.
            rows.fault("stale-birth", f"{where}: bdSeq {bd_seq} came after {before.bd_seq}, and is older")
            rows.rebirth = rows.past = True
            before.doubted = (bd_seq, message.timestamp)
            return
        node = self._nodes[where.group, where.node] = _Node(born_ms=message.timestamp)
        node.seq = _due_after(_seq(message), rows, where)
        node.bd_seq = bd_seq
        if node.bd_seq is None:
            rows.fault("no-bdseq", f"{where}: a birth without bdSeq; its death cannot be told from an older one")
        self._declare(where, node, message, rows, now_ns)

    def _device_birth(self, where: Topic, message: Payload, rows: _Rows, now_ns: int) -> None:
        node = self._nodes.get((where.group, where.node))
        if node is None:
            rows.fault("not-born", f"{where}: a device's birth before its node's")
            rows.rebirth = True
            node = self._nodes[where.group, where.node] = _Node()
        self._check_seq(node, _seq(message), rows, where, now_ns)
        self._declare(where, node, message, rows, now_ns)

    def _declare(self, where: Topic, node: _Node, message: Payload, rows: _Rows, now_ns: int) -> None:
        device = node.devices[where.device or ""] = _Device()
        taken = {alias for other in node.devices.values() for alias in other.aliases}
        room: int | None = None
        for metric in message.metrics:
            name = codec.text(metric, "name")
            if not name:
                rows.fault("no-name", f"{where}: a metric without a name in a birth")
                continue
            _note_own(metric, name, rows, now_ns)
            if _is_control(name):
                continue
            if len(name) > LONGEST_NAME:
                rows.fault("name-too-long", f"{where}: {name[:SHOWN]}…")
                continue
            known = self._metric(where, name, metric.datatype)
            if known.point is None:
                room = self._room() if room is None else room
                if device.unwanted >= room:
                    rows.fault("too-many-metrics", f"{where}: {name[:SHOWN]}: no room for more that nobody wants")
                    continue
                device.unwanted += 1
            device.metrics[name] = known
            if metric.HasField("alias"):
                if metric.alias in taken:
                    rows.fault("alias-twice", f"{where}: alias {metric.alias} of {name} is taken")
                else:
                    taken.add(metric.alias)
                    device.aliases[metric.alias] = name
            described = codec.properties(metric)
            rows.births.append(_declared(where.device, known, described))
            self._reading(where, known, metric, described, message, rows, now_ns)
        # Births come one by one; a snapshot that found none of them written would hold everything up for a second.
        device.kept()

    def _room(self) -> int:
        """How many more metrics can be remembered that nobody wants."""
        return MOST_UNWANTED - sum(device.unwanted for node in self._nodes.values() for device in node.devices.values())

    def _metric(self, where: Topic, name: str, datatype: int) -> _Metric:
        return _Metric(name, datatype, self._resolve(where.group, where.node, where.device, name))

    def _data(self, where: Topic, message: Payload, rows: _Rows, now_ns: int) -> None:
        node = self._nodes.get((where.group, where.node))
        device = None if node is None else node.devices.get(where.device or "")
        if node is not None:
            self._check_seq(node, _seq(message), rows, where, now_ns)
        if device is None:
            rows.fault("not-born", f"{where}: data before the birth")
            rows.rebirth = True
        for metric in message.metrics:
            if metric.HasField("name") and _note_own(metric, codec.text(metric, "name"), rows, now_ns):
                continue
            known = self._known(where, device, metric, rows)
            if known is not None:
                self._reading(where, known, metric, codec.properties(metric), message, rows, now_ns)

    def _known(self, where: Topic, device: _Device | None, metric: Payload.Metric, rows: _Rows) -> _Metric | None:
        name = codec.text(metric, "name") if metric.HasField("name") else None
        if name is None and metric.HasField("alias") and device is not None:
            name = device.aliases.get(metric.alias)
        if name is None:
            if device is not None:
                rows.fault("unknown-alias", f"{where}: alias {metric.alias}, or a name that is no text")
                rows.rebirth = True
            else:
                rows.fault("dropped-unborn", f"{where}: alias {metric.alias} means nothing before the birth")
            rows.incomplete = True
            return None
        if _is_control(name):
            return None
        if device is not None and name in device.metrics:
            return device.metrics[name]
        if device is not None:
            rows.fault("not-declared", f"{where}: {name} is not in the birth")
            rows.rebirth = True
        if len(name) > LONGEST_NAME:
            rows.fault("name-too-long", f"{where}: {name[:SHOWN]}…")
            return None
        # A metric that comes by name can be kept even so; its type must then show by itself.
        datatype = metric.datatype or codec.guess_type(metric)
        if datatype is None:
            rows.fault("no-type", f"{where}: {name} has no data type and no birth")
            return None
        return self._metric(where, name, datatype)

    def _reading(
        self,
        where: Topic,
        known: _Metric,
        metric: Payload.Metric,
        described: codec.Properties,
        message: Payload,
        rows: _Rows,
        now_ns: int,
    ) -> None:
        if known.point is None:
            return
        if known.datatype not in NUMERIC:
            if not known.told:
                rows.fault("not-numeric", f"{where}: {known.name} has data type {known.datatype}")
                known.told = True
                self._forget_text(where)
            return
        time_ns = _time_ns(metric, message, rows, known.name, now_ns)
        quality = codec.quality(described)
        value = math.nan
        if not metric.is_null:
            number = codec.number(metric, known.datatype)
            if number is None:
                rows.fault("wrong-type", f"{where}: {known.name} does not hold data type {known.datatype}")
                quality = readings.BAD_CONFIGURATION
            elif not math.isfinite(number):
                rows.fault("not-finite", f"{where}: {known.name} is {number}")
                quality = readings.BAD_SENSOR_FAILURE
            else:
                value = number
        elif (quality & readings.QUALITY_MASK) in (readings.GOOD, readings.UNCERTAIN):
            quality = readings.BAD
        if _may_be(time_ns, now_ns):
            rows.late += metric.is_historical
            rows.add(known.point, time_ns, value, quality)
        else:
            of_a_time = readings.EARLIEST_NS <= time_ns < readings.LATEST_NS
            rows.add_ahead(where, metric, (known.point, time_ns if of_a_time else now_ns, value, quality))

    def _forget_text(self, where: Topic) -> None:
        node = self._nodes.get((where.group, where.node))
        device = None if node is None else node.devices.get(where.device or "")
        if device is not None:
            device.text = None

    def _node_death(self, where: Topic, message: Payload, rows: _Rows, now_ns: int) -> None:
        node = self._nodes.get((where.group, where.node))
        if node is None:
            return
        bd_seq = _bd_seq(message)
        if node.bd_seq is not None and bd_seq != node.bd_seq:
            rows.fault("stale-death", f"{where}: bdSeq {bd_seq} is not that of the birth, {node.bd_seq}")
            return
        for device in node.devices.values():
            _mark_dead(device, rows, now_ns)
        del self._nodes[where.group, where.node]

    def _device_death(self, where: Topic, message: Payload, rows: _Rows, now_ns: int) -> None:
        node = self._nodes.get((where.group, where.node))
        if node is None:
            return
        self._check_seq(node, _seq(message), rows, where, now_ns)
        device = node.devices.pop(where.device or "", None)
        if device is not None:
            # A device is offline from the time its node says (tck-id-operational-behavior-edge-node-termination-host-
            # action-ddeath-devices-offline); the node itself from now on: its will was written when it connected.
            # In the middle of that ms: what is read within it, as it is back just then, is a reading of its own.
            said_ns = message.timestamp * NS_PER_MS + NS_PER_MS // 2
            _mark_dead(device, rows, said_ns if _may_be(said_ns, now_ns) else now_ns)


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _note_own(metric: Payload.Metric, name: str | None, rows: _Rows, now_ns: int) -> bool:
    """Take in what our gateways say beside their readings; tell whether it was such a metric."""
    if name == codec.BATCH:
        rows.batch = _counted(metric, name, rows)
    elif name == codec.OLDEST:
        rows.oldest = _counted(metric, name, rows)
    elif name in JOURNAL:
        number = None if metric.is_null else _counted(metric, name, rows)
        if number is not None:
            rows.journal[name] = number
    elif name == codec.JOURNAL_RULES:
        rows.rules = metric.bytes_value
    elif name == codec.JOURNAL_ENTRY:
        if not metric.is_null:
            rows.entries.append(metric.bytes_value)
    elif name == codec.SLICE:
        rows.standing = codec.text(metric, "string_value")
    elif name in CLOCK:
        _note_clock(metric, name, rows, now_ns)
    else:
        return False
    return True


def _counted(metric: Payload.Metric, name: str, rows: _Rows) -> int | None:
    field = metric.WhichOneof("value")
    number = metric.long_value if field == "long_value" else metric.int_value if field == "int_value" else None
    if number is None or number >= MOST_COUNTED:
        rows.fault("wrong-number", f"{name} holds no number that can be counted on from")
        return None
    return number


def _note_clock(metric: Payload.Metric, name: str, rows: _Rows, now_ns: int) -> None:
    number = codec.number(metric, CLOCK[name])
    if CLOCK[name] == DataType.UINT64 and number is not None and not _may_be(int(number) * NS_PER_MS, now_ns):
        # A clock that nobody had set yet may say anything of when that began.
        number = now_ns // NS_PER_MS
    if number is not None and math.isfinite(number):
        rows.clock[name] = number


def _is_control(name: str) -> bool:
    return name == codec.BD_SEQ or name.startswith(("Node Control/", "Device Control/", "Tocsin/"))


def _bd_seq(message: Payload) -> int | None:
    for metric in message.metrics:
        if codec.text(metric, "name") == codec.BD_SEQ:
            value = codec.number(metric, DataType.UINT64)
            return None if value is None else int(value)
    return None


def _is_of_the_past(bd_seq: int | None, time_ms: int, node: _Node) -> bool:
    """Whether a birth is one of an earlier session than the node's: a server may hold it up, and the node leave it."""
    if bd_seq is None or node.bd_seq is None or not 0 < time_ms < node.born_ms:
        return False
    behind = 0 < (node.bd_seq - bd_seq) % SEQ_MODULUS < SEQ_MODULUS // 2
    return behind and not (node.doubted[0] == bd_seq and time_ms > node.doubted[1])


def _seq(message: Payload) -> int | None:
    return message.seq if message.HasField("seq") else None


def _due_after(seq: int | None, rows: _Rows, where: Topic) -> int | None:
    """The number that is due after `seq`; None, and a fault, where that is none from 0 to 255."""
    if seq is None or seq >= SEQ_MODULUS:
        rows.fault("no-seq", f"{where}: no seq from 0 to 255")
        return None
    return (seq + 1) % SEQ_MODULUS


def _time_ns(metric: Payload.Metric, message: Payload, rows: _Rows, name: str, now_ns: int) -> int:
    """Find the reading's time: the metric's, else the payload's, else its arrival; it may be one that cannot be."""
    if metric.HasField("timestamp"):
        time_ns = metric.timestamp * NS_PER_MS
    elif message.HasField("timestamp"):
        time_ns = message.timestamp * NS_PER_MS
    else:
        rows.fault("no-time", f"{name} has no time stamp; its arrival is taken")
        time_ns = now_ns - now_ns % NS_PER_MS
    if not readings.EARLIEST_NS <= time_ns < readings.LATEST_NS:
        rows.fault("absurd-time", f"{name} at {time_ns // NS_PER_MS} ms since 1970")
    elif time_ns > now_ns + FUTURE_NS:
        rows.fault(DAY_AHEAD, f"{name} at {time_ns // NS_PER_MS} ms since 1970")
    return time_ns


def _may_be(time_ns: int, now_ns: int) -> bool:
    return readings.EARLIEST_NS <= time_ns < readings.LATEST_NS and time_ns <= now_ns + FUTURE_NS


def _declared(device: str | None, known: _Metric, described: codec.Properties) -> Declared:
    unit = codec.text(described["engUnit"], "string_value") if "engUnit" in described else None
    unit = None if unit is None else unit[:LONGEST_UNIT]
    low, high = (_limit(described.get(key)) for key in ("engLow", "engHigh"))
    return Declared(device, known.name, known.point, known.datatype, unit, low, high)


def _limit(value: Payload.PropertyValue | None) -> float | None:
    chosen = None if value is None or value.is_null else value.WhichOneof("value")
    if value is None or chosen not in ("int_value", "long_value", "float_value", "double_value"):
        return None
    number = float(getattr(value, chosen))
    return number if math.isfinite(number) else None


def _points(device: _Device) -> Iterator[int]:
    return (
        metric.point for metric in device.metrics.values() if metric.point is not None and metric.datatype in NUMERIC
    )


def _mark_dead(device: _Device, rows: _Rows, now_ns: int) -> None:
    for point in _points(device):
        rows.add(point, now_ns, math.nan, readings.BAD_NOT_CONNECTED)
